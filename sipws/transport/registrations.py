"""Detection of phones that registered again on a new connection. Pure.

A reloaded page, or a phone that changes networks, connects again while its old connection still
looks alive. A phone identifies itself by ``+sip.instance`` (RFC 5626 section 4.1). A REGISTER with
the same instance and ``reg-id`` on another connection means that it has left the first one.
"""

import re
from collections.abc import Callable
from typing import Final

from hep.sip import ROWS, finder
from sipws.sip import Request

Phone = tuple[str, str, str]
"""Address of record, instance and registration."""

LONGEST: Final = 512
"""Characters of each part of a phone's identity, which is kept for each connection and sent to
other workers. An instance is mostly ``urn:uuid:`` and 36 more; a longer one is ignored."""

_instance: Final = re.compile(
    # No instance has a "<" (RFC 5626 section 10). Without that, each beginning of one would be read
    # to the end of the header.
    rb";\s*\+sip\.instance\s*=\s*\"?<([^<>\"]++)>",
    re.IGNORECASE,
).search
_reg_id: Final = re.compile(rb";\s*reg-id\s*=\s*(\d+)", re.IGNORECASE).search
_uri: Final = re.compile(rb"sips?:([^>;\s?]+)", re.IGNORECASE).search

_find: Final = finder("contact", "to", every=("contact",), request=True)

LONGEST_SAID: Final = 2048
"""Bytes of Contact and To that are kept for each connection, to know them again. What is longer is
read each time."""

Said = tuple[bytes, bytes]
"""Contact and To of a REGISTER."""


class Registrations:
    """The connection on which each phone registered last.

    Call `forget` when a connection is gone.
    """

    __slots__ = ("_by_connection", "_by_phone", "news")

    def __init__(self) -> None:
        self.news: Callable[[Phone, int], object] | None = None
        """Called with a phone that registered on another connection, and that connection's id."""
        self._by_phone: dict[Phone, int] = {}
        self._by_connection: dict[int, tuple[Said | None, Phone]] = {}

    def registered(self, connection_id: int, message: bytes) -> tuple[int, str] | None:
        """Take a REGISTER.

        Returns:
            the connection that the phone has left, and the phone's instance id; None where this is
            no news, or the phone does not say who it is.
        """
        request = Request.read(message)
        if request is not None:
            said = request.contact, request.to
        elif found := _find(message):
            # We could not answer it; the upstream of a relay may.
            said = found[2], found[3]
        else:
            return None
        known = self._by_connection.get(connection_id)
        if known is not None and known[0] == said:
            # A phone refreshes its registration in the same words.
            return None
        phone = _phone(*said)
        if phone is None:
            return None
        before = self._by_phone.get(phone)
        if before == connection_id:
            return None
        # A connection that carries many phones is known by its last: it is a proxy's, and no page
        # that was reloaded. So one connection takes one place.
        self.forget(connection_id)
        self._by_phone[phone] = connection_id
        remembered = said if len(said[0]) + len(said[1]) <= LONGEST_SAID else None
        self._by_connection[connection_id] = remembered, phone
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
        known = self._by_connection.pop(connection_id, None)
        if known is not None and self._by_phone.get(known[1]) == connection_id:
            del self._by_phone[known[1]]

    def __len__(self) -> int:
        return len(self._by_phone)


def _phone(contact: bytes, to: bytes) -> Phone | None:
    """Who sends a REGISTER; None if its headers do not identify it, or are too long."""
    contact = contact.partition(ROWS)[0]
    instance, record = _instance(contact), _uri(to)
    if instance is None or record is None:
        return None
    registration = _reg_id(contact)
    number = _text(registration[1]) if registration else "0"
    phone = _text(record[1]), _text(instance[1]), number
    return phone if max(map(len, phone)) <= LONGEST else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape").lower()
