"""A call as a Mermaid sequence diagram, which GitHub, GitLab and chats render. Pure.

Mermaid has no quotes. All but letters, digits and some marks is written as ``#N;``, its way to
write a character by number, so that no text ends a line, begins a comment or is markup.
"""

import re
from typing import Final

from hep.view.export.content import Content
from hep.view.export.plain import one_line, since
from hep.view.model.picture import Party, Step

LONGEST_DIAGRAM: Final = 45_000
"""Characters. Mermaid renders 50,000 by default (``maxTextSize``)."""

LONGEST_LABEL: Final = 100
"""Characters of a text in a diagram."""

MOST_PARTIES: Final = 40
"""Columns. A diagram with more cannot be read."""

_MARKS: Final = frozenset(" .,()/_=-'")
_END: Final = re.compile(r"(?i)(?<![A-Za-z0-9])e(?=nd(?![A-Za-z0-9]))")


def escaped(text: str) -> str:
    """A text as Mermaid takes it, on one line; never empty.

    Args:
        text: any text; what is longer than `LONGEST_LABEL` is cut.
    """
    text = one_line(text)
    if len(text) > LONGEST_LABEL:
        text = text[: LONGEST_LABEL - 1] + "…"
    # The word "end" closes a block in some places.
    marked = {found.start() for found in _END.finditer(text)}
    parts = []
    for number, character in enumerate(text):
        is_kept = character in _MARKS or (character.isascii() and character.isalnum())
        parts.append(character if is_kept and number not in marked else f"#{ord(character)};")
    return "".join(parts).strip() or "-"


def as_mermaid(content: Content) -> bytes:
    """Write a call as a sequence diagram."""
    ladder = content.ladder
    parties = ladder.parties[:MOST_PARTIES] or [Party("no messages", "unknown")]
    lines = ["sequenceDiagram"]
    for number, party in enumerate(parties):
        texts = dict.fromkeys([party.name, *party.addresses[:1], party.user_agent])
        shown = "<br/>".join(escaped(text) for text in texts if text)
        lines.append(f"    participant p{number} as {shown or '-'}")
    lines.append(f"    Note over {_over(0, len(parties) - 1)}: {escaped(content.verdict.text)}")
    size = sum(map(len, lines)) + len(lines)
    first = ladder.steps[0].at if ladder.steps else 0
    for number, step in enumerate(ladder.steps):
        if max(step.source, step.destination) >= len(parties):
            continue
        line = _line(step, first)
        size += len(line) + 1
        if size > LONGEST_DIAGRAM:
            rest = len(ladder.steps) - number
            lines.append(f"    Note over {_over(0, len(parties) - 1)}: {rest} more are left out")
            break
        lines.append(line)
    return ("\n".join(lines) + "\n").encode()


def _over(first: int, last: int) -> str:
    return f"p{first}" if first == last else f"p{first},p{last}"


def _line(step: Step, first: int) -> str:
    text = step.label
    if step.detail:
        text += f" ({step.detail})"
    if step.retransmission_of is not None:
        text += " again"
    text = f"{since(step.at, first)} {text}"
    if step.kind != "sip":
        low, high = sorted((step.source, step.destination))
        return f"    Note over {_over(low, high)}: {escaped(text)}"
    arrow = "-->>" if step.status else "->>"
    return f"    p{step.source}{arrow}p{step.destination}: {escaped(text)}"
