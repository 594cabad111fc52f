"""What peers send costs work in proportion to its bytes, whatever is in it.

Work is counted and not timed: each line of Python that runs, and each byte that a method of bytes
or a regular expression passes over. Four times the input must cost four times the work.
"""

import importlib.util
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import hep
import hep.sip
from hep.cli import display
from hep.codec import framing, v3
from hep.codec.correlation import identifier
from hep.errors import HepDecodeError
from hep.sending import records

SMALL = 1_200
TIMES = 4
TOLERANCE = 1.25
MOST = 40
"""Most work that a byte may cost."""


class Work:
    """Counts what is done inside ``with work.counted():``."""

    def __init__(self) -> None:
        self.done = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if not frame.f_globals.get("__name__", "").startswith("hep."):
                return None
            self.done += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


work = Work()


def _counted(base: Any, name: str, cost: Callable[[Any, tuple[Any, ...], Any], int]) -> Any:
    def method(self: Any, *args: Any) -> Any:
        result = getattr(base, name)(self, *args)
        work.done += cost(self, args, result)
        return _as_counted(result)

    return method


def _as_counted(value: Any) -> Any:
    if type(value) is bytes:
        return Bytes(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_as_counted, value)) if type(value) in (list, tuple) else value
    return value


def _to_the_match(self: Any, args: tuple[Any, ...], found: int) -> int:
    start = args[1] if len(args) > 1 else 0
    return (len(self) if found < 0 else found) - start


def _length(value: Any) -> int:
    return len(value) if isinstance(value, bytes | bytearray) else 1


def _counting(base: Any) -> dict[str, Any]:
    """Methods of bytes that count what they pass over."""
    whole = {
        name: _counted(base, name, lambda self, args, result: len(self))
        for name in (
            "partition", "rpartition", "split", "splitlines", "strip", "lower", "replace",
            "decode", "translate", "count", "join", "isascii",
        )
    }  # fmt: skip
    stripped = {
        name: _counted(base, name, lambda self, args, result: 1 + len(self) - len(result))
        for name in ("lstrip", "rstrip")
    }
    found = {name: _counted(base, name, _to_the_match) for name in ("find", "rfind", "index")}
    copied = {"__getitem__": _counted(base, "__getitem__", lambda s, a, r: _length(r))}
    return whole | stripped | found | copied


Bytes: Any = type("Bytes", (bytes,), _counting(bytes))
Buffer: Any = type("Buffer", (bytearray,), _counting(bytearray))


class Pattern:
    """A regular expression that counts the bytes that it passes over."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern

    def _match(self, how: str, data: Any, start: int = 0, *more: int) -> Any:
        match = getattr(self._pattern, how)(data, start, *more)
        end = match.end() if match else start if how == "match" else len(data)
        work.done += 1 + end - start
        return match

    def __getattr__(self, name: str) -> Any:
        if name in ("search", "match", "fullmatch"):
            return lambda *args: self._match(name, *args)
        return getattr(self._pattern, name)

    def sub(self, new: bytes, data: bytes) -> bytes:
        work.done += len(data)
        result: bytes = self._pattern.sub(new, data)
        return result


@pytest.fixture(scope="module")
def sip() -> Any:
    """Another copy of `hep.sip`, whose regular expressions count."""
    spec = importlib.util.find_spec("hep.sip")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    compiled = re.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(re, "compile", lambda *args: Pattern(compiled(*args)))
        spec.loader.exec_module(module)
    return module


def cost_of(parse: Callable[[bytes], object], data: bytes) -> int:
    work.done = 0
    with work.counted():
        parse(Bytes(data))
    return work.done


def assert_linear(parse: Callable[[bytes], object], make: Callable[[int], bytes]) -> None:
    """Compare the work for an input with that for a longer one of the same kind."""
    short, long = make(SMALL), make(SMALL * TIMES)
    cost_of(parse, short)
    few, many = cost_of(parse, short), cost_of(parse, long)
    assert few > 1, "nothing was counted"
    assert many / few < TOLERANCE * len(long) / len(short)
    assert many < MOST * len(long)


def filled(part: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: before + part * (size // len(part)) + after


STREAMS = {
    "bad lengths": filled(b"HEP3\0\0"),
    "both magics": filled(b"HEP3\0\5EEP1\0\4"),
    "one magic, then the other": lambda n: b"HEP3\0\1" * (n // 12) + b"EEP1\0\1" * (n // 12),
    "nearly a magic": filled(b"HEP"),
    "magics": filled(b"HEP3"),
    "zeros": filled(b"\0"),
    "packets": filled(b"HEP3\0\x0c\0\0\0\xff\0\6"),
    "one packet": lambda n: b"HEP3" + (n + 12).to_bytes(2) + b"\0\0\0\x0f" + bytes(2 + n),
}


@pytest.mark.parametrize("step", [1 << 30, 100, 1], ids=["whole", "pieces", "bytes"])
@pytest.mark.parametrize("name", STREAMS)
def test_splitting_a_stream_is_linear(
    name: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_HEADER", Pattern(framing._HEADER))

    def parse(data: bytes) -> None:
        splitter = hep.Splitter()
        splitter._buffer = Buffer()
        for start in range(0, len(data), step):
            splitter.feed(bytes(data[start : start + step]))

    assert_linear(parse, STREAMS[name])


@pytest.mark.parametrize("part", [b"HEP3", b"EEP1", b"HEP3EEP1", b"\0", b"\0\0\0\1"])
def test_reading_a_damaged_segment_of_an_earlier_version_is_linear(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Pattern(re.compile(b"HEP3|EEP1")).search
    monkeypatch.setattr(records, "_find_start", find)
    assert_linear(records.read_unmarked, filled(part))


def packet(part: bytes, before: bytes = b"") -> Callable[[int], bytes]:
    """A packet of so many equal chunks."""

    def make(size: int) -> bytes:
        body = before + part * (size // len(part))
        return v3.HEADER.pack(b"HEP3", v3.HEADER.size + len(body)) + body

    return make


def chunk(kind: int, data: bytes = b"", vendor: int = 0) -> bytes:
    return v3.chunk_bytes(vendor, kind, data)


START = hep.encode(hep.Packet(src_ip="192.0.2.1", dst_ip="192.0.2.2", seconds=1, microseconds=1))
PACKETS = {
    "empty chunks": packet(chunk(0xFF)),
    "chunks of a vendor": packet(chunk(7, vendor=9)),
    "payloads": packet(chunk(0x0F, b"x")),
    "keys": packet(chunk(0x0E)),
    "odd numbers": packet(chunk(0x0C, b"x")),
    "odd and other numbers": packet(chunk(0x0C, b"x") + chunk(0x07, b"xx") + chunk(0x12)),
    "addresses of both families": packet(chunk(3, bytes(4)) + chunk(5, bytes(16))),
    "repeated after many others": lambda n: packet(chunk(0x11), chunk(0xFF) * (n // 24))(n // 2),
    "usual, then empty chunks": packet(chunk(0xFF), START[6:]),
    "usual, then payloads": packet(chunk(0x0F), START[6:]),
    "not compressed twice": packet(chunk(0x10, b"?"), START[6:]),
    "compressed": lambda n: packet(chunk(0x10, zlib.compress(bytes(range(256)) * (n // 256))))(50),
}


def decode(data: bytes) -> None:
    try:
        hep.decode(data)
    except HepDecodeError:
        return


@pytest.mark.parametrize("name", [name for name in PACKETS if name != "compressed"])
def test_reading_a_packet_is_linear(name: str) -> None:
    assert_linear(decode, PACKETS[name])
    assert_linear(v3.auth_key, PACKETS[name])


@pytest.mark.parametrize("name", [name for name in PACKETS if name != "compressed"])
def test_encoding_and_showing_a_received_packet_is_linear(name: str) -> None:
    def show(data: bytes) -> None:
        received = hep.decode(bytes(data))
        hep.encode(received)
        display.describe(received)
        display.as_json_line(received)

    assert_linear(show, PACKETS[name])


def test_a_wrong_key_costs_less_than_the_packet() -> None:
    """A payload behind the key is not looked at, however long or compressed it is."""
    packets = [
        hep.encode(
            hep.compress(hep.Packet(payload=bytes(size), auth_key=b"wrong", src_ip="192.0.2.1"))
        )
        for size in (100, 1_000_000)
    ]
    few, many = (cost_of(v3.auth_key, each) for each in packets)
    assert few == many < 200
    assert cost_of(v3.auth_key, packets[0]) < cost_of(decode, packets[0]) / 2


@pytest.mark.parametrize("version", [1, 2])
def test_reading_versions_1_and_2_is_linear(version: int) -> None:
    start = bytes([version, 16, 2, 6]) + bytes(24)
    for name in ("zeros", "magics"):
        assert_linear(decode, lambda n, name=name: start + STREAMS[name](n))  # type: ignore[misc]


MESSAGES = {
    "line ends": filled(b"\r\n", b"OPTIONS sip:a SIP/2.0\r\n"),
    "line ends before": filled(b"\r\n", after=b"OPTIONS sip:a SIP/2.0\r\n\r\n"),
    "carriage returns": filled(b"\r", b"OPTIONS sip:a SIP/2.0\r\n"),
    "a start line": filled(b"x"),
    "words": filled(b"x "),
    "headers": filled(b"X-Y: z\r\n", b"OPTIONS sip:a SIP/2.0\r\n"),
    "call ids": filled(b"Call-ID: z\r\ni: z\r\n", b"OPTIONS sip:a SIP/2.0\r\n"),
    "nearly call ids": filled(b"Call-I\r\nCall-ID \r\n", b"OPTIONS sip:a SIP/2.0\r\n"),
    "folded lines": filled(b"i:\r\n ", b"OPTIONS sip:a SIP/2.0\r\n"),
    "blanks": filled(b" \t", b"OPTIONS sip:a SIP/2.0\r\nCall-ID"),
    "colons": filled(b":", b"OPTIONS sip:a SIP/2.0\r\n"),
    "nothing known": filled(b"\xff\0"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_reading_sip_is_linear(name: str, sip: Any) -> None:
    readers: list[Callable[[bytes], object]] = [
        sip.is_sip,
        sip.end_of_head,
        sip.start_line,
        sip.call_id,
        sip.finder("from", "to", "call-id", "contact", every=("contact",), request=True),
        lambda message: sip.fields(sip.head_of(message)),
    ]
    for read in readers:
        assert_linear(read, MESSAGES[name])


def test_making_an_identifier_is_linear() -> None:
    for part in (b"\0", b"\xff", b"a", "ä".encode()):
        assert cost_of(identifier, part * SMALL * TIMES) < MOST * SMALL * TIMES
