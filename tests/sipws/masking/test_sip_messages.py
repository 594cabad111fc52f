"""Credentials in SIP messages: what must not be traced, and what is kept."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.masking.sip_messages import MOST_LOOKS, in_quote, masker

REGISTER = (
    b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1zz\r\n"
    b"Call-ID: zap@a\r\nCSeq: 1 REGISTER\r\n%bContent-Length: %d\r\n\r\n%b"
)
DIGEST = b'Digest username="alice", realm="example.com", nonce="z1z", response="abc"'
tokens, everything = masker("tokens"), masker("all")
assert tokens is not None
assert everything is not None


def register(lines: bytes, body: bytes = b"") -> bytes:
    return REGISTER % (lines, len(body), body)


@pytest.mark.parametrize(
    ("lines", "masked"),
    [
        (b"Authorization: Bearer abc.def\r\n", b"Authorization: Bearer ***\r\n"),
        (b"authorization:Basic dTpw\r\n", b"authorization:Basic ***\r\n"),
        (b"AUTHORIZATION \t: bearer  abc\r\n", b"AUTHORIZATION \t: bearer ***\r\n"),
        (b"aUtHoRiZaTiOn: Bearer abc\r\n", b"aUtHoRiZaTiOn: Bearer ***\r\n"),
        (b"aUtHoRIZaTiOn: Bearer abc\r\n", b"aUtHoRIZaTiOn: Bearer ***\r\n"),
        (b"Proxy-Authorization: Bearer abc\r\n", b"Proxy-Authorization: Bearer ***\r\n"),
        (b"Authorization: Bearer\r\n abc\r\n", b"Authorization: Bearer ***\r\n"),
        (b"Authorization:\r\n\tBearer a\r\n b\r\n", b"Authorization:\r\n\tBearer ***\r\n"),
        (b"Authorization\r\n : Bearer a\r\n", b"Authorization\r\n : Bearer ***\r\n"),
        (b"Authorization: Bearer abc\n", b"Authorization: Bearer ***\n"),
        (b"Authorization: opaque\r\n", b"Authorization: ***\r\n"),
        (b"Authorization Bearer abc\r\n", b"Authorization Bearer ***\r\n"),
        (b"X-Authorization: Bearer abc\r\n", b"X-Authorization: Bearer ***\r\n"),
        (
            b"Subject: z\rAuthorization: Bearer abc\r\n",
            b"Subject: z\rAuthorization: Bearer ***\r\n",
        ),
        (
            b"Authorization: %b\r\nAuthorization: Bearer abc\r\n" % DIGEST,
            b"Authorization: %b\r\nAuthorization: Bearer ***\r\n" % DIGEST,
        ),
        (
            b"Authorization: Bearer a\r\nProxy-Authorization: Basic b\r\n",
            b"Authorization: Bearer ***\r\nProxy-Authorization: Basic ***\r\n",
        ),
        (b'Authorization: Digest a="b", Bearer X\r\n', b"Authorization: Digest ***\r\n"),
        (b'Authorization: Digest a="b",\r\n Bearer X\r\n', b"Authorization: Digest ***\r\n"),
        (b'Authorization: Digest a="b" Bearer X\r\n', b"Authorization: Digest ***\r\n"),
        (b"Authorization: Digest X==\r\n", b"Authorization: Digest ***\r\n"),
        (b"Authorization: Digest dXNlcg=\r\n", b"Authorization: Digest ***\r\n"),
        (b"Authorization: Digest a=b, X==\r\n", b"Authorization: Digest ***\r\n"),
        (b"Authorization: Digest X\r\n", b"Authorization: Digest ***\r\n"),
        (b"Authorization\v: Bearer a\r\n", b"Authorization\v: Bearer ***\r\n"),
        (b"Authorization\f\t: Bearer a\r\n", b"Authorization\f\t: Bearer ***\r\n"),
        (b"Authori\r\n zation: Bearer a\r\n", b"Authori\r\n zation: Bearer ***\r\n"),
        (b"AUTHORI\n\tZATION: Bearer a\r\n", b"AUTHORI\n\tZATION: Bearer ***\r\n"),
        (b"Author\r\n ization: Bearer a\r\n", b"Author\r\n ization: Bearer ***\r\n"),
        (b"Authori\vzation: Bearer a\r\n", b"Authori\vzation: Bearer ***\r\n"),
        (
            b"Contact: <sip:a?Authorization=Bearer%20abc&x=1>;q=1\r\n",
            b"Contact: <sip:a?Authorization=***&x=1>;q=1\r\n",
        ),
        (
            b"m: <sip:a?x=1&Proxy-authorization=Basic%20abc>\r\n",
            b"m: <sip:a?x=1&Proxy-authorization=***>\r\n",
        ),
        (b"Contact: <sip:a?Authorization=Digest%20a%3Db>\r\n", None),
        (b'Authorization: Digest a="b, c \\" Bearer d",\r\n realm=x , nc=1\r\n', None),
        (b'Authorization:Digest a="b",uri="sip:x?y=z",c=md5-sess,d=ab==\r\n', None),
        (b"Authentication-Info: Bearer abc\r\n", None),
        (b"Authorization: %b\r\n" % DIGEST, None),
        (b"authorization : digest username=x\r\n", None),
        (b"Authorization: \r\n", None),
        (b"Subject: Authorization: Bearer abc\r\n", None),
        (b"WWW-Authenticate: Digest realm=z\r\n", None),
        (b"Organization: Bearer of news\r\n", None),
    ],
)
def test_of_credentials_the_scheme_is_kept(lines: bytes, masked: bytes | None) -> None:
    message = register(lines)
    assert tokens(message) == register(lines if masked is None else masked)
    # Without another letter that is like a name's.
    plain = message.replace(b"zap", b"c1")
    assert tokens(plain) == register(masked or lines).replace(b"zap", b"c1")
    assert in_quote(message.decode(), "none") == message.decode()
    answer = b"SIP/2.0 200 OK\r\n" + message.partition(b"\r\n")[2]
    assert tokens(answer).partition(b"\r\n")[2] == tokens(message).partition(b"\r\n")[2]


@pytest.mark.parametrize(
    ("lines", "masked"),
    [
        (b"Authorization: %b\r\n" % DIGEST, b"Authorization: Digest ***\r\n"),
        (b"Authentication-Info: nextnonce=1\r\n", b"Authentication-Info: ***\r\n"),
        (b"Authorization: Bearer abc\r\n", b"Authorization: Bearer ***\r\n"),
    ],
)
def test_digest_is_masked_where_all_is(lines: bytes, masked: bytes) -> None:
    assert everything(register(lines)) == register(masked)


def test_the_body_stays_as_it_is() -> None:
    body = b"Authorization: Bearer abc\r\n\r\nAuthorization: Bearer abc\r\n"
    for mask in (tokens, everything):
        message = register(b"", body)
        assert mask(message) is message
        assert mask(register(b"Authorization: Basic x\r\n", body)).endswith(body)
        bare = register(b"", body).replace(b"\r\n", b"\n", 7)
        assert mask(bare) == bare


@pytest.mark.parametrize("name", [b"Content-Type", b"c", b"CONTENT-TYPE "])
@pytest.mark.parametrize("kind", [b"message/sipfrag", b"Message/SIP;version=2.0"])
def test_a_body_that_is_sip_is_masked_too(name: bytes, kind: bytes) -> None:
    body = b"INVITE sip:a SIP/2.0\r\nAuthorization: Bearer %b\r\n\r\nAuthorization: Basic %b\r\n"
    lines = name + b": " + kind + b"\r\n"
    for mask in (tokens, everything):
        message = register(lines, body % (b"abc", b"abc"))
        assert mask(message).endswith(body % (b"***", b"***"))
        assert mask(register(lines.replace(b"sip", b"sap").replace(b"SIP", b"SAP"), body)).endswith(
            body
        )


def test_empty_lines_before_the_start_line_end_no_head() -> None:
    message = b"\r\n\r\n" + register(b"Authorization: Bearer abc\r\n")
    assert tokens(message) == b"\r\n\r\n" + register(b"Authorization: Bearer ***\r\n")


def test_what_holds_none_is_itself() -> None:
    for message in (register(b""), register(b"Authorization: %b\r\n" % DIGEST), b"", b"z", b"iz"):
        assert tokens(message) is message


def test_a_quotation_is_masked_wherever_it_was_cut() -> None:
    text = "\ufeff\r\n\r\n" + register(b"Authorization: Bearer SECRET1SECRET1\r\n").decode()
    for end in range(len(text)):
        assert "SEC" not in in_quote(text[:end], "tokens")


SECRETS = st.from_regex(rb"[A-Za-z0-9._~+/-]{8,30}={0,2}", fullmatch=True)


@given(
    secret=SECRETS,
    name=st.sampled_from([b"Authorization", b"Proxy-Authorization"]),
    upper=st.lists(st.booleans(), min_size=20, max_size=20),
    before=st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"z").replace(b"\r", b"Z")),
    scheme=st.sampled_from([b"Bearer", b"basic", b"BEARER", b"Token"]),
    colon=st.sampled_from([b": ", b":", b" : ", b"\t:\r\n ", b":\n\t"]),
    end=st.sampled_from([b"\r\n", b"\n"]),
)
def test_no_token_survives_in_a_head(secret, name, upper, before, scheme, colon, end) -> None:
    name = b"".join(
        name[i : i + 1].upper() if upper[i] else name[i : i + 1].lower() for i in range(len(name))
    )
    lines = [
        b"OPTIONS sip:a SIP/2.0",
        b"X: " + before,
        name + colon + scheme + b" " + secret,
        b"To: a",
    ]
    message = end.join([*lines, b"", b"body"])
    assert tokens(message) == message.replace(scheme + b" " + secret, scheme + b" ***")
    assert tokens(tokens(message)) == tokens(message)


@given(st.binary(max_size=300))
def test_garbage_without_such_a_header_is_itself(raw: bytes) -> None:
    if b"ization" not in raw.lower() and b"authentication" not in raw.lower():
        assert tokens(raw) is raw
        assert everything(raw) is raw


@pytest.mark.parametrize(
    "line",
    [
        b"z",
        b"iz",
        b"Z",
        b"authorization",
        b"Authorization\n",
        b"Authorization: ",
        b"Authorization: Digest ",
        b"Authorization: a\r\n",
        b"Authorization: z\r\n\t",
        b"\r\n ",
        b"Authorization: Digest a=b,",
        b'Authorization: Digest a="',
        b"Authori\r\n ",
        b"a\v",
        b"?Authorization=",
        b"&a",
    ],
)
@pytest.mark.slow
def test_what_a_hostile_peer_sends_takes_steps_in_proportion_to_it(line: bytes) -> None:
    def steps(size: int) -> int:
        message = register(line * (size // len(line)))
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            tokens(message)
        finally:
            sys.setprofile(None)
        return counted

    # Calls, in Python and C: each is bounded by itself or passes over what it has read.
    tokens(register(line * 100_000))
    small, large = steps(8_000), steps(32_000)
    assert large <= 4 * small + 4 * MOST_LOOKS
