"""Settings that a collector cannot take are warned of, each with its value and the remedy."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.config.tracing import LONGEST_KEY
from sipws.errors import ConfigurationError
from sipws.service.app import Application
from sipws.service.serving import log_start


def warnings(hep_section: dict[str, Any], **tracing: Any) -> list[str]:
    table = {
        "hep": {"hep_id": ["[homer]10.0.0.2", "[other]10.0.0.3:9061;transport=udp"], **hep_section},
        "tracing": {"trace_on": True, "trace_destination": "homer", **tracing},
    }
    return list(ResolvedConfig.of(Config.of(table, "test")).warnings)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"hep_auth_key": 'pass"word'}, ["hep_auth_key contains '\"':", "without quotation marks"]),
        ({"hep_auth_key": "pass\\word"}, ["hep_auth_key contains '\\':"]),
        ({"hep_auth_key": "a\nb\tc"}, ["the control character '\\t', the control character '\\n'"]),
        ({"hep_auth_key": "\x1f"}, ["the control character '\\x1f'"]),
        ({"homer5_on": True}, ["homer5_on is true", "'homer'", "set homer5_on = false"]),
        ({"hep_when_too_long": "compress"}, ["'compress'", "hep_when_too_long = 'truncate'"]),
        ({"hep_ip_protocol": "opensips"}, ["'opensips'", "hep_ip_protocol = 'tcp'"]),
    ],
)
def test_a_setting_that_homer_cannot_take_is_warned_of(settings, names) -> None:
    [warning] = warnings(settings)
    for name in names:
        assert name in warning


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hep_auth_key": "s3cr3t ü'\x7f\x85"},
        {"hep_auth_key": ""},
        {"homer5_on": False, "hep_when_too_long": "drop", "hep_ip_protocol": "tcp"},
        {"homer5_delim": '"'},
    ],
)
def test_settings_that_homer_can_take_have_no_warning(settings) -> None:
    assert warnings(settings) == []


@pytest.mark.parametrize(
    ("tracing", "count"),
    [
        ({"trace_sip": True, "trace_sip_format": "json"}, 1),
        ({"trace_sip": True, "trace_sip_format": "raw"}, 0),
        ({"trace_sip": False, "trace_sip_format": "json"}, 0),
    ],
)
def test_sip_in_json_is_warned_of(tracing: dict[str, Any], count: int) -> None:
    found = warnings({}, **tracing)
    assert len(found) == count
    for text in found:
        assert "trace_sip_format is 'json' for trace_destination 'homer'" in text
        assert "set trace_sip_format = 'raw'" in text


@pytest.mark.parametrize(
    ("destination", "version", "remedy"),
    [
        ("[old]10.0.0.9;version=2", 2, "use version=3"),
        ("[old]10.0.0.9;version=1", 1, "use version=3, or set trace_events = false"),
    ],
)
@pytest.mark.parametrize("place", ["name", "whole", "also", "group"])
def test_a_version_that_homer_cannot_take_is_warned_of(destination, version, remedy, place) -> None:
    known = {"hep_id": [destination, "[homer]10.0.0.2"]}
    also = {"trace_destination": "old"}
    whole = destination.removeprefix("[old]")
    section = {
        "name": {"trace_destination": "old"},
        "whole": {"trace_destination": whole},
        "also": {"also": [also]},
        "group": {"trace_destination": ["old", f"10.0.0.8;version={version}"]},
    }[place]
    found = warnings(known, **section)
    assert len(found) == (2 if place == "group" else 1)
    for warning in found:
        assert f"version={version}'" in warning
        assert warning.endswith(remedy)


def test_a_capture_id_that_version_2_has_no_room_for_is_refused() -> None:
    known = {"hep_id": "[old]10.0.0.9;version=2", "hep_capture_id": 65536}
    with pytest.raises(ConfigurationError, match=r"hep\.hep_capture_id = 65536: .*version=2"):
        warnings(known, trace_destination="old")
    assert len(warnings({**known, "hep_capture_id": 65535}, trace_destination="old")) == 1


def test_version_1_without_events_has_no_warning() -> None:
    found = warnings({"hep_id": "[old]10.0.0.9;version=1"}, trace_destination="old",
                     trace_events=False, trace_sip=True)  # fmt: skip
    assert found == []


def test_a_destination_that_nothing_is_traced_to_has_no_warning() -> None:
    assert warnings({"hep_id": ["[homer]10.0.0.2", "[old]10.0.0.9;version=2"]}) == []


@pytest.mark.parametrize(
    ("section", "further", "names"),
    [
        (True, None, ["'homer'", "'other'"]),
        (True, False, ["'homer'"]),
        (False, True, ["'other'"]),
        (False, None, []),
    ],
)
def test_each_section_has_its_own_text_format(section, further, names) -> None:
    also = {"trace_destination": "other"} | ({} if further is None else {"homer5_on": further})
    found = warnings({"homer5_on": section}, also=[also])
    assert [next(name for name in names if name in text) for text in found] == names


def test_text_events_that_are_not_traced_have_no_warning() -> None:
    assert warnings({"homer5_on": True}, trace_events=False, trace_sip=True) == []


def test_what_an_opensips_cfg_brings_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "opensips.cfg"
    path.write_text(
        'socket=ws:127.0.0.1:8080\nloadmodule "proto_hep.so"\nloadmodule "proto_ws.so"\n'
        'modparam("proto_hep", "hep_id", "[old] 10.0.0.2:9060; transport=udp; version=2")\n'
        'modparam("proto_ws", "trace_destination", "old")\nroute { exit; }\n'
    )
    config = Config().with_opensips_cfg(path).changed("test", tracing={"trace_on": True})
    version, text = ResolvedConfig.of(config).warnings
    assert "version=2" in version
    # OpenSIPS' own default.
    assert "homer5_on is true" in text


def test_config_check_shows_the_warnings_and_not_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sipws.toml"
    path.write_text(
        "[hep]\nhep_id = '[homer]10.0.0.2'\nhep_auth_key = 'geheim\"nis'\n"
        "[tracing]\ntrace_destination = 'homer'\ntrace_on = true\n"
    )
    assert main(["config", "check", str(path)]) == 0
    output = capsys.readouterr()
    assert output.err.startswith(f"{path}: warning: hep_auth_key contains '\"':")
    assert "geheim" not in output.err + output.out


@pytest.mark.parametrize("key", ["geheim\0", "geheim\ud800", "geheim" * LONGEST_KEY])
def test_a_key_that_no_packet_can_carry_is_refused_and_not_shown(key) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Config.of({"hep": {"hep_auth_key": key}}, "test")
    assert str(refused.value).startswith("test: hep.hep_auth_key: ")
    assert "geheim" not in str(refused.value)


def test_the_start_logs_the_warnings(caplog: pytest.LogCaptureFixture) -> None:
    table = {
        "hep": {"hep_ip_protocol": "opensips"},
        "tracing": {"trace_destination": "127.0.0.1:1;transport=udp", "trace_on": True},
    }
    program: Any = SimpleNamespace(listeners=(), control=None, workers=1)
    log_start(ResolvedConfig.of(Config.of(table, "test")), program)
    assert "hep_ip_protocol is 'opensips'" in caplog.text


@given(st.text(st.characters(codec=None, categories=None), max_size=20))
def test_a_key_without_a_warning_can_stand_in_json_as_it_is(key: str) -> None:
    try:
        [*found] = warnings({"hep_auth_key": key})
    except ConfigurationError:
        return
    if not found:
        # As Homer 7 writes it, and as its database reads it.
        assert json.loads(f'"{key}"') == key
        assert "\0" not in key


CHUNKS = {*range(0x01, 0x10), 0x11}
"""The chunks that packets have: none of them takes a configured text but 0x000e, the key."""


@pytest.mark.parametrize("homer5", [False, True])
async def test_no_configured_text_is_in_a_chunk_that_a_database_refuses(homer5: bool) -> None:
    nasty = '"\\'
    packets: list[hep.Packet] = []
    collector = hep.Collector(lambda packet, _: packets.append(packet), tcp="127.0.0.1:0")
    async with collector:
        ip, port = collector.tcp_address
        table = {
            "transport": {"listen": f"ws:127.0.0.1:0 tag {nasty}", "require_origin": False},
            "hep": {
                "hep_id": f"[{nasty}]{ip}:{port}",
                "hep_capture_id": 0xFFFFFFFF,
                "hep_auth_key": "key",
                "homer5_on": homer5,
                "homer5_delim": f"{nasty}\x01",
            },
            "tracing": {
                "trace_on": True,
                "trace_destination": nasty,
                "trace_sip": True,
                "trace_correlation_headers": [f"X-{nasty}", "X-Id"],
            },
        }
        async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
            url = f"ws://127.0.0.1:{application.server.listeners[0].port}/"
            for origin, wanted in ((None, "sip"), (Origin("https://a.example"), "sip")):
                async with connect(
                    url, origin=origin, subprotocols=[Subprotocol(wanted)]
                ) as client:
                    await client.send(
                        b"OPTIONS sip:b@example.com SIP/2.0\r\n"
                        b"Via: SIP/2.0/WS a;branch=z9hG4bK1\r\n"
                        b"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\n"
                        b'Call-ID: c"\\\xff\x00\r\nX-Id: x"\xff\x00\r\nCSeq: 1 OPTIONS\r\n\r\n'
                    )
                    await client.recv()
            await application.server.flows.wait_empty()
        async with asyncio.timeout(10):
            while len(packets) < 10:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)
    for packet in packets:
        assert {(0, number) for number in CHUNKS} >= set(packet.layout)
        assert packet.extra == ()
        assert packet.auth_key == b"key"
        assert packet.correlation_id is not None
        assert "\0" not in packet.correlation_id.decode()
        if packet.protocol_type == hep.ProtocolType.NET and not homer5:
            assert b"\\u0000" not in packet.payload
            json.loads(packet.payload)
