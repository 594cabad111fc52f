"""A finding of `hep.cli.lint`."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Effect of a finding, worst first."""

    LOST = "lost"
    """The collector does not store the packet or its payload."""
    ALTERED = "altered"
    """The collector stores the packet with a wrong or missing value."""
    HIDDEN = "hidden"
    """The collector stores the packet, but shows or finds it only after additional configuration,
    or loses it with a setting that is off by default."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a collector loses, alters or hides of a packet."""

    rule: str
    """Stable identifier of the rule, for scripts."""
    severity: Severity
    """The effect."""
    what: str
    """The problem, for users."""
    remedy: str
    """The change at the sender or the collector that avoids it, for users."""
    batch: str | None = None
    """The table whose current batch of rows is lost with the packet; None if nothing else is."""
    setting: str | None = None
    """The setting of the collector with which the finding holds; None for every setting."""

    @property
    def in_words(self) -> str:
        """The problem with the setting on which it depends, for users."""
        return self.what if self.setting is None else f"with {self.setting}: {self.what}"


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Sort findings by severity; those that lose other packets come first."""
    order = list(Severity)
    return sorted(findings, key=lambda each: (order.index(each.severity), each.batch is None))
