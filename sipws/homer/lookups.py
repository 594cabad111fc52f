"""Adds entries to lists of a mapping in homer-app, and takes them out again. Pure.

A mapping has two lists: ``correlation_mapping`` (lookups) and ``fields_mapping``. homer-app stores
both as they are sent and ignores keys that it does not know. So each entry of sipws has the key
`MARK`, and all others are left as they are: without(with_ours(x)) == x.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sipws.homer.files import Json, MappingLookups

MARK: Final = "sipws"
"""Key that marks what sipws added or changed. Its value is `ADDED`, ``{"instead_of": …}`` (added,
and the list replaced this value) or ``{"was": …, "set": …}`` (the range was changed)."""

ADDED: Final = "added"
"""Value of `MARK` in an entry that sipws added."""

COLUMNS: Final = ("sid", "raw")
"""Columns with text that ``source_field`` can name. All else is a key of a JSON column."""

_RANGE: Final = "lookup_range"
_KEY: Final = ("source_field", "lookup_id", "lookup_profile", "lookup_field")


def entries(value: Any) -> list[Any]:
    """Return a list of a mapping. An empty one may be ``{}`` or null in homer-app."""
    return value if isinstance(value, list) else []


def has_text(value: Any, name: str) -> bool:
    """Whether a value is an object with a text under a name."""
    return isinstance(value, dict) and isinstance(value.get(name), str)


def is_added(entry: Any) -> bool:
    """Whether sipws added an entry."""
    mark = entry.get(MARK) if isinstance(entry, dict) else None
    return mark == ADDED or (isinstance(mark, dict) and "instead_of" in mark)


def is_changed(entry: Any) -> bool:
    """Whether sipws changed the range of an entry."""
    mark = entry.get(MARK) if isinstance(entry, dict) else None
    return isinstance(mark, dict) and {"was", "set"} <= set(mark)


def key_of(lookup: Any) -> tuple[Any, ...] | None:
    """What a lookup asks for, without its range; None if it is not an object."""
    return tuple(map(lookup.get, _KEY)) if isinstance(lookup, dict) else None


def without(value: Any) -> Any:
    """Take out what sipws added, and restore the ranges that it changed.

    A range that was changed again after that is kept.
    """
    if not isinstance(value, list):
        return value
    kept = [_restored(entry) for entry in value if not is_added(entry)]
    if not kept:
        for entry in value:
            if is_added(entry) and isinstance(entry[MARK], dict):
                return entry[MARK]["instead_of"]
    return kept


def with_added(value: Any, new: Iterable[Json]) -> Any:
    """Append entries to a list.

    Args:
        value: the list, or what homer-app has instead of an empty one.
        new: the entries. They are marked.
    """
    marked = [entry | {MARK: ADDED} for entry in new]
    if isinstance(value, list):
        return value + marked
    if marked:
        marked[0][MARK] = {"instead_of": value}
    return marked or value


def with_lookups(value: Any, ours: MappingLookups) -> Any:
    """Add the lookups of sipws to those of a mapping.

    Lookups that are there without a mark, such as those loaded manually, are not added again.

    Args:
        value: ``correlation_mapping`` without lookups of sipws.
        ours: what is added and widened.
    """
    existing = entries(value)
    there = [key_of(lookup) for lookup in existing]
    new = [lookup for lookup in (*ours.add, *ours.widen) if key_of(lookup) not in there]
    if isinstance(value, list):
        value = [_widened(lookup, ours.widen) for lookup in value]
    return with_added(value, new)


def with_fields(value: Any, ours: Sequence[Json]) -> Any:
    """Add those fields of sipws whose id a mapping does not have.

    Args:
        value: ``fields_mapping`` without fields of sipws.
        ours: the fields.
    """
    there = [field.get("id") for field in entries(value) if isinstance(field, dict)]
    return with_added(value, [field for field in ours if field["id"] not in there])


def slips(value: Any) -> list[str]:
    """Find what makes homer-app close the connection for each flow of a mapping.

    Args:
        value: ``correlation_mapping``.

    Returns:
        a sentence for each slip; the lookups are counted from 1.
    """
    found = []
    for number, lookup in enumerate(entries(value), start=1):
        said = _slips(lookup) if isinstance(lookup, dict) else ["it is not an object"]
        found += [f"lookup {number}: {each}" for each in said]
    return found


def _slips(lookup: Json) -> list[str]:
    found = [
        f"{name} {'is missing' if name not in lookup else 'is not a text'}"
        for name in ("source_field", "lookup_profile", "lookup_field")
        if not isinstance(lookup.get(name), str)
    ]
    source = lookup.get("source_field")
    if isinstance(source, str) and "." not in source and source not in COLUMNS:
        found.append(f"source_field {source!r} is not a column with text")
    if not _is_number(lookup.get("lookup_id")):
        found.append("lookup_id is missing or not a number")
    span = lookup.get(_RANGE)
    if not isinstance(span, list) or len(span) == 1 or not all(map(_is_number, span)):
        found.append("lookup_range is missing or not two numbers")
    found += [
        f"{name} is not true or false"
        for name in ("like_search", "append_sid")
        if not isinstance(lookup.get(name, False), bool)
    ]
    found += [
        f"{name} is not a text"
        for name in ("input_function_js", "input_script", "output_script")
        if not isinstance(lookup.get(name, ""), str)
    ]
    return found


def _widened(lookup: Any, by: Iterable[Json]) -> Any:
    for wide in by:
        if key_of(lookup) != key_of(wide):
            continue
        span = lookup.get(_RANGE)
        if not isinstance(span, list) or len(span) != 2 or not all(map(_is_number, span)):
            # `slips` reports it.
            continue
        widest = [min(span[0], wide[_RANGE][0]), max(span[1], wide[_RANGE][1])]
        if widest != span:
            return lookup | {_RANGE: widest, MARK: {"was": span, "set": widest}}
    return lookup


def _restored(entry: Any) -> Any:
    if not is_changed(entry):
        return entry
    mark = entry[MARK]
    restored = {name: value for name, value in entry.items() if name != MARK}
    if restored.get(_RANGE) == mark["set"]:
        restored[_RANGE] = mark["was"]
    return restored


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
