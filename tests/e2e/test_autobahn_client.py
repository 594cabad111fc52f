"""Autobahn's test cases against the client, by way of kosoku."""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"

TIME_ENOUGH = 120.0
"""Seconds; the cases take about ten."""

LEFT_OUT = ["9.*", "12.*", "13.*"]
"""Performance, which takes minutes, and compression, which is not offered."""

GOOD = ("OK", "INFORMATIONAL")

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
            await example("echo_client").run(listening.split()[-1])
            # It writes its report and ends.
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    [cases] = json.loads((tmp_path / "index.json").read_text()).values()
    assert len(cases) == 247
    failed = {
        number: (case["behavior"], case["behaviorClose"])
        for number, case in cases.items()
        if case["behavior"] not in (*GOOD, "NON-STRICT") or case["behaviorClose"] not in GOOD
    }
    assert not failed
    not_strict = {n for n, case in cases.items() if case["behavior"] == "NON-STRICT"}
    assert not_strict <= NOT_STRICT
