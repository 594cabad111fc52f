"""Counts and prints what ``hep doctor`` finds."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from hep.cli import lint_homer7
from hep.cli.lint import PROFILES, Profile, lint, lint_fates
from hep.cli.lint_finding import Finding, Severity, worst_first
from hep.homer.fate import Fate

_PAINT: Final = {Severity.LOST: "31", Severity.ALTERED: "33", Severity.HIDDEN: "33"}
GOOD: Final = "32"
"""Colour of what is stored as it is."""
BAD: Final = "31"
"""Colour of failures."""

_INDENT: Final = " " * 22

STREAM: Final = "stream"
"""Label of findings about the senders of a stream, whatever the collector."""

_TITLES: Final = {STREAM: "The senders", **{str(name): text for name, text in PROFILES.items()}}


@dataclass(slots=True)
class Tally:
    """A finding and the number of packets that have it."""

    label: str
    """The profile, or `STREAM`."""
    finding: Finding
    """The finding, with the details of the first packet."""
    first: int
    """Number of the first packet."""
    count: int = 0
    """Packets with the finding."""


@dataclass(slots=True)
class Totals:
    """What Homer 7 would do with all packets."""

    stored: Counter[str] = field(default_factory=Counter)
    """Packets by table."""
    lost: int = 0
    """Packets that are not stored."""
    with_batch: int = 0
    """Those of them that lose the batch of their table too."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Lost packets by rule; a packet may have several."""

    def add(self, fate: Fate) -> None:
        """Count a packet."""
        if fate.table is not None:
            self.stored[fate.table] += 1
            return
        self.lost += 1
        self.with_batch += fate.poisons
        self.reasons.update(each.rule for each in fate.lost)

    def lines(self) -> list[str]:
        """The totals for users."""
        stored = self.stored.total()
        tables = ", ".join(f"{count} in {name}" for name, count in self.stored.most_common())
        lines = [f"would be stored: {stored}" + (f" ({tables})" if stored else "")]
        if not self.lost:
            return [*lines, "would be lost: none"]
        reasons = ", ".join(f"{count} {rule}" for rule, count in self.reasons.most_common())
        lines.append(f"would be lost: {self.lost} ({reasons})")
        if self.with_batch:
            lines.append(
                f"{self.with_batch} of them would take a batch with"
                f" {'it' if self.with_batch == 1 else 'them'}: rows of other packets for the same"
                " table that heplify-server writes at the same time"
            )
        return lines

    def as_object(self) -> dict[str, Any]:
        """The totals for programs."""
        return {
            "stored": dict(self.stored),
            "lost": self.lost,
            "lost_with_batch": self.with_batch,
            "reasons": dict(self.reasons),
        }


class Examination:
    """Examines packets one by one and counts the findings.

    Args:
        profiles: the collectors.
        forced: whether heplify-server has ``ForceHEPPayload = [89]``; None examines both.
    """

    def __init__(self, profiles: list[Profile], forced: bool | None) -> None:
        self.total = 0
        """Packets so far."""
        self.tallies: dict[tuple[str, str, str | None, str | None], Tally] = {}
        """Findings by label, rule, setting and batch."""
        self.totals: dict[str | None, Totals] = {}
        """Totals of Homer 7 by setting; None is the key if they do not depend on it."""
        self.profiles = profiles
        """The collectors."""
        self._forced = forced
        if "homer7" in profiles:
            both = (lint_homer7.NOT_FORCED, lint_homer7.FORCED)
            self.totals = {key: Totals() for key in (both if forced is None else (None,))}

    @property
    def has_losses(self) -> bool:
        """Whether a collector would lose a packet."""
        return any(each.finding.severity is Severity.LOST for each in self.tallies.values())

    def has_section(self, label: str) -> bool:
        """Whether findings with this label belong in the report."""
        return label == STREAM or label in self.profiles

    def add(
        self, data: bytes, transport: str, number: int, now: float | None
    ) -> tuple[list[Tally], lint_homer7.Fates]:
        """Examine a packet.

        Args:
            data: the packet as sent.
            transport: ``udp``, ``tcp`` or ``tls``.
            number: number of the packet for users.
            now: time of arrival in seconds since the epoch; None if it is not known.

        Returns:
            the tallies of its findings, worst first, and its fates in Homer 7.
        """
        self.total += 1
        fates = lint_homer7.fates(data, transport, now)
        for key, totals in self.totals.items():
            forced = self._forced if key is None else key == lint_homer7.FORCED
            totals.add(fates.forced if forced else fates.default)
        found = []
        for profile in self.profiles:
            if profile == "homer7":
                listed = lint_fates(data, fates, transport, self._forced)
            else:
                listed = lint(data, profile, transport)
            found += [self.note(profile, finding, number) for finding in listed]
        return found, fates

    def note(self, label: str, finding: Finding, number: int) -> Tally:
        """Count a finding.

        Args:
            label: a profile, or `STREAM`.
            finding: the finding.
            number: number of the packet that has it.
        """
        key = label, finding.rule, finding.setting, finding.batch
        tally = self.tallies.setdefault(key, Tally(label, finding, number))
        tally.count += 1
        return tally

    def print_report(self, as_json: bool, paint: bool) -> None:
        """Print findings and totals, for users or for programs."""
        if as_json:
            for tally in self.tallies.values():
                counts = {"profile": tally.label, "packets": tally.count, "first": tally.first}
                print(json.dumps({**counts, **as_object(tally.finding)}))
            for setting, totals in self.totals.items():
                object_ = {"profile": "homer7", "setting": setting, "totals": totals.as_object()}
                print(json.dumps(object_))
            return
        for label in (*self.profiles, STREAM):
            self._print_section(label, paint)

    def _print_section(self, label: str, paint: bool) -> None:
        tallies = {id(each.finding): each for each in self.tallies.values() if each.label == label}
        if label == STREAM and not tallies:
            return
        print(f"\n{_TITLES[label]}")
        if not tallies:
            print(f"  {painted('stores all of it as it is', GOOD, paint)}")
        for finding in worst_first([each.finding for each in tallies.values()]):
            tally = tallies[id(finding)]
            share = f"{tally.count} of {self.total}, first {tally.first}"
            print_finding(share, finding, paint)
        if label == "homer7":
            self._print_totals()

    def _print_totals(self) -> None:
        first, *others = self.totals.items()
        for line in first[1].lines():
            print(f"  {line}")
        for setting, totals in others:
            if totals != first[1]:
                print(f"  with {setting}:")
                for line in totals.lines():
                    print(f"    {line}")


def print_finding(label: str, finding: Finding, paint: bool) -> None:
    """Print a finding with its remedy."""
    severity = painted(f"{finding.severity:<7}", _PAINT[finding.severity], paint)
    print(f"    {label} {severity} {finding.in_words} ({finding.rule})")
    if finding.batch is not None:
        print(f"{_INDENT}the other rows of its batch for {finding.batch} are lost with it")
    print(f"{_INDENT}{finding.remedy}")


def as_object(finding: Finding) -> dict[str, Any]:
    """A finding for programs."""
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "what": finding.what,
        "remedy": finding.remedy,
        "batch": finding.batch,
        "setting": finding.setting,
    }


def as_objects(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings for programs."""
    return [as_object(each) for each in findings]


def painted(text: str, colour: str, paint: bool) -> str:
    """A text in a colour, if ``paint``."""
    return f"\x1b[{colour}m{text}\x1b[0m" if paint else text
