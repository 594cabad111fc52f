"""OpenSIPS' management interface: JSON-RPC 2.0 requests in, replies out, as mi_http has them. Pure.

Methods are a table of names and functions. A function gets the request's parameters by name, and
returns what JSON can say. A `Method` adds the parameter sets that OpenSIPS takes for it.
"""

import inspect
import json
import logging
import math
import re
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
SERVER_ERROR: Final = -32000
"""Error codes of JSON-RPC 2.0, section 5.1."""

FAILED: Final = 500
"""OpenSIPS' error code for a method that refuses."""

NOT_FOUND: Final = 404
"""OpenSIPS' error code for something that does not exist."""

BAD_VALUE: Final = 400
"""The error code of OpenSIPS' tracer for a trace that does not exist."""

WRONG_COUNT: Final = "Too few or too many parameters"
AMBIGUOUS: Final = "Ambiguous call, use named parameters instead"
WRONG_NAMES: Final = "Named parameters do not match"
NAMED_ONLY: Final = "Command only supports named parameters"
"""What OpenSIPS says of parameters that a method does not take (mi/mi.h)."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,10}")


class MiError(SipwsError):
    """A method refuses; the caller gets the message, the code and the details.

    Args:
        message: what is wrong.
        code: `FAILED` by default.
        data: the details; empty for none.
    """

    def __init__(self, message: str, code: int = FAILED, data: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.data = data


def invalid_params(data: str) -> MiError:
    """Make the error for parameters that a method does not take.

    Args:
        data: the details.
    """
    return MiError("Invalid params", INVALID_PARAMS, data)


@dataclass(frozen=True, slots=True)
class Method:
    """A method with the parameter sets that it takes. Calling it calls its function."""

    function: Callable[..., Any]
    recipes: tuple[tuple[str, ...], ...] = ()
    """The names of the parameters that may be given together; one set has to match in full, as in
    OpenSIPS. Without recipes the function's signature decides."""
    module: str = "sipws"
    """The module of OpenSIPS that has this method; ours has the others."""
    about: str = ""
    """One line for ``help``."""
    named_only: bool = False
    """Whether parameters in order are refused."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    @property
    def parameter_sets(self) -> list[list[str]]:
        """The sets of parameters, for ``which`` and the completion of ``opensips-cli``.

        Of a method without recipes: the required ones, then these with each optional one.
        """
        if self.recipes:
            return [list(recipe) for recipe in self.recipes]
        parameters = inspect.signature(self.function).parameters.values()
        needed = [each.name for each in parameters if each.default is each.empty]
        return [needed, *([*needed, each.name] for each in parameters if each.name not in needed)]

    def arguments(self, params: Params) -> dict[str, Any]:
        """Name the parameters of a request.

        Raises:
            MiError: the method does not take them.
        """
        if self.named_only and params and isinstance(params, list):
            raise invalid_params(NAMED_ONLY)
        found = self._of_recipes(params) if self.recipes else self._of_signature(params)
        for name, value in found.items():
            if value is None:
                raise bad_type(name)
        return found

    def _of_recipes(self, params: Params) -> dict[str, Any]:
        fitting = [recipe for recipe in self.recipes if len(recipe) == len(params)]
        if not fitting:
            raise invalid_params(WRONG_COUNT)
        if isinstance(params, list):
            if len(fitting) > 1:
                raise invalid_params(AMBIGUOUS)
            return dict(zip(fitting[0], params, strict=True))
        if not any(params.keys() == set(recipe) for recipe in fitting):
            raise invalid_params(WRONG_NAMES)
        return params

    def _of_signature(self, params: Params) -> dict[str, Any]:
        signature = inspect.signature(self.function)
        try:
            if isinstance(params, list):
                return dict(signature.bind(*params).arguments)
            return dict(signature.bind(**params).arguments)
        except TypeError:
            known = signature.parameters
            is_named = isinstance(params, dict) and not params.keys() <= known.keys()
            raise invalid_params(WRONG_NAMES if is_named else WRONG_COUNT) from None


def bad_type(name: str) -> MiError:
    """Make the error for a parameter of the wrong type.

    Args:
        name: of the parameter.
    """
    return invalid_params(f"Bad type for parameter '{name}'")


def text_of(value: object, name: str) -> str:
    """Return a parameter as text; OpenSIPS takes a number for its digits.

    Args:
        value: as JSON has it.
        name: of the parameter, for the error.

    Raises:
        MiError: it is neither a text nor a number.
    """
    if isinstance(value, str):
        return value
    # Python refuses to write an integer of thousands of digits.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise bad_type(name)
    return str(int(value))


_LARGEST: Final = 1 << 64
"""Numbers are ids of connections at most, which have 64 bits."""


def integer_of(value: object, name: str) -> int:
    """Return a parameter as an integer; OpenSIPS takes a text of digits for it.

    Args:
        value: as JSON has it.
        name: of the parameter, for the error.

    Raises:
        MiError: it is no integer.
    """
    text = text_of(value, name)
    if not _INTEGER.fullmatch(text):
        raise bad_type(name)
    return int(text)


def texts_of(value: object, name: str) -> list[str]:
    """Return a parameter as a list of texts; see `text_of`.

    Args:
        value: as JSON has it.
        name: of the parameter, for the error.

    Raises:
        MiError: it is no list, or an empty one, or an item is neither a text nor a number.
    """
    if not isinstance(value, list):
        raise bad_type(name)
    if not value:
        raise invalid_params(f"Empty array in parameter '{name}'")
    try:
        return [text_of(each, name) for each in value]
    except MiError:
        raise invalid_params(f"Bad type for array item in parameter '{name}'") from None


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
    return written(request, {} if isinstance(request, BadRequest) else content(request, methods))


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


def content(request: Request, methods: Methods) -> Content:
    """Call the method of a request.

    Args:
        request: from `parse`.
        methods: the functions that can be called, by name.

    Returns:
        its result, or the error that it ended with.
    """
    found = methods.get(request.method)
    if found is None:
        return _error(METHOD_NOT_FOUND, "Method not found")
    method = found if isinstance(found, Method) else Method(found)
    try:
        return {"result": method(**method.arguments(request.params))}
    except MiError as exc:
        return _error(exc.code, str(exc), exc.data)
    except Exception:
        log.exception("MI method %s failed", request.method)
        return _error(SERVER_ERROR, "Server error", "Command handler returned null")


def _error(code: int, message: str, data: str = "") -> Content:
    error: dict[str, object] = {"code": code, "message": message}
    return {"error": {**error, "data": data} if data else error}
