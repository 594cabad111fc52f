"""The input and the result of a filter route."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Socket(NamedTuple):
    """A listener that a filter route can name (``is_myself``, ``$socket_out``)."""

    ip: str
    """Its address. IPv6 without brackets."""
    port: int
    """Its port."""
    proto: str = "ws"
    """``ws`` or ``wss``."""
    tag: str | None = None
    """Its ``tag``."""
    advertised_ip: str | None = None
    """The address of its ``as``."""
    advertised_port: int | None = None
    """The port of its ``as``."""


@dataclass(slots=True)
class Subject:
    """The properties of a connection that a filter route can read."""

    si: str
    """``$si``: the peer's address, also for outgoing connections. IPv6 without brackets."""
    sp: int
    """``$sp``: the peer's port, 0 to 65535."""
    socket_ip: str
    """``$socket_in(ip)``: the local address. IPv6 without brackets; a route sees it in brackets."""
    socket_port: int
    """``$socket_in(port)``: the local port, 0 to 65535."""
    proto: Literal["ws", "wss"] = "ws"
    """``$socket_in(proto)``."""
    tag: str | None = None
    """``$socket_in(tag)``: the listener's ``tag``."""
    advertised_ip: str | None = None
    """``$socket_in(advertised_ip)``: the listener's ``as``."""
    advertised_port: int | None = None
    """``$socket_in(advertised_port)``."""
    now: float | None = None
    """Time of the decision in seconds since the epoch, for ``$Ts``, ``$time(…)`` and others. None
    reads the clock each time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision with the messages of the script."""

    traced: bool
    """Whether the connection is traced."""
    stopped: str | None = None
    """The limit that stopped the script, in which case the connection is traced. None if the script
    ran to its end."""
    messages: tuple[str, ...] = ()
    """The messages of ``xlog``, in order."""
