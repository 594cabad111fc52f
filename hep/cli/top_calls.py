"""The live list of calls: events of the viewer, filters, and the rows that are shown. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest
from typing import Any, Final

from hep.cli.json_values import value_of
from hep.cli.why_words import clock, how, party, what
from hep.view.export.plain import one_line
from hep.view.model.record import MICROSECONDS
from hep.view.model.summary import CallSummary

MOST_CALLS: Final = 1_000
"""Calls of the list: more than a screen has lines."""

MOST_REPORTED: Final = 20_000
"""Finished calls that are remembered, so that each is reported once."""

LONGEST_EVENT: Final = 16 << 20
"""Bytes of an event that are read."""


class EventReader:
    """Reads the lines of an event stream (WHATWG HTML, section 9.2)."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, line: bytes) -> tuple[str, Any] | None:
        """Take a line.

        Args:
            line: with its end.

        Returns:
            name and data of the event that it ends; None if it ends none.

        Raises:
            ValueError: the data are not JSON, or too long.
        """
        line = line.rstrip(b"\r\n")
        if not line:
            name, data = self._name, self._data
            self._name, self._data, self._size = "", [], 0
            return (name, json.loads(b"\n".join(data))) if data else None
        key, _, text = line.partition(b":")
        text = text.removeprefix(b" ")
        if key == b"event":
            self._name = text.decode("utf-8", "replace")
        elif key == b"data":
            self._size += len(text)
            if self._size > LONGEST_EVENT:
                raise ValueError(f"an event has more than {LONGEST_EVENT >> 20} MiB")
            self._data.append(text)
        return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls are shown; all conditions must hold. As `hep.view.store.query.CallFilter`."""

    user: str = ""
    """Part of the caller's or the callee's ``user@host``, upper and lower case alike."""
    code: str = ""
    """Final status code, ``486``, or a class of them, ``4xx``."""
    outcomes: tuple[str, ...] = ()
    """How they went; empty for all."""
    kinds: tuple[str, ...] = ()
    """What they are about; empty for all."""

    def matches(self, call: CallSummary) -> bool:
        """Whether a call is shown."""
        if self.outcomes and call.outcome not in self.outcomes:
            return False
        if self.kinds and call.kind not in self.kinds:
            return False
        if self.code and not self._has_code(call.code):
            return False
        user = self.user.lower()
        return user in f"{call.from_user}@{call.from_host}\n{call.to_user}@{call.to_host}".lower()

    def _has_code(self, code: int) -> bool:
        if self.code[1:].lower() == "xx":
            return code // 100 == int(self.code[0])
        return code == int(self.code)

    @property
    def parameters(self) -> dict[str, str | int | list[str]]:
        """The same as parameters of the viewer's list."""
        given: dict[str, str | int | list[str]] = {}
        if self.user:
            given["user"] = self.user
        if self.code:
            given["code"] = self.code
        if self.outcomes:
            given["outcome"] = [*self.outcomes]
        if self.kinds:
            given["kind"] = [*self.kinds]
        return given


@dataclass(slots=True)
class _Store:
    """What a status says of the store."""

    packets: int = 0
    dropped: int = 0
    problem: str = ""


@dataclass(slots=True)
class Status:
    """What the head of the list shows."""

    now: int = 0
    """Time of the viewer, in microseconds since the epoch."""
    rate: float = 0.0
    """Packets per second."""
    calls: int = 0
    """Calls in the store."""
    calls_open: int = 0
    """Calls that go on."""
    connections_open: int = 0
    """Connections that are open."""
    store: _Store = field(default_factory=_Store)
    """Packets that are held, those that were dropped, and why nothing is stored."""


def status_of(data: Any) -> Status:
    """Read a status.

    Raises:
        ValueError: it is none.
    """
    return value_of(Status, data)


@dataclass(slots=True)
class _Changes:
    """The data of an event ``calls``."""

    calls: list[CallSummary]
    more: int = 0


def changes_of(data: Any) -> tuple[list[CallSummary], int]:
    """Read the rows of an event, and how many are not in it.

    Raises:
        ValueError: it has none.
    """
    read = value_of(_Changes, data)
    return read.calls, read.more


class CallList:
    """The latest calls.

    Args:
        wanted: which calls it has.
        most: how many.
    """

    def __init__(self, wanted: Wanted, most: int = MOST_CALLS) -> None:
        self._wanted = wanted
        self._most = most
        self._calls: dict[str, CallSummary] = {}

    def replace(self, calls: Iterable[CallSummary]) -> None:
        """Take the list as it was read."""
        self._calls.clear()
        self.update(calls)

    def update(self, calls: Iterable[CallSummary]) -> None:
        """Take rows that are new or have changed."""
        for call in calls:
            if self._wanted.matches(call):
                self._calls[call.call_id] = call
            else:
                self._calls.pop(call.call_id, None)
        if len(self._calls) > self._most + self._most // 4:
            self._calls = {call.call_id: call for call in self.latest(self._most)}

    def latest(self, count: int) -> list[CallSummary]:
        """The latest calls, by the time of their first message."""
        return nlargest(count, self._calls.values(), key=lambda call: call.first)

    def __len__(self) -> int:
        return len(self._calls)


class Finished:
    """Finds the calls that have finished, each once.

    Args:
        wanted: which calls are reported.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._reported: dict[str, tuple[str, int]] = {}

    def of(self, calls: Iterable[CallSummary]) -> list[CallSummary]:
        """The calls that have finished since they came last, the first one first.

        A call whose outcome changes afterwards is reported again.
        """
        found = []
        for call in calls:
            said = call.outcome, call.code
            if call.outcome == "open" or call.state not in ("ended", "unknown"):
                continue
            if self._wanted.matches(call) and self._reported.get(call.call_id) != said:
                self._reported.pop(call.call_id, None)
                self._reported[call.call_id] = said
                found.append(call)
        while len(self._reported) > MOST_REPORTED:
            del self._reported[next(iter(self._reported))]
        return sorted(found, key=lambda call: (call.ended_at or call.last, call.first))


def duration(call: CallSummary, now: int) -> str:
    """How long a call was answered, or has been; empty if it was not.

    Args:
        call: the call.
        now: time in microseconds since the epoch.
    """
    if not call.answered_at:
        return ""
    seconds = max(0, (call.ended_at or now) - call.answered_at) // MICROSECONDS
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def line(call: CallSummary, today: datetime) -> str:
    """A finished call as a line.

    Args:
        call: the call.
        today: any time of today.
    """
    parts = [
        clock(call.ended_at or call.last, today),
        f"{party(call.from_user, call.from_host)} > {party(call.to_user, call.to_host)}",
        what(call),
        one_line(call.outcome),
        how(call),
        duration(call, call.last),
        one_line(call.call_id),
    ]
    return "  ".join(filter(None, parts))
