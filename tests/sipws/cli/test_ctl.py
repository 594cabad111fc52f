"""``sipws ctl`` against a running application."""

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from sipws.cli.ctl import TOKEN, URL, age
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import client as ctl_client
from sipws.control.mi import MiError
from sipws.log import PACKAGES
from sipws.service.app import Application
from sipws.service.commands import methods_of
from sipws.tracing.routes import xlog_threshold

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
    assert await ctl(running, "reset-stats", "nope") == 1
    assert capsys.readouterr().err == (
        "sipws: tcp:close: Connection not found\nsipws: reset_statistics: Statistics Not Found\n"
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


@pytest.fixture
def own_levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)
    xlog_threshold.level = 4


ORDERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ws_trace", ("trace", "--only", "ws")),
    ("wss_trace", ("trace", "on")),
    ("trace", ("trace", "--id", "homer")),
    ("trace_list", ("traces",)),
    ("trace_start", ("trace-start", "live", "hep:127.0.0.1:9;transport=udp", "ip=192.0.2.1")),
    ("trace_stop", ("trace-stop", "live")),
    ("list_tcp_conns", ("connections", "--only", "ws")),
    ("tcp:close", ("close", "7")),
    ("get_statistics", ("stats",)),
    ("list_statistics", ("stats", "--kinds")),
    ("reset_statistics", ("reset-stats", "accepted")),
    ("reset_all_statistics", ("reset-stats",)),
    ("reload", ("reload",)),
    ("reload_routes", ("reload", "filter")),
    ("tls_reload", ("reload", "certificates")),
    ("tls_list", ("certificates",)),
    ("log_level", ("log-level", "debug")),
    ("xlog_level", ("xlog-level",)),
    ("version", ("version",)),
    ("uptime", ("uptime",)),
    ("ps", ("processes",)),
    ("arg", ("arguments",)),
    ("pwd", ("directory",)),
    ("which", ("methods",)),
    ("help", ("methods", "uptime")),
)
"""An order for each MI method."""


@pytest.mark.usefixtures("own_levels")
@pytest.mark.parametrize(("method", "words"), ORDERS, ids=[method for method, _ in ORDERS])
async def test_there_is_an_order_for_each_method(
    running: Application, method: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:  # fmt: skip
    asked = []
    ask = ctl_client.ask

    def asking(url: str, method: str, *args: Any) -> Any:
        asked.append(method)
        return ask(url, method, *args)

    monkeypatch.setattr(ctl_client, "ask", asking)
    status = await ctl(running, *words)
    assert method in asked
    traces = "; 'sipws ctl traces' lists the traces"
    refused = {
        "tcp:close": "Connection not found",
        "trace_stop": f"Bad parameter value{traces}",
        "trace": f"Bad trace id value{traces}",
    }
    printed = capsys.readouterr()
    if method in refused:
        assert (status, printed.out) == (1, "")
        assert printed.err == f"sipws: {method}: {refused[method]}\n"
    else:
        assert (status, printed.err) == (0, "")
        assert printed.out


def test_no_method_is_without_an_order(running: Application) -> None:
    methods = methods_of(running)
    functions = {methods[method] for method, _ in ORDERS}
    assert [name for name, method in methods.items() if method not in functions] == []


async def test_any_method_can_be_called(running: Application, capsys: Any) -> None:
    async def mi(*words: str) -> Any:
        assert await ctl(running, "mi", *words) == 0
        return json.loads(capsys.readouterr().out)

    assert await mi("ws_trace") == {"WS tracing": "off"}
    assert await mi("ws_trace", "on") == "OK"
    assert await mi("ws_trace", "trace_mode=off") == "OK"
    assert await mi("get_statistics", "net:", "accepted") == await mi(
        "get_statistics", "statistics=net:", "statistics=accepted"
    )
    assert await mi("get_statistics", "statistics=nosuch") == {}
    assert await mi("trace_start", "id=a", "uri=hep:127.0.0.1:9;transport=udp") == "OK"
    assert await mi("trace_stop", "a") == "OK"
    assert await ctl(running, "mi", "get_statistics") == 1
    assert await ctl(running, "mi", "nosuch") == 1
    assert await ctl(running, "mi", "tcp:close", "id=1", "1000") == 2
    assert capsys.readouterr().err == (
        "sipws: get_statistics: Invalid params: Too few or too many parameters\n"
        "sipws: nosuch: Method not found\n"
        "sipws: tcp:close: some parameters have names and some have none; name all or none\n"
    )


async def test_levels_are_words(running: Application, own_levels: None, capsys: Any) -> None:
    assert await ctl(running, "log-level", "warning") == 0
    assert await ctl(running, "log-level") == 0
    assert await ctl(running, "xlog-level", "error") == 0
    assert await ctl(running, "xlog-level") == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "OK"
    assert rows[1].split() == ["PID", "TYPE", "LOG", "LEVEL"]
    assert rows[2].split() == [str(os.getpid()), "sipws", "warning"]
    assert rows[3:] == ["OK", "error"]


async def test_the_address_and_the_token_come_from_the_configuration(
    running: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert running.control is not None
    monkeypatch.setenv(TOKEN, "of another server")
    path = tmp_path / "sipws.toml"
    port = running.control.address.port
    # What the other sections name need not be there.
    path.write_text(
        f'[control]\nlisten = "0.0.0.0:{port}"\ntoken = "{SECRET}"\n'
        '[transport]\nlisten = ["wss:*:443"]\ntls_certificate = "/nowhere.pem"\n'
    )
    assert await asyncio.to_thread(main, ["ctl", "-c", str(path), "version"]) == 0
    path.write_text(f'[control]\nlisten = "127.0.0.1:{port}"\n')
    monkeypatch.setenv(TOKEN, SECRET)
    assert await asyncio.to_thread(main, ["ctl", "-c", str(path), "version"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "control.listen is not set; set it, or give the address with --control"),
        ('[control]\nlisten = "8888"\n', "listen = '8888': the port is missing"),
        ('[control]\ntokn = "x"\n', "control.tokn"),
        ("control = 5\n", "control"),
        ("[control\n", "sipws.toml"),
    ],
)
def test_a_configuration_without_an_address_is_one_message(
    tmp_path: Path, text: str, message: str, capsys: Any
) -> None:
    path = tmp_path / "sipws.toml"
    path.write_text(text)
    assert main(["ctl", "-c", str(path), "version"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert main(["ctl", "-c", str(tmp_path / "none.toml"), "version"]) == 2
    assert "none.toml" in capsys.readouterr().err


async def test_the_url_may_be_in_the_environment(
    running: Application, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert running.control is not None
    monkeypatch.setenv(URL, f"http://{running.control.address}")
    assert await asyncio.to_thread(main, ["ctl", "version"]) == 0
    monkeypatch.setenv(URL, "http://127.0.0.1:1")
    assert await asyncio.to_thread(main, ["ctl", "version"]) == 2
    assert "http://127.0.0.1:1: no answer" in capsys.readouterr().err
    # What is given goes over it.
    assert await ctl(running, "version") == 0


async def test_certificates_are_a_table(running: Application, capsys: Any) -> None:
    assert await ctl(running, "certificates") == 0
    assert capsys.readouterr().out == "no certificates\n"
