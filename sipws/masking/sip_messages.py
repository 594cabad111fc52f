"""Credentials of SIP messages kept out of traces. Pure.

``Authorization`` and ``Proxy-Authorization`` carry them (RFC 3261 sections 20.7 and 20.28). A
Bearer token (RFC 8898) and a Basic password are the credential itself: who reads one can use it.
A Digest response cannot be used again, and is what one looks at when a registration fails.

Nearly all messages have no such header, and most that have one hold a Digest. Both are recognised
by their ``z``: each of the names has one, in any case, and a message has few others. A search for
one byte costs little, so the tracer does that before it calls what is here.
"""

import re
from collections.abc import Callable
from typing import Final, Literal

from sipws.masking.credentials import BLANKS, MASK, SCHEME
from sipws.sip import end_of_head

Scope = Literal["tokens", "all", "none"]
"""What is masked: all but Digest, that too, or nothing."""

Mask = Callable[[bytes], bytes]
"""Returns a message without its credentials; itself where it has none."""

MOST_LOOKS: Final = 24
"""Letters ``z`` of a message that are looked at one by one; what has more is searched."""

_LONGEST_NAME: Final = 100
"""Bytes that a header's name may have before its last word, as in ``X-Authorization``."""

_USUAL: Final = b"ation: Digest "
_USUAL_SIZE: Final = len(_USUAL)
_CAPITAL_Z: Final = ord("Z")
_LOWER: Final = 0x20
_I: Final = ord("i")

_NAMES: Final = re.compile(rb"authorization|authentication-info", re.IGNORECASE)
_LINE_START: Final = re.compile(rb"(?:\A|[\r\n])[ \t]*[-!#$%&'*+.^_`|~0-9A-Za-z]*\Z")
_VALUE: Final = re.compile(
    # A blank or an equals sign in the place of the colon is no SIP, and yet shows the credential.
    rb"(?:[ \t\0]*+(?:\r?\n[ \t]++)?+:|[ \t=]++)(?:[^\r\n]|\r?\n[ \t]|\r(?!\n))*+"
)
_AROUND: Final = BLANKS + b":="


def masker(scope: Scope) -> Mask | None:
    """What masks the credentials of a SIP message.

    Args:
        scope: ``tokens`` for all but Digest, ``all`` for Digest and ``Authentication-Info`` too.

    Returns:
        a function that takes a message; None for ``none``.
    """
    return {"tokens": without_tokens, "all": without_credentials, "none": None}[scope]


def without_tokens(message: bytes) -> bytes:
    """A message without its credentials other than Digest."""
    # Descriptions of media are full of the letter.
    end = _head(message)
    at = message.find(b"z", 0, end)
    looks = 0
    while at >= 0 and looks < MOST_LOOKS:
        if message[at - 1] | _LOWER == _I and message[at + 1 : at + 1 + _USUAL_SIZE] != _USUAL:
            break
        looks += 1
        at = message.find(b"z", at + 1, end)
    if at < 0 and not (_CAPITAL_Z in message and b"IZ" in message[:end].upper()):
        return message
    return _masked(message, end, keeps_digest=True)


def without_credentials(message: bytes) -> bytes:
    """A message without its credentials, Digest too."""
    return _masked(message, _head(message), keeps_digest=False)


def in_quote(text: str, scope: Scope) -> str:
    """A text that may quote SIP, whole or in part, without the credentials of it.

    Where the head of what is quoted ends is not known, so they are looked for in all of it.

    Args:
        text: for a person to read.
        scope: as `masker` takes it.
    """
    if scope == "none":
        return text
    data = text.encode("utf-8", "surrogatepass")
    masked = _masked(data, len(data), keeps_digest=scope == "tokens")
    return text if masked is data else masked.decode("utf-8", "replace")


def _head(message: bytes) -> int:
    """Where the head ends: empty lines before a start line end none (RFC 3261 section 7.5)."""
    rest = message.lstrip(b"\r\n")
    return len(message) - len(rest) + end_of_head(rest)


def _masked(message: bytes, end: int, *, keeps_digest: bool) -> bytes:
    masked: list[bytes] = []
    done = 0
    for name in _NAMES.finditer(message, 0, end):
        start = name.start()
        if start < done or not _LINE_START.search(message, max(0, start - _LONGEST_NAME), start):
            continue
        value = _VALUE.match(message, name.end(), end)
        if value is None or not (core := value[0].lstrip(_AROUND).rstrip(BLANKS)):
            continue
        scheme = SCHEME.match(core)
        is_digest = scheme is not None and scheme[1].lower() == b"digest"
        if keeps_digest and (is_digest or name[0][-4:].lower() == b"info"):
            continue
        kept = value.start() + value[0].index(core)
        told = MASK
        if scheme is not None:
            told = scheme[1] + (b" " + MASK if scheme.end() < len(core) else b"")
        masked += message[done:kept], told
        done = kept + len(core)
    return b"".join([*masked, message[done:]]) if masked else message
