"""Kamailio's sipcapture collects our packets; our collector those of its siptrace."""

import asyncio
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import hep

pytestmark = pytest.mark.e2e

SIPCAPTURE = """
loadmodule "db_sqlite.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "db_url", "sqlite:///{database}")
modparam("sipcapture", "hep_capture_on", 1)
modparam("sipcapture", "capture_on", 1)
modparam("sipcapture", "capture_node", "kamailio")
request_route {{ sip_capture(); drop; }}
onreply_route {{ sip_capture(); drop; }}
"""

SIPTRACE = """
loadmodule "siptrace.so"
modparam("siptrace", "duplicate_uri", "sip:127.0.0.1:{port};transport={transport}")
modparam("siptrace", "trace_to_database", 0)
modparam("siptrace", "trace_on", 1)
modparam("siptrace", "trace_mode", 1)
modparam("siptrace", "hep_mode_on", 1)
modparam("siptrace", "hep_version", {version})
modparam("siptrace", "hep_capture_id", 2002)
modparam("siptrace", "auth_key", "secret")
request_route {{ sl_send_reply("200", "OK"); }}
"""

# The columns that sipcapture of Kamailio 5.6 fills; Debian ships no table for sqlite.
COLUMNS = """
    date, micro_ts, method, reply_reason, ruri, ruri_user, ruri_domain, from_user, from_domain,
    from_tag, to_user, to_domain, to_tag, pid_user, contact_user, auth_user, callid, callid_aleg,
    via_1, via_1_branch, cseq, diversion, reason, content_type, auth, user_agent, source_ip,
    source_port, destination_ip, destination_port, contact_ip, contact_port, originator_ip,
    originator_port, expires, correlation_id, custom_field1, custom_field2, custom_field3, proto,
    family, rtp_stat, type, node, msg
"""

UDP, TCP = 1, 2  # Kamailio's own numbers


@pytest.fixture
def sqlite_module(find):
    if not any(Path("/usr/lib").glob("*/kamailio/modules/db_sqlite.so")):
        find.missing("Kamailio's db_sqlite", "install Debian's package kamailio-sqlite-modules")


@pytest.fixture
async def sipcapture(sqlite_module, kamailio, tmp_path):
    """Kamailio as a collector: its port, and a function that reads its rows."""
    database = tmp_path / "capture.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        # Kamailio gives a row up when the database is locked. In this mode only the first to open
        # and the last to close lock it, so it stays open here.
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"create table sip_capture (id integer primary key, {COLUMNS})")
        connection.row_factory = sqlite3.Row

        def rows() -> dict[str, sqlite3.Row]:
            found = connection.execute("select * from sip_capture").fetchall()
            return {row["callid"]: row for row in found}

        peer = await kamailio(SIPCAPTURE.format(database=database))
        yield peer.port, rows


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_sipcapture_stores_what_our_packets_say(
    sipcapture, send, packet, until, version
) -> None:
    port, rows = sipcapture
    sent = packet("call-1", version=version, ip_protocol=17, correlation_id=None)
    await send(port, sent)
    row = (await until(rows))["call-1"]
    assert (row["source_ip"], row["source_port"]) == ("192.0.2.5", 50123)
    assert (row["destination_ip"], row["destination_port"]) == ("192.0.2.1", 8080)
    assert (row["family"], row["proto"], row["method"]) == (2, UDP, "OPTIONS")
    assert row["msg"] == sent.payload
    if version > 1:
        assert row["micro_ts"] == 1_700_000_000_123_456
        assert row["node"] == "kamailio:2001"


async def test_sipcapture_stores_version_3_whole(sipcapture, send, packet, until) -> None:
    port, rows = sipcapture
    await send(
        port,
        packet("call-1", correlation_id=b"other-leg", auth_key=b"secret"),
        packet("call-2", src_ip="2001:db8::5", dst_ip="2001:db8::1"),
    )
    row, row6 = await until(lambda: len(found := rows()) == 2 and found.values())
    assert (row["callid"], row["correlation_id"]) == ("call-1", "other-leg")
    assert (row["family"], row["proto"]) == (socket.AF_INET, TCP)
    assert (row6["source_ip"], row6["destination_ip"]) == ("2001:db8::5", "2001:db8::1")
    assert (row6["family"], row6["proto"]) == (socket.AF_INET6, TCP)


async def test_sipcapture_takes_an_ip_protocol_that_it_does_not_know_for_the_one_before(
    sipcapture, send, packet, until
) -> None:
    """Why WebSocket is sent as TCP (6) unless OpenSIPS' 50 is asked for."""
    port, rows = sipcapture
    await send(
        port,
        packet("call-1", ip_protocol=6),
        packet("call-2", ip_protocol=50),
        packet("call-3", ip_protocol=17),
        packet("call-4", ip_protocol=50),
    )
    found = await until(lambda: len(found := rows()) == 4 and found)
    assert [found[f"call-{n}"]["proto"] for n in (1, 2, 3, 4)] == [TCP, TCP, UDP, UDP]


@pytest.mark.parametrize(("version", "transport"), [(3, "udp"), (3, "tcp"), (2, "udp"), (1, "udp")])
async def test_our_collector_reads_siptrace(kamailio, until, sip, version, transport) -> None:
    packets: list[hep.Packet] = []
    sources: list[hep.Source] = []
    collector = hep.Collector(
        lambda packet, source: (packets.append(packet), sources.append(source)),
        udp="127.0.0.1:0",
        tcp="127.0.0.1:0",
        auth_key=b"secret" if version == 3 else None,
    )
    async with collector:
        port = getattr(collector, f"{transport}_address")[1]
        peer = await kamailio(SIPTRACE.format(port=port, transport=transport, version=version))
        with socket.socket(type=socket.SOCK_DGRAM) as phone:
            phone.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(phone, ("127.0.0.1", peer.port))
            _, own_port = phone.getsockname()
            sent = sip("call-1").replace(
                b"SIP/2.0/WS 192.0.2.5:50123", b"SIP/2.0/UDP 127.0.0.1:%d" % own_port
            )
            await loop.sock_sendall(phone, sent)
            async with asyncio.timeout(30):
                answer = await loop.sock_recv(phone, 65535)
            await until(lambda: len(packets) == 2)
    request, reply = packets
    assert (request.payload, reply.payload) == (sent, answer)
    assert (request.src_port, request.dst_port) == (own_port, peer.port)
    assert (reply.src_port, reply.dst_port) == (peer.port, own_port)
    for packet in packets:
        assert (packet.version, packet.ip_protocol, packet.family) == (version, 17, 2)
        assert packet.src_ip == packet.dst_ip == "127.0.0.1"
        assert packet.capture_id == (2002 if version > 1 else 0)
        assert (packet.seconds is None) == (version == 1)
    if version == 3:
        assert request.auth_key == b"secret"
    assert {source.transport for source in sources} == {transport}
    assert collector.counters["bad"] == collector.counters["skipped"] == 0
