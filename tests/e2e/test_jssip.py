"""JsSIP registers through the real program, and a collector receives the traces."""

import ipaddress
import json

import pytest

import hep

pytestmark = pytest.mark.e2e

OPENSIPS_ORDER = [1, 2, 7, 8, 9, 10, 11, 12, 3, 4, 15, 17]
NETWORK = 0x59
SIP = 1


NO_PAGE = "require_origin = false"
"""Under Node a phone has no Origin."""


def tracing_to(address: tuple[str, int], transport: str, more: str = "") -> str:
    ip, port = address[:2]
    return f"""
        [hep]
        hep_id = ["[homer]{ip}:{port};transport={transport}"]
        hep_capture_id = 2001
        [tracing]
        trace_destination = "homer"
        trace_on = true
        {more}
    """


def event(packet: hep.Packet) -> str | None:
    if packet.protocol_type != NETWORK:
        return None
    return json.loads(packet.payload)["Event"]


def is_accepted(packet: hep.Packet) -> bool:
    return event(packet) == "ACCEPTED"


def is_closed(packet: hep.Packet) -> bool:
    return event(packet) == "CLOSED"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_jssip_under_node_registers_and_is_traced(
    node, run_client, sipws_run, collected, transport
) -> None:
    address = getattr(collected.collector, f"{transport}_address")
    program = await sipws_run(tracing_to(address, transport), NO_PAGE)
    told = await run_client(node, "jssip_node.cjs", program.url)
    assert [line["event"] for line in told] == [
        "connected",
        "registered",
        "unregistered",
        "disconnected",
    ]
    assert told[1]["status"] == 200
    assert ";received=127.0.0.1" in told[1]["via"]

    accepted = await collected.wait_for(is_accepted)
    closed = await collected.wait_for(is_closed)
    for packet in (accepted, closed):
        assert [chunk_type for _, chunk_type in packet.layout] == OPENSIPS_ORDER
        assert (packet.version, packet.ip_protocol, packet.capture_id) == (3, 6, 2001)
        assert packet.src_ip == packet.dst_ip == "127.0.0.1"
        assert f":{packet.dst_port}/" in program.url
        assert packet.correlation_id.isdigit()
    assert accepted.correlation_id == closed.correlation_id
    assert accepted.src_port == closed.src_port

    parts = json.loads(accepted.payload)
    assert list(parts)[:7] == [
        "Protocol", "Event", "Ws-Request", "Status", "Ws-Reply", "Message", "event",
    ]  # fmt: skip
    assert parts["Protocol"] == "WS"
    assert parts["Ws-Request"].startswith("GET / HTTP/1.1\r\n")
    assert parts["Status"] == "SUCCESS"
    assert parts["Ws-Reply"].startswith("HTTP/1.1 101 ")
    assert parts["Message"] == "Connection accepted..."
    parts = json.loads(closed.payload)
    assert list(parts)[:4] == ["Protocol", "Event", "Status", "Message"]
    assert (parts["Close_Code"], parts["Closed_By"]) == ("1005", "peer")
    assert (parts["Messages_In"], parts["Messages_Out"]) == ("2", "2")

    assert "0 dropped" in await program.stop()
    assert {packet.protocol_type for packet in collected.packets} == {NETWORK}


async def test_jssip_in_chromium_registers_and_is_traced_with_its_messages(
    open_page, sipws_run, collected
) -> None:
    toml = tracing_to(collected.collector.udp_address, "udp", "trace_sip = true")
    program = await sipws_run(toml)
    [told] = await open_page(program.url, "jssip", "leave")
    assert told == {"event": "registered", "status": 200}

    accepted = await collected.wait_for(is_accepted)
    assert "Chrome" in json.loads(accepted.payload)["Ws-Request"]
    closed = await collected.wait_for(is_closed)
    # The page was left: RFC 6455 section 7.4.1, "browser having navigated away from a page".
    assert json.loads(closed.payload)["Close_Code"] == "1001"

    request, response = [packet for packet in collected.packets if packet.protocol_type == SIP]
    assert request.payload.startswith(b"REGISTER sip:example.com SIP/2.0\r\n")
    assert response.payload.startswith(b"SIP/2.0 200 OK\r\n")
    assert request.correlation_id == response.correlation_id
    assert b"\r\nCall-ID: " + request.correlation_id + b"\r\n" in request.payload
    assert (request.src_ip, request.src_port) == (response.dst_ip, response.dst_port)
    assert ipaddress.ip_address(request.src_ip).is_loopback


async def test_a_filter_route_keeps_a_real_client_out_of_the_traces(
    node, run_client, sipws_run, collected, tmp_path
) -> None:
    (tmp_path / "filter.cfg").write_text("route[ws_filter] {\n    drop;\n}\n")
    filtered = 'script = "filter.cfg"\ntrace_filter_route = "ws_filter"'
    program = await sipws_run(tracing_to(collected.collector.udp_address, "udp", filtered), NO_PAGE)
    await run_client(node, "jssip_node.cjs", program.url)
    assert "0 connections traced, 0 HEP packets sent" in await program.stop()
    assert collected.packets == []


async def test_a_client_is_served_while_no_collector_is_there(
    node, run_client, sipws_run, collected
) -> None:
    address = collected.collector.tcp_address
    program = await sipws_run(tracing_to(address, "tcp"), NO_PAGE)
    await collected.collector.__aexit__(None, None, None)
    told = await run_client(node, "jssip_node.cjs", program.url)
    assert told[1]["event"] == "registered"
    await program.stop()
    assert program.process.returncode == 0
