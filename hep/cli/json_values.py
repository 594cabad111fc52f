"""Makes dataclasses of what JSON holds. Pure."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def value_of(kind: type[T], data: Any) -> T:
    """Make a dataclass of an object of JSON.

    Members that the dataclass does not have are ignored, so that a newer program may send more.
    Missing ones get their default.

    Args:
        kind: the dataclass. Its fields are int, float, str, bool, lists and dataclasses.
        data: what `json.loads` returns.

    Raises:
        ValueError: it is no such object.
    """
    made: T = _read(kind, data)
    return made


def _read(kind: Any, data: Any) -> Any:
    origin = get_origin(kind)
    if is_dataclass(kind):
        if not isinstance(data, Mapping):
            raise ValueError(f"{data!r} is no object")
        given = {}
        for name, of, needed in _fields(kind):  # type: ignore[arg-type]
            if name in data:
                given[name] = _read(of, data[name])
            elif needed:
                raise ValueError(f"{name} is missing")
        return kind(**given)  # type: ignore[operator]
    if origin is list:
        if not isinstance(data, list):
            raise ValueError(f"{data!r} is no list")
        (of,) = get_args(kind)
        return [_read(of, each) for each in data]
    if origin in (Union, UnionType):
        if data is None and NoneType in get_args(kind):
            return None
        (of,) = (each for each in get_args(kind) if each is not NoneType)
        return _read(of, data)
    # A newer program may know more words than those of a Literal.
    plain = str if origin is Literal else kind
    if plain is float and type(data) is int:
        return float(data)
    if type(data) is not plain:
        raise ValueError(f"{data!r} is no {plain.__name__}")
    return data


@cache
def _fields(kind: Any) -> list[tuple[str, Any, bool]]:
    hints = get_type_hints(kind)
    return [
        (each.name, hints[each.name], each.default is MISSING and each.default_factory is MISSING)
        for each in fields(kind)
        if each.init
    ]
