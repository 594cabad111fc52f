"""A collector, what it received, and a peer that knows its own bytes."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hep

NETWORK, SIP = 0x59, 1


def sip(method: str = "OPTIONS", call_id: str = "call-1") -> str:
    """A SIP request."""
    return (
        f"{method} sip:example.com SIP/2.0\r\n"
        "Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks\r\n"
        f"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )


UPGRADE = (
    b"GET /sip?room=7 HTTP/1.1\r\n"
    b"Host: sip.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"X-Case:   Kept\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n"
    b"\r\n"
)


@dataclass
class Homer:
    """What a collector received, taken apart."""

    packets: list[hep.Packet] = field(default_factory=list)
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def receive(self, packet: hep.Packet, source: object) -> None:
        self.packets.append(packet)
        self.arrived.set()

    @property
    def destination(self) -> str:
        return f"127.0.0.1:{self.port};transport=udp"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(p.payload) for p in self.packets if p.protocol_type == NETWORK]

    @property
    def messages(self) -> list[hep.Packet]:
        return [packet for packet in self.packets if packet.protocol_type == SIP]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["Event"] == name]

    async def wait_for(self, there: Callable[[], Any]) -> Any:
        """Wait until something can be said of what was received; returns what it is."""
        async with asyncio.timeout(10):
            while not (found := there()):
                self.arrived.clear()
                await self.arrived.wait()
        return found

    async def closed(self, count: int = 1) -> dict[str, Any]:
        """Wait for that many closes; returns the last."""
        found = await self.wait_for(lambda: self.of("CLOSED")[count - 1 :])
        return found[0]


async def exchange(port: int, request: bytes, then: bytes = b"") -> bytes:
    """Send bytes; returns the head of the answer, or all of it where there is no head.

    Args:
        port: of a server on loopback.
        request: what is sent at once.
        then: what is sent when the answer has come; what comes next is waited for.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            try:
                reply = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as exc:
                return exc.partial
            if then:
                writer.write(then)
                await reader.read(1)
            return reply
    finally:
        writer.close()
        await writer.wait_closed()
