"""What a worker and its parent say to each other."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sipws.workers import worker_link
from sipws.workers.worker_link import Link, LinkError


class Ends:
    """Both ends of a link; the second answers with what it is asked, and fails at ``fail``."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.arrived = asyncio.Event()

    async def open(self) -> None:
        pair = socket.socketpair()
        for each in pair:
            each.setblocking(False)
        streams = [await asyncio.open_unix_connection(sock=each) for each in pair]
        self.writers = [writer for _, writer in streams]
        self.first = Link(*streams[0], on_notice=self._hear)
        self.second = Link(*streams[1], on_notice=self._hear, answer=self._answer)
        loop = asyncio.get_running_loop()
        self.reading = [loop.create_task(link.run()) for link in (self.first, self.second)]

    def _hear(self, name: str, content: Any) -> None:
        self.heard.append((name, content))
        self.arrived.set()

    def _answer(self, name: str, content: Any) -> Any:
        if name == "fail":
            raise ValueError(content)
        return [name, content]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    await ends.open()
    yield ends
    for writer in ends.writers:
        writer.close()
    await asyncio.gather(*ends.reading)


async def test_each_question_gets_its_own_answer(ends: Ends) -> None:
    contents = ["x" * 1_000_000, None, {"é": [1.5]}]
    asked = (ends.first.ask("echo", content, timeout=5) for content in contents)
    assert await asyncio.gather(*asked) == [["echo", content] for content in contents]


async def test_news_go_both_ways_in_order(ends: Ends) -> None:
    ends.first.notify("a", 1)
    ends.first.notify("b")
    await ends.first.ask("echo", timeout=5)
    assert ends.heard == [("a", 1), ("b", None)]
    ends.arrived.clear()
    ends.second.notify("c", [2])
    await ends.arrived.wait()
    assert ends.heard[2:] == [("c", [2])]


async def test_who_does_not_answer_in_time_is_told_of_and_asked_again(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LinkError, match="does not answer"):
        await ends.first.ask("fail", "on purpose", timeout=0.01)
    assert await ends.first.ask("echo", 1, timeout=5) == ["echo", 1]
    assert "on purpose" in caplog.text


async def test_an_answer_that_comes_too_late_is_dropped(ends: Ends) -> None:
    with pytest.raises(LinkError, match="does not answer"):
        await ends.first.ask("echo", timeout=0)
    assert await ends.first.ask("echo", 2, timeout=5) == ["echo", 2]


async def test_an_end_is_silent_from_the_first_question_that_it_leaves_unanswered(
    ends: Ends,
) -> None:
    assert ends.first.silence == 0
    with pytest.raises(LinkError, match="does not answer"):
        await ends.first.ask("fail", "on purpose", timeout=0.01)
    since = ends.first.silence
    assert since > 0
    with pytest.raises(LinkError, match="does not answer"):
        await ends.first.ask("fail", "on purpose", timeout=0.01)
    assert ends.first.silence > since
    await ends.first.ask("echo", timeout=5)
    assert ends.first.silence == 0


async def test_who_waits_for_an_end_that_goes_is_told(ends: Ends) -> None:
    asked = asyncio.ensure_future(ends.second.ask("anything", timeout=5))
    await asyncio.sleep(0)
    ends.writers[0].close()
    with pytest.raises(LinkError, match="is gone"):
        await asked
    await asyncio.gather(*ends.reading)
    with pytest.raises(LinkError, match="is gone"):
        await ends.second.ask("anything", timeout=5)
    ends.second.notify("nothing")
    await ends.second.flush()


async def test_news_that_nobody_reads_are_bounded(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_link, "MOST_WAITING", 1000)
    for number in range(1000):
        # The other end gets no turn to read in between.
        ends.first.notify("x" * 10_000, number)
    await ends.first.ask("echo", timeout=5)
    assert 0 < len(ends.heard) < 1000
    ends.first.notify("again")
    await ends.first.ask("echo", timeout=5)
    assert ends.heard[-1] == ("again", None)
