"""What the HTTP interface needs of the program that runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hep.view.store.protocol import Store
from hep.view.web.live import LiveFeed
from hep.view.web.models import Control, FileStatus, Listening


@dataclass(frozen=True, slots=True)
class Facts:
    """What the program knows of itself."""

    version: str
    """Version of the program."""
    started: int
    """Start time in microseconds since the epoch."""
    rate: float = 0.0
    """Packets per second, over the last 10 seconds."""
    listening: Sequence[Listening] = ()
    """The addresses that packets are received on."""
    files: Sequence[FileStatus] = ()
    """The captures that are read."""
    bad: int = 0
    """Data that came and is not HEP."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Packets that were not stored, by reason; empty if the reasons are not known."""


class ControlError(Exception):
    """A sipws refuses a command, or does not answer.

    Args:
        status: HTTP status of the answer to the browser: 400, 404 or 503.
        text: what is wrong, with the remedy.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Controlling(Protocol):
    """A sipws that is controlled; see `hep.view.web.control.ControlClient`."""

    async def read(self) -> Control:
        """Return what the sipws does; never raises for one that does not answer."""

    async def switch(self, *, on: bool, only: Literal["ws", "wss"] | None) -> None:
        """Switch tracing on or off.

        Raises:
            ControlError: the sipws refuses, or does not answer.
        """

    async def close(self, id: str, code: int, reason: str) -> None:  # noqa: A002
        """Close a connection.

        Raises:
            ControlError: there is no such connection, or the sipws does not answer.
        """


class Backend(Protocol):
    """The program that runs the HTTP interface."""

    @property
    def store(self) -> Store:
        """What has been received."""

    @property
    def live(self) -> LiveFeed:
        """Where changes are published."""

    @property
    def control(self) -> Controlling | None:
        """The sipws that is controlled; None without one."""

    def status(self) -> Facts:
        """Return what the program does. Called on the event loop; must not block."""
