"""Steering a running program: tracing on and off, the filter read anew."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep
from sipws.address import Address
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import http_connection
from sipws.control.server import ControlServer, Page
from sipws.service.app import Application
from sipws.service.console import OneProcess
from sipws.service.serving import on_hangup

SIP = [Subprotocol("sip")]
PAGE = Origin("https://phone.example.com")

Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start an application with a control interface and a collector, whose packets it returns."""
    async with AsyncExitStack() as stack:

        async def run(**tracing: Any) -> tuple[Application, list[hep.Packet]]:
            packets: list[hep.Packet] = []
            collector = hep.Collector(
                lambda packet, source: packets.append(packet), tcp="127.0.0.1:0"
            )
            await stack.enter_async_context(collector)
            ip, port = collector.tcp_address
            token = tracing.pop("token", None)
            config = Config.of(
                {
                    "transport": {"listen": "ws:127.0.0.1:0"},
                    "hep": {"hep_id": f"[homer]{ip}:{port}"},
                    "tracing": {"trace_destination": "homer", **tracing},
                    "control": {"listen": "127.0.0.1:0", "token": token},
                },
                "test",
            )
            return await stack.enter_async_context(Application(ResolvedConfig.of(config))), packets

        yield run


def url(application: Application) -> str:
    assert application.control is not None
    return f"http://{application.control.address}/mi"


async def ctl(application: Application, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["ctl", "--url", url(application), *arguments])


async def come_and_go(application: Application) -> None:
    """A connection, from start to end, and time for its traces to arrive."""
    port = application.server.listeners[0].port
    async with connect(f"ws://127.0.0.1:{port}/", subprotocols=SIP, origin=PAGE):
        pass
    [sender] = application.traces.senders
    async with asyncio.timeout(5):
        await application.server.flows.wait_empty()
        application.traces.bus.flush()
        while sender.counters.queued:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)


async def http(application: Application, request: bytes) -> tuple[bytes, bytes]:
    assert application.control is not None
    reader, writer = await asyncio.open_connection(*application.control.address)
    writer.write(request)
    writer.write_eof()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.partition(b"\r\n")[0], body


def post(body: bytes, *headers: bytes, path: bytes = b"/mi") -> bytes:
    lines = [
        b"POST " + path + b" HTTP/1.1",
        b"Host: localhost",
        b"Content-Length: %d" % len(body),
        *(headers or [b"Content-Type: application/json"]),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKED = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


async def test_tracing_is_switched_while_it_runs(start, capsys: Any) -> None:
    application, packets = await start(trace_on=False)
    assert await ctl(application, "trace") == 0
    await come_and_go(application)
    assert packets == []
    assert await ctl(application, "trace", "on") == 0
    assert await ctl(application, "trace") == 0
    await come_and_go(application)
    assert len(packets) == 2
    assert await ctl(application, "trace", "off") == 0
    await come_and_go(application)
    assert len(packets) == 2
    assert capsys.readouterr().out == (
        "WS tracing: off\nWSS tracing: off\nOK\nWS tracing: on\nWSS tracing: on\nOK\n"
    )


async def test_opensips_names_and_answers_are_kept(start) -> None:
    application, _ = await start(trace_on=True)

    async def ask(method: str, *params: str) -> Any:
        call = {"jsonrpc": "2.0", "id": "7", "method": method, "params": list(params)}
        status, body = await http(application, post(json.dumps(call).encode()))
        assert status == b"HTTP/1.1 200 OK"
        reply = json.loads(body)
        assert reply["id"] == "7"
        return reply.get("result") or reply["error"]

    assert await ask("ws:trace") == {"WS tracing": "on"}
    assert await ask("ws_trace", "off") == "OK"
    assert await ask("ws_trace") == {"WS tracing": "off"}
    data = "trace_mode should be 'on' or 'off'"
    refused = {"code": 500, "message": "Bad parameter value", "data": data}
    assert await ask("ws_trace", "maybe") == refused
    assert {"ws_trace", "ws:trace", "reload_routes"} <= set(await ask("which"))


async def test_the_filter_is_read_anew_and_one_with_mistakes_is_refused(
    start, tmp_path: Path, capsys: Any
) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text("route[f] { drop; }")
    application, packets = await start(trace_on=True, script=script, trace_filter_route="f")
    await come_and_go(application)
    assert packets == []
    script.write_text("route[f] { drp; }")
    assert await ctl(application, "reload") == 1
    assert f"{script}:1:12: error: " in capsys.readouterr().err
    await come_and_go(application)
    assert packets == []
    script.write_text("route[f] { exit; }")
    assert await ctl(application, "reload") == 0
    await come_and_go(application)
    assert len(packets) == 2


async def test_a_script_that_is_stopped_at_its_bounds_is_said_in_the_trace(
    start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text("route[f] { while (1) { while (1) { $var(a) = 1; } } drop; }")
    application, packets = await start(trace_on=True, script=script, trace_filter_route="f")
    with caplog.at_level(logging.WARNING):
        await come_and_go(application)
    accepted, _ = (json.loads(packet.payload) for packet in packets)
    assert accepted["Filter_Remark"]
    assert "trace filter on 127.0.0.1" in caplog.text


async def test_a_token_is_asked_for_where_one_is_set(start, capsys: Any) -> None:
    application, _ = await start(token="s3cr3t")
    assert await ctl(application, "trace") == 2
    assert "401 Unauthorized; give its --token" in capsys.readouterr().err
    assert await ctl(application, "--token", "s3cr3t", "trace") == 0


@pytest.mark.parametrize(
    "given",
    [b"s3cr3", b"s", b"", b"s3cr3tt", b"s3cr3t s3cr3t", b"S3CR3T", b"xs3cr3t", b"3cr3t"],
    ids=ascii,
)
async def test_a_part_of_the_token_or_more_than_it_is_another_token(start, given: bytes) -> None:
    application, _ = await start(token="s3cr3t")
    kind = b"Content-Type: application/json"
    line, _ = await http(application, post(CALL, kind, b"Authorization: Bearer " + given))
    assert line.split()[1] == b"401"
    line, _ = await http(application, post(CALL, kind, b"Authorization: Bearer s3cr3t"))
    assert line.split()[1] == b"200"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /mi HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (post(b"{}", path=b"/"), 404),
        (post(b""), 400),
        (post(b"{}", b"Content-Type: text/plain"), 415),
        (post(b"x" * 70_000), 413),
        (post(b"").replace(b"Length: 0", b"Length: 99999999999"), 413),
        (post(b"").replace(b"Length: 0", b"Length: 2000000") + b"x" * 2_000_000, 413),
        (CHUNKED + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 500, 413),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
        (b"\x16\x03\x01", 400),
        (b"", None),
    ],
)
async def test_what_is_no_request_gets_its_status(
    start, request_: bytes, status: int | None
) -> None:
    application, _ = await start()
    line, _ = await http(application, request_)
    assert (int(line.split()[1]) if line else None) == status


CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "ws_trace"}'


@pytest.mark.parametrize("method", [b"ws_trace", b"nope"])
async def test_a_notification_is_accepted_and_not_answered(start, method: bytes) -> None:
    application, _ = await start()
    call = b'{"jsonrpc": "2.0", "method": "' + method + b'"}'
    assert await http(application, post(call)) == (b"HTTP/1.1 202 Accepted", b"")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("{address}", None, 200),
        ("127.0.0.1", None, 200),
        ("[::1]:8888", None, 200),
        ("localhost:8888", None, 200),
        ("LOCALHOST", None, 200),
        ("sipws.localhost:9999", None, 200),
        ("rebound.test", None, 421),
        ("rebound.test:8888", "http://rebound.test:8888", 421),
        ("localhost.rebound.test", None, 421),
        ("127.0.0.1.rebound.test", None, 421),
        ("192.0.2.1:8888", None, 421),
        ("0.0.0.0:8888", None, 421),
        ("", None, 200),
        ("localhost:8888", "http://localhost:8888", 200),
        ("localhost:8888", "http://LOCALHOST:8888", 200),
        ("localhost:8888", "http://localhost:3000", 403),
        ("localhost:8888", "https://evil.test", 403),
        ("localhost:8888", "null", 403),
    ],
)
@pytest.mark.parametrize("path", ["/mi", "/metrics"])
async def test_pages_of_others_can_do_nothing_through_a_browser(
    start, host: str, origin: str | None, status: int, path: str
) -> None:
    application, _ = await start()
    assert application.control is not None
    lines = [
        f"{'POST' if path == '/mi' else 'GET'} {path} HTTP/1.{int(bool(host))}",
        "Content-Type: application/json",
        f"Content-Length: {len(CALL) if path == '/mi' else 0}",
    ]
    if host:
        lines.append("Host: " + host.format(address=application.control.address))
    if origin is not None:
        lines.append(f"Origin: {origin}")
    request = "\r\n".join([*lines, "", ""]).encode()
    line, _ = await http(application, request + (CALL if path == "/mi" else b""))
    assert int(line.split()[1]) == status


async def test_who_asks_under_a_wrong_name_is_told_which_are_right(start, capsys: Any) -> None:
    application, _ = await start()
    assert application.control is not None
    there = f"http://0.0.0.0:{application.control.address.port}/mi"
    assert await asyncio.to_thread(main, ["ctl", "--url", there, "trace"]) == 2
    assert "421 Misdirected Request; without a token, address it as" in capsys.readouterr().err


async def test_with_a_token_it_may_be_asked_by_any_name(start) -> None:
    application, _ = await start(token="s3cr3t")
    headers = (b"Content-Type: application/json", b"Authorization: Bearer s3cr3t")
    request = post(CALL, *headers).replace(b"Host: localhost", b"Host: sipws.example.com")
    assert (await http(application, request))[0] == b"HTTP/1.1 200 OK"


async def test_health_is_told_by_any_name(start) -> None:
    application, _ = await start()
    line, _ = await http(application, b"GET /healthz HTTP/1.1\r\nHost: balancer.test\r\n\r\n")
    assert line == b"HTTP/1.1 200 OK"


async def test_the_media_type_may_be_written_in_any_case(start) -> None:
    application, _ = await start()
    request = post(CALL, b"Content-Type: Application/JSON; charset=utf-8")
    assert (await http(application, request))[0] == b"HTTP/1.1 200 OK"


async def test_who_waits_to_be_told_to_go_on_is_told(start) -> None:
    application, _ = await start()
    head, _, body = post(
        CALL, b"Content-Type: application/json", b"Expect: 100-continue"
    ).partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection(*application.control.address)
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_a_request_has_its_time_however_slowly_it_comes(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "REQUEST_TIMEOUT", 0.2)
    application, _ = await start()
    reader, writer = await asyncio.open_connection(*application.control.address)
    writer.write(post(CALL))
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        slow = asyncio.create_task(reader.read())
        while not slow.done():
            writer.write(b"P")
            await asyncio.wait([slow], timeout=0.02)
    with suppress(ConnectionResetError):
        await slow
    writer.close()


async def test_requests_may_share_a_connection(start) -> None:
    application, _ = await start()
    call = post(CALL)
    _, body = await http(application, call * 3)
    assert body.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/mi", "http://127.0.0.1:1/mi: no answer"),
        ("127.0.0.1:8888", "is not a URL of a control interface"),
    ],
)
def test_nobody_there_is_one_message_and_status_2(url: str, message: str, capsys: Any) -> None:
    assert main(["ctl", "--url", url, "trace"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


async def test_a_hangup_signal_reads_the_filter_anew(
    start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text("route[f] { exit; }")
    application, packets = await start(trace_on=True, script=script, trace_filter_route="f")
    on_hangup(OneProcess(application).reload)
    with caplog.at_level(logging.INFO):
        script.write_text("nonsense")
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        assert "the new filter is refused, the old one stays" in caplog.text
        script.write_text("route[f] { drop; }")
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        assert "filter reloaded" in caplog.text
    await come_and_go(application)
    assert packets == []
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_a_request_waits_for_the_answer_to_the_one_before() -> None:
    asked: list[bytes] = []
    was_asked = asyncio.Event()
    may_answer = asyncio.Event()

    async def reply(body: bytes) -> bytes:
        asked.append(body)
        was_asked.set()
        await may_answer.wait()
        return body

    async with ControlServer(Address("127.0.0.1", 0), reply) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(post(b"1") + post(b"2"))
        await was_asked.wait()
        writer.write(post(b"3"))
        writer.write_eof()
        await asyncio.sleep(0.01)
        assert asked == [b"1"]
        may_answer.set()
        answers = await reader.read()
        assert [part[:1] for part in answers.split(b"\r\n\r\n")[1:]] == [b"1", b"2", b"3"]
        writer.close()


async def test_who_goes_while_an_answer_is_made_is_not_waited_for() -> None:
    given_up = asyncio.Event()
    asked = asyncio.Event()

    async def reply(body: bytes) -> bytes:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        return body

    async with ControlServer(Address("127.0.0.1", 0), reply) as server:
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(post(b"1"))
        await asked.wait()
    async with asyncio.timeout(5):
        await given_up.wait()
    writer.close()


async def test_who_asks_for_what_fails_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> tuple[HTTPStatus, str]:
        raise RuntimeError("no numbers")

    page, here = Page("text/plain", broken), Address("127.0.0.1", 0)
    async with ControlServer(here, lambda body: body, pages={"/metrics": page}) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readline() == b"HTTP/1.1 500 Internal Server Error\r\n"
        writer.close()
    [record] = caplog.records
    assert record.message == "/metrics cannot be answered"
    assert "no numbers" in str(record.exc_info)
