"""SIP messages in JSON, as OpenSIPS sends them with ``homer5_on=0``, held against its packets."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.sending.fitting import LONGEST
from sipws import Listener
from sipws.address import Address
from sipws.bus import Bus
from sipws.events import Connection, ConnectionOpened, MessageReceived, MessageSent
from sipws.tracing.packets import EXTRA_CORRELATION, ConnectionPackets, PacketSettings, wrapped
from sipws.tracing.tracer import Tracer, TraceSettings

GOLDEN = Path(__file__).parents[1] / "data" / "opensips-3.6.8" / "hep"
INDEX = json.loads((GOLDEN / "index.json").read_text())["packets"]
SIP = 1
JSON = PacketSettings(sip_format="json", capture_id=2001, ip_protocol=50)


def recorded(homer5: int) -> list[str]:
    """The files with OpenSIPS' packets of SIP messages, version 3."""
    return [
        name
        for name, packet in INDEX.items()
        if packet["hep_version"] == 3 and packet["homer5_on"] == homer5
        if hep.decode((GOLDEN / name).read_bytes()).protocol_type == SIP
    ]


WRAPPED, RAW = recorded(0), recorded(1)


def test_there_was_golden_data_of_both_kinds() -> None:
    assert len(WRAPPED) >= 8
    assert len(RAW) >= 4


def again(name: str, settings: PacketSettings, message: bytes, number: int) -> bytes:
    """Write the message of a recorded packet again."""
    packet = hep.decode((GOLDEN / name).read_bytes())
    assert packet.src_ip is not None
    assert packet.dst_ip is not None
    assert packet.seconds is not None
    assert packet.microseconds is not None
    peer, local = Address(packet.src_ip, packet.src_port), Address(packet.dst_ip, packet.dst_port)
    connection = Connection(number, Listener.parse("ws:127.0.0.1:80"), local, peer, 1.0)
    time = packet.seconds + packet.microseconds / 1_000_000
    packets = ConnectionPackets(connection, settings)
    return packets.message(True, time, message, packet.correlation_id)


@pytest.mark.parametrize("name", WRAPPED)
def test_a_message_in_json_is_opensips_packet_byte_for_byte(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    packet = hep.decode(data)
    [extra] = packet.extra
    assert extra.type == EXTRA_CORRELATION
    number = int(json.loads(extra.data)["net"])
    message = json.loads(packet.payload)["payload"].encode()
    assert again(name, JSON, message, number) == data


@pytest.mark.parametrize("name", RAW)
def test_a_raw_message_is_opensips_packet_byte_for_byte(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    packet = hep.decode(data)
    assert packet.extra == ()
    assert again(name, replace(JSON, sip_format="raw"), packet.payload, 7) == data


@pytest.mark.parametrize("version", [1, 2])
def test_versions_without_chunks_have_the_message_as_it_is(
    version: int, connection: Connection
) -> None:
    packets = ConnectionPackets(connection, replace(JSON, version=version, capture_id=1))
    data = packets.message(True, 1_700_000_000.0, b"OPTIONS sip:a SIP/2.0\r\n\r\n", None)
    assert hep.decode(data).payload == b"OPTIONS sip:a SIP/2.0\r\n\r\n"


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_back_from_json(text: str) -> None:
    assert json.loads(wrapped(text.encode())) == {"payload": text}


@given(st.binary())
def test_bytes_that_are_no_text_stay_as_they_are(message: bytes) -> None:
    kept = wrapped(message).removeprefix(b'{\n\t"payload":\t"').removesuffix(b'"\n}')
    assert [x for x in kept if x >= 127] == [x for x in message if x >= 127]
    assert not any(x < 32 for x in kept)


@pytest.mark.parametrize(
    ("byte", "form"),
    [(b'"', b'\\"'), (b"\\", b"\\\\"), (b"\r", b"\\r"),
     (b"\x01", b"\\u0001"), (b"\x1f", b"\\u001f"),
     (b"/", b"/"), (b"\x7f", b"\x7f"), (b"\xff", b"\xff"), (b"\x08", b"\\b"), (b"\x0c", b"\\f")],
)  # fmt: skip
def test_bytes_are_escaped_as_cjson_does(byte: bytes, form: bytes) -> None:
    assert wrapped(byte) == b'{\n\t"payload":\t"' + form + b'"\n}'


@pytest.mark.parametrize("filling", [b"x", b"\r\n", b"\x01", b'"', b"\xff"])
@pytest.mark.parametrize("size", [9_000, 11_000, 30_000, 65_000, 66_000, 200_000])
@pytest.mark.parametrize("incoming", [True, False])
def test_a_message_that_is_too_long_in_json_is_cut_before_it_is_written(
    filling: bytes, size: int, incoming: bool, connection: Connection, bus: Bus
) -> None:
    # An id as long as ids may be leaves no room to spare.
    head = b"MESSAGE sip:a SIP/2.0\r\nCall-ID: %b\r\nCSeq: 1 MESSAGE\r\n\r\n" % (b"i" * 256)
    message = head + (filling * size)[:size]
    packets = list[bytes]()
    tracer = Tracer(bus, packets.append, TraceSettings(JSON, trace_sip=True))
    bus.publish(ConnectionOpened(connection, 1.0))
    bus.publish((MessageReceived if incoming else MessageSent)(connection, 1.0, message, True))
    [data] = packets
    assert len(data) <= LONGEST
    packet = hep.decode(data)
    start, end = b'{\n\t"payload":\t"', b'"\n}'
    assert packet.payload.startswith(start)
    assert packet.payload.endswith(end)
    kept = json.loads(packet.payload.decode("latin-1"))["payload"].encode("latin-1")
    assert message.startswith(kept)
    assert tracer.counters["too_long"] == (kept != message)
    if kept != message:
        # IPv6 addresses, and what one byte more could need, are all that is left for.
        assert len(data) > LONGEST - 40
