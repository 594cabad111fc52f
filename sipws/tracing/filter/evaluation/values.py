"""The values of the language, and how they combine.

A value of OpenSIPS may have a text, an integer, or both, of which one is what it mainly is:

=============  ======  =======  ====================================================
here           text    integer  where it comes from
=============  ======  =======  ====================================================
``None``                        ``NULL``: unset variables
``str``        yes              ``$si``, strings
``int``        yes     yes      ``$sp``, integers kept in variables
`Bare`                 yes      literal integers and results of calculations
`Worded`       yes     yes      ``{s.int}``: the integer, with the text it was read from
`Numbered`     yes     yes      ``$Tf``: a text that has an integer too
`FAILED`                        a transformation that could not be done
=============  ======  =======  ====================================================
"""

import operator
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from sipws.tracing.filter.bounds import (
    COPY,
    LONGEST_ADDRESS,
    MAX_TEXT,
    SHORT_TEXT,
    Exhausted,
)
from sipws.tracing.filter.syntax.lexer import wrap


class Bare(int):
    """An integer without a text: it joins no text, as in ``"a" + 1``."""


class Worded(int):
    """An integer whose text is not its digits."""

    text: str

    def __new__(cls, value: int, text: str) -> "Worded":
        """An integer and its text."""
        made = super().__new__(cls, value)
        made.text = text
        return made


class Numbered(str):
    """A text that has an integer too."""

    number: int

    def __new__(cls, text: str, value: int) -> "Numbered":
        """A text and its integer."""
        made = super().__new__(cls, text)
        made.number = value
        return made


class Failed(Enum):
    """The type of `FAILED`."""

    FAILED = "failed"


FAILED: Final = Failed.FAILED
"""What a variable has whose transformation could not be done."""

Value = str | int | Failed | None

Change = Callable[[str, Value, tuple[Value, ...]], Value]
"""What a transformation does: takes the text of the value, the value, and the arguments."""


def text_of(value: Value) -> str | None:
    """A value's text; None: it has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, Bare):
        return value.text if isinstance(value, Worded) else str(value)
    return None


def number_of(value: Value) -> int | None:
    """A value's integer; None: it has none."""
    if isinstance(value, int):
        return value
    return value.number if isinstance(value, Numbered) else None


def kept(value: Value) -> Value:
    """A value as a variable keeps it: only what it mainly is."""
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) else value


def shown(value: Value) -> str:
    """A value as messages show it."""
    match value:
        case None:
            return "NULL"
        case Failed():
            return "not to be had"
        case Worded():
            return f"{int(value)} ({value.text!r})"
        case str():
            return '"' + value.replace('"', '\\"') + '"'
    return str(int(value))


def printed(value: Value) -> str:
    """A value within a text that ``xlog`` writes."""
    if value is None:
        return "<null>"
    text = text_of(value)
    return (str(int(value)) if isinstance(value, int) else "") if text is None else text


def divide(a: int, b: int) -> int:
    """``a / b`` of C: towards 0. Nothing is divided by 0: that gives 0."""
    return int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if b else 0


def remainder(a: int, b: int) -> int:
    """``a % b`` of C: with the sign of ``a``. Of 0 it is 0."""
    return a - b * divide(a, b) if b else 0


INTEGERS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": remainder,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    # What C leaves open, the usual processors do so: only five bits of the distance count.
    "<<": lambda a, b: a << (b & 31),
    ">>": lambda a, b: a >> (b & 31),
}


class Account(Protocol):
    """What pays for long texts (`run.Run`)."""

    def spend(self, steps: int) -> None:
        """Count steps; raises `Exhausted`."""


def too_long() -> Exhausted:
    """What is raised instead of making a text that is too long."""
    return Exhausted(f"it makes a text of more than {MAX_TEXT} characters")


def calculate(sign: str, left: Value, right: Value, account: Account) -> Value:
    """``left sign right``, as OpenSIPS calculates (``eval_elem``); FAILED: it does not.

    Raises:
        Exhausted: the text would be too long, or is one too many.
    """
    if left is FAILED or right is FAILED:
        return FAILED
    if isinstance(left, int):
        number = 0 if right is None else number_of(right)
        if number is None:
            return FAILED
        return Bare(wrap(INTEGERS[sign](left, number)))
    if sign == "+":
        text = "" if right is None else text_of(right)
        if text is None:
            return FAILED
        return _joined("" if left is None else str(left), text, account)
    other = text_of(right)
    if left is None or other is None or len(left) != len(other) or sign not in "&|^":
        return FAILED
    if len(left) > SHORT_TEXT:
        account.spend(len(left) // COPY)
    combined = INTEGERS[sign](_low_bytes(left), _low_bytes(other))
    return combined.to_bytes(len(left), "little").decode("latin-1")


def _low_bytes(text: str) -> int:
    """The lowest byte of each character, as one number."""
    return int.from_bytes(text.encode("utf-32-le", "surrogatepass")[::4], "little")


def _joined(first: str, second: str, account: Account) -> str:
    size = len(first) + len(second)
    if size > SHORT_TEXT:
        if size > MAX_TEXT:
            raise too_long()
        account.spend(size // COPY)
    return first + second


def change(sign: str, old: Value, value: Value, account: Account) -> Value:
    """``old sign= value`` (``do_assign``); FAILED: the variable keeps what it has.

    Raises:
        Exhausted: as for `calculate`.
    """
    if isinstance(old, str) and isinstance(value, str):
        return _joined(str(old), str(value), account) if sign == "+" else FAILED
    a, b = number_of(old), number_of(value)
    if a is None or b is None or (sign in "/%" and b == 0):
        return FAILED
    return wrap(INTEGERS[sign](a, b))


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, IPv6 with or without brackets; None: it is none."""
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        if ":" not in text:
            return IPv4Address(text)
        inside = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
        return None if "%" in inside or "." in inside else IPv6Address(inside)
    except ValueError:
        return None


def written(ip: str) -> str:
    """An address as OpenSIPS writes it: IPv6 in full, without leading zeros."""
    if ":" not in ip:
        return ip
    address = address_of(ip.partition("%")[0])
    if not isinstance(address, IPv6Address):
        return ip
    number = int(address)
    return ":".join(f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))
