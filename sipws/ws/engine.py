"""websockets' sans-I/O engine, and what it needs around it."""

import logging
from typing import Final

from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.protocol import Protocol, State

from sipws.ws.frames import CONTROL, short_control

engine_log: Final = logging.getLogger("sipws.engine")
# With level debug it logs each handshake as it is, with what logs a client in. A program that
# debugs itself is not to find that in its log; the bus tells the same.
engine_log.setLevel(logging.INFO)

_WINDOW_BITS: Final = 12
"""4 KiB of memory for a direction of a connection: a SIP message is shorter than that."""

_ZLIB: Final = {"memLevel": 5}
"""As websockets' own server has it: 16 KiB in place of 128."""

SERVER_COMPRESSION: Final = [
    ServerPerMessageDeflateFactory(
        server_max_window_bits=_WINDOW_BITS,
        client_max_window_bits=_WINDOW_BITS,
        compress_settings=_ZLIB,
    )
]
"""permessage-deflate, as a server accepts it (RFC 7692)."""

CLIENT_COMPRESSION: Final = [
    # The window of what we send is the server's to choose: some answer a size that is offered with
    # a larger one (which RFC 7692 section 7.1.2.2 forbids), and that would fail the connection.
    ClientPerMessageDeflateFactory(
        server_max_window_bits=_WINDOW_BITS,
        client_max_window_bits=True,
        compress_settings=_ZLIB,
    )
]
"""permessage-deflate, as a client offers it."""


def is_plain(engine: Protocol) -> bool:
    """Whether the next whole message is just that: between two others, and untransformed.

    Such a message needs no engine; see `sipws.ws.frames.whole_messages`.
    """
    return engine.state is State.OPEN and engine.current_size is None and not engine.extensions


def feed(engine: Protocol, frame_bytes: bytes) -> None:
    """Hand the engine a frame, whole; of one that is too long what `next_frame` found of it."""
    if frame_bytes[0] & CONTROL:
        # A control frame is no part of the message that it interrupts (RFC 6455 section 5.4).
        # The engine counts it against the message's size, and fails a close in its midst.
        interrupted, engine.current_size = engine.current_size, None
        engine.receive_data(short_control(frame_bytes))
        engine.current_size = interrupted
    else:
        engine.receive_data(frame_bytes)


def restart_parser(engine: Protocol) -> None:
    """The handshake is done: from here on the engine is handed frames.

    Its parser keeps what it read of the handshake for as long as it runs, which makes up half of an
    idle connection. One that starts behind the handshake never had it.
    """
    engine.parser = Protocol.parse(engine)
    next(engine.parser)
