"""A client of homer-app's API, as far as `sipws.homer.plan` needs it.

It connects directly, without a proxy, and follows no redirect: only homer-app may see password and
token. It has no text with either of them.
"""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from sipws.errors import ConfigurationError, SipwsError
from sipws.homer import dashboards
from sipws.homer.files import Json
from sipws.homer.plan import Existing, Step

URL: Final = "http://127.0.0.1:9080"
"""homer-app on this machine, with its default port."""

TIMEOUT: Final = 15.0
"""Seconds to connect, and to wait for each part of an answer."""

LONGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer. The mappings of a new Homer are 100 kB."""

LONGEST_QUOTE: Final = 300
"""Characters of an answer that an error quotes."""

_PREFIX: Final = "/api/v3"
_MAPPINGS: Final = "/mapping/protocol"
_DASHBOARD: Final = f"/dashboard/store/{dashboards.ID}"
_NO_DASHBOARD: Final = 400
"""Status of a dashboard that does not exist."""


class HomerError(SipwsError):
    """homer-app refuses a request, or does not answer it."""


class HomerApp:
    """homer-app, as one of its users sees it.

    Args:
        url: of homer-app, ``http:`` or ``https:``, with the path of a reverse proxy if it has one.
        ca: file with the certificates that are trusted; None for those of the system.

    Raises:
        ConfigurationError: the URL or the file is wrong.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self.url = url.rstrip("/").removesuffix(_PREFIX)
        """The URL, without the path of the API."""
        self.user = ""
        """The user that has logged in."""
        self.is_admin: bool | None = None
        """Whether the user may change mappings; None if homer-app does not say."""
        self._secrets: list[str] = []
        self._token = ""
        try:
            parts = urlsplit(self.url)
            self._port = parts.port
        except ValueError as exc:
            raise _no_url(url) from exc
        has_more = "@" in parts.netloc or parts.query or parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or has_more:
            raise _no_url(url)
        self._host = parts.hostname
        self._path = parts.path
        self._tls = _context(ca) if parts.scheme == "https" else None
        if ca is not None and self._tls is None:
            raise ConfigurationError(f"--ca {ca}: {self.url} is not an https URL")

    @property
    def sends_in_clear(self) -> bool:
        """Whether the password crosses a network without TLS."""
        is_loopback = self._host in ("localhost", "::1") or self._host.startswith("127.")
        return self._tls is None and not is_loopback

    def log_in(self, user: str, password: str) -> None:
        """Log in; all other methods need it.

        Raises:
            ConfigurationError: there is no homer-app, or it refuses the user.
            HomerError: it does not answer.
        """
        self._secrets.append(password)
        login = {"username": user, "password": password}
        status, answer = self._ask("POST", "/auth", login)
        if status == http.client.UNAUTHORIZED:
            raise ConfigurationError(f"{self.url}: user {user!r} or the password is wrong (401)")
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            if status >= http.client.BAD_REQUEST and isinstance(answer, dict):
                raise ConfigurationError(f"{self.url}: login refused{self._quoted(status, answer)}")
            raise self._no_homer(status)
        self._secrets.append(token)
        self._token = token
        self.user = user
        about = answer.get("user")
        is_admin = about.get("admin") if isinstance(about, dict) else None
        self.is_admin = is_admin if isinstance(is_admin, bool) else None

    def existing(self) -> Existing:
        """Ask for all mappings and our dashboard.

        Raises:
            ConfigurationError: the answer is not that of homer-app.
            HomerError: homer-app refuses, or does not answer.
        """
        answer = self._done("GET", _MAPPINGS)
        mappings = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(mappings, list) or not all(map(_is_mapping, mappings)):
            raise ConfigurationError(
                f"{self.url}: the list of mappings has another form than that of homer-app 1.5"
            )
        status, answer = self._ask("GET", _DASHBOARD)
        if status == _NO_DASHBOARD:
            return Existing(mappings, user=self.user)
        if status != http.client.OK:
            raise HomerError(
                f"dashboard {dashboards.ID} cannot be read{self._quoted(status, answer)}"
            )
        dashboard = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(dashboard, dict):
            raise ConfigurationError(
                f"{self.url}: the dashboard {dashboards.ID} has another form than that of"
                " homer-app 1.5"
            )
        return Existing(mappings, dashboard, str(answer.get("owner", self.user)), self.user)

    def carry_out(self, step: Step) -> None:
        """Do what a step says.

        Raises:
            HomerError: homer-app refuses, or does not answer.
            ConfigurationError: the answer is not that of homer-app.
        """
        if step.kind == "dashboard":
            if step.after is None:
                self._done("DELETE", _DASHBOARD)
            else:
                # homer-app answers 200 to a PUT that does nothing. POST replaces, too.
                self._done("POST", _DASHBOARD, step.after)
            return
        if mistakes := step.new_slips:
            raise HomerError(
                f"nothing was sent, because a lookup of sipws would end all flows of this mapping:"
                f" {'; '.join(mistakes)}"
            )
        path = f"{_MAPPINGS}/{quote(step.guid, safe='')}"
        if step.before is None:
            self._done("POST", _MAPPINGS, step.after)
        elif step.after is None:
            self._done("DELETE", path)
        else:
            self._done("PUT", path, step.after)

    def _done(self, method: str, path: str, body: Json | None = None) -> Any:
        """Send a request that is expected to succeed, and return its answer."""
        status, answer = self._ask(method, path, body)
        if status == http.client.FORBIDDEN:
            raise HomerError(
                f"user {self.user!r} may not do this{self._quoted(status, answer)}; give --user of"
                " an administrator of Homer"
            )
        if status not in (http.client.OK, http.client.CREATED):
            raise HomerError(f"{method} {_PREFIX}{path} is refused{self._quoted(status, answer)}")
        return answer

    def _ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
        """Send a request.

        Returns:
            the status, and the JSON of the answer.

        Raises:
            ConfigurationError: nothing listens there, or it is not homer-app.
            HomerError: the connection ends or pauses within the answer.
        """
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            self._connect(connection)
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{self._path}{_PREFIX}{path}", content, headers)
            response = connection.getresponse()
            answer = response.read(LONGEST_ANSWER + 1)
        except TimeoutError as exc:
            raise HomerError(
                f"{self.url} does not answer {method} {_PREFIX}{path} within {TIMEOUT:g} s"
            ) from exc
        except http.client.RemoteDisconnected as exc:
            raise HomerError(
                f"{self.url} closes the connection without an answer to {method} {_PREFIX}{path}"
            ) from exc
        except (http.client.InvalidURL, UnicodeError) as exc:
            raise _no_url(self.url) from exc
        except (OSError, http.client.IncompleteRead) as exc:
            reason = getattr(exc, "strerror", None) or "the answer is cut"
            raise HomerError(
                f"{self.url}: the connection fails within {method} {_PREFIX}{path} ({reason})"
            ) from exc
        except (ValueError, http.client.HTTPException) as exc:
            raise ConfigurationError(
                f"{self.url}: the program that answers there does not speak HTTP; for a port with"
                " TLS give an https URL"
            ) from exc
        finally:
            connection.close()
        if response.status in range(300, 400):
            raise ConfigurationError(
                f"{self.url} redirects to {response.headers.get('Location', 'nowhere')!r}; give the"
                " URL of homer-app itself"
            )
        if len(answer) > LONGEST_ANSWER:
            raise self._no_homer(response.status)
        try:
            return response.status, json.loads(answer)
        except (ValueError, RecursionError) as exc:
            raise self._no_homer(response.status) from exc

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT, context=self._tls
        )

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        """Connect; a failure is one of the URL or of --ca."""
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as exc:
            raise ConfigurationError(
                f"{self.url}: the certificate is not accepted ({exc.verify_message}); give --ca"
                " with the certificate of its issuer, and the host name that is in the certificate"
            ) from exc
        except ssl.SSLError as exc:
            raise ConfigurationError(
                f"{self.url}: TLS fails ({exc.reason or exc}); is it a port without TLS? Then give"
                " an http URL"
            ) from exc
        except (http.client.InvalidURL, UnicodeError) as exc:
            raise _no_url(self.url) from exc
        except OSError as exc:
            reason = exc.strerror or str(exc) or "timed out"
            raise ConfigurationError(
                f"{self.url}: no connection ({reason}); is homer-app running there?"
            ) from exc

    def _quoted(self, status: int, answer: Any) -> str:
        """What homer-app says, without secrets."""
        said = answer.get("message") if isinstance(answer, dict) else answer
        text = "; ".join(str(said).splitlines())
        for secret in self._secrets:
            if secret:
                text = text.replace(secret, "***")
        if len(text) > LONGEST_QUOTE:
            text = f"{text[:LONGEST_QUOTE]}…"
        return f" ({status}: {text})"

    def _no_homer(self, status: int) -> ConfigurationError:
        return ConfigurationError(
            f"{self.url}: the program that answers there is not homer-app (status {status} to"
            f" {_PREFIX}); give the URL of Homer's pages, such as {URL}"
        )


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except ssl.SSLError as exc:
        raise ConfigurationError(f"--ca {ca}: there is no certificate in it (PEM)") from exc
    except OSError as exc:
        raise ConfigurationError(f"--ca {ca}: {exc.strerror}") from exc


def _is_mapping(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("guid"), str)
        and isinstance(value.get("profile"), str)
        and isinstance(value.get("hepid"), int)
    )


def _no_url(url: str) -> ConfigurationError:
    _, at, host = url.rpartition("@")
    if at:
        # What precedes it may be a password.
        return ConfigurationError(
            f"--url …@{host}: give the user with --user, and the password in a file or variable"
        )
    return ConfigurationError(f"--url {url!r} is not the URL of a homer-app, such as {URL}")
