"""What is configured for ws and for wss apart: from the TOML file down to each listener."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

import hep
from sipws import ConfigurationError, Server
from sipws.cli import main as cli
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application
from sipws.service.commands import methods_of
from sipws.transport.flow import Flow

FILTERS = "route[no_ws] { drop; } route[no_wss] { drop; }"


class Tls:
    """A certificate, and clients that trust it."""

    def __init__(self, path: Path) -> None:
        authority = trustme.CA()
        self.certificate = path / "server.pem"
        pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        pem.write_to_path(self.certificate)
        self.certificate.chmod(0o600)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


def table(tls: Tls, **sections: dict[str, Any]) -> dict[str, Any]:
    transport = {
        "listen": ["ws:127.0.0.1:0", "wss:127.0.0.1:0"],
        "tls_certificate": tls.certificate,
    }
    return sections | {"transport": transport | sections.get("transport", {})}


class Inbox(list[hep.Packet]):
    """A collector and what came to it."""

    def __init__(self) -> None:
        super().__init__()
        self.collector = hep.Collector(
            lambda packet, source: self.append(packet), udp="127.0.0.1:0"
        )

    @property
    def hep_id(self) -> str:
        ip, port = self.collector.udp_address
        return f"{ip}:{port};transport=udp"

    @property
    def events(self) -> list[tuple[str, str]]:
        found = [json.loads(packet.payload) for packet in self]
        return [(each["Protocol"], each["Event"]) for each in found]


@pytest.fixture
async def inboxes() -> AsyncIterator[list[Inbox]]:
    async with AsyncExitStack() as stack:
        found = [Inbox(), Inbox()]
        for inbox in found:
            await stack.enter_async_context(inbox.collector)
        yield found


async def phone(
    application: Application, tls: Tls, proto: str, origin: str | None = None
) -> ClientConnection:
    listener = next(each for each in application.server.listeners if each.proto == proto)
    return await connect(
        f"{proto}://127.0.0.1:{listener.port}/",
        subprotocols=[Subprotocol("sip")],
        origin=None if origin is None else Origin(origin),
        ssl=tls.client if proto == "wss" else None,
    )


async def call(application: Application, tls: Tls, proto: str) -> None:
    """Connect a phone, and close."""
    client = await phone(application, tls, proto, "https://a.example")
    await client.close()
    async with asyncio.timeout(5):
        await application.server.flows.wait_empty()
        application.traces.bus.flush()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - a collector has no event to wait for
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("strict", "lax"), [("ws", "wss"), ("wss", "ws")])
async def test_an_origin_is_required_on_the_listeners_of_one_protocol(
    tls: Tls, strict: str, lax: str
) -> None:
    transport = {"require_origin": strict == "ws", "wss": {"require_origin": strict == "wss"}}
    config = Config.of(table(tls, transport=transport), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        await (await phone(application, tls, lax)).close()
        await (await phone(application, tls, strict, "https://a.example")).close()
        with pytest.raises(InvalidStatus) as refused:
            await phone(application, tls, strict)
    assert refused.value.response.status_code == 403
    assert dict(application.server.admission.refused) == {"origin-refused": 1}


async def test_each_protocol_serves_its_path(tls: Tls) -> None:
    transport = {"require_origin": False, "ws_resource": "/", "wss": {"wss_resource": "/sip"}}
    config = Config.of(table(tls, transport=transport), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        await (await phone(application, tls, "ws")).close()
        with pytest.raises(InvalidStatus) as refused:
            await phone(application, tls, "wss")
    assert refused.value.response.status_code == 404


async def test_a_handshake_over_wss_has_the_time_of_wss(tls: Tls) -> None:
    transport = {"wss": {"wss_tls_handshake_timeout": 50}}
    config = Config.of(table(tls, transport=transport), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        port = application.server.listeners[1].port
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()


def test_limits_that_are_not_set_for_wss_are_those_of_ws(tls: Tls) -> None:
    transport = {
        "ws_send_timeout": 300,
        "ws_handshake_timeout": 900,
        "wss": {"wss_send_timeout": 700, "wss_max_msg_chunks": 9},
    }
    settings = Config.of(table(tls, transport=transport), "test").transport
    ws, wss = settings.limits, settings.wss_limits
    assert (ws.send_timeout, ws.handshake_timeout, ws.max_chunks) == (0.3, 0.9, 4)
    assert (wss.send_timeout, wss.handshake_timeout, wss.max_chunks) == (0.7, 0.9, 9)


async def test_tracing_of_wss_has_its_own_switch(tls: Tls, inboxes: list[Inbox]) -> None:
    inbox, _ = inboxes
    tracing = {"trace_on": False, "trace_destination": inbox.hep_id, "wss": {"trace_on": True}}
    config = Config.of(table(tls, tracing=tracing), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        methods = methods_of(application)
        assert methods["ws_trace"]() == {"WS tracing": "off"}
        assert methods["wss_trace"]() == {"WSS tracing": "on"}
        await call(application, tls, "ws")
        await call(application, tls, "wss")
        await until(lambda: len(inbox) == 2)
        assert methods["wss_trace"]("off") == "OK"
        assert methods["ws_trace"]("on") == "OK"
        await call(application, tls, "wss")
        await call(application, tls, "ws")
        await until(lambda: len(inbox) == 4)
    assert inbox.events == [
        ("WSS", "ACCEPTED"), ("WSS", "CLOSED"), ("WS", "ACCEPTED"), ("WS", "CLOSED"),
    ]  # fmt: skip


async def test_tracing_of_wss_has_its_own_destination(tls: Tls, inboxes: list[Inbox]) -> None:
    first, second = inboxes
    tracing = {
        "trace_on": True,
        "trace_destination": first.hep_id,
        "wss": {"trace_destination": second.hep_id},
    }
    config = Config.of(table(tls, tracing=tracing), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        await call(application, tls, "ws")
        await call(application, tls, "wss")
        await until(lambda: len(first) + len(second) == 4)
    assert {proto for proto, _ in first.events} == {"WS"}
    assert {proto for proto, _ in second.events} == {"WSS"}


async def test_without_a_destination_of_its_own_nothing_of_wss_is_traced(
    tls: Tls, inboxes: list[Inbox]
) -> None:
    inbox, _ = inboxes
    tracing = {
        "trace_on": True,
        "trace_destination": inbox.hep_id,
        "wss": {"trace_destination": []},
    }
    resolved = ResolvedConfig.of(Config.of(table(tls, tracing=tracing), "test"))
    assert "tracing is on for wss, but without destination" in " ".join(resolved.warnings)
    async with Application(resolved) as application:
        await call(application, tls, "wss")
        await call(application, tls, "ws")
        await until(lambda: len(inbox) == 2)
    assert {proto for proto, _ in inbox.events} == {"WS"}


@pytest.mark.parametrize(
    ("route", "wss_route", "traced"),
    [
        ("no_ws", None, set()),
        ("no_ws", "", {"WSS"}),
        (None, "no_wss", {"WS"}),
        ("no_ws", "no_wss", set()),
    ],
)
async def test_tracing_of_wss_has_its_own_filter(
    tls: Tls,
    inboxes: list[Inbox],
    tmp_path: Path,
    route: str | None,
    wss_route: str | None,
    traced: set[str],
) -> None:
    inbox, _ = inboxes
    script = tmp_path / "filters.cfg"
    script.write_text(FILTERS)
    tracing = {
        "trace_on": True,
        "trace_destination": inbox.hep_id,
        "script": script,
        "trace_filter_route": route,
        "wss": {"trace_filter_route": wss_route},
    }
    config = Config.of(table(tls, tracing=tracing), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        await call(application, tls, "ws")
        await call(application, tls, "wss")
        await until(lambda: len(inbox) == 2 * len(traced))
        # A reload keeps the filters apart.
        script.write_text(FILTERS.replace("drop", "exit"))
        application.reload()
        await call(application, tls, "ws")
        await call(application, tls, "wss")
        await until(lambda: len(inbox) == 4 + 2 * len(traced))
    assert {proto for proto, _ in inbox.events[: -4 or None]} == traced


def test_a_script_is_a_cfg_with_a_filter_for_each_protocol(tls: Tls, tmp_path: Path) -> None:
    script = tmp_path / "opensips.cfg"
    script.write_text(
        'log_level=3\nmodparam("proto_wss?", "trace_filter_route", "no_ws")\n'
        'modparam("proto_wss", "trace_filter_route", "all")\n' + FILTERS + " route[all] { exit; }"
    )
    config = Config.of(table(tls, tracing={"script": script}), "test")
    resolved = ResolvedConfig.of(config)
    assert resolved.warnings == ()
    assert resolved.filter.decide is not None


def test_a_route_for_wss_needs_a_script(tls: Tls) -> None:
    with pytest.raises(ConfigurationError, match="trace_filter_route 'a' needs script"):
        Config.of(table(tls, tracing={"wss": {"trace_filter_route": "a"}}), "test")


async def test_a_connection_to_an_upstream_belongs_to_the_protocol_of_the_upstream(
    tls: Tls, inboxes: list[Inbox]
) -> None:
    inbox, _ = inboxes
    tracing = {"trace_on": True, "trace_destination": inbox.hep_id, "wss": {"trace_on": False}}
    async with Server(["ws:127.0.0.1:0"], Flow.send) as upstream:
        uri = f"ws://127.0.0.1:{upstream.listeners[0].port}/"
        config = Config.of(table(tls, tracing=tracing, upstream={"upstream_uri": uri}), "test")
        async with Application(ResolvedConfig.of(config)) as application:
            client = await phone(application, tls, "wss", "https://a.example")
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.close()
            await until(lambda: len(inbox) == 3)
    assert [proto for proto, _ in inbox.events] == ["WS"] * 3
    assert [event for _, event in inbox.events] == ["CONNECTING", "CONNECTED", "CLOSED"]


@pytest.mark.parametrize(
    ("options", "origin", "on", "route"),
    [
        ([], True, {"ws"}, "no_wss"),
        (["--no-require-origin"], False, {"ws"}, "no_wss"),
        (["--no-trace-on"], True, set(), "no_wss"),
        (["--trace-destination", "127.0.0.1:9"], True, {"ws", "wss"}, "no_wss"),
        (["--trace-filter-route", "no_ws"], True, {"ws"}, "no_ws"),
    ],
)
def test_the_command_line_overrides_both(
    tls: Tls, tmp_path: Path, options: list[str], origin: bool, on: set[str], route: str
) -> None:
    script = tmp_path / "filters.cfg"
    script.write_text(FILTERS)
    transport = {"require_origin": True, "wss": {"require_origin": True}}
    tracing = {
        "trace_on": True,
        "script": script,
        "wss": {"trace_on": False, "trace_filter_route": "no_wss", "trace_destination": []},
    }
    config = Config.of(table(tls, transport=transport, tracing=tracing), "test")
    changed = cli.overridden(config, cli._parser().parse_args(["run", "-c", "x", *options]), "test")
    assert changed.transport.of_wss.require_origin is origin
    assert changed.tracing.protocols_on == on
    assert changed.tracing.of_wss.trace_filter_route == route


async def test_a_protocol_without_a_listener_does_not_count(inboxes: list[Inbox]) -> None:
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "tracing": {"trace_on": True, "trace_destination": inboxes[0].hep_id},
    }
    table["tracing"]["wss"] = {"trace_destination": []}
    resolved = ResolvedConfig.of(Config.of(table, "test"))
    assert resolved.warnings == ()
    async with Application(resolved) as application:
        application.traces.switch(on=False, proto="ws")
        assert not application.traces.on


async def test_certificates_are_listed_as_the_domains_of_opensips(tls: Tls) -> None:
    names = {"server_names": ["a.example", "*.b.example"], "certificate": tls.certificate}
    transport = {"tls": [names], "tls_verify_client": "optional", "tls_client_ca": tls.certificate}
    config = Config.of(table(tls, transport=transport), "test")
    async with Application(ResolvedConfig.of(config)) as application:
        first, second = methods_of(application)["tls_list"]()["Domains"]
    assert first == {
        "name": "default",
        "type": "TLS_DOMAIN_SRV",
        "IP ADDRESS FILTERS": ["*"],
        "SIP DOMAIN FILTERS": ["*"],
        "METHOD": "TLSv1_2-TLSv1_3",
        "VERIFY_CERT": True,
        "REQ_CLI_CERT": False,
        "CRL_CHECKALL": False,
        "CERT_FILE": str(tls.certificate),
        "CRL_DIR": "",
        "CA_FILE": str(tls.certificate),
        "CA_DIR": "",
        "PKEY_FILE": str(tls.certificate),
        "CIPHER_LIST": "",
        "DH_PARAMS_FILE": "",
        "EC_CURVE": "",
    }
    assert (second["name"], second["SIP DOMAIN FILTERS"]) == (
        "a.example",
        ["a.example", "*.b.example"],
    )
