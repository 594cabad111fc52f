"""Sockets of an opensips.cfg, as its grammar reads them."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import ConfigurationError, Listener
from sipws.config.opensips import sockets
from sipws.config.opensips.reader import OpensipsCfg
from sipws.config.opensips.report import Report
from sipws.tracing.filter import Script

Read = Callable[..., OpensipsCfg]


@pytest.mark.parametrize(
    ("text", "listeners"),
    [
        ("ws:10.0.0.1:80-82", ["ws:10.0.0.1:80", "ws:10.0.0.1:81", "ws:10.0.0.1:82"]),
        ("ws:10.0.0.1:80,90-91", ["ws:10.0.0.1:80", "ws:10.0.0.1:90", "ws:10.0.0.1:91"]),
        ("ws : [2001:db8::5] : 80 , 81", ["ws:[2001:db8::5]:80", "ws:[2001:db8::5]:81"]),
        ("ws:2001:db8::5", ["ws:[2001:db8::5]"]),
        ("ws:*:80", ["ws:*:80"]),
        ("ws:*", ["ws:*"]),
        ("ws:10.0.0.1:0x50", ["ws:10.0.0.1:80"]),
        ("ws:my-host.example.com:80", ["ws:my-host.example.com:80"]),
        ("ws:'3cx.example.com':80", ["ws:3cx.example.com:80"]),
        ("wss:lan0:443", ["wss:10.0.0.1:443", "wss:[2001:db8::1]:443"]),
        ('ws:"lan0"', ["ws:10.0.0.1", "ws:[2001:db8::1]"]),
        ("ws:10.0.0.1 tag a tag b", ["ws:10.0.0.1 tag b"]),
        ("ws:10.0.0.1 as [2001:db8::9]:80-90 tag x", ["ws:10.0.0.1 tag x as [2001:db8::9]:80"]),
        ("ws:10.0.0.1 ANYCAST USE_WORKERS 5 TOS 0x10 FRAG REUSE_PORT", ["ws:10.0.0.1"]),
        ("ws:10.0.0.1 use_auto_scaling_profile P1 accept_subdomain", ["ws:10.0.0.1"]),
        ("ws:10.0.0.1 /* a */ tag /* b\n */ x # c\n as 10.0.0.9",
         ["ws:10.0.0.1 tag x as 10.0.0.9"]),
        ("ws:10.0.0.1 \\\n\ttag \\\n x", ["ws:10.0.0.1 tag x"]),
        ("ws:10.0.0.1\nlisten=ws:10.0.0.2", ["ws:10.0.0.1", "ws:10.0.0.2"]),
        ("ws:10.0.0.1 socket=udp:10.0.0.1 socket=ws:10.0.0.2", ["ws:10.0.0.1", "ws:10.0.0.2"]),
        ("ws:10.0.0.1\nloadmodule \"a.so\"\nroute { exit; }", ["ws:10.0.0.1"]),
        ("ws:10.0.0.1 socket=ws:10.0.0.1:80 socket=ws:lan0", ["ws:10.0.0.1", "ws:[2001:db8::1]"]),
    ],
)  # fmt: skip
def test_listeners(opensips: Read, text: str, listeners: list[str]) -> None:
    cfg = opensips(f"socket={text}")
    definitions = [socket.definition for socket in cfg.sockets]
    assert list(map(Listener.parse, definitions)) == list(map(Listener.parse, listeners))


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("ws:10.0.0.1;", 19, "no ';' ends a socket"),
        ('"ws:10.0.0.1"', 8, "without quotes"),
        ("ws", 10, "the socket ends here instead of ':' and a host"),
        ("ws:10.0.0.1:", 20, "the socket ends here instead of a port number"),
        ("ws:10.0.0.1:on", 20, "'on' instead of a port number"),
        ("ws:10.0.0.1:90-80", 20, "invalid port range (90 > 80)"),
        ("ws:10.0.0.1:1-65535", 20, "more than 1000 ports"),
        ("ws:10.0.0.1:80,", 23, "the socket ends here instead of a port number"),
        ("ws:10.0.0.1:65536", 20, "'65536' is not a port"),
        ("ws:[10.0.0.1", 20, "the socket ends here instead of ']'"),
        ("ws:a.1", 13, "'1' instead of a name; put a host name with digits"),
        ("ws:10.0.0.1 TAG x", 20, "'TAG' cannot stand after a socket"),
        ("ws:10.0.0.1 Anycast", 20, "'Anycast' cannot stand after a socket"),
        ('ws:10.0.0.1 tag "x"', 24, "a name without quotes"),
        ("ws:10.0.0.1 use_workers x", 32, "'x' instead of a number after use_workers"),
        ("ws:10.0.0.1 as", 22, "the socket ends here instead of a host"),
        ("ws:10.0.0.1 10.0.0.2", 20, "cannot stand after a socket"),
    ],
)
def test_what_is_refused_has_its_place(
    opensips: Read, text: str, column: int, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        opensips(f"socket={text}")
    first = str(refused.value).splitlines()[0]
    place, _, said = first.partition(": error: ")
    assert problem in said
    assert place.endswith(f"opensips.cfg:2:{column}")


def test_all_mistakes_are_told_at_once(opensips: Read) -> None:
    with pytest.raises(ConfigurationError) as refused:
        opensips("socket=ws:10.0.0.1;", 'modparam("proto_ws", "nope", 1)', "socket=ws:")
    assert str(refused.value).count("error:") == 3


@pytest.mark.parametrize(
    ("text", "outcome", "remark"),
    [
        ("ws:10.0.0.1", "taken", None),
        ("ws:lan0", "changed", "lan0 has the addresses 10.0.0.1, 2001:db8::1 on this machine"),
        ("ws:10.0.0.1 use_workers 4", "changed", "without use_workers 4 (set transport.workers"),
        ("ws:10.0.0.1 anycast", "changed", "without anycast ("),
        ("tcp:10.0.0.1", "not taken", "tcp is not WebSocket"),
        ("hep_udp:10.0.0.1:9060", "not taken", "hep_udp is not WebSocket"),
    ],
)
def test_what_becomes_of_it(opensips: Read, text: str, outcome: str, remark: str | None) -> None:
    [line] = opensips(f"socket={text}").lines
    assert (line.outcome, line.text) == (outcome, f"socket={text}")
    assert line.remarks == [] if remark is None else line.remarks[0].startswith(remark)


NAME = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("and", "or", "not", "if", "in", "as", "tag", "on", "off", "no", "yes")
)
BLANK = st.sampled_from(["", " ", "\t", " /* x */ ", " \\\n "])
PORTS = st.lists(st.integers(0, 65535), min_size=1, max_size=3)


@given(
    proto=st.sampled_from(["ws", "wss", "WS", "Wss"]),
    host=st.ip_addresses(),
    ports=PORTS,
    blanks=st.lists(BLANK, min_size=4, max_size=4),
    words=st.permutations(["anycast", "tag edge", "use_workers 3", "as 192.0.2.1:5", "frag"]),
)
def test_blanks_and_the_order_of_words_do_not_matter(
    proto: str, host: Any, ports: list[int], blanks: list[str], words: list[str]
) -> None:
    where = f"[{host}]" if host.version == 6 else str(host)
    a, b, c, d = blanks
    numbers = f"{c},{d}".join(map(str, ports))
    text = f"socket={a}{proto}{b}:{a}{where}{c}:{d}{numbers} {' '.join(words)}"
    script = Script.parse(f"log_level=3\n{text}\n")
    report = Report(script.source)
    [tokens] = script.contents.sockets
    found = sockets.read_socket(tokens, report, lambda name: ())
    report.check()
    assert [Listener.parse(each.definition) for each in found] == [
        Listener(proto.lower(), str(host), port, "edge", "192.0.2.1", 5)  # type: ignore[arg-type]
        for port in ports
    ]


@given(st.text(alphabet="ws:.[]*0123456789abcdef, -\"'\\\n/*#tagus;$(){}=", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        script = Script.parse(f"log_level=3\nsocket={text}\n")
    except ConfigurationError:
        return
    report = Report(script.source)
    for tokens in script.contents.sockets:
        for socket in sockets.read_socket(tokens, report, lambda name: ()):
            assert socket.proto in ("ws", "wss")
    with suppress(ConfigurationError):
        report.check()
