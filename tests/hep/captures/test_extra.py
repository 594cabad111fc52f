"""Without scapy, what needs it says so, and everything else works."""

import subprocess
import sys
from pathlib import Path

import pytest

import hep
from hep.captures.pcap_writer import PcapWriter

NO_SCAPY = "import sys; sys.modules['scapy'] = None; "


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "calls.pcap"
    writer = PcapWriter(str(path))
    packet = hep.Packet(
        src_ip="192.0.2.1", src_port=5060, dst_ip="192.0.2.2", dst_port=5060,
        seconds=1, microseconds=0, payload=b"OPTIONS sip:a SIP/2.0\r\n\r\n",
    )  # fmt: skip
    writer.write(packet, 1.0)
    writer.close()
    return path


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NO_SCAPY + code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["decode", "CAPTURE"],
        ["doctor", "--capture", "CAPTURE"],
        ["replay", "CAPTURE", "127.0.0.1:9;transport=udp"],
    ],
)
def test_a_command_that_reads_captures_names_the_extra(arguments, capture: Path) -> None:
    words = [str(capture) if word == "CAPTURE" else word for word in arguments]
    done = run(f"from hep.cli.main import main; sys.exit(main({words!r}))")
    assert done.returncode == 2
    assert "scapy, which is not installed: pip install 'sipws[pcap]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_layers_name_their_extra() -> None:
    done = run("import hep.scapy_layers")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: hep.scapy_layers needs scapy, which is not installed:"
        " pip install 'sipws[scapy]'"
    )


def test_the_programs_and_packages_need_no_scapy() -> None:
    code = (
        "import hep, sipws, sipws.service.app, sipws.tracing.pipeline, hep.captures.pcap_writer;"
        "from hep.cli.main import main as a; from sipws.cli.main import main as b;"
        "sys.exit(a(['--version']) or b(['--version']))"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")
