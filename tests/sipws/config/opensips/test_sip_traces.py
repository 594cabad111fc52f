"""What tracer traces of SIP, as settings."""

from collections.abc import Callable

import pytest

from sipws import ConfigurationError
from sipws.config.opensips.reader import OpensipsCfg

Read = Callable[..., OpensipsCfg]

IDS = (
    'modparam("proto_hep", "hep_id", "[homer]10.0.0.2")',
    'modparam("proto_hep", "hep_id", "[other]10.0.0.3")',
    'modparam("tracer", "trace_id", "[tid]uri=hep:homer;")',
)
WS = "socket=ws:10.0.0.1"
BOTH = f"{WS} socket=wss:10.0.0.1"
CALL = 'route { trace("tid"); }'
SIP = {"trace_destination": ("homer",), "trace_sip": True}


def events(module: str = "proto_ws", to: str = "homer") -> tuple[str, str]:
    return (
        f'modparam("{module}", "trace_on", 1)',
        f'modparam("{module}", "trace_destination", "{to}")',
    )


def test_to_the_collector_of_the_events(opensips: Read) -> None:
    cfg = opensips(WS, *IDS, *events(), CALL)
    assert cfg.sections["tracing"] == {"trace_on": True, **SIP}
    assert cfg.also == ()


def test_without_events(opensips: Read) -> None:
    cfg = opensips(WS, *IDS, CALL)
    assert cfg.sections["tracing"] == {"trace_on": True, **SIP, "trace_events": False}


@pytest.mark.parametrize(
    "more",
    [
        events(to="other"),
        (*events(), 'modparam("proto_ws", "trace_filter_route", "f")', "route[f] { drop; }"),
    ],
)
def test_beside_events_that_go_elsewhere_or_are_filtered(
    opensips: Read, more: tuple[str, ...]
) -> None:
    cfg = opensips(WS, *IDS, *more, CALL)
    assert "trace_sip" not in cfg.sections["tracing"]
    assert cfg.also == ({**SIP, "trace_events": False},)


def test_beside_events_of_one_protocol(opensips: Read) -> None:
    cfg = opensips(BOTH, *IDS, *events("proto_wss"), CALL)
    assert cfg.sections["tracing"] == {"trace_on": True, "trace_destination": ()}
    assert cfg.sections["tracing.wss"] == {"trace_on": True, "trace_destination": ("homer",)}
    assert cfg.also == ({**SIP, "trace_events": False},)


@pytest.mark.parametrize(
    "call",
    [
        'route[x] { if (is_method("INVITE")) trace("tid", "t", "sip|xlog", $var(u)); }',
        'onreply_route[x] { trace("tid", "m"); }',
        'failure_route[x] { trace("tid", , ""); }',
    ],
)
def test_calls_that_trace_sip(opensips: Read, call: str) -> None:
    cfg = opensips(WS, *IDS, *events(), call)
    assert cfg.sections["tracing"]["trace_sip"]
    assert (cfg.lines[-1].outcome, cfg.lines[-1].text[:6]) == ("changed", "trace(")


@pytest.mark.parametrize(
    "more",
    [
        ('route { trace("tid", "m", "xlog"); }',),
        ('route { trace("nope"); }',),
        ('route { trace("$var(tid)"); }',),
        ('loadmodule "tracer.so"', "route { trace($var(tid)); }"),
        ('modparam("tracer", "trace_on", 0)', CALL),
        ("route { # trace(tid)\n exit; }",),
    ],
)
def test_what_traces_no_sip_that_can_be_told(opensips: Read, more: tuple[str, ...]) -> None:
    cfg = opensips(WS, *IDS, *more)
    assert cfg.sections["tracing"] == {}
    called = [line.outcome for line in cfg.lines if line.text.startswith("trace(")]
    assert set(called) <= {"not taken"}


@pytest.mark.parametrize(
    "uri", ["sip:10.0.0.2:5060", "mysql://u:p@10.0.0.7/x;table=t", "file:/tmp/x", "syslog"]
)
def test_other_targets_are_named(opensips: Read, uri: str) -> None:
    cfg = opensips(WS, f'modparam("tracer", "trace_id", "[tid]\n uri={uri};")', CALL)
    assert [line.outcome for line in cfg.lines] == ["taken", "not taken", "not taken"]
    assert not any("u:p" in line.text for line in cfg.lines)


def test_a_trace_id_may_have_several_targets(opensips: Read) -> None:
    cfg = opensips(WS, *IDS, 'modparam("tracer", "trace_id", "[tid]uri=hep:other")', CALL)
    assert cfg.sections["tracing"]["trace_destination"] == ("homer", "other")


@pytest.mark.parametrize("text", ["tid", "[tid]", "[tid]hep:homer", "[]uri=hep:homer"])
def test_a_trace_id_that_is_refused(opensips: Read, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"opensips\.cfg:2:\d+: error: trace_id"):
        opensips(f'modparam("tracer", "trace_id", "{text}")')


@pytest.mark.parametrize("more", [events(), (), events(to="other")])
def test_in_json_where_homer5_is_off(opensips: Read, more: tuple[str, ...]) -> None:
    def written(*lines: str) -> list[object]:
        cfg = opensips(WS, *IDS, *more, *lines, CALL)
        found = [each for each in (cfg.sections["tracing"], *cfg.also) if each.get("trace_sip")]
        return [each.get("trace_sip_format", "raw") for each in found]

    assert written() == ["raw"]
    assert written('modparam("proto_hep", "homer5_on", 1)') == ["raw"]
    assert written('modparam("proto_hep", "homer5_on", 0)') == ["json"]


def test_a_destination_of_both_that_only_one_uses_is_changed(opensips: Read) -> None:
    both = 'modparam("proto_ws|proto_wss", "trace_destination", "homer")'
    cfg = opensips(BOTH, *IDS, both, 'modparam("proto_ws", "trace_on", 1)', CALL)
    (line,) = (line for line in cfg.lines if "trace_destination" in line.text)
    assert line.outcome == "changed"
    assert line.remarks[0].startswith("events of wss are not traced")
    (alone,) = (
        line
        for line in opensips(BOTH, *IDS, *events(), *events("proto_wss")[1:], CALL).lines
        if "proto_wss" in line.text
    )
    assert alone.outcome == "not taken"
