"""The values of the language and their operators.

A value of OpenSIPS (``pv_value_t``) has a text, an integer, or both. One of them is primary:

=============  ======  =======  ====================================================
here           text    integer  where it comes from
=============  ======  =======  ====================================================
``None``                        ``NULL``: unset variables
``str``        yes              ``$si``, strings
``int``        yes     yes      ``$sp``, integers kept in variables
`Bare`                 yes      literal integers and results of calculations
`Worded`       yes     yes      ``$msg.flag(X)``: an integer with the text ``true``
`Parsed`       yes     yes      ``{s.int}``: the integer, with the text it was read from
`Numbered`     yes     yes      ``$Tf``: a text that has an integer too
`FAILED`                        a calculation that could not be done
=============  ======  =======  ====================================================

OpenSIPS counts bytes. Each character of a text is therefore one byte (`stored`); a text is decoded
where a person reads it (`readable`).
"""

import operator
import string
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol, Self

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
    """An integer with a text other than its digits."""

    text: str

    def __new__(cls, value: int, text: str) -> Self:
        """An integer and its text."""
        made = super().__new__(cls, value)
        made.text = text
        return made


class Parsed(Worded):
    """An integer that was read from a text: ``xlog`` writes the integer."""


class Numbered(str):
    """A text that also has an integer."""

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
"""The value of a calculation that cannot be done. A variable that cannot be read is NULL."""

Value = str | int | Failed | None
"""A value of the language; see the table above."""

Change = Callable[[str, Value, tuple[Value, ...]], Value]
"""A transformation: takes the text of the value, the value, and the arguments."""


_LOWER: Final = {ord(char): char.lower() for char in string.ascii_uppercase}
_UPPER: Final = {ord(char): char.upper() for char in string.ascii_lowercase}


def stored(text: str) -> str:
    """Encode a text as the language keeps it: UTF-8, one character per byte."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("latin-1")


def readable(text: str) -> str:
    """Decode a text for people; the inverse of `stored`."""
    return text if text.isascii() else bytes_of(text).decode("utf-8", "replace")


def bytes_of(text: str) -> bytes:
    """The bytes of a text."""
    return text.encode("latin-1", "replace")


def lower(text: str) -> str:
    """A text in lower case. As in C, only ASCII letters have a case."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def upper(text: str) -> str:
    """A text in upper case. As in C, only ASCII letters have a case."""
    return text.upper() if text.isascii() else text.translate(_UPPER)


def text_of(value: Value) -> str | None:
    """The text of a value; None if it has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, Bare):
        return value.text if isinstance(value, Worded) else str(value)
    return None


def number_of(value: Value) -> int | None:
    """The integer of a value; None if it has none."""
    if isinstance(value, int):
        return value
    return value.number if isinstance(value, Numbered) else None


def kept(value: Value) -> Value:
    """The value that a variable stores: only the primary part."""
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) else value


def shown(value: Value) -> str:
    """Format a value for messages."""
    match value:
        case None:
            return "NULL"
        case Failed():
            return "not to be had"
        case Worded():
            return f"{int(value)} ({readable(value.text)!r})"
        case str():
            return '"' + readable(value).replace('"', '\\"') + '"'
    return str(int(value))


def printed(value: Value) -> str:
    """Format a value for ``xlog``."""
    if value is None or value is FAILED:
        return "<null>"
    if isinstance(value, Worded) and not isinstance(value, Parsed):
        return value.text
    return str(int(value)) if isinstance(value, int) else value


def divide(a: int, b: int) -> int:
    """``a / b`` as in C, rounded towards 0; 0 if ``b`` is 0."""
    return int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if b else 0


def remainder(a: int, b: int) -> int:
    """``a % b`` as in C, with the sign of ``a``; 0 if ``b`` is 0."""
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
    # C leaves larger distances undefined. x86 and ARM use the lowest five bits only.
    "<<": lambda a, b: a << (b & 31),
    ">>": lambda a, b: a >> (b & 31),
}


class Account(Protocol):
    """Counts the cost of long texts (`run.Run`)."""

    def spend(self, steps: int) -> None:
        """Count steps; raises `Exhausted`."""


def too_long() -> Exhausted:
    """The exception for a text that is longer than `MAX_TEXT`."""
    return Exhausted(f"it makes a text of more than {MAX_TEXT} characters")


def calculate(sign: str, left: Value, right: Value, account: Account) -> Value:
    """Calculate ``left sign right`` as OpenSIPS does (``eval_elem``).

    Args:
        sign: an operator of `INTEGERS`.
        left: left operand.
        right: right operand.
        account: counts the cost of long texts.

    Returns:
        the result; `FAILED` if the operator does not apply to the operands.

    Raises:
        Exhausted: the text is longer than `MAX_TEXT`, or there are too many steps.
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
    first, second = (int.from_bytes(bytes_of(operand), "little") for operand in (left, other))
    return INTEGERS[sign](first, second).to_bytes(len(left), "little").decode("latin-1")


def _joined(first: str, second: str, account: Account) -> str:
    size = len(first) + len(second)
    if size > SHORT_TEXT:
        if size > MAX_TEXT:
            raise too_long()
        account.spend(size // COPY)
    return first + second


def change(sign: str, old: Value, value: Value, account: Account) -> Value:
    """Calculate ``old sign= value`` as OpenSIPS does (``do_assign``).

    Args:
        sign: the operator before ``=``.
        old: value of the variable.
        value: operand.
        account: counts the cost of long texts.

    Returns:
        the new value; `FAILED` if the variable keeps its value.

    Raises:
        Exhausted: as for `calculate`.
    """
    if isinstance(old, str) and isinstance(value, str):
        return _joined(str(old), str(value), account) if sign == "+" else FAILED
    a, b = number_of(old), number_of(value)
    if a is None or b is None or (sign in "/%" and b == 0):
        return FAILED
    return wrap(INTEGERS[sign](a, b))


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address, IPv6 with or without brackets; None if the text is not an address."""
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
    """Format an address as OpenSIPS does: IPv6 in full, in capitals, without leading zeros."""
    if ":" not in ip:
        return ip
    address = parse_ip(ip.partition("%")[0])
    if not isinstance(address, IPv6Address):
        return ip
    number = int(address)
    return ":".join(f"{number >> shift & 0xFFFF:X}" for shift in range(112, -1, -16))
