"""websockets' sans-I/O engine: its settings, and how frames are passed to it."""

import logging
from functools import lru_cache
from typing import Final

from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, SEND_EOF, Protocol, State

from sipws.ws.frames import CONTROL, short_control

engine_log: Final = logging.getLogger("sipws.engine")
# At level debug the engine logs each handshake with its credentials. They stay out of the log of a
# program that debugs itself. The bus publishes the same handshakes.
engine_log.setLevel(logging.INFO)

_WINDOW_BITS: Final = 12
"""4 KiB of memory per direction of a connection: a SIP message is shorter than that."""

_ZLIB: Final = {"memLevel": 5}
"""The setting of websockets' own server: 16 KiB of memory instead of 128."""

SERVER_COMPRESSION: Final = [
    ServerPerMessageDeflateFactory(
        server_max_window_bits=_WINDOW_BITS,
        client_max_window_bits=_WINDOW_BITS,
        compress_settings=_ZLIB,
    )
]
"""permessage-deflate, as a server accepts it (RFC 7692)."""

CLIENT_COMPRESSION: Final = [
    # The server chooses the window of what we send. Some servers answer an offered size with a
    # larger one. RFC 7692 section 7.1.2.2 forbids that, and the connection would fail.
    ClientPerMessageDeflateFactory(
        server_max_window_bits=_WINDOW_BITS,
        client_max_window_bits=True,
        compress_settings=_ZLIB,
    )
]
"""permessage-deflate, as a client offers it."""


def is_plain(engine: Protocol) -> bool:
    """Whether the next whole message needs no engine; see `sipws.ws.frames.client_messages`.

    True while the engine is open, between two messages, without an extension.
    """
    return engine.state is State.OPEN and engine.current_size is None and not engine.extensions


def feed(engine: Protocol, frame_bytes: bytes) -> None:
    """Pass a whole frame to the engine; of a frame that is too long what `next_frame` found."""
    if frame_bytes[0] & CONTROL:
        # A control frame is not part of the message that it interrupts (RFC 6455 section 5.4).
        # The engine counts it against the message's size and fails a close within a message.
        interrupted, engine.current_size = engine.current_size, None
        engine.receive_data(short_control(frame_bytes))
        engine.current_size = interrupted
    else:
        engine.receive_data(frame_bytes)


def restart_parser(engine: Protocol) -> None:
    """Start the engine's parser again after the handshake; from here on it gets frames.

    A parser keeps what it read of the handshake as long as it runs. That is half of the memory of
    an idle connection. A new parser has read nothing.
    """
    engine.parser = Protocol.parse(engine)
    next(engine.parser)


def take_output(engine: Protocol, writes: list[bytes]) -> bool:
    """Append the engine's output to ``writes``.

    Returns:
        whether our side of the TCP connection ends behind it.
    """
    ends = False
    for data in engine.data_to_send():
        # An empty string is the engine's mark for the end; joining would lose it.
        if data == SEND_EOF:
            ends = True
        else:
            writes.append(bytes(data))
    return ends


def message_frame(engine: Protocol, data: bytes, *, text: bool) -> bytes:
    """Make a message's frame as the engine does, in any state of the engine.

    Args:
        engine: its side and its extensions determine the frame.
        data: the message.
        text: whether it goes as text.
    """
    frame = Frame(Opcode.TEXT if text else Opcode.BINARY, data)
    return frame.serialize(mask=engine.side is CLIENT, extensions=engine.extensions)


@lru_cache(maxsize=32)
def read_close(data: bytes) -> Close:
    """Read the payload of a close frame. Nearly all close frames have one of a few payloads.

    Raises:
        ProtocolError: (of websockets) the payload breaks RFC 6455 section 5.5.1.
        UnicodeDecodeError: the reason is not UTF-8.
    """
    return Close.parse(data)
