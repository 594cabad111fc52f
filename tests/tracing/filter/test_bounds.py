"""Scripts that loop, recurse or match for ever are stopped, and patterns cannot hang anyone."""

from collections.abc import Callable

import pytest

from sipws.tracing.filter import Outcome, Script, Subject
from sipws.tracing.filter.patterns import MAX_CACHED, PatternError, compile_pattern

CONNECTION = Subject("192.0.2.5", 8000, "10.0.0.1", 80)


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
    assert found.stopped == "its loops and routes ran more than 200000 statements"


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


def test_a_text_that_doubles_stays_within_its_bound() -> None:
    grow = '$var(t) = "aaaaaaaa"; while (1) $var(t) = $var(t) + $var(t);'
    found = outcome(f"route[f] {{ {grow} if ($(var(t){{s.len}}) <= 65535) drop; }}")
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


def test_what_is_remembered_of_a_pattern_is_bounded() -> None:
    compiled = compile_pattern("(a|b)*a(a|b){12}c")
    text = "".join("ab"[(i * i // 7) % 2] for i in range(20_000))
    assert compiled.search(text) is False
    assert len(compiled._states) <= MAX_CACHED


@pytest.mark.parametrize("pattern", ["((a{99}){99}){99}", "(" * 101 + ")" * 101, "a{40000}"])
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
