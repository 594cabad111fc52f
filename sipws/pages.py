"""What a running application shows of itself over HTTP: metrics and health."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sipws import exposition
from sipws.control import Page
from sipws.readings import families

if TYPE_CHECKING:
    from sipws.app import Application

TEXT: Final = "text/plain; charset=utf-8"


def pages_of(application: "Application") -> dict[str, Page]:
    """The pages by path."""

    def metrics() -> tuple[HTTPStatus, str]:
        return HTTPStatus.OK, exposition.render(families(application))

    def healthz() -> tuple[HTTPStatus, str]:
        # Whoever can answer is alive.
        return HTTPStatus.OK, "ok\n"

    def readyz() -> tuple[HTTPStatus, str]:
        if application.unready is not None:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{application.unready}\n"
        return HTTPStatus.OK, "ready\n"

    return {
        "/metrics": Page(exposition.CONTENT_TYPE, metrics),
        "/healthz": Page(TEXT, healthz, public=True),
        "/readyz": Page(TEXT, readyz, public=True),
    }
