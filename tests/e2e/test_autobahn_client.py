"""Autobahn's test cases against the client, by way of kosoku.

As against the server, ``make autobahn`` runs the large messages and compression too.
"""

import asyncio
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"

EVERYTHING = os.environ.get("SIPWS_AUTOBAHN") == "all"
LEFT_OUT = [] if EVERYTHING else ["9.*", "12.*", "13.*"]

TIME_ENOUGH = 1200.0 if EVERYTHING else 120.0
"""Seconds; the cases that a test run has time for take about ten."""

GOOD = ("OK", "INFORMATIONAL")

NOT_OFFERED = {f"13.{offer}.{number}" for offer in (2, 5, 6) for number in range(1, 19)}
"""Cases that need parameters of permessage-deflate that the client does not offer."""

NOT_STRICT = {"6.4.3", "6.4.4"}
"""Bad UTF-8 in a frame is found when the frame is complete, not as its bytes trickle in."""


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_client_passes_autobahns_cases(tmp_path: Path) -> None:
    excluded = [word for case in LEFT_OUT for word in ("-x", case)]
    # In a process of its own: imported, it would replace pkg_resources.
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("kosoku")), "-m", "fuzzingserver", *excluded,
        "-o", str(tmp_path), "127.0.0.1:0",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TIME_ENOUGH):
            listening = (await process.stderr.readline()).decode()
            client = example("echo_client")
            if EVERYTHING:
                # A thousand short messages have 60 seconds, whatever goes on beside them.
                client.AT_ONCE = 2
            await client.run(listening.split()[-1])
            # It writes its report and ends.
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    [cases] = json.loads((tmp_path / "index.json").read_text()).values()
    assert len(cases) == (517 if EVERYTHING else 247)
    failed = {
        number: (case["behavior"], case["behaviorClose"])
        for number, case in cases.items()
        if case["behavior"] not in (*GOOD, "NON-STRICT", "UNIMPLEMENTED")
        or case["behaviorClose"] not in GOOD
    }
    assert not failed
    assert {n for n, case in cases.items() if case["behavior"] == "UNIMPLEMENTED"} <= NOT_OFFERED
    not_strict = {n for n, case in cases.items() if case["behavior"] == "NON-STRICT"}
    assert not_strict <= NOT_STRICT
