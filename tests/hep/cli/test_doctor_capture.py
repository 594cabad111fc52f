"""``hep doctor --capture``: findings, totals and times of a file."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

import hep
from hep.captures.pcap_writer import PcapWriter
from hep.cli.main import main
from hep.codec.chunks import ProtocolType

OLD = 1_500_000_000


@pytest.fixture
def packet(packet: hep.Packet) -> hep.Packet:
    sip = b"INVITE sip:a SIP/2.0\r\nCall-ID: call-1\r\nCSeq: 1 INVITE\r\n\r\n"
    return replace(packet, payload=sip, seconds=int(time.time()), microseconds=0)


class Doctor:
    """Runs ``hep doctor`` on packets."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = folder / "packets.hep"
        self._capsys = capsys

    def says(self, *packets: hep.Packet, more: tuple[str, ...] = ()) -> tuple[int, str]:
        """The exit status and the output, with single blanks."""
        self._file.write_bytes(b"".join(map(hep.encode, packets)))
        return self.of(self._file, *more)

    def of(self, file: Path, *more: str) -> tuple[int, str]:
        status = main(["doctor", "--profile", "homer7", "--capture", str(file), *more])
        self.out = self._capsys.readouterr().out
        return status, " ".join(self.out.split())


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, capsys)


def test_totals_name_the_tables(packet, doctor) -> None:
    log = replace(packet, protocol_type=ProtocolType.LOG, payload=b"text")
    status, said = doctor.says(packet, packet, log)
    assert status == 0
    assert "would be stored: 3 (2 in hep_proto_1_call, 1 in hep_proto_100_default)" in said
    assert "would be lost: none" in said
    assert "ForceHEPPayload" not in said


def test_totals_say_how_many_are_lost_why_and_with_their_batch(packet, doctor) -> None:
    short = replace(packet, payload=packet.payload.replace(b"CSeq", b"CS"))
    poison = replace(packet, correlation_id=b"\0")
    status, said = doctor.says(packet, short, short, poison)
    assert status == 1
    assert "2 of 4, first 2 lost SIP without CSeq" in said
    assert "the other rows of its batch for hep_proto_1_call are lost with it" in said
    assert "would be stored: 1 (1 in hep_proto_1_call)" in said
    assert "would be lost: 3 (2 sip-no-cseq, 1 correlation-id)" in said
    assert "1 of them would take a batch with it" in said


def test_what_depends_on_a_setting_is_counted_for_both(packet, doctor) -> None:
    event = replace(packet, protocol_type=ProtocolType.NET, payload=rb'{"event":"\u0000"}')
    status, said = doctor.says(packet, event)
    assert status == 1
    assert "with ForceHEPPayload = [89]: jsonb refuses the payload at character 10" in said
    before, _, behind = said.partition("with ForceHEPPayload = [89]: would be stored: 1")
    assert "would be stored: 2" in before
    assert "would be lost: 1 (1 json-nul)" in behind


@pytest.mark.parametrize(("setting", "expected"), [("yes", 1), ("no", 0)])
def test_a_known_setting_decides(packet, doctor, setting, expected) -> None:
    event = replace(packet, protocol_type=ProtocolType.NET, payload=b"text")
    status, said = doctor.says(event, more=("--force-hep-payload", setting))
    assert status == expected
    assert "with ForceHEPPayload" not in said


def test_the_times_of_an_old_file_are_said_once(packet, doctor) -> None:
    old = replace(packet, seconds=OLD)
    status, said = doctor.says(old, old, replace(old, seconds=OLD + 864_000), packet)
    assert status == 0
    assert "would be stored: 4" in said
    assert said.count("outside") == 1
    assert (
        "The times of 3 of 4 packets are outside of yesterday to tomorrow, from 2017-07-14" in said
    )


def test_old_times_are_lost_with_now(packet, doctor) -> None:
    status, said = doctor.says(replace(packet, seconds=OLD), packet, more=("--now",))
    assert status == 1
    assert "would be lost: 1 (1 time)" in said
    assert "days before its arrival" in said
    assert "outside" not in said


def test_a_capture_has_the_times_of_its_frames(packet, doctor, tmp_path) -> None:
    # The capture is old, and one sender's clock was wrong then.
    file = tmp_path / "old.pcap"
    with PcapWriter(file) as writer:
        for seconds in (OLD, OLD - 864_000):
            carried = hep.encode(replace(packet, seconds=seconds))
            datagram = replace(packet, payload=carried, seconds=OLD, dst_port=9060, ip_protocol=17)
            writer.write(datagram, OLD)
    status, said = doctor.of(file)
    assert status == 1
    assert "2 HEP packets" in said
    assert "would be lost: 1 (1 time)" in said
    assert "10.0 days before its arrival" in said
    assert "The times of 2 of 2 packets are outside" in said


def test_json_has_findings_and_totals(packet, doctor) -> None:
    event = replace(packet, protocol_type=ProtocolType.NET, payload=b"text")
    status, _ = doctor.says(packet, event, more=("--json",))
    assert status == 1
    objects = [json.loads(line) for line in doctor.out.splitlines()]
    [lost] = [each for each in objects if each.get("severity") == "lost"]
    assert (lost["rule"], lost["packets"], lost["first"]) == ("json-syntax", 1, 2)
    assert (lost["batch"], lost["setting"]) == ("hep_proto_35_default", "ForceHEPPayload = [89]")
    totals = {each["setting"]: each["totals"] for each in objects if "totals" in each}
    assert totals["ForceHEPPayload = [89]"] == {
        "stored": {"hep_proto_1_call": 1},
        "lost": 1,
        "lost_with_batch": 1,
        "reasons": {"json-syntax": 1},
    }
    assert totals["ForceHEPPayload unset"]["lost"] == 0


def test_a_file_without_packets_is_a_failure(doctor, tmp_path) -> None:
    (tmp_path / "empty.pcap").write_bytes(b"")
    assert main(["doctor", "--capture", str(tmp_path / "empty.pcap")]) == 2
    with PcapWriter(tmp_path / "nothing.pcap"):
        pass
    status, said = doctor.of(tmp_path / "nothing.pcap")
    assert (status, "no HEP packets" in said) == (1, True)


def test_an_unreadable_file_is_a_mistake(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--capture", str(tmp_path / "missing.hep")]) == 2
    assert "missing.hep: No such file" in capsys.readouterr().err
