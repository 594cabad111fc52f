"""``hep doctor``: show what a collector loses of probes or of a capture."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hep.cli.lint import PROFILES, Finding, Profile, Severity, lint
from hep.cli.probes import Outcome, UnreachableError, new_marker, probes, reach, try_probe
from hep.cli.usage import DONE, FAILED, WrongInputError, destination, packets_in
from hep.errors import HepError
from hep.hep_id import HepId

_PAINT: Final = {Severity.LOST: "31", Severity.ALTERED: "33", Severity.HIDDEN: "33"}
_GOOD: Final = "32"

CAPTURES: Final = (".pcap", ".pcapng", ".cap", ".gz")
"""Suffixes of capture files. A file with another suffix is a sequence of HEP packets."""


def add_parser(commands: Any) -> None:
    """Add the subcommand ``doctor`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "doctor",
        help="show what a collector silently drops or alters",
        description="Probe a collector, or examine the HEP in a capture, and show what known"
        " collectors silently drop, alter or hide. Exit status 1 if the collector cannot be reached"
        " or rejects a plain packet, or if a collector would lose a packet of the capture.",
    )
    parser.add_argument(
        "hep_id", nargs="?", metavar="HEP_ID", help="host[:port][;transport=udp|tcp|tls]"
        "[;version=1|2|3] (default: port 9060, tcp, version 3)",
    )  # fmt: skip
    parser.add_argument(
        "--profile",
        action="append",
        metavar="NAME",
        help=f"collector: {', '.join(PROFILES)} (default: all); may be repeated",
    )
    parser.add_argument(
        "--capture",
        metavar="FILE",
        help="examine the HEP in a pcap or pcapng file, or in a file of HEP packets",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep doctor`` with parsed arguments.

    Returns:
        the exit status: `DONE` or `FAILED`.

    Raises:
        WrongInputError: an argument is wrong, or the file cannot be read.
    """
    if (args.hep_id is None) == (args.capture is None):
        raise WrongInputError("hep doctor needs either a HEP_ID to probe or --capture FILE")
    profiles = _profiles(args.profile or list(PROFILES))
    paint = sys.stdout.isatty() and not args.json
    if args.capture is not None:
        return _examine(args.capture, profiles, args.json, paint)
    return asyncio.run(_probe(destination(args.hep_id), profiles, args.json, paint))


def _profiles(names: Iterable[str]) -> list[Profile]:
    chosen: list[Profile] = []
    for name in names:
        if name not in PROFILES:
            raise WrongInputError(f"--profile {name!r} is not one of {', '.join(PROFILES)}")
        chosen.append(name)
    return chosen


# A collector.


async def _probe(to: HepId, profiles: list[Profile], as_json: bool, paint: bool) -> int:
    try:
        reached = await reach(to)
    except UnreachableError as exc:
        if as_json:
            print(json.dumps({"destination": str(to), "reached": False, "remark": str(exc)}))
        else:
            print(f"{to}\n  {_painted(f'not reached: {exc}', '31', paint)}")
        return FAILED
    marker = new_marker()
    if not as_json:
        print(f"{to}\n  {reached.remark}\n")
    for number, probe in enumerate(probes(to, marker, time.time())):
        outcome = await try_probe(to, probe)
        _print_outcome(outcome, to, profiles, as_json, paint)
        if number == 0 and not outcome.taken:
            # A collector that rejects the plain packet rejects all others.
            return FAILED
    if not as_json:
        print(f"\nLook for the correlation id or Call-ID {marker} in what it stores.")
    return DONE


def _print_outcome(
    outcome: Outcome, to: HepId, profiles: list[Profile], as_json: bool, paint: bool
) -> None:
    by_profile = {each: lint(outcome.probe.data, each, to.transport) for each in profiles}
    if as_json:
        objects = {each: list(map(_as_object, found)) for each, found in by_profile.items()}
        print(
            json.dumps(
                {
                    "destination": str(to),
                    "reached": True,
                    "probe": outcome.probe.property,
                    "taken": outcome.taken,
                    "remark": outcome.remark,
                    "findings": objects,
                }
            ),
            flush=True,
        )
        return
    seen = _painted(outcome.remark, _GOOD if outcome.taken else "31", paint)
    print(f"  {outcome.probe.property:<36} {seen}", flush=True)
    for profile, found in by_profile.items():
        for finding in found:
            _print_finding(f"{profile:<9}", finding, paint)


# A capture.


@dataclass(slots=True)
class _Tally:
    """A finding and the number of packets of a capture that have it."""

    finding: Finding
    count: int = 0
    """Packets with the finding."""
    first: int = 0
    """Number of the first of them, as in `_packets`."""


def _examine(name: str, profiles: list[Profile], as_json: bool, paint: bool) -> int:
    tallies: dict[tuple[Profile, str], _Tally] = {}
    total = 0
    try:
        for number, transport, data in _packets(Path(name)):
            total += 1
            for profile in profiles:
                for finding in lint(data, profile, transport):
                    tally = tallies.setdefault((profile, finding.rule), _Tally(finding, 0, number))
                    tally.count += 1
    except (HepError, OSError) as exc:
        raise WrongInputError(f"{name}: {getattr(exc, 'strerror', None) or exc}") from exc
    if as_json:
        for (profile, _), tally in tallies.items():
            counts = {"profile": profile, "packets": tally.count, "first": tally.first}
            print(json.dumps({**counts, **_as_object(tally.finding)}))
    else:
        _print_tallies(name, total, profiles, tallies, paint)
    lost = any(tally.finding.severity is Severity.LOST for tally in tallies.values())
    return FAILED if lost or not total else DONE


def _print_tallies(
    name: str,
    total: int,
    profiles: list[Profile],
    tallies: dict[tuple[Profile, str], _Tally],
    paint: bool,
) -> None:
    print(f"{name}: {total or 'no'} HEP packet{'s' * (total != 1)}")
    if not total:
        return
    for profile in profiles:
        found = [tally for (owner, _), tally in tallies.items() if owner == profile]
        print(f"\n{PROFILES[profile]}")
        if not found:
            print(f"  {_painted('stores all of it as it is', _GOOD, paint)}")
        for tally in sorted(found, key=lambda tally: list(Severity).index(tally.finding.severity)):
            share = f"{tally.count} of {total}, first {tally.first}"
            _print_finding(share, tally.finding, paint)


def _packets(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """Frame or packet number (from 1), transport and bytes of each packet of a file."""
    if path.suffix in CAPTURES:
        from hep.captures.pcap import Capture  # scapy is slow to import

        with Capture(path) as capture:
            yield from capture.raw_hep()
        return
    found, _ = packets_in(path.read_bytes())
    for number, packet in enumerate(found, 1):
        yield number, "udp", packet


# Both.


def _print_finding(label: str, finding: Finding, paint: bool) -> None:
    severity = _painted(f"{finding.severity:<7}", _PAINT[finding.severity], paint)
    print(f"    {label} {severity} {finding.what}\n{'':<22}{finding.remedy}")


def _as_object(finding: Finding) -> dict[str, str]:
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "what": finding.what,
        "remedy": finding.remedy,
    }


def _painted(text: str, colour: str, paint: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if paint else text
