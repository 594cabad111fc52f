"""The one family of exceptions that sipws raises.

.. code-block:: text

    SipwsError
    ├── ConfigurationError      a user's setting, file or command-line value is wrong
    │   ├── AddressError        a listener definition or an address does not parse
    │   └── FilterRouteError    a filter-route script is refused
    └── TransportError          an operation on a connection cannot be done
        └── ConnectionClosedError

Faults of the network are events on the bus, never exceptions. What is raised here is a user's
mistake (the message names the thing, its value and the remedy) or a call that cannot be honoured.
"""


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


class FilterRouteError(ConfigurationError):
    """A filter-route script is refused: OpenSIPS would not start with it."""

    def __init__(self, filename: str, line: int, column: int, problem: str, excerpt: str) -> None:
        super().__init__(filename, line, column, problem, excerpt)
        self.filename = filename
        self.line = line
        """From 1."""
        self.column = column
        """From 1."""
        self.problem = problem
        """What is wrong."""
        self.excerpt = excerpt
        """The line, and a caret under the place."""

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}:{self.column}: error: {self.problem}\n{self.excerpt}"
