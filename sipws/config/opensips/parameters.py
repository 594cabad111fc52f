"""The parameters of proto_ws, proto_wss and proto_hep, as settings."""

from collections.abc import Callable
from typing import Any, Final

from sipws.config.opensips.hep_ids import read_hep_id
from sipws.config.opensips.modparams import Parameter
from sipws.config.opensips.report import Line, Report

Read = Callable[[Parameter], Any]

_RECONNECTS: Final = (
    "sipws reconnects to a collector for as long as it runs; hep_retry_first and hep_retry_longest"
    " set the pauses"
)
_NEVER_WAITS: Final = (
    "sipws never waits for a collector; hep_connect_timeout and hep_queue_packets bound what is"
    " queued"
)
_CLIENT_PATH: Final = (
    "OpenSIPS requests it as a client, and its server accepts every path; {} serves one path only"
)

NOT_TAKEN: Final[dict[tuple[str, str], str]] = {
    ("proto_ws", "ws_resource"): _CLIENT_PATH.format("transport.ws_resource"),
    ("proto_wss", "wss_resource"): _CLIENT_PATH.format("transport.wss.wss_resource"),
    ("proto_wss", "cert_check_on_conn_reusage"): "it is about connections that OpenSIPS opens",
    ("proto_hep", "hep_port"): "it is the port of HEP listeners, which sipws does not have; a"
    " hep_id without a port has 9060",
    (
        "proto_hep",
        "hep_max_msg_chunks",
    ): "it is about HEP that is received, which sipws does not do",
    ("proto_hep", "hep_send_timeout"): _NEVER_WAITS,
    ("proto_hep", "hep_async"): _NEVER_WAITS,
    ("proto_hep", "hep_async_max_postponed_chunks"): _NEVER_WAITS,
    ("proto_hep", "hep_async_local_connect_timeout"): _NEVER_WAITS,
    ("proto_hep", "hep_async_local_write_timeout"): _NEVER_WAITS,
    ("proto_hep", "hep_max_retries"): _RECONNECTS,
    ("proto_hep", "hep_retry_cooldown"): _RECONNECTS,
}
"""Parameters without a setting, and why."""


def _flag(parameter: Parameter) -> bool:
    return parameter.value != 0


def _text(parameter: Parameter) -> str:
    return str(parameter.value)


def _milliseconds(parameter: Parameter) -> int:
    value = int(parameter.value)
    if value < 1:
        parameter.line.change(f"{value} ms is 1 ms here, the shortest time")
    return max(value, 1)


def _chunks(parameter: Parameter) -> int:
    value = int(parameter.value)
    if value < 0:
        parameter.line.change(f"OpenSIPS never counts to {value}; 0 is no limit here")
    return max(value, 0)


def _port(parameter: Parameter) -> int:
    value = int(parameter.value)
    if value != value & 0xFFFF:
        parameter.line.change(f"of {value} OpenSIPS uses 16 bits, {value & 0xFFFF}")
    return value & 0xFFFF


def _capture_id(parameter: Parameter) -> int:
    value = int(parameter.value)
    if value < 0:
        parameter.line.change(f"OpenSIPS sends {value} as {value & 0xFFFFFFFF}")
    return value & 0xFFFFFFFF


RULES: Final[dict[tuple[str, str], tuple[str, str, Read]]] = {
    ("proto_ws", "ws_port"): ("transport", "ws_port", _port),
    ("proto_ws", "ws_max_msg_chunks"): ("transport", "ws_max_msg_chunks", _chunks),
    ("proto_ws", "ws_send_timeout"): ("transport", "ws_send_timeout", _milliseconds),
    ("proto_ws", "ws_handshake_timeout"): ("transport", "ws_handshake_timeout", _milliseconds),
    ("proto_ws", "require_origin"): ("transport", "require_origin", _flag),
    ("proto_ws", "trace_destination"): ("tracing", "trace_destination", _text),
    ("proto_ws", "trace_on"): ("tracing", "trace_on", _flag),
    ("proto_ws", "trace_filter_route"): ("tracing", "trace_filter_route", _text),
    ("proto_wss", "wss_port"): ("transport", "wss_port", _port),
    ("proto_wss", "wss_max_msg_chunks"): ("transport.wss", "wss_max_msg_chunks", _chunks),
    ("proto_wss", "wss_send_timeout"): ("transport.wss", "wss_send_timeout", _milliseconds),
    ("proto_wss", "wss_handshake_timeout"): (
        "transport.wss",
        "wss_handshake_timeout",
        _milliseconds,
    ),
    ("proto_wss", "wss_tls_handshake_timeout"): (
        "transport.wss",
        "wss_tls_handshake_timeout",
        _milliseconds,
    ),
    ("proto_wss", "require_origin"): ("transport.wss", "require_origin", _flag),
    ("proto_wss", "trace_destination"): ("tracing.wss", "trace_destination", _text),
    ("proto_wss", "trace_on"): ("tracing.wss", "trace_on", _flag),
    ("proto_wss", "trace_filter_route"): ("tracing.wss", "trace_filter_route", _text),
    ("proto_hep", "hep_capture_id"): ("hep", "hep_capture_id", _capture_id),
    ("proto_hep", "homer5_on"): ("hep", "homer5_on", _flag),
    ("proto_hep", "homer5_delim"): ("hep", "homer5_delim", _text),
}
"""Module and parameter, to section, setting and reader."""

DEFAULTS: Final[dict[str, Any]] = {"homer5_on": True}
"""OpenSIPS' defaults of ``proto_hep`` where those of sipws differ: a migration keeps the packets as
they were."""


class Parameters:
    """Collects the settings of proto_ws, proto_wss and proto_hep.

    Args:
        report: gets the errors.
        has_compression: whether the file loads OpenSIPS' module compression, if that is known.
    """

    def __init__(self, report: Report, *, has_compression: bool = True) -> None:
        self._report = report
        self._has_compression = has_compression
        self._lines: dict[tuple[str, str], Line] = {}
        self.settings: dict[str, dict[str, Any]] = {
            name: {} for name in ("transport", "transport.wss", "hep", "tracing", "tracing.wss")
        }
        """The settings, by section."""
        self.hep_ids: dict[str, str] = {}
        """The HEP ids by name, as sipws writes them."""

    def take(self, parameter: Parameter) -> None:
        """Take a parameter."""
        key = parameter.module, parameter.name
        if parameter.name == "hep_id":
            read_hep_id(parameter, self.hep_ids, self._report)
        elif parameter.name == "compressed_payload":
            self._compression(parameter)
        elif why := NOT_TAKEN.get(key):
            parameter.line.drop(why)
        else:
            section, name, read = RULES[key]
            self._set(section, name, read(parameter), parameter.line)

    def line_of(self, section: str, name: str) -> Line | None:
        """The line that set a setting; None if none did."""
        return self._lines.get((section, name))

    def _set(self, section: str, name: str, value: Any, line: Line) -> None:
        if (before := self._lines.get((section, name))) is not None and before is not line:
            again = f"{line.place} sets it again"
            (before.drop if before.modules == 1 else before.change)(again)
        self._lines[section, name] = line
        self.settings[section][name] = value

    def fit_capture_id(self) -> None:
        """Cut the capture id to 16 bits if a HEP id has version 2, as OpenSIPS sends it then."""
        number = self.settings["hep"].get("hep_capture_id", 0)
        line = self.line_of("hep", "hep_capture_id")
        if line is None or number <= 0xFFFF:
            return
        if any(text.endswith("version=2") for text in self.hep_ids.values()):
            self.settings["hep"]["hep_capture_id"] = number & 0xFFFF
            line.change(f"HEP version 2 carries 16 bits of it, {number & 0xFFFF}")

    def _compression(self, parameter: Parameter) -> None:
        if not parameter.value:
            return
        if not self._has_compression:
            problem = "compressed_payload needs OpenSIPS' module compression; load it"
            self._report.refuse(parameter.at, problem)
        parameter.line.drop(
            'Homer cannot read compressed payloads; hep_when_too_long = "compress" compresses'
            " those that are too long for a packet"
        )
