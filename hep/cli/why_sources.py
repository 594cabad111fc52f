"""Where ``hep why`` looks for a call: in a store, in captures, or in a running viewer."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from hep.cli.json_values import value_of
from hep.cli.usage import WrongInputError
from hep.cli.view_client import NotFoundError, ViewClient
from hep.errors import HepError
from hep.view.export import export
from hep.view.files import CaptureReading
from hep.view.model.picture import Ladder, Party, Step, Verdict
from hep.view.model.record import record_of
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.parts import MOST_RECORDS, parts_of_call
from hep.view.store.keep import Keep
from hep.view.store.query import ConnectionFilter, Found
from hep.view.store.segment import StoreError
from hep.view.store.store import Store
from hep.view.store.store_reader import StoreReader

T = TypeVar("T")

MOST_FOUND: Final = 100
"""Calls, and connections, that a search finds."""

MOST_REFUSED: Final = 1000
"""Refused handshakes that are counted."""

MOST_IN_MEMORY: Final = 2 << 30
"""Bytes of captures that are held in memory. Of larger ones the last part is searched."""

AT_ONCE: Final = 2_000
"""Packets of a capture that are stored at once."""

_ATTEMPTS: Final = 3
"""A segment may be removed, and another one created, while the folder is read."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What is searched. Times are microseconds since the epoch, 0 without a packet."""

    packets: int
    """Packets in it."""
    oldest: int
    """Time of the oldest one."""
    newest: int
    """Time of the newest one."""


@dataclass(slots=True)
class ShownMessage:
    """A packet of a call, without credentials."""

    at: int
    """Time in microseconds since the epoch."""
    kind: str
    """``SIP``, ``EVENT``, ``LOG`` or ``OTHER``."""
    src: str
    """Source address."""
    dst: str
    """Destination address."""
    text: str
    """The payload."""


@dataclass(slots=True)
class ShownCall:
    """A call as it is exported, without credentials."""

    call: CallSummary
    """Its row."""
    verdict: Verdict
    """What became of it."""
    ladder: Ladder
    """Its picture."""
    messages: list[ShownMessage]
    """Its packets."""
    missing: int
    """Its messages that were not read, because there are too many."""
    document: Any
    """All of it, as `hep.view.export.as_json` describes it."""


class Source(Protocol):
    """Something that is searched."""

    @property
    def where(self) -> str:
        """What it is, for messages."""

    def extent(self) -> Extent:
        """How much it holds."""

    def search(self, text: str) -> Found:
        """Find calls and connections."""

    def call(self, call_id: str, *, anonymous: bool) -> ShownCall | None:
        """Read a call; None if there is none (any more)."""

    def refused(self, address: str, since: int) -> list[ConnectionSummary]:
        """Refused and failed handshakes of an address, the latest first."""


@dataclass(slots=True)
class _Document:
    """The members of an exported call."""

    call: CallSummary
    verdict: Verdict
    parties: list[Party]
    steps: list[Step]
    messages: list[ShownMessage]
    left_out: int = 0


def shown_call(document: Any) -> ShownCall:
    """Read an exported call.

    Args:
        document: see `hep.view.export.as_json`.

    Raises:
        ValueError: it is none.
    """
    read = value_of(_Document, document)
    for step in read.steps:
        if not (0 <= step.source < len(read.parties) and 0 <= step.destination < len(read.parties)):
            raise ValueError(f"a message is between the parties {step.source}, {step.destination}")
    sip = sum(message.kind == "SIP" for message in read.messages)
    missing = max(0, read.call.messages - sip) if len(read.messages) >= MOST_RECORDS else 0
    return ShownCall(
        read.call,
        read.verdict,
        Ladder(read.parties, read.steps, read.left_out),
        read.messages,
        missing,
        document,
    )


class StoreSource:
    """A store, on disk or in memory.

    Args:
        reader: of the store.
        where: what it is, for messages.
    """

    def __init__(self, reader: StoreReader, where: str) -> None:
        self._reader = reader
        self.where = where

    def extent(self) -> Extent:
        """How much it holds."""
        return Extent(*self._reader.extent())

    def search(self, text: str) -> Found:
        """Find calls and connections."""
        return self._reader.search(text, MOST_FOUND)

    def call(self, call_id: str, *, anonymous: bool) -> ShownCall | None:
        """Read a call."""
        parts = parts_of_call(self._reader, call_id, time.time_ns() // 1000)
        if parts is None:
            return None
        written = export(
            parts.call, parts.verdict, parts.ladder, parts.records, "json", anonymous=anonymous
        )
        return shown_call(json.loads(written))

    def refused(self, address: str, since: int) -> list[ConnectionSummary]:
        """Refused and failed handshakes of an address."""
        wanted = ConnectionFilter(since=since, states=("refused", "failed"), address=address)
        return self._reader.connections(wanted, MOST_REFUSED).rows


class ViewerSource:
    """A running viewer.

    Args:
        client: asks it.
    """

    def __init__(self, client: ViewClient) -> None:
        self._client = client
        self.where = f"the viewer at {client.url}"

    def extent(self) -> Extent:
        """How much it holds."""
        status = self._client.get("status")
        return self._read(Extent, status.get("store") if isinstance(status, dict) else None)

    def search(self, text: str) -> Found:
        """Find calls and connections."""
        return self._read(Found, self._client.get("search", {"q": text, "limit": MOST_FOUND}))

    def call(self, call_id: str, *, anonymous: bool) -> ShownCall | None:
        """Read a call."""
        parameters: dict[str, str | int | list[str]] = {"id": call_id, "format": "json"}
        if anonymous:
            parameters["anonymous"] = 1
        try:
            document = self._client.get("call/export", parameters)
        except NotFoundError:
            return None
        try:
            return shown_call(document)
        except ValueError as exc:
            raise self._client.strange() from exc

    def refused(self, address: str, since: int) -> list[ConnectionSummary]:
        """Refused and failed handshakes of an address."""
        answer = self._client.get(
            "connections",
            {
                "state": ["refused", "failed"],
                "address": address,
                "since": since,
                "limit": MOST_REFUSED,
            },
        )
        return self._read(_Connections, answer).connections

    def _read(self, kind: type[T], data: Any) -> T:
        try:
            return value_of(kind, data)
        except ValueError as exc:
            raise self._client.strange() from exc


@dataclass(slots=True)
class _Connections:
    """The answer to ``connections``."""

    connections: list[ConnectionSummary]


def store_on_disk(path: Path) -> StoreSource:
    """Open the store of a folder, also while a ``hep view`` writes to it.

    Raises:
        WrongInputError: there is none, or it cannot be read.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise WrongInputError(f"--store {path} {what}: name the folder of hep view --store")
    for attempt in range(_ATTEMPTS):
        try:
            return StoreSource(StoreReader.of(path), f"the store {path}")
        except StoreError as exc:
            if attempt == _ATTEMPTS - 1:
                raise WrongInputError(str(exc)) from exc
    raise AssertionError


def captures(names: Sequence[str], note: Callable[[str], object]) -> StoreSource:
    """Read captures and files of HEP packets.

    Args:
        names: of the files; ``-`` is the standard input.
        note: called with what was not read.

    Raises:
        WrongInputError: a file cannot be read, or scapy is missing.
    """
    try:
        readings = [CaptureReading(name) for name in names]
    except HepError as exc:
        raise WrongInputError(str(exc)) from exc
    store = Store(None, Keep(bytes=MOST_IN_MEMORY))
    for reading in readings:
        packets, now = reading.read(), time.time()
        while batch := [record_of(packet, now) for packet in islice(packets, AT_ONCE)]:
            store.add(batch)
        if reading.problem and not reading.packets:
            problem = reading.problem
            if "needs scapy" not in problem:
                problem = f"there are no packets in it: {problem}"
            raise WrongInputError(_named(reading.name, problem))
        if reading.problem:
            note(_named(reading.name, reading.problem))
    held = store.status()
    if held.packets < store.stored:
        note(
            f"the last {held.packets} of {store.stored} packets are searched, the others are too"
            " many for the memory; read them with hep view --store DIR"
        )
    return StoreSource(store, _listed(names))


def _named(name: str, problem: str) -> str:
    return problem if problem.startswith(name) else f"{name}: {problem}"


def _listed(names: Sequence[str]) -> str:
    shown = ["the standard input" if name == "-" else name for name in names[:3]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} files more")
    return ", ".join(shown)
