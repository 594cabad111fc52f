"""What OpenSIPS accepts in silence, and `sipws filter check` points out."""

import pytest

from sipws.tracing.filter import Script


@pytest.mark.parametrize(
    ("body", "column", "problem"),
    [
        pytest.param(
            "if ($sp == 1 || $sp == 2 && $sp == 3) drop;", 25,
            "'&&' and '||' have equal rank: this is read as ($sp == 1 || $sp == 2) && $sp == 3;"
            " add brackets", id="and with or",
        ),
        pytest.param("if ($si == 5) drop;", 23, "$si is a text: against a number it never holds;"
                     " quote the number", id="a text against a number"),
        pytest.param('if ($si == "::1") drop;', 23, "this never holds: $si is '0:0:0:0:0:0:0:1'"
                     " then; write ::1 unquoted", id="IPv6 in quotes"),
        pytest.param('if ($si == "10.0.0.0/8") drop;', 23, "this never holds: a network stands"
                     " without quotes: 10.0.0.0/8", id="a network in quotes"),
        pytest.param('if ($si != "10.0.0") drop;', 23, "this always holds:"
                     " '10.0.0' is not an address", id="no address"),
        pytest.param('if ($socket_in(proto) == "tls") drop;', 37, "this never holds:"
                     " $socket_in(proto) is 'ws' or 'wss'", id="another protocol"),
        pytest.param("if ($sp == 70000) drop;", 23, "this never holds: a port is a number from 0"
                     " to 65535", id="no port"),
        pytest.param('if ($sp == "http") drop;', 23, "this never holds: 'http' is not a port",
                     id="a port's name"),
        pytest.param("if ($si == NULL) drop;", 23, "$si is never NULL", id="never NULL"),
        pytest.param("drop; exit;", 18, "this is never reached: the statement before it ends the"
                     " route", id="after drop"),
        pytest.param("if ($sp) { drop; } else exit; $var(x) = $sp;", 42,
                     "this is never reached: the statement before it ends the route",
                     id="after an if that always ends"),
        pytest.param('if ($si =~ "10.0.0.1") drop;', 23, "a dot in a pattern is any character;"
                     " write '\\.' for a dot", id="bare dots"),
        pytest.param('if ($si =~ "^\\d+$") drop;', 23, "'\\d' matches nothing here; write [0-9]",
                     id="a class of other languages"),
        pytest.param("if ($sp == 1) {}", 12, "this 'if' has no effect: nothing depends on it",
                     id="an if without effect"),
        pytest.param("if (1) drop;", 16, "this 'if' always holds", id="a constant"),
        pytest.param("if ($var(x) = 1) drop;", 16, "this sets $var(x) and holds whatever the"
                     " value; '==' compares", id="an assignment as a condition"),
        pytest.param('$var(k) = "$si:$sp";', 22, "a variable in a string is not filled in here;"
                     " join the parts with '+'", id="a variable in a string"),
        pytest.param('$var(k) = "a" + 1;', 28, "a number is joined to no text, and nothing is"
                     " done; quote it", id="a text and a number"),
        pytest.param("if ($var(x)) drop;", 16, "$var(x) is set nowhere: it is always NULL",
                     id="never set"),
        pytest.param("while (1) $var(x) = 1;", 12, "this loop never ends: it is left after 10,000"
                     " rounds", id="an endless loop"),
        pytest.param("force_rport();", 12, "force_rport() has no effect: a filter route"
                     " has no SIP message", id="no effect"),
        pytest.param("@ drop;", 12, "OpenSIPS passes over '@' here", id="passed over"),
        pytest.param('switch ($sp]x) { case 1: drop; }', 20, "']x' is run into the variable, and"
                     " lost; put a blank before it", id="run into a variable"),
    ],
)  # fmt: skip
def test_a_probable_mistake_is_a_warning(body: str, column: int, problem: str) -> None:
    (warning,) = Script.parse(f"route[f] {{ {body} }}", filename="f.cfg").warnings
    assert (warning.severity, warning.line) == ("warning", 1)
    assert (warning.column, warning.problem) == (column, problem)


@pytest.mark.parametrize(
    "body",
    [
        'if ($si == "192.0.2.5" && $sp == 8000 && $socket_in(port) == 5060) exit; else drop;',
        'if (($sp == 1 || $sp == 2) && $si =~ "^10\\.0\\.0\\.[1-9]$") drop;',
        "if ($si == ::1 || $si == 10.0.0.0/8) drop;",
        '$var(x) = $si + ":" + $sp; if ($var(x) =~ "a.b|c.*") drop;',
        "while ($sp) { $var(i) += 1; if ($var(i) > 3) break; }",
        "switch ($sp) { case 1: exit; default: drop; }",
    ],
)
def test_a_valid_script_has_no_warnings(body: str) -> None:
    assert Script.parse(f"route[f] {{ {body} }}").warnings == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("$ua", "NULL"),
        ("$ci", '"dummy-1"'),
        ("$rm", '"DUMMY"'),
        ("$fu", '"sip:from@dummy.com"'),
        ("$tU", '"to"'),
        ("$cs", '"1"'),
        ("$ct", "NULL"),
        ("$rU", '"user"'),
        ("$du", "NULL"),
        ("$ml", None),
        ("$mb", "of a made-up message"),
        ("$hdr(User-Agent)", "NULL"),
        ("$hdr(Call-ID)", '"dummy-1"'),
        ("$(hdr(Via)[0])", '"SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKdummy"'),
        ("$hdrcnt(Via)", "1"),
        ("$ct.fields(uri)", "NULL"),
        ("$msg.type", '"request"'),
    ],
)
def test_a_variable_of_a_message_is_useless(variable: str, value: str | None) -> None:
    for test in (f"{variable} == $si", f"$si == {variable}", variable):
        (warning,) = Script.parse(f"route[f] {{ if ({test}) drop; }}").warnings
        shown = f"{variable} is {value} for each connection" if value else f"{variable} is "
        assert warning.problem.startswith(f"no SIP message here: {shown}")
        assert warning.problem.endswith("test $si, $sp or $socket_in(…)")


def test_a_transformed_variable_of_a_message_is_useless() -> None:
    (warning,) = Script.parse('route[f] { if ($(ru{uri.host}) == "x") drop; }').warnings
    assert "$ru is" in warning.problem


@pytest.mark.parametrize(
    "body",
    [
        '$ru = "sip:" + $si; if ($rd == "192.0.2.5") drop;',
        '$rU = $si; if ($rU == "x") drop;',
        '$du = "sip:x"; if ($dd == "x") drop;',
        'setflag("A"); if ($msg.flag(A)) drop;',
        'if ($socket_out(tag) == "edge") drop;',
    ],
)
def test_a_variable_that_the_script_changes_is_of_use(body: str) -> None:
    assert Script.parse(f"route[f] {{ {body} }}").warnings == ()


def test_a_prefix_is_no_reason_to_warn_of_the_uri() -> None:
    (warning,) = Script.parse('route[f] { prefix("1"); if ($rU == "1user") drop; }').warnings
    assert warning.problem.startswith("prefix() has no effect")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("$avp(l) = 1; for ($var(x) in $avp(l)) drop;",
         "this loop never runs; to go through all values, write $(avp(l)[*])"),
        ("$var(l) = 1; for ($var(x) in $var(l)) drop;",
         "this loop never runs: only an $avp(…) has several values"),
        ("if ($param(x) == NULL) drop;",
         "$param(x) is always NULL: arguments are numbered from 1"),
        ('if ($si == "192.0.\\\n2.5") drop;',
         "OpenSIPS puts a mark of its own where a backslash ends a line of a string: the parts are"
         " not joined; write the string in one line"),
    ],
    ids=["a loop over one value", "a loop over a var", "a named argument", "a continued string"],
)  # fmt: skip
def test_what_is_new_and_probably_a_mistake(body: str, problem: str) -> None:
    assert problem in [it.problem for it in Script.parse(f"route[f] {{ {body} }}").warnings]
