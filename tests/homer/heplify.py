"""A stand-in for heplify-server: HEP in over UDP and TCP, rows out to PostgreSQL with COPY.

It follows what was recorded of heplify-server 1.60 (tests/data/homer-7/acceptance.json): which
packets it takes, which table a row goes to, how its columns are written, and when batches leave.
What PostgreSQL thinks of a row is left to PostgreSQL.
"""

import asyncio
import json
import re
import struct
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Self

import psycopg
from psycopg import sql

TABLES = (
    "hep_proto_1_call", "hep_proto_1_registration", "hep_proto_1_default", "hep_proto_5_default",
    "hep_proto_35_default", "hep_proto_54_default", "hep_proto_100_default",
)  # fmt: skip
"""The tables that it makes. Type 53 has none."""

OF_ALL = ("srcIp", "dstIp", "correlation_id")
OF_SIP = ("ruri_domain", "ruri_user", "from_user", "to_user", "callid", "method")
"""Values that have an index. One of some 2,700 bytes that do not compress is refused."""

CALL_METHODS = frozenset(
    (b"INVITE", b"ACK", b"BYE", b"CANCEL", b"UPDATE", b"PRACK", b"REFER", b"INFO", b"NOTIFY")
)
"""Methods in CSeq whose messages are filed as calls."""

LONGEST = 65_507
"""Bytes of a packet over TCP; a longer one closes the connection."""

TURNS = 10
"""Turns of the loop in which connections that came last are served and closed."""

SHORTEST_SIP = 33
"""Bytes; what is shorter is a keep-alive."""

EVENT_TIMER = 1.0
"""Seconds until the next flush after a packet for table 35, whatever `DBTimer` is."""

NAMES = {5: "rtcp", 34: "rtpagent", 35: "rtcpxr", 53: "dns", 100: "log"}
"""What types are called in ``data_header``; others have their number."""

_HEADER = re.compile(rb"([^\s:]+)[ \t]*:(.*)", re.DOTALL)
_CSEQ = re.compile(rb"[ \t]*\d+[ \t]+(\S{3,})")
_USER = re.compile(rb"sips?:(?:([^@>;]*)@)?([^>;?:\s]*)")


def create_tables(
    connection: "psycopg.Connection[Any]", now: float, days: Iterable[int] = (-1, 0, 1)
) -> None:
    """Make its tables, with a partition for each day.

    Args:
        connection: to an empty database.
        now: today's time in seconds since the epoch.
        days: the days of the partitions, from today.
    """
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for table in TABLES:
        connection.execute(
            f"CREATE TABLE {table} (id bigserial NOT NULL, sid varchar NOT NULL,"
            " create_date timestamptz DEFAULT now() NOT NULL, protocol_header jsonb NOT NULL,"
            " data_header jsonb NOT NULL, raw varchar NOT NULL) PARTITION BY RANGE (create_date)"
        )
        for day in days:
            first = today + timedelta(days=day)
            connection.execute(
                f"CREATE TABLE {table}_{first:%Y%m%d}_0000 PARTITION OF {table}"
                f" FOR VALUES FROM ('{first}') TO ('{first + timedelta(days=1)}')"
            )
        columns = ["create_date", "sid", *(f"(protocol_header->>'{name}')" for name in OF_ALL)]
        if "_1_" in table:
            columns += [f"(data_header->>'{name}')" for name in OF_SIP]
        for column in columns:
            connection.execute(f"CREATE INDEX ON {table} ({column})")


@dataclass
class Packet:
    """What it reads of a packet."""

    family: int = 0
    protocol: int = 0
    src_ip: str = ""
    dst_ip: str = ""
    src_port: int = 0
    dst_port: int = 0
    seconds: int = 0
    microseconds: int = 0
    type: int = 0
    capture_id: int = 0
    node: bytes = b""
    key: bytes = b""
    payload: bytes = b""
    correlation_id: bytes = b""


@dataclass
class Sip:
    """What it reads of a SIP message; empty where it is missing."""

    call_id: bytes = b""
    cseq: bytes = b""
    cseq_method: bytes = b""
    method: bytes = b""
    ruri_user: bytes = b""
    ruri_domain: bytes = b""
    from_user: bytes = b""
    from_tag: bytes = b""
    to_user: bytes = b""
    to_tag: bytes = b""
    user_agent: bytes = b""


Row = tuple[bytes, bytes, bytes, bytes, bytes]
"""sid, create_date, protocol_header, data_header, raw."""


@dataclass
class Refusal:
    """A batch that PostgreSQL refused."""

    table: str
    rows: list[Row]
    why: str


@dataclass
class Heplify:
    """The stand-in; an asynchronous context manager.

    `flush` writes what is waiting at once, so that a test need not wait for a timer.
    """

    dsn: str
    force_payload: frozenset[int] = frozenset()
    """``ForceHEPPayload``: types whose payload becomes ``data_header``."""
    dedup: bool = False
    """``Dedup``: drop a payload that was seen before."""
    bulk: int = 200
    """``DBBulk``: rows of a batch."""
    timer: float = 1.0
    """``DBTimer`` in seconds."""
    event_timer: float = EVENT_TIMER

    taken: int = 0
    """Packets and datagrams that came, whatever became of them."""
    dropped: list[str] = field(default_factory=list)
    """Why packets were not stored."""
    refusals: list[Refusal] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    """The table of each batch that PostgreSQL took."""

    async def __aenter__(self) -> Self:
        self._connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
        self._queue: asyncio.Queue[tuple[str, Row] | asyncio.Future[None]] = asyncio.Queue()
        self._batches: dict[str, list[Row]] = {}
        self._seen: set[bytes] = set()
        self._came = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", 0)
        )
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._clients: set[asyncio.StreamWriter] = set()
        self._worker = asyncio.create_task(self._work())
        self.udp_port = self._udp.get_extra_info("sockname")[1]
        self.tcp_port = self._tcp.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._udp.close()
        self._tcp.close()
        # What was accepted last is served some turns of the loop later, and what is aborted is
        # closed in the next: a transport that is still open when the loop ends is a warning.
        for _ in range(TURNS):
            for writer in list(self._clients):
                writer.transport.abort()
            await asyncio.sleep(0)
        if not self._worker.done():
            await self.flush()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        await self._connection.close()

    async def flush(self) -> None:
        """Write all rows that came so far."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(done)
        await done

    async def has_taken(self, count: int) -> None:
        """Wait until so many packets have come since the start."""
        async with asyncio.timeout(20):
            while self.taken < count:
                self._came.clear()
                await self._came.wait()

    # What comes.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while True:
                head = await reader.readexactly(6)
                length = int.from_bytes(head[4:])
                if head[:4] != b"HEP3" or not 6 < length <= LONGEST:
                    self.dropped.append("the connection is closed")
                    return
                self.take(head + await reader.readexactly(length - 6))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    def take(self, data: bytes) -> None:
        """Take one packet."""
        self.taken += 1
        self._came.set()
        try:
            packet = read_packet(data)
            if self.dedup and packet.payload:
                if packet.payload in self._seen:
                    raise ValueError("the payload was seen before")
                self._seen.add(packet.payload)
            self._queue.put_nowait(row_of(packet, self.force_payload))
        except ValueError as exc:
            self.dropped.append(str(exc))

    # What goes to PostgreSQL.

    async def _work(self) -> None:
        now = asyncio.get_running_loop().time
        deadline = now() + self.timer
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    item = await self._queue.get()
            except TimeoutError:
                deadline = now() + self.timer
                await self._write_all()
                continue
            if isinstance(item, asyncio.Future):
                await self._write_all()
                item.set_result(None)
                continue
            table, row = item
            batch = self._batches.setdefault(table, [])
            batch.append(row)
            if table == "hep_proto_35_default":
                deadline = now() + self.event_timer
            if len(batch) >= self.bulk:
                await self._write(table, self._batches.pop(table))

    async def _write_all(self) -> None:
        batches, self._batches = self._batches, {}
        for table, rows in batches.items():
            await self._write(table, rows)

    async def _write(self, table: str, rows: list[Row]) -> None:
        try:
            async with self._connection.cursor() as cursor, cursor.copy(copy_into(table)) as copy:
                for row in rows:
                    await copy.write(as_line(row))
        except psycopg.Error as exc:
            self.refusals.append(Refusal(table, rows, str(exc)))
        else:
            self.written.append(table)


def row_of(packet: Packet, force_payload: Collection[int] = ()) -> tuple[str, Row]:
    """The row of a packet, with its table.

    Args:
        packet: whose payload is cleaned.
        force_payload: types whose payload becomes ``data_header``.

    Raises:
        ValueError: it is dropped.
    """
    packet.payload = cleaned(packet.payload)
    if not packet.payload:
        raise ValueError("no payload")
    date = datetime.fromtimestamp(packet.seconds, UTC) + timedelta(microseconds=packet.microseconds)
    when = date.isoformat().encode()
    if packet.type == 1:
        sip = read_sip(packet.payload)
        packet.correlation_id = packet.correlation_id or sip.call_id
        row = sip.call_id, when, protocol_header(packet), sip_header(sip), packet.payload
        return sip_table(sip.cseq_method), row
    if packet.type == 54:
        sid, header = isup_header(packet.payload)
        return "hep_proto_54_default", (
            sid, when, protocol_header(packet), header, packet.payload
        )  # fmt: skip
    if packet.type < 2 or not packet.correlation_id:
        raise ValueError("no correlation id")
    header, raw = node_header(packet), packet.payload
    number = packet.type if packet.type in (5, 53, 100) else 35
    if number == 35 and packet.type in force_payload:
        header, raw = raw, header
    row = packet.correlation_id, when, protocol_header(packet), header, raw
    return f"hep_proto_{number}_default", row


def copy_into(table: str) -> sql.Composed:
    """The statement that takes rows."""
    return sql.SQL(
        "COPY {} (sid, create_date, protocol_header, data_header, raw) FROM STDIN"
    ).format(sql.Identifier(table))


def as_line(row: Row) -> bytes:
    """Write a row for COPY."""
    return b"\t".join(map(as_copy_text, row)) + b"\n"


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, heplify: Heplify) -> None:
        self._heplify = heplify

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._heplify.take(data)


def as_copy_text(value: bytes) -> bytes:
    """Escape a value for COPY; NUL and bytes that are not UTF-8 stay, for PostgreSQL to refuse."""
    value = value.replace(b"\\", rb"\\").replace(b"\n", rb"\n")
    return value.replace(b"\r", rb"\r").replace(b"\t", rb"\t")


def cleaned(payload: bytes) -> bytes:
    """A payload without NUL and without bytes that are not UTF-8."""
    return payload.replace(b"\0", b"").decode("utf-8", "ignore").encode()


def read_packet(data: bytes) -> Packet:
    """Read a packet: chunks by their type alone, versions 1 and 2 big-endian.

    Raises:
        ValueError: it is dropped.
    """
    if data[:4] == b"HEP3":
        packet = read_chunks(data)
    elif data[:1] in (b"\x01", b"\x02") and len(data) >= 16:
        packet = read_fixed(data)
    else:
        raise ValueError("neither HEP nor protobuf")
    if not packet.seconds:
        packet.seconds, packet.microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return packet


def read_chunks(data: bytes) -> Packet:
    if int.from_bytes(data[4:6]) != len(data):
        raise ValueError(f"the length is {len(data)} and should be {int.from_bytes(data[4:6])}")
    packet = Packet()
    at = 6
    while at < len(data):
        if len(data) - at < 6:
            raise ValueError("bytes behind the last chunk")
        number, length = struct.unpack_from("!HH", data, at + 2)
        if not 6 <= length <= len(data) - at:
            raise ValueError(f"a chunk of {length} bytes")
        value = data[at + 6 : at + length]
        at += length
        match number:
            case 1:
                packet.family = value[0]
            case 2:
                packet.protocol = value[0]
            case 3 | 5:
                packet.src_ip = address(value)
            case 4 | 6:
                packet.dst_ip = address(value)
            case 7:
                packet.src_port = int.from_bytes(value)
            case 8:
                packet.dst_port = int.from_bytes(value)
            case 9:
                packet.seconds = int.from_bytes(value)
            case 10:
                packet.microseconds = int.from_bytes(value)
            case 11:
                packet.type = value[0]
            case 12:
                packet.capture_id = int.from_bytes(value)
            case 14:
                packet.key = value
            case 15:
                packet.payload = value
            case 17:
                packet.correlation_id = value
            case 19:
                packet.node = value
    return packet


def read_fixed(data: bytes) -> Packet:
    """Read version 1 or 2; of the latter, two bytes of the capture id become a correlation id."""
    version, _, family, protocol, src_port, dst_port = struct.unpack_from("!BBBBHH", data)
    size = 16 if family == 10 else 4
    at = 8
    packet = Packet(
        family=version, protocol=protocol, type=1, src_port=src_port, dst_port=dst_port,
        src_ip=address(data[at : at + size]), dst_ip=address(data[at + size : at + 2 * size]),
    )  # fmt: skip
    at += 2 * size
    if version == 2:
        packet.seconds, packet.microseconds = struct.unpack_from("!II", data, at)
        packet.capture_id = int.from_bytes(data[at + 8 : at + 10])
        packet.correlation_id = data[at + 8 : at + 10]
        at += 12
    packet.payload = data[at:]
    return packet


def address(value: bytes) -> str:
    ip = ip_address(value)
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return str(mapped or ip)


def read_sip(payload: bytes) -> Sip:
    """Read a SIP message; of two headers with a name, the last counts.

    Raises:
        ValueError: it is dropped.
    """
    if len(payload) < SHORTEST_SIP:
        raise ValueError("a keep-alive")
    if b"\r\n" not in payload:
        raise ValueError("no end of a line")
    # A line ends in LF too, and blanks in front of a name do not count.
    head = payload.lstrip(b"\r\n\0 ").partition(b"\r\n\r\n")[0].split(b"\n")
    head = [line.removesuffix(b"\r").strip(b" \t") for line in head]
    sip = Sip()
    words = head[0].split(b" ")
    if head[0].startswith(b"SIP/"):
        sip.method = words[1] if len(words) > 1 else b""
    else:
        sip.method = words[0]
        sip.ruri_user, sip.ruri_domain = user_and_host(words[1] if len(words) > 1 else b"")
    for line in head[1:]:
        if (match := _HEADER.fullmatch(line)) is None:
            continue
        value = match[2].strip()
        match match[1].lower():
            case b"call-id" | b"i":
                sip.call_id = value
            case b"cseq":
                sip.cseq = value
            case b"from" | b"f":
                sip.from_user, sip.from_tag = user_and_host(value)[0], tag(value)
            case name if name == b"t" or len(name) == 2:
                # Every name of two letters is read as To.
                sip.to_user, sip.to_tag = user_and_host(value)[0], tag(value)
            case b"user-agent":
                sip.user_agent = value
    cseq = _CSEQ.match(sip.cseq)
    if cseq is None:
        raise ValueError("no valid CSeq")
    if not sip.call_id:
        raise ValueError("no valid Call-ID")
    sip.cseq_method = cseq[1]
    return sip


def sip_table(method: bytes) -> str:
    if method == b"REGISTER":
        return "hep_proto_1_registration"
    return "hep_proto_1_call" if method in CALL_METHODS else "hep_proto_1_default"


def user_and_host(text: bytes) -> tuple[bytes, bytes]:
    match = _USER.search(text)
    return (match[1] or b"", match[2]) if match else (b"", b"")


def tag(text: bytes) -> bytes:
    match = re.search(rb";tag=([^;\s]*)", text)
    return match[1] if match else b""


def quoted(value: bytes) -> bytes:
    """Write a value as a JSON string, escaped; what is not UTF-8 stays."""
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode(
        "utf-8", "surrogateescape"
    )


def protocol_header(packet: Packet) -> bytes:
    """Write the column; node name and key as they came, the correlation id escaped."""
    node = packet.node or str(packet.capture_id).encode()
    text = (
        f'{{"protocolFamily":{packet.family},"protocol":{packet.protocol}'
        f',"srcIp":"{packet.src_ip}","dstIp":"{packet.dst_ip}"'
        f',"srcPort":{packet.src_port},"dstPort":{packet.dst_port}'
        f',"timeSeconds":{packet.seconds},"timeUseconds":{packet.microseconds}'
        f',"payloadType":{packet.type},"captureId":"'
    ).encode()
    text += node + b'"'
    if packet.key:
        text += b',"capturePass":"' + packet.key + b'"'
    if packet.correlation_id:
        text += b',"correlation_id":' + quoted(packet.correlation_id)
    return text + b"}"


def node_header(packet: Packet) -> bytes:
    node = packet.node or str(packet.capture_id).encode()
    name = NAMES.get(packet.type, str(packet.type)).encode()
    return b'{"node":"' + node + b'","proto":"' + name + b'"}'


def sip_header(sip: Sip) -> bytes:
    names = (
        "ruri_domain", "ruri_user", "from_user", "from_tag", "to_user", "to_tag", "cseq",
        "call_id", "method", "user_agent",
    )  # fmt: skip
    values = ((name.replace("call_id", "callid"), getattr(sip, name)) for name in names)
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), quoted(v)) for name, v in values) + b"}"


def isup_header(payload: bytes) -> tuple[bytes, bytes]:
    try:
        found = json.loads(payload)
    except ValueError:
        found = {}
    cic, dpc, opc = (int(found.get(name, 0)) for name in ("cic", "dpc", "opc"))
    sid = f"{min(opc, dpc)}:{max(opc, dpc)}:{cic}"
    header = {
        "cic": cic, "dpc": dpc, "opc": opc, "msg_name": found.get("msg_name", ""),
        "called_number": "", "calling_number": "", "callid": sid,
    }  # fmt: skip
    return sid.encode(), json.dumps(header).encode()
