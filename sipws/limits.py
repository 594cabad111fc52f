"""The limits of a connection, in bytes and seconds, each with its reason."""

from dataclasses import dataclass, field
from typing import Final

from sipws.liveness import Intervals

LARGE_READ: Final = 64 * 1024
"""Bytes of a read behind which all other connections have their turn. uvloop reads up to 32 times
256 KB from one that has them before it looks at any other."""

FRAMES_PER_SLICE: Final = 64
"""Frames that are taken from a connection before all others have their turn. A read of 256 KB may
hold 43,690 of 6 bytes; those of phones hold a few."""

BYTES_PER_SLICE: Final = 32 * 1024
"""Bytes of them, which bounds messages of a usual length without counting each: as many as above,
where they have 500 bytes."""

BYTES_LIKE_A_FRAME: Final = 1024
"""Bytes of a message that count as one frame more where an engine makes it: 80 bytes that were
compressed may be a message of 64 KB."""

INFLATE_BURST: Final = 1.0
"""Seconds' worth of `Limits.inflate_rate` that may come at once."""

REFUSED_LINGER: Final = 0.8
"""Seconds that a refused peer has to read why, and to close: two round trips of a slow mobile
network. Our side is half closed meanwhile, as a close with bytes unread would reset the connection
and take the answer with it. A peer that does not close holds a descriptor for less than a second.
"""

USUAL_HEADERS: Final = 128
"""Header lines that an upgrade request may have at least, unless a limit is set. Browsers send 15;
proxies add some."""

BYTES_A_HEADER: Final = 64
"""Bytes of `Limits.request_size` that allow for one header line more: a cookie that has a line to
itself has about as many."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold for every connection, of a server or of a client."""

    connect_timeout: float = 5.0
    """Seconds for a name to be resolved and for TCP and TLS to be set up. Two lost SYNs cost three
    seconds, and a SIP transaction gives up after 32 (RFC 3261 timer B): what cannot be reached is
    to be known while another server can still be tried."""

    handshake_timeout: float = 5.0
    """Seconds from the TCP connection to the last byte of the upgrade request. A phone on a slow
    mobile network needs about two; a slow-loris attacker gets no more than this. A PROXY header and
    TLS, where they come first, have the same time together. Of a client: from the upgrade request
    to the end of its answer."""

    request_size: int = 16 * 1024
    """Bytes of an upgrade request (``max_request_size``). Browsers with large cookies send 8 KiB.
    """

    header_line: int | None = None
    """Bytes of one line of an upgrade request, its request line included, its CRLF not
    (``max_header_line``); None for as many as the request may have."""

    headers: int | None = None
    """Header lines of an upgrade request (``max_headers``); None for one in each 64 bytes of
    ``request_size``, and at least 128: each costs a microsecond, whatever its length."""

    message_size: int = 64 * 1024
    """Bytes of a message: what SIP servers and HEP datagrams take."""

    send_timeout: float = 0.1
    """Seconds that a connection may take none of the bytes that wait for it, once it does not keep
    up (`sipws.transport.write_timeout`; OpenSIPS ``ws_send_timeout``)."""

    close_timeout: float = 5.0
    """Seconds for the peer to answer a close frame, to take what is left for it and to close its
    side of TLS and TCP. A peer whose handshake was refused has no more than `REFUSED_LINGER`."""

    max_chunks: int = 4
    """Pieces that a message may come in (OpenSIPS ``ws_max_msg_chunks``; see
    `sipws.ws.fragment_limit`); 0 for any number."""

    inflate_rate: float = 1024 * 1024
    """Bytes a second that a connection with permessage-deflate may inflate to; one second's worth
    may come at once. 80 bytes that were compressed may be a message of 64 KiB, so that the network
    bounds nothing. A phone sends some KB a second at its busiest. Beyond it the connection is read
    later, as fast as this. 0 for any number."""

    intervals: Intervals = field(default_factory=Intervals)
    """When a quiet connection is pinged, and when an idle one is closed."""

    longest_line: int = field(init=False, repr=False, compare=False)
    """Bytes that a line of an upgrade request may have, which follows from the above."""

    most_headers: int = field(init=False, repr=False, compare=False)
    """Header lines that an upgrade request may have, which follows from the above."""

    def __post_init__(self) -> None:
        # Computed once: every handshake needs them.
        longest, most = self.header_line, self.headers
        if longest is None:
            longest = self.request_size
        if most is None:
            most = max(USUAL_HEADERS, self.request_size // BYTES_A_HEADER)
        object.__setattr__(self, "longest_line", longest)
        object.__setattr__(self, "most_headers", most)
