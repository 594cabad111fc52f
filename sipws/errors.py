"""The one family of exceptions that sipws raises.

.. code-block:: text

    SipwsError
    ├── ConfigurationError      a user's setting, file or command-line value is wrong
    │   ├── AddressError        a listener definition or an address does not parse
    │   └── FilterRouteError    a filter-route script is refused
    └── TransportError          an operation on a connection cannot be done
        ├── ConnectError        there is no connection to a destination
        └── ConnectionClosedError

Faults of the network are events on the bus. What is raised here is a user's mistake (the message
names the thing, its value and the remedy) or a call that cannot be honoured; a connect that
fails is both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sipws.events import ErrorKind


class SipwsError(Exception):
    """The root: ``except SipwsError`` catches all that sipws raises."""


class ConfigurationError(SipwsError):
    """A setting, a file or a command-line value is wrong; the message says which and what to do."""


class AddressError(ConfigurationError):
    """A listener definition, an address or a port does not parse."""


class TransportError(SipwsError):
    """An operation on a connection or a listener cannot be done."""


class ConnectionClosedError(TransportError):
    """Something was to be sent on a connection that is closing or closed."""


class ConnectError(TransportError):
    """A connect came to nothing; the message says where to, why, and what to do about it."""

    def __init__(
        self,
        destination: str,
        kind: "ErrorKind",
        detail: str,
        remedy: str,
        *,
        status: int | None = None,
        reply: bytes = b"",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(destination, kind, detail, remedy)
        self.destination = destination
        """The destination's URL, without its query."""
        self.kind = kind
        """What went wrong, as on the bus."""
        self.detail = detail
        """What went wrong, for a person to read."""
        self.remedy = remedy
        """What may help."""
        self.status = status
        """The HTTP status of a server that refused the handshake."""
        self.reply = reply
        """What a server sent for an answer, as far as it came and is kept."""
        self.retry_after = retry_after
        """Seconds for which the server asked to be left alone (``Retry-After``), an hour at most;
        None where it did not ask."""

    def __str__(self) -> str:
        return f"cannot connect to {self.destination}: {self.detail}; {self.remedy}"


class TracePointError(SipwsError):
    """A trace cannot be started, or there is none to stop."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing in a file of the user's that is wrong, or allowed but most likely not meant."""

    filename: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    severity: Literal["error", "warning"]
    problem: str
    """What is wrong, and where there is one, the remedy."""
    excerpt: str
    """The line, and carets under the place."""

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {self.problem}\n{self.excerpt}"


class FilterRouteError(ConfigurationError):
    """A filter-route script is refused: OpenSIPS would not start with it."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(*diagnostics)
        self.diagnostics = tuple(diagnostics)
        """All that is wrong, in the order of the script."""

    def __str__(self) -> str:
        return "\n".join(str(diagnostic) for diagnostic in self.diagnostics)
