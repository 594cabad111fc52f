"""Close codes from one end of a relayed connection to the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close

from sipws.errors import ConnectError
from sipws.events import ErrorKind
from sipws.relay.close_codes import CloseReason, End, of_failure, shortened, to_client, to_upstream


@pytest.mark.parametrize("told", [to_client, to_upstream])
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1009, 1012, 3000, 4999])
def test_a_peers_code_and_reason_go_on(told, code: int) -> None:
    assert told(End(code, "why", by_peer=True)) == CloseReason(code, "why")


@pytest.mark.parametrize("told", [to_client, to_upstream])
def test_a_close_without_a_code_goes_on_as_a_normal_one(told) -> None:
    assert told(End(1005, "", by_peer=True)) == CloseReason(1000, "")


@pytest.mark.parametrize("told", [to_client, to_upstream])
@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_a_close_of_ours_goes_on(told, code: int) -> None:
    assert told(End(code, "why", by_peer=False)) == CloseReason(code, "why")


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010])
def test_nobody_is_blamed_for_what_the_other_did(code: int) -> None:
    end = End(code, "bad frame", by_peer=False)
    assert to_upstream(end) == CloseReason(1001, f"closed with {code}: bad frame")
    assert to_client(end) == CloseReason(1011, "upstream failed")


def test_a_connection_that_is_lost_is_told_with_a_code_that_may_be_sent() -> None:
    end = End(None, "Connection reset by peer", by_peer=True)
    assert to_upstream(end) == CloseReason(1001, "the client is gone: Connection reset by peer")
    assert to_client(end) == CloseReason(1011, "upstream lost")


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        (ErrorKind.CONNECT_REFUSED, None, CloseReason(1013, "upstream unreachable")),
        (ErrorKind.CONNECT_TIMEOUT, None, CloseReason(1013, "upstream unreachable")),
        (ErrorKind.TLS_FAILURE, None, CloseReason(1013, "upstream unreachable")),
        (ErrorKind.HANDSHAKE_ABORTED, None, CloseReason(1013, "upstream unreachable")),
        (ErrorKind.BAD_REPLY, 101, CloseReason(1011, "upstream failed")),
        (ErrorKind.HANDSHAKE_REFUSED, 403, CloseReason(1008, "upstream refused with 403")),
        (ErrorKind.HANDSHAKE_REFUSED, 429, CloseReason(1013, "upstream refused with 429")),
        (ErrorKind.HANDSHAKE_REFUSED, 503, CloseReason(1013, "upstream refused with 503")),
        (ErrorKind.HANDSHAKE_REFUSED, 302, CloseReason(1013, "upstream refused with 302")),
    ],
)
def test_a_failed_connect_says_whether_to_try_again(
    kind: ErrorKind, status: int | None, expected: CloseReason
) -> None:
    assert of_failure(ConnectError("ws://a/", kind, "secret", "", status=status)) == expected


def test_a_client_hears_when_to_come_back() -> None:
    kind = ErrorKind.HANDSHAKE_REFUSED
    error = ConnectError("ws://a/", kind, "secret", "", status=503, retry_after=29.5)
    assert of_failure(error) == CloseReason(1013, "upstream refused with 503; retry after 30 s")


@given(st.text(max_size=200), st.booleans(), st.none() | st.integers(1000, 4999))
def test_what_is_told_may_always_be_sent(reason: str, by_peer: bool, code: int | None) -> None:
    try:
        Close(code or 1000, "").check()
    except Exception:
        code = None
    for told in (to_client, to_upstream):
        sent = told(End(code, reason, by_peer))
        assert len(Close(*sent).serialize()) <= 125


def test_a_long_reason_is_cut_between_characters() -> None:
    assert shortened("ü" * 100) == "ü" * 61
