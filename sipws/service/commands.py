"""The MI methods of the control interface, with OpenSIPS' names."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from sipws.address import Proto
from sipws.config.resolved import NOWHERE
from sipws.control.mi import INVALID_PARAMS, NOT_FOUND, MiError
from sipws.errors import ConfigurationError
from sipws.service.connection_commands import connection_commands
from sipws.service.process_commands import process_commands
from sipws.service.running import Running
from sipws.service.trace_commands import trace_commands

log = logging.getLogger(__name__)


def methods_of(application: Running) -> dict[str, Callable[..., Any]]:
    """Return the MI methods of a running application, by name."""

    def which(command: str | None = None) -> list[Any]:
        """List the methods, or the parameter sets of one of them."""
        if command is None:
            return sorted(methods)
        if not isinstance(command, str):
            raise MiError("Invalid params", INVALID_PARAMS)
        if command not in methods:
            raise MiError("unknown MI command", NOT_FOUND)
        return _recipes(methods[command])

    def switch(proto: Proto) -> Callable[[str | None], Any]:
        """Make the method that switches tracing of one protocol."""

        def trace(trace_mode: str | None = None) -> Any:
            """Return whether tracing is on, or turn it on or off (OpenSIPS proto_ws, proto_wss)."""
            traces = application.traces
            if trace_mode is None:
                return {f"{proto.upper()} tracing": "on" if proto in traces.protocols_on else "off"}
            if trace_mode not in ("on", "off"):
                raise MiError("Bad parameter value")
            traces.switch(on=trace_mode == "on", proto=proto)
            log.info("tracing of %s is switched %s", proto, trace_mode)
            if traces.on and not traces.configured:
                log.warning("%s", NOWHERE)
            return "OK"

        return trace

    ws_trace, wss_trace = switch("ws"), switch("wss")

    def reloading(reload: Callable[[], object], failure: str) -> Callable[[], str]:
        """Make a method that calls ``reload``, and logs ``failure`` where that raises."""

        def method() -> str:
            try:
                reload()
            except ConfigurationError as exc:
                log.error("%s:\n%s", failure, exc)
                raise MiError(str(exc)) from exc
            return "OK"

        return method

    methods: dict[str, Callable[..., Any]] = {
        "which": which,
        "ws_trace": ws_trace,
        "ws:trace": ws_trace,
        "wss_trace": wss_trace,
        "wss:trace": wss_trace,
        "reload": reloading(application.reload, "not all is reloaded"),
        "reload_routes": reloading(
            application.reload_filter, "the new filter is refused, the old one stays"
        ),
        # OpenSIPS tls_mgm's name.
        "tls_reload": reloading(
            application.reload_certificates,
            "the new certificates are refused, the old ones stay",
        ),
        **connection_commands(application),
        **process_commands(application),
        **trace_commands(application),
    }
    return methods


def _recipes(method: Callable[..., Any]) -> list[list[str]]:
    """The parameter sets of a method: the required ones, then these with each optional one.

    ``opensips-cli`` uses them for completion.
    """
    parameters = inspect.signature(method).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return [needed, *([*needed, each.name] for each in parameters if each.name not in needed)]
