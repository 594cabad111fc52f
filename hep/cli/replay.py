"""``hep replay``: send the SIP and HEP of a capture to a collector."""

import argparse
import asyncio
import math
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from hep.captures.pcap import Capture, Captured, losses, skipped
from hep.cli import filters
from hep.cli.feed import Feed
from hep.cli.filters import Filter
from hep.cli.usage import DONE, FAILED, WrongInputError, destination, on_signals, print_error
from hep.codec.correlation import call_of
from hep.codec.packet import Packet
from hep.errors import HepEncodeError, HepError
from hep.hep_id import HepId
from hep.sending.outbox import Outbox
from hep.sending.reasons import EXPECTS_TLS
from hep.sending.senders import Sender, open_sender

MOST_WAITING: Final = 200
"""Maximum number of packets queued in the sender. Enough for one large write, and far below the
limit of the queue, which drops packets beyond it."""

POLL_INTERVAL: Final = 0.001
"""Seconds between two checks of a queue that has reached `MOST_WAITING`."""

PATIENCE: Final = 10.0
"""Seconds without progress after which the replay ends. A restart of a collector takes less."""

UDP_RATE: Final = 1000.0
"""Default rate over UDP in packets per second. UDP does not report lost datagrams, and the socket
buffer of a collector holds a few hundred."""

CAPTURE_ID: Final = 1
"""Default capture agent id of SIP, as in OpenSIPS (proto_hep parameter ``hep_capture_id``)."""

UNFIT: Final = "unfit"
"""Counter: packets that cannot be encoded in the HEP version of the destination."""

FILTERED: Final = "filtered out"
"""Counter: packets that do not meet the filters."""

INTERRUPTED: Final = "interrupted"

DRAIN: Final = 1.0
"""Seconds for which a pipe is read on after the first Ctrl-C; a second one ends the command."""

BAR_INTERVAL: Final = 0.1
"""Seconds between two updates of the progress bar."""

BAR_WIDTH: Final = 30
"""Maximum width of the bar in columns, without the text."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Schedule of the packets. Without ``rate`` and ``realtime`` there are no pauses."""

    rate: float | None = None
    """Packets per second, more than 0."""
    realtime: bool = False
    """Whether to keep the pauses of the capture."""

    def due(self, number: int, elapsed: float) -> float:
        """The time to send a packet, in seconds after the first one, from 0. Pure.

        Args:
            number: index of the packet, from 0.
            elapsed: seconds between the capture times of the first packet and this one. Negative in
                a merged capture that goes back in time; the packet is then sent at once.
        """
        if self.realtime:
            return max(0.0, elapsed)
        return number / self.rate if self.rate is not None else 0.0


class Destination(Protocol):
    """A destination of packets, such as a `hep.Sender`."""

    @property
    def counters(self) -> Outbox:
        """Counters of the packets: sent, dropped, queued."""

    def send(self, packet: Packet) -> None:
        """Queue a packet for sending. Returns at once."""


class CollectorStuckError(HepError):
    """A collector accepts no packets."""


async def replay(
    packets: AsyncIterable[Captured],
    sender: Destination,
    pace: Pace,
    counters: Counter[str] | None = None,
    moved: Callable[[float], float] | None = None,
) -> None:
    """Send packets with the timestamps of the capture.

    Returns when the last packet is in the queue of the sender.

    Args:
        packets: the packets, such as a `hep.cli.feed.Feed`.
        sender: the destination; stays open.
        pace: schedule of the packets.
        counters: counter for ``read`` and ``unfit`` packets. Default: not counted.
        moved: gives the new time for a packet's own, both in seconds since the epoch. Default:
            packets keep their times.

    Raises:
        CollectorStuckError: the collector accepted no queued packet for `PATIENCE` seconds.
        HepError: the capture is damaged.
    """
    counters = Counter() if counters is None else counters
    loop = asyncio.get_running_loop()
    start, first, number = loop.time(), None, 0
    async for timestamp, packet in packets:
        if first is None:
            start, first = loop.time(), timestamp
        pause = start + pace.due(number, timestamp - first) - loop.time()
        number += 1
        if pause > 0:
            await asyncio.sleep(pause)
        counters["read"] += 1
        try:
            sender.send(_as_sent(packet, timestamp, moved))
        except HepEncodeError:
            counters[UNFIT] += 1
        if sender.counters.queued >= MOST_WAITING:
            await _wait_for_room(sender.counters)


class Clock:
    """Moves the times of a capture, so that its last or its first packet has the present time.

    Args:
        now: the present time in seconds since the epoch.
        last: time of the last packet, as ``now``. None: the first packet gets the present time.
    """

    def __init__(self, now: float, last: float | None = None) -> None:
        self._now = now
        self._shift = None if last is None else now - last

    def moved(self, timestamp: float) -> float:
        """The new time for a packet's own, in seconds since the epoch."""
        if self._shift is None:
            self._shift = self._now - timestamp
        return timestamp + self._shift


async def _wait_for_room(outbox: Outbox) -> None:
    loop = asyncio.get_running_loop()
    before, since = outbox.queued, loop.time()
    while outbox.queued >= MOST_WAITING // 2:
        await asyncio.sleep(POLL_INTERVAL)
        if outbox.queued != before:
            before, since = outbox.queued, loop.time()
        elif loop.time() - since > PATIENCE:
            raise CollectorStuckError(
                f"the collector has accepted no packet for {PATIENCE:.0f} seconds; check that it"
                " runs, then replay again"
            )


def _as_sent(packet: Packet, timestamp: float, moved: Callable[[float], float] | None) -> Packet:
    """Add the correlation id and the time that Homer needs, if the packet has none."""
    changes: dict[str, Any] = {}
    if packet.version != 3:
        # The sender may encode the packet in version 3, which has a chunk for it.
        changes["correlation_id"] = call_of(packet.payload)
    if packet.seconds is None or moved is not None:
        own = _time_of(packet, timestamp)
        seconds, microseconds = divmod(
            round((moved(own) if moved is not None else own) * 1_000_000), 1_000_000
        )
        changes |= {"seconds": seconds, "microseconds": microseconds}
        if packet.seconds is None or packet.microseconds is None:
            changes["layout"] = ()
    return replace(packet, **changes) if changes else packet


def _time_of(packet: Packet, timestamp: float) -> float:
    return timestamp if packet.timestamp is None else packet.timestamp


def add_parser(commands: Any) -> None:
    """Add the subcommand ``replay`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "replay",
        help="send the SIP and HEP of captures to a collector",
        description="Send the SIP and HEP found in captures (pcap or pcapng) to a collector, with"
        " the timestamps of the capture. Without --rate and --realtime, packets are sent as fast as"
        f" the collector accepts them over TCP and TLS, and at {UDP_RATE:.0f} packets per second"
        " over UDP, which has no flow control. The last line says what was not sent, and why. Exit"
        " status 1 if a packet was dropped, or if the capture lacks a part of a message.",
        usage="hep replay [options] FILE... HEP_ID",
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="captures, pcap or pcapng; - for standard input. Several files are parts of one"
        " capture, in this order",
    )
    parser.add_argument(
        "--to",
        metavar="HEP_ID",
        help="the collector, in place of the last argument:"
        " host[:port][;transport=udp|tcp|tls][;version=1|2|3]"
        " (default: port 9060, tcp, version 3)",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=float, metavar="N", help="send N packets per second")
    pace.add_argument("--realtime", action="store_true", help="keep the pauses of the capture")
    parser.add_argument(
        "--capture-id",
        type=int,
        default=CAPTURE_ID,
        metavar="N",
        help=f"capture agent id of packets made from SIP (default: {CAPTURE_ID})",
    )
    parser.add_argument(
        "--now",
        action="store_true",
        help="give the packets new times, at the same distances: the last packet gets the present"
        " time, or the first one with --rate, --realtime and from a pipe",
    )
    filters.add_arguments(parser, replay=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep replay`` with parsed arguments.

    Returns:
        the exit status: `DONE` if all packets were sent and the capture lacks none, otherwise
        `FAILED`.

    Raises:
        WrongInputError: an argument is wrong, or a file is not a capture.
    """
    if args.rate is not None and not (math.isfinite(args.rate) and args.rate > 0):
        raise WrongInputError(
            f"--rate {args.rate}: give a number of packets per second greater than 0"
        )
    if not 0 <= args.capture_id < 2**32:
        raise WrongInputError(
            f"--capture-id {args.capture_id}: give a number from 0 to {2**32 - 1}"
        )
    wanted = filters.from_arguments(args)
    files, collector = _files_and_collector(args)
    return asyncio.run(_Replay(args, files, collector, wanted).run())


def _files_and_collector(args: argparse.Namespace) -> tuple[list[str], HepId]:
    files: list[str] = args.files
    to = args.to
    if to is None:
        *files, to = files
        if not files or os.path.isfile(to):
            raise WrongInputError(
                f"the collector is missing: hep replay {' '.join(args.files)} HOST[:PORT]"
            )
    return files, destination(to)


class _Replay:
    """One run of the command."""

    def __init__(
        self, args: argparse.Namespace, files: list[str], collector: HepId, wanted: Filter
    ) -> None:
        self._args = args
        self._files = files
        self._collector = collector
        self._filter = wanted
        self._capture: Capture | None = None
        self._clock: Clock | None = None
        self._is_stopped = False
        self._is_ended = False
        self._counters: Counter[str] = Counter()
        self._pace = Pace(args.rate, args.realtime)
        if args.rate is None and not args.realtime and collector.transport == "udp":
            self._pace = Pace(UDP_RATE)

    async def run(self) -> int:
        """Send the files; returns the exit status."""
        loop = asyncio.get_running_loop()
        sender = open_sender(self._collector)
        feed = Feed(self._read, self._stop)
        moved = self._moved if self._args.now else None
        sending = loop.create_task(replay(feed, sender, self._pace, self._counters, moved))
        on_signals(lambda: self._interrupt(feed, sending))
        drawing = loop.create_task(self._draw(sender)) if sys.stderr.isatty() else None
        began = loop.time()
        problem, patience, wrong = "", PATIENCE, None
        try:
            await asyncio.wait([sending])
            problem, patience = await self._outcome(sending)
        except WrongInputError as exc:
            wrong, patience = exc, 0
        closing = loop.create_task(sender.aclose(patience))
        on_signals(closing.cancel)
        await asyncio.wait([closing])
        if closing.cancelled():
            problem = problem or INTERRUPTED
            await sender.aclose(0)
        if drawing is not None:
            drawing.cancel()
            print("\r\x1b[K", end="", file=sys.stderr)
        if await feed.aclose() and self._capture is not None:
            self._capture.close()
        if wrong is not None:
            raise wrong
        return self._report(problem, sender, loop.time() - began)

    async def _outcome(self, sending: "asyncio.Task[None]") -> tuple[str, float]:
        """Why sending ended, empty if all was sent, and the time to wait for the queue."""
        try:
            await sending
        except asyncio.CancelledError:
            return INTERRUPTED, 0
        except CollectorStuckError as exc:
            return str(exc), 0
        except HepError as exc:
            if self._capture is None:
                raise WrongInputError(str(exc)) from exc
            return str(exc), PATIENCE
        return "", PATIENCE

    def _interrupt(self, feed: Feed, sending: "asyncio.Task[None]") -> None:
        """End after a signal.

        Ctrl-C is the usual end of a live capture. It ends the program before the pipe too, which
        then writes what it has. So the pipe is read to its end, for a short time.
        """
        if self._capture is None or not self._capture.is_live or self._is_stopped:
            sending.cancel()
        else:
            self._is_stopped = True
            asyncio.get_running_loop().call_later(DRAIN, feed.stop)

    def _read(self) -> Iterator[Captured]:
        """Read the packets to send, in the thread of the feed."""
        capture = Capture(*self._files)
        if self._args.now:
            self._clock = self._make_clock(capture)
        self._capture = capture
        if self._is_ended:
            return
        for captured in capture.packets(self._args.capture_id):
            if self._filter.matches(captured.packet):
                yield captured
            else:
                self._counters[FILTERED] += 1

    def _make_clock(self, capture: Capture) -> Clock:
        if capture.is_live or self._args.realtime or self._args.rate is not None:
            return Clock(time.time())
        last = 0.0
        with Capture(*self._files) as before:
            self._capture = before
            with suppress(HepError):
                # Damage is reported when the packets are sent.
                for timestamp, packet in before.packets():
                    if self._filter.matches(packet):
                        last = max(last, _time_of(packet, timestamp))
        return Clock(time.time(), last)

    def _moved(self, timestamp: float) -> float:
        # The thread makes the clock before the first packet.
        return self._clock.moved(timestamp) if self._clock is not None else timestamp

    def _stop(self) -> None:
        self._is_ended = True
        if (capture := self._capture) is not None:
            capture.stop()

    def _report(self, problem: str, sender: Sender, seconds: float) -> int:
        counters, capture = self._counters, self._capture
        if not problem and not sender.connects and sender.last_error:
            problem = f"no connection to {self._collector}: {sender.last_error}"
        elif not problem and sender.last_error and EXPECTS_TLS in sender.last_error:
            problem = f"connection to {self._collector} broke: {sender.last_error}"
        if not problem and not counters["read"] and capture is not None:
            frames = capture.counters["frames"]
            names = ", ".join("standard input" if name == "-" else name for name in self._files)
            problem = f"{names}: no SIP and no HEP in {frames} frames"
            if counters[FILTERED]:
                problem = f"{names}: no packet meets the filters, of {counters[FILTERED]}"
        if problem:
            print_error("hep", problem)
        dropped = Counter(sender.counters.dropped) + Counter({UNFIT: counters[UNFIT]})
        lost = losses(capture) if capture is not None else Counter()
        other = skipped(capture) if capture is not None else Counter()
        other += Counter({FILTERED: counters[FILTERED]})
        print(summary(sender.counters.sent, dropped, lost, other, seconds))
        return FAILED if problem or dropped.total() or lost.total() else DONE

    async def _draw(self, sender: Sender) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            counters, capture = sender.counters, self._capture
            size = capture.size if capture is not None else 0
            line = bar(
                capture.position / size if capture is not None and size else None,
                f"{counters.sent} sent, {counters.dropped.total()} dropped",
                loop.time() - began,
                shutil.get_terminal_size().columns,
            )
            with suppress(OSError):
                print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(BAR_INTERVAL)


def summary(
    sent: int, dropped: Counter[str], lost: Counter[str], other: Counter[str], seconds: float
) -> str:
    """Format the last line: what was sent, and what was not and why. Pure.

    Args:
        sent: packets sent.
        dropped: packets dropped by the sender, by cause.
        lost: what the capture lacks or what is not read, by cause.
        other: what is no loss, such as other protocols, by kind.
        seconds: time that it took.

    Returns:
        one line.
    """
    causes = f" ({_causes(dropped)})" if +dropped else ""
    line = f"{sent} sent, {dropped.total()} dropped{causes} in {seconds:.1f} s"
    if +lost:
        line += f"; lost: {_causes(lost)}"
    if +other:
        line += f"; skipped: {_causes(other)}"
    return line


def _causes(counters: Counter[str]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in (+counters).most_common())


def bar(done: float | None, counts: str, seconds: float, columns: int) -> str:
    """Format a progress bar for a terminal. Pure.

    Args:
        done: share that is done, 0 to 1; None if that is not known, as from a pipe.
        counts: text after the percentage.
        seconds: seconds since the start, from 0.
        columns: width of the terminal in columns.

    Returns:
        one line of at most ``columns - 1`` characters. A narrow terminal gets the text only.
    """
    minutes, rest = divmod(int(seconds), 60)
    text = f"{counts}  {minutes}:{rest:02}"
    if done is None:
        return text[: columns - 1]
    text = f"{done:4.0%}  {text}"
    width = min(BAR_WIDTH, columns - len(text) - 4)
    if width < 3:
        return text[: columns - 1]
    filled = int(done * width)
    return f"[{'#' * filled}{'.' * (width - filled)}] {text}"
