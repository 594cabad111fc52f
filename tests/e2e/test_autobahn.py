"""Autobahn's cases against the echo example: RFC 6455 as its own suite reads it.

The large messages (9) and compression (12, 13) take longer: ``make autobahn`` runs those too.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ECHO = Path(__file__).parents[2] / "examples" / "echo.py"
EVERYTHING = os.environ.get("SIPWS_AUTOBAHN") == "all"
LEFT_OUT = [] if EVERYTHING else ["9.*", "12.*", "13.*"]

NOT_STRICT = {"6.4.3", "6.4.4"}
"""Bad UTF-8 in a frame is found when the frame is complete, not as its bytes trickle in."""


@pytest.fixture
async def echo_url() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ECHO), "ws:127.0.0.1:0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(10):
        line = (await process.stdout.readline()).decode()
    yield f"ws://{line.split('ws:')[1].strip()}/"
    process.terminate()
    await process.communicate()


async def test_no_case_fails(echo_url: str, tmp_path: Path) -> None:
    kosoku = Path(sys.executable).with_name("kosoku")
    excluded = [word for case in LEFT_OUT for word in ("-x", case)]
    process = await asyncio.create_subprocess_exec(
        str(kosoku), "-m", "fuzzingclient", *excluded, "-p", "2", "-o", str(tmp_path), echo_url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(1200 if EVERYTHING else 120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "wrote reports" in output.decode(), output.decode()
    [cases] = json.loads((tmp_path / "index.json").read_text()).values()
    assert len(cases) == (517 if EVERYTHING else 247)
    behaviours = {case["behavior"] for case in cases.values()}
    closings = {case["behaviorClose"] for case in cases.values()}
    assert behaviours <= {"OK", "INFORMATIONAL", "NON-STRICT"}
    assert closings <= {"OK", "INFORMATIONAL"}
    not_strict = {n for n, case in cases.items() if case["behavior"] == "NON-STRICT"}
    assert not_strict <= NOT_STRICT
