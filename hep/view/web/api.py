"""The functions that answer the paths of `hep.view.web.routes`, by the name of the path."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from hep.view.export import MEDIA_TYPES
from hep.view.store.query import Closes, Found, Refusals
from hep.view.store.segment import StoreError
from hep.view.web import models, queries, views
from hep.view.web.backend import Backend, ControlError, Controlling
from hep.view.web.live import EventStream, FeedClosedError
from hep.view.web.metrics import CONTENT_TYPE, render
from hep.view.web.openapi import description
from hep.view.web.problems import ProblemError, shown
from hep.view.web.security import Access
from hep.view.web.settings import WebSettings
from hep.view.web.status import StatusReader, now
from hep.view.web.threads import MOST_WAITING, MOST_WAITING_SCANS, READERS, SCANS, Threads

T = TypeVar("T")

Answered = Any
"""A value of the type that the table names, or a whole response."""


class Api:
    """Answers requests that `Access` has allowed.

    Args:
        backend: the program.
        settings: of the interface.
        access: logs browsers in and out.
    """

    def __init__(self, backend: Backend, settings: WebSettings, access: Access) -> None:
        self._backend = backend
        self._access = access
        self._readers = Threads("queries", READERS, MOST_WAITING)
        self._scans = Threads("text searches", SCANS, MOST_WAITING_SCANS)
        self._status = StatusReader(backend, self._readers, login=settings.token is not None)
        self._description: dict[str, Any] | None = None

    def close(self) -> None:
        """End streams and queries."""
        self._backend.live.close()
        self._status.close()
        self._readers.close()
        self._scans.close()

    async def status(self, request: Request, query: queries.NoQuery) -> Answered:
        """``GET status``."""
        return (await self._status.read())[0]

    async def calls(self, request: Request, query: queries.CallsQuery) -> Answered:
        """``GET calls``."""
        _check_period(query.since, query.until)
        threads = self._scans if query.text else self._readers
        page = await threads.run(
            _with_cursor, self._backend.store.calls, query.filter, query.limit, query.before
        )
        return models.Calls(calls=page.rows, next=page.next, searched_to=page.searched_to)

    async def call(self, request: Request, query: queries.CallQuery) -> Answered:
        """``GET call``."""
        view = await self._readers.run(
            views.call_view, self._backend.store, query.id, keepalives=query.keepalives
        )
        return _found(view, f"there is no call with the Call-ID {shown(query.id)}")

    async def call_export(self, request: Request, query: queries.ExportQuery) -> Answered:
        """``GET call/export``."""
        content = await self._readers.run(
            views.call_file,
            self._backend.store,
            query.id,
            query.format,
            anonymous=query.anonymous,
        )
        content = _found(content, f"there is no call with the Call-ID {shown(query.id)}")
        media_type, suffix = MEDIA_TYPES[query.format]
        # An anonymous file names no host, and a Call-ID may.
        name = file_name("anonymous" if query.anonymous else query.id, suffix)
        headers = {
            "Content-Type": media_type,
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return Response(content, headers=headers)

    async def message(self, request: Request, query: queries.MessageQuery) -> Answered:
        """``GET message``."""
        found = await self._readers.run(
            views.message, self._backend.store, query.id, masked=query.masked
        )
        return _found(found, f"there is no packet {query.id}; it may have been removed with age")

    async def connections(self, request: Request, query: queries.ConnectionsQuery) -> Answered:
        """``GET connections``."""
        _check_period(query.since, query.until)
        threads = self._scans if query.text else self._readers
        page = await threads.run(
            _with_cursor, self._backend.store.connections, query.filter, query.limit, query.before
        )
        return models.Connections(
            connections=page.rows, next=page.next, searched_to=page.searched_to
        )

    async def connection(self, request: Request, query: queries.ConnectionQuery) -> Answered:
        """``GET connection``."""
        view = await self._readers.run(
            views.connection_view, self._backend.store, query.id, keepalives=query.keepalives
        )
        return _found(view, f"there is no connection with the id {shown(query.id)}")

    async def refusals(self, request: Request, query: queries.PeriodQuery) -> Answered:
        """``GET refusals``."""

        def read() -> Refusals:
            return self._backend.store.refusals(*self._period(query))

        return await self._readers.run(read)

    async def closes(self, request: Request, query: queries.ClosesQuery) -> Answered:
        """``GET closes``."""

        def read() -> Closes:
            return self._backend.store.closes(*self._period(query), query.buckets)

        return await self._readers.run(read)

    async def search(self, request: Request, query: queries.SearchQuery) -> Answered:
        """``GET search``."""

        def read() -> Found:
            return self._backend.store.search(query.q, query.limit)

        return await self._scans.run(read)

    async def live(self, request: Request, query: queries.NoQuery) -> Answered:
        """``GET live``."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        feed = self._backend.live
        try:
            subscriber = feed.subscribe()
        except FeedClosedError as exc:
            raise ProblemError(503, str(exc), Retry_After="5") from exc
        try:
            first = await self._status.first_event()
        except BaseException:
            feed.unsubscribe(subscriber)
            raise
        return EventStream(feed, subscriber, first)

    async def login(self, request: Request, body: models.Login) -> Answered:
        """``POST login``."""
        response = Response(status_code=204)
        self._access.log_in(request.scope, body.token, response)
        return response

    async def logout(self, request: Request, query: queries.NoQuery) -> Answered:
        """``POST logout``."""
        response = Response(status_code=204)
        self._access.log_out(request.scope, request.headers.get("cookie", ""), response)
        return response

    async def control(self, request: Request, query: queries.NoQuery) -> Answered:
        """``GET control``."""
        return await self._controlled().read()

    async def control_trace(self, request: Request, body: models.Switch) -> Answered:
        """``POST control/trace``."""
        try:
            await self._controlled().switch(on=body.on, only=body.only)
        except ControlError as exc:
            raise ProblemError(exc.status, str(exc)) from exc
        return Response(status_code=204)

    async def control_close(self, request: Request, body: models.CloseConnection) -> Answered:
        """``POST control/close``."""
        try:
            await self._controlled().close(body.id, body.code, body.reason)
        except ControlError as exc:
            raise ProblemError(exc.status, str(exc)) from exc
        return Response(status_code=204)

    async def metrics(self, request: Request, query: queries.NoQuery) -> Answered:
        """``GET /metrics``."""
        status, facts = await self._status.read()
        text = render(status, facts, self._backend.live.clients)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def openapi_json(self, request: Request, query: queries.NoQuery) -> Answered:
        """``GET /openapi.json``."""
        if self._description is None:
            self._description = description(self._backend.status().version)
        return self._description

    async def healthz(self, request: Request, query: queries.NoQuery) -> Answered:
        """``GET /healthz``."""
        return Response("ok\n", media_type="text/plain")

    def _controlled(self) -> Controlling:
        return _found(
            self._backend.control,
            "no sipws is controlled; start hep view with --control and the URL of its control"
            " interface",
        )

    def _period(self, query: queries.PeriodQuery) -> tuple[int, int]:
        """The time that is asked for; by default all that the store holds."""
        since, until = query.since, query.until
        if since is None or until is None:
            held = self._backend.store.status()
            if until is None:
                # All of a capture of last year ends with it; the last hour ends now.
                is_all = since is None and held.packets
                until = held.newest if is_all else max(now(), held.newest)
            since = held.oldest if since is None else since
        _check_period(since, until)
        return since, until


def _check_period(since: int | None, until: int | None) -> None:
    if since is not None and until is not None and since > until:
        raise ProblemError(400, f"'since': {since} is after 'until': {until}; exchange them")


def _with_cursor(
    read: Callable[[Any, int, str | None], T], wanted: Any, limit: int, before: str | None
) -> T:
    """Read a part of a list; a cursor that the store cannot read is the client's mistake."""
    try:
        return read(wanted, limit, before)
    except StoreError as exc:
        raise ProblemError(503 if before is None else 400, str(exc)) from exc


def _found(value: T | None, missing: str) -> T:
    if value is None:
        raise ProblemError(404, missing)
    return value


LONGEST_FILE_NAME: Final = 64
"""Characters of the Call-ID in the name of a file."""

_NO_NAME: Final = re.compile("[^A-Za-z0-9._-]+")


def file_name(call_id: str, suffix: str) -> str:
    """Name the file of a call: letters, digits and three signs that no system takes amiss.

    Args:
        call_id: its Call-ID, chosen by a peer.
        suffix: of the file.
    """
    plain = unicodedata.normalize("NFKD", call_id)
    name = _NO_NAME.sub("_", plain)[:LONGEST_FILE_NAME].strip("._")
    return f"call-{name or 'unnamed'}.{suffix}"
