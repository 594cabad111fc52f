"""Fuzz the filter language: ``python tests/tracing/filter/fuzz.py [SECONDS] [SEED]``.

Mutates the recorded scripts and lets each decide. A script may be refused (`FilterRouteError`) and
nothing else; a decision may take a second and no longer, and keeps to the bounds of `bounds`. What
fails is printed with its seed.
"""

import json
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sipws.tracing.filter import FilterRouteError, Outcome, Script, Subject
from sipws.tracing.filter.bounds import MAX_HELD, MAX_STEPS, MAX_TEXT, SHORT_TEXT, VALUE
from sipws.tracing.filter.evaluation.run import Scope
from sipws.tracing.filter.explain import explain
from sipws.tracing.filter.script import conclude, prepared

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8"

SLOWEST = 1.0
"""Seconds of one decision: ten times what its bounds allow for."""

SCRAPS = (
    "while (1) ", "route(ws_filter);", "$var(x) = $var(x) + $var(x);", "{", "}", "(", ")", ";",
    "$(si{s.width,65535})", '=~ "(a|b)*c"', "&&", "||", "!", "[", "]", "drop;", "exit;", '"', "'",
    "/*", "*/", "#", "\\", "$", "$avp(a) = 1;", "for ($var(i) in $(avp(a)[*])) ", "NULL", "0x",
    "$var(x) = $(si{s.width,60000});", "{s.encode.hexa}", "{s.escape.user}", "{s.reverse}",
    "$avp(a) = $var(x);", "$(avp(a)[append]) = $var(x);", "$avp($var(x)) = $var(x);",
    "$(avp(a)[*])", 'xlog("$var(x)$(avp(a)[*])");', "$var(x) += $var(x);",
    "return(1, $var(x), $var(x));", "while (1) while (1) $avp(a) = $(si{s.width,600});",
    'while (1) xlog("$(si{s.width,2000})");', "while (1) $(avp(a)[append]) = $(si{s.width,2000});",
    "route(ws_filter, $(param(1){s.encode.hexa}));", "while (1) while (1) ", "$param($param(1))",
    "$si =~ $var(x)", "$(var(x){csv.count})", "$(si{s.index,$var(x)})", "$(var(x){nameaddr.len})",
    "$(var(x){via.host})", "$(var(x){sdp.stream,0})", "$(var(x){sdp.line,a,1})", "$(route[*])",
    '$socket_out = "127.0.0.1:18081";', "$socket_out(forced)", "$ru = $var(x);", '"é\\x80\\xff"',
    'prefix("$var(x)");', "$rU = $var(x);", "$du = $var(x);", "$(du{uri.user})", "$msg.flag(X)",
    "$(route.name[1])", "max_while_loops = 3", "enable_asserts = 1", "assert($si == 1);",
    'return(, $var(x));', "$(var(x){param.value,a})", "$(var(x){uri.param,$var(x)})",
    "failure_route[x] { drop; }", "$(var(x){s.b64decode})", "$(var(x){s.unescape.user})",
)  # fmt: skip

CONNECTIONS = (
    Subject("127.0.0.1", 28000, "127.0.0.1", 18081),
    Subject("::1", 28000, "::1", 18082, tag="edge"),
)


def mutated(text: str, others: list[str], dice: random.Random) -> str:
    """A script with a few things changed."""
    for _ in range(dice.randint(1, 4)):
        # Half of the changes stand where a statement may: those are rarely refused.
        places = [place.end() for place in re.finditer("[{;]", text)]
        if places and dice.random() < 0.5:
            place = dice.choice(places)
            text = f"{text[:place]} {dice.choice(SCRAPS)} {text[place:]}"
            continue
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 1, 5, 20)))
        other = dice.choice(others)
        cut = dice.randrange(len(other) + 1)
        piece = dice.choice((dice.choice(SCRAPS), other[cut : cut + 30], text[start:end] * 2, ""))
        text = text[:start] + piece + text[end:]
    return text


def within_bounds(script: Script, route: str, subject: Subject) -> Outcome:
    """Decide, and see that what the decision made, kept and did is within the bounds."""
    step = script.compiled_for(route, Scope)
    if step is None:
        return Outcome(True)
    run = prepared(subject, ())
    outcome = conclude(step, run)
    if outcome.stopped is None:
        assert run.steps <= MAX_STEPS, f"{run.steps} steps"
        assert run.held <= MAX_HELD, f"{run.held} characters counted"
    held, longest = 0, 0
    for name, value in run.variables.items():
        values = value if isinstance(value, list) else [value]
        texts = [each for each in values if isinstance(each, str)]
        longest = max([longest, *map(len, texts)])
        if name.startswith("@"):
            held += len(name) + sum(map(len, texts)) + VALUE * (1 + len(values))
        else:
            held += sum(len(each) for each in texts if len(each) > SHORT_TEXT)
    held += sum(len(message) for message in outcome.messages)
    assert held <= MAX_HELD, f"{held} characters are kept"
    assert longest <= MAX_TEXT, f"a text of {longest} characters is kept"
    returned = sum(len(value) for value in run.values if isinstance(value, str))
    assert returned <= MAX_TEXT, f"{returned} characters are returned"
    return outcome


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
                outcome = within_bounds(script, route, connection)
            except FilterRouteError:
                # Of a whole cfg only what is asked for is looked at.
                assert script.is_cfg
                continue
            took = time.perf_counter() - began
            assert took < SLOWEST, f"a decision took {took:.1f} s"
            if outcome.stopped is None:
                assert script.evaluate(route, connection).traced is outcome.traced
                assert explain(script, route, connection).outcome.traced is outcome.traced


def run(seed: int, go_on: Callable[[int], bool]) -> int:
    """Fuzz as long as wanted.

    Args:
        seed: of the dice.
        go_on: asked before each round, with its number.

    Returns:
        the number of rounds.
    """
    scripts = [
        case["script"]
        for name in ("filter_routes.json", "filter_routes_2.json")
        for case in json.loads((GOLDEN / name).read_text())["scripts"].values()
    ]
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
