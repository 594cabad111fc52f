"""The transformations ``{s.*}`` and ``{ip.*}`` of OpenSIPS 3.6, and the table of all of them.

They behave as in ``transformations.c`` of OpenSIPS. NULL stays NULL. A transformation that cannot
be applied gives NULL.
"""

import base64
import calendar
import hashlib
import hmac
import re
import string
import zlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Final

from sipws.tracing.filter.bounds import MAX_TEXT
from sipws.tracing.filter.evaluation.headers import HEADERS
from sipws.tracing.filter.evaluation.structured import STRUCTURED
from sipws.tracing.filter.evaluation.values import (
    Change,
    Numbered,
    Parsed,
    Value,
    Worded,
    bytes_of,
    lower,
    number_of,
    parse_ip,
    text_of,
    upper,
    written,
)
from sipws.tracing.filter.syntax.lexer import wrap
from sipws.tracing.filter.syntax.nodes import Transformation
from sipws.tracing.filter.syntax.pseudo import Problem
from sipws.tracing.filter.syntax.source import nearest

_INTEGER: Final = re.compile(r"([+-]?)([0-9]*)")

_DIGITS: Final = 32
"""Last digits of a number that decide about its lowest 32 bits: 10^32 is a multiple of 2^32."""

_HASHES: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")

_PRIVATE: Final = tuple(
    IPv4Network(net)
    for net in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
        "192.0.0.0/29",
    )
)  # fmt: skip


def _integer(text: str) -> tuple[int, bool]:
    """The leading integer of a text, in 32 bits, and whether it is the whole text."""
    found = _INTEGER.match(text)
    sign, digits = (found[1], found[2]) if found else ("", "")
    number = int(digits[-_DIGITS:] or "0")
    return wrap(-number if sign == "-" else number), len(sign) + len(digits) == len(text)


def _with_text(text: str, value: Value) -> Value:
    """A changed text. A value that is an integer too remains one."""
    if isinstance(value, int):
        return value if text == text_of(value) else Worded(int(value), text)
    return Numbered(text, value.number) if isinstance(value, Numbered) else text


def _to_int(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    """``{s.int}``: the leading integer of a text; 0 if there is none."""
    number = number_of(value)
    return Parsed(_integer(text)[0] if number is None else number, text)


def _substr(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.substr,OFFSET,LENGTH}``: a part of a text; a negative offset counts from the end."""
    start, length = map(number_of, arguments)
    if start is None or length is None:
        return None
    start += len(text) if start < 0 else 0
    if not 0 <= start < len(text):
        return None
    if length < 1:
        length = len(text) + length - start
    return text[start : start + max(length, 0)]


def _select(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.select,INDEX,SEPARATOR}``: a field of a text; NULL if there is no such field."""
    index = number_of(arguments[0])
    fields = text.split(str(arguments[1])[:1])
    if index is None or not -len(fields) <= index < len(fields):
        return None
    return fields[index]


def _index(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.index,TEXT[,START]}``: offset of the first occurrence; NULL if there is none."""
    needle = text_of(arguments[0])
    start = number_of(arguments[1]) if len(arguments) > 1 else 0
    if not needle or start is None:
        return None
    found = text.find(needle, _start(text, start))
    return None if found < 0 else found


def _rindex(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.rindex,TEXT[,START]}``: offset of the last occurrence; NULL if there is none."""
    needle = text_of(arguments[0])
    start = number_of(arguments[1]) if len(arguments) > 1 else len(text) - 1
    if not needle or start is None:
        return None
    last = min(_start(text, start), len(text) - 1)
    # `find` in the reversed text takes linear time; `rfind` does not.
    backwards = text[: last + len(needle)][::-1]
    found = backwards.find(needle[::-1])
    return None if found < 0 else len(backwards) - len(needle) - found


def _start(text: str, start: int) -> int:
    """The offset of a start index, which counts from the end if it is negative."""
    return start if start >= 0 or not text else start % len(text)


def _fill_left(text: str, value: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.fill.left,PAD,LENGTH}``: a text padded on the left to a length."""
    padding = _padding(text, arguments)
    if padding is None:
        return value
    pad, size = padding
    return (pad * (size // len(pad) + 1))[-size:] + text if size else text


def _fill_right(text: str, value: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.fill.right,PAD,LENGTH}``: a text padded on the right to a length."""
    padding = _padding(text, arguments)
    if padding is None:
        return value
    pad, size = padding
    return text + (pad * (size // len(pad) + 1))[:size]


def _padding(text: str, arguments: tuple[Value, ...]) -> tuple[str, int] | None:
    """The padding and the number of characters to fill; None if the text is long enough."""
    pad, size = str(arguments[0]), (number_of(arguments[1]) or 0) - len(text)
    if size < 0 or size > MAX_TEXT:
        return None
    if len(pad) > 2 and pad[0] == pad[-1] and pad[0] in "'\"":
        pad = pad[1:-1]
    return pad, size


def _width(text: str, value: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.width,LENGTH}``: a text truncated or padded with blanks to a length."""
    width = number_of(arguments[0])
    if width is None or not 0 < width <= MAX_TEXT:
        return None
    return _with_text(text[:width], value) if width <= len(text) else text.ljust(width)


def _decode_hexa(text: str, *_: object) -> Value:
    """``{s.decode.hexa}``: the text of hexadecimal digits."""
    digits = text[: len(text) // 2 * 2]
    if not re.fullmatch("[0-9A-Fa-f]*", digits):
        return None
    return bytes.fromhex(digits).decode("latin-1")


def _hex2dec(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    """``{s.hex2dec}``: a hexadecimal number as an integer of 32 bits."""
    if number_of(value) is not None:
        return value
    if not re.fullmatch("[0-9A-Fa-f]*", text):
        return None
    number = wrap(int(text[-8:] or "0", 16))
    # The text of a negative number is that of 64 bits without a sign.
    return Parsed(number, str(number & 0xFFFFFFFFFFFFFFFF))


def _dec2hex(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    """``{s.dec2hex}``: an integer in hexadecimal."""
    number = number_of(value)
    if number is None:
        number, is_whole = _integer(text)
        if not text or not is_whole:
            return None
    return f"{number & 0xFFFFFFFF:x}"


_DATE: Final = re.compile(
    r"\s*[A-Za-z]{3,9},\s*([0-9]{1,2})\s*([A-Za-z]{3})[a-z]*\s*([0-9]{1,4})\s*"
    r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})\s*GMT"
)


def _date2unix(text: str, *_: object) -> Value:
    """``{s.date2unix}``: the seconds since 1970 of a SIP date."""
    found = _DATE.match(text)
    months = [name.lower() for name in calendar.month_abbr]
    if not found or found[2].lower() not in months:
        return None
    day, year, *clock = (int(found[index]) for index in (1, 3, 4, 5, 6))
    if not 1 <= day <= 31 or year < 1900 or clock[0] > 23 or clock[1] > 59 or clock[2] > 60:
        return None
    month = months.index(found[2].lower())
    return str(calendar.timegm((year, month, 1, *clock)) + 86_400 * (day - 1))


_NOT_BASE64: Final = re.compile("[^A-Za-z0-9+/]+")


def _b64decode(text: str, *_: object) -> Value:
    """``{s.b64decode}``: the text of Base64. Characters that are not Base64 are ignored."""
    parts: list[str] = []
    count = 0
    for part in text.split("="):
        parts.append(_NOT_BASE64.sub("", part))
        count += len(parts[-1])
        if count % 4 > 1:
            break
    digits = "".join(parts)
    digits = digits[: count - (count % 4 == 1)]
    return base64.b64decode(digits + "=" * (-len(digits) % 4)).decode("latin-1")


def _xor(text: str, value: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.xor,SECRET}``: the bytes of a text combined with a repeated secret."""
    secret = text_of(arguments[0])
    if not secret:
        return None
    data, key = bytes_of(text), bytes_of(secret)
    size = len(data)
    mask = (key * (size // len(key) + 1))[:size]
    made = int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")
    return _with_text(made.to_bytes(size, "little").decode("latin-1"), value)


_UNPRINTABLE: Final = re.compile("[^\x20-\x7e]")


def _escaped(allowed: str) -> Change:
    """``{s.escape.user}``, ``{s.escape.param}``: percent-encoding of all but some characters."""
    plain = frozenset(string.ascii_letters + string.digits + allowed)
    table = {code: f"%{code:02x}" for code in range(0x20, 0x7F) if chr(code) not in plain}

    def change(text: str, *_: object) -> Value:
        return None if _UNPRINTABLE.search(text) else text.translate(table)

    return change


def _percent_decoded(text: str, *_: object) -> Value:
    """``{s.unescape.user}``, ``{s.unescape.param}``: the text of percent-encoding."""
    if re.search("%(?![2-7][0-9A-Fa-f])|%7[fF]", text):
        return None
    return re.sub("%(..)", lambda found: chr(int(found[1], 16)), text)


def _trimmed(strip: Callable[[str, str], str]) -> Change:
    """``{s.trim}``, ``{s.triml}``, ``{s.trimr}``: a text without blanks at its ends."""
    return lambda text, value, _: _with_text(strip(text, _BLANKS), value)


def _hashed(name: str) -> Change:
    """``{s.md5}``, ``{s.sha1}`` to ``{s.sha512}``: a digest in hexadecimal."""
    return lambda text, *_: hashlib.new(name, bytes_of(text), usedforsecurity=False).hexdigest()


def _keyed(name: str) -> Change:
    """``{s.sha1_hmac,KEY}`` to ``{s.sha512_hmac,KEY}``: an HMAC in hexadecimal."""

    def change(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
        key = text_of(arguments[0])
        return None if not key else hmac.new(bytes_of(key), bytes_of(text), name).hexdigest()

    return change


def _crc32(text: str, *_: object) -> Value:
    """``{s.crc32}``: the checksum, without the final inversion of zlib's."""
    return str(zlib.crc32(bytes_of(text)) ^ 0xFFFFFFFF)


def _is_ip(version: int | None) -> Change:
    """``{ip.isip}``, ``{ip.isip4}``, ``{ip.isip6}``: 1 if a text is an IP address, otherwise 0."""

    def change(text: str, *_: object) -> Value:
        address = parse_ip(text)
        return int(address is not None and version in (None, address.version))

    return change


def _pton(text: str, *_: object) -> Value:
    """``{ip.pton}``: a textual address as packed bytes."""
    address = parse_ip(text)
    return None if address is None else address.packed.decode("latin-1")


def _ntop(text: str, *_: object) -> Value:
    """``{ip.ntop}``: a packed address as text."""
    data = bytes_of(text)
    if len(data) == 4:
        return str(IPv4Address(data))
    return written(str(IPv6Address(data))) if len(data) == 16 else None


def _family(text: str, *_: object) -> Value:
    """``{ip.family}``: ``INET`` or ``INET6`` of a packed address."""
    return {4: "INET", 16: "INET6"}.get(len(text))


def _resolve(text: str, *_: object) -> Value:
    """``{ip.resolve}``: an address as it is; NULL for a host name."""
    # A DNS query would block the event loop, so only addresses are resolved.
    return written(str(address)) if (address := parse_ip(text)) is not None else None


def _matches(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{ip.matches,NETWORK}``: 1 if an address is in a network, otherwise 0."""
    address, net = parse_ip(text), text_of(arguments[0]) or ""
    base, slash, bits = net.partition("/")
    inside = parse_ip(base)
    if address is None or inside is None or not slash or not re.fullmatch("[0-9]{1,3}", bits):
        return None
    if int(bits) > inside.max_prefixlen or address.version != inside.version:
        return None
    return int(address in ip_network((str(inside), int(bits)), strict=False))


def _is_private(text: str, *_: object) -> Value:
    """``{ip.isprivate}``: 1 for an address of a private or local network, otherwise 0."""
    address = parse_ip(text)
    return int(isinstance(address, IPv4Address) and any(address in net for net in _PRIVATE))


_BACKSLASHED: Final = {ord(char): f"\\{char}" for char in "'\"\\"} | {0: "\\0"}
_ESCAPED: Final = re.compile(r"\\(['\"\\0])")


def _unescape_common(text: str, *_: object) -> Value:
    """``{s.unescape.common}``: a text without backslashes before quotes and backslashes."""
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else found[1], text)


_USER: Final = "-_.!~*'()&=+$,;?/"
_PARAMETER: Final = "-_.!~*'()[]/:&+$"
_BLANKS: Final = " \t\r\n"

CHANGES: Final[dict[str, tuple[str, Change]]] = {
    # Arguments: n: number, s: text, c: one literal character, f: fixed text, i: index before the
    # name; those after ? are optional.
    "s.len": ("", lambda text, *_: len(text)),
    "s.int": ("", _to_int),
    "s.md5": ("", _hashed("md5")),
    "s.crc32": ("", _crc32),
    "s.tolower": ("", lambda text, *_: lower(text)),
    "s.toupper": ("", lambda text, *_: upper(text)),
    "s.encode.hexa": ("", lambda text, *_: bytes_of(text).hex()),
    "s.decode.hexa": ("", _decode_hexa),
    "s.hex2dec": ("", _hex2dec),
    "s.dec2hex": ("", _dec2hex),
    "s.date2unix": ("", _date2unix),
    "s.escape.common": ("", lambda text, *_: text.translate(_BACKSLASHED)),
    "s.unescape.common": ("", _unescape_common),
    "s.escape.user": ("", _escaped(_USER)),
    "s.unescape.user": ("", _percent_decoded),
    "s.escape.param": ("", _escaped(_PARAMETER)),
    "s.unescape.param": ("", _percent_decoded),
    "s.index": ("s?n", _index),
    "s.rindex": ("s?n", _rindex),
    "s.substr": ("nn", _substr),
    "s.select": ("nc", _select),
    "s.fill.left": ("fn", _fill_left),
    "s.fill.right": ("fn", _fill_right),
    "s.width": ("n", _width),
    "s.b64encode": ("", lambda text, *_: base64.b64encode(bytes_of(text)).decode()),
    "s.b64decode": ("", _b64decode),
    "s.xor": ("s", _xor),
    "s.trim": ("", _trimmed(str.strip)),
    "s.trimr": ("", _trimmed(str.rstrip)),
    "s.triml": ("", _trimmed(str.lstrip)),
    "s.reverse": ("", lambda text, *_: text[::-1]),
    **{f"s.{name}": ("", _hashed(name)) for name in _HASHES},
    **{f"s.{name}_hmac": ("s", _keyed(name)) for name in _HASHES},
    "ip.family": ("", _family),
    "ip.ntop": ("", _ntop),
    "ip.pton": ("", _pton),
    "ip.isip": ("", _is_ip(None)),
    "ip.isip4": ("", _is_ip(4)),
    "ip.isip6": ("", _is_ip(6)),
    "ip.resolve": ("", _resolve),
    "ip.matches": ("s", _matches),
    "ip.isprivate": ("", _is_private),
    **STRUCTURED,
    **HEADERS,
}


SLOW: Final = frozenset(
    {
        *STRUCTURED, *HEADERS, "s.unescape.common", "s.unescape.user", "s.unescape.param",
        "s.select", "s.b64decode",
    }
)  # fmt: skip
"""Transformations that split a text into parts. They cost `LIST_CHANGE` instead of `CHANGE`."""


def find(transformation: Transformation) -> tuple[str, Change, Transformation]:
    """Find a transformation by its OpenSIPS name, in any case.

    Returns:
        the letters of its arguments, as in `CHANGES`, its function, and the transformation with an
        index before its name (``{nameaddr.1.uri}``) as its first argument.

    Raises:
        Problem: it does not exist, or is not supported.
    """
    if transformation.kind.lower() == "nameaddr":
        index, _, part = transformation.name.rpartition(".")
        transformation = replace(
            transformation, name=part, arguments=(index or "0", *transformation.arguments)
        )
    name = f"{transformation.kind}.{transformation.name}".lower()
    if name in CHANGES:
        return *CHANGES[name], transformation
    shown = f"{{{transformation.kind}.{transformation.name}}}"
    if name in ("re.subst", "s.eval"):
        raise Problem(f"{shown} is not there: what it costs has no bound")
    if name.strip() in CHANGES:
        raise Problem(f"there is no transformation {shown}; write {{{name.strip()}}}")
    raise Problem(f"there is no transformation {shown}{nearest(name, CHANGES)}")
