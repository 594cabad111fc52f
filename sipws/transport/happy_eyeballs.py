"""From a destination to a connected socket, and what the system's errors mean on the way."""

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
"""How the system says that it is this machine that lacks something, such as a descriptor or a free
port, and not the destination that is away."""

ATTEMPT_DELAY: Final = 0.25
"""Seconds before the next address is tried beside a silent one (RFC 8305 section 8)."""

Place = tuple[str, int] | tuple[str, int, int, int]
Candidate = tuple[socket.AddressFamily, Place]
"""An address to try: family, and what the system calls the place."""

Tried = list[tuple[socket.socket, Address]]
"""Sockets that were connected, or were to be, and to where."""


class DialError(Exception):
    """No socket; for this package alone, which tells it as an event and a `ConnectError`."""

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
        """The address that was tried."""
        self.local = local
        """Our end of the socket, as far as it got to have one."""


class _Failure(NamedTuple):
    exc: OSError
    peer: Address
    local: Address | None = None


async def resolve(destination: Destination) -> list[Candidate]:
    """Find a destination's addresses, the families in turn (RFC 8305 section 4).

    Raises:
        DialError: there are none.
    """
    host, port = destination.host, destination.port
    if not destination.is_dialled:
        detail = f"{host!r} stands for a host that cannot be connected to, and is never looked up"
        raise DialError(ErrorKind.NAME_NOT_FOUND, detail)
    if destination.is_address:
        # An address needs no resolver, and so no thread.
        if ":" in host:
            return [(socket.AF_INET6, (host, port, 0, 0))]
        return [(socket.AF_INET, (host, port))]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        if not are_left():
            # A resolver opens files and sockets; what it then says would blame the name.
            detail = f"{host!r} cannot be looked up: {os.strerror(errno.EMFILE)}"
            raise DialError(ErrorKind.OUT_OF_RESOURCES, detail) from exc
        detail = f"{host!r} has no address: {exc.strerror}"
        raise DialError(ErrorKind.NAME_NOT_FOUND, detail) from exc
    except UnicodeError as exc:
        raise DialError(ErrorKind.NAME_NOT_FOUND, f"{host!r} is no host name: {exc}") from exc
    candidates = list(dict.fromkeys((info[0], info[4]) for info in found))
    first = candidates[0][0]
    preferred = [candidate for candidate in candidates if candidate[0] == first]
    others = [candidate for candidate in candidates if candidate[0] != first]
    in_turn = chain.from_iterable(zip_longest(preferred, others))
    return [candidate for candidate in in_turn if candidate is not None]  # type: ignore[misc]


async def open_socket(candidates: Sequence[Candidate], tried: Tried) -> socket.socket:
    """Connect to the first address that answers (RFC 8305).

    Args:
        candidates: the addresses, the one that the system prefers first.
        tried: takes each socket that is tried, for `ends_of`.

    Raises:
        DialError: none does.
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
    # The first address is the one that the system prefers. That a machine without IPv6 cannot use
    # an address of that kind says nothing of the others.
    told = next((each for each in failures if each.exc.errno not in OUT_OF_RESOURCES), failures[0])
    exc, peer, local = told
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

    uvloop's ``sock_connect`` asks the resolver about addresses too, in a thread, and so waits where
    names that nobody answers for keep all threads busy.
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
    """Close what came of an attempt that was cancelled too late."""
    if not task.cancelled() and task.exception() is None:
        outcome = task.result()
        if not isinstance(outcome, _Failure):
            outcome.close()


def ends_of(tried: Tried) -> tuple[Address | None, Address | None]:
    """Peer and our end of the first socket that is still open, of an attempt that is given up.

    `open_socket` closes what is under way only with the event loop's next turn.
    """
    for sock, peer in tried:
        with suppress(OSError):
            return peer, address_of_socket(sock.getsockname())
    return None, None


def unreachable(
    exc: OSError, peer: Address, local: Address | None = None, others: int = 0
) -> DialError:
    """What the system's refusal to connect means.

    Args:
        exc: what the system said.
        peer: of which address.
        local: our end of the socket.
        others: how many more addresses were tried in vain.
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
    """What an error in the TLS handshake means.

    `ssl.SSLError` is an `OSError`; so is a connection that ends before TLS is through.
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
    # asyncio's own text repeats the address.
    return os.strerror(number) if number > 0 else exc.strerror or str(exc) or "no reason given"
