"""What operations may cost: recorded counts of instructions, and what has become more. Pure."""

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

TOLERANCE = 0.05
"""Part of its recorded value by which a row may grow. A row counts alike to 0.2 % from run to run,
so that 5 % is a change of the code; several small ones are seen when they add up to it."""


def this_build() -> dict[str, str]:
    """What counts depend on beside the code: equal builds count alike."""
    return {
        "python": sys.version.replace("\n", " "),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "websockets": version("websockets"),
    }


@dataclass(frozen=True)
class Budget:
    """Counts of instructions, and what they were counted with."""

    commit: str
    """The code that was counted."""

    build: Mapping[str, str]
    """See `this_build`."""

    rows: Mapping[str, int]
    """Instructions of an operation, by the row's name."""

    @classmethod
    def read(cls, path: Path) -> "Budget":
        """Read what was recorded."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Record."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass
class Verdict:
    """What a comparison has found; each list holds a line for a row."""

    grown: list[str] = field(default_factory=list)
    """Rows beyond the tolerance."""

    unknown: list[str] = field(default_factory=list)
    """Rows that nothing is recorded of."""

    missing: list[str] = field(default_factory=list)
    """Recorded rows that are not counted any more."""

    shrunk: list[str] = field(default_factory=list)
    """Rows that have become so much cheaper that their recorded value guards nothing."""

    largest: str = ""
    """The row that is the furthest off, within the tolerance or not."""

    @property
    def holds(self) -> bool:
        """Whether the budget is kept. A row that is not compared is a row that may grow."""
        return not (self.grown or self.unknown or self.missing)


def compare(
    recorded: Mapping[str, int], counted: Mapping[str, int], tolerance: float = TOLERANCE
) -> Verdict:
    """Compare counts row by row.

    Args:
        recorded: instructions by row, as they may be.
        counted: the same, as they are.
        tolerance: part of the recorded value by which a row may be off.
    """
    verdict = Verdict()
    furthest = -1.0
    for row, is_now in counted.items():
        if (was := recorded.get(row)) is None:
            verdict.unknown.append(f"{row}: {is_now:,}")
            continue
        line = f"{row}: {was:,} -> {is_now:,} ({is_now / was - 1:+.1%})"
        if abs(is_now / was - 1) > furthest:
            furthest, verdict.largest = abs(is_now / was - 1), line
        if is_now > was * (1 + tolerance):
            verdict.grown.append(line)
        elif is_now < was * (1 - tolerance):
            verdict.shrunk.append(line)
    verdict.missing += [row for row in recorded if row not in counted]
    return verdict


def differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """In what two builds differ, a line for each; counts of different builds are not compared."""
    return [
        f"{name}: recorded with {recorded.get(name)}, here {here.get(name)}"
        for name in sorted({*recorded, *here})
        if recorded.get(name) != here.get(name)
    ]
