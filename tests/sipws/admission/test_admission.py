"""Who is let in: counts, rates, and what an upgrade request must say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.address import Address
from sipws.admission.admission import (
    BURST,
    METERED_ADDRESSES,
    MOST_ANSWERED,
    Admission,
    Rules,
    address_key,
)
from sipws.admission.origin_patterns import HostPatterns, OriginPatterns
from sipws.admission.proxy_headers import Networks
from sipws.events import Accepted, Connection, ErrorKind, HandshakeFailed
from sipws.limits import Limits
from sipws.request import UpgradeRequest
from sipws.ws.server_session import ServerSession

A, B = "192.0.2.1", "192.0.2.2"


def kind_of(admission: Admission, ip: str = A, now: float = 0.0) -> ErrorKind | None:
    refusal = admission.enter(ip, now).refusal
    return refusal.kind if refusal else None


# Counts.


def test_without_rules_everybody_is_let_in_and_counted() -> None:
    admission = Admission()
    slots = [admission.enter(A, 0) for _ in range(1000)]
    assert not any(slot.refusal for slot in slots)
    assert admission.connections == 1000
    for slot in slots:
        slot.release()
    assert admission.connections == 0


def test_no_more_connections_than_may_be() -> None:
    admission = Admission(Rules(max_connections=2))
    first, _ = admission.enter(A, 0), admission.enter(B, 0)
    third = admission.enter(A, 0)
    assert third.refusal is not None
    assert third.refusal.kind is ErrorKind.TOO_MANY_CONNECTIONS
    assert third.refusal.headers == (("Retry-After", "10"),)
    third.release()
    first.release()
    assert kind_of(admission) is None
    assert admission.refused == {ErrorKind.TOO_MANY_CONNECTIONS: 1}


def test_no_more_connections_from_an_address_than_may_be() -> None:
    admission = Admission(Rules(max_connections_per_address=2))
    slots = [admission.enter(A, 0), admission.enter(A, 0)]
    assert kind_of(admission, A) is ErrorKind.TOO_MANY_FROM_ADDRESS
    assert kind_of(admission, B) is None
    slots[0].release()
    slots[0].release()
    assert kind_of(admission, A) is None
    assert kind_of(admission, A) is ErrorKind.TOO_MANY_FROM_ADDRESS


def test_an_ipv6_subscriber_is_one_address() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff") == "2001:db8::/64"
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    assert address_key(A) == A


def test_only_so_many_refused_ones_may_stay_to_read_why() -> None:
    admission = Admission(Rules(max_connections=0))
    slots = [admission.enter(A, 0) for _ in range(MOST_ANSWERED + 3)]
    assert [slot.is_answered for slot in slots] == [True] * MOST_ANSWERED + [False] * 3
    for slot in slots:
        slot.release()
    assert admission.enter(A, 0).is_answered


@given(
    st.lists(st.tuples(st.sampled_from(["enter", "release"]), st.integers(0, 5), st.integers(0, 3)))
)
def test_counts_come_back_to_zero(steps: list[tuple[str, int, int]]) -> None:
    rules = Rules(
        max_connections=4, max_connections_per_address=2, trusted_proxies=Networks(["10.0.0.1"])
    )
    admission = Admission(rules)
    slots = []
    addresses = [A, B, "10.0.0.1", "2001:db8::1", "2001:db8::2", "2001:db9::"]
    for step, address, other in steps:
        if step == "enter":
            slots.append(slot := admission.enter(addresses[address], 0))
            slot.claim(addresses[other], 0)
        elif slots:
            slots.pop(address % len(slots)).release()
        assert admission.connections <= 4
        assert admission.connections == sum(slot.refusal is None for slot in slots)
    for slot in slots:
        slot.release()
    assert (admission.connections, admission.addresses) == (0, 0)


# Rates.


def test_a_burst_is_let_in_and_then_the_rate_holds() -> None:
    admission = Admission(Rules(max_rate_per_address=2))
    burst = [kind_of(admission) for _ in range(int(2 * BURST) + 1)]
    assert burst[:-1] == [None] * int(2 * BURST)
    assert burst[-1] is ErrorKind.TOO_FAST
    assert kind_of(admission, B) is None
    assert kind_of(admission, now=0.4) is ErrorKind.TOO_FAST
    assert kind_of(admission, now=0.5) is None
    assert kind_of(admission, now=0.6) is ErrorKind.TOO_FAST


def test_who_is_too_fast_is_told_when_to_come_back() -> None:
    admission = Admission(Rules(max_rate_per_address=0.05))
    assert kind_of(admission) is None
    refusal = admission.enter(A, 1.0).refusal
    assert refusal is not None
    assert refusal.headers == (("Retry-After", "19"),)
    assert kind_of(admission, now=20.0) is None


def test_the_rate_in_total_is_a_503() -> None:
    admission = Admission(Rules(max_rate=0.1))
    assert kind_of(admission, A) is None
    refusal = admission.enter(B, 0).refusal
    assert refusal is not None
    assert (refusal.kind, refusal.status) == (ErrorKind.TOO_FAST, 503)


def test_one_address_that_is_too_fast_leaves_the_total_to_others() -> None:
    admission = Admission(Rules(max_rate=1, max_rate_per_address=0.1))
    for _ in range(100):
        kind_of(admission, A)
    assert kind_of(admission, B) is None


def test_a_clock_set_back_makes_nobody_wait_for_longer_than_a_bucket() -> None:
    admission = Admission(Rules(max_rate_per_address=1))
    assert kind_of(admission, now=1e9) is None
    assert kind_of(admission, now=BURST) is ErrorKind.TOO_FAST
    assert kind_of(admission, now=BURST + 1) is None


@pytest.mark.slow
def test_addresses_that_are_metered_take_bounded_memory() -> None:
    admission = Admission(Rules(max_rate_per_address=0.001))
    meter = admission._address_rate
    for number in range(METERED_ADDRESSES + 1000):
        admission.enter(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0).release()
    assert len(meter) <= METERED_ADDRESSES + 1
    for number in range(METERED_ADDRESSES):
        admission.enter(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1e6 + number)
    assert len(meter) < 3000


@given(
    st.floats(0.01, 100),
    st.lists(st.floats(0, 5), max_size=200),
)
def test_no_second_sees_more_than_the_rate_and_a_burst(rate: float, gaps: list[float]) -> None:
    admission = Admission(Rules(max_rate_per_address=rate))
    now, let_in = 0.0, 0
    for gap in gaps:
        now += gap
        let_in += kind_of(admission, now=now) is None
    assert let_in <= rate * (now + max(BURST, 1 / rate)) + 1e-6


# Upgrade requests.


def session_of(connection: Connection, rules: Rules, peer: Address | None = None) -> ServerSession:
    slot = Admission(rules).enter(connection.peer.ip, 0)
    return ServerSession(replace(connection, peer=peer or connection.peer), Limits(), slot.examine)


def answer(session: ServerSession, request: bytes) -> tuple[int, ErrorKind | None]:
    *_, last = session.receive(request, 1000.5)
    if isinstance(last, Accepted):
        return 101, None
    assert isinstance(last, HandshakeFailed)
    return int(last.reply[9:12]), last.kind


def with_header(request: bytes, header: bytes) -> bytes:
    return request.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (b"Origin: https://www.example.com", (101, None)),
        (b"Origin: https://evil.test", (403, ErrorKind.ORIGIN_REFUSED)),
        (b"Origin: null", (403, ErrorKind.ORIGIN_REFUSED)),
        (b"X: no origin", (101, None)),
        (
            b"Origin: https://www.example.com\r\nOrigin: https://evil.test",
            (403, ErrorKind.ORIGIN_REFUSED),
        ),
    ],
)
def test_allowed_origins(
    connection: Connection, upgrade: bytes, origin: bytes, expected: tuple[int, ErrorKind | None]
) -> None:
    session = session_of(
        connection, Rules(allowed_origins=OriginPatterns(["https://*.example.com"]))
    )
    assert answer(session, with_header(upgrade, origin)) == expected


def test_a_required_origin(connection: Connection, upgrade: bytes) -> None:
    rules = Rules(require_origin=True)
    refused = answer(session_of(connection, rules), upgrade)
    assert refused == (403, ErrorKind.ORIGIN_REFUSED)
    request = with_header(upgrade, b"Origin: null")
    assert answer(session_of(connection, rules), request) == (101, None)


def test_who_is_refused_for_an_origin_hears_which_setting_asks_for_it(
    connection: Connection, upgrade: bytes
) -> None:
    happened = session_of(connection, Rules(require_origin=True)).receive(upgrade, 1000.5)
    [failed] = [event for event in happened if isinstance(event, HandshakeFailed)]
    assert failed.detail == "an Origin header is required (require_origin)"
    assert failed.reply.endswith(b"\r\n\r\nan Origin header is required (require_origin)\n")


def test_what_asks_for_no_websocket_hears_that_rather_than_of_an_origin(
    connection: Connection,
) -> None:
    session = session_of(connection, Rules(require_origin=True))
    assert answer(session, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == (426, ErrorKind.NO_UPGRADE)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"sip.example.com", (101, None)),
        (b"sip.example.com:8080", (101, None)),
        (b"rebound.test", (421, ErrorKind.HOST_REFUSED)),
        (b"", (421, ErrorKind.HOST_REFUSED)),
        (b"a\r\nHost: sip.example.com", (400, ErrorKind.BAD_REQUEST)),
        (b"sip.example.com/", (400, ErrorKind.BAD_REQUEST)),
        (b"u@sip.example.com", (400, ErrorKind.BAD_REQUEST)),
    ],
)
def test_allowed_hosts(
    connection: Connection, upgrade: bytes, host: bytes, expected: tuple[int, ErrorKind | None]
) -> None:
    session = session_of(connection, Rules(allowed_hosts=HostPatterns(["sip.example.com"])))
    assert answer(session, upgrade.replace(b"sip.example.com", host)) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"ws://sip.example.com/ws", (101, None)),
        (b"http://rebound.test/ws", (421, ErrorKind.HOST_REFUSED)),
        (b"http://sip.example.com@rebound.test/", (421, ErrorKind.HOST_REFUSED)),
    ],
)
def test_the_host_of_a_whole_url_counts_before_the_header(
    connection: Connection, upgrade: bytes, target: bytes, expected: tuple[int, ErrorKind | None]
) -> None:
    session = session_of(connection, Rules(allowed_hosts=HostPatterns(["sip.example.com"])))
    assert answer(session, upgrade.replace(b"GET / ", b"GET " + target + b" ")) == expected


@pytest.mark.parametrize(
    ("resource", "target", "expected"),
    [
        ("/", b"/anything?x=1", (101, None)),
        ("/ws", b"/ws", (101, None)),
        ("/ws", b"/ws?x=/", (101, None)),
        ("/ws", b"/", (404, ErrorKind.NOT_FOUND)),
        ("/ws", b"/ws/", (404, ErrorKind.NOT_FOUND)),
        ("/ws", b"/w%73", (404, ErrorKind.NOT_FOUND)),
    ],
)
def test_the_resource_that_is_served(
    connection: Connection,
    upgrade: bytes,
    resource: str,
    target: bytes,
    expected: tuple[int, ErrorKind | None],
) -> None:
    session = session_of(connection, Rules(resource=resource))
    assert answer(session, upgrade.replace(b"GET / ", b"GET " + target + b" ")) == expected


def test_a_refused_request_is_counted(connection: Connection, upgrade: bytes) -> None:
    admission = Admission(Rules(require_origin=True))
    slot = admission.enter(A, 0)
    ServerSession(connection, Limits(), slot.examine).receive(upgrade, 1000.5)
    assert admission.refused == {ErrorKind.ORIGIN_REFUSED: 1}


def test_the_request_is_kept_on_the_connection(session: ServerSession, upgrade: bytes) -> None:
    request = with_header(upgrade.replace(b"GET / ", b"GET /?a=1 "), b"Cookie: b=2")
    *_, accepted = session.receive(request, 1000.5)
    kept = accepted.connection.request
    assert isinstance(kept, UpgradeRequest)
    assert session.connection.request is kept
    assert (kept.query, kept.cookies, kept.raw) == ({"a": ["1"]}, {"b": "2"}, request)


# Forwarding headers.

PROXY = Address("10.0.0.9", 40000)
BEHIND = Rules(trusted_proxies=Networks(["10.0.0.0/8"]), max_connections_per_address=1)
FORWARDED = b"X-Forwarded-For: 6.6.6.6, 203.0.113.7"


def test_events_name_whom_a_trusted_proxy_speaks_for(
    connection: Connection, upgrade: bytes
) -> None:
    session = session_of(replace(connection, peer=PROXY), BEHIND)
    happened = session.receive(with_header(upgrade, FORWARDED), 1000.5)
    assert {event.connection.peer for event in happened} == {Address("203.0.113.7", 0)}
    assert isinstance(happened[-1], Accepted)


def test_anybody_elses_forwarding_header_is_not_believed(
    connection: Connection, upgrade: bytes
) -> None:
    session = session_of(connection, BEHIND)
    session.receive(with_header(upgrade, FORWARDED), 1000.5)
    assert session.connection.peer == connection.peer


def test_a_header_that_the_proxy_does_not_write_is_not_believed(
    connection: Connection, upgrade: bytes
) -> None:
    session = session_of(replace(connection, peer=PROXY), BEHIND)
    session.receive(with_header(upgrade, b"Forwarded: for=203.0.113.7"), 1000.5)
    assert session.connection.peer == PROXY
    rules = replace(BEHIND, forwarding_header="forwarded")
    session = session_of(replace(connection, peer=PROXY), rules)
    session.receive(with_header(upgrade, b'Forwarded: for="203.0.113.7:1"'), 1000.5)
    assert session.connection.peer == Address("203.0.113.7", 1)


@pytest.mark.parametrize("name", ["X-Real-IP", "cf-connecting-ip", "True-Client-IP", "x_peer"])
@pytest.mark.parametrize(
    ("values", "peer"),
    [
        ([b"203.0.113.7"], Address("203.0.113.7", 0)),
        ([b"203.0.113.7,"], Address("203.0.113.7", 0)),
        ([b"6.6.6.6", b"203.0.113.7"], Address("203.0.113.7", 0)),
        ([b"2001:db8::7"], Address("2001:db8::7", 0)),
        ([b"[2001:db8::7]:5061"], Address("2001:db8::7", 5061)),
        ([b"unknown"], PROXY),
        ([], PROXY),
    ],
)
def test_any_header_may_be_the_one_that_proxies_write(
    connection: Connection, upgrade: bytes, name: str, values: list[bytes], peer: Address
) -> None:
    rules = replace(BEHIND, forwarding_header=name.lower())
    request = upgrade
    for value in values:
        request = with_header(request, name.upper().encode() + b": " + value)
    # Only the one that is configured is read.
    request = with_header(request, b"X-Forwarded-For: 6.6.6.6")
    session = session_of(replace(connection, peer=PROXY), rules)
    session.receive(request, 1000.5)
    assert session.connection.peer == peer
    session = session_of(connection, rules)
    session.receive(request, 1000.5)
    assert session.connection.peer == connection.peer, "it is not a trusted proxy's"


def test_who_is_behind_a_proxy_counts_for_the_limits(
    connection: Connection, upgrade: bytes
) -> None:
    admission = Admission(BEHIND)
    connection = replace(connection, peer=PROXY)
    request = with_header(upgrade, FORWARDED)
    slots = [admission.enter(PROXY.ip, 0) for _ in range(3)]
    assert not any(slot.refusal for slot in slots)
    sessions = [ServerSession(connection, Limits(), slot.examine) for slot in slots]
    assert answer(sessions[0], request) == (101, None)
    assert answer(sessions[1], request) == (429, ErrorKind.TOO_MANY_FROM_ADDRESS)
    other = request.replace(b"203.0.113.7", b"203.0.113.8")
    assert answer(sessions[2], other) == (101, None)
    for slot in slots:
        slot.release()
    assert (admission.connections, admission.addresses) == (0, 0)


@pytest.mark.parametrize(
    "header", [b"Origin: a", b"origin: a", b"Origin:a", b"ORIGIN:", b"Origin :a"]
)
@pytest.mark.parametrize("place", [1, 3])
def test_an_origin_is_found_however_it_is_written_and_nowhere_else(
    connection: Connection, header: bytes, place: int
) -> None:
    def is_let_in(header: bytes) -> bool:
        lines = [b"GET / HTTP/1.1", b"Upgrade: websocket", b"Host: a"]
        lines.insert(place, header)
        asking = replace(connection, request=UpgradeRequest(b"\r\n".join([*lines, b"", b""])))
        slot = Admission(Rules(require_origin=True)).enter(A, 0)
        return slot.examine(asking, 0)[1] is None

    assert is_let_in(header) == (b" :" not in header)
    assert not is_let_in(b"X-" + header)
    assert not is_let_in(b"X: " + header)
