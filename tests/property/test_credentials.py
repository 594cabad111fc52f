"""What logs a client in is told nowhere: in no trace, no log and no refusal.

A credential is planted wherever one is known to stand, its request is broken in the ways in which
requests are broken, and both sides of connections live through it, watched by tracers and by the
log. Neither half of the credential may come out again; and what holds none comes out as it is.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

import hep
from sipws import Address, Bus, Limits, Listener
from sipws.admission.admission import Rules
from sipws.admission.origin_patterns import HostPatterns, OriginPatterns
from sipws.events import Connection, ConnectionOpened, ConnectStarted, ErrorKind, Event
from sipws.masking.credentials import PARAMETERS
from sipws.masking.handshakes import Masking
from sipws.service.event_log import log_connections
from sipws.tracing.tracer import Tracer, TraceSettings
from sipws.ws.client_handshake import Offer
from sipws.ws.client_session import ClientSession
from sipws.ws.destination import Destination
from sipws.ws.handshake import Refusal
from sipws.ws.phase import Phase
from sipws.ws.server_session import ServerSession
from sipws.ws.session import Session

CONNECTION = Connection(
    1, Listener("ws", "10.0.0.1", 80), Address("10.0.0.1", 80), Address("192.0.2.5", 1), 0.0
)
OPTIONS = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: call-1\r\n\r\n"
LIMITS = Limits(request_size=4096)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
USUAL = [
    (b"Host", b"sip.example.com"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Origin", b"https://phone.example.com"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Protocol", b"sip"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
]
RULES = [
    Rules(),
    Rules(resource="/sip"),
    Rules(allowed_origins=OriginPatterns(["https://only.example.com"])),
    Rules(allowed_hosts=HostPatterns(["only.example.com"])),
]

HEADERS = {
    b"Authorization": [
        b"Bearer %b",
        b"Basic %b",
        b"%b",
        b"x %b",
        b"Digest username=u, response=%b",
    ],
    b"Proxy-Authorization": [b"Negotiate %b", b"%b"],
    b"X-Forwarded-Authorization": [b"Token %b"],
    b"X-API-Key": [b"%b"],
    b"ApiKey": [b"%b"],
    b"X-Access-Token": [b"%b", b'"%b"'],
    b"X-Auth-Token": [b"%b"],
    b"X-Amz-Security-Token": [b"%b"],
    b"X-Session-Id": [b"%b"],
    b"X-Csrf-Token": [b"%b"],
    b"Cookie": [b"%b", b"sid=%b", b"a=1; %b", b"a=1;%b", b'a="%b"; b=2', b"=%b", b"a=b=%b; c"],
    b"Set-Cookie": [b"sid=%b; Path=/; Secure", b"%b", b"a=1; Path=/, sid=%b", b"a=1; x=%b"],
    b"Sec-WebSocket-Protocol": [
        b"sip, bearer.%b",
        b"sip,%b",
        b"bearer, %b, sip",
        b"access_token, %b",
        b"sip, base64url.bearer.authorization.k8s.io.%b",
        b"token-%b, sip",
    ],
    b"Referer": [b"https://u:%b@a.example/", b"//u:%b@a.example"],
    b"Origin": [b"https://u:%b@a.example", b"https://a.example/?token=%b"],
    b"Location": [b"https://a.example/?x=1&access_token=%b", b"/in#id_token=%b&x=1"],
    b"Host": [b"u:%b@sip.example.com"],
    b"X-Custom": [b"Bearer %b", b"a, Bearer %b", b'{"pwd":"%b"}', b"Basic %b"],
    b"X-Ws-Ticket": [b"%b"],
    b"Cookie2": [b"a=%b"],
    b"X-Assertion": [b"eyJhbGciOiJFUzI1NiJ9.%b.x"],
}
"""Headers, and where in them a credential stands."""

NAMES = [name.replace("*", "x") for name in PARAMETERS] + ["%74oken", "to%6ben", "user[pwd]"]
NAMES += [
    "access_token",
    "id_token",
    "refresh_token",
    "SAMLResponse",
    "api_key",
    "apikey",
    "password",
]
NAMES += [
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "connect.sid",
    "jwt",
    "otp",
]
QUERIES = [
    b"/?%b=%b",
    b"/ws?a=1&%b=%b&b=2",
    b"/?x;%b=%b",
    b"/?%b=1;%b",
    b"https://a.example/?%b=%b",
    b'/?x={"%b":"%b"}',
    b"/?x=%%7B%%22%b%%22%%3A%%22%b%%22%%7D&y=1",
]
USERS = [
    b"ws://u:%b@sip.example.com/",
    b"/?to=sip:alice:%b@a.example",
    b"/?at=https%%3A%%2F%%2Fu%%3A%b%%40a/",
    b"/?to=sip%%3Aalice%%3A%b%%40a.example",
]


def recased(draw: st.DrawFn, name: bytes) -> bytes:
    upper = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    # Percent signs and what follows stay: %74 is the same in either case anyway.
    return bytes(ord(chr(x).upper()) if up else x for x, up in zip(name, upper, strict=True))


def within_a_parameter(url: bytes, depth: int) -> bytes:
    """A URL as the parameter of another, and that again."""
    for _ in range(depth):
        url = b"/?next=" + quote(b"https://a.example" + url, safe="").encode() + b"&z=1"
    return url


@st.composite
def secrets(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A credential in two halves, either of which would be too much to tell."""
    half = st.from_regex(rb"[0-9][A-Za-z0-9]{5,10}[0-9]x", fullmatch=True)
    return draw(half), draw(half)


@st.composite
def planted(draw: st.DrawFn) -> tuple[bytes, tuple[bytes, bytes]]:
    """An upgrade request with a credential in it, as it should be or broken."""
    halves = draw(secrets())
    between = draw(st.sampled_from([b""] * 8 + [b"\0", b"\r", b"\r\n ", b"\n\t", b"\x0b", b"\r\r"]))
    secret = between.join(halves)
    headers, target = list(USUAL), b"/"
    match draw(st.integers(0, 3)):
        case 0 | 1:
            name = draw(st.sampled_from(sorted(HEADERS)))
            value = draw(st.sampled_from(HEADERS[name])) % secret
            headers = [header for header in headers if header[0] != name]
            name = recased(draw, name)
            breaks = [b"\0", b"\r", b"\r\n "] if between == b"" else [b""]
            at = draw(st.integers(1, len(name) - 1))
            name = name[:at] + draw(st.sampled_from([b""] * 8 + breaks)) + name[at:]
            headers.insert(draw(st.integers(0, len(headers))), (name, value))
        case 2:
            name = recased(draw, draw(st.sampled_from(NAMES)).encode())
            target = draw(st.sampled_from(QUERIES)) % (name, secret)
            target = within_a_parameter(target, draw(st.sampled_from([0, 0, 0, 1, 2])))
            if draw(st.booleans()):
                headers.append((draw(st.sampled_from([b"Referer", b"X-Original-URI"])), target))
                target = b"/"
        case _:
            target = draw(st.sampled_from(USERS)) % secret
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        name, value = draw(
            st.sampled_from(
                [
                    (b"X\0Y", b"z"),
                    (b"X-Odd", b"a\0b"),
                    (b"Transfer-Encoding", b"chunked"),
                    (b"Sec-WebSocket-Version", b"8"),
                    (b"X-Long", b"x" * 5000),
                    (b"no colon", b""),
                    (b" folded", b"x"),
                    (b"\rX-Behind", b"x"),
                ]
            )
        )
        headers.insert(draw(st.integers(0, len(headers))), (name, value))
    colon = draw(st.sampled_from([b": "] * 6 + [b":", b" : ", b":\t", b"\t:", b":\r\n "]))
    end = draw(st.sampled_from([b"\r\n"] * 4 + [b"\n"]))
    lines = [b"GET " + target + b" HTTP/1.1", *(colon.join(header) for header in headers)]
    request = end.join([*lines, b"", b""])
    if draw(st.sampled_from([False, False, True])):
        # In the middle of the credential, or behind it.
        at = request.find(halves[0]) + len(halves[0])
        request = request[: draw(st.integers(at, len(request)))]
    return request, halves


class Watch:
    """All that is told of connections: by tracers in both formats, and by the log."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.packets: list[bytes] = []
        self.records: list[logging.LogRecord] = []
        for homer5 in (False, True):
            settings = TraceSettings(homer5=homer5, trace_sip=True)
            Tracer(self.bus, self.packets.append, settings)
        self.logger = logging.getLogger("sipws.connections")
        self.handler = logging.Handler()
        self.handler.emit = self.records.append  # type: ignore[method-assign]
        self.logger.addHandler(self.handler)
        self.logger.setLevel(logging.INFO)
        assert log_connections(self.bus)

    def end(self) -> None:
        self.logger.removeHandler(self.handler)
        self.logger.setLevel(logging.NOTSET)

    def publish(self, events: list[Event]) -> None:
        for event in events:
            self.bus.publish(event)

    def told(self) -> Iterator[bytes]:
        for packet in self.packets:
            yield hep.decode(packet).payload
        for record in self.records:
            fields = {name: x for name, x in vars(record).items() if name not in ("args", "msg")}
            yield (record.getMessage() + repr(fields)).encode("utf-8", "backslashreplace")


@pytest.fixture(scope="module")
def watching() -> Iterator[Callable[[], Watch]]:
    """Makes a watch, and ends the one before."""
    watches: list[Watch] = []

    def make() -> Watch:
        while watches:
            watches.pop().end()
        watches.append(Watch())
        return watches[0]

    yield make
    watches.pop().end()


def frame(opcode: Opcode, data: bytes, *, mask: bool) -> bytes:
    return Frame(opcode, data).serialize(mask=mask)


def live_on(draw: Callable[..., int], session: Session, watch: Watch, quoted: str) -> None:
    """Live from the handshake to the end, which quotes the credential where it can."""
    mask = isinstance(session, ServerSession)
    if session.phase is Phase.OPEN:
        watch.publish(session.receive(frame(Opcode.TEXT, OPTIONS, mask=mask), 2.0))
        session.take_writes()
        match draw(st.integers(0, 2)):
            case 0:
                close = Close(1008, f"bad {quoted}").serialize()
                watch.publish(session.receive(frame(Opcode.CLOSE, close, mask=mask), 3.0))
            case 1:
                watch.publish(session.abort(ErrorKind.HANDLER_FAILED, f"ValueError: {quoted}", 3.0))
            case _:
                watch.publish(session.close(3.0, 1008, quoted[: len(quoted) - 3]))
    elif session.phase is Phase.HANDSHAKE and draw(st.booleans()):
        watch.publish(session.handle_timeout(3.0))
    watch.publish(session.receive_eof(4.0))


@given(planted(), st.sampled_from(RULES), st.data())
def test_what_a_client_sent_is_not_told(watching, planting, rules, data) -> None:
    request, halves = planting
    watch = watching()

    def examine(connection: Connection, now: float) -> tuple[Connection, Refusal | None]:
        assert connection.request is not None
        return connection, rules.examine(connection.request)

    session = ServerSession(CONNECTION, LIMITS, examine)
    watch.publish([ConnectionOpened(CONNECTION, 0.5)])
    watch.publish(session.receive(request, 1.0))
    writes, _ = session.take_writes()
    live_on(data.draw, session, watch, b"".join(halves).decode())
    told = list(watch.told())
    assert len(told) >= 4 or not request
    for half in halves:
        assert not [text for text in told if half in text]
        assert half not in b"".join(writes)


@given(planted())
def test_masking_again_changes_nothing(planting) -> None:
    request, halves = planting
    masked = Masking().handshake(request)
    assert Masking().handshake(masked) == masked
    assert not [half for half in halves if half in masked]


REPLIES = [
    b"HTTP/1.1 401 Not %b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 40\r\n\r\ninvalid token %b, go away",
    b"HTTP/1.1 401 Unauthorized\r\nX-Was: %b\r\nContent-Length: 9999\r\n\r\n<p>token=&quot;%b",
    b"HTTP/1.1 302 Found\r\nLocation: https://a/?again=%b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nSet-Cookie: sid=%b\0; Path=/\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nSet-Cookie: a=1;\r\n %b\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %b\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\n\r\n",
    b"%b",
    b"HTTP/1.1 101 %b",
]


@given(
    secrets(),
    st.sampled_from(
        [b"token=%b", b"x=1&password=%b", b"", b"next=https%%3A%%2F%%2Fa%%3Fsid%%3D%b"]
    ),
    st.sampled_from(
        [("Authorization", "Bearer %s"), ("Cookie", "a=1; %s"), ("X-API-Key", "%s"), ("X-Y", "z")]
    ),
    st.sampled_from([*REPLIES, None]),
    st.sampled_from([0, 0, 1, 9]),
    st.data(),
)
def test_what_we_sent_and_what_a_server_says_of_it_is_not_told(
    watching, halves, query, header, reply, cut, data
) -> None:
    watch = watching()
    secret = b"".join(halves)
    if query:
        query = b"?" + query % secret
    elif "%s" not in header[1]:
        header = ("Cookie", "%s")
    where = Destination.parse(f"ws://sip.example.com/ws{query.decode()}")
    name, value = header
    offer = Offer(headers=((name, value.replace("%s", secret.decode())),))
    connection = replace(CONNECTION, destination=where.shown)
    session = ClientSession(connection, LIMITS, where, offer)
    watch.publish([ConnectStarted(connection, 0.4), ConnectionOpened(connection, 0.5)])
    watch.publish(session.start(0.6))
    [sent], _ = session.take_writes()
    assert secret in sent
    if reply is None:
        key = sent.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        server = ServerSession(CONNECTION, LIMITS)
        server.receive(b"GET / HTTP/1.1\r\n%b\r\n\r\n" % b"\r\n".join(
            b"%b: %b" % (each, key if each == b"Sec-WebSocket-Key" else x) for each, x in USUAL
        ), 1.0)  # fmt: skip
        answer = b"".join(server.take_writes()[0])
        answer = answer.replace(b"\r\nDate:", b"\r\nX-Seen: %b\r\nDate:" % secret)
    else:
        answer = reply.replace(b"%b", secret)
        answer = answer[: len(answer) - cut]
    watch.publish(session.receive(answer, 1.0))
    assert (session.phase is Phase.OPEN) == (reply is None)
    live_on(data.draw, session, watch, secret.decode())
    told = list(watch.told())
    assert len(told) >= 4
    for half in halves:
        assert not [text for text in told if half in text]


HARMLESS = [(b"Accept-Language", b"en;q=0.9"), (b"X-Forwarded-For", b"192.0.2.1"), (b"Date", b"x")]
HARMLESS += [(b"Accept", b"text/html;level=1"), (b"X-Authorization-Note", b"none"), (b"X", b"")]
HARMLESS += [(b"Sec-WebSocket-Protocol", b"sip, msrp, v12.stomp, graphql-transport-ws")]
HARMLESS += [(b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits=15")]
HARMLESS += [(b"Referer", b"https://a.example/phone?user=alice&lang=de"), (b"X", b"<sip:a@b>")]
HARMLESS += [
    (b"Cookie", b""),
    (b"Authorization", b" "),
    (b"Via", b"1.1 a@b"),
    (b"Forwarded", b"for=x"),
]
TARGETS = [
    b"/",
    b"/ws?user=alice&keyboard=de",
    b"/?sip=sip:alice@a.example;transport=ws",
    b"*",
    b"/a b",
]
TARGETS += [
    b"/?password=&a=b",
    b"/?next=https%3A%2F%2Fa%2F%3Fuser%3Dalice",
    b"ws://a/b:c",
    b"/@",
]


@given(
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from([*USUAL, *HARMLESS]), max_size=12),
    st.sampled_from([b": ", b":", b" : ", b":\t"]),
    st.sampled_from([b"\r\n", b"\n", b"\0\r\n"]),
    st.binary(max_size=20).filter(lambda junk: not set(junk) & set(b"?&;#%@=eE")),
    st.integers(0, 40),
)
def test_what_holds_no_credential_is_told_byte_for_byte(
    target, headers, colon, end, junk, cut
) -> None:
    lines = [b"GET " + target + b" HTTP/1.1", *(colon.join(header) for header in headers)]
    raw = end.join([*lines, b"", junk])
    raw = raw[: len(raw) - cut]
    masking = Masking()
    assert masking.handshake(raw) is raw
    assert masking.handshake(raw) is raw


@given(st.binary(max_size=200).filter(lambda raw: not set(raw) & set(b":?&;#%@=")))
def test_garbage_is_told_byte_for_byte(raw: bytes) -> None:
    if b"eyJ" not in raw:
        assert Masking().handshake(raw) is raw
