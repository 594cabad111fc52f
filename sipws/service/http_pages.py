"""The HTTP pages of a running application: metrics and health."""

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final

from sipws.control.server import Page
from sipws.metrics import prometheus_text
from sipws.service.running import Running
from sipws.service.statistics import families, suspensions

TEXT: Final = "text/plain; charset=utf-8"

Shown = tuple[HTTPStatus, str]
"""The status and the text of a page."""


def pages_of(application: Running) -> dict[str, Page]:
    """Return the pages of a running application, by path."""

    def metrics() -> Shown:
        return HTTPStatus.OK, prometheus_text.render(families(application))

    def healthz() -> Shown:
        # A process that answers is alive.
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
    """Return the pages by path, for one process or several.

    Args:
        metrics: returns the text for Prometheus.
        healthz: returns whether the program is alive.
        unready: returns why ``/readyz`` answers 503; None while the program is ready.
        remarks: returns problems that do not affect phones, a line each.
    """

    async def readyz() -> Shown:
        if (why := unready()) is not None:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n"
        # Phones need not go elsewhere because tracing fails.
        return HTTPStatus.OK, "".join(f"{line}\n" for line in ("ready", *await remarks()))

    return {
        "/metrics": Page(prometheus_text.CONTENT_TYPE, metrics),
        "/healthz": Page(TEXT, healthz, public=True),
        "/readyz": Page(TEXT, readyz, public=True),
    }
