"""The answers of several workers, as one."""

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from sipws.metrics.prometheus_text import Family, Histogram, render
from sipws.workers.worker_results import (
    Switches,
    by_worker,
    combined,
    content_of_reply,
    families_as_json,
    families_from_json,
    request,
)

NOT_HERE = {"error": {"code": 404, "message": "Connection not found"}}
WRONG = {"error": {"code": -32602, "message": "Invalid params"}}
SILENT = {"error": {"code": 500, "message": "worker 2 does not answer"}}


def result(said: Any) -> dict[str, Any]:
    return {"result": said}


def trace(name: str, sent: int) -> dict[str, Any]:
    return {"ID": name, "State": "on", "Sent": sent, "Dropped": 1, "Queued": 0}


@pytest.mark.parametrize(
    ("method", "first", "second", "expected"),
    [
        ("get_statistics", {"ws:accepted": 2}, {"ws:accepted": 3}, {"ws:accepted": 5}),
        ("statistics:get", {"trace:on": 1}, {"trace:on": 1}, {"trace:on": 1}),
        ("ws_trace", "OK", "OK", "OK"),
        ("which", ["a"], ["a"], ["a"]),
        ("get_statistics", {"core:timestamp": 9}, {"core:timestamp": 7}, {"core:timestamp": 9}),
        ("get_statistics", {}, {}, {}),
        (
            "list_statistics",
            {"ws:a": "incremental"},
            {"ws:a": "incremental"},
            {"ws:a": "incremental"},
        ),
        (
            "log_level",
            {"Processes": [{"PID": 1}]},
            {"Processes": [{"PID": 2}]},
            {"Processes": [{"PID": 1}, {"PID": 2}]},
        ),
        (
            "log_level",
            {"New global log level": 4},
            {"New global log level": 4},
            {"New global log level": 4},
        ),
        (
            "list_tcp_conns",
            {"Connections": [{"ID": 1}]},
            {"Connections": [{"ID": 2}, {"ID": 3}]},
            {"Connections": [{"ID": 1}, {"ID": 2}, {"ID": 3}]},
        ),
        (
            "trace_list",
            {"Traces": [trace("homer", 1), trace("a", 5)]},
            {"Traces": [trace("homer", 2)]},
            {"Traces": [{**trace("homer", 3), "Dropped": 2}, trace("a", 5)]},
        ),
        (
            "trace_list",
            {"Traces": [{"ID": "homer", "Crowded out": {"a - b": 2, "c - d": 1}}]},
            {"Traces": [{"ID": "homer", "Crowded out": {"a - b": 3}}]},
            {"Traces": [{"ID": "homer", "Crowded out": {"a - b": 5, "c - d": 1}}]},
        ),
    ],
)
def test_what_all_say_becomes_one_answer(
    method: str, first: Any, second: Any, expected: Any
) -> None:
    assert combined(method, [result(first), result(second)]) == result(expected)


@pytest.mark.parametrize("method", ["tcp:close", "trace_stop", "log_level"])
def test_what_one_worker_has_is_found(method: str) -> None:
    answer = result({"Log level": 3} if method == "log_level" else "OK")
    assert combined(method, [NOT_HERE, answer]) == answer
    assert combined(method, [NOT_HERE, NOT_HERE]) == NOT_HERE
    assert combined(method, [NOT_HERE, WRONG]) == WRONG


@pytest.mark.parametrize("method", ["ws_trace", "reload", "get_statistics"])
def test_what_not_all_have_done_is_not_done(method: str) -> None:
    assert combined(method, [result("OK"), SILENT]) == SILENT


def test_a_worker_that_comes_later_is_told_what_was_switched() -> None:
    switched = Switches()
    assert (switched.trace_on, switched.calls) == ({}, [])
    switched.note("ws_trace", None)
    switched.note("list_tcp_conns", ["ws"])
    assert (switched.trace_on, switched.calls) == ({}, [])
    switched.note("ws:trace", ["on"])
    switched.note("trace_start", ["a", "hep:192.0.2.1:9060", "ip=192.0.2.2"])
    switched.note("trace_start", {"id": "b", "uri": "hep:192.0.2.1:9061"})
    switched.note("trace_stop", {"id": "b"})
    switched.note("ws_trace", {"trace_mode": "off"})
    switched.note("wss:trace", {"trace_mode": "on"})
    started = {"id": "a", "uri": "hep:192.0.2.1:9060", "filter": "ip=192.0.2.2"}
    assert switched.calls == [
        ("trace_start", started),
        ("ws_trace", {"trace_mode": "off"}),
        ("wss_trace", {"trace_mode": "on"}),
    ]
    switched.note("trace", {"id": "homer", "mode": "OFF"})
    switched.note("trace", {"id": "homer"})
    switched.note("log_level", {"level": 1, "pid": 7})
    switched.note("log_level", [4])
    switched.note("xlog_level", {"level": "2"})
    switched.note("trace_start", {"id": 7, "uri": "hep:192.0.2.1:9061"})
    switched.note("trace_stop", ["7"])
    assert switched.calls[3:] == [
        ("trace", {"id": "homer", "mode": "off"}),
        ("log_level", {"level": 4}),
        ("xlog_level", {"level": "2"}),
    ]
    assert list(switched.traces) == ["a"]
    assert switched.trace_on == {"ws": False, "wss": True}
    switched.note("trace", {"mode": "ON"})
    assert switched.trace_on == {"ws": True, "wss": True}


def test_metrics_keep_apart_whose_they_are() -> None:
    def families(count: int) -> list[Family]:
        lag = Histogram((0.1, 1.0), (count, 0, 1), 1.5)
        return [
            Family("a_total", "counter", "A's.").add(count, kind="x").add(0, kind="y"),
            Family("lag_seconds", "histogram", "Late.").add(lag),
            Family("empty", "gauge", "None."),
        ]

    sent = {number: json.loads(json.dumps(families_as_json(families(number)))) for number in (1, 2)}
    whole = by_worker({number: families_from_json(families) for number, families in sent.items()})
    assert [family.name for family in whole] == ["a_total", "lag_seconds", "empty"]
    samples = [sample for family in parse(render(whole)) for sample in family.samples]
    series = {(x.name, *sorted(x.labels.items())): x.value for x in samples}
    assert len(series) == len(samples) == 14
    assert series["a_total", ("kind", "x"), ("worker", "2")] == 2
    assert series["lag_seconds_bucket", ("le", "+Inf"), ("worker", "1")] == 2


def test_a_request_and_its_reply_are_those_of_json_rpc() -> None:
    assert json.loads(request("ps", None))["method"] == "ps"
    assert content_of_reply('{"jsonrpc": "2.0", "result": 1, "id": 0}') == {"result": 1}
    assert content_of_reply('{"jsonrpc": "2.0", "error": {"code": 1}, "id": 0}') == {
        "error": {"code": 1}
    }
