"""What the control interface can be asked: MI methods by name, as OpenSIPS names them."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from sipws.config.resolved import NOWHERE
from sipws.control.mi import INVALID_PARAMS, NOT_FOUND, MiError
from sipws.errors import ConfigurationError
from sipws.service.connection_commands import connection_commands
from sipws.service.process_commands import process_commands
from sipws.service.running import Running
from sipws.service.trace_commands import trace_commands

log = logging.getLogger(__name__)


def methods_of(application: Running) -> dict[str, Callable[..., Any]]:
    """The MI methods of a running application."""

    def which(command: str | None = None) -> list[Any]:
        """The methods there are, or the sets of parameters that one of them takes."""
        if command is None:
            return sorted(methods)
        if not isinstance(command, str):
            raise MiError("Invalid params", INVALID_PARAMS)
        if command not in methods:
            raise MiError("unknown MI command", NOT_FOUND)
        return _recipes(methods[command])

    def ws_trace(trace_mode: str | None = None) -> Any:
        """Say whether tracing is on, or turn it on or off (OpenSIPS proto_ws)."""
        points = application.traces
        if trace_mode is None:
            return {"WS tracing": "on" if points.on else "off"}
        if trace_mode not in ("on", "off"):
            raise MiError("Bad parameter value")
        points.switch(on=trace_mode == "on")
        log.info("tracing is switched %s", trace_mode)
        if points.on and not points.configured:
            log.warning("%s", NOWHERE)
        return "OK"

    def reading(anew: Callable[[], object], refused: str) -> Callable[[], str]:
        """A method that reads something anew; what is wrong keeps its old state."""

        def method() -> str:
            try:
                anew()
            except ConfigurationError as exc:
                log.error("%s:\n%s", refused, exc)
                raise MiError(str(exc)) from exc
            return "OK"

        return method

    methods: dict[str, Callable[..., Any]] = {
        "which": which,
        "ws_trace": ws_trace,
        "ws:trace": ws_trace,
        "reload": reading(application.reload, "not all is read anew"),
        "reload_routes": reading(
            application.reload_filter, "the new filter is refused, the old one stays"
        ),
        # OpenSIPS tls_mgm's name.
        "tls_reload": reading(
            application.reload_certificates,
            "the new certificates are refused, the old ones stay",
        ),
        **connection_commands(application),
        **process_commands(application),
        **trace_commands(application),
    }
    return methods


def _recipes(method: Callable[..., Any]) -> list[list[str]]:
    """The parameters of a method: those that it needs, and one more set for each that it may have.

    ``opensips-cli`` completes what is typed from them.
    """
    parameters = inspect.signature(method).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return [needed, *([*needed, each.name] for each in parameters if each.name not in needed)]
