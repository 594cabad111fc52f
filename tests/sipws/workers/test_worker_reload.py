"""A changed configuration in several workers, over real processes: in all of them or in none."""

import asyncio
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from sipws.config.changes import Source
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.workers import worker_process
from sipws.workers.supervisor import Supervisor

PATIENCE = 20.0

FIRST_TWO = """
from pathlib import Path

for number in range(2):
    try:
        # Fails if another process was first, also at the same time.
        Path({folder!r}, f"read-{{number}}").touch(exist_ok=False)
        break
    except FileExistsError:
        pass
else:
    raise RuntimeError("a third process is too many")

def decide(connection):
    return True
"""
"""A filter that the parent and one worker can import, and the other worker cannot."""


def write(path: Path, transport: str = "", more: str = "") -> None:
    path.write_text(
        f'[transport]\nlisten = "ws:127.0.0.1:0"\nworkers = 2\nshutdown_grace = 0\n{transport}\n'
        f"{more}"
    )


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Supervisor]:
    path = tmp_path / "sipws.toml"
    write(path)
    source = Source(str(path), lambda: Config.load(path))
    async with AsyncExitStack() as stack:
        resolved = ResolvedConfig.of(source.read(), source.name)
        supervisor = Supervisor(resolved, source.name, reads=source)
        yield await stack.enter_async_context(supervisor)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - other processes have no event for it
            await asyncio.sleep(0.02)


async def answers(running: Supervisor) -> set[int]:
    """The statuses that clients without Origin get, from all workers."""
    found = set()
    for _ in range(20):
        url = f"ws://127.0.0.1:{running.listeners[0].port}/"
        try:
            async with connect(url, subprotocols=[Subprotocol("sip")]):
                found.add(101)
        except InvalidStatus as exc:
            found.add(exc.response.status_code)
    return found


async def test_all_workers_take_over_one_configuration(
    running: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await answers(running) == {403}
    write(tmp_path / "sipws.toml", "require_origin = false\nws_port = 81")
    content = await running.call("reload", None)
    expected = "OK; applied: transport.require_origin; transport.ws_port needs a restart"
    assert content == {"result": expected}
    assert "transport.ws_port needs a restart" in caplog.text
    assert await answers(running) == {101}
    # A worker that is started later uses it too.
    first = running.workers[1]
    first.kill()
    await until(lambda: running.workers.get(1) not in (None, first))
    assert await answers(running) == {101}
    # As does SIGHUP, which calls this.
    write(tmp_path / "sipws.toml")
    await running.reload()
    assert await answers(running) == {403}


async def test_a_wrong_file_reaches_no_worker(running: Supervisor, tmp_path: Path) -> None:
    before = running.resolved
    write(tmp_path / "sipws.toml", "require_origin = false\nnonsense = 1")
    content = await running.call("reload", None)
    assert "the new configuration is refused, the old one stays" in content["error"]["message"]
    assert "transport.nonsense: no such setting" in content["error"]["message"]
    await running.reload()
    assert running.resolved is before
    assert await answers(running) == {403}


async def test_one_worker_that_refuses_keeps_it_out_of_all(
    running: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"only_two_{uuid.uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(FIRST_TWO.format(folder=str(tmp_path)))
    # The running workers have the path of their start.
    for worker in running.workers.values():
        worker.kill()
    monkeypatch.syspath_prepend(tmp_path)
    await until(lambda: len(running.workers) == 0)
    await until(lambda: len(running.workers) == 2)
    before = running.resolved
    write(
        tmp_path / "sipws.toml",
        "require_origin = false",
        f'[tracing]\ntrace_filter = "{module}:decide"',
    )
    content = await running.call("reload", None)
    assert "a third process is too many" in content["error"]["message"]
    assert running.resolved is before
    assert await answers(running) == {403}
    # A later reload does not apply what was refused.
    write(tmp_path / "sipws.toml")
    assert await running.call("reload", None) == {"result": "OK"}
    assert await answers(running) == {403}


async def test_one_worker_that_does_not_answer_keeps_it_out_of_all(
    running: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "ANSWER_TIMEOUT", 0.5)
    stopped = running.workers[2].process.pid
    os.kill(stopped, signal.SIGSTOP)
    write(tmp_path / "sipws.toml", "require_origin = false")
    try:
        content = await running.call("reload", None)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert "worker 2 does not answer" in content["error"]["message"]
    assert await answers(running) == {403}


async def test_the_file_overrides_what_commands_have_switched(
    running: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await running.call("ws_trace", ["on"])
    write(tmp_path / "sipws.toml", "max_message_size = 1000")
    await running.call("reload", None)
    assert running.switches.trace_on == {"ws": True}
    assert (await running.call("ws_trace", None))["result"] == {"WS tracing": "on"}
    write(tmp_path / "sipws.toml", "", "[tracing]\ntrace_on = true")
    await running.call("reload", None)
    assert running.switches.trace_on == {}
    write(tmp_path / "sipws.toml", "", "[tracing]\ntrace_on = false")
    await running.call("reload", None)
    assert (await running.call("ws_trace", None))["result"] == {"WS tracing": "off"}
