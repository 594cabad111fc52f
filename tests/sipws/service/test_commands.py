"""MI methods under OpenSIPS' names."""

import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from sipws import __version__
from sipws.config.resolved import NOWHERE, ResolvedConfig
from sipws.config.settings import Config
from sipws.control import mi
from sipws.log import PACKAGES
from sipws.service.app import Application
from sipws.service.commands import methods_of
from sipws.tracing.routes import xlog_threshold

SIP = [Subprotocol("sip")]
PAGE = Origin("https://phone.example.com")


@pytest.fixture
async def running() -> AsyncIterator[Application]:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "control": {"listen": "127.0.0.1:0"}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        yield application


@pytest.fixture
async def phone(running: Application) -> AsyncIterator[ClientConnection]:
    port = running.server.listeners[0].port
    async with connect(f"ws://127.0.0.1:{port}/", subprotocols=SIP, origin=PAGE) as client:
        yield client


def ask(running: Application, method: str, *in_order: Any, **by_name: Any) -> Any:
    """The result of a method, or its error."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(in_order) or by_name}
    reply = json.loads(mi.reply(mi.parse(json.dumps(call).encode()), methods_of(running)))
    return reply["result"] if "result" in reply else reply["error"]


def peer(phone: ClientConnection) -> str:
    ip, port = phone.local_address[:2]
    return f"{ip}:{port}"


def test_a_connection_is_listed_as_opensips_lists_it(
    running: Application, phone: ClientConnection
) -> None:
    [flow] = running.server.flows
    [listed] = ask(running, "list_tcp_conns")["Connections"]
    ip, port = phone.remote_address[:2]
    assert list(listed.items())[:6] == [
        ("ID", flow.connection.id),
        ("Type", "ws"),
        ("State", 0),
        ("Remote", peer(phone)),
        ("Local", f"{ip}:{port}"),
        ("Lifetime", "unlimited"),
    ]
    assert listed["Listener"] == str(running.server.listeners[0])
    assert listed["Phase"] == "open"
    assert 0 <= listed["Age"] < 5
    assert listed["Bytes in"] > 0


def test_connections_are_listed_by_protocol(running: Application, phone: ClientConnection) -> None:
    assert len(ask(running, "tcp:list", proto="ws")["Connections"]) == 1
    assert ask(running, "tcp:list", "wss") == {"Connections": []}


@pytest.mark.parametrize("named_by", ["id", "ipport", "id in order", "id in digits"])
async def test_a_connection_is_closed_with_a_close_frame(
    running: Application, phone: ClientConnection, named_by: str
) -> None:
    [flow] = running.server.flows
    number = flow.connection.id
    order: dict[str, Any] = {
        "id": {"id": number},
        "ipport": {"ipport": peer(phone)},
        "id in order": {"ipport": number},
        "id in digits": {"ipport": str(number)},
    }[named_by]
    assert ask(running, "tcp:close", **order) == "OK"
    with pytest.raises(ConnectionClosed) as closed:
        await phone.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "closed by the operator")


async def test_code_and_reason_of_a_close_may_be_said(
    running: Application, phone: ClientConnection
) -> None:
    order = {"ipport": peer(phone), "code": "1001", "reason": "maintenance"}
    assert ask(running, "tcp:close", **order) == "OK"
    with pytest.raises(ConnectionClosed) as closed:
        await phone.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "maintenance")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, -32602),
        ({"id": 1}, 404),
        ({"id": "7"}, 404),
        ({"ipport": "192.0.2.1:5060"}, 404),
        ({"ipport": "nonsense"}, 404),
        ({"id": 1, "code": "x"}, -32602),
        ({"id": 1, "reason": 1}, -32602),
        ({"nome": 1}, -32602),
        ({"id": "9" * 5000}, 404),
        ({"ipport": "9" * 5000}, 404),
        ({"ipport": "²"}, 404),
        ({"id": 1, "code": "9" * 5000}, -32602),
        ({"id": 1, "code": "²"}, -32602),
        ({"id": 1, "code": 1e3}, -32602),
        ({"id": 1, "code": [1000]}, -32602),
        ({"id": [1]}, -32602),
        ({"id": {}}, -32602),
        ({"id": 1.5}, -32602),
        ({"ipport": [["192.0.2.1", 5060]]}, -32602),
    ],
)
def test_a_connection_that_is_not_there_is_404_and_wrong_parameters_are_32602(
    running: Application, params: dict[str, Any], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(running, "tcp:close", **params)["code"] == code
    assert "Traceback" not in caplog.text


def test_a_reason_that_is_no_text_closes_nothing(
    running: Application, phone: ClientConnection, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(running, "tcp:close", ipport=peer(phone), reason="\ud800")
    assert answer == {"code": -32700, "message": "Parse error"}
    assert len(ask(running, "tcp:list")["Connections"]) == 1
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("params", [{"code": 1006}, {"code": 7}, {"reason": "x" * 200}])
def test_a_close_frame_that_may_not_be_sent_is_not(
    running: Application, phone: ClientConnection, params: dict[str, Any]
) -> None:
    answer = ask(running, "tcp:close", ipport=peer(phone), **params)
    assert answer["code"] == -32602
    assert "close code" in answer["message"]
    assert len(ask(running, "tcp:list")["Connections"]) == 1


def test_tracing_is_switched_where_there_is_no_destination(
    running: Application, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(running, "ws_trace") == {"WS tracing": "off"}
    assert ask(running, "ws_trace", "on") == "OK"
    assert ask(running, "ws_trace") == {"WS tracing": "on"}
    assert NOWHERE in caplog.text
    assert ask(running, "get_statistics", ["trace:on"]) == {"trace:on": 1}
    assert ask(running, "ws_trace", "off") == "OK"
    assert ask(running, "ws_trace") == {"WS tracing": "off"}


def test_statistics_are_asked_for_by_group_and_by_name(
    running: Application, phone: ClientConnection
) -> None:
    everything = ask(running, "get_statistics", statistics=["all"])
    assert everything["ws:connections"] == everything["ws:accepted"] == 1
    assert {name.partition(":")[0] for name in everything} == {
        "core", "net", "ws", "trace", "hep",
    }  # fmt: skip
    group = ask(running, "get_statistics", ["ws:"])
    assert {name.partition(":")[0] for name in group} == {"ws"}
    some = ask(running, "statistics:get", statistics=["ws:accepted", "queued", "unknown"])
    assert some == {"ws:accepted": 1, "hep:queued": 0}


@pytest.mark.parametrize(
    ("statistics", "error"),
    [
        ([], "Empty array in parameter 'statistics'"),
        ("all", "Bad type for parameter 'statistics'"),
        ([["ws:"]], "Bad type for array item in parameter 'statistics'"),
    ],
)
@pytest.mark.parametrize("method", ["get_statistics", "list_statistics", "reset_statistics"])
def test_statistics_are_a_list_of_names(
    running: Application, method: str, statistics: object, error: str
) -> None:
    refused = {"code": -32602, "message": "Invalid params", "data": error}
    assert ask(running, method, statistics=statistics) == refused


@pytest.mark.parametrize("method", ["get_statistics", "list_statistics"])
def test_statistics_that_do_not_exist_are_left_out(running: Application, method: str) -> None:
    assert ask(running, method, ["unknown", "none:", 1]) == {}


def test_only_reset_says_that_a_statistic_does_not_exist(running: Application) -> None:
    refused = {"code": 404, "message": "Statistics Not Found"}
    assert ask(running, "reset_statistics", ["unknown"]) == refused
    # OpenSIPS resets by name alone.
    assert ask(running, "reset_statistics", ["ws:"]) == refused
    assert ask(running, "reset_statistics", ["all"]) == refused


def test_statistics_are_listed_with_how_they_change(running: Application) -> None:
    everything = ask(running, "list_statistics")
    assert everything.keys() == ask(running, "get_statistics", ["all"]).keys()
    assert set(everything.values()) == {"incremental", "non-incremental"}
    assert everything["ws:accepted"] == "incremental"
    assert everything["ws:connections"] == "non-incremental"
    assert ask(running, "list_statistics", ["net:"]) == {
        f"net:waiting_{proto}": "non-incremental" for proto in ("udp", "tcp", "tls")
    }
    # OpenSIPS lists a single one without its group.
    assert ask(running, "list_statistics", ["Accepted"]) == {"accepted": "incremental"}


def test_what_is_reset_counts_from_zero_again(
    running: Application, phone: ClientConnection
) -> None:
    assert ask(running, "get_statistics", ["accepted"]) == {"ws:accepted": 1}
    assert ask(running, "reset_statistics", ["accepted", "ws:connections"]) == "OK"
    # What is not counted is not reset.
    assert ask(running, "get_statistics", ["accepted", "connections"]) == {
        "ws:accepted": 0,
        "ws:connections": 1,
    }
    assert running.counts.handshakes["peer", "accepted"] == 1
    assert ask(running, "get_statistics", ["bytes_in"])["ws:bytes_in"] > 0
    assert ask(running, "reset_all_statistics") == "OK"
    assert ask(running, "get_statistics", ["bytes_in"]) == {"ws:bytes_in": 0}


def test_the_program_tells_of_itself(running: Application) -> None:
    assert ask(running, "version")["Server"].startswith(f"sipws ({__version__} (")
    uptime = ask(running, "uptime")
    assert list(uptime) == ["Now", "Up since", "Up time"]
    assert time.strptime(uptime["Up since"])
    assert uptime["Up time"].endswith(" [sec]")
    assert ask(running, "ps") == {"Processes": [{"ID": 0, "PID": os.getpid(), "Type": "sipws"}]}


def test_which_lists_methods_and_the_parameters_of_one(running: Application) -> None:
    names = ask(running, "which")
    assert names == sorted(names)
    assert {"get_statistics", "list_tcp_conns", "tcp:close", "tcp:list", "which"} <= set(names)
    assert ask(running, "which", "get_statistics") == [["statistics"]]
    assert ask(running, "which", "tcp:list") == [[], ["proto"]]
    assert ask(running, "which", "nope") == {"code": 404, "message": "unknown MI command"}
    assert ask(running, "which", {})["data"] == "Bad type for parameter 'command'"
    assert ask(running, "which", "trace") == [[], ["id"], ["mode"], ["id", "mode"]]
    assert ask(running, "which", "log_level") == [[], ["level"], ["level", "pid"]]


def test_help_says_what_a_method_does_and_whose_it_is(running: Application) -> None:
    assert ask(running, "help") == "Usage: help mi_cmd - returns information about 'mi_cmd'"
    for method in ask(running, "which"):
        about = ask(running, "help", method)
        assert list(about) == ["Help", "Exported by"]
        assert about["Help"]
    assert ask(running, "help", "wss_trace")["Exported by"] == "proto_wss"
    assert ask(running, "help", "tcp:close")["Exported by"] == "sipws"
    assert ask(running, "help", "nope") == {"code": 404, "message": "unknown MI command"}


def test_the_start_of_the_program_is_told(running: Application) -> None:
    assert ask(running, "pwd") == {"WD": os.getcwd()}
    assert ask(running, "arg") == sys.argv
    assert ask(running, "version", revision="")["release"] == __version__


@pytest.fixture
def levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)
    xlog_threshold.level = 4


@pytest.mark.usefixtures("levels")
def test_the_log_level_is_shown_and_set(running: Application) -> None:
    pid = os.getpid()
    for level in (-3, -2, -1, 0, 1, 2, 3, 4):
        assert ask(running, "log_level", level) == {"New global log level": level}
        shown = {"PID": pid, "Log level": level, "Type": "sipws"}
        assert ask(running, "log_level") == {"Processes": [shown]}
        is_written = [logging.getLogger("hep").isEnabledFor(each) for each in (10, 20, 30, 40, 50)]
        assert is_written == [level >= each for each in (4, 3, 1, -1, -2)]
    assert ask(running, "log_level", level="1", pid=pid) == {"Log level": 1}
    refused = {"code": -32602, "message": "Invalid params", "data": "Bad PID"}
    assert ask(running, "log_level", level=3, pid=1) == refused
    assert ask(running, "log_level")["Processes"][0]["Log level"] == 1
    assert ask(running, "log_level", "debug")["data"] == "Bad type for parameter 'level'"


@pytest.mark.usefixtures("levels")
def test_the_level_of_xlog_is_shown_and_set(running: Application) -> None:
    assert ask(running, "xlog_level") == {"xLog Level": 4}
    assert ask(running, "xlog_level", -1) == {"New xLog level": -1}
    assert ask(running, "xlog_level") == {"xLog Level": -1}


def test_without_certificates_there_are_no_domains(running: Application) -> None:
    assert ask(running, "tls_list") == {"Domains": []}


@pytest.mark.parametrize("proto", ["ws", "wss"])
def test_each_protocol_is_switched_by_its_own_method(running: Application, proto: str) -> None:
    other = "wss" if proto == "ws" else "ws"
    shown = f"{proto.upper()} tracing"
    assert ask(running, f"{proto}_trace", "ON") == "OK"
    assert ask(running, f"{proto}_trace") == {shown: "on"}
    assert ask(running, f"{other}_trace") == {f"{other.upper()} tracing": "off"}
    assert ask(running, f"{proto}_trace", trace_mode="Off") == "OK"
    assert ask(running, f"{proto}_trace") == {shown: "off"}
    data = "trace_mode should be 'on' or 'off'"
    refused = {"code": 500, "message": "Bad parameter value", "data": data}
    for wrong in ("", "o", 1, "true"):
        assert ask(running, f"{proto}_trace", wrong) == refused
    assert ask(running, f"{proto}_trace", [True])["data"] == "Bad type for parameter 'trace_mode'"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("trace_stop", {"id": ["a"]}),
        ("trace_stop", {"id": {}}),
        ("trace_start", {"id": True, "uri": "hep:127.0.0.1"}),
        ("trace_start", {"id": "a\nb", "uri": "hep:127.0.0.1"}),
        ("trace_start", {"id": "a\x1b[31m", "uri": "hep:127.0.0.1"}),
        ("trace_start", {"id": "a" * 256, "uri": "hep:127.0.0.1"}),
        ("trace_start", {"id": "a", "uri": "hep:127.0.0.1;\u2028"}),
        ("trace_start", {"id": "a", "uri": "hep:" + "a" * 256}),
        ("trace_start", {"id": "a", "uri": "hep:127.0.0.1", "filter": ["\0"]}),
        ("trace_start", {"id": "a", "uri": "hep:127.0.0.1", "filter": [["ip"]]}),
        ("trace_start", {"id": "a", "uri": "hep:127.0.0.1", "filter": {"a": "b"}}),
        ("get_statistics", {"statistics": "all"}),
        ("get_statistics", {"statistics": [["all"]]}),
        ("list_tcp_conns", {"proto": None}),
    ],
)
def test_parameters_of_a_wrong_kind_are_32602_and_change_nothing(
    running: Application, method: str, params: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    before = ask(running, "trace_list")
    answer = ask(running, method, **params)
    assert (answer["code"], answer["message"]) == (-32602, "Invalid params")
    assert ask(running, "trace_list") == before
    assert "Traceback" not in caplog.text


def test_a_port_of_200_digits_is_no_destination(
    running: Application, caplog: pytest.LogCaptureFixture
) -> None:
    uri = "hep:127.0.0.1:" + "9" * 200
    answer = ask(running, "trace_start", id="a", uri=uri)
    assert answer["code"] == 500
    assert answer["message"] == "Bad parameter value"
    assert "is not in 1 to 65535" in answer["data"]
    assert "Traceback" not in caplog.text


def test_statistics_are_read_once_however_many_are_asked_for(
    running: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []

    def reading(application: Application) -> dict[str, int]:
        read.append(application)
        return {"ws:a": 1, "ws:b": 2}

    monkeypatch.setattr("sipws.service.statistics_commands.read_statistics", reading)
    assert ask(running, "get_statistics", ["b", "a"] * 1000) == {"ws:b": 2, "ws:a": 1}
    assert len(read) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc": "2.0", "method": "uptime", "id": ' + b"9" * 5000 + b"}",
        b'{"jsonrpc": "2.0", "method": "uptime", "id": 1, "params": ' + b"[" * 50_000,
        b'{"jsonrpc": "2.0", "method": "uptime", "id": 1, "params": '
        + b"[" * 50_000
        + b"]" * 50_000
        + b"}",
        b'{"jsonrpc": "2.0", "method": "uptime", "id": NaN}',
        b"\xff\xfe",
        b"\0" * 100,
        b"",
    ],
    ids=["5000 digits", "deep", "deep and whole", "NaN", "not UTF-8", "NULs", "empty"],
)
def test_what_cannot_be_read_is_a_parse_error(
    running: Application, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = json.loads(mi.reply(mi.parse(body), methods_of(running)))
    assert answer["error"] == {"code": -32700, "message": "Parse error"}
    assert "Traceback" not in caplog.text


def test_a_number_beyond_all_numbers_is_no_id(running: Application) -> None:
    body = b'{"jsonrpc": "2.0", "method": "uptime", "id": 1e999}'
    answer = json.loads(mi.reply(mi.parse(body), methods_of(running)))
    assert answer == {
        "jsonrpc": "2.0",
        "error": {"code": -32600, "message": "Invalid Request"},
        "id": None,
    }
