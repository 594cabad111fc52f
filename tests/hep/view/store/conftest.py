"""Packets of calls and connections, as agents send them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hep
from hep.view.model.record import Record, record_of
from hep.view.store.keep import Keep
from hep.view.store.store import Store

NOW = 1_764_500_000


def sip(
    call_id: str,
    *,
    at: float = NOW,
    src: str = "10.1.0.7:50123",
    dst: str = "10.0.0.1:8080",
    method: str = "INVITE",
    status: int = 0,
    caller: str = "alice",
    callee: str = "bob",
    host: str = "example.com",
    branch: str = "z9hG4bKfirst",
    cseq: int = 1,
    body: str = "",
) -> Record:
    start = f"SIP/2.0 {status} Reason" if status else f"{method} sip:{callee}@example.com SIP/2.0"
    message = (
        f"{start}\r\nVia: SIP/2.0/WS a.invalid;branch={branch}\r\n"
        f"From: <sip:{caller}@{host}>;tag=one\r\nTo: <sip:{callee}@example.com>"
        f"{';tag=two' if status > 100 else ''}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nUser-Agent: a phone\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    return _record(message.encode(), 1, at, src, dst, call_id)


def event(
    connection: str,
    name: str,
    *,
    at: float = NOW,
    src: str = "10.1.0.7:50123",
    dst: str = "10.0.0.1:8080",
    **members: object,
) -> Record:
    keys = {"Protocol": "WS", "Event": name, "Status": "SUCCESS", **members}
    payload = json.dumps({key: str(text) for key, text in keys.items()}).encode()
    return _record(payload, 0x59, at, src, dst, connection)


def _record(payload: bytes, kind: int, at: float, src: str, dst: str, correlation: str) -> Record:
    (src_ip, _, src_port), (dst_ip, _, dst_port) = src.rpartition(":"), dst.rpartition(":")
    packet = hep.Packet(
        src_ip=src_ip,
        src_port=int(src_port),
        dst_ip=dst_ip,
        dst_port=int(dst_port),
        payload=payload,
        protocol_type=kind,
        seconds=int(at),
        microseconds=round(at % 1 * 1e6),
        correlation_id=correlation.encode(),
    )
    return record_of(packet, NOW)


@pytest.fixture(params=["memory", "disk"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Opens stores, in memory and on disk."""
    made: list[Store] = []

    def open_(keep: Keep = Keep()) -> Store:  # noqa: B008 - a value
        made.append(Store(tmp_path / "store" if request.param == "disk" else None, keep))
        return made[-1]

    yield open_
    for store in made:
        store.close()


@pytest.fixture
def store(opened: Callable[..., Store]) -> Store:
    return opened()
