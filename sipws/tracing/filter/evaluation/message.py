"""The variables of the dummy SIP message of a filter route.

OpenSIPS runs a filter route with a dummy request (``get_dummy_sip_msg``). `FIELDS` has its
variables. All other variables of SIP messages are NULL.
"""

from typing import Final

from sipws.tracing.filter.evaluation.values import Numbered, Value

MESSAGE: Final = (
    "DUMMY sip:user@dummy.com SIP/2.0\r\n"
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

_WRITABLE_NULL: Final = "branch dd dp du duri socket_out"
_NULL: Final = (
    "ad adu ai an ar au aU auth.alg auth.cnonce auth.nc auth.nonce auth.opaque auth.qop auth.resp"
    " cT cl ct dP di dip dir ds err.info err.rreason fn path pd pn pu pU rb re rr rs rt tn tt ua"
)

FIELDS: Final[dict[str, Value]] = {
    "ru": "sip:user@dummy.com",
    "ruri": "sip:user@dummy.com",
    "rU": "user",
    "ruri.user": "user",
    "rd": "dummy.com",
    "ruri.domain": "dummy.com",
    "rp": 5060,
    "ru_q": -1,
    "rP": Numbered("udp", 1),
    "ou": "sip:user@dummy.com",
    "ouri": "sip:user@dummy.com",
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
    "mf": "",
    "bf": "",
    "err.class": 0,
    "err.level": 0,
    "err.rcode": 0,
    **dict.fromkeys(f"{_WRITABLE_NULL} {_NULL}".split()),
}

WRITABLE: Final = frozenset(f"{_WRITABLE_NULL} ru ruri rU ruri.user rd ruri.domain rp ru_q".split())

INDEXED: Final = frozenset({"branch", "ct", "cT", "rb"})

WITH_FIELD: Final = frozenset({"branch", "branch.fields", "branch.flag", "ct.fields", "msg.flag"})
"""Variables of SIP messages with a name in brackets; all are NULL."""
