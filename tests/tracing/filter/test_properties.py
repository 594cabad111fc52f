"""What holds for any script and any text."""

import runpy
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipws.tracing.filter import FilterRouteError, Script, Subject
from sipws.tracing.filter.evaluation.patterns import PatternError, compile_pattern
from sipws.tracing.filter.syntax.lexer import quote, unquote
from sipws.tracing.filter.syntax.printer import print_route

CONNECTION = Subject("192.0.2.5", 8000, "10.0.0.1", 80, now=0.0)

words = st.text(string.ascii_letters, min_size=1, max_size=4)
numbers = st.integers(-(2**31), 2**31 - 1).map(str) | st.sampled_from(["0x1F", "017", "true"])
strings = st.text(max_size=6).map(lambda text: quote(text.replace("\0", "").replace("$", "")))
variables = st.sampled_from(
    ["$si", "$sp", "$socket_in(ip)", "$socket_in(port)", "$var(a)", "$avp(b)", "$(avp(b)[1])",
     "$(si{s.len})", "$(si{s.select,1,.}{s.int})", "$(var(a){s.fill.left,0,9})", "$rc", "$Ts",
     "$param(1)", "$return(0)", "$rm", "$(socket_in(tag){s.toupper})", "$(var(a){s.encode.hexa})",
     "$(avp(b)[*])", "$(si{s.width,60000})"]
)  # fmt: skip
writable = st.sampled_from(["$var(a)", "$var(c)", "$avp(b)", "$(avp(b)[0])", "$(avp(b)[append])"])
networks = st.sampled_from(
    ["10.0.0.0/8", "192.0.2.5", "::1", "[::1]", "2001:db8::/32", "0.0.0.0/0"]
)
patterns = st.sampled_from(['"^1"', '"a|b"', '"[0-9]+\\."', "'x'", '"(a)*"'])

comparisons = st.one_of(
    st.tuples(variables, st.sampled_from(["==", "!=", "<", ">", "<=", ">="]), variables | strings),
    st.tuples(variables, st.sampled_from(["==", "!=", "<", ">", "<=", ">="]), numbers),
    st.tuples(variables, st.sampled_from(["==", "!="]), networks | st.just("NULL")),
    st.tuples(variables, st.sampled_from(["=~", "!~"]), patterns | variables),
).map(" ".join)

calls = st.one_of(
    st.just("route(g)"),
    st.just('route("g", 1, $si, NULL, "x")'),
    st.just('is_myself("$si", 80)'),
    st.just('xlog("L_INFO", "$si $(avp(b)[*])\\n")'),
    st.just('setflag("F")'),
    st.sampled_from(["drop", "exit", "return", "return(-1)", "return(1, $si)"]),
)


def brackets(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return inner.map("({})".format)


# A bare `return` takes the sign behind it for its number's: no value begins with it.
values = st.recursive(
    variables | numbers | strings | brackets(comparisons) | calls.filter(lambda c: c != "return"),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%&|^"), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["<<", ">>"]), inner).map(" ".join),
        brackets(inner),
        inner.map("~ {}".format),
    ),
    max_leaves=6,
)

assignments = st.one_of(
    st.tuples(writable, st.sampled_from(["=", ":=", "+=", "-=", "/=", "%=", "|="]), values),
    st.tuples(writable, st.just("="), st.just("NULL")),
).map(" ".join)

conditions = st.recursive(
    comparisons | variables | numbers | values.map("[ {} ]".format) | calls | assignments,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "and", "or"]), inner).map(" ".join),
        brackets(inner),
        inner.map("!{}".format),
        inner.map("not ({})".format),
    ),
    max_leaves=6,
)


def blocks(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(statements, max_size=3).map(lambda found: "{" + " ".join(found) + "}")


statements = st.recursive(
    st.one_of(calls.map("{};".format), assignments.map("{};".format), st.just(";")),
    lambda inner: st.one_of(
        st.tuples(conditions, blocks(inner) | inner).map(lambda t: f"if ({t[0]}) {t[1]}"),
        st.tuples(conditions, blocks(inner), blocks(inner)).map(
            lambda t: f"if ({t[0]}) {t[1]} else {t[2]}"
        ),
        st.tuples(conditions, blocks(inner)).map(lambda t: f"while ({t[0]}) {t[1]}"),
        blocks(inner).map("for ($var(i) in $(avp(b)[*])) {}".format),
        st.tuples(variables, numbers | strings, inner).map(
            lambda t: f"switch ({t[0]}) {{ case {t[1]}: {t[2]} break; case 1: default: {t[2]} }}"
        ),
    ),
    max_leaves=8,
)

scripts = st.lists(statements, min_size=1, max_size=4).map(
    lambda found: f"route[f] {{ {' '.join(found)} }} route[g] {{ return(2); }}"
)


@given(scripts)
def test_a_script_prints_and_parses_back_to_the_same_tree(text: str) -> None:
    trees = Script.parse(text).trees
    printed = "".join(map(print_route, trees))
    again = Script.parse(printed).trees
    assert again == trees
    assert "".join(map(print_route, again)) == printed


@settings(max_examples=40, deadline=None)
@given(scripts)
def test_a_script_decides_and_can_be_checked(text: str) -> None:
    script = Script.parse(text)
    assert script.decider("f")(CONNECTION) in (True, False)
    assert all(warning.severity == "warning" for warning in script.warnings)


growing = st.lists(
    st.sampled_from(
        ["while (1) { $avp(b) = $(si{s.width,9000}); }", "while (1) { $avp($var(a)) = $var(c); }",
         "while (1) while (1) $(avp(b)[append]) = $si;", 'while (1) { xlog("$var(a)"); }',
         "$var(a) = $(si{s.width,9000});", "$var(a) += $var(a);", "$var(c) = $var(a) + $var(c);",
         "$var(a) = $(var(a){s.encode.hexa});", "$avp(b) = $var(a);",
         "$(avp(b)[append]) = $var(c);",
         "$avp($var(a)) = $var(c);", "$var(c) = $(avp(b)[*]);", 'xlog("$var(a)$var(c)");',
         "return(1, $var(a), $var(c));", "route(g);",
         "route(g, $(param(1){s.encode.hexa}), $var(a));",
         "while (1) {", "for ($var(c) in $(avp(b)[*])) {", "if ($var(a) =~ $var(c)) {", "}", "}",
         "$(avp(b)[0]) = $var(a);", "$avp(b) := $var(a);", "$avp(b) = NULL;", '$var(a) = "";']
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(growing, growing)
def test_no_decision_goes_beyond_its_bounds(first: list[str], second: list[str]) -> None:
    def closed(statements: list[str]) -> str:
        depth, found = 0, ["$var(a) = $si;"]
        for statement in statements:
            if statement != "}" or depth:
                found.append(statement)
                depth += statement.endswith("{") - (statement == "}")
        return " ".join([*found, *["}"] * depth])

    fuzz = runpy.run_path(str(Path(__file__).with_name("fuzz.py")))
    script = Script.parse(f"route[f] {{ {closed(first)} }} route[g] {{ {closed(second)} }}")
    fuzz["within_bounds"](script, "f", CONNECTION)


scraps = st.sampled_from(
    [*"{}[]();:,.!$&|^~<>=+-*/%\\'\"@\0\n", "route", "[f]", "if", "else", "while", "for", "in",
     "switch", "case", "default", "break", "drop", "exit", "return", "xlog", "/*", "*/", "#", "$si",
     "$(si{s.len})", "$var(x)", '"x"', "::1", "10.0.0.0/8", "0x1F", "-1", "NULL", "==", "=~", "&&",
     "route[f] { ", "drop; }", "include_file", "modparam(", "loadmodule", "failure_route"]
)  # fmt: skip


@given(st.lists(scraps, max_size=40).map(" ".join) | st.text(max_size=100))
def test_any_text_raises_only_filter_errors(text: str) -> None:
    try:
        script = Script.parse(text)
    except FilterRouteError:
        return
    for route in () if script.is_cfg else script.routes:
        script.evaluate(route, CONNECTION)


@given(st.text().map(lambda text: text.replace("\0", "")))
def test_a_quoted_text_stands_for_itself(text: str) -> None:
    assert unquote(quote(text)) == text


@given(st.text("ab.*+?()|[]^${}1,2\\-", max_size=10), st.text("ab1.-", max_size=10))
def test_any_pattern_raises_only_pattern_errors(pattern: str, text: str) -> None:
    try:
        compiled = compile_pattern(pattern)
    except PatternError:
        return
    assert compiled.search(text) is compiled.search(text)


@given(st.text("ab", max_size=8))
@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        ("^(a|b)*a$", lambda text: text.endswith("a")),
        ("aa|bb", lambda text: "aa" in text or "bb" in text),
        ("^(ab)*$", lambda text: text == "ab" * (len(text) // 2)),
        ("^.{2,3}$", lambda text: len(text) in (2, 3)),
    ],
    ids=["ends", "contains", "repeats", "counts"],
)
def test_patterns_agree_with_a_reference(pattern: str, holds: object, text: str) -> None:
    assert callable(holds)
    assert compile_pattern(pattern).search(text) is holds(text)


ports = st.integers(0, 65535)
addresses = st.ip_addresses().map(str)


@given(addresses, ports, addresses, ports)
def test_the_fast_path_of_a_comparison_decides_the_same(
    si: str, sp: int, ip: str, port: int
) -> None:
    # A bracketed calculation with the same variables takes no short way.
    script = Script.parse(
        f"""
        route[short] {{
            if ($si == "{si}" && $sp == {sp} && $socket_in(ip) == "{ip}"
                && $socket_in(port) == {port}) drop;
        }}
        route[long] {{
            $var(a) = "{si}"; $var(b) = "{ip}"; $var(c) = {sp}; $var(d) = {port};
            if ($si == $var(a) && $sp == $var(c) && $socket_in(ip) == $var(b)
                && $socket_in(port) == $var(d)) drop;
        }}
        """
    )
    for connection in (Subject(si, sp, ip, port), Subject("192.0.2.1", sp, "::1", port)):
        short, long = script.decider("short"), script.decider("long")
        assert short(connection) is long(connection)
