"""Fuzz the filter language: ``python tests/tracing/filter/fuzz.py [SECONDS] [SEED]``.

Mutates the recorded scripts and lets each decide. A script may be refused (`FilterRouteError`) and
nothing else; a decision may take a second and no longer. What fails is printed with its seed.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sipws.tracing.filter import FilterRouteError, Script, Subject
from sipws.tracing.filter.explain import explain

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "filter_routes.json"

SLOWEST = 1.0
"""Seconds of one decision: ten times what its bounds allow for."""

SCRAPS = (
    "while (1) ", "route(ws_filter);", "$var(x) = $var(x) + $var(x);", "{", "}", "(", ")", ";",
    "$(si{s.width,65535})", '=~ "(a|b)*c"', "&&", "||", "!", "[", "]", "drop;", "exit;", '"', "'",
    "/*", "*/", "#", "\\", "$", "$avp(a) = 1;", "for ($var(i) in $(avp(a)[*])) ", "NULL", "0x",
)  # fmt: skip

CONNECTIONS = (
    Subject("127.0.0.1", 28000, "127.0.0.1", 18081),
    Subject("::1", 28000, "::1", 18082, tag="edge"),
)


def mutated(text: str, others: list[str], dice: random.Random) -> str:
    """A script with a few things changed."""
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 1, 5, 20)))
        other = dice.choice(others)
        cut = dice.randrange(len(other) + 1)
        piece = dice.choice((dice.choice(SCRAPS), other[cut : cut + 30], text[start:end] * 2, ""))
        text = text[:start] + piece + text[end:]
    return text


def attempt(text: str) -> None:
    """Let a script decide; only a refusal is tolerated."""
    try:
        script = Script.parse(text)
    except FilterRouteError as refused:
        str(refused)
        return
    for warning in script.warnings:
        str(warning)
    for connection in CONNECTIONS:
        for route in script.routes:
            began = time.perf_counter()
            try:
                outcome = script.evaluate(route, connection)
            except FilterRouteError:
                # Of a whole cfg only what is asked for is looked at.
                assert script.is_cfg
                continue
            took = time.perf_counter() - began
            assert took < SLOWEST, f"a decision took {took:.1f} s"
            if outcome.stopped is None:
                assert explain(script, route, connection).outcome.traced is outcome.traced


def run(seed: int, go_on: Callable[[int], bool]) -> int:
    """Fuzz as long as wanted.

    Args:
        seed: of the dice.
        go_on: asked before each round, with its number.

    Returns:
        the number of rounds.
    """
    scripts = [case["script"] for case in json.loads(GOLDEN.read_text())["scripts"].values()]
    done = 0
    while go_on(done):
        dice = random.Random(f"{seed}/{done}")
        text = mutated(dice.choice(scripts), scripts, dice)
        try:
            attempt(text)
        except Exception:
            print(f"seed {seed}, round {done}:\n{text}", file=sys.stderr)
            raise
        done += 1
    return done


def main() -> None:
    """Fuzz for a while: 10 seconds with seed 0 unless told otherwise."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    end = time.monotonic() + seconds
    rounds = run(int(sys.argv[2]) if len(sys.argv) > 2 else 0, lambda _: time.monotonic() < end)
    print(f"{rounds} scripts in {seconds:g} s: none did anything but decide or be refused")


if __name__ == "__main__":
    main()
