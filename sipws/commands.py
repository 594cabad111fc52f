"""What the control interface can be asked: MI methods by name, as OpenSIPS names them."""

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sipws.connection_commands import connection_commands
from sipws.errors import ConfigurationError
from sipws.mi import NOT_FOUND, MiError
from sipws.process_commands import process_commands
from sipws.trace_commands import trace_commands

if TYPE_CHECKING:
    from sipws.app import Application

log = logging.getLogger(__name__)


def methods_of(application: "Application") -> dict[str, Callable[..., Any]]:
    """The MI methods of a running application."""

    def which(command: str | None = None) -> list[Any]:
        """The methods there are, or the sets of parameters that one of them takes."""
        if command is None:
            return sorted(methods)
        if command not in methods:
            raise MiError("unknown MI command", NOT_FOUND)
        return _recipes(methods[command])

    def ws_trace(trace_mode: str | None = None) -> Any:
        """Say whether tracing is on, or turn it on or off (OpenSIPS proto_ws)."""
        points = application.trace_points
        if trace_mode is None:
            return {"WS tracing": "on" if points.on else "off"}
        if trace_mode not in ("on", "off"):
            raise MiError("Bad parameter value")
        if not points.configured:
            raise MiError("No trace_destination is set")
        points.switch(on=trace_mode == "on")
        log.info("tracing is switched %s", trace_mode)
        return "OK"

    def refused(what: str, exc: ConfigurationError) -> MiError:
        log.error("%s:\n%s", what, exc)
        return MiError(str(exc))

    def reload_routes() -> str:
        """Read the filter route anew; one with mistakes is refused, and the old one stays."""
        try:
            application.reload_filter()
        except ConfigurationError as exc:
            raise refused("the new filter is refused, the old one stays", exc) from exc
        return "OK"

    def tls_reload() -> str:
        """Read the certificates anew (OpenSIPS tls_mgm); of wrong ones, all the old ones stay."""
        try:
            application.reload_certificates()
        except ConfigurationError as exc:
            raise refused("the new certificates are refused, the old ones stay", exc) from exc
        return "OK"

    def reload() -> str:
        """Read filter route and certificates anew; what is wrong keeps its old state."""
        try:
            application.reload()
        except ConfigurationError as exc:
            raise refused("not all is read anew", exc) from exc
        return "OK"

    methods: dict[str, Callable[..., Any]] = {
        "which": which,
        "ws_trace": ws_trace,
        "ws:trace": ws_trace,
        "reload": reload,
        "reload_routes": reload_routes,
        "tls_reload": tls_reload,
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
