"""What the fake viewer shows: calls and connections with their messages, built of the real models."""

import base64
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hep.view.model.picture import Party, Step, Verdict
from hep.view.model.summary import CallSummary, ConnectionSummary
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
HOSTILE = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">'
TRICKS = "evil\u202egnp.exe\u2066\u200b\x1b[31mred\x07\u2028next\u2029\x00end"


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
        self, source: int, destination: int, start: str, body: str = "", *, after: int = 0,
        tone: Any = "info", detail: str = "", cseq: str = "", more: Iterable[tuple[str, str]] = (),
        again: int | None = None, copy: int | None = None, connection: str = "ws-71c2",
        late: bool = False,
    ) -> int:  # fmt: skip
        """Add a SIP message; returns its index."""
        self.at += after
        request = not start.startswith("SIP/2.0")
        method = start.split(" ")[0] if request else (cseq.split(" ")[-1] or self.row.method)
        cseq = cseq or f"{self.cseq} {method}"
        call_id = self.row.call_id
        headers = [
            ("Via", f"SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK{abs(hash((cseq, copy))):x}"[:90]),
            ("Max-Forwards", "70" if copy is None else "69"),
            ("From", f'"{self.row.from_user}" <sip:{self.row.from_user}@{self.row.from_host}>;tag=9fxced76sl'),
            ("To", f"<sip:{self.row.to_user}@{self.row.to_host}>" + ("" if request and not body else ";tag=8321234356")),
            ("Call-ID", call_id),
            ("CSeq", cseq),
            ("Contact", f"<sip:{self.row.from_user}@df7jal23ls0d.invalid;transport=ws>;reg-id=1"),
            ("User-Agent" if request else "Server", self.parties[source].user_agent or JSSIP),
            *more,
        ]  # fmt: skip
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
                number, self.at, "sip", source, destination, *addresses, label, detail, tone,
                method, status, bool(body), again, copy, connection, late,
            )
        )  # fmt: skip
        self.row.messages += 1
        self.row.retransmissions += again is not None
        return len(self.steps) - 1

    def event(
        self, label: str, payload: dict[str, str], *, after: int = 0, tone: Any = "quiet",
        source: int = 0, destination: int = 1, connection: str = "ws-71c2", detail: str = "",
    ) -> None:  # fmt: skip
        """Add an event of a connection."""
        self.at += after
        addresses = [self.parties[source].addresses[-1], self.parties[destination].addresses[-1]]
        text = json.dumps({"Protocol": "WSS", **payload})
        number = self._keep("", [], text, "application/json", addresses)
        self.steps.append(
            Step(number, self.at, "event", source, destination, *addresses, label, detail, tone,
                 connection=connection)
        )  # fmt: skip

    def _keep(
        self, start: str, headers: list[tuple[str, str]], body: str, body_type: str,
        addresses: list[str],
    ) -> int:  # fmt: skip
        number = len(self.world.messages) + 1
        head = start + "\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers) + "\r\n"
        raw = ((head if start else "") + body).encode("utf-8", "surrogatepass")
        self.world.messages[number] = Message(
            id=number, at=self.at, src=addresses[0], dst=addresses[1],
            protocol="SIP" if start else "NET", ip_protocol=6, capture_id=2001, node="edge-1",
            correlation=self.row.call_id, connection="ws-71c2", start_line=start,
            headers=[Header(name=n, value=v) for n, v in headers], body=body, body_type=body_type,
            size=len(raw), raw=base64.b64encode(raw[:262_144]).decode(),
        )  # fmt: skip
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
            call=row, verdict=verdict, parties=self.parties, steps=self.steps,
            connections=known, related=list(related), left_out=3 if row.kind == "call" else 0,
        )  # fmt: skip


UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Origin: https://phone.example.com\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/128.0\r\n\r\n"
)
SWITCHING = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)


def _connections(world: World) -> None:
    now = world.now
    rows = [
        ConnectionSummary("ws-71c2", "WSS", PHONE, SERVER, since=now - 900 * SECOND, last=now - 20 * SECOND,
            user_agent=JSSIP, origin="https://phone.example.com", host="sip.example.com",
            resource="/ws", aor="alice@example.com", status=101, messages_in=41, messages_out=38,
            relayed_with="up-71c2", calls=["call-two-legs@192.0.2.17"]),
        ConnectionSummary("up-71c2", "WS", UPSTREAM, "10.0.0.5:40022", "upstream", now - 899 * SECOND,
            last=now - 20 * SECOND, status=101, relayed_with="ws-71c2", client=PHONE,
            messages_in=38, messages_out=41, calls=["call-two-legs@192.0.2.17"]),
        ConnectionSummary("ws-9d04", "WSS", "203.0.113.80:60112", SERVER, since=now - 700 * SECOND,
            until=now - 300 * SECOND, last=now - 341 * SECOND, state="closed", aor="bob@example.com",
            user_agent="SIP.js/0.21.2", origin="https://phone.example.com", status=101, code=1006,
            reason="connection reset", closed_by="peer", error="connection-lost",
            error_detail="[Errno 104] Connection reset by peer", messages_in=12, messages_out=11,
            bytes_in=9120, bytes_out=8011, calls=["call-lost@203.0.113.80"]),
        ConnectionSummary("ws-aa10", "WSS", "203.0.113.9:41000", SERVER, since=now - 500 * SECOND,
            until=now - 500 * SECOND, last=now - 500 * SECOND, state="refused", status=400,
            error="no-subprotocol", user_agent="python-websockets/13.0",
            error_detail="the request offers no subprotocol sip; offered: chat"),
        ConnectionSummary("ws-aa11", "WS", "203.0.113.9:41022", SERVER, since=now - 480 * SECOND,
            until=now - 480 * SECOND, last=now - 480 * SECOND, state="refused", status=403,
            error="origin", origin="https://evil.example", error_detail="Origin https://evil.example is not allowed"),
        ConnectionSummary("ws-aa12", "WSS", "203.0.113.10:40001", SERVER, since=now - 470 * SECOND,
            until=now - 470 * SECOND, last=now - 470 * SECOND, state="failed", error="tls",
            error_detail="tlsv1 alert unknown ca"),
        ConnectionSummary("ws-evil", "WSS", "203.0.113.66:6666", SERVER, since=now - 60 * SECOND,
            last=now - 50 * SECOND, user_agent=HOSTILE, origin=TRICKS, aor=f"{TRICKS}@x", host=HOSTILE,
            resource=HOSTILE, status=101),
    ]  # fmt: skip
    for i, row in enumerate(rows):
        row.calls = [call for call in row.calls if call]
        story = Story(world, row.since, CallSummary(row.id), two_columns())
        story.parties[0].addresses = [row.peer]
        if row.state in ("refused", "failed"):
            story.event(f"refused {row.status or ''}".strip(), {"Event": "ACCEPTED", "Status": "FAILURE",
                "Error": row.error, "Error_Detail": row.error_detail}, tone="bad")  # fmt: skip
        else:
            story.event("opened", {"Event": "ACCEPTED", "Ws-Request": UPGRADE, "Ws-Reply": SWITCHING,
                "Status": "SUCCESS"}, tone="good", connection=row.id)  # fmt: skip
            story.row.method = "REGISTER"
            story.message(0, 1, "REGISTER sip:example.com SIP/2.0", after=20_000, connection=row.id)
            story.message(1, 0, "SIP/2.0 200 OK", after=9_000, tone="good", connection=row.id)
        if row.state == "closed":
            story.event(f"closed {row.code} by the peer", {"Event": "CLOSED", "Close_Code": str(row.code)},
                after=400 * SECOND, tone="bad", connection=row.id)  # fmt: skip
        hostile = row.id == "ws-evil"
        world.connections[row.id] = ConnectionView(
            connection=row,
            request=f"GET {HOSTILE} HTTP/1.1\r\nX: {TRICKS}\r\n\r\n" if hostile else UPGRADE,
            reply=SWITCHING if row.status == 101 else f"HTTP/1.1 {row.status or 0} Refused\r\n\r\n",
            parties=story.parties, steps=story.steps, calls=[],
        )  # fmt: skip
        if i == 1:
            world.connections["ws-71c2"].other = row
            world.connections["up-71c2"].other = rows[0]


def _row(call_id: str, kind: Any, method: str, who: str, to: str, **more: Any) -> CallSummary:
    return CallSummary(
        call_id, kind, method, from_user=who, from_host="example.com", to_user=to,
        to_host="example.com", user_agent=more.pop("user_agent", JSSIP), **more,
    )  # fmt: skip


def _registration(world: World) -> None:
    row = _row("reg-7fk2@192.0.2.17", "registration", "REGISTER", "alice", "alice",
               state="ended", code=200, reason="OK", ended="200 OK")  # fmt: skip
    story = Story(world, world.now - 890 * SECOND, row, three_columns())
    story.event("opened", {"Event": "ACCEPTED", "Ws-Request": UPGRADE, "Ws-Reply": SWITCHING,
        "Status": "SUCCESS", "Message": "Connection accepted..."}, tone="good", detail="wss, sip")  # fmt: skip
    a = story.message(0, 1, "REGISTER sip:example.com SIP/2.0", after=31_402)
    b = story.message(1, 2, "REGISTER sip:example.com SIP/2.0", after=612, copy=a)
    c = story.message(2, 1, "SIP/2.0 401 Unauthorized", after=8_113, tone="warn")
    story.message(1, 0, "SIP/2.0 401 Unauthorized", after=420, tone="warn", copy=c)
    story.cseq = 2
    auth = [("Authorization", 'Digest username="alice", realm="example.com", response="…"')]
    a = story.message(0, 1, "REGISTER sip:example.com SIP/2.0", after=11_201, more=auth)
    b = story.message(1, 2, "REGISTER sip:example.com SIP/2.0", after=512, copy=a, more=auth)
    assert b
    c = story.message(2, 1, "SIP/2.0 200 OK", after=9_900, tone="good")
    story.message(1, 0, "SIP/2.0 200 OK", after=390, tone="good", copy=c)
    story.finish(
        Verdict("Registered for 600 s.", "ok", ["Challenged with 401 and answered."]), ["ws-71c2"]
    )


def _two_legs(world: World) -> None:
    start = world.now - 400 * SECOND
    row = _row("call-two-legs@192.0.2.17", "call", "INVITE", "alice", "bob", state="ended", code=200,
        reason="OK", ended="BYE of the callee", answered_at=start + 4 * SECOND,
        ended_at=start + 186 * SECOND)  # fmt: skip
    story = Story(
        world,
        start,
        row,
        [*three_columns(), Party("bob", "phone", ["203.0.113.80:60112"], "SIP.js/0.21.2")],
    )

    def relayed(
        path: list[int],
        line: str,
        body: str = "",
        after: int = 0,
        cseq: str = "",
        tone: Any = "info",
    ) -> int:
        previous = first = story.message(
            path[0], path[1], line, body, after=after, cseq=cseq, tone=tone
        )
        for a, b in zip(path[1:], path[2:], strict=False):
            previous = story.message(
                a, b, line, body, after=700, copy=previous, cseq=cseq, tone=tone
            )
        return first

    there, back = [0, 1, 2, 3], [3, 2, 1, 0]
    first = relayed(there, "INVITE sip:bob@example.com SIP/2.0", SDP)
    story.message(1, 0, "SIP/2.0 100 Trying", after=900, tone="quiet")
    story.message(
        2, 3, "INVITE sip:bob@example.com SIP/2.0", SDP, after=500_000, again=first + 2, tone="warn"
    )
    story.message(
        2,
        3,
        "INVITE sip:bob@example.com SIP/2.0",
        SDP,
        after=1_000_000,
        again=first + 2,
        tone="warn",
    )
    relayed(back, "SIP/2.0 180 Ringing", after=212_000)
    relayed(back, "SIP/2.0 200 OK", SDP, after=2_280_000, tone="good")
    relayed(there, "ACK sip:bob@203.0.113.80 SIP/2.0", after=12_000, cseq="1 ACK", tone="quiet")
    story.event("ping timeout", {"Event": "PING", "Message": "no pong for 30 s, answered late"},
        after=31 * SECOND, tone="warn")  # fmt: skip
    story.cseq = 2
    relayed(
        there,
        "INVITE sip:bob@203.0.113.80 SIP/2.0",
        SDP.replace("sendrecv", "sendonly"),
        after=20 * SECOND,
    )
    relayed(back, "SIP/2.0 200 OK", SDP.replace("sendrecv", "recvonly"), after=80_000, tone="good")
    relayed(there, "ACK sip:bob@203.0.113.80 SIP/2.0", after=12_000, cseq="2 ACK", tone="quiet")
    story.cseq = 3
    relayed(back, "BYE sip:alice@192.0.2.17 SIP/2.0", after=131 * SECOND, cseq="3 BYE")
    relayed(there, "SIP/2.0 200 OK", after=31_000, cseq="3 BYE", tone="good")
    story.event("closed 1001 by the peer", {"Event": "CLOSED", "Close_Code": "1001", "Close_Reason": "going away"},
        after=4 * SECOND, tone="quiet", detail="going away")  # fmt: skip
    story.finish(
        Verdict("Ended by BYE of the callee after 3 min 2 s.", "ok",
            ["INVITE was sent again 2 times by 10.0.0.9.", "A re-INVITE put the call on hold after 55 s."]),
        ["ws-71c2", "up-71c2"], [Related(call_id="call-lost@203.0.113.80", why="X-CID")],
    )  # fmt: skip


def _refused_and_lost(world: World) -> None:
    row = _row("call-busy@192.0.2.17", "call", "INVITE", "alice", "carol", state="ended", code=486,
        reason="Busy Here", ended="486 of the upstream")  # fmt: skip
    story = Story(world, world.now - 360 * SECOND, row, three_columns())
    first = story.message(0, 1, "INVITE sip:carol@example.com SIP/2.0", SDP)
    story.message(1, 2, "INVITE sip:carol@example.com SIP/2.0", SDP, after=800, copy=first)
    busy = story.message(2, 1, "SIP/2.0 486 Busy Here", after=91_000, tone="bad")
    story.message(1, 0, "SIP/2.0 486 Busy Here", after=420, tone="bad", copy=busy)
    first = story.message(
        0, 1, "ACK sip:carol@example.com SIP/2.0", after=5_000, cseq="1 ACK", tone="quiet"
    )
    story.message(
        1, 2, "ACK sip:carol@example.com SIP/2.0", after=500, cseq="1 ACK", tone="quiet", copy=first
    )
    story.finish(Verdict("Rejected by the upstream: 486 Busy Here.", "rejected"), ["ws-71c2"])

    row = _row("call-lost@203.0.113.80", "call", "INVITE", "dave", "bob", state="ended", ended="closed 1006",
        user_agent="Acrobits/7.1")  # fmt: skip
    story = Story(world, world.now - 341 * SECOND, row, three_columns())
    story.message(2, 1, "INVITE sip:bob@example.com SIP/2.0", SDP)
    story.message(
        1, 0, "INVITE sip:bob@example.com SIP/2.0", SDP, after=600, copy=0, connection="ws-9d04"
    )
    story.message(
        2,
        1,
        "INVITE sip:bob@example.com SIP/2.0",
        SDP,
        after=500_000,
        again=0,
        tone="warn",
        late=True,
    )
    story.event("closed 1006 by the peer", {"Event": "CLOSED", "Close_Code": "1006",
        "Error": "connection-lost", "Error_Detail": "[Errno 104] Connection reset by peer"},
        after=41 * SECOND, tone="bad", connection="ws-9d04", detail="connection reset")  # fmt: skip
    story.message(1, 2, "SIP/2.0 480 Temporarily Unavailable", after=900, tone="bad")
    story.finish(
        Verdict("No answer: the phone's connection closed with 1006, 41 s after its last message; "
                "it registered again 12 s later.", "lost", ["One message came late and out of order."]),
        ["ws-9d04"], [Related(call_id="call-two-legs@192.0.2.17", why="X-CID")])  # fmt: skip


def _hostile(world: World) -> None:
    row = CallSummary(
        f"evil/{HOSTILE}?&#%{TRICKS}", "call", "INVITE", from_user=HOSTILE, from_host=TRICKS,
        to_user=TRICKS, to_host=HOSTILE, user_agent=HOSTILE + TRICKS, state="ended", code=666,
        reason=HOSTILE, ended=TRICKS,
    )  # fmt: skip
    parties = [
        Party(HOSTILE, "phone", [HOSTILE], TRICKS),
        Party(TRICKS, "server", [SERVER], HOSTILE),
    ]
    story = Story(world, world.now - 100 * SECOND, row, parties)
    many = [("X-Long", "A" * 65_536), ("X-Script", HOSTILE), ("X-Tricks", TRICKS), ("X-Folded", "a\r\n b\r\n\tc"),
            ("X-Right", "\u05d0\u05d1\u05d2 \u0627\u0628 left")]  # fmt: skip
    story.message(
        0, 1, f"INVITE sip:{HOSTILE} SIP/2.0", SDP + f"a={HOSTILE}\r\na={TRICKS}\r\n", more=many
    )
    story.steps[0].label, story.steps[0].detail = HOSTILE, TRICKS
    story.message(1, 0, f"SIP/2.0 603 {TRICKS}", after=1000, tone="bad", more=many)
    story.event(
        HOSTILE, {"Event": HOSTILE, "Error_Detail": TRICKS, "Ws-Request": HOSTILE * 300}, after=10
    )
    story.finish(
        Verdict(f"Rejected: {HOSTILE} {TRICKS}", "rejected", [HOSTILE, TRICKS]), ["ws-evil"]
    )
    row.addresses = [HOSTILE, TRICKS]


NAMES = (
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "4930123456",
    "100",
    "mallory",
)
AGENTS = (
    JSSIP,
    "SIP.js/0.21.2",
    "Linphone-Desktop/5.2",
    "baresip v3.14",
    "Zoiper v5",
    "Acrobits/7.1",
    "snomD865/10.1",
)
CODES = {
    486: "Busy Here",
    404: "Not Found",
    603: "Decline",
    408: "Request Timeout",
    503: "Service Unavailable",
}


def random_row(rng: random.Random, at: int, number: int) -> CallSummary:
    """A call as any."""
    kind, method = rng.choices(
        [("call", "INVITE"), ("registration", "REGISTER"), ("subscription", "SUBSCRIBE"), ("message", "MESSAGE"), ("options", "OPTIONS")],
        [50, 28, 5, 7, 10],
    )[0]  # fmt: skip
    caller, callee = rng.choice(NAMES), rng.choice(NAMES)
    row = _row(f"{number:06d}-{rng.getrandbits(32):08x}@192.0.2.{number % 250}", kind, method, caller,
        caller if kind == "registration" else callee, user_agent=rng.choice(AGENTS),
        first=at, messages=rng.randint(2, 24))  # fmt: skip
    row.addresses = [f"192.0.2.{number % 250}:5{number % 10_000:04d}", SERVER]
    row.last = at + rng.randint(100, 300_000)
    row.state, row.outcome, row.code, row.reason, row.ended = "ended", "ok", 200, "OK", "200 OK"
    if kind != "call":
        if rng.random() < 0.06:
            row.outcome, row.code, row.reason, row.ended = (
                "rejected",
                403,
                "Forbidden",
                "403 of the upstream",
            )
        return row
    dice = rng.random()
    row.last = at + rng.randint(1, 900) * SECOND
    row.ended_at = row.last
    if dice < 0.6:
        row.answered_at = at + rng.randint(1, 9) * 300_000
        row.ended = rng.choice(["BYE of the caller", "BYE of the callee"])
    elif dice < 0.72:
        row.outcome, row.code, row.reason, row.ended = (
            "cancelled",
            487,
            "Request Terminated",
            "CANCEL of the caller",
        )
    elif dice < 0.93:
        row.code = rng.choice(list(CODES))
        row.reason = CODES[row.code]
        row.outcome = "failed" if row.code in (408, 503) else "rejected"
        row.ended = f"{row.code} of the upstream"
    else:
        row.outcome, row.code, row.reason, row.ended = "lost", 0, "", "closed 1006 by the peer"
    row.retransmissions = rng.choice([0, 0, 0, 0, 2])
    return row


def build(now: int, rows: int) -> World:
    """All stories, and calls up to a number of rows."""
    world = World(now)
    _connections(world)
    _registration(world)
    _two_legs(world)
    _refused_and_lost(world)
    _hostile(world)
    rng = random.Random(7118)
    at = now - 2 * SECOND
    for number in range(max(rows - len(world.rows), 0)):
        row = random_row(rng, at, number)
        if number in (1, 4):
            row.kind, row.method, row.state, row.outcome, row.code, row.ended, row.reason, row.ended_at = (
                "call", "INVITE", "ringing" if number == 1 else "answered", "open", 0, "", "", 0)  # fmt: skip
            row.answered_at = row.first if number == 4 else 0
        row.last = min(row.last, now)
        world.rows.append(row)
        at -= rng.randint(100_000, 9 * SECOND)
    for view in world.connections.values():
        view.calls = [world.calls[c].call for c in view.connection.calls if c in world.calls]
    world.rows.sort(key=lambda row: row.first, reverse=True)
    return world
