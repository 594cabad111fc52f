"""The filter-route language: OpenSIPS script that decides whether a connection is traced.

Example::

    script = Script.parse('route[ws_filter] { if ($sp == 8000) exit; else drop; }')
    decide = script.decider("ws_filter")
    decide(Subject(si="192.0.2.5", sp=8000, socket_ip="10.0.0.1", socket_port=80))  # True: traced

A script is parsed and compiled once; a decision is a call. The parser (lark) is imported when the
first script is parsed.
"""

from collections.abc import Callable
from typing import Self

from sipws.tracing.filter.subject import Subject

__all__ = ["Script", "Subject"]


class Script:
    """A parsed script: its routes, by name. Made by `parse`."""

    def __init__(self, deciders: dict[str, Callable[[Subject], bool]]) -> None:
        self._deciders = deciders

    @classmethod
    def parse(cls, text: str, *, filename: str = "<script>") -> Self:
        """Read a script.

        Args:
            text: the script.
            filename: what messages call it.

        Raises:
            FilterRouteError: OpenSIPS would not start with it; the message has the place, the
                line and a caret.
        """
        from sipws.tracing.filter import compiler, parser

        deciders: dict[str, Callable[[Subject], bool]] = {}
        for route in parser.parse(text, filename):
            try:
                if route.name in deciders:
                    raise compiler.Unknown(route.place, f"route[{route.name}] is there twice")
                deciders[route.name] = compiler.compile_route(route)
            except compiler.Unknown as exc:
                raise parser.error(text, filename, exc.place, exc.problem) from None
        return cls(deciders)

    @property
    def routes(self) -> tuple[str, ...]:
        """The names of its routes."""
        return tuple(self._deciders)

    def decider(self, route: str) -> Callable[[Subject], bool]:
        """The decision of a route: True traces the connection, False drops it.

        A route that the script does not have traces every connection, as with OpenSIPS.
        """
        return self._deciders.get(route, lambda subject: True)
