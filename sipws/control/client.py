"""The client of the control interface.

It connects directly, without a proxy, and follows no redirect: only sipws may see the token.
"""

import http.client
import itertools
import json
import socket
import ssl
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from sipws.address import Address
from sipws.control.mi import MiError, Params
from sipws.control.unix_socket import UNIX, ControlAddress, UnixPath, parse_control
from sipws.errors import AddressError, ConfigurationError

URL: Final = "http://127.0.0.1:8888/mi"
"""The default URL of a control interface: the port of OpenSIPS' HTTP interface, on loopback."""

PATH: Final = "/mi"
"""The path of the MI methods."""

TIMEOUT: Final = 10.0
"""Seconds to wait for an answer."""

LONGEST_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of an answer. A list of a million connections takes about 200 MB."""

_HINTS: Final = {
    401: "; give its --token",
    403: "; this token opens only the pages, give the one of control.token",
    404: "; the path of a control interface is /mi",
    421: "; without a token, address it as 127.0.0.1, [::1] or localhost",
    503: "; it has too many connections",
}

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a listener on all addresses is asked."""

_ids: Final = itertools.count(1)


def url_of_listener(address: ControlAddress) -> str:
    """Make a URL of the address that a control interface listens on.

    Args:
        address: a listener on all addresses is asked on loopback.
    """
    if isinstance(address, UnixPath):
        return str(address)
    ip = _LOOPBACK.get(address.ip, address.ip)
    return f"http://{Address(ip, address.port)}{PATH}"


def url_of(address: str) -> str:
    """Make a URL of an address as ``sipws run --control`` takes it.

    Raises:
        ConfigurationError: it is neither ``HOST:PORT`` nor ``unix:PATH``.
    """
    try:
        where = parse_control(address)
    except AddressError as exc:
        raise ConfigurationError(f"--control {address!r}: {exc}") from exc
    return str(where) if isinstance(where, UnixPath) else f"http://{where}{PATH}"


def ask(url: str, method: str, params: Params, token: str | None = None) -> Any:
    """Call an MI method of a running sipws.

    Args:
        url: of the control interface, ``http:``, ``https:`` or ``unix:PATH``. Without a path, the
            path is `PATH`.
        method: the method's name.
        params: its parameters, by name or in order.
        token: the token of the control interface, if it has one.

    Returns:
        the result of the method.

    Raises:
        MiError: the method refuses.
        ConfigurationError: there is no answer, or the answer is not one of a control interface.
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
        data = str(error.get("data", ""))
        refused = MiError(str(error.get("message")), int(error.get("code", 500)), data)
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
        # The control interface takes this Host for its own machine.
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to a URL, not open yet, and the path of the request."""
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
    # A header cannot carry these.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "the token holds a blank, a control character or a character that is not ASCII;"
            " control.token holds none of these"
        )
    return token


def _no_url(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{url!r} is not a URL of a control interface, such as {URL} or"
        f" {UNIX}/run/sipws/control.sock"
    )


def _no_control(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{url}: the program that answers there is not a control interface of sipws"
    )
