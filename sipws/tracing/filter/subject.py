"""What a filter route decides about."""

from dataclasses import dataclass


@dataclass(slots=True)
class Subject:
    """A connection, as a filter route sees it."""

    si: str
    """``$si``: the address of the socket that is not ours, whoever connected."""
    sp: int
    """``$sp``: its port."""
    socket_ip: str
    """``$socket_in(ip)``: our end's address; a route sees IPv6 in brackets here."""
    socket_port: int
    """``$socket_in(port)``."""
    proto: str = "ws"
    """``$socket_in(proto)``: ``ws`` or ``wss``."""
    tag: str | None = None
    """``$socket_in(tag)``."""
    advertised_ip: str | None = None
    """``$socket_in(advertised_ip)``."""
    advertised_port: int | None = None
    """``$socket_in(advertised_port)``."""
