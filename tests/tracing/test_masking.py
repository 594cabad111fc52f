"""Credentials in handshakes: what a trace must not tell, and what it must keep."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.tracing.masking import masking

HANDSHAKES = Path(__file__).parents[1] / "data" / "handshakes"

mask = masking()


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        (b"Authorization: Bearer abc.def", b"Authorization: Bearer ***"),
        (b"authorization:Basic dTpw", b"authorization:Basic ***"),
        (b"Authorization: opaque", b"Authorization: ***"),
        (b"Proxy-Authorization: Digest username=x", b"Proxy-Authorization: Digest ***"),
        (b"Authorization: Bearer abc\r\n def", b"Authorization: Bearer ***"),
        (b"Cookie: sid=1; theme=dark", b"Cookie: sid=***; theme=***"),
        (b"Cookie: justavalue", b"Cookie: ***"),
        (b"Set-Cookie: sid=1; Path=/; Secure", b"Set-Cookie: sid=***; Path=/; Secure"),
        (b"X-API-Key : 123", b"X-API-Key : ***"),
        (b"Origin: https://example.com", b"Origin: https://example.com"),
        (b"X-Authorization-Note: none", b"X-Authorization-Note: none"),
    ],
)
def test_a_credential_header_keeps_its_name_alone(line: bytes, masked: bytes) -> None:
    request = b"GET / HTTP/1.1\r\n%s\r\nHost: a\r\n\r\n"
    assert mask(request % line) == request % masked


@pytest.mark.parametrize(
    ("target", "masked"),
    [
        (b"/ws?token=abc", b"/ws?token=***"),
        (b"/ws?a=1&access_token=abc&b=2", b"/ws?a=1&access_token=***&b=2"),
        (b"/ws?x;TOKEN=abc;y=1", b"/ws?x;TOKEN=***;y=1"),
        (b"/ws?%74oken=abc", b"/ws?%74oken=***"),
        (b"/ws?apikey=k&api_key=k", b"/ws?apikey=***&api_key=***"),
        (b"/ws?password=", b"/ws?password=***"),
        (b"/ws?user=alice&keyboard=de", b"/ws?user=alice&keyboard=de"),
        (b"https://a/ws?jwt=e.y.J#x", b"https://a/ws?jwt=***#x"),
    ],
)
def test_a_token_in_the_query_is_masked_by_its_name(target: bytes, masked: bytes) -> None:
    assert mask(b"GET %s HTTP/1.1\r\n\r\n" % target) == b"GET %s HTTP/1.1\r\n\r\n" % masked


def test_a_token_in_another_header_is_found_too() -> None:
    request = b"GET / HTTP/1.1\r\nReferer: https://a/?token=abc\r\n\r\n"
    assert b"abc" not in mask(request)


def test_the_lists_can_be_changed() -> None:
    own = masking(headers=["X-Phone"], parameters=["pin"])
    request = b"GET /?pin=1234&token=abc HTTP/1.1\r\nX-Phone: 42\r\nCookie: a=b\r\n\r\n"
    expected = b"GET /?pin=***&token=abc HTTP/1.1\r\nX-Phone: ***\r\nCookie: a=b\r\n\r\n"
    assert own(request) == expected
    assert masking(headers=[], parameters=[])(request) == request


@pytest.mark.parametrize("path", sorted(HANDSHAKES.glob("*.txt")), ids=lambda path: path.stem)
def test_handshakes_without_credentials_stay_as_they_are(path: Path) -> None:
    assert mask(path.read_bytes()) == path.read_bytes()


@given(
    before=st.binary(max_size=40),
    secret=st.from_regex(rb"[A-Za-z0-9]{8,20}", fullmatch=True),
    name=st.sampled_from([b"Authorization", b"cookie", b"SET-COOKIE", b"x-api-key"]),
    newline=st.sampled_from([b"\r\n", b"\n"]),
)
def test_no_secret_survives_in_garbage(before, secret, name, newline) -> None:
    raw = before + newline + name + b": s=" + secret + newline + b"x"
    assert secret not in mask(raw).replace(before, b"")
