"""Builds recorded calls for the tests of ladders and exports."""

from collections.abc import Sequence

from hep.view.model.record import Kind, Record, read_sip
from hep.view.model.summary import ConnectionSummary

START = 1_700_000_000_000_000
"""Time of the first packet, in microseconds since the epoch."""

SDP = (
    "v=0\r\no=- 1 1 IN IP4 10.1.2.3\r\ns=-\r\nc=IN IP4 10.1.2.3\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0\r\n"
)

ALICE, SERVER, UP, BOB = "10.1.2.3:41000", "192.168.7.1:8080", "172.16.9.9:5060", "10.5.6.7:42000"
LEG = "192.168.7.1:45001"
"""The port of the server toward the upstream."""


class Talk:
    """The packets of a call; each is 10 ms after the one before."""

    def __init__(self, call_id: str = "c1@10.1.2.3") -> None:
        self.call_id = call_id
        self.records: list[Record] = []
        self.now = START

    def raw(
        self,
        src: str,
        dst: str,
        payload: bytes,
        *,
        kind: Kind = Kind.SIP,
        connection: str = "",
        agent: int = 1,
        after: float = 0.01,
    ) -> bytes:
        """Add a packet; returns its payload."""
        self.now += round(after * 1_000_000)
        number = len(self.records) + 1
        sip = read_sip(payload) if kind is Kind.SIP else None
        types = {Kind.SIP: 1, Kind.EVENT: 0x59, Kind.LOG: 0x64, Kind.OTHER: 5}
        self.records.append(
            Record(
                self.now,
                kind if sip is not None or kind is not Kind.SIP else Kind.OTHER,
                src,
                dst,
                payload,
                types[kind],
                capture_id=agent,
                connection=connection,
                sip=sip,
                id=number,
            )
        )
        return payload

    def request(
        self,
        src: str,
        dst: str,
        method: str,
        cseq: int = 1,
        *,
        via: Sequence[str] = ("WSS a1.invalid;branch=z9a",),
        user: str = "alice",
        to: str = "bob",
        tags: tuple[str, str] = ("fa", ""),
        more: Sequence[str] = (),
        agent: str = "JsSIP 3.10",
        body: str = "",
        after: float = 0.01,
    ) -> bytes:
        """Add a request."""
        return self._sip(
            src, dst, f"{method} sip:{to}@example.com SIP/2.0", f"{cseq} {method}",
            via, (user, to), tags, [f"User-Agent: {agent}"] if agent else [], more, body, after,
        )  # fmt: skip

    def answer(
        self,
        src: str,
        dst: str,
        status: str,
        method: str = "INVITE",
        cseq: int = 1,
        *,
        via: Sequence[str] = ("WSS a1.invalid;branch=z9a",),
        user: str = "alice",
        to: str = "bob",
        tags: tuple[str, str] = ("fa", "tb"),
        more: Sequence[str] = (),
        server: str = "",
        agent: str = "",
        body: str = "",
        after: float = 0.01,
    ) -> bytes:
        """Add a response."""
        by = [f"Server: {server}"] if server else []
        by += [f"User-Agent: {agent}"] if agent else []
        return self._sip(
            src, dst, f"SIP/2.0 {status}", f"{cseq} {method}", via, (user, to), tags, by, more,
            body, after,
        )  # fmt: skip

    def _sip(
        self,
        src: str,
        dst: str,
        start: str,
        cseq: str,
        via: Sequence[str],
        users: tuple[str, str],
        tags: tuple[str, str],
        by: Sequence[str],
        more: Sequence[str],
        body: str,
        after: float,
    ) -> bytes:
        tagged = [f";tag={tag}" if tag else "" for tag in tags]
        lines = [
            start,
            *(f"Via: SIP/2.0/{each}" for each in via),
            f"From: <sip:{users[0]}@example.com>{tagged[0]}",
            f"To: <sip:{users[1]}@example.com>{tagged[1]}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq}",
            *by,
            *more,
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
            "",
            body,
        ]
        return self.raw(src, dst, "\r\n".join(lines).encode(), after=after)

    def event(
        self, payload: str, src: str = ALICE, dst: str = SERVER, connection: str = "7"
    ) -> None:
        """Add an event."""
        self.raw(src, dst, payload.encode(), kind=Kind.EVENT, connection=connection)

    def log(self, line: str, src: str = ALICE, dst: str = SERVER) -> None:
        """Add a log line."""
        self.raw(src, dst, line.encode(), kind=Kind.LOG)


def legs() -> list[ConnectionSummary]:
    """The two connections of alice's relayed call."""
    return [
        ConnectionSummary(
            "7", "WSS", ALICE, SERVER, "client", since=START, relayed_with="8", user_agent="ua"
        ),
        ConnectionSummary(
            "8", "WS", UP, LEG, "upstream", since=START, relayed_with="7", client=ALICE
        ),
    ]


def relayed() -> Talk:
    """A call of alice over a relay, which passes messages on as they are."""
    talk = Talk()

    def both(payload: bytes, back: bool = False) -> None:
        first = talk.records[-1]
        pair = (SERVER, ALICE) if back else (LEG, UP)
        assert first.payload == payload
        talk.raw(*pair, payload, after=0.001)

    both(talk.request(ALICE, SERVER, "INVITE", body=SDP))
    both(talk.answer(UP, LEG, "100 Trying", tags=("fa", ""), server="Kamailio/5.6"), back=True)
    both(talk.answer(UP, LEG, "180 Ringing"), back=True)
    both(talk.answer(UP, LEG, "200 OK", body=SDP), back=True)
    both(talk.request(ALICE, SERVER, "ACK", tags=("fa", "tb"), via=("WSS a1.invalid;branch=z9b",)))
    bye = ("WSS a1.invalid;branch=z9c",)
    both(talk.request(ALICE, SERVER, "BYE", 2, tags=("fa", "tb"), via=bye, after=3))
    both(talk.answer(UP, LEG, "200 OK", "BYE", 2, via=bye), back=True)
    return talk
