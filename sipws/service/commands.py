"""The MI methods of the control interface, with OpenSIPS' names."""

import logging
from collections.abc import Callable
from typing import Any, Final

from sipws.control.mi import NOT_FOUND, Method, MiError, text_of
from sipws.errors import ConfigurationError
from sipws.service.connection_commands import connection_commands
from sipws.service.process_commands import process_commands
from sipws.service.running import Running
from sipws.service.statistics_commands import statistics_commands
from sipws.service.tls_commands import tls_commands
from sipws.service.trace_commands import trace_commands

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown MI command"
"""What ``which`` and ``help`` say of a method that does not exist."""

USAGE: Final = "Usage: help mi_cmd - returns information about 'mi_cmd'"
"""The answer of ``help`` without a method."""


def methods_of(application: Running) -> dict[str, Method]:
    """Return the MI methods of a running application, by name."""

    def method_named(name: str) -> Method:
        if name not in methods:
            raise MiError(UNKNOWN, NOT_FOUND)
        return methods[name]

    def which(command: str | None = None) -> list[Any]:
        """List the methods, or the parameter sets of one of them."""
        if command is None:
            return sorted(methods)
        return method_named(text_of(command, "command")).parameter_sets

    def help_(mi_cmd: str | None = None) -> Any:
        """Describe a method in one line."""
        if mi_cmd is None:
            return USAGE
        method = method_named(text_of(mi_cmd, "mi_cmd"))
        return {"Help": method.about, "Exported by": method.module}

    def reload() -> str:
        """Read the configuration again, and the files that it names."""
        try:
            reloaded = application.reload()
        except ConfigurationError as exc:
            log.error("not all is reloaded:\n%s", exc)
            raise MiError(str(exc)) from exc
        for warning in reloaded.warnings:
            log.warning("%s", warning)
        return reloaded.found.answer

    def reloading(reload: Callable[[], object], failure: str) -> Callable[[], str]:
        """Make a function that calls ``reload``, and logs ``failure`` where that raises."""

        def function() -> str:
            try:
                reload()
            except ConfigurationError as exc:
                log.error("%s:\n%s", failure, exc)
                raise MiError(str(exc)) from exc
            return "OK"

        return function

    methods: dict[str, Method] = {
        "which": Method(which, ((), ("command",)), "core", "lists the methods, or parameters"),
        "help": Method(help_, ((), ("mi_cmd",)), "core", "prints what a method does"),
        "reload": Method(
            reload,
            ((),),
            about="reads the configuration again, with its filter and certificates",
        ),
        "reload_routes": Method(
            reloading(application.reload_filter, "the new filter is refused, the old one stays"),
            ((),),
            "core",
            "reads the filter again",
        ),
        "tls_reload": Method(
            reloading(
                application.reload_certificates,
                "the new certificates are refused, the old ones stay",
            ),
            ((),),
            "tls_mgm",
            "reads the certificates again",
        ),
        **connection_commands(application),
        **process_commands(application),
        **statistics_commands(application),
        **tls_commands(application),
        **trace_commands(application),
    }
    return methods
