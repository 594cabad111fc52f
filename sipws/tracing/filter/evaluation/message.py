"""The variables of the dummy SIP message of a filter route.

OpenSIPS runs a filter route with a dummy request (``get_dummy_sip_msg``). A script can change its
request URI and its destination URI. All other variables of SIP messages keep their value.
"""

from typing import Final

from sipws.tracing.filter.bounds import SHORT_TEXT
from sipws.tracing.filter.evaluation.run import Getter, Run, Setter
from sipws.tracing.filter.evaluation.uris import Change, Uri, parse_uri, rewritten
from sipws.tracing.filter.evaluation.values import (
    Bare,
    Numbered,
    Value,
    Worded,
    number_of,
    text_of,
)

RURI: Final = "sip:user@dummy.com"

MESSAGE: Final = (
    f"DUMMY {RURI} SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKdummy\r\n"
    "To: <sip:to@dummy.com>\r\n"
    "From: <sip:from@dummy.com>;tag=1\r\n"
    "Call-ID: dummy-1\r\n"
    "CSeq: 1 DUMMY\r\n\r\n"
)

HEADERS: Final = {
    name.lower(): value
    for name, value in (line.split(": ", 1) for line in MESSAGE.splitlines()[1:] if line)
}
"""Header fields of the dummy request, by name in lower case."""

_OTHER_METHOD: Final = 1 << 14

_GREATEST_Q: Final = 1000
"""Greatest ``$ru_q``, in thousandths."""

_NULL: Final = (
    "ad adu ai an ar au aU auth.alg auth.cnonce auth.nc auth.nonce auth.opaque auth.qop auth.resp"
    " challenge.algorithm challenge.realm challenge.nonce challenge.opaque challenge.qop"
    " challenge.ik challenge.ck"
    " cT cl ct di dip dir ds err.info err.rreason fn hdr_name msg.branch.last_idx path pd pn pu pU"
    " rb re rr rs rt tn tt ua"
)

_BRANCH: Final = (
    "branch msg.branch msg.branch.uri msg.branch.duri msg.branch.path msg.branch.q"
    " msg.branch.flags msg.branch.socket sdp"
)
"""Variables that are NULL until the script sets them."""

FIELDS: Final[dict[str, Value]] = {
    "ou": RURI,
    "ouri": RURI,
    "oU": "user",
    "od": "dummy.com",
    "op": 5060,
    "oP": Numbered("udp", 1),
    "fu": "sip:from@dummy.com",
    "from": "sip:from@dummy.com",
    "fU": "from",
    "from.user": "from",
    "fd": "dummy.com",
    "from.domain": "dummy.com",
    "ft": "1",
    "tu": "sip:to@dummy.com",
    "to": "sip:to@dummy.com",
    "tU": "to",
    "to.user": "to",
    "td": "dummy.com",
    "to.domain": "dummy.com",
    "Au": "from@dummy.com",
    "ci": "dummy-1",
    "cs": "1",
    "rm": Numbered("DUMMY", _OTHER_METHOD),
    "mb": MESSAGE,
    "ml": len(MESSAGE),
    "mi": 0,
    "err.class": 0,
    "err.level": 0,
    "err.rcode": 0,
    "msg.is_request": Worded(1, "true"),
    "msg.type": "request",
    **dict.fromkeys(_NULL.split()),
}
"""Variables that a script cannot change."""


def _ruri(run: Run) -> str:
    changed: str | None = run.variables.get("$ru")
    return changed or RURI


def _parsed(run: Run, text: str) -> Uri | None:
    if len(text) > SHORT_TEXT:
        run.spend(len(text))
    return parse_uri(text)


def _whole_ruri(run: Run) -> Value:
    """``$ru``: the request URI; NULL if it is not a URI."""
    text = _ruri(run)
    return text if text is RURI or _parsed(run, text) is not None else None


def _ruri_part(part: str) -> Getter:
    """``$rU``, ``$rd``, ``$rp``, ``$rP``: a part of the request URI."""

    def get(run: Run) -> Value:
        uri = _parsed(run, _ruri(run))
        return None if uri is None else _part(uri, part)

    return get


def _duri(run: Run) -> Value:
    """``$du``: the destination URI; NULL until it is set."""
    changed: str | None = run.variables.get("$du")
    return changed or None


def _duri_part(part: str) -> Getter:
    """``$dd``, ``$dp``, ``$dP``: a part of the destination URI."""

    def get(run: Run) -> Value:
        text = run.variables.get("$du")
        uri = _parsed(run, text) if text else None
        return None if uri is None else _part(uri, part)

    return get


def _part(uri: Uri, part: str) -> Value:
    match part:
        case "user":
            return uri.user or None
        case "host":
            return uri.host or None
        case "port":
            return uri.port_number if not uri.port else Worded(int(uri.port), uri.port)
    return Numbered(uri.transport, uri.transport_number)


def set_ruri(run: Run, text: str) -> None:
    """Set the request URI; an empty text restores the original."""
    run.put("$ru", text or None)
    if text:
        run.variables["$ru_q"] = -1


def rewrite_ruri(run: Run, part: Change, value: str = "", count: int = 0) -> bool:
    """Replace a part of the request URI; returns False if that is not possible.

    Args:
        run: the decision.
        part: as for `uris.rewritten`.
        value: as for `uris.rewritten`.
        count: as for `uris.rewritten`.
    """
    return _rewrite(run, "$ru", _ruri(run), part, value, count)


def _rewrite(run: Run, key: str, text: str, part: Change, value: str = "", count: int = 0) -> bool:
    if len(text) + len(value) > SHORT_TEXT:
        run.spend(len(text) + len(value))
    made = rewritten(text, part, value, count)
    return made is not None and run.put(key, made)


def set_duri(run: Run, text: str) -> None:
    """Set the destination URI; an empty text removes it."""
    run.put("$du", text or None)


def _put_ruri(run: Run, value: Value, operator: str) -> bool:
    text = text_of(value)
    if text is None:
        return False
    set_ruri(run, text)
    return True


def _put_q(run: Run, value: Value, operator: str) -> bool:
    number = number_of(value)
    if number is None:
        return False
    run.variables["$ru_q"] = min(number, _GREATEST_Q)
    return True


def _put_duri(run: Run, value: Value, operator: str) -> bool:
    text = "" if value is None else text_of(value)
    if text is None:
        return False
    set_duri(run, text)
    return True


def _put_ruri_part(part: Change, takes_null: bool) -> Setter:
    def put(run: Run, value: Value, operator: str) -> bool:
        text = _new_part(part, takes_null, value)
        return text is not None and rewrite_ruri(run, part, text)

    return put


def _put_duri_part(part: Change, takes_null: bool) -> Setter:
    def put(run: Run, value: Value, operator: str) -> bool:
        text, old = _new_part(part, takes_null, value), run.variables.get("$du")
        if text is None or not old or (part == "host" and not text):
            return False
        return _rewrite(run, "$du", old, part, text)

    return put


def _new_part(part: Change, takes_null: bool, value: Value) -> str | None:
    """The text that a part becomes; None if the value cannot be assigned."""
    if value is None:
        return "" if takes_null else None
    if part == "port" and isinstance(value, Bare):
        return str(int(value))
    return text_of(value)


def _kept(name: str) -> Getter:
    return lambda run: run.variables.get(name)


GETTERS: Final[dict[str, Getter]] = {
    "ru": _whole_ruri,
    "ruri": _whole_ruri,
    "rU": _ruri_part("user"),
    "ruri.user": _ruri_part("user"),
    "rd": _ruri_part("host"),
    "ruri.domain": _ruri_part("host"),
    "rp": _ruri_part("port"),
    "rP": _ruri_part("transport"),
    "ru_q": lambda run: run.variables.get("$ru_q", -1),
    "du": _duri,
    "duri": _duri,
    "dd": _duri_part("host"),
    "dp": _duri_part("port"),
    "dP": _duri_part("transport"),
    **{name: _kept(f"${name}") for name in _BRANCH.split()},
}
"""Variables that a script can change, or whose value depends on these."""

SETTERS: Final[dict[str, Setter]] = {
    "ru": _put_ruri,
    "ruri": _put_ruri,
    "rU": _put_ruri_part("user", takes_null=True),
    "ruri.user": _put_ruri_part("user", takes_null=True),
    "rd": _put_ruri_part("host", takes_null=False),
    "ruri.domain": _put_ruri_part("host", takes_null=False),
    "rp": _put_ruri_part("port", takes_null=True),
    "ru_q": _put_q,
    "du": _put_duri,
    "duri": _put_duri,
    "dd": _put_duri_part("host", takes_null=False),
    "dp": _put_duri_part("port", takes_null=True),
}
"""Assignments to the variables of the request URI and the destination URI."""

STORED: Final = frozenset(_BRANCH.split())
"""Variables that keep what is assigned to them."""

NAMES: Final = frozenset({*FIELDS, *GETTERS})
"""All variables of a SIP message without brackets."""

INDEXED: Final = frozenset(
    {name for name in STORED if name.startswith("msg.branch.")} | {"ct", "cT", "rb", "hdr_name"}
)

WITH_FIELD: Final = frozenset(
    {
        "branch", "branch.flag", "ct.fields", "msg.branch.attr", "msg.branch.flag", "rb", "sdp",
        "sdp.line", "sdp.session", "sdp.stream", "sdp.stream.idx",
    }
)  # fmt: skip
"""Variables of SIP messages with a name in brackets; all are NULL."""
