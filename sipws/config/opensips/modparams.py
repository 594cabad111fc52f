"""The ``modparam`` statements of an ``opensips.cfg``: module, parameter and value."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from sipws.config.opensips.report import Line, Report
from sipws.tracing.filter.syntax.lexer import Token, number, unquote, wrap
from sipws.tracing.filter.syntax.toplevel import is_meant


def _kinds(numbers: str, texts: str) -> dict[str, type[int] | type[str]]:
    found: dict[str, type[int] | type[str]] = dict.fromkeys(numbers.split(), int)
    return found | dict.fromkeys(texts.split(), str)


MODULES: Final[dict[str, dict[str, type[int] | type[str]]]] = {
    "proto_ws": _kinds(
        "ws_port ws_max_msg_chunks ws_send_timeout require_origin ws_handshake_timeout trace_on",
        "ws_resource trace_destination trace_filter_route",
    ),
    "proto_wss": _kinds(
        "wss_port wss_max_msg_chunks wss_send_timeout require_origin wss_handshake_timeout trace_on"
        " wss_tls_handshake_timeout cert_check_on_conn_reusage",
        "wss_resource trace_destination trace_filter_route",
    ),
    "proto_hep": _kinds(
        "hep_port hep_send_timeout hep_max_msg_chunks hep_async hep_async_max_postponed_chunks"
        " hep_capture_id hep_async_local_connect_timeout hep_async_local_write_timeout"
        " compressed_payload homer5_on hep_max_retries hep_retry_cooldown",
        "hep_id homer5_delim",
    ),
    "tracer": _kinds(
        "trace_on file_mode syslog_default_level",
        "trace_id date_column callid_column trace_attrs_column msg_column method_column"
        " status_column fromproto_column fromip_column fromport_column toproto_column toip_column"
        " toport_column fromtag_column direction_column trace_local_ip syslog_default_facility",
    ),
    "tls_mgm": _kinds(
        "",
        "tls_library client_tls_domain_avp client_sip_domain_avp server_domain client_domain"
        " match_ip_address match_sip_domain tls_method verify_cert require_cert certificate"
        " private_key crl_check_all crl_dir ca_list ca_dir ciphers_list dh_params ec_curve db_url"
        " db_table domain_col match_ip_address_col match_sip_domain_col tls_method_col"
        " verify_cert_col require_cert_col certificate_col private_key_col crl_check_all_col"
        " crl_dir_col ca_list_col ca_dir_col ciphers_list_col dh_params_col ec_curve_col",
    ),
}
"""The parameters of the modules that matter here, with the type of their value (OpenSIPS 3.6)."""


@dataclass(slots=True)
class Parameter:
    """A parameter of one module."""

    module: str
    name: str
    value: int | str
    at: int
    """Position of the value."""
    line: Line
    """Its line, which may name several modules."""


def loaded_modules(names: Sequence[Token]) -> frozenset[str]:
    """The modules that ``loadmodule`` statements name.

    Args:
        names: their file names, in quotes.
    """
    return frozenset(PurePosixPath(unquote(name.text)).stem for name in names)


def read_modparam(
    tokens: Sequence[Token], loaded: Collection[str], report: Report
) -> list[Parameter]:
    """Read a ``modparam`` statement.

    Args:
        tokens: from the word to the closing bracket.
        loaded: the modules that the file loads. A pattern is matched with these, or with all of
            `MODULES` if the file loads none of them.
        report: gets the line, or the error.

    Returns:
        the parameter for each of `MODULES` that it is set for.
    """
    parts = _parts(tokens)
    if parts is None:
        problem = 'modparam is written modparam("MODULE", "PARAMETER", VALUE)'
        report.refuse(tokens[0].at, problem)
        return []
    pattern, name, value, at = parts
    try:
        re.compile(pattern)
    except re.error as exc:
        report.refuse(tokens[2].at, f"{pattern!r} is not a regular expression: {exc}")
        return []
    modules = [module for module in MODULES if is_meant(pattern, module)]
    if not pattern.isidentifier():
        there = loaded & MODULES.keys() if isinstance(loaded, frozenset) else set(loaded)
        modules = [module for module in modules if not there or module in there]
    if not modules:
        return []
    found = []
    line = report.line(tokens)
    line.modules = len(modules)
    for module in modules:
        kind = MODULES[module].get(name)
        if kind is None:
            near = difflib.get_close_matches(name, MODULES[module], n=1)
            hint = f"; do you mean {near[0]!r}?" if near else ""
            report.refuse(tokens[4].at, f"{module} has no parameter {name!r}{hint}")
        elif not isinstance(value, kind):
            wanted = "a text in quotes" if kind is str else "a number without quotes"
            report.refuse(at, f"{module} {name} is {wanted}, not {value!r}")
        else:
            found.append(Parameter(module, name, value, at, line))
    return found


def _parts(tokens: Sequence[Token]) -> tuple[str, str, int | str, int] | None:
    """Pattern, parameter, value and the position of the value; None if it is written wrongly."""
    kinds = [token.kind for token in tokens]
    if kinds[1:6] != ["_LPAR", "STRING", "_COMMA", "STRING", "_COMMA"] or kinds[-1] != "_RPAR":
        return None
    pattern, name = unquote(tokens[2].text), unquote(tokens[4].text)
    given, at = list(tokens[6:-1]), tokens[min(6, len(tokens) - 1)].at
    if given and all(token.kind == "STRING" for token in given):
        return pattern, name, "".join(unquote(token.text) for token in given), at
    sign = 1
    if len(given) == 2 and given[0].kind in ("PLUS", "MINUS"):
        sign = -1 if given.pop(0).kind == "MINUS" else 1
    if len(given) != 1 or given[0].kind != "NUMBER":
        return None
    return pattern, name, wrap(sign * number(given[0].text)), at
