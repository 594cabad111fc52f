"""What a running application shows of itself over HTTP: metrics and health."""

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final

from sipws.control.server import Page
from sipws.metrics import prometheus_text as exposition
from sipws.service.running import Running
from sipws.service.statistics import families, suspensions

TEXT: Final = "text/plain; charset=utf-8"

Shown = tuple[HTTPStatus, str]
"""A page as it is read: its status and its text."""


def pages_of(application: Running) -> dict[str, Page]:
    """The pages by path."""

    def metrics() -> Shown:
        return HTTPStatus.OK, exposition.render(families(application))

    def healthz() -> Shown:
        # Whoever can answer is alive.
        return HTTPStatus.OK, "ok\n"

    async def remarks() -> Iterable[str]:
        return suspensions(application.traces.all)

    return page_table(metrics, healthz, lambda: application.unready, remarks)


def page_table(
    metrics: Callable[[], Shown | Awaitable[Shown]],
    healthz: Callable[[], Shown],
    unready: Callable[[], str | None],
    remarks: Callable[[], Awaitable[Iterable[str]]],
) -> dict[str, Page]:
    """The pages by path, of a program of one process or of several.

    Args:
        metrics: reads what Prometheus is shown.
        healthz: reads whether the program is alive.
        unready: tells why nobody is to be sent here; None while there is no reason.
        remarks: what is wrong although phones are served, a line each.
    """

    async def readyz() -> Shown:
        if (why := unready()) is not None:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n"
        # Tracing that fails is no reason to send phones elsewhere.
        return HTTPStatus.OK, "".join(f"{line}\n" for line in ("ready", *await remarks()))

    return {
        "/metrics": Page(exposition.CONTENT_TYPE, metrics),
        "/healthz": Page(TEXT, healthz, public=True),
        "/readyz": Page(TEXT, readyz, public=True),
    }
