"""What the fake viewer shows: calls and connections of all kinds, built of the real models."""

import random
from itertools import pairwise
from typing import Any

from story import (
    JSSIP,
    PHONE,
    SDP,
    SECOND,
    SERVER,
    UPSTREAM,
    Story,
    World,
    three_columns,
    two_columns,
)

from hep.view.model.connections import sentence
from hep.view.model.picture import Party, Verdict
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.web.models import ConnectionView, Related

HOSTILE = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">'
TRICKS = "evil\u202egnp.exe\u2066\u200b\x1b[31mred\x07\u2028next\u2029\x00end"
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
        ConnectionSummary(
            "ws-71c2",
            "WSS",
            PHONE,
            SERVER,
            since=now - 900 * SECOND,
            last=now - 20 * SECOND,
            user_agent=JSSIP,
            origin="https://phone.example.com",
            host="sip.example.com",
            resource="/ws",
            aor="alice@example.com",
            status=101,
            messages_in=41,
            messages_out=38,
            relayed_with="up-71c2",
            calls=["call-two-legs@192.0.2.17"],
        ),
        ConnectionSummary(
            "up-71c2",
            "WS",
            UPSTREAM,
            "10.0.0.5:40022",
            "upstream",
            now - 899 * SECOND,
            last=now - 20 * SECOND,
            status=101,
            relayed_with="ws-71c2",
            client=PHONE,
            messages_in=38,
            messages_out=41,
            calls=["call-two-legs@192.0.2.17"],
        ),
        ConnectionSummary(
            "ws-9d04",
            "WSS",
            "203.0.113.80:60112",
            SERVER,
            since=now - 700 * SECOND,
            until=now - 300 * SECOND,
            last=now - 341 * SECOND,
            state="closed",
            aor="bob@example.com",
            user_agent="SIP.js/0.21.2",
            origin="https://phone.example.com",
            status=101,
            code=1006,
            reason="connection reset",
            closed_by="peer",
            error="connection-lost",
            error_detail="[Errno 104] Connection reset by peer",
            messages_in=12,
            messages_out=11,
            bytes_in=9120,
            bytes_out=8011,
            calls=["call-lost@203.0.113.80"],
        ),
        ConnectionSummary(
            "ws-aa10",
            "WSS",
            "203.0.113.9:41000",
            SERVER,
            since=now - 500 * SECOND,
            until=now - 500 * SECOND,
            last=now - 500 * SECOND,
            state="refused",
            status=400,
            error="no-subprotocol",
            user_agent="python-websockets/13.0",
            error_detail="the request offers no subprotocol sip; offered: chat",
        ),
        ConnectionSummary(
            "ws-aa11",
            "WS",
            "203.0.113.9:41022",
            SERVER,
            since=now - 480 * SECOND,
            until=now - 480 * SECOND,
            last=now - 480 * SECOND,
            state="refused",
            status=403,
            error="origin",
            origin="https://evil.example",
            error_detail="Origin https://evil.example is not allowed",
        ),
        ConnectionSummary(
            "ws-aa12",
            "WSS",
            "203.0.113.10:40001",
            SERVER,
            since=now - 470 * SECOND,
            until=now - 470 * SECOND,
            last=now - 470 * SECOND,
            state="failed",
            error="tls",
            error_detail="tlsv1 alert unknown ca",
        ),
        ConnectionSummary(
            "ws-evil",
            "WSS",
            "203.0.113.66:6666",
            SERVER,
            since=now - 60 * SECOND,
            last=now - 50 * SECOND,
            user_agent=HOSTILE,
            origin=TRICKS,
            aor=f"{TRICKS}@x",
            host=HOSTILE,
            resource=HOSTILE,
            status=101,
        ),
    ]
    for i, row in enumerate(rows):
        row.calls = [call for call in row.calls if call]
        story = Story(world, row.since, CallSummary(row.id), two_columns())
        story.parties[0].addresses = [row.peer]
        if row.state in ("refused", "failed"):
            story.event(
                f"refused {row.status or ''}".strip(),
                {
                    "Event": "ACCEPTED",
                    "Status": "FAILURE",
                    "Error": row.error,
                    "Error_Detail": row.error_detail,
                },
                tone="bad",
            )
        else:
            story.event(
                "opened",
                {
                    "Event": "ACCEPTED",
                    "Ws-Request": UPGRADE,
                    "Ws-Reply": SWITCHING,
                    "Status": "SUCCESS",
                },
                tone="good",
                connection=row.id,
            )
            story.row.method = "REGISTER"
            story.message(0, 1, "REGISTER sip:example.com SIP/2.0", after=20_000, connection=row.id)
            story.message(1, 0, "SIP/2.0 200 OK", after=9_000, tone="good", connection=row.id)
        if row.state == "closed":
            story.event(
                f"closed {row.code} by the peer",
                {"Event": "CLOSED", "Close_Code": str(row.code)},
                after=400 * SECOND,
                tone="bad",
                connection=row.id,
            )
        hostile = row.id == "ws-evil"
        world.connections[row.id] = ConnectionView(
            connection=row,
            sentence=sentence(row, row.last),
            request=f"GET {HOSTILE} HTTP/1.1\r\nX: {TRICKS}\r\n\r\n" if hostile else UPGRADE,
            reply=SWITCHING if row.status == 101 else f"HTTP/1.1 {row.status or 0} Refused\r\n\r\n",
            parties=story.parties,
            steps=story.steps,
            calls=[],
        )
        if i == 1:
            world.connections["ws-71c2"].other = row
            world.connections["up-71c2"].other = rows[0]


def _row(call_id: str, kind: Any, method: str, who: str, to: str, **more: Any) -> CallSummary:
    return CallSummary(
        call_id,
        kind,
        method,
        from_user=who,
        from_host="example.com",
        to_user=to,
        to_host="example.com",
        user_agent=more.pop("user_agent", JSSIP),
        **more,
    )


def _registration(world: World) -> None:
    row = _row(
        "reg-7fk2@192.0.2.17",
        "registration",
        "REGISTER",
        "alice",
        "alice",
        state="ended",
        code=200,
        reason="OK",
        ended="200 OK",
    )
    story = Story(world, world.now - 890 * SECOND, row, three_columns())
    story.event(
        "opened",
        {
            "Event": "ACCEPTED",
            "Ws-Request": UPGRADE,
            "Ws-Reply": SWITCHING,
            "Status": "SUCCESS",
            "Message": "Connection accepted...",
        },
        tone="good",
        detail="wss, sip",
    )
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
    row = _row(
        "call-two-legs@192.0.2.17",
        "call",
        "INVITE",
        "alice",
        "bob",
        state="ended",
        code=200,
        reason="OK",
        ended="BYE of the callee",
        answered_at=start + 4 * SECOND,
        ended_at=start + 186 * SECOND,
    )
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
        for a, b in pairwise(path[1:]):
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
    story.event(
        "ping timeout",
        {"Event": "PING", "Message": "no pong for 30 s, answered late"},
        after=31 * SECOND,
        tone="warn",
    )
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
    story.event(
        "closed 1001 by the peer",
        {"Event": "CLOSED", "Close_Code": "1001", "Close_Reason": "going away"},
        after=4 * SECOND,
        tone="quiet",
        detail="going away",
    )
    story.finish(
        Verdict(
            "Ended by BYE of the callee after 3 min 2 s.",
            "ok",
            [
                "INVITE was sent again 2 times by 10.0.0.9.",
                "A re-INVITE put the call on hold after 55 s.",
            ],
        ),
        ["ws-71c2", "up-71c2"],
        [Related(call_id="call-lost@203.0.113.80", why="X-CID")],
    )


def _refused_and_lost(world: World) -> None:
    row = _row(
        "call-busy@192.0.2.17",
        "call",
        "INVITE",
        "alice",
        "carol",
        state="ended",
        code=486,
        reason="Busy Here",
        ended="486 of the upstream",
    )
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

    row = _row(
        "call-lost@203.0.113.80",
        "call",
        "INVITE",
        "dave",
        "bob",
        state="ended",
        ended="closed 1006",
        user_agent="Acrobits/7.1",
    )
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
    story.event(
        "closed 1006 by the peer",
        {
            "Event": "CLOSED",
            "Close_Code": "1006",
            "Error": "connection-lost",
            "Error_Detail": "[Errno 104] Connection reset by peer",
        },
        after=41 * SECOND,
        tone="bad",
        connection="ws-9d04",
        detail="connection reset",
    )
    story.message(1, 2, "SIP/2.0 480 Temporarily Unavailable", after=900, tone="bad")
    story.finish(
        Verdict(
            "No answer: the phone's connection closed with 1006, 41 s after its last message; "
            "it registered again 12 s later.",
            "lost",
            ["One message came late and out of order."],
        ),
        ["ws-9d04"],
        [Related(call_id="call-two-legs@192.0.2.17", why="X-CID")],
    )


def _hostile(world: World) -> None:
    row = CallSummary(
        f"evil/{HOSTILE}?&#%{TRICKS}",
        "call",
        "INVITE",
        from_user=HOSTILE,
        from_host=TRICKS,
        to_user=TRICKS,
        to_host=HOSTILE,
        user_agent=HOSTILE + TRICKS,
        state="ended",
        code=666,
        reason=HOSTILE,
        ended=TRICKS,
    )
    parties = [
        Party(HOSTILE, "phone", [HOSTILE], TRICKS),
        Party(TRICKS, "server", [SERVER], HOSTILE),
    ]
    story = Story(world, world.now - 100 * SECOND, row, parties)
    many = [
        ("X-Long", "A" * 65_536),
        ("X-Script", HOSTILE),
        ("X-Tricks", TRICKS),
        ("X-Folded", "a\r\n b\r\n\tc"),
        ("X-Right", "\u05d0\u05d1\u05d2 \u0627\u0628 left"),
    ]
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
        [
            ("call", "INVITE"),
            ("registration", "REGISTER"),
            ("subscription", "SUBSCRIBE"),
            ("message", "MESSAGE"),
            ("options", "OPTIONS"),
        ],
        [50, 28, 5, 7, 10],
    )[0]
    caller, callee = rng.choice(NAMES), rng.choice(NAMES)
    row = _row(
        f"{number:06d}-{rng.getrandbits(32):08x}@192.0.2.{number % 250}",
        kind,
        method,
        caller,
        caller if kind == "registration" else callee,
        user_agent=rng.choice(AGENTS),
        first=at,
        messages=rng.randint(2, 24),
    )
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
            (
                row.kind,
                row.method,
                row.state,
                row.outcome,
                row.code,
                row.ended,
                row.reason,
                row.ended_at,
            ) = ("call", "INVITE", "ringing" if number == 1 else "answered", "open", 0, "", "", 0)
            row.answered_at = row.first if number == 4 else 0
        row.last = min(row.last, now)
        world.rows.append(row)
        at -= rng.randint(100_000, 9 * SECOND)
    for view in world.connections.values():
        view.calls = [world.calls[c].call for c in view.connection.calls if c in world.calls]
    world.rows.sort(key=lambda row: row.first, reverse=True)
    return world
