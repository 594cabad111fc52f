"""The transformations ``{s.*}`` and ``{ip.*}`` of OpenSIPS 3.6, and the table of all of them.

They behave as in ``transformations.c`` of OpenSIPS. NULL stays NULL. A transformation that cannot
be applied gives `FAILED`.
"""

import base64
import binascii
import hashlib
import hmac
import re
import string
import zlib
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Final
from urllib.parse import unquote_to_bytes

from sipws.tracing.filter.bounds import MAX_TEXT
from sipws.tracing.filter.evaluation.structured import STRUCTURED
from sipws.tracing.filter.evaluation.values import (
    FAILED,
    Change,
    Value,
    Worded,
    number_of,
    parse_ip,
    text_of,
    written,
)
from sipws.tracing.filter.syntax.lexer import wrap
from sipws.tracing.filter.syntax.nodes import Transformation
from sipws.tracing.filter.syntax.pseudo import Problem
from sipws.tracing.filter.syntax.source import nearest

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")

_HASHES: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")

_PRIVATE: Final = tuple(
    IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)

_SIP: Final = ("via", "nameaddr", "sdp")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _string(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _to_int(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    """``{s.int}``: the leading integer of a text; 0 if there is none."""
    number = number_of(value)
    if number is not None:
        return number
    found = _INTEGER.match(text[:20])
    if not found:
        return Worded(0, text)
    # OpenSIPS applies the sign last. It omits the sign if a character that is no digit follows.
    read = int(found[0]) if found.end() == len(text) else abs(int(found[0]))
    return Worded(wrap(read), text)


def _substr(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.substr,OFFSET,LENGTH}``: a part of a text; a negative offset counts from the end."""
    start, length = map(number_of, arguments)
    if start is None or length is None:
        return FAILED
    start += len(text) if start < 0 else 0
    if not 0 <= start < len(text):
        return FAILED
    if length < 1:
        length = len(text) + length - start
    return text[start : start + max(length, 0)]


def _select(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.select,INDEX,SEPARATOR}``: a field of a text; NULL if there is no such field."""
    index = number_of(arguments[0])
    if index is None:
        return FAILED
    fields = text.split(str(arguments[1])[:1])
    if not -len(fields) <= index < len(fields):
        return None
    return fields[index]


def _index(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.index,TEXT[,START]}``: offset of the first occurrence; NULL if there is none."""
    needle = text_of(arguments[0])
    start = number_of(arguments[1]) if len(arguments) > 1 else 0
    if not needle or start is None:
        return FAILED
    found = text.find(needle, _start(text, start))
    return None if found < 0 else found


def _rindex(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.rindex,TEXT[,START]}``: offset of the last occurrence; NULL if there is none."""
    needle = text_of(arguments[0])
    start = number_of(arguments[1]) if len(arguments) > 1 else len(text) - 1
    if not needle or start is None:
        return FAILED
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


def _width(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.width,LENGTH}``: a text truncated or padded with blanks to a length."""
    width = number_of(arguments[0])
    if width is None or not 0 < width <= MAX_TEXT:
        return FAILED
    return text[:width].ljust(width)


def _decode_hexa(text: str, *_: object) -> Value:
    """``{s.decode.hexa}``: the text of hexadecimal digits."""
    try:
        return _string(bytes.fromhex(text[: len(text) // 2 * 2])) if " " not in text else FAILED
    except ValueError:
        return FAILED


def _hex2dec(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    """``{s.hex2dec}``: a hexadecimal number as an integer."""
    if number_of(value) is not None:
        return value
    return wrap(int(text, 16)) if re.fullmatch("[0-9A-Fa-f]{1,8}", text) else FAILED


def _dec2hex(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    """``{s.dec2hex}``: an integer in hexadecimal."""
    number = number_of(value)
    if number is None:
        if not _INTEGER.fullmatch(text[:20]):
            return FAILED
        number = wrap(int(text[:20]))
    return f"{number & 0xFFFFFFFF:x}"


def _b64decode(text: str, *_: object) -> Value:
    """``{s.b64decode}``: the text of Base64."""
    try:
        return _string(base64.b64decode(_bytes(text)))
    except binascii.Error:
        return FAILED


def _xor(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{s.xor,SECRET}``: the bytes of a text combined with a repeated secret."""
    secret = text_of(arguments[0])
    if not secret:
        return FAILED
    data, key = _bytes(text), _bytes(secret)
    size = len(data)
    mask = (key * (size // len(key) + 1))[:size]
    made = int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")
    return _string(made.to_bytes(size, "little"))


def _escaped(allowed: str) -> Change:
    """``{s.escape.user}``, ``{s.escape.param}``: percent-encoding of all but some characters."""
    plain = frozenset((string.ascii_letters + string.digits + allowed).encode())
    table = [chr(byte) if byte in plain else f"%{byte:02x}" for byte in range(256)]

    def change(text: str, *_: object) -> Value:
        return "".join([table[byte] for byte in _bytes(text)])

    return change


def _percent_decoded(text: str, *_: object) -> Value:
    """``{s.unescape.user}``, ``{s.unescape.param}``: the text of percent-encoding."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        return FAILED
    return _string(unquote_to_bytes(text))


def _hashed(name: str) -> Change:
    """``{s.md5}``, ``{s.sha1}`` to ``{s.sha512}``: a digest in hexadecimal."""
    return lambda text, *_: hashlib.new(name, _bytes(text), usedforsecurity=False).hexdigest()


def _keyed(name: str) -> Change:
    """``{s.sha1_hmac,KEY}`` to ``{s.sha512_hmac,KEY}``: an HMAC in hexadecimal."""

    def change(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
        key = text_of(arguments[0])
        return FAILED if key is None else hmac.new(_bytes(key), _bytes(text), name).hexdigest()

    return change


def _is_ip(version: int | None) -> Change:
    """``{ip.isip}``, ``{ip.isip4}``, ``{ip.isip6}``: 1 if a text is an IP address, otherwise 0."""

    def change(text: str, *_: object) -> Value:
        address = parse_ip(text)
        return int(address is not None and version in (None, address.version))

    return change


def _pton(text: str, *_: object) -> Value:
    """``{ip.pton}``: a textual address as packed bytes."""
    address = parse_ip(text)
    return FAILED if address is None else address.packed.decode("latin-1")


def _packed(text: str) -> int | None:
    """The IP version of a packed address of this length; None if the length is another."""
    return {4: 4, 16: 6}.get(len(text))


def _ntop(text: str, *_: object) -> Value:
    """``{ip.ntop}``: a packed address as text."""
    if _packed(text) is None or not max(text) < "\u0100":
        return FAILED
    data = text.encode("latin-1")
    if len(data) == 4:
        return str(IPv4Address(data))
    return ":".join(f"{data[i] << 8 | data[i + 1]:x}" for i in range(0, 16, 2))


def _family(text: str, *_: object) -> Value:
    """``{ip.family}``: ``INET`` or ``INET6`` of a packed address."""
    version = _packed(text)
    return FAILED if version is None else {4: "INET", 6: "INET6"}[version]


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
        return FAILED
    if int(bits) > inside.max_prefixlen or address.version != inside.version:
        return FAILED
    return int(address in ip_network((str(inside), int(bits)), strict=False))


def _is_private(text: str, *_: object) -> Value:
    """``{ip.isprivate}``: 1 for an address of RFC 1918 or RFC 6598, otherwise 0."""
    address = parse_ip(text)
    return int(isinstance(address, IPv4Address) and any(address in net for net in _PRIVATE))


_BACKSLASHED: Final = {ord(char): f"\\{char}" for char in "'\"\\"}
_USER: Final = "-_.!~*'()&=+$,;?/"
_PARAMETER: Final = "-_.!~*'()[]/:&+$"
_BLANKS: Final = " \t\r\n"

CHANGES: Final[dict[str, tuple[str, Change]]] = {
    # Arguments: n: number, s: text, c: one literal character, f: fixed text; those after ? are
    # optional.
    "s.len": ("", lambda text, *_: len(text)),
    "s.int": ("", _to_int),
    "s.md5": ("", _hashed("md5")),
    "s.crc32": ("", lambda text, *_: str(zlib.crc32(_bytes(text)))),
    "s.tolower": ("", lambda text, *_: text.lower()),
    "s.toupper": ("", lambda text, *_: text.upper()),
    "s.encode.hexa": ("", lambda text, *_: _bytes(text).hex()),
    "s.decode.hexa": ("", _decode_hexa),
    "s.hex2dec": ("", _hex2dec),
    "s.dec2hex": ("", _dec2hex),
    "s.escape.common": ("", lambda text, *_: text.translate(_BACKSLASHED)),
    "s.unescape.common": ("", lambda text, *_: re.sub(r"\\(['\"\\])", r"\1", text)),
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
    "s.b64encode": ("", lambda text, *_: base64.b64encode(_bytes(text)).decode()),
    "s.b64decode": ("", _b64decode),
    "s.xor": ("s", _xor),
    "s.trim": ("", lambda text, *_: text.strip(_BLANKS)),
    "s.trimr": ("", lambda text, *_: text.rstrip(_BLANKS)),
    "s.triml": ("", lambda text, *_: text.lstrip(_BLANKS)),
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
}


SLOW: Final = frozenset(
    {*STRUCTURED, "s.unescape.common", "s.unescape.user", "s.unescape.param", "s.select"}
)
"""Transformations that split a text into parts. They cost `LIST_CHANGE` instead of `CHANGE`."""


def find(transformation: Transformation) -> tuple[str, Change]:
    """Find a transformation by its OpenSIPS name, in any case.

    Returns:
        the letters of its arguments, as in `CHANGES`, and its function.

    Raises:
        Problem: it does not exist, is not supported, or needs a SIP message.
    """
    name = f"{transformation.kind}.{transformation.name}".lower()
    if name in CHANGES:
        return CHANGES[name]
    shown = f"{{{transformation.kind}.{transformation.name}}}"
    if transformation.kind.lower() in _SIP:
        raise Problem(f"{shown} needs a SIP message; a filter route has none")
    if name in ("re.subst", "s.eval"):
        raise Problem(f"{shown} is not there: what it costs has no bound")
    raise Problem(f"there is no transformation {shown}{nearest(name, CHANGES)}")
