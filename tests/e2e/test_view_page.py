"""The viewer's page in Chromium and Firefox, against a fake of its service.

``VIEW_SHOTS=FOLDER`` keeps screenshots of each view in both themes and widths.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

pytest.importorskip("starlette", reason="the viewer needs the extra view")

FAKE = Path(__file__).parents[1] / "hep/view/page/fake.py"
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
SECONDS = 150
"""A scenario's time; that of all views takes some 40 s on two busy cores."""


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> str:
    """Every browser in turn."""
    return str(request.param)


Play = Callable[..., Awaitable[None]]


@pytest.fixture
async def play(find: Any, browser: str) -> AsyncIterator[Play]:
    """Play a scenario of ``view_page.mjs``: ``await play("views", "--rows", "300")``."""
    remedy = f"install Debian's package {PROGRAMS[browser][0]}"
    program = find.program(*PROGRAMS[browser], remedy=remedy)
    node = find.node_with("playwright-core")

    async with AsyncExitStack() as stack:

        async def start(scenario: str, *options: str) -> None:
            service = await asyncio.create_subprocess_exec(
                sys.executable, str(FAKE), *options, stdout=asyncio.subprocess.PIPE
            )
            stack.push_async_callback(_stop, service)
            assert service.stdout is not None
            async with asyncio.timeout(30):
                url = (await service.stdout.readline()).decode().strip()
            assert url, "the fake service ended before it listened"
            shots = os.environ.get("VIEW_SHOTS")
            client = await asyncio.create_subprocess_exec(
                node, "view_page.mjs", url, browser, program, scenario, *([shots] if shots else []),
                cwd=Path(__file__).parent,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            stack.push_async_callback(_stop, client)
            async with asyncio.timeout(SECONDS):
                out, err = await client.communicate()
            assert client.returncode == 0, f"{out.decode()}\n{err.decode()}"
            assert '{"done":' in out.decode()

        yield start


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(15):
        await process.wait()


async def test_every_view_fits_both_widths_and_themes(play: Play) -> None:
    await play("views", "--rows", "300", "--control")


async def test_the_keyboard_alone_is_enough(play: Play) -> None:
    await play("keyboard", "--rows", "300", "--control")


async def test_hostile_content_shows_as_text_and_runs_nothing(play: Play) -> None:
    await play("hostile", "--rows", "300")


async def test_ten_thousand_rows_need_the_elements_of_one_screen(play: Play) -> None:
    await play("many", "--rows", "10000")


async def test_changes_come_in_while_one_looks(play: Play) -> None:
    await play("live", "--rows", "300")


async def test_a_token_is_asked_for_once(play: Play) -> None:
    await play("login", "--rows", "300", "--token", "secret")


async def test_an_empty_viewer_that_stores_nothing_says_so(play: Play) -> None:
    await play("stopped", "--rows", "0", "--problem", "disk full")


async def test_a_sipws_is_controlled_after_a_question(play: Play) -> None:
    await play("control", "--rows", "50", "--control")


async def test_filters_searches_and_links_lead_where_they_say(play: Play) -> None:
    await play("filters", "--rows", "300")
