"""The files for homer-app that come with sipws: JSON, as its API takes it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

Json = dict[str, Any]
"""A JSON object."""

SipCorrelation = Literal["connection", "call"]
"""Correlation id of the SIP packets, as in the setting ``trace_sip_correlation``."""

MAPPING: Final = "mapping-websocket.json"
"""The mapping of network events: HEP id 35, profile ``default``."""

DASHBOARD: Final = "dashboard.json"
"""The dashboard: a search form for network events and a table of results."""

LOOKUPS: Final = "lookups.json"
"""The lookups of each mapping, for both values of ``trace_sip_correlation``."""

NAMES: Final = (MAPPING, DASHBOARD, LOOKUPS)
"""All files."""


@dataclass(frozen=True, slots=True)
class MappingLookups:
    """What one mapping gets in ``correlation_mapping``."""

    hepid: int
    """HEP id of the mapping."""
    profile: str
    """Its profile."""
    add: tuple[Json, ...]
    """Lookups that are added, marked as those of sipws."""
    widen: tuple[Json, ...]
    """Lookups of Homer that get at least this range; added if they are missing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What homer-app is to have."""

    mapping: Json
    """The mapping of network events. Its lookups are in `lookups`."""
    dashboard: Json
    """The dashboard."""
    lookups: tuple[MappingLookups, ...]
    """The lookups of each mapping, that of network events included."""

    def lookups_of(self, hepid: int, profile: str) -> MappingLookups:
        """Return what a mapping gets, which may be nothing."""
        for each in self.lookups:
            if (each.hepid, each.profile) == (hepid, profile):
                return each
        return MappingLookups(hepid, profile, (), ())


def text(name: str) -> str:
    """Read one of the files in `NAMES`."""
    return files("sipws.homer").joinpath(name).read_text("utf-8")


def wanted(correlation: SipCorrelation = "connection") -> Wanted:
    """Read all files.

    Args:
        correlation: the value of ``trace_sip_correlation`` that the lookups are for.
    """
    lookups = tuple(
        MappingLookups(each["hepid"], each["profile"], tuple(each["add"]), tuple(each["widen"]))
        for each in json.loads(text(LOOKUPS))[correlation]
    )
    return Wanted(json.loads(text(MAPPING)), json.loads(text(DASHBOARD)), lookups)


def write(directory: Path) -> Iterator[Path]:
    """Write all files into a directory, which is created if it is missing.

    Yields:
        the path of each file that was written.

    Raises:
        OSError: a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        path = directory / name
        path.write_text(text(name), "utf-8")
        yield path
