"""The stand-in and PostgreSQL do with each recorded packet what heplify-server did."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

import hep
from hep.codec.framing import Splitter
from tests.homer.conftest import Database
from tests.homer.heplify import TABLES, Heplify

RECORDS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "homer-7" / "acceptance.json").read_text()
)

SETTINGS = {"default": frozenset[int](), "ForceHEPPayload=[89]": frozenset({89})}

OF_THE_RECORDING = ("timeSeconds", "timeUseconds")
"""Keys of protocol_header that the time of arrival decides."""


GOOD: set[str] = set()
"""Correlation ids and payloads of good packets."""


def good_packets() -> list[bytes]:
    """A packet for each table."""
    packets = []
    for number, (kind, method) in enumerate(
        ((1, "INVITE"), (1, "REGISTER"), (1, "OPTIONS"), (5, ""), (89, ""), (54, ""), (100, ""))
    ):
        call_id = f"good-{number}"
        sip = (
            f"{method} sip:a@example.com SIP/2.0\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n"
        )
        payload = sip if kind == 1 else f'{{"good":"{call_id}"}}'
        GOOD.update((call_id, payload))
        packet = hep.Packet(
            src_ip="192.0.2.1", src_port=1, dst_ip="192.0.2.2", dst_port=2,
            seconds=int(time.time()), microseconds=1, protocol_type=kind,
            payload=payload.encode(),
            correlation_id=call_id.encode(),
        )  # fmt: skip
        packets.append(hep.encode(packet))
    return packets


def to_send(record: dict[str, Any]) -> bytes:
    data = bytearray.fromhex(record["hep_hex"])
    when = int(time.time()) + record["time_delta"]
    offsets = [record["time_offset"], *record.get("more_time_offsets", ())]
    for offset in offsets:
        if offset is not None:
            order = "little" if record.get("time_endian") == "little" else "big"
            data[offset : offset + 4] = when.to_bytes(4, order)
    return bytes(data)


CUT = re.compile(r"(.*)… \((\d+) characters\)", re.DOTALL)
"""How long texts were recorded."""


class Row(NamedTuple):
    """A row that was stored."""

    sid: str
    raw: str
    data_header: Any
    data_header_text: str
    protocol_header: dict[str, Any]


class Client:
    """Sends packets, and reads what became of them."""

    def __init__(self, heplify: Heplify, database: Database) -> None:
        self._heplify = heplify
        self._database = database
        self._sent = 0

    async def __aenter__(self) -> "Client":
        self._connection = await psycopg.AsyncConnection.connect(
            self._database.dsn, autocommit=True
        )
        _, self._tcp = await asyncio.open_connection("127.0.0.1", self._heplify.tcp_port)
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._connection.close()

    async def send(self, data: bytes, transport: str = "tcp") -> None:
        if transport == "udp":
            self._udp.sendto(data, ("127.0.0.1", self._heplify.udp_port))
            self._sent += 1
        else:
            self._tcp.write(data)
            self._sent += len(Splitter().feed(data))
        await self._heplify.has_taken(self._sent)

    async def stored(self) -> dict[str, list[Row]]:
        """Flush, and take the rows of each table out."""
        self._heplify.written.clear()
        await self._heplify.flush()
        found = {}
        for table in self._heplify.written:
            rows = await self._connection.execute(
                f"DELETE FROM {table} RETURNING sid, raw, data_header, data_header::text,"
                " protocol_header"
            )
            found[table] = [Row(*row) for row in await rows.fetchall()]
        return found


def is_like(recorded: Any, text: str) -> bool:
    """Whether a text is the recorded one, which is cut and has its length if it is long."""
    if match := CUT.fullmatch(recorded):
        return text.startswith(match[1]) and len(text) == int(match[2])
    return bool(text == recorded)


def differences(record: dict[str, Any], stored: dict[str, list[Row]]) -> dict[str, Any]:
    """What became of a packet that was sent alone, as far as it is not as recorded."""
    rows = [(table, row) for table, found in stored.items() for row in found]
    if bool(rows) != record["stored"]:
        return {"stored": rows}
    if not rows:
        return {}
    # Of several packets in one write, the recording shows any.
    table, row = next((each for each in rows if each[1].raw == record["raw_prefix"]), rows[0])
    wrong: dict[str, Any] = {}
    if table != record["table"]:
        wrong["table"] = table
    if len(rows) != record.get("rows", 1):
        wrong["rows"] = rows
    if not is_like(record["sid"], row.sid):
        wrong["sid"] = row.sid
    if row.raw[: len(record["raw_prefix"])] != record["raw_prefix"]:
        wrong["raw"] = row.raw
    if len(row.raw.encode()) != record["raw_length"]:
        wrong["raw_length"] = len(row.raw.encode())
    if isinstance(record["data_header"], str) and CUT.fullmatch(record["data_header"]):
        if not is_like(record["data_header"], row.data_header_text):
            wrong["data_header"] = row.data_header_text
    elif row.data_header != record["data_header"]:
        wrong["data_header"] = row.data_header
    seen, recorded = (
        {name: value for name, value in header.items() if name not in OF_THE_RECORDING}
        for header in (row.protocol_header, record["protocol_header"])
    )
    if seen != recorded:
        wrong["protocol_header"] = seen
    return wrong


@pytest.mark.parametrize("setting", SETTINGS)
async def test_each_packet_has_the_fate_that_was_recorded(
    setting: str, database: Database, heplify: Callable[..., Awaitable[Heplify]]
) -> None:
    collector = await heplify(force_payload=SETTINGS[setting], timer=3600, event_timer=3600)
    good = good_packets()
    wrong: dict[str, Any] = {}
    async with Client(collector, database) as client:
        for record in RECORDS:
            if record["heplify_setting"] != setting:
                continue
            await client.send(to_send(record), record["transport"])
            found = differences(record, await client.stored())

            before = [*good, to_send(record)]
            for packet in before:
                await client.send(packet, record["transport"])
            for packet in good:
                await client.send(packet)
            rows = await client.stored()
            lost = sorted(table for table in TABLES if not holds_the_good(rows.get(table, ())))
            if lost != record.get("poisoned_tables", []):
                found["poisoned_tables"] = lost
            if found:
                wrong[record["name"]] = found
    assert wrong == {}


def refusals(record: dict[str, Any]) -> list[str]:
    """What PostgreSQL said about a packet."""
    said = re.fullmatch("ERR pq: (.*)", record["log"] or "")
    return [said[1]] if said else []


def holds_the_good(rows: Iterable[Row]) -> bool:
    """Whether the good packets before and behind another one are there."""
    return sum(bool(GOOD & {row.sid, row.raw}) for row in rows) == 2
