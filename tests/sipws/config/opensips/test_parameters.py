"""Parameters of proto_ws, proto_wss and proto_hep, which OpenSIPS keeps apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipws import ConfigurationError
from sipws.config.opensips.reader import OpensipsCfg
from sipws.config.opensips_table import as_table
from sipws.config.settings import Config

Read = Callable[..., OpensipsCfg]

HOMER = 'modparam("proto_hep", "hep_id", "[homer]10.0.0.2")'


def param(module: str, name: str, value: str) -> str:
    return f'modparam("{module}", "{name}", {value})'


def config(cfg: OpensipsCfg, **base: dict[str, Any]) -> Config:
    before = Config.of(base, "test")
    return before.changed("test", **as_table(cfg, before.model_dump()))


def test_what_proto_ws_sets_does_not_open_wss(opensips: Read) -> None:
    transport = config(opensips(param("proto_ws", "require_origin", "0"))).transport
    assert (transport.require_origin, transport.of_wss.require_origin) == (False, True)
    transport = config(opensips(param("proto_wss", "require_origin", "no"))).transport
    assert (transport.require_origin, transport.of_wss.require_origin) == (True, False)


@pytest.mark.parametrize(
    "pattern", ["proto_ws|proto_wss", "proto_ws.*", "proto_wss?", "PROTO_WSS*"]
)
def test_a_pattern_is_for_all_modules_that_match(opensips: Read, pattern: str) -> None:
    lines = [param(pattern, "trace_on", "1"), param(pattern, "require_origin", "off")]
    found = config(opensips(*lines))
    assert found.tracing.protocols_on == {"ws", "wss"}
    assert not found.transport.of_wss.require_origin


def test_a_pattern_means_the_modules_that_are_loaded(opensips: Read) -> None:
    lines = ['loadmodule "proto_ws.so"', param("proto_ws.*", "ws_port", "81")]
    assert opensips(*lines).sections["transport"] == {"ws_port": 81}
    with pytest.raises(ConfigurationError, match="proto_wss has no parameter 'ws_port'"):
        opensips('loadmodule "proto_wss.so"', *lines)


def test_of_tracing_each_module_has_its_own(opensips: Read) -> None:
    cfg = opensips(
        HOMER,
        'modparam("proto_hep", "hep_id", "[other]10.0.0.3")',
        param("proto_ws", "trace_on", "1"),
        param("proto_ws", "trace_destination", '"homer"'),
        param("proto_ws", "trace_filter_route", '"f"'),
        param("proto_wss", "trace_destination", '"other"'),
        "route[f] { drop; }",
    )
    tracing = config(cfg).tracing
    assert (tracing.trace_on, tracing.of_wss.trace_on) == (True, False)
    assert tracing.trace_destination == ("homer",)
    assert tracing.of_wss.trace_destination == ("other",)
    assert (tracing.trace_filter_route, tracing.of_wss.trace_filter_route) == ("f", None)


def test_for_wss_what_the_file_does_not_say_is_kept(opensips: Read) -> None:
    cfg = opensips(param("proto_ws", "ws_send_timeout", "700"))
    before = {"ws_send_timeout": 300}
    assert config(cfg, transport=before).transport.wss_limits.send_timeout == 0.3
    own = {"wss": {"wss_send_timeout": 400}}
    assert config(cfg, transport=before | own).transport.wss_limits.send_timeout == 0.4


@pytest.mark.parametrize(
    ("value", "taken"),
    [("8", 8), ("0x10", 16), ("010", 8), ("+8", 8), ("yes", 1), ("0", 0), ("-1", 0), ("-7", 0)],
)
def test_numbers(opensips: Read, value: str, taken: int) -> None:
    cfg = opensips(param("proto_ws", "ws_max_msg_chunks", value))
    assert cfg.sections["transport"]["ws_max_msg_chunks"] == taken
    assert cfg.lines[0].outcome == ("changed" if value.startswith("-") else "taken")


@pytest.mark.parametrize("value", ["0", "-5"])
def test_a_time_of_nothing_is_the_shortest(opensips: Read, value: str) -> None:
    cfg = opensips(param("proto_wss", "wss_send_timeout", value))
    assert cfg.sections["transport.wss"] == {"wss_send_timeout": 1}
    assert cfg.lines[0].outcome == "changed"


@pytest.mark.parametrize(
    "line",
    [
        param("proto_ws", "trace_on", '"1"'),
        param("proto_ws", "trace_on", '"yes"'),
        param("proto_ws", "trace_destination", "1"),
        param("proto_hep", "hep_id", "5"),
        param("proto_hep", "homer5_on", '"on"'),
        param("tls_mgm", "verify_cert", "1"),
        param("tracer", "trace_on", '"1"'),
        param("proto_ws", "wss_port", "1"),
        param("proto_wss", "ws_port", "1"),
        param("proto_ws|proto_wss", "ws_port", "1"),
        param("proto_hep", "hep_idd", '"[a]10.0.0.1"'),
        param("proto_ws", "trace_on", ""),
        param("proto_ws", "trace_on", "1, 2"),
        param("proto_ws", "trace_on", "-"),
        'modparam("proto_ws", "trace_on")',
        "modparam(proto_ws, trace_on, 1)",
        param("proto_(ws", "trace_on", "1"),
    ],
)
def test_what_opensips_refuses_is_refused(opensips: Read, line: str) -> None:
    with pytest.raises(ConfigurationError, match=r"opensips\.cfg:2:\d+: error: "):
        opensips(line)


def test_modules_of_others_are_not_looked_at(opensips: Read) -> None:
    assert opensips(param("tm", "fr_timeout", '"5"'), param("tm|sl", "x", "-1")).lines == ()


def test_the_last_of_two_values_counts(opensips: Read) -> None:
    cfg = opensips(param("proto_ws", "ws_port", "81"), param("proto_ws", "ws_port", "82"))
    assert cfg.sections["transport"] == {"ws_port": 82}
    first, second = cfg.lines
    assert (first.outcome, second.outcome) == ("not taken", "taken")
    assert first.remarks == [f"{second.place} sets it again"]


def test_of_a_pattern_a_part_may_be_set_again(opensips: Read) -> None:
    cfg = opensips(param("proto_wss?", "trace_on", "1"), param("proto_ws", "trace_on", "0"))
    assert (cfg.sections["tracing"], cfg.sections["tracing.wss"]) == (
        {"trace_on": False},
        {"trace_on": True},
    )
    assert [line.outcome for line in cfg.lines] == ["changed", "taken"]


def test_to_an_unknown_destination_nothing_is_traced(opensips: Read) -> None:
    cfg = opensips(HOMER, param("proto_ws", "trace_destination", '"Homer"'))
    assert cfg.sections["tracing"]["trace_destination"] == ()
    assert cfg.lines[1].outcome == "not taken"


@pytest.mark.parametrize(
    ("text", "taken", "outcome"),
    [
        ("[a]10.0.0.1", "[a]10.0.0.1:9060;transport=tcp;version=3", "taken"),
        (" [ a ] 10.0.0.1 : 90 ; version = 3 ; transport = UDP ; ",
         "[a]10.0.0.1:90;transport=udp;version=3", "taken"),
        ("[a]10.0.0.1;version=1", "[a]10.0.0.1:9060;transport=udp;version=1", "taken"),
        ("[a]10.0.0.1;version=2;transport=tcp",
         "[a]10.0.0.1:9060;transport=udp;version=2", "changed"),
        ("[a]10.0.0.1;transport=tls", "[a]10.0.0.1:9060;transport=tls;version=3", "taken"),
        ("[a]10.0.0.1;transport=tcp;transport=udp",
         "[a]10.0.0.1:9060;transport=udp;version=3", "taken"),
        ("[a]10.0.0.1:75596", "[a]10.0.0.1:10060;transport=tcp;version=3", "changed"),
        ("[a]homer.example.com:90", "[a]homer.example.com:90;transport=tcp;version=3", "taken"),
    ],
)  # fmt: skip
def test_hep_ids(opensips: Read, text: str, taken: str, outcome: str) -> None:
    cfg = opensips(param("proto_hep", "hep_id", f'"{text}"'))
    assert cfg.sections["hep"]["hep_id"] == (taken,)
    assert cfg.lines[0].outcome == outcome


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1", "[]10.0.0.1", "[a]", "[a];version=3", "[a]uri=10.0.0.1", "[a]10.0.0.1;x=1",
        "[a]10.0.0.1;version=4", "[a]10.0.0.1;version=", "[a]10.0.0.1;transport=sctp",
        "[a]10.0.0.1;Version=3", "[a]10.0.0.1:x", "[a]10.0.0.1:99999999999999", "[a][::1]:9060",
        "a", "",
    ],
)  # fmt: skip
def test_hep_ids_that_are_refused(opensips: Read, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"opensips\.cfg:2:\d+: error: hep_id "):
        opensips(param("proto_hep", "hep_id", f'"{text}"'))


def test_a_hep_id_has_a_name_of_its_own(opensips: Read) -> None:
    with pytest.raises(ConfigurationError, match=r"cfg:3:\d+: error: .*'homer' is there already"):
        opensips(HOMER, HOMER)


def test_a_capture_id_fits_the_version(opensips: Read) -> None:
    number = param("proto_hep", "hep_capture_id", "65537")
    assert opensips(HOMER, number).sections["hep"]["hep_capture_id"] == 65537
    cfg = opensips(param("proto_hep", "hep_id", '"[a]10.0.0.1;version=2"'), number)
    assert cfg.sections["hep"]["hep_capture_id"] == 1
    assert cfg.lines[1].outcome == "changed"


@pytest.mark.parametrize(
    "name",
    [
        "hep_port", "hep_send_timeout", "hep_max_msg_chunks", "hep_async", "hep_max_retries",
        "hep_async_max_postponed_chunks", "hep_async_local_write_timeout", "hep_retry_cooldown",
        "hep_async_local_connect_timeout", "compressed_payload",
    ],
)  # fmt: skip
def test_what_is_not_taken_is_named_with_the_reason(opensips: Read, name: str) -> None:
    cfg = opensips(param("proto_hep", name, "3"))
    assert cfg.sections["hep"] == {"homer5_on": True}
    [line] = cfg.lines
    assert line.outcome == "not taken"
    assert line.remarks[0]


def test_compression_needs_its_module(opensips: Read) -> None:
    lines = ['loadmodule "proto_hep.so"', param("proto_hep", "compressed_payload", "1")]
    with pytest.raises(ConfigurationError, match="needs OpenSIPS' module compression"):
        opensips(*lines)
    opensips('loadmodule "/usr/lib/opensips/modules/compression.so"', *lines)


def test_files_that_are_included_have_places_of_their_own(tmp_path: Path, opensips: Read) -> None:
    (tmp_path / "ws.cfg").write_text("\n" + param("proto_ws", "ws_resource", '"/a"') + "\n")
    [line] = opensips('include_file "ws.cfg"').lines
    assert line.place == f"{tmp_path / 'ws.cfg'}:2"


def test_a_remark_about_two_modules_is_written_once(opensips: Read) -> None:
    cfg = opensips('modparam("proto_ws|proto_wss", "trace_destination", "nowhere")')
    (line,) = cfg.lines
    assert line.outcome == "not taken"
    assert line.remarks == ["there is no hep_id 'nowhere', and OpenSIPS traces nothing to it"]
