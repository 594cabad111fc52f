"""From a destination to a socket: names, addresses in turn, and what goes wrong."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sipws import Address, Destination
from sipws.events import ErrorKind
from sipws.transport import happy_eyeballs as dialling
from sipws.transport.happy_eyeballs import DialError, Tried, ends_of, open_socket, resolve

V4, V6 = socket.AF_INET, socket.AF_INET6
SILENT = "192.0.2.1"


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """A resolver that knows these names and no others."""
    known: dict[str, list[Any]] = {}
    loop_type = type(asyncio.get_running_loop())
    real = loop_type.getaddrinfo

    async def getaddrinfo(self: Any, host: str, port: int, **options: Any) -> list[Any]:
        if host.endswith(".example"):
            if host not in known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(family, 1, 6, "", (ip, port)) for family, ip in known[host]]
        found: list[Any] = await real(self, host, port, **options)
        return found

    monkeypatch.setattr(loop_type, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
async def silence(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """An address that never answers; set when one has tried it and given up."""
    given_up = asyncio.Event()
    real = dialling._connect

    async def connect(sock: socket.socket, place: dialling.Place) -> None:
        if place[0] != SILENT:
            await real(sock, place)
            return
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    monkeypatch.setattr(dialling, "_connect", connect)
    return given_up


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port on loopback where connections are taken."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("url", "candidate"),
    [
        ("ws://192.0.2.7:5066/", (V4, ("192.0.2.7", 5066))),
        ("ws://[2001:db8::7]/", (V6, ("2001:db8::7", 80, 0, 0))),
    ],
)
async def test_an_address_is_not_looked_up(
    url: str, candidate: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", None)
    assert await resolve(Destination.parse(url)) == [candidate]


async def test_a_names_addresses_come_with_the_families_in_turn(names: dict[str, Any]) -> None:
    names["a.example"] = [(V6, "::1"), (V6, "::2"), (V6, "::3"), (V4, "10.0.0.1"), (V6, "::1")]
    found = await resolve(Destination.parse("ws://a.example"))
    assert [place[0] for _, place in found] == ["::1", "10.0.0.1", "::2", "::3"]


@pytest.mark.parametrize("host", ["unknown.example", f"{'a' * 63}.{'b' * 63}.example"])
async def test_a_name_without_an_address_is_told(names: dict[str, Any], host: str) -> None:
    with pytest.raises(DialError, match="has no address: ") as failed:
        await resolve(Destination.parse(f"ws://{host}"))
    assert failed.value.kind is ErrorKind.NAME_NOT_FOUND


async def test_invalid_names_are_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", None)
    with pytest.raises(DialError, match="never looked up") as failed:
        await resolve(Destination.parse("sip:a@df7jal23ls0d.invalid;transport=ws"))
    assert failed.value.kind is ErrorKind.NAME_NOT_FOUND


async def test_the_next_address_is_tried_when_one_refuses(port: int) -> None:
    tried: Tried = []
    sock = await open_socket([(V4, ("127.0.0.2", port)), (V4, ("127.0.0.1", port))], tried)
    with sock:
        assert sock.getpeername() == ("127.0.0.1", port)
        assert [peer for _, peer in tried] == [("127.0.0.2", port), ("127.0.0.1", port)]
        # Of the one that is open.
        assert ends_of(tried) == (("127.0.0.1", port), sock.getsockname())
    assert ends_of(tried) == (None, None)


async def test_the_next_address_is_tried_beside_one_that_is_silent(
    port: int, silence: asyncio.Event
) -> None:
    async with asyncio.timeout(5):
        sock = await open_socket([(V4, (SILENT, 80)), (V4, ("127.0.0.1", port))], [])
        with sock:
            assert sock.getpeername() == ("127.0.0.1", port)
        await silence.wait()


async def test_when_none_answers_the_first_ones_reason_is_told() -> None:
    with pytest.raises(DialError) as failed:
        await open_socket([(V4, ("127.0.0.1", 1)), (V4, ("127.0.0.2", 1))], [])
    error = failed.value
    assert (error.kind, error.peer) == (ErrorKind.CONNECT_REFUSED, Address("127.0.0.1", 1))
    assert error.detail == (
        "127.0.0.1:1: Connection refused (nor do 1 more of its addresses answer)"
    )


async def test_no_way_to_an_address_is_unreachable() -> None:
    # TCP has no broadcast: the system refuses before anything is sent.
    with pytest.raises(DialError) as failed:
        await open_socket([(V4, ("255.255.255.255", 80))], [])
    assert failed.value.kind is ErrorKind.UNREACHABLE


async def test_giving_up_closes_every_socket(silence: asyncio.Event) -> None:
    opening = asyncio.create_task(open_socket([(V4, (SILENT, 80))], []))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(5):
        await silence.wait()
