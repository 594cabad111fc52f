"""Sockets of the control interface: addresses, private Unix sockets, reserved descriptors."""

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sipws.address import Address, split_host_port, unmapped
from sipws.errors import AddressError, ConfigurationError, TransportError
from sipws.transport.listening import bind, cannot_listen

UNIX: Final = "unix:"
"""The prefix of a Unix socket's address."""

LONGEST_PATH: Final = 107
"""Bytes of a Unix socket's path: ``sun_path`` has 108 on Linux, the last one a zero (unix(7))."""

OTHERS: Final = stat.S_IRWXO
"""The permissions of users who are neither owner nor in the group."""

BACKLOG: Final = 64
"""Connections that may wait to be accepted (listen(2))."""

_PROBE_TIMEOUT: Final = 1.0
"""Seconds to find out whether a program listens on a Unix socket. A connect that blocks means that
a backlog is full, so that a program does."""


@dataclass(frozen=True, slots=True)
class UnixPath:
    """The address of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


ControlAddress = Address | UnixPath
"""Where a control interface is."""


def parse_control(text: str) -> ControlAddress:
    """Read the address of a control interface: ``HOST:PORT`` or ``unix:PATH``.

    Raises:
        AddressError: it has neither form, or a Unix socket cannot have that path.
    """
    if text.startswith(UNIX):
        return UnixPath(_checked(text.removeprefix(UNIX)))
    host, port = split_host_port(text)
    if port is None:
        raise AddressError("the port is missing; it is written HOST:PORT or unix:PATH")
    return Address(host, port)


def relative_to(folder: Path, text: str) -> str:
    """Make the path in the address of a Unix socket relative to a folder.

    Args:
        folder: of the configuration file.
        text: the address of a control interface.

    Returns:
        the address; any other text unchanged, for `parse_control` to refuse.
    """
    path = text.removeprefix(UNIX)
    if not text.startswith(UNIX) or not path or path.startswith("@"):
        return text
    return f"{UNIX}{folder / path}"


def _checked(path: str) -> str:
    if not path:
        raise AddressError("the path is missing; write unix:PATH, as in unix:/run/sipws/control")
    if path.startswith("@"):
        raise AddressError(
            "an abstract socket has no permissions, so that every user of this machine could"
            " connect; use a path"
        )
    if "\0" in path:
        raise AddressError("a path has no NUL")
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise AddressError("the path is not valid in the encoding of the file system") from None
    if length > LONGEST_PATH:
        raise AddressError(
            f"the path has {length} bytes, and a Unix socket's has {LONGEST_PATH} at most; use a"
            " shorter one"
        )
    return path


def bound_to(listening: socket.socket) -> ControlAddress:
    """The address that a socket is bound to."""
    name: Any = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        # An abstract name is bytes that begin with a zero.
        return UnixPath(name if isinstance(name, str) else f"@{os.fsdecode(name[1:])}")
    return Address(*name[:2])


def is_private(listening: socket.socket) -> bool:
    """Whether a socket needs no token.

    A TCP socket is private on a loopback address, whatever name was configured. A Unix socket is
    private if its file gives no permission to other users.
    """
    where = bound_to(listening)
    if isinstance(where, UnixPath):
        try:
            return not stat.S_IMODE(os.stat(where.path).st_mode) & OTHERS
        except (OSError, ValueError):
            # It is abstract, or its file is gone.
            return False
    ip = ipaddress.ip_address(where.ip.partition("%")[0])
    # Before Python 3.13, is_loopback is false for a mapped address.
    return unmapped(ip).is_loopback


def require_private(listening: Sequence[socket.socket]) -> None:
    """Check the sockets of a control interface without a token.

    Raises:
        ConfigurationError: one of them is not private; see `is_private`.
    """
    for each in listening:
        if is_private(each):
            continue
        where = bound_to(each)
        if isinstance(where, UnixPath):
            raise ConfigurationError(
                f"control.listen: every user of this machine can connect to {where}; set"
                " SocketMode=0600 in its unit, or set control.token"
            )
        raise ConfigurationError(
            f"control.listen: the socket is bound to {where}, which is not a loopback address; set"
            " control.token as well"
        )


async def open_control(listen: ControlAddress) -> list[socket.socket]:
    """Open listening sockets: one for a Unix socket, one for each address of a host.

    Raises:
        TransportError: the address is not available.
    """
    sockets: list[socket.socket] = []
    try:
        sockets += [_open_unix(listen)] if isinstance(listen, UnixPath) else await bind(*listen)
        for each in sockets:
            each.listen(BACKLOG)
    except (OSError, UnicodeError) as exc:
        for each in sockets:
            each.close()
        failed = exc if isinstance(exc, OSError) else OSError(0, "the host is not a valid name")
        raise cannot_listen(f"control {listen}", failed) from exc
    return sockets


def close_control(
    sockets: Sequence[socket.socket], listen: ControlAddress, made: tuple[int, int] | None
) -> None:
    """Close listening sockets, and remove the file of a Unix socket that `open_control` made.

    Args:
        sockets: from `open_control`.
        listen: their address.
        made: device and inode of the file; None to leave the file there.
    """
    for each in sockets:
        each.close()
    # Another program may have taken the path since.
    if isinstance(listen, UnixPath) and made is not None and identity_of(listen.path) == made:
        with suppress(OSError):
            os.unlink(listen.path)


def _open_unix(where: UnixPath) -> socket.socket:
    _clear(where)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The file has no more permissions than these at any moment.
    before = os.umask(0o177)
    try:
        listening.bind(where.path)
    except OSError as exc:
        listening.close()
        if exc.errno == errno.ENOENT:
            raise _refused(where, "its directory does not exist; create it") from exc
        raise
    finally:
        os.umask(before)
    return listening


def _clear(where: UnixPath) -> None:
    """Remove the socket that an earlier run left at a path, on which no program listens.

    Raises:
        TransportError: the path holds anything else.
    """
    try:
        found = os.lstat(where.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(where, "the file there is not a socket; remove it, or use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(where.path)
        except ConnectionRefusedError:
            pass
        except FileNotFoundError:
            return
        except OSError as exc:
            reason = f"another program uses it ({exc.strerror or 'it does not answer'})"
            raise _refused(where, f"{reason}; stop that, or use another path") from exc
        else:
            raise _refused(where, "another program listens there; stop it, or use another path")
    if found.st_uid != os.geteuid():
        raise _refused(
            where,
            f"a socket is left there that belongs to user {found.st_uid}; remove it, or use"
            " another path",
        )
    with suppress(FileNotFoundError):
        os.unlink(where.path)


def _refused(where: UnixPath, problem: str) -> TransportError:
    return TransportError(f"cannot listen on control {where}: {problem}")


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at a path; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class SpareFiles:
    """Reserved file descriptors, for when the process has none left.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._spare: list[int] = []
        self.refill()

    def __len__(self) -> int:
        return len(self._spare)

    def release(self) -> bool:
        """Free one descriptor for the next call; returns whether there was one."""
        if not self._spare:
            return False
        os.close(self._spare.pop())
        return True

    def refill(self) -> None:
        """Reserve as many as are missing, as far as the process has them."""
        with suppress(OSError):
            while len(self._spare) < self._count:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Free all of them."""
        while self.release():
            pass
