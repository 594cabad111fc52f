"""The other end of the control interface: ask a running sipws."""

import http.client
import itertools
import json
import urllib.error
import urllib.request
from typing import Any, Final

from sipws.errors import ConfigurationError
from sipws.mi import MiError

URL: Final = "http://127.0.0.1:8888/mi"
"""Where a control interface is looked for: the port of OpenSIPS' HTTP interface, on loopback."""

PATH: Final = "/mi"
_SLASHES_OF_A_HOST: Final = 2

TIMEOUT: Final = 10.0
"""Seconds that an answer may take."""

_HINTS: Final = {
    401: "; give its --token",
    404: "; the path of a control interface is /mi",
    421: "; without a token it is asked as 127.0.0.1, [::1] or localhost",
}

_ids: Final = itertools.count(1)


def ask(url: str, method: str, params: dict[str, Any], token: str | None = None) -> Any:
    """Call an MI method of a running sipws.

    Args:
        url: its control interface; without a path, that of `URL` is meant.
        method: the method's name.
        params: its parameters by name.
        token: what the control interface wants to see, if anything.

    Returns:
        its result.

    Raises:
        MiError: it says no.
        ConfigurationError: nobody answers there, or something else does.
    """
    if not url.startswith(("http://", "https://")):
        raise _no_url(url)
    if url.rstrip("/").count("/") == _SLASHES_OF_A_HOST:
        url = f"{url.rstrip('/')}{PATH}"
    call = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(call).encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            reply = json.load(response)
    except urllib.error.HTTPError as exc:
        raise ConfigurationError(
            f"{url}: {exc.code} {exc.reason}{_HINTS.get(exc.code, '')}"
        ) from exc
    except http.client.InvalidURL as exc:
        raise _no_url(url) from exc
    except OSError as exc:
        reason = getattr(exc, "reason", exc)
        raise ConfigurationError(
            f"{url}: no answer ({reason}); is sipws running, with --control or [control] listen?"
        ) from exc
    except (ValueError, http.client.HTTPException) as exc:
        raise ConfigurationError(f"{url}: what answers there is no control interface") from exc
    if not isinstance(reply, dict) or ("result" not in reply and "error" not in reply):
        raise ConfigurationError(f"{url}: what answers there is no control interface")
    if "error" in reply:
        raise MiError(str(reply["error"].get("message")), int(reply["error"].get("code", 500)))
    return reply["result"]


def _no_url(url: str) -> ConfigurationError:
    return ConfigurationError(f"{url!r} is no URL of a control interface, such as {URL}")
