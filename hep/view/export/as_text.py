"""A call as text: verdict, ladder, messages. Pure."""

from dataclasses import replace
from typing import Final

from hep.view.export.content import Content
from hep.view.export.masks import decoded
from hep.view.export.plain import one_line, plain, since, time_text
from hep.view.model.picture import Ladder, Step, Verdict
from hep.view.model.summary import Tone

NARROWEST: Final = 20
"""Characters from a column to the next one. With less room the ladder is a list."""

WIDEST: Final = 48
"""Characters from a column to the next one that are enough."""

_TIME: Final = 10
"""Characters of the times at the left."""

_COLOURS: Final[dict[Tone, str]] = {
    "good": "\x1b[32m",
    "bad": "\x1b[31m",
    "warn": "\x1b[33m",
    "info": "\x1b[36m",
    "quiet": "\x1b[2m",
}
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"
_UNICODE: Final = "│─▶◀┄…"
_ASCII: Final = "|-><.~"


def text_ladder(
    ladder: Ladder,
    verdict: Verdict | None = None,
    width: int = 100,
    colour: bool = False,
    *,
    ascii_only: bool = False,
) -> str:
    """Draw a ladder with characters.

    Args:
        ladder: the picture.
        verdict: stands above it; None for none.
        width: characters of a line, 40 or more.
        colour: whether to colour the arrows, with escape sequences of terminals.
        ascii_only: whether to draw with ASCII alone. Names and labels keep their characters.

    Returns:
        lines, each with its end. Nothing in them acts on a terminal but the colours.
    """
    signs = _ASCII if ascii_only else _UNICODE
    lines: list[str] = []
    if verdict is not None:
        said = one_line(verdict.text)
        lines += [f"{_BOLD}{said}{_PLAIN}" if colour else said, *map(one_line, verdict.notes), ""]
    if not ladder.steps:
        return "".join(f"{line}\n" for line in [*lines, "No messages."])
    count = len(ladder.parties)
    apart = min(WIDEST, (width - _TIME) // max(count, 1))
    if apart >= NARROWEST:
        at = [_TIME + apart // 2 + number * apart for number in range(count)]
        lines += _heads(ladder, at, apart, signs)
        row = _row
    else:
        at = []
        lines += [_listed(ladder, number) for number in range(count)] + [""]
        row = _list_row
    first = ladder.steps[0].at
    for step in ladder.steps:
        said = row(ladder, step, at, signs, width)
        line = f"{since(step.at, first):>{_TIME - 1}} {said[_TIME:]}".rstrip()
        if colour and (sign := _COLOURS.get(step.tone)):
            line = f"{sign}{line}{_PLAIN}"
        lines.append(line)
    if ladder.left_out:
        lines += ["", f"Keep-alives that are not shown: {ladder.left_out}."]
    return "".join(f"{line}\n" for line in lines)


def _heads(ladder: Ladder, at: list[int], apart: int, signs: str) -> list[str]:
    rows: list[list[str]] = [[], [], []]
    for party in ladder.parties:
        name = one_line(party.name)
        address = one_line(party.addresses[0]) if party.addresses else ""
        rows[0].append(name)
        rows[1].append(address if address != name else "")
        rows[2].append(one_line(party.user_agent))
    lines = []
    for row in rows:
        if any(row):
            cut = [_cut(text, apart - 2, signs).center(apart) for text in row]
            lines.append(" " * _TIME + "".join(cut).rstrip())
    return [line.rstrip() for line in lines]


def _listed(ladder: Ladder, number: int) -> str:
    party = ladder.parties[number]
    words = map(one_line, [party.name, *party.addresses[:1], party.user_agent])
    return f"{number + 1:>3}  " + "  ".join(filter(None, dict.fromkeys(words)))


def _said(step: Step) -> str:
    text = one_line(step.label)
    if step.detail:
        text += f" ({one_line(step.detail)})"
    if step.retransmission_of is not None:
        text += " again"
    if step.out_of_order:
        text += " late"
    return text


def _list_row(ladder: Ladder, step: Step, at: list[int], signs: str, width: int) -> str:
    arrow = "->" if step.kind == "sip" else "*"
    said = f"{step.source + 1} {arrow} {step.destination + 1}  {_said(step)}"
    return " " * _TIME + _cut(said, width - _TIME, signs)


def _row(ladder: Ladder, step: Step, at: list[int], signs: str, width: int) -> str:
    bar, line, right, left, dots = (*signs[:5],)
    row = [" "] * (at[-1] + 1)
    for column in at:
        row[column] = bar
    low, high = sorted((at[step.source], at[step.destination]))
    text = _said(step)
    if step.kind != "sip" or low == high:
        # It has the room up to the right end, and begins further left if it needs more.
        text = _cut(f"{dots} {text}", width - _TIME, signs)
        start = max(_TIME, min(low + 2, width - len(text)))
        row[start : start + len(text) + 1] = list(f"{text} ")
        return "".join(row)
    row[low + 1 : high] = line * (high - low - 1)
    if step.source < step.destination:
        row[high - 1] = right
    else:
        row[low + 1] = left
    room = high - low - 5
    if len(text) > room and step.detail:
        # The label says more than the second line.
        text = _said(replace(step, detail="SDP" if step.has_sdp else ""))
    text = _cut(text, room, signs)
    start = low + 3 + (room - len(text)) // 2
    row[start : start + len(text)] = list(text)
    return "".join(row)


def _cut(text: str, room: int, signs: str) -> str:
    return text if len(text) <= room else text[: max(0, room - 1)] + signs[5]


def as_text(content: Content) -> bytes:
    """Write a call as text."""
    call = content.call
    lines = [
        f"Call-ID: {one_line(call.call_id)}",
        f"Time: {time_text(call.first)}",
        "",
        text_ladder(content.ladder, content.verdict),
        "",
    ]
    for number, record in enumerate(content.records, 1):
        head = (
            f"--- {number}  {time_text(record.at)}  {one_line(record.src)} > {one_line(record.dst)}"
        )
        lines += [f"{head}  {record.kind.name}", plain(decoded(record.payload)).rstrip("\n"), ""]
    if content.left_out:
        lines.append(f"Messages that are left out: {content.left_out}.")
    return "\n".join(lines).encode()
