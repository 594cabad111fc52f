"""The command ``hep``.

Exit status: 0 done, 1 the thing asked about failed, 2 the user's input was wrong.
"""

import argparse
import asyncio
import re
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from hep.captures.pcap_writer import PcapWriter
from hep.cli import display, doctor, replay, send
from hep.cli.usage import (
    DONE,
    FAILED,
    CommandParser,
    WrongInputError,
    on_signals,
    packets_in,
    print_error,
    run_command,
    server_tls,
)
from hep.codec.any_version import decode
from hep.codec.chunks import protocol_name
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepError
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``hep``.

    Args:
        argv: the arguments without the program's name; None for those of the process.

    Returns:
        the exit status.
    """
    return run_command(_parser(), argv, WrongInputError)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="hep", description="Send, receive and read HEP, the Homer Encapsulation Protocol."
    )
    parser.add_argument("--version", action="version", version=f"hep {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listen = commands.add_parser(
        "listen",
        help="receive packets and print each as a line",
        description="Receive packets and print each as a line, until Ctrl-C; then the totals."
        f" Without an address: UDP and TCP on {DEFAULT_ADDRESS}.",
    )
    listen.add_argument("--udp", metavar="HOST:PORT", help="listen on UDP")
    listen.add_argument("--tcp", metavar="HOST:PORT", help="listen on TCP")
    listen.add_argument("--tls", metavar="HOST:PORT", help="listen on TLS")
    listen.add_argument("--tls-certificate", metavar="FILE", help="certificate to show, PEM")
    listen.add_argument(
        "--tls-key", metavar="FILE", help="its private key, unless that file holds it"
    )
    listen.add_argument(
        "--write",
        metavar="FILE.pcap",
        help="write the traced messages to a capture, which any SIP tool opens",
    )
    listen.add_argument("--json", action="store_true", help="print each packet as a JSON object")
    listen.add_argument("--count", type=int, metavar="N", help="end after N packets")
    listen.add_argument(
        "--auth", metavar="KEY", help="accept only packets with this authenticate key"
    )
    listen.set_defaults(run=_listen)

    read = commands.add_parser(
        "decode",
        help="print the packets in files",
        description="Print the packets in files: one or more HEPv3 packets one behind the other,"
        " or one of version 1 or 2, as bytes or as hexadecimal text.",
    )
    read.add_argument("files", nargs="+", metavar="FILE", help="file; - for standard input")
    read.add_argument("--json", action="store_true", help="one JSON object a packet, a line each")
    read.set_defaults(run=_decode)

    send.add_parser(commands)
    replay.add_parser(commands)
    doctor.add_parser(commands)
    return parser


def _version() -> str:
    try:
        return version("sipws")
    except PackageNotFoundError:
        return "from a source tree"


def _listen(args: argparse.Namespace) -> int:
    if args.count is not None and args.count < 1:
        raise WrongInputError(f"--count {args.count} is not a number of packets; use 1 or more")
    where = {"udp": args.udp, "tcp": args.tcp, "tls": args.tls}
    if not any(where.values()):
        where = {"udp": DEFAULT_ADDRESS, "tcp": DEFAULT_ADDRESS}
    return asyncio.run(_receive(where, _tls_context(args), args))


def _tls_context(args: argparse.Namespace) -> ssl.SSLContext | None:
    if args.tls is None:
        return None
    return server_tls(f"--tls {args.tls}", args.tls_certificate, args.tls_key)


async def _receive(
    where: dict[str, str | None], tls_context: ssl.SSLContext | None, args: argparse.Namespace
) -> int:
    stop = asyncio.Event()
    on_signals(stop.set)
    colour = sys.stdout.isatty()
    by_protocol: Counter[str] = Counter()
    writer: PcapWriter | None = None
    unwritten = 0

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
        if stop.is_set():
            return
        by_protocol[protocol_name(packet.protocol_type)] += 1
        write(packet)
        try:
            print(_as_text(packet, args.json, colour), flush=True)
        except BrokenPipeError:
            stop.set()
        if args.count is not None and by_protocol.total() >= args.count:
            stop.set()

    # Arguments that are not UTF-8 are passed on byte by byte.
    auth_key = args.auth.encode(errors="surrogateescape") if args.auth is not None else None
    collector = Collector(
        show,
        udp=where["udp"],
        tcp=where["tcp"],
        tls=where["tls"],
        tls_context=tls_context,
        auth_key=auth_key,
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
    others = "".join(
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


def _decode(args: argparse.Namespace) -> int:
    status = DONE
    for name in args.files:
        for packet in _packets(_read(name)):
            if isinstance(packet, HepDecodeError):
                print_error("hep", f"{name}: {packet}")
                status = FAILED
            elif args.json:
                print(display.as_json_line(packet))
            else:
                print(display.describe(packet))
    return status


def _read(name: str) -> bytes:
    if name == "-":
        data = sys.stdin.buffer.read()
    else:
        try:
            data = Path(name).read_bytes()
        except OSError as exc:
            raise WrongInputError(f"{name}: cannot be read: {exc.strerror}") from exc
    if re.fullmatch(rb"[0-9A-Fa-f\s]+", data):
        try:
            return bytes.fromhex(data.decode())
        except ValueError as exc:
            raise WrongInputError(f"{name}: hexadecimal text with an odd number of digits") from exc
    return data


def _packets(data: bytes) -> Iterator[Packet | HepDecodeError]:
    """Decode the packets of a file; an error takes the place of a packet that is none."""
    found, skipped = packets_in(data)
    for each in found:
        try:
            yield decode(each)
        except HepDecodeError as exc:
            yield exc
    if skipped:
        yield HepDecodeError(f"{skipped} bytes of the file are not HEP", 0)


def _as_text(packet: Packet, as_json: bool, colour: bool) -> str:
    return display.as_json_line(packet) if as_json else display.line(packet, colour=colour)
