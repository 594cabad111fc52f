"""Where a client connects to, as people and SIP write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import AddressError, Destination


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("ws://example.com", ("ws", "example.com", 80, "/")),
        ("wss://example.com", ("wss", "example.com", 443, "/")),
        ("WSS://Example.COM:8443/ws?a=b", ("wss", "example.com", 8443, "/ws?a=b")),
        ("ws://example.com?a", ("ws", "example.com", 80, "/?a")),
        ("ws://[::1]:8080/", ("ws", "::1", 8080, "/")),
        ("ws://[0:0::1]", ("ws", "::1", 80, "/")),
        ("ws://grün.example/", ("ws", "xn--grn-ioa.example", 80, "/")),
        ("sip:example.com;transport=ws", ("ws", "example.com", 80, "/")),
        ("sip:alice@example.com:5066;transport=WS", ("ws", "example.com", 5066, "/")),
        ("sip:alice;day=1:pw@10.0.0.1;lr;transport=ws", ("ws", "10.0.0.1", 80, "/")),
        ("sip:[::1]:8080;transport=ws?Subject=a@b", ("ws", "::1", 8080, "/")),
        ("sip:example.com;transport=wss", ("wss", "example.com", 443, "/")),
        ("sips:alice@example.com;transport=ws", ("wss", "example.com", 443, "/")),
        ("SIPS:example.com:5443;Transport=wss;lr", ("wss", "example.com", 5443, "/")),
    ],
)
def test_urls_and_sip_uris_are_read(text: str, destination: tuple[str, str, int, str]) -> None:
    assert Destination.parse(text) == Destination(*destination)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not start with"),
        ("http://example.com/", "does not start with"),
        ("example.com:80", "does not start with"),
        ("ws:example.com", "no host follows 'ws://'"),
        ("ws://", "no host follows"),
        ("ws://:80/", "names no host"),
        ("ws://example.com:0/", "nowhere to connect to"),
        ("ws://*/", "nowhere to connect to"),
        ("ws://example.com:70000/", "'70000' is not a port"),
        ("ws://example.com:/", "'' is not a port"),
        ("ws://::1/", "in brackets"),
        ("ws://[::x]/", "IPv6"),
        ("ws://example.com/#top", "fragment"),
        ("ws://example.com/a b", "space or a control character"),
        ("ws://example.com/\r\nHost: x", "space or a control character"),
        ("ws://example.com/ü", "percent-encoded"),
        ("ws://exa$mple.com/", "not a host name"),
        ("ws://a..b/", "not a host name"),
        ("sip:example.com", "names no transport"),
        ("sips:example.com;transport=tls", "its transport is 'tls'"),
        ("sip:;transport=ws", "names no host"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(AddressError) as refused:
        Destination.parse(text)
    assert problem in str(refused.value)
    assert repr(text) in str(refused.value)


def test_what_is_shown_of_a_destination_holds_no_token() -> None:
    path = "/room/eyJhbGciOiJFUzI1NiJ9.e30.c2ln"
    assert Destination.parse(f"ws://a{path}?token=x").shown == "ws://a/room/***"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "ws://user:secret@example.com/",
            "'ws://***@example.com/': it holds a user;",
        ),
        ("ws://example.com/?token=secret#top", "'ws://example.com/?token=***"),
        ("ws://example.com/ü?token=secret", "write '/ü?token=***"),
    ],
)
def test_a_refusal_does_not_quote_a_credential(text: str, told: str) -> None:
    with pytest.raises(AddressError) as refused:
        Destination.parse(text)
    assert told in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "ws://example.com/",
        "wss://example.com/",
        "ws://example.com:443/",
        "wss://[2001:db8::1]:8443/ws?a=b",
        "ws://[::1]/",
    ],
)
def test_a_destination_is_written_as_a_url(text: str) -> None:
    assert str(Destination.parse(text)) == text


@pytest.mark.parametrize("host", ["df7jal23ls0d.invalid", "invalid", "a.INVALID", "a.invalid."])
def test_invalid_hosts_are_known_for_what_they_are(host: str) -> None:
    assert not Destination.parse(f"sip:x@{host};transport=ws").is_dialled


@pytest.mark.parametrize("host", ["example.com", "invalid.example", "notinvalid", "10.0.0.1"])
def test_other_hosts_are_dialled(host: str) -> None:
    assert Destination.parse(f"ws://{host}").is_dialled


@given(st.text(max_size=40) | st.from_regex(r"(wss?://|sips?:)[ -~]{0,30}(;transport=ws)?"))
def test_no_text_raises_anything_else_and_what_is_read_is_written_so_that_it_reads_back(
    text: str,
) -> None:
    try:
        destination = Destination.parse(text)
    except AddressError:
        return
    assert Destination.parse(str(destination)) == destination
