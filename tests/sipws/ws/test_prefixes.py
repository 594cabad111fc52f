"""Line ends in front of a start line (RFC 3261 section 7.5), and what an error quotes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hep.codec.correlation import call_of
from sipws import Address
from sipws.bus import Bus
from sipws.events import ErrorKind, ErrorOccurred
from sipws.request import UpgradeRequest
from sipws.service.event_log import log_connections
from sipws.service.responder import respond
from sipws.sip import Message, call_id, flow_timer
from sipws.transport.registrations import Registrations
from sipws.ws.failed_message import first_bytes
from sipws.ws.frames import first_of_payload
from tests.sipws.ws.test_fragment_limit import feed, session  # noqa: F401

SOURCE = Address("192.0.2.5", 50123)
REQUEST = (
    b"REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK1\r\n"
    b"From: <sip:a@a.example>;tag=1\r\nTo: <sip:a@a.example>\r\nCall-ID: c1\r\n"
    b'CSeq: 1 REGISTER\r\nContact: <sip:a@x.invalid>;+sip.instance="<urn:uuid:1>"\r\n\r\n'
)
ANSWER = b"SIP/2.0 200 OK\r\nCall-ID: c1\r\nFlow-Timer: 30\r\n\r\n"
PREFIXES = st.text("\r\n", max_size=9).map(str.encode)


@given(PREFIXES)
def test_line_ends_in_front_change_nothing(prefix: bytes) -> None:
    assert respond(prefix + REQUEST, SOURCE) == respond(REQUEST, SOURCE)
    assert Message.parse(prefix + REQUEST) == Message.parse(REQUEST)
    assert call_id(prefix + REQUEST) == call_of(prefix + REQUEST) == b"c1"
    assert flow_timer(prefix + ANSWER) == 30
    registrations = Registrations()
    registrations.registered(1, REQUEST)
    assert registrations.registered(2, prefix + REQUEST) == (1, "urn:uuid:1")


@given(PREFIXES)
def test_line_ends_alone_are_nothing(prefix: bytes) -> None:
    assert Message.parse(prefix) is call_id(prefix) is call_of(prefix) is None
    assert flow_timer(prefix) is respond(prefix, SOURCE) is None


def error_of(session, *frames: Frame) -> ErrorOccurred:  # noqa: F811
    [error] = feed(session, iter([b"".join(frame.serialize(mask=True) for frame in frames)]))
    assert isinstance(error, ErrorOccurred)
    return error


def test_text_that_is_not_utf8_is_quoted(session) -> None:  # noqa: F811
    error = error_of(session, Frame(Opcode.TEXT, REQUEST + b"\xff" * 900))
    assert error.kind is ErrorKind.BAD_UTF8
    assert error.excerpt == (REQUEST + b"\xff" * 900)[:500]
    assert error.call_id == b"c1"


def test_fragments_that_are_not_utf8_are_quoted_from_the_first(session) -> None:  # noqa: F811
    first, rest = REQUEST[:50], REQUEST[50:] + b"\xff"
    error = error_of(
        session, Frame(Opcode.TEXT, first, fin=False), Frame(Opcode.CONT, rest, fin=True)
    )
    assert error.excerpt == first + rest
    assert error.call_id == b"c1"


def test_a_message_that_is_too_big_is_quoted_as_far_as_it_came(session) -> None:  # noqa: F811
    whole = Frame(Opcode.TEXT, REQUEST + b"x" * 70_000).serialize(mask=True)
    [error] = feed(session, iter([whole[: 8 + 6 + len(REQUEST)]]))
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.MESSAGE_TOO_BIG
    assert "max_message_size = 65536" in error.detail
    assert error.excerpt == REQUEST
    assert error.call_id == b"c1"


def test_fragments_that_are_too_many_are_quoted(session) -> None:  # noqa: F811
    pieces = [REQUEST[n : n + 60] for n in range(0, 240, 60)]
    frames = [Frame(Opcode.CONT if n else Opcode.TEXT, p, fin=False) for n, p in enumerate(pieces)]
    error = error_of(session, *frames)
    assert error.kind is ErrorKind.TOO_MANY_CHUNKS
    assert "ws_max_msg_chunks = 4" in error.detail
    assert error.excerpt == REQUEST[:240]
    assert error.call_id == b"c1"


def test_a_frame_in_too_many_reads_is_quoted(session) -> None:  # noqa: F811
    whole = Frame(Opcode.TEXT, REQUEST).serialize(mask=True)
    [error] = feed(session, iter([whole[n : n + 50] for n in range(0, 200, 50)]))
    assert isinstance(error, ErrorOccurred)
    assert error.excerpt == REQUEST[: 200 - 8]
    # Its Call-ID line had come whole.
    assert error.call_id == b"c1"


@pytest.mark.parametrize("line", [b"Call-ID: c1", b"Call-ID: " + b"c" * 256 + b"\r\n"])
def test_a_call_id_that_is_cut_or_endless_is_not_named(session, line: bytes) -> None:  # noqa: F811
    error = error_of(session, Frame(Opcode.TEXT, b"BYE sip:a SIP/2.0\r\n" + line + b"\xff"))
    assert error.call_id is None


@pytest.mark.parametrize(
    ("opcode", "compressed", "begin"),
    [
        (Opcode.CONT, False, b"held" + b"next"),
        (Opcode.CONT, True, b"held"),
        (Opcode.TEXT, False, b"next"),
        (Opcode.TEXT, True, b""),
    ],
)
def test_a_message_begins_with_its_fragments_and_without_compressed_bytes(
    opcode: Opcode, compressed: bool, begin: bytes
) -> None:
    buffer = b"xx" + Frame(opcode, b"next").serialize(mask=True)
    assert first_bytes(b"held", buffer, 2, compressed=compressed) == begin


def test_a_close_reason_that_is_not_utf8_quotes_no_message(session) -> None:  # noqa: F811
    error = error_of(session, Frame(Opcode.CLOSE, b"\x03\xe8\xff"))
    assert (error.kind, error.excerpt, error.call_id) == (ErrorKind.BAD_UTF8, b"", None)


@given(st.binary(max_size=300), st.integers(0, 20), st.integers(0, 400))
def test_the_beginning_of_any_frame_is_read_without_harm(data, start, longest) -> None:
    assert len(first_of_payload(data, start, longest)) <= longest


@given(st.binary(max_size=70_000), st.booleans(), st.integers(0, 300))
def test_the_beginning_of_a_frame_is_its_payloads(data, mask, longest) -> None:
    frame = Frame(Opcode.BINARY, data).serialize(mask=mask)
    assert first_of_payload(b"xx" + frame, 2, longest) == data[:longest]
    assert data.startswith(first_of_payload(frame[:-1], 0, longest))


def test_an_error_is_logged_on_one_line_and_masked(connection, caplog) -> None:
    connection = connection.with_request(UpgradeRequest(b"GET /?token=topsecret HTTP/1.1\r\n\r\n"))
    event = ErrorOccurred(
        connection, 1.0, ErrorKind.BAD_UTF8, "bad", b"BYE sip:topsecret SIP/2.0\r\nX: \xff", b"c1"
    )
    with caplog.at_level("INFO", "sipws.connections"):
        bus = Bus()
        assert log_connections(bus)
        bus.publish(event)
    [record] = caplog.records
    text = record.getMessage()
    assert text.endswith(
        r"bad-utf8: bad; Call-ID c1; the message begins 'BYE sip:*** SIP/2.0\r\nX: \\xff'"
    )
    assert record.excerpt == "BYE sip:*** SIP/2.0\r\nX: \\xff"
