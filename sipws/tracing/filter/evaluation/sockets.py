"""The variables ``$socket_in`` and ``$socket_out`` of OpenSIPS."""

import re
from collections.abc import Callable
from typing import Final

from sipws.tracing.filter.bounds import LONGEST_HOST
from sipws.tracing.filter.evaluation.run import Getter, Kind, Run
from sipws.tracing.filter.evaluation.subject import Socket
from sipws.tracing.filter.evaluation.values import (
    Value,
    parse_ip,
    stored,
    text_of,
    written,
)
from sipws.tracing.filter.syntax.pseudo import Problem
from sipws.tracing.filter.syntax.source import nearest

_KEY: Final = "$socket_out"
"""Where a run keeps the forced socket."""

_PROTOCOLS: Final = frozenset(
    {"udp", "tcp", "tls", "sctp", "ws", "wss", "bin", "hep_udp", "hep_tcp"}
)

_DESTINATION: Final = re.compile(
    r"(?:(?P<proto>[A-Za-z_]+):)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]+)(?::(?P<port>[0-9]{1,5}))?"
)


def _bracketed(ip: str) -> str:
    return ip if ":" not in ip else f"[{written(ip)}]"


def _advertised(ip: str | None) -> Value:
    return None if ip is None else stored(_bracketed(ip))


def _tag(tag: str | None) -> Value:
    return tag if tag is None else stored(tag)


def _socket_ip(run: Run) -> str:
    """``$socket_in(ip)``: the local address, IPv6 in brackets."""
    ip = run.subject.socket_ip
    return ip if ":" not in ip else _bracketed(ip)


_IN: Final[dict[str, tuple[Getter, Kind]]] = {
    "ip": (_socket_ip, "text"),
    "port": (lambda run: run.subject.socket_port, "number"),
    "proto": (lambda run: run.subject.proto, "text"),
    "advertised_ip": (lambda run: _advertised(run.subject.advertised_ip), "any"),
    "advertised_port": (lambda run: run.subject.advertised_port, "any"),
    "tag": (lambda run: _tag(run.subject.tag), "any"),
    "anycast": (lambda run: 0, "number"),
    "af": (lambda run: "INET6" if ":" in run.subject.socket_ip else "INET", "text"),
}
"""The fields of ``$socket_in``, by name in lower case."""

_OUT: Final[dict[str, Callable[[Socket], Value]]] = {
    "ip": lambda socket: _bracketed(socket.ip),
    "port": lambda socket: socket.port,
    "proto": lambda socket: socket.proto,
    "advertised_ip": lambda socket: _advertised(socket.advertised_ip),
    "advertised_port": lambda socket: socket.advertised_port,
    "tag": lambda socket: _tag(socket.tag),
    "anycast": lambda socket: 0,
    "af": lambda socket: "INET6" if ":" in socket.ip else "INET",
}
"""The fields of ``$socket_out``, by name in lower case. ``forced`` is one more."""


def socket_in(run: Run) -> Value:
    """``$socket_in``: the socket that accepted the connection, as in ``ws:10.0.0.1:80``."""
    return f"{run.subject.proto}:{_socket_ip(run)}:{run.subject.socket_port}"


def socket_out(run: Run) -> Value:
    """``$socket_out``: the forced socket, otherwise the same as ``$socket_in``."""
    socket = _out(run)
    return f"{socket.proto}:{_bracketed(socket.ip)}:{socket.port}"


def _out(run: Run) -> Socket:
    forced: Socket | None = run.variables.get(_KEY)
    return forced if forced is not None else _received(run)


def _received(run: Run) -> Socket:
    subject = run.subject
    return Socket(
        subject.socket_ip,
        subject.socket_port,
        subject.proto,
        subject.tag,
        subject.advertised_ip,
        subject.advertised_port,
    )


def socket_field(name: str, field: str) -> tuple[Getter, Kind]:
    """The getter of a field such as ``$socket_in(ip)``.

    Args:
        name: ``socket_in`` or ``socket_out``.
        field: what is in the brackets. OpenSIPS compares it whole, in any case.

    Raises:
        Problem: there is no such field.
    """
    key = field.lower()
    if name == "socket_in":
        if key in _IN:
            return _IN[key]
    elif key == "forced":
        return lambda run: socket_out(run) if _KEY in run.variables else None, "any"
    elif key in _OUT:
        read = _OUT[key]
        return lambda run: read(_out(run)), "any"
    known = _IN if name == "socket_in" else (*_OUT, "forced")
    if key.strip() in known:
        raise Problem(f"${name} has no field {field!r}; write it without blanks")
    hint = nearest(key, known) or f"; there are: {', '.join(known)}"
    raise Problem(f"${name} has no field {field!r}{hint}")


def parse_destination(text: str) -> tuple[str, str, int] | None:
    """Parse ``[PROTO:]HOST[:PORT]``.

    Returns:
        protocol, host without brackets and port, with "" and 0 for what is left out; None if the
        text is not written so.
    """
    found = _DESTINATION.fullmatch(text) if len(text) <= LONGEST_HOST else None
    if found is None or int(found["port"] or 0) > 0xFFFF:
        return None
    proto = (found["proto"] or "").lower()
    if proto and proto not in _PROTOCOLS:
        # What stands before one colon may be the host.
        return None
    return proto, found["host"].strip("[]"), int(found["port"] or 0)


def force(run: Run, text: str) -> bool:
    """Force the socket that a text names; returns False if there is no such listener."""
    wanted = parse_destination(text)
    if wanted is None:
        return False
    proto, host, port = wanted
    address = parse_ip(host)
    others = (it if isinstance(it, Socket) else Socket(it[0], it[1]) for it in run.own)
    for socket in (_received(run), *others):
        same = (
            socket.ip.lower() == host.lower() if address is None else address == parse_ip(socket.ip)
        )
        if same and proto in ("", socket.proto) and port in (0, socket.port):
            run.variables[_KEY] = socket
            return True
    return False


def put_socket_out(run: Run, value: Value, operator: str) -> bool:
    """Assignment to ``$socket_out``. A socket that does not exist changes nothing."""
    if value is None:
        run.variables.pop(_KEY, None)
        return True
    text = text_of(value)
    if not text:
        return False
    force(run, text)
    return True
