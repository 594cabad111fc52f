"""What ``hep why`` prints, as text. Pure."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from hep.cli.display import width_of
from hep.cli.why_sources import Extent, ShownCall
from hep.cli.why_words import clock, how, local, party, what
from hep.view.export import text_ladder
from hep.view.export.plain import one_line, plain
from hep.view.model.durations import spoken
from hep.view.model.record import MICROSECONDS
from hep.view.model.summary import CallSummary, ConnectionSummary

LONGEST: Final = 400
"""Characters of a Call-ID or a name in a line that is not fitted to a terminal."""

COLOURS: Final = {"ok": "32", "open": "36", "cancelled": "33", "rejected": "33", "failed": "31",
                  "lost": "31"}  # fmt: skip
"""Colours of outcomes, as numbers of terminals."""

_BOLD: Final = "1"
_DIM: Final = "2"


@dataclass(frozen=True, slots=True)
class Style:
    """How text is printed."""

    width: int | None = None
    """Columns of a line; None does not cut lines."""
    colour: bool = False
    """Whether there are colours."""
    ascii_only: bool = False
    """Whether lines and arrows are ASCII."""

    def paint(self, text: str, *colours: str) -> str:
        """Colour a text.

        Args:
            text: the text.
            colours: numbers of terminals; empty ones for none.
        """
        painted = ";".join(filter(None, colours))
        return f"\x1b[{painted}m{text}\x1b[0m" if self.colour and painted and text else text

    def cut(self, text: str, width: int) -> str:
        """Fit a text into columns; a longer one ends in an ellipsis."""
        if width_of(text) <= width:
            return text
        ellipsis = "~" if self.ascii_only else "…"
        kept, left = "", width - 1
        for char in text:
            left -= width_of(char)
            if left < 0:
                break
            kept += char
        return kept + ellipsis

    def wrapped(self, text: str, indent: str = "") -> list[str]:
        """A sentence as lines, further ones indented."""
        if self.width is None or width_of(text) <= self.width:
            return [text]
        return textwrap.wrap(
            text, self.width, subsequent_indent=indent, break_on_hyphens=False
        ) or [""]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    """What stands above it."""
    least: int
    """Columns that it has at least, where the table is too wide."""
    sort: Literal["left", "right"] = "left"
    """Where its texts stand."""


def table(calls: Sequence[CallSummary], today: datetime, style: Style, first: int = 1) -> list[str]:
    """A table of calls.

    Args:
        calls: the latest first.
        today: any time of today.
        style: how it is printed.
        first: number of the first row.
    """
    kinds = any(call.kind != "call" for call in calls)
    columns = [Column("", 1, "right"), Column("time", 8), Column("from", 6), Column("to", 6)]
    if kinds:
        columns.append(Column("what", 9))
    columns += [Column("outcome", 9), Column("ended by", 10), Column("Call-ID", 8)]
    rows = []
    for number, call in enumerate(calls, first):
        row = [
            str(number),
            clock(call.first, today),
            party(call.from_user, call.from_host),
            party(call.to_user, call.to_host),
        ]
        if kinds:
            row.append(what(call))
        row += [one_line(call.outcome), how(call), one_line(call.call_id)]
        rows.append([text[:LONGEST] for text in row])
    widths = _widths(columns, rows, style)
    outcome = len(columns) - 3
    lines = [_line([column.title for column in columns], columns, widths, style, _DIM, -1)]
    for call, row in zip(calls, rows, strict=True):
        colour = COLOURS.get(call.outcome, "")
        lines.append(_line(row, columns, widths, style, colour, outcome))
    return lines


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], style: Style) -> list[int]:
    """Columns of each column: as its texts need, and less of the widest if there is no room."""
    widths = [
        max(width_of(text) for text in (column.title, *(row[place] for row in rows)))
        for place, column in enumerate(columns)
    ]
    if style.width is None:
        return widths
    excess = sum(widths) + 2 * (len(columns) - 1) - style.width
    while excess > 0:
        place = max(range(len(columns)), key=lambda each: widths[each] - columns[each].least)
        if widths[place] <= columns[place].least:
            break
        widths[place] -= 1
        excess -= 1
    return widths


def _line(
    texts: Sequence[str],
    columns: Sequence[Column],
    widths: Sequence[int],
    style: Style,
    colour: str,
    only: int,
) -> str:
    cells = []
    for place, (text, column, width) in enumerate(zip(texts, columns, widths, strict=True)):
        cut = style.cut(text, width)
        space = " " * (width - width_of(cut))
        if place == len(columns) - 1:
            space = ""
        cell = style.paint(cut, colour if only in (-1, place) else "")
        cells.append(space + cell if column.sort == "right" else cell + space)
    line = "  ".join(cells).rstrip()
    return style.cut(line, style.width) if style.width is not None and not style.colour else line


def connections(
    found: Sequence[ConnectionSummary],
    refused: Sequence[ConnectionSummary],
    today: datetime,
    style: Style,
    most: int,
) -> list[str]:
    """What became of connections, a line each.

    Args:
        found: the connections, the latest first.
        refused: refused and failed handshakes from their addresses since.
        today: any time of today.
        style: how it is printed.
        most: connections that are named.
    """
    lines: list[str] = []
    own = [each for each in found if each.leg == "client"] or [*found]
    good = [each for each in own if each.state in ("open", "closed")]
    for each in good[:most]:
        colour = COLOURS["open"] if each.state == "open" else COLOURS["failed"]
        said = style.wrapped(connection(each, today), "  ")
        lines += [style.paint(line, colour if each.state == "open" or _is_bad(each) else "")
                  for line in said]  # fmt: skip
    if len(good) > most:
        count = len(good) - most
        lines.append(f"{count} earlier connection{'s' if count > 1 else ''}.")
    known = {each.id for each in own}
    handshakes = [each for each in own if each not in good]
    handshakes += [each for each in refused if each.id not in known]
    lines += [style.paint(line, COLOURS["failed"])
              for said in refusals(handshakes, today, since=bool(good))
              for line in style.wrapped(said, "  ")]  # fmt: skip
    return lines


def _is_bad(each: ConnectionSummary) -> bool:
    return each.code not in (1000, 1001) or bool(each.error)


def connection(each: ConnectionSummary, today: datetime) -> str:
    """What became of a connection, as a sentence."""
    who = one_line(each.aor or each.user_agent) or "A client"
    text = f"{who}: connected from {one_line(each.peer)} "
    if each.state == "open":
        return f"{text}since {clock(each.since, today)}."
    text += f"{clock(each.since, today)} to {clock(each.until, today)}, closed"
    if each.code:
        text += f" {each.code}"
    by = {"peer": " by the peer", "local": " by the server"}
    text += by.get(each.closed_by, "")
    said = one_line(each.reason or each.error_detail or each.error)
    return f"{text}: {said.rstrip('.')}." if said else f"{text}."


def refusals(handshakes: Iterable[ConnectionSummary], today: datetime, *, since: bool) -> list[str]:
    """Refused and failed handshakes, a sentence for each address and reason.

    Args:
        handshakes: the latest first.
        today: any time of today.
        since: whether they came after a connection that is named before.
    """
    counts: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], int] = {}
    for each in handshakes:
        verb = "refused" if each.state == "refused" else "handshake failed:"
        status = str(each.status) if each.status and each.state == "refused" else ""
        why = one_line(each.error or each.reason)
        key = ip_of(each.peer), " ".join(filter(None, (verb, status, why))).rstrip(":")
        counts[key] += 1
        last[key] = max(last.get(key, 0), each.since)
    return [
        f"{address or 'A client'}: {reason} {_times(count)}{' since' if since else ''}, "
        f"{'last ' if count > 1 else ''}at {clock(last[address, reason], today)}."
        for (address, reason), count in counts.most_common(5)
    ]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def ip_of(address: str) -> str:
    """The IP address of an ``IP:PORT``."""
    return one_line(address).rpartition(":")[0]


def head(shown: ShownCall, today: datetime, style: Style, number: int | None = None) -> list[str]:
    """What stands above the verdict of a call.

    Args:
        shown: the call.
        today: any time of today.
        style: how it is printed.
        number: its number in the table; None without one.
    """
    call = shown.call
    parties = [
        one_line(f"{user}@{host}" if user else host) or "-"
        for user, host in ((call.from_user, call.from_host), (call.to_user, call.to_host))
    ]
    kind = "Call" if call.kind == "call" else call.kind.capitalize()
    arrow = "->" if style.ascii_only else "→"
    who = parties[0] if call.kind == "registration" else f"{parties[0]} {arrow} {parties[1]}"
    count = f"{call.messages} message" + ("s" if call.messages != 1 else "")
    span = f"{clock(call.first, today)}, {count}"
    if call.last - call.first >= MICROSECONDS:
        span += f" in {spoken(call.last - call.first)}"
    first = f"{number}. " if number is not None else ""
    lines = style.wrapped(f"{first}{kind} {who}, {span}", "  ")
    return [
        *(style.paint(line, _BOLD) for line in lines),
        style.paint(f"Call-ID {one_line(call.call_id)}", _DIM),
    ]


def picture(shown: ShownCall, style: Style) -> list[str]:
    """The verdict and the ladder of a call.

    Args:
        shown: the call.
        style: how it is printed.
    """
    colour = COLOURS.get(shown.verdict.outcome, "")
    lines = [
        style.paint(line, _BOLD, colour) for line in style.wrapped(one_line(shown.verdict.text))
    ]
    for note in shown.verdict.notes:
        lines += style.wrapped(one_line(note))
    drawn = text_ladder(
        shown.ladder,
        width=style.width or 100,
        colour=style.colour,
        ascii_only=style.ascii_only,
    )
    lines += ["", *drawn.rstrip("\n").split("\n")]
    if shown.missing:
        lines += ["", f"{shown.missing} later messages are not drawn."]
    return lines


def messages(shown: ShownCall, style: Style) -> list[str]:
    """The messages of a call, without credentials."""
    lines: list[str] = []
    for number, each in enumerate(shown.messages, 1):
        when = local(each.at)
        time = f"{when:%H:%M:%S.%f}" if when is not None else str(each.at)
        addresses = f"{one_line(each.src)} > {one_line(each.dst)}"
        title = f"--- {number}  {time}  {addresses}  {one_line(each.kind)}"
        lines += ["", style.paint(title, _BOLD), *plain(each.text).rstrip("\n").split("\n")]
    return lines


def nothing(text: str, where: str, extent: Extent, today: datetime) -> str:
    """Say that nothing was found.

    Args:
        text: what was searched for.
        where: what was searched.
        extent: how much that holds.
        today: any time of today.
    """
    sought = one_line(text)
    if not extent.packets:
        return (
            f"nothing found of {sought!r}: {where} has no packets with SIP or events. Is something"
            " traced to it? A capture must hold SIP that is not encrypted, or HEP"
        )
    noun = "packet" if extent.packets == 1 else "packets"
    between = f"from {clock(extent.oldest, today)} to {clock(extent.newest, today)}"
    return (
        f"nothing found of {sought!r} in {where}: {extent.packets} {noun} {between}. Try the user"
        " alone, the last digits of the number, the IP address of the phone, or the Call-ID as the"
        " message has it; hep top shows what comes in"
    )
