"""Detection of phones that registered again on a new connection. Pure.

A reloaded page, or a phone that changes networks, connects again while its old connection still
looks alive. A phone identifies itself by ``+sip.instance`` (RFC 5626 section 4.1). A REGISTER with
the same instance and ``reg-id`` on another connection means that it has left the first one.
"""

import re
from collections.abc import Callable
from typing import Final

from sipws.sip import Message

REGISTER: Final = b"REGISTER "

Phone = tuple[str, str, str]
"""Address of record, instance and registration."""

LONGEST: Final = 512
"""Characters of each part of a phone's identity, which is kept for each connection and sent to
other workers. An instance is mostly ``urn:uuid:`` and 36 more; a longer one is ignored."""

_INSTANCE: Final = re.compile(r";\s*\+sip\.instance\s*=\s*\"?<([^>\"]+)>", re.IGNORECASE)
_REG_ID: Final = re.compile(r";\s*reg-id\s*=\s*(\d+)", re.IGNORECASE)
_URI: Final = re.compile(r"sips?:([^>;\s?]+)", re.IGNORECASE)


class Registrations:
    """The connection on which each phone registered last.

    Call `forget` when a connection is gone.
    """

    __slots__ = ("_by_connection", "_by_phone", "news")

    def __init__(self) -> None:
        self.news: Callable[[Phone, int], object] | None = None
        """Called with a phone that registered on another connection, and that connection's id."""
        self._by_phone: dict[Phone, int] = {}
        self._by_connection: dict[int, Phone] = {}

    def registered(self, connection_id: int, message: bytes) -> tuple[int, str] | None:
        """Take a REGISTER.

        Returns:
            the connection that the phone has left, and the phone's instance id; None where this is
            no news, or the phone does not say who it is.
        """
        phone = _phone(message)
        if phone is None:
            return None
        before = self._by_phone.get(phone)
        if before == connection_id:
            return None
        # A connection that carries many phones is known by its last: it is a proxy's, and no page
        # that was reloaded. So one connection takes one place.
        self.forget(connection_id)
        self._by_phone[phone] = connection_id
        self._by_connection[connection_id] = phone
        if self.news is not None:
            self.news(phone, connection_id)
        if before is None:
            return None
        self._by_connection.pop(before, None)
        return before, phone[1]

    def left(self, phone: Phone) -> int | None:
        """Forget a phone that registered in another process.

        Returns:
            the id of the connection that it left; None if there is none.
        """
        connection_id = self._by_phone.get(phone)
        if connection_id is not None:
            self.forget(connection_id)
        return connection_id

    def forget(self, connection_id: int) -> None:
        """Forget a connection that is gone."""
        phone = self._by_connection.pop(connection_id, None)
        if phone is not None and self._by_phone.get(phone) == connection_id:
            del self._by_phone[phone]

    def __len__(self) -> int:
        return len(self._by_phone)


def _phone(message: bytes) -> Phone | None:
    """Who sends a REGISTER; None where it does not say so, or at too great a length."""
    if b"+sip.instance" not in message:
        return None
    request = Message.parse(message)
    contact, to = (request.get("contact"), request.get("to")) if request else (None, None)
    if contact is None or to is None:
        return None
    instance, record = _INSTANCE.search(contact), _URI.search(to)
    if instance is None or record is None:
        return None
    registration = _REG_ID.search(contact)
    phone = record[1].lower(), instance[1].lower(), registration[1] if registration else "0"
    return phone if max(map(len, phone)) <= LONGEST else None
