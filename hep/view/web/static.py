"""The files of the page, read from the package at each request: they are few and small."""

import hashlib
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hep.view.web.problems import ProblemError, shown

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
"""Media types by suffix. Those of the system differ, and a browser runs no script of another type.
A file of any other suffix is not served."""


class Static:
    """Serves the files of a folder.

    Args:
        folder: with ``index.html``.
    """

    def __init__(self, folder: Traversable) -> None:
        self._folder = folder

    def find(self, path: str) -> tuple[bytes, str] | None:
        """Return a file and its media type; None if there is none.

        Args:
            path: below the folder, as a browser sends it.
        """
        suffix = path[path.rfind(".") :] if "." in path else ""
        parts = path.split("/")
        if suffix not in TYPES or not all(map(_is_name, parts)):
            return None
        found = self._folder
        for part in parts:
            found = found / part
        try:
            return (found.read_bytes(), TYPES[suffix]) if found.is_file() else None
        except OSError:
            return None

    def response(self, request: Request, path: str) -> Response:
        """Make the answer for a file.

        Raises:
            ProblemError: there is no such file (404).
        """
        found = self.find(path)
        if found is None:
            raise ProblemError(404, f"there is no file {shown(path)}")
        content, media_type = found
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        known = request.headers.get("if-none-match", "")
        if etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = media_type
        return Response(content, headers=headers)


def _is_name(part: str) -> bool:
    """Whether a part of a path names a file or a folder, and no other place."""
    return (
        bool(part)
        and part[0] not in "._"
        and all(each.isascii() and (each.isalnum() or each in "-_.") for each in part)
    )
