"""The nodes of the syntax tree.

Two nodes are equal if they have the same content; their positions do not matter.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Node:
    """Base class of all nodes."""

    at: int = field(compare=False, repr=False, kw_only=True, default=0)
    """Position in the source (`Source.place`)."""


@dataclass(frozen=True, slots=True)
class Transformation(Node):
    """``{kind.name,arguments}`` of a variable."""

    kind: str
    """``s``, ``ip``, …"""
    name: str
    arguments: tuple[str, ...]
    """As written."""


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """``$name``, ``$name(inner)`` or ``$(name(inner)[index]{transformation}…)``."""

    name: str
    inner: str | None = None
    index: str | None = None
    transformations: tuple[Transformation, ...] = ()
    junk: str = field(default="", compare=False)
    """Characters directly after the variable, which OpenSIPS ignores (``$sp]``)."""
    problem: str = field(default="", compare=False)
    """Why the text is not a variable; empty if it is one."""


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A quoted string with its escapes resolved."""

    value: str


@dataclass(frozen=True, slots=True)
class Number(Node):
    """An integer of 32 bits."""

    value: int


@dataclass(frozen=True, slots=True)
class Network(Node):
    """An unquoted address or network, as written."""

    text: str


@dataclass(frozen=True, slots=True)
class Null(Node):
    """``NULL``."""


Constant = Text | Number | Network | Null
Operand = Variable | Constant
Argument = Variable | Text | Number | Null | None
"""Of a function or a route; None is one left out, as in ``f(, 1)``."""


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """``left operator right``."""

    operator: str
    left: Variable
    right: Operand


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """``first operator operand …``: operators of one precedence, from left to right."""

    first: "Value"
    rest: tuple[tuple[str, "Value"], ...]


@dataclass(frozen=True, slots=True)
class Invert(Node):
    """``~operand``."""

    operand: "Value"


@dataclass(frozen=True, slots=True)
class Truth(Node):
    """A variable or a number as a condition."""

    operand: Variable | Number


@dataclass(frozen=True, slots=True)
class Bracketed(Node):
    """``[ value ]``: a calculation as a condition."""

    value: "Value"


@dataclass(frozen=True, slots=True)
class Not(Node):
    """``!condition``."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class Group(Node):
    """``(condition)``."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """``first && condition || …``: equal precedence, from left to right."""

    first: "Condition"
    rest: tuple[tuple[str, "Condition"], ...]
    """Each with ``&&`` or ``||`` before it."""


@dataclass(frozen=True, slots=True)
class Done(Node):
    """Statements as a condition. The return code of the last one decides."""

    body: "Body"


@dataclass(frozen=True, slots=True)
class Drop(Node):
    """``drop``: ends the script; the connection is not traced."""


@dataclass(frozen=True, slots=True)
class Exit(Node):
    """``exit``: ends the script; the connection is traced."""


@dataclass(frozen=True, slots=True)
class Break(Node):
    """``break``: ends a loop or a ``switch``."""


@dataclass(frozen=True, slots=True)
class Return(Node):
    """``return(code, values…)``: ends a route."""

    code: Variable | Number | None
    """None is 1, as in ``return`` and ``return(, "value")``."""
    values: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment(Node):
    """``target operator value``."""

    operator: str
    target: Variable
    value: "Value | Null"


@dataclass(frozen=True, slots=True)
class RouteCall(Node):
    """``route(name, arguments…)``."""

    name: str | Variable
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """``function(arguments…)``."""

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Log(Node):
    """``xlog``, ``xdbg``, ``log`` or ``error``: writes a log message."""

    function: str
    level: Text | Number | None
    text: Text


@dataclass(frozen=True, slots=True)
class Assert(Node):
    """``assert(condition, "text")``: ends the script if ``enable_asserts`` is on."""

    condition: "Condition"
    text: Text | None


@dataclass(frozen=True, slots=True)
class If(Node):
    """``if … else if … else …``."""

    branches: tuple[tuple["Condition", "Body"], ...]
    otherwise: "Body | None"


@dataclass(frozen=True, slots=True)
class While(Node):
    """``while (condition) body``."""

    condition: "Condition"
    body: "Body"


@dataclass(frozen=True, slots=True)
class For(Node):
    """``for (item in list) body``."""

    item: Variable
    values: Variable
    body: "Body"


@dataclass(frozen=True, slots=True)
class Case(Node):
    """``case label: body``."""

    label: Text | Number
    body: "Body"


@dataclass(frozen=True, slots=True)
class Switch(Node):
    """``switch (operand) { case …: … default: … }``."""

    operand: Variable
    cases: tuple[Case, ...]
    default: "Body | None"


@dataclass(frozen=True, slots=True)
class Route(Node):
    """``route[name] { body }``. A route without a name has the name ``0``."""

    name: str
    body: "Body"


Command = Drop | Exit | Return | RouteCall | Call | Log | Assert
Value = Variable | Text | Number | Comparison | Arithmetic | Invert | Command
Condition = Comparison | Truth | Bracketed | Not | Group | Chain | Done
Statement = Command | Break | Assignment | If | While | For | Switch
Body = tuple[Statement, ...]
