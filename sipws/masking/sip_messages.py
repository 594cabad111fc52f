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

from hep.sip import end_of_head, first
from sipws.masking.credentials import BLANKS, MASK, SCHEME

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
_HYPHEN: Final = ord("-")

BEFORE_Z: Final = b"iI \t\v\f"
"""What stands before the letter in a name with credentials; blanks where a name is broken there."""

_FOLD: Final = rb"(?:\r?\n[ \t]++|[\v\f]++)?+"
_NAMES: Final = re.compile(
    # A name that goes on in the next line is none to us, and may be one to others.
    b"|".join(
        _FOLD.join(b"[%c%c]" % (each, each ^ _LOWER) if each != _HYPHEN else b"-" for each in name)
        for name in (b"authorization", b"authentication-info")
    )
)
_LINE_START: Final = re.compile(rb"(?:\A|[\r\n])[ \t]*[-!#$%&'*+.^_`|~0-9A-Za-z]*\Z")
_VALUE: Final = re.compile(
    # A blank or an equals sign in the place of the colon is not SIP, and yet shows the credential.
    rb"(?:[ \t\0\v\f]*+(?:\r?\n[ \t]++)?+:|[ \t\v\f=]++)(?:[^\r\n]|\r?\n[ \t]|\r(?!\n))*+"
)
_AROUND: Final = BLANKS + b":=\v\f"
_URI_START: Final = re.compile(rb"[?&][A-Za-z-]*\Z")
_URI_VALUE: Final = re.compile(rb"=([^&>\s\"]++)")
"""The value of a header in a URI (RFC 3261 section 19.1.1)."""
_are_parameters: Final = re.compile(
    rb"(?:\s*+[^\s\",=]++\s*+=\s*+(?:\"[^\"\\]*+(?:\\.[^\"\\]*+)*+\"|[^\s\",=][^\s\",]*+)"
    rb"\s*+(?:,|\Z))++",
    re.DOTALL,
).fullmatch
"""Whether what stands behind the scheme is parameters alone, as of Digest: another scheme behind a
comma is none, nor is a token without a name (token68)."""
_content_type: Final = first("content-type")
_SIP_TYPES: Final = b"message/sip"
"""How the types of bodies begin that hold SIP, whole (RFC 3261 section 27.5) or in part (RFC
3420)."""
_DIGEST: Final = b"digest"
_SDP: Final = b"v="
_CR: Final = 0x0D
_GOES_ON: Final = (b"\n ", b"\n\t")
_CAPITALS: Final = re.compile(rb"Z(?<=[iI \t\v\f]Z)").search


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
    end = end_of_head(message)
    if _holds_sip(message, end):
        return _masked(message, len(message), keeps_digest=True)
    # Descriptions of media are full of the letter.
    at = message.find(b"z", 0, end)
    looks = 0
    while at >= 0 and looks < MOST_LOOKS:
        if message[at - 1] in BEFORE_Z and not _is_usual(message, at + 1, end):
            break
        looks += 1
        at = message.find(b"z", at + 1, end)
    if at < 0 and not (_CAPITAL_Z in message and _CAPITALS(message, 0, end)):
        return message
    return _masked(message, end, keeps_digest=True)


def without_credentials(message: bytes) -> bytes:
    """A message without its credentials, Digest too."""
    end = end_of_head(message)
    if _holds_sip(message, end):
        end = len(message)
    return _masked(message, end, keeps_digest=False)


def may_hold_sip(message: bytes, end: int) -> bool:
    """Whether a body need be looked at: nearly all are descriptions of media (SDP).

    Args:
        message: the whole message.
        end: where its head ends.
    """
    body = end + (4 if message[end] == _CR else 2) if end < len(message) else end
    return body < len(message) and message[body : body + 2] != _SDP


def _holds_sip(message: bytes, end: int) -> bool:
    return may_hold_sip(message, end) and _content_type(message).lower().startswith(_SIP_TYPES)


def _is_usual(message: bytes, behind: int, end: int) -> bool:
    """Whether a letter z is that of a Digest as nearly all write it."""
    start = behind + _USUAL_SIZE
    if message[behind:start] != _USUAL:
        return False
    line_end = message.find(b"\n", start, end)
    if line_end < 0:
        line_end = end
    # A line that goes on is looked at more closely.
    return message[line_end : line_end + 2] not in _GOES_ON and (
        _are_parameters(message, start, line_end) is not None
    )


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


def _masked(message: bytes, end: int, *, keeps_digest: bool) -> bytes:
    masked: list[bytes] = []
    done = 0
    for name in _NAMES.finditer(message, 0, end):
        start = name.start()
        if start < done:
            continue
        before = message[max(0, start - _LONGEST_NAME) : start]
        if _URI_START.search(before) and (value := _URI_VALUE.match(message, name.end(), end)):
            if not (keeps_digest and value[1][: len(_DIGEST)].lower() == _DIGEST):
                masked += message[done : value.start(1)], MASK
                done = value.end()
            continue
        if not _LINE_START.search(before):
            continue
        value = _VALUE.match(message, name.end(), end)
        if value is None or not (core := value[0].lstrip(_AROUND).rstrip(BLANKS)):
            continue
        scheme = SCHEME.match(core)
        if keeps_digest and (
            name[0][-4:].lower() == b"info"
            or (
                scheme is not None
                and scheme[1].lower() == _DIGEST
                and (scheme.end() == len(core) or _are_parameters(core, scheme.end()))
            )
        ):
            continue
        kept = value.start() + value[0].index(core)
        shown = MASK
        if scheme is not None:
            shown = scheme[1] + (b" " + MASK if scheme.end() < len(core) else b"")
        masked += message[done:kept], shown
        done = kept + len(core)
    return b"".join([*masked, message[done:]]) if masked else message
