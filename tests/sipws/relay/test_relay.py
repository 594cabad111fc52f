"""A relay over real sockets, our own server behind it: what goes through, and how it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Subprotocol

from sipws import Limits, Relay, Server, TransportError
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    ConnectStarted,
    Event,
    MessageReceived,
    MessageSent,
    Side,
    Superseded,
)
from sipws.transport.flow import Flow
from sipws.transport.tls import client_context, server_context
from sipws.ws.frames import TEXT, client_frame
from sipws.ws.session import Session

MESSAGE = "OPTIONS sip:example.com SIP/2.0\r\nCall-ID: 1\r\n\r\n"
Start = Callable[..., Awaitable[Any]]


def texts(events: list[MessageReceived]) -> list[tuple[bytes, bool]]:
    """Messages with their kinds."""
    return [(event.data, event.is_text) for event in events]


async def test_messages_go_both_ways_as_what_they_came(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    binary = b"SIP/2.0 200 OK\r\n\r\n\xff\x00"
    for message in (MESSAGE, binary, "\r\n" + MESSAGE + "\r\n\r\n", MESSAGE.encode()):
        await phone.send(message)
        await phone.recv()
    assert texts(both.told_upstream.of(MessageReceived)) == [
        (MESSAGE.encode(), True),
        (binary, False),
        (("\r\n" + MESSAGE + "\r\n\r\n").encode(), True),
        (MESSAGE.encode(), False),
    ]


async def test_both_connections_of_a_client_name_each_other(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    await phone.send(MESSAGE)
    await phone.recv()
    await phone.close()
    await both.front.flows.wait_empty()
    client, upstream = both.told.of(Accepted)[0], both.told.of(Connected)[0]
    assert client.connection.relayed_with is None, "the connect had not started yet"
    for event in (both.told.of(ConnectStarted)[0], upstream):
        assert event.connection.relayed_with == client.connection.id
        assert event.connection.client == client.connection.peer
    ends = {event.connection.id: event.connection for event in both.told.of(Closed)}
    assert ends[client.connection.id].relayed_with == upstream.connection.id
    assert ends[upstream.connection.id].relayed_with == client.connection.id
    assert ends[client.connection.id].client is None


async def test_a_connect_that_fails_names_its_client(relayed: Start) -> None:
    both = await relayed(upstream="ws://127.0.0.1:1")
    phone = await both.phone()
    await phone.wait_closed()
    client, failed = both.told.of(Accepted)[0].connection, both.told.of(ConnectFailed)[0].connection
    assert (failed.relayed_with, failed.client) == (client.id, client.peer)


async def test_binary_that_is_utf8_stays_binary_on_its_way_back(relayed: Start) -> None:
    both = await relayed(lambda flow, message: flow.send(message, text=False))
    phone = await both.phone()
    await phone.send(MESSAGE)
    assert await phone.recv() == MESSAGE.encode()


async def test_what_comes_in_one_read_leaves_in_one_write(
    relayed: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str, int]] = []
    receive = Session.receive

    def told(session: Session, data: bytes, now: float) -> list[Event]:
        before = session.traffic[0]
        happened = receive(session, data, now)
        reads.append((type(session).__name__, session.traffic[0] - before))
        return happened

    both = await relayed()
    phone = await both.phone()
    await phone.send(MESSAGE)
    await phone.recv()
    monkeypatch.setattr(Session, "receive", told)
    phone.transport.write(client_frame(TEXT, MESSAGE.encode()) * 8)
    for _ in range(8):
        assert await phone.recv() == MESSAGE
    # The client's messages here and there, and the answers to them.
    assert reads == [("ServerSession", 8), ("ServerSession", 8), ("ClientSession", 8)]


async def test_each_client_has_a_connection_of_its_own(relayed: Start) -> None:
    both = await relayed(lambda flow, message: flow.send(str(flow.connection.id).encode()))
    answers = set()
    for _ in range(3):
        phone = await both.phone()
        await phone.send(MESSAGE)
        answers.add(await phone.recv())
        await phone.send(MESSAGE)
        answers.add(await phone.recv())
    assert len(answers) == 3


async def test_the_upstream_sees_who_it_is(relayed: Start) -> None:
    both = await relayed()
    headers = {"Cookie": "a=b", "Authorization": "Bearer x", "X-Forwarded-For": "1.2.3.4"}
    phone = await both.phone(
        "/ws?token=1",
        origin="https://phone.example.com",
        additional_headers=headers,
        user_agent_header="phone/1",
    )
    request = (await both.told_upstream.wait_for(Accepted)).connection.request
    ip, port = phone.local_address
    assert request.target == "/ws?token=1"
    assert {name: request.header(name) for name in ("origin", "cookie", "authorization")} == {
        "origin": ["https://phone.example.com"],
        "cookie": ["a=b"],
        "authorization": ["Bearer x"],
    }
    assert request.header("user-agent") == ["phone/1"]
    assert request.header("x-forwarded-for") == [ip]
    assert request.header("x-forwarded-proto") == ["http"]
    assert request.header("sec-websocket-protocol") == ["sip"]
    assert request.header("forwarded")[0].startswith(f'for="{ip}:{port}";proto=http;host=')


async def test_a_path_of_the_upstreams_takes_the_place_of_the_clients(relayed: Start) -> None:
    both = await relayed(path="/sip")
    await both.phone("/ws?token=1")
    accepted = await both.told_upstream.wait_for(Accepted)
    assert accepted.connection.request.target == "/sip?token=1"
    # The query, where tokens stand, is told in no event's destination.
    started = await both.told.wait_for(ConnectStarted)
    assert started.connection.destination.endswith("/sip")


async def test_messages_that_come_before_the_upstream_is_ready_wait(relayed: Start) -> None:
    both = await relayed(lambda flow, message: None)
    phone = await both.phone()
    # Before the connect has begun to be answered: the loop has had no turn for it.
    for number in range(20):
        await phone.send(f"{number}")
    await both.told_upstream.wait_for(MessageReceived, count=20)
    found = [event.data for event in both.told_upstream.of(MessageReceived)]
    assert found == [str(number).encode() for number in range(20)]


async def test_keep_alives_are_answered_here_on_both_sides(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    await phone.send("\r\n\r\n")
    assert await phone.recv() == "\r\n"
    await both.told.wait_for(Connected)
    both.flows[0].send(b"\r\n\r\n")
    assert (await both.told_upstream.wait_for(MessageReceived)).data == b"\r\n"
    await phone.send(MESSAGE)
    assert await phone.recv() == MESSAGE
    assert len(both.told_upstream.of(MessageReceived)) == 2


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [(1000, "", (1000, "")), (1001, "", (1001, "")), (4001, "bye", (4001, "bye"))],
)
async def test_a_clients_close_goes_on(
    relayed: Start, code: int, reason: str, told: tuple[int, str]
) -> None:
    both = await relayed()
    phone = await both.phone()
    await both.told.wait_for(Connected)
    await phone.close(code, reason)
    closed = await both.told_upstream.wait_for(Closed)
    assert (closed.code, closed.reason, closed.clean) == (*told, True)
    await both.told.wait_for(Closed, count=2)
    assert len(both.front.flows) == 0


async def test_an_upstreams_close_goes_on_behind_its_last_messages(relayed: Start) -> None:
    def answer_and_leave(flow: Flow, message: bytes) -> None:
        for number in range(3):
            flow.send(str(number).encode())
        flow.close(4002, "enough")

    both = await relayed(answer_and_leave)
    phone = await both.phone()
    await phone.send(MESSAGE)
    assert [await phone.recv() for _ in range(3)] == ["0", "1", "2"]
    assert await both.end_of(phone) == (4002, "enough")
    closed = await both.told.wait_for(Closed, opened_by=Side.LOCAL)
    assert (closed.closed_by, closed.clean) == (Side.PEER, True)


async def test_what_the_relay_logs_in_with_is_not_told_to_clients(relayed: Start) -> None:
    def leave(flow: Flow, message: bytes) -> None:
        flow.close(4003, "key s3cr3tkey is not known")

    both = await relayed(leave, path="/?key=s3cr3tkey")
    phone = await both.phone()
    await phone.send(MESSAGE)
    assert await both.end_of(phone) == (4003, "key *** is not known")


async def test_what_a_client_sent_before_it_closed_arrives(relayed: Start) -> None:
    """Also what came while there was no upstream yet: all of it is in one read."""
    both = await relayed(lambda flow, message: None)
    phone = await both.phone()
    await asyncio.gather(phone.send("first"), phone.send("second"), phone.close(4003, "gone"))
    closed = await both.told_upstream.wait_for(Closed)
    assert texts(both.told_upstream.of(MessageReceived)) == [(b"first", True), (b"second", True)]
    assert (closed.code, closed.reason) == (4003, "gone")


async def test_a_client_that_vanishes_is_told_to_the_upstream(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    await both.told.wait_for(Connected)
    phone.transport.abort()
    closed = await both.told_upstream.wait_for(Closed)
    assert (closed.code, closed.closed_by) == (1001, Side.PEER)
    assert closed.reason.startswith("the client is gone: ")


async def test_a_close_by_the_operator_goes_on_to_the_other_side(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    await both.told.wait_for(Connected)
    ours = next(flow for flow in both.front.flows if flow.connection.opened_by is Side.LOCAL)
    ours.close(4004, "moved")
    assert await both.end_of(phone) == (4004, "moved")
    assert (await both.told_upstream.wait_for(Closed)).code == 4004


async def test_a_message_that_is_too_big_is_not_blamed_on_the_upstream(relayed: Start) -> None:
    both = await relayed(limits=Limits(message_size=1000))
    phone = await both.phone()
    await both.told.wait_for(Connected)
    await phone.send("x" * 1001)
    assert (await both.end_of(phone))[0] == 1009
    closed = await both.told_upstream.wait_for(Closed)
    assert (closed.code, closed.reason[:17]) == (1001, "closed with 1009:")


async def test_both_connections_are_told_and_alive(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    await phone.send(MESSAGE)
    await phone.recv()
    client, ours = both.front.flows
    assert (client.connection.opened_by, ours.connection.opened_by) == (Side.PEER, Side.LOCAL)
    assert ours.connection.listener is client.connection.listener
    assert client.connection.id != ours.connection.id
    assert [len(both.told.of(kind)) for kind in (MessageReceived, MessageSent)] == [2, 2]
    assert both.relay.reachable is True


async def test_messages_can_be_told_on_the_clients_connection_alone(relayed: Start) -> None:
    both = await relayed(messages_told=False)
    phone = await both.phone()
    await phone.send(MESSAGE)
    await phone.recv()
    for kind in (MessageReceived, MessageSent):
        assert [event.connection.opened_by for event in both.told.of(kind)] == [Side.PEER]
    await phone.close()
    await both.told.wait_for(Closed, opened_by=Side.LOCAL)
    assert len(both.told.of(Connected)) == 1


async def test_shutting_down_closes_both_connections_with_1001(relayed: Start) -> None:
    both = await relayed()
    phone = await both.phone()
    await both.told.wait_for(Connected)
    stopping = asyncio.create_task(both.front.aclose())
    assert await both.end_of(phone) == (1001, "server shutdown")
    await stopping
    closed = await both.told_upstream.wait_for(Closed)
    assert (closed.code, closed.reason) == (1001, "server shutdown")
    assert len(both.front.flows) == 0


async def test_a_phone_that_registers_again_is_still_noticed(relayed: Start) -> None:
    register = (
        "REGISTER sip:example.com SIP/2.0\r\nTo: <sip:a@example.com>\r\nCall-ID: {0}\r\n"
        'CSeq: 1 REGISTER\r\nContact: <sip:a@b.invalid;transport=ws>;reg-id=1;+sip.instance="<u>"'
        "\r\n\r\n"
    )
    both = await relayed()
    for number in range(2):
        phone = await both.phone()
        await phone.send(register.format(number))
        await phone.recv()
    assert (await both.told.wait_for(Superseded)).connection.opened_by is Side.PEER


async def test_tls_on_both_sides(relayed: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    served, trusting = server_context(pem), client_context(ca)
    async with Server(
        ["wss:127.0.0.1:0"], lambda flow, message: flow.send(message), tls=served
    ) as behind:
        upstream = f"wss://127.0.0.1:{behind.listeners[0].port}"
        relay = Relay(upstream, tls=trusting)
        async with Server(["wss:127.0.0.1:0"], relay=relay, tls=served) as front:
            url = f"wss://127.0.0.1:{front.listeners[0].port}"
            async with connect(url, subprotocols=[Subprotocol("sip")], ssl=trusting) as phone:
                await phone.send(MESSAGE)
                assert await phone.recv() == MESSAGE
                request = next(iter(behind.flows)).connection.request
                assert request.header("x-forwarded-proto") == ["https"]
        # Without the authority's certificate, nobody is taken for the upstream.
        async with Server(["wss:127.0.0.1:0"], relay=Relay(upstream), tls=served) as front:
            url = f"wss://127.0.0.1:{front.listeners[0].port}"
            failures = []
            front.bus.connect_failed.subscribe(failures.append)
            async with connect(url, subprotocols=[Subprotocol("sip")], ssl=trusting) as phone:
                with pytest.raises(ConnectionClosedError, match=r"1013.*upstream unreachable"):
                    await phone.recv()
            assert [type(event) for event in failures] == [ConnectFailed]


def test_a_relay_is_for_one_server() -> None:
    relay = Relay("ws://127.0.0.1:5062")
    Server(["ws:127.0.0.1:0"], relay=relay)
    with pytest.raises(TransportError, match="for one server"):
        Server(["ws:127.0.0.1:0"], relay=relay)
