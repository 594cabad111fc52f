"""The addresses of a call: phones, the server that traces, and its upstream. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from hep.sip import first
from hep.view.model.calls import Call
from hep.view.model.record import Record, Sip
from hep.view.model.summary import ConnectionSummary

Side = Literal["caller", "callee", "upstream", ""]

_server: Final = first("server")
_NO_PLACE: Final = (".invalid", "transport=ws", ";gr=")
"""What Contacts of phones have that one cannot send to: those of WebSocket (RFC 7118 section 5),
and those that a registrar gave to a phone (RFC 5627)."""


def one_message(sip: Sip) -> tuple[str, int, int, str, str]:
    """What a message has in common with its retransmissions and its copies on other legs."""
    return sip.method, sip.status, sip.cseq, sip.from_tag, sip.to_tag


class Sides:
    """The addresses of a call.

    Args:
        messages: its SIP records in the order of their times.
        call: the call that they were fed to.
        connections: connections that may be those of its parties.
    """

    def __init__(
        self,
        messages: Sequence[Record],
        call: Call,
        connections: Iterable[ConnectionSummary],
    ) -> None:
        method = call.summary.method
        self.caller = ""
        """Address that sent the first request."""
        self.first_hop = ""
        """Address that it sent it to."""
        self.callees: list[str] = []
        """Addresses that got it and did not pass it on, in order of appearance."""
        self.first_sent: dict[tuple[str, int, int, str, str], Record] = {}
        """The first packet of each message, by what all its packets have in common."""
        self.connections: list[ConnectionSummary] = []
        """The connections that the call used."""
        got: dict[str, None] = {}
        passed_on: set[str] = set()
        addresses: set[str] = set()
        senders: set[str] = set()
        for record in messages:
            sip = record.sip
            if sip is None:
                continue
            addresses |= {record.src, record.dst}
            senders.add(record.src)
            self.first_sent.setdefault(one_message(sip), record)
            if sip.method != method:
                continue
            if sip.is_request and not (sip.to_tag and method == "INVITE"):
                if not self.caller:
                    self.caller, self.first_hop = record.src, record.dst
                got[record.dst] = None
                passed_on.add(record.src)
            elif sip.status and not self.caller:
                self.caller = record.dst
        self._passed_on = passed_on
        self._got = got
        ids = set(call.summary.connections)
        self.all_connections = list(connections)
        """All connections that may matter."""
        for each in self.all_connections:
            # Clients share the address that they connect to, and connections to an upstream its.
            own = each.local if each.leg == "upstream" and each.local else each.peer
            is_over = bool(each.until) and each.until < call.summary.first
            is_used = own in addresses or each.id in ids
            if is_used and not is_over and each.since <= call.summary.last:
                self.connections.append(each)
        self._upstreams = {each.peer for each in self.connections if each.leg == "upstream"}
        self._phones = {each.peer for each in self.connections if each.leg == "client"}
        self._servers = {each.local for each in self.connections} - self._upstreams - self._phones
        self._web_phones = {
            record.src
            for record in self.first_sent.values()
            if record.sip is not None
            and any(place in record.sip.contact for place in _NO_PLACE)
            and record.src not in passed_on - {self.caller}
        }
        inner = self._servers | self._upstreams | (passed_on & set(got)) | {self.caller}
        # A server may receive at an address from which it only passes messages on.
        starters = {record.src for record in self.first_sent.values()}
        silent = addresses - senders
        inner |= addresses - starters - silent
        self.callees = [address for address in got if address and address not in inner]

    def name(self, record: Record) -> str:
        """Who sent a packet, as a part of a sentence; an address where that is not certain."""
        address = record.src
        if address in self._upstreams:
            return "the upstream"
        if address in self._servers:
            return "the server"
        is_caller = address == self.caller
        if address in self._phones or address in self._web_phones:
            if is_caller:
                return "the phone of the caller"
            return f"{'a' if len(self.callees) > 1 else 'the'} phone of the callee"
        if is_caller:
            return "the caller"
        if address in self._got and address in self._passed_on:
            return "the server"
        if len(self._got) == 1 and _server(record.payload):
            return "the server"
        return address or "an unknown address"

    def is_phone(self, address: str) -> bool:
        """Whether an address is certainly a phone's."""
        return address in self._phones

    def is_server(self, address: str) -> bool:
        """Whether an address is certainly the server's or its upstream's."""
        return address in self._servers or address in self._upstreams

    def side(self, connection: ConnectionSummary) -> Side:
        """Whose connection it is."""
        if connection.leg == "upstream":
            return "upstream"
        if connection.peer == self.caller:
            return "caller"
        return "callee" if connection.peer in self.callees else ""
