"""File descriptors that run out: said once a second, counted, and recovered from."""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from sipws import Server
from sipws.admission.admission import Rules
from sipws.admission.proxy_headers import Networks
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.events import Closed, ConnectFailed, ErrorKind
from sipws.service.app import Application, most_connections, room_for_connections
from sipws.service.statistics import families
from sipws.transport import descriptors
from sipws.transport import happy_eyeballs as dialling
from sipws.transport import pre_handshake as pre_handshake
from sipws.transport.descriptors import RESERVE, Watch, connections_within
from sipws.ws.destination import Destination

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
LOGGER = "sipws.transport.descriptors"


@contextmanager
def none_left() -> Iterator[None]:
    """Take every descriptor that there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    held: list[int] = []
    try:
        with ExitStack() as stack:
            stack.callback(lambda: [os.close(each) for each in held])
            with suppress(OSError):
                while True:
                    held.append(os.dup(2))
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("limit", "relayed", "connections"),
    [
        (65536, False, 65536 - RESERVE),
        (65536, True, (65536 - RESERVE) // 2),
        (256, False, 64),
        (256, True, 32),
        (1, True, 1),
    ],
)
def test_connections_leave_descriptors_for_all_else(
    limit: int, relayed: bool, connections: int
) -> None:
    assert connections_within(limit, relayed=relayed) == connections


def test_the_limit_is_raised_as_far_as_it_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert descriptors.raise_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def plan_of(**sections: dict[str, Any]) -> ResolvedConfig:
    return ResolvedConfig.of(Config.of(sections, "test"))


def test_a_configured_bound_holds_and_else_the_descriptors_do() -> None:
    room = connections_within(descriptors.limit(), relayed=False)
    assert most_connections(plan_of()) == room_for_connections(plan_of()) == room
    assert most_connections(plan_of(transport={"max_connections": 7})) == 7
    relayed = plan_of(upstream={"upstream_uri": "ws://127.0.0.1:1"})
    assert most_connections(relayed) == connections_within(descriptors.limit(), relayed=True)


async def test_the_program_takes_no_more_than_it_has_room_for() -> None:
    resolved = plan_of(transport={"listen": "ws:127.0.0.1:0"})
    async with Application(resolved) as application:
        assert application.server.admission.rules.max_connections == most_connections(resolved)
        found = {family.name for family in families(application)}
    assert "sipws_out_of_descriptors_total" in found


def test_a_watch_says_it_once_and_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    watch = Watch(interval=60)
    watch.look()
    assert not caplog.records
    with none_left():
        for _ in range(50):
            watch.look()
    assert watch.exhausted == 50
    [said] = caplog.records
    assert said.levelno == logging.ERROR
    assert "no file descriptor is left" in said.getMessage()
    watch.look()
    watch.look()
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.INFO]


async def test_a_server_goes_on_when_there_are_descriptors_again(
    serve: Serve, upgrade: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server, _ = await serve()
    server._context.descriptors._interval = 0.01
    server._context.descriptors.close()
    server._context.descriptors.start()
    with none_left():
        async with asyncio.timeout(5):
            while not server.out_of_descriptors:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.005)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(upgrade)
    async with asyncio.timeout(5):
        assert b" 101 " in await reader.readline()
    writer.close()


async def test_a_gate_goes_on_when_there_are_descriptors_again(
    serve: Serve, upgrade: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pre_handshake, "OUT_OF_FILES", 0.01)
    rules = Rules(trusted_proxies=Networks(["192.0.2.1"]), proxy_protocol=True)
    server, events = await serve(rules=rules)
    with socket.socket() as client:
        client.setblocking(False)
        with none_left():
            await asyncio.get_running_loop().sock_connect(
                client, ("127.0.0.1", server.listeners[0].port)
            )
            async with asyncio.timeout(5):
                while server.out_of_descriptors < 3:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.005)
        assert len([x for x in caplog.records if x.name == LOGGER]) == 1
        # The connection has waited.
        await asyncio.get_running_loop().sock_sendall(client, upgrade)
        async with asyncio.timeout(5):
            answer = await asyncio.get_running_loop().sock_recv(client, 4096)
    assert b" 101 " in answer
    await events.wait_for(Closed)


async def test_the_destination_is_not_blamed_for_what_is_missing_here() -> None:
    destination = Destination.parse("ws://127.0.0.1:9")
    with none_left(), pytest.raises(dialling.DialError) as raised:
        await dialling.open_socket(await dialling.resolve(destination), [])
    assert raised.value.kind is ErrorKind.OUT_OF_RESOURCES
    assert "Too many open files" in raised.value.detail


async def test_a_client_whose_relay_lacks_a_descriptor_is_closed_and_the_upstream_stays_up(
    relayed: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both = await relayed()
    phone = await both.phone()
    await phone.send(b"x")
    await phone.recv()

    def exhausted(*args: object, **options: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    without = SimpleNamespace(**vars(socket))
    without.socket = exhausted
    monkeypatch.setattr(dialling, "socket", without)
    phones = [await both.phone(), await both.phone()]
    for each in phones:
        assert await both.end_of(each) == (1013, "out of resources")
    assert both.relay.reachable
    failed = both.told.of(ConnectFailed)
    assert {event.kind for event in failed} == {ErrorKind.OUT_OF_RESOURCES}
    said = [record.getMessage() for record in caplog.records if record.name == "sipws.relay.relay"]
    assert len(said) == 1
    assert "Too many open files" in said[0]


async def test_a_name_is_not_blamed_either(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*args: object, **options: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", failing, raising=False)
    monkeypatch.setattr(dialling, "are_left", lambda: False)
    with pytest.raises(dialling.DialError) as raised:
        await dialling.resolve(Destination.parse("ws://sip.example.com"))
    assert raised.value.kind is ErrorKind.OUT_OF_RESOURCES


async def test_an_address_that_refuses_is_told_before_one_that_this_machine_cannot_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As without IPv6; the second address refuses.
    refused = iter((errno.EADDRNOTAVAIL, errno.ECONNREFUSED))

    async def refusing(*args: object) -> None:
        number = next(refused)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dialling, "_connect", refusing)
    places = [(socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, ("127.0.0.2", 9))]
    with pytest.raises(dialling.DialError) as raised:
        await dialling.open_socket(places, [])
    assert raised.value.kind is ErrorKind.CONNECT_REFUSED
