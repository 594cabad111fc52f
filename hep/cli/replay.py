"""``hep replay``: send the SIP and HEP of a capture to a collector."""

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
from hep.cli.usage import DONE, FAILED, WrongInputError, destination, on_signals
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
    packets: Iterable[Captured],
    sender: Destination,
    pace: Pace,
    counters: Counter[str] | None = None,
) -> None:
    """Send packets with the timestamps of the capture.

    Returns when the last packet is in the queue of the sender.

    Args:
        packets: the packets, such as `hep.captures.pcap.Capture.packets`.
        sender: the destination; stays open.
        pace: schedule of the packets.
        counters: counter for ``read`` and ``unfit`` packets. Default: not counted.

    Raises:
        CollectorStuckError: the collector accepted no queued packet for `PATIENCE` seconds.
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
            await _wait_for_room(sender.counters)


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


def _as_sent(packet: Packet, timestamp: float) -> Packet:
    """Add the correlation id and the time that Homer needs, if the packet has none."""
    changes: dict[str, Any] = {}
    if packet.version != 3:
        # The sender may encode the packet in version 3, which has a chunk for it.
        changes["correlation_id"] = call_of(packet.payload)
    if packet.seconds is None:
        seconds, microseconds = divmod(round(timestamp * 1_000_000), 1_000_000)
        changes |= {"seconds": seconds, "microseconds": microseconds, "layout": ()}
    return replace(packet, **changes) if changes else packet


def add_parser(commands: Any) -> None:
    """Add the subcommand ``replay`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "replay",
        help="send the SIP and HEP of a capture to a collector",
        description="Send the SIP and HEP found in a capture (pcap or pcapng) to a collector, with"
        " the timestamps of the capture. Without --rate and --realtime, packets are sent as fast as"
        f" the collector accepts them over TCP and TLS, and at {UDP_RATE:.0f} packets per second"
        " over UDP, which has no flow control. Exit status 1 if a packet was dropped.",
    )
    parser.add_argument("file", metavar="FILE.pcap", help="the capture, pcap or pcapng")
    parser.add_argument(
        "--to",
        required=True,
        metavar="HEP_ID",
        help="the collector: host[:port][;transport=udp|tcp|tls][;version=1|2|3]"
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep replay`` with parsed arguments.

    Returns:
        the exit status: `DONE` if all packets were sent, otherwise `FAILED`.

    Raises:
        WrongInputError: an argument is wrong, or the file is not a capture.
    """
    if args.rate is not None and not (math.isfinite(args.rate) and args.rate > 0):
        raise WrongInputError(
            f"--rate {args.rate}: give a number of packets per second greater than 0"
        )
    if not 0 <= args.capture_id < 2**32:
        raise WrongInputError(
            f"--capture-id {args.capture_id}: give a number from 0 to {2**32 - 1}"
        )
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
    elif not problem and sender.last_error and EXPECTS_TLS in sender.last_error:
        problem = f"connection to {collector} broke: {sender.last_error}"
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
    """Format a progress bar for a terminal. Pure.

    Args:
        done: share that is done, 0 to 1.
        counts: text after the percentage.
        seconds: seconds since the start, from 0.
        columns: width of the terminal in columns.

    Returns:
        one line of at most ``columns - 1`` characters. A narrow terminal gets the text only.
    """
    minutes, rest = divmod(int(seconds), 60)
    text = f"{done:4.0%}  {counts}  {minutes}:{rest:02}"
    width = min(BAR_WIDTH, columns - len(text) - 4)
    if width < 3:
        return text[: columns - 1]
    filled = int(done * width)
    return f"[{'#' * filled}{'.' * (width - filled)}] {text}"
