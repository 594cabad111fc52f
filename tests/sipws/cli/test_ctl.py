"""``sipws ctl`` against a running application."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from sipws.cli.ctl import TOKEN, age
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import client as ctl_client
from sipws.control.mi import MiError
from sipws.service.app import Application

SIP = [Subprotocol("sip")]
PAGE = Origin("https://phone.example.com")
SECRET = "s3cr3t"


@pytest.fixture
async def running() -> AsyncIterator[Application]:
    table = {
        "transport": {"listen": "ws:127.0.0.1:0 tag edge"},
        "control": {"listen": "127.0.0.1:0", "token": SECRET},
    }
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        yield application


@pytest.fixture
async def phone(running: Application) -> AsyncIterator[ClientConnection]:
    port = running.server.listeners[0].port
    async with connect(f"ws://127.0.0.1:{port}/", subprotocols=SIP, origin=PAGE) as client:
        yield client


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)


async def ctl(running: Application, *words: str) -> int:
    assert running.control is not None
    url = f"http://{running.control.address}/mi"
    return await asyncio.to_thread(main, ["ctl", "--url", url, *words])


async def test_connections_are_a_table(
    running: Application, phone: ClientConnection, capsys: Any
) -> None:
    assert await ctl(running, "connections") == 0
    heads, row = capsys.readouterr().out.splitlines()
    [flow] = running.server.flows
    titles = r"ID +PEER +LISTENER +STATE +AGE +MESSAGES IN +OUT +BYTES IN +OUT"
    assert re.fullmatch(titles, heads)
    for head, cell in {
        "ID": str(flow.connection.id),
        "PEER": str(flow.connection.peer),
        "LISTENER": str(flow.connection.listener),
        "STATE": "open",
    }.items():
        assert row[heads.index(head) :].startswith(cell)


async def test_no_connections_are_said_in_words_and_as_an_empty_list(
    running: Application, capsys: Any
) -> None:
    assert await ctl(running, "connections") == 0
    assert await ctl(running, "connections", "--json") == 0
    words, _, listed = capsys.readouterr().out.partition("\n")
    assert words == "no connections"
    assert json.loads(listed) == {"Connections": []}


@pytest.mark.parametrize("by_peer", [False, True])
async def test_a_connection_is_closed(
    running: Application, phone: ClientConnection, capsys: Any, by_peer: bool
) -> None:
    [flow] = running.server.flows
    name = str(flow.connection.peer) if by_peer else str(flow.connection.id)
    assert await ctl(running, "close", name, "--code", "1001", "--reason", "maintenance") == 0
    assert capsys.readouterr().out == "OK\n"
    with pytest.raises(ConnectionClosed) as closed:
        await phone.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "maintenance")


async def test_what_is_not_there_is_status_1(running: Application, capsys: Any) -> None:
    assert await ctl(running, "close", "7") == 1
    assert await ctl(running, "stats", "nope") == 1
    assert capsys.readouterr().err == (
        "sipws: tcp:close: Connection not found\nsipws: get_statistics: Statistics Not Found\n"
    )


async def test_statistics_are_aligned(
    running: Application, phone: ClientConnection, capsys: Any
) -> None:
    assert await ctl(running, "stats", "ws:accepted", "queued") == 0
    assert capsys.readouterr().out == "ws:accepted  1\nhep:queued   0\n"
    assert await ctl(running, "stats", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ws:open_connections"] == 1


async def test_traces_are_a_table_with_the_last_error(capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "control": {"listen": "127.0.0.1:0", "token": SECRET},
        "hep": {"hep_id": f"[homer]127.0.0.1:{port};transport=tcp"},
        "tracing": {"trace_destination": "homer", "trace_on": True},
    }
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        [sender] = application.traces.senders
        async with asyncio.timeout(10):
            while not sender.failures:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)
        assert await ctl(application, "traces") == 0
    heads, row, error = capsys.readouterr().out.splitlines()
    titles = ["ID", "DESTINATION", "STATE", "OFFERED", "SENT", "BOUNCED", "DROPPED", "QUEUED"]
    assert heads.split() == titles
    assert row.split()[1:] == [str(sender.destination), "on", "0", "0", "0", "0", "0"]
    assert error.startswith(f"last error: {sender.destination}: ")


async def test_without_a_trace_there_is_no_table(running: Application, capsys: Any) -> None:
    assert await ctl(running, "traces") == 0
    assert capsys.readouterr().out == "no traces\n"


async def test_every_order_can_answer_in_json(running: Application, capsys: Any) -> None:
    assert await ctl(running, "trace", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"WS tracing": "off", "WSS tracing": "off"}
    assert await ctl(running, "reload", "--json") == 0
    assert json.loads(capsys.readouterr().out) == "OK"


async def test_a_token_given_goes_over_the_one_in_the_environment(
    running: Application, capsys: Any
) -> None:
    assert await ctl(running, "--token", "wrong", "trace") == 2
    assert "401 Unauthorized; give its --token" in capsys.readouterr().err


async def test_a_wrong_path_is_told_with_the_right_one(running: Application, capsys: Any) -> None:
    assert running.control is not None
    url = f"http://{running.control.address}/json"
    assert await asyncio.to_thread(main, ["ctl", "--url", url, "trace"]) == 2
    assert "404 Not Found; the path of a control interface is /mi" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/mi", "http://a host/mi"])
def test_a_port_or_host_that_is_none_is_one_message_and_status_2(url: str, capsys: Any) -> None:
    assert main(["ctl", "--url", url, "trace"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sipws: {url!r} is not a URL of a control interface")


async def test_what_speaks_no_http_is_told_as_no_control_interface(capsys: Any) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")  # where the call ends
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mi"
        assert await asyncio.to_thread(main, ["ctl", "--url", url, "trace"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert (
        line == f"sipws: {url}: the program that answers there is not a control interface of sipws"
    )


@pytest.mark.parametrize("end", ["", "/"])
async def test_without_a_path_the_right_one_is_meant(
    running: Application, capsys: Any, end: str
) -> None:
    assert running.control is not None
    url = f"http://{running.control.address}{end}"
    assert await asyncio.to_thread(main, ["ctl", "--url", url, "trace"]) == 0
    assert capsys.readouterr().out == "WS tracing: off\nWSS tracing: off\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (18130, "5h02m"),
        (1051200, "12d04h"),
    ],
)
def test_ages_have_two_units(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize("words", [["trace"], ["trace", "--json"]])
@pytest.mark.parametrize("fails", [False, True])
def test_what_the_answer_says_acts_on_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], fails: bool
) -> None:
    evil = "a\x1b[2J\x7f\x9b31m\u2028\u202eb"

    def ask(*_: object) -> dict[str, str]:
        if fails:
            raise MiError(evil)
        return {"mode": evil}

    monkeypatch.setattr(ctl_client, "ask", ask)
    assert main(["ctl", *words]) == int(fails)
    said = "".join(capsys.readouterr())
    assert "31m" in said
    assert said.replace("\n", "").isprintable()
