"""Living under systemd: say what we are doing, and take over sockets that it opened for us.

The protocols are those of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3): environment
variables, datagrams and inherited file descriptors. Without systemd all of it does nothing.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self

from sipws.address import Address, Listener
from sipws.errors import ConfigurationError

log = logging.getLogger(__name__)

FIRST_FD: Final = 3
"""Where inherited sockets begin (SD_LISTEN_FDS_START)."""

Environment = MutableMapping[str, str]


class Notifier:
    """Tells the service manager how we are.

    Args:
        address: of its datagram socket, a path or an abstract name that begins with ``@``; None
            where there is none, and nothing is told.
        watchdog: seconds after which it takes us for hung unless it hears from us; None: never.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog
        """Seconds after which we are taken for hung."""
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, environment: Environment = os.environ) -> Self:
        """The one that the environment tells of.

        What it tells is taken out of it, so that no child process speaks for us.
        """
        address = environment.pop("NOTIFY_SOCKET", None)
        limit = environment.pop("WATCHDOG_USEC", "")
        for_whom = environment.pop("WATCHDOG_PID", str(os.getpid()))
        ours = limit.isdecimal() and int(limit) > 0 and for_whom == str(os.getpid())
        return cls(address, int(limit) / 1e6 if ours else None)

    def ready(self, status: str) -> None:
        """Say that we serve, again after `reloading`; ``systemctl status`` shows the status."""
        self._tell("READY=1", f"STATUS={status}")
        if self._timer is None:
            self._pat()

    def reloading(self) -> None:
        """Say that we read our configuration anew."""
        # systemd compares this with the time of its signal (Type=notify-reload).
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Say that we are on our way out."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _pat(self) -> None:
        """Let the watchdog hear from the event loop: a loop that is stuck is a service that is."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")
            # Half the time, as sd_watchdog_enabled(3) recommends.
            self._timer = asyncio.get_running_loop().call_later(self.watchdog / 2, self._pat)

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        # The first byte of an abstract name is zero; "@" stands for it.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as exc:
            log.warning("the service manager at %s is not told %s: %s", self._address, lines, exc)


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that was opened for us."""

    name: str
    """As in ``FileDescriptorName=``; the name of the socket unit unless it says otherwise."""
    socket: socket.socket

    @property
    def address(self) -> Address:
        """What it is bound to."""
        return Address(*self.socket.getsockname()[:2])


def inherited_sockets(environment: Environment = os.environ) -> list[Inherited]:
    """The sockets that the environment tells of.

    What it tells is taken out of it, so that no child process takes them for its own.

    Raises:
        ConfigurationError: one is no TCP socket.
    """
    count = environment.pop("LISTEN_FDS", "")
    for_whom = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or for_whom != str(os.getpid()):
        return []
    names += ["unknown"] * (int(count) - len(names))
    found = []
    for fd, name in zip(range(FIRST_FD, FIRST_FD + int(count)), names, strict=False):
        os.set_inheritable(fd, False)
        listening = socket.socket(fileno=fd)
        if (
            listening.family not in (socket.AF_INET, socket.AF_INET6)
            or listening.type != socket.SOCK_STREAM
        ):
            raise ConfigurationError(
                f"the inherited socket {name!r} (file descriptor {fd}) is no TCP socket; its unit"
                " needs ListenStream=ADDRESS:PORT"
            )
        found.append(Inherited(name, listening))
    return found


@dataclass(frozen=True, slots=True)
class Assigned:
    """Which inherited socket is whose."""

    listeners: dict[Listener, list[socket.socket]] = field(default_factory=dict)
    """Listeners that are not here open their own."""
    control: socket.socket | None = None


def assign(
    inherited: Sequence[Inherited], listeners: Sequence[Listener], control: Address | None
) -> Assigned:
    """Give each socket to the listener, or the control interface, that has its address.

    Args:
        inherited: the sockets.
        listeners: as configured; ``*`` has every address with its port.
        control: where the control interface listens; None where there is none.

    Raises:
        ConfigurationError: nobody has that address, and what comes in there would hang.
    """
    of_listeners: dict[Listener, list[socket.socket]] = {}
    of_control = None
    for each in inherited:
        whose = next((x for x in listeners if _same(each.address, x.host, x.port)), None)
        if whose is not None:
            of_listeners.setdefault(whose, []).append(each.socket)
        elif control is not None and _same(each.address, *control):
            of_control = each.socket
        else:
            known = [*map(str, listeners), *([] if control is None else [f"control {control}"])]
            raise ConfigurationError(
                f"the inherited socket {each.name!r} listens on {each.address}, which no listener"
                f" is configured for; there are: {', '.join(known)}"
            )
    return Assigned(of_listeners, of_control)


def _same(address: Address, host: str, port: int) -> bool:
    """Whether a socket's address is the configured one."""
    if address.port != port:
        return False
    bound = ip_address(address.ip.partition("%")[0])
    if host == "*":
        return bound.is_unspecified
    try:
        return bound == ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" and bound.is_loopback
