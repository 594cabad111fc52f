"""Reads the settings of an ``opensips.cfg``: WebSocket sockets and parameters of tracing. Pure.

Parameters in `PARAMETERS` are used, with OpenSIPS' defaults where they differ. All others are
skipped, and the skipped parameters of proto_ws, proto_wss and proto_hep are reported.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from sipws.errors import ConfigurationError


class Setting(NamedTuple):
    """``modparam(module, parameter, value)``."""

    module: str
    parameter: str
    value: str
    place: str
    """Where it is, as ``FILE:LINE``."""


class Socket(NamedTuple):
    """``socket=definition``, or ``listen=`` as older versions wrote it."""

    definition: str
    place: str


def _number(setting: Setting) -> int:
    try:
        return int(setting.value, 0)
    except ValueError:
        name = f"{setting.module} {setting.parameter}"
        raise ConfigurationError(
            f"{setting.place}: {name} = {setting.value!r} is not a number"
        ) from None


_FLAGS: Final = {
    **dict.fromkeys(("yes", "true", "on", "enable"), True),
    **dict.fromkeys(("no", "false", "off", "disable"), False),
}
"""The words for 1 and 0 in an ``opensips.cfg``."""


def _flag(setting: Setting) -> bool:
    word = _FLAGS.get(setting.value.lower())
    return _number(setting) != 0 if word is None else word


def _text(setting: Setting) -> str:
    return setting.value


Read = Callable[[Setting], Any]

PARAMETERS: Final[dict[tuple[str, str], tuple[str, str, Read]]] = {
    ("proto_ws", "ws_port"): ("transport", "ws_port", _number),
    ("proto_ws", "ws_max_msg_chunks"): ("transport", "ws_max_msg_chunks", _number),
    ("proto_ws", "ws_send_timeout"): ("transport", "ws_send_timeout", _number),
    ("proto_ws", "trace_destination"): ("tracing", "trace_destination", _text),
    ("proto_ws", "trace_on"): ("tracing", "trace_on", _flag),
    ("proto_ws", "trace_filter_route"): ("tracing", "trace_filter_route", _text),
    ("proto_ws", "ws_handshake_timeout"): ("transport", "ws_handshake_timeout", _number),
    ("proto_ws", "require_origin"): ("transport", "require_origin", _flag),
    ("proto_wss", "require_origin"): ("transport", "require_origin", _flag),
    ("proto_wss", "wss_port"): ("transport", "wss_port", _number),
    ("proto_wss", "trace_destination"): ("tracing", "trace_destination", _text),
    ("proto_wss", "trace_on"): ("tracing", "trace_on", _flag),
    ("proto_wss", "trace_filter_route"): ("tracing", "trace_filter_route", _text),
    ("proto_hep", "hep_capture_id"): ("hep", "hep_capture_id", _number),
    ("proto_hep", "homer5_on"): ("hep", "homer5_on", _flag),
    ("proto_hep", "homer5_delim"): ("hep", "homer5_delim", _text),
}
"""The parameters that are used: module and parameter, to section, setting and reader."""

DEFAULTS: Final[dict[str, Any]] = {"homer5_on": True}
"""OpenSIPS' defaults of ``proto_hep`` where those of sipws differ: a migration keeps the packets as
they were."""

_WEBSOCKET: Final = re.compile(r"\s*wss?:", re.IGNORECASE)


def table_of(
    settings: Iterable[Setting], sockets: Iterable[Socket]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Translate a configuration file.

    Args:
        settings: its ``modparam`` lines.
        sockets: its ``socket`` and ``listen`` lines.

    Returns:
        sections of settings, and the skipped lines, in words.

    Raises:
        ConfigurationError: a parameter that is used has a wrong value.
    """
    table: dict[str, dict[str, Any]] = {
        "transport": {},
        "hep": dict(DEFAULTS),
        "tracing": {},
    }
    passed_over: list[str] = []
    hep_ids: list[str] = []
    for setting in settings:
        key = setting.module, setting.parameter
        if key == ("proto_hep", "hep_id"):
            hep_ids.append(setting.value)
        elif key in PARAMETERS:
            section, name, read = PARAMETERS[key]
            table[section][name] = read(setting)
        elif setting.module in ("proto_ws", "proto_wss", "proto_hep"):
            passed_over.append(f"{setting.module} {setting.parameter} ({setting.place})")
    listen = []
    for socket in sockets:
        if _WEBSOCKET.match(socket.definition):
            listen.append(socket.definition.strip())
        else:
            passed_over.append(f"socket={socket.definition.strip()} ({socket.place})")
    if listen:
        table["transport"]["listen"] = tuple(listen)
    if hep_ids:
        table["hep"]["hep_id"] = tuple(hep_ids)
    return table, tuple(passed_over)
