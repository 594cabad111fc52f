"""Sending what is in a capture to a collector: ``hep replay``."""

import argparse
import asyncio
import math
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from hep.captures.pcap import BAD, Capture, Captured
from hep.captures.sip_stream import call_id
from hep.cli.usage import DONE, FAILED, WrongInputError, destination, on_signals
from hep.codec.packet import Packet
from hep.errors import HepEncodeError, HepError
from hep.hep_id import HepId
from hep.sending.outbox import Outbox
from hep.sending.senders import Sender, open_sender

MOST_WAITING: Final = 200
"""Packets that may wait in the sender: enough for one write of many, and few enough that its queue,
which drops what is too much, is never full."""

LOOK_AGAIN: Final = 0.001
"""Seconds until a queue that was too long is looked at again."""

PATIENCE: Final = 10.0
"""Seconds that a collector may take none of what waits before it is given up: a restart takes
less."""

UDP_RATE: Final = 1000.0
"""Packets a second over UDP unless told: nobody says when a datagram is lost, and a collector's
socket holds some hundred."""

CAPTURE_ID: Final = 1
"""Capture agent id of SIP unless told: OpenSIPS' default, ``hep_capture_id``."""

UNFIT: Final = "unfit"
"""Counter: packets that cannot be written in the destination's version of HEP."""

BAR_INTERVAL: Final = 0.1
"""Seconds between two drawings of the progress bar."""

BAR_WIDTH: Final = 30
"""Columns of the bar itself, at the most."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When each packet is due."""

    rate: float | None = None
    """Packets a second."""
    realtime: bool = False
    """As they came: with the pauses of the capture."""

    def due(self, number: int, elapsed: float) -> float:
        """When a packet is due, in seconds after the first one. Pure.

        Args:
            number: which one it is, from 0.
            elapsed: seconds between the first one's time and its own in the capture; captures that
                were merged may go back in time, and what is due earlier is due at once.
        """
        if self.realtime:
            return max(0.0, elapsed)
        return number / self.rate if self.rate is not None else 0.0


class Destination(Protocol):
    """What packets are sent to, such as a `hep.Sender`."""

    @property
    def counters(self) -> Outbox:
        """What became of them."""

    def send(self, packet: Packet) -> None:
        """Send one; returns at once."""


class CollectorStuckError(HepError):
    """A collector takes no packets."""


async def replay(
    packets: Iterable[Captured],
    sender: Destination,
    pace: Pace,
    counters: Counter[str] | None = None,
) -> None:
    """Send packets with their own timestamps; returns when the last one is with the sender.

    Args:
        packets: what to send, such as `hep.captures.pcap.Capture.packets`.
        sender: not closed here.
        pace: without rate and realtime as fast as the sender takes them.
        counters: where packets ``read`` and ``unfit`` are counted.

    Raises:
        CollectorStuckError: nothing of what waited was taken for `PATIENCE`.
        HepError: the capture is damaged.
    """
    counters = Counter() if counters is None else counters
    loop = asyncio.get_running_loop()
    start, first = loop.time(), None
    for number, (timestamp, packet) in enumerate(packets):
        first = timestamp if first is None else first
        pause = start + pace.due(number, timestamp - first) - loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        counters["read"] += 1
        try:
            sender.send(_as_sent(packet, timestamp))
        except HepEncodeError:
            counters[UNFIT] += 1
        if sender.counters.queued >= MOST_WAITING:
            await _until_there_is_room(sender.counters)


async def _until_there_is_room(outbox: Outbox) -> None:
    loop = asyncio.get_running_loop()
    before, since = outbox.queued, loop.time()
    while outbox.queued >= MOST_WAITING // 2:
        await asyncio.sleep(LOOK_AGAIN)
        if outbox.queued != before:
            before, since = outbox.queued, loop.time()
        elif loop.time() - since > PATIENCE:
            raise CollectorStuckError(f"the collector has taken nothing for {PATIENCE:.0f} seconds")


def _as_sent(packet: Packet, timestamp: float) -> Packet:
    """A packet with what it needs to be found in Homer; one that has it goes out as it came."""
    changes: dict[str, Any] = {}
    if packet.version != 3:
        # Should it go out as version 3, that has a place for it.
        changes["correlation_id"] = call_id(packet.payload)
    if packet.seconds is None:
        seconds, microseconds = divmod(round(timestamp * 1_000_000), 1_000_000)
        changes |= {"seconds": seconds, "microseconds": microseconds, "layout": ()}
    return replace(packet, **changes) if changes else packet


def add_parser(commands: Any) -> None:
    """Add the command ``replay`` to those of ``hep``."""
    parser = commands.add_parser(
        "replay",
        help="send what is in a capture to a collector",
        description="Send the SIP and the HEP found in a capture (pcap or pcapng) to a collector,"
        " with the timestamps that it has there. Without --rate and --realtime: as fast as the"
        f" collector takes it, and over UDP, where nobody can say, {UDP_RATE:.0f} packets a second."
        " Exit status 1 when something was dropped.",
    )
    parser.add_argument("file", metavar="FILE.pcap", help="the capture")
    parser.add_argument(
        "--to",
        required=True,
        metavar="HEP_ID",
        help="the collector: host[:port][;transport=udp|tcp|tls][;version=1|2|3]; 9060, tcp and 3"
        " unless told",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=float, metavar="N", help="N packets a second")
    pace.add_argument("--realtime", action="store_true", help="with the pauses of the capture")
    parser.add_argument(
        "--capture-id",
        type=int,
        default=CAPTURE_ID,
        metavar="N",
        help=f"capture agent id of what is found as SIP (default: {CAPTURE_ID})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status.

    Raises:
        WrongInputError: an argument is wrong, or the file is no capture.
    """
    if args.rate is not None and not (math.isfinite(args.rate) and args.rate > 0):
        raise WrongInputError(f"--rate {args.rate}: packets a second, more than 0")
    if not 0 <= args.capture_id < 2**32:
        raise WrongInputError(f"--capture-id {args.capture_id}: a number from 0 to {2**32 - 1}")
    collector = destination(args.to)
    try:
        capture = Capture(args.file)
    except HepError as exc:
        raise WrongInputError(str(exc)) from exc
    with capture:
        return asyncio.run(_replay_file(args, collector, capture))


async def _replay_file(args: argparse.Namespace, collector: HepId, capture: Capture) -> int:
    loop = asyncio.get_running_loop()
    rate = args.rate
    if rate is None and collector.transport == "udp":
        rate = UDP_RATE
    counters: Counter[str] = Counter()
    sender = open_sender(collector)
    replaying = loop.create_task(
        replay(capture.packets(args.capture_id), sender, Pace(rate, args.realtime), counters)
    )
    on_signals(replaying.cancel)
    drawing = loop.create_task(_draw(capture, sender)) if sys.stderr.isatty() else None
    began = loop.time()
    await asyncio.wait([replaying])
    problem, patience = "", PATIENCE
    try:
        await replaying
    except asyncio.CancelledError:
        problem, patience = "interrupted", 0
    except CollectorStuckError as exc:
        problem, patience = str(exc), 0
    except HepError as exc:
        problem = str(exc)
    sending_on = loop.create_task(sender.aclose(patience))
    on_signals(sending_on.cancel)
    await asyncio.wait([sending_on])
    if sending_on.cancelled():
        problem = problem or "interrupted"
        await sender.aclose(0)
    if not problem and not sender.connects and sender.last_error:
        problem = f"no connection to {collector}: {sender.last_error}"
    took = loop.time() - began
    if drawing is not None:
        drawing.cancel()
        print("\r\x1b[K", end="", file=sys.stderr)
    if problem:
        print(f"hep: {problem}", file=sys.stderr)
    elif not counters["read"]:
        problem = f"{args.file}: no SIP and no HEP in {capture.counters['frames']} frames"
        print(f"hep: {problem}", file=sys.stderr)
    causes = Counter(sender.counters.dropped)
    causes += Counter({UNFIT: counters[UNFIT], BAD: capture.counters[BAD]})
    print(_summary(sender.counters.sent, causes, took))
    return FAILED if problem or causes.total() else DONE


def _summary(sent: int, dropped: Counter[str], seconds: float) -> str:
    causes = ", ".join(f"{count} {cause}" for cause, count in dropped.most_common() if count)
    because = f" ({causes})" if causes else ""
    return f"{sent} sent, {dropped.total()} dropped{because} in {seconds:.1f} s"


async def _draw(capture: Capture, sender: Sender) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        counters = sender.counters
        line = bar(
            capture.position / max(1, capture.size),
            f"{counters.sent} sent, {counters.dropped.total()} dropped",
            loop.time() - began,
            shutil.get_terminal_size().columns,
        )
        with suppress(OSError):
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(BAR_INTERVAL)


def bar(done: float, counts: str, seconds: float, columns: int) -> str:
    """A progress bar for a terminal. Pure.

    Args:
        done: how much is done, from 0 to 1.
        counts: what is said behind it.
        seconds: since it began.
        columns: of the terminal; the bar leaves the last one free, and where there is no room for
            it, it is left out.
    """
    minutes, rest = divmod(int(seconds), 60)
    text = f"{done:4.0%}  {counts}  {minutes}:{rest:02}"
    width = min(BAR_WIDTH, columns - len(text) - 4)
    if width < 3:
        return text[: columns - 1]
    filled = int(done * width)
    return f"[{'#' * filled}{'.' * (width - filled)}] {text}"
