"""What a client may offer, and where an answer ends."""

import pytest

from sipws import ConfigurationError
from sipws.client_handshake import LONGEST_BODY, Offer, head_of, is_whole, status_of


@pytest.mark.parametrize(
    ("offer", "problem"),
    [
        ({"subprotocols": ("si p",)}, "'si p' is no HTTP token"),
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
