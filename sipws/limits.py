"""The limits of a connection, in bytes and seconds, each with its reason."""

from dataclasses import dataclass, field
from typing import Final

from sipws.liveness import Intervals

LARGE_READ: Final = 64 * 1024
"""Bytes of a read after which all other connections get their turn. uvloop reads up to 32 times
256 KB from one connection before it serves another."""

FRAMES_PER_SLICE: Final = 64
"""Frames of a connection in one time slice. A read of 256 KB can hold 43,690 frames of 6 bytes; a
read from a phone holds a few."""

BYTES_PER_SLICE: Final = 32 * 1024
"""Bytes of plain messages in one time slice: `FRAMES_PER_SLICE` messages of 500 bytes. Counting
each message would cost more."""

BYTES_LIKE_A_FRAME: Final = 1024
"""Bytes of a message from the engine that count as one further frame: 80 compressed bytes can be a
message of 64 KB."""

INFLATE_BURST: Final = 1.0
"""Burst of inflated data, in seconds of `Limits.inflate_rate`."""

REFUSED_LINGER: Final = 0.8
"""Seconds for a refused peer to read the answer and to close: two round trips of a slow mobile
network. sipws half-closes the connection before, because a close with unread bytes would reset the
connection and discard the answer. A peer that does not close holds a descriptor for less than a
second."""

USUAL_HEADERS: Final = 128
"""Header lines that every upgrade request may have, unless `Limits.headers` is set. Browsers send
15; proxies add some."""

BYTES_A_HEADER: Final = 64
"""Bytes of `Limits.request_size` per allowed header line: the size of a cookie on its own line."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each connection, of a server or of a client."""

    connect_timeout: float = 5.0
    """Seconds for name resolution, TCP and TLS together. Two lost SYNs cost three seconds. A SIP
    transaction ends after 32 s (RFC 3261 timer B), and another server must be tried before."""

    handshake_timeout: float = 5.0
    """Seconds from the TCP connection to the last byte of the upgrade request. A phone on a slow
    mobile network needs about two; a slow-loris attacker gets no more than this. Before that, the
    PROXY header and TLS together have the same time. Client: seconds from the upgrade request to
    the end of its answer."""

    tls_handshake_timeout: float | None = None
    """Seconds for the TLS handshake of a client (OpenSIPS ``wss_tls_handshake_timeout``); None for
    what ``handshake_timeout`` leaves."""

    request_size: int = 16 * 1024
    """Bytes of an upgrade request (``max_request_size``). Browsers with large cookies send 8 KiB.
    """

    header_line: int | None = None
    """Bytes of one line of an upgrade request, request line included, CRLF excluded
    (``max_header_line``); None for ``request_size``."""

    headers: int | None = None
    """Header lines of an upgrade request (``max_headers``); None for one in each 64 bytes of
    ``request_size``, and at least 128: each costs a microsecond, regardless of its length."""

    message_size: int = 64 * 1024
    """Bytes of a message: as many as SIP servers and HEP datagrams accept."""

    send_timeout: float = 0.1
    """Seconds after which a connection is dropped that reads nothing although its queue is full
    (`sipws.transport.write_timeout`; OpenSIPS ``ws_send_timeout``)."""

    close_timeout: float = 5.0
    """Seconds for the peer to answer a close frame, to read the queued bytes and to close TLS and
    TCP. A peer whose handshake was refused has at most `REFUSED_LINGER`."""

    max_chunks: int = 4
    """Maximum pieces of a message (OpenSIPS ``ws_max_msg_chunks``; see
    `sipws.ws.fragment_limit`); 0: unlimited."""

    inflate_rate: float = 1024 * 1024
    """Maximum inflated bytes per second of a connection with permessage-deflate. The burst is one
    second's worth. sipws reads a faster connection at this rate. 80 compressed bytes can be a
    message of 64 KiB, so that the network is not the bound. A busy phone sends some KB per second.
    0: unlimited."""

    intervals: Intervals = field(default_factory=Intervals)
    """When a quiet connection is pinged, and when an idle one is closed."""

    longest_line: int = field(init=False, repr=False, compare=False)
    """Maximum bytes of a line of an upgrade request, computed from the fields above."""

    most_headers: int = field(init=False, repr=False, compare=False)
    """Maximum header lines of an upgrade request, computed from the fields above."""

    def __post_init__(self) -> None:
        # Computed once: every handshake needs them.
        longest, most = self.header_line, self.headers
        if longest is None:
            longest = self.request_size
        if most is None:
            most = max(USUAL_HEADERS, self.request_size // BYTES_A_HEADER)
        object.__setattr__(self, "longest_line", longest)
        object.__setattr__(self, "most_headers", most)
