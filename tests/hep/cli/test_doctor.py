"""``hep doctor`` and ``hep send`` as a person uses them, against collectors on loopback."""

import json
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
import trustme

import hep
from hep.cli import probes, send
from hep.cli.main import main
from hep.codec.framing import Splitter


@contextmanager
def collector(
    hangs_up_on: int | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[hep.Packet]]]:
    """A TCP or TLS collector in a thread; it resets a connection with a packet of so many bytes."""
    received: list[hep.Packet] = []
    stop = Event()

    def serve(listener: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            if tls is not None:
                try:
                    connection = tls.wrap_socket(connection, server_side=True)
                except ssl.SSLError:
                    connection.close()
                    continue
            with connection:
                splitter = Splitter()
                while data := connection.recv(65536):
                    for packet in splitter.feed(data):
                        if hangs_up_on is not None and len(packet) >= hangs_up_on:
                            linger = struct.pack("ii", 1, 0)
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                            break
                        received.append(hep.decode(packet))
                    else:
                        continue
                    break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], received
        finally:
            stop.set()
            thread.join()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def packet(packet: hep.Packet) -> hep.Packet:
    """A packet that every collector stores."""
    sip = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: call-1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    return replace(packet, payload=sip)


SEND = ["--src", "192.0.2.5:5060", "--dst", "[2001:db8::1]:5060"]
SEND_V4 = ["--src", "192.0.2.5:5060", "--dst", "192.0.2.1:5060"]


def test_send_sends_one_packet_with_the_call_id(capsys: pytest.CaptureFixture[str]) -> None:
    with collector() as (port, received):
        sip = "OPTIONS sip:a SIP/2.0\r\nCall-ID: call-7\r\n\r\n"
        assert main(["send", "--to", f"127.0.0.1:{port}", *SEND_V4, "--payload", sip]) == 0
    assert "sent to 127.0.0.1" in capsys.readouterr().out
    [packet] = received
    assert packet.correlation_id == b"call-7"
    assert (packet.src_ip, packet.dst_port) == ("192.0.2.5", 5060)
    assert packet.seconds


def test_send_takes_protocol_types_by_name_and_files(tmp_path) -> None:
    (tmp_path / "event.json").write_text("{}")
    more = ["--proto", "net", "--correlation-id", "7", "--auth", "key", "--capture-id", "9"]
    with collector() as (port, received):
        file = ["--file", str(tmp_path / "event.json")]
        assert main(["send", "--to", f"127.0.0.1:{port}", *SEND_V4, *more, *file]) == 0
    [packet] = received
    assert (packet.protocol_type, packet.payload, packet.correlation_id) == (0x59, b"{}", b"7")
    assert (packet.auth_key, packet.capture_id) == (b"key", 9)


@pytest.mark.parametrize(
    ("transport", "why"), [("tcp", "Connection refused"), ("udp", "the UDP port is closed")]
)
def test_sending_to_a_closed_port_exits_with_1(
    transport, why, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    to = f"127.0.0.1:{free_port(kind)};transport={transport}"
    assert main(["send", "--to", to, *SEND_V4, "--payload", "x"]) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "a:b:c", *SEND_V4], "is not host"),
        (["--to", "a", "--src", "1.2.3.4", "--dst", "1.2.3.4:5"], "is not IP:PORT"),
        (["--to", "a", *SEND_V4, "--proto", "sipp"], "not one of SIP"),
        (["--to", "127.0.0.1;transport=udp", *SEND], "two of the same family"),
    ],
)
def test_a_wrong_argument_of_send_exits_with_2(
    arguments, message, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", *arguments, "--payload", "x"]) == 2
    assert message in capsys.readouterr().err


def test_doctor_shows_what_each_profile_loses(capsys: pytest.CaptureFixture[str]) -> None:
    with collector() as (port, received):
        assert main(["doctor", f"127.0.0.1:{port}"]) == 0
    out = capsys.readouterr().out
    assert "compressed payload" in out
    assert "homer7    lost    NET without a correlation id is not stored" in out
    assert received[0].correlation_id.decode() in out  # type: ignore[union-attr]
    assert "kamailio  altered IP protocol 50 is unknown" in out


def test_doctor_sees_a_collector_hang_up(capsys: pytest.CaptureFixture[str]) -> None:
    with collector(hangs_up_on=65_508) as (port, _):
        assert main(["doctor", f"127.0.0.1:{port}", "--json", "--profile", "homer7"]) == 0
    probes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [probe["probe"] for probe in probes if not probe["taken"]] == ["65508 bytes"]
    assert probes[-1]["remark"] == "the collector closed the connection after this packet"
    assert [finding["rule"] for finding in probes[-1]["findings"]["homer7"]] == ["too-long"]


TLS_HINT = "; the collector may expect TLS (transport=tls)"


def test_a_collector_that_expects_tls_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with collector(hangs_up_on=1) as (port, _):
        assert main(["doctor", f"127.0.0.1:{port}"]) == 1
        out = capsys.readouterr().out
        assert f"the collector closed the connection after this packet{TLS_HINT}" in out
        arguments = ["--src", "192.0.2.1:1", "--dst", "192.0.2.2:2", "--payload", "x"]
        assert main(["send", "--to", f"127.0.0.1:{port}", *arguments]) == 1
    err = capsys.readouterr().err
    assert f"not sent to 127.0.0.1:{port};transport=tcp;version=3: Connection reset by peer" in err
    assert TLS_HINT in err


def test_a_collector_that_expects_plain_tcp_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This collector waits for a packet, and the handshake is none.
    monkeypatch.setattr(probes, "PATIENCE", 1.0)
    monkeypatch.setattr(send, "PATIENCE", 1.0)
    hint = "no answer to the TLS handshake; the collector may expect plain TCP (transport=tcp)"
    with collector() as (port, _):
        to = f"localhost:{port};transport=tls"
        assert main(["doctor", to]) == 1
        assert f"not reached: {hint}" in capsys.readouterr().out
        arguments = ["--src", "192.0.2.1:1", "--dst", "192.0.2.2:2", "--payload", "x"]
        assert main(["send", "--to", to, *arguments]) == 1
        assert hint in capsys.readouterr().err


def test_doctor_and_send_say_which_name_a_certificate_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    # What the commands trust is what OpenSSL trusts by default.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    arguments = ["--src", "192.0.2.1:1", "--dst", "192.0.2.2:2", "--payload", "x"]
    with collector(tls=context) as (port, received):
        assert main(["send", "--to", f"localhost:{port};transport=tls", *arguments]) == 0
        assert main(["doctor", f"127.0.0.1:{port};transport=tls"]) == 1
        remark = "its certificate is not valid for the IP address '127.0.0.1'"
        output = capsys.readouterr()
        assert f"not reached: {remark}" in output.out
        assert main(["send", "--to", f"127.0.0.1:{port};transport=tls", *arguments]) == 1
        assert remark in capsys.readouterr().err
    assert [each.payload for each in received] == [b"x"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_doctor_of_nobody_is_status_1(transport, capsys: pytest.CaptureFixture[str]) -> None:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    assert main(["doctor", f"127.0.0.1:{free_port(kind)};transport={transport}"]) == 1
    out = capsys.readouterr().out
    assert "Connection refused" in out or "the UDP port is closed" in out or "Connect call" in out


def test_doctor_examines_a_file_of_packets(
    packet, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    compressed = hep.encode(hep.compress(packet))
    (tmp_path / "packets.hep").write_bytes(hep.encode(packet) + compressed * 2)
    assert main(["doctor", "--capture", str(tmp_path / "packets.hep")]) == 1
    out = capsys.readouterr().out
    assert "3 HEP packets" in out
    assert "2 of 3, first 2 lost" in " ".join(out.split())
    assert "stores all of it as it is" in out
    (tmp_path / "good.hep").write_bytes(hep.encode(packet))
    assert main(["doctor", "--capture", str(tmp_path / "good.hep")]) == 0


@pytest.mark.parametrize(
    "arguments", [[], ["a", "--capture", "b"], ["a", "--profile", "homer5"], ["a b"]]
)
def test_a_mistake_in_whom_to_examine_is_status_2(arguments) -> None:
    assert main(["doctor", *arguments]) == 2


def test_the_library_is_silent_unless_told() -> None:
    code = (
        "import asyncio, hep\n"
        "async def main():\n"
        f"    sender = hep.open_sender(hep.HepId('127.0.0.1', {free_port()}))\n"
        "    while not sender.failures: await asyncio.sleep(0.01)\n"
        "    await sender.aclose(0)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.stderr == b""
