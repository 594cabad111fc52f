"""An upgrade request as the application sees it: target, query, cookies, headers. Pure."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs, urlsplit

_COOKIES: Final = 50
"""Cookies that are read: what browsers keep for a domain (RFC 6265 section 6.1)."""

STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r?\n")
"""The first line of an HTTP answer: status and reason (RFC 9112 section 4)."""


def status_of(reply: bytes) -> int | None:
    """The HTTP status of an answer; None for bytes that are no HTTP answer."""
    line = STATUS_LINE.match(reply)
    return int(line[1]) if line else None


class UpgradeRequest:
    """The request that a connection was opened with.

    Only its bytes are kept, and parsed on demand: a connection whose application reads nothing
    costs only those bytes. Nothing here raises on data from a peer.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """Byte for byte, blank line included."""

    @property
    def target(self) -> str:
        """Path and query as written."""
        words = self.raw.partition(b"\n")[0].split()
        return words[1].decode("latin-1") if len(words) > 1 else ""

    @property
    def path(self) -> str:
        """The target's path, as written (percent signs are kept)."""
        target = self.target
        if not target.startswith("/"):
            # RFC 9112 section 3.2.2: a server takes a whole URI as well.
            try:
                return urlsplit(target).path or "/"
            except ValueError:
                return ""
        return target.partition("?")[0]

    @property
    def authority(self) -> str | None:
        """Host and port of a target that is a whole URI; None for a path, as nearly all are."""
        target = self.target
        if target.startswith("/"):
            return None
        try:
            return urlsplit(target).netloc or None
        except ValueError:
            return None

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the target's query, decoded: each name with its values in order."""
        try:
            return parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        except ValueError:
            return {}

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; of two with one name the first, whose path is the longer one."""
        found: dict[str, str] = {}
        for line in self.header("cookie"):
            for pair in line.split(";", _COOKIES)[:_COOKIES]:
                name, equals, value = pair.partition("=")
                if equals:
                    found.setdefault(
                        name.strip(), value.strip().removeprefix('"').removesuffix('"')
                    )
        return found

    def header(self, name: str) -> list[str]:
        """The values of a header, one for each time that it occurs.

        Args:
            name: in any case.
        """
        found = _lines_of(name).findall(self.raw)
        return [value.strip(b" \t\r").decode("latin-1") for value in found]

    def __repr__(self) -> str:
        return f"UpgradeRequest({self.path!r})"


@lru_cache(64)
def _lines_of(name: str) -> re.Pattern[bytes]:
    """Return the pattern of a header's values; applications read the same few of each request."""
    return re.compile(
        b"\n" + re.escape(name.encode("latin-1", "replace")) + b":(.*)", re.IGNORECASE
    )
