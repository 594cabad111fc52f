"""Which upgrade requests are accepted, and what each mistake is answered with."""

import logging
from pathlib import Path

import pytest

from sipws import Limits
from sipws.admission.admission import Rules
from sipws.admission.origin_patterns import OriginPatterns
from sipws.events import (
    Accepted,
    Connection,
    ErrorKind,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
)
from sipws.ws.handshake import Refusal
from sipws.ws.server_session import PATIENCE, ServerSession

HANDSHAKES = sorted((Path(__file__).parents[2] / "data" / "handshakes").glob("*.txt"))


def without(request: bytes, header: bytes) -> bytes:
    lines = request.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(header + b":"))


def refusal(session: ServerSession, request: bytes) -> tuple[HandshakeReply, HandshakeFailed]:
    *_, reply, failed = session.receive(request, 1000.5)
    assert isinstance(reply, HandshakeReply)
    assert isinstance(failed, HandshakeFailed)
    assert failed.reply == reply.raw
    assert session.take_writes() == ([reply.raw], True)
    return reply, failed


def test_there_are_recorded_handshakes() -> None:
    assert len(HANDSHAKES) == 19


@pytest.mark.parametrize("recording", HANDSHAKES, ids=lambda path: path.stem)
def test_real_clients_are_accepted(session: ServerSession, recording: Path) -> None:
    request = recording.read_bytes()
    *_, accepted = session.receive(request, 1000.5)
    assert isinstance(accepted, Accepted)
    assert accepted.request == request
    assert b"\r\nSec-WebSocket-Protocol: sip\r\n" in accepted.reply
    assert b"Sec-WebSocket-Extensions" not in accepted.reply


@pytest.mark.parametrize(
    "protocols",
    [
        pytest.param(b"chat, sip", id="in a list"),
        pytest.param(b"chat\r\nSec-WebSocket-Protocol: sip", id="in a second header"),
    ],
)
def test_sip_may_be_one_of_several_subprotocols(
    session: ServerSession, upgrade: bytes, protocols: bytes
) -> None:
    request = upgrade.replace(b"Protocol: sip", b"Protocol: " + protocols)
    *_, accepted = session.receive(request, 1000.5)
    assert isinstance(accepted, Accepted)


def test_no_subprotocol_sip_is_a_400_that_names_it(session: ServerSession, upgrade: bytes) -> None:
    reply, failed = refusal(session, without(upgrade, b"Sec-WebSocket-Protocol"))
    assert (reply.status, failed.kind) == (400, ErrorKind.NO_SUBPROTOCOL)
    assert b"\r\nSec-WebSocket-Protocol: sip\r\n" in reply.raw
    assert failed.request == without(upgrade, b"Sec-WebSocket-Protocol")


def test_another_subprotocol_is_a_400(session: ServerSession, upgrade: bytes) -> None:
    reply, failed = refusal(session, upgrade.replace(b"Protocol: sip", b"Protocol: mqtt"))
    assert (reply.status, failed.kind) == (400, ErrorKind.NO_SUBPROTOCOL)


@pytest.mark.parametrize("version", [b"8", b"14", b"x"])
def test_another_version_is_a_426_that_names_13(
    session: ServerSession, upgrade: bytes, version: bytes
) -> None:
    reply, failed = refusal(session, upgrade.replace(b"Version: 13", b"Version: " + version))
    assert (reply.status, failed.kind) == (426, ErrorKind.BAD_VERSION)
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in reply.raw


def test_a_plain_page_request_is_a_426(session: ServerSession) -> None:
    reply, failed = refusal(session, b"GET / HTTP/1.1\r\nHost: sip.example.com\r\n\r\n")
    assert (reply.status, failed.kind) == (426, ErrorKind.NO_UPGRADE)
    assert b"\r\nUpgrade: websocket\r\n" in reply.raw


@pytest.mark.parametrize(
    ("first_bytes", "detail"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00", "a TLS handshake on a plain ws listener", id="TLS"),
        pytest.param(b"\x00\x01\x02", "not an HTTP request", id="binary"),
        pytest.param(b"hello\r\n", "not an HTTP request", id="text"),
        pytest.param(
            b"REGISTER sip:example.com SIP/2.0\r\n", "SIP without a WebSocket around it", id="SIP"
        ),
        pytest.param(b"GET /\r\n", "no HTTP request line", id="HTTP/0.9"),
    ],
)
def test_what_is_no_http_is_a_400_at_once(
    session: ServerSession, first_bytes: bytes, detail: str
) -> None:
    reply, failed = refusal(session, first_bytes)
    assert (reply.status, failed.kind) == (400, ErrorKind.NOT_HTTP)
    assert failed.detail.startswith(detail)


@pytest.mark.parametrize(
    ("header", "replacement"),
    [
        pytest.param(b"Host: sip.example.com\r\n", b"", id="no Host"),
        pytest.param(b"Host: ", b"Host: a\r\nHost: ", id="two Hosts"),
        pytest.param(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ", id="a bad key"),
        pytest.param(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", id="a short key"),
        pytest.param(b"Sec-WebSocket-Version: 13\r\n", b"", id="no version"),
        pytest.param(b"Upgrade: websocket", b"Upgrade websocket", id="a header without a colon"),
        pytest.param(b"Host: ", b"Transfer-Encoding: chunked\r\nHost: ", id="a body"),
        pytest.param(b"\r\n", b"\n", id="bare line feeds"),
    ],
)
def test_a_request_that_breaks_the_rules_is_a_400(
    session: ServerSession, upgrade: bytes, header: bytes, replacement: bytes
) -> None:
    reply, failed = refusal(session, upgrade.replace(header, replacement))
    assert (reply.status, failed.kind) == (400, ErrorKind.BAD_REQUEST)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"Authorization: Bearer\r\n sec", "invalid HTTP header line (line 3)"),
        (b"Cookie: sec\0", "invalid HTTP header value (line 2)"),
        (b"Cookie: a=\rsec", "invalid HTTP header value (line 2)"),
        (b"sec ret: x", "invalid HTTP header name (line 2)"),
        (b"sec", "invalid HTTP header line (line 2)"),
    ],
)
def test_of_a_header_that_breaks_the_rules_the_place_is_told(
    session: ServerSession, upgrade: bytes, line: bytes, said: str
) -> None:
    broken = upgrade.replace(b"\r\n", b"\r\n%b\r\n" % line, 1)
    reply, failed = refusal(session, broken)
    assert failed.detail == f"invalid HTTP request: {said}"
    assert b"sec" not in reply.raw


def test_a_refusal_quotes_no_credential(connection: Connection, upgrade: bytes) -> None:
    rules = Rules(allowed_origins=OriginPatterns(["https://only.example.com"]))

    def examine(asking: Connection, now: float) -> tuple[Connection, Refusal | None]:
        assert asking.request is not None
        return asking, rules.examine(asking.request)

    odd = upgrade.replace(b"\r\n\r\n", b"\r\nOrigin: https://u:s3cr3t@a/?sid=s3cr3t\r\n\r\n")
    session = ServerSession(connection, Limits(), examine)
    reply, failed = refusal(session, odd)
    assert failed.detail == "pages of origin 'https://***@a/?sid=***' may not connect here"
    assert reply.raw.endswith(f"{failed.detail}\n".encode())


def test_a_program_that_debugs_itself_logs_no_credentials(
    session: ServerSession, upgrade: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # Not the usual version, so that the engine reads it.
    odd = upgrade.replace(b"Version: 13", b"Version: 8\r\nAuthorization: Bearer s3cr3t")
    refusal(session, odd)
    assert "s3cr3t" not in caplog.text


def test_another_method_is_a_405_that_names_get(session: ServerSession, upgrade: bytes) -> None:
    reply, _ = refusal(session, upgrade.replace(b"GET ", b"POST "))
    assert reply.status == 405
    assert b"\r\nAllow: GET\r\n" in reply.raw


@pytest.mark.parametrize("version", [b"1.0", b"2.0", b"0.9"])
@pytest.mark.parametrize("host", [b"Host", b"X"])
def test_another_version_of_http_is_a_505(
    session: ServerSession, upgrade: bytes, version: bytes, host: bytes
) -> None:
    request = upgrade.replace(b"HTTP/1.1", b"HTTP/" + version).replace(b"Host", host)
    reply, _ = refusal(session, request)
    assert reply.status == 505


@pytest.mark.parametrize(
    "filler",
    [
        pytest.param(b"X-Filler: " + b"x" * 20_000, id="one endless header"),
        pytest.param(b"\r\n".join(b"X-%d: x" % n for n in range(2000)), id="too many headers"),
    ],
)
def test_too_large_a_request_is_a_431_before_it_ends(session: ServerSession, filler: bytes) -> None:
    reply, failed = refusal(session, b"GET / HTTP/1.1\r\n" + filler)
    assert (reply.status, failed.kind) == (431, ErrorKind.REQUEST_TOO_LARGE)
    assert len(failed.request) <= 16 * 1024


def cookie(size: int) -> bytes:
    """A header line of so many bytes."""
    return b"Cookie: " + b"x" * (size - 8)


def lines(number: int) -> bytes:
    """So many header lines."""
    return b"\r\n".join(b"Cookie: n%d=x" % n for n in range(number))


@pytest.mark.parametrize(
    ("limits", "filler"),
    [
        pytest.param(Limits(), cookie(8_300), id="a long cookie"),
        pytest.param(Limits(), cookie(16_000), id="nearly all of a request in one line"),
        pytest.param(Limits(request_size=65_536), cookie(60_000), id="a longer one"),
        pytest.param(Limits(), lines(180), id="many cookies"),
        pytest.param(Limits(request_size=65_536), lines(1_000), id="still more"),
        pytest.param(Limits(headers=600), lines(590), id="as many as are allowed"),
        pytest.param(Limits(header_line=100), cookie(100), id="as long as is allowed"),
    ],
)
def test_lines_within_the_limits_are_taken(
    connection: Connection, upgrade: bytes, limits: Limits, filler: bytes
) -> None:
    session = ServerSession(connection, limits)
    *_, accepted = session.receive(upgrade.replace(b"\r\n", b"\r\n%b\r\n" % filler, 1), 1000.5)
    assert isinstance(accepted, Accepted)


@pytest.mark.parametrize(
    ("limits", "filler", "named"),
    [
        (Limits(request_size=1024), cookie(1_000), "max_request_size = 1024 bytes"),
        (Limits(), lines(300), "max_headers = 256"),
        (Limits(), cookie(16_400), "max_request_size = 16384 bytes"),
        (Limits(headers=20), lines(15), "max_headers = 20"),
        (Limits(header_line=100), cookie(101), "max_header_line = 100 bytes"),
        (Limits(header_line=8192), cookie(8193), "max_header_line = 8192 bytes"),
    ],
)
def test_a_431_names_the_setting_and_its_value(
    connection: Connection, upgrade: bytes, limits: Limits, filler: bytes, named: str
) -> None:
    session = ServerSession(connection, limits)
    request = upgrade.replace(b"\r\n", b"\r\n%b\r\n" % filler, 1)
    reply, failed = refusal(session, request)
    assert (reply.status, failed.kind) == (431, ErrorKind.REQUEST_TOO_LARGE)
    assert failed.detail.endswith(named)
    assert reply.raw.endswith(f"{named}\n".encode())


@pytest.mark.parametrize("value", [b"x", b"\xe9"], ids=["the short way", "the long way"])
def test_as_many_header_lines_as_max_headers_says(
    connection: Connection, upgrade: bytes, value: bytes
) -> None:
    request = upgrade.replace(b"\r\n", b"\r\nX: %b\r\n" % value, 1)
    number = request.count(b"\r\n") - 2
    *_, accepted = ServerSession(connection, Limits(headers=number)).receive(request, 1000.5)
    assert isinstance(accepted, Accepted)
    reply, _ = refusal(ServerSession(connection, Limits(headers=number - 1)), request)
    assert reply.status == 431


def test_the_request_line_is_a_line_too(connection: Connection, upgrade: bytes) -> None:
    session = ServerSession(connection, Limits(header_line=200))
    reply, _ = refusal(session, upgrade.replace(b"GET /", b"GET /" + b"x" * 200))
    assert reply.status == 431


def test_the_engines_own_limits_do_not_count(
    session: ServerSession, upgrade: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("websockets.http11.MAX_LINE_LENGTH", 30)
    monkeypatch.setattr("websockets.http11.MAX_NUM_HEADERS", 3)
    odd = upgrade.replace(b"Host", b"X: \xe9\r\nHost")
    *_, accepted = session.receive(odd, 1000.5)
    assert isinstance(accepted, Accepted)


@pytest.mark.parametrize(
    "target",
    [
        b"/\x00",
        b"/a\x01b",
        b"/\x1b[2J",
        b"/\x7f",
        b"/\xc3\xa9",
        b"/ws#part",
        b"*",
        b"sip.example.com:80",
        b"ws",
        b"ftp://sip.example.com/",
        b"http:///ws",
        b"http://user:pw@sip.example.com/",
        b"ws://sip.example.com:99999/",
    ],
)
def test_a_target_that_is_none_is_a_400(
    session: ServerSession, upgrade: bytes, target: bytes
) -> None:
    reply, failed = refusal(session, upgrade.replace(b"GET /", b"GET " + target))
    assert (reply.status, failed.kind) == (400, ErrorKind.BAD_REQUEST)
    assert b"pw" not in reply.raw


@pytest.mark.parametrize(
    "target", [b"/ws?a=b|c^{}", b"//", b"http://sip.example.com", b"WSS://sip.example.com:443/a?b"]
)
def test_a_path_and_a_whole_url_are_targets(
    session: ServerSession, upgrade: bytes, target: bytes
) -> None:
    *_, accepted = session.receive(upgrade.replace(b"GET /", b"GET " + target), 1000.5)
    assert isinstance(accepted, Accepted)


@pytest.mark.parametrize(
    "host",
    [
        b"sip.example.com/",
        b"sip example.com",
        b"sip.example.com\x01",
        b"sip.example.com\xc3\xa9",
        b"user:s3cr3t@sip.example.com",
        b"sip.example.com:port",
        b"sip.example.com:65536",
        b"sip.example.com:80:80",
        b"2001:db8::1",
        b"[2001:db8::1",
        b"[2001:db8::g]",
        b"[1.2.3.4]",
        b"<script>",
        b"a%2",
        b":80",
        b"",
    ],
)
def test_a_host_that_is_none_is_a_400(session: ServerSession, upgrade: bytes, host: bytes) -> None:
    reply, failed = refusal(session, upgrade.replace(b"sip.example.com", host))
    assert (reply.status, failed.kind) == (400, ErrorKind.BAD_REQUEST)
    assert b"s3cr3t" not in reply.raw


@pytest.mark.parametrize(
    "host",
    [b"a", b"my_phone.local.", b"10.0.0.1:8080", b"[2001:DB8::1]:443", b"[::ffff:1.2.3.4]", b"a:"],
)
def test_names_and_addresses_are_hosts(session: ServerSession, upgrade: bytes, host: bytes) -> None:
    *_, accepted = session.receive(upgrade.replace(b"sip.example.com", host), 1000.5)
    assert isinstance(accepted, Accepted)


@pytest.mark.parametrize("header", [b"Upgrade", b"Sec-WebSocket-Version"])
def test_a_426_says_what_to_upgrade_to(
    session: ServerSession, upgrade: bytes, header: bytes
) -> None:
    odd = upgrade.replace(b"Version: 13", b"Version: 8") if header != b"Upgrade" else upgrade
    reply, _ = refusal(session, without(odd, header) if header == b"Upgrade" else odd)
    assert reply.status == 426
    # RFC 9110 section 7.8; the connection ends all the same.
    assert b"\r\nUpgrade: websocket\r\n" in reply.raw
    assert b"\r\nConnection: upgrade, close\r\n" in reply.raw
    assert reply.raw.count(b"\r\nConnection:") == 1


FULL = Refusal(ErrorKind.TOO_MANY_CONNECTIONS, "there are 5 connections, and no more are taken")


def test_who_is_turned_away_is_answered_when_it_has_asked(
    session: ServerSession, upgrade: bytes
) -> None:
    session.turn_away(FULL)
    assert session.receive(upgrade[:100], 1000.1) == []
    assert session.take_writes() == ([], False)
    request, reply, failed = session.receive(upgrade[100:], 1000.2)
    assert isinstance(request, HandshakeRequest)
    assert isinstance(reply, HandshakeReply)
    assert isinstance(failed, HandshakeFailed)
    assert (reply.status, failed.kind, failed.request) == (503, FULL.kind, upgrade)
    assert session.take_writes() == ([reply.raw], True)
    assert not session.accepted


def test_who_is_turned_away_and_asks_nothing_is_told_all_the_same(session: ServerSession) -> None:
    session.turn_away(FULL)
    assert session.timeout == PATIENCE
    _, failed = session.handle_timeout(1002.0)
    assert isinstance(failed, HandshakeFailed)
    assert (failed.kind, failed.request) == (FULL.kind, b"")
    assert session.take_writes()[1]


def test_who_is_turned_away_as_the_server_ends_is_told_all_the_same(
    session: ServerSession,
) -> None:
    session.turn_away(FULL)
    reply, _ = session.close(1000.1, 1001, "server shutdown")
    assert isinstance(reply, HandshakeReply)
    assert reply.status == 503
