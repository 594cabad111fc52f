"""``hep doctor --postgres``: send probes, then look in the tables of Homer 7 for what arrived."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hep.cli.homer_probes import EVENTS, LOGS, HomerProbe, in_rounds, risky_probes, safe_probes
from hep.cli.homer_tables_report import Fate, days_with_partitions, diagnose, event_is_forced
from hep.cli.probes import PATIENCE, UnreachableError, new_marker, reach, was_tried
from hep.cli.usage import DONE, FAILED, WrongInputError, print_error
from hep.hep_id import HepId
from hep.sending.senders import SenderSettings, open_sender

if TYPE_CHECKING:
    from hep.cli.homer_tables import Layout, Tables

WAIT: Final = 10.0
"""Seconds to look for the rows of a round. heplify-server's example has ``DBTimer = 4``."""

LONGEST_WAIT: Final = 600.0
"""Seconds that may be asked for."""

POLL: Final = 0.25
"""Seconds between two looks."""

SETTLING: Final = 1.0
"""Seconds to look on, at least, after the last row that is sure to come. With several workers,
heplify-server writes other rows up to a ``DBTimer`` later; then it is the time until that row."""

BEFORE: Final = 120.0
"""Seconds before the time of a packet from which rows are looked for."""

BEHIND: Final = 120.0
"""Seconds behind it, since a collector may replace it by the time of arrival."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``--postgres``."""
    parser.add_argument(
        "--postgres",
        metavar="DSN",
        help="send probes to the collector, and look in the database of Homer 7 for what arrived:"
        " postgresql://USER@HOST/homer_data; the password may be in PGPASSWORD",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help=f"with --postgres: time limit for rows to appear, per round (default: {WAIT:g})",
    )
    parser.add_argument(
        "--destructive",
        action="store_true",
        help="with --postgres: also send packets that make the collector lose packets of others",
    )


def refuse_options(args: argparse.Namespace) -> None:
    """Refuse options of ``--postgres`` without it.

    Raises:
        WrongInputError: there is one.
    """
    for option, given in (("--wait", args.wait is not None), ("--destructive", args.destructive)):
        if given:
            raise WrongInputError(f"{option} needs --postgres DSN")


def run(to: HepId, args: argparse.Namespace) -> int:
    """Run ``hep doctor --postgres``.

    Args:
        to: the collector.
        args: the parsed arguments.

    Returns:
        the exit status: `DONE`, or `FAILED` if packets as sipws sends them are lost, or a query
        fails.

    Raises:
        WrongInputError: an argument or the DSN is wrong, or psycopg is missing.
    """
    if to.version != 3:
        raise WrongInputError(f"--postgres sends version 3, and {to} has version {to.version}")
    if args.profile:
        raise WrongInputError("--profile has no effect with --postgres; leave it out")
    wait = WAIT if args.wait is None else args.wait
    if not 0 < wait <= LONGEST_WAIT:
        raise WrongInputError(f"--wait {wait:g} is not between 0 and {LONGEST_WAIT:g} seconds")
    try:
        from hep.cli.homer_tables import Tables, TablesError, WrongDatabaseError
    except ImportError as exc:
        raise WrongInputError(
            f"--postgres needs psycopg ({exc}); run pip install 'sipws[postgres]'"
        ) from exc

    async def work() -> int:
        tables = await Tables.connect(args.postgres)
        try:
            report = _Report(to, args.json, sys.stdout.isatty() and not args.json)
            return await _Doctor(to, tables, report, wait, args.destructive).work()
        finally:
            await tables.aclose()

    try:
        return asyncio.run(work())
    except WrongDatabaseError as exc:
        raise WrongInputError(str(exc)) from exc
    except TablesError as exc:
        print_error("hep", str(exc))
        return FAILED


class _Doctor:
    """Sends probes in rounds, and looks for their rows."""

    def __init__(
        self, to: HepId, tables: "Tables", report: "_Report", wait: float, destructive: bool
    ) -> None:
        self._to = to
        self._tables = tables
        self._report = report
        self._wait = wait
        self._destructive = destructive

    async def work(self) -> int:
        layout = await self._tables.layout()
        try:
            self._report.begin((await reach(self._to)).remark, layout)
        except UnreachableError as exc:
            self._report.unreached(str(exc))
            return FAILED
        now = time.time()
        marker = new_marker()
        safe = safe_probes(marker, now)
        # Apart from events, since these restart the timer of the collector.
        fates = await self._round([each for each in safe if each.table != EVENTS], layout)
        fates += await self._round([each for each in safe if each.table == EVENTS], layout)
        forced = event_is_forced(fates)
        days = days_with_partitions(layout.tables, LOGS, now)
        risky = list(
            risky_probes(
                f"{marker}-r", now, forced=forced, udp=self._to.transport == "udp", days=days
            )
        )
        fates += await self._round([probe for probe in risky if not probe.risk], layout)
        left_out = [probe for probe in risky if probe.risk]
        if self._destructive:
            for probes in in_rounds(left_out):
                fates += await self._round(probes, layout)
        else:
            self._report.left_out(left_out)
        diagnosis = diagnose(fates, layout.tables, now, layout.now)
        self._report.end(diagnosis.settings, diagnosis.remarks, diagnosis.faults, diagnosis.advice)
        return FAILED if diagnosis.faults else DONE

    async def _round(self, probes: Sequence[HomerProbe], layout: "Layout") -> list[Fate]:
        """Send probes, then be silent until their rows are there: each event delays a batch."""
        fates = [Fate(probe) for probe in probes]
        if not fates:
            return fates
        if (problem := await _send(self._to, probes)) is not None:
            self._report.remark(problem)
        loop = asyncio.get_running_loop()
        sent = last = loop.time()
        while True:
            if await self._look(fates, layout, sent):
                last = loop.time()
            open_ones = [fate for fate in fates if fate.row is None]
            # Those that PostgreSQL refuses are waited for as long as others, or longer.
            sure = [fate for fate in open_ones if fate.probe.usual or fate.probe.risk]
            waited = loop.time() - sent
            settled = loop.time() - last > max(SETTLING, last - sent)
            if not open_ones or waited >= self._wait or (not sure and settled):
                break
            await asyncio.sleep(min(POLL, self._wait - waited))
        for fate in fates:
            self._report.fate(fate)
        return fates

    async def _look(self, fates: Sequence[Fate], layout: "Layout", sent: float) -> bool:
        """Look once in each table; returns whether a row was found."""
        looked_for = [fate for fate in fates if fate.row is None and fate.probe.sids]
        by_sid = {sid: fate for fate in looked_for for sid in fate.probe.sids}
        by_table: dict[str, list[Fate]] = {}
        for fate in looked_for:
            by_table.setdefault(fate.probe.table, []).append(fate)
        found = False
        for table, expected in by_table.items():
            if table not in layout.tables:
                continue
            times = {fate.probe.seconds // BEFORE: fate.probe.seconds for fate in expected}
            ranges = [(each - BEFORE, each + BEHIND + self._wait) for each in times.values()]
            sids = [sid for fate in expected for sid in fate.probe.sids]
            for row in await self._tables.find(table, sids, ranges):
                fate = by_sid[row.sid]
                if fate.row is None:
                    fate.row, fate.delay = row, asyncio.get_running_loop().time() - sent
                    found = True
        return found


async def _send(to: HepId, probes: Sequence[HomerProbe]) -> str | None:
    """Send probes over one connection; returns what went wrong."""
    settings = SenderSettings(connect_timeout=PATIENCE, retry_first=PATIENCE)
    async with open_sender(to, settings) as sender:
        for probe in probes:
            sender.send(probe.data)
        if not await was_tried(sender):
            return f"not accepted within {PATIENCE:g} s"
        if sender.failures or sender.counters.dropped:
            return f"not all probes were sent: {sender.last_error or dict(sender.counters.dropped)}"
    return None


class _Report:
    """Prints what was found, as lines or as JSON."""

    def __init__(self, to: HepId, as_json: bool, paint: bool) -> None:
        self._to = str(to)
        self._json = as_json
        self._paint = paint

    def begin(self, remark: str, layout: "Layout") -> None:
        if self._json:
            return
        print(f"{self._to}\n  {remark}")
        print(
            f"  database {layout.database}, PostgreSQL {layout.version},"
            f" {len(layout.tables)} tables\n"
        )

    def unreached(self, why: str) -> None:
        if self._json:
            self._object(reached=False, remark=why)
        else:
            print(f"{self._to}\n  {self._painted(f'not reached: {why}', '31')}")

    def remark(self, text: str) -> None:
        if self._json:
            self._object(reached=True, remark=text)
        else:
            print(f"  {self._painted(text, '31')}")

    def fate(self, fate: Fate) -> None:
        if self._json:
            self._object(reached=True, **fate.as_object())
            return
        if fate.row is None:
            said = self._painted("not stored", "31" if fate.probe.usual else "33")
        else:
            said = self._painted(fate.row.table, "32") + f" after {fate.delay:.1f} s"
        print(f"  {fate.probe.name:<44} {said}", flush=True)
        for text in fate.altered:
            print(f"    {self._painted('altered', '33')} {text}")
        if fate.row is None and fate.probe.if_lost:
            print(f"            {fate.probe.if_lost}")

    def left_out(self, probes: Sequence[HomerProbe]) -> None:
        if self._json:
            for probe in probes:
                self._object(reached=True, probe=probe.name, sent=False, remark=probe.risk)
            return
        if probes:
            print(
                "\nNot sent, because PostgreSQL may refuse them together with packets of others\n"
                "(--destructive sends them):"
            )
        for probe in probes:
            print(f"  {probe.name:<44} {probe.risk}")

    def end(
        self,
        settings: dict[str, Any],
        remarks: Sequence[str],
        faults: Sequence[str],
        advice: Sequence[str],
    ) -> None:
        if self._json:
            self._object(settings=settings, faults=list(faults), advice=list(advice))
            return
        print("\nSettings of the collector, as far as they show:")
        for text in remarks:
            print(f"  {text}")
        if faults or advice:
            print("\nTo change:")
        for text in faults:
            print(f"  {self._painted('lost', '31')}  {text}")
        for text in advice:
            print(f"        {text}")

    def _object(self, **members: Any) -> None:
        print(json.dumps({"destination": self._to, **members}), flush=True)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._paint else text
