"""Listener definitions as operators write them, and addresses of sockets."""

from ipaddress import ip_address
from typing import Any

import pytest

from sipws import AddressError, Listener
from sipws.address import Address, address_of_socket, unmapped


@pytest.mark.parametrize(
    ("definition", "listener"),
    [
        ("ws:127.0.0.1", Listener("ws", "127.0.0.1", 80)),
        ("wss:127.0.0.1", Listener("wss", "127.0.0.1", 443)),
        ("WS:127.0.0.1:8080", Listener("ws", "127.0.0.1", 8080)),
        ("ws:sip.example.com:8080", Listener("ws", "sip.example.com", 8080)),
        ("ws:*:8080", Listener("ws", "*", 8080)),
        ("ws:[::1]", Listener("ws", "::1", 80)),
        ("wss:[2001:DB8::0:1]:8443", Listener("wss", "2001:db8::1", 8443)),
        ("ws:127.0.0.10:15060 tag edge", Listener("ws", "127.0.0.10", 15060, tag="edge")),
        (
            "ws:10.0.0.1:80 as 192.0.2.1",
            Listener("ws", "10.0.0.1", 80, advertised_ip="192.0.2.1"),
        ),
        (
            "  ws:10.0.0.1:80  as 192.0.2.1:8080  tag edge ",
            Listener(
                "ws", "10.0.0.1", 80, tag="edge", advertised_ip="192.0.2.1", advertised_port=8080
            ),
        ),
    ],
)
def test_a_definition_is_read(definition: str, listener: Listener) -> None:
    assert Listener.parse(definition) == listener
    assert Listener.parse(str(listener)) == listener


def test_the_default_ports_can_be_changed() -> None:
    assert Listener.parse("ws:127.0.0.1", ws_port=8080).port == 8080
    assert Listener.parse("wss:127.0.0.1", wss_port=8443).port == 8443


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ("", "it is empty"),
        ("udp:127.0.0.1", "does not start with 'ws:' or 'wss:'"),
        ("127.0.0.1:8080", "does not start with 'ws:' or 'wss:'"),
        ("ws", "does not start with"),
        ("127.0.0.1:8080", "; write 'ws:127.0.0.1:8080';"),
        ("http://localhost:8080/sip", "; write 'ws:localhost:8080';"),
        ("https://sip.example.com", "; write 'wss:sip.example.com';"),
        ("ws://127.0.0.1:8080/", "it is a URL; write 'ws:127.0.0.1:8080';"),
        ("WSS://[::1]:8443/ws?x=1 tag edge", "it is a URL; write 'wss:[::1]:8443';"),
        ("ws://u:p@a:80", "it is a URL; a listener is written"),
        ("ws://u@a:80", "it is a URL; a listener is written"),
        ("ws://", "it is a URL; a listener is written"),
        ("ws:", "names no host"),
        ("ws::8080", "names no host"),
        ("ws:127.0.0.1:65536", "'65536' is not a port"),
        ("ws:127.0.0.1:", "'' is not a port"),
        ("ws:127.0.0.1:http", "'http' is not a port"),
        ("ws:a..b:80", "'a..b' is not a host name"),
        ("ws:::1", "write an IPv6 address in brackets"),
        ("ws:[localhost]:80", "'localhost' in brackets is not an IPv6 address"),
        ("ws:127.0.0.1 tag", "'tag' has no value"),
        ("ws:127.0.0.1 tag a tag b", "'tag' is given twice"),
        ("ws:127.0.0.1 use edge", "'use' is neither 'tag' nor 'as'"),
    ],
)
def test_a_wrong_definition_is_refused_with_what_is_wrong(definition: str, problem: str) -> None:
    with pytest.raises(AddressError) as refused:
        Listener.parse(definition)
    assert problem in str(refused.value)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("192.0.2.1", 80)) == "192.0.2.1:80"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 80), Address("192.0.2.1", 80)),
        (("::ffff:192.0.2.1", 80, 0, 0), Address("192.0.2.1", 80)),
        (("2001:db8::1", 80, 0, 0), Address("2001:db8::1", 80)),
        (("fe80::1%eth0", 80, 0, 2), Address("fe80::1", 80)),
        # What looks like a mapped address in text, and is none.
        (("2001:db8::ffff:c000:201", 80, 0, 0), Address("2001:db8::ffff:c000:201", 80)),
        ("", Address("0.0.0.0", 0)),
    ],
)
def test_the_address_of_a_socket_is_never_mapped(name: Any, address: Address) -> None:
    assert address_of_socket(name) == address


@pytest.mark.parametrize(
    ("written", "plain"),
    [("::ffff:c000:201", "192.0.2.1"), ("192.0.2.1", "192.0.2.1"), ("::1", "::1")],
)
def test_a_mapped_address_is_an_ipv4_address(written: str, plain: str) -> None:
    assert str(unmapped(ip_address(written))) == plain
