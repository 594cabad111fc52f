"""What the server behind us is told of a client: the target, who it is, and nothing made up."""

from dataclasses import replace

import pytest

from sipws.address import Address, Listener
from sipws.events import Connection
from sipws.relay.forwarding import destination_for, offer_for
from sipws.request import UpgradeRequest
from sipws.ws.destination import Destination


def asking(connection: Connection, target: str = "/", *headers: str) -> Connection:
    lines = [f"GET {target} HTTP/1.1", "Host: sip.example.com", *headers, "", ""]
    return connection.with_request(UpgradeRequest("\r\n".join(lines).encode("latin-1")))


@pytest.mark.parametrize(
    ("upstream", "target", "resource"),
    [
        ("ws://10.0.0.2:5062", "/", "/"),
        ("ws://10.0.0.2:5062", "/ws?token=1&x", "/ws?token=1&x"),
        ("ws://10.0.0.2:5062/", "/ws", "/ws"),
        ("ws://10.0.0.2:5062/sip", "/ws", "/sip"),
        ("ws://10.0.0.2:5062/sip", "/ws?token=1", "/sip?token=1"),
        ("ws://10.0.0.2:5062/sip?own=1", "/ws?token=1", "/sip?own=1"),
        ("ws://10.0.0.2:5062", "http://sip.example.com/ws?a=b", "/ws?a=b"),
        ("ws://10.0.0.2:5062", "*", "/"),
        ("ws://10.0.0.2:5062", "/caf\xe9#x", "/caf%E9%23x"),
        ("ws://10.0.0.2:5062", "/a%20b", "/a%20b"),
    ],
)
def test_path_and_query_go_on(
    connection: Connection, upstream: str, target: str, resource: str
) -> None:
    where = destination_for(Destination.parse(upstream), asking(connection, target))
    assert (where.host, where.port, where.resource) == ("10.0.0.2", 5062, resource)


def headers_of(connection: Connection) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for name, text in offer_for(connection, ("sip",)).headers:
        told.setdefault(name, []).append(text)
    return told


def test_the_client_is_named_in_forwarding_headers(connection: Connection) -> None:
    assert headers_of(asking(connection)) == {
        "X-Forwarded-For": ["192.0.2.5"],
        "X-Forwarded-Proto": ["http"],
        "X-Forwarded-Host": ["sip.example.com"],
        "Forwarded": ['for="192.0.2.5:50123";proto=http;host="sip.example.com"'],
    }


def test_what_the_client_says_of_itself_does_not_go_on(connection: Connection) -> None:
    made_up = ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1"]
    assert headers_of(asking(connection, "/", *made_up)) == headers_of(asking(connection))


def test_cookies_credentials_and_user_agent_go_on_as_they_came(connection: Connection) -> None:
    lines = ["cookie: a=b", "Cookie: c=d", "Authorization: Bearer x", "USER-AGENT: caf\xe9"]
    told = headers_of(asking(connection, "/", *lines))
    assert told["Cookie"] == ["a=b", "c=d"]
    assert told["Authorization"] == ["Bearer x"]
    assert told["User-Agent"] == ["caf\xe9"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "node"),
    [
        (Address("2001:db8::1", 4711), "2001:db8::1", "[2001:db8::1]:4711"),
        (Address("2001:db8::1", 0), "2001:db8::1", "[2001:db8::1]"),
        (Address("192.0.2.7", 0), "192.0.2.7", "192.0.2.7"),
    ],
)
def test_addresses_are_written_as_rfc_7239_has_them(
    connection: Connection, peer: Address, forwarded: str, node: str
) -> None:
    wss = replace(connection, listener=Listener.parse("wss:10.0.0.1:443"), peer=peer)
    told = headers_of(asking(wss))
    assert told["X-Forwarded-For"] == [forwarded]
    assert told["X-Forwarded-Proto"] == ["https"]
    assert told["Forwarded"] == [f'for="{node}";proto=https;host="sip.example.com"']


def test_a_host_that_is_none_is_left_out(connection: Connection) -> None:
    request = UpgradeRequest(b'GET / HTTP/1.1\r\nHost: a"; for=10.0.0.1\r\n\r\n')
    told = headers_of(connection.with_request(request))
    assert "X-Forwarded-Host" not in told
    assert told["Forwarded"] == ['for="192.0.2.5:50123";proto=http']


def test_origin_and_subprotocol_are_the_clients(connection: Connection) -> None:
    offer = offer_for(asking(connection, "/", "Origin: https://phone.example.com"), ("sip",))
    assert (offer.origin, offer.subprotocols) == ("https://phone.example.com", ("sip",))
    assert offer_for(asking(connection), ()).origin is None
