"""Errors that help: the place, the line, carets, what was expected, the nearest known name."""

import pytest

from sipws.tracing.filter import FilterRouteError, Script


def refused(text: str) -> FilterRouteError:
    with pytest.raises(FilterRouteError) as caught:
        Script.parse(text, filename="f.cfg")
    return caught.value


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(
            'route[f] {\n\tif ($sii == "1.1.1.1") drop;\n}\n',
            "f.cfg:2:6: error: unknown variable $sii; do you mean $si?\n"
            '\tif ($sii == "1.1.1.1") drop;\n'
            "\t    ^^^^",
            id="a misspelt variable",
        ),
        pytest.param(
            "route[f] { if ($socket_in(prt) == 1) drop; }",
            "f.cfg:1:16: error: $socket_in has no field 'prt'; do you mean 'port'?\n"
            "route[f] { if ($socket_in(prt) == 1) drop; }\n"
            "               ^^^^^^^^^^^^^^^",
            id="a misspelt field",
        ),
        pytest.param(
            "route[f] { if ($(si{s.lenn}) == 1) drop; }",
            "f.cfg:1:16: error: there is no transformation {s.lenn}; do you mean 's.len'?\n"
            "route[f] { if ($(si{s.lenn}) == 1) drop; }\n"
            "               ^^^^^^^^^^^^^",
            id="a misspelt transformation",
        ),
        pytest.param(
            "route[f] { if ($socket_in(ip ) == 1) drop; }",
            "f.cfg:1:16: error: $socket_in has no field 'ip '; write it without blanks\n"
            "route[f] { if ($socket_in(ip ) == 1) drop; }\n"
            "               ^^^^^^^^^^^^^^^",
            id="a blank in a field",
        ),
        pytest.param(
            "route[f] { if ($(si {s.len}) == 1) drop; }",
            "f.cfg:1:16: error: a blank stands in $(si…); write the '{' directly after the"
            " variable\n"
            "route[f] { if ($(si {s.len}) == 1) drop; }\n"
            "               ^",
            id="a blank before a transformation",
        ),
        pytest.param(
            "route[f] { if ($socket_in(af) == INET) drop; }",
            "f.cfg:1:34: error: INET is a text: write 'INET' in quotes\n"
            "route[f] { if ($socket_in(af) == INET) drop; }\n"
            "                                 ^^^^",
            id="a family without quotes",
        ),
        pytest.param(
            "route[f] { append_branch(); }",
            "f.cfg:1:12: error: there is no function 'append_branch' in OpenSIPS 3.6;"
            " write 'append_msg_branch'\n"
            "route[f] { append_branch(); }\n"
            "           ^^^^^^^^^^^^^",
            id="a function of older versions",
        ),
        pytest.param(
            'route[f] { send("sip:192.0.2.1"); }',
            "f.cfg:1:17: error: argument 1 of send() is written PROTO:IP:PORT, not"
            " 'sip:192.0.2.1'\n"
            'route[f] { send("sip:192.0.2.1"); }\n'
            "                ^^^^^^^^^^^^^^^",
            id="a URI as a destination",
        ),
        pytest.param(
            'import_file "x.cfg"\nroute[f] { drop; }',
            "f.cfg:1:1: error: 'x.cfg' cannot be read: only a script in a file can import\n"
            'import_file "x.cfg"\n'
            "^^^^^^^^^^^",
            id="an import that is missing",
        ),
        pytest.param(
            "route[f] { drop; }\nfailure_route[x] { t_relay(); }",
            "f.cfg:2:20: error: 't_relay' needs a SIP message; a filter route has none\n"
            "failure_route[x] { t_relay(); }\n"
            "                   ^^^^^^^",
            id="a wrong statement in another kind of route",
        ),
        pytest.param(
            'route[f] { if (is_mysefl("$si")) drop; }',
            "f.cfg:1:16: error: unknown function 'is_mysefl'; do you mean 'is_myself'?\n"
            'route[f] { if (is_mysefl("$si")) drop; }\n'
            "               ^^^^^^^^^",
            id="a misspelt function",
        ),
        pytest.param(
            "route[f] { route(ofice); } route[office] { drop; }",
            "f.cfg:1:18: error: there is no route 'ofice'; do you mean 'office'?\n"
            "route[f] { route(ofice); } route[office] { drop; }\n"
            "                 ^^^^^",
            id="a misspelt route",
        ),
        pytest.param(
            "rout[f] { drop; }",
            "f.cfg:1:1: error: 'rout' begins nothing that may stand here; do you mean 'route'?\n"
            "rout[f] { drop; }\n"
            "^^^^",
            id="a misspelt beginning",
        ),
        pytest.param(
            'route[f] { if (t_relay("a")) drop; }',
            "f.cfg:1:16: error: 't_relay' needs a SIP message; a filter route has none\n"
            'route[f] { if (t_relay("a")) drop; }\n'
            "               ^^^^^^^",
            id="a function of a module",
        ),
        pytest.param(
            "route[f] { async(exec(1), 2); drop; }",
            "f.cfg:1:12: error: 'async' needs a SIP message; a filter route has none\n"
            "route[f] { async(exec(1), 2); drop; }\n"
            "           ^^^^^",
            id="async",
        ),
        pytest.param(
            'route[f] { if (check_address(1, "$si")) drop; }',
            "f.cfg:1:16: error: 'check_address' is of the module permissions; a filter route has"
            " the core's only\n"
            'route[f] { if (check_address(1, "$si")) drop; }\n'
            "               ^^^^^^^^^^^^^",
            id="another",
        ),
        pytest.param(
            "route[f] {\n    drop\n}\n",
            "f.cfg:2:8: error: expected ';' after this\n    drop\n       ^",
            id="a missing semicolon",
        ),
        pytest.param(
            "route[f] { drop;",
            "f.cfg:1:17: error: the script ends too early; expected a statement or '}'\n"
            "route[f] { drop;\n"
            "                ^",
            id="a missing bracket",
        ),
        pytest.param(
            "route[f] { exit; } /* no end",
            "f.cfg:1:20: error: this comment is never closed (comments nest here)\n"
            "route[f] { exit; } /* no end\n"
            "                   ^",
            id="an open comment",
        ),
        pytest.param(
            'route[f] { xlog("no end); }',
            "f.cfg:1:17: error: this string is never closed\n"
            'route[f] { xlog("no end); }\n'
            "                ^",
            id="an open string",
        ),
        pytest.param(
            "route[f] { exit; }\nroute[f] { drop; }",
            "f.cfg:2:1: error: route 'f' is there already, in line 1\nroute[f] { drop; }\n^^^^^",
            id="a route twice",
        ),
        pytest.param(
            'route[f] { if ($si =~ "1(") drop; }',
            "f.cfg:1:23: error: the pattern '1(' is not valid: '(' is never closed\n"
            'route[f] { if ($si =~ "1(") drop; }\n'
            "                      ^^^^",
            id="a bad pattern",
        ),
        pytest.param(
            "route[f] { if ($si == 300.1.1.1) drop; }",
            "f.cfg:1:23: error: '300.1.1.1' is not an address or network\n"
            "route[f] { if ($si == 300.1.1.1) drop; }\n"
            "                      ^^^^^^^^^",
            id="a bad address",
        ),
        pytest.param(
            "route[f] { if ([ $si - $sp]) drop; }",
            "f.cfg:1:24: error: '$sp]' is one word: put a blank before ']'\n"
            "route[f] { if ([ $si - $sp]) drop; }\n"
            "                       ^^^",
            id="a bracket run into a variable",
        ),
        pytest.param(
            "route[f] { if ($si < 10.0.0.1) drop; }",
            "f.cfg:1:22: error: an address is compared with '==' or '!=' only\n"
            "route[f] { if ($si < 10.0.0.1) drop; }\n"
            "                     ^^^^^^^^",
            id="an order of addresses",
        ),
        pytest.param(
            "route[log] { drop; }",
            "f.cfg:1:7: error: 'log' is a keyword; to use it as a name, write it in quotes\n"
            "route[log] { drop; }\n"
            "      ^^^",
            id="a keyword as a name",
        ),
        pytest.param(
            "route[f] { if ($sp) exit; elseif ($sp == 2) drop; }",
            "f.cfg:1:27: error: write 'else if'\n"
            "route[f] { if ($sp) exit; elseif ($sp == 2) drop; }\n"
            "                          ^^^^^^",
            id="a word of another language",
        ),
        pytest.param(
            "route[f] { if ($si =~ ^127) drop; }",
            "f.cfg:1:23: error: '=~' needs a pattern: a string in quotes, or a variable\n"
            "route[f] { if ($si =~ ^127) drop; }\n"
            "                      ^",
            id="a pattern without quotes",
        ),
        pytest.param(
            "route[f] { $var(x) == 5; }",
            "f.cfg:1:20: error: this compares, and says nothing alone; '=' sets a variable\n"
            "route[f] { $var(x) == 5; }\n"
            "                   ^^",
            id="a comparison as a statement",
        ),
        pytest.param(
            "route[f] { break; }",
            "f.cfg:1:12: error: 'break' stands outside of every loop and switch\n"
            "route[f] { break; }\n"
            "           ^^^^^",
            id="break",
        ),
        pytest.param(
            "route[f] { if () drop; }",
            "f.cfg:1:16: error: a condition is expected between these brackets\n"
            "route[f] { if () drop; }\n"
            "               ^",
            id="no condition",
        ),
        pytest.param(
            "route[f] { switch ($sp) { default: drop; } }",
            "f.cfg:1:27: error: 'default' does not belong here; expected 'case'\n"
            "route[f] { switch ($sp) { default: drop; } }\n"
            "                          ^^^^^^^",
            id="a switch without a case",
        ),
        pytest.param(
            "route[f] { $si = 1; }",
            "f.cfg:1:12: error: $si cannot be set; to compare, write '=='\n"
            "route[f] { $si = 1; }\n"
            "           ^^^",
            id="a variable that cannot be written",
        ),
        pytest.param(
            "route[f] { $var(x) := NULL; }",
            "f.cfg:1:12: error: only an $avp(…) takes NULL with ':='\n"
            "route[f] { $var(x) := NULL; }\n"
            "           ^^^^^^^",
            id="a colon and NULL",
        ),
        pytest.param(
            'route[f] { xlog("costs 5$"); }',
            "f.cfg:1:17: error: a '$' begins a variable; write '$$' for the sign itself\n"
            'route[f] { xlog("costs 5$"); }\n'
            "                ^^^^^^^^^^",
            id="a dollar in a log",
        ),
        pytest.param(
            "route[f] { setflag(5); }",
            "f.cfg:1:20: error: argument 1 of setflag() is a fixed text\n"
            "route[f] { setflag(5); }\n"
            "                   ^",
            id="an argument of another kind",
        ),
        pytest.param(
            "route[f] { is_myself(); }",
            "f.cfg:1:12: error: is_myself() takes 1 to 2 arguments, not 0\n"
            "route[f] { is_myself(); }\n"
            "           ^^^^^^^^^",
            id="too few arguments",
        ),
    ],
)
def test_an_error_has_its_place_and_carets(script: str, message: str) -> None:
    assert str(refused(script)) == message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("if ($sp == 5 == 6) drop;", id="two comparisons"),
        pytest.param("if ($sp =~ 5) drop;", id="a number as a pattern"),
        pytest.param("if ($var() == 1) drop;", id="an empty name"),
        pytest.param("if ($var == 1) drop;", id="no name"),
        pytest.param("if ($si(x) == 1) drop;", id="a name too many"),
        pytest.param("if ($(si[0]) == 1) drop;", id="an index too many"),
        pytest.param("if ($(si{s.substr,1}) == 1) drop;", id="an argument too few"),
        pytest.param("if ($(si{s.substr,a,b}) == 1) drop;", id="no numbers"),
        pytest.param("if ($(si{re.subst,/a/b/}) == 1) drop;", id="a substitution"),
        pytest.param("if ($(ru{nameaddr.x.uri}) == 1) drop;", id="no index of an address"),
        pytest.param("if ($(si {s.len}) == 1) drop;", id="a blank before a transformation"),
        pytest.param("if ($(avp(x) [0]) == 1) drop;", id="a blank before an index"),
        pytest.param("if ($(si{ s.len}) == 1) drop;", id="a blank before a class"),
        pytest.param('import_file "x.cfg"', id="an import within a route"),
        pytest.param("if ($socket_in( ip) == 1) drop;", id="a blank in a field"),
        pytest.param("if ($socket_out(tag\t) == 1) drop;", id="a tab in a field"),
        pytest.param("if ($socket_in(forced) == 1) drop;", id="only the socket out is forced"),
        pytest.param("$socket_out(ip) = 1;", id="a field that is set"),
        pytest.param("if ($socket_in(af) == INET) drop;", id="a family without quotes"),
        pytest.param("append_branch();", id="a function of older versions"),
        pytest.param('send("sip:192.0.2.1");', id="a URI as a destination"),
        pytest.param('send("collector.example.com");', id="a name as a destination"),
        pytest.param('forward("192.0.2.1:99999");', id="no port in a destination"),
        pytest.param("get_timestamp($var(a), $var(b));", id="a variable that is no avp"),
        pytest.param("$(route(a)) = 1;", id="a route with a name"),
        pytest.param("assert();", id="an assert without a condition"),
        pytest.param('if ($si =~ "*") drop;', id="a star after nothing"),
        pytest.param('if ($si =~ "(a)\\1") drop;', id="a back-reference"),
        pytest.param("if ($si == 10.0.0.0/33) drop;", id="too long a prefix"),
        pytest.param("$var(x) = NULL + 1;", id="NULL in a sum"),
        pytest.param("$var(x) = -$sp;", id="a minus before a variable"),
        pytest.param('$(var(x){s.len}) = 1;', id="a transformed target"),
        pytest.param("$var(x) = $sp && 1;", id="a condition as a value"),
        pytest.param("if (5 + 3) drop;", id="a sum as a condition"),
        pytest.param("for ($sp in $(avp(x)[*])) drop;", id="for with another variable"),
        pytest.param('xlog("");', id="an empty log"),
        pytest.param('xlog("L_FOO", "x");', id="no level"),
        pytest.param("route();", id="a route without a name"),
        pytest.param("drop();;exit;else;", id="an else after all"),
        pytest.param("case 1: drop;", id="a case alone"),
        pytest.param("if ($si == 'a\"') drop; if ('", id="an open string"),
        pytest.param("$var(x = 1;", id="an open variable"),
        pytest.param("if ($json(a) == 1) drop;", id="a variable of a module"),
        pytest.param("return(1, );", id="a value left out"),
        pytest.param("(" * 150 + ")" * 150 + ";", id="too many brackets"),
        pytest.param("if (" + "!" * 150 + "$sp) drop;", id="too many nots"),
        pytest.param("if ($sp) " * 150 + "drop;", id="too many ifs within each other"),
    ],
)  # fmt: skip
def test_scripts_that_opensips_rejects_are_rejected(body: str) -> None:
    assert refused(f"route[f] {{ {body} }}").diagnostics[0].line == 1


@pytest.mark.parametrize(
    "script",
    ["route[f] { drop; };", "route[f] { drop; } }", "foo = 1\nroute[f] { drop; }", "drop;",
     "route[] { drop; }", "route[f, 1] { drop; }", "route", "route[f]", "route[f] {"],
)  # fmt: skip
def test_statements_outside_of_routes_are_checked(script: str) -> None:
    assert refused(script).diagnostics


def test_many_errors_are_found_in_one_run() -> None:
    error = refused(
        """\
route[f] {
    if ($foo == 1) drop;
    $si = 2;
    if ($sp = = 3) { drop; } else exit;
    nosuch();
    if ($sp === 4) drop
    exit;
}
route[g] { DROP; }
"""
    )
    found = [(it.line, it.problem) for it in error.diagnostics]
    assert found == [
        (4, "'=' does not belong here; expected a value"),
        (6, "there is no operator '==='"),
        (9, "keywords are lower case: write 'drop'"),
    ]


def test_errors_of_sense_are_found_together_once_the_syntax_is_right() -> None:
    error = refused("route[f] { if ($foo == 1) drop; $si = 2; nosuch(); route(nowhere); exit; }")
    assert [it.column for it in error.diagnostics] == [16, 33, 42, 58]


def test_the_error_says_all_of_it_and_keeps_each() -> None:
    error = refused("route[f] { nosuch(); $si = 2; }")
    assert str(error) == "\n".join(map(str, error.diagnostics))
    assert {it.severity for it in error.diagnostics} == {"error"}
    assert {it.filename for it in error.diagnostics} == {"f.cfg"}
