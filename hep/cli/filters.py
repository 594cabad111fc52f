"""Filters of packets, shared by ``hep listen`` and ``hep replay``."""

import argparse
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from hep.cli.usage import WrongInputError, protocol_type
from hep.codec.chunks import ProtocolType
from hep.codec.packet import Packet
from hep.sip import call_id, first, is_sip, start_line

_CALL_ID_KEYS: Final = ("Call_ID", "Call-ID", "Call_IDs", "Call-IDs")
"""Members of network events of sipws with Call-IDs."""

_cseq: Final = first("cseq")

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that a packet must all meet. An empty one is met by every packet."""

    types: frozenset[int] = frozenset()
    """Protocol types (chunk 0x000b)."""
    methods: frozenset[bytes] = frozenset()
    """SIP methods in upper case; of a response, that of its CSeq."""
    call_ids: frozenset[bytes] = frozenset()
    """Call-IDs or correlation ids."""
    networks: tuple[Network, ...] = ()
    """Networks, one of which has the source or the destination."""
    pattern: re.Pattern[bytes] | None = None
    """Regular expression that is found in the payload."""

    def matches(self, packet: Packet) -> bool:
        """Whether a packet meets all conditions. Pure."""
        return (
            (not self.types or packet.protocol_type in self.types)
            and (not self.networks or self._has_address(packet))
            and (not self.call_ids or not self.call_ids.isdisjoint(_call_ids(packet)))
            and (not self.methods or method(packet.payload) in self.methods)
            and (self.pattern is None or self.pattern.search(packet.payload) is not None)
        )

    def _has_address(self, packet: Packet) -> bool:
        for text in (packet.src_ip, packet.dst_ip):
            if text is not None:
                address = ip_address(text)
                address = getattr(address, "ipv4_mapped", None) or address
                if any(address in network for network in self.networks):
                    return True
        return False


def method(payload: bytes) -> bytes:
    """The SIP method of a message in upper case; empty if it is not SIP."""
    if not is_sip(payload):
        return b""
    word, _, _ = (start_line(payload) or b"").partition(b" ")
    if word.upper() != b"SIP/2.0":
        return word.upper()
    _, _, of_request = _cseq(payload).rpartition(b" ")
    return of_request.strip().upper()


def _call_ids(packet: Packet) -> Iterable[bytes]:
    if packet.correlation_id:
        yield packet.correlation_id
    payload = packet.payload
    if payload.startswith(b"{"):
        try:
            members = json.loads(payload)
        except (ValueError, RecursionError):
            return
        for key in _CALL_ID_KEYS:
            found = members.get(key)
            ids = re.split(r"[,\s]+", found) if isinstance(found, str) else found
            for each in ids if isinstance(ids, list) else ():
                yield str(each).encode(errors="backslashreplace")
    elif (found := call_id(payload)) is not None:
        yield found


def add_arguments(parser: argparse.ArgumentParser, *, replay: bool) -> None:
    """Add the options of filters.

    Args:
        parser: parser of a subcommand.
        replay: whether it is ``hep replay``, which has ``--method``; else ``hep listen``, which has
            ``--type`` and ``--grep``.
    """
    group = parser.add_argument_group(
        "filters", "Only packets that meet all of them. An option may occur several times."
    )

    def add(option: str, metavar: str, text: str) -> None:
        group.add_argument(option, action="append", default=[], metavar=metavar, help=text)

    if replay:
        add("--method", "METHOD", "SIP method, such as INVITE; its responses too")
    else:
        add("--type", "TYPE", "protocol: sip, rtcp, log, net, … or a number")
    add("--call-id", "ID", "Call-ID, or correlation id of a packet that is not SIP")
    add("--ip", "ADDRESS", "address or network of source or destination, such as 192.0.2.0/24")
    if not replay:
        group.add_argument(
            "--grep", metavar="REGEX", help="regular expression that is found in the payload"
        )


def from_arguments(args: argparse.Namespace) -> Filter:
    """Make the filter that the options describe.

    Raises:
        WrongInputError: a value is wrong.
    """
    given: dict[str, Any] = vars(args)
    pattern = given.get("grep")
    try:
        compiled = re.compile(_encoded(pattern)) if pattern is not None else None
    except re.error as exc:
        raise WrongInputError(f"--grep {pattern!r}: not a regular expression: {exc}") from exc
    return Filter(
        frozenset(map(_type, given.get("type", ()))),
        frozenset(_encoded(each).upper() for each in given.get("method", ())),
        frozenset(map(_encoded, args.call_id)),
        tuple(map(_network, args.ip)),
        compiled,
    )


def _encoded(text: str) -> bytes:
    # Arguments that are not UTF-8 are passed on byte by byte.
    return text.encode(errors="surrogateescape")


def _type(text: str) -> int:
    number = protocol_type(text)
    if number is None:
        names = ", ".join(each.name.lower() for each in ProtocolType)
        raise WrongInputError(f"--type {text}: give a number from 0 to 255, or one of {names}")
    return number


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError as exc:
        raise WrongInputError(
            f"--ip {text}: give an IP address, or a network such as 192.0.2.0/24"
        ) from exc
