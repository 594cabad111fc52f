"""Patterns for hosts and origins in the configuration. Pure.

| pattern | matches |
| --- | --- |
| ``sip.example.com`` | the host, with any port |
| ``*.example.com`` | every host below it |
| ``sip.example.com:8443`` | the host with this port only |
| ``https://*.example.com`` | an origin; without a port, the default port of the scheme |
| ``null`` | the origin of pages from files |
| ``*`` | every origin |
| ``file://``, ``app://.``, ``content://org.example.phone`` | an origin of an application |
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from sipws.errors import ConfigurationError

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_SCHEMES_OWN: Final = (80, 443)

_NAME: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?:\*\.)?{_NAME}(?:\.{_NAME})*|\[[0-9a-f:.]+\]")
_PLACE: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]/@]*)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)")
_OF_AN_APP: Final = re.compile(r"[!-~]*")
_NEVER_OF_AN_APP: Final = frozenset("*?#@,")
"""A star is only allowed for hosts below a name; no origin holds the others."""


class _Place(NamedTuple):
    host: str
    port: int | None


def _place(text: str) -> _Place | None:
    """Split ``HOST[:PORT]`` of a header."""
    match = _PLACE.fullmatch(text.strip(" \t").lower())
    if match is None or not match[1]:
        return None
    port = None if match[2] is None else int(match[2])
    if port is not None and port > 0xFFFF:
        return None
    # "example.com." names the same host; browsers send it as it was typed.
    return _Place(_canonical(match[1].removesuffix(".")), port)


def _canonical(host: str) -> str:
    """Write an IPv6 address in its shortest form; return a name unchanged."""
    if not host.startswith("["):
        return host
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    except ValueError:
        return host


def _is_host(text: str) -> bool:
    place = _place(text)
    return place is not None and _HOST.fullmatch(place.host) is not None


def _pattern(text: str, whole: str, kind: str) -> _Place:
    place = _place(text)
    if place is None or not _HOST.fullmatch(place.host):
        raise ConfigurationError(
            f"{whole!r} is not {kind}; a host is a name such as 'sip.example.com', '*.example.com'"
            " for every name below it, or an address, IPv6 in brackets"
        )
    return place


class _Hosts:
    """Hosts by name, and as what they end in."""

    def __init__(self) -> None:
        self._exact: set[tuple[str, int | None]] = set()
        self._endings: set[tuple[str, int | None]] = set()

    def add(self, place: _Place) -> None:
        host, port = place
        if host.startswith("*."):
            self._endings.add((host[1:], port))
        else:
            self._exact.add((host, port))

    def has(self, host: str, port: int | None) -> bool:
        return (host, port) in self._exact or any(
            port == wanted and len(host) > len(ending) and host.endswith(ending)
            for ending, wanted in self._endings
        )


class HostPatterns:
    """Values of ``Host`` that are served.

    Args:
        patterns: hosts, each with a port or without; without, every port will do.

    Raises:
        ConfigurationError: one of them is not a host.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._all = tuple(patterns)
        self._hosts = _Hosts()
        for text in self._all:
            self._hosts.add(_pattern(text, text, "a host"))

    def __contains__(self, host: str) -> bool:
        place = _place(host)
        if place is None:
            return False
        # No port is that of the scheme, which a proxy in front may have taken off.
        ports = _SCHEMES_OWN if place.port is None else (place.port,)
        return any(self._hosts.has(place.host, port) for port in (None, *ports))

    def __bool__(self) -> bool:
        return bool(self._all)


class OriginPatterns:
    """Origins of pages that may connect (RFC 6454; RFC 6455 section 10.2).

    Args:
        patterns: origins, ``null`` or ``*``. Case makes no difference, and no slash at the end.

    Raises:
        ConfigurationError: one of them is not an origin.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._all = tuple(patterns)
        self._schemes: dict[str, _Hosts] = {}
        self._apps: set[tuple[str, str]] = set()
        for text in self._all:
            if text not in ("*", "null"):
                self._add(text)

    def _add(self, text: str) -> None:
        match = _ORIGIN.fullmatch(text.strip().lower())
        if match is None:
            raise ConfigurationError(
                f"{text!r} is not an origin; it is written 'https://www.example.com', with ':PORT'"
                " where it is not the scheme's own, 'https://*.example.com', 'file://', 'app://.',"
                " 'null' or '*'"
            )
        scheme, rest = match[1], match[2].removesuffix("/")
        if scheme not in DEFAULT_PORTS and not _is_host(rest):
            if not _OF_AN_APP.fullmatch(rest) or _NEVER_OF_AN_APP & set(rest):
                raise ConfigurationError(
                    f"{text!r} is not an origin; an origin with a scheme of its own is written as"
                    " the application sends it, such as 'app://.', without a star, a query or a"
                    " comma"
                )
            self._apps.add((scheme, rest))
            return
        place = _pattern(rest, text, "an origin")
        self._schemes.setdefault(scheme, _Hosts()).add(_with_port(place, scheme))

    def __contains__(self, origin: str) -> bool:
        if "*" in self._all:
            return True
        if origin == "null":
            return "null" in self._all
        match = _ORIGIN.fullmatch(origin.lower())
        if match is None:
            return False
        scheme, rest = match.groups()
        if scheme not in DEFAULT_PORTS:
            rest = rest.removesuffix("/")
            if (scheme, rest) in self._apps:
                return True
        if (hosts := self._schemes.get(scheme)) is None:
            return False
        place = _place(rest)
        return place is not None and hosts.has(*_with_port(place, scheme))

    def __bool__(self) -> bool:
        return bool(self._all)


def _with_port(place: _Place, scheme: str) -> _Place:
    return place if place.port is not None else _Place(place.host, DEFAULT_PORTS.get(scheme))
