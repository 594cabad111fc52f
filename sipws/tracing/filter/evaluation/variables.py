"""The pseudo-variables of OpenSIPS: their values, and which of them can be assigned."""

import os
import re
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from sipws.tracing.filter.bounds import (
    CHANGE,
    LIST_CHANGE,
    MAX_VARIABLE_DEPTH,
    SHORT_TEXT,
)
from sipws.tracing.filter.evaluation import message, transformations
from sipws.tracing.filter.evaluation.avps import compile_avp, compile_avp_setter
from sipws.tracing.filter.evaluation.run import Getter, Run, Scope
from sipws.tracing.filter.evaluation.values import (
    FAILED,
    Numbered,
    Value,
    number_of,
    text_of,
    written,
)
from sipws.tracing.filter.syntax.nodes import Variable
from sipws.tracing.filter.syntax.pseudo import Problem, parse_variable, print_variable
from sipws.tracing.filter.syntax.source import nearest

Kind = Literal["text", "number", "any"]
"""Type of a variable's value, known at compile time, which saves a check for each decision."""

Setter = Callable[[Run, Value, str], bool]
"""Assigns a value with an operator; returns False if the assignment fails."""

_STARTED: Final = time.time()

_REPLACED: Final = {
    "Ri": "$socket_in(ip)",
    "Rp": "$socket_in(port)",
    "pr": "$socket_in(proto)",
    "proto": "$socket_in(proto)",
    "af": "$socket_in(af)",
    "fs": "$socket_out",
}
"""Variables of older OpenSIPS versions, with their names in 3.6."""

_MODULES: Final = {
    "json": "json",
    "shv": "cfgutils",
    "env": "cfgutils",
    "RANDOM": "cfgutils",
    "ctime": "cfgutils",
    "stat": "statistics",
    "rtpstat": "rtpproxy",
    "dlg_val": "dialog",
    "DLG_status": "dialog",
    "DLG_lifetime": "dialog",
    "T_branch_idx": "tm",
    "T_reply_code": "tm",
    "Dp": "diversion",
    "xml": "xml",
}
"""Variables of OpenSIPS modules, with their module. A filter route has none of them."""


def _now(run: Run) -> float:
    """The time of the decision in seconds since the epoch."""
    return time.time() if run.subject.now is None else run.subject.now


def _si(run: Run) -> str:
    """``$si``, ``$src_ip``: the address of the peer."""
    ip = run.subject.si
    return ip if ":" not in ip else written(ip)


def _socket_ip(run: Run) -> str:
    """``$socket_in(ip)``: the local address, IPv6 in brackets."""
    ip = run.subject.socket_ip
    return ip if ":" not in ip else f"[{written(ip)}]"


def _advertised_ip(run: Run) -> Value:
    """``$socket_in(advertised_ip)``: the advertised address, IPv6 in brackets."""
    ip = run.subject.advertised_ip
    return ip if ip is None or ":" not in ip else f"[{written(ip)}]"


def _formatted(run: Run) -> Value:
    """``$Tf``: the time as text."""
    now = _now(run)
    return Numbered(time.ctime(now), int(now))


SOCKET: Final[dict[str, tuple[Getter, Kind]]] = {
    "ip": (_socket_ip, "text"),
    "port": (lambda run: run.subject.socket_port, "number"),
    "proto": (lambda run: run.subject.proto, "text"),
    "advertised_ip": (_advertised_ip, "any"),
    "advertised_port": (lambda run: run.subject.advertised_port, "any"),
    "tag": (lambda run: run.subject.tag, "any"),
    "anycast": (lambda run: 0, "number"),
    "af": (lambda run: "INET6" if ":" in run.subject.socket_ip else "INET", "text"),
}
"""The fields of ``$socket_in``, by name in lower case."""

PLAIN: Final[dict[str, tuple[Getter, Kind]]] = {
    "si": (_si, "text"),
    "src_ip": (_si, "text"),
    "sp": (lambda run: run.subject.sp, "number"),
    "socket_in": (
        lambda run: f"{run.subject.proto}:{_socket_ip(run)}:{run.subject.socket_port}",
        "text",
    ),
    "rc": (lambda run: run.rc, "number"),
    "retcode": (lambda run: run.rc, "number"),
    "Ts": (lambda run: int(_now(run)), "number"),
    "Tsm": (lambda run: int(_now(run) % 1 * 1_000_000), "number"),
    "TS": (lambda run: int(_STARTED), "number"),
    "Tf": (_formatted, "any"),
    "pp": (lambda run: os.getpid(), "number"),
    "log_level": (lambda run: 3, "number"),
    "xlog_level": (lambda run: None, "any"),
    "route.type": (lambda run: "request", "text"),
    "$": (lambda run: Numbered("$", ord("$")), "any"),
}
"""Variables without brackets by OpenSIPS name. `message.FIELDS` has those of a SIP message."""

BRACKETED: Final = (
    "avp", "var", "socket_in", "socket_out", "time", "param", "return", "hdr", "hdrcnt", "argv", "C"
)  # fmt: skip
"""Variables with a name in brackets, such as ``$avp(name)``, by OpenSIPS name."""

_HERE: Final = ("route", "route.name", "cfg_line", "cfg_file")
"""Variables whose value depends on their place in the script."""


def compile_variable(variable: Variable, scope: Scope) -> tuple[Getter, Kind]:
    """Compile reading a variable with its transformations.

    Errors go to ``scope.error``.

    Returns:
        the getter of its value, and the type of the value.
    """
    try:
        if variable.problem:
            raise Problem(variable.problem)
        get, kind = _plain_or_bracketed(variable, scope)
        for change in variable.transformations:
            get, kind = _transformed(get, change, scope), "any"
    except Problem as exc:
        scope.error(variable.at, str(exc))
        return lambda run: None, "any"
    return get, kind


def compile_target(variable: Variable, scope: Scope) -> Setter:
    """Compile assignment to a variable. Errors go to ``scope.error``."""
    try:
        if variable.problem:
            raise Problem(variable.problem)
        _plain_or_bracketed(variable, scope)
        if variable.transformations:
            raise Problem("what is assigned to is a variable without transformations")
        return _setter(variable, scope)
    except Problem as exc:
        scope.error(variable.at, str(exc))
        return lambda run, value, operator: False


def variable_in(text: str, scope: Scope, at: int) -> Getter:
    """Compile a variable inside another one, as in ``$param($var(i))``.

    Args:
        text: the inner variable.
        scope: context of the compiler.
        at: position of the outer variable.

    Returns:
        the getter of its value.

    Raises:
        Problem: the text is not a variable, or variables are nested deeper than
            `MAX_VARIABLE_DEPTH`.
    """
    if scope.variable_depth >= MAX_VARIABLE_DEPTH:
        raise Problem(f"variables stand within each other more than {MAX_VARIABLE_DEPTH} deep")
    scope.variable_depth += 1
    try:
        return compile_variable(parse_variable(text, at), scope)[0]
    finally:
        scope.variable_depth -= 1


def _within(variable: Variable, scope: Scope) -> Callable[[str], Getter]:
    return lambda text: variable_in(text, scope, variable.at)


def _plain_or_bracketed(variable: Variable, scope: Scope) -> tuple[Getter, Kind]:
    name, inner = variable.name, variable.inner
    indexed = message.INDEXED | {"avp", "hdr", "ct.fields", "route", "route.name", "route.type"}
    if variable.index is not None and name not in indexed:
        raise Problem(f"${name} has no index")
    if inner is not None and name in message.WITH_FIELD:
        return lambda run: None, "any"
    if inner is not None and name in BRACKETED:
        return _bracketed(variable, inner, scope)
    if inner is None:
        if name in PLAIN:
            return PLAIN[name]
        if name in message.FIELDS:
            value = message.FIELDS[name]
            if name in message.WRITABLE:
                return lambda run: run.variables.get(f"${name}", value), "any"
            return lambda run: value, "any"
        if name in _HERE:
            return _here(variable, scope)
    raise Problem(_unknown(name, inner))


def _unknown(name: str, inner: str | None) -> str:
    """The error for a variable that a filter route does not have."""
    if inner is None and name in BRACKETED:
        return f"${name} needs a name in brackets: ${name}(…)"
    if inner is not None and (name in PLAIN or name in message.FIELDS):
        return f"${name} takes nothing in brackets"
    if name in _REPLACED:
        return f"there is no ${name} in OpenSIPS 3.6; write {_REPLACED[name]}"
    if name in _MODULES:
        return f"${name} is of the module {_MODULES[name]}; a filter route has the core's only"
    known = (*PLAIN, *BRACKETED, *_HERE) + (tuple(message.FIELDS) if len(name) > 2 else ())
    return f"unknown variable ${name}" + nearest(name, known, "").replace("mean ", "mean $")


def _bracketed(variable: Variable, inner: str, scope: Scope) -> tuple[Getter, Kind]:
    match variable.name:
        case "var":
            return lambda run: run.variables.get(inner), "any"
        case "avp":
            return compile_avp(variable, _within(variable, scope)), "any"
        case "socket_in" | "socket_out":
            field = inner.strip().lower()
            if field not in SOCKET:
                hint = nearest(field, SOCKET) or f"; there are: {', '.join(SOCKET)}"
                raise Problem(f"${variable.name} has no field {inner!r}{hint}")
            return SOCKET[field] if variable.name == "socket_in" else (lambda run: None, "any")
        case "time":
            return lambda run: _strftime(inner, _now(run)), "any"
        case "param":
            return _param(_counted(inner, scope, variable)), "any"
        case "return":
            return _returned(_counted(inner, scope, variable)), "any"
        case "hdr":
            header = message.HEADERS.get(inner.strip().lower())
            if variable.index not in (None, "0", "-1", "*"):
                header = None
            return lambda run: header, "any"
        case "hdrcnt":
            count = int(inner.strip().lower() in message.HEADERS)
            return lambda run: count, "number"
        case "C":
            return lambda run: "", "text"
    return lambda run: None, "any"


def _strftime(written_format: str, now: float) -> Value:
    """``$time(format)``: the time formatted by strftime; NULL from 127 characters on."""
    try:
        text = time.strftime(written_format, time.localtime(now))
    except (ValueError, OverflowError, UnicodeError):
        return None
    return text if 0 < len(text) < 127 else None


def _counted(inner: str, scope: Scope, variable: Variable) -> Getter:
    """Compile the number in brackets, which is a literal or a variable."""
    if inner.startswith("$"):
        return variable_in(inner, scope, variable.at)
    if not re.fullmatch("[0-9]{1,9}", inner):
        raise Problem(f"${variable.name} takes a number in brackets, not {inner!r}")
    number = int(inner)
    return lambda run: number


def _param(index: Getter) -> Getter:
    """``$param(index)``: an argument of the running route, from 1."""

    def get(run: Run) -> Value:
        number, arguments = number_of(index(run)), run.arguments
        if number is None:
            return FAILED
        if arguments is None or not 1 <= number <= len(arguments[0]):
            return None
        if arguments[1] is not None:
            # An argument may refer to an argument of the caller, which may refer to another one.
            run.spend(1)
        # An argument is evaluated in the context of the caller.
        try:
            run.arguments = arguments[1]
            return arguments[0][number - 1](run)
        finally:
            run.arguments = arguments

    return get


def _returned(index: Getter) -> Getter:
    """``$return(index)``: a value returned by the last route, from 0."""

    def get(run: Run) -> Value:
        number = number_of(index(run))
        return None if number is None or number >= len(run.values) else run.values[number]

    return get


def _here(variable: Variable, scope: Scope) -> tuple[Getter, Kind]:
    """``$route``, ``$route.name``, ``$cfg_line``, ``$cfg_file``."""
    filename, line, _ = scope.place(variable.at)
    name = scope.route
    match variable.name:
        case "cfg_line":
            return lambda run: line, "number"
        case "cfg_file":
            return lambda run: filename, "text"
        case "route":
            return lambda run: f"request[{name}]", "text"
    return lambda run: name, "text"


def _transformed(get: Getter, node: Any, scope: Scope) -> Getter:
    """A getter that applies a transformation to the value of another getter."""
    form, change = transformations.find(node)
    optional = "?" in form
    letters = form.replace("?", "")
    fewest = form.index("?") if optional else len(letters)
    shown = f"{{{node.kind}.{node.name}}}"
    if not fewest <= len(node.arguments) <= max(len(letters), 9 if not letters else 0):
        count = f"{fewest}" if not optional else f"{fewest} or {len(letters)}"
        raise Problem(f"{shown} takes {count} argument{'s' * (count != '1')} after its name")
    arguments = [
        _argument(letter, text, shown, scope, node.at)
        for letter, text in zip(letters, node.arguments, strict=False)
    ]

    constants = tuple(argument for argument in arguments if not callable(argument))
    getters = None if len(constants) == len(arguments) else tuple(map(_getter, arguments))
    # Constant arguments may be long too.
    size = sum(len(each) for each in constants if isinstance(each, str))
    size = size if size > SHORT_TEXT else 0
    takes_empty = node.kind.lower() == "s"
    is_slow = f"{node.kind}.{node.name}".lower() in transformations.SLOW
    rate = LIST_CHANGE if is_slow else CHANGE

    def transformed(run: Run) -> Value:
        value = get(run)
        if value is None or value is FAILED:
            return value
        text = text_of(value)
        if text is None or (not text and not takes_empty):
            return FAILED
        cost = len(text) + size
        if getters is None:
            values = constants
        else:
            values = tuple([get(run) for get in getters])
            cost += sum([len(each) for each in values if isinstance(each, str)])
        if cost > SHORT_TEXT:
            run.spend(cost // rate)
        made = change(text, value, values)
        if isinstance(made, str):
            run.made(made)
        return made

    return transformed


def _getter(argument: Value | Getter) -> Getter:
    return argument if callable(argument) else lambda run: argument


def _argument(letter: str, text: str, shown: str, scope: Scope, at: int) -> Value | Getter:
    """Compile an argument of a transformation.

    Args:
        letter: its type, as in `transformations.CHANGES`.
        text: the argument as written.
        shown: the transformation, for messages.
        scope: context of the compiler.
        at: position of the transformation.

    Returns:
        a constant, or a getter.

    Raises:
        Problem: the argument has the wrong type.
    """
    if letter == "c":
        if not text:
            raise Problem(f"{shown} needs the character that separates")
        return text
    stripped = text.strip()
    if stripped.startswith("$"):
        if letter == "f":
            raise Problem(f"{shown} takes no variable")
        return variable_in(stripped, scope, at)
    if letter == "n":
        found = re.match(r"([+-]?)\s*([0-9]*)", stripped)
        if not found or not (found[1] or found[2]):
            raise Problem(f"{shown} takes a number, not {text!r}")
        return int(f"{found[1]}{found[2][:9] or 0}")
    if letter == "f":
        if not text:
            raise Problem(f"{shown} needs a text to fill with")
        return text
    return stripped


def _var_setter(key: str) -> Setter:
    """Assignment to ``$var(name)`` or to a variable of the SIP message."""

    def put(run: Run, value: Value, operator: str) -> bool:
        if isinstance(value, str):
            value = str(value)
            if len(value) > SHORT_TEXT:
                return run.put(key, value)
        elif isinstance(value, int):
            value = int(value)
        if run.long:
            return run.put(key, value)
        run.variables[key] = value
        return True

    return put


def _setter(variable: Variable, scope: Scope) -> Setter:
    name, inner = variable.name, variable.inner or ""
    if name == "var":
        return _var_setter(inner)
    if name == "avp":
        return compile_avp_setter(variable, _within(variable, scope))
    if (variable.inner is None and name in message.WRITABLE) or name == "log_level":
        if name in ("socket_out", "log_level"):
            return lambda run, value, operator: True
        return _var_setter(f"${name}")
    raise Problem(f"{print_variable(variable)} cannot be set; to compare, write '=='")
