"""``hep doctor --listen``: examine the packets that senders send now."""

import argparse
import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

from hep.cli.doctor_report import Examination, Tally, as_object
from hep.cli.doctor_stream import StreamState
from hep.cli.lint_finding import Finding, Severity
from hep.cli.usage import DONE, FAILED, WrongInputError, on_signals, readable, server_tls
from hep.codec.any_version import decode
from hep.codec.chunks import protocol_name
from hep.codec.packet import Packet
from hep.errors import HepDecodeError
from hep.receiving.collector import RECEIVED, TLS_FAILED, Collector, Source

_TRANSPORTS: Final = ("udp", "tcp", "tls")
_BOTH: Final = ("udp", "tcp")
"""The transports without ``;transport=``, as of ``hep listen``."""


class ListenAddress(NamedTuple):
    """An address to listen on."""

    address: str
    """``HOST:PORT``."""
    transports: tuple[str, ...]
    """Any of ``udp``, ``tcp`` and ``tls``."""

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read ``HOST:PORT[;transport=udp|tcp|tls]``.

        Raises:
            WrongInputError: it is not of this form.
        """
        address, *parameters = text.split(";")
        if not parameters:
            return cls(address, _BOTH)
        name, _, value = parameters[0].partition("=")
        if len(parameters) > 1 or name != "transport" or value not in _TRANSPORTS:
            raise WrongInputError(
                f"--listen {text}: write HOST:PORT, or HOST:PORT;transport=udp, tcp or tls"
            )
        return cls(address, (value,))


def listen(args: argparse.Namespace, examination: Examination, paint: bool) -> int:
    """Examine packets until Ctrl-C, SIGTERM, ``--count`` or ``--seconds``; then print the report.

    Args:
        args: the parsed arguments of ``hep doctor``.
        examination: counts the findings.
        paint: whether to use colours.

    Returns:
        the exit status.

    Raises:
        WrongInputError: an argument is wrong, or an address cannot be listened on.
    """
    if args.count is not None and args.count < 1:
        raise WrongInputError(f"--count {args.count} is not a number of packets; use 1 or more")
    if args.seconds is not None and not args.seconds > 0:
        raise WrongInputError(f"--seconds {args.seconds:g} is not a time; use more than 0")
    address = ListenAddress.parse(args.listen)
    context = None
    if "tls" in address.transports:
        context = server_tls(f"--listen {args.listen}", args.tls_certificate, args.tls_key)
    asyncio.run(_listen(address, context, args, examination))
    if not args.json:
        total = examination.total
        print(f"\n{total or 'no'} HEP packet{'s' * (total != 1)}")
    if examination.total or args.json:
        examination.print_report(args.json, paint)
    return FAILED if examination.has_losses else DONE


async def _listen(
    address: ListenAddress,
    context: ssl.SSLContext | None,
    args: argparse.Namespace,
    examination: Examination,
) -> None:
    listener = _Listener(examination, args)
    on_signals(listener.stop.set)
    where = dict.fromkeys(address.transports, address.address)
    collector = _RawCollector(listener.receive, tls_context=context, **where)
    try:
        await collector.start()
    except ValueError as exc:
        raise WrongInputError(str(exc)) from exc
    except OSError as exc:
        raise WrongInputError(f"cannot listen on {args.listen}: {exc.strerror or exc}") from exc
    try:
        for name in where:
            ip, port = getattr(collector, f"{name}_address")
            print(f"listening on {name} {ip}:{port}", file=sys.stderr, flush=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(listener.stop.wait(), args.seconds)
    finally:
        await collector.aclose()
    listener.finish(collector.counters["skipped"])
    if failed := collector.counters[TLS_FAILED]:
        print(f"{failed} connections without a TLS handshake", file=sys.stderr)


class _RawCollector(Collector):
    """A collector that passes on packets as bytes, also those that do not decode."""

    def __init__(self, on_data: Callable[[bytes, Source], None], **arguments: Any) -> None:
        super().__init__(_ignore, **arguments)
        self._on_data = on_data

    def _receive_datagram(self, data: bytes, source: Source) -> None:
        self._on_data(data, source)

    def _receive(self, data: bytes, source: Source) -> str:
        self._on_data(data, source)
        return RECEIVED


def _ignore(packet: Packet, source: Source) -> None:
    """Not called: `_RawCollector` passes on bytes."""


class _Listener:
    """Examines what the collector receives and prints a line for each new finding."""

    def __init__(self, examination: Examination, args: argparse.Namespace) -> None:
        self.stop = asyncio.Event()
        self.examination = examination
        self._state = StreamState()
        self._most = args.count
        self._as_json = args.json

    def receive(self, data: bytes, source: Source) -> None:
        """Examine a packet."""
        if self.stop.is_set():
            return
        now = time.time()
        number = self.examination.total + 1
        tallies, fates = self.examination.add(data, source.transport, number, now)
        fate = fates.default
        payload = fate.row.raw if fate.row is not None else b""
        for label, finding in self._state.see(fate, payload, now):
            if self.examination.has_section(label):
                tallies.append(self.examination.note(label, finding, number))
        new = [each for each in tallies if _is_shown(each.count)]
        try:
            if new:
                self._print(number, now, data, source, new)
        except BrokenPipeError:
            self.stop.set()
        if self._most is not None and number >= self._most:
            self.stop.set()

    def _print(
        self, number: int, now: float, data: bytes, source: Source, new: list[Tally]
    ) -> None:
        if self._as_json:
            for tally in new:
                print(
                    json.dumps(
                        {
                            "packet": number,
                            "time": now,
                            "source": f"{source.transport} {source.ip}:{source.port}",
                            "profile": tally.label,
                            "packets": tally.count,
                            **as_object(tally.finding),
                        }
                    ),
                    flush=True,
                )
            return
        several = len({each.label for each in new}) > 1 or len(self.examination.profiles) > 1
        said = "; ".join(_in_words(each, several) for each in new)
        when = datetime.fromtimestamp(now).strftime("%H:%M:%S.%f")[:-3]
        print(readable(f"{number:>5}  {when}  {_gist(data, source)}  {said}"), flush=True)

    def finish(self, skipped: int) -> None:
        """Count bytes of streams that start no packet."""
        if not skipped or not self.examination.has_section("homer7"):
            return
        finding = Finding(
            "stream-garbage",
            Severity.LOST,
            f"{skipped} bytes in TCP or TLS streams start no packet: heplify-server closes the"
            " connection, or takes other bytes for packets",
            "send only packets of version 3 over TCP and TLS",
        )
        self.examination.note("homer7", finding, self.examination.total)


def _is_shown(count: int) -> bool:
    """Whether a finding is shown again: the 1st, 10th, 100th … time."""
    return str(count).rstrip("0") == "1"


def _in_words(tally: Tally, with_label: bool) -> str:
    finding = tally.finding
    label = f"{tally.label} " if with_label else ""
    times = f" ({tally.count} times)" if tally.count > 1 else ""
    batch = f", with the batch of {finding.batch}" if finding.batch is not None else ""
    return f"{label}{finding.severity} {finding.rule}{batch}{times}: {finding.in_words}"


def _gist(data: bytes, source: Source) -> str:
    """The sender, the protocol type and the ends of a packet."""
    sender = f"{source.transport} {source.ip}:{source.port}"
    try:
        packet = decode(data)
    except HepDecodeError:
        return f"{sender}  {len(data)} bytes"
    ends = f"{packet.src_ip}:{packet.src_port} > {packet.dst_ip}:{packet.dst_port}"
    return f"{sender}  {protocol_name(packet.protocol_type)} {ends}"
