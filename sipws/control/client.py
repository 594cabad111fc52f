"""The other end of the control interface: ask a running sipws.

It is asked directly, never through a proxy, and no redirect is followed: the token is for it alone.
"""

import http.client
import itertools
import json
import socket
import ssl
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from sipws.control.mi import MiError
from sipws.control.unix_socket import UNIX, UnixPath, parse_control
from sipws.errors import AddressError, ConfigurationError

URL: Final = "http://127.0.0.1:8888/mi"
"""Where a control interface is looked for: the port of OpenSIPS' HTTP interface, on loopback."""

PATH: Final = "/mi"

TIMEOUT: Final = 10.0
"""Seconds that an answer may take."""

LONGEST_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of an answer: a million connections have some 200 MB."""

_HINTS: Final = {
    401: "; give its --token",
    403: "; this token is for /metrics alone, give the one of control.token",
    404: "; the path of a control interface is /mi",
    421: "; without a token it is asked as 127.0.0.1, [::1] or localhost",
    503: "; it has too many connections",
}

_ids: Final = itertools.count(1)


def url_of(address: str) -> str:
    """The URL of a control interface whose address is written as ``sipws run --control`` has it.

    Raises:
        ConfigurationError: it is no such address.
    """
    try:
        where = parse_control(address)
    except AddressError as exc:
        raise ConfigurationError(f"--control {address!r}: {exc}") from exc
    return str(where) if isinstance(where, UnixPath) else f"http://{where}{PATH}"


def ask(url: str, method: str, params: dict[str, Any], token: str | None = None) -> Any:
    """Call an MI method of a running sipws.

    Args:
        url: its control interface; without a path, that of `URL` is meant. ``unix:PATH`` is a Unix
            socket.
        method: the method's name.
        params: its parameters by name.
        token: what the control interface wants to see, if anything.

    Returns:
        its result.

    Raises:
        MiError: it says no.
        ConfigurationError: nobody answers there, or something else does.
    """
    call = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if token is not None:
        headers["Authorization"] = f"Bearer {_checked(token)}"
    connection, path = _connection(url)
    try:
        connection.request("POST", path, json.dumps(call).encode(), headers)
        response = connection.getresponse()
        body = response.read(LONGEST_ANSWER)
    except (http.client.InvalidURL, UnicodeError) as exc:
        raise _no_url(url) from exc
    except OSError as exc:
        raise ConfigurationError(
            f"{url}: no answer ({exc.strerror or exc}); is sipws running, with --control or"
            " [control] listen?"
        ) from exc
    except (ValueError, http.client.HTTPException) as exc:
        raise _no_control(url) from exc
    finally:
        connection.close()
    if response.status != http.client.OK:
        status = response.status
        raise ConfigurationError(f"{url}: {status} {response.reason}{_HINTS.get(status, '')}")
    try:
        reply = json.loads(body)
        if "error" not in reply:
            return reply["result"]
        error = reply["error"]
        refused = MiError(str(error.get("message")), int(error.get("code", 500)))
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as exc:
        raise _no_control(url) from exc
    raise refused


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        # The name that the other end takes for this machine's own.
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """How to connect to a URL, and the path to ask for."""
    if url.startswith(UNIX):
        try:
            parse_control(url)
        except AddressError as exc:
            raise ConfigurationError(f"{url!r}: {exc}") from exc
        return _UnixConnection(url.removeprefix(UNIX)), PATH
    try:
        parts: SplitResult = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise _no_url(url) from exc
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise _no_url(url)
    path = PATH if parts.path in ("", "/") else parts.path
    if parts.query:
        path += f"?{parts.query}"
    try:
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT), path
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context), path
    except (http.client.InvalidURL, ValueError) as exc:
        raise _no_url(url) from exc


def _checked(token: str) -> str:
    # What a header cannot carry the other end would not recognise.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "the token holds a blank, a control character or a character that is not ASCII;"
            " control.token holds none of these"
        )
    return token


def _no_url(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{url!r} is no URL of a control interface, such as {URL} or {UNIX}/run/sipws/control.sock"
    )


def _no_control(url: str) -> ConfigurationError:
    return ConfigurationError(f"{url}: what answers there is no control interface")
