"""A whole opensips.cfg: its filter routes are found among all that it holds."""

from pathlib import Path

import pytest

from sipws.errors import ConfigurationError
from sipws.tracing.filter import FilterRouteError, Script, Subject

CFG = """\
#!define WITH_WS
auto_scaling_profile = PROFILE_SIP
     scale up to 6 on 70% for 4 cycles within 5
     scale down to 2 on 20% for 5 cycles
dst_blacklist = gw:{( tcp , 192.168.2.0/255.255.255.0 , 5060 , "" ),
                    ( any , 192.168.2.20 , 0 , "" )}
parameter_of_tomorrow=5
####### Global Parameters #########
debug_mode=no
log_level=3
xlog_level=3
stderror_enabled=no
udp_workers=4
socket=udp:10.0.0.1:5060 as 192.0.2.1:5060
socket=ws:10.0.0.1:8080 tag edge   # browsers
socket=wss:*:8443

/* loadmodule "old.so" */
mpath="/usr/lib/opensips/modules/"
loadmodule "proto_ws.so"
loadmodule "tm.so"
modparam("tm", "fr_timeout", 5)
modparam("proto_hep", "hep_id",
         "[hep]10.0.0.2:9060;transport=udp;version=3")
modparam("proto_ws", "trace_destination", "hep")
modparam("proto_ws", "trace_filter_route", "ws_filter")

route {
    if (!mf_process_maxfwd_header(10)) { send_reply(483, "Too Many Hops"); exit; }
    t_relay();
    $(broken
    )
}

route[relay] {
    for ($var(x) in $(contact.count)) { xlog("never parsed
    \\n"); }
    if (is_method("INVITE")) t_on_failure("missed_call");
}

failure_route[missed_call] { t_reply(404, "gone"); }
timer_route[gw, 30] { $var(n) = 1; }
event_route[E_TEST] { xlog("x"); }

route[ws_filter] {
    route(office);
    drop;
}
route[office] { if ($si == 192.0.2.0/24) exit; }
"""

OFFICE = Subject("192.0.2.5", 8000, "10.0.0.1", 8080)
OTHER = Subject("198.51.100.5", 8000, "10.0.0.1", 8080)


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "opensips.cfg"
    path.write_text(CFG)
    return path


def test_filter_routes_are_found_and_other_statements_ignored(cfg: Path) -> None:
    script = Script.load(cfg)
    assert script.is_cfg
    assert script.filters == ("ws_filter",)
    assert script.routes == ("0", "relay", "ws_filter", "office")
    decide = script.decider("ws_filter")
    assert [decide(OFFICE), decide(OTHER)] == [True, False]
    assert script.passed_over == (
        "1 auto_scaling_profile =",
        "1 debug_mode =",
        "1 dst_blacklist =",
        "1 event_route",
        "1 failure_route",
        "2 loadmodule",
        "1 log_level =",
        "4 modparam",
        "1 mpath =",
        "3 socket =",
        "1 stderror_enabled =",
        "1 timer_route",
        "1 udp_workers =",
        "1 xlog_level =",
        "2 other routes",
        "4 unknown lines",
    )


def test_a_route_that_is_no_filter_route_is_refused_when_it_is_asked_for(cfg: Path) -> None:
    script = Script.load(cfg)
    with pytest.raises(FilterRouteError, match="'is_method' needs a SIP message"):
        script.decider("relay")
    assert script.decider("ws_filter")(OFFICE)


def test_an_error_in_the_filter_route_is_one_of_the_file(cfg: Path) -> None:
    cfg.write_text(CFG.replace("192.0.2.0/24", "192.0.2.0/99"))
    with pytest.raises(FilterRouteError, match=r"opensips\.cfg:\d+:28: error: '192.0.2.0/99'"):
        Script.load(cfg)


def test_files_are_included_from_beside_the_file(cfg: Path) -> None:
    (cfg.parent / "parts").mkdir()
    (cfg.parent / "parts" / "office.cfg").write_text(
        'route[office] {\n    include_file "test.cfg"\n}\n'
    )
    (cfg.parent / "parts" / "test.cfg").write_text("if ($sii == 192.0.2.0/24) exit;\n")
    body, _, _ = CFG.partition("route[office]")
    cfg.write_text(f'{body}include_file "parts/office.cfg"\n')
    with pytest.raises(FilterRouteError) as refused:
        Script.load(cfg)
    (only,) = refused.value.diagnostics
    assert (only.filename, only.line) == (str(cfg.parent / "parts" / "test.cfg"), 1)
    (cfg.parent / "parts" / "test.cfg").write_text("if ($si == 192.0.2.0/24) exit;\n")
    decide = Script.load(cfg).decider("ws_filter")
    assert [decide(OFFICE), decide(OTHER)] == [True, False]


def test_files_that_cannot_be_included_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "f.cfg"
    path.write_text('include_file "f.cfg"\nroute[f] { drop; }\n')
    with pytest.raises(FilterRouteError, match="included more than 10 deep"):
        Script.load(path)
    path.write_text('include_file "none.cfg"\nroute[f] { drop; }\n')
    with pytest.raises(FilterRouteError, match=r"'none\.cfg' cannot be read"):
        Script.load(path)
    path.write_text('import_file "none.cfg"\nroute[f] { drop; }\n')
    with pytest.raises(FilterRouteError, match=r"'none\.cfg' cannot be read"):
        Script.load(path)
    path.write_text("include_file none\n")
    with pytest.raises(FilterRouteError, match="needs a file's name in quotes"):
        Script.load(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Script.load(tmp_path / "none.cfg")


def test_parse_includes_no_files_and_warns() -> None:
    script = Script.parse('include_file "x.cfg"\nroute[f] { drop; }')
    assert script.warnings[0].problem == (
        "'x.cfg' is not read: only a script in a file can include"
    )


def test_a_script_without_more_is_held_to_all_of_it() -> None:
    with pytest.raises(FilterRouteError, match="t_relay"):
        Script.parse("route[f] { drop; } route[relay] { t_relay(); }")


def test_other_kinds_of_routes_do_not_make_a_script_a_cfg() -> None:
    script = Script.parse("failure_route[x] { exit; } startup_route { drop; } route[f] { drop; }")
    assert not script.is_cfg
    assert script.routes == ("f",)
    assert script.passed_over == ()


@pytest.mark.parametrize(
    "other",
    [
        'startup_route { cache_store("a"); }',
        "failure_route[x] { t_relay(); }",
        "branch_route[b] { if ($nope) exit; }",
        "timer_route[gw, 30] { exit }",
        "event_route[E_X] { route(nowhere); }",
        "error_route { }",
    ],
)
def test_each_route_of_a_file_with_routes_alone_is_checked(other: str) -> None:
    with pytest.raises(FilterRouteError):
        Script.parse(f"route[f] {{ drop; }}\n{other}")
    # Functions of modules are not known, so a whole cfg cannot be checked so.
    assert Script.parse(f"route[f] {{ drop; }}\n{other}\ndebug_mode=no\n").is_cfg


@pytest.mark.parametrize("name", ["[0]", '["0"]', '["00"]', "[00]", ""])
def test_the_default_route_is_there_once(name: str) -> None:
    with pytest.raises(FilterRouteError, match="route '0' is there already, in line 1"):
        Script.parse(f"route {{ exit; }}\nroute{name} {{ drop; }}\n")
    with pytest.raises(FilterRouteError, match="route '0' is there already, in line 1"):
        Script.parse(f"route {{ exit; }}\nroute{name} {{ drop; }}\ndebug_mode=no\n")


def test_global_parameters_change_the_script() -> None:
    loop = "route[f] { $var(i) = 0; while (1) $var(i) += 1; if ($var(i) == 5) drop; }"
    for settings, traced in (("max_while_loops = 5", False), ("max_while_loops=6", True)):
        script = Script.parse(f"{settings}\n{loop}")
        assert script.decider("f")(OFFICE) is traced
    check = "route[f] { assert($sp == 1); drop; }"
    for settings, traced in (
        ("enable_asserts=yes", True),
        ("enable_asserts=no", False),
        ("enable_asserts = 1", True),
        ("debug_mode=no", False),
    ):
        script = Script.parse(f"{settings}\n{check}")
        assert script.decider("f")(OFFICE) is traced
    script = Script.parse("enable_asserts=1\nroute[f] { assert($sp == 8000); drop; }")
    assert script.decider("f")(OFFICE) is False


def test_a_large_file_is_scanned_and_not_parsed(cfg: Path) -> None:
    more = "".join(f'route[r{i}] {{\n  t_relay();\n  xlog("x$ru\\n");\n}}\n' for i in range(2_000))
    cfg.write_text(CFG + more)
    script = Script.load(cfg)
    assert len(script.routes) == 2_004
    assert len(script.trees) == 2


def test_a_byte_that_is_not_utf_8_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin1.cfg"
    file.write_bytes(b"# routes\n# M\xfcller\nroute { exit; }\n")
    with pytest.raises(ConfigurationError, match=r"latin1\.cfg:2: error: byte 0xfc is not UTF-8"):
        Script.load(file)
