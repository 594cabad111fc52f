"""The client's side of a connection without sockets: an answer in, events and bytes out."""

from collections.abc import Callable

import pytest
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from sipws import Address, Destination, Limits, Listener
from sipws.events import (
    Closed,
    Connected,
    Connection,
    ErrorKind,
    ErrorOccurred,
    Event,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    MessageReceived,
    Side,
)
from sipws.ws.client_handshake import LONGEST_BODY, LONGEST_REPLY, Offer
from sipws.ws.client_session import ClientSession
from sipws.ws.frames import TEXT, client_frame
from sipws.ws.phase import Phase

ANSWER = b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n"
DESTINATION = Destination.parse("ws://sip.example.com:8080/ws?token=1")


def frame(opcode: Opcode, data: bytes = b"", *, mask: bool = False) -> bytes:
    return Frame(opcode, data).serialize(mask=mask)


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def failure(events: list[Event]) -> HandshakeFailed:
    [failed] = [event for event in events if isinstance(event, HandshakeFailed)]
    return failed


Make = Callable[..., ClientSession]


@pytest.fixture
def make() -> Make:
    """Sessions that have sent their request."""

    def make_session(
        offer: Offer | None = None,
        destination: Destination = DESTINATION,
        compression: bool = False,
    ) -> ClientSession:
        connection = Connection(
            id=7,
            listener=Listener("ws", "192.0.2.5", 50123),
            local=Address("192.0.2.5", 50123),
            peer=Address("10.0.0.1", 8080),
            started=1000.0,
            destination=str(destination),
        )
        session = ClientSession(
            connection, Limits(), destination, offer or Offer(), compression=compression
        )
        session.start(1000.0)
        return session

    return make_session


@pytest.fixture
def session(make: Make) -> ClientSession:
    return make()


def request_of(session: ClientSession) -> bytes:
    [request], eof = session.take_writes()
    assert not eof
    return request


def reply_to(
    session: ClientSession,
    *more: str,
    accept: str | None = None,
    protocol: str | None = "sip",
    start: str = "HTTP/1.1 101 Switching Protocols",
    upgrade: str = "Upgrade: websocket",
    connection: str = "Connection: Upgrade",
) -> bytes:
    """A server's answer, right unless told."""
    request = request_of(session)
    [key] = [
        line.partition(b": ")[2].decode()
        for line in request.split(b"\r\n")
        if line.startswith(b"Sec-WebSocket-Key")
    ]
    lines = [start, upgrade, connection]
    lines.append(f"Sec-WebSocket-Accept: {accept if accept is not None else accept_key(key)}")
    if protocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return "\r\n".join([*(line for line in lines if line), *more, "", ""]).encode()


def test_interim_answers_are_passed_over_wherever_reads_end(make: Make) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </%b>; rel=preload\r\n\r\n" % (b"x" * 300)
    for cut in (1, len(early) - 2, len(early), len(early) + 5):
        session = make()
        reply = reply_to(session)
        stream = early + reply + frame(Opcode.TEXT, b"hi")
        events = session.receive(stream[:cut], 1.0) + session.receive(stream[cut:], 2.0)
        assert kinds(events) == [HandshakeReply, Connected, MessageReceived]
        assert isinstance(events[0], HandshakeReply)
        assert events[0].raw == reply
        assert not session.buffered[0]


# The request.


def test_the_request_is_told_and_written_byte_for_byte(make: Make) -> None:
    session = make()
    request = request_of(session)
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /ws?token=1 HTTP/1.1"
    assert lines[-2:] == ["", ""]
    headers = dict(line.split(": ", 1) for line in lines[1:-2])
    assert headers.pop("Sec-WebSocket-Key")
    assert headers == {
        "Host": "sip.example.com:8080",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "sip",
    }


def test_starting_tells_the_request() -> None:
    connection = Connection(
        1, Listener("ws", "::1", 1), Address("::1", 1), Address("::1", 80), 0.0, "ws://[::1]/"
    )
    session = ClientSession(connection, Limits(), Destination.parse("ws://[::1]/"), Offer())
    [event] = session.start(1.0)
    request = request_of(session)
    assert event == HandshakeRequest(connection, 1.0, request)
    assert b"\r\nHost: [::1]\r\n" in request


def test_every_connection_has_a_key_of_its_own(make: Make) -> None:
    assert request_of(make()) != request_of(make())


def test_more_can_be_offered_and_sent(make: Make) -> None:
    offer = Offer(("sip", "msrp"), "https://example.com", (("Authorization", "Bearer x"),))
    request = request_of(make(offer))
    assert b"\r\nSec-WebSocket-Protocol: sip, msrp\r\n" in request
    assert b"\r\nOrigin: https://example.com\r\n" in request
    assert b"\r\nAuthorization: Bearer x\r\n" in request


# A good answer.


def test_an_answer_opens_the_connection_and_is_told_byte_for_byte(session: ClientSession) -> None:
    reply = reply_to(session, "Server: x")
    events = session.receive(reply, 1000.5)
    assert kinds(events) == [HandshakeReply, Connected]
    connected = events[1]
    assert isinstance(connected, Connected)
    assert (connected.reply, connected.subprotocol) == (reply, "sip")
    assert connected.request.startswith(b"GET /ws?token=1 ")
    assert session.phase is Phase.OPEN
    session.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n", text=True)
    [written], _ = session.take_writes()
    assert written[1] & 0x80, "a client masks what it sends"


def test_an_answer_may_come_byte_by_byte(session: ClientSession) -> None:
    reply = reply_to(session)
    for byte in reply[:-1]:
        assert session.receive(bytes([byte]), 1000.5) == []
    assert kinds(session.receive(reply[-1:], 1000.5)) == [HandshakeReply, Connected]


def test_frames_right_behind_the_answer_are_read(session: ClientSession) -> None:
    events = session.receive(reply_to(session) + frame(Opcode.TEXT, ANSWER), 1000.5)
    assert events[-1] == MessageReceived(session.connection, 1000.5, ANSWER, is_text=True)


def test_another_subprotocol_that_was_offered_will_do(make: Make) -> None:
    session = make(Offer(("sip", "msrp")))
    connected = session.receive(reply_to(session, protocol="msrp"), 1000.5)[-1]
    assert isinstance(connected, Connected)
    assert connected.subprotocol == "msrp"


def test_where_nothing_is_offered_nothing_is_required(make: Make) -> None:
    session = make(Offer(subprotocols=()))
    connected = session.receive(reply_to(session, protocol=None), 1000.5)[-1]
    assert isinstance(connected, Connected)
    assert connected.subprotocol is None


@pytest.mark.parametrize(
    "change",
    [
        {"upgrade": "upgrade: WebSocket"},
        {"connection": "connection: keep-alive, upgrade"},
        {"start": "HTTP/1.1 101 "},
    ],
)
def test_what_rfc_6455_leaves_open_is_accepted(
    session: ClientSession, change: dict[str, str]
) -> None:
    assert type(session.receive(reply_to(session, **change), 1000.5)[-1]) is Connected


# A bad one.


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "Sec-WebSocket-Accept"),
        ({"accept": ""}, "Sec-WebSocket-Accept"),
        ({"upgrade": ""}, "Upgrade"),
        ({"upgrade": "Upgrade: h2c"}, "h2c"),
        ({"connection": ""}, "Connection"),
        ({"connection": "Connection: close"}, "close"),
        ({"protocol": None}, "none of the subprotocols offered: 'sip'"),
        ({"protocol": "chat"}, "chat"),
        ({"protocol": "sip, sip"}, "multiple values"),
        ({"start": "HTTP/1.0 101 Switching Protocols"}, "HTTP/1.1"),
    ],
)
def test_an_answer_that_is_not_right_fails_with_its_bytes(
    session: ClientSession, change: dict[str, str], problem: str
) -> None:
    reply = reply_to(session, **change)
    events = session.receive(reply + frame(Opcode.TEXT, ANSWER), 1000.5)
    assert kinds(events) == [HandshakeReply, HandshakeFailed, Closed]
    failed = failure(events)
    assert failed.kind is ErrorKind.BAD_REPLY
    assert problem in failed.detail
    assert failed.reply.startswith(reply)
    assert failed.request.startswith(b"GET ")
    assert session.take_writes() == ([], True)
    assert session.phase is Phase.CLOSED


def test_half_of_the_accept_value_is_not_enough(session: ClientSession) -> None:
    reply = reply_to(session)
    before, name, value = reply.partition(b"Sec-WebSocket-Accept: ")
    wrong = before + name + value[:20] + value[27:]
    assert failure(session.receive(wrong, 1000.5)).kind is ErrorKind.BAD_REPLY


@pytest.mark.parametrize("header", ["permessage-deflate", "x-unknown"])
def test_an_extension_that_was_not_asked_for_fails(session: ClientSession, header: str) -> None:
    reply = reply_to(session, f"Sec-WebSocket-Extensions: {header}")
    failed = failure(session.receive(reply, 1000.5))
    assert (failed.kind, failed.reply) == (ErrorKind.BAD_REPLY, reply)
    assert "extension" in failed.detail


@pytest.mark.parametrize("bits", ["", "; client_max_window_bits=15", "; client_max_window_bits=9"])
def test_the_server_chooses_with_what_window_we_compress(make: Make, bits: str) -> None:
    session = make(compression=True)
    extensions = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12{bits}"
    assert Connected in kinds(session.receive(reply_to(session, extensions), 1000.5))


def test_a_subprotocol_where_none_was_offered_fails(make: Make) -> None:
    session = make(Offer(subprotocols=()))
    failed = failure(session.receive(reply_to(session, protocol="sip"), 1000.5))
    assert failed.kind is ErrorKind.BAD_REPLY


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x16", "does not answer in HTTP"),
        (b"SIP/2.0 400 Bad Request\r\n", "does not answer in HTTP"),
        (b"HTTP/2 101 Switching\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 999 What\r\n", "no HTTP status line"),
        (b"HTTP/1.1 ok\n", "no HTTP status line"),
    ],
)
def test_what_is_no_http_answer_fails_as_soon_as_it_shows(
    session: ClientSession, reply: bytes, problem: str
) -> None:
    events = [event for byte in reply for event in session.receive(bytes([byte]), 1000.5)]
    failed = failure(events)
    assert failed.kind is ErrorKind.BAD_REPLY
    assert problem in failed.detail
    assert reply.startswith(failed.reply)
    assert failed.reply


def test_an_endless_answer_fails_with_as_much_of_it_as_is_allowed(session: ClientSession) -> None:
    reply = b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * LONGEST_REPLY
    failed = failure(session.receive(reply, 1000.5))
    assert failed.kind is ErrorKind.BAD_REPLY
    assert failed.reply == reply[:LONGEST_REPLY]


# A refusal.


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 9\r\n\r\nno such\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ],
)
def test_a_refusal_is_told_whole_when_its_body_has_come(
    session: ClientSession, body: bytes
) -> None:
    reply = b"HTTP/1.1 404 Not Found\r\n" + body
    events = [event for byte in reply for event in session.receive(bytes([byte]), 1000.5)]
    assert kinds(events) == [HandshakeReply, HandshakeFailed, Closed]
    failed = failure(events)
    assert (failed.kind, failed.reply) == (ErrorKind.HANDSHAKE_REFUSED, reply)
    assert failed.detail.startswith("the server refused with 404 Not Found")
    assert events[0] == HandshakeReply(session.connection, 1000.5, 404, reply)


def test_a_refusals_body_says_why(session: ClientSession) -> None:
    reply = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\norigin forbidden\n"
    failed = failure(session.receive(reply, 1000.5))
    assert failed.detail == "the server refused with 403 Forbidden: origin forbidden"


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (
            b"HTTP/1.1 401 No\r\nContent-Length: 29\r\n\r\nunknown token s3cr3t, try more",
            "the server refused with 401 No: unknown token ***, try more",
        ),
        (
            b"HTTP/1.1 101 Yes\r\nSet-Cookie: sid=s3cr3t\0\r\n\r\n",
            "the server's answer is not valid: invalid HTTP header value (line 2)",
        ),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: s3cr3t\r\nConnection: Upgrade\r\n\r\n",
            "the server's answer is not valid: invalid Upgrade header: ***",
        ),
    ],
)
def test_what_a_server_quotes_of_our_credentials_is_not_told(
    make: Make, answer: bytes, detail: str
) -> None:
    session = make(Offer(headers=(("Authorization", "Bearer s3cr3t"),)))
    events = session.receive(answer, 1001.0)
    closed = events[-1]
    assert failure(events).detail == detail
    assert isinstance(closed, Closed)
    assert closed.reason == detail


def test_a_refusal_without_a_length_ends_with_the_connection(session: ClientSession) -> None:
    reply = b"HTTP/1.1 503 Service Unavailable\r\n\r\ntry later"
    assert session.receive(reply, 1000.5) == []
    events = session.receive_eof(1000.6)
    assert kinds(events) == [HandshakeReply, HandshakeFailed, Closed]
    assert (failure(events).kind, failure(events).reply) == (ErrorKind.HANDSHAKE_REFUSED, reply)
    assert failure(events).detail == "the server refused with 503 Service Unavailable: try later"


def test_a_refusal_whose_body_does_not_end_is_told_when_time_is_up(session: ClientSession) -> None:
    reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\ntry"
    assert session.receive(reply, 1000.5) == []
    events = session.handle_timeout(1005.0)
    assert kinds(events) == [HandshakeReply, HandshakeFailed, Closed]
    assert failure(events).kind is ErrorKind.HANDSHAKE_REFUSED


def test_no_more_of_a_body_is_kept_than_is_allowed(session: ClientSession) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    failed = failure(session.receive(head + b"x" * 100_000, 1000.5))
    assert failed.kind is ErrorKind.HANDSHAKE_REFUSED
    assert failed.reply == head + b"x" * LONGEST_BODY


# The end before the beginning.


def test_a_server_that_does_not_answer_is_given_up(session: ClientSession) -> None:
    assert session.timeout == Limits().handshake_timeout
    events = session.handle_timeout(1005.0)
    assert kinds(events) == [HandshakeFailed, Closed]
    assert (failure(events).kind, failure(events).reply) == (ErrorKind.HANDSHAKE_TIMEOUT, b"")


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 101 Swit"])
def test_a_server_that_leaves_is_told_with_what_it_said(
    session: ClientSession, part: bytes
) -> None:
    session.receive(part, 1000.5)
    events = session.receive_eof(1000.6)
    assert kinds(events) == [HandshakeFailed, Closed]
    assert (failure(events).kind, failure(events).reply) == (ErrorKind.HANDSHAKE_ABORTED, part)


def test_a_connect_that_is_given_up_is_told_as_that(session: ClientSession) -> None:
    events = session.abort(ErrorKind.CONNECT_CANCELLED, "no longer wanted", 1000.5)
    assert kinds(events) == [HandshakeFailed, Closed]
    assert failure(events).kind is ErrorKind.CONNECT_CANCELLED


# Frames.


def test_a_masked_frame_from_the_server_fails_with_1002(session: ClientSession) -> None:
    session.receive(reply_to(session), 1000.5)
    [error] = session.receive(frame(Opcode.TEXT, ANSWER, mask=True), 1001.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.PROTOCOL_ERROR
    assert "masking" in error.detail
    writes, _ = session.take_writes()
    closing = Frame(Opcode.CLOSE, (1002).to_bytes(2, "big")).serialize(mask=False)
    assert writes[0][0] == closing[0]
    closed = session.receive_eof(1001.5)[-1]
    assert isinstance(closed, Closed)
    assert (closed.code, closed.closed_by) == (1002, Side.LOCAL)


def test_the_servers_close_is_echoed_and_the_servers_to_end(session: ClientSession) -> None:
    session.receive(reply_to(session), 1000.5)
    close = frame(Opcode.CLOSE, (1001).to_bytes(2, "big") + b"bye")
    assert session.receive(close, 1001.0) == []
    writes, eof = session.take_writes()
    assert len(writes) == 1
    assert not eof, "RFC 6455 section 7.1.1: the server closes TCP first"
    [closed] = session.receive_eof(1001.5)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason) == (1001, "bye")
    assert (closed.closed_by, closed.clean) == (Side.PEER, True)


def test_every_frame_has_a_mask_of_its_own() -> None:
    assert len({client_frame(TEXT, b"") for _ in range(100)}) > 90
