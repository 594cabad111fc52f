"""``hep doctor --listen`` as a process, with senders on loopback."""

import asyncio
import json
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

import hep
from hep.cli.main import main
from hep.codec.chunks import ProtocolType


@pytest.fixture
def packet(packet: hep.Packet) -> hep.Packet:
    sip = b"INVITE sip:a SIP/2.0\r\nCall-ID: call-1\r\nCSeq: 1 INVITE\r\n\r\n"
    return replace(packet, payload=sip, seconds=int(time.time()), microseconds=0)


@pytest.fixture
def bad(packet: hep.Packet) -> hep.Packet:
    return replace(packet, payload=packet.payload.replace(b"CSeq", b"CS"))


class Doctor:
    """The running command."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self.process = process
        self.ports = ports

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode()

    async def ends(self, number: signal.Signals | None = None) -> str:
        """The rest of the output, after a signal."""
        if number is not None:
            self.process.send_signal(number)
        out, _ = await self.process.communicate()
        return " ".join(out.decode().split())

    def sender(self, transport: str = "tcp", **settings) -> hep.Sender:
        destination = hep.HepId("127.0.0.1", self.ports[transport], transport)
        return hep.open_sender(destination, hep.SenderSettings(**settings))


@asynccontextmanager
async def listening(*arguments: str, listeners: int = 1) -> AsyncIterator[Doctor]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-m", "hep.cli", "doctor", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    ports = {}
    try:
        async with asyncio.timeout(30):
            for _ in range(listeners):
                _, _, name, where = (await process.stderr.readline()).decode().split()
                ports[name] = int(where.rpartition(":")[2])
            yield Doctor(process, ports)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


ONE = ("--listen", "127.0.0.1:0;transport=tcp", "--profile", "homer7")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_finding_is_a_line_and_a_signal_ends_with_totals(packet, bad, number) -> None:
    async with listening(*ONE) as doctor:
        async with doctor.sender() as sender:
            for each in (packet, bad):
                sender.send(each)
            line = await doctor.line()
        said = await doctor.ends(number)
    assert line.split()[0] == "2"
    assert "SIP 192.0.2.5:50123 > " in line
    assert line.endswith("lost sip-no-cseq: SIP without CSeq\n")
    assert said.startswith("2 HEP packets Homer 7")
    assert "would be stored: 1 (1 in hep_proto_1_call) would be lost: 1 (1 sip-no-cseq)" in said
    assert doctor.process.returncode == 1


async def test_a_repeated_finding_is_counted_and_not_repeated(bad) -> None:
    async with listening(*ONE, "--count", "110") as doctor, doctor.sender() as sender:
        for _ in range(110):
            sender.send(bad)
        said = await doctor.ends()
    assert said.count("lost sip-no-cseq") == 3
    assert "lost sip-no-cseq (10 times)" in said
    assert "lost sip-no-cseq (100 times)" in said
    assert "110 of 110, first 1 lost SIP without CSeq" in said


async def test_good_packets_are_silent_and_status_0(packet) -> None:
    async with listening(*ONE, "--count", "3") as doctor, doctor.sender() as sender:
        for number in range(3):
            sender.send(replace(packet, payload=packet.payload + b"%d" % number))
        said = await doctor.ends()
    assert said.startswith("3 HEP packets Homer 7 (heplify-server and homer-app) stores all")
    assert doctor.process.returncode == 0


async def test_both_transports_by_default_and_json(packet) -> None:
    event = replace(packet, protocol_type=ProtocolType.NET, payload=rb'{"event":"\u0000"}')
    arguments = ("--listen", "127.0.0.1:0", "--profile", "homer7", "--json", "--count", "2")
    async with (
        listening(*arguments, listeners=2) as doctor,
        doctor.sender("tcp") as tcp,
        doctor.sender("udp") as udp,
    ):
        udp.send(event)
        first = [json.loads(await doctor.line()) for _ in range(2)]
        tcp.send(event)
        out, _ = await doctor.process.communicate()
    assert {each["rule"] for each in first} == {"json-nul", "unmapped"}
    assert all(each["packet"] == 1 and each["source"].startswith("udp") for each in first)
    rest = [json.loads(line) for line in out.decode().splitlines()]
    totals = {each["setting"]: each["totals"] for each in rest if "totals" in each}
    assert totals["ForceHEPPayload unset"]["stored"] == {"hep_proto_35_default": 2}
    assert totals["ForceHEPPayload = [89]"]["lost_with_batch"] == 2


async def test_datagrams_that_are_no_packets_are_findings(packet) -> None:
    arguments = ("--listen", "127.0.0.1:0;transport=udp", "--profile", "homer7", "--count", "2")
    async with listening(*arguments) as doctor:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            where = ("127.0.0.1", doctor.ports["udp"])
            sock.sendto(b"no packet\x1b[2J", where)
            line = await doctor.line()
            sock.sendto(hep.encode(packet) * 2, where)
        said = await doctor.ends()
    assert "13 bytes lost not-hep" in " ".join(line.split())
    assert "\x1b" not in line
    assert "lost bytes-behind: the datagram has" in said
    assert "would be lost: 2 (1 not-hep, 1 bytes-behind)" in said


async def test_bytes_between_packets_of_a_stream_are_a_loss(packet) -> None:
    async with listening(*ONE, "--count", "1") as doctor:
        _, writer = await asyncio.open_connection("127.0.0.1", doctor.ports["tcp"])
        writer.write(b"garbage" + hep.encode(packet))
        said = await doctor.ends()
        writer.close()
    assert "7 bytes in TCP or TLS streams start no packet" in said
    assert doctor.process.returncode == 1


async def test_a_time_limit_ends_it() -> None:
    async with listening(*ONE, "--seconds", "0.1") as doctor:
        assert await doctor.ends() == "no HEP packets"
    assert doctor.process.returncode == 0


async def test_what_shows_in_the_stream_only_is_in_the_report(packet) -> None:
    lost = b'{"Protocol":"HEP","Event":"LOST","event":"HEP LOST 12","Packets":"12"}'
    report = replace(packet, protocol_type=ProtocolType.NET, payload=lost)
    late = replace(packet, seconds=int(time.time()) - 3600)
    arguments = ("--force-hep-payload", "yes", "--count", "3")
    async with listening(*ONE, *arguments) as doctor, doctor.sender() as sender:
        for each in (report, late, late):
            sender.send(each)
        said = await doctor.ends()
    assert "The senders" in said
    assert "1 of 3, first 1 lost the sender reports that it lost 12 packets" in said
    assert "2 of 3, first 2 altered the time of the packet is 3,6" in said
    assert "1 of 3, first 3 hidden with Dedup = true: the payload is that of" in said


async def test_packets_come_over_tls(bad, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    files = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--count", "1")
    async with (
        listening("--listen", "127.0.0.1:0;transport=tls", *files) as doctor,
        doctor.sender("tls", tls=trusting) as sender,
    ):
        sender.send(bad)
        said = await doctor.ends()
    assert "tls 127.0.0.1:" in said
    assert "homer7 lost sip-no-cseq" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "127.0.0.1"], "is not HOST:PORT"),
        (["--listen", "127.0.0.1:0;transport=sctp"], "write HOST:PORT, or HOST:PORT;transport="),
        (["--listen", "127.0.0.1:0;a=b;c=d"], "write HOST:PORT, or HOST:PORT;transport="),
        (["--listen", "127.0.0.1:0;transport=tls"], "needs --tls-certificate FILE"),
        (["--listen", "192.0.2.1:9060"], "cannot listen on 192.0.2.1:9060"),
        (["--listen", "127.0.0.1:0", "--count", "0"], "--count 0 is not a number of packets"),
        (["--listen", "127.0.0.1:0", "--seconds", "0"], "--seconds 0 is not a time"),
        (["--listen", "127.0.0.1:0", "--seconds", "nan"], "--seconds nan is not a time"),
        (["a:9060", "--count", "1"], "--count needs --listen"),
        (["--capture", "x", "--tls-key", "y"], "--tls-key needs --listen"),
        (["--listen", "127.0.0.1:0", "--now"], "--now needs --capture"),
        (["--listen", "127.0.0.1:0", "a:9060"], "needs one of a HEP_ID to probe"),
        (["--listen", "127.0.0.1:0", "--capture", "x"], "needs one of a HEP_ID to probe"),
    ],
)
def test_a_wrong_argument_is_one_message_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
