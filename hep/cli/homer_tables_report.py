"""What became of the probes of ``hep doctor --postgres``: each of them, and all together. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from hep.cli.homer_probes import DAY, EVENTS, TABLES, HomerProbe
from hep.codec.chunks import ProtocolType
from hep.codec.packet import Packet

LONGEST_SHOWN: Final = 60
"""Characters that are shown of a value."""

CLOCK: Final = 60.0
"""Seconds that the clocks of the database and of this machine may differ."""

SLOW: Final = 5.0
"""Seconds until a row is there beyond which a smaller ``DBTimer`` is proposed."""

DAYS: Final = {-1: "yesterday", 0: "now", 1: "tomorrow"}
"""The days for which a Homer in order has partitions."""


class Row(Protocol):
    """A row of a table; see `hep.cli.homer_tables.Row`."""

    @property
    def table(self) -> str: ...  # noqa: D102
    @property
    def sid(self) -> str: ...  # noqa: D102
    @property
    def created(self) -> float: ...  # noqa: D102
    @property
    def protocol_header(self) -> Any: ...  # noqa: D102
    @property
    def data_header(self) -> Any: ...  # noqa: D102
    @property
    def raw(self) -> str: ...  # noqa: D102


class Partitioned(Protocol):
    """A table; see `hep.cli.homer_tables.Table`."""

    def takes(self, time: float) -> bool:
        """Whether a row of this time can be stored."""


@dataclass(slots=True)
class Fate:
    """What became of a probe."""

    probe: HomerProbe
    row: Row | None = None
    delay: float | None = None
    """Seconds from the last packet of its round until its row was found."""

    @property
    def altered(self) -> list[str]:
        """The differences between what was sent and what is stored."""
        return [] if self.row is None else list(differences(self.probe, self.row))

    def as_object(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "probe": self.probe.name,
            "sent": True,
            "stored": self.row is not None,
            "table": None if self.row is None else self.row.table,
            "delay": self.delay if self.delay is None else round(self.delay, 3),
            "altered": self.altered,
            "remedy": self.probe.if_lost if self.row is None else "",
        }


def differences(probe: HomerProbe, row: Row) -> Iterator[str]:
    """Compare a row with what was sent."""
    packet = probe.packet
    if row.table != probe.table:
        yield f"table is {row.table}, not {probe.table}"
    if probe.sids and row.sid != probe.sids[0]:
        yield f"sid is {_shown(row.sid)}, sent as {_shown(probe.sids[0])}"
    if is_forced(packet, row):
        yield f"raw is {_shown(row.raw)}; the payload is in data_header"
        yield from _differences_of_values(row.data_header, packet.payload)
    elif row.raw.encode() != packet.payload:
        raw, payload = _where_they_differ(row.raw.encode(), packet.payload)
        yield f"raw is {_shown(raw)}, sent as {_shown(payload)}"
    if abs(row.created - probe.seconds) > 1:
        yield f"create_date is {row.created - probe.seconds:+.0f} s from the time that was sent"
    header = row.protocol_header if isinstance(row.protocol_header, dict) else {}
    for name, sent in _header(packet).items():
        stored = header.get(name)
        if sent is not None and str(stored) != str(sent):
            yield f"protocol_header.{name} is {_shown(stored)}, sent as {_shown(sent)}"
    if "capturePass" in header:
        yield f"protocol_header.capturePass has the key in clear: {_shown(header['capturePass'])}"


def _header(packet: Packet) -> dict[str, str | int | None]:
    """What protocol_header has of a packet."""
    correlation_id = packet.correlation_id
    return {
        "srcIp": packet.src_ip,
        "dstIp": packet.dst_ip,
        "srcPort": packet.src_port,
        "dstPort": packet.dst_port,
        "protocol": packet.ip_protocol,
        "payloadType": packet.protocol_type,
        "timeSeconds": packet.seconds,
        "captureId": packet.capture_id,
        "correlation_id": None if correlation_id is None else _text(correlation_id),
    }


def is_forced(packet: Packet, row: Row) -> bool:
    """Whether a row has the payload of its packet in ``data_header`` (ForceHEPPayload)."""
    if packet.protocol_type != ProtocolType.NET or row.raw == _text(packet.payload):
        return False
    return isinstance(row.data_header, dict) and "node" not in row.data_header


def _differences_of_values(stored: Any, payload: bytes) -> Iterator[str]:
    try:
        sent = json.loads(payload, strict=False)
    except ValueError:
        return
    if not isinstance(stored, dict) or not isinstance(sent, dict):
        return
    for name in {**sent, **stored}:
        if stored.get(name) != sent.get(name):
            was = _shown(stored.get(name))
            yield f"data_header.{_shown(name)} is {was}, sent as {_shown(sent.get(name))}"


def _where_they_differ(stored: bytes, sent: bytes) -> tuple[bytes, bytes]:
    """Two payloads from shortly before their first difference."""
    same = 0
    while same < min(len(stored), len(sent)) and stored[same] == sent[same]:
        same += 1
    start = max(0, same - LONGEST_SHOWN // 3)
    mark = "…".encode() if start else b""
    return mark + stored[start:], mark + sent[start:]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        value = _text(value)
    text = value if isinstance(value, str) else json.dumps(value)
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


@dataclass(slots=True)
class Diagnosis:
    """The settings of the collector, as far as they show, and what should be changed."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Names of settings with their values; None for what does not show."""
    remarks: list[str] = field(default_factory=list)
    """The same for users."""
    faults: list[str] = field(default_factory=list)
    """What loses packets, with the remedy."""
    advice: list[str] = field(default_factory=list)
    """What else may be changed."""


def diagnose(
    fates: Sequence[Fate], tables: Mapping[str, Partitioned], now: float, database_now: float
) -> Diagnosis:
    """Conclude from the fates of all probes.

    Args:
        fates: of the probes that were sent.
        tables: the tables of the database by name.
        now: the time of this machine in seconds since the epoch.
        database_now: the time of the database.
    """
    found = Diagnosis()
    by_key = {fate.probe.key: fate for fate in fates}
    stored = [fate for fate in fates if fate.row is not None]
    _about_storing(found, fates, by_key)
    if stored:
        _about_events(found, by_key)
        _about_repeats(found, by_key)
    _about_partitions(found, tables, now)
    _about_delays(found, stored)
    if abs(database_now - now) > CLOCK:
        found.faults.append(
            f"the clock of the database differs by {database_now - now:+.0f} s; times outside of"
            " the partitions lose their batch: set the clocks"
        )
    if (key := by_key.get("key")) and key.row is not None:
        header = key.row.protocol_header
        if isinstance(header, dict) and "capturePass" in header:
            found.advice.append(
                "authenticate keys are stored in clear with each row: leave hep_auth_key empty for"
                " this collector"
            )
    return found


def _about_storing(found: Diagnosis, fates: Sequence[Fate], by_key: dict[str, Fate]) -> None:
    usual = [fate for fate in fates if fate.probe.usual]
    lost = [fate for fate in usual if fate.row is None]
    if usual and len(lost) == len(usual):
        found.faults.append(
            "nothing was stored here: check that heplify-server writes to this database, look for"
            " ERR in its log, and raise --wait if its DBTimer is longer"
        )
        return
    for fate in lost:
        if fate.probe.key == "log-again" and by_key["log"].row is not None:
            # Explained by Dedup.
            continue
        found.faults.append(
            f"not stored: {fate.probe.name}; look for ERR in the log of heplify-server, and raise"
            " --wait if other packets keep its timer running"
        )


def _about_events(found: Diagnosis, by_key: dict[str, Fate]) -> None:
    event = by_key.get("event")
    forced = event_is_forced(by_key.values())
    found.settings["ForceHEPPayload_89"] = forced
    if event is None or forced is None:
        found.remarks.append("ForceHEPPayload: unknown, no event was stored")
    elif forced:
        found.remarks.append("ForceHEPPayload: with 89; fields of events can be searched")
        found.advice.append(
            "with ForceHEPPayload, events must be JSON that jsonb takes: leave homer5_on off"
        )
    else:
        found.remarks.append("ForceHEPPayload: without 89; no field of an event can be searched")
        found.advice.append("set ForceHEPPayload = [89] to search events by their fields")


def event_is_forced(fates: Iterable[Fate]) -> bool | None:
    """Whether events are written as ``jsonb``; None if none was stored.

    Args:
        fates: of all probes.
    """
    for fate in fates:
        if fate.probe.key in ("event", "event-ours") and fate.row is not None:
            return is_forced(fate.probe.packet, fate.row)
    return None


def _about_repeats(found: Diagnosis, by_key: dict[str, Fate]) -> None:
    first, again = by_key.get("log"), by_key.get("log-again")
    if first is None or again is None or (first.row is None and again.row is None):
        found.settings["Dedup"] = None
        return
    dedup = first.row is None or again.row is None
    found.settings["Dedup"] = dedup
    found.remarks.append(f"Dedup: {'on' if dedup else 'off'}")
    if dedup:
        found.faults.append(
            "Dedup drops a payload that comes twice: of several calls on a connection only the"
            " first gets its log line; set Dedup = false"
        )


def _about_partitions(found: Diagnosis, tables: Mapping[str, Partitioned], now: float) -> None:
    missing = [name for name in TABLES if name not in tables]
    if missing:
        found.faults.append(
            f"no table {', '.join(missing)}: packets for it are lost; let heplify-server make it"
            " (DBRotate = true)"
        )
    found.settings["tables_missing"] = missing
    partitions: dict[str, list[str]] = {}
    for day, word in DAYS.items():
        without: list[str] = [
            name for name in TABLES if name in tables and not tables[name].takes(now + day * DAY)
        ]
        partitions[word] = without
        if without and day >= 0:
            found.faults.append(
                f"no partition for {word} in {_names(without)}: all packets of that time are"
                " lost; check DBRotate of heplify-server"
            )
    found.settings["partitions_missing"] = partitions
    words = [
        f"{word}: {'missing in ' + _names(without) if without else 'yes'}"
        for word, without in partitions.items()
    ]
    found.remarks.append(f"partitions: {'; '.join(words)}")


def _names(tables: Sequence[str]) -> str:
    return "all tables" if len(tables) == len(TABLES) else ", ".join(tables)


def _about_delays(found: Diagnosis, stored: Sequence[Fate]) -> None:
    # The timer runs from one batch to the next, and each event starts it again at a second. The
    # usual packets were sent apart from events.
    delays = [(fate.probe.table, fate.delay or 0.0) for fate in stored if fate.probe.usual]
    events = [delay for table, delay in delays if table == EVENTS]
    others = [delay for table, delay in delays if table != EVENTS]
    found.settings["delay"] = {
        "events": round(max(events), 3) if events else None,
        "others": round(max(others), 3) if others else None,
    }
    if others:
        found.remarks.append(
            f"delay: SIP and log lines were there after at most {max(others):.1f} s; unless other"
            " packets came, DBTimer is that or more"
        )
    if events:
        found.remarks.append(f"delay: events were there after at most {max(events):.1f} s")
    if max([0.0, *events, *others]) > SLOW:
        found.advice.append("a smaller DBTimer or DBBulk makes packets visible earlier")


def days_with_partitions(tables: Mapping[str, Partitioned], table: str, now: float) -> list[int]:
    """The days from today, of two before and two after, at which a table takes rows."""
    if table not in tables:
        return []
    return [day for day in range(-2, 3) if tables[table].takes(now + day * DAY)]
