"""Sockets for listeners, bound and not yet listening."""

import asyncio
import errno
import os
import socket
from dataclasses import replace
from typing import Any, Final

from sipws.address import Listener
from sipws.errors import TransportError

EVERY_ADDRESS: Final = ("0.0.0.0", "::")
"""The addresses that ``*`` stands for in a listener definition."""

NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Error numbers of a system without IPv6."""


async def open_sockets(
    listener: Listener, copies: int = 1
) -> tuple[Listener, list[list[socket.socket]]]:
    """Bind a listener's addresses.

    Args:
        listener: the definition; port 0 takes a free port.
        copies: the number of processes that listen there. Each has its own sockets, and the system
            distributes connections among them.

    Returns:
        the listener with its port, and the sockets of each process.

    Raises:
        TransportError: an address cannot be listened on; the message says which and why.
    """
    port = listener.port
    sockets: list[list[socket.socket]] = [[] for _ in range(copies)]
    try:
        for host in EVERY_ADDRESS if listener.host == "*" else (listener.host,):
            try:
                if copies > 1 and port:
                    # With copies allowed, another program of the same user would share the port.
                    _close(await bind(host, port))
                for copy in sockets:
                    bound = await bind(host, port, shared=copies > 1)
                    copy += bound
                    port = port or bound[0].getsockname()[1]
            except OSError as exc:
                if host == "::" and exc.errno in NO_IPV6 and sockets[0]:
                    # IPv4 addresses alone are all addresses of this machine.
                    continue
                raise cannot_listen(str(listener), exc) from exc
    except BaseException:
        # After a cancellation too no socket stays open.
        for copy in sockets:
            _close(copy)
        raise
    return replace(listener, port=port), sockets


async def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Bind sockets on every address of a host, as asyncio's servers do.

    Args:
        host: an address or a name.
        port: the port; 0 for a free one.
        shared: whether other processes may bind the same port (``SO_REUSEPORT``).

    Raises:
        OSError: an address cannot be bound, or the host is unknown.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            bound.append(_bound(socket.socket(family, kind, proto), address, shared))
    except OSError:
        _close(bound)
        raise
    return bound


def fresh(listening: socket.socket) -> socket.socket:
    """Bind another socket to the address of a socket (``SO_REUSEPORT``), not listening yet.

    Raises:
        OSError: it cannot be bound.
    """
    another = socket.socket(listening.family, listening.type, listening.proto)
    return _bound(another, listening.getsockname(), shared=True)


def _bound(listening: socket.socket, address: Any, shared: bool) -> socket.socket:
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listening.family == socket.AF_INET6:
            # Otherwise "*" could not be bound for IPv4 too.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


def cannot_listen(where: str, exc: OSError) -> TransportError:
    """The error for an address that cannot be listened on, with the system's reason."""
    # asyncio's own text repeats the address; a name that does not resolve has no error number.
    number = exc.errno or 0
    reason = os.strerror(number) if number > 0 else exc.strerror
    return TransportError(
        f"cannot listen on {where}: {reason}; choose another address or port, or stop what uses"
        " this one"
    )


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
