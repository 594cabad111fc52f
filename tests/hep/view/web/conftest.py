# ruff: noqa: A002 - the names of the parameters are those of the store
"""Doubles of the store and of the program, and clients of the service."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from hep.view.model.record import Kind, Record, read_sip
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store.query import (
    CallFilter,
    CallPage,
    CloseBucket,
    CloseCode,
    Closes,
    ConnectionFilter,
    ConnectionPage,
    Found,
    Match,
    RefusalGroup,
    Refusals,
    StoreStatus,
)
from hep.view.store.segment import StoreError
from hep.view.web.app import make_app
from hep.view.web.backend import Controlling, Facts
from hep.view.web.live import LiveFeed
from hep.view.web.models import FileStatus, Listening
from hep.view.web.settings import WebSettings

START = 1_700_000_000_000_000
SECOND = 1_000_000
CALL_ID = "a84b4c76e66710@pc33.example.com"
INVITE = (
    "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\n"
    f"Call-ID: {CALL_ID}\r\nCSeq: 1 INVITE\r\nX-CID: other\r\nSubject: one\r\n  two\r\n"
    'Authorization: Digest username="alice", response="0123456789abcdef"\r\n'
    "Content-Type: application/sdp\r\n\r\nv=0\r\n"
)


class FakeStore:
    """Answers from lists, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.before_answering: Callable[[], object] = lambda: None
        opened = {
            "Protocol": "WS", "Event": "ACCEPTED", "Status": "SUCCESS",
            "Ws-Request": "GET / HTTP/1.1\r\n\r\n", "Ws-Reply": "HTTP/1.1 101 S\r\n\r\n",
        }  # fmt: skip
        closed = {"Event": "CLOSED", "Status": "FAILURE", "Close_Code": "1006"}
        payloads = [
            (Kind.EVENT, START - SECOND, json.dumps(opened).encode()),
            (Kind.SIP, START, INVITE.encode()),
            (Kind.EVENT, START + SECOND, json.dumps(closed).encode()),
            (Kind.OTHER, START + 2 * SECOND, b"\x00\xff<script>\xe2\x80\xae"),
        ]
        self.records = {
            number: Record(
                at, kind, "10.0.0.1:5060", "10.0.0.2:5060", payload, 1, sip=read_sip(payload),
                correlation="other" if kind is Kind.SIP else "", connection="77", id=number,
            )
            for number, (kind, at, payload) in enumerate(payloads, 1)
        }  # fmt: skip
        self.summaries = {
            CALL_ID: CallSummary(
                CALL_ID, "call", "INVITE", START, START, "alice", "example.com", messages=1,
                connections=["77", "gone"], addresses=["10.0.0.1:5060"],
            ),
            "other": CallSummary("other", "call"),
        }  # fmt: skip
        own = ConnectionSummary(
            "77", "WS", "10.0.0.1:5060", "10.0.0.2:5060", since=START - SECOND,
            until=START + SECOND, state="closed", code=1006, closed_by="peer",
            aor="alice@example.com", relayed_with="78", calls=[CALL_ID, "gone"],
        )  # fmt: skip
        self.lines = {
            "77": own,
            "78": ConnectionSummary("78", "WS", leg="upstream", relayed_with="77"),
            "79": replace(own, id="79", since=START + 2 * SECOND, until=0, state="open"),
        }

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        self.before_answering()

    def calls(self, filter: CallFilter, limit: int, before: str | None) -> CallPage:
        self._note("calls", filter, limit, before)
        if before == "broken":
            raise StoreError(f"before={before!r} is no place in a list: use an answer's 'next'")
        rows = [*self.summaries.values()]
        return CallPage(rows[:limit], "next" if len(rows) > limit else None, None)

    def call(self, call_id: str) -> CallSummary | None:
        return self.summaries.get(call_id)

    def records_of_call(self, call_id: str, limit: int = 2000) -> list[Record]:
        self._note("records_of_call", call_id, limit)
        return [record for record in self.records.values() if record.kind is Kind.SIP]

    def record(self, id: int) -> Record | None:
        return self.records.get(id)

    def connections(
        self, filter: ConnectionFilter, limit: int, before: str | None
    ) -> ConnectionPage:
        self._note("connections", filter, limit, before)
        return ConnectionPage([*self.lines.values()][:limit])

    def connection(self, id: str) -> ConnectionSummary | None:
        return self.lines.get(id)

    def connections_of(
        self, aor: str, limit: int = 20, since: int | None = None, until: int | None = None
    ) -> list[ConnectionSummary]:
        self._note("connections_of", aor, limit, since, until)
        return [line for line in self.lines.values() if line.aor == aor]

    def records_of_connection(self, id: str, limit: int = 2000) -> list[Record]:
        return [*self.records.values()] if id == "77" else []

    def refusals(self, since: int, until: int) -> Refusals:
        self._note("refusals", since, until)
        group = RefusalGroup("no-origin", 2, START, 403)
        return Refusals([group], [replace(group, key="10.0.0.9")], 2)

    def closes(self, since: int, until: int, buckets: int = 60) -> Closes:
        self._note("closes", since, until, buckets)
        return Closes([CloseCode(1006, 1)], [CloseBucket(START, {1006: 1})], SECOND)

    def search(self, text: str, limit: int = 100) -> Found:
        self._note("search", text, limit)
        return Found([*self.summaries.values()], [], [Match("call", CALL_ID, "user")])

    def status(self) -> StoreStatus:
        return StoreStatus(4, 4096, START, START + SECOND, 1, None, 86400, None, stored=4)

    def counts(self) -> tuple[int, int, int]:
        return len(self.summaries), 1, 1


@dataclass
class FakeBackend:
    """A program that has received four packets."""

    store: FakeStore = field(default_factory=FakeStore)
    live: LiveFeed = field(default_factory=LiveFeed)
    control: Controlling | None = None
    dropped: dict[str, int] = field(default_factory=dict)

    def status(self) -> Facts:
        return Facts(
            "1.2.3", START, 0.5, [Listening(transport="udp", address="127.0.0.1:9060", received=4)],
            [FileStatus(name="a.pcap", packets=3, done=True)], 7, self.dropped,
        )  # fmt: skip


class Service:
    """The service without a socket."""

    def __init__(self, page: Path, **settings: Any) -> None:
        self.backend = FakeBackend()
        self.settings = WebSettings(page=page, **settings)
        self.app = make_app(self.backend, self.settings)

    def client(self, base: str = "http://127.0.0.1:9080", **more: Any) -> httpx.AsyncClient:
        address = more.pop("address", "127.0.0.1")
        transport = httpx.ASGITransport(self.app, client=(address, 4711))
        return httpx.AsyncClient(transport=transport, base_url=base, **more)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "views").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "app.js").write_text("export {};")
    (folder / "views" / "calls.js").write_text("export {};")
    (folder / "style.css").write_text("body {}")
    (folder / "secret.py").write_text("secret")
    (tmp_path / "outside.js").write_text("outside")
    return folder


@pytest.fixture
def make_service(page: Path) -> Callable[..., Service]:
    return lambda **settings: Service(page, **settings)


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as client:
        yield client


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        running = asyncio.ensure_future(server.serve(sockets=[listening]))

        async def stop() -> None:
            server.should_exit = True
            async with asyncio.timeout(20):
                await running

        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", stop
        finally:
            await stop()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Starlette], Any]]:
    """Serve an application with uvicorn; the result is its URL and what stops it."""
    async with AsyncExitStack() as stack:

        async def run(app: Starlette) -> tuple[str, Callable[[], Awaitable[None]]]:
            return await stack.enter_async_context(serving(app))

        yield run
