"""``hep send``: send one packet from the command line."""

import argparse
import asyncio
import sys
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from hep.cli.probes import PATIENCE, POLL, was_tried
from hep.cli.usage import DONE, FAILED, WrongInputError, destination, protocol_type
from hep.codec.chunks import ProtocolType
from hep.codec.correlation import call_of
from hep.codec.packet import Packet
from hep.errors import HepEncodeError
from hep.hep_id import HepId
from hep.sending.fitting import LONGEST
from hep.sending.senders import REFUSED, TOO_LONG, Sender, SenderSettings, open_sender

REFUSAL: Final = 0.2
"""Seconds to wait for a sign that the collector did not accept the packet: an ICMP error, by which
the system reports a closed UDP port, or the end of the connection."""


def add_parser(commands: Any) -> None:
    """Add the subcommand ``send`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "send",
        help="send one packet",
        description="Send one packet. Exit status 1 if the collector did not accept it.",
    )
    parser.add_argument(
        "--to", required=True, metavar="HEP_ID", help="host[:port][;transport=udp|tcp|tls]"
        "[;version=1|2|3] (default: port 9060, tcp, version 3)",
    )  # fmt: skip
    parser.add_argument("--src", required=True, metavar="IP:PORT", help="source of the payload")
    parser.add_argument(
        "--dst", required=True, metavar="IP:PORT", help="destination of the payload"
    )
    parser.add_argument(
        "--proto", default="SIP", metavar="NAME|NUMBER", help="protocol type (default: SIP)"
    )
    parser.add_argument(
        "--correlation-id", metavar="ID", help="correlation id (default: the Call-ID, for SIP)"
    )
    parser.add_argument(
        "--capture-id", type=int, default=0, metavar="N", help="capture agent id (default: 0)"
    )
    parser.add_argument(
        "--ip-protocol",
        type=int,
        default=6,
        metavar="N",
        help="IP protocol: 6 is TCP, 17 is UDP (default: 6)",
    )
    parser.add_argument("--auth", metavar="KEY", help="authenticate key (default: none)")
    payload = parser.add_mutually_exclusive_group(required=True)
    payload.add_argument("--payload", metavar="TEXT", help="the payload")
    payload.add_argument(
        "--file", metavar="FILE", help="file with the payload; - is standard input"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep send`` with parsed arguments.

    Returns:
        the exit status: `DONE` or `FAILED`.

    Raises:
        WrongInputError: an argument is wrong, or the file cannot be read.
    """
    to = destination(args.to)
    packet = _packet(args)
    try:
        problem = asyncio.run(send(to, packet))
    except HepEncodeError as exc:
        raise WrongInputError(str(exc)) from exc
    if problem:
        print(f"hep: not sent to {to}: {problem}", file=sys.stderr)
        return FAILED
    print(f"sent to {to}: {len(packet.payload)} bytes of payload")
    return DONE


async def send(to: HepId, packet: Packet) -> str | None:
    """Send a packet and wait until the system has accepted it.

    Args:
        to: the collector.
        packet: the packet, encoded in the version of the collector.

    Returns:
        the reason of a failure, for users; None if the packet was sent.

    Raises:
        HepEncodeError: a value of the packet does not fit its chunk.
    """
    sender = open_sender(to, SenderSettings(connect_timeout=PATIENCE))
    try:
        sender.send(packet)
        if await was_tried(sender):
            await _until_refused(sender)
        hung_up = sender.failures > 0
    finally:
        await sender.aclose(0)
    if sender.counters.sent:
        return sender.last_error if hung_up else None
    [cause] = sender.counters.dropped
    if cause == TOO_LONG:
        return f"the packet is longer than {LONGEST} bytes; shorten the payload"
    if cause == REFUSED:
        return "the UDP port is closed"
    return sender.last_error or f"no connection within {PATIENCE:g} s"


async def _until_refused(sender: Sender) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not sender.failures and loop.time() - began < REFUSAL:  # noqa: ASYNC110 - has no event
        await asyncio.sleep(POLL)


def _packet(args: argparse.Namespace) -> Packet:
    src_ip, src_port = _address("--src", args.src)
    dst_ip, dst_port = _address("--dst", args.dst)
    if (":" in src_ip) != (":" in dst_ip):
        raise WrongInputError(
            f"--src {args.src} and --dst {args.dst}: one address is IPv4, the other IPv6; give two"
            " of the same family"
        )
    payload = _payload(args)
    kind = _protocol_type(args.proto)
    correlation_id = _bytes(args.correlation_id) if args.correlation_id else None
    if correlation_id is None and kind == ProtocolType.SIP:
        correlation_id = call_of(payload)
    now = time.time_ns()
    packet = Packet(
        src_ip=src_ip,
        src_port=src_port,
        dst_ip=dst_ip,
        dst_port=dst_port,
        payload=payload,
        protocol_type=kind,
        ip_protocol=args.ip_protocol,
        seconds=now // 1_000_000_000,
        microseconds=now // 1000 % 1_000_000,
        capture_id=args.capture_id,
        correlation_id=correlation_id,
    )
    return replace(packet, auth_key=_bytes(args.auth)) if args.auth is not None else packet


def _bytes(text: str) -> bytes:
    """Encode an argument as UTF-8; bytes of the command line that are no UTF-8 stay unchanged."""
    return text.encode(errors="surrogateescape")


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        ip = ip_address(host.removeprefix("[").removesuffix("]"))
        if not 0 <= int(port) <= 0xFFFF:
            raise ValueError
    except ValueError:
        raise WrongInputError(
            f"{option} {text!r} is not IP:PORT; write 192.0.2.1:5060, or [2001:db8::1]:5060 for"
            " IPv6"
        ) from None
    return str(ip), int(port)


def _protocol_type(text: str) -> int:
    number = protocol_type(text)
    if number is None:
        names = ", ".join(kind.name for kind in ProtocolType)
        raise WrongInputError(
            f"--proto {text!r} is not a number from 0 to 255 and not one of {names}"
        )
    return number


def _payload(args: argparse.Namespace) -> bytes:
    if args.payload is not None:
        return _bytes(args.payload)
    if args.file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(args.file).read_bytes()
    except OSError as exc:
        raise WrongInputError(f"{args.file}: cannot be read: {exc.strerror}") from exc
