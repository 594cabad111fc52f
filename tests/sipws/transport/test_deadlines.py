"""Time limits of connections: in order, for one timer."""

import asyncio

import pytest

from sipws.transport.deadlines import Deadlines

SHORT, LONG = 0.02, 60.0


class Waiting:
    """Somebody with a time limit."""

    def __init__(self, ended: "asyncio.Queue[Waiting]") -> None:
        self._ended = ended

    def time_is_up(self) -> None:
        self._ended.put_nowait(self)


@pytest.fixture
def ended() -> "asyncio.Queue[Waiting]":
    """Those whose time is up, in order."""
    return asyncio.Queue()


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines()


async def next_of(ended: "asyncio.Queue[Waiting]") -> Waiting:
    async with asyncio.timeout(10):
        return await ended.get()


async def test_time_is_up_in_the_order_of_the_deadlines(
    deadlines: Deadlines, ended: "asyncio.Queue[Waiting]"
) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    everybody = [Waiting(ended) for _ in range(5)]
    for who in everybody:
        deadlines.line(SHORT).enter(who)
    assert [await next_of(ended) for _ in everybody] == everybody
    # A loop's clock counts milliseconds.
    assert loop.time() - begun >= SHORT - 0.002


async def test_who_leaves_has_no_limit_and_the_next_one_keeps_his(
    deadlines: Deadlines, ended: "asyncio.Queue[Waiting]"
) -> None:
    first, second = Waiting(ended), Waiting(ended)
    line = deadlines.line(SHORT)
    line.enter(first)
    line.enter(second)
    line.leave(first)
    line.leave(first)
    assert await next_of(ended) is second
    # It goes on when there is nobody left, and whoever was in line may be again.
    line.enter(first)
    assert await next_of(ended) is first
    assert ended.empty()


async def test_a_long_limit_holds_no_short_one_up(
    deadlines: Deadlines, ended: "asyncio.Queue[Waiting]"
) -> None:
    patient, hasty = Waiting(ended), Waiting(ended)
    deadlines.line(LONG).enter(patient)
    deadlines.line(SHORT).enter(hasty)
    assert await next_of(ended) is hasty
    assert ended.empty()
    deadlines.close()


async def test_one_that_raises_does_not_keep_the_others_from_their_ends(
    deadlines: Deadlines, ended: "asyncio.Queue[Waiting]"
) -> None:
    class Broken(Waiting):
        def time_is_up(self) -> None:
            raise RuntimeError("broken")

    told: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
    behind = Waiting(ended)
    line = deadlines.line(SHORT)
    line.enter(Broken(ended))
    line.enter(behind)
    assert await next_of(ended) is behind
    assert [str(exc) for exc in told] == ["broken"]


async def test_closed_nobody_is_told_and_it_can_be_used_again(
    deadlines: Deadlines, ended: "asyncio.Queue[Waiting]"
) -> None:
    deadlines.line(SHORT).enter(Waiting(ended))
    deadlines.close()
    again = Waiting(ended)
    deadlines.line(SHORT).enter(again)
    assert await next_of(ended) is again
    assert ended.empty()
