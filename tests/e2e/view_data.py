"""Writes a file of HEP packets as a sipws with some phones would send in half an hour.

Usage: python view_data.py FILE. The calls are those of tests/data/view; phones, registrations and
refused handshakes are made up. Times are fixed, so that pictures of them stay the same.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import hep
from hep.view.model.record import Kind

sys.path.insert(0, str(Path(__file__).parents[1] / "hep/view/model"))
from case_files import CALLS, START, Case, read

DAY = 1_772_442_000_000_000
"""2 March 2026, 09:00:00 UTC."""

PEOPLE = [
    "anna", "ben", "carla", "david", "elif", "farid", "grace", "hugo", "ines", "jonas", "kofi",
    "lena", "marta", "nils", "olga", "paul", "rosa", "samir", "tess", "yuki",
]  # fmt: skip
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/143.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/143.0.0.0 Mobile Safari/537.36",
]
RELAYED = [
    "jssip-answered", "jssip-busy", "jssip-hold", "sipjs-answered", "jssip-cancelled",
    "jssip-killed-up", "jssip-transfer", "jssip-no-answer", "sipjs-declined", "jssip-forked",
    "jssip-challenged", "jssip-caller-stopped", "jssip-killed-ringing", "jssip-not-registered",
    "jssip-wrong-password", "jssip-message", "jssip-registration",
]  # fmt: skip
SERVER = "192.0.2.1:8080"
SIP, EVENT = hep.ProtocolType.SIP, hep.ProtocolType.NET


@dataclass
class Sent:
    """A packet."""

    at: int
    src: str
    dst: str
    payload: bytes
    kind: int = SIP
    connection: str = ""

    def packet(self) -> hep.Packet:
        src_ip, _, src_port = self.src.rpartition(":")
        dst_ip, _, dst_port = self.dst.rpartition(":")
        return hep.Packet(
            src_ip=src_ip, src_port=int(src_port), dst_ip=dst_ip, dst_port=int(dst_port),
            seconds=self.at // 1_000_000, microseconds=self.at % 1_000_000, capture_id=2001,
            ip_protocol=6, protocol_type=self.kind, payload=self.payload,
            correlation_id=self.connection.encode() or None,
        )  # fmt: skip


class World:
    """What is sent."""

    def __init__(self) -> None:
        self.random = Random(7)
        self.sent: list[Sent] = []
        self._connections = 48_271_970_375_000

    def connection_id(self) -> str:
        self._connections += 1
        return str(self._connections)

    def event(self, at: int, peer: str, connection: str, parts: dict[str, Any], local: str = SERVER,
              *, upstream: bool = False) -> None:  # fmt: skip
        payload = json.dumps({"Protocol": "WS" if upstream else "WSS", **parts}).encode()
        src, dst = (local, peer) if upstream else (peer, local)
        self.sent.append(Sent(at, src, dst, payload, EVENT, connection))

    def opened(
        self, at: int, peer: str, connection: str, local: str, *, upstream: bool, other: str
    ) -> None:
        agent = self.random.choice(AGENTS)
        request = (
            "GET /sip HTTP/1.1\r\nHost: phone.example.com\r\n"
            + ("User-Agent: sipws\r\n" if upstream else
               f"User-Agent: {agent}\r\nOrigin: https://phone.example.com\r\n")
            + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
        )  # fmt: skip
        name = "CONNECTED" if upstream else "ACCEPTED"
        parts = {
            "Event": name, "Ws-Request": request, "Status": "SUCCESS",
            "Ws-Reply": "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
            "Message": "Connection accepted...", "event": name,
            **({"Relayed_With": other} if other else {}),
        }  # fmt: skip
        self.event(at, peer, connection, parts, local, upstream=upstream)

    def closed(
        self, at: int, peer: str, connection: str, code: int, by: str, local: str = SERVER,
        *, upstream: bool = False, since: int = 0,
    ) -> None:  # fmt: skip
        lost = code == 1006
        message = "the connection ended without a close frame" if lost else f"closed with {code}"
        parts = {
            "Event": "CLOSED", "Status": "FAILURE" if lost else "SUCCESS", "Message": message,
            "Close_Code": str(code), "Closed_By": by, "event": f"CLOSED {code}",
            "Duration": f"{(at - since) / 1e6:.1f}",
            **({"Error": "connection-lost"} if lost else {}),
        }  # fmt: skip
        self.event(at, peer, connection, parts, local, upstream=upstream)

    def case(self, case: Case, at: int, number: int) -> None:
        """A recorded call, with other people."""
        chosen = [name.encode() for name in self.random.sample(PEOPLE, 5)]
        recorded = (b"alice", b"bob", b"dora", b"reg", b"carol")
        names = dict(zip(recorded, chosen, strict=True))
        pattern = re.compile(rb"\b(" + b"|".join(names) + rb")(?=@|;|\")")

        def address(text: str) -> str:
            return re.sub(
                r"198\.51\.100\.(\d+)", lambda m: f"198.51.100.{int(m[1]) + 5 * number}", text
            )

        def when(time: int) -> int:
            return at + time - START

        def of_people(payload: bytes) -> bytes:
            text = pattern.sub(lambda m: names[m[1]], payload)
            return text.replace(b"Call-ID: ", b"Call-ID: %d-" % number, 1)

        ids = {each.id: self.connection_id() for each in case.connections}
        for each in case.connections:
            other = ids.get(str(int(each.id) + (1 if each.leg == "client" else -1)), "")
            upstream = each.leg == "upstream"
            peer = address(each.peer)
            self.opened(
                when(each.since), peer, ids[each.id], each.local, upstream=upstream, other=other
            )
            if each.until:
                code, by = (each.code, each.closed_by)
                kept = self.random.random() < 0.5 and code != 1006
                self.closed(when(each.until), peer, ids[each.id], code, "peer" if kept else by,
                            each.local, upstream=upstream, since=when(each.since))  # fmt: skip
        for record in case.records:
            if record.kind is Kind.SIP:
                self.sent.append(Sent(when(record.at), address(record.src), address(record.dst),
                                      of_people(record.payload)))  # fmt: skip

    def phone(self, at: int, number: int) -> None:
        """A phone that is registered."""
        peer = f"198.51.100.{200 + number}:{40000 + self.random.randrange(20000)}"
        connection, name = self.connection_id(), PEOPLE[number % len(PEOPLE)]
        self.opened(at, peer, connection, SERVER, upstream=False, other="")
        expires = self.random.choice((300, 600))
        common = (
            f"Via: SIP/2.0/WSS {name}.invalid;branch=z9hG4bK{number}\r\n"
            f"From: <sip:{name}@example.com>;tag={number}\r\nTo: <sip:{name}@example.com>\r\n"
            f"Call-ID: reg-{number:04}@{name}.invalid\r\nCSeq: 1 REGISTER\r\n"
        )
        request = (
            f"REGISTER sip:example.com SIP/2.0\r\n{common}Max-Forwards: 70\r\n"
            f"Contact: <sip:{name}@{name}.invalid;transport=ws>;expires={expires}\r\n"
            "User-Agent: JsSIP 3.13.8\r\nContent-Length: 0\r\n\r\n"
        )
        status = "403 Forbidden" if number % 9 == 4 else "200 OK"
        answer = f"SIP/2.0 {status}\r\n{common}Expires: {expires}\r\nContent-Length: 0\r\n\r\n"
        self.sent.append(Sent(at + 80_000, peer, SERVER, request.encode()))
        self.sent.append(Sent(at + 81_500, SERVER, peer, answer.encode()))
        if number % 3 == 0:
            code, by = self.random.choice(
                ((1000, "peer"), (1001, "peer"), (1006, "peer"), (4001, "local"))
            )
            end = at + self.random.randrange(200, 900) * 1_000_000
            self.closed(end, peer, connection, code, by, since=at)

    def refused(self, at: int, number: int) -> None:
        """A handshake that is refused."""
        status, error, why = (
            ("400 Bad Request", "no-subprotocol",
             "the WebSocket subprotocol 'sip' must be offered"),
            ("403 Forbidden", "no-origin",
             "require_origin is on and there is no Origin header"),
            ("503 Service Unavailable", "too-many-connections", "max_connections_per_ip is 10"),
        )[(number * 5 // 4) % 3]  # fmt: skip
        peer = f"203.0.113.{number % 3 + 7}:{50000 + number}"
        parts = {
            "Event": "ACCEPTED", "Status": "FAILURE", "Message": why, "Error": error,
            "Error_Detail": why, "event": f"REFUSED {status[:3]}",
            "Ws-Request": "GET / HTTP/1.1\r\nHost: phone.example.com\r\n"
                          "User-Agent: curl/8.17\r\n\r\n",
            "Ws-Reply": f"HTTP/1.1 {status}\r\n\r\n",
        }  # fmt: skip
        self.event(at, peer, self.connection_id(), parts)

    def build(self) -> list[Sent]:
        """All of it, by time."""
        minute = 60_000_000
        for number in range(24):
            self.phone(DAY + self.random.randrange(29 * minute), number)
        for number in range(14):
            self.refused(DAY + self.random.randrange(29 * minute), number)
        others = ["bye-with-reason", "re-invite-refused", "upstream-503", "rings-until-timeout",
                  "forwarded-on-busy", "up", "ringing"]  # fmt: skip
        names = [*RELAYED, *others, *RELAYED[:8]]
        for number, name in enumerate(reversed(names)):
            start = DAY + (number * 29 * minute) // len(names) + self.random.randrange(minute // 2)
            self.case(read(CALLS / f"{name}.call"), start, number)
        return sorted(self.sent, key=lambda each: each.at)


def packets() -> Iterator[hep.Packet]:
    """All packets."""
    for each in World().build():
        yield replace(each.packet())


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(b"".join(map(hep.encode, packets())))
