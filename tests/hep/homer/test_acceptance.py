"""The model against what a real Homer 7 did with recorded packets."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hep.cli.lint import lint
from hep.cli.lint_finding import Severity
from hep.homer.decoding import packets_of
from hep.homer.fate import Fate, fate

FILE = Path(__file__).parents[2] / "data" / "homer-7" / "acceptance.json"
RECORDS: list[dict[str, Any]] = json.loads(FILE.read_text())

NOW = 1_796_040_000.0
"""Noon in UTC: the times of the records lie within the partitions, or a day away from them."""

TIMES = ("timeSeconds", "timeUseconds")


def name(record: dict[str, Any]) -> str:
    forced = " forced" if record["heplify_setting"] != "default" else ""
    return record["name"] + forced


def sent(record: dict[str, Any]) -> bytes:
    """The packets of a record with the time that they were sent with."""
    data = bytearray.fromhex(record["hep_hex"])
    offsets = [record["time_offset"], *record.get("more_time_offsets", ())]
    seconds = int(NOW) + record["time_delta"]
    for at in offsets:
        if at is not None:
            data[at : at + 4] = seconds.to_bytes(4, record.get("time_endian", "big"))
    return bytes(data)


def fates(record: dict[str, Any]) -> list[Fate]:
    forced = record["heplify_setting"] == "ForceHEPPayload=[89]"
    packets = packets_of(sent(record), record["transport"])
    return [fate(each, record["transport"], now=NOW, events_as_json=forced) for each in packets]


def same_text(text: str, recorded: str) -> bool:
    """Whether a text is the recorded one, which may be shortened."""
    start, shortened, rest = recorded.partition("… (")
    if not shortened:
        return text == recorded
    return text.startswith(start) and len(text) == int(rest.removesuffix(" characters)"))


def test_the_file_has_all_records() -> None:
    assert len(RECORDS) == 248
    assert sum(record["stored"] for record in RECORDS) == 179


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_a_packet_has_the_fate_that_was_recorded(record: dict[str, Any]) -> None:
    found = fates(record)
    for each in found:
        assert each.stored is record["stored"]
        assert each.table == record.get("table")
        assert each.poisons is record["batch_poisoned"]
        assert list(each.poisoned_tables) == record.get("poisoned_tables", [])
        assert bool(each.lost) is not record["stored"]
        if each.sid is None:
            assert "sid" not in record
        else:
            assert same_text(each.sid, record["sid"])
    if record["stored"]:
        assert len(found) == record.get("rows", 1)


@pytest.mark.parametrize("record", [each for each in RECORDS if each["stored"]], ids=name)
def test_a_stored_packet_has_the_row_that_was_recorded(record: dict[str, Any]) -> None:
    [row] = {each.row for each in fates(record)} if "rows" not in record else [fates(record)[1].row]
    assert row is not None
    assert row.raw.decode().startswith(record["raw_prefix"])
    assert len(row.raw) == record["raw_length"]
    header = json.loads(row.protocol_header)
    recorded = record["protocol_header"]
    assert header.keys() == recorded.keys()
    for key in header.keys() - set(TIMES):
        same = same_text(header[key], recorded[key]) if key == "correlation_id" else None
        assert same or header[key] == recorded[key], key
    if row.data_header is not None and isinstance(record["data_header"], dict):
        found = json.loads(row.data_header, parse_float=Decimal)
        assert found == record["data_header"] or "… (" in str(record["data_header"])


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_the_doctor_says_what_was_lost(record: dict[str, Any]) -> None:
    forced = record["heplify_setting"] == "ForceHEPPayload=[89]"
    for packet in packets_of(sent(record), record["transport"]):
        found = lint(packet, "homer7", record["transport"], now=NOW, forced=forced)
        lost = [each for each in found if each.severity is Severity.LOST]
        assert bool(lost) is not record["stored"]
        assert {each.batch for each in lost} - {None} == set(record.get("poisoned_tables", ()))
