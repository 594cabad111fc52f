"""The scenes of ``sipws demo``: a registration, a refused handshake, a lost connection.

The scripted client is that of websockets, so that the traces show a client independent of sipws.
"""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from sipws.service.app import Application
from sipws.service.embedded import EmbeddedCollector
from sipws.transport.server import reachable_address

_SIP: Final = Subprotocol("sip")


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene: what happens to a connection."""

    title: str
    play: Callable[[str], Awaitable[None]]
    """Plays it; called with the URL of the listener."""


async def _register_and_leave(url: str) -> None:
    phone = _Phone()
    async with connect(url, subprotocols=[_SIP], compression=None) as websocket:
        await phone.ask(websocket, "REGISTER")
        await phone.ask(websocket, "OPTIONS")


async def _forget_the_subprotocol(url: str) -> None:
    try:
        async with connect(url, compression=None):
            raise RuntimeError("a handshake without the subprotocol sip was accepted")
    except InvalidStatus:
        pass


async def _vanish(url: str) -> None:
    websocket = await connect(url, subprotocols=[_SIP], compression=None)
    await _Phone().ask(websocket, "REGISTER")
    websocket.transport.abort()
    await websocket.wait_closed()


SCENES: Final = (
    Scene("A phone connects, registers, sends OPTIONS and closes.", _register_and_leave),
    Scene("A client forgets to offer the subprotocol sip and is refused.", _forget_the_subprotocol),
    Scene("A phone registers, and then its network is gone.", _vanish),
)


async def play(
    application: Application, collector: EmbeddedCollector, say: Callable[[str], object]
) -> None:
    """Play the scenes one after another, and print the title of each before its traces.

    Args:
        application: the server.
        collector: prints its traces.
        say: prints a title.
    """
    url = f"ws://{reachable_address(application.server.listeners[0])}/"
    for number, scene in enumerate(SCENES, 1):
        say(f"\n{number}. {scene.title}")
        await scene.play(url)
        await application.server.flows.wait_empty()
        await collector.show_all(application)


class _Phone:
    """A minimal SIP client that sends a request and waits for the response."""

    def __init__(self) -> None:
        self._host = f"{secrets.token_hex(6)}.invalid"
        self._call_id = secrets.token_hex(8)
        self._sequence = itertools.count(1)

    async def ask(self, websocket: ClientConnection, method: str) -> str:
        """Send a request and return the response.

        Args:
            websocket: an open connection.
            method: of the request.
        """
        contact = f"Contact: <sip:alice@{self._host};transport=ws>;expires=600\r\n"
        await websocket.send(
            f"{method} sip:example.com SIP/2.0\r\n"
            f"Via: SIP/2.0/WS {self._host};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
            "Max-Forwards: 70\r\n"
            f"From: <sip:alice@example.com>;tag={secrets.token_hex(4)}\r\n"
            "To: <sip:alice@example.com>\r\n"
            f"Call-ID: {self._call_id}\r\n"
            f"CSeq: {next(self._sequence)} {method}\r\n"
            f"{contact if method == 'REGISTER' else ''}"
            "User-Agent: sipws demo\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        async with asyncio.timeout(5):
            return str(await websocket.recv())
