"""``hep listen``: receive packets and print each as a line."""

import argparse
import asyncio
import shutil
import ssl
import sys
import time
from collections import Counter
from typing import Any, Final

from hep.captures.pcap_writer import PcapWriter
from hep.cli import display, filters
from hep.cli.filters import Filter
from hep.cli.usage import (
    DONE,
    FAILED,
    WrongInputError,
    auth_key,
    on_signals,
    print_error,
    server_tls,
)
from hep.codec.chunks import protocol_name
from hep.codec.packet import Packet
from hep.errors import HepError
from hep.receiving.collector import RUBBISH, SKIPPED, TLS_FAILED, UNREAD, Collector, Source

DEFAULT_ADDRESS: Final = "127.0.0.1:9060"
"""The default address of ``hep listen``: the port of HEP, on loopback."""

_SELDOM: Final = {
    UNREAD: "chunks of an unexpected size not read",
    SKIPPED: "bytes that are not HEP skipped",
    RUBBISH: "connections dropped that sent too many of these",
    TLS_FAILED: "connections without a TLS handshake",
}
"""Counters that ``hep listen`` reports at its end unless they are 0."""


def add_parser(commands: Any) -> None:
    """Add the subcommand ``listen`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "listen",
        help="receive packets and print each as a line",
        description="Receive packets and print each as a line, until Ctrl-C; then the totals."
        f" Without an address: UDP and TCP on {DEFAULT_ADDRESS}.",
    )
    parser.add_argument("--udp", metavar="HOST:PORT", help="listen on UDP")
    parser.add_argument("--tcp", metavar="HOST:PORT", help="listen on TCP")
    parser.add_argument("--tls", metavar="HOST:PORT", help="listen on TLS")
    parser.add_argument("--tls-certificate", metavar="FILE", help="certificate to show, PEM")
    parser.add_argument(
        "--tls-key", metavar="FILE", help="its private key, unless that file holds it"
    )
    parser.add_argument(
        "--write",
        metavar="FILE.pcap",
        help="write the traced messages to a capture, which hep replay, hep decode and any SIP tool"
        " open",
    )
    parser.add_argument("--json", action="store_true", help="print each packet as a JSON object")
    parser.add_argument("--count", type=int, metavar="N", help="end after N packets")
    parser.add_argument(
        "--auth", metavar="KEY", help="accept only packets with this authenticate key"
    )
    filters.add_arguments(parser, replay=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep listen`` with parsed arguments.

    Returns:
        the exit status: `FAILED` if a packet could not be written to the file, otherwise `DONE`.

    Raises:
        WrongInputError: an argument is wrong, or an address cannot be used.
    """
    if args.count is not None and args.count < 1:
        raise WrongInputError(f"--count {args.count} is not a number of packets; use 1 or more")
    where = {"udp": args.udp, "tcp": args.tcp, "tls": args.tls}
    if not any(where.values()):
        where["udp"] = where["tcp"] = DEFAULT_ADDRESS
    return asyncio.run(_receive(where, _tls_context(args), args, filters.from_arguments(args)))


def _tls_context(args: argparse.Namespace) -> ssl.SSLContext | None:
    if args.tls is None:
        return None
    return server_tls(f"--tls {args.tls}", args.tls_certificate, args.tls_key)


async def _receive(
    where: dict[str, str | None],
    tls_context: ssl.SSLContext | None,
    args: argparse.Namespace,
    wanted: Filter,
) -> int:
    key = auth_key(args.auth)
    stop = asyncio.Event()
    on_signals(stop.set)
    is_terminal = sys.stdout.isatty()
    by_protocol: Counter[str] = Counter()
    writer: PcapWriter | None = None
    unwritten = filtered = 0

    def write(packet: Packet) -> None:
        nonlocal unwritten
        if writer is None:
            return
        try:
            writer.write(packet, time.time())
        except HepError as exc:
            if not unwritten:
                print_error("hep", str(exc))
            unwritten += 1

    def show(packet: Packet, source: Source) -> None:
        nonlocal filtered
        if stop.is_set():
            return
        if not wanted.matches(packet):
            filtered += 1
            return
        by_protocol[protocol_name(packet.protocol_type)] += 1
        write(packet)
        try:
            print(_as_text(packet, args.json, is_terminal), flush=True)
        except BrokenPipeError:
            stop.set()
        if args.count is not None and by_protocol.total() >= args.count:
            stop.set()

    collector = Collector(
        show,
        udp=where["udp"],
        tcp=where["tcp"],
        tls=where["tls"],
        tls_context=tls_context,
        auth_key=key,
    )
    try:
        await collector.start()
    except ValueError as exc:
        raise WrongInputError(str(exc)) from exc
    except OSError as exc:
        tried = " and ".join(f"{name} {at}" for name, at in where.items() if at)
        raise WrongInputError(f"cannot listen on {tried}: {exc.strerror or exc}") from exc
    try:
        # After the listeners are open: an existing file is overwritten.
        writer = _writer(args.write)
        for name, at in where.items():
            if at is not None:
                ip, port = getattr(collector, f"{name}_address")
                print(f"listening on {name} {ip}:{port}", file=sys.stderr, flush=True)
        await stop.wait()
    finally:
        await collector.aclose()
        if writer is not None:
            writer.close()
    kinds = ", ".join(f"{count} {name}" for name, count in by_protocol.most_common()) or "none"
    counters = collector.counters
    refused = counters["bad"] + counters["unauthenticated"]
    total = by_protocol.total()
    noun = "packet" if total == 1 else "packets"
    others = f", {filtered} filtered out" if filtered else ""
    others += "".join(
        f", {counters[name]} {what}" for name, what in _SELDOM.items() if counters[name]
    )
    print(f"\n{total} {noun} ({kinds}), {refused} refused{others}", file=sys.stderr)
    if writer is not None:
        cut = f", {writer.cut} of them cut" if writer.cut else ""
        lost = f", {unwritten} not" if unwritten else ""
        print(f"{writer.written} written to {args.write}{cut}{lost}", file=sys.stderr)
    return FAILED if unwritten else DONE


def _writer(path: str | None) -> PcapWriter | None:
    try:
        return PcapWriter(path) if path is not None else None
    except HepError as exc:
        raise WrongInputError(str(exc)) from exc


def _as_text(packet: Packet, as_json: bool, is_terminal: bool) -> str:
    if as_json:
        return display.as_json_line(packet)
    if not is_terminal:
        return display.line(packet)
    columns = shutil.get_terminal_size().columns
    return display.line(packet, colour=True, columns=columns, encoding=sys.stdout.encoding)
