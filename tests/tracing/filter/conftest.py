"""What the tests of the filter language share."""

from collections.abc import Callable
from typing import Any

import pytest

from sipws.tracing.filter import Script, Subject

Decide = Callable[..., str]


def subject(**values: Any) -> Subject:
    listener = {"socket_ip": "10.0.0.1", "socket_port": 5060}
    return Subject(**({"si": "192.0.2.5", "sp": 8000, "now": 1_700_000_000.25} | listener | values))


@pytest.fixture
def decide() -> Decide:
    """Runs ``route[f] { BODY }`` and what is behind it on a connection: traced or dropped."""

    def run(body: str, rest: str = "", **values: Any) -> str:
        script = Script.parse(f"route[f] {{ {body} }} {rest}")
        return "traced" if script.decider("f")(subject(**values)) else "dropped"

    return run


@pytest.fixture
def holds(decide: Decide) -> Callable[..., bool]:
    """Whether a condition holds."""

    def run(condition: str, before: str = "", rest: str = "", **values: Any) -> bool:
        return decide(f"{before} if ({condition}) drop;", rest, **values) == "dropped"

    return run
