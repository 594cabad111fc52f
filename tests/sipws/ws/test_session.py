"""A connection without sockets: bytes in, events and bytes out."""

import pytest
from websockets.frames import Frame, Opcode

from sipws import ConnectionClosedError, Limits
from sipws.events import (
    Accepted,
    Closed,
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
from sipws.limits import FRAMES_PER_SLICE, REFUSED_LINGER
from sipws.ws.phase import Phase
from sipws.ws.server_session import ServerSession

REGISTER = b"REGISTER sip:example.com SIP/2.0\r\nCall-ID: 1\r\n\r\n"


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode())


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def test_an_upgrade_request_is_answered_and_told_byte_for_byte(
    session: ServerSession, upgrade: bytes
) -> None:
    events = session.receive(upgrade, 1000.5)
    [reply], eof = session.take_writes()
    assert kinds(events) == [HandshakeRequest, HandshakeReply, Accepted]
    assert events[2] == Accepted(session.connection, 1000.5, upgrade, reply)
    assert reply.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in reply
    assert b"Sec-WebSocket-Protocol: sip\r\n" in reply
    assert not eof
    assert session.phase is Phase.OPEN


def test_a_request_may_come_byte_by_byte(session: ServerSession, upgrade: bytes) -> None:
    for byte in upgrade[:-1]:
        assert session.receive(bytes([byte]), 1000.5) == []
    assert kinds(session.receive(upgrade[-1:], 1000.5))[-1] is Accepted


def test_frames_right_behind_the_request_are_read(session: ServerSession, upgrade: bytes) -> None:
    events = session.receive(upgrade + frame(Opcode.TEXT, REGISTER), 1000.5)
    assert events[-1] == MessageReceived(session.connection, 1000.5, REGISTER, is_text=True)


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CLOSE])
def test_a_control_frame_is_no_longer_than_a_message_may_be(
    connection: Connection, upgrade: bytes, opcode: Opcode
) -> None:
    session = ServerSession(connection, Limits(message_size=100))
    session.receive(upgrade, 1000.0)
    [event] = session.receive(frame(opcode, b"x" * 101), 1001.0)
    assert isinstance(event, ErrorOccurred)
    assert event.kind is ErrorKind.MESSAGE_TOO_BIG


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_text_and_binary_messages_are_received(open_session: ServerSession, opcode: Opcode) -> None:
    [event] = open_session.receive(frame(opcode, REGISTER), 1001.0)
    assert event == MessageReceived(
        open_session.connection, 1001.0, REGISTER, is_text=opcode is Opcode.TEXT
    )


def test_fragments_are_joined_across_control_frames(open_session: ServerSession) -> None:
    stream = (
        frame(Opcode.TEXT, "grüß".encode()[:3], fin=False)
        + frame(Opcode.PING, b"?")
        + frame(Opcode.CONT, "grüß".encode()[3:])
    )
    events = [event for byte in stream for event in open_session.receive(bytes([byte]), 1001.0)]
    assert [event.data.decode() for event in events if isinstance(event, MessageReceived)] == [
        "grüß"
    ]


def test_a_ping_is_answered_with_its_data_and_a_pong_is_absorbed(
    open_session: ServerSession,
) -> None:
    assert open_session.receive(frame(Opcode.PING, b"are you there"), 1001.0) == []
    assert open_session.take_writes() == ([b"\x8a\x0dare you there"], False)
    assert open_session.receive(frame(Opcode.PONG, b"unasked"), 1001.0) == []
    assert open_session.take_writes() == ([], False)


@pytest.mark.parametrize(("text", "first_byte"), [(True, 0x81), (False, 0x82)])
def test_a_message_is_sent_as_text_or_as_binary(
    open_session: ServerSession, text: bool, first_byte: int
) -> None:
    open_session.send(b"SIP/2.0 200 OK", text=text)
    [data], _ = open_session.take_writes()
    assert data == bytes([first_byte, 14]) + b"SIP/2.0 200 OK"


def test_a_close_by_the_peer_is_echoed_and_told_with_code_and_reason(
    open_session: ServerSession,
) -> None:
    assert open_session.receive(close_frame(1001, "page left"), 1003.0) == []
    assert open_session.take_writes() == ([b"\x88\x0b\x03\xe9page left"], True)
    assert open_session.phase is Phase.CLOSING
    [closed] = open_session.receive_eof(1004.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason, closed.closed_by) == (1001, "page left", Side.PEER)
    assert closed.clean
    assert closed.accepted
    assert closed.duration == 4.0


def test_a_close_in_the_middle_of_a_message_is_a_close(open_session: ServerSession) -> None:
    open_session.receive(frame(Opcode.TEXT, b"half of", fin=False), 1003.0)
    assert open_session.receive(close_frame(1000) + frame(Opcode.CONT, b"it"), 1003.0) == []
    assert open_session.take_writes() == ([b"\x88\x02\x03\xe8"], True)
    [closed] = open_session.receive_eof(1004.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.clean) == (1000, True)


def test_a_ping_does_not_count_as_part_of_the_message_it_interrupts(
    connection: Connection, upgrade: bytes
) -> None:
    session = ServerSession(connection, Limits(message_size=1000))
    session.receive(upgrade, 1000.5)
    session.receive(frame(Opcode.TEXT, b"x" * 1000, fin=False), 1001.0)
    assert session.receive(frame(Opcode.PING, b"?"), 1001.0) == []
    [event] = session.receive(frame(Opcode.CONT), 1001.0)
    assert isinstance(event, MessageReceived)


def test_a_close_without_a_code_is_told_as_1005(open_session: ServerSession) -> None:
    open_session.receive(frame(Opcode.CLOSE), 1003.0)
    [closed] = open_session.receive_eof(1003.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.clean) == (1005, True)


def test_a_close_by_us_waits_for_the_echo(open_session: ServerSession) -> None:
    assert open_session.close(1003.0, 1001, "server shutdown") == []
    assert open_session.phase is Phase.CLOSING
    open_session.receive(close_frame(1001), 1003.5)
    _, eof = open_session.take_writes()
    assert eof
    [closed] = open_session.receive_eof(1004.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason, closed.closed_by) == (1001, "server shutdown", Side.LOCAL)
    assert closed.clean


def test_a_close_that_the_peer_never_answers_is_an_error_in_the_end(
    open_session: ServerSession,
) -> None:
    open_session.close(1003.0)
    assert open_session.timeout == Limits().close_timeout
    error, closed = open_session.handle_timeout(1008.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.CLOSE_TIMEOUT
    assert isinstance(closed, Closed)
    assert not closed.clean


def test_each_phase_has_the_limit_that_is_set_for_it(
    connection: Connection, upgrade: bytes
) -> None:
    limits = Limits(handshake_timeout=3.0, close_timeout=7.0)
    session = ServerSession(connection, limits, monotonic=lambda: 5.0)
    assert session.timeout == 3.0
    session.receive(upgrade, 1000.5)
    assert session.timeout is None
    session.close(1003.0)
    assert session.timeout == 7.0
    error, _ = session.handle_timeout(1010.0)
    assert isinstance(error, ErrorOccurred)
    assert error.detail == "the peer did not close within 7 s"


@pytest.mark.parametrize("by_peer", [True, False])
@pytest.mark.parametrize("end", ["dropped", "time is up", "lost"])
def test_what_becomes_of_the_socket_behind_both_close_frames_is_no_error(
    open_session: ServerSession, by_peer: bool, end: str
) -> None:
    if not by_peer:
        open_session.close(1002.0, 1001)
    assert open_session.receive(close_frame(1001), 1003.0) == []
    open_session.take_writes()
    match end:
        case "dropped":
            happened = open_session.abort(ErrorKind.SEND_TIMEOUT, "it took no bytes", 1004.0)
        case "time is up":
            happened = open_session.handle_timeout(1010.0)
        case _:
            happened = open_session.receive_eof(1004.0, "Connection reset by peer")
    [closed] = happened
    assert isinstance(closed, Closed)
    assert (closed.code, closed.clean) == (1001, True)
    assert closed.closed_by is (Side.PEER if by_peer else Side.LOCAL)


def test_a_message_and_a_close_in_one_read_are_both_told(open_session: ServerSession) -> None:
    stream = frame(Opcode.TEXT, REGISTER) + close_frame(1000)
    assert kinds(open_session.receive(stream, 1001.0)) == [MessageReceived]
    assert open_session.phase is Phase.CLOSING


@pytest.mark.parametrize(("last", "code"), [(close_frame(1000), 1000), (b"\x83\x80\0\0\0\0", 1002)])
def test_answers_to_the_last_messages_go_out_in_front_of_the_close_frame(
    open_session: ServerSession, last: bytes, code: int
) -> None:
    open_session.receive(frame(Opcode.TEXT, REGISTER) + last, 1001.0)
    open_session.send(b"SIP/2.0 200 OK", text=True)
    [answer, close], eof = open_session.take_writes()
    assert answer == b"\x81\x0eSIP/2.0 200 OK"
    assert close[2:4] == code.to_bytes(2, "big")
    assert eof
    assert not open_session.can_send
    with pytest.raises(ConnectionClosedError):
        open_session.send(b"too late", text=True)


def test_nothing_goes_out_behind_a_close_of_our_own(open_session: ServerSession) -> None:
    open_session.close(1001.0)
    open_session.receive(frame(Opcode.TEXT, REGISTER) + close_frame(1000), 1001.0)
    with pytest.raises(ConnectionClosedError):
        open_session.send(b"SIP/2.0 200 OK", text=True)


def test_a_connection_that_just_ends_is_lost_with_1006(open_session: ServerSession) -> None:
    error, closed = open_session.receive_eof(1002.0, "Connection reset by peer")
    assert isinstance(error, ErrorOccurred)
    assert (error.kind, error.detail) == (ErrorKind.CONNECTION_LOST, "Connection reset by peer")
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason) == (1006, "Connection reset by peer")
    assert closed.closed_by is Side.PEER


def test_nothing_comes_after_closed(open_session: ServerSession) -> None:
    open_session.receive_eof(1002.0)
    assert open_session.receive_eof(1003.0) == []
    assert open_session.receive(frame(Opcode.TEXT, REGISTER), 1003.0) == []
    assert open_session.handle_timeout(1003.0) == []
    assert open_session.abort(ErrorKind.SEND_TIMEOUT, "", 1003.0) == []
    with pytest.raises(ConnectionClosedError, match=r"connection 7 with 192\.0\.2\.5:50123"):
        open_session.send(b"x", text=True)


@pytest.mark.parametrize(
    ("stream", "kind", "code"),
    [
        pytest.param(
            Frame(Opcode.TEXT, b"unmasked").serialize(mask=False),
            ErrorKind.PROTOCOL_ERROR,
            1002,
            id="an unmasked frame",
        ),
        pytest.param(b"\x83\x80\0\0\0\0", ErrorKind.PROTOCOL_ERROR, 1002, id="an unknown opcode"),
        pytest.param(b"\xc1\x80\0\0\0\0", ErrorKind.PROTOCOL_ERROR, 1002, id="a reserved bit"),
        pytest.param(
            frame(Opcode.CONT, b"x"), ErrorKind.PROTOCOL_ERROR, 1002, id="a lone fragment"
        ),
        pytest.param(
            b"\x89\xfe\0\x7e" + bytes(4 + 126),
            ErrorKind.PROTOCOL_ERROR,
            1002,
            id="a ping of 126 bytes",
        ),
        pytest.param(frame(Opcode.TEXT, b"\xff"), ErrorKind.BAD_UTF8, 1007, id="text not in UTF-8"),
        pytest.param(
            frame(Opcode.TEXT, b"\xe2\x28", fin=False),
            ErrorKind.BAD_UTF8,
            1007,
            id="a first fragment that can never become UTF-8",
        ),
        pytest.param(
            frame(Opcode.TEXT, b"\xe2\x82"), ErrorKind.BAD_UTF8, 1007, id="text cut in a character"
        ),
        pytest.param(
            frame(Opcode.CLOSE, b"\x03\xe8\xff"), ErrorKind.BAD_UTF8, 1007, id="a bad close reason"
        ),
        pytest.param(
            b"\x81\xff" + (65537).to_bytes(8, "big"),
            ErrorKind.MESSAGE_TOO_BIG,
            1009,
            id="a message over the limit, by its header alone",
        ),
    ],
)
def test_what_breaks_the_protocol_is_closed_with_its_code(
    open_session: ServerSession, stream: bytes, kind: ErrorKind, code: int
) -> None:
    [error] = open_session.receive(stream, 1001.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is kind
    [sent], eof = open_session.take_writes()
    assert sent[0] == 0x88
    assert int.from_bytes(sent[2:4], "big") == code
    assert eof
    *_, closed = open_session.receive_eof(1002.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.closed_by, closed.clean) == (code, Side.LOCAL, False)


def test_good_messages_before_a_bad_frame_of_the_same_read_are_told(
    open_session: ServerSession,
) -> None:
    events = open_session.receive(frame(Opcode.TEXT, REGISTER) + b"\x83\x80\0\0\0\0", 1001.0)
    assert kinds(events) == [MessageReceived, ErrorOccurred]


def test_a_message_of_many_fragments_is_bounded_by_its_size(
    connection: Connection, upgrade: bytes
) -> None:
    session = ServerSession(connection, Limits(message_size=1000))
    session.receive(upgrade, 1000.5)
    session.receive(frame(Opcode.TEXT, b"x" * 600, fin=False), 1001.0)
    [error] = session.receive(frame(Opcode.CONT, b"x" * 401), 1001.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.MESSAGE_TOO_BIG


def test_empty_fragments_cost_nothing(open_session: ServerSession) -> None:
    open_session.receive(frame(Opcode.TEXT, b"", fin=False), 1001.0)
    stream = frame(Opcode.CONT, b"", fin=False) * 1000
    assert open_session.receive(stream, 1001.0) == []
    while open_session.is_more:
        assert open_session.process_backlog(1001.0) == []
    [event] = open_session.receive(frame(Opcode.CONT, b"end"), 1001.0)
    assert isinstance(event, MessageReceived)
    assert event.data == b"end"


def test_a_time_slice_has_a_bound_for_frames_that_are_no_messages(
    open_session: ServerSession,
) -> None:
    count = 4 * FRAMES_PER_SLICE
    open_session.receive(frame(Opcode.PING, b"") * count, 1001.0)
    pongs = [len(open_session.take_writes()[0])]
    while open_session.is_more:
        open_session.process_backlog(1001.0)
        pongs.append(len(open_session.take_writes()[0]))
    assert sum(pongs) == count
    # Those of a short read are taken in one piece.
    assert max(pongs) <= 2 * FRAMES_PER_SLICE


@pytest.mark.parametrize("behind", [b"", b"more"])
def test_a_connection_is_over_unless_the_peer_sends_on_behind_its_close(
    open_session: ServerSession, behind: bytes
) -> None:
    open_session.receive(frame(Opcode.CLOSE, b"\x03\xe8") + behind, 1001.0)
    assert open_session.is_over is not bool(behind)


def test_bytes_and_messages_are_counted(session: ServerSession, upgrade: bytes) -> None:
    incoming = frame(Opcode.TEXT, REGISTER)
    session.receive(upgrade + incoming, 1001.0)
    session.send(b"SIP/2.0 200 OK", text=True)
    [reply, answer], _ = session.take_writes()
    *_, closed = session.receive_eof(1002.0)
    assert isinstance(closed, Closed)
    assert (closed.messages_in, closed.messages_out) == (1, 1)
    assert closed.bytes_in == len(upgrade) + len(incoming)
    assert closed.bytes_out == len(reply) + len(answer)


def test_a_handshake_has_a_time_limit(session: ServerSession) -> None:
    session.receive(b"GET / HTTP/1.1\r\n", 1000.5)
    assert session.timeout == Limits().handshake_timeout
    reply, failed = session.handle_timeout(1005.0)
    assert isinstance(reply, HandshakeReply)
    assert reply.status == 408
    assert isinstance(failed, HandshakeFailed)
    assert failed.kind is ErrorKind.HANDSHAKE_TIMEOUT
    assert failed.request == b"GET / HTTP/1.1\r\n"
    assert session.take_writes() == ([failed.reply], True)


def test_a_peer_that_leaves_in_its_request_is_told_with_what_it_sent(
    session: ServerSession,
) -> None:
    session.receive(b"GET / HT", 1000.5)
    failed, closed = session.receive_eof(1001.0)
    assert isinstance(failed, HandshakeFailed)
    assert (failed.kind, failed.request) == (ErrorKind.HANDSHAKE_ABORTED, b"GET / HT")
    assert isinstance(closed, Closed)
    assert not closed.accepted


def test_a_peer_that_says_nothing_and_leaves_is_only_closed(session: ServerSession) -> None:
    assert kinds(session.receive_eof(1001.0)) == [Closed]


def test_after_a_refusal_nothing_is_read_and_the_end_has_a_limit(session: ServerSession) -> None:
    session.receive(b"\0", 1000.5)
    session.take_writes()
    assert session.receive(b"more" * 1000, 1000.6) == []
    assert session.timeout == REFUSED_LINGER
    [closed] = session.handle_timeout(1006.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.closed_by, closed.accepted) == (1006, Side.LOCAL, False)
