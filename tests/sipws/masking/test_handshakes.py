"""Credentials in handshakes: what nobody must be told, and what is kept."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import Address, Listener
from sipws.events import Connection, ErrorKind, HandshakeFailed
from sipws.masking.handshakes import Masking

HANDSHAKES = Path(__file__).parents[2] / "data" / "handshakes"

mask = Masking().handshake


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
        (b"Authorization: my secret words", b"Authorization: ***"),
        (b"Authorization: Bearer", b"Authorization: Bearer"),
        (b"Authorization: \r\n\tabc", b"Authorization: \r\n\t***"),
        (b" Authorization: abc", b" Authorization: ***"),
        (b"Autho\0rization: abc\rdef", b"Autho\0rization: ***"),
        (b"X: y\rCookie: a=b", b"X: y\rCookie: a=***"),
        (b"X-Access-Token: abc", b"X-Access-Token: ***"),
        (b"X-Amz-Security-Token: abc", b"X-Amz-Security-Token: ***"),
        (b"X-Functions-Key: abc", b"X-Functions-Key: ***"),
        (b"Cookie: a=1; abc", b"Cookie: a=***; ***"),
        (b"Cookie: a=b=c;d=;=e", b"Cookie: a=***;d=;***"),
        (b'Cookie: a="b; c"', b"Cookie: a=***; ***"),
        (b"Set-Cookie: a=b; Path=/, c=d", b"Set-Cookie: a=***; Path=***"),
        (
            b"Set-Cookie: a=b; Expires=Wed, 21 Oct; x=y",
            b"Set-Cookie: a=***; Expires=Wed, 21 Oct; x=***",
        ),
        (
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        (b"Origin: https://u:p@a.example:8443", b"Origin: https://***@a.example:8443"),
        (b"Referer: https://ghp_x@a.example/", b"Referer: https://***@a.example/"),
        (b"Host: u:p@a.example", b"Host: ***@a.example"),
        (b"Host: a.example:8080", b"Host: a.example:8080"),
        (b"Referer: https://a/?code=1&user=alice", b"Referer: https://a/?code=***&user=alice"),
        (b"Location: https://a/#id_token=x", b"Location: https://a/#id_token=***"),
        (b"X-Id: eyJhbGciOiJFUzI1NiJ9.e30.c2ln", b"X-Id: ***"),
        (b"From: <sip:alice:pw@a>", b"From: <sip:alice:***@a>"),
        (b"From: <sip:alice@a>", b"From: <sip:alice@a>"),
        (b"X-Custom: Bearer abc", b"X-Custom: Bearer ***"),
        (b"X-Custom: Basic dTpwYXNz", b"X-Custom: Basic ***"),
        (b"X-Custom: a, bearer A1b2c3d4", b"X-Custom: a, bearer ***"),
        (b"Cookie2: sid=1", b"Cookie2: sid=***"),
        (b"X-Ws-Ticket: abc", b"X-Ws-Ticket: ***"),
        (b"Authorization Bearer abc", b"Authorization Bearer ***"),
        (b"X-API-Key abc", b"X-API-Key ***"),
        (b"Cookie sid=abc", b"Cookie sid=***"),
        (b"Authorization=Bearer abc", b"Authorization=Bearer ***"),
        (b"X: y\rAuthorization Basic dTpw", b"X: y\rAuthorization Basic ***"),
        (b'X-Data: {"user": "alice", "token": "x"}', b'X-Data: {"user": "alice", "token": "***"}'),
        (b"X-Id: eyJ0b2tlbiI6IlMz+abc/d==", b"X-Id: ***"),
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
        (b"/ws?x;TOKEN=abc;y=1&z=2", b"/ws?x;TOKEN=***&z=2"),
        (b"/ws?%74oken=abc", b"/ws?%74oken=***"),
        (b"/ws?apikey=k&api_key=k", b"/ws?apikey=***&api_key=***"),
        (b"/ws?password=&a=b", b"/ws?password=&a=b"),
        (b"/ws?token=a;secret&b=1", b"/ws?token=***&b=1"),
        (b"/ws?token=a%26b&c=d", b"/ws?token=***&c=d"),
        (b"/ws?token=a b", b"/ws?token=***"),
        (b"/ws?user[password]=x&connect.sid=y", b"/ws?user[password]=***&connect.sid=***"),
        (
            b"/?to=https%3A%2F%2Fa%3Ftoken%3Dx%26b%3D1",
            b"/?to=https%3A%2F%2Fa%3Ftoken%3D***%26b%3D1",
        ),
        (b"/?to=%252Fa%253Fsid%253Dx%2526b&c=d", b"/?to=%252Fa%253Fsid%253D***%2526b&c=d"),
        (b"ws://u:p@a/?x=1", b"ws://***@a/?x=1"),
        (b"/?to=https%3A%2F%2Fu%3Ap%40a%2F", b"/?to=https%3A%2F%2F***%40a%2F"),
        (b"/?to=sip:alice:pw@a&from=sip:bob@b", b"/?to=sip:alice:***@a&from=sip:bob@b"),
        (
            b"/ws?SAMLResponse=x&otp=1&X-Amz-Signature=y",
            b"/ws?SAMLResponse=***&otp=***&X-Amz-Signature=***",
        ),
        (b"/ws?user=alice&keyboard=de", b"/ws?user=alice&keyboard=de"),
        (b"https://a/ws?jwt=e.y.J#x", b"https://a/ws?jwt=***"),
        (b"/?ws_ticket=x&pw=y&sess=z&dpop=v", b"/?ws_ticket=***&pw=***&sess=***&dpop=***"),
        (b"/?wsTicket=x&userPin=1&authtoken=y", b"/?wsTicket=***&userPin=***&authtoken=***"),
        (b'/?auth={"token":"x"}&a=b', b"/?auth=***&a=b"),
        (b'/?data={"n":1,"token":"x y"}&a=b', b'/?data={"n":1,"token":"***"}&a=b'),
        (b"/?d=%7B%22pin%22%3A1234%7D&a=b", b"/?d=%7B%22pin%22%3A***&a=b"),
        (b"/?d=%7B%22pwd%22%3A%22x%22%7D", b"/?d=%7B%22pwd%22%3A%22***%22%7D"),
        (
            b"/?d=%257B%2522pwd%2522%253A%2522x%2522%257D&a=b",
            b"/?d=%257B%2522pwd%2522%253A%2522***%2522%257D&a=b",
        ),
        (b"/?d={token:'x'}&a=b", b"/?d={token:'***'}&a=b"),
        (b'/?d={"tokens":["x","y"]}&a=b', b'/?d={"tokens":***]}&a=b'),
    ],
)
def test_a_token_in_the_query_is_masked_by_its_name(target: bytes, masked: bytes) -> None:
    assert mask(b"GET %s HTTP/1.1\r\n\r\n" % target) == b"GET %s HTTP/1.1\r\n\r\n" % masked


CREDENTIALS = "ticket auth pwd pin sid dpop pw sess X-Ws-Ticket X-Pwd ws_ticket wsauth authtoken"
CREDENTIALS += (
    " otp X-OTP-Code X-Sid userPin user_pin connect.sid authCode X-Auth-Key X-CSRF passwd"
)
CREDENTIALS += " user-pass pass_phrase oauth_token DPoP accessToken X-Session creds PHPSESSID xsrf"
HARMLESS = "Sec-Fetch-Site Accept-Encoding side spin author keyboard passenger authority Ping codec"
HARMLESS += (
    " opinion assess possess inside residence passive passport compass bypass WWW-Authenticate"
)
HARMLESS += (
    " Date X-Request-Id Pragma Sec-CH-UA Traceparent Forwarded X-Author authored signal X-Side"
)


@pytest.mark.parametrize("name", CREDENTIALS.split())
def test_credentials_have_one_list_of_names(name: str) -> None:
    known = Masking(), b"GET /?a=1&%b=x1&b=2 HTTP/1.1\r\n%b: x1\r\n\r\n"
    assert b"x1" not in known[0].handshake(known[1] % (name.encode(), name.encode()))


@pytest.mark.parametrize("name", HARMLESS.split())
def test_names_that_only_sound_alike_are_kept(name: str) -> None:
    request = b"GET /?a=1&%b=x1&b=2 HTTP/1.1\r\n%b: x1\r\n\r\n" % (name.encode(), name.encode())
    assert mask(request) == request


@pytest.mark.parametrize(
    "line",
    [
        b'WWW-Authenticate: Bearer realm="x1", error="invalid_token"',
        b"X-Plan: Basic subscription",
        b"User-Agent: Basic Browser/1.0",
        b"X-Note: the bearer of news",
        b'X-Json: {"user":"alice","n":1}',
    ],
)
def test_what_is_no_credential_behind_a_scheme_is_kept(line: bytes) -> None:
    request = b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n"
    assert mask(request) == request


def test_prose_of_a_body_is_no_header_without_a_colon() -> None:
    reply = b"HTTP/1.1 401 No\r\nX: y\r\n\r\nSession expired\r\nAuthorization required\r\n"
    masking = Masking()
    assert masking.handshake(reply) == reply
    # What is remembered of a body is not taken for a line of a head.
    line = b"Cookie abcdefgh\r\n"
    assert masking.handshake(b"HTTP/1.1 401 No\r\n\r\n" + line).endswith(line)
    assert b"abcdefgh" not in masking.handshake(b"GET / HTTP/1.1\r\n" + line + b"\r\n")


@pytest.mark.parametrize(
    ("offered", "masked"),
    [
        (b"sip", b"sip"),
        (b"SIP , msrp,v12.stomp, graphql-transport-ws", None),
        (b"ocpp1.6, mqttv3.1, v4.base64.channel.k8s.io, LWM2M, wamp.2.json", None),
        (b"sip, bearer.abc", b"sip, bearer.***"),
        (b"sip, bearer, abc, msrp", b"sip, bearer, ***, msrp"),
        (b"access_token, sip", b"access_token, sip"),
        (b"sip, access_token-abc", b"sip, access_token-***"),
        (b"sip, eyJhbGciOiJFUzI1NiJ9.e30.c2ln", b"sip, ***"),
        (b"sip,s3cr3tPassw0rd", b"sip,***"),
        (b"550e8400-e29b-41d4-a716-446655440000, sip", b"***, sip"),
        (b"base64url.bearer.authorization.k8s.io.abc", b"base64url.bearer.***"),
    ],
)
def test_of_subprotocols_the_names_are_kept(offered: bytes, masked: bytes | None) -> None:
    request = b"GET / HTTP/1.1\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
    assert mask(request % offered) == request % (offered if masked is None else masked)


def test_a_token_in_another_header_is_found_too() -> None:
    request = b"GET / HTTP/1.1\r\nReferer: https://a/?token=abc\r\n\r\n"
    assert b"abc" not in mask(request)


def test_the_lists_can_be_changed() -> None:
    own = Masking(headers=["X-Phone"], parameters=["pin"])
    request = b"GET /?pin=1234&token=abc HTTP/1.1\r\nX-Phone: 42\r\nCookie: a=b\r\n\r\n"
    expected = b"GET /?pin=***&token=abc HTTP/1.1\r\nX-Phone: ***\r\nCookie: a=b\r\n\r\n"
    assert own.handshake(request) == expected
    assert Masking(headers=[], parameters=[]).handshake(request) == request


def test_a_request_that_was_cut_in_a_credential_tells_nothing_of_it() -> None:
    request = b"GET ws://u:secret1@a/?sid=secret2 HTTP/1.1\r\nCookie: secret3=secret3"
    for end in range(len(request)):
        masked = mask(request[:end])
        assert not any(part in masked for part in (b"secret1", b"secret2", b"=secr", b":secr"))


def test_what_quotes_a_credential_is_told_without_it() -> None:
    request = b"GET /?token=a%20secret HTTP/1.1\r\nCookie: sid=<topsecret>\r\n\r\n"
    text = Masking().text
    assert text("no 'a secret' is <topsecret>", request) == "no '***' is ***"
    assert text("<p>&lt;topsecret&gt;</p>", request) == "<p>***</p>"
    # Whoever quoted it had no room for all of it.
    assert text("not known: <topsec", request) == "not known: ***"
    assert text("see https://u:p@a/?token=x", b"") == "see https://***@a/?token=***"
    assert text("nothing of that kind", request) == "nothing of that kind"


def test_a_quotation_of_four_characters_is_masked_and_a_shorter_one_stands_there_by_chance() -> (
    None
):
    text = Masking().text
    assert text("no 'q7xk'", b"GET / HTTP/1.1\r\nX-Token: q7xk\r\n\r\n") == "no '***'"
    assert text("not in the list", b"GET / HTTP/1.1\r\nX-Token: the\r\n\r\n") == "not in the list"


@pytest.mark.parametrize("name", [b"Host", b"X-Forwarded-Host", b"x-original-host"])
def test_the_user_of_a_host_is_masked_in_whatever_header_a_host_is_named(name: bytes) -> None:
    line = name + b": alice:secret@sip.example.com:5061\r\n"
    assert mask(b"GET / HTTP/1.1\r\n" + line + b"\r\n") == (
        b"GET / HTTP/1.1\r\n" + name + b": ***@sip.example.com:5061\r\n\r\n"
    )


def test_a_reply_that_quotes_the_request_is_told_without_it() -> None:
    connection = Connection(
        1, Listener("ws", "10.0.0.1", 80), Address("10.0.0.1", 80), Address("192.0.2.5", 1), 0.0
    )
    request = b"GET /?key=abcdefgh HTTP/1.1\r\n\r\n"
    reply = b"HTTP/1.1 401 No\r\nX-Was: abcdefgh\r\n\r\n{'key': 'abcdefgh'}"
    failed = HandshakeFailed(connection, 1.0, request, reply, ErrorKind.REFUSED, "abcdefgh!")
    masked = Masking().event(failed)
    assert masked.reply == b"HTTP/1.1 401 No\r\nX-Was: ***\r\n\r\n{'key': '***'}"
    assert masked.detail == "***!"


def test_of_more_credentials_than_can_be_looked_for_nothing_is_told() -> None:
    one_by_one = b"".join(b"Cookie: a=&%d\r\n" % i for i in range(900))
    for cookies in (one_by_one, one_by_one.replace(b"\r\nCookie: ", b";"), b"X: ?token=&299" * 900):
        request = b"GET / HTTP/1.1\r\n" + cookies
        assert Masking().text("bad cookie 299", request) == "***"


def test_what_stands_behind_more_lines_than_are_looked_at_is_not_told() -> None:
    plain = b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 250
    assert mask(plain + b"Cookie: a=hunter22\r\n\r\n") == plain + b"Cookie: a=***\r\n\r\n"
    for more in (b"Cookie: a=hunter22\r\n\r\n", b""):
        masked = mask(plain * 2 + more)
        assert masked.startswith(plain)
        assert masked.endswith(b"X: a\r\n***\r\n")


def test_of_more_members_than_are_looked_at_none_is_told() -> None:
    members = b",".join(b"a%d:x" % i for i in range(250))
    assert mask(b"GET / HTTP/1.1\r\nX: {%b,pin:1}\r\n\r\n" % members) == (
        b"GET / HTTP/1.1\r\n***\r\n\r\n"
    )


def test_180_cookies_are_told_by_name() -> None:
    cookies = b"; ".join(b"a%d=hunter%d" % (i, i) for i in range(180))
    masked = mask(b"GET / HTTP/1.1\r\nCookie: " + cookies + b"\r\n\r\n")
    assert masked.count(b"=***") == 180


@pytest.mark.parametrize(
    "line",
    [
        b"GET /?" + b"=" * 16_000,
        b"GET /?" + b"%2F%2Fa" * 2_300,
        b"GET /" + b"//a" * 5_000,
        b"Host: @" + b" " * 16_000,
        b"X:" + b"\rX:" * 5_000,
        b"X:" + b"\r\n " * 5_000,
        b"Cookie: " + b"a=b;" * 4_000,
        b"Cookie: a=b\r\n" * 1_200,
        b"X: //a:b@c/\r\n" * 1_000,
        b"X: " + b"sip:a:b@c " * 1_600,
        b"Sec-WebSocket-Protocol: " + b"aA1-" * 4_000,
        b"X: " + b'"token":' * 2_000,
        b"GET /?" + b",a:" * 5_000,
        b"GET /?" + b"%22%3A" * 2_600,
        b"X: " + b"Bearer a" * 2_000,
        b"X: " + b"Bearer  " * 2_000,
        b"X: eyJaaaaaaaaaaa" + b"+a" * 8_000,
        b"X: " + b"%25" * 5_000,
    ],
    ids=lambda line: line[:16],
)
def test_what_a_hostile_client_sends_is_not_read_for_long(line: bytes) -> None:
    started = time.process_time()
    mask(line)
    # What grew with the square of its length would take seconds.
    assert time.process_time() - started < 0.5


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
