"""What an application learns from an upgrade request."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.request import UpgradeRequest

HANDSHAKES = sorted((Path(__file__).parents[1] / "data" / "handshakes").glob("*.txt"))

REQUEST = UpgradeRequest(
    b"GET /sip?user=alice&token=a%20b&token=c&empty= HTTP/1.1\r\n"
    b"Host: sip.example.com\r\n"
    b'Cookie: session=abc123; theme="dark"; session=other\r\n'
    b"COOKIE:lang=de\r\n"
    b"\r\n"
)


def test_target_path_and_query() -> None:
    assert REQUEST.target == "/sip?user=alice&token=a%20b&token=c&empty="
    assert REQUEST.path == "/sip"
    assert REQUEST.query == {"user": ["alice"], "token": ["a b", "c"], "empty": [""]}


def test_what_shows_in_a_traceback_is_no_token() -> None:
    assert repr(REQUEST) == "UpgradeRequest('/sip')"


def test_of_two_cookies_with_one_name_the_first_counts() -> None:
    assert REQUEST.cookies == {"session": "abc123", "theme": "dark", "lang": "de"}


def test_headers_by_any_case() -> None:
    assert REQUEST.header("HOST") == ["sip.example.com"]
    assert REQUEST.header("origin") == []


def test_a_whole_uri_as_target_has_a_path() -> None:
    assert UpgradeRequest(b"GET http://a.test/ws?x=1 HTTP/1.1\r\n\r\n").path == "/ws"
    assert UpgradeRequest(b"GET http://a.test HTTP/1.1\r\n\r\n").path == "/"


@pytest.mark.parametrize("recording", HANDSHAKES, ids=lambda path: path.stem)
def test_recorded_requests_are_read(recording: Path) -> None:
    request = UpgradeRequest(recording.read_bytes())
    assert (request.path, request.query, request.cookies) == ("/", {}, {})
    assert len(request.header("host")) == 1


@given(st.binary(max_size=200))
def test_no_request_raises(raw: bytes) -> None:
    request = UpgradeRequest(raw)
    assert request.query is not None
    assert request.cookies is not None
    assert request.path is not None
    assert request.header("a") is not None
