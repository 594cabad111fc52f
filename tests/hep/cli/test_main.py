"""The command ``hep`` as a person uses it."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

import hep
from hep.cli.main import main

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "hep"


def test_a_packet_in_a_file_is_shown_chunk_by_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", str(GOLDEN / "v3_udp_json_009.bin")]) == 0
    out = capsys.readouterr().out
    assert "NET  127.0.0.2:0 > 127.0.0.2:0  CLOSED SUCCESS  EOF received  #987" in out
    assert "\n  capture agent id: 2001\n" in out
    assert "\n  correlation id: 9872991657742122745\n" in out


def test_json_is_an_object_a_packet(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(GOLDEN / f"v{version}_udp_homer5_002.bin") for version in (1, 2, 3)]
    assert main(["decode", "--json", *files]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["version"] for each in objects] == [1, 2, 3]
    assert all(each["payload"].startswith("OPTIONS sip:a@b SIP/2.0") for each in objects)


def test_a_file_may_hold_many_packets_or_hexadecimal_text(
    tmp_path: Path, packet: hep.Packet, capsys: pytest.CaptureFixture[str]
) -> None:
    data = hep.encode(packet)
    (tmp_path / "many").write_bytes(data * 3)
    (tmp_path / "hex").write_text(data.hex(" ", 8) + "\n")
    assert main(["decode", "--json", str(tmp_path / "many"), str(tmp_path / "hex")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_decoding_garbage_prints_an_error_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").write_bytes(b"HEP3\x00\x0c\x00\x00\x00\x0f\x00\x00")
    assert main(["decode", str(tmp_path / "bad")]) == 1
    assert "bad: at byte 6: chunk length 0 is shorter than its header" in capsys.readouterr().err


def test_a_missing_file_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", str(tmp_path / "none")]) == 2
    assert "none: cannot be read: No such file or directory\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--udp", "9060"], "'9060' is not HOST:PORT"),
        (["--udp", "192.0.2.1:9060"], "cannot listen on udp 192.0.2.1:9060"),
        (["--count", "0"], "--count 0 is not a number of packets; use 1 or more"),
    ],
)
def test_a_wrong_argument_is_one_message_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["listen", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_listen_prints_packets_and_ctrl_c_prints_the_totals(
    packet: hep.Packet, transport: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-m", "hep.cli", "listen", f"--{transport}",
        "127.0.0.1:0", "--json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stdout is not None
    async with asyncio.timeout(10):
        where = (await process.stderr.readline()).decode().split()[-1]
        host, port = where.split(":")
        async with hep.open_sender(hep.HepId(host, int(port), transport)) as sender:  # type: ignore[arg-type]
            sender.send(hep.encode(packet))
            shown = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert shown["correlation_id"] == "call-1"
    assert process.returncode == 0
    assert err.decode() == "\n1 packet (1 SIP), 0 refused\n"
