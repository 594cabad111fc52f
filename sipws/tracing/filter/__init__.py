"""The filter-route language: OpenSIPS script that decides whether a connection is traced.

Example::

    script = Script.parse('route[ws_filter] { if ($sp == 8000) exit; else drop; }')
    decide = script.decider("ws_filter")
    decide(Subject(si="192.0.2.5", sp=8000, socket_ip="10.0.0.1", socket_port=80))  # True: traced

A script is parsed and compiled once. A decision is one function call. The parser (lark) is imported
when the first script is parsed. `docs/filter-routes.md` describes the language.
"""

from sipws.errors import Diagnostic, FilterRouteError
from sipws.tracing.filter.evaluation.callables import load_callable
from sipws.tracing.filter.evaluation.subject import Outcome, Socket, Subject
from sipws.tracing.filter.script import Decider, Script

__all__ = [
    "Decider",
    "Diagnostic",
    "FilterRouteError",
    "Outcome",
    "Script",
    "Socket",
    "Subject",
    "load_callable",
]
