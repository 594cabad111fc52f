"""The functions of the OpenSIPS core that a filter route can call."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sipws.tracing.filter.bounds import LONGEST_HOST, MAX_TEXT
from sipws.tracing.filter.evaluation.message import rewrite_ruri, set_duri, set_ruri
from sipws.tracing.filter.evaluation.run import Getter, Run, Scope, Setter, Step, weight_of
from sipws.tracing.filter.evaluation.sockets import force, parse_destination
from sipws.tracing.filter.evaluation.uris import LONGEST_URI, Change
from sipws.tracing.filter.evaluation.values import (
    number_of,
    parse_ip,
    printed,
    readable,
    shown,
    stored,
    text_of,
)
from sipws.tracing.filter.evaluation.variables import PLAIN, compile_target, compile_variable
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.pseudo import Problem, parse_format
from sipws.tracing.filter.syntax.source import nearest

PARAMETERS: Final = {
    # S: text, I: integer, V: variable, A: an $avp, F: fixed text, D: destination of a message. A
    # lower-case letter is optional.
    "is_myself": "Si",
    "setflag": "F",
    "resetflag": "F",
    "isflagset": "F",
    "setbflag": "Fi",
    "resetbflag": "Fi",
    "isbflagset": "Fi",
    "pv_printf": "VS",
    "construct_uri": "SsSssA",
    "get_timestamp": "AA",
    "script_trace": "isf",
}
"""Functions of the core that work without a SIP message, by OpenSIPS name, with parameters."""

WITHOUT_EFFECT: Final = {
    "add_blacklist_rule": "SSissi",
    "add_local_rport": "",
    "append_branch_old": "ss",
    "append_msg_branch": "Sss",
    "avp_print": "",
    "cache_add": "SSIIv",
    "cache_counter_fetch": "SSV",
    "cache_fetch": "SSV",
    "cache_raw_query": "SSs",
    "cache_remove": "SS",
    "cache_store": "SSSi",
    "cache_sub": "SSIIv",
    "check_blacklist_rule": "SSiss",
    "del_blacklist_rule": "SSiss",
    "force_rport": "",
    "force_send_socket": "D",
    "force_tcp_alias": "i",
    "forward": "d",
    "isdsturiset": "",
    "move_msg_branch": "iis",
    "next_branches": "",
    "prefix": "S",
    "raise_event": "Saa",
    "remove_msg_branch": "I",
    "resetdsturi": "",
    "revert_uri": "",
    "send": "Ds",
    "serialize_branches": "Ii",
    "set_advertised_address": "S",
    "set_advertised_port": "S",
    "set_via_handling": "S",
    "setdsturi": "S",
    "sethost": "S",
    "sethostport": "S",
    "setport": "S",
    "seturi": "S",
    "setuser": "S",
    "setuserpass": "S",
    "sr_check_status": "Ss",
    "strip": "I",
    "strip_tail": "I",
    "subscribe_event": "SSi",
    "swap_msg_branches": "ii",
    "unuse_blacklist": "S",
    "use_blacklist": "S",
}
"""Functions of the core that change or send a SIP message or need a component that sipws does not
have. OpenSIPS accepts them in a filter route. Here they have no effect but on ``$ru``, ``$du`` and
``$socket_out``."""

CHANGING: Final = frozenset(
    """
    prefix resetdsturi revert_uri setdsturi sethost sethostport setport seturi setuser setuserpass
    strip strip_tail
    """.split()  # noqa: SIM905 - words read better without quotes
)
"""Functions that change ``$ru`` or ``$du``."""

_FALSE: Final = frozenset(
    """
    cache_add cache_counter_fetch cache_fetch cache_raw_query cache_remove cache_store cache_sub
    check_blacklist_rule forward next_branches send
    """.split()  # noqa: SIM905 - words read better without quotes
)
"""Functions that fail: there is no cache, and nothing to send."""

_RENAMED: Final = {
    "append_branch": "append_msg_branch",
    "remove_branch": "remove_msg_branch",
    "rewritehost": "sethost",
    "rewritehostport": "sethostport",
    "rewriteport": "setport",
    "rewriteuri": "seturi",
    "rewriteuser": "setuser",
    "rewriteuserpass": "setuserpass",
}
"""Functions of older OpenSIPS versions, with their names in 3.6."""

NEEDS_MESSAGE: Final = frozenset(
    """
    acc_db_request acc_log_request add_body add_path append_hf append_to_reply append_urihf
    async b2b_init_request codec_delete codec_exists consume_credentials create_dialog
    db_is_user_in do_routing ds_mark_dst ds_next_dst ds_select_domain ds_select_dst
    engage_media_proxy fix_nated_contact fix_nated_register fix_nated_sdp from_gw
    get_dialog_info handle_publish has_body has_totag is_audio_on_hold is_caller_registered
    is_from_local is_method is_present_hf is_privacy is_uri_host_local launch lb_start
    load_balance lookup loose_route match_dialog mf_process_maxfwd_header mid_registrar_save
    nat_uac_test proxy_authorize proxy_challenge record_route registered remove_body_part
    remove_hf rtpengine_answer rtpengine_delete rtpengine_manage rtpengine_offer
    rtpproxy_answer rtpproxy_engage rtpproxy_offer rtpproxy_unforce save search search_append
    send_reply sip_trace sipmsg_validate sl_reply_error sl_send_reply subst subst_body
    t_anycast_replicate t_check_trans t_flush_flags t_inject_branches t_local_replied
    t_newtran t_on_branch t_on_failure t_on_reply t_relay t_reply t_wait_for_new_branches
    t_was_cancelled topology_hiding trace uac_auth uac_replace_from uac_replace_to
    use_media_proxy validate_dialog www_authorize www_challenge
    """.split()  # noqa: SIM905 - a list of words reads better than a column of quotes
)
"""Functions of OpenSIPS modules that need a SIP message."""

OTHERS: Final = {
    "avp_db_query": "avpops",
    "avp_db_load": "avpops",
    "avp_db_store": "avpops",
    "cfg_validate": "cfgutils",
    "check_address": "permissions",
    "check_source_address": "permissions",
    "get_source_group": "permissions",
    "is_domain_local": "domain",
    "lua_exec": "lua",
    "perl_exec": "perl",
    "python_exec": "python",
    "rest_get": "rest_client",
    "rest_post": "rest_client",
    "rl_check": "ratelimit",
    "pike_check_req": "pike",
    "sleep": "cfgutils",
    "usleep": "cfgutils",
    "strings_share_prefix": "cfgutils",
    "rand_event": "cfgutils",
    "sql_query": "sqlops",
    "update_stat": "statistics",
}
"""Functions of OpenSIPS modules that need no SIP message, with their module."""

_LEVELS: Final = {
    "A": "ALERT",
    "C": "CRIT",
    "E": "ERR",
    "W": "WARN",
    "N": "NOTICE",
    "I": "INFO",
    "D": "DBG",
}
"""Log levels by their third letter, as in ``L_INFO``. OpenSIPS checks that letter only."""


def compile_call(node: nodes.Call, scope: Scope) -> Step:
    """Compile a function call. Errors go to ``scope.error``."""
    name = node.function
    parameters = PARAMETERS.get(name, WITHOUT_EFFECT.get(name))
    if parameters is None:
        scope.error(node.at, _unknown(name))
        return lambda run: 1
    fewest = sum(letter.isupper() for letter in parameters)
    count = len(node.arguments)
    if not fewest <= count <= len(parameters):
        most = len(parameters)
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        scope.error(node.at, f"{name}() takes {wanted} argument{'s' * (most != 1)}, not {count}")
        return lambda run: 1
    made = [
        _argument(argument, letter, name, number, scope, node.at)
        for number, (argument, letter) in enumerate(
            zip(node.arguments, parameters, strict=False), start=1
        )
    ]
    if name in _CALLS:
        return _CALLS[name](*made)
    code = -1 if name in _FALSE else 1
    return lambda run: code


def compile_format(text: str, scope: Scope, at: int) -> Getter:
    """Compile a format string with variables, as ``xlog`` takes it.

    Args:
        text: the format string.
        scope: context of the compiler; its ``error`` gets the errors.
        at: position of the string.

    Returns:
        a getter of the text with the values of the variables.
    """
    try:
        parts = parse_format(text, at)
    except Problem as exc:
        scope.error(at, str(exc))
        return lambda run: ""
    if all(isinstance(part, str) for part in parts):
        constant = stored(text)
        return lambda run: constant
    getters: list[Getter] = [_part(part, scope) for part in parts]

    def filled(run: Run) -> str:
        found, left = [], MAX_TEXT
        for get in getters:
            part = printed(get(run))[:left]
            found.append(part)
            left -= len(part)
        filled = "".join(found)
        run.made(filled)
        return filled

    return filled


def _part(part: str | nodes.Variable, scope: Scope) -> Getter:
    if isinstance(part, str):
        constant = stored(part)
        return lambda run: constant
    return compile_variable(part, scope)[0]


def compile_log(node: nodes.Log, scope: Scope) -> Step:
    """Compile ``xlog``, ``xdbg``, ``log`` or ``error``. Errors go to ``scope.error``."""
    if node.function == "error":
        return lambda run: 1
    if node.function == "log":
        text = stored(node.text.value)
        level = "" if node.level is None else shown(node.level.value)
        return _log(lambda run: text, level)
    if not node.text.value:
        scope.error(node.text.at, f"{node.function}() needs a text, and this one is empty")
    level = "DBG" if node.function == "xdbg" else "ERR"
    if isinstance(node.level, nodes.Text):
        written = node.level.value
        if written.startswith("$"):
            compile_format(written, scope, node.level.at)
        elif written[2:3] not in _LEVELS:
            hint = nearest(written, [f"L_{name}" for name in _LEVELS.values()])
            scope.error(node.level.at, f"{written!r} is not a level of a log{hint}")
        level = _LEVELS.get(written[2:3], written)
    return _log(compile_format(node.text.value, scope, node.text.at), level)


def _log(get: Getter, level: str) -> Step:
    """``xlog``, ``xdbg``, ``log``: write a message to the log of the decision."""

    def log(run: Run) -> int:
        # The message counts even if it is discarded, so that the decision does not depend on it.
        message = f"{level}: {text_of(get(run))}".rstrip("\n")
        run.hold(weight_of(message))
        if run.messages is not None:
            run.messages.append(readable(message))
        return 1

    return log


def _unknown(name: str) -> str:
    """The error for a function that a filter route cannot call."""
    if name in NEEDS_MESSAGE:
        return f"{name!r} needs a SIP message; a filter route has none"
    if name in OTHERS:
        return f"{name!r} is of the module {OTHERS[name]}; a filter route has the core's only"
    if name in _RENAMED:
        return f"there is no function {name!r} in OpenSIPS 3.6; write {_RENAMED[name]!r}"
    known = (*PARAMETERS, "xlog", "xdbg", "route", "exit", "drop", "return", *WITHOUT_EFFECT)
    return f"unknown function {name!r}" + nearest(name, known)


def _argument(
    argument: nodes.Argument, letter: str, name: str, number: int, scope: Scope, at: int
) -> Any:
    """Compile an argument of a call.

    Args:
        argument: the argument; None if it is omitted.
        letter: its type, as in `PARAMETERS`.
        name: name of the function.
        number: number of the argument, from 1.
        scope: context of the compiler; its ``error`` gets the errors.
        at: position of the call.

    Returns:
        a getter, a setter for a variable, a fixed text, or None if it is omitted.
    """
    where = f"argument {number} of {name}()"
    if argument is None or isinstance(argument, nodes.Null):
        if letter.isupper():
            scope.error(at, f"{where} cannot be left out")
        return None
    match letter.upper():
        case "V":
            if isinstance(argument, nodes.Variable):
                return compile_target(argument, scope)
            scope.error(argument.at, f"{where} is a variable")
        case "A":
            if isinstance(argument, nodes.Variable) and argument.name == "avp":
                return compile_target(argument, scope)
            scope.error(argument.at, f"{where} is an $avp(…)")
        case "D":
            if isinstance(argument, nodes.Variable):
                return compile_variable(argument, scope)[0]
            if isinstance(argument, nodes.Text):
                if "$" not in argument.value:
                    _check_destination(argument, where, scope)
                return compile_format(argument.value, scope, argument.at)
            scope.error(argument.at, f"{where} is a text or a variable, not a number")
        case "F":
            if isinstance(argument, nodes.Text):
                return argument.value
            scope.error(argument.at, f"{where} is a fixed text")
        case "I":
            if isinstance(argument, nodes.Variable):
                return compile_variable(argument, scope)[0]
            if isinstance(argument, nodes.Number):
                value = argument.value
                return lambda run: value
            scope.error(argument.at, f"{where} is a number or a variable, not a text")
        case "S":
            if isinstance(argument, nodes.Variable):
                return compile_variable(argument, scope)[0]
            if isinstance(argument, nodes.Text):
                return compile_format(argument.value, scope, argument.at)
            scope.error(argument.at, f"{where} is a text or a variable, not a number")
    return None


def _check_destination(argument: nodes.Text, where: str, scope: Scope) -> None:
    """Report a destination that OpenSIPS cannot use when it starts."""
    wanted = parse_destination(argument.value)
    if wanted is None:
        problem = f"{where} is written PROTO:IP:PORT, not {argument.value!r}"
    elif parse_ip(wanted[1]) is None:
        problem = f"{where}: {wanted[1]!r} is not resolved here; write an address"
    else:
        return
    scope.error(argument.at, problem)


def _is_myself(host: Getter, port: Getter | None = None) -> Step:
    """``is_myself(host[, port])``: whether an address is one of ours."""

    def call(run: Run) -> int:
        subject = run.subject
        wanted = text_of(host(run))
        number = number_of(port(run)) if port is not None else 0
        if not wanted or number is None or len(wanted) > LONGEST_HOST:
            return -1
        ours = ((subject.socket_ip, subject.socket_port), *run.own)
        return 1 if any(_same(wanted, it[0]) and number in (0, it[1]) for it in ours) else -1

    return call


def _same(host: str, other: str) -> bool:
    """Whether two texts are the same address, or the same host name in any case."""
    address = parse_ip(host)
    if address is None:
        return host.lower() == other.lower()
    return address == parse_ip(other)


def _set_flag(prefix: str, value: bool) -> Callable[..., Step]:
    """``setflag(flag)``, ``resetflag(flag)`` and those of branches: set or clear a flag."""

    def compile_flag(flag: str, branch: Getter | None = None) -> Step:
        key = f"{prefix}{flag}"

        def mark(run: Run) -> int:
            run.variables[key] = value
            return 1

        return mark

    return compile_flag


def _is_flag_set(prefix: str) -> Callable[..., Step]:
    """``isflagset(flag)``, ``isbflagset(flag[, branch])``: whether a flag is set."""

    def compile_flag(flag: str, branch: Getter | None = None) -> Step:
        key = f"{prefix}{flag}"
        return lambda run: 1 if run.variables.get(key) else -1

    return compile_flag


def _rewrite(part: Change) -> Callable[..., Step]:
    """``prefix(text)``, ``sethost(host)`` and others: change a part of ``$ru``."""

    def compile_rewrite(get: Getter) -> Step:
        def call(run: Run) -> int:
            text = text_of(get(run))
            return 1 if text is not None and rewrite_ruri(run, part, text) else -1

        return call

    return compile_rewrite


def _strip(part: Change) -> Callable[..., Step]:
    """``strip(count)``, ``strip_tail(count)``: remove characters of ``$rU``."""

    def compile_strip(get: Getter) -> Step:
        def call(run: Run) -> int:
            count = number_of(get(run))
            return 1 if count is not None and rewrite_ruri(run, part, "", count) else -1

        return call

    return compile_strip


def _set_uri(put: Callable[[Run, str], None], get: Getter) -> Step:
    """``seturi(uri)``, ``setdsturi(uri)``: set ``$ru`` or ``$du``."""

    def call(run: Run) -> int:
        text = text_of(get(run))
        if text is None:
            return -1
        put(run, text)
        return 1

    return call


def _restore(put: Callable[[Run, str], None]) -> Step:
    """``revert_uri()``, ``resetdsturi()``: restore the original URI."""

    def call(run: Run) -> int:
        put(run, "")
        return 1

    return call


def _force(get: Getter) -> Step:
    """``force_send_socket(socket)``: set ``$socket_out``."""

    def call(run: Run) -> int:
        text = text_of(get(run))
        return 1 if text and force(run, text) else -1

    return call


def _print(put: Any, get: Getter) -> Step:
    """``pv_printf(variable, format)``: assign a formatted text to a variable."""
    return lambda run: 1 if put(run, text_of(get(run)), "=") else -1


def _timestamp(seconds: Any, microseconds: Any) -> Step:
    """``get_timestamp(seconds, microseconds)``: assign the time to two variables."""
    now, part = PLAIN["Ts"][0], PLAIN["Tsm"][0]

    def call(run: Run) -> int:
        done = seconds(run, now(run), "=") and microseconds(run, part(run), "=")
        return 1 if done else -1

    return call


def _construct_uri(
    proto: Getter,
    user: Getter | None,
    domain: Getter,
    port: Getter | None,
    extra: Getter | None,
    put: Setter,
) -> Step:
    """``construct_uri(proto, user, domain, port, extra, $avp(uri))``: join a URI."""
    parts = (proto, user, domain, port, extra)

    def call(run: Run) -> int:
        texts = ["" if get is None else text_of(get(run)) or "" for get in parts]
        if not texts[0] or not texts[2]:
            return 1
        scheme, name, host, *behind = texts
        made = f"{scheme}:{name}{'@' if name else ''}{host}"
        made += "".join(f"{sign}{text}" for sign, text in zip(":;", behind, strict=True) if text)
        if len(made) < LONGEST_URI:
            put(run, made, "=")
        return 1

    return call


_CALLS: Final[dict[str, Callable[..., Step]]] = {
    "is_myself": _is_myself,
    "setflag": _set_flag("#", True),
    "resetflag": _set_flag("#", False),
    "isflagset": _is_flag_set("#"),
    "setbflag": _set_flag("##", True),
    "resetbflag": _set_flag("##", False),
    "isbflagset": _is_flag_set("##"),
    "pv_printf": _print,
    "get_timestamp": _timestamp,
    "script_trace": lambda *arguments: lambda run: 1,
    "prefix": _rewrite("prefix"),
    "sethost": _rewrite("host"),
    "sethostport": _rewrite("hostport"),
    "setport": _rewrite("port"),
    "setuser": _rewrite("user"),
    "setuserpass": _rewrite("userpass"),
    "strip": _strip("strip"),
    "strip_tail": _strip("strip_tail"),
    "seturi": partial(_set_uri, set_ruri),
    "revert_uri": partial(_restore, set_ruri),
    "setdsturi": partial(_set_uri, set_duri),
    "resetdsturi": partial(_restore, set_duri),
    "isdsturiset": lambda: lambda run: 1 if run.variables.get("$du") else -1,
    "force_send_socket": _force,
    "construct_uri": _construct_uri,
}
