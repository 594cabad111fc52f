"""``hep listen`` over TLS, and what it writes to a capture."""

import asyncio
import os
import pty
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

import hep
from hep.captures.pcap import Capture
from hep.cli import listen
from hep.cli.main import main


@asynccontextmanager
async def listening(
    *arguments: str, stdout: int = asyncio.subprocess.PIPE
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The command, and the port that it listens on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-m", "hep.cli", "listen", *arguments,
        stdout=stdout, stderr=asyncio.subprocess.PIPE,
        env={name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            where = (await process.stderr.readline()).decode()
            yield process, int(where.rpartition(":")[2])
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def finish(process: asyncio.subprocess.Process) -> str:
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    return err.decode()


async def read_lines(process: asyncio.subprocess.Process, count: int) -> None:
    assert process.stdout is not None
    for _ in range(count):
        await process.stdout.readline()


async def test_what_is_collected_is_written_and_ctrl_c_closes_the_file(
    packet: hep.Packet, tmp_path: Path
) -> None:
    path = tmp_path / "x.pcap"
    sent = [packet, replace(packet, src_ip="2001:db8::1", dst_ip="2001:db8::2")]
    async with listening("--tcp", "127.0.0.1:0", "--write", str(path)) as (process, port):
        async with hep.open_sender(hep.HepId("127.0.0.1", port)) as sender:
            for each in sent:
                sender.send(each)
            await read_lines(process, 2)
        err = await finish(process)
    assert process.returncode == 0
    assert err == f"\n2 packets (2 SIP), 0 refused\n2 written to {path}\n"
    with Capture(path) as capture:
        assert [(each.src_ip, each.payload, each.timestamp) for _, each in capture.packets()] == [
            (each.src_ip, each.payload, each.timestamp) for each in sent
        ]


async def test_what_is_not_read_is_reported_at_the_end(packet: hep.Packet) -> None:
    odd = replace(packet, extra=(hep.Chunk(0, 0x12, b"\7"),))
    async with listening("--tcp", "127.0.0.1:0") as (process, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"garbage" + hep.encode(odd) + bytes(70_000))
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        err = await finish(process)
    assert re.fullmatch(
        r"\n1 packet \(1 SIP\), 0 refused, 1 chunks of an unexpected size not read,"
        r" \d+ bytes that are not HEP skipped, 1 connections dropped that sent too many of these\n",
        err,
    )


async def test_a_full_disk_is_said_once_and_makes_the_status_1(
    packet: hep.Packet, tmp_path: Path, limited: Callable[..., list[str]]
) -> None:
    path = tmp_path / "x.pcap"
    process = await asyncio.create_subprocess_exec(
        *limited("listen", "--tcp", "127.0.0.1:0", "--write", str(path)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(20):
        port = int((await process.stderr.readline()).decode().rpartition(":")[2])
        async with hep.open_sender(hep.HepId("127.0.0.1", port)) as sender:
            for _ in range(5):
                sender.send(packet)
            await read_lines(process, 5)
        err = await finish(process)
    assert process.returncode == 1
    assert err.count("x.pcap: cannot be written: File too large") == 1
    assert "5 packets (5 SIP), 0 refused\n2 written to " in err
    assert err.endswith("x.pcap, 3 not\n")
    with Capture(path) as capture:
        assert len(list(capture.packets())) == 2


@pytest.fixture
def limited() -> Callable[..., list[str]]:
    """The command with room for two packets in a file."""
    code = (
        "import resource, sys; from hep.cli.main import main; "
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard)); sys.exit(main(sys.argv[1:]))"
    )
    return lambda *arguments: [sys.executable, "-X", "dev", "-c", code, *arguments]


async def test_packets_come_over_tls(packet: hep.Packet, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    arguments = ["--tls", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key]
    async with listening(*map(str, arguments), "--count", "1") as (process, port):
        destination = hep.HepId("localhost", port, "tls")
        async with hep.open_sender(destination, hep.SenderSettings(tls=trusting)) as sender:
            sender.send(packet)
            out, err = await process.communicate()
    assert process.returncode == 0
    assert out.decode().endswith("OPTIONS sip:example.com SIP/2.0  #call-1\n")
    # In front of it, asyncio may complain of a machine that is slow: this is its debug mode.
    assert err.decode().endswith("\n1 packet (1 SIP), 0 refused\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--udp", "127.0.0.1:0", "--write", "/nowhere/x"], "/nowhere/x: cannot be written: No s"),
        (["--tls", "127.0.0.1:0"], "--tls 127.0.0.1:0 needs --tls-certificate FILE"),
        (
            ["--tls", "127.0.0.1:0", "--tls-certificate", "/nowhere/x"],
            "/nowhere/x: not a certificate with its private key: No such file or directory",
        ),
        (
            ["--tls", "127.0.0.1:0", "--tls-certificate", __file__],
            f"{__file__}: not a certificate with its private key: [SSL] PEM lib",
        ),
    ],
)
def test_a_wrong_argument_is_one_message_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["listen", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_without_an_address_it_listens_on_udp_and_tcp(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listen, "DEFAULT_ADDRESS", "192.0.2.1:1")
    assert main(["listen"]) == 2
    assert "192.0.2.1" in capsys.readouterr().err


def test_a_capture_is_not_overwritten_by_a_command_that_cannot_listen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"precious")
    assert main(["listen", "--udp", "192.0.2.1:9060", "--write", str(path)]) == 2
    assert path.read_bytes() == b"precious"
    assert "cannot listen on udp 192.0.2.1:9060" in capsys.readouterr().err


async def test_filters_choose_what_is_shown_written_and_counted(
    packet: hep.Packet, tmp_path: Path
) -> None:
    path = tmp_path / "x.pcap"
    event = replace(packet, protocol_type=0x59, payload=b'{"Event": "CLOSED"}')
    options = ["--type", "net", "--ip", "192.0.2.5", "--grep", "CLOSED", "--write", str(path)]
    async with listening("--tcp", "127.0.0.1:0", *options) as (process, port):
        async with hep.open_sender(hep.HepId("127.0.0.1", port)) as sender:
            for each in (packet, event, replace(event, src_ip="192.0.2.7", dst_ip="192.0.2.8")):
                sender.send(each)
            sender.send(replace(event, correlation_id=b"last"))
            await read_lines(process, 2)
        err = await finish(process)
    assert err == f"\n2 packets (2 NET), 0 refused, 2 filtered out\n2 written to {path}\n"


async def test_a_line_fits_the_terminal_and_is_whole_elsewhere(packet: hep.Packet) -> None:
    long = replace(packet, payload=b"INVITE sip:" + b"a" * 300 + b" SIP/2.0\r\n\r\n")
    async with (
        listening("--tcp", "127.0.0.1:0", "--count", "1") as (process, port),
        hep.open_sender(hep.HepId("127.0.0.1", port)) as sender,
    ):
        sender.send(long)
        out, _ = await process.communicate()
    assert out.decode().endswith("a SIP/2.0  #call-1\n")
    master, slave = pty.openpty()
    try:
        async with (
            listening("--tcp", "127.0.0.1:0", "--count", "1", stdout=slave) as (process, port),
            hep.open_sender(hep.HepId("127.0.0.1", port)) as sender,
        ):
            sender.send(long)
            await process.communicate()
        shown = re.sub(r"\x1b\[[0-9]*m", "", os.read(master, 10_000).decode())
    finally:
        os.close(master)
        os.close(slave)
    assert len(shown.rstrip("\r\n")) == 80
    assert shown.endswith("INVITE sip:aaaaaaaaaaaa…\r\n")


async def test_other_programs_read_what_was_written(
    packet: hep.Packet, tmp_path: Path, find: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tshark = find.program("tshark", remedy="install Debian's package tshark")
    sngrep = find.program("sngrep", remedy="install Debian's package sngrep")
    path = tmp_path / "x.pcap"
    lines = packet.payload.rstrip() + (
        b"\r\nVia: SIP/2.0/WS h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
        b"CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    packet = replace(packet, payload=lines, src_port=5060, dst_port=5060)
    async with listening("--tcp", "127.0.0.1:0", "--write", str(path)) as (process, port):
        async with hep.open_sender(hep.HepId("127.0.0.1", port)) as sender:
            sender.send(packet)
            await read_lines(process, 1)
        await finish(process)
    options = ["-T", "fields", "-e", "sip.Call-ID", "-e", "udp.srcport"]
    assert await output([tshark, "-r", str(path), *options]) == "call-1\t5060\n"
    copy = tmp_path / "copy.pcap"
    await output([sngrep, "-N", "-I", str(path), "-O", str(copy)])
    for each in (path, copy):
        with Capture(each) as capture:
            assert [found.payload for _, found in capture.packets()] == [lines]
    assert main(["decode", str(path)]) == 0
    assert "OPTIONS sip:example.com SIP/2.0  #call-1" in capsys.readouterr().out


async def output(command: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out.decode()
