"""Whose a connection is, and which call it carried last: what its log entries name.

Of a message no more is read than needed. A REGISTER is read once for all modules that handle it
(`Request.read`); its answer is read unless it refreshes a registration in the same words. Of other
messages the latest is kept, and its Call-ID is read when an entry is written.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hep.sip import ROWS, call_id, finder
from sipws.bus import Bus, Hook
from sipws.events import (
    LONGEST_CALL_ID,
    Accepted,
    Closed,
    Connected,
    Connection,
    MessageReceived,
    MessageSent,
)
from sipws.sip import Request, RequestHead, split_value

SHORTEST_SIP: Final = 64
"""Bytes of a message from which on it may be SIP. Via, From, To, Call-ID and CSeq take more; what
is shorter is a keep-alive (RFC 5626 section 4.4.1), and the call before it stays the latest."""

LONGEST_KEPT: Final = 2048
"""Bytes of the latest message of a connection that are kept. The Call-ID of nearly all messages is
in the first thousand."""

LONGEST_NAME: Final = 255
"""Bytes of an address of record. A longer one is ignored: a part of it would be another one."""

LONGEST_CONTACT: Final = 2048
"""Bytes of all Contacts of a REGISTER or of its answer. A phone has one, of some hundred bytes;
longer ones are not read."""

LONGEST_CSEQ: Final = 32
"""Bytes of the CSeq of a REGISTER. The number has at most ten digits (RFC 3261 section 8.1.1.5)."""

MOST_NAMES: Final = 64
"""Addresses of record of one connection that are remembered. Phones have one for each line;
registrations of further ones are not reported, as their refreshes could not be recognised."""

MOST_AWAITED: Final = 32
"""Registrations of one connection whose answers are awaited; the oldest is forgotten for a new
one."""

LONGEST_WAIT: Final = 32.0
"""Seconds that the answer to a REGISTER is awaited (RFC 3261 section 17.1.2.2, timer F)."""

_R: Final = ord("R")
_BLANK: Final = 0x20
_DIGITS: Final = 10
_OK: Final = b"SIP/2.0 200"
_PROVISIONAL: Final = b"SIP/2.0 1"
_RESPONSE: Final = b"SIP/2.0 "

_address: Final = re.compile(
    # A display name may quote a URI, and brackets.
    rb'(?:(?:"(?:[^"\\]|\\.)*+"|[^"<])*+<)?+\s*+(?:sips?:|(?=tel:))'
    # A user may have signs that end a host (RFC 3261 section 25.1, user-unreserved).
    rb"(?:([^\s<>@:\"]++)(?::[^\s<>@\"]*+)?+@)?([^\s<>;?@\"]++)",
    re.IGNORECASE | re.DOTALL,
).match
_contact_uri: Final = re.compile(
    rb'(?:(?:"(?:[^"\\]|\\.)*+"|[^"<])*+<)?+([^\s>]++)', re.DOTALL
).match
_expires: Final = re.compile(rb";\s*+expires\s*+=\s*+(\d++)", re.IGNORECASE).search
_find_answer: Final = finder("call-id", "cseq", "contact", "expires", every=("contact",))


class Registration(NamedTuple):
    """A registration or its removal that was answered with 200."""

    aor: str
    """The address of record: user and host of the To, without password."""

    expires: int | None
    """Seconds for which it was granted, if the answer has them; 0 if it was removed."""


class _Asked(NamedTuple):
    """A REGISTER whose answer is awaited."""

    cseq: bytes
    aor: str
    contact: bytes
    """The URI of its first Contact."""
    removes: bool
    """Whether it removes each of its Contacts (RFC 3261 section 10.2.2)."""
    words: int
    """Hash of what it says, by which a refresh is recognised."""


class Use:
    """What one connection was used for. The two connections of a relayed client share one."""

    __slots__ = ("awaited", "full", "latest", "names", "user", "words")

    def __init__(self) -> None:
        self.names: dict[str, bool] | None = None
        """The addresses of record that registered, the latest at the end, and whether they still
        are; None for none."""
        self.user: str | None = None
        """The From of the client's first request; empty if it cannot be read."""
        self.latest = b""
        """The latest message, or its beginning."""
        self.awaited: dict[bytes, _Asked] | None = None
        """The registrations that are not answered yet, by Call-ID."""
        self.words: set[int] = _NO_WORDS
        """Hashes of the registrations that are in force."""
        self.full = False
        """Whether there were more than `MOST_NAMES`."""

    @property
    def call_id(self) -> str | None:
        """The latest Call-ID; None without one, and for one of more than `LONGEST_CALL_ID`."""
        latest = self.latest
        if len(latest) == LONGEST_KEPT:
            # A part of a Call-ID would be another one.
            latest = latest[: latest.rfind(b"\n") + 1]
        found = call_id(latest)
        return _text(found) if found is not None and len(found) <= LONGEST_CALL_ID else None


_NO_WORDS: Final[set[int]] = set()


class _Table(dict[int, Use]):
    """Uses by the id of their connection; that of another connection is kept nowhere."""

    def __missing__(self, connection_id: int) -> Use:
        return Use()


class Uses:
    """What each open connection was used for.

    Messages that are sent are read while an answer to a REGISTER is awaited. Otherwise the answers
    to received messages have the Call-IDs of these, and a relay receives what it sends.

    Args:
        bus: source of the events.
        changed: called with the answer to a REGISTER that changed something, and what it changed;
            with None when there are more than `MOST_NAMES`.
        all_sent: whether messages that are sent are always read: for a relay whose connections to
            the upstream publish no messages.
    """

    def __init__(
        self,
        bus: Bus,
        changed: Callable[[MessageSent, Registration | None], object],
        *,
        all_sent: bool = False,
    ) -> None:
        self._uses = _Table()
        self._awaiting: dict[int, float] = {}
        """Connections with registrations that are not answered, and the time of the latest."""
        self._changed = changed
        self._sent_hook = bus.message_sent
        self._subscriptions: list[tuple[Hook[Any], Callable[[Any], object]]] = [
            (bus.accepted, self._accepted),
            (bus.connected, self._connected),
            (bus.message_received, self._receiver()),
        ]
        if all_sent:
            self._subscriptions.append((bus.message_sent, self._keep_sent))
        for hook, subscriber in self._subscriptions:
            hook.subscribe(subscriber)

    def close(self) -> None:
        """Read no more events."""
        for hook, subscriber in (*self._subscriptions, (self._sent_hook, self._sent)):
            hook.unsubscribe(subscriber)

    def of(self, connection: Connection) -> Use | None:
        """The use of a connection; None before the handshake of the client is done."""
        use, other = self._uses.get(connection.id), connection.relayed_with
        # No use is noted of a connection to the upstream that has failed.
        return self._uses.get(other) if use is None and other is not None else use

    def forget(self, event: Closed) -> None:
        """Forget a connection that has ended; to be the last subscriber."""
        self._uses.pop(event.connection.id, None)
        self._await_no_more(event.connection.id)

    def __len__(self) -> int:
        return len(self._uses) + len(self._awaiting)

    def _accepted(self, event: Accepted) -> None:
        self._uses[event.connection.id] = Use()

    def _connected(self, event: Connected) -> None:
        connection = event.connection
        other = connection.relayed_with
        shared = self._uses.get(other) if other is not None else None
        self._uses[connection.id] = Use() if shared is None else shared

    def _receiver(self) -> Callable[[MessageReceived], None]:
        """Return the subscriber to received messages; a closure costs least for each of them."""
        uses, look = self._uses, self._look

        def received(event: MessageReceived) -> None:
            message = event.data
            if (size := len(message)) < SHORTEST_SIP:
                return
            use = uses[event.connection.id]
            # Few others begin with this letter, or with a line end.
            if (first := message[0]) == _R or first < _BLANK or use.user is None:
                look(use, event)
            use.latest = message if size < LONGEST_KEPT else message[:LONGEST_KEPT]

        return received

    def _keep_sent(self, event: MessageSent) -> None:
        if len(event.data) >= SHORTEST_SIP:
            self._uses[event.connection.id].latest = event.data[:LONGEST_KEPT]

    def _look(self, use: Use, event: MessageReceived) -> None:
        """Take a message that may be a REGISTER, or the first request of a client."""
        connection, message = event.connection, event.data
        # Of an unknown connection no end would be seen.
        if connection.client is not None or connection.id not in self._uses:
            return
        if (request := Request.read(message)) is None:
            return
        if use.user is None:
            use.user = address_of(request.caller) or ""
        if request.method != b"REGISTER":
            return
        words = hash((request.to, request.contact, request.expires))
        # A phone refreshes its registration in the same words.
        if words in use.words or (asked := _asked(request, words)) is None:
            return
        awaited = use.awaited
        if awaited is None:
            awaited = use.awaited = {}
        # The second one, with credentials, mostly has the Call-ID of the first.
        elif request.call_id not in awaited and len(awaited) >= MOST_AWAITED:
            del awaited[next(iter(awaited))]
        awaited[request.call_id] = asked
        self._await(connection.id, event.time)

    def _await(self, connection_id: int, now: float) -> None:
        """Read the messages that are sent until the connection has got its answer."""
        awaiting = self._awaiting
        if not awaiting:
            self._sent_hook.subscribe(self._sent)
        awaiting.pop(connection_id, None)
        awaiting[connection_id] = now
        self._give_up(now)

    def _await_no_more(self, connection_id: int) -> None:
        awaiting = self._awaiting
        if awaiting.pop(connection_id, None) is not None and not awaiting:
            self._sent_hook.unsubscribe(self._sent)

    def _give_up(self, now: float) -> None:
        """Await no answer longer than a transaction lasts."""
        awaiting = self._awaiting
        while awaiting:
            first = next(iter(awaiting))
            if awaiting[first] >= now - LONGEST_WAIT:
                return
            self._uses[first].awaited = None
            self._await_no_more(first)

    def _sent(self, event: MessageSent) -> None:
        """Take a message that may answer a REGISTER."""
        connection_id = event.connection.id
        if connection_id not in self._awaiting:
            self._give_up(event.time)
            return
        message, use = event.data, self._uses[connection_id]
        if (
            not use.awaited
            or not message.startswith(_RESPONSE)
            or message.startswith(_PROVISIONAL)
            or not (found := _find_answer(message))
        ):
            return
        asked = use.awaited.get(found[0])
        if asked is None or asked.cseq != _cseq(found[1]):
            return
        del use.awaited[found[0]]
        if not use.awaited:
            use.awaited = None
            self._await_no_more(connection_id)
        if message.startswith(_OK):
            self._note(use, event, asked, found)

    def _note(self, use: Use, event: MessageSent, asked: _Asked, answer: list[bytes]) -> None:
        names, aor, registers = use.names, asked.aor, not asked.removes
        if names is None:
            names = use.names = {}
            use.words = set()
        if aor not in names and len(names) >= MOST_NAMES:
            if not use.full:
                use.full = True
                self._changed(event, None)
            return
        if not registers or len(use.words) >= MOST_NAMES:
            use.words.clear()
        if registers:
            use.words.add(asked.words)
        if names.get(aor) is registers:
            # A refresh in other words, or a removal that was repeated.
            return
        names.pop(aor, None)
        names[aor] = registers
        expires = _granted(asked.contact, answer) if registers else 0
        self._changed(event, Registration(aor, expires))


def address_of(header: bytes) -> str | None:
    """Read the address of record of a From or a To: user and host, without password.

    Args:
        header: its value.

    Returns:
        the address, such as ``alice@example.com`` or ``tel:+4930``; None for another kind of URI,
        and for one of more than `LONGEST_NAME`.
    """
    match = _address(header)
    if match is None:
        return None
    user, host = match.groups()
    address = b"%b@%b" % (user, host) if user else host
    return _text(address) if len(address) <= LONGEST_NAME else None


def _asked(request: RequestHead, words: int) -> _Asked | None:
    """Read a REGISTER; None if it registers nothing, or has values of no phone."""
    cseq, contact = _cseq(request.cseq), request.contact
    is_long = len(request.call_id) > LONGEST_CALL_ID or len(contact) > LONGEST_CONTACT
    # Without a Contact it only asks what is registered (RFC 3261 section 10.2.3).
    if is_long or cseq is None or not contact or (aor := address_of(request.to)) is None:
        return None
    default = _seconds(request.expires)
    contacts = _values(contact)
    removes = all(each == b"*" or _lifetime(each, default) == 0 for each in contacts)
    return _Asked(cseq, aor, _uri(contacts[0]) if contacts else b"", removes, words)


def _granted(contact: bytes, answer: list[bytes]) -> int | None:
    """The seconds that an answer grants a Contact; None if they are not in it.

    Args:
        contact: the URI of the Contact.
        answer: as `_find_answer` returns it.
    """
    _, _, contacts, expires = answer
    values = _values(contacts) if len(contacts) <= LONGEST_CONTACT else []
    # The answer has all Contacts of the address of record, those of other phones too.
    own = [each for each in values if _uri(each) == contact] or values
    default = _seconds(expires)
    return _lifetime(own[0], default) if len(own) == 1 else default


def _lifetime(contact: bytes, default: int | None) -> int | None:
    found = _expires(contact.rpartition(b">")[2])
    return default if found is None else _seconds(found[1])


def _seconds(digits: bytes) -> int | None:
    return int(digits[:_DIGITS]) if digits.isdigit() else None


def _cseq(value: bytes) -> bytes | None:
    """A CSeq in the form in which two are compared; None for one that is too long."""
    return b" ".join(value.split()) if len(value) <= LONGEST_CSEQ else None


def _uri(contact: bytes) -> bytes:
    match = _contact_uri(contact)
    return match[1] if match else contact


def _values(header: bytes) -> list[bytes]:
    return [each for row in header.split(ROWS) for each in split_value(row)]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
