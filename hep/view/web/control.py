"""The client of a sipws' control interface (MI, JSON-RPC 2.0 over HTTP).

It connects directly, without a proxy, and follows no redirect: only the sipws may see the token.
It calls the methods below and forwards nothing else.
"""

import asyncio
import itertools
import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx

from hep.view.web.backend import ControlError
from hep.view.web.models import Control, Destination
from hep.view.web.problems import JSON, WebSettingsError

UNIX: Final = "unix:"
PATH: Final = "/mi"
"""The path of the MI methods."""

TIMEOUT: Final = 5.0
"""Seconds for an answer, as long as a person waits for a page."""

LONGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer: 80,000 connections."""

MOST_CONNECTIONS: Final = 1000
"""Connections that are listed."""

_HINTS: Final = {
    401: "; give its token (control.token of the sipws)",
    403: "; this token opens its pages only, give the one of control.token",
    404: "; the path of a control interface is /mi",
    421: "; without a token, address it as 127.0.0.1, [::1] or localhost",
    503: "; it has too many connections",
}

_MI_NOT_FOUND: Final = 404


class ControlClient:
    """Asks a sipws what it does, and switches it.

    Args:
        url: ``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:/PATH``; the path is
            `PATH` unless the URL has another.
        token: its token; None if it has none.

    Raises:
        WebSettingsError: the URL or the token cannot be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        """Where the sipws is."""
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=0)
        socket = url.removeprefix(UNIX) if url.startswith(UNIX) else None
        self._target = f"http://localhost{PATH}" if socket is not None else _target(url)
        if socket == "":
            raise _no_url(url)
        headers = {"Content-Type": JSON, "Accept-Encoding": "identity"}
        if token is not None:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise WebSettingsError(
                    "the token of the control interface holds a blank, a control character or a"
                    " character that is not ASCII"
                )
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket, limits=limits, trust_env=False),
            headers=headers,
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=False,
        )
        self._ids = itertools.count(1)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def read(self) -> Control:
        """Return what the sipws does; one that does not answer is ``reachable = False``."""
        try:
            version, uptime, ws, wss, traces, connections = await asyncio.gather(
                self._ask("version"),
                self._ask("uptime"),
                self._ask("ws_trace"),
                self._ask("wss_trace"),
                self._ask("trace_list"),
                self._ask("tcp:list"),
            )
            rows = _rows(connections, "Connections")
            return Control(
                reachable=True,
                url=self.url,
                version=_text(version, "Server"),
                uptime=_text(uptime, "Up time"),
                trace={
                    name: _text(answer, f"{name.upper()} tracing") == "on"
                    for name, answer in (("ws", ws), ("wss", wss))
                },
                destinations=[*map(_destination, _rows(traces, "Traces"))],
                connections=rows[:MOST_CONNECTIONS],
                connections_total=len(rows),
            )
        except ControlError as exc:
            return Control(reachable=False, url=self.url, problem=str(exc))

    async def switch(self, *, on: bool, only: Literal["ws", "wss"] | None) -> None:
        """Switch tracing on or off, in all workers.

        Args:
            on: whether traces are sent.
            only: the protocol that is switched; None for both.

        Raises:
            ControlError: the sipws refuses, or does not answer.
        """
        mode = "on" if on else "off"
        if only is None:
            await self._ask("trace", mode=mode)
        else:
            await self._ask(f"{only}_trace", trace_mode=mode)

    async def close(self, id: str, code: int, reason: str) -> None:  # noqa: A002
        """Close a connection.

        Args:
            id: its id.
            code: close code.
            reason: close reason.

        Raises:
            ControlError: there is no such connection, or the sipws does not answer.
        """
        if not re.fullmatch("[0-9]{1,20}", id):
            raise ControlError(
                400, f"'id': {id[:80]!r} is not the id of a connection; it has digits"
            )
        named: dict[str, Any] = {"id": id, "code": code}
        await self._ask("tcp:close", **named, **({"reason": reason} if reason else {}))

    async def _ask(self, method: str, **params: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            async with asyncio.timeout(TIMEOUT):
                status, body = await self._post(json.dumps(call).encode())
        except (TimeoutError, httpx.TimeoutException):
            raise ControlError(503, f"{self.url}: no answer within {TIMEOUT:g} s") from None
        except (httpx.TransportError, httpx.InvalidURL, OSError) as exc:
            said = str(exc) or type(exc).__name__
            raise ControlError(
                503,
                f"{self.url}: no answer ({said}); is sipws running, with --control or [control]"
                " listen?",
            ) from exc
        if status != HTTPStatus.OK:
            raise ControlError(503, f"{self.url}: HTTP status {status}{_HINTS.get(status, '')}")
        return self._result(method, body)

    async def _post(self, call: bytes) -> tuple[int, bytes]:
        body = bytearray()
        async with self._client.stream("POST", self._target, content=call) as response:
            async for part in response.aiter_raw():
                body += part
                if len(body) > LONGEST_ANSWER:
                    raise ControlError(
                        503, f"{self.url}: the answer has more than {LONGEST_ANSWER} bytes"
                    )
        return response.status_code, bytes(body)

    def _result(self, method: str, body: bytes) -> Any:
        try:
            reply = json.loads(body)
            if "error" not in reply:
                return reply["result"]
            error = reply["error"]
            code, said = error.get("code"), str(error.get("message", ""))[:500]
            detail = str(error.get("data", "") or "")[:500]
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as exc:
            raise ControlError(
                503, f"{self.url}: what answers there is not the control interface of a sipws"
            ) from exc
        text = f"{said} ({detail})" if detail else said
        raise ControlError(404 if code == _MI_NOT_FOUND else 400, f"sipws {method}: {text}")


def _target(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise _no_url(url) from exc
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or not url.isprintable()
    ):
        raise _no_url(url)
    path = PATH if parts.path in ("", "/") else parts.path
    return f"{parts.scheme}://{parts.netloc}{path}"


def _no_url(url: str) -> WebSettingsError:
    # It may hold a password.
    shown = re.sub("//[^/]*@", "//…@", url)
    return WebSettingsError(
        f"--control {shown!r} is not the URL of a control interface, such as http://127.0.0.1:8888"
        f" or {UNIX}/run/sipws/control.sock"
    )


def _rows(answer: Any, name: str) -> list[dict[str, Any]]:
    rows = answer.get(name) if isinstance(answer, Mapping) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(answer: Any, name: str) -> str:
    found = answer.get(name) if isinstance(answer, Mapping) else None
    return found if isinstance(found, str) else ""


def _destination(trace: Mapping[str, Any]) -> Destination:
    crowded = trace.get("Crowded out")
    details = [_text(trace, "Last error")]
    if isinstance(crowded, Mapping) and crowded:
        lost = ", ".join(f"{name}: {count}" for name, count in crowded.items())
        details.append(f"dropped because the queue was full: {lost}")
    return Destination(
        name=f"{_text(trace, 'ID')} {_text(trace, 'URI')}".strip(),
        state=_text(trace, "State"),
        sent=_count(trace, "Sent"),
        dropped=_count(trace, "Dropped"),
        queued=_count(trace, "Queued"),
        detail="; ".join(filter(None, details)),
    )


def _count(trace: Mapping[str, Any], name: str) -> int:
    found = trace.get(name)
    return found if isinstance(found, int) else 0
