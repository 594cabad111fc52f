"""HEP destinations in the syntax of OpenSIPS (proto_hep parameter ``hep_id``). Pure."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from hep.errors import HepIdError

Transport = Literal["udp", "tcp", "tls", "unix"]
"""Transport of HEP. ``unix`` is a stream between processes of one program. `HepId.parse` rejects
it."""

PORT: Final = 9060
"""Default port of HEP collectors."""

FORM: Final = "[name]host[:port][; transport=udp|tcp|tls][; version=1|2|3]"
"""Syntax of a HEP id, for messages."""

_NAME: Final = re.compile(r"\s*\[\s*([^\]\s]+)\s*\]\s*(?=\S)")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:;\s]+))(?::([0-9]+))?")

_PORT_DIGITS: Final = 5
"""Digits of the greatest port, 65535."""


@dataclass(frozen=True, slots=True)
class HepId:
    """A HEP destination: host, port, transport and version."""

    host: str
    """IP address or host name; IPv6 without brackets. With transport unix the path of a socket."""
    port: int = PORT
    """Port, 1 to 65535."""
    transport: Transport = "tcp"
    """``udp``, ``tcp``, ``tls`` or ``unix``."""
    version: int = 3
    """HEP version: 1, 2 or 3."""
    name: str | None = None
    """The name that other settings refer to (OpenSIPS ``trace_destination``)."""

    @classmethod
    def parse(cls, text: str, default_port: int = PORT) -> "HepId":
        """Parse ``[name]host[:port][; transport=udp|tcp|tls][; version=1|2|3]``.

        Spaces are allowed. The parameters may have any order. A ``;`` may end the text. IPv6 hosts
        are in brackets. Text in brackets at the start is the name, unless it contains a colon. The
        default transport is tcp for version 3 and udp for versions 1 and 2, which allow no other.

        Args:
            text: the HEP id (OpenSIPS proto_hep parameter ``hep_id``).
            default_port: port of a HEP id without one, 1 to 65535 (OpenSIPS ``hep_port``).

        Returns:
            the destination.

        Raises:
            HepIdError: the text does not have this syntax. The message names the wrong part.
        """
        name = None
        rest = text
        if (match := _NAME.match(text)) and ":" not in match[1]:
            name, rest = match[1], text[match.end() :]
        where, *parameters = (part.strip() for part in rest.split(";"))
        if (match := _HOST.fullmatch(where)) is None:
            raise _refused(text, f"{where!r} is not host[:port]")
        digits = (match[3] or "").lstrip("0")
        # Python refuses to read thousands of digits.
        port = int(digits or 0) if len(digits) <= _PORT_DIGITS else -1
        port = port if match[3] else default_port
        if not 0 < port <= 0xFFFF:
            raise _refused(text, f"port {match[3] or port} is not in 1 to 65535")
        values: dict[str, str] = {}
        for index, parameter in enumerate(parameters, 1):
            key, equals, value = (part.strip().lower() for part in parameter.partition("="))
            if not parameter and index == len(parameters):
                continue
            if key not in _VALUES or not equals:
                raise _refused(text, f"{parameter!r} is neither transport=… nor version=…")
            if value not in _VALUES[key]:
                raise _refused(text, f"{key} {value!r} is not one of {', '.join(_VALUES[key])}")
            if key in values:
                raise _refused(text, f"{key} occurs twice")
            values[key] = value
        version = int(values.get("version", "3"))
        transport = values.get("transport", "tcp" if version == 3 else "udp")
        if version != 3 and transport != "udp":
            raise _refused(text, f"version {version} needs transport=udp, not {transport}")
        host = match[1] or match[2]
        return cls(host, port, transport, version, name)  # type: ignore[arg-type]

    def __str__(self) -> str:
        name = f"[{self.name}]" if self.name is not None else ""
        if self.transport == "unix":
            return f"{name}{self.host};transport=unix"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{name}{host}:{self.port};transport={self.transport};version={self.version}"


_VALUES: Final = {"transport": ("udp", "tcp", "tls"), "version": ("1", "2", "3")}


def _refused(text: str, problem: str) -> HepIdError:
    return HepIdError(f"hep_id {text!r}: {problem}; use {FORM}")
