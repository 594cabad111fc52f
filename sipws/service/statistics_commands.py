"""MI methods that read, list and reset statistics (OpenSIPS statistics.c)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sipws.control.mi import NOT_FOUND, Method, MiError, texts_of
from sipws.service.running import Running
from sipws.service.statistics import NON_INCREMENTAL
from sipws.service.statistics import statistics as read_statistics

ALL: Final = "all"
"""Stands for all statistics in ``get_statistics``."""

_LIST: Final = ("statistics",)


def statistics_commands(application: Running) -> dict[str, Method]:
    """The MI methods about statistics, by name."""

    def get_statistics(statistics: list[str]) -> dict[str, int]:
        """Return statistics; unknown ones are left out.

        Args:
            statistics: ``all``, a group (``ws:``), or names, with or without their group.
        """
        wanted = texts_of(statistics, "statistics")
        numbers = current(application)
        return {full: numbers[full] for full in _meant(wanted, numbers)}

    def list_statistics(statistics: list[str] | None = None) -> dict[str, str]:
        """Return how each statistic changes: ``incremental`` or ``non-incremental``.

        Args:
            statistics: groups or names. By default, all statistics are listed.
        """
        numbers = read_statistics(application)
        if statistics is None:
            return {full: _kind(full) for full in numbers}
        listed = {}
        for each in dict.fromkeys(texts_of(statistics, "statistics")):
            for full in _meant([each], numbers) if each != ALL else ():
                # OpenSIPS names a single one without its group.
                name = full if ":" in each else full.partition(":")[2]
                listed[name] = _kind(full)
        return listed

    def reset_statistics(statistics: list[str]) -> str:
        """Count from zero again. The metrics of ``/metrics`` stay as they are.

        Args:
            statistics: names; those that are not counted stay as they are.
        """
        wanted = texts_of(statistics, "statistics")
        numbers = read_statistics(application)
        found = list(_meant((each for each in wanted if not _is_many(each)), numbers))
        if not found:
            raise MiError("Statistics Not Found", NOT_FOUND)
        reset(found, numbers)
        return "OK"

    def reset_all_statistics() -> str:
        """Count all statistics from zero again."""
        numbers = read_statistics(application)
        reset(numbers, numbers)
        return "OK"

    def reset(names: Iterable[str], numbers: dict[str, int]) -> None:
        for full in names:
            if full not in NON_INCREMENTAL:
                application.reset[full] = numbers[full]

    get = _method(
        get_statistics, _LIST, about="prints the values of statistics: all, a group, or by name"
    )
    return {
        "get_statistics": get,
        "statistics:get": get,
        "list_statistics": _method(
            list_statistics, (), _LIST, about="lists statistics and whether they only grow"
        ),
        "reset_statistics": _method(
            reset_statistics, _LIST, about="counts statistics from zero again"
        ),
        "reset_all_statistics": _method(
            reset_all_statistics, (), about="counts all statistics from zero again"
        ),
    }


def current(application: Running) -> dict[str, int]:
    """The statistics since they were reset last, as ``GROUP:NAME``."""
    numbers = read_statistics(application)
    for full, base in application.reset.items():
        # The packets of a trace that has ended are no longer counted.
        numbers[full] = max(0, numbers[full] - base)
    return numbers


def _method(function: Callable[..., object], *recipes: tuple[str, ...], about: str) -> Method:
    return Method(function, recipes, "statistics", about)


def _kind(full: str) -> str:
    return "non-incremental" if full in NON_INCREMENTAL else "incremental"


def _is_many(wanted: str) -> bool:
    return wanted == ALL or (len(wanted) > 1 and wanted.endswith(":"))


def _meant(wanted: Iterable[str], numbers: Iterable[str]) -> Iterator[str]:
    """The full names that are asked for, in the order of the questions; case is ignored."""
    index: dict[str, list[str]] = defaultdict(list)
    for full in numbers:
        folded = full.casefold()
        group, _, name = folded.partition(":")
        for key in (ALL, folded, f"{group}:", name):
            index[key].append(full)
    # Without duplicates: a list of thousands would block the event loop.
    for each in dict.fromkeys(name.casefold() for name in wanted):
        yield from index.get(each, ())
