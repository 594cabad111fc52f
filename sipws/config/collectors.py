"""Settings that a collector cannot take: warnings, each with the value and the remedy. Pure.

A collector sends no answers, so packets that it loses are missing silently. Homer 7 also loses
other packets with them: it writes rows in batches, and a row that its database refuses ends its
whole batch (docs/homer.md).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from hep import HepId
from sipws.config.tracing import Hep, TraceSection

_ESCAPED: Final = frozenset({'"', "\\", *map(chr, range(0x20))})
"""Characters that JSON text has only as escapes. Homer 7 writes the key without escapes."""


def collector_warnings(
    hep: Hep, traces: Iterable[tuple[TraceSection, Iterable[HepId]]]
) -> Iterator[str]:
    """Find the settings with which collectors lose packets, or show them wrongly.

    Args:
        hep: the section ``[hep]``.
        traces: each section with a ``trace_destination``, and its collectors.
    """
    key = hep.hep_auth_key.get_secret_value() if hep.hep_auth_key is not None else ""
    if found := sorted(_ESCAPED & set(key)):
        names = ", ".join(map(_named, found))
        yield (
            f"hep_auth_key contains {names}: Homer 7 then loses every packet; use a key without"
            " quotation marks, backslashes and control characters"
        )
    is_event_traced = False
    for section, collectors in traces:
        is_event_traced = is_event_traced or section.trace_events
        for collector in collectors:
            yield from _version_warnings(section, collector)
        if section.trace_sip and section.trace_sip_format == "json":
            names = ", ".join(map(repr, section.trace_destination))
            yield (
                f"trace_sip_format is 'json' for trace_destination {names}: Homer 7 stores no SIP"
                " message in JSON; set trace_sip_format = 'raw'"
            )
        if section.trace_events and section.writes_text(hep):
            names = ", ".join(map(repr, section.trace_destination))
            yield (
                f"homer5_on is true for trace_destination {names}: Homer 7 stores events as text,"
                " whose fields cannot be searched, or loses them with their batch if"
                " ForceHEPPayload has 89; set homer5_on = false (0 in an opensips.cfg)"
            )
    if hep.hep_when_too_long == "compress":
        yield (
            "hep_when_too_long is 'compress': Homer does not store compressed packets; set"
            " hep_when_too_long = 'truncate'"
        )
    if hep.hep_ip_protocol == "opensips":
        yield (
            "hep_ip_protocol is 'opensips': Homer 7 shows the packets as UDP; set hep_ip_protocol ="
            " 'tcp'"
        )


def _version_warnings(section: TraceSection, collector: HepId) -> Iterator[str]:
    if collector.version == 2:
        yield (
            f"trace_destination {str(collector)!r} has version=2: Homer 7 reads its time and its"
            " capture id wrongly and loses other packets with it; use version=3"
        )
    elif collector.version == 1 and section.trace_events:
        yield (
            f"trace_destination {str(collector)!r} has version=1, which has no protocol type:"
            " collectors take events for SIP, and Homer stores none of them; use"
            " version=3, or set trace_events = false"
        )


def _named(character: str) -> str:
    """A character in a message: readable, and harmless to a terminal."""
    return f"the control character {character!r}" if character < " " else f"'{character}'"
