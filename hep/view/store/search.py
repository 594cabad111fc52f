"""The search for a user, number, address, Call-ID, connection or branch."""

import time
from collections.abc import Iterator
from typing import Any, Final

from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store import reader, schema
from hep.view.store.asking import Ask, Segments, each, places
from hep.view.store.conditions import any_contains, of_connections
from hep.view.store.query import ConnectionFilter, Found, Match
from hep.view.store.reader import CALLS, CONNECTIONS, LATEST, PATIENCE, rows_of
from hep.view.store.schema import Row
from hep.view.store.terms import digits_of, ip_of, number_term, same_number, term

_AT_ONCE: Final = 500
"""Rows that one query reads by their numbers."""


class _Sought:
    """A text that is searched for, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        """The whole text."""
        uri = text.removeprefix("sips:").removeprefix("sip:").removeprefix("tel:")
        user, _, host = uri.partition("@")
        self.user = user.lower()
        """The user of an address of record, or the text."""
        self.host = host.lower()
        """Its host; empty without one."""
        self.digits = digits_of(user)
        """The digits of a number; None if it is none."""
        self.address = text.lower()
        """As an address."""
        self.hashes = {term(text), term(user), term(text.strip("[]"))}
        """The terms by which the index finds it."""
        if self.digits is not None:
            self.hashes.add(number_term(self.digits))

    def user_matches(self, user: str, host: str) -> str | None:
        """``user`` or ``number``; None if it is another one."""
        if self.host and host.lower() != self.host:
            return None
        if user.lower() == self.user:
            return "user"
        digits = digits_of(user) if self.digits is not None else None
        if digits is not None and self.digits is not None and same_number(self.digits, digits):
            return "number"
        return None

    def address_matches(self, address: str) -> bool:
        """Whether an ``IP:PORT`` is the one that is searched for, or has its IP address."""
        return bool(address) and self.address.strip("[]") in (address, ip_of(address), address[1:])


def search(segments: Segments, text: str, limit: int) -> Found:
    """Find calls and connections.

    Args:
        segments: of the store, the newest first.
        text: a user, ``user@host``, number, ``IP``, ``IP:PORT``, Call-ID, id of a connection or
            branch, whole. If there is none, parts of users, Call-IDs and User-Agents are searched.
        limit: calls and connections at most, each.
    """
    text = text.strip()
    if not text:
        return Found([], [], [])
    sought = _Sought(text)
    calls: dict[str, CallSummary] = {}
    connections: dict[str, ConnectionSummary] = {}
    why: dict[tuple[str, str], str] = {}
    complete = True
    deadline = time.monotonic() + PATIENCE

    def add_call(row: Row, reason: str | None) -> None:
        call = schema.call_of(row)
        reason = reason or _why_call(call, sought)
        if reason is not None and call.call_id not in calls:
            calls[call.call_id] = call
            why["call", call.call_id] = reason

    def add_connection(row: Row, reason: str | None) -> None:
        connection = schema.connection_of(row)
        reason = reason or _why_connection(connection, sought)
        if reason is not None and connection.id not in connections:
            connections[connection.id] = connection
            why["connection", connection.id] = reason

    for _, ask in each(segments):
        for row in ask(f"{schema.SELECT_CALL} WHERE call_id = ?", text):
            add_call(row, "Call-ID")
        for row in ask(f"{schema.SELECT_CONNECTION} WHERE key = ?", text):
            add_connection(row, "connection")
        hashes = sorted(sought.hashes)
        for kind, select, add, found in (
            (0, schema.SELECT_CALL, add_call, calls),
            (1, schema.SELECT_CONNECTION, add_connection, connections),
        ):
            for row in _rows_with(ask, select, kind, hashes):
                add(row, None)
                if len(found) > limit:
                    break
                if time.monotonic() > deadline:
                    complete = False
                    break
    if not why:
        complete &= _search_parts(segments, text, limit, add_call, add_connection)
    complete = complete and len(calls) <= limit and len(connections) <= limit
    latest_calls = sorted(calls.values(), key=lambda call: -call.first)[:limit]
    latest_connections = sorted(connections.values(), key=lambda each: -each.since)[:limit]
    matches = [Match("call", call.call_id, why["call", call.call_id]) for call in latest_calls]
    matches += [
        Match("connection", each.id, why["connection", each.id]) for each in latest_connections
    ]
    return Found(latest_calls, latest_connections, matches, complete)


def connections_of(
    segments: Segments, aor: str, limit: int, since: int | None = None, until: int | None = None
) -> list[ConnectionSummary]:
    """The latest connections that an address of record registered on.

    Args:
        segments: of the store, the newest first.
        aor: ``user@host``.
        limit: connections at most.
        since: only those that have not ended before this time, microseconds since the epoch.
        until: only those that have not begun after this time.
    """
    user = aor.partition("@")[0]
    if not user:
        return []
    earliest = -LATEST if since is None else since
    latest = LATEST if until is None else until
    found: dict[str, ConnectionSummary] = {}
    # Segments of other times too: the end of a connection says when it began.
    for _, ask in each(segments):
        if len(found) >= limit:
            break
        for row in ask(
            f"{schema.SELECT_CONNECTION} WHERE id IN"  # noqa: S608 - constants
            " (SELECT thing >> 1 FROM terms WHERE hash = ? AND thing & 1)"
            " AND aor = ? AND since <= ? AND (until = 0 OR until >= ?)"
            " ORDER BY since DESC, id DESC LIMIT ?",
            term(user), aor, latest, earliest, limit,
        ):  # fmt: skip
            connection = schema.connection_of(row)
            if connection.id in found:
                continue
            if not connection.until:
                # It may have ended since, which a later segment says.
                connection = reader.connection(segments, connection.id) or connection
                if connection.until and connection.until < earliest:
                    continue
            found[connection.id] = connection
    return sorted(found.values(), key=lambda connection: -connection.since)[:limit]


def _search_parts(
    segments: Segments, text: str, limit: int, add_call: Any, add_connection: Any
) -> bool:
    """Search parts of texts, row by row; returns whether all rows were read."""
    within = {segment.number for segment in segments}
    columns = ("from_user", "to_user", "call_id", "user_agent")
    rows, _, call_stop = rows_of(segments, within, CALLS, *any_contains(columns, text), limit + 1)
    for row in rows:
        add_call(row, "part")
    condition = of_connections(ConnectionFilter(text=text))
    rows, _, connection_stop = rows_of(segments, within, CONNECTIONS, *condition, limit + 1)
    for row in rows:
        add_connection(row, "part")
    return call_stop is None and connection_stop is None


def _rows_with(ask: Ask, select: str, kind: int, hashes: list[int]) -> Iterator[Row]:
    """The rows of calls (0) or connections (1) that have a term, the latest first.

    They are read in parts: all users of a name have one term, at whichever host they are.
    """
    top = LATEST
    while True:
        things = ask(
            f"SELECT DISTINCT thing FROM terms WHERE hash IN ({places(hashes)})"  # noqa: S608
            " AND thing & 1 = ? AND thing < ? ORDER BY thing DESC LIMIT ?",
            *hashes, kind, top, _AT_ONCE,
        )  # fmt: skip
        yield from _by_numbers(ask, select, [thing >> 1 for (thing,) in things])
        if len(things) < _AT_ONCE:
            return
        top = things[-1][0]


def _by_numbers(ask: Ask, select: str, numbers: list[int]) -> Iterator[Row]:
    for start in range(0, len(numbers), _AT_ONCE):
        part = numbers[start : start + _AT_ONCE]
        yield from ask(f"{select} WHERE id IN ({places(part)}) ORDER BY id DESC", *part)


def _why_call(call: CallSummary, sought: _Sought) -> str | None:
    """What of a call was found; None if the index found another text."""
    for user, host in ((call.from_user, call.from_host), (call.to_user, call.to_host)):
        if (reason := sought.user_matches(user, host)) is not None:
            return reason
    if any(map(sought.address_matches, call.addresses)):
        return "address"
    if sought.host or sought.digits is not None:
        # The user is there, at another host; or a number ends alike.
        return None
    # Branches and the users of later requests are not in the row. The hash has 64 bits.
    return "branch" if sought.text.startswith(_MAGIC_COOKIE) else "user"


_MAGIC_COOKIE: Final = "z9hG4bK"
"""What a branch begins with (RFC 3261 section 8.1.1.7)."""


def _why_connection(connection: ConnectionSummary, sought: _Sought) -> str | None:
    user, _, host = connection.aor.partition("@")
    if user and (reason := sought.user_matches(user, host)) is not None:
        return reason
    addresses = (connection.peer, connection.client, connection.local)
    return "address" if any(map(sought.address_matches, addresses)) else None
