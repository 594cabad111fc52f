"""An opensips.cfg as a configuration."""

import logging
from pathlib import Path

import pytest

from hep import HepId
from sipws import ConfigurationError, Listener
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config

CFG = """\
#!define WITH_WS
log_level=3
socket=udp:10.0.0.1:5060
socket = ws:127.0.0.1:8080 tag edge as 192.0.2.1:80   # browsers
listen=ws:10.0.0.1
loadmodule "proto_ws.so"
modparam("proto_hep", "hep_id", "[one]10.0.0.2;transport=udp;version=2")
modparam("proto_hep", "hep_id",
         "[two]10.0.0.3:9070;transport=tcp")
modparam("proto_hep", "hep_capture_id", 2001)
modparam("proto_ws", "ws_port", 8088)
modparam("proto_ws", "ws_send_timeout", 250)
modparam("proto_ws", "ws_max_msg_chunks", 8)
modparam("proto_ws", "trace_destination", "two")
modparam("proto_ws", "trace_on", 1)
modparam("proto_ws", "trace_filter_route", "ws_filter")
modparam("tm", "fr_timeout", 5)
route { t_relay(); }
route[ws_filter] { drop; }
"""


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "opensips.cfg"
    path.write_text(CFG)
    return path


def test_sockets_parameters_and_the_filter_route_are_taken_over(cfg: Path) -> None:
    config = Config().with_opensips_cfg(cfg)
    assert config.transport.listeners == (
        Listener("ws", "127.0.0.1", 8080, "edge", "192.0.2.1", 80),
        Listener("ws", "10.0.0.1", 8088),
    )
    assert config.transport.limits.send_timeout == 0.25
    resolved = ResolvedConfig.of(config)
    assert resolved.destinations == [HepId("10.0.0.3", 9070, "tcp", name="two")]
    assert resolved.filter.decide is not None
    assert resolved.traces[0].settings.packets.capture_id == 2001
    assert config.tracing.trace_on


def test_payloads_are_opensips_text_unless_the_file_says_otherwise(cfg: Path) -> None:
    assert ResolvedConfig.of(Config().with_opensips_cfg(cfg)).traces[0].settings.homer5
    cfg.write_text(CFG + 'modparam("proto_hep", "homer5_on", 0)\n')
    assert not ResolvedConfig.of(Config().with_opensips_cfg(cfg)).traces[0].settings.homer5


@pytest.mark.parametrize(
    ("line", "required"),
    [
        ("", True),
        ('modparam("proto_ws", "require_origin", no)', False),
        ('modparam("proto_ws", "require_origin", 0)', False),
        ('modparam("proto_wss", "require_origin", yes)', True),
    ],
)
def test_an_origin_is_required_as_in_opensips(cfg: Path, line: str, required: bool) -> None:
    cfg.write_text(f"{CFG}{line}\n")
    assert Config().with_opensips_cfg(cfg).transport.require_origin is required


def test_the_resource_that_opensips_asks_for_as_a_client_is_not_the_one_served(cfg: Path) -> None:
    cfg.write_text(CFG + 'modparam("proto_ws", "ws_resource", "/ws")\n')
    assert Config().with_opensips_cfg(cfg).transport.ws_resource == "/"


def test_what_is_passed_over_is_told_with_its_place(
    cfg: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        Config().with_opensips_cfg(cfg)
    assert f"passed over: socket=udp:10.0.0.1:5060 ({cfg}:3)" in caplog.text
    assert "ws_max_msg_chunks" not in caplog.text
    assert "fr_timeout" not in caplog.text


def test_what_the_file_does_not_say_is_kept(cfg: Path) -> None:
    before = Config().changed("test", transport={"max_message_size": 1000})
    assert before.with_opensips_cfg(cfg).transport.max_message_size == 1000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'modparam("proto_ws", "ws_port", "8080")',
            ".cfg:20:33: error: proto_ws ws_port is a number without quotes, not '8080'",
        ),
        ("socket=ws:127.0.0.1:99999", ".cfg:20:21: error: '99999' is not a port"),
        ('modparam("proto_hep", "hep_id", "[x]")', ".cfg:20:33: error: hep_id '[x]': the host is"),
    ],
)
def test_a_value_that_cannot_be_is_told(cfg: Path, line: str, message: str) -> None:
    cfg.write_text(f"{CFG}{line}\n")
    with pytest.raises(ConfigurationError) as refused:
        Config().with_opensips_cfg(cfg)
    assert message in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.cfg: cannot be read"):
        Config().with_opensips_cfg(tmp_path / "none.cfg")
