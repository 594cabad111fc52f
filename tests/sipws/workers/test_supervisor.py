"""Workers that hang, cannot live or do not end, over real processes."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.metrics.prometheus_text import Family
from sipws.service.statistics import SUSPENDED
from sipws.workers import parent, supervisor, worker_process
from sipws.workers.supervisor import LONGEST_PAUSE, SETTLED, Supervisor, pause_before
from sipws.workers.worker_process import WorkerEndedError, WorkerProcess, is_orderly

PAGE = Origin("https://phone.example.com")

PATIENCE = 20.0

Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def run(tracing: dict[str, Any] | None = None, **settings: Any) -> Supervisor:
            transport = {"listen": "ws:127.0.0.1:0", "workers": 2, "shutdown_grace": 0}
            table = {"transport": transport, "tracing": tracing or {}}
            resolved = ResolvedConfig.of(Config.of(table, "test"))
            return await stack.enter_async_context(Supervisor(resolved, "test", **settings))

        yield run


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - other processes have no event for it
            await asyncio.sleep(0.02)


async def come_and_go(running: Supervisor, times: int) -> None:
    for _ in range(times):
        url = f"ws://127.0.0.1:{running.listeners[0].port}/"
        async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE, open_timeout=5):
            pass


async def accepted(running: Supervisor) -> list[int]:
    """Connections that each worker has accepted."""
    contents = [
        await running.workers[number].call("get_statistics", [["ws:accepted"]])
        for number in running.numbers
    ]
    return [content["result"]["ws:accepted"] for content in contents]


def test_who_cannot_live_is_started_again_less_and_less_often() -> None:
    pauses = [0.0]
    for _ in range(12):
        pauses.append(pause_before(pauses[-1], 0.5))
    assert pauses[1] < 1
    assert pauses[1:8] == [pauses[1] * 2**n for n in range(7)]
    assert pauses[-1] == LONGEST_PAUSE
    assert pause_before(LONGEST_PAUSE, SETTLED) == pauses[1]


@pytest.mark.parametrize("lived", [0.0, 0.5, 1.0, LONGEST_PAUSE, SETTLED - 1])
def test_who_dies_within_a_minute_has_not_settled(lived: float) -> None:
    assert pause_before(4.0, lived) == 8.0
    assert pause_before(4.0, 60.0) < 1


async def test_how_long_a_worker_lived_is_its_own_time(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived: list[float] = []

    def note(last: float, seconds: float) -> float:
        lived.append(seconds)
        return 0.0

    monkeypatch.setattr(supervisor, "pause_before", note)
    time = asyncio.get_running_loop().time
    begun = [time()]
    running = await start()
    killed, ended = [], []
    for _ in range(2):
        worker = running.workers[1]
        killed.append(time())
        worker.kill()
        await until(lambda worker=worker: running.workers.get(1) not in (None, worker))
        ended.append(time())
    first, second = lived
    assert 0 < first <= ended[0] - begun[0]
    # It began behind the end of the first one.
    assert 0 < second <= ended[1] - killed[0]
    assert first != second


async def test_a_worker_that_hangs_is_killed_and_started_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PING_INTERVAL", 0.05)
    running = await start(hung=3.0)
    health = parent.pages_of(running)["/healthz"].read
    assert health()[0] == 200
    first = running.workers[1]
    monkeypatch.setattr(worker_process, "QUIET", 1.0)
    os.kill(first.process.pid, signal.SIGSTOP)
    await until(lambda: health() == (503, "no answer from worker 1\n"))
    await until(lambda: running.workers.get(1) not in (None, first))
    assert await first.ended == -signal.SIGKILL
    await until(lambda: health()[0] == 200)
    assert running.restarts == {1: 1, 2: 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_only_an_end_that_nobody_asked_for_is_an_error(
    start: Start, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", supervisor.__name__)
    running = await start()
    os.kill(running.workers[1].process.pid, number)
    await until(lambda: running.restarts[1] == 1)
    [record] = [each for each in caplog.records if "is started again" in each.getMessage()]
    status = "signal 9" if number is signal.SIGKILL else "status 0"
    assert record.getMessage() == f"worker 1 ended with {status} and is started again in 0.1 s"
    assert record.levelname == ("ERROR" if number is signal.SIGKILL else "INFO")


@pytest.mark.parametrize(
    ("status", "orderly"),
    [(0, True), (-signal.SIGTERM, True), (-signal.SIGINT, True), (1, False), (-9, False)],
)
def test_a_signal_that_comes_before_its_handler_is_an_orderly_end_too(
    status: int, orderly: bool
) -> None:
    assert is_orderly(status) is orderly


async def test_nobody_waits_for_a_hung_worker_after_the_first(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    os.kill(running.workers[2].process.pid, signal.SIGSTOP)
    for name in ("ANSWER_TIMEOUT", "QUIET"):
        monkeypatch.setattr(worker_process, name, 2.0)
    silent = {"error": {"code": 500, "message": "worker 2 does not answer"}}
    assert await running.call("ws_trace", None) == silent
    # From now on a wait would outlast the test.
    monkeypatch.setattr(worker_process, "ANSWER_TIMEOUT", 10 * PATIENCE)
    async with asyncio.timeout(PATIENCE):
        asked = [running.call("ws_trace", None) for _ in range(5)]
        assert await asyncio.gather(*asked) == [silent] * 5
        up = (await running.families())[0]
        await running.reload()
    assert up.samples == [({"worker": "1"}, 1), ({"worker": "2"}, 0)]
    assert running.quiet == [2]
    os.kill(running.workers[2].process.pid, signal.SIGCONT)
    await until(lambda: not running.quiet)
    assert "result" in await running.call("ws_trace", None)


async def test_while_a_worker_pauses_for_long_the_others_have_what_comes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    # From the first time on, as if it had died again and again.
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 4.0)
    running.workers[1].kill()
    await until(lambda: 1 not in running.workers)
    await come_and_go(running, 20)
    await until(lambda: 1 in running.workers)
    assert await accepted(running) == [0, 20]
    await come_and_go(running, 40)
    first, second = await accepted(running)
    assert first > 0
    assert first + second == 60


async def test_what_comes_while_a_worker_is_started_again_waits_for_it(start: Start) -> None:
    running = await start()
    running.workers[1].kill()
    await until(lambda: 1 not in running.workers)
    await come_and_go(running, 20)
    await until(lambda: 1 in running.workers)
    assert sum(await accepted(running)) == 20


async def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "END_MARGIN", 0.1)
    monkeypatch.setattr(supervisor, "FLUSH_TIMEOUT", 0.1)
    table = {"transport": {"listen": "ws:127.0.0.1:0", "workers": 2, "shutdown_grace": 0}}
    async with Supervisor(ResolvedConfig.of(Config.of(table, "test")), "test") as running:
        workers = list(running.workers.values())
        os.kill(workers[0].process.pid, signal.SIGSTOP)
        begun = time.monotonic()
    assert time.monotonic() - begun < PATIENCE
    assert workers[0].ended.result() == -signal.SIGKILL
    assert workers[1].ended.done()


async def test_an_end_that_the_pause_does_not_see_starts_no_worker_again(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    running = await start()
    # As when both come in one turn of the event loop.
    monkeypatch.setattr(running.stopping, "wait", asyncio.Event().wait)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.5)
    monkeypatch.setattr(WorkerProcess, "spawn", pytest.fail)
    running.workers[1].kill()
    await until(lambda: 1 not in running.workers)
    await running.__aexit__()
    assert "Traceback" not in capfd.readouterr().err


async def test_an_end_while_a_worker_is_being_started_ends_that_one_too(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    running = await start()
    spawn, spawned, ending = WorkerProcess.spawn, [], []

    async def slow(*args: Any) -> WorkerProcess:
        ending.append(asyncio.create_task(running.__aexit__()))
        await asyncio.sleep(0.1)
        spawned.append(await spawn(*args))
        return spawned[0]

    monkeypatch.setattr(WorkerProcess, "spawn", slow)
    running.workers[1].kill()
    await until(lambda: bool(ending))
    await ending[0]
    assert spawned[0].ended.result() == 0
    assert spawned[0] in running.ended
    assert "Traceback" not in capfd.readouterr().err


async def test_a_worker_that_is_started_during_a_reload_reads_what_is_new(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    running = await start()
    for read in (running.reload(), running.call("reload", None)):
        before = running.restarts[2]
        running.workers[2].kill()
        await until(lambda before=before: running.restarts[2] > before)
        await read
        assert "worker 2" not in capfd.readouterr().err
        await until(lambda: 2 in running.workers)
        assert "worker 2: filter reloaded" in capfd.readouterr().err


async def test_nothing_is_said_of_what_a_worker_has_not_read_that_died_meanwhile(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    dying = running.workers[2]
    os.kill(dying.process.pid, signal.SIGSTOP)
    reading = asyncio.create_task(running.reload())
    await asyncio.sleep(0)
    dying.kill()
    await reading
    assert "may not have read" not in caplog.text


async def test_a_worker_that_does_not_come_up_in_time_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "START_TIMEOUT", 0.01)
    resolved = ResolvedConfig.of(
        Config.of({"transport": {"listen": "ws:127.0.0.1:0", "workers": 2}}, "test")
    )
    running = Supervisor(resolved, "test")
    with pytest.raises(WorkerEndedError, match="worker 1 ended with signal 9 before it served"):
        await running.__aenter__()
    assert "worker 1 does not serve after 0.01 s and is killed" in caplog.text
    assert not running.workers


async def test_a_worker_for_which_there_is_no_room_is_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        running.workers[1].kill()
        await until(lambda: "worker 1 cannot be started: " in caplog.text)
    await until(lambda: 1 in running.workers)
    assert running.restarts[1] > 1


async def test_a_worker_that_finds_a_broken_file_says_so_in_the_log_until_it_is_right(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text("route[f] { exit; }")
    running = await start(tracing={"script": str(script), "trace_filter_route": "f"})
    script.write_text("nonsense")
    running.workers[1].kill()
    said = ""

    def is_told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return f"ERROR   worker 1: cannot start: {script}" in said

    await until(is_told)
    script.write_text("route[f] { exit; }")
    await until(lambda: 1 in running.workers)
    assert "sipws: " not in said


async def test_without_a_worker_it_is_not_ready_and_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    ready = parent.pages_of(running)["/readyz"].read
    assert await ready() == (200, "ready\n")
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", PATIENCE)
    for worker in list(running.workers.values()):
        worker.kill()
    await until(lambda: not running.workers)
    assert await ready() == (503, "no worker serves\n")
    reply = await parent.reply(running, b'{"jsonrpc": "2.0", "method": "ws_trace", "id": 1}')
    assert b"no worker serves" in reply


async def test_ready_names_the_workers_whose_subscribers_are_suspended(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()

    async def families() -> list[Family]:
        suspended = Family(SUSPENDED, "gauge", "")
        return [suspended.add(0, worker="1").add(2, worker="2")]

    monkeypatch.setattr(running, "families", families)
    assert await parent.pages_of(running)["/readyz"].read() == (
        200,
        "ready\nworker 2: 2 subscribers to its events are suspended\n",
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", b"-32700"),
        (b"[]", b"-32600"),
        (b'{"method": 1}', b"-32600"),
        (b"[" * 10**5, b"-32700"),
    ],
)
async def test_what_is_no_request_is_answered_without_the_workers(body: bytes, code: bytes) -> None:
    resolved = ResolvedConfig.of(Config.of({"transport": {"workers": 2}}, "test"))
    assert code in await parent.reply(Supervisor(resolved, "test"), body)


async def test_a_notification_is_carried_out_and_not_answered(start: Start) -> None:
    running = await start()
    params = b'["a", "hep:127.0.0.1:9;transport=udp"]'
    body = b'{"jsonrpc": "2.0", "method": "trace_start", "params": %b}' % params
    assert await parent.reply(running, body) == b""
    listed = await running.call("trace_list", None)
    assert [x["ID"] for x in listed["result"]["Traces"]] == ["a"]
