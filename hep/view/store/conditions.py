"""Filters of lists as conditions in SQL. Pure."""

from typing import Any

from hep.view.store.asking import places
from hep.view.store.query import CallFilter, ConnectionFilter
from hep.view.store.segment import StoreError

Condition = tuple[str, list[Any]]
"""A condition and the values of its places."""


class _All:
    """Conditions that all must hold."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self._values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        self._conditions.append(condition)
        self._values.extend(values)

    @property
    def whole(self) -> Condition:
        return " AND ".join(self._conditions), self._values


def of_calls(wanted: CallFilter) -> Condition:
    """The condition of a filter of calls.

    Raises:
        StoreError: its code is no status code.
    """
    every = _All()
    if wanted.since is not None:
        every.add("last >= ?", wanted.since)
    if wanted.until is not None:
        every.add("first <= ?", wanted.until)
    if wanted.kinds:
        every.add(f"kind IN ({places(wanted.kinds)})", *wanted.kinds)
    if wanted.outcomes:
        every.add(f"outcome IN ({places(wanted.outcomes)})", *wanted.outcomes)
    if wanted.user:
        parties = "from_user || '@' || from_host", "to_user || '@' || to_host"
        every.add(*_any_like(parties, contains(wanted.user)))
    if wanted.address:
        # Each address has a line of its own.
        every.add(*_any_like(("char(10) || addresses",), "%\n" + begins(wanted.address)))
    if wanted.method:
        every.add("method = ?", wanted.method.upper())
    if wanted.code:
        every.add("code BETWEEN ? AND ?", *codes(wanted.code))
    if wanted.text:
        every.add(
            "EXISTS (SELECT 1 FROM packets WHERE call = calls.id"
            " AND instr(lower(CAST(payload AS TEXT)), lower(?)))",
            wanted.text,
        )
    return every.whole


def of_connections(wanted: ConnectionFilter) -> Condition:
    """The condition of a filter of connections."""
    every = _All()
    if wanted.since is not None:
        every.add("(until = 0 OR until >= ?)", wanted.since)
    if wanted.until is not None:
        every.add("since <= ?", wanted.until)
    if wanted.states:
        every.add(f"state IN ({places(wanted.states)})", *wanted.states)
    if wanted.address:
        every.add(*_any_like(("peer", "client"), begins(wanted.address)))
    if wanted.text:
        every.add(*_any_like(_TEXTS, contains(wanted.text)))
    return every.whole


_TEXTS = ("key", "aor", "user_agent", "origin", "resource", "error", "error_detail", "reason")


def any_contains(columns: tuple[str, ...], text: str) -> Condition:
    """The condition that a column has a text in it."""
    condition, *values = _any_like(columns, contains(text))
    return condition, values


def _any_like(columns: tuple[str, ...], pattern: str) -> tuple[str, *tuple[str, ...]]:
    joined = " OR ".join(rf"{column} LIKE ? ESCAPE '\'" for column in columns)
    return f"({joined})", *([pattern] * len(columns))


def contains(text: str) -> str:
    """The pattern of LIKE for texts with this one in them."""
    return f"%{_escaped(text)}%"


def begins(text: str) -> str:
    """The pattern of LIKE for texts that begin with this one."""
    return f"{_escaped(text)}%"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def codes(text: str) -> tuple[int, int]:
    """The first and the last status code that ``486`` or ``4xx`` stands for.

    Raises:
        StoreError: it is neither.
    """
    if len(text) == 3 and text[0] in "123456":
        if text[1:].lower() == "xx":
            return int(text[0]) * 100, int(text[0]) * 100 + 99
        if text.isascii() and text.isdigit():
            return int(text), int(text)
    raise StoreError(f"code={text[:80]!r} is no status code: write 486, or 4xx for that class")
