"""What shows in a stream of packets and not in one packet. Pure."""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from hep.cli.doctor_report import STREAM
from hep.cli.lint_finding import Finding, Severity
from hep.homer import jsonb
from hep.homer.fate import EVENT, Fate
from hep.homer.rows import EVENTS_TABLE

FLUSH_INTERVAL: Final = 1.0
"""heplify-server sets its timer to this after each packet for `EVENTS_TABLE`, in seconds."""

STARVED: Final = 5.0
"""Seconds without a second of silence between events after which they are reported. By default
heplify-server writes what it has after 4 s (``DBTimer``)."""

DEDUP_WINDOW: Final = 0.5
"""Two packets with the same payload are one to heplify-server with ``Dedup = true`` if their times
differ by less, in seconds."""

MOST_PAYLOADS: Final = 10_000
"""Payloads that are remembered for `DEDUP_WINDOW`. Beyond it the oldest are forgotten."""

SKEW: Final = 5.0
"""Difference between the time of a packet and its arrival that is reported, in seconds."""


class StreamState:
    """What is remembered of earlier packets."""

    def __init__(self) -> None:
        self._busy_since: float | None = None
        self._last_event = 0.0
        self._payloads: OrderedDict[bytes, float] = OrderedDict()

    def see(self, fate: Fate, payload: bytes, now: float) -> list[tuple[str, Finding]]:
        """Examine a packet in its place in the stream.

        Args:
            fate: what becomes of it in Homer 7.
            payload: its payload.
            now: time of arrival in seconds since the epoch.

        Returns:
            findings, each with its label: ``homer7`` or `STREAM`.
        """
        found = [("homer7", self._flush(fate, now)), ("homer7", self._repeated(fate, payload))]
        found += [(STREAM, _clock(fate, now)), (STREAM, _lost_report(fate, payload))]
        return [(label, finding) for label, finding in found if finding is not None]

    def _flush(self, fate: Fate, now: float) -> Finding | None:
        """Events so frequent that the timer of heplify-server does not expire."""
        if fate.row is None or fate.row.table != EVENTS_TABLE:
            return None
        if self._busy_since is None or not 0 <= now - self._last_event < FLUSH_INTERVAL:
            self._busy_since = now
        self._last_event = now
        if now - self._busy_since < STARVED:
            return None
        return Finding(
            "flush-timer",
            Severity.HIDDEN,
            f"events come for {STARVED:g} s without a second of silence: each one restarts the"
            " timer of heplify-server, which stores nothing until then, SIP neither, unless it has"
            " DBBulk rows for a table (with n DBWorker, 1/n s without an event suffices)",
            "set a low DBBulk in heplify-server, or trace fewer events",
        )

    def _repeated(self, fate: Fate, payload: bytes) -> Finding | None:
        """A payload that was seen a moment ago."""
        if fate.row is None:
            return None
        digest = blake2b(payload, digest_size=16).digest()
        before = self._payloads.get(digest)
        if before is not None and abs(fate.row.time - before) < DEDUP_WINDOW:
            return Finding(
                "dedup",
                Severity.HIDDEN,
                f"the payload is that of a packet less than {DEDUP_WINDOW:g} s before, which is"
                " dropped, whatever its correlation id",
                "leave Dedup off, or make the texts differ, such as by the Call-ID",
                setting="Dedup = true",
            )
        self._payloads[digest] = fate.row.time
        self._payloads.move_to_end(digest)
        if len(self._payloads) > MOST_PAYLOADS:
            self._payloads.popitem(last=False)
        return None


def _clock(fate: Fate, now: float) -> Finding | None:
    if fate.row is None or abs(skew := fate.row.time - now) < SKEW:
        return None
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        Severity.ALTERED,
        f"the time of the packet is {abs(skew):,.0f} s {direction} the clock of this machine",
        "synchronise the clocks (NTP)",
    )


def _lost_report(fate: Fate, payload: bytes) -> Finding | None:
    """The report of a sender that it lost packets."""
    if fate.protocol_type != EVENT or b"LOST" not in payload:
        return None
    members = jsonb.members(payload.decode(errors="replace")) or []
    texts = {each.key: each.value for each in members}
    if (texts.get("Protocol"), texts.get("Event")) != ("HEP", "LOST"):
        return None
    count = texts.get("Packets") or ""
    count = count if count.isascii() and count.isdecimal() else "some"
    return Finding(
        "lost-report",
        Severity.LOST,
        f"the sender reports that it lost {count} packets before this one",
        "see Error_Detail and From in the event, and the queue and the connection of the sender",
    )
