"""Scripts that loop, recurse or match for ever are stopped, and patterns cannot hang anyone."""

from collections.abc import Callable

import pytest

from sipws.events import Connection
from sipws.tracing.filter import Outcome, Script, Subject
from sipws.tracing.filter.bounds import MAX_HELD, MAX_STEPS, MAX_TEXT
from sipws.tracing.filter.evaluation import comparisons
from sipws.tracing.filter.evaluation.patterns import (
    MAX_CACHED,
    MAX_REMEMBERED,
    PatternError,
    compile_pattern,
)
from sipws.tracing.filter.explain import explain
from sipws.tracing.routes import decide_by_route

CONNECTION = Subject("192.0.2.5", 8000, "10.0.0.1", 80)

STEPS = f"its loops, routes and texts took more than {MAX_STEPS} steps"


def outcome(text: str) -> Outcome:
    script = Script.parse(text)
    found = script.evaluate("f", CONNECTION)
    assert script.decider("f")(CONNECTION) is found.traced
    return found


def test_a_loop_is_left_after_ten_thousand_rounds_and_the_script_goes_on() -> None:
    body = "$var(i) = 0; while (1) $var(i) += 1; if ($var(i) == 10000) drop;"
    assert outcome(f"route[f] {{ {body} }}") == Outcome(traced=False)


def test_loops_within_loops_are_stopped_and_the_connection_is_traced() -> None:
    found = outcome("route[f] { while (1) while (1) $var(i) = 1; drop; }")
    assert found.traced
    assert found.stopped == STEPS


@pytest.mark.parametrize(("loops", "stopped"), [(6, None), (7, STEPS)])
def test_a_statement_that_is_repeated_is_a_step(loops: int, stopped: str | None) -> None:
    # 10,000 rounds, of one statement and two steps for the round and its condition.
    found = outcome(f"route[f] {{ {'while (1) $var(i) = 1; ' * loops} drop; }}")
    assert found == Outcome(stopped is not None, stopped)


def test_a_route_that_calls_itself_is_refused_a_hundred_deep_and_goes_on() -> None:
    found = outcome(
        "route[f] { $var(d) = 0; route(g); if ($var(d) == 99) drop; }"
        " route[g] { $var(d) += 1; route(g); }"
    )
    assert found == Outcome(traced=False)


def test_routes_that_call_each_other_twice_are_stopped() -> None:
    found = outcome("route[f] { route(g); drop; } route[g] { route(g); route(g); }")
    assert found.traced
    assert found.stopped is not None


def test_a_list_that_grows_while_it_is_gone_through_is_stopped() -> None:
    loop = "$avp(a) = 1; for ($var(x) in $(avp(a)[*])) $(avp(a)[append]) = 1;"
    assert outcome(f"route[f] {{ {loop} drop; }}").stopped is not None


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('$var(t) = "aaaa"; while (1) $var(t) = $var(t) + $var(t);', id="joined"),
        pytest.param('$var(t) = "aaaa"; while (1) $var(t) += $var(t);', id="added"),
        pytest.param("$var(t) = $(si" + "{s.encode.hexa}" * 15 + ");", id="coded"),
        pytest.param("if ($(si" + "{s.encode.hexa}" * 15 + "{s.len}) > 1) drop;", id="between"),
        pytest.param("$var(t) = $(si{s.width,65535}{s.escape.user}{s.b64encode});", id="escaped"),
        pytest.param("$var(t) = $(si{s.width,65535}{s.fill.left,x,65600});"
                     " $var(t) = $var(t) + $si;", id="filled"),
        pytest.param('route(g, "a");', id="given on"),
        pytest.param("$var(t) = $(si{s.width,60000}); $avp(a) = $var(t); $avp(a) = $var(t);"
                     " $var(t) = $(avp(a)[*]);", id="listed"),
    ],
)  # fmt: skip
def test_no_script_makes_a_text_that_is_too_long(script: str) -> None:
    rest = " route[g] { route(g, $(param(1){s.encode.hexa}{s.encode.hexa})); $var(x) = $param(1); }"
    found = outcome(f"route[f] {{ {script} drop; }}{rest}")
    assert found == Outcome(True, f"it makes a text of more than {MAX_TEXT} characters")


@pytest.mark.parametrize("size", [MAX_TEXT, MAX_TEXT + 1])
def test_the_longest_text_has_so_many_characters(size: int) -> None:
    made = f'$(si{{s.width,{MAX_TEXT - 1}}}) + "{"x" * (size - MAX_TEXT + 1)}"'
    found = outcome(f"route[f] {{ $var(t) = {made}; drop; }}")
    assert found.traced is (size > MAX_TEXT)


LONG = "$var(t) = $(si{s.width,60000}); $var(i) = 0;"
HELD = f"it keeps more than {MAX_HELD} characters in variables and logs"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("$avp(a) = $var(t);", id="values in front"),
        pytest.param("$(avp(a)[append]) = $var(t);", id="values behind"),
        pytest.param("$var(i) += 1; $avp($var(i)) = $var(t);", id="lists"),
        pytest.param("$var(i) += 1; $var(n) = $(var(i){s.width,200}); $avp($var(n)) = NULL;",
                     id="names"),
        pytest.param("$avp(a) = 1; while (1) $avp(a) = $(si{s.width,200});", id="short values"),
        pytest.param('xlog("$var(t)");', id="logs"),
        pytest.param("".join(f"$var(a{n}) = $var(t);" for n in range(18)), id="variables"),
    ],
)  # fmt: skip
def test_no_script_keeps_more_than_it_may(script: str) -> None:
    found = outcome(f"route[f] {{ {LONG} while (1) {{ {script} }} drop; }}")
    assert (found.traced, found.stopped) == (True, HELD)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("$avp(a) := $var(t);", id="a list that is set anew"),
        pytest.param("$(avp(a)[*]) = $var(t);", id="a list that is replaced"),
        pytest.param("$avp(a) = $var(t); $avp(a) = NULL;", id="a value that is deleted"),
        pytest.param("$avp(a) := 1; $(avp(a)[0]) = $var(t);", id="a value that is replaced"),
        pytest.param('$var(x) = $var(t); $var(x) = "";', id="a variable"),
    ],
)
def test_released_values_do_not_count(script: str) -> None:
    found = outcome(
        f"route[f] {{ {LONG} while ($var(i) < 100) {{ $var(i) += 1; {script} }} drop; }}"
    )
    assert found == Outcome(traced=False)


SLOW_CHANGES = [
    "{s.reverse}", "{s.tolower}", "{s.sha512}", "{s.sha512_hmac,$var(t)}", "{s.unescape.user}",
    "{s.escape.common}", "{s.unescape.common}", "{s.xor,key}", "{s.xor,$var(t)}", "{s.trim}",
    "{s.index,x}", "{s.rindex,$var(t)}", "{s.select,0,;}", "{s.crc32}", "{s.decode.hexa}",
    "{csv.count}", "{param.count}", "{param.value,x}", "{uri.host}", "{ip.isip}", "{s.len}",
]  # fmt: skip


@pytest.mark.parametrize("change", SLOW_CHANGES)
def test_a_transformation_of_long_texts_is_charged_by_their_length(change: str) -> None:
    text = "$var(t) = $(sp{s.fill.left,a;,60000});"
    # Were it a step each, a loop of 10,000 rounds would come to its end.
    found = outcome(f"route[f] {{ {text} while (1) $var(x) = $(var(t){change}); drop; }}")
    assert found == Outcome(True, STEPS)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param('if ($var(t) == "x") exit;', id="a comparison"),
        pytest.param("if ($var(t) < $var(u)) exit;", id="of two variables"),
        pytest.param('switch ($var(t)) { case "x": exit; }', id="a switch"),
        pytest.param('$var(x) = $var(t) + "x";', id="a sum"),
        pytest.param('$var(x) = $var(t) + "x" + 1;', id="a sum that fails"),
        pytest.param("$var(x) = $var(t) | $var(t);", id="bits"),
        pytest.param("$var(x) = $(si{s.width,60000});", id="a text that is made long"),
        pytest.param("$var(x) = $(si{s.index,$var(t)});", id="a long argument"),
        pytest.param('if ($var(t) =~ "(a+)+$") exit;', id="a pattern"),
        pytest.param("if ($si =~ $var(t)) exit;", id="a pattern that is made"),
        pytest.param('xlog("$var(t)");', id="a log"),
        pytest.param('pv_printf($var(x), "$var(t)");', id="a text filled in"),
    ],
)
def test_what_works_on_long_texts_is_charged_by_their_length(statement: str) -> None:
    text = "$var(t) = $(rm{s.fill.left,a,60000}); $var(u) = $var(t);"
    found = outcome(f"route[f] {{ {text} while (1) {{ {statement} }} drop; }}")
    assert found.stopped in (STEPS, HELD)


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(f"({' || '.join(['$si == $var(x)'] * 90)})", id="comparisons"),
        pytest.param(" || ".join([f"({' || '.join(['0'] * 50)})"] * 30), id="constants"),
        pytest.param("[ " + " + ".join(["$sp"] * 90) + " - 720000 ]", id="a calculation"),
        pytest.param("$(var(x)" + "{s.trim}" * 90 + ")", id="transformations"),
        pytest.param('pv_printf($var(x), "' + "$si" * 90 + '") && 0', id="variables in a text"),
    ],
)
def test_what_a_condition_holds_counts_in_each_round(condition: str) -> None:
    found = outcome(f"route[f] {{ while (1) if ({condition}) exit; drop; }}")
    assert found == Outcome(True, STEPS)


def test_arguments_of_calls_within_calls_are_held() -> None:
    text = "$(param(1){s.width,60000})"
    found = outcome(f"route[f] {{ route(g, $si); drop; }} route[g] {{ route(g, {text}, {text}); }}")
    assert found == Outcome(True, HELD)


def test_arguments_are_released_when_their_route_returns() -> None:
    body = "while ($var(i) < 40) { $var(i) += 1; route(g, $(si{s.width,60000})); } drop;"
    assert outcome(f"route[f] {{ $var(i) = 0; {body} }} route[g] {{ $var(x) = 1; }}") == Outcome(
        False
    )


def test_what_a_route_returns_is_bounded() -> None:
    values = ", ".join(["$(si{s.width,60000})"] * 2)
    found = outcome(f"route[f] {{ route(g); drop; }} route[g] {{ return(1, {values}); }}")
    assert found == Outcome(True, f"a route returns more than {MAX_TEXT} characters")


def test_a_decision_does_not_depend_on_collecting_messages() -> None:
    script = 'route[f] { while (1) { xlog("$(si{s.width,60000})"); } drop; }'
    assert outcome(script).traced


@pytest.mark.parametrize(("rounds", "traced"), [(12, False), (30, True)])
def test_an_explanation_costs_the_script_nothing(rounds: int, traced: bool) -> None:
    long = "$(si{s.width,60000}{s.reverse}{s.len})"
    loop = f"while ($var(i) < {rounds}) {{ $var(i) += 1; if ({long} == 1) exit; }}"
    script = Script.parse(f"route[f] {{ $var(i) = 0; {loop} drop; }}")
    assert script.evaluate("f", CONNECTION).traced is traced
    assert explain(script, "f", CONNECTION).outcome.traced is traced


def test_values_in_an_explanation_are_cut() -> None:
    found = explain(Script.parse(f"route[f] {{ {LONG} drop; }}"), "f", CONNECTION)
    assert max(len(str(step)) for step in found.steps) < 1_000


def test_the_tracer_traces_and_says_which_bound_a_script_went_beyond(
    connection: Connection,
) -> None:
    script = Script.parse("route[f] { $var(t) = $(si" + "{s.encode.hexa}" * 15 + "); drop; }")
    verdict = decide_by_route(script, "f")(connection)
    assert verdict == (True, f"it makes a text of more than {MAX_TEXT} characters")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(.*)*(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_pattern_against_the_longest_text_of_a_peer_is_within_the_steps_of_a_decision(
    pattern: str,
) -> None:
    # A header or a query has 16 KiB at most. So small a pattern is matched, not given up.
    text = '$var(t) = $(rm{s.fill.left,a,16383}) + "!";'
    found = outcome(f'route[f] {{ {text} if ($var(t) =~ "{pattern}") exit; drop; }}')
    assert found == Outcome(traced=False)


def test_long_texts_against_large_patterns_are_stopped() -> None:
    grow = '$var(t) = "aaaaaaaa"; while (1) $var(t) = $var(t) + $var(t);'
    match = 'if ($var(t) =~ "(a|b|ab){900}c") drop;'
    assert outcome(f"route[f] {{ {grow} {match} drop; }}").stopped is not None


def test_the_stack_is_never_exhausted() -> None:
    deep = "if ($sp) { " * 90 + "route(f);" + " }" * 90
    assert outcome(f"route[f] {{ {deep} }}").stopped is not None


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "a?" * 30 + "a" * 30, "(.*)(.*)(.*)(.*)x$"]
)
def test_patterns_that_hang_other_matchers_do_not_hang(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    compiled.search("a" * 20_000 + "!")
    # Every character leads to a remembered state: that is what makes the time linear.
    assert len(compiled._states) < MAX_CACHED


def test_the_cache_of_a_pattern_is_bounded() -> None:
    compiled = compile_pattern("(a|b)*a(a|b){12}c")
    text = "".join("ab"[(i * i // 7) % 2] for i in range(20_000))
    assert compiled.search(text) is False
    assert len(compiled._states) <= MAX_CACHED


def test_the_cached_states_of_a_large_pattern_are_bounded() -> None:
    compiled = compile_pattern("(a|b)*a(a|b){900}c")
    compiled.search("".join("ab"[(i * i // 7) % 2] for i in range(300)))
    assert sum(len(states) for states, _ in compiled._states) <= 2 * MAX_REMEMBERED


def test_the_cached_characters_are_bounded() -> None:
    compiled = compile_pattern("^a[^b]*c")
    compiled.search("a" + "".join(map(chr, range(1_000, 50_000))))
    compiled.search("a" + "".join(map(chr, range(60_000, 125_000))))
    assert sum(map(len, compiled._after)) <= 2 * MAX_REMEMBERED


def test_long_texts_are_not_cached() -> None:
    before = (
        comparisons.numbered_address.cache_info().misses,
        comparisons.cached_pattern.cache_info().misses,
    )
    outcome(f"route[f] {{ {LONG} if ($var(t) == 10.0.0.0/8) exit; }}")
    outcome("route[f] { $var(p) = $(rm{s.fill.left,a,300}); if ($si =~ $var(p)) exit; }")
    assert comparisons.numbered_address.cache_info().misses == before[0]
    assert comparisons.cached_pattern.cache_info().misses == before[1]


@pytest.mark.parametrize(
    "pattern",
    [
        "((a{99}){99}){99}",
        "(" * 101 + ")" * 101,
        "a{40000}",
        "(){32767}{32767}",
        "a" + "*" * 50_000,
    ],
)
def test_patterns_beyond_their_bounds_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


Search = Callable[[str], bool]


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        pytest.param("", ["", "x"], [], id="nothing matches everything"),
        pytest.param("0.0.2", ["127.0.0.2", "0x0y2"], ["127.0.0.1"], id="anywhere"),
        pytest.param("^a|b$", ["ax", "xb"], ["xa", "bx"], id="anchors in alternatives"),
        pytest.param("(^a)+", ["a"], ["ba"], id="an anchor in a group"),
        pytest.param("a^b", [], ["a^b", "ab"], id="an anchor is one anywhere"),
        pytest.param("ws+", ["WSS"], ["w"], id="whatever the case"),
        pytest.param("[A-C]x", ["bX"], ["dx"], id="ranges whatever the case"),
        pytest.param("[^a-c]", ["d", "]"], ["a", "B"], id="all but some"),
        pytest.param("[]a]", ["]", "a"], ["b"], id="a bracket in brackets"),
        pytest.param("[a-]", ["-", "a"], ["b"], id="a dash at the end"),
        pytest.param("[[:digit:].]+$", ["1.2"], ["1.x"], id="a class"),
        pytest.param("[[=a=][.b.]]", ["a", "b"], ["c"], id="single characters"),
        pytest.param("[\\d]", ["\\", "d"], ["5"], id="no escape in brackets"),
        pytest.param("a{2,3}b", ["aab", "aaab"], ["ab"], id="bounds"),
        pytest.param("^a{,2}$", ["", "aa"], ["aaa"], id="no least"),
        pytest.param("^(ab|c){2,}$", ["abc", "ccc"], ["ab"], id="no most"),
        pytest.param("^a+*?$", ["", "aa"], ["b"], id="repeated repetition"),
        pytest.param("a)b", ["a)b"], ["ab"], id="an unmatched bracket is itself"),
        pytest.param("()|x", [""], [], id="an empty group"),
        pytest.param(r"\.\$", ["a.$"], ["ab"], id="escapes"),
        pytest.param(r"\d", [], ["d", "5"], id="an escaped letter matches nothing"),
        pytest.param(r"\bfoo\b", ["a foo b"], ["food"], id="the edges of a word"),
        pytest.param(r"\<a\> .\Bb", ["a bb"], ["ab b"], id="its ends, and no edge"),
        pytest.param(r"^\w+\s\W$", ["ab !"], ["ab"], id="letters and blanks"),
        pytest.param(r"\`a.c\'", ["a\nc"], ["xac"], id="ends, and a line end is any character"),
    ],
)
def test_patterns_match_as_posix_says(pattern: str, matching: list[str], others: list[str]) -> None:
    search: Search = compile_pattern(pattern).search
    assert [text for text in matching if not search(text)] == []
    assert [text for text in others if search(text)] == []


@pytest.mark.parametrize(
    "pattern",
    ["(", "a|*b", "*a", "^*", "+", "a{", "a{x}", "a{2,1}", "a{}", "[a", "[b-a]", "[[:foo:]]", "a\\",
     "[[.ab.]]", "[a-[:digit:]]", "[[:digit:]-a]", "\\1", "(a)\\1", "{1}", "[", "[[.", "[a-"],
)  # fmt: skip
def test_patterns_that_regcomp_refuses_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)
