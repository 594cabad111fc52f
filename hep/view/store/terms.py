"""What one searches for, as numbers of 64 bits that an index holds. Pure.

A search for a user, a number, an address or a branch reads one index of each segment. Numbers are
found by their last digits, so that 030 1234567 finds +49301234567.
"""

import re
from hashlib import blake2b
from typing import Final

DIGITS: Final = 7
"""Digits that must be the same at the end of two numbers. Numbers with fewer are as any user."""

_is_number: Final = re.compile(r"\+?[0-9][0-9 ()./-]*").fullmatch
_not_digits: Final = re.compile(r"[^0-9]+")


def term(text: str) -> int:
    """The hash of a text, upper and lower case alike; from -2**63, as SQLite has its integers."""
    digest = blake2b(text.lower().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def digits_of(text: str) -> str | None:
    """The digits of a number without what is written between them; None if it is none."""
    if _is_number(text) is None:
        return None
    digits = _not_digits.sub("", text)
    return digits if len(digits) >= DIGITS else None


def number_term(digits: str) -> int:
    """The hash by which a number is found."""
    return term("#" + digits[-DIGITS:])


def same_number(one: str, other: str) -> bool:
    """Whether two numbers are the same, as far as the shorter one says.

    A trunk prefix, the 0 or 00 of a national or international number, does not count.
    """
    one, other = one.lstrip("0"), other.lstrip("0")
    return one.endswith(other) or other.endswith(one)


def ip_of(address: str) -> str:
    """The IP address of ``IP:PORT``."""
    return address.rpartition(":")[0].strip("[]")
