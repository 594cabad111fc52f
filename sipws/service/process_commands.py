"""MI methods about the program itself: version, uptime, processes, log levels (OpenSIPS core)."""

import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from sipws import __version__
from sipws.control.mi import Method, integer_of, invalid_params
from sipws.log import opensips_level, set_opensips_level
from sipws.service.running import Running
from sipws.tracing.routes import xlog_threshold

CORE = "core"
"""The module of OpenSIPS that has these methods."""


def process_commands(application: Running) -> dict[str, Method]:
    """The MI methods about the process, by name."""

    def version(revision: object = None) -> dict[str, str]:
        """Return name, version and platform of the program; with ``revision`` also the release."""
        system = f"{platform.machine()}/{platform.system().lower()}"
        named = {"Server": f"sipws ({__version__} ({system}))"}
        return named if revision is None else {**named, "release": __version__}

    def uptime() -> dict[str, str]:
        """Return start time and run time."""
        return uptime_since(application.started, application.started_monotonic)

    def ps() -> dict[str, list[dict[str, Any]]]:
        """List the processes: there is one."""
        return {"Processes": [{"ID": 0, "PID": os.getpid(), "Type": "sipws"}]}

    def xlog_level(level: object = None) -> dict[str, int]:
        """Return which messages of ``xlog`` are logged, or change it."""
        if level is None:
            return {"xLog Level": xlog_threshold.level}
        xlog_threshold.level = integer_of(level, "level")
        return {"New xLog level": xlog_threshold.level}

    return {
        "version": _method(
            version, (), ("revision",), about="prints name and version of the program"
        ),
        "uptime": _method(uptime, (), about="prints when the program started, and its run time"),
        "ps": _method(ps, (), about="lists the processes of the program"),
        "log_level": log_level_method(),
        "xlog_level": _method(
            xlog_level, (), ("level",), about="shows or sets which messages of xlog are logged"
        ),
        **start_commands(),
    }


def start_commands() -> dict[str, Method]:
    """The MI methods about how the program was started, by name.

    With several workers the parent answers them: its workers were started by itself.
    """

    def pwd() -> dict[str, str]:
        """Return the working directory."""
        return {"WD": os.getcwd()}

    def arg() -> list[str]:
        """Return the command and its arguments."""
        return sys.argv

    return {
        "pwd": _method(pwd, (), about="prints the working directory"),
        "arg": _method(arg, (), about="lists the arguments that the program was started with"),
    }


def log_level_method() -> Method:
    """The MI method ``log_level`` of this process."""
    return _method(
        log_level,
        (),
        ("level",),
        ("level", "pid"),
        about="shows or sets the log level of all processes, or of one",
    )


def log_level(level: object = None, pid: object = None) -> dict[str, Any]:
    """Return the log level of this process, or change it.

    Args:
        level: as OpenSIPS counts levels, from -3 (alert) to 4 (debug).
        pid: of this process; by default or with 0, all processes change their level.
    """
    if level is None:
        return {"Processes": [log_level_of_process("sipws")]}
    wanted = integer_of(level, "level")
    one = 0 if pid is None else integer_of(pid, "pid")
    if not one:
        set_opensips_level(wanted)
        return {"New global log level": wanted}
    if one != os.getpid():
        raise invalid_params(BAD_PID)
    set_opensips_level(wanted)
    return {"Log level": wanted}


BAD_PID = "Bad PID"
"""OpenSIPS' details for a process that it does not have."""


def log_level_of_process(kind: str) -> dict[str, Any]:
    """Describe this process as ``log_level`` does.

    Args:
        kind: the type of the process, as ``ps`` has it.
    """
    return {"PID": os.getpid(), "Log level": opensips_level(), "Type": kind}


def uptime_since(started: float, started_monotonic: float) -> dict[str, str]:
    """Return the answer of ``uptime``.

    Args:
        started: start time, in seconds since the epoch.
        started_monotonic: the same moment on the monotonic clock.
    """
    return {
        "Now": time.ctime(),
        "Up since": time.ctime(started),
        "Up time": f"{int(time.monotonic() - started_monotonic)} [sec]",
    }


def _method(function: Callable[..., object], *recipes: tuple[str, ...], about: str) -> Method:
    return Method(function, recipes, CORE, about)
