"""What a client may offer, and where an answer ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import ConfigurationError
from sipws.ws.client_handshake import (
    LONGEST_BODY,
    LONGEST_LOCATION,
    LONGEST_WAIT,
    Offer,
    head_of,
    is_whole,
    location_of,
    retry_after_of,
    status_of,
)


@pytest.mark.parametrize(
    ("offer", "problem"),
    [
        ({"subprotocols": ("si p",)}, "'si p' is not an HTTP token"),
        ({"subprotocols": ("sip", "sip")}, "each goes in once"),
        ({"origin": "a\r\nHost: b"}, "cannot be sent in HTTP"),
        ({"headers": (("X", "a\nb"),)}, "header 'X' cannot be sent in HTTP as it is"),
        ({"headers": (("X Y", "a"),)}, "cannot be sent in HTTP"),
        ({"headers": (("host", "a"),)}, "the handshake's own"),
        ({"headers": (("Sec-WebSocket-Key", "a"),)}, "the handshake's own"),
    ],
)
def test_what_would_break_the_request_is_refused(offer: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Offer(**offer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("head", "body", "whole"),
    [
        (b"404 Not Found\r\nContent-Length: 3", b"no", False),
        (b"404 Not Found\r\nContent-Length: 3", b"non", True),
        (b"404 Not Found\r\ncontent-length:0", b"", True),
        (b"404 Not Found\r\nContent-Length: 9999999999", b"x" * LONGEST_BODY, True),
        (b"404 Not Found", b"to the end", False),
        (b"304 Not Modified", b"", True),
        (b"404 X\r\nTransfer-Encoding: chunked", b"2\r\nno\r\n0\r\n", False),
        (b"404 X\r\nTransfer-Encoding: chunked", b"2\r\nno\r\n0\r\n\r\n", True),
        (b"404 X\r\nTransfer-Encoding: chunked", b"0;last\r\nX: trailer\r\n\r\n", True),
    ],
)
def test_a_refusal_is_whole_when_its_body_is(head: bytes, body: bytes, whole: bool) -> None:
    found = head_of(b"HTTP/1.1 " + head + b"\r\n\r\n")
    assert found is not None
    assert is_whole(found, body) is whole


def test_a_head_is_found_wherever_it_was_cut() -> None:
    reply = b"HTTP/1.1 403 Forbidden\r\nServer: x\r\n\r\nbody"
    size = reply.index(b"body")
    for looked_at in range(size):
        assert head_of(reply[:looked_at]) is None
        found = head_of(reply, looked_at)
        assert found is not None
        assert (found.status, found.phrase, found.size) == (403, "Forbidden", size)


@pytest.mark.parametrize(("reply", "status"), [(b"HTTP/1.1 101 \r\n", 101), (b"", None)])
def test_the_status_of_an_answer(reply: bytes, status: int | None) -> None:
    assert status_of(reply) == status


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (b"wss://sip.example.com/ws/", "wss://sip.example.com/ws/"),
        (b"/ws", "/ws"),
        (b"wss://a.test/ws?token=s3cr3t", "wss://a.test/ws"),
        (b"wss://a.test/ws#s3cr3t", "wss://a.test/ws"),
        (b"wss://user:s3cr3t@a.test/", "wss://***@a.test/"),
        (b"//user:s3cr3t@a.test/ws", "//***@a.test/ws"),
        (b"wss:\\\\user:s3cr3t@a.test", "wss:\\\\***@a.test"),
        (b"wss://a.test/\x1b[2J\x9b\x00", "wss://a.test/%1B[2J%9B%00"),
        ("wss://a.test/\u2028\u202e".encode(), "wss://a.test/%E2%80%A8%E2%80%AE"),
        (b"wss://a.test/" + b"x" * 9000, "wss://a.test/" + "x" * (LONGEST_LOCATION - 13) + "…"),
        (b"?s3cr3t", None),
        (b"", None),
    ],
)
def test_of_a_redirect_the_place_is_told_and_no_secret(location: bytes, shown: str | None) -> None:
    for status in (301, 302, 303, 307, 308):
        reply = b"HTTP/1.1 %d Moved\r\nlocation: %b\r\n\r\n" % (status, location)
        assert location_of(reply) == shown
    assert location_of(b"HTTP/1.1 201 Created\r\nLocation: %b\r\n\r\n" % location) is None


def test_a_location_in_the_body_is_none() -> None:
    assert location_of(b"HTTP/1.1 301 Moved\r\n\r\n\r\nLocation: wss://a.test/") is None


THEN = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (b"Retry-After: 30", 30),
        (b"retry-after:\t0 ", 0),
        (b"Retry-After: 86400", LONGEST_WAIT),
        (b"Retry-After: " + b"9" * 5_000, LONGEST_WAIT),
        (b"Retry-After: -5", None),
        (b"Retry-After: soon", None),
        (b"Retry-After: 1.5", None),
        (b"Retry-After:", None),
        (b"Retry-After: Sun, 06 Nov 1994 08:50:37 GMT", 60),
        (b"Retry-After: Sunday, 06-Nov-94 08:50:37 GMT", 60),
        (b"Retry-After: Sun Nov  6 08:50:37 1994", 60),
        (b"Retry-After: Sun, 06 Nov 1994 08:40:00 GMT", 0),
        (b"Retry-After: Sun, 06 Nov 2094 08:40:00 GMT", LONGEST_WAIT),
        (b"Retry-After: Sun, 99 Nov 9999 99:99:99 GMT", None),
        # The server's own clock is an hour behind ours, and what it says is by its own.
        (
            b"Date: Sun, 06 Nov 1994 07:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 07:50:07 GMT",
            30,
        ),
        (b"Date: nonsense\r\nRetry-After: Sun, 06 Nov 1994 08:49:47 GMT", 10),
        (b"X: y", None),
    ],
)
def test_when_to_come_back(headers: bytes, seconds: float | None) -> None:
    reply = b"HTTP/1.1 503 Busy\r\n%b\r\n\r\n" % headers
    assert retry_after_of(reply, THEN) == seconds
    assert retry_after_of(b"HTTP/1.1 503 Busy\r\n\r\n" + headers + b"\r\n", THEN) is None


@given(st.binary(max_size=80))
def test_nothing_that_a_server_says_raises(value: bytes) -> None:
    head = b"HTTP/1.1 302 X\r\nDate: %b\r\nRetry-After: %b\r\nLocation: %b\r\n\r\n"
    reply = head % (value, value, value)
    wait = retry_after_of(reply, THEN)
    assert wait is None or 0 <= wait <= LONGEST_WAIT
    assert (location_of(reply) or "x").rstrip("…").isascii()
