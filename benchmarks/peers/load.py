"""A client that costs little: raw sockets, requests made beforehand, answers counted.

What is measured is the server's processor time, so nothing here has to be quick, only quicker
than the server.
"""

import os
import select
import socket
import time
from collections.abc import Iterator

from websockets.frames import Frame, Opcode

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Upgrade: websocket\r\nOrigin: http://127.0.0.1\r\nSec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)
CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
ANSWER = b"SIP/2.0 200"


def request(number: int) -> bytes:
    """An OPTIONS as JsSIP sends it, in a masked frame."""
    message = (
        f"OPTIONS sip:example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56{number:05};rport\r\n"
        f"Max-Forwards: 69\r\nTo: <sip:example.com>\r\n"
        f'From: "Alice" <sip:alice@example.com>;tag=8n2gt3{number:05}\r\n'
        f"Call-ID: 4f1c2a7e9b{number:05}\r\nCSeq: {number} OPTIONS\r\n"
        f"Contact: <sip:g9q1h2kv@df7jal23ls0d.invalid;transport=ws>\r\n"
        f"Accept: application/sdp\r\nAllow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER\r\n"
        f"Supported: outbound\r\nUser-Agent: JsSIP 3.13.0\r\nContent-Length: 0\r\n\r\n"
    )
    return Frame(Opcode.TEXT, message.encode()).serialize(mask=True)


def _connected(port: int, source: str) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Without this the system reserves a port for any destination, and runs out of them.
    one.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    one.bind((source, 0))
    one.connect(("127.0.0.1", port))
    return one


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection whose handshake is done."""
    one = _connected(port, source)
    one.sendall(UPGRADE)
    reply = b""
    while b"\r\n\r\n" not in reply:
        if not (read := one.recv(4096)):
            break
        reply += read
    if not reply.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"no 101: {reply!r}")
    return one


class Exchanges:
    """Connections that each keep a number of requests in flight."""

    def __init__(self, port: int, connections: int, in_flight: int) -> None:
        frames = [request(number) for number in range(1, in_flight + 1)]
        self._requests = [b"".join(frames[:count]) for count in range(in_flight + 1)]
        self._sockets = {(one := connect(port)).fileno(): one for _ in range(connections)}
        self._tails = dict.fromkeys(self._sockets, b"")
        self._poll = select.epoll()
        for number, one in self._sockets.items():
            one.setblocking(False)
            self._poll.register(number, select.EPOLLIN)
            one.sendall(self._requests[in_flight])

    def run(self, count: int) -> int:
        """Go on until so many more answers have come; returns how many came."""
        answered = 0
        while answered < count:
            ready = self._poll.poll(10)
            if not ready:
                raise SystemExit("no answer within 10 s")
            for number, _ in ready:
                data = self._tails[number] + self._sockets[number].recv(65536)
                found = data.count(ANSWER)
                # An answer's first bytes may stand at the end of what was read.
                self._tails[number] = data[max(data.rfind(ANSWER) + 1, len(data) - 10, 0) :]
                if found:
                    answered += found
                    self._sockets[number].sendall(self._requests[found])
        return answered

    def close(self) -> None:
        """Drop the connections."""
        self._poll.close()
        for one in self._sockets.values():
            one.close()


def latencies(one: socket.socket, count: int) -> list[float]:
    """Seconds from each request to its answer, one at a time on a connection."""
    asked = request(1)
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        one.sendall(asked)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += one.recv(65536)
        times.append(time.perf_counter() - begun)
    return times


def come_and_go(port: int, count: int, at_once: int = 1, *, ask: bool = False) -> int:
    """Connect, shake hands, close with a close frame; so many connections at a time.

    Args:
        port: the server's.
        count: connections in all.
        at_once: connections at a time.
        ask: whether each has a request answered in between.
    """
    poll = select.epoll()
    alive: dict[int, socket.socket] = {}
    greeted: set[int] = set()
    answered: set[int] = set()
    begun = 0
    while begun < count or alive:
        while begun < count and len(alive) < at_once:
            one = _connected(port, "127.0.0.1")
            one.sendall(UPGRADE)
            alive[one.fileno()] = one
            poll.register(one, select.EPOLLIN)
            begun += 1
        ready = poll.poll(10)
        if not ready:
            raise SystemExit("no answer within 10 s")
        for number, _ in ready:
            one = alive[number]
            data = one.recv(4096)
            if number not in greeted:
                if not data.startswith(b"HTTP/1.1 101"):
                    raise SystemExit(f"no 101: {data!r}")
                greeted.add(number)
                one.sendall(request(1) if ask else CLOSE)
            elif ask and number not in answered:
                # An answer of a few hundred bytes comes in one piece.
                answered.add(number)
                one.sendall(CLOSE)
            elif not data:
                poll.unregister(one)
                greeted.discard(number)
                answered.discard(number)
                alive.pop(number).close()
    poll.close()
    return count


def hold(port: int, count: int) -> Iterator[socket.socket]:
    """Idle connections, from several addresses because the ports of one do not suffice."""
    for number in range(count):
        yield connect(port, f"127.0.0.{2 + number // 5000}")


def settle() -> None:
    """Let the server handle what was sent last."""
    select.select([], [], [], 0.3)


def pin(cpu: int) -> None:
    """Keep to one processor, away from the server's where there are two."""
    os.sched_setaffinity(0, {cpu})
