"""Searches for a call and prints what became of it."""

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

from hep.cli import view_client, why_text
from hep.cli.usage import DONE, FAILED, WrongInputError, print_error
from hep.cli.view_client import ViewClient, ViewerError
from hep.cli.why_sources import ShownCall, Source, ViewerSource, captures, store_on_disk
from hep.cli.why_text import Style
from hep.view.export.pseudonyms import Pseudonyms
from hep.view.model.summary import ConnectionSummary
from hep.view.store.query import Found

MOST_ROWS: Final = 20
"""Rows of the table, unless all calls are asked for."""

MOST_CONNECTIONS: Final = 5
"""Connections of a user that are named where there is no call."""

MOST_ADDRESSES: Final = 3
"""Addresses of a user whose refused handshakes are looked for."""

_BAD: Final = ("rejected", "failed", "lost")


def answer(args: argparse.Namespace) -> int:
    """Answer ``hep why``.

    Args:
        args: the parsed arguments, which are checked and have a width.

    Returns:
        the exit status: `FAILED` if nothing was found.

    Raises:
        WrongInputError: an argument is wrong, or the place to search cannot be read.
    """
    style = _style(args)
    source = _source(args)
    try:
        found = _Answer(args, source)
        if args.json:
            _print_json(found)
        else:
            _print_text(found, style)
    except ViewerError as exc:
        raise WrongInputError(str(exc)) from exc
    return DONE if found.is_found else FAILED


def _source(args: argparse.Namespace) -> Source:
    if args.files:
        return captures(args.files, lambda problem: print_error("hep", problem))
    if args.store is not None:
        return store_on_disk(args.store)
    client = view_client.from_arguments(args)
    if args.url is None and not _answers(client):
        raise WrongInputError(
            f"no hep view answers at {client.url}: name a capture, --store DIR, or the address of"
            " one with --url"
        )
    return ViewerSource(client)


def _answers(client: ViewClient) -> bool:
    """Whether something is there. What it refuses is said by the first question."""
    try:
        client.get("status")
    except view_client.RefusedError:
        return True
    except ViewerError:
        return False
    return True


def _style(args: argparse.Namespace) -> Style:
    """How it is printed: with colours on a terminal alone."""
    is_terminal = sys.stdout.isatty()
    return Style(
        width=args.width,
        colour=is_terminal and has_colours(),
        ascii_only=args.ascii or not _has_lines(sys.stdout.encoding),
    )


def has_colours() -> bool:
    """Whether the terminal may get colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _has_lines(encoding: str | None) -> bool:
    try:
        "│─▶◀┄…→".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Answer:
    """What was found.

    Args:
        args: of the command.
        source: is searched.

    Raises:
        WrongInputError: there is no call with the number that is asked for.
        ViewerError: the viewer does not answer.
    """

    def __init__(self, args: argparse.Namespace, source: Source) -> None:
        self.args = args
        self.source = source
        self.today = datetime.now()
        self.found = source.search(args.text)
        exact = [call for call in self.found.calls if call.call_id == args.text.strip()]
        if exact:
            self.found = Found(exact, [], [], self.found.complete)
        self.calls = self.found.calls
        self.connections = self.found.connections
        self.is_found = bool(self.calls or self.connections)
        self.refused = self._refused()
        self.chosen = self._chosen()

    @property
    def has_calls(self) -> bool:
        """Whether one of the rows is a call, and not a registration or the like."""
        return any(call.kind == "call" for call in self.calls)

    def _chosen(self) -> list[int]:
        """Indices of the calls that are drawn, the latest at the end."""
        args, calls = self.args, self.calls
        if args.number is not None and calls:
            if args.number > len(calls):
                raise WrongInputError(
                    f"--number {args.number} is beyond the calls that are found: there are"
                    f" {len(calls)}"
                )
            return [args.number - 1]
        if args.all or args.last is not None:
            return [*range(len(calls) if args.all else min(args.last, len(calls)))][::-1]
        # A registration that goes well says less than a call before it.
        telling = (
            place for place, call in enumerate(calls) if call.kind == "call" or call.outcome in _BAD
        )
        return [next(telling, 0)] if calls else []

    def _refused(self) -> list[ConnectionSummary]:
        """Refused handshakes from the addresses of the connections, after each one's latest."""
        since: dict[str, int] = {}
        for each in self.connections:
            if each.leg == "client" and each.state in ("open", "closed"):
                address = each.peer.rpartition(":")[0]
                since[address] = max(since.get(address, 0), each.until or each.since)
        found: list[ConnectionSummary] = []
        for address, time in [*since.items()][:MOST_ADDRESSES]:
            if address:
                found += [
                    each for each in self.source.refused(f"{address}:", time) if each.since >= time
                ]
        return found

    def shown(self) -> list[tuple[int, ShownCall]]:
        """The calls that are drawn, each with its index."""
        read = (
            (place, self.source.call(self.calls[place].call_id, anonymous=self.args.anonymous))
            for place in self.chosen
        )
        return [(place, shown) for place, shown in read if shown is not None]


def _print_json(answer: _Answer) -> None:
    """Print what was found as an object on one line of ASCII."""
    extent = answer.source.extent()
    document: dict[str, Any] = {
        "format": "hep-why",
        "version": 1,
        "searched": {"where": answer.source.where, **asdict(extent)},
        "complete": answer.found.complete,
        "found": {"calls": len(answer.calls), "connections": len(answer.connections)},
        # Their rows have names.
        **({} if answer.args.anonymous else _rows(answer)),
        "shown": [shown.document for _, shown in answer.shown()],
    }
    # `json.dumps` escapes all control characters except DEL.
    print(json.dumps(document).replace("\x7f", r"\u007f"))


def _rows(answer: _Answer) -> dict[str, Any]:
    return {
        "sought": answer.args.text,
        "calls": [asdict(call) for call in answer.calls],
        "connections": [asdict(each) for each in answer.connections],
        "refused": [asdict(each) for each in answer.refused],
    }


def _print_text(answer: _Answer, style: Style) -> None:
    args, today = answer.args, answer.today
    if not answer.is_found:
        extent = answer.source.extent()
        print_error("hep", why_text.nothing(args.text, answer.source.where, extent, today))
        return
    parts: list[list[str]] = []
    drawn = answer.shown()
    for place, shown in drawn:
        # The row cannot know what became of the connections later.
        row, outcome = answer.calls[place], shown.verdict.outcome
        if row.outcome == "open" and outcome != "open":
            ended = row.ended or ("connection lost" if outcome == "lost" else outcome)
            answer.calls[place] = replace(row, outcome=outcome, ended=ended)
    if len(answer.calls) > 1:
        parts.append(_table(answer, style))
    if answer.connections:
        most = 1 if answer.has_calls else MOST_CONNECTIONS
        lines = why_text.connections(answer.connections, answer.refused, today, style, most)
        parts.append(_without_names(lines, answer) if args.anonymous else lines)
    for place, shown in drawn:
        number = place + 1 if len(answer.calls) > 1 else None
        lines = [*why_text.head(shown, today, style, number), ""]
        lines += why_text.picture(shown, style)
        if args.messages:
            lines += why_text.messages(shown, style)
        parts.append(lines)
    print("\n\n".join("\n".join(lines) for lines in parts if lines))


def _table(answer: _Answer, style: Style) -> list[str]:
    args, calls = answer.args, answer.calls
    if args.anonymous:
        # Each call has names of its own then.
        return [f"{len(calls)} found; --number N draws another one than the latest."]
    rows = calls if args.all else calls[: max(MOST_ROWS, *(place + 1 for place in answer.chosen))]
    lines = why_text.table(rows, answer.today, style)
    if len(rows) < len(calls):
        lines.append(f"{len(calls) - len(rows)} earlier ones: --all")
    if not answer.found.complete:
        lines.append("There are more; name the Call-ID, or more of the text.")
    return lines


def _without_names(lines: list[str], answer: _Answer) -> list[str]:
    names = Pseudonyms()
    for each in [*answer.connections, *answer.refused]:
        names.collect_text(f"<sip:{each.aor}>" if each.aor else "")
        names.add("user", each.aor.partition("@")[0])
        for address in (each.peer, each.local, each.client):
            names.collect_address(address)
    names.close()
    return [names.text(line) for line in lines]
