"""Patterns for hosts and origins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.admission.origin_patterns import HostPatterns, OriginPatterns
from sipws.errors import ConfigurationError

ORIGINS = OriginPatterns(
    ["https://www.example.com", "https://*.example.org", "http://localhost:8000", "http://[::1]"]
)


@pytest.mark.parametrize(
    "origin",
    [
        "https://www.example.com",
        "https://www.example.com:443",
        "HTTPS://WWW.Example.COM",
        "https://a.example.org",
        "https://a.b.example.org:443",
        "http://localhost:8000",
        "http://[::1]",
        "http://[0:0::1]:80",
    ],
)
def test_an_origin_that_is_listed_is_allowed(origin: str) -> None:
    assert origin in ORIGINS


@pytest.mark.parametrize(
    "origin",
    [
        "http://www.example.com",
        "https://www.example.com:8443",
        "https://www.example.com.evil.test",
        "https://evilwww.example.com",
        "https://a.www.example.com",
        "https://www.example.co",
        "http://evillocalhost:8000",
        "https://a.example.org.evil.test",
        "https://evil.test/https://www.example.com",
        "https://www.example.com@evil.test",
        "https://example.org",
        "https://.example.org",
        "https://evilexample.org",
        "https://a.example.org:8443",
        "http://localhost",
        "null",
        "",
        "https://",
        "https://www.example.com:99999",
        "https://www.example.com https://evil.test",
    ],
)
def test_any_other_origin_is_not(origin: str) -> None:
    assert origin not in ORIGINS


def test_null_and_the_star_are_patterns() -> None:
    assert "null" in OriginPatterns(["null"])
    assert "https://a" not in OriginPatterns(["null"])
    assert "https://anything.test:1" in OriginPatterns(["*"])
    assert "null" in OriginPatterns(["*"])


def test_a_port_may_be_part_of_a_wildcard_origin() -> None:
    origins = OriginPatterns(["https://*.example.org:8443/"])
    assert "https://a.example.org:8443" in origins
    assert "https://a.example.org" not in origins


APPS = [
    "file://", "qrc://", "app://.", "app://-", "app://obsidian.md", "content://com.example.phone",
    "chrome-extension://abcdefghijklmnop", "capacitor://localhost", "ionic://localhost",
    "tauri://localhost", "ms-appx-web://2F1A-9", "content://com.example/phone/1",
]  # fmt: skip


@pytest.mark.parametrize("origin", APPS)
def test_what_an_app_sends_is_listed_as_it_is_sent(origin: str) -> None:
    allowed = OriginPatterns([origin])
    assert origin in allowed
    assert origin.upper() in allowed
    assert f"{origin}/" in OriginPatterns([f"{origin}/"])
    for other in [*APPS, "null", "https://localhost", f"{origin}x", f"x{origin}", f"{origin}.test"]:
        assert (other in allowed) is (other == origin), other


def test_a_file_may_have_a_slash_more() -> None:
    assert "file:///" in OriginPatterns(["file://"])
    assert "file://" in OriginPatterns(["file:///"])
    assert "file://host" not in OriginPatterns(["file://"])


def test_names_below_a_host_of_an_apps_scheme() -> None:
    allowed = OriginPatterns(["app://*.example.com"])
    assert "app://a.example.com" in allowed
    assert "app://example.com" not in allowed
    assert "http://a.example.com" not in allowed


HOSTS = HostPatterns(
    ["sip.example.com", "*.example.org", "192.0.2.1", "[2001:db8::1]", "a.test:81", "b.test:443"]
)


@pytest.mark.parametrize(
    "host",
    [
        "sip.example.com",
        "SIP.example.com:8443",
        "sip.example.com.",
        "a.example.org",
        "192.0.2.1:80",
        "[2001:DB8:0::1]:443",
        "a.test:81",
        "b.test",
        "b.test:443",
    ],
)
def test_a_host_that_is_listed_is_served(host: str) -> None:
    assert host in HOSTS


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "evilsip.example.com",
        "a.sip.example.com",
        "sip.example.com.evil.test",
        "example.org",
        "evilexample.org",
        "a.test",
        "a.test:82",
        "b.test:80",
        "",
        "a:b",
        "192.0.2.10",
        "[::1",
    ],
)
def test_any_other_host_is_not(host: str) -> None:
    assert host not in HOSTS


def test_without_patterns_there_is_nothing_to_check() -> None:
    assert not HostPatterns()
    assert not OriginPatterns()


@pytest.mark.parametrize(
    "text",
    [
        "www.example.com",
        "https://",
        "https://a b",
        "https://a.*.com",
        "https://a:x",
        "ftp",
        "https://.",
        "wss://-",
        "app:",
        "app://*",
        "app://a b",
        "app://x?y",
        "app://u@h",
        "app://a,b",
    ],
)
def test_what_is_no_origin_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an origin"):
        OriginPatterns([text])


@pytest.mark.parametrize("text", ["", "https://a.test", "a.*.test", "a/b", "*", "a:70000"])
def test_what_is_no_host_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a host"):
        HostPatterns([text])


@given(st.text(max_size=60))
def test_no_header_raises(text: str) -> None:
    assert text not in OriginPatterns(["https://x.test"]) or "x.test" in text.lower()
    assert text not in HostPatterns(["x.test"]) or "x.test" in text.lower()
