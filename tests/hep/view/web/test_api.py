"""What the paths answer."""

import asyncio
import base64
import json
import threading
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hep.view.model.summary import CallSummary
from hep.view.store.query import CallFilter, ConnectionFilter
from hep.view.web import threads
from hep.view.web.api import file_name

CALL_ID = "a84b4c76e66710@pc33.example.com"
START = 1_700_000_000_000_000
SECOND = 1_000_000


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


async def refused(client: httpx.AsyncClient, path: str, status: int) -> str:
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return str(answer.json()["error"])


async def test_status_joins_what_the_program_and_the_store_know(client: httpx.AsyncClient) -> None:
    status = await get(client, "status")
    assert status["version"] == "1.2.3"
    assert (status["calls"], status["calls_open"], status["connections_open"]) == (2, 1, 1)
    assert status["store"]["packets"] == 4
    assert status["bad"] == 7
    assert status["listening"][0]["address"] == "127.0.0.1:9060"
    assert (status["control"], status["login"]) == (False, False)


async def test_calls_passes_each_filter_on(service: Any, client: httpx.AsyncClient) -> None:
    answer = await get(
        client, "calls", since=1, until=2, kind=["call", "other"], outcome="lost", user="al",
        address="10.", method="invite", code="4XX", text="x", limit=1, before="c",
    )  # fmt: skip
    assert [row["call_id"] for row in answer["calls"]] == [CALL_ID]
    assert answer["next"] == "next"
    wanted = CallFilter(1, 2, ("call", "other"), ("lost",), "al", "10.", "INVITE", "4xx", "x")
    assert service.backend.store.asked == [("calls", wanted, 1, "c")]


async def test_names_of_the_filter_s_attributes_are_taken_too(
    service: Any, client: httpx.AsyncClient
) -> None:
    await get(client, "calls", kinds=["call"], outcomes=["ok", "open"])
    assert service.backend.store.asked[0][1] == CallFilter(kinds=("call",), outcomes=("ok", "open"))
    await get(client, "connections", states="open", text="", since="")
    assert service.backend.store.asked[1] == (
        "connections", ConnectionFilter(states=("open",)), 200, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=0", "'limit': '0' is not valid: input should be greater than or equal to 1"),
        ("limit=1001", "'limit': '1001' is not valid"),
        ("limit=1e3", "'limit': '1e3' is not valid"),
        ("limit=" + "9" * 5000, "'limit': '9999"),
        ("since=-1", "'since': '-1' is not valid"),
        (f"since={2**63}", "'since': "),
        ("since=5&until=4", "'since': 5 is after 'until': 4"),
        ("kind=calls", "'kind': 'calls' is not valid: input should be 'call', 'registration'"),
        ("code=700", "'code': '700' is not valid"),
        ("code=486%0a", "'code': '486\\n' is not valid"),
        ("user=" + "a" * 257, "'user': 'aaa"),
        ("nonsense=1", "parameter 'nonsense' is not known; known ones: since, until"),
        ("limit=1&limit=2", "parameter 'limit' is given 2 times"),
        ("before=broken", "before='broken' is no place in a list: use an answer's 'next'"),
        ("&".join(f"kind=call{n}" for n in range(100)), "the query has too many parameters"),
        ("&".join(["kind=call"] * 9), "'kind': "),
    ],
)
async def test_a_wrong_parameter_is_named(
    client: httpx.AsyncClient, query: str, error: str
) -> None:
    assert error in await refused(client, f"/api/v1/calls?{query}", 400)


async def test_a_missing_parameter_is_named(client: httpx.AsyncClient) -> None:
    assert await refused(client, "/api/v1/call", 400) == "parameter 'id' is missing"
    assert "parameter 'format' is missing" in await refused(client, "/api/v1/call/export?id=1", 400)
    assert "'q': '' is not valid" in await refused(client, "/api/v1/search?q=", 400)


@pytest.mark.parametrize(
    "path",
    ["call?id=nobody%00", "connection?id=0", "message?id=99", "call/export?id=x&format=pcap"],
)
async def test_what_is_not_there_gets_404(client: httpx.AsyncClient, path: str) -> None:
    assert (await refused(client, f"/api/v1/{path}", 404)).startswith("there is no ")


async def test_bytes_of_a_parameter_that_are_no_utf_8_do_no_harm(
    client: httpx.AsyncClient,
) -> None:
    await refused(client, "/api/v1/call?id=%ff%fe%00%ed%a0%80", 404)


async def test_a_call_shows_its_connections_events_and_relatives(
    client: httpx.AsyncClient,
) -> None:
    view = await get(client, "call", id=CALL_ID)
    assert view["call"]["call_id"] == CALL_ID
    assert [each["id"] for each in view["connections"]] == ["77", "78"]
    # For the verdict alone also the one that the phone opened later.
    assert view["verdict"] == {
        "text": "Lost before an answer: the caller's connection closed with 1006, 1 s after its"
        " last message; it registered again 1 s later.",
        "outcome": "lost",
        "notes": [],
    }
    assert [party["name"] for party in view["parties"]] == ["alice", "10.0.0.2:5060"]
    # The handshake, the message and the close, in order of time.
    assert [(step["record"], step["kind"], step["label"]) for step in view["steps"]] == [
        (1, "event", "opened"), (2, "sip", "INVITE"), (3, "event", "closed 1006"),
    ]  # fmt: skip
    assert (view["left_out"], view["cut"]) == (0, 0)
    assert view["related"] == [{"call_id": "other", "why": "correlation id"}]


async def test_events_long_before_a_call_are_not_in_its_picture(
    service: Any, client: httpx.AsyncClient
) -> None:
    store = service.backend.store
    store.records[1].at = store.lines["77"].since = START - 3600 * SECOND
    view = await get(client, "call", id=CALL_ID)
    assert [step["record"] for step in view["steps"]] == [2, 3]


async def test_a_long_call_says_how_much_is_left_out(
    service: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hep.view.parts.MOST_RECORDS", 1)
    service.backend.store.summaries[CALL_ID].messages = 2500
    assert (await get(client, "call", id=CALL_ID))["cut"] == 2499


async def test_a_connection_shows_its_handshake_and_calls(client: httpx.AsyncClient) -> None:
    view = await get(client, "connection", id="77")
    assert view["request"] == "GET / HTTP/1.1\r\n\r\n"
    assert view["reply"] == "HTTP/1.1 101 S\r\n\r\n"
    assert view["other"]["id"] == "78"
    assert [call["call_id"] for call in view["calls"]] == [CALL_ID]
    assert [(step["record"], step["label"]) for step in view["steps"]] == [
        (1, "opened"), (2, "INVITE"), (3, "closed 1006"), (4, "SIP"),
    ]  # fmt: skip


async def test_a_message_is_split_and_masked_on_request(client: httpx.AsyncClient) -> None:
    message = await get(client, "message", id=2)
    assert message["start_line"] == "INVITE sip:bob@example.com SIP/2.0"
    assert {"name": "Subject", "value": "one\r\n  two"} in message["headers"]
    assert (message["body"], message["body_type"]) == ("v=0\r\n", "application/sdp")
    assert message["protocol"] == "SIP"
    masked = await get(client, "message", id=2, masked=1)
    secret = b'response="0123456789abcdef"'
    assert secret in base64.b64decode(message["raw"])
    assert base64.b64decode(masked["raw"]) == base64.b64decode(message["raw"]).replace(
        secret, b'response="***"'
    )


async def test_hostile_bytes_are_text(client: httpx.AsyncClient) -> None:
    message = await get(client, "message", id=4)
    assert message["body"] == "\x00\\xff<script>\u202e"
    assert (message["start_line"], message["headers"], message["size"]) == ("", [], 13)


async def test_a_time_that_is_not_given_is_that_of_the_store(
    service: Any, client: httpx.AsyncClient
) -> None:
    assert (await get(client, "closes"))["buckets"] == [{"at": START, "counts": {"1006": 1}}]
    assert (await get(client, "refusals", until=START + 9))["total"] == 2
    await get(client, "closes", since=START + 1)
    [(_, *whole), (_, *period), (_, since, until, _)] = service.backend.store.asked
    # All that an old capture holds ends with it; what has a start goes on until now.
    assert whole == [START, START + SECOND, 60]
    assert period == [START, START + 9]
    assert since == START + 1
    assert until > START + SECOND


async def test_search_says_why(client: httpx.AsyncClient) -> None:
    found = await get(client, "search", q="alice", limit=5)
    assert found["matches"] == [{"what": "call", "id": CALL_ID, "why": "user"}]


@pytest.mark.parametrize(
    ("wanted", "media_type", "suffix", "begin"),
    [
        ("pcap", "application/vnd.tcpdump.pcap", "pcap", b"\xd4\xc3\xb2\xa1"),
        ("text", "text/plain; charset=utf-8", "txt", f"Call-ID: {CALL_ID}\n".encode()),
        ("json", "application/json", "json", b"{"),
        ("mermaid", "text/plain; charset=utf-8", "mmd", b"sequenceDiagram\n"),
        ("html", "text/html; charset=utf-8", "html", b"<!doctype html>"),
    ],
)
async def test_an_export_is_a_file(
    client: httpx.AsyncClient, wanted: str, media_type: str, suffix: str, begin: bytes
) -> None:
    answer = await client.get("/api/v1/call/export", params={"id": CALL_ID, "format": wanted})
    assert answer.headers["content-type"] == media_type
    name = f"call-a84b4c76e66710_pc33.example.com.{suffix}"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.content.startswith(begin)
    assert b"INVITE" in answer.content
    assert b"alice" in answer.content


async def test_an_anonymous_export_has_no_call_id_in_its_name(client: httpx.AsyncClient) -> None:
    params = {"id": CALL_ID, "format": "text", "anonymous": "1"}
    answer = await client.get("/api/v1/call/export", params=params)
    assert 'filename="call-anonymous.txt"' in answer.headers["content-disposition"]
    assert "INVITE sip:user" in answer.text
    assert not [name for name in ("alice", "bob", "10.0.0", "pc33") if name in answer.text]


@pytest.mark.parametrize(
    ("call_id", "name"),
    [
        ('x"\r\nSet-Cookie: a=b', "call-x_Set-Cookie_a_b.txt"),
        ("../../etc/passwd", "call-etc_passwd.txt"),
        ("\u202egnp.exe", "call-gnp.exe.txt"),
        ("é" * 200, "call-" + "e_" * 31 + "e.txt"),
        ("...", "call-unnamed.txt"),
        ("a" * 1000, "call-" + "a" * 64 + ".txt"),
    ],
)
def test_a_file_name_is_plain(call_id: str, name: str) -> None:
    assert file_name(call_id, "txt") == name


async def test_a_hostile_call_id_does_not_leave_its_header(
    service: Any, client: httpx.AsyncClient
) -> None:
    hostile = 'a"; filename=evil.exe\r\nX-Evil: 1'
    service.backend.store.summaries[hostile] = CallSummary(hostile, "call")
    answer = await client.get(f"/api/v1/call/export?format=text&id={quote(hostile)}")
    assert answer.status_code == 200
    assert "x-evil" not in answer.headers
    assert answer.headers["content-disposition"].count('"') == 2


async def test_metrics_are_prometheus(service: Any, client: httpx.AsyncClient) -> None:
    service.backend.dropped = {"queue-full": 3, 'a"b\\\n': 1}
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["hep_view_packets_received_total", "udp"] == 4
    assert found["hep_view_packets_stored_total",] == 4
    assert found["hep_view_packets_dropped_total", "queue-full"] == 3
    assert found["hep_view_packets_dropped_total", 'a"b\\\n'] == 1
    assert found["hep_view_store_bytes",] == 4096
    assert found["hep_view_store_problem",] == 0
    assert found["hep_view_live_clients",] == 0
    assert found["hep_view_bad_total",] == 7


async def test_a_store_that_fails_is_a_500_without_details(
    service: Any, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("secret path")

    service.backend.store.before_answering = fail
    answer = await client.get("/api/v1/calls")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "secret path" in caplog.text


async def test_text_scans_leave_threads_to_other_queries(
    service: Any, client: httpx.AsyncClient
) -> None:
    go_on = threading.Event()
    running: list[int] = []

    def wait() -> None:
        if service.backend.store.asked[-1][1].text:
            running.append(1)
            go_on.wait(30)

    service.backend.store.before_answering = wait
    most = threads.SCANS + threads.MOST_WAITING_SCANS
    scans = [asyncio.ensure_future(client.get("/api/v1/calls?text=x")) for _ in range(most + 3)]
    try:
        done, _ = await asyncio.wait(scans, return_when=asyncio.FIRST_COMPLETED)
        assert {scan.result().status_code for scan in done} == {503}
        assert done.pop().result().headers["retry-after"] == "2"
        assert (await client.get("/api/v1/calls")).status_code == 200
        assert len(running) <= threads.SCANS
    finally:
        go_on.set()
    codes = [answer.status_code for answer in await asyncio.gather(*scans)]
    assert codes.count(200) == most


async def test_a_query_beyond_its_time_limit_is_refused_and_still_counted() -> None:
    go_on = threading.Event()
    pool = threads.Threads("queries", 1, 0, time_limit=0.01)
    try:
        with pytest.raises(threads.ProblemError, match="no answer within"):
            await pool.run(go_on.wait, 30)
        with pytest.raises(threads.ProblemError, match="under way already"):
            await pool.run(int)
    finally:
        go_on.set()
        pool.close()


async def test_head_and_options(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/status", "/", "/metrics", "/api/v1/live", "/healthz"):
        answer = await client.head(path)
        assert (answer.status_code, path) == (200, path)
    answer = await client.options("/api/v1/calls")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_an_unknown_path_says_where_the_others_are(client: httpx.AsyncClient) -> None:
    assert "/openapi.json" in await refused(client, "/api/v1/nothing", 404)
    assert "/openapi.json" in await refused(client, "/api/v1/calls/", 404)


async def test_200_rows_are_written_in_one_pass(service: Any, client: httpx.AsyncClient) -> None:
    service.backend.store.summaries = {
        str(number): CallSummary(str(number), "call", from_user="<b>\u2028")
        for number in range(300)
    }
    answer = await client.get("/api/v1/calls")
    assert len(json.loads(answer.content)["calls"]) == 200
