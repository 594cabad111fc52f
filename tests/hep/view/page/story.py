"""A call that is written message by message, and all that the fake viewer holds."""

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hep.view.model.picture import Party, Step, Verdict
from hep.view.model.summary import CallSummary
from hep.view.web.models import CallView, ConnectionView, Header, Message, Related

SECOND = 1_000_000
PHONE, SERVER, UPSTREAM = "192.0.2.17:51324", "198.51.100.5:443", "10.0.0.9:5060"
JSSIP = "JsSIP 3.10.1"
SDP = (
    "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "a=group:BUNDLE 0 1\r\na=msid-semantic: WMS *\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\n"
    "a=ice-ufrag:4aFx\r\na=ice-pwd:by5GZGG1lw+040DWA6hXM5Bz\r\na=setup:actpass\r\na=mid:0\r\n"
    "a=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
    "a=rtpmap:63 red/48000/2\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=candidate:1 1 udp 2113937151 192.0.2.17 54400 typ host generation 0\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\n"
    "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n"
)


@dataclass
class World:
    """All that the fake viewer holds."""

    now: int
    calls: dict[str, CallView] = field(default_factory=dict)
    connections: dict[str, ConnectionView] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    rows: list[CallSummary] = field(default_factory=list)
    """All calls, the latest first; those without a picture are made up when they are opened."""

    def of_call(self, call_id: str) -> CallView | None:
        """The picture of a call."""
        if found := self.calls.get(call_id):
            return found
        row = next((row for row in self.rows if row.call_id == call_id), None)
        if row is None:
            return None
        story = Story(self, row.first, row, two_columns())
        story.message(0, 1, f"{row.method} sip:{row.to_user}@example.com SIP/2.0", "")
        if row.code:
            story.message(1, 0, f"SIP/2.0 {row.code} {row.reason}", "", after=12_000)
        story.finish(Verdict(f"{row.ended or 'It goes on'}.", row.outcome))
        return self.calls[call_id]


def two_columns() -> list[Party]:
    """A phone and a server."""
    return [
        Party("alice", "phone", [PHONE], JSSIP),
        Party("sipws", "server", [SERVER], "sipws/0.9"),
    ]


def three_columns() -> list[Party]:
    """A phone, a server and what is behind it."""
    return [*two_columns(), Party("10.0.0.9", "upstream", [UPSTREAM], "OpenSIPS (3.6.8)")]


class Story:
    """A call, or a connection, that is written message by message."""

    def __init__(self, world: World, start: int, row: CallSummary, parties: list[Party]) -> None:
        self.world, self.at, self.row, self.parties = world, start, row, parties
        self.steps: list[Step] = []
        self.cseq = 1

    def message(
        self,
        source: int,
        destination: int,
        start: str,
        body: str = "",
        *,
        after: int = 0,
        tone: Any = "info",
        detail: str = "",
        cseq: str = "",
        more: Iterable[tuple[str, str]] = (),
        again: int | None = None,
        copy: int | None = None,
        connection: str = "ws-71c2",
        late: bool = False,
    ) -> int:
        """Add a SIP message; returns its index."""
        self.at += after
        request = not start.startswith("SIP/2.0")
        method = start.split(" ")[0] if request else (cseq.split(" ")[-1] or self.row.method)
        cseq = cseq or f"{self.cseq} {method}"
        call_id = self.row.call_id
        branch = zlib.crc32(f"{cseq} {copy}".encode())
        headers = [
            ("Via", f"SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK{branch:x}"),
            ("Max-Forwards", "70" if copy is None else "69"),
            (
                "From",
                f'"{self.row.from_user}" <sip:{self.row.from_user}@{self.row.from_host}>'
                ";tag=9fxced76sl",
            ),
            (
                "To",
                f"<sip:{self.row.to_user}@{self.row.to_host}>"
                + ("" if request and not body else ";tag=8321234356"),
            ),
            ("Call-ID", call_id),
            ("CSeq", cseq),
            ("Contact", f"<sip:{self.row.from_user}@df7jal23ls0d.invalid;transport=ws>;reg-id=1"),
            ("User-Agent" if request else "Server", self.parties[source].user_agent or JSSIP),
            *more,
        ]
        if body:
            headers.append(("Content-Type", "application/sdp"))
        headers.append(("Content-Length", str(len(body.encode("utf-8", "replace")))))
        status = 0 if request else int(start.split(" ")[1])
        label = method if request else " ".join(start.split(" ")[1:])
        addresses = [self.parties[source].addresses[-1], self.parties[destination].addresses[-1]]
        number = self._keep(start, headers, body, "application/sdp" if body else "", addresses)
        detail = detail or (f"CSeq {cseq}" + (", SDP" if body else ""))
        self.steps.append(
            Step(
                number,
                self.at,
                "sip",
                source,
                destination,
                *addresses,
                label,
                detail,
                tone,
                method,
                status,
                bool(body),
                again,
                copy,
                connection,
                late,
            )
        )
        self.row.messages += 1
        self.row.retransmissions += again is not None
        return len(self.steps) - 1

    def event(
        self,
        label: str,
        payload: dict[str, str],
        *,
        after: int = 0,
        tone: Any = "quiet",
        source: int = 0,
        destination: int = 1,
        connection: str = "ws-71c2",
        detail: str = "",
    ) -> None:
        """Add an event of a connection."""
        self.at += after
        addresses = [self.parties[source].addresses[-1], self.parties[destination].addresses[-1]]
        text = json.dumps({"Protocol": "WSS", **payload})
        number = self._keep("", [], text, "application/json", addresses)
        self.steps.append(
            Step(
                number,
                self.at,
                "event",
                source,
                destination,
                *addresses,
                label,
                detail,
                tone,
                connection=connection,
            )
        )

    def _keep(
        self,
        start: str,
        headers: list[tuple[str, str]],
        body: str,
        body_type: str,
        addresses: list[str],
    ) -> int:
        number = len(self.world.messages) + 1
        head = start + "\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers) + "\r\n"
        raw = ((head if start else "") + body).encode("utf-8", "surrogatepass")
        self.world.messages[number] = Message(
            id=number,
            at=self.at,
            src=addresses[0],
            dst=addresses[1],
            protocol="SIP" if start else "NET",
            ip_protocol=6,
            capture_id=2001,
            node="edge-1",
            correlation=self.row.call_id,
            connection="ws-71c2",
            start_line=start,
            headers=[Header(name=n, value=v) for n, v in headers],
            body=body,
            body_type=body_type,
            size=len(raw),
            raw=base64.b64encode(raw[:262_144]).decode(),
        )
        return number

    def finish(
        self, verdict: Verdict, connections: Iterable[str] = (), related: Iterable[Related] = ()
    ) -> None:
        """Keep it as a call."""
        row = self.row
        row.last = max(step.at for step in self.steps)
        row.first = min(step.at for step in self.steps if step.kind == "sip")
        row.addresses = [address for party in self.parties for address in party.addresses]
        row.connections = list(connections)
        row.outcome = verdict.outcome
        if row not in self.world.rows:
            self.world.rows.append(row)
        known = [
            self.world.connections[c].connection for c in connections if c in self.world.connections
        ]
        self.world.calls[row.call_id] = CallView(
            call=row,
            verdict=verdict,
            parties=self.parties,
            steps=self.steps,
            connections=known,
            related=list(related),
            left_out=3 if row.kind == "call" else 0,
        )
