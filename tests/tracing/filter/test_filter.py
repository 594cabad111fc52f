"""Filter routes, held against what OpenSIPS decided."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import FilterRouteError
from sipws.tracing.filter import Script, Subject

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "filter_routes.json"
SCRIPTS: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text())["scripts"]

EDGE = ("127.0.0.10", 15060)
"""The listener that OpenSIPS had as ``ws:127.0.0.10:15060 tag edge``."""

LISTENERS = (("127.0.0.1", 18081), EDGE, ("::1", 18082))
"""All listeners that OpenSIPS had: ``is_myself`` knows them."""

DOCUMENTED = """\
route[ws_filter] {
    /* all connections opened from/by ip 1.1.1.1:8000 will be traced
       on interface 1.1.1.10:5060(opensips listener)
       all the other connections won't be */
     if ( $si == "1.1.1.1" && $sp == 8000 &&
        $socket_in(ip) == "1.1.1.10"  && $socket_in(port) == 5060)
        exit;
    else
        drop;
}
"""


def subject(**values: Any) -> Subject:
    listener = {"socket_ip": "1.1.1.10", "socket_port": 5060}
    return Subject(**({"si": "1.1.1.1", "sp": 8000} | listener | values))


def decide(condition: str, **values: Any) -> bool:
    """Whether a connection is dropped where a condition holds."""
    script = Script.parse(f"route[f] {{ if ({condition}) drop; }}")
    return not script.decider("f")(subject(**values))


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_opensips_decisions_are_ours(name: str) -> None:
    case = SCRIPTS[name]
    if not case["accepted"]:
        with pytest.raises(FilterRouteError):
            Script.parse(case["script"])
        return
    decider = Script.parse(case["script"]).decider("ws_filter", LISTENERS)
    for decision in case["decisions"]:
        socket = decision["socket_in"]
        connection = Subject(
            si=decision["si"],
            sp=decision["sp"],
            socket_ip=socket["ip"],
            socket_port=socket["port"],
            proto=socket["proto"],
            tag="edge" if (socket["ip"], socket["port"]) == EDGE else None,
        )
        assert decider(connection) is (decision["decision"] == "traced"), decision


def test_all_recorded_scripts_are_tried() -> None:
    assert len(SCRIPTS) == 150


@pytest.mark.parametrize(
    ("values", "traced"),
    [
        ({}, True),
        ({"si": "1.1.1.2"}, False),
        ({"sp": 8001}, False),
        ({"socket_ip": "1.1.1.11"}, False),
        ({"socket_port": 5061}, False),
    ],
)
def test_the_documented_example_traces_its_one_connection(
    values: dict[str, Any], traced: bool
) -> None:
    assert Script.parse(DOCUMENTED).decider("ws_filter")(subject(**values)) is traced


def test_a_bare_drop_traces_nothing() -> None:
    assert Script.parse("route[ws_filter] { drop; }").decider("ws_filter")(subject()) is False


def test_a_route_that_does_not_exist_traces_everything() -> None:
    script = Script.parse("route[other] { drop; }")
    assert script.routes == ("other",)
    assert script.decider("ws_filter")(subject()) is True


def test_and_and_or_are_equal_and_go_left_to_right() -> None:
    assert not decide("$sp == 8000 || $sp == 8000 && $sp == 1")
    assert decide("$sp == 1 && $sp == 1 || $sp == 8000")


def test_not_covers_the_whole_comparison() -> None:
    assert decide('!$si == "9.9.9.9"')
    assert decide('not ($si == "9.9.9.9" or $sp == 1)')


def test_ipv6_is_text_in_full_and_an_address_in_any_form() -> None:
    six = {"si": "2001:db8::5", "socket_ip": "::1"}
    assert decide("$si == 2001:db8::/32", **six)
    assert decide("$si == [2001:DB8::5]", **six)
    assert decide('$si == "2001:db8:0:0:0:0:0:5"', **six)
    assert decide('$socket_in(ip) == "[0:0:0:0:0:0:0:1]"', **six)
    assert not decide('$si == "2001:db8::5"', **six)
    assert not decide("$si == 10.0.0.0/8", **six)


def test_the_listener_can_be_told_by_its_tag_and_its_advertised_address() -> None:
    edge = {"tag": "edge", "advertised_ip": "203.0.113.1", "advertised_port": 443}
    assert decide('$socket_in(tag) == "EDGE"', **edge)
    assert decide("$socket_in(advertised_ip) == 203.0.113.0/24", **edge)
    assert decide("$socket_in(advertised_port) == 443", **edge)
    assert decide("$socket_in(tag) == NULL")


MISTAKES = {
    "a misspelt variable": """\
f.cfg:2:9: error: unknown variable $sii; do you mean $si?
    if ($sii == "1.1.1.1") drop;
        ^^^^""",
    "a misspelt field": """\
f.cfg:2:9: error: $socket_in has no field 'prt'; do you mean 'port'?
    if ($socket_in(prt) == 1) drop;
        ^^^^^^^^^^^^^^^""",
    "a missing semicolon": """\
f.cfg:2:8: error: expected ';' after this
    drop
       ^""",
    "a bad pattern": """\
f.cfg:2:16: error: the pattern '1(' is not valid: '(' is never closed
    if ($si =~ "1(") drop;
               ^^^^""",
    "a bad address": """\
f.cfg:2:16: error: '300.1.1.1' is no address or network
    if ($si == 300.1.1.1) drop;
               ^^^^^^^^^""",
    "a function of SIP messages": """\
f.cfg:2:5: error: 't_relay' needs a SIP message; a filter route has none
    t_relay();
    ^^^^^^^""",
}
"""Messages with their carets; the second line is the script's."""


@pytest.mark.parametrize("message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place_and_a_caret(message: str) -> None:
    script = f"route[f] {{\n{message.splitlines()[1]}\n}}\n"
    with pytest.raises(FilterRouteError) as refused:
        Script.parse(script, filename="f.cfg")
    assert str(refused.value) == message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(FilterRouteError) as refused:
        Script.parse("route[f] { t_relay(); $si = 3; }\nroute[g] { if () drop; }")
    places = [(each.line, each.column) for each in refused.value.diagnostics]
    assert places == [(1, 12), (1, 23), (2, 16)]


WORDS = st.sampled_from(
    [
        *("route", "[", "f", "]", "{", "}", "if", "(", ")", "else", "drop", "exit", ";"),
        *("$si", "$sp", "$socket_in", "==", "!=", "=~", "&&", "or", "!", "$"),
        *('"1.1.1.1"', "8000", "10.0.0.0/8", "::1", "0x1F", "-1", "NULL"),
        *("#", "\n", "/*", "*/", "\\", "'", "\0"),
    ]
)


@given(st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=100))
def test_no_text_makes_the_parser_raise_anything_else(text: str) -> None:
    try:
        script = Script.parse(text)
    except FilterRouteError:
        return
    for route in script.routes:
        assert script.decider(route)(subject()) in (True, False)
