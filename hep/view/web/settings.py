"""The settings of the HTTP interface, and the checks that keep it private without a token."""

import ipaddress
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final
from urllib.parse import urlsplit

from hep.view.web.problems import WebSettingsError

LONGEST_TOKEN: Final = 4096
"""Characters of a token; `hep.view.web.models.Login` takes no longer one."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _page() -> Traversable:
    return files("hep.view") / "page"


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the HTTP interface listens, and who may use it.

    Raises:
        WebSettingsError: other machines can reach the address and there is no token, or the token
            cannot be sent in a header.
    """

    host: str = "127.0.0.1"
    """IP address or name that it listens on, IPv6 without brackets."""
    port: int = 9080
    """TCP port; 0 takes a free one."""
    names: tuple[str, ...] = ()
    """Further names, ``NAME`` or ``NAME:PORT``, under which browsers reach it."""
    token: str | None = field(default=None, repr=False)
    """What a client must know; None if every client may read."""
    secure: bool = False
    """Whether browsers reach it over HTTPS although it is served over HTTP, by a proxy."""
    page: Traversable = field(default_factory=_page)
    """The folder with the files of the page."""

    def __post_init__(self) -> None:
        for name in self.names:
            if " " in name or _name_of(name) is None:
                raise WebSettingsError(
                    f"--name {name!r} is no host name: write it as browsers have it in the address,"
                    " such as view.example.com or view.example.com:8443"
                )
        if self.token is None:
            if not is_loopback(self.host):
                raise WebSettingsError(
                    f"other machines can reach {self.host!r}:{self.port} and there is no token;"
                    " set a token with --token-file, or listen on 127.0.0.1"
                )
        elif not (
            self.token.isascii()
            and self.token.isprintable()
            and " " not in self.token
            and 0 < len(self.token) <= LONGEST_TOKEN
        ):
            raise WebSettingsError(
                "the token is empty, too long, or holds a blank, a control character or a"
                " character that is not ASCII; use 32 random letters and digits"
            )

    def is_here(self, host: str) -> bool:
        """Whether a Host header names this service.

        A page can make a name of its own resolve to this machine (DNS rebinding). It cannot do so
        with an address, with ``localhost`` or with the configured names.

        Args:
            host: value of the header, ``NAME`` or ``NAME:PORT``.
        """
        name = _name_of(host)
        if name is None:
            return False
        if is_loopback(name) or name == self.host.lower() or name.endswith(".localhost"):
            return True
        if _is_any(self.host) and _address(name) is not None:
            return True
        return any(host.lower() == each or name == each for each in map(str.lower, self.names))

    @property
    def checks_host(self) -> bool:
        """Whether Host headers are checked.

        With a token a page of another name gets nothing: a browser sends it no cookie. They are
        checked then only if names are configured.
        """
        return self.token is None or bool(self.names)

    def is_same_origin(self, origin: str, host: str) -> bool:
        """Whether a request with this Origin comes from our own page.

        Args:
            origin: value of the Origin header.
            host: value of the Host header.
        """
        scheme, _, rest = origin.lower().partition("://")
        if not rest:
            return False
        if rest == host.lower():
            return True
        # A proxy may have replaced the Host.
        port = _DEFAULT_PORTS.get(scheme)
        return any(rest in (each, f"{each}:{port}") for each in map(str.lower, self.names))


def is_loopback(name: str) -> bool:
    """Whether a host name or an address is this machine's own.

    Args:
        name: without brackets.
    """
    address = _address(name)
    return address.is_loopback if address is not None else name.lower() == "localhost"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_any(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_unspecified


def _name_of(host: str) -> str | None:
    if any(each in host for each in "/?#@\\") or not host.isprintable():
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None
