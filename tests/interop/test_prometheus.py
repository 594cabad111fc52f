"""Prometheus scrapes a relay as docs/monitoring says; its rules and the dashboard have data."""

import asyncio
import json
import re
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws import Server
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application
from sipws.transport.flow import Flow

DOCS: Final = Path(__file__).parents[2] / "docs" / "monitoring"
PATIENCE: Final = 60.0
"""Seconds until something must have happened: rates need several scrapes."""

PROMETHEUS_TOKEN: Final = "only-for-metrics"
OFTEN: Final = (
    "global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\n"
)
INVITE: Final = (
    "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
)

NOTHING_HAPPENS: Final = {
    # Without TLS, workers or a failure there is nothing to show.
    "sipws_tls_certificate_expiry_seconds", "sipws_worker_up", "sipws_worker_restarts_total",
    "sipws_connection_errors_total", "sipws_failed_connects_total",
    "sipws_hep_dropped_packets_total", "sipws_trace_packets_dropped_total",
}  # fmt: skip


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str

    async def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"

        def read() -> Any:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]

        return await asyncio.to_thread(read)

    async def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.ask("query", query=expression))["result"]
        return found


Start = Callable[[str], Awaitable[Prometheus]]


@pytest.fixture
async def prometheus(find: Any, tmp_path: Path) -> AsyncIterator[Start]:
    """Start Prometheus with a configuration: ``await prometheus(yaml)``."""
    program = find.program("prometheus", remedy="install Debian's package prometheus")
    processes: list[asyncio.subprocess.Process] = []

    async def start(yaml: str) -> Prometheus:
        (tmp_path / "prometheus.yml").write_text(yaml)
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "TERM", program,
            "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
            cwd=tmp_path, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        assert process.stderr is not None
        address, log = "", []
        async with asyncio.timeout(PATIENCE):
            async for line in process.stderr:
                log.append(line.decode())
                if match := re.search(r'msg="Listening on" address=(\S+)', log[-1]):
                    address = match[1]
                if "Server is ready" in log[-1]:
                    return Prometheus(f"http://{address}")
        pytest.fail("Prometheus does not start:\n" + "".join(log))

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        # Its log is short: nothing waits for a reader.
        await process.wait()


@pytest.fixture
async def relay() -> AsyncIterator[Application]:
    """A relay that is traced, in front of a server that refuses every call."""

    def refuse(flow: Flow, message: bytes) -> None:
        flow.send(b"SIP/2.0 503 Service Unavailable\r\nCall-ID: 1\r\n\r\n")

    async with Server(["ws:127.0.0.1:0"], refuse) as behind:
        table = {
            "transport": {"listen": "ws:127.0.0.1:0"},
            "control": {
                "listen": "127.0.0.1:0",
                "token": "for-everything",
                "metrics_token": PROMETHEUS_TOKEN,
            },
            "upstream": {"upstream_uri": f"ws://127.0.0.1:{behind.listeners[0].port}/"},
            "hep": {"hep_id": "[homer]127.0.0.1:9;transport=udp"},
            "tracing": {"trace_destination": "homer", "trace_on": True},
        }
        async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
            yield running


async def call_again_and_again(running: Application) -> None:
    """Connect, call, close; some clients are refused."""
    url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
    while True:
        async with connect(
            url, subprotocols=[Subprotocol("sip")], origin=Origin("https://a.example")
        ) as phone:
            await phone.send(INVITE)
            await phone.recv()
        port = running.server.listeners[0].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.read()
        writer.close()
        await asyncio.sleep(0.05)


def documented_configuration(running: Application, token_file: Path) -> str:
    """The configuration of README.md with the addresses of this test, and short intervals."""
    readme = (DOCS / "README.md").read_text()
    [yaml] = [x for x in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "scrape_" in x]
    token_file.write_text(f"{PROMETHEUS_TOKEN}\n")
    assert running.control is not None
    for documented, here in (
        ("sipws-rules.yml", str(DOCS / "sipws-rules.yml")),
        ("/etc/prometheus/sipws.token", str(token_file)),
        ('["10.0.0.11:8888", "10.0.0.12:8888"]', f'["{running.control.address}"]'),
    ):
        assert documented in yaml
        yaml = yaml.replace(documented, here)
    return OFTEN + yaml


async def test_rules_and_dashboard_have_data(
    relay: Application, prometheus: Start, tmp_path: Path
) -> None:
    calls = asyncio.get_running_loop().create_task(call_again_and_again(relay))
    try:
        server = await prometheus(documented_configuration(relay, tmp_path / "token"))
        dashboard = json.loads((DOCS / "sipws-dashboard.json").read_text())
        panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        waiting = {
            (panel["title"], target["expr"])
            for panel in panels
            for target in panel["targets"]
            # What is shown above 0 only may be absent.
            if not target["expr"].endswith(" > 0")
            and not set(re.findall(r"sipws_\w+", target["expr"])) <= NOTHING_HAPPENS
        }
        waiting -= {each for each in waiting if re.search(r'status=~"[12346]\.\."', each[1])}
        assert len(waiting) >= 40
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while waiting:
                    for title, expression in list(waiting):
                        assert not calls.done()
                        asked = expression.replace("$__rate_interval", "5s")
                        asked = asked.replace("$job", "sipws").replace("$instance", ".+")
                        if await server.query(asked):
                            waiting.discard((title, expression))
        assert not waiting, "panels without data"
        [up] = await server.query('up{job="sipws"}')
        assert up["value"][1] == "1"
        [group] = (await server.ask("rules"))["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}
        # All responses are 503, and a third of the handshakes is refused.
        async with asyncio.timeout(PATIENCE):
            while not await server.query('ALERTS{alertname="SipwsSipServerErrors",leg="upstream"}'):
                assert not calls.done()
    finally:
        calls.cancel()
        await asyncio.wait([calls])
