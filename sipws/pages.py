"""What a running application shows of itself over HTTP: metrics and health."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sipws import exposition
from sipws.control import Page
from sipws.readings import families

if TYPE_CHECKING:
    from sipws.app import Application

TEXT: Final = "text/plain; charset=utf-8"

Shown = tuple[HTTPStatus, str]
"""A page as it is read: its status and its text."""


def pages_of(application: "Application") -> dict[str, Page]:
    """The pages by path."""

    def metrics() -> Shown:
        return HTTPStatus.OK, exposition.render(families(application))

    def healthz() -> Shown:
        # Whoever can answer is alive.
        return HTTPStatus.OK, "ok\n"

    return page_table(metrics, healthz, lambda: application.unready)


def page_table(
    metrics: Callable[[], Shown | Awaitable[Shown]],
    healthz: Callable[[], Shown],
    unready: Callable[[], str | None],
) -> dict[str, Page]:
    """The pages by path, of a program of one process or of several.

    Args:
        metrics: reads what Prometheus is shown.
        healthz: reads whether the program is alive.
        unready: tells why nobody is to be sent here; None while there is no reason.
    """

    def readyz() -> Shown:
        if (why := unready()) is not None:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n"
        return HTTPStatus.OK, "ready\n"

    return {
        "/metrics": Page(exposition.CONTENT_TYPE, metrics),
        "/healthz": Page(TEXT, healthz, public=True),
        "/readyz": Page(TEXT, readyz, public=True),
    }
