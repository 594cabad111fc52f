"""Credentials in handshakes, made unreadable before they are traced. Pure.

A trace goes to a database that many people read. What logs a client in has no place there: the
values of credential headers and of token-like query parameters are replaced, names are kept, and
every other byte stays as it was. What is refused is traced too, so nothing here relies on the
bytes being HTTP.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Final
from urllib.parse import unquote_to_bytes

MASK: Final = b"***"
"""What stands in place of a credential, however long it was."""

HEADERS: Final = (
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
    "Set-Cookie",
    "X-API-Key",
    "X-Auth-Token",
)
"""Headers whose values are masked unless told."""

PARAMETERS: Final = (
    "*token*",
    "*secret*",
    "*passw*",
    "*api*key*",
    "auth*",
    "jwt",
    "key",
    "pwd",
    "session*",
    "sig",
    "signature",
    "ticket",
)
"""Query parameters whose values are masked unless told; ``*`` stands for any characters."""

Mask = Callable[[bytes], bytes]
"""Makes the credentials in a request or a reply unreadable."""

# A header may be folded over more lines (RFC 9112 section 5.2), and lines may end in LF alone.
_VALUE: Final = rb"([ \t]*:[ \t]*)((?:[^\r\n]|\r?\n[ \t])*)"
_PARAMETER: Final = re.compile(rb"(?<=[?&;])([^=&;?#\s]+)=([^&;#\s]*)")
_COOKIES: Final = (b"cookie", b"set-cookie")
_COOKIE: Final = re.compile(rb"=[^;]*")
_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9-]*)[ \t]+\S")


def masking(headers: Sequence[str] = HEADERS, parameters: Sequence[str] = PARAMETERS) -> Mask:
    """A function that masks credentials.

    Args:
        headers: names of headers whose values are masked; of cookies the names are kept, and of
            ``Authorization`` the scheme.
        parameters: names of query parameters whose values are masked, wherever one stands;
            ``*`` stands for any characters. Capitals and percent-encoding make no difference.
    """
    header = _any_header(headers)
    either = b"|".join(re.escape(name.lower().encode()) for name in headers)
    some_header = re.compile(rb"\n(?:" + either + rb")").search
    chosen = [re.compile(translate(name.lower()).encode()) for name in parameters]

    def in_parameter(match: re.Match[bytes]) -> bytes:
        name = unquote_to_bytes(match[1]).lower()
        if any(pattern.match(name) for pattern in chosen):
            return match[1] + b"=" + MASK
        return match[0]

    def mask(raw: bytes) -> bytes:
        # Nearly all handshakes hold no credentials: that is told sooner than they are searched.
        if chosen and b"?" in raw:
            raw = _PARAMETER.sub(in_parameter, raw)
        if header is not None and some_header(b"\n" + raw.lower()):
            raw = header.sub(_in_header, raw)
        return raw

    return mask


def _any_header(names: Sequence[str]) -> re.Pattern[bytes] | None:
    if not names:
        return None
    either = b"|".join(re.escape(name.encode()) for name in names)
    return re.compile(rb"^(" + either + rb")" + _VALUE, re.IGNORECASE | re.MULTILINE)


def _in_header(match: re.Match[bytes]) -> bytes:
    name, colon, value = match.groups()
    if name.lower() in _COOKIES:
        return bytes(name + colon + _masked_cookies(name.lower(), value))
    if name.lower().endswith(b"authorization") and (scheme := _SCHEME.match(value)):
        return bytes(name + colon + scheme[1] + b" " + MASK)
    return bytes(name + colon + MASK)


def _masked_cookies(name: bytes, value: bytes) -> bytes:
    if b"=" not in value:
        return MASK
    if name == b"cookie":
        return _COOKIE.sub(b"=" + MASK, value)
    # Behind the cookie stand its attributes, which are no secret.
    return _COOKIE.sub(b"=" + MASK, value, count=1)
