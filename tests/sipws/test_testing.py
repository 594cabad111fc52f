"""A flow without a network, and a recorder of HEP packets."""

import re
import types
from pathlib import Path
from typing import Any

import pytest

import hep
from sipws import Address, ConnectionClosedError, Flow, TransportError
from sipws.events import ErrorKind
from sipws.sip import Request, response
from sipws.testing import HepRecorder, MemoryFlow
from sipws.ws.phase import Phase

DOCS = Path(__file__).parents[2] / "docs" / "library.md"
OPTIONS = (
    b"OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
)


def answer(flow: Flow, message: bytes) -> None:
    request = Request.read(message)
    if request is not None:
        flow.send(response(request, 200))


def test_a_handler_gets_messages_and_what_it_sends_is_kept() -> None:
    received: list[bytes] = []

    def handle(flow: Flow, message: bytes) -> None:
        received.append(message)
        answer(flow, message)

    flow = MemoryFlow(handle, peer="[2001:db8::5]:50123", listener="wss:192.0.2.1:443 tag edge")
    assert isinstance(flow, Flow)
    assert flow.connection.peer == Address("2001:db8::5", 50123)
    assert flow.connection.local == Address("192.0.2.1", 443)
    assert flow.connection.listener.tag == "edge"
    for message in (OPTIONS, b"\r\n\r\n", b"\r\n", b""):
        flow.receive(message)
    assert received == [OPTIONS], "as of a server, no keep-alive reaches the handler"
    assert flow.sent == [response(OPTIONS, 200), b"\r\n"]
    assert [each.status for each in flow.responses] == [200]
    flow.send(OPTIONS)
    assert [each.method for each in flow.requests] == ["OPTIONS"]
    sizes = len(OPTIONS) + 6, len(flow.sent[0]) + 2 + len(OPTIONS)
    assert flow.traffic == (4, 3, *sizes)
    assert flow.connection.id != MemoryFlow().connection.id


def test_an_exception_of_a_handler_reaches_the_test() -> None:
    def broken(flow: Flow, message: bytes) -> None:
        raise LookupError(message)

    with pytest.raises(LookupError):
        MemoryFlow(broken).receive(OPTIONS)


async def test_a_closed_flow_is_closed() -> None:
    flow = MemoryFlow(answer)
    assert flow.is_open
    assert flow.is_reading
    await flow.drain()
    flow.close(1008, "no more")
    flow.close(1000, "again")
    assert flow.closed == (1008, "no more")
    assert flow.phase is Phase.CLOSING
    assert not flow.is_open
    for call in (lambda: flow.send(b"x"), lambda: flow.receive(OPTIONS)):
        with pytest.raises(ConnectionClosedError, match="is closing: nothing can be sent"):
            call()
    with pytest.raises(ConnectionClosedError):
        await flow.drain()
    flow = MemoryFlow()
    flow.abort(ErrorKind.CLOSE_TIMEOUT, "gone")
    assert flow.closed == (1006, "gone")
    assert flow.phase is Phase.CLOSED


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (1000, "x" * 124), (42, "")])
def test_what_a_connection_cannot_send_is_refused(code: int, reason: str) -> None:
    flow = MemoryFlow()
    with pytest.raises(TransportError, match="close"):
        flow.close(code, reason)
    with pytest.raises(UnicodeDecodeError):
        flow.send(b"\xff", text=True)
    assert flow.is_open


def packet(payload: bytes) -> bytes:
    return hep.encode(
        hep.Packet(
            src_ip="192.0.2.1",
            src_port=1,
            dst_ip="192.0.2.2",
            dst_port=2,
            seconds=1,
            microseconds=0,
            payload=payload,
        )
    )


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_recorder_keeps_packets(transport: Any) -> None:
    async with HepRecorder(transport) as recorder:
        async with hep.open_sender(recorder.destination) as sender:
            sender.send(packet(b"one"))
            assert [each.payload for each in await recorder.wait_for(1)] == [b"one"]
            sender.send(packet(b"two"))
            await recorder.wait_for(2)
        assert recorder.payloads == [b"one", b"two"]
        with pytest.raises(TimeoutError, match=r"2 of 3 packets were received within 0\.01 s"):
            await recorder.wait_for(3, seconds=0.01)


def test_a_recorder_has_two_transports() -> None:
    wrong: Any = "tls"
    with pytest.raises(ValueError, match="'tls' is not one of tcp and udp"):
        HepRecorder(wrong)


def test_the_documented_examples_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    ran = []
    for block in blocks:
        module = types.ModuleType("example")
        exec(compile(block, str(DOCS), "exec"), module.__dict__)
        for name, each in vars(module).items():
            if name.startswith("test_"):
                each()
                ran.append(name)
    assert ran == ["test_options_gets_200", "test_a_call_is_traced_by_its_call_id"]
