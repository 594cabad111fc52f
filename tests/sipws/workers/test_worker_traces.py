"""Traces that are started with several workers: in all of them or in none, on one connection."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from glob import glob
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.workers import worker_process
from sipws.workers.supervisor import Supervisor

PAGE = Origin("https://phone.example.com")

PATIENCE = 20.0

Start = Callable[[], Awaitable[Supervisor]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def run() -> Supervisor:
            table = {"transport": {"listen": "ws:127.0.0.1:0", "workers": 2, "shutdown_grace": 0}}
            resolved = ResolvedConfig.of(Config.of(table, "test"))
            return await stack.enter_async_context(Supervisor(resolved, "test"))

        yield run


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - other processes have no event for it
            await asyncio.sleep(0.02)


async def traces(running: Supervisor) -> list[list[str]]:
    """The traces of each worker."""
    contents = [await running.workers[n].call("trace_list", None) for n in running.numbers]
    return [[trace["ID"] for trace in content["result"]["Traces"]] for content in contents]


UDP = "hep:127.0.0.1:9;transport=udp"
TCP = "hep:127.0.0.1:9;transport=tcp"


@pytest.mark.parametrize("uri", [UDP, TCP])
async def test_a_trace_that_one_worker_cannot_start_is_started_in_none(
    start: Start, uri: str
) -> None:
    running = await start()
    await running.workers[2].call("trace_start", ["live", UDP])
    refused = await running.call("trace_start", ["live", uri])
    assert refused["error"] == {
        "code": 500,
        "message": "Bad parameter value",
        "data": "dynamic trace id already used; trace 'live' is started in no worker",
    }
    assert await traces(running) == [[], []]
    assert await running.call("trace_start", ["live", UDP]) == {"result": "OK"}
    # Asked for once more it is refused, and goes on.
    refused = await running.call("trace_start", ["live", uri])
    assert refused["error"]["data"] == "dynamic trace id already used"
    assert await traces(running) == [["live"], ["live"]]
    assert not glob(f"{running.relays.paths}*"), "nothing is left of what was refused"


async def test_a_trace_that_has_ended_by_itself_in_all_workers_is_forgotten(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    # Nobody looks until we do.
    monkeypatch.setattr(Supervisor, "stop_ended_traces", AsyncMock())
    for uri in (UDP, f"hep:127.0.0.1:{running.listeners[0].port};transport=tcp"):
        assert await running.call("trace_start", ["live", uri]) == {"result": "OK"}
        for number in running.numbers:
            await running.workers[number].call("trace_stop", ["live"])
        gone = await running.call("trace_stop", ["live"])
        assert gone["error"] == {"code": 400, "message": "Bad parameter value"}
        assert not glob(f"{running.relays.paths}*")
        # The next worker is not to start it again.
        assert not running.switches.calls


async def test_a_trace_is_started_in_all_also_where_nobody_waits_for_the_answer(
    start: Start,
) -> None:
    running = await start()
    pid = running.workers[2].process.pid
    os.kill(pid, signal.SIGSTOP)
    # As the control interface does when whoever asked has closed the connection.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.call("trace_start", ["live", UDP]), 0.5)
    os.kill(pid, signal.SIGCONT)
    dying = running.workers[1]
    # The lists come after what was begun.
    assert len((await running.call("trace_list", None))["result"]["Traces"]) == 1
    dying.kill()
    await until(lambda: running.workers.get(1) not in (None, dying))
    assert await traces(running) == [["live"], ["live"]]


async def test_a_trace_with_the_id_of_one_that_ended_by_itself_goes_on(start: Start) -> None:
    running = await start()
    assert await running.call("trace_start", ["live", UDP]) == {"result": "OK"}
    async with running.switching:
        # It has ended in a worker, and its end waits for what is being switched:
        forgetting = asyncio.create_task(running.stop_ended_traces([]))
        await asyncio.sleep(0)
        # that it is stopped by hand, and started again.
        running.switches.note("trace_stop", ["live"])
        running.switches.note("trace_start", ["live", UDP])
    await forgetting
    assert await traces(running) == [["live"], ["live"]]


async def test_a_trace_that_a_worker_starts_too_late_is_ended_in_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    pid = running.workers[2].process.pid
    with monkeypatch.context() as patch:
        patch.setattr(worker_process, "ANSWER_TIMEOUT", 2.0)
        os.kill(pid, signal.SIGSTOP)
        refused = await running.call("trace_start", {"id": "live", "uri": UDP})
        os.kill(pid, signal.SIGCONT)
    assert refused["error"]["message"] == (
        "worker 2 does not answer; trace 'live' is started in no worker"
    )
    assert await traces(running) == [[], []]


async def test_what_is_switched_while_a_worker_dies_holds_for_the_next_one(start: Start) -> None:
    running = await start()
    dying = running.workers[2]
    os.kill(dying.process.pid, signal.SIGSTOP)
    started = asyncio.create_task(running.call("trace_start", ["live", UDP]))
    await asyncio.sleep(0)
    dying.kill()
    assert await started == {"result": "OK"}
    await until(lambda: running.workers.get(2) not in (None, dying))
    assert await traces(running) == [["live"], ["live"]]


async def test_a_trace_that_the_next_worker_cannot_start_ends_in_all(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    assert await running.call("trace_start", ["live", UDP]) == {"result": "OK"}
    # As if it had become wrong meanwhile.
    running.switches.note("trace_start", {"id": "live", "uri": "hep:nonsense;transport=x"})
    dying = running.workers[2]
    dying.kill()
    await until(lambda: running.workers.get(2) not in (None, dying))
    assert "worker 2 cannot do trace_start as the others did: hep_id 'nonsense" in caplog.text
    async with asyncio.timeout(PATIENCE):
        while await traces(running) != [[], []]:  # noqa: ASYNC110 - see `until`
            await asyncio.sleep(0.05)


async def test_what_a_hung_worker_has_not_switched_is_switched_in_the_next_one(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    hung = running.workers[2]
    with monkeypatch.context() as patch:
        patch.setattr(worker_process, "ANSWER_TIMEOUT", 2.0)
        os.kill(hung.process.pid, signal.SIGSTOP)
        content = await running.call("ws_trace", ["on"])
    assert content["error"]["message"] == "worker 2 does not answer"
    hung.kill()
    await until(lambda: running.workers.get(2) not in (None, hung))
    assert await running.workers[2].call("ws_trace", None) == {"result": {"WS tracing": "on"}}


async def test_nobody_but_a_worker_adds_to_a_trace(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    received = bytearray()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.extend(data)
        writer.close()

    async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        uri = f"hep:127.0.0.1:{port};transport=tcp"
        assert await running.call("trace_start", ["live", uri]) == {"result": "OK"}
        [path] = map(Path, glob(f"{running.relays.paths}-*/*"))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(hep.encode(hep.Packet(payload=b"made up")))
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert f"process {os.getpid()} is refused" in caplog.text
        for _ in range(10):
            url = f"ws://127.0.0.1:{running.listeners[0].port}/"
            async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE):
                pass
        assert await running.call("trace_stop", ["live"]) == {"result": "OK"}
        assert not path.parent.exists()
        await until(lambda: received.count(b'"Event":\t"CLOSED"') == 10)
    assert b"made up" not in received


async def test_a_trace_for_which_there_is_no_room_is_told(
    monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    running = await start()
    refused = await running.call("trace_start", ["live", TCP])
    assert "/nowhere/sipws-" in refused["error"]["message"]
    assert (
        "No such file or directory; set TMPDIR to another directory" in refused["error"]["message"]
    )
    assert await traces(running) == [[], []]
