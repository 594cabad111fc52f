"""The documents tell the truth: what they show is run."""

import doctest
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

import hep
import sipws
from hep.codec.chunks import GENERIC
from hep.homer import jsonb
from sipws.config.changes import EFFECTS
from sipws.config.opensips.parameters import NOT_TAKEN, RULES
from sipws.config.settings import Config
from sipws.service.app import Application, ResolvedConfig
from sipws.service.commands import methods_of
from sipws.service.statistics import families, statistics
from sipws.tracing.filter import Script
from sipws.workers.supervisor import Supervisor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPTIONS = (
    "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid\r\nFrom: <sip:a@b>;tag=1\r\n"
    "To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_in_the_readme_is_that_of_the_examples() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    examples = [path.read_text() for path in sorted((ROOT / "examples").glob("*.py"))]
    assert len(blocks) == 2
    for block in blocks:
        assert any(block.strip() in text for text in examples)


async def test_the_server_example_answers_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    module = example("server")
    async with sipws.Server(["ws:127.0.0.1:0"], module.answer) as server:
        server.bus.accepted.subscribe(module.came)
        server.bus.closed.subscribe(module.went)
        url = f"ws://127.0.0.1:{server.listeners[0].port}/"
        async with connect(url, subprotocols=[Subprotocol("sip")]) as client:
            await client.send(OPTIONS)
            answer = str(await client.recv())
        await server.flows.wait_empty()
    assert answer.startswith("SIP/2.0 200 OK\r\nVia: ")
    assert "\r\nCSeq: 1 OPTIONS\r\n" in answer
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+ connected\n127\.0\.0\.1:\d+ left after 0\.\d s with code 1000\n",
        capsys.readouterr().out,
    )


async def test_the_hep_example_sends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    received = []
    collector = hep.Collector(lambda packet, source: received.append(packet), tcp="127.0.0.1:0")
    async with collector:
        ip, port = collector.tcp_address
        monkeypatch.setattr(hep.HepId, "parse", lambda text: hep.HepId(ip, port))
        await example("send_hep").main()
    assert capsys.readouterr().out == "1 sent, 0 dropped\n"


def test_every_setting_is_documented_with_its_name() -> None:
    documented = (ROOT / "docs" / "configuration.md").read_text()
    for section, model in Config.model_fields.items():
        assert f"## [{section}]" in documented
        for setting, field in model.annotation.model_fields.items():  # type: ignore[union-attr]
            assert f"`{setting}`" in documented, setting
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                # A table within a section.
                assert f"`[{section}.{setting}]`" in documented
                for name in field.annotation.model_fields:
                    assert f"`{name}`" in documented, name


def test_what_a_reload_does_with_each_setting_is_documented() -> None:
    documented = {}
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `\[(\w+)\]` \| ([a-z ]+) \| (.+) \|$", page, re.MULTILINE)
    for section, effect, names in rows:
        documented |= {f"{section}.{name}": effect for name in re.findall(r"`([\w.]+)`", names)}
    assert documented == {name: effect.value for name, effect in EFFECTS.items()}


def test_the_configuration_in_the_readme_is_right() -> None:
    import tomllib

    [toml] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert Config.of(tomllib.loads(toml), "README").tracing.trace_destination == ("homer",)


def test_the_filter_route_in_the_readme_is_accepted() -> None:
    [route] = re.findall(r"```\n(route\[.*?)```", README, re.DOTALL)
    assert Script.parse(route).routes == ("ws_filter",)


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_examples_of_the_hep_page_are_true() -> None:
    path = ROOT / "docs" / "hep.md"
    # Fences end a block for a reader; to doctest they would be expected output.
    text = re.sub(r"^```.*$", "", path.read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.attempted > 20
    assert not results.failed


def test_the_hep_page_has_every_chunk_and_every_rule() -> None:
    text = (ROOT / "docs" / "hep.md").read_text()
    for number, row in GENERIC.items():
        assert f"| 0x{number:04x} | {row.name} |" in text
    for name in hep.SenderSettings.__dataclass_fields__:
        assert f"`{name}`" in text, name
    sources = [*(ROOT / "hep" / "cli").glob("*.py"), *(ROOT / "hep" / "homer").glob("*.py")]
    code = "".join(path.read_text() for path in sources)
    rules = set(re.findall(r'(?:Finding|Reason)\(\s*"([\w-]+)"', code))
    rules |= {f"json-{kind}" for kind in jsonb.Kind} | {"sip-no-cseq", "sip-no-call-id"}
    assert len(rules) > 40
    for rule in rules:
        assert f"`{rule}`" in text, rule


async def test_every_metric_statistic_and_method_is_documented() -> None:
    documented = (ROOT / "docs" / "operations.md").read_text()
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "hep": {"hep_id": "[homer]127.0.0.1:1;transport=tcp"},
        "tracing": {"trace_destination": "homer"},
    }
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        for family in families(application):
            assert f"`{family.name}`" in documented, family.name
        for method in methods_of(application):
            assert f"`{method}`" in documented, method
        for group in {name.partition(":")[0] for name in statistics(application)}:
            assert f"`{group}:`" in documented, group
        known = {family.name for family in families(application)}
        supervisor = Supervisor(application.resolved, "test")
        known |= {family.name for family in await supervisor.families()}
    for metric in re.findall(r"\b(sipws_[a-z_]+)", documented):
        assert metric.removesuffix("_bucket") in known, metric


def test_the_mapping_for_homer_has_every_part_of_an_event() -> None:
    mapping = json.loads((ROOT / "docs" / "homer" / "mapping-websocket.json").read_text())
    fields = {field["id"].removeprefix("data_header.") for field in mapping["fields_mapping"]}
    source = (ROOT / "sipws" / "tracing" / "payloads.py").read_text()
    parts = set(re.findall(r'\("([A-Z]\w+)", ', source)) | {"event", "Filter_Remark", "Call_IDs"}
    assert len(parts) > 25
    # homer-app ignores fields with other names, and returns all rows.
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", each.split(".")[-1]) for each in fields)
    assert not parts - fields
    positions = [field["position"] for field in mapping["fields_mapping"]]
    assert positions == list(range(1, len(positions) + 1))


def test_every_package_has_its_place_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    # Of the packages within the language the row of the language speaks.
    folders = {path.parent for tree in ("hep", "sipws") for path in (ROOT / tree).rglob("*.py")}
    packages = {str(path.relative_to(ROOT)) for path in folders} - {"hep", "sipws"}
    missing = {name for name in packages if f"`{name}/`" not in text}
    assert missing == {f"sipws/tracing/filter/{part}" for part in ("syntax", "evaluation")}
    for link in re.findall(r"\]\(\.\./([\w/.]+)\)", text):
        assert (ROOT / link).exists(), link


def test_the_parameters_of_opensips_are_documented_with_what_becomes_of_them() -> None:
    documented = (ROOT / "docs" / "opensips.md").read_text()
    for module, name in [*RULES, *((m, n) for m, n in NOT_TAKEN if m != "proto_hep")]:
        assert f"`{name}`" in documented, (module, name)


def test_the_example_of_wss_apart_from_ws_is_right() -> None:
    import tomllib

    text = (ROOT / "docs" / "configuration.md").read_text()
    [toml] = [x for x in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[tracing.wss]" in x]
    table = tomllib.loads(toml) | {"hep": {"hep_id": "[homer]10.0.0.2"}}
    config = Config.of(table, "docs")
    assert config.transport.of_wss.require_origin
    assert config.tracing.of_wss.trace_filter_route == "wss_filter"
