"""The sipws that is controlled: a real one of two workers, and others that answer badly."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from hep.view.web import control
from hep.view.web.backend import ControlError
from hep.view.web.control import ControlClient
from hep.view.web.problems import WebSettingsError

ASKED = {"X-Requested-With": "hep-view"}
PATIENCE = 60
TOKEN = "secret-of-sipws"


class Sipws:
    """A program of two workers that runs."""

    def __init__(self, folder: Path, listen: str, token: str | None) -> None:
        self.log = folder / "log"
        config = folder / "sipws.toml"
        config.write_text(
            '[transport]\nlisten = "ws:127.0.0.1:0"\nworkers = 2\n'
            '[hep]\nhep_id = "[homer]127.0.0.1:9"\n'
            '[tracing]\ntrace_destination = "homer"\ntrace_on = true\n'
            f"[control]\nlisten = {json.dumps(listen)}\n"
            + (f"token = {json.dumps(token)}\n" if token else "")
        )
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sipws", "run", "-c", str(config)],
                stdout=file,
                stderr=file,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while "workers serve" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def url(self) -> str:
        [found] = re.findall(r"listening on ws:(127\.0\.0\.1:\d+)", self.said)
        return f"ws://{found}"

    @property
    def control(self) -> str:
        [found] = re.findall(r"control is on (http://\S+)/mi", self.said)
        return str(found)

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def sipws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sipws]:
    program = Sipws(tmp_path_factory.mktemp("sipws"), "127.0.0.1:0", TOKEN)
    try:
        program.wait()
        yield program
    finally:
        program.end()


@asynccontextmanager
async def controlling(url: str, token: str | None = None) -> AsyncIterator[ControlClient]:
    client = ControlClient(url, token)
    try:
        yield client
    finally:
        await client.aclose()


async def phones(stack: AsyncExitStack, url: str, count: int) -> list[Any]:
    opening = (
        connect(url, subprotocols=[Subprotocol("sip")], origin=Origin("https://a.example"))
        for _ in range(count)
    )
    return [await stack.enter_async_context(each) for each in opening]


async def test_all_workers_are_listed_switched_and_closed(sipws: Sipws, make_service: Any) -> None:
    async with AsyncExitStack() as stack:
        service = make_service()
        service.backend.control = await stack.enter_async_context(controlling(sipws.control, TOKEN))
        client = await stack.enter_async_context(service.client())

        async def read() -> Any:
            answer = await client.get("/api/v1/control")
            assert answer.status_code == 200
            return answer.json()

        # The system chooses the worker: of 16 connections none is likely to be alone.
        clients = await phones(stack, sipws.url, 16)
        state = await read()
        assert (state["reachable"], state["problem"]) == (True, "")
        assert state["url"] == sipws.control
        assert state["version"].startswith("sipws (")
        assert re.fullmatch(r"\d+ \[sec\]", state["uptime"])
        assert state["trace"] == {"ws": True, "wss": True}
        assert state["connections_total"] == 16
        ids = {each["ID"] for each in state["connections"]}
        # The worker is part of the id.
        assert len(ids) == 16
        [destination] = state["destinations"]
        assert destination["name"].startswith("homer ")
        assert destination["state"] == "on"

        for body, trace in (
            ({"on": False, "only": "ws"}, {"ws": False, "wss": True}),
            ({"on": True}, {"ws": True, "wss": True}),
            ({"on": False}, {"ws": False, "wss": False}),
            ({"on": True, "only": "wss"}, {"ws": False, "wss": True}),
            ({"on": True}, {"ws": True, "wss": True}),
        ):
            answer = await client.post("/api/v1/control/trace", json=body)
            assert answer.status_code == 204, answer.text
            assert (await read())["trace"] == trace

        for name in ids:
            body = {"id": str(name), "code": 4000, "reason": "bye"}
            answer = await client.post("/api/v1/control/close", json=body)
            assert answer.status_code == 204, answer.text
        for each in clients:
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(PATIENCE):
                    await each.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "bye")
        answer = await client.post("/api/v1/control/close", json={"id": "1"})
        assert (answer.status_code, answer.json()["error"]) == (
            404, "sipws tcp:close: Connection not found",
        )  # fmt: skip
        answer = await client.post("/api/v1/control/close", json={"id": "1", "code": 1006})
        assert answer.status_code in (400, 404)


async def test_a_wrong_token_says_what_to_give(sipws: Sipws) -> None:
    async with controlling(sipws.control, "wrong") as client:
        state = await client.read()
        assert not state.reachable
        assert "401; give its token" in state.problem
        assert "wrong" not in state.problem
        with pytest.raises(ControlError, match="401"):
            await client.switch(on=True, only=None)


async def test_a_unix_socket_is_asked_too(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    program = Sipws(tmp_path, f"unix:{path}", None)
    try:
        await asyncio.to_thread(program.wait)
        async with controlling(f"unix:{path}") as client:
            state = await client.read()
            assert (state.reachable, state.problem) == (True, "")
            await client.switch(on=False, only=None)
            assert (await client.read()).trace == {"ws": False, "wss": False}
    finally:
        await asyncio.to_thread(program.end)


async def test_an_absent_sipws_is_reported(unused_tcp_port: int, tmp_path: Path) -> None:
    for url in (f"http://127.0.0.1:{unused_tcp_port}", f"unix:{tmp_path}/none.sock"):
        async with controlling(url) as client:
            state = await client.read()
            assert not state.reachable
            assert "is sipws running" in state.problem


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Something that gives one answer to all requests."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        [length] = re.findall(rb"(?i)content-length: *([0-9]+)", asked[-1])
        # Closing with unread bytes would reset the connection.
        await reader.readexactly(int(length))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "no answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no answer"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "is not the control interface of a sipws"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "is not the control interface of a sipws"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"error": 1}', "is not the control interface of a sipws"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "is not the control interface of a sipws"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404; the path of a control interface is /mi"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", "HTTP status 302"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 70_000, "more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "no answer"),
    ],
)
async def test_what_is_no_sipws_is_a_problem(
    answer: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if b"[" * 1000 not in answer:
        monkeypatch.setattr(control, "LONGEST_ANSWER", 65_536)
    async with answering(answer) as (url, _), controlling(url, TOKEN) as client:
        state = await client.read()
        assert not state.reachable
        assert problem in state.problem
        assert TOKEN not in state.problem


async def test_no_proxy_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'HTTP/1.1 200 OK\r\n\r\n{"result": {}}'
    async with answering(body) as (url, asked), answering(body) as (proxy, seen):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        async with controlling(url, TOKEN) as client:
            assert (await client.read()).reachable
    assert seen == []
    assert all(b"POST /mi HTTP/1.1" in request for request in asked)
    assert f"Bearer {TOKEN}".encode() in asked[0]


async def test_a_sipws_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "TIMEOUT", 0.05)
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await go_on.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with controlling(f"http://127.0.0.1:{port}") as client:
            assert "no answer within 0.05 s" in (await client.read()).problem
        go_on.set()


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8888", "ftp://a", "http://", "http://u:pass@h:1", "http://h:x", "unix:",
     "http://h/\n", "http://[::1"],
)  # fmt: skip
def test_a_wrong_url_is_named(url: str) -> None:
    with pytest.raises(WebSettingsError, match="--control") as error:
        ControlClient(url)
    assert "pass" not in str(error.value)


def test_a_token_that_no_header_carries_is_refused() -> None:
    for token in ("a b", "é", "a\r\nX: 1"):
        with pytest.raises(WebSettingsError, match="token of the control interface"):
            ControlClient("http://127.0.0.1:1", token)


class NoSipws:
    """Nothing may be asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("trace", {"on": True}, {"Origin": "http://evil.example"}, 403),
        ("close", {"id": "1"}, {"Sec-Fetch-Site": "same-site"}, 403),
        ("trace", {}, {}, 400),
        ("trace", {"on": True, "only": "tcp"}, {}, 400),
        ("trace", {"on": True, "method": "shutdown"}, {}, 400),
        ("close", {"id": "1", "code": 999}, {}, 400),
        ("close", {"id": "1", "code": 5000}, {}, 400),
        ("close", {"id": "1", "reason": "a" * 124}, {}, 400),
        ("close", {"id": "9" * 257}, {}, 400),
        ("mi", {"method": "shutdown"}, {}, 404),
    ],
)
async def test_a_wrong_command_does_not_reach_the_sipws(
    service: Any, client: httpx.AsyncClient, path: str, body: Any, headers: Any, status: int
) -> None:
    service.backend.control = NoSipws()
    answer = await client.post(f"/api/v1/control/{path}", json=body, headers=headers)
    assert (answer.status_code, "error" in answer.json()) == (status, True)


async def test_commands_need_the_token(make_service: Callable[..., Any]) -> None:
    service = make_service(token=TOKEN)
    service.backend.control = NoSipws()
    async with service.client() as client:
        for method, path in (("GET", ""), ("POST", "/trace"), ("POST", "/close")):
            answer = await client.request(method, f"/api/v1/control{path}", json={"on": True})
            assert answer.status_code == 401


async def test_an_id_that_is_no_number_is_not_sent() -> None:
    async with controlling("http://127.0.0.1:9") as client:
        for name in ("127.0.0.1:5060", "1 2", "", "9" * 21, "-1"):
            with pytest.raises(ControlError, match="is not the id of a connection"):
                await client.close(name, 1000, "")


async def test_without_a_sipws_control_is_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/control")
    assert (answer.status_code, "--control" in answer.json()["error"]) == (404, True)
    answer = await client.post("/api/v1/control/trace", json={"on": True}, headers=ASKED)
    assert answer.status_code == 404
