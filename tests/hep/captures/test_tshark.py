"""What is found in captures equals what tshark finds."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hep.captures.pcap import Capture, packet_of
from hep.sip import call_id

from .encapsulated import frames, pcapng

FRAMES = frames()

DECODE_AS = ("mpls.label==100,pwethcw",)
"""What tshark has to be told: labels of MPLS do not say what follows."""


@pytest.fixture(scope="module")
def tshark(find: Any) -> str:
    return str(find.program("tshark", remedy="install Debian's package tshark"))


def shown_by(tshark: str, path: Path, *options: str) -> list[tuple[Any, ...]]:
    """Frame, Call-ID, inner addresses and time of the messages that tshark finds."""
    fields = ["frame.number", "sip.Call-ID", "frame.time_epoch", "ip.src", "ipv6.src"]
    command = [tshark, "-r", str(path), "-Y", "sip", "-T", "json", "--no-duplicate-keys"]
    command += [part for rule in DECODE_AS for part in ("-d", rule)]
    command += [part for field in fields for part in ("-e", field)]
    done = subprocess.run([*command, *options], capture_output=True, check=True, timeout=60)
    found = []
    for each in json.loads(done.stdout):
        layers = each["_source"]["layers"]
        addresses = layers.get("ipv6.src", []) + layers.get("ip.src", [])
        source = next(
            (one for one in reversed(addresses) if one in ("192.0.2.5", "2001:db8::5")), None
        )
        found += [
            (int(layers["frame.number"][0]), one, float(layers["frame.time_epoch"][0]), source)
            for one in layers["sip.Call-ID"]
        ]
    return found


def found_by_us(path: Path) -> list[tuple[Any, ...]]:
    with Capture(path) as capture:
        return [
            (each.frame, (call_id(packet_of(each).payload) or b"").decode(),
             each.seconds + each.microseconds / 1_000_000, each.src_ip)
            for each in capture.messages()
        ]  # fmt: skip


def test_every_link_type_and_tunnel_is_read_as_tshark_reads_it(tshark: str, tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    path.write_bytes(pcapng([(link, data) for _, link, data in FRAMES]))
    ours, theirs = found_by_us(path), shown_by(tshark, path)
    assert len(ours) == len(FRAMES)
    names = {number: name for number, (name, _, _) in enumerate(FRAMES, 1)}
    missed = {names[frame] for frame, *_ in ours} - {names[frame] for frame, *_ in theirs}
    assert missed == set()
    assert ours == theirs
