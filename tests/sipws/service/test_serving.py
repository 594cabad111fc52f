"""The skeleton of a serving program, around a program that serves nothing."""

import asyncio
import os
import select
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest

from sipws.address import Listener
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service import serving
from sipws.service.embedded import EmbeddedCollector
from sipws.service.serving import Totals
from sipws.service.systemd import Notifier

LISTENER = Listener.parse("ws:127.0.0.1:8080")


class Fake:
    """A program that records what is done with it, and stops itself."""

    control = None
    leaving = "closing 3 connections"

    def __init__(self, workers: int = 1, error: Exception | None = None) -> None:
        self.workers = workers
        self.listeners = [LISTENER]
        self.totals: Totals | None = None
        self.done: list[str] = []
        self.reloaded = asyncio.Event()
        self._error = error

    async def reload(self) -> None:
        self.done.append("reload")
        self.reloaded.set()

    async def __aenter__(self) -> Self:
        if self._error is not None:
            raise self._error
        self.done.append("enter")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.done.append("leave")
        self.totals = Totals(connections=1, packets=0, sent=4, bounced=1, dropped=2)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


async def heard(manager: socket.socket) -> str:
    return (await asyncio.get_running_loop().sock_recv(manager, 1000)).decode()


@pytest.fixture(autouse=True)
async def no_handlers() -> AsyncIterator[None]:
    yield
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)


def resolved() -> ResolvedConfig:
    return ResolvedConfig.of(Config())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("workers", "also"), [(1, ""), (2, ", 2 workers")])
async def test_a_service_tells_systemd_each_step(
    manager: socket.socket,
    workers: int,
    also: str,
    number: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    program = Fake(workers)
    running = asyncio.create_task(serving.serve(resolved(), lambda notifier: program))
    ready = f"READY=1\nSTATUS=listening on {LISTENER}{also}"
    assert await heard(manager) == ready
    os.kill(os.getpid(), signal.SIGHUP)
    assert (await heard(manager)).startswith("RELOADING=1\n")
    assert await heard(manager) == ready
    os.kill(os.getpid(), number)
    assert await heard(manager) == "STOPPING=1\nSTATUS=closing 3 connections"
    assert await running == 0
    assert program.done == ["enter", "reload", "leave"]
    messages = [record.getMessage() for record in caplog.records]
    assert f"listening on {LISTENER}" in messages
    assert ("2 workers serve" in messages) == (workers == 2)
    assert messages[-2:] == [
        "closing 3 connections",
        "stopped: 1 connection traced, 4 HEP packets sent (1 bounced), 2 dropped",
    ]


async def test_the_watchdog_hears_of_a_service_until_it_has_stopped(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    limits: list[float | None] = []
    program = Fake()
    close = Notifier.close
    monkeypatch.setattr(
        Notifier, "close", lambda notifier: (close(notifier), program.done.append("close"))
    )

    def make(notifier: Notifier) -> Fake:
        limits.append(notifier.watchdog)
        return program

    running = asyncio.create_task(serving.serve(resolved(), make))
    told = [await heard(manager) for _ in range(3)]
    assert told[0].startswith("READY=1")
    assert told[1:] == ["WATCHDOG=1"] * 2
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert limits == [0.02]
    last = [await heard(manager)]
    while "STOPPING=1" not in last[-1]:
        last.append(await heard(manager))
    assert not select.select([manager], [], [], 0)[0]
    assert program.done == ["enter", "leave", "close"]


async def test_an_error_of_the_start_is_the_callers(manager: socket.socket) -> None:
    program = Fake(error=OSError("taken"))
    with pytest.raises(OSError, match="taken"):
        await serving.serve(resolved(), lambda notifier: program)
    assert program.done == []
    assert not select.select([manager], [], [], 0)[0]


@pytest.mark.parametrize("plays", [False, True])
async def test_a_terminal_shows_the_first_and_the_last_line(
    plays: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[ResolvedConfig] = []
    program = Fake()

    def make(resolved: ResolvedConfig) -> Fake:
        made.append(resolved)
        return program

    async def play(collector: EmbeddedCollector) -> None:
        program.done.append("play")
        os.kill(os.getpid(), signal.SIGTERM)

    shown = serving.Shown(trace_sip=False)
    serve = serving.serve_at_terminal(Config(), make, shown, play if plays else None)
    running = asyncio.create_task(serve)
    if not plays:
        while "enter" not in program.done:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGHUP)
        await program.reloaded.wait()
        os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert program.done == ["enter", "play" if plays else "reload", "leave"]
    [config] = made
    assert (config.config.tracing.trace_on, config.config.tracing.trace_sip) == (True, False)
    out = capsys.readouterr().out
    assert f"  {LISTENER}" in out
    assert "Ctrl-C ends it." in out
    assert out.endswith(
        "\nStopped: 1 connection traced, 4 HEP packets sent (1 bounced), 2 dropped.\n"
    )
