"""The syntax tree of a filter route: what a script says, before it means anything."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple


class Place(NamedTuple):
    """Where something stands in a script."""

    line: int
    """From 1."""
    column: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A pseudo-variable, such as ``$si`` or ``$socket_in(port)``."""

    name: str
    """With its dollar sign."""
    field: str | None
    place: Place


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted string, its escapes resolved."""

    value: str
    place: Place


@dataclass(frozen=True, slots=True)
class Number:
    """An integer."""

    value: int
    place: Place


@dataclass(frozen=True, slots=True)
class Network:
    """An unquoted address or network; an address is a network of one."""

    value: IPv4Network | IPv6Network
    place: Place


@dataclass(frozen=True, slots=True)
class Null:
    """``NULL``."""

    place: Place


Operand = Variable | Text | Number | Network | Null


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left OPERATOR right``."""

    operator: str
    left: Operand
    right: Operand
    place: Place


@dataclass(frozen=True, slots=True)
class Truth:
    """An operand alone as a condition."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Not:
    """``!condition``."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """``left && right``."""

    left: "Condition"
    right: "Condition"


@dataclass(frozen=True, slots=True)
class Or:
    """``left || right``."""

    left: "Condition"
    right: "Condition"


Condition = Comparison | Truth | Not | And | Or


@dataclass(frozen=True, slots=True)
class Decision:
    """``drop``, ``exit`` or ``return``: the route ends."""

    verb: str
    place: Place


@dataclass(frozen=True, slots=True)
class If:
    """``if (condition) then else otherwise``."""

    condition: Condition
    then: tuple["Statement", ...]
    otherwise: tuple["Statement", ...]


Statement = Decision | If


@dataclass(frozen=True, slots=True)
class Route:
    """``route[name] { … }``."""

    name: str
    body: tuple[Statement, ...]
    place: Place
