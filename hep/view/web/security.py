"""Who may use the HTTP interface, checked before any path is looked up.

A browser on this machine reaches loopback for any page that it shows. The checks:

- A ``Host`` that does not name this service gets 421: a page can make its own name resolve to this
  machine.
- A request with another ``Origin``, or that a browser marks as one of another site
  (``Sec-Fetch-Site``), gets 403. The page and its files are no secret and may be linked.
- A POST needs the header ``X-Requested-With: hep-view`` or a JSON body. No page can send either to
  another origin without a preflight request, which nothing here answers.
- With a token, all but the page, ``/healthz`` and the login needs it: programs send it in
  ``Authorization: Bearer``, browsers the cookie that the login sets. A token in a URL is refused,
  because URLs are logged.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hep.view.web.problems import JSON, ProblemError, problem
from hep.view.web.queries import LONGEST_QUERY
from hep.view.web.sessions import LIFETIME, Failures, Sessions, is_token
from hep.view.web.settings import WebSettings

log = logging.getLogger(__name__)

LOGIN: Final = "/api/v1/login"
LOGOUT: Final = "/api/v1/logout"
HEALTH: Final = "/healthz"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
"""The page loads its own files alone, and runs no script of a message."""

HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of each answer."""

_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_SINGLE: Final = (b"authorization", b"content-length", b"content-type", b"host", b"origin")
"""Headers that may occur once (RFC 9110 section 5.3): a proxy may have checked the other one."""

_TOKENS: Final = (b"token", b"access_token")


class Access:
    """Decides who may use the HTTP interface.

    Args:
        settings: names and token.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._sessions = Sessions()
        self._failures = Failures()

    def check(self, scope: Scope) -> None:
        """Check a request.

        Raises:
            ProblemError: it is refused.
        """
        path, method, query = scope["path"], scope["method"], scope["query_string"]
        names = [name for name, _ in scope["headers"]]
        if twice := [name for name in _SINGLE if names.count(name) > 1]:
            raise ProblemError(400, f"the header {twice[0].decode()} comes more than once")
        if len(query) > LONGEST_QUERY:
            raise ProblemError(
                414, f"the query has {len(query)} bytes; at most {LONGEST_QUERY} are read"
            )
        if any(pair.partition(b"=")[0].lower() in _TOKENS for pair in query.split(b"&")):
            raise ProblemError(
                400,
                "a token in a URL ends up in logs and histories; send it as 'Authorization: Bearer"
                f" TOKEN', or log in with POST {LOGIN}",
            )
        if path == HEALTH:
            return
        headers = {name: text.decode("latin-1") for name, text in scope["headers"]}
        self._check_site(path, method, headers)
        if self._settings.token is not None and not is_public(path) and path != LOGIN:
            self._check_login(scope, headers)

    def _check_site(self, path: str, method: str, headers: Mapping[bytes, str]) -> None:
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        # Browsers always send Host; a script that speaks HTTP/1.0 may not.
        if host and self._settings.checks_host and not self._settings.is_here(host):
            raise ProblemError(
                421,
                f"{host!r} is not a name of this viewer; use localhost or its address, or start it"
                " with --name and this name",
            )
        if method in _SAFE and is_public(path):
            return
        if origin is not None and not self._settings.is_same_origin(origin, host):
            raise ProblemError(403, f"a page of {origin!r} may not use this viewer")
        site = headers.get(b"sec-fetch-site", "none")
        if site not in ("same-origin", "none"):
            raise ProblemError(403, "a page of another site may not use this viewer")
        if method not in _SAFE:
            kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
            if headers.get(b"x-requested-with", "").lower() != "hep-view" and kind != JSON:
                raise ProblemError(
                    403,
                    f"{method} needs the header 'X-Requested-With: hep-view' or"
                    f" 'Content-Type: {JSON}'",
                )

    def _check_login(self, scope: Scope, headers: Mapping[bytes, str]) -> None:
        scheme, _, given = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # The scheme is case-insensitive (RFC 9110 section 11.1).
            self.check_token(scope, given.strip())
            return
        now = time.monotonic()
        sessions = cookies_of(scope, headers.get(b"cookie", ""))
        if not any(self._sessions.is_valid(each, now) for each in sessions):
            raise ProblemError(
                401,
                "a token is needed: log in, or send it as 'Authorization: Bearer TOKEN'",
                WWW_Authenticate="Bearer",
            )

    def check_token(self, scope: Scope, given: str) -> None:
        """Check a token that a client gives.

        Raises:
            ProblemError: it is wrong (401), or the client has failed too often (429).
        """
        token = self._settings.token
        if token is None:
            return
        address, now = client_of(scope), time.monotonic()
        if (wait := self._failures.wait(address, now)) > 0:
            raise ProblemError(
                429,
                f"too many wrong tokens; try again in {wait:.0f} s",
                Retry_After=str(int(wait) + 1),
            )
        if not is_token(given, token):
            self._failures.add(address, now)
            log.warning("%s gave a wrong token", address)
            raise ProblemError(401, "the token is wrong", WWW_Authenticate="Bearer")

    def log_in(self, scope: Scope, given: str, response: Response) -> None:
        """Begin a session and set its cookie.

        Raises:
            ProblemError: the token is wrong (401), or the client has failed too often (429).
        """
        self.check_token(scope, given)
        self._set_cookie(scope, response, self._sessions.begin(time.monotonic()), int(LIFETIME))

    def log_out(self, scope: Scope, cookies: str, response: Response) -> None:
        """End the session of a browser and remove its cookie.

        Args:
            scope: of the request.
            cookies: its Cookie header.
            response: the answer.
        """
        for each in cookies_of(scope, cookies):
            self._sessions.end(each)
        self._set_cookie(scope, response, "", 0)

    def _set_cookie(self, scope: Scope, response: Response, text: str, age: int) -> None:
        response.set_cookie(
            _cookie_name(scope),
            text,
            max_age=age,
            path="/",
            secure=self._settings.secure or scope.get("scheme") == "https",
            httponly=True,
            samesite="strict",
        )


class Guard:
    """Checks requests, and adds headers to answers (ASGI).

    Args:
        app: what it guards.
        access: decides who may use it.
    """

    def __init__(self, app: ASGIApp, access: "Access") -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, text in HEADERS.items():
                    headers[name] = text
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer: ASGIApp
        try:
            self._access.check(scope)
            answer = self._app
        except ProblemError as exc:
            answer = exc.response()
        try:
            await answer(scope, receive, send_with_headers)
        except Exception:
            log.exception("%s %s cannot be answered", scope["method"], scope["path"])
            if not started:
                failed = problem(500, "the viewer failed at this request; its log says why")
                await failed(scope, receive, send_with_headers)


def is_public(path: str) -> bool:
    """Whether a path needs no token: it shows nothing of what was received.

    Args:
        path: of a request.
    """
    return path in ("/", HEALTH, "/favicon.ico") or path.startswith("/static/")


def client_of(scope: Scope) -> str:
    """Return the IP address of a client; of IPv6 its network of 64 bits, which one client has.

    Args:
        scope: of a request.
    """
    client = scope.get("client")
    address = str(client[0]) if client else ""
    try:
        read = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((read, 64), strict=False)) if read.version == 6 else address


def _cookie_name(scope: Scope) -> str:
    # Cookies of one host are shared by its ports, and there may be several viewers.
    server = scope.get("server")
    return f"hep_view_{server[1]}" if server and server[1] else "hep_view"


def cookies_of(scope: Scope, header: str) -> Iterator[str]:
    """Return the session ids that a browser sends.

    Args:
        scope: of the request.
        header: its Cookie header.
    """
    wanted = _cookie_name(scope)
    for pair in header.split(";"):
        name, _, text = pair.strip().partition("=")
        if name == wanted and text:
            yield text
