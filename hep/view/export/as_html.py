"""A call as one HTML file to attach to a ticket: no script, nothing loaded. Pure."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final

from hep.view.export.content import Content
from hep.view.export.masks import decoded
from hep.view.export.plain import one_line, plain, since, time_text
from hep.view.model.picture import Ladder, Step

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8888; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700;
  --info: #0969da; --quiet: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --warn: #d29922;
  --info: #58a6ff; --quiet: #8b949e; } }
body { font: 14px/1.5 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.2rem; margin: 0 0 .5rem; }
p, dl { margin: .3rem 0; }
.verdict { font-weight: 600; font-size: 1.05rem; }
.picture { overflow-x: auto; }
svg text { font: 12px ui-monospace, monospace; fill: currentColor; }
svg .name { font-weight: 600; }
svg .small { opacity: .7; font-size: 10px; }
svg .column { stroke: var(--line); }
svg .good { stroke: var(--good); fill: var(--good); }
svg .bad { stroke: var(--bad); fill: var(--bad); }
svg .warn { stroke: var(--warn); fill: var(--warn); }
svg .info { stroke: var(--info); fill: var(--info); }
svg .quiet { stroke: var(--quiet); fill: var(--quiet); }
svg text.good, svg text.bad, svg text.warn, svg text.info, svg text.quiet { stroke: none; }
details { border-top: 1px solid var(--line); padding: .2rem 0; }
summary { cursor: pointer; font-family: ui-monospace, monospace; font-size: 12px; }
pre { overflow-x: auto; font: 12px/1.4 ui-monospace, monospace; margin: .3rem 0 .6rem 1rem; }
"""

_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    f"{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)

_LEFT: Final = 90
"""Pixels of the times at the left."""
_APART: Final = 230
"""Pixels from a column to the next one."""
_TOP: Final = 64
"""Pixels of the names above."""
_ROW: Final = 26
"""Pixels of a row."""
_LONGEST: Final = 60
"""Characters of a text in the picture; the rest is in the message."""


def as_html(content: Content) -> bytes:
    """Write a call as an HTML file."""
    call, verdict = content.call, content.verdict
    title = one_line(f"{call.method or 'Call'} {call.from_user} > {call.to_user}")
    parts = [
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n",
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
        f"<h1>{_text(title)}</h1>\n<p class='verdict'>{_text(verdict.text)}</p>\n",
        *(f"<p>{_text(note)}</p>\n" for note in verdict.notes),
        f"<p>Call-ID: <code>{_text(call.call_id)}</code>, {time_text(call.first)}</p>\n",
        "<div class='picture'>\n",
        *_svg(content.ladder),
        "</div>\n",
    ]
    if content.ladder.left_out:
        parts.append(f"<p>Keep-alives that are not shown: {content.ladder.left_out}.</p>\n")
    parts.append("<h1>Messages</h1>\n")
    for number, record in enumerate(content.records, 1):
        payload = plain(decoded(record.payload))
        first = payload.lstrip("\n").partition("\n")[0][:200]
        head = f"{number}  {time_text(record.at)}  {record.src} > {record.dst}  {first}"
        parts.append(
            f"<details><summary>{_text(head)}</summary><pre>{escape(payload)}</pre></details>\n"
        )
    if content.left_out:
        parts.append(f"<p>Messages that are left out: {content.left_out}.</p>\n")
    parts.append("</body>\n</html>\n")
    return "".join(parts).encode()


def _text(text: str, longest: int = 4_096) -> str:
    text = one_line(text)
    return escape(text if len(text) <= longest else text[: longest - 1] + "…")


def _svg(ladder: Ladder) -> list[str]:
    width = _LEFT + _APART * max(1, len(ladder.parties))
    height = _TOP + _ROW * len(ladder.steps) + 10
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' role='img'>\n"
    ]
    for number, party in enumerate(ladder.parties):
        x = _x(number)
        address = party.addresses[0] if party.addresses else ""
        texts = [("name", party.name), ("small", address if address != party.name else "")]
        texts.append(("small", party.user_agent))
        for row, (kind, text) in enumerate(texts):
            y = 16 + row * 15
            shown = _text(text, 34)
            parts.append(
                f"<text class='{kind}' x='{x}' y='{y}' text-anchor='middle'>{shown}</text>"
            )
        parts.append(f"<line class='column' x1='{x}' x2='{x}' y1='{_TOP - 8}' y2='{height}'/>\n")
    first = ladder.steps[0].at if ladder.steps else 0
    for number, step in enumerate(ladder.steps):
        parts.append(_arrow(step, _TOP + _ROW * number + 18, first))
    parts.append("</svg>\n")
    return parts


def _x(column: int) -> int:
    return _LEFT + _APART // 2 + column * _APART


def _arrow(step: Step, y: int, first: int) -> str:
    start, end = _x(step.source), _x(step.destination)
    middle = (start + end) // 2
    text = step.label + (f" ({step.detail})" if step.detail else "")
    if step.retransmission_of is not None:
        text += " again"
    whole = f"<title>{_text(text)}</title>"
    room = max(34, abs(end - start) // 7 - 2)
    shown = _text(text, min(room, _LONGEST) if step.kind == "sip" else _LONGEST)
    parts = [f"<text class='small' x='4' y='{y}'>{since(step.at, first)}</text>"]
    if step.kind == "sip" and start != end:
        back = 6 if start < end else -6
        dashes = " stroke-dasharray='5 3'" if step.status else ""
        parts.append(
            f"<line class='{step.tone}' x1='{start}' x2='{end}' y1='{y}' y2='{y}'{dashes}/>"
        )
        points = f"{end},{y} {end - back},{y - 4} {end - back},{y + 4}"
        parts.append(f"<polygon class='{step.tone}' points='{points}'/>")
    else:
        parts.append(f"<circle class='{step.tone}' cx='{start}' cy='{y - 4}' r='3'/>")
    place = f"x='{middle}' y='{y - 5}' text-anchor='middle'"
    parts.append(f"<text class='{step.tone}' {place}>{whole}{shown}</text>\n")
    return "".join(parts)
