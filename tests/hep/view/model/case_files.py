"""Reads the calls in tests/data/view/calls; its README describes the format."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hep.view.model.record import Kind, Record, read_sip
from hep.view.model.summary import ConnectionSummary

CALLS = Path(__file__).parents[3] / "data" / "view" / "calls"
START = 1_700_000_000_000_000
_MESSAGE = re.compile(r"(?m)^@ ([0-9.]+) (\S+) > (\S+)(?: (event|log))?\n")
_KINDS = {None: Kind.SIP, "event": Kind.EVENT, "log": Kind.LOG}


@dataclass
class Case:
    """A call with what must be said of it."""

    name: str
    text: str
    outcome: str
    listed: str
    state: str
    notes: list[str] = field(default_factory=list)
    after: float | None = None
    connections: list[ConnectionSummary] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def now(self) -> int:
        """The time at which it is looked at."""
        if self.after is not None:
            return microseconds(self.after)
        return max(record.at for record in self.records)


def microseconds(seconds: float) -> int:
    return START + round(seconds * 1_000_000)


def read(path: Path) -> Case:
    head, *rest = _MESSAGE.split(path.read_text(encoding="utf-8"))
    lines = [line for line in head.splitlines() if line and not line.startswith("#")]
    pairs = [line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines]
    single = {name: value for name, value in pairs if name not in ("note", "connection")}
    case = Case(
        path.stem, single["text"], single["outcome"], single["list"], single["state"],
        [value for name, value in pairs if name == "note"],
        float(single["now"]) if "now" in single else None,
        [connection(json.loads(value)) for name, value in pairs if name == "connection"],
    )  # fmt: skip
    for at, src, dst, kind, text in zip(*[iter(rest)] * 5, strict=True):
        payload = _message(text) if kind is None else text.rstrip("\n").encode()
        sip = read_sip(payload) if kind is None else None
        assert kind is not None or sip is not None, f"{path.name}: not SIP at {at}"
        record = Record(microseconds(float(at)), _KINDS[kind], src, dst, payload, sip=sip)
        case.records.append(record)
    return case


def _message(text: str) -> bytes:
    head, _, body = text.strip("\n").partition("\n\n")
    return (head + "\n\n" + (body + "\n" if body else "")).replace("\n", "\r\n").encode()


def connection(values: dict[str, Any]) -> ConnectionSummary:
    """A connection whose times are in seconds, as in a file."""
    for name in ("since", "until", "last"):
        if name in values:
            values[name] = microseconds(values[name])
    return ConnectionSummary(**values)


def cases() -> list[Case]:
    return [read(path) for path in sorted(CALLS.glob("*.call"))]
