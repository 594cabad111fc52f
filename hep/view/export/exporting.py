"""Writes a call in one of five formats. Pure."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

from hep.view.export.as_html import as_html
from hep.view.export.as_json import as_json
from hep.view.export.as_mermaid import as_mermaid
from hep.view.export.as_pcap import as_pcap
from hep.view.export.as_text import as_text
from hep.view.export.content import Content, content
from hep.view.model.picture import Ladder, Verdict
from hep.view.model.record import Record
from hep.view.model.summary import CallSummary

Format = Literal["pcap", "text", "json", "mermaid", "html"]

FORMATS: Final[tuple[Format, ...]] = get_args(Format)
"""What a call is written as."""

MEDIA_TYPES: Final[dict[Format, tuple[str, str]]] = {
    "pcap": ("application/vnd.tcpdump.pcap", "pcap"),
    "text": ("text/plain; charset=utf-8", "txt"),
    "json": ("application/json", "json"),
    "mermaid": ("text/plain; charset=utf-8", "mmd"),
    "html": ("text/html; charset=utf-8", "html"),
}
"""Of each format the media type, and the ending of a file's name."""

_WRITERS: Final[dict[Format, Callable[[Content], bytes]]] = {
    "pcap": as_pcap,
    "text": as_text,
    "json": as_json,
    "mermaid": as_mermaid,
    "html": as_html,
}


def export(
    call: CallSummary,
    verdict: Verdict,
    ladder: Ladder,
    records: Sequence[Record],
    format: Format,  # noqa: A002 - the interface of the viewer calls it so
    *,
    anonymous: bool = False,
) -> bytes:
    """Write a call to a file. Never raises, whatever the packets hold.

    Args:
        call: the call.
        verdict: what became of it.
        ladder: its picture.
        records: its packets, in the order of their times.
        format: one of `FORMATS`.
        anonymous: whether to replace users, display names, numbers, hosts and IP addresses by
            made-up ones, each by the same one everywhere. Values of headers that are not known,
            texts of messages and log lines of others are left out then.

    Returns:
        the bytes of the file, without credentials.
    """
    return _WRITERS[format](content(call, verdict, ladder, records, anonymous=anonymous))
