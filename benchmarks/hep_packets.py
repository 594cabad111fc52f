"""What a HEP packet costs, beside what others take for it: ``python benchmarks/hep_packets.py``.

Prints a table in Markdown: microseconds of processor time a packet, with a SIP message of 500
bytes. Whatever is compared takes turns, round after round, so that all share what else the machine
does; the best round counts. Traffic stays on loopback, a burst at a time.
"""

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import time
import timeit
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple

import asyncio_dgram
import uvloop

import hep

ROUNDS = 60
BURST = 64
"""Packets sent before what received them is emptied; a socket's buffer holds them."""

HERE = Path(__file__).parent
NPM_PACKAGES = HERE.parent / "tests" / "e2e" / "node_modules"

CALL_ID = b"a84b4c76e66710@pc33.example.com"
HEAD = (
    b"INVITE sip:bob@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks\r\n"
    b"From: <sip:alice@example.com>;tag=asdyka899\r\nTo: <sip:bob@example.com>\r\n"
    b"Call-ID: " + CALL_ID + b"\r\nCSeq: 1 INVITE\r\nContent-Length: 250\r\n\r\n"
)
PAYLOAD = HEAD + b"a" * (500 - len(HEAD))
PACKET = hep.Packet(
    src_ip="192.0.2.5",
    src_port=50123,
    dst_ip="192.0.2.1",
    dst_port=8080,
    seconds=1_700_000_000,
    microseconds=123_456,
    capture_id=2001,
    payload=PAYLOAD,
    correlation_id=CALL_ID,
)
DATA = hep.encode(PACKET)


class Row(NamedTuple):
    """A line of the table."""

    group: str
    what: str
    measure: Callable[[], float]
    """Microseconds of processor time a packet."""
    target: float | None = None


def calls(function: Callable[..., object], *arguments: object, number: int = 2_000) -> Any:
    """Measure a function that is called once a packet."""
    names = {f"a{n}": argument for n, argument in enumerate(arguments)}
    timer = timeit.Timer(
        f"function({', '.join(names)})", timer=time.process_time,
        globals={"function": function, **names},
    )  # fmt: skip
    return lambda: timer.timeit(number) / number * 1e6


def bare_struct() -> tuple[Callable[[], bytes], Callable[[bytes], tuple[Any, ...]]]:
    """The least that Python can do: one precompiled struct and a join; and the same backwards."""
    form = struct.Struct("!4sH 6sB 6sB 6sH 6sH 6sI 6sI 6sB 6sI 6s4s 6s4s 6s")
    behind = struct.Struct("!HHH")
    fixed = form.unpack_from(DATA)
    values = form.size - 6

    def pack() -> bytes:
        return b"".join(
            (form.pack(*fixed), PAYLOAD, behind.pack(0, 0x11, 6 + len(CALL_ID)), CALL_ID)
        )

    def unpack(data: bytes) -> tuple[Any, ...]:
        end = form.size + behind.unpack_from(data, values)[2] - 6
        return form.unpack_from(data), data[form.size : end], data[end + 6 :]

    assert pack() == DATA
    assert unpack(DATA)[1:] == (PAYLOAD, CALL_ID)
    return pack, unpack


def chunk_by_chunk() -> Callable[[], bytes]:
    """A dozen chunks, each packed by itself, and joined."""
    pack = struct.Struct("!HHH").pack
    chunks = [(chunk.type, chunk.data) for chunk in hep.codec.v3.chunks(PACKET)]

    def build() -> bytes:
        parts = [b"HEP3" + len(DATA).to_bytes(2)]
        for chunk_type, data in chunks:
            parts.append(pack(0, chunk_type, 6 + len(data)))
            parts.append(data)
        return b"".join(parts)

    assert build() == DATA
    return build


def codec() -> Iterator[Row]:
    """Packets to bytes and back."""
    prepared = hep.PreparedEncoder(PACKET)
    arguments = PACKET.seconds, PACKET.microseconds, PAYLOAD, CALL_ID
    assert prepared.encode(*arguments) == DATA
    decoded = hep.decode(DATA)
    pack, unpack = bare_struct()
    yield Row("encode", "`PreparedEncoder.encode`", calls(prepared.encode, *arguments), 0.4)
    yield Row("encode", "`hep.encode`", calls(hep.encode, PACKET), 3)
    yield Row("encode", "`hep.encode` of a decoded packet", calls(hep.encode, decoded))
    yield Row("encode", "one `struct` and a join, no more", calls(pack))
    yield Row("encode", "a `struct` a chunk and a join", calls(chunk_by_chunk()))
    yield Row("decode", "`hep.decode`", calls(hep.decode, DATA), 4)
    yield Row("decode", "one `struct` and slices, no more", calls(unpack, DATA))


def scapy() -> Iterator[Row]:
    """The layers of `hep.captures.scapy_layers`."""
    from hep.captures.scapy_layers import CHUNKS, HEP3

    fields = {
        0x01: {"ip_family": 2}, 0x02: {"ip_protocol": 6},
        0x07: {"src_port": 50123}, 0x08: {"dst_port": 8080},
        0x09: {"seconds": PACKET.seconds}, 0x0A: {"microseconds": PACKET.microseconds},
        0x0B: {"protocol_type": 1}, 0x0C: {"capture_id": 2001},
        0x03: {"src_ip": PACKET.src_ip}, 0x04: {"dst_ip": PACKET.dst_ip},
        0x0F: {"data": PAYLOAD}, 0x11: {"correlation_id": CALL_ID},
    }  # fmt: skip

    def build() -> bytes:
        return bytes(HEP3(chunks=[CHUNKS[kind](**values) for kind, values in fields.items()]))

    assert build() == DATA
    yield Row("encode", "scapy, building", calls(build, number=20))
    yield Row("decode", "scapy, dissecting", calls(HEP3, DATA, number=20))


def hep_js(stack: ExitStack) -> Iterator[Row]:
    """The hep-js of npm, in a process that takes its turns with the others."""
    node = shutil.which("node")
    if node is None or not (NPM_PACKAGES / "hep-js").exists():
        print("hep-js is left out: it needs Node, and 'make e2e' once\n")
        return
    command = [node, HERE / "hep_js.cjs"]
    environment = {**os.environ, "NODE_PATH": str(NPM_PACKAGES)}
    process = stack.enter_context(
        subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, text=True, bufsize=1)
    )
    stack.callback(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    ask, answers = process.stdin.write, process.stdout

    def measure(what: str, number: int = 2_000) -> Callable[[], float]:
        def one() -> float:
            ask(f"{what} {number}\n")
            return float(answers.readline()) / number

        return one

    ask(DATA.hex() + "\n")
    assert hep.decode(bytes.fromhex(answers.readline())).payload == PAYLOAD
    yield Row("encode", "hep-js (Node)", measure("encapsulate"))
    yield Row("decode", "hep-js (Node)", measure("decapsulate"))


@contextmanager
def datagram_sink() -> Iterator[socket.socket]:
    """A UDP socket on loopback."""
    with socket.socket(type=socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.setblocking(False)
        yield sink


def tcp_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sending = stack.enter_context(socket.create_connection(server.getsockname()))
        stream = stack.enter_context(server.accept()[0])
    stream.setblocking(False)
    return stream, sending


def empty(sink: socket.socket, packets: int) -> None:
    """Read what so many packets amount to."""
    missing = packets * len(DATA)
    while missing:
        try:
            missing -= len(sink.recv(1 << 20))
        except BlockingIOError:
            continue


Send = Callable[[], Coroutine[Any, Any, object]]


def system(stack: ExitStack) -> Iterator[Row]:
    """What the system itself takes."""
    sink = stack.enter_context(datagram_sink())
    raw = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    raw.connect(sink.getsockname())
    stream, sending = tcp_pair(stack)

    def one_by_one() -> None:
        for _ in range(BURST):
            raw.send(DATA)

    def joined() -> None:
        sending.send(b"".join([DATA] * BURST))

    def measure(send: Callable[[], None], into: socket.socket, times: int = 10) -> float:
        spent = 0.0
        for _ in range(times):
            start = time.process_time()
            send()
            spent += time.process_time() - start
            empty(into, BURST)
        return spent / times / BURST * 1e6

    yield Row("UDP", "`socket.send`, no more", lambda: measure(one_by_one, sink))
    yield Row("TCP", f"{BURST} joined, `socket.send`, no more", lambda: measure(joined, stream))


def loop(stack: ExitStack, name: str, new_loop: Any) -> Iterator[Row]:
    """Senders on an event loop."""
    runner = stack.enter_context(asyncio.Runner(loop_factory=new_loop))

    def measure(send: Send, into: socket.socket, packets: int) -> Callable[[], float]:
        times = 10 * BURST // packets

        async def run() -> float:
            spent = 0.0
            for _ in range(times):
                start = time.process_time()
                await send()
                spent += time.process_time() - start
                empty(into, packets)
            return spent

        return lambda: runner.run(run()) / times / packets * 1e6

    def sender_to(destination: socket.socket, transport: str) -> hep.Sender:
        sender = runner.run(opened(destination, transport))
        stack.callback(lambda: runner.run(sender.aclose()))
        return sender

    sink = stack.enter_context(datagram_sink())
    endpoint = runner.run(connected(sink))
    stack.callback(endpoint.close)

    async def by_endpoint() -> None:
        for _ in range(BURST):
            await endpoint.send(DATA)

    async def turns() -> float:
        start = time.process_time()
        for _ in range(1000):
            await asyncio.sleep(0)
        return time.process_time() - start

    udp = sender_to(sink, "udp")
    with socket.create_server(("127.0.0.1", 0)) as server:
        tcp = sender_to(server, "tcp")
        stream = stack.enter_context(server.accept()[0])
        stream.setblocking(False)
    for sender, into, transport, target in ((udp, sink, "UDP", 4.0), (tcp, stream, "TCP", 0.8)):
        for packets in (BURST, 1):
            yield Row(
                transport,
                f"`Sender.send`, {packets} a turn of {name}",
                measure(through(sender, packets), into, packets),
                target if packets == BURST else None,
            )
    yield Row("UDP", f"`asyncio_dgram` send, {name}", measure(by_endpoint, sink, BURST))
    yield Row(
        "event loop",
        f"a turn of {name} in which nothing happens",
        lambda: runner.run(turns()) * 1e3,
    )


async def connected(sink: socket.socket) -> Any:
    """An endpoint of asyncio-dgram."""
    return await asyncio_dgram.connect(sink.getsockname())


async def opened(destination: socket.socket, transport: Any) -> hep.Sender:
    """A sender that is connected."""
    sender = hep.open_sender(hep.HepId(*destination.getsockname()[:2], transport))
    while not sender.connects:  # noqa: ASYNC110 - only here
        await asyncio.sleep(0.001)
    return sender


def through(sender: hep.Sender, packets: int) -> Send:
    """Hand packets to a sender and let the event loop turn until the system has them."""
    counters = sender.counters

    async def send() -> None:
        for _ in range(packets):
            sender.send(DATA)
        while counters.queued:  # noqa: ASYNC110 - a turn of the loop is what is measured
            await asyncio.sleep(0)

    return send


def main() -> None:
    """Measure and print."""
    with ExitStack() as stack:
        rows = [
            *codec(),
            *scapy(),
            *hep_js(stack),
            *system(stack),
            *loop(stack, "asyncio", asyncio.new_event_loop),
            *loop(stack, "uvloop", uvloop.new_event_loop),
        ]
        best = dict.fromkeys(rows, float("inf"))
        for _ in range(ROUNDS):
            for row in rows:
                best[row] = min(best[row], row.measure())
    groups = list(dict.fromkeys(row.group for row in rows))
    rows.sort(key=lambda row: (groups.index(row.group), best[row]))
    print("| what | µs | at most |\n| --- | --- | --- |")
    for row in rows:
        figure = f"{best[row]:.{2 if best[row] < 2 else 1 if best[row] < 20 else 0}f}"
        print(f"| {row.group}: {row.what} | {figure} | {row.target or ''} |")


if __name__ == "__main__":
    main()
