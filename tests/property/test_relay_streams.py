"""A relay changes nothing: every message arrives with its bytes, as its kind and in its place.

However the network cuts what comes, and however messages are fragmented.
"""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from sipws import Limits, Relay, Server
from sipws.events import MessageReceived
from sipws.transport.flow import Flow

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
LAST = (b"last" * 100, True)

texts = st.text(max_size=300).map(lambda text: (text.encode(), True))
binaries = st.binary(max_size=300).map(lambda data: (data, False))
line_ends = st.text("\r\n", max_size=6).map(lambda text: (text.encode(), True))
messages = st.lists(texts | binaries | line_ends, max_size=12)


def is_relayed(message: tuple[bytes, bool]) -> bool:
    """Keep-alives are between neighbours, and so is what consists of line ends alone."""
    return bool(message[0].strip(b"\r\n"))


@given(messages, messages, st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_messages_arrive_unchanged_and_in_order(
    there: list[tuple[bytes, bool]], back: list[tuple[bytes, bool]], data: st.DataObject
) -> None:
    stream = UPGRADE
    for payload, is_text in [*there, LAST]:
        opcode = Opcode.TEXT if is_text else Opcode.BINARY
        cut = data.draw(st.integers(0, len(payload)))
        if data.draw(st.booleans()):
            stream += Frame(opcode, payload[:cut], fin=False).serialize(mask=True)
            opcode, payload = Opcode.CONT, payload[cut:]
        stream += Frame(opcode, payload).serialize(mask=True)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    went, came = asyncio.run(relay(pieces, back))
    assert went == [*filter(is_relayed, there), LAST]
    assert came == [*filter(is_relayed, back), LAST]


async def relay(
    pieces: list[bytes], back: list[tuple[bytes, bool]]
) -> tuple[list[tuple[bytes, bool]], list[tuple[bytes, bool]]]:
    """Send pieces through; returns the messages at the server behind, and those at the client."""
    went: list[tuple[bytes, bool]] = []
    done = asyncio.Event()

    def behind_got(event: MessageReceived) -> None:
        if event.data.strip(b"\r\n"):
            went.append((event.data, event.is_text))

    def handle(flow: Flow, message: bytes) -> None:
        if message == LAST[0] and not done.is_set():
            done.set()
            for payload, is_text in [*back, LAST]:
                flow.send(payload, text=is_text)

    limits = Limits(max_chunks=0)
    async with Server(["ws:127.0.0.1:0"], handle, limits=limits) as behind:
        behind.bus.message_received.subscribe(behind_got)
        upstream = f"ws://127.0.0.1:{behind.listeners[0].port}"
        async with Server(["ws:127.0.0.1:0"], relay=Relay(upstream), limits=limits) as front:
            reader, writer = await asyncio.open_connection("127.0.0.1", front.listeners[0].port)
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                async with asyncio.timeout(10):
                    came = await received(reader)
            finally:
                writer.close()
    return went, came


async def received(reader: asyncio.StreamReader) -> list[tuple[bytes, bool]]:
    """The messages that come, up to the last; without keep-alives' answers."""
    await reader.readuntil(b"\r\n\r\n")
    found: list[Any] = []
    while LAST not in found:
        first, length = await reader.readexactly(2)
        if length > 125:
            length = int.from_bytes(await reader.readexactly(2), "big")
        message = await reader.readexactly(length), first == 0x81
        if is_relayed(message):
            found.append(message)
    return found
