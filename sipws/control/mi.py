"""OpenSIPS' management interface: JSON-RPC 2.0 requests in, replies out, as mi_http has them. Pure.

Methods are a table of names and functions. A function gets the request's parameters, by name or in
order, and returns what JSON can say.
"""

import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from sipws.errors import SipwsError

log = logging.getLogger(__name__)

Methods = Mapping[str, Callable[..., Any]]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
"""Error codes of JSON-RPC 2.0, section 5.1."""

FAILED: Final = 500
"""OpenSIPS' error code for a method that says no."""

NOT_FOUND: Final = 404
"""OpenSIPS' error code for something that does not exist."""


class MiError(SipwsError):
    """A method says no; the message reaches whoever asked."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def reply(body: bytes, methods: Methods) -> bytes:
    """Answer one request.

    Args:
        body: the request as JSON.
        methods: the functions that can be called, by name.

    Returns:
        the reply as JSON; empty for a notification, which is a request without an id, also where
        the method fails.
    """
    identity: Any = None
    is_notification = False
    try:
        request = _parse(body)
        if isinstance(request, dict) and _is_identity(request.get("id")):
            identity = request.get("id")
        _check(request)
        is_notification = "id" not in request
        content: dict[str, Any] = {"result": _call(request, methods)}
    except MiError as exc:
        content = {"error": {"code": exc.code, "message": str(exc)}}
    if is_notification:
        return b""
    return json.dumps({"jsonrpc": "2.0", **content, "id": identity}).encode()


def _parse(body: bytes) -> Any:
    try:
        request = json.loads(body.decode(), parse_constant=_no_json)
        # Half of a surrogate pair is no character; OpenSIPS' parser refuses it as well.
        json.dumps(request, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise MiError("Parse error", PARSE_ERROR) from None
    return request


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _check(request: Any) -> None:
    """Whether this is a request, as strictly as OpenSIPS looks at it (mi/mi.c)."""
    if (
        not isinstance(request, dict)
        or request.get("jsonrpc") != "2.0"
        or not isinstance(request.get("method"), str)
        or not isinstance(request.get("params", {}), dict | list)
        or not _is_identity(request.get("id"))
    ):
        raise MiError("Invalid Request", INVALID_REQUEST)


def _is_identity(value: object) -> bool:
    """Whether this can be an id: a text, a number or null.

    OpenSIPS cuts a number to 32 bits without a fraction; here it comes back as it is.
    """
    if isinstance(value, float):
        # What JSON writes may be beyond what a float holds.
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _call(request: dict[str, Any], methods: Methods) -> Any:
    function = methods.get(request["method"])
    if function is None:
        raise MiError("Method not found", METHOD_NOT_FOUND)
    params = request.get("params", {})
    try:
        signature = inspect.signature(function)
        if isinstance(params, list):
            arguments = signature.bind(*params)
        else:
            arguments = signature.bind(**params)
        if None in arguments.arguments.values():
            raise TypeError("no parameter is null")
    except TypeError:
        raise MiError("Invalid params", INVALID_PARAMS) from None
    try:
        return function(*arguments.args, **arguments.kwargs)
    except MiError:
        raise
    except Exception as exc:
        log.exception("MI method %s failed", request["method"])
        raise MiError("Internal error", INTERNAL_ERROR) from exc
