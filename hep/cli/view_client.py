"""Asks a running ``hep view`` over HTTP, with the standard library alone."""

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit

from hep.cli.usage import WrongInputError, readable, secret
from hep.errors import HepError

DEFAULT_URL: Final = "http://127.0.0.1:9080"
"""Where a ``hep view`` serves unless it is given another address."""

TOKEN_VARIABLE: Final = "HEP_VIEW_TOKEN"  # noqa: S105 - a name
"""Environment variable with the token of the viewer."""

TIMEOUT: Final = 30.0
"""Seconds to wait for an answer. A search in a large store takes some seconds."""

SILENCE: Final = 40.0
"""Seconds without an event after which a stream counts as lost. A viewer sends a comment every 15
seconds."""

LONGEST_ANSWER: Final = 128 << 20
"""Bytes of an answer that are read. A call with all its messages has 32 MiB at most."""

LONGEST_LINE: Final = 8 << 20
"""Bytes of a line of a stream. A batch of 400 rows has less than 1 MiB."""

_LONGEST_PROBLEM: Final = 1 << 16

Parameters = Mapping[str, str | int | list[str]]


class ViewerError(HepError):
    """A viewer cannot be reached, or does not answer as one; the message has the remedy."""


class NotFoundError(ViewerError):
    """The viewer does not have what was asked for."""


class RefusedError(ViewerError):
    """The viewer refuses: the token is missing or wrong, or an argument is."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for one address."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        """Follow none."""


class ViewClient:
    """Asks a viewer.

    Args:
        url: its address, ``http://HOST:PORT``; what follows a ``#`` is ignored, so that the address
            of a page can be pasted.
        token: is sent as ``Authorization: Bearer``; None sends none.

    Raises:
        WrongInputError: the address is none, or the token cannot be sent.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = _checked(url)
        """Its address, without a slash at the end."""
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise WrongInputError(
                "the token of the viewer holds a control character or a character that is not"
                " ASCII; it cannot be the right one"
            )
        self._token = token
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_loopback(urlsplit(self.url).hostname or ""):
            # A proxy would look for it on its own machine.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, parameters: Parameters | None = None) -> Any:
        """Ask for JSON.

        Args:
            path: below ``/api/v1/``.
            parameters: of the query; a list repeats one.

        Returns:
            what the answer holds.

        Raises:
            NotFoundError: it has no such thing.
            RefusedError: the token or a parameter is wrong.
            ViewerError: it cannot be reached, or the answer is not that of a viewer.
        """
        try:
            with self._open(path, parameters, TIMEOUT) as answer:
                body = answer.read(LONGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as exc:
            raise self._broken(exc) from exc
        if len(body) > LONGEST_ANSWER:
            raise ViewerError(f"{self.url}: the answer has more than {LONGEST_ANSWER >> 20} MiB")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise self.strange() from exc

    def lines(self, path: str) -> Iterator[bytes]:
        """Yield the lines of a stream, until the viewer ends it.

        Args:
            path: below ``/api/v1/``.

        Raises:
            RefusedError: the token is wrong.
            ViewerError: it cannot be reached, or the connection is lost.
        """
        try:
            with self._open(path, None, SILENCE, "text/event-stream") as answer:
                while line := answer.readline(LONGEST_LINE + 1):
                    if len(line) > LONGEST_LINE:
                        raise self.strange()
                    yield line
        except (OSError, http.client.HTTPException) as exc:
            raise self._broken(exc) from exc

    def strange(self) -> ViewerError:
        """The error that something else than a viewer is there."""
        return ViewerError(f"what answers at {self.url} is no hep view, or one of another version")

    def _open(
        self,
        path: str,
        parameters: Parameters | None,
        timeout: float,
        wanted: str = "application/json",
    ) -> IO[bytes]:
        query = "?" + urlencode(parameters, doseq=True, errors="replace") if parameters else ""
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked
            f"{self.url}/api/v1/{path}{query}", headers={"Accept": wanted}
        )
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            answer: IO[bytes] = self._opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as exc:
            with exc:
                raise self._problem(exc) from exc
        return answer

    def _problem(self, exc: urllib.error.HTTPError) -> ViewerError:
        """The error that an answer with a status of 300 or more stands for."""
        try:
            said = json.loads(exc.read(_LONGEST_PROBLEM))["error"]
        except (
            OSError,
            ValueError,
            RecursionError,
            TypeError,
            KeyError,
            http.client.HTTPException,
        ):
            said = None
        if not isinstance(said, str):
            return ViewerError(f"{self.strange()} (HTTP status {exc.code})")
        said = readable(said)
        if exc.code == 401:
            if self._token is None:
                return RefusedError(
                    f"the viewer at {self.url} asks for a token: set ${TOKEN_VARIABLE}, or give"
                    " --token-file FILE"
                )
            return RefusedError(f"the viewer at {self.url} does not take the token: {said}")
        if exc.code == 404:
            return NotFoundError(f"{self.url}: {said}")
        kind = RefusedError if exc.code < 500 and exc.code != 429 else ViewerError
        return kind(f"{self.url}: {said}")

    def _broken(self, exc: Exception) -> ViewerError:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        if isinstance(reason, http.client.IncompleteRead | http.client.RemoteDisconnected):
            return ViewerError(f"the viewer at {self.url} ended the connection within its answer")
        if isinstance(reason, http.client.HTTPException):
            return self.strange()
        if isinstance(reason, TimeoutError):
            return ViewerError(f"the viewer at {self.url} does not answer")
        why = (reason.strerror if isinstance(reason, OSError) else None) or reason
        return ViewerError(f"no hep view can be reached at {self.url}: {why}")


def add_arguments(parser: Any) -> None:
    """Add the arguments that say where the viewer is.

    Args:
        parser: of the subcommand.
    """
    parser.add_argument(
        "--url", metavar="URL", help=f"address of a running hep view (default: {DEFAULT_URL})"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"file with its token (or ${TOKEN_VARIABLE}); - for standard input",
    )


def from_arguments(args: Any) -> ViewClient:
    """Make the client that the arguments name.

    Raises:
        WrongInputError: the address or the token is wrong.
    """
    return ViewClient(
        args.url or DEFAULT_URL, secret("--token-file", args.token_file, TOKEN_VARIABLE)
    )


def _checked(url: str) -> str:
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        _ = parts.port
        is_url = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and text.isprintable()
            and text.isascii()
            and " " not in text
        )
    except ValueError:
        is_url = False
    if not is_url or parts.query:
        raise WrongInputError(f"--url {url!r} is no address of a viewer: write http://HOST:PORT")
    if parts.username is not None:
        raise WrongInputError(
            f"--url has a user or a password; give the token with ${TOKEN_VARIABLE} or --token-file"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
