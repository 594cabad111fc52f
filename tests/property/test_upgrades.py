"""Upgrade requests are answered without the engine, and nothing shows that they are.

The same request goes through a session as it is and through one that leaves it to the engine. What
they report and write must be equal, except for the answer's Date.
"""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from sipws import Limits
from sipws.events import Accepted
from sipws.ws.handshake import Refusal, end_of_request, read_request
from sipws.ws.handshake_fast_path import short_answer
from sipws.ws.server_session import ServerSession
from tests.property.sides import KEY, Server, ServerByEngine

USUAL = [
    ("Host", "sip.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Origin", "https://phone.example.com"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", "sip"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
    ("User-Agent", "Mozilla/5.0"),
]
HOSTS = ["a:1", "a:b", "a b", "[::1]", "u@a", "a/", "\x01", ":1", "a:99999", "1.2.3.4", "é"]
NAMES = [name for name, _ in USUAL] + ["Content-Length", "Transfer-Encoding", "Cookie", "X", "x y"]
NAMES += ["host", "SEC-WEBSOCKET-KEY", "Sec-WebSocket-Key ", "", "Sec_WebSocket_Key", "Te"]
VALUES = [value for _, value in USUAL] + ["", "0", "1", "x", "a, sip", "sip,a", "sip, sip", ",sip"]
VALUES += ["sip,,a", "sip ,\ta", "Upgrade", "upgrade", "WebSocket", "h2c, websocket", "a b", "\x00"]
VALUES += ["dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25jZQ", "dGhl\n", "13, 13", "8", "\xe9"]
VALUES += HOSTS
VALUES += ["close", 'permessage-deflate; x="', "a; b=c", "x" * 9000, "\x7f", "\t", "SIP", "msrp"]
LINES = ["GET / HTTP/1.1"] * 6 + ["GET /ws?a=b HTTP/1.1", "GET  / HTTP/1.1", "GET / HTTP/1.0"]
LINES += ["GET /\x01 HTTP/1.1", "GET /a#b HTTP/1.1", "GET * HTTP/1.1", "GET ws://a/b HTTP/1.1"]
LINES += ["POST / HTTP/1.1", "GET /\xe9 HTTP/1.1", "GET / x HTTP/1.1", "get / HTTP/1.1", "GET"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """An upgrade request as browsers send it, with a few things changed, lost, added or broken."""
    headers = list(USUAL)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(headers) - 1)) if headers else 0
        name, value = draw(st.sampled_from(NAMES)), draw(st.sampled_from(VALUES))
        match draw(st.integers(0, 4)):
            case 0:
                headers[at : at + 1] = [(headers[at][0], value)] if headers else []
            case 1:
                headers[at : at + 1] = [(name, headers[at][1])] if headers else []
            case 2 | 3:
                headers.insert(at, (name, value))
            case _:
                headers[at : at + 1] = []
    headers += [("X", "y")] * draw(st.sampled_from([0] * 8 + [119, 120, 121]))
    colon = st.sampled_from([": "] * 20 + [":", ":\t ", "", " : "])
    ends = st.sampled_from(["\r\n"] * 40 + ["\n", "\r", " \r\n", "\r\n "])
    lines = [draw(st.sampled_from(LINES)), *(name + draw(colon) + value for name, value in headers)]
    return ("".join(line + draw(ends) for line in lines) + "\r\n").encode("latin-1")


def compare(
    request: bytes,
    subprotocols: list[Subprotocol],
    compression: bool,
    limits: Limits = Limits(request_size=16 * 1024),  # noqa: B008  it is a value
) -> None:
    told = []
    for kind in (ServerSession, ServerByEngine):
        session = kind(
            Server.connection, limits, subprotocols=subprotocols, compression=compression
        )
        events = repr(session.receive(request, 0.5))
        writes = repr(session.take_writes())
        told.append([re.sub(r"Date: [^\\]*", "Date", text) for text in (events, writes)])
        told[-1] += [repr(session.phase), repr(session.accepted)]
    assert told[0] == told[1]


@given(
    requests(),
    st.sampled_from([["sip"], [], ["msrp", "sip"], ["mqtt"]]),
    st.booleans(),
)
@example(
    "".join(f"{line}\r\n" for line in ["GET / HTTP/1.1", *map(": ".join, USUAL), ""]).encode(),
    ["msrp", "sip"],
    True,
)
def test_no_difference_between_the_ways(
    request: bytes, subprotocols: list[str], compression: bool
) -> None:
    compare(request, [Subprotocol(name) for name in subprotocols], compression)


@given(requests())
def test_nothing_is_read_that_the_engine_would_not_read(request: bytes) -> None:
    """What is read here is read alike by the engine, which may refuse no more than this."""
    engine = ServerProtocol()
    engine.receive_data(request)
    [*found] = engine.events_received()
    end = end_of_request(request)
    ours = read_request(request[:end], Limits(request_size=1 << 20, headers=128))
    if isinstance(ours, Refusal):
        return
    if ours.headers and max(map(len, request.split(b"\r\n"))) > 8190:
        # The engine's own limit, which a setting may exceed.
        return
    assert [ours] == found


@given(requests(), st.integers(100, 9_100), st.integers(1, 130))
def test_no_difference_between_the_ways_whatever_the_limits(
    request: bytes, line: int, headers: int
) -> None:
    compare(request, [Subprotocol("sip")], False, Limits(header_line=line, headers=headers))


@pytest.mark.parametrize("spelling", [str, str.lower, str.upper])
def test_what_browsers_send_is_answered_at_once(spelling: type[str]) -> None:
    lines = ["GET / HTTP/1.1", *(f"{spelling(name)}: {value}" for name, value in USUAL), "", ""]
    request = "\r\n".join(lines).encode()
    reply = short_answer(request, ["sip"], 0.0)
    assert reply is not None
    assert b"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in reply
    # RFC 6455 section 1.3 has this key and this answer.
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in reply
    *_, accepted = ServerSession(Server.connection, Limits()).receive(request, 0.0)
    assert isinstance(accepted, Accepted)
    assert accepted.reply == reply
