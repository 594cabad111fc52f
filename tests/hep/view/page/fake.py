"""A fake of the viewer's service, for the page and its tests.

It serves the page under the service's Content-Security-Policy, and answers of the contract that
are built of the real models. Tests change what it says with POST requests to ``/fake/…``.

``python tests/hep/view/page/fake.py --rows 10000`` prints its URL as the first line.
"""

import argparse
import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from stories import build, random_row
from story import SECOND, World

import hep.view
from hep.view.model.picture import Verdict
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store.query import (
    CloseBucket,
    CloseCode,
    Closes,
    Match,
    RefusalGroup,
    Refusals,
    StoreStatus,
)
from hep.view.web import models

PAGE = Path(hep.view.__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def answer(model: Any, status: int = 200) -> Response:
    """A model as JSON, as pydantic writes it."""
    return Response(model.model_dump_json(), status, media_type="application/json")


def problem(status: int, text: str) -> Response:
    """An error."""
    return answer(models.Problem(error=text), status)


class Fake:
    """The service."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.now = time.time_ns() // 1000
        self.world: World = build(self.now, options.rows)
        if options.rows == 0:
            self.world = World(self.now)
        self.problem = options.problem
        self.token = options.token
        self.listeners: set[asyncio.Queue[str]] = set()
        self.trace = {"ws": True, "wss": True}
        self.reachable = True
        self.rng = random.Random(1)
        self.added = 0
        self.closed: list[dict[str, Any]] = []

    # What it answers.

    def status(self) -> models.Status:
        """What the viewer does."""
        packets = len(self.world.rows) * 7
        return models.Status(
            version="0.1.0",
            now=time.time_ns() // 1000,
            started=self.now - 3600 * SECOND,
            store=StoreStatus(
                packets,
                packets * 900,
                self.now - 86_000 * SECOND,
                self.now,
                3,
                None,
                86_400,
                2_000_000_000,
                packets,
                1234 if self.problem else 0,
                self.problem,
            ),
            calls=len(self.world.rows),
            calls_open=2,
            connections_open=3,
            rate=128.4,
            listening=[
                models.Listening(transport="udp", address="127.0.0.1:9060", received=packets),
                models.Listening(transport="tcp", address="127.0.0.1:9060", received=0),
            ],
            files=[],
            bad=0,
            control=self.options.control,
            login=bool(self.token),
        )

    async def get_status(self, request: Request) -> Response:
        return answer(self.status())

    async def calls(self, request: Request) -> Response:
        q = request.query_params
        rows = [row for row in self.world.rows if self._is_wanted(row, request)]
        start = int(q.get("before") or 0)
        limit = int(q.get("limit") or 200)
        end = start + limit
        return answer(
            models.Calls(calls=rows[start:end], next=str(end) if end < len(rows) else None)
        )

    def _is_wanted(self, row: CallSummary, request: Request) -> bool:
        q = request.query_params
        kinds, outcomes = q.getlist("kind") or q.getlist("kinds"), q.getlist("outcome")
        users = f"{row.from_user}@{row.from_host} {row.to_user}@{row.to_host}".lower()
        code, text = q.get("code", ""), q.get("text", "")
        return (
            (not kinds or row.kind in kinds)
            and (not outcomes or row.outcome in outcomes)
            and q.get("user", "").lower() in users
            and (not q.get("method") or q["method"] == row.method)
            and (not code or str(row.code) == code or code == f"{row.code // 100}xx")
            and (not q.get("since") or row.last >= int(q["since"]))
            and (not q.get("until") or row.first <= int(q["until"]))
            and (not text or text in row.call_id or text in users)
            and any(a.startswith(q.get("address", "")) for a in row.addresses or [""])
        )

    async def call(self, request: Request) -> Response:
        found = self.world.of_call(request.query_params["id"])
        return (
            answer(found)
            if found
            else problem(404, "no call has this Call-ID; it may be older than what is kept")
        )

    async def message(self, request: Request) -> Response:
        found = self.world.messages.get(int(request.query_params["id"]))
        return answer(found) if found else problem(404, "no packet has this number")

    async def connections(self, request: Request) -> Response:
        q = request.query_params
        states, text = q.getlist("state"), q.get("text", "").lower()
        rows = [view.connection for view in self.world.connections.values()]
        rows = [
            row
            for row in rows
            if (not states or row.state in states)
            and row.peer.startswith(q.get("address", ""))
            and text in f"{row.id} {row.aor} {row.user_agent} {row.error} {row.origin}".lower()
            and (not q.get("since") or (row.until or self.now * 2) >= int(q["since"]))
        ]
        rows.sort(key=lambda row: row.since, reverse=True)
        return answer(models.Connections(connections=rows))

    async def connection(self, request: Request) -> Response:
        found = self.world.connections.get(request.query_params["id"])
        return answer(found) if found else problem(404, "no connection has this id")

    async def refusals(self, request: Request) -> Response:
        rows = [v.connection for v in self.world.connections.values() if v.connection.error]
        rows = [row for row in rows if row.state in ("refused", "failed")]

        def group(key: str, rows: list[ConnectionSummary], factor: int) -> RefusalGroup:
            last = rows[-1]
            return RefusalGroup(
                key, len(rows) * factor, last.until, last.status, last.error_detail, last.user_agent
            )

        by_reason = [group(row.error, [row], 40 - 13 * i) for i, row in enumerate(rows)]
        addresses = {row.peer.rsplit(":", 1)[0] for row in rows}
        by_address = [
            group(a, [row for row in rows if row.peer.startswith(f"{a}:")], 17)
            for a in sorted(addresses)
        ]
        total = sum(each.count for each in by_reason)
        return answer(Dump(Refusals(by_reason, by_address, total)))

    async def closes(self, request: Request) -> Response:
        count = int(request.query_params.get("buckets", 60))
        until = int(request.query_params.get("until", self.now))
        since = int(request.query_params.get("since", self.now - 3600 * SECOND))
        rng = random.Random(5)
        step = max((until - since) // count, 1)
        buckets, totals = [], Counter[int]()
        for i in range(count if self.world.rows else 0):
            counts = {
                1000: rng.randint(0, 9),
                1001: rng.randint(0, 6),
                1005: rng.randint(0, 3),
                1006: rng.randint(0, 14 if 30 < i < 38 else 2),
                4000: rng.randint(0, 1),
            }
            counts = {code: n for code, n in counts.items() if n}
            totals.update(counts)
            buckets.append(CloseBucket(since + i * step, counts))
        codes = [
            CloseCode(code, n - n // 4, n // 5, n // 4 - n // 5) for code, n in totals.most_common()
        ]
        return answer(Dump(Closes(codes, buckets, step)))

    async def search(self, request: Request) -> Response:
        text = request.query_params["q"].lower()
        calls, connections, matches = [], [], []
        for row in self.world.rows:
            why = (
                "Call-ID"
                if text == row.call_id.lower()
                else "user"
                if text in (row.from_user.lower(), row.to_user.lower())
                else "address"
                if any(a.startswith(text) for a in row.addresses)
                else ""
            )
            if why and len(calls) < 100:
                calls.append(row)
                matches.append(Match("call", row.call_id, why))
        for view in self.world.connections.values():
            row_ = view.connection
            why = (
                "connection"
                if text == row_.id.lower()
                else "address"
                if row_.peer.startswith(text)
                else "user"
                if row_.aor.lower().startswith(f"{text}@")
                else ""
            )
            if why:
                connections.append(row_)
                matches.append(Match("connection", row_.id, why))
        from hep.view.store.query import Found

        return answer(Dump(Found(calls, connections, matches, len(calls) < 100)))

    async def export(self, request: Request) -> Response:
        name = f"call.{request.query_params['format']}"
        return Response(
            b"exported", headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )

    async def login(self, request: Request) -> Response:
        wanted = models.Login.model_validate(await request.json())
        if wanted.token != self.token:
            return problem(401, "the token is wrong; it is the one of --token")
        reply = JSONResponse({})
        reply.set_cookie("hep_view", "in", httponly=True, samesite="strict")
        return reply

    async def logout(self, request: Request) -> Response:
        reply = JSONResponse({})
        reply.delete_cookie("hep_view")
        return reply

    async def control(self, request: Request) -> Response:
        if not self.options.control:
            return problem(404, "no control interface is set; start hep view with --control URL")
        if not self.reachable:
            return answer(
                models.Control(
                    reachable=False,
                    url="http://127.0.0.1:8090/mi",
                    problem="connection refused; is sipws running with control.http set?",
                )
            )
        rows = [
            v.connection for v in self.world.connections.values() if v.connection.state == "open"
        ]
        return answer(
            models.Control(
                reachable=True,
                url="http://127.0.0.1:8090/mi",
                version="sipws 0.9.0",
                uptime="3 days 4 h",
                trace=self.trace,
                destinations=[
                    models.Destination(name="homer", state="up", sent=120_331, dropped=0, queued=0),
                    models.Destination(
                        name="view",
                        state="down",
                        sent=9_120,
                        dropped=311,
                        queued=4_096,
                        detail="queue full: 311; connect: connection refused",
                    ),
                ],
                connections=[
                    {
                        "ID": row.id,
                        "Type": row.protocol.lower(),
                        "State": "established",
                        "Remote": row.peer,
                        "Local": row.local,
                        "Lifetime": "2026-01-02 03:04:05",
                    }
                    for row in rows
                    if row.id not in {each["id"] for each in self.closed}
                ],
            )
        )

    async def control_trace(self, request: Request) -> Response:
        switch = models.Switch.model_validate(await request.json())
        for protocol in [switch.only] if switch.only else ["ws", "wss"]:
            self.trace[protocol] = switch.on
        return await self.control(request)

    async def control_close(self, request: Request) -> Response:
        close = models.CloseConnection.model_validate(await request.json())
        self.closed.append(close.model_dump())
        return await self.control(request)

    # Live.

    async def live(self, request: Request) -> Response:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.listeners.add(queue)

        async def stream() -> AsyncIterator[str]:
            try:
                yield "retry: 2000\n\n"
                yield self._event("status", self.status().model_dump_json())
                while text := await queue.get():
                    yield text
            finally:
                self.listeners.discard(queue)

        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

    def _event(self, name: str, data: str) -> str:
        return f"event: {name}\ndata: {data}\n\n"

    def broadcast(self, name: str, data: str) -> None:
        """Send an event to all pages."""
        for queue in self.listeners:
            queue.put_nowait(self._event(name, data))

    def changed(self, rows: list[CallSummary]) -> None:
        """Send rows to all pages."""
        self.broadcast(
            "calls",
            json.dumps(
                {
                    "calls": json.loads(models.Calls(calls=rows).model_dump_json())["calls"],
                    "more": 0,
                }
            ),
        )

    async def _busy(self, row: CallSummary) -> None:
        """Change a call as often as a busy service reports it, for longer than a test waits."""
        for _ in range(200):
            row.messages += 1
            self.changed([row])
            await asyncio.sleep(0.1)

    # What tests ask for.

    async def fake(self, request: Request) -> Response:
        what, q = request.path_params["what"], request.query_params
        if what == "add":
            rows = []
            for _ in range(int(q.get("count", 1))):
                self.added += 1
                row = random_row(self.rng, time.time_ns() // 1000, 900_000 + self.added)
                row.kind, row.method, row.state, row.outcome = "call", "INVITE", "ringing", "open"
                row.code, row.reason, row.ended, row.from_user = (
                    0,
                    "",
                    "",
                    q.get("user", "newcomer"),
                )
                rows.append(row)
            self.world.rows[:0] = rows[::-1]
            self.changed(rows)
        elif what == "end":
            row = next(row for row in self.world.rows if row.call_id == q["id"])
            row.state, row.outcome, row.code, row.reason = "ended", "rejected", 486, "Busy Here"
            row.ended, row.last = "486 of the upstream", time.time_ns() // 1000
            if view := self.world.calls.get(row.call_id):
                view.verdict = Verdict("Changed while it was open.", "rejected")
            self.changed([row])
        elif what == "busy":
            row = next(row for row in self.world.rows if row.call_id == q["id"])
            self.task = asyncio.create_task(self._busy(row))
        elif what == "problem":
            self.problem = q.get("text", "")
            self.broadcast("status", self.status().model_dump_json())
        elif what == "drop":
            for queue in self.listeners:
                queue.put_nowait("")
        elif what == "unreachable":
            self.reachable = False
        elif what == "closed":
            return JSONResponse(self.closed)
        return JSONResponse({"first": self.world.rows[0].call_id if self.world.rows else ""})

    # The application.

    def application(self) -> Starlette:
        """The service as an ASGI application."""
        api = {
            "status": self.get_status,
            "calls": self.calls,
            "call": self.call,
            "message": self.message,
            "connections": self.connections,
            "connection": self.connection,
            "refusals": self.refusals,
            "closes": self.closes,
            "search": self.search,
            "call/export": self.export,
            "live": self.live,
            "control": self.control,
        }
        posts = {
            "login": self.login,
            "logout": self.logout,
            "control/trace": self.control_trace,
            "control/close": self.control_close,
        }
        return Starlette(
            routes=[
                Route("/", lambda request: FileResponse(PAGE / "index.html")),
                *[Route(f"/api/v1/{name}", run) for name, run in api.items()],
                *[Route(f"/api/v1/{name}", run, methods=["POST"]) for name, run in posts.items()],
                Route("/fake/{what}", self.fake, methods=["POST"]),
                Mount("/static", StaticFiles(directory=PAGE)),
            ],
            middleware=[Middleware(Guard, fake=self)],
        )


class Dump:
    """A dataclass of the store, written as the service writes it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def model_dump_json(self) -> str:
        """As JSON."""
        from pydantic import TypeAdapter

        return TypeAdapter(type(self.value)).dump_json(self.value).decode()


class Guard:
    """Adds the policy to each answer, and asks for a login."""

    def __init__(self, app: Any, fake: Fake) -> None:
        self.app, self.fake = app, fake

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        path = request.url.path

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        if (
            self.fake.token
            and path.startswith("/api/")
            and not path.endswith("/login")
            and request.cookies.get("hep_view") != "in"
        ):
            await problem(401, "log in")(scope, receive, guarded)
            return
        if request.method == "POST" and path.startswith("/api/"):
            kind = request.headers.get("content-type", "")
            if request.headers.get("x-requested-with") != "hep-view" and "json" not in kind:
                await problem(403, "send X-Requested-With: hep-view")(scope, receive, guarded)
                return
        await self.app(scope, receive, guarded)


async def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--token", default="")
    parser.add_argument("--problem", default="")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--rate", type=float, default=0, help="new calls a second")
    options = parser.parse_args()
    fake = Fake(options)
    listener = socket.create_server(("127.0.0.1", options.port))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(
        fake.application(), log_level="error", timeout_graceful_shutdown=1, lifespan="off"
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
