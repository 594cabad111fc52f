"""``hep doctor``: show what a collector loses of probes, of a capture or of a stream."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

from hep.cli import homer_tables_run
from hep.cli.doctor_capture import examine
from hep.cli.doctor_listen import listen
from hep.cli.doctor_report import (
    BAD,
    GOOD,
    Examination,
    as_objects,
    painted,
    print_finding,
)
from hep.cli.lint import PROFILES, Profile, lint
from hep.cli.probes import Outcome, UnreachableError, new_marker, probes, reach, try_probe
from hep.cli.usage import DONE, FAILED, WrongInputError, destination
from hep.hep_id import HepId


def add_parser(commands: Any) -> None:
    """Add the subcommand ``doctor`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "doctor",
        help="show what a collector silently drops or alters",
        description="Probe a collector, examine the HEP in a capture, or examine what senders send"
        " now, and show what known collectors silently drop, alter or hide. Exit status 1 if the"
        " collector cannot be reached or rejects a plain packet, or if a collector would lose a"
        " packet of the capture or of the senders.",
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
    parser.add_argument(
        "--now",
        action="store_true",
        help="with --capture: examine the packets as if they arrived now, as after hep replay",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT[;transport=udp|tcp|tls]",
        help="be the collector and examine what arrives, until Ctrl-C (default: udp and tcp)",
    )
    parser.add_argument("--count", type=int, metavar="N", help="with --listen: end after N packets")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="with --listen: end after S seconds"
    )
    parser.add_argument("--tls-certificate", metavar="FILE", help="with --listen: PEM certificate")
    parser.add_argument(
        "--tls-key", metavar="FILE", help="its private key, unless that file holds it"
    )
    parser.add_argument(
        "--force-hep-payload",
        choices=("yes", "no"),
        help="whether heplify-server has ForceHEPPayload = [89] (default: examine both)",
    )
    homer_tables_run.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep doctor`` with parsed arguments.

    Returns:
        the exit status: `DONE` or `FAILED`.

    Raises:
        WrongInputError: an argument is wrong, or the file cannot be read.
    """
    subjects = (args.hep_id, args.capture, args.listen)
    if sum(each is not None for each in subjects) != 1:
        raise WrongInputError(
            "hep doctor needs one of a HEP_ID to probe, --capture FILE and --listen HOST:PORT"
        )
    _check_options(args)
    if args.postgres is not None:
        if args.hep_id is None:
            raise WrongInputError("--postgres needs the HEP_ID of the collector to probe")
        return homer_tables_run.run(destination(args.hep_id), args)
    homer_tables_run.refuse_options(args)
    profiles = _profiles(args.profile or list(PROFILES))
    forced = {"yes": True, "no": False, None: None}[args.force_hep_payload]
    paint = sys.stdout.isatty() and not args.json
    if args.capture is not None:
        return examine(args.capture, Examination(profiles, forced), args.now, args.json, paint)
    if args.listen is not None:
        return listen(args, Examination(profiles, forced), paint)
    return asyncio.run(_probe(destination(args.hep_id), profiles, forced, args.json, paint))


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that have no effect on what is examined."""
    needs = {"--now": ("--capture", args.capture)}
    for option in ("--count", "--seconds", "--tls-certificate", "--tls-key"):
        needs[option] = ("--listen", args.listen)
    for option, (other, value) in needs.items():
        if getattr(args, option[2:].replace("-", "_")) and value is None:
            raise WrongInputError(f"{option} needs {other}")


def _profiles(names: Iterable[str]) -> list[Profile]:
    chosen: list[Profile] = []
    for name in names:
        if name not in PROFILES:
            raise WrongInputError(f"--profile {name!r} is not one of {', '.join(PROFILES)}")
        if name not in chosen:
            chosen.append(name)
    return chosen


async def _probe(
    to: HepId, profiles: list[Profile], forced: bool | None, as_json: bool, paint: bool
) -> int:
    try:
        reached = await reach(to)
    except UnreachableError as exc:
        if as_json:
            print(json.dumps({"destination": str(to), "reached": False, "remark": str(exc)}))
        else:
            print(f"{to}\n  {painted(f'not reached: {exc}', BAD, paint)}")
        return FAILED
    marker = new_marker()
    if not as_json:
        print(f"{to}\n  {reached.remark}\n")
    for number, probe in enumerate(probes(to, marker, time.time())):
        outcome = await try_probe(to, probe)
        _print_outcome(outcome, to, profiles, forced, as_json, paint)
        if number == 0 and not outcome.taken:
            # A collector that rejects the plain packet rejects all others.
            return FAILED
    if not as_json:
        print(f"\nLook for the correlation id or Call-ID {marker} in what it stores.")
    return DONE


def _print_outcome(
    outcome: Outcome,
    to: HepId,
    profiles: list[Profile],
    forced: bool | None,
    as_json: bool,
    paint: bool,
) -> None:
    now = time.time()
    by_profile = {
        each: lint(outcome.probe.data, each, to.transport, now=now, forced=forced)
        for each in profiles
    }
    if as_json:
        objects = {each: as_objects(found) for each, found in by_profile.items()}
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
    seen = painted(outcome.remark, GOOD if outcome.taken else BAD, paint)
    print(f"  {outcome.probe.property:<36} {seen}", flush=True)
    for profile, found in by_profile.items():
        for finding in found:
            print_finding(f"{profile:<9}", finding, paint)
