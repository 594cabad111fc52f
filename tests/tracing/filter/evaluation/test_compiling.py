"""A script of any length or shape is compiled in bounded time and memory, or is refused."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sipws.errors import ConfigurationError
from sipws.tracing.filter import FilterRouteError, Script, Subject
from sipws.tracing.filter.bounds import (
    MAX_DEPTH,
    MAX_FINDINGS,
    MAX_SCRIPT,
    MAX_TOKENS,
    MAX_VARIABLE_DEPTH,
)
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.walk import deeper_than, walk

CONNECTION = Subject("192.0.2.5", 8000, "10.0.0.1", 80)
MANY = 2_000


def refusal(text: str) -> FilterRouteError:
    with pytest.raises(FilterRouteError) as caught:
        Script.parse(text, filename="f.cfg")
    return caught.value


# What grows with a script is made once, not again for each part of it: work that is repeated for
# each part is what makes time quadratic.


@pytest.mark.parametrize(
    ("made", "script"),
    [
        pytest.param(
            nodes.Chain,
            f"route[f] {{ if ({' || '.join(['$sp == 1'] * MANY)}) exit; }}",
            id="alternatives",
        ),
        pytest.param(
            nodes.If,
            f"route[f] {{ {' else '.join(['if ($sp == 1) exit;'] * MANY)} }}",
            id="else if",
        ),
        pytest.param(
            nodes.Arithmetic, f"route[f] {{ $var(x) = {' + '.join(['$sp'] * MANY)}; }}", id="sums"
        ),
        pytest.param(
            nodes.Arithmetic, f"route[f] {{ $var(x) = {' | '.join(['$sp'] * MANY)}; }}", id="bits"
        ),
        pytest.param(
            nodes.Switch,
            f"route[f] {{ switch ($sp) {{ {'case 1: exit;' * MANY} }} }}",
            id="cases",
        ),
    ],
)
def test_a_long_script_compiles_quickly(
    made: type[nodes.Node], script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = made.__init__

    def counted(*args: object, **kwargs: object) -> None:
        nonlocal calls
        calls += 1
        real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(made, "__init__", counted)
    parsed = Script.parse(script)
    assert len(list(walk(parsed.trees[0]))) > MANY
    assert calls == 1


def test_a_long_else_if_decides_by_the_branch_that_holds() -> None:
    branches = " else ".join(f"if ($sp == {port}) {'drop' if port % 2 else 'exit'};"
                             for port in range(7_000, 9_000))  # fmt: skip
    decide = Script.parse(f"route[f] {{ {branches} else drop; }}").decider("f")
    found = [decide(Subject("192.0.2.5", port, "10.0.0.1", 80)) for port in (7_000, 8_001, 9_000)]
    assert found == [True, False, False]


def test_a_long_switch_decides_by_the_first_case_that_holds() -> None:
    cases = " ".join(f"case {port}: {'drop' if port % 2 else 'exit'};" for port in range(2_000))
    script = (
        f'route[f] {{ switch ($sp) {{ {cases} case 7: exit; case "8": drop; default: drop; }} }}'
    )
    decide = Script.parse(script).decider("f")
    found = [decide(Subject("192.0.2.5", port, "10.0.0.1", 80)) for port in (7, 8, 1_998, 3_000)]
    assert found == [False, True, True, False]


def calls_of(text: str) -> int:
    """Calls of Python functions while a script is read and checked."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        _ = Script.parse(text).warnings
    except FilterRouteError as exc:
        str(exc)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(lambda n: "route[f] { if (" + "$si && $sp || " * n + "1) exit; }", id="mixed"),
        pytest.param(lambda n: 'loadmodule "a" ' * n + "route[f] { exit; }", id="one line"),
        pytest.param(lambda n: 'modparam("a", "b", 1) ' * n + "route[f] { exit; }", id="modparam"),
        pytest.param(lambda n: "error_route { } " * n + "route[f] { exit; }", id="other routes"),
        pytest.param(lambda n: "x\n" * n + "route[f] { exit; }", id="lines that say nothing"),
        pytest.param(lambda n: "x route[f] { exit; } " * n, id="between routes"),
        pytest.param(lambda n: "route[f] { " + "$foo = 1; " * n + "}", id="unknown variables"),
        pytest.param(lambda n: "route[f] { " + "route(q); " * n + "}"
                     + "".join(f"route[r{i}] {{ exit; }}" for i in range(n)), id="routes"),
        pytest.param(lambda n: "".join(f"route[r{i}] {{ if $si; }}" for i in range(n)),
                     id="broken routes"),
        pytest.param(lambda n: "route[f] { " + "if $si; " * n + "}", id="a broken route"),
        pytest.param(lambda n: "route[f] { exit; } " * n, id="twice"),
        pytest.param(lambda n: "route[f] { " + "while (1) { " * 90 + "$var(x) = 1;" * n
                     + "}" * 90 + "}", id="loops within loops"),
        pytest.param(lambda n: "route[f] { " + "if ($si == 5) exit; " * n + "}", id="warnings"),
    ],
)  # fmt: skip
def test_the_work_grows_as_the_script_does(script: Callable[[int], str]) -> None:
    calls_of(script(2))
    small, large = calls_of(script(120)), calls_of(script(600))
    assert large < 6 * small


# How deep.


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("route[f] { if (" + "(" * 20_000 + "$sp" + ")" * 20_000 + ") exit; }", id="("),
        pytest.param("route[f] { if (" + "!" * 20_000 + "$sp) exit; }", id="!"),
        pytest.param("route[f] { $var(x) = " + "~" * 20_000 + "$sp; }", id="~"),
        pytest.param("route[f] { " + "if ($sp) { " * 20_000 + "exit;" + "}" * 20_001, id="blocks"),
        pytest.param("route[f] { " + "while ($sp) " * 20_000 + "exit; }", id="no blocks"),
        pytest.param("route[f] " + "{" * 20_000 + "}" * 20_000, id="{"),
        pytest.param("route[f] { " + "while ($sp) if ($sp) exit; else " * 3_000 + "exit; }",
                     id="else"),
        pytest.param("route[f] { $var(x) = " + "$(var(x){s.substr," * 9_000 + "$sp"
                     + ",1})" * 9_000 + "; }", id="transformations"),
        pytest.param("route[f] { $var(x) = " + "$param(" * 9_000 + "1" + ")" * 9_000 + "; }",
                     id="variables"),
        pytest.param("route[f] { if ($si =~ \"" + "(" * 9_000 + ")" * 9_000 + "\") exit; }",
                     id="groups"),
        pytest.param("route[f] { if ($si =~ \"a" + "*" * 9_000 + "\") exit; }", id="repetitions"),
    ],
)  # fmt: skip
def test_what_is_nested_too_deep_is_refused_with_its_place(script: str) -> None:
    found = refusal(script)
    assert found.diagnostics[0].line == 1
    assert found.diagnostics[0].column > 1
    assert "deep" in found.diagnostics[0].problem
    assert len(str(found)) < 3_000


NESTED = {
    "(": "if (" + "(" * 96 + "$sp" + ")" * 96 + ") drop;",
    "( &&": "if (" + "($sp && " * 96 + "$sp" + ")" * 96 + ") drop;",
    "!": "if (" + "!" * 98 + "$sp) drop;",
    "blocks": "if ($sp) { " * 96 + "drop;" + "}" * 96,
    "loops": "while ($sp) { " * 96 + "drop;" + "}" * 96,
    "switch": "switch ($sp) { case 8000: " * 96 + "drop;" + "}" * 96,
    "else": "while (0) if ($sp) exit; else " * (MAX_DEPTH // 2 - 5) + "exit; drop;",
    "statements in conditions": "if ({ " * 40 + "drop;" + "}) exit;" * 40,
    "variables": "$var(x) = " + "$(sp{s.substr," * MAX_VARIABLE_DEPTH + "0"
                 + ",1})" * MAX_VARIABLE_DEPTH + "; drop;",
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_what_may_be_nested_is_compiled_and_decides(name: str) -> None:
    script = Script.parse(f"route[f] {{ {NESTED[name]} }}")
    assert script.warnings is not None
    assert script.evaluate("f", CONNECTION).stopped is None


def test_a_stack_that_is_nearly_used_up_refuses_with_a_place() -> None:
    def below(depth: int) -> FilterRouteError | None:
        if depth:
            return below(depth - 1)
        try:
            Script.parse("route[f] { " + "if ($sp) { " * 96 + "exit;" + "}" * 97)
        except FilterRouteError as exc:
            return exc
        return None

    used = len([*_frames()])
    found = below(sys.getrecursionlimit() - used - 250)
    assert found is not None
    assert "nested too deep" in str(found)


def _frames() -> list[object]:
    frame, found = sys._getframe(), []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return found


def test_the_depth_of_a_tree_is_that_of_its_nodes() -> None:
    (tree,) = Script.parse("route[f] { if (!$sp) exit; }").trees
    # Route, if, not, truth, variable.
    assert deeper_than(4, tree) is None
    assert isinstance(deeper_than(3, tree), nodes.Variable)


# How long.


def test_a_script_that_is_too_long_is_refused() -> None:
    found = refusal("route[f] { exit; }" + " " * MAX_SCRIPT)
    assert found.diagnostics[0].problem.startswith(f"the script has more than {MAX_SCRIPT} char")
    Script.parse("route[f] { exit; }".ljust(MAX_SCRIPT))


def test_a_script_of_too_many_words_is_refused_where_they_are_too_many() -> None:
    (only,) = refusal("route[f] { " + ";" * MAX_TOKENS + " }").diagnostics
    assert only.problem == f"the script has more than {MAX_TOKENS} words; shorten it"
    assert only.column == 12 + MAX_TOKENS - 5


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.cfg"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(ConfigurationError, match="it has more than 8388608 bytes"):
        Script.load(path)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ConfigurationError, match="it has more than"):
        Script.load(Path("/dev/zero"))


def test_a_file_that_is_included_again_and_again_counts_each_time(tmp_path: Path) -> None:
    (tmp_path / "big.cfg").write_text("#" + "x" * (MAX_SCRIPT // 4) + "\n")
    include = f'include_file "{tmp_path}/big.cfg"\n'
    (tmp_path / "f.cfg").write_text(include * 3 + "route[f] { exit; }\n")
    Script.load(tmp_path / "f.cfg")
    (tmp_path / "f.cfg").write_text(include * 4 + "route[f] { exit; }\n")
    with pytest.raises(FilterRouteError, match="with this file the script has more than") as caught:
        Script.load(tmp_path / "f.cfg")
    assert caught.value.diagnostics[0].line == 4


def test_ignored_characters_are_reported_once_per_run() -> None:
    script = Script.parse("\0" * 100_000 + "\n\x01 route[f] { exit; }")
    assert [(w.line, w.column) for w in script.warnings] == [(1, 1), (2, 1)]
    assert "100000 times" in script.warnings[0].problem
    assert not set("\0\x01") & set("".join(map(str, script.warnings)))


def test_the_number_of_errors_is_limited() -> None:
    found = refusal("route[f] {\n" + "$foo = 1;\n" * 1_000 + "}")
    assert [d.line for d in found.diagnostics] == list(range(2, MAX_FINDINGS + 2))


def test_the_first_routes_with_errors_are_reported() -> None:
    found = refusal("".join(f"route[r{i}] {{ if $si; }}\n" for i in range(1_000)))
    assert found.diagnostics[0].line == 1


def test_the_number_of_warnings_is_limited() -> None:
    script = Script.parse("route[f] {\n" + "if ($si == 5) exit;\n" * 1_000 + "}")
    assert len(script.warnings) == MAX_FINDINGS


def test_an_excerpt_of_a_long_line_is_cut_around_its_place() -> None:
    (only,) = refusal(
        "route[f] { " + "exit; " * 1_000 + "$foo = 1; " + "exit; " * 1_000 + "}"
    ).diagnostics
    line, carets = only.excerpt.split("\n")
    assert len(line) < 250
    start = carets.index("^")
    assert line[start : start + carets.count("^")] == "$foo"


def test_a_word_of_any_length_is_shown_in_part() -> None:
    assert len(str(refusal(f"route[f] {{ ${'a' * 100_000} = 1; }}"))) < 2_000


def test_one_filter_route_of_a_cfg_is_not_refused_for_the_errors_of_another() -> None:
    script = Script.parse('loadmodule "x"\nroute[bad] { $foo = 1; if $si; }\nroute[good] { drop; }')
    with pytest.raises(FilterRouteError):
        script.decider("bad")
    assert script.decider("good")(CONNECTION) is False


def test_a_missing_route_is_reported_with_some_existing_ones() -> None:
    script = Script.parse("".join(f"route[r{i}] {{ exit; }}" for i in range(500)))
    missing = script.missing("quite_another")
    assert missing is not None
    assert missing.problem.endswith("r18, r19 and 480 more")
