"""Alert rules and dashboard use what a real page of metrics has, and nothing else."""

import asyncio
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws import Server
from sipws.address import Address
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.events import Closed, ConnectFailed, Connection, ErrorKind, ErrorOccurred, Side
from sipws.metrics import prometheus_text
from sipws.service.app import Application
from sipws.service.statistics import families, process_families
from sipws.tracing.tracer import NOT_ENCODED
from sipws.transport.flow import Flow
from sipws.workers.supervisor import Supervisor
from sipws.workers.worker_results import by_worker, families_as_json, families_from_json

FOLDER: Final = Path(__file__).parents[1] / "docs" / "monitoring"
RULES: Final = FOLDER / "sipws-rules.yml"
RULES_TEST: Final = FOLDER / "sipws-rules-test.yml"
DASHBOARD: Final = json.loads((FOLDER / "sipws-dashboard.json").read_text())

OF_TARGET: Final = {"job", "instance"}
"""The labels that Prometheus itself adds."""

INVITE: Final = (
    "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
)


# A page that has every metric with every label.


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a program with several workers shows, after some connections."""
    return asyncio.run(_page(tmp_path_factory.mktemp("tls")))


async def _page(folder: Path) -> str:
    trustme.CA().issue_cert("sip.example.com").private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )

    def refuse(flow: Flow, message: bytes) -> None:
        flow.send(b"SIP/2.0 503 Service Unavailable\r\nCall-ID: 1\r\n\r\n")

    async with Server(["ws:127.0.0.1:0"], refuse) as behind:
        table: dict[str, Any] = {
            "transport": {
                "listen": ["ws:127.0.0.1:0", "wss:127.0.0.1:0"],
                "tls_certificate": str(folder / "server.pem"),
            },
            "control": {"listen": "127.0.0.1:0"},
            "hep": {"hep_id": "[homer]127.0.0.1:1;transport=tcp"},
            "tracing": {"trace_destination": "homer", "trace_on": True, "trace_sip": True},
            "upstream": {"upstream_uri": f"ws://127.0.0.1:{behind.listeners[0].port}/"},
        }
        async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
            url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
            for _ in range(2):
                async with connect(
                    url, subprotocols=[Subprotocol("sip")], origin=Origin("https://a.example")
                ) as phone:
                    await phone.send(INVITE)
                    await phone.recv()
            await running.server.flows.wait_empty()
            _publish_failures(running)
            # As a worker sends them to its parent.
            sent = json.loads(json.dumps(families_as_json(families(running))))
        table["transport"]["workers"] = 2
        supervisor = Supervisor(ResolvedConfig.of(Config.of(table, "test")), "test")
        of_workers = (await supervisor.families())[:2]
    parts = {0: process_families(0.0), 1: families_from_json(sent)}
    return prometheus_text.render([*of_workers, *by_worker(parts)])


def _publish_failures(running: Application) -> None:
    """What goes wrong seldom, and on either leg."""
    listener, bus = running.server.listeners[0], running.bus
    client = Connection(1, listener, Address("127.0.0.1", 1), Address("127.0.0.1", 2), 0.0)
    upstream = replace(client, id=2, destination="ws://192.0.2.1/")
    for leg in (client, upstream):
        bus.publish(ErrorOccurred(leg, 0.0, ErrorKind.CONNECTION_LOST, ""))
        bus.publish(
            Closed(
                leg, 0.0, code=1006, reason="", closed_by=Side.PEER, clean=False, accepted=True,
                duration=1.0, messages_in=0, messages_out=0, bytes_in=0, bytes_out=0,
            )
        )  # fmt: skip
    bus.publish(ConnectFailed(upstream, 0.0, ErrorKind.CONNECT_REFUSED, ""))
    [trace] = running.traces.read()
    trace.tracer.dropped[NOT_ENCODED] += 1
    [sender] = trace.senders
    sender.counters.drop_all("queue-full")


# Expressions.


@dataclass(frozen=True)
class Query:
    """An expression, where it is, and the labels that texts beside it show."""

    where: str
    expr: str
    shown: frozenset[str]


def _yaml_blocks(text: str, begin: str) -> list[list[tuple[str, str]]]:
    """Keys and values of the mappings of a list; folded values in one line.

    It reads what the rule files have, and no more of YAML.
    """
    text = re.sub(r": >-\n((?:\s+[^\n]*\n)+?)(?=\s+\w+:)", _folded, text)
    blocks = re.split(rf"(?m)^\s*- (?={begin}:)", text)[1:]
    return [re.findall(r"(?m)^\s*(\w+): (.+)$", block) for block in blocks]


def _folded(match: re.Match[str]) -> str:
    return ": " + " ".join(match[1].split()) + "\n"


ALERTS: Final = [dict(block) for block in _yaml_blocks(RULES.read_text(), "alert")]
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def _queries() -> Iterator[Query]:
    for alert in ALERTS:
        texts = alert["summary"] + alert["description"]
        shown = frozenset(re.findall(r"\$labels\.(\w+)", texts))
        yield Query(alert["alert"], alert["expr"], shown)
    for panel in PANELS:
        for target in panel["targets"]:
            shown = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield Query(f"{panel['title']}, {target['refId']}", target["expr"], shown)


QUERIES: Final = list(_queries())

_SELECTOR: Final = re.compile(r"\b((?:sipws|process)_\w+|up)\b(?:{([^}]*)})?")
_MATCHER: Final = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_GROUPING: Final = re.compile(r"\b(by|without) \(([^)]*)\)")


@dataclass
class Metric:
    """What a page has of a metric: the values of each label."""

    labels: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def metrics_of(page: str) -> Mapping[str, Metric]:
    """The metrics of a page, by the name that expressions use."""
    found: dict[str, Metric] = defaultdict(Metric)
    for family in parse(page):
        for sample in family.samples:
            labels = found[sample.name].labels
            for name, text in sample.labels.items():
                labels[name].add(text)
    return found


def _family(name: str) -> str:
    """The family of a sample, such as a bucket."""
    return re.sub("_(bucket|sum|count)$", "", name)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_an_expression_uses_metrics_and_labels_that_exist(query: Query, page: str) -> None:
    metrics = metrics_of(page)
    selectors = _SELECTOR.findall(query.expr)
    assert selectors, "it selects nothing of sipws"
    labels = set(OF_TARGET)
    for name, matchers in selectors:
        if name != "up":
            assert name in metrics
            labels |= set(metrics[name].labels)
        read = _MATCHER.findall(matchers)
        assert ",".join(f'{label}{how}"{text}"' for label, how, text in read) == matchers
        for label, how, text in read:
            if label in OF_TARGET:
                continue
            values = metrics[name].labels
            assert label in values, f"{name} has no label {label}"
            if how in ("=", "!="):
                assert text in values[label]
            else:
                # A pattern of one character too few or too many would match nothing.
                assert any(
                    re.fullmatch(text, value)
                    for value in ("100", "200", "302", "404", "503", "603")
                )
    kept = labels
    for how, names in _GROUPING.findall(query.expr):
        group = {name.strip() for name in names.split(",")} - {"le"}
        assert group <= labels, f"no label {group - labels}"
        kept = kept & group if how == "by" else kept - group
    assert query.shown <= kept, f"the result has no label {query.shown - kept}"


def test_every_metric_is_on_the_dashboard(page: str) -> None:
    texts = [target["expr"] for panel in PANELS for target in panel["targets"]]
    used = {_family(name) for text in texts for name, _ in _SELECTOR.findall(text)}
    assert used == set(map(_family, metrics_of(page)))


def test_the_page_has_every_metric(page: str) -> None:
    """The page of these tests leaves out no metric: one without a sample would go unseen."""
    documented = (FOLDER.parent / "operations.md").read_text()
    table = documented.partition("\n| name | type | labels |")[2].partition("\n\n")[0]
    rows = re.findall(r"(?m)^\| (`.+?`) \| (?:\w+)? ?\| (.*?) \|", table)
    names = {name for row, _ in rows for name in re.findall(r"`(\w+)`", row)}
    metrics = metrics_of(page)
    assert set(map(_family, metrics)) == names
    for row, labels in rows:
        for name in re.findall(r"`(\w+)`", row):
            if name.startswith("sipws_") and name in metrics:
                listed = set(re.findall(r"`(\w+)`(?: \(|,|$)", labels))
                assert listed | {"worker"} == set(metrics[name].labels) | {"worker"}, name


# The alert rules.


def test_every_alert_has_a_test_and_is_documented() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(names) == len(set(names)) == RULES.read_text().count("- alert:")
    blocks = re.findall(r"alertname: (\w+)(.*)", RULES_TEST.read_text())
    silent = {name for name, rest in blocks if "exp_alerts: []" in rest}
    firing = {name for name, rest in blocks if not rest}
    assert silent == firing == set(names)
    documented = (FOLDER / "README.md").read_text()
    rows = dict(re.findall(r"\| `(Sipws\w+)` \| (\w+) \|", documented))
    assert rows == {alert["alert"]: alert["severity"] for alert in ALERTS}


def test_the_documented_scrape_configuration_has_the_job_of_the_rules() -> None:
    jobs = set(re.findall(r'job="([^"]*)"', RULES.read_text()))
    assert jobs == {"sipws"}
    assert "- job_name: sipws\n" in (FOLDER / "README.md").read_text()


# The dashboard.


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_the_dashboard_takes_the_data_source_that_is_selected() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 38  # Grafana 10
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["DS_PROMETHEUS"]["type"] == "datasource"
    assert variables["DS_PROMETHEUS"]["query"] == "prometheus"
    selected = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    assert [variables[name]["datasource"] for name in ("job", "instance")] == [selected] * 2
    for panel in PANELS:
        assert panel["datasource"] == selected, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert [target["datasource"] for target in panel["targets"]] == [selected] * len(
            panel["targets"]
        )
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
    used = set(re.findall(r"\$(\w+)", json.dumps([panel["targets"] for panel in PANELS])))
    assert used == {"job", "instance", "__rate_interval"}


def test_the_variables_of_the_dashboard_are_labels_of_a_metric(page: str) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+)(?:{.*})?, (\w+)\)", variable["definition"])
            assert match is not None
            assert variable["query"]["query"] == variable["definition"]
            assert match[1] in metrics_of(page)
            assert match[2] in OF_TARGET


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_shows_the_selected_job_and_instances(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for _, matchers in _SELECTOR.findall(target["expr"]):
            assert matchers.startswith('job="$job",instance=~"$instance"')


# Prometheus' own tool reads all of them.


Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def promtool(find: Any) -> Promtool:
    program = find.program("promtool", remedy="install Debian's package prometheus")

    def run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *words], input=given, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_promtool_reads_the_rules_and_their_tests_hold(promtool: Promtool) -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout
    tested = promtool("test", "rules", str(RULES_TEST))
    assert tested.returncode == 0, tested.stderr + tested.stdout


def test_promtool_finds_nothing_wrong_with_the_page(promtool: Promtool, page: str) -> None:
    checked = promtool("check", "metrics", given=page)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_reads_the_expressions_of_the_dashboard(
    promtool: Promtool, tmp_path: Path
) -> None:
    rules = [
        {"record": f"query_{number}", "expr": query.expr.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    # JSON is YAML.
    written = tmp_path / "queries.yml"
    written.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", str(written))
    assert checked.returncode == 0, checked.stderr
