"""Log entries as text and as JSON, and what connections write into them."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import log
from sipws.bus import Bus
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.errors import ConfigurationError
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    Side,
)
from sipws.masking.handshakes import Masking
from sipws.request import UpgradeRequest
from sipws.service import app, console
from sipws.service.event_log import log_connections


def lines(capsys: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def closed(connection: Connection, reason: str = "", *, accepted: bool = True) -> Closed:
    return Closed(
        connection,
        1002.0,
        code=1001,
        reason=reason,
        closed_by=Side.PEER,
        clean=True,
        accepted=accepted,
        duration=2.0,
        messages_in=3,
        messages_out=2,
        bytes_in=300,
        bytes_out=200,
    )


def test_an_entry_says_of_which_worker_it_is(capsys: Any) -> None:
    log.setup(worker=2)
    logging.getLogger("sipws").info("ready")
    assert capsys.readouterr().err.endswith(" INFO    worker 2: ready\n")
    log.setup(format="json", worker=2)
    logging.getLogger("sipws").info("ready")
    [entry] = lines(capsys)
    assert (entry["worker"], entry["message"]) == (2, "ready")


def test_an_entry_is_one_json_object_on_one_line(capsys: Any) -> None:
    log.setup(format="json")
    logger = logging.getLogger("sipws.example")
    logger.info("two\nlines of %s", "text", extra={"connection": 7, "peer": "192.0.2.5:1"})
    [line] = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "sipws.example",
        "message": "two\nlines of text",
        "connection": 7,
        "peer": "192.0.2.5:1",
    }


def test_an_exception_is_a_field(capsys: Any) -> None:
    log.setup(format="json")
    try:
        raise ZeroDivisionError("example")
    except ZeroDivisionError:
        logging.getLogger("sipws").exception("it failed")
    [line] = lines(capsys)
    assert line["level"] == "error"
    assert line["exception"].endswith("ZeroDivisionError: example")


def test_setting_up_again_replaces_and_does_not_double(capsys: Any) -> None:
    log.setup()
    log.setup("warning", "json")
    logging.getLogger("sipws").info("not this")
    logging.getLogger("hep").warning("but this")
    [line] = lines(capsys)
    assert line["message"] == "but this"


@given(st.text(), st.dictionaries(st.sampled_from(["peer", "kind", "detail"]), st.text()))
def test_no_text_makes_it_more_than_one_line(message: str, fields: dict[str, str]) -> None:
    record = logging.makeLogRecord({"msg": message, **fields})
    line = log.JsonLines().format(record)
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["message"] == message


def test_connections_are_told_of_with_stable_fields(connection: Connection, capsys: Any) -> None:
    log.setup(format="json")
    bus = Bus()
    assert log_connections(bus)
    bus.publish(Accepted(connection, 1000.0, b"", b""))
    bus.publish(ErrorOccurred(connection, 1001.0, ErrorKind.PROTOCOL_ERROR, "what was wrong"))
    bus.publish(closed(connection, "bye"))
    bus.publish(HandshakeFailed(connection, 1000.0, b"", b"", ErrorKind.NOT_HTTP, "no HTTP"))
    bus.publish(closed(connection, accepted=False))
    accepted, error, gone, failed = lines(capsys)
    who = {
        "connection": 7,
        "peer": "192.0.2.5:50123",
        "local": "10.0.0.1:8080",
        "listener": "ws:10.0.0.1:8080",
    }
    for line in (accepted, error, gone, failed):
        assert line["logger"] == "sipws.connections"
        assert who.items() <= line.items()
    assert accepted["event"] == "accepted"
    assert error.items() >= {"event": "error", "kind": "protocol-error"}.items()
    assert error["detail"] == "what was wrong"
    assert failed.items() >= {"event": "handshake-failed", "kind": "not-http"}.items()
    assert (
        gone.items()
        >= {
            "event": "closed",
            "code": 1001,
            "reason": "bye",
            "closed_by": "peer",
            "clean": True,
            "duration": 2.0,
            "messages_in": 3,
            "bytes_out": 200,
        }.items()
    )


def test_connections_that_we_open_name_their_destination(
    connection: Connection, capsys: Any
) -> None:
    log.setup(format="json")
    bus = Bus()
    log_connections(bus)
    ours = replace(connection, destination="ws://192.0.2.5:50123/")
    bus.publish(ConnectFailed(ours, 1000.0, ErrorKind.CONNECT_REFUSED, "nobody listens"))
    bus.publish(Connected(ours, 1000.0, b"", b"", "sip"))
    failed, connected = lines(capsys)
    assert failed.items() >= {"event": "connect-failed", "kind": "connect-refused"}.items()
    assert connected["event"] == "connected"
    assert failed["destination"] == connected["destination"] == "ws://192.0.2.5:50123/"


def test_a_peer_cannot_write_lines_or_escapes_of_its_own(
    connection: Connection, capsys: Any
) -> None:
    log.setup()
    bus = Bus()
    log_connections(bus)
    evil = "x\n2026-11-23 ERROR all is lost\x1b[2J"
    bus.publish(closed(connection, evil))
    bus.publish(ErrorOccurred(connection, 1001.0, ErrorKind.PROTOCOL_ERROR, evil))
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    assert r"all is lost\x1b[2J" in text


def test_credentials_are_not_logged(connection: Connection, capsys: Any) -> None:
    log.setup(format="json")
    bus = Bus()
    log_connections(bus, Masking(headers=["x-pin"], parameters=["door"]))
    request = b"GET /?door=opensesame HTTP/1.1\r\nX-Pin: 31415926\r\n\r\n"
    asking = connection.with_request(UpgradeRequest(request))
    told = "no '31415926' for opensesame or /?door=5"
    bus.publish(HandshakeFailed(asking, 1000.0, request, b"", ErrorKind.REFUSED, told))
    bus.publish(ErrorOccurred(asking, 1001.0, ErrorKind.HANDLER_FAILED, told))
    bus.publish(closed(asking, told))
    text = capsys.readouterr().err
    assert text.count("no '***' for *** or /?door=***") == 6
    assert "31415926" not in text


async def test_the_log_masks_what_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class ToldError(Exception):
        pass

    def told(bus: Bus, masking: Masking, **_: bool) -> None:
        raise ToldError(masking.text("/?door=5&token=6"))

    monkeypatch.setattr(app, "log_connections", told)
    table = {"tracing": {"trace_mask_parameters": ["door"]}, "log": {"level": "info"}}
    with pytest.raises(ToldError, match=r"/\?door=\*\*\*&token=6"):
        await console.serve(ResolvedConfig.of(Config.of(table, "test")))


def test_nothing_is_subscribed_where_nobody_would_see_it() -> None:
    log.setup("warning")
    bus = Bus()
    assert not log_connections(bus)
    assert not bus.closed.subscribers


@pytest.mark.parametrize("setting", [{"format": "xml"}, {"level": "loud"}, {"connections": "x"}])
def test_a_wrong_setting_is_named(setting: dict[str, str]) -> None:
    [(name, text)] = setting.items()
    with pytest.raises(ConfigurationError, match=rf"log\.{name} = '{text}'"):
        Config.of({"log": setting}, "test")
