"""No peer can send what makes PostgreSQL refuse a batch, which would lose the packets of others."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given

import hep
from sipws.tracing.tracer import TraceSettings
from tests.homer.heplify import as_line, copy_into, create_tables, read_packet, row_of
from tests.homer.hostile import Life, lives, network_events, packets_of, settings
from tests.homer.postgresql import Postgres


@pytest.fixture(scope="module")
def connection(postgres: Postgres) -> Iterator["psycopg.Connection[Any]"]:
    """To a database that stays empty."""
    with postgres.connect(postgres.new_database()) as connection:
        create_tables(connection, time.time())
        yield connection


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Without a line for each remark of a filter."""
    logging.getLogger("sipws.tracing.tracer").setLevel(logging.ERROR)


def copy_lines(connection: "psycopg.Connection[Any]", table: str, lines: list[bytes]) -> int:
    """Copy a batch into a table; returns the number of rows."""
    with connection.cursor() as cursor:
        with cursor.copy(copy_into(table)) as copy:
            for line in lines:
                copy.write(line)
        return cursor.rowcount


def strict(text: str) -> Any:
    """Read JSON as it is defined, without the extensions of Python's reader."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@given(lives, settings)
def test_each_payload_is_json_without_nul_and_without_halves_of_pairs(
    lives: list[Life], settings: TraceSettings
) -> None:
    for packet in network_events(packets_of(lives, settings)):
        text = packet.payload.decode()
        read = strict(text)
        again = json.dumps(read, ensure_ascii=False)
        assert "\\u0000" not in json.dumps(read).replace("\\\\", "")
        again.encode()
        assert not any(char < " " for char in text if char not in "\n\t")


@given(lives, settings)
def test_each_correlation_id_is_text_without_nul(
    lives: list[Life], settings: TraceSettings
) -> None:
    for data in packets_of(lives, settings):
        packet = hep.decode(data)
        if packet.protocol_type != hep.ProtocolType.SIP:
            assert packet.correlation_id
        assert b"\0" not in (packet.correlation_id or b"").decode().encode()


@pytest.mark.parametrize("forced", [frozenset({89}), frozenset[int]()], ids=["jsonb", "text"])
@given(lives, settings)
def test_postgresql_refuses_no_batch(
    connection: "psycopg.Connection[Any]",
    forced: frozenset[int],
    lives: list[Life],
    settings: TraceSettings,
) -> None:
    batches: dict[str, list[bytes]] = {}
    for data in packets_of(lives, settings):
        try:
            table, row = row_of(read_packet(data), forced)
        except ValueError:
            continue  # SIP that is broken is dropped alone
        batches.setdefault(table, []).append(as_line(row))
    assert batches["hep_proto_35_default"]
    with connection.transaction(force_rollback=True):
        for table, lines in batches.items():
            assert copy_lines(connection, table, lines) == len(lines)


def test_a_batch_with_one_nul_would_be_refused(connection: "psycopg.Connection[Any]") -> None:
    """What the tests above would find."""
    life = Life(None, [], 4000, "x", "")
    lines = []
    for data in packets_of([life], TraceSettings()):
        _, row = row_of(read_packet(data), {89})
        lines.append(as_line((*row[:3], row[3].replace(b"CLOSED", b"\\u0000"), row[4])))
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        copy_lines(connection, "hep_proto_35_default", lines)
