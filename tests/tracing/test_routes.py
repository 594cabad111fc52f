"""Filters made of routes, and the log of their ``xlog``."""

import logging
from collections.abc import Iterator

import pytest

from sipws.events import Connection
from sipws.tracing.filter import Script
from sipws.tracing.routes import LEVELS, decide_by_route, xlog_threshold

ROUTE = """route[f] {
    xlog("L_ALERT", "alert"); xlog("L_CRIT", "critical"); xlog("error");
    xlog("L_WARN", "warning"); xlog("L_NOTICE", "notice"); xlog("L_INFO", "info"); xdbg("debug");
    drop;
}"""


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    yield
    xlog_threshold.level = LEVELS["DBG"]


@pytest.mark.parametrize(
    ("level", "count"), [(-4, 0), (-3, 1), (-2, 2), (-1, 3), (1, 4), (2, 5), (3, 6), (4, 7), (9, 7)]
)
def test_messages_up_to_the_level_are_logged(
    level: int, count: int, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    xlog_threshold.level = level
    decide = decide_by_route(Script.parse(ROUTE), "f")
    assert not decide(connection).traced
    logged = [record.getMessage().rpartition(" ")[2] for record in caplog.records]
    words = ["alert", "critical", "error", "warning", "notice", "info", "debug"]
    assert logged == words[:count]
