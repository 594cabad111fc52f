"""Draws the live list of calls on a terminal, with Rich."""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hep.cli.top_calls import CallList, Status, Wanted, duration
from hep.cli.top_feed import Changed, Ended, Feed, Lost, Whole
from hep.cli.usage import DONE, WrongInputError
from hep.cli.view_client import ViewClient
from hep.cli.why_words import clock, how, party, what
from hep.view.export.plain import one_line
from hep.view.model.record import MICROSECONDS
from hep.view.model.summary import CallSummary

STYLES: Final = {
    "ok": "green", "open": "cyan", "cancelled": "yellow", "rejected": "yellow", "failed": "red",
    "lost": "red",
}  # fmt: skip
"""Colours of outcomes."""

HEAD: Final = 4
"""Lines that are no calls: two of the head, the problem, and the titles of the columns."""

WIDE: Final = 110
"""Columns of a terminal from which on there is room for the User-Agent."""

_ENDS: Final = (b"q", b"Q", b"\x03", b"\x04")


@dataclass(slots=True)
class Picture:
    """What is drawn."""

    url: str
    """Address of the viewer."""
    calls: CallList
    """The list."""
    status: Status = field(default_factory=Status)
    """What the viewer said last."""
    status_at: float = 0.0
    """Monotonic time at which it said so; 0 if it has not."""
    lost: str = ""
    """Why there is no connection; empty if there is one."""

    def drawn(self, width: int, height: int, today: datetime) -> RenderableType:
        """Draw it.

        Args:
            width: columns of the terminal.
            height: its lines.
            today: the time.
        """
        now = self.status.now
        if self.status_at:
            now += int((time.monotonic() - self.status_at) * MICROSECONDS)
        rows = self.calls.latest(max(0, height - HEAD))
        return Group(*self._head(width, today), _table(rows, width, now, today))

    def _head(self, width: int, today: datetime) -> list[Text]:
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append("hep top", "bold")
        first.append(f"  {self.url}  {today:%H:%M:%S}")
        if not self.lost and not self.status_at:
            first.append("  connecting")
        first.append("  q ends", "dim")
        second = Text(no_wrap=True, overflow="ellipsis")
        if self.status_at:
            status = self.status
            dropped = status.store.dropped
            second.append(f"{status.rate:.1f} packets/s  ")
            second.append(f"{status.calls_open} open calls  ", "cyan")
            second.append(f"{status.connections_open} open connections  ")
            second.append(f"{dropped} dropped", "bold red" if dropped else "")
            second.append(f"  {status.calls} calls  {status.store.packets} packets")
        third = Text(no_wrap=True, overflow="ellipsis")
        if self.lost:
            third.append(f"{one_line(self.lost)}; connecting again", "bold red")
        elif self.status.store.problem:
            third.append(f"Not stored: {one_line(self.status.store.problem)}", "bold red")
        elif self.status_at and not len(self.calls):
            third.append("No calls yet.", "dim")
        return [first, second, third]


def _table(rows: Sequence[CallSummary], width: int, now: int, today: datetime) -> Table:
    table = Table(
        box=None, expand=True, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim",
        collapse_padding=True,
    )  # fmt: skip
    has_agent = width >= WIDE
    has_kinds = any(call.kind != "call" for call in rows)
    table.add_column("time", no_wrap=True, width=8)
    table.add_column("from", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("to", no_wrap=True, overflow="ellipsis", ratio=3)
    if has_kinds:
        table.add_column("what", no_wrap=True, width=9)
    table.add_column("outcome", no_wrap=True, width=9)
    table.add_column("code", no_wrap=True, width=4, justify="right")
    table.add_column("length", no_wrap=True, width=7, justify="right")
    table.add_column("ended by", no_wrap=True, overflow="ellipsis", ratio=4)
    if has_agent:
        table.add_column("User-Agent", no_wrap=True, overflow="ellipsis", ratio=3)
    for call in rows:
        style = STYLES.get(call.outcome, "")
        cells = [
            clock(call.first, today)[-8:],
            party(call.from_user, call.from_host),
            party(call.to_user, call.to_host),
            *([what(call)] if has_kinds else []),
            one_line(call.outcome),
            str(call.code or ""),
            duration(call, now),
            how(call),
        ]
        if has_agent:
            cells.append(one_line(call.user_agent))
        # As Text, in which brackets are no markup.
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells),
                      style=style)  # fmt: skip
    return table


class _Keyboard:
    """Keys without the line editing of the terminal, while the screen is shown."""

    def __init__(self) -> None:
        self.number: int | None = sys.stdin.fileno() if sys.stdin.isatty() else None
        """Its file; None if the input is no terminal."""
        self._before: list[Any] | None = None

    def take(self) -> None:
        """Take each key at once, without showing it."""
        if self.number is not None:
            if self._before is None:
                self._before = termios.tcgetattr(self.number)
            tty.setcbreak(self.number)

    def give_back(self) -> None:
        """Let the terminal be as it was."""
        if self.number is not None and self._before is not None:
            termios.tcsetattr(self.number, termios.TCSADRAIN, self._before)


@contextmanager
def _signals(on: dict[int, Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in on.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show(client: ViewClient, wanted: Wanted, interval: float) -> int:
    """Show the list until q or Ctrl-C.

    Args:
        client: of the viewer.
        wanted: which calls are shown.
        interval: seconds between two pictures.

    Returns:
        the exit status.

    Raises:
        WrongInputError: the viewer refuses, or cannot be reached at the start.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)

    def ring() -> None:
        # A pipe that is full wakes anyhow.
        with suppress(BlockingIOError):
            os.write(wake, b"\0")

    feed = Feed(client, wanted, ring)
    came: set[int] = set()

    def note(number: int, frame: FrameType | None) -> None:
        came.add(number)
        ring()

    picture = Picture(client.url, CallList(wanted))
    console = Console()
    keyboard = _Keyboard()
    noted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP)
    feed.start()
    live = Live(console=console, screen=True, auto_refresh=False)
    try:
        with _signals(dict.fromkeys(noted, note)):
            keyboard.take()
            live.start()
            try:
                _run(feed, picture, live, keyboard, (woken, interval), came)
            finally:
                live.stop()
    finally:
        keyboard.give_back()
        feed.stop()
    return DONE


def _run(
    feed: Feed,
    picture: Picture,
    live: Live,
    keyboard: _Keyboard,
    times: tuple[int, float],
    came: set[int],
) -> None:
    woken, interval = times
    console, due = live.console, 0.0
    inputs = [woken] if keyboard.number is None else [woken, keyboard.number]
    while True:
        now = time.monotonic()
        if now >= due:
            size = console.size
            live.update(picture.drawn(size.width, size.height, datetime.now()), refresh=True)
            due = now + interval
        ready, _, _ = select.select(inputs, [], [], max(0.0, due - time.monotonic()))
        if keyboard.number in ready:
            keys = os.read(keyboard.number, 64)
            if not keys or keys == b"\x1b" or any(key in keys for key in _ENDS):
                return
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
        is_first = not picture.status_at
        _take(feed, picture)
        if is_first and picture.status_at:
            due = 0.0
        seen = {*came}
        came -= seen
        if seen & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
            return
        if signal.SIGTSTP in seen:
            live.stop()
            keyboard.give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            keyboard.take()
            live.start()
            due = 0.0
        if signal.SIGWINCH in seen:
            due = 0.0


def _take(feed: Feed, picture: Picture) -> None:
    for news in feed.news():
        if isinstance(news, Ended):
            raise WrongInputError(str(news))
        if isinstance(news, Lost):
            picture.lost = str(news)
            continue
        picture.lost = ""
        if isinstance(news, Whole):
            picture.calls.replace(news)
        elif isinstance(news, Changed):
            picture.calls.update(news)
        else:
            picture.status, picture.status_at = news, time.monotonic()
