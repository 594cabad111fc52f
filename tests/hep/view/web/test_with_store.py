"""The service over a real store: a phone that is lost and comes back."""

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

import hep
from hep.view.model.record import Record, read_sip, record_of
from hep.view.parts import parts_of_call
from hep.view.store.keep import Keep
from hep.view.store.store import Store
from hep.view.web.status import now

NOW = 1_764_500_000
PHONE, AGAIN, SERVER = ("10.1.0.7", 50123), ("10.1.0.7", 50999), ("10.0.0.1", 8080)
REQUEST = "GET / HTTP/1.1\r\nHost: sip.example.com\r\nOrigin: https://a.example\r\n\r\n"
REPLY = "HTTP/1.1 101 Switching Protocols\r\nServer: sipws\r\n\r\n"


def packet(
    at: float, correlation: str, payload: bytes, kind: int, src: Any = PHONE, dst: Any = SERVER
) -> Record:
    return record_of(
        hep.Packet(
            src_ip=src[0], src_port=src[1], dst_ip=dst[0], dst_port=dst[1], payload=payload,
            protocol_type=kind, seconds=int(NOW + at), microseconds=int(at % 1 * 1e6),
            correlation_id=correlation.encode(),
        ),
        NOW,
    )  # fmt: skip


def event(at: float, name: str, event: str, src: Any = PHONE, **more: str) -> Record:
    keys = {"Protocol": "WS", "Event": event, "Status": "SUCCESS", **more}
    return packet(at, name, json.dumps(keys).encode(), 0x59, src)


def sip(
    at: float, call_id: str, method: str, status: int = 0, *, src: Any = PHONE, up: bool = True,
    more: str = "",
) -> Record:  # fmt: skip
    start = f"SIP/2.0 {status} OK" if status else f"{method} sip:bob@example.com SIP/2.0"
    to = "alice" if method == "REGISTER" else "bob"
    text = (
        f"{start}\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK{method}\r\n"
        f"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:{to}@example.com>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    )
    ends = (src, SERVER) if up else (SERVER, src)
    return packet(at, call_id, text.encode(), 1, *ends)


STORY = [
    event(0, "77", "ACCEPTED", **{"Ws-Request": REQUEST, "Ws-Reply": REPLY}),
    sip(0.1, "reg", "REGISTER"),
    sip(0.2, "reg", "REGISTER", 200, up=False),
    sip(1, "call", "INVITE"),
    sip(1.1, "call", "INVITE", 180, up=False),
    sip(1.2, "leg", "INVITE", src=("10.2.0.1", 5060), more="X-CID: call\r\n"),
    event(9, "77", "CLOSED", Close_Code="1006", Closed_By="peer", Status="FAILURE"),
    event(21, "79", "ACCEPTED", AGAIN, **{"Ws-Request": REQUEST, "Ws-Reply": REPLY}),
    sip(21.1, "reg2", "REGISTER", src=AGAIN),
    sip(21.2, "reg2", "REGISTER", 200, src=AGAIN, up=False),
]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(None, Keep())
    # The store gives each packet its number.
    assert store.add([*map(replace, STORY)])
    yield store
    store.close()


@pytest.fixture
def service(make_service: Any, store: Store) -> Any:
    service = make_service()
    service.backend.store = store
    return service


async def get(client: Any, path: str, **params: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_lost_call_is_shown_with_its_connection(client: Any) -> None:
    view = await get(client, "call", id="call")
    labels = [(step["kind"], step["label"]) for step in view["steps"]]
    assert [kind for kind, _ in labels] == ["event", "sip", "sip", "event"]
    assert "1006" in labels[-1][1]
    assert [each["id"] for each in view["connections"]] == ["77"]
    assert "1006" in view["verdict"]["text"]
    # It came back on a connection that the call did not use.
    assert "12 s later" in view["verdict"]["text"]


async def test_page_export_and_command_say_the_same(client: Any, store: Store) -> None:
    view = await get(client, "call", id="call")
    export = await get(client, "call/export", id="call", format="json")
    parts = parts_of_call(store, "call", now())
    assert parts is not None
    assert view["verdict"] == export["verdict"] == asdict(parts.verdict)
    assert view["steps"] == export["steps"] == [asdict(step) for step in parts.ladder.steps]
    assert view["call"] == export["call"] == asdict(parts.call)


async def test_keep_alives_are_shown_on_request(client: Any, store: Store) -> None:
    assert store.add([sip(2, "call", "OPTIONS")])
    for keepalives in (0, 1):
        view = await get(client, "call", id="call", keepalives=keepalives)
        labels = [step["label"] for step in view["steps"]]
        assert (view["left_out"], "OPTIONS" in labels) == (1 - keepalives, bool(keepalives))


async def test_a_callee_who_was_lost_before_the_call_is_named(client: Any, store: Store) -> None:
    failed = sip(15, "late", "INVITE", 480, up=False)
    failed.payload = failed.payload.replace(b"bob", b"alice")
    invite = sip(14, "late", "INVITE", src=("10.1.0.8", 50123))
    invite.payload = invite.payload.replace(b"bob", b"alice")
    assert store.add([replace(each, sip=read_sip(each.payload)) for each in (invite, failed)])
    for format_ in ("json", "text", "html"):
        answer = await client.get("/api/v1/call/export", params={"id": "late", "format": format_})
        assert "alice@example.com was not connected" in answer.text
    notes = (await get(client, "call", id="late"))["verdict"]["notes"]
    gone = "alice@example.com was not connected: the connection had closed with 1006 5 s before."
    assert gone in notes


async def test_a_step_leads_to_its_message(client: Any) -> None:
    view = await get(client, "call", id="call")
    number = view["steps"][1]["record"]
    # A browser's numbers are exact up to here.
    assert number < 2**53
    message = await get(client, "message", id=number)
    assert message["start_line"] == "INVITE sip:bob@example.com SIP/2.0"


async def test_a_call_is_exported(client: Any) -> None:
    for format_ in ("pcap", "text", "json", "mermaid", "html"):
        for anonymous in ("", "1"):
            params = {"id": "call", "format": format_, "anonymous": anonymous}
            answer = await client.get("/api/v1/call/export", params=params)
            assert answer.status_code == 200, answer.text
            assert (b"alice" in answer.content) is not bool(anonymous)


async def test_credentials_are_masked_on_request(client: Any, store: Store) -> None:
    secret = 'Authorization: Digest username="alice", response="0123456789abcdef"\r\n'
    assert store.add([sip(2, "secret", "REGISTER", more=secret)])
    view = await get(client, "call", id="secret")
    [number] = [step["record"] for step in view["steps"] if step["kind"] == "sip"]
    for masked in (0, 1):
        message = await get(client, "message", id=number, masked=masked)
        raw = base64.b64decode(message["raw"])
        assert (b"0123456789abcdef" in raw) is not bool(masked)
        assert ("0123456789abcdef" in str(message["headers"])) is not bool(masked)


async def test_the_other_leg_is_related(client: Any) -> None:
    view = await get(client, "call", id="leg")
    assert {"call_id": "call", "why": "X-CID"} in view["related"]
    # The call that is named does not name it.
    assert (await get(client, "call", id="call"))["related"] == []


async def test_a_connection_is_shown_with_its_handshake(client: Any) -> None:
    view = await get(client, "connection", id="77")
    assert (view["request"], view["reply"]) == (REQUEST, REPLY)
    assert {call["call_id"] for call in view["calls"]} == {"call", "reg"}
    assert view["connection"]["code"] == 1006
    assert view["sentence"].startswith("Closed with 1006 by the peer after ")


async def test_lists_go_on_where_they_ended(client: Any) -> None:
    first = await get(client, "calls", limit=2)
    second = await get(client, "calls", limit=200, before=first["next"])
    found = [row["call_id"] for row in first["calls"] + second["calls"]]
    assert sorted(found) == ["call", "leg", "reg", "reg2"]
    answer = await client.get("/api/v1/calls?before=1.2.x")
    assert (answer.status_code, "'next'" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "path",
    [
        "status", "calls", "calls?text=INVITE", "calls?user=%25_%5C&code=4xx&address=10.%25",
        "calls?method=%27%3B--", "connections", "connections?text=%00", "refusals", "closes",
        "closes?since=0&until=1&buckets=1000", f"closes?since=0&until={2**62}", "search?q=alice",
        "search?q=%00", "search?q=%22%27*%25",
        "calls?since=4611686018427387904", "connections?state=open&state=closed",
    ],
)  # fmt: skip
async def test_each_path_is_answered(client: Any, path: str) -> None:
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text


async def test_a_closed_store_is_no_crash(client: Any, store: Store) -> None:
    store.close()
    answer = await client.get("/api/v1/calls")
    assert answer.status_code in (200, 500, 503)
    assert answer.headers["content-type"] == "application/json"
