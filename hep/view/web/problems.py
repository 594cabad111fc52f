"""Errors of the HTTP interface: what a client gets, and what stops the service from starting."""

from typing import Final

from starlette.responses import Response

from hep.errors import HepError
from hep.view.web.models import Problem

JSON: Final = "application/json"
"""Media type of answers."""


class WebSettingsError(HepError):
    """Settings of the HTTP interface are unsafe or contradict each other."""


class ProblemError(Exception):
    """A request cannot be answered; the client gets a `Problem`.

    Args:
        status: HTTP status, 400 to 599.
        error: what is wrong, with the name, the value and the remedy.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, error: str, **headers: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}

    def response(self) -> Response:
        """Make the answer."""
        return problem(self.status, self.error, self.headers)


def problem(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    """Make the answer to a request that fails.

    Args:
        status: HTTP status, 400 to 599.
        error: what is wrong, with the name, the value and the remedy.
        headers: further headers.
    """
    body = Problem(error=error).model_dump_json()
    return Response(body, status, headers, media_type=JSON)


LONGEST_SHOWN: Final = 80
"""Characters of a value that an error repeats."""


def shown(text: str) -> str:
    """Write a value that a client sent for an error: quoted, escaped and cut.

    Args:
        text: the value.
    """
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")
