"""The pseudo-variables of OpenSIPS: their values, and which of them can be assigned."""

import os
import re
import time
from collections.abc import Callable
from typing import Any, Final

from sipws.tracing.filter.bounds import (
    CHANGE,
    LIST_CHANGE,
    MAX_VARIABLE_DEPTH,
    SHORT_TEXT,
)
from sipws.tracing.filter.evaluation import message, transformations
from sipws.tracing.filter.evaluation.avps import compile_avp, compile_avp_setter
from sipws.tracing.filter.evaluation.run import Getter, Kind, Run, Scope, Setter
from sipws.tracing.filter.evaluation.sockets import (
    put_socket_out,
    socket_field,
    socket_in,
    socket_out,
)
from sipws.tracing.filter.evaluation.values import (
    Bare,
    Numbered,
    Value,
    Worded,
    number_of,
    stored,
    text_of,
    written,
)
from sipws.tracing.filter.syntax.nodes import Variable
from sipws.tracing.filter.syntax.pseudo import Problem, parse_variable, print_variable
from sipws.tracing.filter.syntax.source import nearest

_STARTED: Final = time.time()

_LOG_LEVEL: Final = 3
"""``$log_level`` until the script sets it (``L_INFO``)."""

_XLOG_LEVEL: Final = 2
"""``$xlog_level`` until the script sets it (``L_NOTICE``)."""

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


def _formatted(run: Run) -> Value:
    """``$Tf``: the time as text."""
    now = _now(run)
    return Numbered(time.ctime(now), int(now))


def _flags(prefix: str) -> Getter:
    """``$mf``, ``$bf``: the names of the flags that are set, the newest first."""

    def get(run: Run) -> Value:
        keys = [key for key, value in run.variables.items() if key[:1] == "#" and value is True]
        names = [key.lstrip("#") for key in keys if key.startswith("##") is (prefix == "##")]
        made = " ".join(map(stored, reversed(names)))
        run.made(made)
        return made

    return get


PLAIN: Final[dict[str, tuple[Getter, Kind]]] = {
    "si": (_si, "text"),
    "src_ip": (_si, "text"),
    "sp": (lambda run: run.subject.sp, "number"),
    "socket_in": (socket_in, "text"),
    "socket_out": (socket_out, "text"),
    "rc": (lambda run: run.rc, "number"),
    "retcode": (lambda run: run.rc, "number"),
    "mf": (_flags("#"), "text"),
    "bf": (_flags("##"), "text"),
    "Ts": (lambda run: int(_now(run)), "number"),
    "Tsm": (lambda run: int(_now(run) % 1 * 1_000_000), "number"),
    "TS": (lambda run: int(_STARTED), "number"),
    "Tf": (_formatted, "any"),
    "pp": (lambda run: os.getpid(), "number"),
    "log_level": (lambda run: run.variables.get("$log_level", _LOG_LEVEL), "number"),
    "xlog_level": (lambda run: run.variables.get("$xlog_level", _XLOG_LEVEL), "number"),
    "$": (lambda run: Numbered("$", ord("$")), "any"),
}
"""Variables without brackets by OpenSIPS name. `message.NAMES` has those of a SIP message."""

BRACKETED: Final = (
    "avp", "var", "socket_in", "socket_out", "time", "param", "return", "hdr", "hdrcnt", "argv",
    "C", "msg.flag",
)  # fmt: skip
"""Variables with a name in brackets, such as ``$avp(name)``, by OpenSIPS name."""

_HERE: Final = ("route", "route.name", "route.type", "cfg_line", "cfg_file")
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
    if variable.index is not None and not _takes_index(name, inner):
        raise Problem(f"${name} has no index")
    if inner is not None and name in message.WITH_FIELD:
        return lambda run: None, "any"
    if inner is not None and name in BRACKETED:
        return _bracketed(variable, inner, scope)
    if inner is None:
        if name in PLAIN:
            return PLAIN[name]
        if name in message.GETTERS:
            return message.GETTERS[name], "any"
        if name in message.FIELDS:
            value = message.FIELDS[name]
            return lambda run: value, "any"
        if name in _HERE:
            return _here(variable, scope)
    raise Problem(_unknown(name, inner))


def _takes_index(name: str, inner: str | None) -> bool:
    if inner is None:
        return name in message.INDEXED or name in ("route", "route.name", "route.type")
    return name in message.WITH_FIELD or name in ("avp", "hdr")


def _unknown(name: str, inner: str | None) -> str:
    """The error for a variable that a filter route does not have."""
    if inner is None and name in BRACKETED:
        return f"${name} needs a name in brackets: ${name}(…)"
    if inner is not None and (name in PLAIN or name in message.NAMES):
        return f"${name} takes nothing in brackets"
    if name in _REPLACED:
        return f"there is no ${name} in OpenSIPS 3.6; write {_REPLACED[name]}"
    if name in _MODULES:
        return f"${name} is of the module {_MODULES[name]}; a filter route has the core's only"
    known = (*PLAIN, *BRACKETED, *_HERE) + (tuple(message.NAMES) if len(name) > 2 else ())
    return f"unknown variable ${name}" + nearest(name, known, "").replace("mean ", "mean $")


def _bracketed(variable: Variable, inner: str, scope: Scope) -> tuple[Getter, Kind]:
    match variable.name:
        case "var":
            return lambda run: run.variables.get(inner), "any"
        case "avp":
            return compile_avp(variable, _within(variable, scope)), "any"
        case "socket_in" | "socket_out":
            return socket_field(variable.name, inner)
        case "msg.flag":
            return _flag(f"#{inner}"), "any"
        case "time":
            return lambda run: _strftime(inner, _now(run)), "any"
        case "param":
            if inner.startswith("$"):
                return _param_at(variable_in(inner, scope, variable.at)), "any"
            # OpenSIPS takes any other text too, and finds no argument.
            return _param(int(inner) if re.fullmatch("[0-9]{1,9}", inner) else 0), "any"
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


def _flag(key: str) -> Getter:
    """``$msg.flag(name)``: whether a flag is set, as ``true`` or ``false``."""
    return lambda run: _TRUE if run.variables.get(key) else _FALSE


_TRUE: Final = Worded(1, "true")
_FALSE: Final = Worded(0, "false")


def _strftime(written_format: str, now: float) -> Value:
    """``$time(format)``: the time formatted by strftime; NULL from 127 characters on."""
    try:
        text = time.strftime(written_format, time.localtime(now))
    except (ValueError, OverflowError, UnicodeError):
        return None
    text = stored(text)
    return text if 0 < len(text) < 127 else None


def _counted(inner: str, scope: Scope, variable: Variable) -> Getter:
    """Compile the number in brackets, which is a literal or a variable."""
    if inner.startswith("$"):
        return variable_in(inner, scope, variable.at)
    if not re.fullmatch("[0-9]{1,9}", inner):
        raise Problem(f"${variable.name} takes a number in brackets, not {inner!r}")
    number = int(inner)
    return lambda run: number


def _param(number: int) -> Getter:
    """``$param(number)``: an argument of the running route, from 1."""

    def get(run: Run) -> Value:
        call = run.arguments
        return call[0][number - 1] if call is not None and 1 <= number <= len(call[0]) else None

    return get


def _param_at(index: Getter) -> Getter:
    """``$param($index)``: OpenSIPS reads the index where the route was called."""

    def get(run: Run) -> Value:
        call = run.arguments
        if call is None:
            return None
        run.arguments = call[1]
        try:
            number = number_of(index(run))
        finally:
            run.arguments = call
        return None if number is None else _param(number)(run)

    return get


def _returned(index: Getter) -> Getter:
    """``$return(index)``: a value returned by the last route, from 0."""

    def get(run: Run) -> Value:
        number = number_of(index(run))
        return None if number is None or number >= len(run.values) else run.values[number]

    return get


def _here(variable: Variable, scope: Scope) -> tuple[Getter, Kind]:
    """``$route``, ``$route.name``, ``$route.type``, ``$cfg_line``, ``$cfg_file``."""
    filename, line, _ = scope.place(variable.at)
    match variable.name:
        case "cfg_line":
            return lambda run: line, "number"
        case "cfg_file":
            name = stored(filename)
            return lambda run: name, "text"
    show = _SHOWN[variable.name]
    if variable.index is None:
        here = show(stored(scope.route))
        return lambda run: here, "text"
    if variable.index == "*":
        return (_all_routes if variable.name == "route" else lambda run: None), "any"
    return _caller(_index_of(variable, scope), show), "any"


_SHOWN: Final[dict[str, Callable[[str], str]]] = {
    "route": "route[{}]".format,
    "route.name": str,
    "route.type": lambda name: "route",
}
"""What the variables say of a route."""


def _index_of(variable: Variable, scope: Scope) -> Getter:
    index = variable.index or ""
    if index.startswith("$"):
        return variable_in(index, scope, variable.at)
    if not re.fullmatch("-?[0-9]{1,9}", index):
        raise Problem(f"[{index}] is not an index: it is a number, * or a variable")
    number = int(index)
    return lambda run: number


def _called(run: Run) -> list[str]:
    """The names of the running route and of the routes that called it."""
    names, call = [], run.arguments
    while call is not None:
        names.append(stored(call[2]))
        call = call[1]
    return names


def _all_routes(run: Run) -> Value:
    """``$(route[*])``: the filter route and the routes called from it."""
    made = " > ".join(map(_SHOWN["route"], reversed(_called(run))))
    run.made(made)
    return made


def _caller(index: Getter, show: Callable[[str], str]) -> Getter:
    """``$(route[index])``, ``$(route.name[index])``: a calling route; 0 is the running one."""

    def get(run: Run) -> Value:
        number, names = number_of(index(run)), _called(run)
        if number is None or not -len(names) <= number < len(names):
            return None
        made = show(names[number])
        run.made(made)
        return made

    return get


def _transformed(get: Getter, node: Any, scope: Scope) -> Getter:
    """A getter that applies a transformation to the value of another getter."""
    form, change, node = transformations.find(node)
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
        if value is None:
            return None
        text = text_of(value)
        if text is None:
            text = str(int(value)) if isinstance(value, Bare) else ""
        if not text and not takes_empty:
            return None
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
        return stored(text)
    stripped = text.strip()
    if stripped.startswith("$"):
        if letter == "f":
            raise Problem(f"{shown} takes no variable")
        return variable_in(stripped, scope, at)
    if letter in "ni":
        found = re.match(r"([+-]?)\s*([0-9]*)", stripped)
        if not found or not (found[1] or found[2]):
            raise Problem(f"{shown} takes a number, not {text!r}")
        return int(f"{found[1]}{found[2][:9] or 0}")
    if letter == "f":
        if not text:
            raise Problem(f"{shown} needs a text to fill with")
        return stored(text)
    # A text ends at the first blank.
    return stored(stripped.split(None, 1)[0] if stripped else "")


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


def _level_setter(key: str) -> Setter:
    """Assignment to ``$log_level`` or ``$xlog_level``. NULL restores the level."""

    def put(run: Run, value: Value, operator: str) -> bool:
        if value is None:
            run.variables.pop(key, None)
            return True
        if not isinstance(value, int):
            return False
        run.variables[key] = int(value)
        return True

    return put


def _flag_setter(key: str) -> Setter:
    """Assignment to ``$msg.flag(name)`` or to a flag of a branch."""

    def put(run: Run, value: Value, operator: str) -> bool:
        if not isinstance(value, int):
            return False
        run.variables[key] = value != 0
        return True

    return put


def _setter(variable: Variable, scope: Scope) -> Setter:
    name, inner = variable.name, variable.inner or ""
    if name == "var":
        return _var_setter(inner)
    if name == "avp":
        return compile_avp_setter(variable, _within(variable, scope))
    if name in ("msg.flag", "branch.flag", "msg.branch.flag") and inner:
        return _flag_setter(f"{'#' if name == 'msg.flag' else '##'}{inner}")
    if name in message.WITH_FIELD and inner and name.startswith(("branch", "msg.branch", "sdp")):
        return lambda run, value, operator: True
    if variable.inner is None:
        if name == "socket_out":
            return put_socket_out
        if name in ("log_level", "xlog_level"):
            return _level_setter(f"${name}")
        if name in message.SETTERS:
            return message.SETTERS[name]
        if name in message.STORED:
            return _var_setter(f"${name}")
    raise Problem(f"{print_variable(variable)} cannot be set; to compare, write '=='")
