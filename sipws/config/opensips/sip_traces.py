"""The ``trace_id`` parameters of tracer and the calls of ``trace()``, as tracing of SIP."""

from collections.abc import Sequence
from typing import Final

from sipws.config.opensips.modparams import Parameter
from sipws.config.opensips.report import Line, Report
from sipws.tracing.filter.syntax.lexer import Token, unquote

_EVERY: Final = (
    "sipws traces all messages over ws and wss, whatever the conditions around the call;"
    " trace_methods and trace_sample choose some"
)


class SipTraces:
    """Collects the parameters of tracer and the calls of ``trace()``.

    Args:
        report: gets the lines and the errors.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._on = True
        self._ids: dict[str, list[tuple[str, Line]]] = {}
        """Name of a HEP id and line, by trace id."""
        self._names: set[str] = set()
        """All trace ids, also those that are no HEP."""
        self._called: dict[str, list[Line]] = {}

    def take(self, parameter: Parameter) -> None:
        """Take a parameter of tracer."""
        line = parameter.line
        if parameter.name == "trace_on":
            self._on = bool(parameter.value)
        elif parameter.name != "trace_id":
            line.drop("it is about tracing to a database, a file or the system log")
        else:
            self._trace_id(str(parameter.value), parameter, line)

    def _trace_id(self, text: str, parameter: Parameter, line: Line) -> None:
        name, bracket, rest = text.strip().removeprefix("[").partition("]")
        if not text.strip().startswith("[") or not bracket or not name.strip():
            self._report.refuse(
                parameter.at, f"trace_id is written [NAME]uri=hep:HEP_ID, not {text!r}"
            )
            return
        uri = next(
            (part.partition("=")[2].strip() for part in rest.split(";") if _is_uri(part)), None
        )
        if uri is None:
            self._report.refuse(parameter.at, f"trace_id {name.strip()!r} has no uri=")
            return
        self._names.add(name.strip())
        if uri[:4].lower() != "hep:":
            line.drop("sipws traces SIP to HEP collectors only; name a hep_id")
            return
        self._ids.setdefault(name.strip(), []).append((uri[4:].strip(), line))

    def call(self, tokens: Sequence[Token]) -> None:
        """Take a call of ``trace()`` in a route.

        Args:
            tokens: from the word to the closing bracket.
        """
        line = self._report.line(tokens)
        given = _arguments(tokens)
        if not given or given[0] is None:
            line.drop("its trace_id is known at run time only; set trace_sip and trace_destination")
        elif given[0] not in self._names:
            line.drop(f"there is no trace_id {given[0]!r}")
        elif given[0] not in self._ids:
            line.drop("sipws traces SIP to HEP collectors only; name a hep_id")
        elif len(given) > 2 and given[2] and "sip" not in given[2].lower().split("|"):
            line.drop("it traces no SIP, and sipws has nothing else of it")
        elif not self._on:
            line.drop("trace_on of tracer is 0")
        else:
            line.change(_EVERY)
            self._called.setdefault(given[0], []).append(line)

    def destinations(self, hep_ids: Sequence[str]) -> tuple[str, ...]:
        """The names of the HEP ids to which SIP is traced.

        Args:
            hep_ids: the names that are there.
        """
        found: dict[str, None] = {}
        for trace_id, targets in self._ids.items():
            for name, line in targets:
                if name not in hep_ids:
                    line.drop(f"there is no hep_id {name!r}")
                elif trace_id not in self._called:
                    line.drop("no route calls trace() with it, or tracing is off")
                else:
                    found[name] = None
        return tuple(found)


def _is_uri(part: str) -> bool:
    return part.partition("=")[0].strip().lower() == "uri"


def _arguments(tokens: Sequence[Token]) -> list[str | None]:
    """The arguments of a call: texts; None for one that is no plain text."""
    found: list[str | None] = []
    parts: list[Token] = []
    depth = 0
    for token in tokens[2:]:
        depth += (token.kind == "_LPAR") - (token.kind == "_RPAR")
        if depth < 0 or (depth == 0 and token.kind == "_COMMA"):
            is_text = len(parts) == 1 and parts[0].kind == "STRING"
            text = unquote(parts[0].text) if is_text else None
            # A text may hold variables, which are known at run time.
            found.append("" if not parts else None if text and "$" in text else text)
            parts = []
        else:
            parts.append(token)
    return found
