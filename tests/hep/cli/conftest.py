"""Calls as packets, and viewers as processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import hep


@dataclass
class Viewer:
    """A ``hep view`` that runs."""

    process: subprocess.Popen[str]
    url: str
    udp: tuple[str, int]

    def send(self, packets: Iterable[hep.Packet]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            for packet in packets:
                sending.sendto(hep.encode(packet), self.udp)

    def stop(self) -> None:
        # It ends with its input.
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start_viewer() -> Iterator[Callable[..., Viewer]]:
    """Start a ``hep view``; it takes further arguments and ``token``."""
    started: list[Viewer] = []

    def start(*arguments: str, token: str = "", http: str = "127.0.0.1:0") -> Viewer:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hep.cli",
                "view",
                "--child",
                "--http",
                http,
                "--udp",
                "127.0.0.1:0",
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HEP_VIEW_TOKEN": token},
        )
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        host, _, port = where["udp"].rpartition(":")
        started.append(Viewer(process, where["http"], (host, int(port))))
        return started[-1]

    yield start
    for viewer in started:
        viewer.stop()


def packets(talk: object, shift: int = 0) -> list[hep.Packet]:
    """The packets of a `Talk`, as an agent sends them.

    Args:
        talk: with ``records`` and ``call_id``.
        shift: microseconds that are added to all times.
    """
    made = []
    for record in talk.records:  # type: ignore[attr-defined]
        (src_ip, _, src_port), (dst_ip, _, dst_port) = (
            address.rpartition(":") for address in (record.src, record.dst)
        )
        seconds, microseconds = divmod(record.at + shift, 1_000_000)
        made.append(
            hep.Packet(
                src_ip=src_ip,
                src_port=int(src_port),
                dst_ip=dst_ip,
                dst_port=int(dst_port),
                payload=record.payload,
                protocol_type=record.protocol_type,
                seconds=seconds,
                microseconds=microseconds,
                capture_id=1,
                correlation_id=(record.connection or talk.call_id).encode(),  # type: ignore[attr-defined]
            )
        )
    return made


@pytest.fixture
def packets_of() -> Callable[..., list[hep.Packet]]:
    return packets


@pytest.fixture
def write_hep(tmp_path: Path) -> Callable[..., str]:
    """Write calls to a file of HEP packets."""

    def write(*talks: object, shift: int = 0) -> str:
        path = tmp_path / "calls.hep"
        each = (hep.encode(packet) for talk in talks for packet in packets(talk, shift))
        path.write_bytes(b"".join(each))
        return str(path)

    return write
