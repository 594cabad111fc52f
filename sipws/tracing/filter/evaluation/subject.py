"""What a filter route decides about, and what comes out."""

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Subject:
    """A connection, as a filter route sees it."""

    si: str
    """``$si``: the address of the socket that is not ours, whoever connected, without brackets."""
    sp: int
    """``$sp``: its port."""
    socket_ip: str
    """``$socket_in(ip)``: our end's address, without brackets (a route sees IPv6 in brackets)."""
    socket_port: int
    """``$socket_in(port)``."""
    proto: Literal["ws", "wss"] = "ws"
    """``$socket_in(proto)``."""
    tag: str | None = None
    """``$socket_in(tag)``: the listener's ``tag``."""
    advertised_ip: str | None = None
    """``$socket_in(advertised_ip)``: the listener's ``as``."""
    advertised_port: int | None = None
    """``$socket_in(advertised_port)``."""
    now: float | None = None
    """The time of the decision, seconds since 1970, for ``$Ts``, ``$time(...)`` and their like;
    None: the clock's, asked when a route wants to know."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision, and what happened on the way."""

    traced: bool
    stopped: str | None = None
    """Why the script was stopped before its end: it went beyond its bounds, and the connection is
    traced. None: it came to its end."""
    messages: tuple[str, ...] = ()
    """What ``xlog`` wrote, in order."""
