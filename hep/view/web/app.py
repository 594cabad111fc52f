"""The HTTP service of the viewer: paths, page and guard put together."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hep.view.web.api import Api
from hep.view.web.backend import Backend
from hep.view.web.bodies import read_body
from hep.view.web.problems import JSON, ProblemError, problem, shown
from hep.view.web.queries import read_query
from hep.view.web.routes import ENDPOINTS, Endpoint
from hep.view.web.security import Access, Guard
from hep.view.web.settings import WebSettings
from hep.view.web.static import Static

Handler = Callable[[Request, Any], Awaitable[Any]]


def make_app(backend: Backend, settings: WebSettings) -> Starlette:
    """Make the service.

    Call ``backend.live.close()`` before the server that runs it stops: open streams would keep the
    server waiting.

    Args:
        backend: the program that it shows.
        settings: who may use it, and where the page is.
    """
    access = Access(settings)
    api = Api(backend, settings, access)
    static = Static(settings.page)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        api.close()

    async def index(request: Request) -> Response:
        return static.response(request, "index.html")

    async def file(request: Request) -> Response:
        return static.response(request, request.path_params["path"])

    routes = [_route(endpoint, getattr(api, endpoint.name)) for endpoint in ENDPOINTS]
    routes += [Route("/", index), Route("/static/{path:path}", file)]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={ProblemError: _on_problem, HTTPException: _on_http_exception},
        lifespan=lifespan,
    )
    # A redirect would name the host that the client has sent.
    app.router.redirect_slashes = False
    return app


def _route(endpoint: Endpoint, handler: Handler) -> Route:
    """Make the route of a path: read what is asked, and write the answer."""
    dump = None if endpoint.answer is None else TypeAdapter(endpoint.answer).dump_json

    async def answer(request: Request) -> Response:
        asked: Any = read_query(endpoint.query, request.scope["query_string"])
        if endpoint.body is not None:
            asked = await read_body(request, endpoint.body)
        found = await handler(request, asked)
        if dump is None or isinstance(found, Response):
            response: Response = found
            return response
        return Response(dump(found), media_type=JSON)

    return Route(endpoint.url, answer, methods=[endpoint.method], name=endpoint.name)


async def _on_problem(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, ProblemError):
        raise exc
    return exc.response()


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    """Answer a request that has no route."""
    if not isinstance(exc, HTTPException):
        raise exc
    path = shown(request.url.path)
    said = {
        404: f"there is no path {path}; /openapi.json lists all",
        405: f"{request.method} is not possible on {path}",
    }
    headers = dict(exc.headers or {})
    return problem(exc.status_code, said.get(exc.status_code, exc.detail), headers)
