"""``sipws filter check|eval|test``, as a person uses them."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sipws.cli import filter as filter_cli
from sipws.errors import ConfigurationError, FilterRouteError
from sipws.tracing.filter import Script, Subject
from sipws.tracing.filter.explain import MAX_STEPS_SHOWN, explain

SCRIPT = """\
route[ws_filter] {
    if ($si == 192.0.2.0/24 && !($sp == 9)) {
        if (route(is_monitor, $si)) drop;
        xlog("L_INFO", "office $si\\n");
        exit;
    }
    drop;
}
route[is_monitor] {
    if ($param(1) =~ "\\.9[0-9]$") return(1);
    return(-1);
}
"""

CONN = "192.0.2.5:8000@ws:10.0.0.1:80"

Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def sipws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command where ``filter.cfg`` is; gives its exit status and its lines."""
    monkeypatch.chdir(tmp_path)
    Path("filter.cfg").write_text(SCRIPT)

    def run(*argv: str) -> tuple[int, list[str]]:
        parser = argparse.ArgumentParser("sipws")
        filter_cli.add_parser(parser.add_subparsers(required=True))
        args = parser.parse_args(["filter", *argv])
        status: int = args.run(args)
        printed = capsys.readouterr()
        return status, (printed.out + printed.err).splitlines()

    return run


def test_a_valid_script_is_ok(sipws: Run) -> None:
    assert sipws("check", "filter.cfg") == (0, ["filter.cfg: ok"])


def test_a_warning_is_shown_and_still_ok(sipws: Run) -> None:
    Path("filter.cfg").write_text("route[f] { drop; exit; }\n")
    assert sipws("check", "filter.cfg", "--route", "g") == (
        0,
        [
            "filter.cfg:1:1: warning: there is no route 'g': every connection is traced;"
            " routes there: f",
            "route[f] { drop; exit; }",
            "^",
            "filter.cfg:1:18: warning: this is never reached: the statement before it ends the"
            " route",
            "route[f] { drop; exit; }",
            "                 ^^^^",
            "filter.cfg: ok, 2 warnings",
        ],
    )


def test_errors_are_shown_and_are_a_failure(sipws: Run) -> None:
    Path("filter.cfg").write_text("route[f] { drop(1); }\n")
    status, lines = sipws("check", "filter.cfg")
    assert (status, lines[-1]) == (1, "filter.cfg: refused: 1 error")
    assert lines[0].startswith("filter.cfg:1:17: error: '1' does not belong here")


def test_diagnostics_are_json_for_programs(sipws: Run) -> None:
    Path("filter.cfg").write_text("route[f] { drop; exit; }\n")
    status, (line,) = sipws("check", "filter.cfg", "--json")
    assert status == 0
    found = json.loads(line)
    assert (found["severity"], found["line"], found["column"]) == ("warning", 1, 18)


def test_a_cfg_shows_the_ignored_statements(sipws: Run) -> None:
    Path("o.cfg").write_text('loadmodule "tm.so"\nroute { t_relay(); }\n' + SCRIPT)
    assert sipws("check", "o.cfg", "--route", "ws_filter") == (
        0,
        ["o.cfg: passed over 1 loadmodule, 3 other routes", "o.cfg: ok"],
    )


def test_connections_are_tried_a_line_each(sipws: Run) -> None:
    office, monitor, other = (
        "192.0.2.5:8000@ws:10.0.0.1:80",
        "192.0.2.95:8000@wss:10.0.0.1:443 tag edge as 203.0.113.1:443",
        "[2001:db8::1]:8000@ws:[::1]:80",
    )
    conns = [part for conn in (office, monitor, other) for part in ("--conn", conn)]
    assert sipws("eval", "filter.cfg", "--route", "ws_filter", *conns) == (
        0,
        [
            f"traced  {office}  (filter.cfg:5: exit)",
            f"dropped  {monitor}  (filter.cfg:3: drop)",
            f"dropped  {other}  (filter.cfg:7: drop)",
        ],
    )


def test_a_decision_is_explained_line_by_line_with_values(sipws: Run) -> None:
    conn = "192.0.2.5:8000@ws:10.0.0.1:80"
    args = ("eval", "filter.cfg", "--route", "ws_filter", "--conn", conn, "--explain")
    assert sipws(*args) == (
        0,
        [
            f"traced  {conn}  (filter.cfg:5: exit)",
            '    filter.cfg:2: $si == 192.0.2.0/24  -> true   ($si is "192.0.2.5")',
            "    filter.cfg:2: $sp == 9  -> false   ($sp is 8000)",
            '    filter.cfg:3: route("is_monitor", $si)  -> called',
            '    filter.cfg:10: $param(1) =~ "\\.9[0-9]$"  -> false   ($param(1) is "192.0.2.5")',
            "    filter.cfg:11: return(-1)  -> returns",
            '    filter.cfg:3: route("is_monitor", $si)  -> returned -1',
            '    filter.cfg:4: xlog("L_INFO", "office $si\\n")  -> done',
            "    filter.cfg:5: exit  -> ends: traced",
            "    xlog INFO: office 192.0.2.5",
        ],
    )


def test_a_decision_is_json_for_programs(sipws: Run) -> None:
    conn = "198.51.100.1:8000@ws:10.0.0.1:80"
    args = ("eval", "filter.cfg", "--route", "ws_filter", "--conn", conn, "--json")
    status, (line,) = sipws(*args)
    found = json.loads(line)
    assert (status, found["conn"], found["decision"]) == (0, conn, "dropped")
    assert found["path"][-1]["text"] == "drop"


def test_a_route_that_is_not_there_traces_and_warns(sipws: Run) -> None:
    conn = "198.51.100.1:8000@ws:10.0.0.1:80"
    status, lines = sipws("eval", "filter.cfg", "--route", "ws_fitler", "--conn", conn)
    assert (status, lines[0]) == (0, f"traced  {conn}  (there is no such route)")
    assert "do you mean 'ws_filter'?" in lines[1]


def test_a_stopped_script_shows_the_reason(sipws: Run) -> None:
    Path("loop.cfg").write_text("route[f] { while (1) while (1) $var(x) = 1; }")
    conn = "198.51.100.1:8000@ws:10.0.0.1:80"
    status, (line,) = sipws("eval", "loop.cfg", "--route", "f", "--conn", conn)
    assert (status, line) == (
        0,
        f"traced  {conn}  (the script was stopped: its loops, routes and texts took"
        " more than 200000 steps)",
    )


def test_the_listeners_of_all_connections_are_local(sipws: Run) -> None:
    Path("own.cfg").write_text('route[f] { if (is_myself("$si")) drop; }')
    conns = ("--conn", "10.0.0.2:1@ws:10.0.0.1:80", "--conn", "10.0.0.9:1@ws:10.0.0.2:80")
    _, lines = sipws("eval", "own.cfg", "--route", "f", *conns)
    assert [line.split()[0] for line in lines] == ["dropped", "traced"]


@pytest.mark.parametrize(
    "conn",
    [
        "192.0.2.5:8000",
        "192.0.2.5@ws:10.0.0.1:80",
        "192.0.2.5:8000@udp:10.0.0.1:80",
        "192.0.2.5:99999@ws:10.0.0.1:80",
        "192.0.2.5:8000@ws:*:80",
        "phone:8000@ws:10.0.0.1:80",
    ],
)
def test_an_invalid_connection_is_named_with_the_remedy(sipws: Run, conn: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        sipws("eval", "filter.cfg", "--route", "ws_filter", "--conn", conn)
    assert repr(conn) in str(refused.value)
    assert "it is written 'PEER_IP:PORT@LISTENER DEFINITION'" in str(refused.value)


def test_trying_an_invalid_script_exits_with_2(sipws: Run) -> None:
    Path("filter.cfg").write_text("route[f] { drop }\n")
    with pytest.raises(FilterRouteError):
        sipws("eval", "filter.cfg", "--route", "f", "--conn", "192.0.2.5:8000@ws:10.0.0.1:80")


CASES = """\
script = "filter.cfg"
route = "ws_filter"

[[case]]
name = "the office"
conn = "192.0.2.5:8000@ws:10.0.0.1:80"
expect = "traced"

[[case]]
conn = "198.51.100.1:8000@ws:10.0.0.1:80"
expect = "dropped"
"""


def test_a_table_of_cases_is_run(sipws: Run) -> None:
    Path("cases.toml").write_text(CASES)
    assert sipws("test", "cases.toml") == (
        0,
        [
            "ok    the office",
            "ok    198.51.100.1:8000@ws:10.0.0.1:80",
            "cases.toml: 2 of 2 cases as expected",
        ],
    )


def test_a_case_that_is_decided_differently_is_shown_with_its_path(sipws: Run) -> None:
    Path("cases.toml").write_text(CASES.replace('"dropped"', '"traced"'))
    assert sipws("test", "cases.toml") == (
        1,
        [
            "ok    the office",
            "WRONG 198.51.100.1:8000@ws:10.0.0.1:80: 198.51.100.1:8000@ws:10.0.0.1:80",
            "    - expected traced",
            "    + dropped  (filter.cfg:7: drop)",
            '    filter.cfg:2: $si == 192.0.2.0/24  -> false   ($si is "198.51.100.1")',
            "    filter.cfg:7: drop  -> ends: dropped",
            "cases.toml: 1 of 2 cases as expected",
        ],
    )


def test_cases_are_json_for_programs(sipws: Run) -> None:
    Path("cases.toml").write_text(CASES)
    status, lines = sipws("test", "cases.toml", "--json")
    assert status == 0
    assert [json.loads(line)["ok"] for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", "'script' is missing"),
        (
            f'script = "filter.cfg"\n[[case]]\nconn = "{CONN}"\nexpect = "traced"',
            "'route' is missing",
        ),
        ('script = "filter.cfg"', "no [[case]]"),
        ('script = "filter.cfg"\nroute = "f"', "no [[case]]"),
        ("= 1", "not TOML"),
        (CASES + "[[case]]\n", "case 3 has no 'conn'"),
        (CASES.replace("traced", "seen"), "'expect' is 'traced' or 'dropped', not 'seen'"),
        (CASES.replace("name", "title"), "unknown ['title']"),
        (CASES.replace(":8000@", "@"), "case 1: connection '192.0.2.5@"),
    ],
)
def test_an_invalid_table_is_reported(sipws: Run, table: str, problem: str) -> None:
    Path("cases.toml").write_text(table)
    with pytest.raises(ConfigurationError) as refused:
        sipws("test", "cases.toml")
    assert problem in str(refused.value)


def test_the_end_of_a_long_path_is_kept() -> None:
    script = Script.parse("route[f] { while (1) $var(x) = 1; drop; }")
    found = explain(script, "f", Subject("192.0.2.5", 8000, "10.0.0.1", 80))
    assert len(found.steps) == MAX_STEPS_SHOWN
    assert found.decisive is not None
    assert found.decisive.text == "drop"


HOSTILE = "\x1b]0;x\x07\x9b31m\u202e\u2066"


@pytest.mark.parametrize(
    "words",
    [
        ("check", "filter.cfg"),
        ("check", "filter.cfg", "--json"),
        ("eval", "filter.cfg", "--route", "f", "--conn", "192.0.2.5:1@ws:10.0.0.1", "--explain"),
        ("eval", "filter.cfg", "--route", "f", "--conn", "192.0.2.5:1@ws:10.0.0.1", "--json"),
    ],
)
def test_a_hostile_script_acts_on_no_terminal(sipws: Run, words: tuple[str, ...]) -> None:
    wrong = f'\n if ($si == "{HOSTILE}" + 5) drop; }}' if words[0] == "check" else "}"
    Path("filter.cfg").write_text(f'route[f] {{ xlog("{HOSTILE}"); exit; {wrong}')
    _, printed = sipws(*words)
    assert printed
    assert all(line.isprintable() for line in printed), printed


def test_carets_stand_under_their_place_behind_hostile_characters(sipws: Run) -> None:
    Path("filter.cfg").write_text(f'route[f] {{ xlog("{HOSTILE}"); bogus(); }}')
    _, printed = sipws("check", "filter.cfg")
    assert printed[1][printed[2].index("^") :].startswith("bogus()")


def test_a_long_line_is_cut_around_the_place(sipws: Run) -> None:
    long = "x" * 100_000
    Path("filter.cfg").write_text(f'route[f] {{ xlog("{long}"); bogus(); xlog("{long}"); }}')
    status, printed = sipws("check", "filter.cfg")
    assert status == 1
    assert all(len(line) < 300 for line in printed)
    place = printed[2].index("^")
    assert printed[1][place:].startswith("bogus()")
    assert printed[1].startswith("… ")
    assert printed[1].endswith(" …")


def test_a_long_statement_is_cut_in_an_explanation(sipws: Run) -> None:
    Path("filter.cfg").write_text('route[f] { if ($si == "' + "x" * 60_000 + '") drop; exit; }')
    conn = "192.0.2.5:1@ws:10.0.0.1"
    _, printed = sipws("eval", "filter.cfg", "--route", "f", "--conn", conn, "--explain")
    assert all(len(line) < 1100 for line in printed)


ONE_ROUTE = 'route[only] { if ($time(%H) < "09") drop; exit; }\n'


def test_the_only_route_of_a_script_is_the_filter(sipws: Run) -> None:
    Path("one.cfg").write_text("route[only] { drop; }\n")
    status, (line,) = sipws("eval", "one.cfg", "--conn", CONN)
    assert (status, line.split()[0]) == (0, "dropped")


def test_the_filter_route_of_a_cfg_is_the_one_it_names(sipws: Run) -> None:
    modparam = 'modparam("proto_ws", "trace_filter_route", "is_monitor")\n'
    Path("o.cfg").write_text(modparam + SCRIPT)
    _, (line,) = sipws("eval", "o.cfg", "--conn", CONN, "--json")
    assert json.loads(line)["path"][0]["line"] == 11
    Path("cases.toml").write_text(f'script = "o.cfg"\n[[case]]\nconn = "{CONN}"\nexpect = "traced"')
    assert sipws("test", "cases.toml")[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT,
        f"debug_mode=no\n{SCRIPT}",
    ],
    ids=["two routes", "a cfg without a filter"],
)
def test_a_filter_route_that_is_not_clear_has_to_be_named(sipws: Run, text: str) -> None:
    Path("o.cfg").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        sipws("eval", "o.cfg", "--conn", CONN)
    assert str(refused.value) == (
        "script o.cfg: which route is the filter? Name it with --route"
        " (routes there: ws_filter, is_monitor)"
    )
    Path("cases.toml").write_text(f'script = "o.cfg"\n[[case]]\nconn = "{CONN}"\nexpect = "traced"')
    with pytest.raises(ConfigurationError, match="'route' is missing: which route"):
        sipws("test", "cases.toml")


def test_a_connection_has_the_filter_route_of_its_protocol(sipws: Run) -> None:
    Path("o.cfg").write_text(
        'modparam("proto_ws", "trace_filter_route", "a")\n'
        'modparam("proto_wss", "trace_filter_route", "b")\n'
        "route[a] { drop; }\nroute[b] { exit; }\n"
    )
    ws, wss = "192.0.2.5:80@ws:10.0.0.1:80", "192.0.2.5:80@wss:10.0.0.1:443"
    status, out = sipws("eval", "o.cfg", "--conn", ws, "--conn", wss)
    assert (status, [line.split()[0] for line in out]) == (0, ["dropped", "traced"])
    status, out = sipws("eval", "o.cfg", "--route", "b", "--conn", ws)
    assert out[0].split()[0] == "traced"
    Path("cases.toml").write_text(
        f'script = "o.cfg"\n[[case]]\nconn = "{ws}"\nexpect = "dropped"\n'
        f'[[case]]\nconn = "{wss}"\nexpect = "traced"\n'
    )
    assert sipws("test", "cases.toml")[0] == 0


def test_a_protocol_for_which_the_file_names_no_filter_has_none(sipws: Run) -> None:
    Path("o.cfg").write_text(
        'modparam("proto_ws", "trace_filter_route", "a")\nroute[a] { drop; }\n'
    )
    wss = "192.0.2.5:80@wss:10.0.0.1:443"
    with pytest.raises(ConfigurationError) as refused:
        sipws("eval", "o.cfg", "--conn", wss)
    assert str(refused.value) == (
        "script o.cfg: it names no filter route for wss, so every wss connection is traced."
        " Name a route with --route to try it"
    )
    assert sipws("eval", "o.cfg", "--route", "a", "--conn", wss)[1][0].split()[0] == "dropped"


@pytest.mark.parametrize(
    ("time", "decision"),
    [
        ("2026-11-30T08:59", "dropped"),
        ("2026-11-30 09:00", "traced"),
        ("2026-11-30T23:30:00+00:00", "traced"),
        ("2026-11-30", "dropped"),
    ],
)
def test_a_connection_is_tried_at_a_fixed_time(sipws: Run, time: str, decision: str) -> None:
    Path("one.cfg").write_text(ONE_ROUTE)
    _, (line,) = sipws("eval", "one.cfg", "--conn", CONN, "--time", time)
    assert line.split()[0] == decision


def test_seconds_are_a_time(sipws: Run) -> None:
    Path("one.cfg").write_text("route[only] { if ($Ts == 1796025600) drop; }\n")
    _, (line,) = sipws("eval", "one.cfg", "--conn", CONN, "--time", "1796025600.5")
    assert line.split()[0] == "dropped"


@pytest.mark.parametrize("time", ["noon", "25:00", "1e400", "9" * 400, "1-1-1"])
def test_what_is_no_time_is_refused(
    sipws: Run, time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sipws("eval", "filter.cfg", "--conn", CONN, "--time", time)
    assert "is not a time; write it as in 2026-11-30T08:00" in capsys.readouterr().err


def test_cases_have_a_time_of_their_own_or_that_of_the_table(sipws: Run) -> None:
    Path("one.cfg").write_text(ONE_ROUTE)
    Path("cases.toml").write_text(
        f"""
        script = "one.cfg"
        time = 2026-11-30T08:00:00
        [[case]]
        name = "early"
        conn = "{CONN}"
        expect = "dropped"
        [[case]]
        name = "late"
        conn = "{CONN}"
        time = "2026-11-30T10:00"
        expect = "traced"
        """
    )
    assert sipws("test", "cases.toml")[0] == 0
    # The command line overrides the time of the table.
    status, lines = sipws("test", "cases.toml", "--time", "2026-11-30T12:00")
    assert (status, lines[-1]) == (1, "cases.toml: 1 of 2 cases as expected")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ('time = "noon"\n' + CASES, "'time': 'noon' is not a time"),
        (CASES + 'time = "noon"\n', "case 2: 'time': 'noon' is not a time"),
        ("routes = 1\n" + CASES, "unknown ['routes']"),
        ("route = 1\n" + CASES.replace('route = "ws_filter"', ""), "'route' is no text"),
    ],
)
def test_a_wrong_time_or_key_of_a_table_is_reported(sipws: Run, change: str, problem: str) -> None:
    Path("cases.toml").write_text(change)
    with pytest.raises(ConfigurationError) as refused:
        sipws("test", "cases.toml")
    assert problem in str(refused.value)


def test_a_script_is_formatted(sipws: Run) -> None:
    untidy, tidy = "route[f] {\ndrop;  # é\n}\n", "route[f] {\n    drop;  # é\n}\n"
    path = Path("f.cfg")
    path.write_text(untidy, encoding="utf-8")
    assert sipws("fmt", "f.cfg") == (0, tidy.splitlines())
    assert sipws("fmt", "f.cfg", "--check") == (1, [])
    assert path.read_text(encoding="utf-8") == untidy
    assert sipws("fmt", "f.cfg", "--write") == (0, [])
    assert path.read_text(encoding="utf-8") == tidy
    assert sipws("fmt", "f.cfg", "--check") == (0, [])


def test_formatting_keeps_the_line_ends_of_the_file(sipws: Run) -> None:
    path = Path("f.cfg")
    path.write_bytes(b"route[f] {\r\ndrop;\r\n}\r\n")
    assert sipws("fmt", "f.cfg", "--write") == (0, [])
    assert path.read_bytes() == b"route[f] {\r\n    drop;\r\n}\r\n"


def test_a_script_with_errors_is_not_formatted(sipws: Run) -> None:
    Path("f.cfg").write_text("route[f] {\ndrop\n}\n")
    with pytest.raises(FilterRouteError):
        sipws("fmt", "f.cfg", "--write")
    assert Path("f.cfg").read_text() == "route[f] {\ndrop\n}\n"
