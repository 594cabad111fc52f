"""What Homer 7 loses, alters or hides of a packet, from the model in `hep.homer`. Pure.

A finding that depends on the setting ``ForceHEPPayload`` of heplify-server names it. Without the
setting, the JSON of a network event is stored as text, and its fields cannot be searched. With it,
the JSON must be valid for PostgreSQL.
"""

import re
from dataclasses import dataclass
from typing import Final

from hep.cli.lint_finding import Finding, Severity
from hep.codec.any_version import decode
from hep.codec.chunks import ProtocolType, protocol_name
from hep.errors import HepDecodeError
from hep.homer import jsonb
from hep.homer.fate import EVENT, Fate, fate
from hep.homer.reasons import Reason
from hep.homer.rows import EVENTS_TABLE, Row

FORCED: Final = "ForceHEPPayload = [89]"
"""The setting with which events are stored as JSON."""

NOT_FORCED: Final = "ForceHEPPayload unset"
"""The setting with which events are stored as text."""

OLDER: Final = "heplify-server before 2026"
"""The versions that do not remove an empty line before the start line of SIP."""

SEARCHABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Names of fields that homer-app 1.5.16 and later searches for. It leaves others out of the query
silently, so that the search returns rows that do not match."""

NOT_SEARCHED: Final = ("Ws-Request", "Ws-Reply")
"""Keys of OpenSIPS that hold whole HTTP messages. Their searchable parts have keys of their own."""

MOST_KEYS: Final = 5
"""Keys that a finding names."""

LONGEST_KEY: Final = 40
"""Characters of a key that a finding shows."""

_NO_TIME: Final = 1_800_000_000
"""Time of arrival of a packet that has no time, when the real one is not known."""


@dataclass(frozen=True, slots=True)
class Fates:
    """What becomes of a packet with each setting of ``ForceHEPPayload``."""

    default: Fate
    """Its fate if events are stored as text."""
    forced: Fate
    """Its fate if events are stored as JSON."""

    def by_setting(self, forced: bool | None) -> list[tuple[str | None, Fate]]:
        """The fates that differ, each with its setting.

        Args:
            forced: whether events are stored as JSON; None if that is not known.
        """
        if forced is not None:
            return [(None, self.forced if forced else self.default)]
        if self.default.row is self.forced.row or self.default.row is None:
            return [(None, self.default)]
        return [(NOT_FORCED, self.default), (FORCED, self.forced)]


def fates(data: bytes, transport: str, now: float | None) -> Fates:
    """Predict the fate of a packet.

    Args:
        data: the packet as sent.
        transport: ``udp``, ``tcp`` or ``tls``.
        now: time of arrival in seconds since the epoch. None: the packet arrived when it says, so
            that only a time that heplify-server misreads is wrong.
    """
    arrived = now if now is not None else _own_time(data)
    default = fate(data, transport, now=arrived)
    if default.row is None or default.row.table != EVENTS_TABLE:
        return Fates(default, default)
    forced = fate(data, transport, now=arrived, events_as_json=True)
    return Fates(default, default if forced.row == default.row else forced)


def findings(found: Fates, forced: bool | None) -> list[Finding]:
    """List what Homer 7 loses, alters or hides of a packet.

    Args:
        found: the fates of the packet.
        forced: whether events are stored as JSON; None if that is not known.
    """
    by_setting = found.by_setting(forced)
    listed = _lost(by_setting)
    altered = found.default.altered
    listed += [Finding(each.rule, Severity.ALTERED, each.what, each.remedy) for each in altered]
    for setting, each in by_setting:
        if each.row is not None and each.stored:
            as_json = each is found.forced and each.protocol_type == EVENT
            listed += _hidden(each.row, each.protocol_type, setting, as_json)
    return list(dict.fromkeys(listed))


def _lost(by_setting: list[tuple[str | None, Fate]]) -> list[Finding]:
    everywhere: set[Reason] = set.intersection(*(set(each.lost) for _, each in by_setting))
    return [
        Finding(
            reason.rule,
            Severity.LOST,
            reason.what,
            reason.remedy,
            next(iter(each.poisoned_tables), None),
            None if reason in everywhere else setting,
        )
        for setting, each in by_setting
        for reason in each.lost
    ]


def _own_time(data: bytes) -> float:
    """The time that the sender meant."""
    try:
        return decode(data).seconds or _NO_TIME
    except HepDecodeError:
        return _NO_TIME


def _hidden(row: Row, protocol_type: int, setting: str | None, as_json: bool) -> list[Finding]:
    """What cannot be found of a stored row."""
    if protocol_type == ProtocolType.SIP and row.raw[:1] in (b"\r", b"\n"):
        what = "SIP with an empty line before its start line is refused"
        remedy = "leave the empty line out (RFC 3261 section 7.5), or update heplify-server"
        return [Finding("crlf-before-sip", Severity.HIDDEN, what, remedy, setting=OLDER)]
    if row.table != EVENTS_TABLE:
        return []
    name = protocol_name(protocol_type)
    what = f"{name} has no mapping"
    remedy = f"load a mapping for {EVENTS_TABLE}, where it is stored (sipws homer install)"
    listed = [Finding("unmapped", Severity.HIDDEN, what, remedy)]
    payload = row.data_header if as_json else row.raw
    members = jsonb.members((payload or b"").decode())
    if members is None:
        return listed
    if as_json:
        keys = dict.fromkeys(each.key for each in members if not _is_searchable(each.key))
        if keys:
            more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
            named = ", ".join(ascii(key[:LONGEST_KEY])[1:-1] for key in [*keys][:MOST_KEYS])
            listed.append(
                Finding(
                    "json-keys",
                    Severity.HIDDEN,
                    f"homer-app cannot search the keys {named}{more}: it leaves the field out of"
                    " the query silently",
                    "use letters, digits and _ in keys"
                    ' (sipws: trace_keys = "underscore", the default)',
                    setting=setting,
                )
            )
    elif not any(each.key == "event" and each.value for each in members):
        what = "the payload has no key event in lower case: the flow labels its arrow generic"
        remedy = 'add a label, such as "event": "WS CLOSED 1006"'
        listed.append(Finding("event-label", Severity.HIDDEN, what, remedy, setting=setting))
    return listed


def _is_searchable(key: str) -> bool:
    return key in NOT_SEARCHED or SEARCHABLE.fullmatch(key) is not None
