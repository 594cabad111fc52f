"""OpenSIPS' management interface: JSON-RPC 2.0 requests in, replies out, as mi_http has them. Pure.

Methods are a table of names and functions. A function gets the request's parameters, by name or in
order, and returns what JSON can say.
"""

import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from sipws.errors import SipwsError

log = logging.getLogger(__name__)

Methods = Mapping[str, Callable[..., Any]]
"""The functions that can be called, by the name of the method."""

Params = list[Any] | dict[str, Any]
"""The parameters of a method, in order or by name."""

Content = Mapping[str, Any]
"""What a reply holds beside its id: a ``result`` or an ``error``."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
"""Error codes of JSON-RPC 2.0, section 5.1."""

FAILED: Final = 500
"""OpenSIPS' error code for a method that refuses."""

NOT_FOUND: Final = 404
"""OpenSIPS' error code for something that does not exist."""


class MiError(SipwsError):
    """A method refuses; the caller gets the message and the code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is well-formed; its method may not exist."""

    method: str
    params: Params
    identity: str | int | float | None
    """The id, which the reply repeats."""
    is_notification: bool
    """Whether the request has no id: a notification is carried out and gets no reply."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A body that is not a request of JSON-RPC 2.0."""

    code: int
    """`PARSE_ERROR` or `INVALID_REQUEST`."""
    message: str
    identity: str | int | float | None = None
    """The id, if the body holds a valid one."""


def parse(body: bytes) -> Request | BadRequest:
    """Read one request; never raises.

    OpenSIPS checks the same members (mi/mi.c).

    Args:
        body: the request as JSON in UTF-8. The work grows linearly with its length.

    Returns:
        the request, or what is wrong with it.
    """
    try:
        found = json.loads(body.decode(), parse_constant=_refuse_constant)
        # Half a surrogate pair is not a character; OpenSIPS' parser refuses it as well.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return BadRequest(PARSE_ERROR, "Parse error")
    if not isinstance(found, dict):
        return BadRequest(INVALID_REQUEST, "Invalid Request")
    identity, method, params = found.get("id"), found.get("method"), found.get("params", {})
    if not _is_identity(identity):
        return BadRequest(INVALID_REQUEST, "Invalid Request")
    if (
        found.get("jsonrpc") != "2.0"
        or not isinstance(method, str)
        or not isinstance(params, dict | list)
    ):
        return BadRequest(INVALID_REQUEST, "Invalid Request", identity)
    return Request(method, params, identity, "id" not in found)


def reply(request: Request | BadRequest, methods: Methods) -> bytes:
    """Call the method that a request names, and write the reply.

    Args:
        request: from `parse`.
        methods: the functions that can be called, by name.

    Returns:
        the reply as JSON; empty for a notification, even if the method fails.
    """
    return written(request, {} if isinstance(request, BadRequest) else _call(request, methods))


def written(request: Request | BadRequest, content: Content) -> bytes:
    """Write the reply to a request.

    Args:
        request: from `parse`.
        content: the ``result`` or the ``error``; ignored for a `BadRequest`, which has its own.

    Returns:
        the reply as JSON; empty for a notification.
    """
    if isinstance(request, BadRequest):
        content = _error(request.code, request.message)
    elif request.is_notification:
        return b""
    return json.dumps({"jsonrpc": "2.0", **content, "id": request.identity}).encode()


def _refuse_constant(constant: str) -> NoReturn:
    """Refuse ``NaN`` and ``Infinity``, which Python reads and JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


def _is_identity(value: object) -> bool:
    """Whether this can be an id: a text, a number or null.

    OpenSIPS cuts a number to 32 bits without a fraction; here the reply repeats it unchanged.
    """
    if isinstance(value, float):
        # JSON can write a number that is too large for a float.
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _call(request: Request, methods: Methods) -> Content:
    """Call the method of a request; returns its result, or the error that it ended with."""
    function = methods.get(request.method)
    if function is None:
        return _error(METHOD_NOT_FOUND, "Method not found")
    try:
        signature = inspect.signature(function)
        if isinstance(request.params, list):
            arguments = signature.bind(*request.params)
        else:
            arguments = signature.bind(**request.params)
    except TypeError:
        return _error(INVALID_PARAMS, "Invalid params")
    if None in arguments.arguments.values():
        return _error(INVALID_PARAMS, "Invalid params")
    try:
        return {"result": function(*arguments.args, **arguments.kwargs)}
    except MiError as exc:
        return _error(exc.code, str(exc))
    except Exception:
        log.exception("MI method %s failed", request.method)
        return _error(INTERNAL_ERROR, "Internal error")


def _error(code: int, message: str) -> Content:
    return {"error": {"code": code, "message": message}}
