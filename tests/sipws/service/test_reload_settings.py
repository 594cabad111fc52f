"""Settings of a changed file, taken over by a running server."""

import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Origin, Subprotocol

from hep import decode
from sipws import ConfigurationError, Server
from sipws.config.changes import Source
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config, Log
from sipws.service.app import Application
from sipws.service.commands import methods_of

MESSAGE = (
    b"OPTIONS sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    b"From: <sip:b@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: %s\r\n"
    b"CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


class Collector:
    """A socket that HEP packets are sent to."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        port = self.socket.getsockname()[1]
        self.setting = f'trace_destination = "127.0.0.1:{port};transport=udp"'

    async def packet(self, wanted: Callable[[bytes], bool]) -> bytes:
        """The next packet that is wanted."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while not wanted(data := await loop.sock_recv(self.socket, 65536)):
                pass
        return data


class Running:
    """An application whose file can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = Source(str(path), lambda: Config.load(path))
        self.logs: list[Log] = []

    def write(self, transport: str = "", tracing: str = "", more: str = "") -> None:
        self.path.write_text(
            f'[transport]\nlisten = "ws:127.0.0.1:0"\n{transport}\n[tracing]\n{tracing}\n{more}'
        )

    def make(self) -> Application:
        resolved = ResolvedConfig.of(self.source.read(), self.source.name)
        self.application = Application(resolved, source=self.source, set_log=self.logs.append)
        return self.application

    def reload(self, *args: str) -> Any:
        self.write(*args)
        return methods_of(self.application)["reload"]()

    def phone(self, **options: Any) -> connect:
        port = self.application.server.listeners[0].port
        options = {"origin": Origin("https://phone.example.com")} | options
        return connect(f"ws://127.0.0.1:{port}/", subprotocols=[Subprotocol("sip")], **options)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    with collector.socket:
        yield collector


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path / "sipws.toml")
    running.write()
    async with running.make():
        yield running


async def status_of(phone: connect) -> int:
    try:
        async with phone:
            return 101
    except InvalidStatus as exc:
        return exc.response.status_code


async def is_served(phone: ClientConnection, size: int = 0) -> bool:
    await phone.send(MESSAGE % b"served" + b" " * size)
    return b"served" in bytes(await phone.recv(decode=False))


async def closed(phone: ClientConnection) -> None:
    async with asyncio.timeout(10):
        await phone.wait_closed()


@pytest.mark.parametrize(
    ("setting", "status"),
    [
        ("require_origin = true", 101),
        ('allowed_origins = ["https://other.example.com"]', 403),
        ('allowed_hosts = ["other.example.com"]', 421),
        ('ws_resource = "/other"', 404),
        ("max_connections = 1", 503),
        ("max_request_size = 256\nmax_header_line = 256", 431),
    ],
)
async def test_new_connections_are_checked_by_the_new_settings(
    running: Running, setting: str, status: int
) -> None:
    async with running.phone() as before:
        running.reload(setting)
        assert await status_of(running.phone()) == status
        assert await is_served(before)
        running.reload()
        assert await status_of(running.phone()) == 101


async def test_a_reload_can_require_and_allow_native_clients(running: Running) -> None:
    assert await status_of(running.phone(origin=None)) == 403
    assert running.reload("require_origin = false") == "OK; applied: transport.require_origin"
    assert await status_of(running.phone(origin=None)) == 101
    refused = running.application.server.admission.refused
    running.reload()
    assert await status_of(running.phone(origin=None)) == 403
    # The counts go on.
    assert refused.total() == 2


async def test_limits_per_address_come_and_go_with_connections_open(running: Running) -> None:
    admission = running.application.server.admission
    for before, after in (
        ("", "max_connections_per_address = 1"),
        ("max_connections_per_address = 1", ""),
        ("max_handshake_rate_per_address = 100.0", "max_connections_per_address = 1"),
    ):
        running.reload(before)
        async with running.phone():
            running.reload(after)
        while admission.connections:  # noqa: ASYNC110 - the end of a connection is no event here
            await asyncio.sleep(0)
        assert admission.addresses == 0
    assert await status_of(running.phone()) == 101
    async with running.phone():
        assert await status_of(running.phone()) == 429


async def test_open_connections_keep_their_limits(running: Running) -> None:
    async with running.phone() as old:
        running.reload("max_message_size = 300")
        async with running.phone() as new:
            await new.send(MESSAGE % b"served" + b" " * 300)
            await closed(new)
            assert new.close_code == 1009
        await old.send(MESSAGE % (b"served" + b"x" * 300))
        assert b"served" in bytes(await old.recv(decode=False))


async def test_what_needs_a_restart_is_named_each_time(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    listening = list(running.application.server.listeners)
    more = 'ws_port = 81\nworkers = 2\nhealth_path = "/up"'
    assert running.reload(more) == (
        "OK; applied: transport.health_path; transport.ws_port, transport.workers need a restart"
    )
    assert "not in force: transport.ws_port, transport.workers need a restart" in caplog.text
    assert running.reload(more) == "OK; transport.ws_port, transport.workers need a restart"
    assert running.application.server.listeners == listening
    assert running.application.resolved.config.transport.workers == 1
    assert running.reload() == "OK; applied: transport.health_path"


@pytest.mark.parametrize(
    "wrong",
    [
        "max_message_size = 1",
        "nonsense = 1",
        "this is not TOML",
        'tls_certificate = "missing.pem"',
    ],
)
async def test_a_file_with_a_mistake_is_refused_whole(running: Running, wrong: str) -> None:
    before = running.application.resolved
    running.write(f"require_origin = false\n{wrong}")
    with pytest.raises(ConfigurationError, match="the new configuration is refused, the old one"):
        running.application.reload()
    assert running.application.resolved is before
    assert await status_of(running.phone(origin=None)) == 403


async def test_traces_of_open_connections_follow_the_new_settings(
    running: Running, collector: Collector
) -> None:
    destination = f"{collector.setting}\n"
    running.write(tracing=f"{destination}trace_on = true")
    async with running.make() as application, running.phone() as phone:
        await collector.packet(lambda data: b"ACCEPTED" in data or b"WS" in data)
        [trace] = application.traces.configured
        senders, offered = trace.senders, trace.tracer.offered
        running.reload(
            "", f"{destination}trace_on = true\ntrace_sip = true", "[hep]\nhep_capture_id = 77"
        )
        assert await is_served(phone)
        data = await collector.packet(lambda data: b"OPTIONS sip:" in data)
        assert decode(data).capture_id == 77
        assert trace.senders is senders
        assert application.traces.configured == [trace]
        assert trace.tracer.offered > offered
        assert trace.tracer.counters["traced"] == 1
        running.reload("", f"{destination}trace_on = false\ntrace_sip = true")
        assert not application.traces.on


async def test_a_switch_of_a_command_stays_while_the_file_says_the_same(
    running: Running, collector: Collector
) -> None:
    tracing = f"{collector.setting}\ntrace_on = false"
    running.write(tracing=tracing)
    async with running.make() as application:
        methods_of(application)["trace"](mode="on")
        running.reload("require_origin = false", tracing)
        assert application.traces.on


async def test_a_new_filter_decides_about_new_connections(
    running: Running, collector: Collector, tmp_path: Path
) -> None:
    (tmp_path / "f.cfg").write_text("route[all] { exit; } route[none] { drop; }")
    tracing = f'{collector.setting}\ntrace_on = true\nscript = "f.cfg"\n'
    running.write(tracing=f'{tracing}trace_filter_route = "all"')
    async with running.make() as application:
        [trace] = application.traces.configured
        async with running.phone() as phone:
            assert await is_served(phone)
            running.reload("", f'{tracing}trace_filter_route = "none"')
            async with running.phone() as other:
                assert await is_served(other)
        application.traces.read()
        assert trace.tracer.counters["traced"] == trace.tracer.counters["excluded"] == 1


async def test_the_log_is_set_up_anew(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sipws")
    application = running.application
    application.log_connections()
    running.reload("", "", '[log]\nformat = "json"\nlevel = "debug"')
    assert running.logs == [Log(format="json", level="debug")]
    async with running.phone():
        pass
    assert "connected to ws:127.0.0.1" in caplog.text
    running.reload("", "", "[log]\nconnections = false")
    caplog.clear()
    async with running.phone() as phone:
        assert await is_served(phone)
        running.reload()
        # This connection is not known to the log.
        assert await is_served(phone)
    async with running.phone():
        pass
    assert caplog.text.count("connected to ws:127.0.0.1") == 1


async def test_a_hundred_reloads_leave_nothing(running: Running, collector: Collector) -> None:
    destination = f"{collector.setting}\ntrace_on = true\n"
    running.write(tracing=destination)
    async with running.make() as application, running.phone() as phone:

        async def change(number: int) -> None:
            running.reload(
                f"ws_handshake_timeout = {5000 + number}\nmax_connections_per_address ="
                f" {10 + number}",
                f"{destination}trace_sample = {0.5 + number / 1000}",
                f"[log]\nconnections = {'true' if number % 2 else 'false'}",
            )
            async with running.phone() as other:
                assert await is_served(other)

        def held() -> dict[str, int]:
            gc.collect()
            kinds = [type(each).__name__ for each in gc.get_objects()]
            counted = ("Config", "ConnectionLog", "Tracer", "FlowContext", "Line", "socket", "Task")
            return {name: kinds.count(name) for name in counted}

        for number in range(4):
            await change(number)
        before = held()
        for number in range(4, 104):
            await change(number)
        after = held()
        assert {name for name in after if after[name] > before[name] + 2} == set()
        subscribers = len(application.bus.accepted.subscribers)
        assert subscribers <= 4
        assert await is_served(phone)


async def test_new_handshakes_of_tls_have_another_certificate(running: Running) -> None:
    folder, authority = running.path.parent, trustme.CA()
    for name in ("old", "new"):
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def configure(name: str, more: str = "") -> None:
        running.path.write_text(
            f'[transport]\nlisten = "wss:127.0.0.1:0"\ntls_certificate = "{name}.pem"\n{more}'
        )

    async def shown(phone: ClientConnection) -> str:
        found = phone.transport.get_extra_info("peercert")
        return str(found["serialNumber"])

    configure("old")
    async with running.make() as application:
        url = f"wss://127.0.0.1:{application.server.listeners[0].port}/"
        sip = [Subprotocol("sip")]
        origin = Origin("https://phone.example.com")
        async with connect(url, subprotocols=sip, origin=origin, ssl=trusting) as old:
            configure("new", "[transport.wss]\nrequire_origin = false\nwss_max_msg_chunks = 1")
            found = application.reload().found
            assert found.live == (
                "transport.tls_certificate",
                "transport.wss.require_origin",
                "transport.wss.wss_max_msg_chunks",
            )
            async with connect(url, subprotocols=sip, ssl=trusting) as new:
                assert await shown(new) != await shown(old)
                await new.send([b"OPTIONS sip:a", b" SIP/2.0\r\n\r\n"])
                await closed(new)
            assert await is_served(old)
        configure("missing")
        with pytest.raises(ConfigurationError, match="refused"):
            application.reload()
        async with connect(url, subprotocols=sip, ssl=trusting) as still:
            assert await is_served(still)


async def test_new_connections_to_the_upstream_have_the_new_limits(running: Running) -> None:
    long = MESSAGE % (b"x" * 400)
    async with Server(["ws:127.0.0.1:0"], lambda flow, _: flow.send(long)) as upstream:
        port = upstream.listeners[0].port
        more = f'[upstream]\nupstream_uri = "ws://127.0.0.1:{port}/"'
        running.write(more=more)
        async with running.make(), running.phone() as old:
            running.reload("max_message_size = 300", "", more)
            async with running.phone() as new:
                await new.send(MESSAGE % b"a")
                await closed(new)
            await old.send(MESSAGE % b"a")
            assert await old.recv(decode=False) == long
            assert running.reload("", "", "") == (
                "OK; applied: transport.max_message_size; upstream.upstream_uri needs a restart"
            )


async def test_a_proxy_is_trusted_from_now_on(running: Running) -> None:
    running.write('trusted_proxies = ["192.0.2.1"]\nproxy_protocol = true')
    async with running.make() as application:
        assert await status_of(running.phone()) == 101
        running.reload('trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true')
        with pytest.raises((InvalidMessage, OSError)):
            # No PROXY header comes.
            await running.phone(open_timeout=10)
        assert application.server.admission.refused.total() == 1
