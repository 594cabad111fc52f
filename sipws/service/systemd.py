"""Running under systemd: notify it of our state, and take over sockets that it opened.

The protocols are sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3): environment variables,
datagrams and inherited file descriptors. Without systemd all of it does nothing.
"""

import asyncio
import logging
import os
import re
import socket
import stat
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self

from sipws.address import Listener
from sipws.control.unix_socket import ControlAddress, UnixPath, bound_to
from sipws.errors import ConfigurationError

log = logging.getLogger(__name__)

FIRST_FD: Final = 3
"""The first inherited socket (SD_LISTEN_FDS_START)."""

LONGEST_WATCHDOG: Final = 365 * 86400.0
"""Seconds. A longer watchdog interval is cut to this; timers have a limit."""

Environment = MutableMapping[str, str]


def number_in(text: str) -> int | None:
    """Parse a number of the environment; None if it is not a number or has more than 20 digits.

    No number of the system is longer, and Python refuses to read more than 4,300 digits.
    """
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


class Notifier:
    """Notifies the service manager of our state.

    Args:
        address: its datagram socket, a path or an abstract name that begins with ``@``; None
            without a service manager, and then nothing is sent.
        watchdog: seconds without a notification after which it considers us hung; None: never.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog
        """Seconds without a notification after which the service manager considers us hung."""
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, environment: Environment = os.environ) -> Self:
        """Make the notifier that the environment describes.

        Its variables are removed, so that no child process notifies in our name.

        Args:
            environment: the variables.
        """
        # As for sd_notify(3), an empty variable is none.
        address = environment.pop("NOTIFY_SOCKET", "") or None
        limit = number_in(environment.pop("WATCHDOG_USEC", "")) or 0
        for_whom = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        if address is not None and address[0] not in "/@":
            log.warning(
                "NOTIFY_SOCKET = %r is neither a path that begins with / nor an abstract name that"
                " begins with @: the service manager gets no notifications",
                address,
            )
            address = None
        ours = limit > 0 and for_whom == str(os.getpid())
        return cls(address, min(limit / 1e6, LONGEST_WATCHDOG) if ours else None)

    def ready(self, status: str) -> None:
        """Notify that we serve, also after `reloading`.

        Args:
            status: a line that ``systemctl status`` shows.
        """
        self._tell("READY=1", f"STATUS={status}")
        if self._timer is None:
            self._pat()

    def reloading(self) -> None:
        """Notify that we reload our configuration."""
        # systemd compares this with the time of its signal (Type=notify-reload).
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Notify that we stop.

        Args:
            status: a line that ``systemctl status`` shows.
        """
        self._tell("STOPPING=1", f"STATUS={status}")

    def close(self) -> None:
        """Stop the watchdog notifications."""
        if self._timer is not None:
            self._timer.cancel()

    def _pat(self) -> None:
        """Notify the watchdog from the event loop: if the loop is stuck, the service is."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")
            # Half the time, as sd_watchdog_enabled(3) recommends.
            self._timer = asyncio.get_running_loop().call_later(self.watchdog / 2, self._pat)

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        # The first byte of an abstract name is zero; "@" stands for it.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except (OSError, ValueError) as exc:
            log.warning("cannot notify the service manager at %s: %s", self._address, exc)


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that the service manager opened."""

    name: str
    """As in ``FileDescriptorName=``; by default the name of the socket unit."""
    socket: socket.socket

    @property
    def address(self) -> ControlAddress:
        """The address that it is bound to."""
        return bound_to(self.socket)


def inherited_sockets(environment: Environment = os.environ) -> list[Inherited]:
    """Take over the sockets that the environment lists.

    Its variables are removed, so that no child process takes them over too.

    Args:
        environment: the variables.

    Raises:
        ConfigurationError: a socket is missing, or does not listen.
    """
    given = environment.pop("LISTEN_FDS", "")
    for_whom = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if for_whom != str(os.getpid()):
        return []
    if (count := number_in(given or "0")) is None:
        raise ConfigurationError(
            f"LISTEN_FDS = {given[:40]!r} is not a number of sockets; unset LISTEN_FDS and"
            " LISTEN_PID unless a service manager sets them"
        )
    found: list[Inherited] = []
    try:
        for number in range(count):
            name = (names[number] if number < len(names) else "") or "unknown"
            found.append(Inherited(name, _taken_over(FIRST_FD + number, name, count)))
    except ConfigurationError:
        for each in found:
            each.socket.close()
        raise
    return found


def _taken_over(fd: int, name: str, count: int) -> socket.socket:
    """Make a listening socket of a file descriptor.

    Args:
        fd: the file descriptor.
        name: as in ``FileDescriptorName=``.
        count: ``LISTEN_FDS``.

    Raises:
        ConfigurationError: it is not a listening socket.
    """
    what = f"the inherited socket {name!r} (file descriptor {fd})"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except (OSError, OverflowError) as exc:
        raise ConfigurationError(
            f"LISTEN_FDS = {count}, but {what} is not open; unset LISTEN_FDS and LISTEN_PID"
            " unless a service manager sets them"
        ) from exc
    if not is_socket:
        raise ConfigurationError(
            f"LISTEN_FDS = {count}, but {what} is not a socket; unset LISTEN_FDS and LISTEN_PID"
            " unless a service manager sets them"
        )
    os.set_inheritable(fd, False)
    listening = socket.socket(fileno=fd)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if listening.family not in families or listening.type != socket.SOCK_STREAM:
        listening.close()
        raise ConfigurationError(
            f"{what} is not a TCP socket; its unit needs ListenStream=ADDRESS:PORT, or the path of"
            " control.listen"
        )
    if _is_connected(listening):
        listening.close()
        raise ConfigurationError(
            f"{what} is a connection and does not listen; its unit needs Accept=no"
        )
    return listening


def _is_connected(found: socket.socket) -> bool:
    try:
        found.getpeername()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Assigned:
    """The inherited sockets, by what they are for."""

    listeners: dict[Listener, list[socket.socket]] = field(default_factory=dict)
    """The sockets of listeners. Other listeners open their own."""
    control: socket.socket | None = None


def assign(
    inherited: Sequence[Inherited],
    listeners: Sequence[Listener],
    control: ControlAddress | None,
) -> Assigned:
    """Assign each socket to the listener or the control interface with its address.

    Args:
        inherited: the sockets.
        listeners: as configured; ``*`` matches every address with its port.
        control: address of the control interface; None without one.

    Raises:
        ConfigurationError: a socket's address is not configured; its connections would hang.
    """
    of_listeners: dict[Listener, list[socket.socket]] = {}
    of_control = None
    for each in inherited:
        whose = next((x for x in listeners if _same(each.address, x.address)), None)
        if whose is not None:
            of_listeners.setdefault(whose, []).append(each.socket)
        elif control is not None and _same(each.address, control):
            of_control = each.socket
        else:
            known = [*map(str, listeners), *([] if control is None else [f"control {control}"])]
            raise ConfigurationError(
                f"the inherited socket {each.name!r} listens on {each.address}, which no listener"
                f" is configured for; there are: {', '.join(known)}"
            )
    return Assigned(of_listeners, of_control)


def _same(bound: ControlAddress, configured: ControlAddress) -> bool:
    """Whether a socket's address is the configured one."""
    if isinstance(bound, UnixPath) or isinstance(configured, UnixPath):
        if not (isinstance(bound, UnixPath) and isinstance(configured, UnixPath)):
            return False
        # /var/run is a link to /run.
        return os.path.realpath(bound.path) == os.path.realpath(configured.path)
    host, port = configured
    if bound.port != port:
        return False
    ip = ip_address(bound.ip.partition("%")[0])
    if host == "*":
        return ip.is_unspecified
    try:
        return ip == ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" and ip.is_loopback
