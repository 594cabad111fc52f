"""Finds the routes of a script among the other statements of an ``opensips.cfg``.

Only the brackets of routes are parsed. A file of thousands of lines thus costs little more than its
scanning.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sipws.tracing.filter.bounds import MAX_FINDINGS, MAX_SCRIPT, MAX_TOKENS
from sipws.tracing.filter.syntax.lexer import (
    Report,
    Token,
    defined_name,
    number,
    quote,
    tokenize,
    unquote,
)
from sipws.tracing.filter.syntax.source import Source, nearest

MAX_INCLUDE_DEPTH: Final = 10
"""Maximum depth of included files, as in OpenSIPS."""

OTHER_ROUTES: Final = (
    "branch_route",
    "error_route",
    "event_route",
    "failure_route",
    "local_route",
    "onreply_route",
    "startup_route",
    "timer_route",
)

WEBSOCKET_MODULES: Final = ("proto_ws", "proto_wss")
"""The modules with a ``trace_filter_route``."""

_MAX_PATTERN: Final = 256
"""Characters of a pattern of modules. A longer one names modules by none of them."""

PARAMETERS: Final = frozenset(
    """
    abort_on_assert advertised_address advertised_port alias auto_aliases auto_scaling_cycle
    auto_scaling_profile check_via chroot db_default_url db_max_async_connections db_version_table
    debug debug_mode disable_503_translation disable_core_dump disable_dns_blacklist
    disable_dns_failover disable_stateless_fwd dns dns_retr_no dns_retr_time dns_servers_no
    dns_try_ipv6 dns_try_naptr dns_use_search_list dst_blacklist enable_asserts
    event_pkg_threshold event_shm_threshold exec_dns_threshold exec_msg_threshold fork group
    children listen log_facility log_level log_name log_prefix log_stderror max_while_loops
    maxbuffer mcast_loopback mcast_ttl mem_warming mem_warming_pattern_file
    mem_warming_percentage memdump memlog mhomed mpath open_files_limit pkg_mem poll_method
    pv_print_buf_size query_buffer_size query_flush_time restart_persistency_cache_file
    restart_persistency_size rev_dns server_header server_signature shm_mem sip_warning socket
    stderror_enabled stderror_level_filter stderror_log_format syslog_enabled syslog_facility
    syslog_level_filter syslog_log_format syslog_name tcp_accept_aliases tcp_connect_timeout
    tcp_connection_lifetime tcp_keepalive tcp_keepcount tcp_keepidle tcp_keepinterval
    tcp_max_connections tcp_max_msg_time tcp_no_new_conn_bflag tcp_no_new_conn_rplflag
    tcp_parallel_handling tcp_socket_backlog tcp_threshold tcp_workers timer_workers tos
    udp_workers user user_agent_header wdir workdir xlog_buf_size xlog_default_level
    xlog_force_color xlog_level xlog_print_level
    """.split()  # noqa: SIM905 - words read better without quotes
)
"""Known global parameters of the OpenSIPS core. A file that sets one is an ``opensips.cfg``."""

GLOBALS: Final = ("max_while_loops", "enable_asserts")
"""Global parameters that change what a script does."""

Read = Callable[[str, str], tuple[str, str] | None]
"""Reads an included file. Takes its name and the including file. Returns its full name and text, or
None if there is no such file."""


@dataclass(slots=True)
class Item:
    """A route that is not parsed yet."""

    name: str
    at: int
    tokens: list[Token]


@dataclass(slots=True)
class Contents:
    """The contents of a file with its included files."""

    routes: list[Item] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    """Number of ignored statements by kind."""
    filters: dict[str, str] = field(default_factory=dict)
    """The ``trace_filter_route`` of proto_ws and of proto_wss, by module."""
    modules: list[Token] = field(default_factory=list)
    """The name in each ``loadmodule``, in quotes."""
    parameters: list[list[Token]] = field(default_factory=list)
    """The tokens of each ``modparam``, from the word to its closing bracket."""
    sockets: list[list[Token]] = field(default_factory=list)
    """The tokens of each ``socket=`` or ``listen=``, up to the next statement."""
    traces: list[list[Token]] = field(default_factory=list)
    """The tokens of each call ``trace(…)`` in a route, from the word to its closing bracket."""
    others: list[Item] = field(default_factory=list)
    """The routes of other kinds, such as ``failure_route``. OpenSIPS checks them too."""
    globals: dict[str, int] = field(default_factory=dict)
    """The parameters of `GLOBALS` that the file sets."""
    unknown_lines: int = 0
    torn: int | None = None
    """Position of a comment, string or variable that is never closed. The text after it is lost."""
    is_cfg: bool = False
    """Whether there are statements other than routes. Then only filter routes are checked."""


class Reader:
    """Reads a script with its included files.

    Args:
        source: source text, to which included files are added.
        error: called with position and text of each error.
        warning: called with position and text of each warning.
        read: reads included files; None ignores them.
    """

    def __init__(self, source: Source, error: Report, warning: Report, read: Read | None) -> None:
        self._source = source
        self._error = error
        self._warning = warning
        self._read = read
        self._characters = 0
        """Number of characters of all files so far."""
        self._doubts: dict[int, tuple[Token, Callable[[str], str]]] = {}
        """First suspicious token and its error text, by the number of routes before it."""
        self.contents = Contents()

    def run(self, text: str, filename: str) -> Contents:
        """Find the routes of the first file of the source.

        Args:
            text: the text of the file.
            filename: its name.

        Returns:
            the contents with all routes.

        Raises:
            Enough: there are too many errors.
        """
        self._characters = len(text)
        if self._characters > MAX_SCRIPT:
            self._error(0, f"the script has more than {MAX_SCRIPT} characters; shorten it")
            return self.contents
        tokens = self._tokens(text, filename, 0, 0)
        if len(tokens) > MAX_TOKENS:
            problem = f"the script has more than {MAX_TOKENS} words; shorten it"
            self._error(tokens[MAX_TOKENS].at, problem)
        if len(tokens) >= MAX_TOKENS:
            return self.contents
        self._cut(tokens)
        for index, token in enumerate(tokens):
            if token.text == "trace" and _is_called(tokens, index):
                self.contents.traces.append(tokens[index : _closing(tokens, index + 1)])
        if self.contents.is_cfg:
            # Functions of modules are not known, so these cannot be checked.
            self.contents.others = []
        else:
            for word in OTHER_ROUTES:
                del self.contents.passed_over[word]
            # An unknown statement in a cfg may belong to another version of OpenSIPS. In a script,
            # the first one between two routes is an error, and the next ones are consequences.
            for at, problem in self._first_doubts():
                self._error(at, problem)
        return self.contents

    def _tokens(self, text: str, filename: str, start: int, depth: int) -> list[Token]:
        tokens = tokenize(text, start, self._is_torn, self._warning)
        if not any(token.text in ("include_file", "import_file") for token in tokens):
            return tokens
        out: list[Token] = []
        index = 0
        while index < len(tokens):
            token = tokens[index]
            index += 1
            if token.kind != "NAME" or token.text not in ("include_file", "import_file"):
                out.append(token)
            elif index < len(tokens) and tokens[index].kind == "STRING":
                out += self._included(token, unquote(tokens[index].text), filename, depth)
                index += 1
            else:
                self._error(token.at, f"{token.text} needs a file's name in quotes")
        return out

    def _is_torn(self, at: int, problem: str) -> None:
        self.contents.torn = at
        self._error(at, problem)

    def _included(self, word: Token, name: str, filename: str, depth: int) -> list[Token]:
        if self._read is None and word.text == "import_file":
            self._error(word.at, f"{name!r} cannot be read: only a script in a file can import")
            return []
        if self._read is None:
            self._warning(word.at, f"{name!r} is not read: only a script in a file can include")
            self.contents.passed_over[word.text] += 1
            return []
        if depth >= MAX_INCLUDE_DEPTH:
            self._error(word.at, f"files are included more than {MAX_INCLUDE_DEPTH} deep")
            return []
        found = self._read(name, filename)
        if found is None:
            self._error(word.at, f"{name!r} cannot be read")
            return []
        full_name, text = found
        self._characters += len(text)
        if self._characters > MAX_SCRIPT:
            problem = f"with this file the script has more than {MAX_SCRIPT} characters"
            self._error(word.at, problem)
            return []
        return self._tokens(text, full_name, self._source.add(text, full_name), depth + 1)

    def _cut(self, tokens: list[Token]) -> None:
        index = 0
        while index < len(tokens):
            token = tokens[index]
            following = tokens[index + 1].kind if index + 1 < len(tokens) else ""
            if token.kind == "ROUTE" and following in ("_LSQB", "_LBRACE"):
                end = _end_of_route(tokens, index)
                name = _name(tokens, index)
                self.contents.routes.append(Item(name, token.at, tokens[index:end]))
                index = end
            elif token.kind == "NAME":
                index = self._other(tokens, index, following)
            else:
                self._doubt(token, lambda word: f"{word!r} stands outside of every route")
                index = self._end_of_line(tokens, index)

    def _other(self, tokens: list[Token], index: int, following: str) -> int:
        """Skip a statement that is not a route; returns the index after it."""
        token = tokens[index]
        word = token.text
        if word in OTHER_ROUTES and following in ("_LSQB", "_LBRACE"):
            end = _end_of_route(tokens, index)
            self.contents.others.append(_other_route(tokens[index:end]))
        elif word == "modparam" and following == "_LPAR":
            end = _closing(tokens, index + 1)
            self._modparam(tokens[index:end])
        elif word == "loadmodule" and following == "STRING":
            end = index + 2
            self.contents.modules.append(tokens[index + 1])
        elif following == "EQUAL" and word in PARAMETERS:
            if word in ("socket", "listen"):
                end = _end_of_socket(tokens, index)
                self.contents.sockets.append(tokens[index:end])
            else:
                end = self._end_of_line(tokens, index)
            if word in GLOBALS and index + 2 < len(tokens) and tokens[index + 2].kind == "NUMBER":
                self.contents.globals[word] = number(tokens[index + 2].text)
            word = f"{word} ="
        else:
            is_parameter = following == "EQUAL"
            self._doubt(token, _not_a_parameter if is_parameter else _begins_nothing)
            return self._end_of_line(tokens, index)
        self.contents.passed_over[word] += 1
        self.contents.is_cfg = self.contents.is_cfg or word not in OTHER_ROUTES
        return end

    def _doubt(self, token: Token, say: Callable[[str], str]) -> None:
        self.contents.unknown_lines += 1
        if len(self._doubts) < MAX_FINDINGS:
            self._doubts.setdefault(len(self.contents.routes), (token, say))

    def _first_doubts(self) -> list[tuple[int, str]]:
        return [(token.at, say(token.text)) for token, say in self._doubts.values()]

    def _modparam(self, tokens: list[Token]) -> None:
        self.contents.parameters.append(tokens)
        values = [unquote(token.text) for token in tokens if token.kind == "STRING"]
        if len(values) == 3 and values[1] == "trace_filter_route":
            for module in WEBSOCKET_MODULES:
                if is_meant(values[0], module):
                    self.contents.filters[module] = values[2]

    def _end_of_line(self, tokens: list[Token], index: int) -> int:
        line = self._source.place(tokens[index].at)[:2]
        end = index + 1
        while end < len(tokens) and self._source.place(tokens[end].at)[:2] == line:
            if _begins_route(tokens, end):
                break
            end += 1
        return end


def is_meant(pattern: str, module: str) -> bool:
    """Whether the first argument of ``modparam`` names a module: it is a regular expression.

    Args:
        pattern: the argument. One that is no expression names no module.
        module: name of the module.
    """
    if pattern.isidentifier():
        return pattern.lower() == module
    if len(pattern) > _MAX_PATTERN:
        return False
    try:
        return re.fullmatch(pattern, module, re.IGNORECASE) is not None
    except re.error:
        return False


def _is_called(tokens: list[Token], index: int) -> bool:
    return index + 1 < len(tokens) and tokens[index + 1].kind == "_LPAR"


def _end_of_socket(tokens: list[Token], index: int) -> int:
    """The index of the first token after ``socket=…`` that begins another statement."""
    for end in range(index + 2, len(tokens)):
        token, following = tokens[end], tokens[end + 1].kind if end + 1 < len(tokens) else ""
        if (
            (token.kind == "NAME" and following == "EQUAL")
            or (token.text in ("modparam", "loadmodule") and following in ("_LPAR", "STRING"))
            or _begins_route(tokens, end)
        ):
            return end
    return len(tokens)


def _not_a_parameter(word: str) -> str:
    return f"{word!r} is not a parameter of OpenSIPS' core{nearest(word, (*PARAMETERS, 'route'))}"


def _begins_nothing(word: str) -> str:
    known = ("route", *OTHER_ROUTES, "modparam", "loadmodule", "include_file")
    hint = nearest(word, known) or "; routes are written route[NAME] { … }"
    return f"{word!r} begins nothing that may stand here{hint}"


def _name(tokens: list[Token], index: int) -> str:
    if tokens[index + 1].kind == "_LBRACE" or index + 2 >= len(tokens):
        return "0"
    token = tokens[index + 2]
    if token.kind == "STRING":
        return defined_name(unquote(token.text))
    return str(number(token.text)) if token.kind == "NUMBER" else token.text


def _other_route(tokens: list[Token]) -> Item:
    """A route of another kind, with the tokens of a route, whose statements are the same."""
    word = tokens[0]
    body = next((i for i, token in enumerate(tokens) if token.kind == "_LBRACE"), len(tokens))
    name = "".join(token.text for token in tokens[:body])
    head = [
        Token("ROUTE", "route", word.at),
        Token("_LSQB", "[", word.at),
        Token("STRING", quote(name), word.at),
        Token("_RSQB", "]", word.at),
    ]
    return Item(name, word.at, head + tokens[body:])


def _end_of_route(tokens: list[Token], index: int) -> int:
    """The index after a route. A route that is never closed ends where the next one begins."""
    depth = 0
    for end in range(index + 1, len(tokens)):
        kind = tokens[end].kind
        if kind == "_LBRACE":
            depth += 1
        elif kind == "_RBRACE":
            depth -= 1
            if depth <= 0:
                return end + 1
        elif _begins_route(tokens, end):
            return end
    return len(tokens)


def _begins_route(tokens: list[Token], index: int) -> bool:
    """Whether a route begins here. A call of a route has ``(`` after ``route``."""
    token = tokens[index]
    if token.kind != "ROUTE" and token.text not in OTHER_ROUTES:
        return False
    return index + 1 < len(tokens) and tokens[index + 1].kind in ("_LSQB", "_LBRACE")


def _closing(tokens: list[Token], index: int) -> int:
    depth = 0
    for end in range(index, len(tokens)):
        depth += (tokens[end].kind == "_LPAR") - (tokens[end].kind == "_RPAR")
        if depth == 0:
            return end + 1
    return len(tokens)
