"""`opensips-cli trace` shows the packets that our sender sends it.

It asks OpenSIPS over the management interface to trace to a TCP port that it has opened, so here
a stub of that interface takes OpenSIPS' place, and our sender that of its tracer.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

import hep

pytestmark = pytest.mark.e2e

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ManagementInterface:
    """OpenSIPS' JSON-RPC over HTTP, as far as to learn what is asked."""

    def __init__(self) -> None:
        self.commands: list[dict] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
            command = json.loads(await reader.readexactly(length))
            reply = json.dumps({"jsonrpc": "2.0", "id": command["id"], "result": "OK"}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(reply), reply)
            )
            await writer.drain()
            self.commands.append(command)
        except asyncio.IncompleteReadError:
            pass  # it first tries whether somebody listens
        finally:
            writer.close()


@pytest.fixture
def opensips_cli(find) -> str:
    beside = Path(sys.executable).with_name("opensips-cli")
    if beside.exists():
        return str(beside)
    return find.program("opensips-cli", remedy="install PyPI's opensipscli")


async def test_opensips_cli_shows_what_our_sender_sends(
    opensips_cli, packet, send, until, tmp_path
) -> None:
    packets = [
        packet("call-1", ip_protocol=17),
        packet("call-2", src_ip="2001:db8::5", dst_ip="2001:db8::1"),
        packet("1", protocol_type=hep.ProtocolType.NET, payload=b'{"Event": "ACCEPTED"}'),
        packet("2", protocol_type=hep.ProtocolType.LOG, payload=b"a line", ip_protocol=50),
    ]
    interface = ManagementInterface()
    (tmp_path / "cli.cfg").write_text("[default]\nlog_level: WARNING\n")
    server = await asyncio.start_server(interface.answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            opensips_cli, "-f", "cli.cfg", "-o", "communication_type=http",
            "-o", f"url=http://127.0.0.1:{port}/mi", "-x", "trace", "ip=192.0.2.5",
            cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path), "no_proxy": "*"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            [command] = await until(lambda: interface.commands)
            assert command["method"] == "trace_start"
            listens = int(re.fullmatch(r"hep:.*:(\d+);.*", command["params"]["uri"])[1])
            await send(listens, *packets, transport="tcp")
            # The end of the connection ends it too.
            async with asyncio.timeout(30):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    told = COLOUR.sub("", out.decode()).replace("\r\n", "\n")
    # 50, with which OpenSIPS means WebSocket, is ESP by IANA's list; the names are Python's.
    time = "1700000000.123456"
    shown = [
        f"{time} UDP/SIP 192.0.2.5:50123 -> 192.0.2.1:8080",
        f"{time} TCP/SIP 2001:db8::5:50123 -> 2001:db8::1:8080",
        f"{time} TCP/NET",
        f"{time} ESP/100",
    ]
    expected = "".join(
        f"{line}\n{each.payload.decode()}\n" for line, each in zip(shown, packets, strict=True)
    )
    assert told == expected.replace("\r\n", "\n"), err.decode()
