"""From a destination to a connected socket, with the meaning of the system's errors."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Final, NamedTuple

from sipws.address import Address, address_of_socket
from sipws.events import ErrorKind
from sipws.transport.descriptors import OUT_OF_DESCRIPTORS, are_left
from sipws.ws.destination import Destination

OUT_OF_RESOURCES: Final = (
    *OUT_OF_DESCRIPTORS,
    errno.EADDRNOTAVAIL,
    errno.ENOBUFS,
    errno.ENOMEM,
)
"""Error numbers for a lack on this machine, such as a descriptor or a free port. They say nothing
of the destination."""

ATTEMPT_DELAY: Final = 0.25
"""Seconds until the next address is tried too, while one does not answer (RFC 8305 section 8)."""

Place = tuple[str, int] | tuple[str, int, int, int]
Candidate = tuple[socket.AddressFamily, Place]
"""An address to try: its family, and the argument of ``connect``."""

Tried = list[tuple[socket.socket, Address]]
"""The sockets of all attempts, and the addresses."""


class DialError(Exception):
    """No socket could be connected; internal, published as an event and raised as `ConnectError`.

    Args:
        kind: the kind of failure.
        detail: the reason, for people.
        peer: the address that was tried; None without one.
        local: the local address of its socket; None without one.
    """

    def __init__(
        self,
        kind: ErrorKind,
        detail: str,
        peer: Address | None = None,
        local: Address | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.peer = peer
        """The address that was tried; None without one."""
        self.local = local
        """The local address of its socket; None without one."""


class _Failure(NamedTuple):
    exc: OSError
    peer: Address
    local: Address | None = None


async def resolve(destination: Destination) -> list[Candidate]:
    """Find a destination's addresses, alternating the families (RFC 8305 section 4).

    Raises:
        DialError: it has none.
    """
    host, port = destination.host, destination.port
    if not destination.is_dialled:
        detail = f"{host!r} stands for a host that cannot be connected to, and is never looked up"
        raise DialError(ErrorKind.NAME_NOT_FOUND, detail)
    if destination.is_address:
        # An address needs no resolver, and thus no thread.
        if ":" in host:
            return [(socket.AF_INET6, (host, port, 0, 0))]
        return [(socket.AF_INET, (host, port))]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        if not are_left():
            # A resolver opens files and sockets; without descriptors it reports an unknown name.
            detail = f"{host!r} cannot be looked up: {os.strerror(errno.EMFILE)}"
            raise DialError(ErrorKind.OUT_OF_RESOURCES, detail) from exc
        detail = f"{host!r} has no address: {exc.strerror}"
        raise DialError(ErrorKind.NAME_NOT_FOUND, detail) from exc
    except UnicodeError as exc:
        raise DialError(ErrorKind.NAME_NOT_FOUND, f"{host!r} is not a host name: {exc}") from exc
    candidates = list(dict.fromkeys((info[0], info[4]) for info in found))
    first = candidates[0][0]
    preferred = [candidate for candidate in candidates if candidate[0] == first]
    others = [candidate for candidate in candidates if candidate[0] != first]
    in_turn = chain.from_iterable(zip_longest(preferred, others))
    return [candidate for candidate in in_turn if candidate is not None]  # type: ignore[misc]


async def open_socket(candidates: Sequence[Candidate], tried: Tried) -> socket.socket:
    """Connect to the first address that answers (RFC 8305).

    Args:
        candidates: the addresses; the first is the one that the system prefers.
        tried: takes the socket of each attempt, for `ends_of`.

    Raises:
        DialError: none answers.
    """
    failures: list[_Failure] = []
    attempts: set[asyncio.Task[socket.socket | _Failure]] = set()
    waiting = list(candidates)
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_attempt(waiting.pop(0), tried)))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=ATTEMPT_DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winner = None
            for task in done:
                outcome = task.result()
                if isinstance(outcome, _Failure):
                    failures.append(outcome)
                elif winner is None:
                    winner = outcome
                else:
                    outcome.close()
            if winner is not None:
                return winner
    finally:
        for task in attempts:
            task.cancel()
            task.add_done_callback(_discard)
    # The first address is the one that the system prefers. On a machine without IPv6 the failure of
    # an IPv6 address is not the reason.
    failures.sort(key=lambda each: each.exc.errno in OUT_OF_RESOURCES)
    exc, peer, local = failures[0]
    raise unreachable(exc, peer, local, others=len(failures) - 1) from exc


async def _attempt(candidate: Candidate, tried: Tried) -> socket.socket | _Failure:
    family, place = candidate
    peer = address_of_socket(place)
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        return _Failure(exc, peer)
    tried.append((sock, peer))
    try:
        sock.setblocking(False)
        await _connect(sock, place)
    except OSError as exc:
        local = address_of_socket(sock.getsockname())
        sock.close()
        return _Failure(exc, peer, local)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(sock: socket.socket, place: Place) -> None:
    """Connect to an address.

    uvloop's ``sock_connect`` resolves addresses too, in a thread. It waits while slow names keep
    all threads busy.
    """
    try:
        sock.connect(place)
    except (BlockingIOError, InterruptedError):
        pass
    else:
        return
    loop = asyncio.get_running_loop()
    decided = asyncio.Event()
    loop.add_writer(sock, decided.set)
    try:
        await decided.wait()
    finally:
        loop.remove_writer(sock)
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _discard(task: "asyncio.Task[socket.socket | _Failure]") -> None:
    """Close the socket of an attempt that was cancelled too late."""
    if not task.cancelled() and task.exception() is None:
        outcome = task.result()
        if not isinstance(outcome, _Failure):
            outcome.close()


def ends_of(tried: Tried) -> tuple[Address | None, Address | None]:
    """Both addresses of the first socket that is still open, in a cancelled connect.

    `open_socket` closes its sockets in the next iteration of the event loop.
    """
    for sock, peer in tried:
        with suppress(OSError):
            return peer, address_of_socket(sock.getsockname())
    return None, None


def unreachable(
    exc: OSError, peer: Address, local: Address | None = None, others: int = 0
) -> DialError:
    """The error for a connect that the system refused.

    Args:
        exc: the system's error.
        peer: the address that was tried.
        local: the local address of its socket; None without one.
        others: the number of other addresses that failed too.
    """
    reason = f"{peer}: {_reason(exc)}"
    if others:
        reason += f" (nor do {others} more of its addresses answer)"
    kind = {
        errno.ECONNREFUSED: ErrorKind.CONNECT_REFUSED,
        errno.ETIMEDOUT: ErrorKind.CONNECT_TIMEOUT,
        **dict.fromkeys(OUT_OF_RESOURCES, ErrorKind.OUT_OF_RESOURCES),
    }.get(exc.errno or 0, ErrorKind.UNREACHABLE)
    return DialError(kind, reason, peer, local)


def tls_failure(exc: OSError, peer: Address, local: Address) -> DialError:
    """The error for a failed TLS handshake.

    Args:
        exc: the error, an `ssl.SSLError` or the `OSError` of a connection that ended.
        peer: the address of the server.
        local: the local address of the socket.
    """
    match exc:
        case ssl.SSLCertVerificationError():
            detail = f"TLS: the server's certificate is not accepted: {exc.verify_message}"
        case ssl.SSLError():
            reason = (exc.reason or str(exc)).replace("_", " ").lower()
            detail = f"TLS: the handshake failed: {reason}"
        case _:
            detail = f"TLS: the connection ended before the handshake was through: {_reason(exc)}"
    return DialError(ErrorKind.TLS_FAILURE, detail, peer, local)


def _reason(exc: OSError) -> str:
    number = exc.errno or 0
    # The text of asyncio repeats the address.
    return os.strerror(number) if number > 0 else exc.strerror or str(exc) or "no reason given"
