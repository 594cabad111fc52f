"""MI methods about the program itself: statistics, version, uptime, processes (OpenSIPS core)."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

from sipws import __version__
from sipws.control.mi import INVALID_PARAMS, NOT_FOUND, MiError
from sipws.service.running import Running
from sipws.service.statistics import statistics as read_statistics


def process_commands(application: Running) -> dict[str, Callable[..., Any]]:
    """The MI methods about the process, by name."""

    def get_statistics(statistics: list[str]) -> dict[str, int]:
        """Return statistics; unknown ones are left out.

        Args:
            statistics: ``all``, a group (``ws:``), or names, with or without their group.
        """
        if not isinstance(statistics, list) or not all(isinstance(x, str) for x in statistics):
            raise MiError("Invalid params", INVALID_PARAMS)
        # Without duplicates: a list of thousands would block the event loop.
        numbers = read_statistics(application)
        found = {
            full: numbers[full]
            for wanted in dict.fromkeys(statistics)
            for full in numbers
            if _is_meant(full, wanted)
        }
        if not found:
            raise MiError("Statistics Not Found", NOT_FOUND)
        return found

    def version() -> dict[str, str]:
        """Return name, version and platform of the program."""
        system = f"{platform.machine()}/{platform.system().lower()}"
        return {"Server": f"sipws ({__version__} ({system}))"}

    def uptime() -> dict[str, str]:
        """Return start time and run time."""
        return uptime_since(application.started, application.started_monotonic)

    def ps() -> dict[str, list[dict[str, Any]]]:
        """List the processes: there is one."""
        return {"Processes": [{"ID": 0, "PID": os.getpid(), "Type": "sipws"}]}

    return {
        "get_statistics": get_statistics,
        "statistics:get": get_statistics,
        "version": version,
        "uptime": uptime,
        "ps": ps,
    }


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


def _is_meant(full: str, wanted: str) -> bool:
    group, _, name = full.partition(":")
    return wanted in ("all", full, f"{group}:", name)
