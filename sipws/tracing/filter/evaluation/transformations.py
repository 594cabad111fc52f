"""What ``{…}`` does to a variable's value: the texts (``s``), addresses (``ip``) and lists.

As OpenSIPS 3.6 does it (``transformations.c``), its NULLs and its failures included: NULL stays
NULL, and what cannot be done is `FAILED`.
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
    address_of,
    number_of,
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
    number = number_of(value)
    if number is not None:
        return number
    found = _INTEGER.match(text[:20])
    if not found:
        return Worded(0, text)
    # OpenSIPS applies the sign last, and stops before that at what is no digit.
    read = int(found[0]) if found.end() == len(text) else abs(int(found[0]))
    return Worded(wrap(read), text)


def _substr(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
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
    index = number_of(arguments[0])
    if index is None:
        return FAILED
    fields = text.split(str(arguments[1])[:1])
    if not -len(fields) <= index < len(fields):
        return None
    return fields[index]


def _index(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    needle = text_of(arguments[0])
    start = number_of(arguments[1]) if len(arguments) > 1 else 0
    if not needle or start is None:
        return FAILED
    found = text.find(needle, _start(text, start))
    return None if found < 0 else found


def _rindex(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    needle = text_of(arguments[0])
    start = number_of(arguments[1]) if len(arguments) > 1 else len(text) - 1
    if not needle or start is None:
        return FAILED
    last = min(_start(text, start), len(text) - 1)
    # Backwards `find` is linear, which `rfind` is not.
    backwards = text[: last + len(needle)][::-1]
    found = backwards.find(needle[::-1])
    return None if found < 0 else len(backwards) - len(needle) - found


def _start(text: str, start: int) -> int:
    return start if start >= 0 or not text else start % len(text)


def _fill_left(text: str, value: Value, arguments: tuple[Value, ...]) -> Value:
    padding = _padding(text, arguments)
    if padding is None:
        return value
    pad, size = padding
    return (pad * (size // len(pad) + 1))[-size:] + text if size else text


def _fill_right(text: str, value: Value, arguments: tuple[Value, ...]) -> Value:
    padding = _padding(text, arguments)
    if padding is None:
        return value
    pad, size = padding
    return text + (pad * (size // len(pad) + 1))[:size]


def _padding(text: str, arguments: tuple[Value, ...]) -> tuple[str, int] | None:
    pad, size = str(arguments[0]), (number_of(arguments[1]) or 0) - len(text)
    if size < 0 or size > MAX_TEXT:
        return None
    if len(pad) > 2 and pad[0] == pad[-1] and pad[0] in "'\"":
        pad = pad[1:-1]
    return pad, size


def _width(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    width = number_of(arguments[0])
    if width is None or not 0 < width <= MAX_TEXT:
        return FAILED
    return text[:width].ljust(width)


def _decode_hexa(text: str, *_: object) -> Value:
    try:
        return _string(bytes.fromhex(text[: len(text) // 2 * 2])) if " " not in text else FAILED
    except ValueError:
        return FAILED


def _hex2dec(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    if number_of(value) is not None:
        return value
    return wrap(int(text, 16)) if re.fullmatch("[0-9A-Fa-f]{1,8}", text) else FAILED


def _dec2hex(text: str, value: Value, _: tuple[Value, ...]) -> Value:
    number = number_of(value)
    if number is None:
        if not _INTEGER.fullmatch(text[:20]):
            return FAILED
        number = wrap(int(text[:20]))
    return f"{number & 0xFFFFFFFF:x}"


def _b64decode(text: str, *_: object) -> Value:
    try:
        return _string(base64.b64decode(_bytes(text)))
    except binascii.Error:
        return FAILED


def _xor(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    secret = text_of(arguments[0])
    if not secret:
        return FAILED
    data, key = _bytes(text), _bytes(secret)
    size = len(data)
    mask = (key * (size // len(key) + 1))[:size]
    made = int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")
    return _string(made.to_bytes(size, "little"))


def _escaped(allowed: str) -> Change:
    plain = frozenset((string.ascii_letters + string.digits + allowed).encode())
    table = [chr(byte) if byte in plain else f"%{byte:02x}" for byte in range(256)]

    def change(text: str, *_: object) -> Value:
        return "".join([table[byte] for byte in _bytes(text)])

    return change


def _percent_decoded(text: str, *_: object) -> Value:
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        return FAILED
    return _string(unquote_to_bytes(text))


def _hashed(name: str) -> Change:
    return lambda text, *_: hashlib.new(name, _bytes(text), usedforsecurity=False).hexdigest()


def _keyed(name: str) -> Change:
    def change(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
        key = text_of(arguments[0])
        return FAILED if key is None else hmac.new(_bytes(key), _bytes(text), name).hexdigest()

    return change


def _is_ip(version: int | None) -> Change:
    def change(text: str, *_: object) -> Value:
        address = address_of(text)
        return int(address is not None and version in (None, address.version))

    return change


def _pton(text: str, *_: object) -> Value:
    address = address_of(text)
    return FAILED if address is None else address.packed.decode("latin-1")


def _packed(text: str) -> int | None:
    """The version of IP whose packed address has that length."""
    return {4: 4, 16: 6}.get(len(text))


def _ntop(text: str, *_: object) -> Value:
    if _packed(text) is None or not max(text) < "\u0100":
        return FAILED
    data = text.encode("latin-1")
    if len(data) == 4:
        return str(IPv4Address(data))
    return ":".join(f"{data[i] << 8 | data[i + 1]:x}" for i in range(0, 16, 2))


def _family(text: str, *_: object) -> Value:
    version = _packed(text)
    return FAILED if version is None else {4: "INET", 6: "INET6"}[version]


def _resolve(text: str, *_: object) -> Value:
    # A name server would keep the event loop waiting: only addresses resolve, to themselves.
    return written(str(address)) if (address := address_of(text)) is not None else None


def _matches(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    address, net = address_of(text), text_of(arguments[0]) or ""
    base, slash, bits = net.partition("/")
    inside = address_of(base)
    if address is None or inside is None or not slash or not re.fullmatch("[0-9]{1,3}", bits):
        return FAILED
    if int(bits) > inside.max_prefixlen or address.version != inside.version:
        return FAILED
    return int(address in ip_network((str(inside), int(bits)), strict=False))


def _is_private(text: str, *_: object) -> Value:
    address = address_of(text)
    return int(isinstance(address, IPv4Address) and any(address in net for net in _PRIVATE))


_BACKSLASHED: Final = {ord(char): f"\\{char}" for char in "'\"\\"}
_USER: Final = "-_.!~*'()&=+$,;?/"
_PARAMETER: Final = "-_.!~*'()[]/:&+$"
_BLANKS: Final = " \t\r\n"

CHANGES: Final[dict[str, tuple[str, Change]]] = {
    # The arguments: n a number, s a text, c one character as it stands, ? none from here on.
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
"""Those that cut a text into parts, of one character perhaps: they are charged more."""


def find(transformation: Transformation) -> tuple[str, Change]:
    """What a transformation does, and which arguments it takes.

    Raises:
        Problem: there is none of that name, or it needs a SIP message.
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
