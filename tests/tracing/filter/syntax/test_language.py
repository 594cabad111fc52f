"""What the language means where the recorded scripts say nothing: OpenSIPS' own rules."""

from collections.abc import Callable
from typing import Any

import pytest

from sipws.tracing.filter import Script, Subject

Holds = Callable[..., bool]
Decide = Callable[..., str]


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param("$sp == 8000", id="an integer"),
        pytest.param('$sp == "8000"', id="an integer has a text"),
        pytest.param('$si == "192.0.2.5"', id="a text"),
        pytest.param('$socket_in(proto) == "WS"', id="case is ignored"),
        pytest.param('$socket_in(PORT) == 5060', id="fields in any case"),
        pytest.param("$var(a) == NULL", id="unset is NULL"),
        pytest.param("$var(a) != 0", id="NULL is not 0"),
        pytest.param('$var(a) != "text"', id="NULL is not a text"),
        pytest.param('$avp(a) != "text"', id="an avp that is NULL is not a text"),
        pytest.param('$avp(a) != "80"', id="NULL is not a text of digits"),
        pytest.param('$var(a) !~ "x"', id="NULL matches nothing"),
        pytest.param("$var(a) == $var(b)", id="NULL equals NULL"),
        pytest.param("$si != $var(a)", id="NULL equals nothing else"),
        pytest.param("$si == 192.0.2.0/255.255.255.0", id="a network with a mask"),
        pytest.param("$si == 192.0.2.99/24", id="the bits of the host do not matter"),
        pytest.param("$si == 0.0.0.0/0", id="a network of all addresses"),
        pytest.param("$si == 10.1.2.3/0", id="a network of all addresses, whatever its base"),
        pytest.param("$si == 10.1.2.3/0.0.0.0", id="the same with a mask"),
        pytest.param("$si != 2001:db8::/32", id="another family never matches"),
        pytest.param("true", id="true is 1"),
        pytest.param("!off", id="off is 0"),
        pytest.param("$sp == 017500", id="octal"),
        pytest.param("$sp == 0x1F40", id="hexadecimal"),
        pytest.param("[ 1 + 2 * 3 - 9 ] or $sp", id="ranks are equal"),
        pytest.param("![ 1 + 2 * 3 - 9 ]", id="plus before times"),
        pytest.param("![ 6 & 4 + 4 ] and [ 6 & 4 ]", id="bits come after sums"),
        pytest.param("[ ~ -1 + 1 ]", id="inversion comes first"),
        pytest.param("[ $var(zero) ] and !$var(zero)", id="in brackets a text suffices"),
        pytest.param("$(si{s.len}) == 9", id="a transformation"),
        pytest.param("$si =~ '^192\\.'", id="a raw string"),
        pytest.param('$si =~ "^(10|192)[.]0"', id="a pattern"),
        pytest.param('$time(%Y) == "2023"', id="the time"),
        pytest.param("$Ts == 1700000000 && $Tsm == 250000", id="the time in seconds"),
        pytest.param("$Tf == 1700000000", id="the time as a sentence is a number too"),
        pytest.param('$rm == "DUMMY" && $rU == "user"', id="a made-up request"),
        pytest.param('$(hdr(call-id)) == "dummy-1"', id="its headers"),
        pytest.param("$ua == NULL && $(ct[0]) == NULL", id="what it does not have"),
        pytest.param('$socket_in == "ws:10.0.0.1:5060"', id="the whole listener"),
        pytest.param("$socket_out == $socket_in", id="a socket out that is not forced"),
        pytest.param("$socket_out(forced) == NULL", id="nothing is forced"),
        pytest.param("is_myself($socket_in(ip), $socket_in(port))", id="we are ourselves"),
        pytest.param('!is_myself("$si")', id="and nobody else"),
        pytest.param("$var(zero) = 0", id="an assignment holds whatever its value"),
        pytest.param("{ $var(a) = 1; }", id="a block as a condition"),
        pytest.param("!{}", id="an empty block holds not"),
        pytest.param('$si < "192.0.2.6" && $si >= "192.0.2.5"', id="texts have an order"),
        pytest.param("$retcode == 1", id="what the last statement returned"),
        pytest.param('$route == "route[f]" && $route.name == "f"', id="the route"),
        pytest.param('$route.type == "route" && $(route.name[1]) == NULL', id="its type"),
        pytest.param('$(route[*]) == "route[f]" && $(route.name[-1]) == "f"', id="its callers"),
        pytest.param('$msg.is_request == 1 && $msg.is_request == "true"', id="a request"),
        pytest.param('$msg.type == "request" && !$msg.flag(X)', id="a request without flags"),
        pytest.param('$cfg_line == 1 && $cfg_file == "<script>"', id="the place"),
        pytest.param('$(hdrcnt(Via)) == 1 && $hdrcnt(x) == 0', id="headers are counted"),
        pytest.param('$$ == "$" && $pp > 0 && $TS <= $TS', id="what is rarely asked"),
        pytest.param("$argv(x) == NULL && $ct.fields(uri) == NULL", id="what is never there"),
        pytest.param("$socket_in(anycast) == 0", id="no anycast"),
    ],
)  # fmt: skip
def test_conditions_that_hold(holds: Holds, condition: str) -> None:
    assert holds(condition, before="$var(zero) = 0;")


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param("$si == 5", id="a text and a number: an error"),
        pytest.param("$si != 5", id="is false for every operator"),
        pytest.param("!($si == 5)", id="and stays one behind a not"),
        pytest.param("$si == 5 || $sp == 8000", id="and ends an or"),
        pytest.param("$socket_in(tag) == 10.0.0.0/8 || $sp", id="no address is an error too"),
        pytest.param("$si =~ $var(bad) || $sp", id="so is a bad pattern of a variable"),
        pytest.param("0x0 || no", id="zeros"),
        pytest.param("$(si{s.substr,50,1}) != NULL", id="what could not be transformed"),
        pytest.param('$si == "::1"', id="IPv6 is written in full"),
        pytest.param("[ $var(none) ]", id="NULL in brackets"),
        pytest.param('[ "" ]', id="an empty text"),
        pytest.param('$sp == "8000 "', id="a text is compared whole"),
        pytest.param("$var(none)", id="NULL"),
    ],
)
def test_conditions_that_do_not_hold(holds: Holds, condition: str) -> None:
    assert not holds(condition, before='$var(bad) = "("; ', tag="edge")


@pytest.mark.parametrize(
    ("before", "condition"),
    [
        pytest.param("$var(x) = 2147483647 + 1;", "$var(x) == -2147483648", id="32 bits"),
        pytest.param("$var(x) = -7 / 2;", "$var(x) == -3", id="towards zero"),
        pytest.param("$var(x) = -7 % 2;", "$var(x) == -1", id="the sign of the dividend"),
        pytest.param("$var(x) = 5 / 0;", "$var(x) == 0", id="divided by 0"),
        pytest.param("$var(x) = 1 << 33;", "$var(x) == 2", id="five bits of a shift"),
        pytest.param("$var(x) = ($sp == 8000) + 1;", "$var(x) == 2", id="a comparison is a number"),
        pytest.param('$var(x) = "a" + $sp;', '$var(x) == "a8000"', id="a variable has a text"),
        pytest.param('$var(x) = 1; $var(x) = "a" + 1;', "$var(x) == 1", id="a literal has none"),
        pytest.param('$var(x) = $var(no) + "b";', '$var(x) == "b"', id="NULL is not a text"),
        pytest.param("$var(x) = 3 + $var(no);", "$var(x) == 3", id="NULL is not a number"),
        pytest.param('$var(x) = 3; $var(x) = 3 + "b";', "$var(x) == 3", id="no sum"),
        pytest.param('$var(x) = "ab" | "  ";', '$var(x) == "ab"', id="bits of texts"),
        pytest.param('$var(x) = "a"; $var(x) += "b";', '$var(x) == "ab"', id="adding a text"),
        pytest.param('$var(x) = "a"; $var(x) += 1;', '$var(x) == "a"', id="adding what is none"),
        pytest.param("$var(x) = 6; $var(x) -= 2; $var(x) *= 5;", "$var(x) == 20", id="changes"),
        pytest.param("$var(x) = 20; $var(x) /= 3; $var(x) %= 4;", "$var(x) == 2", id="divisions"),
        pytest.param("$var(x) = 5; $var(x) /= 0;", "$var(x) == 5", id="a change by 0 is not done"),
        pytest.param("$var(x) = 12; $var(x) &= 10; $var(x) |= 1;", "$var(x) == 9", id="bits"),
        pytest.param("$var(x) = 5; $var(x) ^= 1; $var(x) := $var(x);", "$var(x) == 4", id="colon"),
        pytest.param("$var(x) += 1;", "$var(x) == NULL", id="NULL cannot be changed"),
        pytest.param(
            "$var(x) = 1; $var(x) = $si == 5;", "$var(x) == 1", id="an error is not a value"
        ),
        pytest.param("$var(x) = 1; $var(x) = NULL;", "$var(x) == NULL", id="back to NULL"),
        pytest.param("$var(x) = ~ 5;", "$var(x) == -6", id="inversion"),
        pytest.param("$var(x) = 4294967296 + 1;", "$var(x) == 1", id="a literal is cut"),
        pytest.param("$var(x) = $(si{s.int});", "$var(x) == 192", id="a leading number"),
        pytest.param('$ru = "sip:x";', '$ru == "sip:x"', id="the made-up request can be written"),
        pytest.param('setflag("A");', 'isflagset("A") && !isflagset("B")', id="flags"),
        pytest.param('pv_printf($var(x), "<$si:$sp>");', '$var(x) == "<192.0.2.5:8000>"', id="pr"),
        pytest.param("get_timestamp($avp(s), $avp(u));", "$avp(s) == 1700000000", id="a timestamp"),
    ],
)
def test_assignments(holds: Holds, before: str, condition: str) -> None:
    assert holds(condition, before=before)


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param("$avp(a) == 3", id="the last value is first"),
        pytest.param("$(avp(a)[1]) == 2", id="an index"),
        pytest.param("$(avp(a)[-1]) == 1", id="from the end"),
        pytest.param("$(avp(a)[9]) == NULL", id="beyond the end"),
        pytest.param('$(avp(a)[*]) == "3, 2, 1"', id="all"),
        pytest.param("$(avp(a)[$var(i)]) == 2", id="an index that is a variable"),
        pytest.param("$avp($var(name)) == 3", id="a name that is a variable"),
        pytest.param("$avp(b) == NULL", id="another name"),
    ],
)
def test_avps_are_stacks(holds: Holds, condition: str) -> None:
    before = '$avp(a) = 1; $avp(a) = 2; $avp(a) = 3; $var(i) = 1; $var(name) = "a";'
    assert holds(condition, before=before)


@pytest.mark.parametrize(
    ("before", "values"),
    [
        pytest.param("$avp(a) := 9;", "9", id="colon: this alone"),
        pytest.param("$(avp(a)[1]) = 9;", "3, 9, 1", id="in the place of another"),
        pytest.param("$(avp(a)[append]) = 9;", "3, 2, 1, 9", id="at the end"),
        pytest.param("$avp(a) = NULL;", "2, 1", id="without the first"),
        pytest.param("$(avp(a)[1]) = NULL;", "3, 1", id="without another"),
        pytest.param("$(avp(a)[9]) = 1;", "3, 2, 1", id="no such place"),
        pytest.param("$(avp(a)[*]) = 9;", "9", id="in the place of all"),
    ],
)
def test_avps_are_changed(holds: Holds, before: str, values: str) -> None:
    assert holds(f'$(avp(a)[*]) == "{values}"', f"$avp(a) = 1; $avp(a) = 2; $avp(a) = 3; {before}")


@pytest.mark.parametrize(
    ("body", "rest", "decision"),
    [
        pytest.param("route(a); drop;", "route[a] { return(0); }", "traced", id="0 ends it all"),
        pytest.param("if (route(a)) exit; drop;", "route[a] { return; }", "traced", id="bare is 1"),
        pytest.param("route(a); exit;", "route[a] { drop; }", "dropped", id="drop within"),
        pytest.param("if (!route(a)) drop;", "route[a] { return -3; }", "dropped", id="negative"),
        pytest.param(
            "route(a, 8000, $si, NULL); if ($rc == 7) drop;",
            'route[a] { if ($param(1) == $sp && $param(2) == "192.0.2.5" && $param(3) == NULL'
            " && $param(4) == NULL) return(7); }",
            "dropped",
            id="arguments",
        ),
        pytest.param(
            "$var(x) = 1; route(a, $var(x)); if ($rc == 1) drop;",
            "route[a] { $var(x) = 2; route(b, $param(1)); return($rc); }"
            " route[b] { return($param(1)); }",
            "dropped",
            id="arguments are evaluated at the call",
        ),
        pytest.param(
            "route(a, 2);",
            'route[a] { route(b, "x", "y"); } route[b] { if ($param($param(1)) == "y") drop; }',
            "dropped",
            id="an index that is an argument is one of the caller",
        ),
        pytest.param(
            'route(a); if ($rc == 1 && $return(0) == "one" && $return(1) == 2) drop;',
            'route[a] { return(, "one", 2); }',
            "dropped",
            id="values without a code",
        ),
        pytest.param("route(a, 1);", "route[a] { if ($param(x) == NULL) drop; }", "dropped",
                     id="an argument has no name"),
        pytest.param("$avp(l) = 1; for ($var(x) in $avp(l)) drop; if ($rc == -10) drop;", "",
                     "dropped", id="a for over one value does not run"),
        pytest.param("assert($sp == 1); drop;", "", "dropped", id="an assert without a text"),
        pytest.param(
            "route(a);",
            "route[a] { route(b); }"
            ' route[b] { if ($(route[*]) == "route[f] > route[a] > route[b]"'
            ' && $(route[1]) == "route[a]" && $(route.name[2]) == "f" && $(route.name[3]) == NULL'
            ' && $(route.name[-1]) == "f" && $(route.type[1]) == "route") drop; }',
            "dropped",
            id="the calling routes",
        ),
        pytest.param(
            'route(a); if ($return(0) == "x" && $return(1) == 5 && $return(2) == NULL) drop;',
            'route[a] { return(1, "x", 5); }',
            "dropped",
            id="values that are returned",
        ),
        pytest.param('$var(r) = "a"; route($var(r));', "route[a] { drop; }", "dropped", id="name"),
        pytest.param('route("$socket_in(proto)");', "route[ws] { drop; }", "dropped", id="format"),
        pytest.param('$var(r) = "no"; route($var(r)); drop;', "", "dropped", id="an unknown name"),
        pytest.param("route(1);", 'route["1"] { drop; }', "dropped", id="a number is a name"),
        pytest.param("route(0);", "route { drop; }", "dropped", id="the route without a name"),
        pytest.param("$var(x) = route(a); if ($var(x) == -4) drop;", "route[a] { return(-4); }",
                     "dropped", id="a route in a calculation"),
        pytest.param("$var(x) = route(a); exit;", "route[a] { drop; }", "dropped", id="that drops"),
        pytest.param("if (drop) exit;", "", "dropped", id="a drop as a condition"),
        pytest.param("if ({ return(1); }) drop;", "", "traced", id="a return as a condition ends"),
        pytest.param("route(a); if ($rc == -1) drop;",
                     'route[a] { if ($sp) { $var(x) = "a" + 1; } }',
                     "dropped", id="a route returns what its last statement did"),
        pytest.param("route(a); if ($sp == 1) exit; if ($rc == 0) drop;",
                     "route[a] { return(2); }", "dropped", id="an if leaves its condition"),
        pytest.param("$var(i) = 0; while ($var(i) < 9) { $var(i) += 1; if ($var(i) == 3) break; }"
                     " if ($var(i) == 3) drop;", "", "dropped", id="break"),
        pytest.param("while ($sp) { drop; }", "", "dropped", id="drop in a loop"),
        pytest.param("while ($sp) {} drop;", "", "dropped", id="an empty loop"),
        pytest.param("$avp(l) = 8000; $avp(l) = 1; for ($var(x) in $(avp(l)[*]))"
                     " if ($sp == $var(x)) drop;", "", "dropped", id="for"),
        pytest.param("for ($var(x) in $(avp(none)[*])) drop;", "", "traced", id="for nothing"),
        pytest.param('switch ($si) { case "192.0.2.5": drop; }', "", "dropped", id="a text case"),
        pytest.param('switch ($sp) { case "8000": drop; }', "", "dropped", id="a number's text"),
        pytest.param("switch ($si) { case 192: drop; }", "", "traced", id="no number"),
        pytest.param("switch ($sp) { case 8000: $var(x) = 1; default: drop; }", "", "dropped",
                     id="through to the default"),
        pytest.param("switch ($sp) { case 8000: break; default: drop; }", "", "traced",
                     id="not through a break"),
        pytest.param("if ($sp == 1) drop; else if ($sp == 2) drop; else if ($sp) exit; drop;", "",
                     "traced", id="else if"),
        pytest.param("if ($sp) if ($sp == 1) exit; else drop;", "", "dropped", id="dangling else"),
        pytest.param('assert($sp == 1, "no"); log(1, "x"); xdbg("$si"); error("a", "b"); drop;',
                     "", "dropped", id="what says something only"),
        pytest.param('xlog("L_INFO", "a" "b"); drop;', "", "dropped", id="folded strings"),
        pytest.param("drop /* a /* nested */ comment */ ;", "", "dropped", id="nested comments"),
        pytest.param("@ drop;", "", "dropped", id="a sign that begins nothing is passed over"),
    ],
)  # fmt: skip
def test_the_flow(decide: Decide, body: str, rest: str, decision: str) -> None:
    assert decide(body, rest) == decision


def test_a_chain_of_more_than_a_hundred_conditions_is_an_error(holds: Holds) -> None:
    wrong = " || ".join(["$sp == 1"] * 99)
    assert holds(f"{wrong} || $sp == 8000")
    assert not holds(f"{wrong} || $sp == 1 || $sp == 8000")


def test_every_decision_starts_afresh() -> None:
    decide = Script.parse("route[f] { if ($var(x) == 1) drop; $var(x) = 1; }").decider("f")
    connection = Subject("192.0.2.5", 8000, "10.0.0.1", 80)
    assert [decide(connection), decide(connection)] == [True, True]


def test_ipv6_is_text_in_full_and_an_address_in_any_form(holds: Holds) -> None:
    six: dict[str, Any] = {"si": "2001:db8::5", "socket_ip": "::1"}
    assert holds("$si == 2001:db8::/32", **six)
    assert holds("$si == [2001:DB8::5]", **six)
    assert holds('$si == "2001:db8:0:0:0:0:0:5"', **six)
    assert holds('$socket_in(ip) == "[0:0:0:0:0:0:0:1]"', **six)
    assert holds("$socket_in(ip) == ::1", **six)
    assert holds('$socket_in(af) == "INET6"', **six)
    assert not holds("$si == 10.0.0.0/8", **six)
    assert holds("$si == ::/0", **six)
    assert not holds("$si == 0.0.0.0/0", **six)


def test_a_listener_is_identified_by_tag_and_advertised_address(holds: Holds) -> None:
    edge: dict[str, Any] = {
        "tag": "edge", "advertised_ip": "203.0.113.1", "advertised_port": 443
    }  # fmt: skip
    assert holds('$socket_in(tag) == "EDGE"', **edge)
    assert holds("$socket_in(advertised_ip) == 203.0.113.0/24", **edge)
    assert holds("$socket_in(advertised_port) == 443", **edge)
    assert holds("$socket_in(tag) == NULL && $socket_in(advertised_port) == NULL")


def test_a_route_that_does_not_exist_traces_everything() -> None:
    script = Script.parse("route[other] { drop; }", filename="f.cfg")
    assert script.routes == ("other",)
    assert script.decider("ws_filter")(Subject("192.0.2.5", 8000, "10.0.0.1", 80)) is True
    missing = script.missing("othre")
    assert missing is not None
    assert str(missing).splitlines()[0] == (
        "f.cfg:1:1: warning: there is no route 'othre': every connection is traced;"
        " do you mean 'other'?"
    )
    assert script.missing("other") is None
