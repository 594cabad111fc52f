"""Quiet peers are asked, those that are gone are dropped, idle ones are closed."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from sipws import Client, Limits, Server
from sipws.events import Closed, ErrorKind, ErrorOccurred, MessageReceived, Superseded
from sipws.liveness import Finding, Intervals, Liveness
from sipws.transport.flow import Flow
from sipws.transport.registrations import LONGEST, LONGEST_SAID, Phone, Registrations

SIP = [Subprotocol("sip")]
QUICK = Limits(intervals=Intervals(ping=0.05, pong=0.2))


def look(liveness: Liveness, *looks: tuple[float, int, int]) -> list[Finding]:
    return [liveness.look(now, bytes_in, messages) for now, bytes_in, messages in looks]


def test_a_quiet_peer_is_asked_once_and_then_gone() -> None:
    found = look(
        Liveness(Intervals(ping=30, pong=10), 0.0),
        (0, 5, 1), (29, 5, 1), (30, 5, 1), (35, 5, 1), (39.9, 5, 1), (40, 5, 1),
    )  # fmt: skip
    assert found == [Finding.WELL] * 2 + [Finding.ASK] + [Finding.WELL] * 2 + [Finding.GONE]


def test_any_byte_is_an_answer() -> None:
    found = look(
        Liveness(Intervals(ping=30, pong=10), 0.0), (0, 5, 1), (30, 5, 1), (39, 6, 1), (69, 6, 1)
    )
    assert found == [Finding.WELL, Finding.ASK, Finding.WELL, Finding.ASK]


def test_pongs_do_not_keep_an_idle_peer() -> None:
    found = look(
        Liveness(Intervals(ping=30, pong=10, idle=60), 0.0),
        (0, 5, 1), (30, 5, 1), (31, 7, 1), (59, 7, 1), (61, 9, 1), (62, 10, 2),
    )  # fmt: skip
    assert found[4:] == [Finding.IDLE, Finding.WELL]


def test_a_peer_that_is_not_read_is_asked_but_neither_gone_nor_idle() -> None:
    liveness = Liveness(Intervals(ping=30, pong=10, idle=60), 0.0)
    found = [liveness.look(now, 5, 1, is_read=False) for now in (0, 30, 40, 59, 60, 90)]
    well, ask = Finding.WELL, Finding.ASK
    assert found == [well, ask, well, well, ask, ask]
    # Read again, it is as any other.
    assert look(liveness, (119, 5, 1), (120, 5, 1), (130, 5, 1)) == [well, ask, Finding.GONE]


def test_nothing_is_done_where_all_is_off() -> None:
    intervals = Intervals(ping=0, idle=0)
    assert look(Liveness(intervals, 0.0), (0, 0, 0), (1e9, 0, 0)) == [Finding.WELL] * 2


def test_a_peer_can_be_asked_at_any_time() -> None:
    liveness = Liveness(Intervals(ping=0, pong=10), 0.0)
    assert liveness.ask(100.0, 5) is Finding.ASK
    assert liveness.ask(101.0, 5) is Finding.WELL
    assert look(liveness, (102.0, 5, 1), (110.0, 5, 1)) == [Finding.WELL, Finding.GONE]


@pytest.mark.parametrize(
    ("seconds", "ping", "due"),
    [(100, 300.0, 80), (20, 300.0, 10), (100, 0.0, 80), (100, 30.0, 30), (1, 30.0, 0.001)],
)
def test_a_peer_that_waits_for_a_sign_gets_it_in_time(
    seconds: int, ping: float, due: float
) -> None:
    # It is looked at every 5 s.
    liveness = Liveness(Intervals(ping=ping, pong=10), 0.0)
    liveness.expect(seconds)
    found = look(liveness, (0, 5, 1), (due - 0.0001, 5, 1), (due, 5, 1))
    assert found == [Finding.WELL] * 2 + [Finding.ASK]


def url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.listeners[0].port}/"


async def test_a_peer_that_answers_stays(serve: Any) -> None:
    server, _ = await serve(limits=QUICK)
    async with connect(url(server), subprotocols=SIP, ping_interval=None) as client:
        [flow] = server.flows
        async with asyncio.timeout(10):
            # Two pongs, of two bytes of header and four of mask each.
            before = flow._session.traffic[2]
            while flow._session.traffic[2] < before + 12:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0.01)
        assert flow.is_open
        await client.close()


async def test_a_peer_that_does_not_answer_is_dropped_and_told(serve: Any, upgrade: bytes) -> None:
    server, events = await serve(limits=QUICK)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(upgrade)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == Frame(Opcode.PING, b"").serialize(mask=False)
    await events.wait_for(Closed)
    [error] = events.of(ErrorOccurred)
    assert error.kind is ErrorKind.PING_TIMEOUT
    assert error.detail == "no answer to a ping within 0.2 s"
    writer.close()


async def test_an_idle_peer_is_closed_with_1000(serve: Any) -> None:
    server, events = await serve(limits=Limits(intervals=Intervals(ping=0, idle=0.05)))
    async with connect(url(server), subprotocols=SIP) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1000, "idle for 0.05 s")
    await events.wait_for(Closed)


async def test_a_client_notices_that_its_server_is_gone() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(x for x in request.split(b"\r\n") if x.lower().startswith(b"sec-websocket-key"))
        from websockets.utils import accept_key

        accept = accept_key(key.split(b":")[1].strip().decode()).encode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await reader.read()
        writer.close()

    peer = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = peer.sockets[0].getsockname()[1]
    async with peer, Client(limits=QUICK) as client:
        flow = await client.connect(f"ws://127.0.0.1:{port}/")
        async with asyncio.timeout(10):
            closed = await flow.wait_closed()
        assert closed.code == 1006


async def test_a_client_pings_as_often_as_its_server_wants(serve: Any) -> None:
    def answer(flow: Flow, message: bytes) -> None:
        flow.send(b"SIP/2.0 200 OK\r\nFlow-Timer: 1\r\n\r\n")

    server, events = await serve(answer)
    # Without the server's word there would be no ping at all.
    async with Client(limits=Limits(intervals=Intervals(ping=0, pong=0.2))) as client:
        flow = await client.send(url(server), b"REGISTER sip:example.com SIP/2.0\r\n\r\n")
        await events.wait_for(MessageReceived)
        [there] = server.flows
        before = there.traffic[2]
        async with asyncio.timeout(10):
            while there.traffic[2] == before:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0.01)
        assert there.traffic[0] == 1
        assert flow.is_open


def register(instance: str, to: str = "alice@example.com", reg_id: str = "") -> bytes:
    return (
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
        f"From: <sip:{to}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n"
        f'Contact: <sip:a@a.invalid;transport=ws>;+sip.instance="<{instance}>"{reg_id}\r\n\r\n'
    ).encode()


PHONE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


def test_the_same_phone_on_another_connection_has_left_the_first() -> None:
    registrations = Registrations()
    assert registrations.registered(1, register(PHONE)) is None
    assert registrations.registered(1, register(PHONE)) is None
    assert registrations.registered(2, register(PHONE.upper().replace("URN:UUID", "urn:uuid"))) == (
        1,
        PHONE,
    )
    registrations.forget(1)
    assert registrations.registered(3, register(PHONE)) == (2, PHONE)


def test_a_connection_takes_its_phone_back_in_the_same_words() -> None:
    registrations = Registrations()
    assert registrations.registered(1, register(PHONE)) is None
    assert registrations.registered(2, register(PHONE)) == (1, PHONE)
    assert registrations.registered(2, register(PHONE)) is None
    assert registrations.registered(1, register(PHONE)) == (2, PHONE)
    # Other words of the same connection are another phone's.
    assert registrations.registered(1, register("urn:uuid:2")) is None
    assert registrations.registered(2, register(PHONE)) is None


@pytest.mark.parametrize("size", [10, LONGEST_SAID])
def test_a_phone_is_known_however_much_it_says(size: int) -> None:
    registrations = Registrations()
    message = register(PHONE, reg_id=";x=" + "y" * size)
    for _ in range(2):
        assert registrations.registered(1, message) is None
    assert registrations.registered(2, message) == (1, PHONE)
    # What is long is not kept.
    [(said, _)] = registrations._by_connection.values()
    assert (said is None) is (size == LONGEST_SAID)


def test_a_phone_is_known_by_a_register_that_only_another_could_answer() -> None:
    registrations = Registrations()
    message = register(PHONE).replace(b"Via", b"X-Via").replace(b"CSeq", b"X-CSeq")
    assert registrations.registered(1, message) is None
    assert registrations.registered(2, message) == (1, PHONE)


def test_a_phone_that_registers_elsewhere_is_known_from_there() -> None:
    here, elsewhere = Registrations(), Registrations()
    told: list[tuple[Phone, int]] = []
    elsewhere.news = lambda phone, connection: told.append((phone, connection))
    here.registered(1, register(PHONE))
    elsewhere.registered(2, register(PHONE))
    elsewhere.registered(2, register(PHONE))
    [(phone, connection)] = told
    assert (phone[1], connection) == (PHONE, 2)
    assert here.left(phone) == 1
    assert here.left(phone) is None
    assert len(here) == 0


@pytest.mark.parametrize(
    "other",
    [
        register("urn:uuid:another"),
        register(PHONE, to="bob@example.com"),
        register(PHONE, reg_id=";reg-id=2"),
        register(PHONE).replace(b"+sip.instance", b"x"),
        b"REGISTER sip:a SIP/2.0\r\n+sip.instance\r\n\r\n",
        b"+sip.instance",
        register(PHONE + "0" * LONGEST),
        register(PHONE, reg_id=";reg-id=" + "0" * 20_000),
    ],
)
def test_another_phone_has_left_nothing(other: bytes) -> None:
    registrations = Registrations()
    registrations.registered(1, register(PHONE))
    assert registrations.registered(2, other) is None


@pytest.mark.parametrize("unit", [b";+sip.instance=<", b';+sip.instance="<a', b";reg-id=", b"; "])
def test_instances_without_an_end_are_read_in_linear_time(unit: bytes) -> None:
    contact = b"Contact: <sip:a@b>" + unit * (1_000_000 // len(unit))
    # Tried in every way, they would take minutes.
    registrations = Registrations()
    message = b"REGISTER sip:b SIP/2.0\r\nTo: <sip:a@b>\r\n" + contact + b"\r\n\r\n"
    assert registrations.registered(1, message) is None
    assert len(registrations) == 0


def test_only_what_is_alive_is_remembered() -> None:
    registrations = Registrations()
    for connection in range(1000):
        registrations.registered(connection, register(f"urn:uuid:{connection}"))
        registrations.forget(connection)
    for number in range(1000):
        registrations.registered(7, register(f"urn:uuid:{number}"))
    assert len(registrations) == 1


async def test_a_zombie_is_told_pinged_and_dropped(serve: Any, upgrade: bytes) -> None:
    server, events = await serve(limits=Limits(intervals=Intervals(ping=3600, pong=0.2)))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(upgrade + Frame(Opcode.TEXT, register(PHONE)).serialize(mask=True))
    await reader.readuntil(b"\r\n\r\n")
    [old] = server.flows
    async with connect(url(server), subprotocols=SIP) as client:
        # Line ends in front of a request are ignored (RFC 3261 section 7.5).
        await client.send("\r\n\r\n" + register(PHONE).decode())
        await events.wait_for(Superseded)
        [told] = events.of(Superseded)
        assert (told.connection, told.instance) == (old.connection, PHONE)
        await events.wait_for(Closed)
        [closed] = events.of(Closed)
        assert closed.connection == old.connection
        # It leaves the registry on the next turn of the event loop.
        await asyncio.sleep(0.01)
        assert [flow.connection.id for flow in server.flows] == [told.by]
    writer.close()
    await writer.wait_closed()


async def test_a_phone_with_two_living_connections_keeps_both(serve: Any) -> None:
    server, events = await serve(limits=Limits(intervals=Intervals(ping=0, pong=0.5)))
    async with (
        connect(url(server), subprotocols=SIP) as first,
        connect(url(server), subprotocols=SIP) as second,
    ):
        await first.send(register(PHONE).decode())
        await second.send(register(PHONE).decode())
        await events.wait_for(Superseded)
        # The library answers the ping.
        [pinged] = [flow for flow in server.flows if flow._liveness is not None]
        before = pinged._session.traffic[2]
        async with asyncio.timeout(10):
            while pinged._session.traffic[2] == before:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0.01)
        assert len(server.flows) == 2
