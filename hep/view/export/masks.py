"""Credentials kept out of exports. Pure, and linear in the bytes.

An export leaves the house, in a ticket or by mail. Its messages lose what lets another one act as
their sender: values of ``Authorization`` and the like (of Digest the proofs alone, since the rest
is what one looks at), cookies, tokens, passwords in URIs and keys of media (``a=crypto``,
``a=ice-pwd``).
If the end of a credential is unclear, too much is masked rather than too little.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from hep.sip import end_of_head
from hep.view.model.record import Kind

MASK: Final = "***"
"""The replacement for a credential of any length."""

_VALUE: Final = r"[ \t]*+:[ \t]*+((?:[^\r\n]|\r?\n[ \t]|\r(?!\n))*+)"
_START: Final = r"(?:\A|(?<=[\r\n]))[ \t]*+"
_AUTHORIZATION: Final = re.compile(
    _START + r"([\w-]{0,64}?authorization|(?:proxy-)?authentication-info)" + _VALUE, re.IGNORECASE
)
_SECRET_HEADER: Final = re.compile(
    _START + r"(identity|y|(?:set-)?cookie2?|x-[\w-]{0,64}?key"
    r"|[\w-]{0,64}?(?:token|secret|passw|ticket|api-?key|credential|bearer|jwt|assertion|sessid|csrf|xsrf|signature|x-auth)[\w-]{0,64}+)"
    + _VALUE,
    re.IGNORECASE,
)
_SUBPROTOCOL: Final = re.compile(_START + r"(sec-websocket-protocol)" + _VALUE, re.IGNORECASE)
_is_subprotocol: Final = re.compile(r"[A-Za-z]{1,12}(?:[.-][A-Za-z0-9]{1,8}){0,3}|\*\*\*").fullmatch
_SCHEME: Final = re.compile(r"([A-Za-z][\w-]{0,31})(?:\s++|\Z)")
_PROOF: Final = re.compile(
    r"\b(response|cnonce|rspauth|nextnonce|opaque)(\s*+=\s*+)(?:\"(?:[^\"\\]|\\.)*+\"?|[^\s,]++)",
    re.IGNORECASE | re.DOTALL,
)
_are_parameters: Final = re.compile(
    r"(?:\s*+[\w-]{1,64}\s*+=\s*+(?:\"(?:[^\"\\]|\\.)*+\"|[^\s\",=]++)\s*+(?:,|\Z))++", re.DOTALL
).fullmatch
_USER_PASSWORD: Final = re.compile(
    # What no @ follows is passed over at once, so that each byte is read once.
    r"(\b(?:sips?|wss?|https?):(?://)?[^\s:@<>\"/;?]{0,256}+:)([^\s@<>\"/]++)(@?)",
    re.IGNORECASE,
)
_NAMES: Final = (
    r"(?:[\w.-]{0,32}?(?:token|secret|passw|pwd|ticket|api[_-]?key|credential|jwt|assertion"
    r"|signature|session_?id|sessid|bearer|authorization|otp)[\w.-]{0,32}+"
    r"|auth|sig|pin|pass|key|code|sid|session)"
)
_PARAMETER: Final = re.compile(r"([?&;]" + _NAMES + r"(?:=|%3D))([^\s&;>\"<,]++)", re.IGNORECASE)
_MEMBER: Final = re.compile(
    r"(\\?\"" + _NAMES + r"\\?\"\s*+:\s*+\\?\")((?:[^\"\\\r\n]|\\[^\"])++)", re.IGNORECASE
)
_JWT: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}[A-Za-z0-9_.=-]*+")
_BEARER: Final = re.compile(
    r"(?<![A-Za-z0-9])((?:bearer|basic|dpop)(?:[ \t]|%20)++)(?!\*\*\*)"
    r"([A-Za-z0-9._~+/-]{6,}+=*+)(?!\s*+=)",
    re.IGNORECASE,
)
_MEDIA: Final = re.compile(
    r"(?m)^(a=crypto:[^\r\n]*?inline:|a=ice-pwd:|a=key-mgmt:|a=identity:|k=)([^\r\n]++)"
)
_ESCAPED_HEADER: Final = re.compile(
    r"(?<=\\n)([\w-]{0,64}?(?:authorization|cookie2?|token|secret|password|key|protocol))(?:: ?)"
    r"((?:[^\\\r\n\"]|\\(?!r|n))++)",
    re.IGNORECASE,
)
_KEPT_HEADERS: Final = re.compile(r"sec-websocket-(?:key|accept|version)", re.IGNORECASE)
_LENGTH: Final = re.compile(r"(\n(?:content-length|l)[ \t]*+:[ \t]*+)([0-9]{1,9})(?![0-9])", re.I)


def text_without_credentials(text: str) -> str:
    """Mask credentials in a text that may be a message, a handshake or a part of one.

    Args:
        text: any text.
    """
    text = _AUTHORIZATION.sub(_authorization, text)
    text = _SUBPROTOCOL.sub(_subprotocols, text)
    text = _SECRET_HEADER.sub(_secret, text)
    if "\\n" in text:
        # JSON that is quoted, or cut and so no JSON.
        text = _ESCAPED_HEADER.sub(_escaped, text)
    text = _USER_PASSWORD.sub(_password, text)
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    if '"' in text:
        text = _MEMBER.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    return _MEDIA.sub(rf"\1{MASK}", _JWT.sub(MASK, text))


def without_credentials(payload: bytes, kind: Kind) -> bytes:
    """Mask credentials in the payload of a packet.

    Args:
        payload: of a packet.
        kind: what it is. Other than SIP, events and log lines are returned as they are.

    Returns:
        the payload; of a SIP message the Content-Length follows the change of the body.
    """
    if kind is Kind.SIP:
        return rewritten(payload, text_without_credentials)
    if kind is Kind.EVENT:
        return rewritten_event(payload, text_without_credentials)
    if kind is Kind.LOG:
        return encoded(text_without_credentials(decoded(payload)))
    return payload


def decoded(payload: bytes) -> str:
    """Bytes as text, without loss: `encoded` makes the same bytes of it."""
    return payload.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """A text as bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def rewritten(message: bytes, change: Callable[[str], str]) -> bytes:
    """Change head and body of a SIP message, and its Content-Length by what the body grew.

    Args:
        message: a SIP message.
        change: is called with the head and with the body.
    """
    at = end_of_head(message)
    body_at = at
    for ending in (b"\r\n\r\n", b"\n\r\n", b"\n\n"):
        if message.startswith(ending, at):
            body_at = at + len(ending)
            break
    body = message[body_at:]
    changed = encoded(change(decoded(body))) if body else b""
    head = change(decoded(message[:at]))
    grown = len(changed) - len(body)
    if grown:
        head = _LENGTH.sub(
            lambda found: f"{found[1]}{max(0, int(found[2]) + grown)}", head, count=1
        )
    return encoded(head) + message[at:body_at] + changed


def rewritten_event(payload: bytes, change: Callable[[str], str]) -> bytes:
    """Change the texts of an event.

    Args:
        payload: of an event: JSON, or another text.
        change: is called with each text.
    """
    text = decoded(payload)
    try:
        read = json.loads(text.strip("\0 \t\r\n"), parse_int=str, parse_float=str, strict=False)
        # What cannot be written again is as no JSON.
        if isinstance(read, dict):
            changed = _members(read, change)
            if changed == read:
                return payload
            return json.dumps(changed, indent="\t").encode()
    except (ValueError, RecursionError):
        pass
    return encoded(change(text))


def _members(member: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    if isinstance(member, dict):
        if depth > _DEEPEST:
            return {}
        return {
            change(name): MASK
            if isinstance(said, str) and _is_secret_name(name)
            else _members(said, change, depth + 1)
            for name, said in member.items()
        }
    if isinstance(member, list):
        return [] if depth > _DEEPEST else [_members(each, change, depth + 1) for each in member]
    return change(member) if isinstance(member, str) else member


_DEEPEST: Final = 8
_is_secret_name: Final = re.compile(_NAMES, re.IGNORECASE).fullmatch


def _password(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}@" if found[3] else found[0]


def _authorization(header: re.Match[str]) -> str:
    value = header[2]
    before = header[0][: len(header[0]) - len(value)]
    if header[1][-4:].lower() == "info":
        return before + _PROOF.sub(rf"\1\2{MASK}", value)
    scheme = _SCHEME.match(value)
    if scheme is None:
        return before + MASK if value.strip() else header[0]
    behind = value[scheme.end() :]
    if not behind:
        # A credential without its scheme looks like one.
        return before + MASK
    if scheme[1].lower() == "digest" and _are_parameters(behind):
        return before + scheme[0] + _PROOF.sub(_quoted_mask, behind)
    return before + scheme[0] + MASK


def _quoted_mask(parameter: re.Match[str]) -> str:
    return f'{parameter[1]}{parameter[2]}"{MASK}"'


def _secret(header: re.Match[str]) -> str:
    if not header[2].strip() or _KEPT_HEADERS.fullmatch(header[1]):
        return header[0]
    return header[0][: len(header[0]) - len(header[2])] + MASK


def _escaped(header: re.Match[str]) -> str:
    if _KEPT_HEADERS.fullmatch(header[1]):
        return header[0]
    return header[0][: len(header[0]) - len(header[2])] + MASK


def _subprotocols(header: re.Match[str]) -> str:
    words = [word.strip() for word in header[2].split(",")]
    shown: list[str] = []
    for word in words:
        named = bool(shown) and _is_token_name(shown[-1]) is not None
        shown.append(word if _is_subprotocol(word) and not named else MASK)
    return header[0][: len(header[0]) - len(header[2])] + ", ".join(shown)


_is_token_name: Final = re.compile(_NAMES, re.IGNORECASE).fullmatch
