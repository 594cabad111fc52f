"""sipws with hostile clients, traced to the stand-in: PostgreSQL stores each batch."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application
from tests.homer.conftest import Database
from tests.homer.heplify import Heplify

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

REFUSED = {
    "NUL in a header": UPGRADE + b"User-Agent: a\0b\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
    "NUL in the path": UPGRADE.replace(b"GET /", b"GET /\0") + b"\r\n",
    "no UTF-8 in a header": UPGRADE + b"User-Agent: \xff\xfe\xc3\r\n\r\n",
    "surrogates in a header": UPGRADE + b"User-Agent: \xed\xa0\x80\xed\xb0\x80\r\n\r\n",
    "an escape in a header": UPGRADE + b"User-Agent: \\u0000\\ud800\\\r\n\r\n",
    "no HTTP": b"\0\x01\x02\xff\r\n\r\n",
    "no subprotocol": UPGRADE + b"\r\n",
}


def sip(method: str, call_id: bytes, more: bytes = b"") -> bytes:
    return (
        f"{method} sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a;branch=z9hG4bK1\r\n".encode()
        + b"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: "
        + call_id
        + f"\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n".encode()
        + more
        + b"\r\n"
    )


MESSAGES: dict[str, str | bytes] = {
    "no SIP, with NUL": "hello\0world",
    "no SIP, as bytes": b"\0\xff\xed\xa0\x80\xc3",
    "no SIP, as an escape": '{"a": "\\u0000\\ud800"}',
    "NUL in the Call-ID": sip("INVITE", b"a\0b@example.com"),
    "no UTF-8 in the Call-ID": sip("REGISTER", b"a\xff\xfeb@example.com"),
    "surrogates in the Call-ID": sip("OPTIONS", b"a\xed\xa0\x80b@example.com"),
    "a quote in the Call-ID": sip("INVITE", b'a"\\b@example.com'),
    "a long Call-ID": sip("INVITE", b"c" * 5_000 + b"@example.com"),
    "a long Call-ID of NUL": sip("INVITE", b"\0" * 5_000),
    "a folded Call-ID": sip("INVITE", b"\r\n folded\0@example.com"),
    "two Call-IDs": sip("INVITE", b"one@example.com", b"Call-ID: t\0wo@example.com\r\n"),
    "NUL in User-Agent": sip("MESSAGE", b"agent@example.com", b"User-Agent: a\0b\xff\\u0000\r\n"),
    "LF alone": sip("OPTIONS", b"lf\0@example.com").replace(b"\r\n", b"\n"),
    "no CSeq": sip("OPTIONS", b"no-cseq\0@example.com").replace(b"CSeq", b"X-CSeq"),
    "a method of two letters": sip("GO", b"go\0@example.com"),
    "a start line with NUL": sip("OPTIONS", b"start@example.com").replace(b"sip:", b"sip:\0"),
}

REASONS = ["a\0b", "\\u0000", '"', "\\", "\u2028\x9b31m", "😀", "x" * 120]


async def refuse(port: int, request: bytes) -> None:
    """A handshake that is refused; wait for the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError):
        writer.write(request)
        await reader.read()
    writer.close()


def phone(port: int) -> connect:
    return connect(
        f"ws://127.0.0.1:{port}/",
        subprotocols=[Subprotocol("sip")],
        origin=Origin("https://phone.example.com"),
        user_agent_header="a phone",
    )


async def register(connection: ClientConnection, call_id: str) -> None:
    await connection.send(sip("REGISTER", call_id.encode()).decode())
    await connection.recv()


async def be_hostile(port: int) -> int:
    """All that hostile clients do; returns the number of their connections."""
    for request in REFUSED.values():
        await refuse(port, request)
    count = len(REFUSED)
    for message in MESSAGES.values():
        async with phone(port) as connection:
            with suppress(ConnectionClosed):
                await connection.send(message)
                # What was sent before has been handled when the answer is there.
                await register(connection, f"{count}@hostile.example.com")
        count += 1
    for reason in REASONS:
        async with phone(port) as connection:
            await register(connection, f"reason-{count}@hostile.example.com")
            await connection.close(4000, reason)
        count += 1
    # A text that is not UTF-8, and a connection that is reset.
    async with phone(port) as connection:
        await register(connection, "utf8@hostile.example.com")
        with suppress(ConnectionClosed):
            await connection.send(b"a\0\xff\xed\xa0\x80", text=True)
            await connection.recv()
    async with phone(port) as connection:
        await register(connection, "reset@hostile.example.com")
        connection.transport.abort()
    return count + 2


@pytest.mark.parametrize("forced", [frozenset({89}), frozenset[int]()], ids=["jsonb", "text"])
@pytest.mark.parametrize("correlation", ["call", "connection"])
async def test_no_batch_is_lost_whatever_clients_send(
    forced: frozenset[int],
    correlation: str,
    database: Database,
    heplify: Callable[..., Awaitable[Heplify]],
) -> None:
    # Only what waits is in one batch, so nothing leaves before the end.
    collector = await heplify(force_payload=forced, timer=3600, event_timer=3600, bulk=10_000)
    tracing = {
        "trace_on": True,
        "trace_destination": f"127.0.0.1:{collector.tcp_port}",
        "trace_sip": True,
        "trace_sip_correlation": correlation,
    }
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "tracing": tracing}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        port = application.server.listeners[0].port
        async with phone(port) as good:
            await register(good, "first@good.example.com")
            connections = await be_hostile(port)
            await register(good, "last@good.example.com")
        [trace] = application.traces.configured
        [sender] = trace.senders
    assert not sender.counters.dropped
    await collector.has_taken(sender.counters.sent)
    await collector.flush()

    assert [(each.table, each.why) for each in collector.refusals] == []
    stored = Counter(
        dict(
            database.execute("""
        SELECT 'event', count(*) FROM hep_proto_35_default
        UNION ALL SELECT 'log', count(*) FROM hep_proto_100_default
        UNION ALL SELECT 'sip', (SELECT count(*) FROM hep_proto_1_call)
            + (SELECT count(*) FROM hep_proto_1_registration)
            + (SELECT count(*) FROM hep_proto_1_default)
    """)
        )
    )
    assert stored.total() + len(collector.dropped) == sender.counters.sent
    # SIP that heplify-server's parser refuses is dropped alone, and nothing else is.
    assert all("Call-ID" in why or "CSeq" in why or "line" in why for why in collector.dropped)
    sids = [sid for [sid] in database.execute("SELECT sid FROM hep_proto_1_registration")]
    assert sids.count("first@good.example.com") == sids.count("last@good.example.com") == 2
    column = "data_header" if forced else "raw::jsonb"
    events = database.execute(f"SELECT {column}->>'Event' FROM hep_proto_35_default")
    assert [event for [event] in events].count("CLOSED") == connections + 1


LONG = base64.b32encode(random.Random(1).randbytes(2_500)).lower()
"""A token that PostgreSQL neither compresses enough for an index, nor cuts."""


@pytest.mark.parametrize(
    "message",
    [
        sip("INVITE", LONG),
        sip("INVITE", b"1@example.com").replace(b"sip:alice", b"sip:" + LONG),
        sip("INVITE", b"2@example.com").replace(b"sip:bob", b"sip:" + LONG),
        sip("INVITE", b"3@example.com").replace(b"sip:example.com", b"sip:" + LONG + b"@a", 1),
        sip("INVITE", b"4@example.com").replace(b"sip:example.com", b"sip:" + LONG, 1),
        sip("INVITE", b"5@example.com", b" To: <sip:" + LONG + b"@a>\r\n"),
        sip("INVITE", b"6@example.com", b"X-A: 1\nTo: <sip:" + LONG + b"@a>\r\n"),
        sip("INVITE", b"7@example.com", b"T\0o: <sip:" + LONG + b"@a>\r\n"),
        sip("INVITE", b"8@example.com", b"Xx: <sip:" + LONG + b"@a>\r\n"),
        sip("INVITE", b"9@example.com", b"X-A: 1\n\nX\r\nTo: <sip:" + LONG + b"@a>\r\n"),
    ],
    ids=[
        "call-id", "from", "to", "request-uri-user", "request-uri-host", "continued-line",
        "line-within-a-line", "nul-in-a-name", "name-of-two-letters", "behind-an-empty-line",
    ],
)  # fmt: skip
async def test_no_batch_is_lost_by_a_value_too_long_for_an_index(
    message: bytes, database: Database, heplify: Callable[..., Awaitable[Heplify]]
) -> None:
    collector = await heplify(timer=3600, event_timer=3600)
    tracing = {
        "trace_on": True,
        "trace_destination": f"127.0.0.1:{collector.tcp_port}",
        "trace_sip": True,
    }
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "tracing": tracing}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        async with phone(application.server.listeners[0].port) as connection:
            await connection.send(message.decode())
            await connection.recv()
        [trace] = application.traces.configured
        [sender] = trace.senders
    await collector.has_taken(sender.counters.sent)
    await collector.flush()
    assert [each.why for each in collector.refusals] == []
