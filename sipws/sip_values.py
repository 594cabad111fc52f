"""Values of SIP headers: lists, addresses, parameters, CSeq. Pure.

Nothing here raises on what a peer sent. What has not the form of RFC 3261 section 25.1 is read as
far as it goes, and work is linear in characters.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from hep.sip import COMPACT_FORMS

_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_quoted: Final = re.compile(_QUOTED, re.DOTALL).match
_parameters: Final = re.compile(
    rf";\s*+([^;=\s]++)\s*+(?:=\s*+({_QUOTED}|[^;]*+))?+", re.DOTALL
).finditer
_escaped: Final = re.compile(r"\\(.)", re.DOTALL)
_cseq: Final = re.compile(r"0*+([0-9]{1,10})[ \t]++([-!%*.+`'~_0-9A-Za-z]++)").fullmatch
_CSEQ_END: Final = 2**32
"""A sequence number has 32 bits (RFC 3261 section 20.16)."""


class CSeq(NamedTuple):
    """The value of CSeq (RFC 3261 section 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> "CSeq | None":
        """Read a value; None where it is not a number of 32 bits and a method."""
        match = _cseq(text)
        if match is None or (number := int(match[1])) >= _CSEQ_END:
            return None
        return cls(number, match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class NameAddress:
    """One value of From, To, Contact, Route and the like (RFC 3261 section 20.10)."""

    display_name: str
    """Without its quotes; empty where there is none."""

    uri: str
    """Without angle brackets; ``*`` of a Contact that stands for all."""

    parameters: Mapping[str, str]
    """Of the header, not of the URI, by name in lower case. The value of one without a value is
    empty. Of a parameter that comes twice the first one counts."""

    @classmethod
    def parse(cls, text: str) -> "NameAddress":
        """Read a value. Every text is one; what is no address has it all in `uri`."""
        text = text.strip()
        name, rest = "", text
        if (match := _quoted(text)) is not None:
            name, rest = unquoted(match[0]), text[match.end() :].lstrip()
        before, bracket, behind = rest.partition("<")
        if bracket and ";" not in before:
            uri, _, parameters = behind.partition(">")
            name = name or before.strip()
        else:
            # Without angle brackets parameters belong to the header (section 20.10).
            uri, semicolon, parameters = rest.partition(";")
            parameters = semicolon + parameters
        return cls(name, uri.strip(), parameters_of(parameters))

    @property
    def tag(self) -> str | None:
        """The tag of a From or a To; None where there is none."""
        return self.parameters.get("tag") or None


def parameters_of(text: str) -> dict[str, str]:
    """The parameters in a text such as ``;tag=1;lr``; see `NameAddress.parameters`."""
    found: dict[str, str] = {}
    for match in _parameters(text):
        value = (match[2] or "").strip()
        found.setdefault(match[1].lower(), unquoted(value) if value[:1] == '"' else value)
    return found


def unquoted(text: str) -> str:
    """A quoted string without its quotes and escapes; any other text as it is."""
    match = _quoted(text)
    if match is None or match.end() != len(text):
        return text
    return _escaped.sub(r"\1", text[1:-1])


class Headers(Mapping[str, str]):
    """The headers of a message, by name: in upper or lower case, in the long or compact form.

    ``headers["Via"]`` is the value of the first line of that name.

    Args:
        lines: the values of each header, by its name in lower case and in its long form.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Mapping[str, list[str]]) -> None:
        self._lines = lines

    def __getitem__(self, name: str) -> str:
        if values := self.get_all(name):
            return values[0]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """The names, in lower case and in their long form, in order."""
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of a header, in order; empty where there is none."""
        name = name.lower()
        return list(self._lines.get(COMPACT_FORMS.get(name, name), ()))

    def get_list(self, name: str) -> list[str]:
        """The values of a header that is a list, such as Contact or Allow.

        Those of several lines and those between commas are the same (RFC 3261 section 7.3.1).
        """
        return [each for line in self.get_all(name) for each in split_values(line)]

    def __repr__(self) -> str:
        return f"Headers({self._lines!r})"


def split_values(header: str) -> list[str]:
    """Split a header value at its commas, except those in quotes or in angle brackets."""
    if "," not in header:
        return [only] if (only := header.strip()) else []
    values, start, quoted, bracketed, escaped = [], 0, False, False, False
    for index, character in enumerate(header):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character in "<>":
            bracketed = character == "<"
        elif character == "," and not bracketed:
            values.append(header[start:index].strip())
            start = index + 1
    values.append(header[start:].strip())
    return [value for value in values if value]


def split_value(header: bytes) -> list[bytes]:
    """Split a header value in bytes as `split_values` does."""
    return [each.encode("latin-1") for each in split_values(header.decode("latin-1"))]
