"""The command ``sipws`` as a person uses it."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws import Server
from sipws.cli.main import main

PAGE = Origin("https://phone.example.com")


class Running:
    """A command that runs: its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen = ""

    async def line_with(self, text: str) -> str:
        """Read standard output until a line has a text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(15):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"the program ended; it printed:\n{self.seen}"
                self.seen += line
                if text in line:
                    return line

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, read the rest, and return the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
            async with asyncio.timeout(15):
                out, _ = await self.process.communicate()
            self.seen += out.decode()
        return self.process.returncode or 0


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def run(*arguments: str) -> Running:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-X", "dev", "-m", "sipws", *arguments,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            running = Running(process)
            stack.push_async_callback(running.stop)
            return running

        yield run


@pytest.mark.parametrize(("option", "packets"), [("--no-view", 18), ("--view", 36)])
async def test_the_demo_shows_a_registration_a_refusal_and_an_accident(
    start: Start, option: str, packets: int
) -> None:
    demo = await start("demo", option, "--listen", "ws:127.0.0.1:0")
    await demo.line_with("Ctrl-C ends it")
    shown = demo.seen
    scenes = re.split(r"\n\d\. ", shown)
    assert len(scenes) == 4
    assert re.search(r"NET .* ACCEPTED SUCCESS .* 101 Switching Protocols", scenes[1])
    assert re.search(r"SIP .* REGISTER sip:example.com SIP/2.0", scenes[1])
    assert "  SIP/2.0 200 OK" in scenes[1]
    assert re.search(r"CLOSED SUCCESS .* Close_Code=1000 Closed_By=peer", scenes[1])
    assert re.search(r"ACCEPTED FAILURE .* 400 Bad Request  Error=no-subprotocol", scenes[2])
    assert "Error=connection-lost" in scenes[3]
    assert "Close_Code=1006" in scenes[3]
    # It goes on serving.
    [url] = set(re.findall(r"ws://127\.0\.0\.1:\d+/", shown))
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE):
        await demo.line_with("ACCEPTED SUCCESS")
    await demo.line_with("Close_Code=1000")
    assert await demo.stop() == 0
    # The viewer gets each packet too.
    assert f"Stopped: 4 connections traced, {packets} HEP packets sent, 0 dropped." in demo.seen
    assert "Traceback" not in demo.seen


async def test_run_without_a_configuration_prints_its_own_traces(start: Start) -> None:
    running = await start("run", "--listen", "ws:127.0.0.1:0", "--no-trace-sip")
    listening = await running.line_with("SIP over WebSocket; answers REGISTER and OPTIONS")
    await running.line_with("Ctrl-C ends it")
    url = f"ws://{listening.split()[0].removeprefix('ws:')}/"
    connection = connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE)
    async with connection as client:
        await running.line_with("ACCEPTED SUCCESS")
        await client.send("OPTIONS sip:a SIP/2.0\r\n\r\n")
        # A connection that is open at the end is closed, and that is traced too.
        assert await running.stop(signal.SIGTERM) == 0
    assert "CLOSED SUCCESS  server shutdown  Close_Code=1001 Closed_By=local" in running.seen
    assert "SIP  127.0.0.1" not in running.seen


async def test_run_relays_to_an_upstream(start: Start) -> None:
    async with Server(["ws:127.0.0.1:0"], lambda flow, message: flow.send(b"told")) as behind:
        upstream = f"ws://127.0.0.1:{behind.listeners[0].port}/"
        running = await start("run", "--listen", "ws:127.0.0.1:0", "--upstream", upstream)
        listening = await running.line_with(f"SIP over WebSocket; relays to {upstream}")
        await running.line_with("Ctrl-C ends it")
        url = f"ws://{listening.split()[0].removeprefix('ws:')}/"
        async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as client:
            await client.send("OPTIONS sip:a SIP/2.0\r\n\r\n")
            assert await client.recv() == "told"
            assert await running.stop(signal.SIGTERM) == 0
    # Both connections, and the message on each.
    for text, times in {"CONNECTED SUCCESS": 1, "CLOSED SUCCESS": 2, "  OPTIONS sip:a": 2}.items():
        assert running.seen.count(text) == times, running.seen
    assert "Traceback" not in running.seen


async def test_a_reload_reads_the_file_and_the_options_win(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "sipws.toml"
    file.write_text("")
    running = await start("run", "-c", str(file), "--listen", "ws:127.0.0.1:0", "--require-origin")
    await running.line_with("listening on")
    # Other servers write their log anew at this signal; by default it ends a program.
    running.process.send_signal(signal.SIGUSR1)
    file.write_text("[transport]\nrequire_origin = false\nws_port = 81\nmax_headers = 9")
    running.process.send_signal(signal.SIGHUP)
    await running.line_with("not in force: transport.ws_port needs a restart")
    await running.line_with("configuration, filter and certificates reloaded")
    assert "changed in the configuration: transport.max_headers\n" in running.seen
    file.write_text("[transport")
    running.process.send_signal(signal.SIGHUP)
    await running.line_with("the new configuration is refused, the old one stays")
    assert await running.stop(signal.SIGTERM) == 0
    assert "Traceback" not in running.seen


async def test_tracing_can_be_off(start: Start) -> None:
    running = await start("run", "--listen", "ws:127.0.0.1:0", "--no-trace-on")
    listening = await running.line_with("SIP over WebSocket; answers REGISTER and OPTIONS")
    await running.line_with("Ctrl-C ends it")
    url = f"ws://{listening.split()[0].removeprefix('ws:')}/"
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE):
        pass
    assert await running.stop() == 0
    assert "Stopped: 0 connections traced, 0 HEP packets sent, 0 dropped." in running.seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--listen", "udp:127.0.0.1"], "transport.listen.0 = 'udp:127.0.0.1': "),
        (["run", "--listen", "ws:192.0.2.1:8080"], "cannot listen on ws:192.0.2.1:8080: "),
        (["run", "--upstream", "udp:127.0.0.1"], "upstream.upstream_uri = 'udp:127.0.0.1': "),
        (
            ["run", "--trace-destination", "homer"],
            "tracing.trace_destination 'homer' is not a hep_id",
        ),
        (["run", "--view", "--trace-destination", "127.0.0.1:9060"], "--view shows what has no"),
        (["run", "-c", "/none.toml"], "/none.toml: cannot be read: No such file or directory"),
        (["config", "check", "/none.toml"], "/none.toml: cannot be read"),
    ],
)
def test_a_users_mistake_is_one_message_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("sipws: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_configuration_can_be_checked_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sipws.toml"
    path.write_text("[transport]\nws_send_timeout = 300\n")
    assert main(["config", "check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"
    assert main(["config", "show", "-c", str(path)]) == 0
    assert '"ws_send_timeout": 300' in capsys.readouterr().out
