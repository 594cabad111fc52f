"""What the log says of connections: users, calls, the other leg, and who was refused."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from sipws import Server, log
from sipws.address import Address
from sipws.bus import Bus
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ErrorKind,
    ErrorOccurred,
    Event,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    Side,
    Superseded,
)
from sipws.relay import Relay
from sipws.request import UpgradeRequest
from sipws.service import connection_users, responder
from sipws.service.connection_users import LONGEST_KEPT, LONGEST_WAIT, MOST_NAMES, address_of
from sipws.service.event_log import LONGEST_HEADER, ConnectionLog, log_connections
from sipws.sip import response

CONTACT = "<sip:k0oq1@df7jal23ls0d.invalid;transport=ws>"


def request(
    method: str,
    user: str = "alice",
    call_id: str = "c1",
    cseq: int = 1,
    contact: str | None = None,
    *,
    expires: int | None = None,
    more: str = "",
) -> bytes:
    lines = [
        f"{method} sip:example.com SIP/2.0",
        "Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK1",
        f"From: <sip:{user}@example.com>;tag=1",
        f"To: <sip:{user}@example.com>",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        *([f"Contact: {contact}"] if contact else []),
        *([f"Expires: {expires}"] if expires is not None else []),
    ]
    return ("\r\n".join(lines) + f"\r\n{more}\r\n").encode()


def answer(message: bytes, status: int = 200, headers: bytes = b"") -> bytes:
    if status == 200 and not headers:
        made = responder.respond(message, Address("192.0.2.5", 50123))
        assert made is not None
        return made
    return response(message, status, headers=headers)


class Phone:
    """A connection of which events are published, and the entries that come of them."""

    def __init__(self, bus: Bus, connection: Connection) -> None:
        self.bus = bus
        self.connection = connection
        self.now = 1000.0
        bus.publish(Accepted(connection, self.now, b"", b""))

    def says(self, message: bytes) -> None:
        self.bus.publish(MessageReceived(self.connection, self.now, message, True))

    def hears(self, message: bytes) -> None:
        # As a flow does: without a subscriber there is no event.
        if self.bus.message_sent.subscribers:
            self.bus.publish(MessageSent(self.connection, self.now, message, True))

    def asks(self, message: bytes, status: int = 200, headers: bytes = b"") -> None:
        self.says(message)
        self.hears(answer(message, status, headers))

    def registers(self, user: str = "alice", **words: Any) -> None:
        self.asks(request("REGISTER", user, contact=CONTACT, **words))

    def closes(self) -> None:
        self.bus.publish(closed(self.connection))


def closed(connection: Connection) -> Closed:
    return Closed(
        connection, 1002.0, code=1001, reason="", closed_by=Side.PEER, clean=True, accepted=True,
        duration=2.0, messages_in=3, messages_out=2, bytes_in=300, bytes_out=200,
    )  # fmt: skip


@pytest.fixture
def entries() -> Iterator[list[logging.LogRecord]]:
    logger, kept = logging.getLogger("sipws.connections"), logging.Handler()
    records: list[logging.LogRecord] = []
    kept.emit = records.append  # type: ignore[method-assign,assignment]
    logger.addHandler(kept)
    logger.setLevel("INFO")
    yield records
    logger.removeHandler(kept)
    logger.setLevel("NOTSET")


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture(autouse=True)
def logged(bus: Bus) -> ConnectionLog:
    return ConnectionLog(bus)


def said(entries: list[logging.LogRecord]) -> list[str]:
    """The texts, each without the address and the id of the connection."""
    return [each.getMessage().split(" ", 2)[2] for each in entries]


# Registrations.


def test_a_registration_is_logged_once_when_it_is_answered(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.says(first := request("REGISTER", contact=CONTACT, expires=600))
    phone.hears(answer(first, 401))
    assert len(entries) == 1
    phone.says(second := request("REGISTER", cseq=2, contact=CONTACT, expires=600))
    assert len(entries) == 1
    phone.hears(answer(second))
    assert entries[-1].getMessage() == "192.0.2.5:50123 #7 registered as alice@example.com"
    fields = vars(entries[-1])
    assert fields["levelname"] == "INFO"
    assert (fields["event"], fields["aor"]) == ("registered", "alice@example.com")
    assert (fields["expires"], fields["connection"]) == (600, 7)
    phone.registers(call_id="c2", cseq=3, expires=600)
    phone.registers(call_id="c2", cseq=4, expires=1200)
    phone.hears(answer(second))
    assert len(entries) == 2


@pytest.mark.parametrize("removal", [("*", 0), (f"{CONTACT};expires=0", None), (CONTACT, 0)])
def test_a_removal_is_logged_and_the_next_registration_too(
    removal: tuple[str, int | None],
    connection: Connection,
    bus: Bus,
    entries: list[logging.LogRecord],
) -> None:
    phone = Phone(bus, connection)
    phone.registers()
    contact, expires = removal
    for cseq in (2, 3):
        phone.asks(request("REGISTER", cseq=cseq, contact=contact, expires=expires))
    phone.registers(cseq=4)
    assert said(entries)[1:] == [
        "registered as alice@example.com",
        "unregistered alice@example.com",
        "registered as alice@example.com",
    ]
    assert vars(entries[2])["event"] == "unregistered"


@pytest.mark.parametrize("status", [100, 302, 403, 423, 500])
def test_what_is_not_answered_with_200_is_no_registration(
    status: int, connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.asks(request("REGISTER", contact=CONTACT), status)
    assert said(entries) == ["connected to ws:10.0.0.1:8080"]


def test_only_the_answer_to_that_register_counts(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.says(request("REGISTER", contact=CONTACT, cseq=2))
    phone.hears(answer(request("REGISTER", contact=CONTACT, cseq=1)))
    phone.hears(answer(request("REGISTER", contact=CONTACT, call_id="other", cseq=2)))
    phone.hears(answer(request("OPTIONS")))
    # A query of what is registered (RFC 3261 section 10.2.3).
    phone.asks(request("REGISTER", cseq=3))
    assert len(entries) == 1


def test_a_register_behind_a_line_end_and_a_long_answer_are_read(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.says(request("OPTIONS"))
    phone.says(b"\r\n" + request("REGISTER", contact=CONTACT, more=f"X-Long: {'x' * 5000}\r\n"))
    headers = f'Contact: "sip:x, <y>" <sip:other@x>;expires=5, {CONTACT};expires=77\r\n'.encode()
    phone.hears(answer(request("REGISTER", contact=CONTACT), 200, headers))
    assert vars(entries[-1])["expires"] == 77


def test_each_address_of_record_is_logged_once_and_named_at_the_end(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    for round_ in range(3):
        for user in ("alice", "bob", "carol"):
            phone.registers(user, call_id=f"{user}-1", cseq=round_ + 1)
    phone.closes()
    *registered, end = said(entries)[1:]
    assert registered == [f"registered as {x}@example.com" for x in ("alice", "bob", "carol")]
    assert "(carol@example.com, bob@example.com, alice@example.com); last Call-ID carol-1" in end
    assert vars(entries[-1])["aor"] == "carol@example.com"


def test_a_connection_of_very_many_users_is_bounded(
    connection: Connection, bus: Bus, logged: ConnectionLog, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    for number in range(3 * MOST_NAMES):
        phone.registers(f"u{number}", call_id=f"c{number}")
    use = logged.uses.of(connection)
    assert use is not None
    assert use.names is not None
    assert len(use.names) == MOST_NAMES >= len(use.words)
    told = said(entries)[1:]
    assert told[MOST_NAMES:] == ["more than 64 addresses registered; further ones are not logged"]
    phone.closes()
    assert f"u60@example.com and {MOST_NAMES - 4} more)" in said(entries)[-1]


# Users and calls.


def test_errors_ends_and_supersession_name_user_and_call(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.registers()
    phone.asks(request("INVITE", call_id="call-1"))
    phone.says(b"\r\n\r\n")
    bus.publish(ErrorOccurred(connection, 1.0, ErrorKind.PING_TIMEOUT, "no answer"))
    bus.publish(ErrorOccurred(connection, 1.0, ErrorKind.BAD_UTF8, "bad", call_id=b"its-own"))
    bus.publish(Superseded(connection, 1.0, "urn:uuid:1", 8))
    phone.closes()
    error, own, superseded, end = entries[-4:]
    for each in (error, superseded, end):
        assert each.getMessage().endswith(" (alice@example.com); last Call-ID call-1")
        assert (vars(each)["aor"], vars(each)["call_id"]) == ("alice@example.com", "call-1")
    assert own.getMessage().endswith("bad; Call-ID its-own (alice@example.com)")
    assert vars(own)["call_id"] == "its-own"
    assert (vars(superseded)["event"], vars(superseded)["by"]) == ("superseded", 8)
    assert "the phone has registered on connection #8" in superseded.getMessage()


def test_who_does_not_register_is_named_by_its_first_request(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.says(b"x" * 100)
    phone.says(request("INVITE", "dave", call_id="call-1"))
    phone.says(request("BYE", "erin", call_id="call-2"))
    phone.closes()
    assert said(entries)[-1].endswith(" (From dave@example.com); last Call-ID call-2")
    assert vars(entries[-1])["user"] == "dave@example.com"
    assert "aor" not in vars(entries[-1])


def test_a_refused_registration_names_the_user_all_the_same(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    phone = Phone(bus, connection)
    phone.asks(request("REGISTER", contact=CONTACT), 403)
    phone.closes()
    assert said(entries)[-1].endswith(" (From alice@example.com); last Call-ID c1")


@pytest.mark.parametrize(
    ("call_id", "shown"),
    [
        ("c2", "c2"),
        ("a\r\n b", "a b"),
        ("a\rb", "a\rb"),
        ("\x1b[2J", "\x1b[2J"),
        ("x" * 300, None),
        ("x" * 60_000, None),
    ],
)
def test_a_hostile_call_id_is_bounded(
    call_id: str,
    shown: str | None,
    connection: Connection,
    bus: Bus,
    entries: list[logging.LogRecord],
) -> None:
    phone = Phone(bus, connection)
    phone.says(request("OPTIONS", call_id=call_id))
    phone.closes()
    assert vars(entries[-1]).get("call_id") == shown
    assert len(entries[-1].getMessage()) < 500


@pytest.mark.parametrize("length", range(1, 60))
def test_a_long_message_is_not_kept_and_no_part_of_a_call_id_is_named(
    length: int,
    connection: Connection,
    bus: Bus,
    logged: ConnectionLog,
    entries: list[logging.LogRecord],
) -> None:
    phone = Phone(bus, connection)
    start = b"OPTIONS sip:x SIP/2.0\r\nX: "
    start += b"x" * (LONGEST_KEPT - len(start) - length) + b"\r\n"
    phone.says(start + b"Call-ID: 123456789012345678901234567890\r\nY: " + b"y" * 60_000)
    use = logged.uses.of(connection)
    assert use is not None
    assert len(use.latest) == LONGEST_KEPT
    assert use.call_id in (None, "123456789012345678901234567890")
    phone.closes()


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"<sip:alice@example.com>;tag=1", "alice@example.com"),
        (b"sip:alice@example.com;tag=1", "alice@example.com"),
        (
            b'"sip:mallory@x <y>" <SIPS:alice@example.com:5061;transport=ws>',
            "alice@example.com:5061",
        ),
        (b"Alice <sip:alice:secret@example.com>", "alice@example.com"),
        (b"<sip:alice;day=1?x@example.com>", "alice;day=1?x@example.com"),
        (b"<sip:example.com;lr>", "example.com"),
        (b"<tel:+4930123;phone-context=x>", "tel:+4930123"),
        (b"<mailto:a@b>", None),
        (b'"no end <sip:a@b>', None),
        (b"<sip:" + b"x" * 256 + b"@example.com>", None),
        (b"<sip:" + b"x" * 60_000, None),
        (b"", None),
    ],
)
def test_an_address_of_record_is_user_and_host(header: bytes, address: str | None) -> None:
    assert address_of(header) == address


def test_credentials_of_the_handshake_are_masked_in_names(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    asking = connection.with_request(UpgradeRequest(b"GET /?token=opensesame HTTP/1.1\r\n\r\n"))
    phone = Phone(bus, asking)
    phone.registers("opensesame", call_id="of-opensesame")
    phone.closes()
    assert "opensesame" not in "".join(map(str, map(vars, entries)))
    assert vars(entries[-1])["call_id"] == "of-***"


# The other leg.


def test_both_legs_of_a_relayed_client_name_each_other_user_and_call(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    client = Phone(bus, connection)
    client.connection = connection.with_relay(8)
    upstream = replace(
        connection, id=8, destination="ws://10.0.0.5/", relayed_with=7, client=connection.peer
    )
    client.says(register := request("REGISTER", contact=CONTACT))
    bus.publish(Connected(upstream, 1.0, b"", b"", "sip"))
    bus.publish(MessageReceived(upstream, 1.0, answer(register), True))
    client.hears(answer(register))
    bus.publish(MessageReceived(upstream, 1.0, request("INVITE", "bob", "to-alice"), True))
    client.closes()
    bus.publish(closed(upstream))
    _, connected, registered, end, of_upstream = entries
    assert connected.getMessage().endswith("to ws://10.0.0.5/; for 192.0.2.5:50123 #7")
    assert registered.getMessage().endswith("#7 registered as alice@example.com; upstream #8")
    named = "(alice@example.com); last Call-ID to-alice; "
    assert end.getMessage().endswith(named + "upstream #8")
    assert of_upstream.getMessage().endswith(named + "for 192.0.2.5:50123 #7")
    assert vars(end)["relayed_with"] == 8
    assert "client" not in vars(end)
    fields = vars(of_upstream)
    assert (fields["relayed_with"], fields["client"]) == (7, "192.0.2.5:50123")
    assert fields["aor"] == "alice@example.com"


def test_a_failed_connect_names_the_client_for_which_it_was(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    Phone(bus, connection).says(request("INVITE"))
    failed = replace(
        connection, id=8, destination="ws://x/", relayed_with=7, client=connection.peer
    )
    bus.publish(ConnectFailed(failed, 1.0, ErrorKind.CONNECT_REFUSED, "nobody listens"))
    text = "nobody listens (From alice@example.com); last Call-ID c1; for 192.0.2.5:50123 #7"
    assert entries[-1].getMessage().endswith(text)


# Refusals.


def refused(connection: Connection, raw: bytes) -> Event:
    return HandshakeFailed(connection, 1.0, raw, b"", ErrorKind.REFUSED, "no")


def test_a_refusal_says_what_was_asked_and_by_whom(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    raw = (
        b"GET /phones?token=opensesame HTTP/1.1\r\nHost: x\r\nOrigin: https://shop.example\r\n"
        b"User-Agent: Mozilla/5.0\r\nAuthorization: Bearer opensesame\r\n\r\n"
    )
    bus.publish(refused(connection, raw))
    assert said(entries) == [
        "handshake failed: refused: no; path '/phones'; Origin 'https://shop.example';"
        " User-Agent 'Mozilla/5.0'"
    ]
    fields = vars(entries[0])
    assert (fields["path"], fields["origin"]) == ("/phones", "https://shop.example")
    assert fields["user_agent"] == "Mozilla/5.0"
    assert "opensesame" not in str(fields)


def test_what_a_refused_request_says_is_bounded_and_escaped(
    connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = (
        b"GET /" + b"p" * 60_000 + b" HTTP/1.1\r\nOrigin: https://" + b"o" * 60_000 + b"\r\n"
        b"User-Agent: \x1b[2J\x9b31m\x00evil\x85\r\n\r\n"
    )
    written = {}
    for form in ("text", "json"):
        log.setup(format=form)
        bus = Bus()
        assert log_connections(bus)
        bus.publish(refused(connection, raw))
        written[form] = capsys.readouterr().err
        assert written[form].count("\n") == 1
        assert len(written[form]) < 3000
        assert written[form].rstrip("\n").isprintable()
    fields = json.loads(written["json"])
    assert len(fields["origin"]) == len(fields["path"]) == LONGEST_HEADER + 1
    assert fields["user_agent"] == "\x1b[2J\x9b31m\x00evil\x85"
    assert r"User-Agent '\x1b[2J\x9b31m\x00evil\x85'" in written["text"]


@pytest.mark.parametrize("raw", [b"", b"\x16\x03\x01 \x02", b"REGISTER sip:x SIP/2.0\r\n\r\n"])
def test_what_is_no_http_has_no_path(
    raw: bytes, connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    bus.publish(refused(connection, raw))
    assert said(entries) == ["handshake failed: refused: no"]


# Cost and memory.


def test_sent_messages_are_read_only_while_an_answer_is_awaited(
    connection: Connection, bus: Bus
) -> None:
    phone = Phone(bus, connection)
    phone.asks(request("OPTIONS"))
    assert not bus.message_sent.subscribers
    phone.says(request("REGISTER", contact=CONTACT))
    assert bus.message_sent.subscribers
    phone.hears(answer(request("REGISTER", contact=CONTACT)))
    assert not bus.message_sent.subscribers
    # A refresh in the same words changes nothing.
    phone.says(request("REGISTER", contact=CONTACT, cseq=2))
    assert not bus.message_sent.subscribers


def test_an_answer_that_does_not_come_is_not_awaited_for_ever(
    connection: Connection, bus: Bus, entries: list[logging.LogRecord]
) -> None:
    silent, other = Phone(bus, connection), Phone(bus, replace(connection, id=8))
    silent.says(request("REGISTER", contact=CONTACT))
    other.now += LONGEST_WAIT + 1
    other.hears(request("OPTIONS"))
    assert not bus.message_sent.subscribers
    other.registers("bob")
    assert not bus.message_sent.subscribers
    assert said(entries)[-1] == "registered as bob@example.com"


def test_a_client_that_asks_and_asks_is_bounded(
    connection: Connection, bus: Bus, logged: ConnectionLog
) -> None:
    phone = Phone(bus, connection)
    for number in range(1000):
        phone.says(request("REGISTER", f"u{number}", f"c{number}", contact=CONTACT))
        phone.says(request("REGISTER", "x" * 1000, f"c{number}", contact=CONTACT * 100))
    use = logged.uses.of(connection)
    assert use is not None
    assert use.awaited is not None
    assert len(use.awaited) == connection_users.MOST_AWAITED


def test_ten_thousand_connections_leave_nothing_behind(
    connection: Connection, bus: Bus, logged: ConnectionLog, entries: list[logging.LogRecord]
) -> None:
    for number in range(10_000):
        phone = Phone(bus, replace(connection, id=number))
        register = request("REGISTER", contact=CONTACT)
        phone.says(register)
        if number % 2:
            phone.hears(answer(register))
        phone.closes()
        # A message that comes late is of no connection.
        phone.says(register)
        entries.clear()
    assert len(logged.uses) == 0
    assert not bus.message_sent.subscribers


def test_sent_messages_count_where_a_relay_publishes_no_others(
    connection: Connection, entries: list[logging.LogRecord]
) -> None:
    bus = Bus()
    assert log_connections(bus, all_sent=True)
    phone = Phone(bus, connection)
    phone.registers()
    phone.hears(request("INVITE", "bob", "to-alice"))
    phone.hears(b"\r\n")
    phone.closes()
    assert said(entries)[-1].endswith("(alice@example.com); last Call-ID to-alice")


# Over sockets.


@pytest.mark.parametrize("told", [True, False])
async def test_a_phone_behind_a_relay_is_named_on_both_legs(
    told: bool, entries: list[logging.LogRecord]
) -> None:
    async with Server(["ws:127.0.0.1:0"], responder.answer) as upstream:
        relay = Relay(f"ws://127.0.0.1:{upstream.listeners[0].port}", messages_told=told)
        bus = Bus()
        assert log_connections(bus, all_sent=not told)
        async with Server(["ws:127.0.0.1:0"], relay=relay, bus=bus) as server:
            url = f"ws://127.0.0.1:{server.listeners[0].port}/phones"
            sip, page = [Subprotocol("sip")], Origin("https://phone.example.com")
            async with connect(url, subprotocols=sip, origin=page) as phone:
                await phone.send(request("REGISTER", contact=CONTACT, expires=600).decode())
                await phone.recv()
                await phone.send(request("INVITE", call_id="call-1").decode())
                await phone.recv()
            with pytest.raises(InvalidStatus):
                await connect(url, origin=page, user_agent_header="Friendly/1.0")
    by_event = {(vars(x)["event"], "client" in vars(x)): vars(x) for x in entries}
    client, other = by_event["closed", False], by_event["closed", True]
    assert by_event["registered", False]["expires"] == 600
    assert client["aor"] == other["aor"] == "alice@example.com"
    assert client["call_id"] == other["call_id"] == "call-1"
    assert client["relayed_with"] == other["connection"]
    assert other["relayed_with"] == client["connection"]
    assert other["client"] == client["peer"]
    failed = by_event["handshake-failed", False]
    assert (failed["path"], failed["user_agent"]) == ("/phones", "Friendly/1.0")
