"""``hep decode``: files of all formats, whole and cut, and any output."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import hep
from hep.captures.pcap_writer import PcapWriter
from hep.cli import decode
from hep.cli.main import main


@pytest.fixture
def written(tmp_path: Path):
    """A file of this content."""

    def write(content: bytes) -> str:
        path = tmp_path / "x"
        path.write_bytes(content)
        return str(path)

    return write


def xxd(data: bytes) -> bytes:
    rows = range(0, len(data), 16)
    return b"".join(b"%08x: %s  x\n" % (at, data[at : at + 16].hex(" ", 2).encode()) for at in rows)


def payloads(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["payload"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("lost", [1, 5, 60])
@pytest.mark.parametrize("as_text", [bytes, lambda data: data.hex().encode(), xxd])
def test_a_cut_last_packet_is_reported_behind_the_others(
    packet: hep.Packet, written, capsys: pytest.CaptureFixture[str], lost: int, as_text
) -> None:
    data = hep.encode(packet)
    assert main(["decode", "--json", written(as_text(data * 3)[:None])]) == 0
    assert len(payloads(capsys)) == 3
    assert main(["decode", "--json", written(as_text((data * 3)[:-lost]))]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2
    wanted = f"total length {len(data)}, and only {len(data) - lost} bytes"
    assert wanted in shown.err


def test_bytes_between_packets_are_counted(packet, written, capsys) -> None:
    data = hep.encode(packet)
    assert main(["decode", written(data + b"between" + data)]) == 1
    assert "x: at byte 0: 7 bytes of the file are not HEP\n" in capsys.readouterr().err


def test_a_file_is_not_read_into_memory(packet, written, capsys, monkeypatch) -> None:
    data = hep.encode(packet)
    asked: list[int] = []
    read = decode.Source.read_some

    def read_some(self: decode.Source, size: int) -> bytes:
        found = read(self, size)
        asked.append(len(found))
        return found

    monkeypatch.setattr(decode.Source, "read_some", read_some)
    assert main(["decode", "--json", written(data * 3000)]) == 0
    assert len(payloads(capsys)) == 3000
    assert max(asked) <= 1 << 16 < len(data) * 3000


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_packet_is_read_from_a_dump(packet, written, capsys, version: int) -> None:
    data = hep.encode(replace(packet, version=version))
    for content in (data, data.hex().encode(), xxd(data), gzip.compress(data)):
        assert main(["decode", "--json", written(content)]) == 0
        assert payloads(capsys) == [packet.payload.decode()]


@pytest.mark.parametrize("is_hep", [True, False])
def test_a_capture_is_read_and_so_is_a_dump_of_its_frames(
    packet: hep.Packet, tmp_path: Path, written, capsys, is_hep: bool
) -> None:
    inner = replace(packet, payload=hep.encode(packet)) if is_hep else packet
    with PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(inner, 0)
    content = (tmp_path / "x.pcap").read_bytes()
    files = [str(tmp_path / "x.pcap")]
    for each in files, [written(xxd(content[40:]))], [written(gzip.compress(content))]:
        assert main(["decode", "--json", *each]) == 0
        assert payloads(capsys) == [packet.payload.decode()]
    assert main(["decode", written(content[:-5])]) == 1
    assert "hep: " in capsys.readouterr().err


def test_what_a_capture_lost_is_said(packet, tmp_path, capsys) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(packet, 0)
    start = (tmp_path / "x.pcap").read_bytes()
    with PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(replace(packet, payload=b"HEP3\0\x08\0\0"), 0)
    bad = (tmp_path / "x.pcap").read_bytes()[24:]
    cut = start[24:32] + (70).to_bytes(4, "little") + start[36:110]
    (tmp_path / "x.pcap").write_bytes(start + cut + bad)
    assert main(["decode", "--json", str(tmp_path / "x.pcap")]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1
    assert "x.pcap: lost: 1 cut by the capture's length\n" in shown.err
    assert "x.pcap: frame 3: at byte 6" in shown.err


def test_a_capture_with_nothing_to_show_has_status_1(packet, tmp_path, capsys) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(replace(packet, payload=b"nothing"), 0)
    assert main(["decode", str(tmp_path / "x.pcap")]) == 1
    assert "x.pcap: no SIP and no HEP in 1 frames\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_no_encoding_of_the_output_is_too_small(packet, written, environment) -> None:
    text = "MESSAGE sip:ж@中 SIP/2.0\r\nCall-ID: é\r\n\r\n\udcff"
    packet = replace(packet, payload=text.encode(errors="surrogateescape"))
    path = written(hep.encode(packet) + "ж".encode())
    done = subprocess.run(
        [sys.executable, "-m", "hep.cli", "decode", path], capture_output=True,
        env={**os.environ, **environment}, timeout=20,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"MESSAGE sip:" in done.stdout
    assert b"Traceback" not in done.stderr


def test_sip_that_is_too_long_for_hep_is_shown(packet, tmp_path, capsys) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(replace(packet, payload=packet.payload + b"x" * 65_400), 0)
    assert main(["decode", "--json", str(tmp_path / "x.pcap")]) == 0
    assert len(payloads(capsys)[0]) > 65_400
    assert main(["decode", str(tmp_path / "x.pcap")]) == 0
    assert "  payload:\n    OPTIONS sip:" in capsys.readouterr().out


async def test_a_pipe_shows_each_packet_as_it_comes(packet: hep.Packet) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hep.cli", "decode", "--json", "-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(20):
        for _ in range(2):
            process.stdin.write(hep.encode(packet))
            await process.stdin.drain()
            assert json.loads(await process.stdout.readline())["correlation_id"] == "call-1"
        process.stdin.close()
        assert await process.wait() == 0
