"""What became of a connection, in one sentence."""

import pytest

from hep.view.model.connections import sentence
from hep.view.model.summary import ConnectionSummary

SECOND = 1_000_000
MISSING = "the WebSocket subprotocol 'sip' must be offered (RFC 7118 section 4)"


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({"aor": "alice@example.com"}, "Open for 41 s, registered as alice@example.com."),
        ({}, "Open for 41 s."),
        (
            {"state": "refused", "status": 400, "error": "no-subprotocol", "error_detail": MISSING},
            "Refused with 400: the WebSocket subprotocol 'sip' must be offered"
            " (RFC 7118 section 4).",
        ),
        ({"state": "refused", "status": 403, "error": "origin-not-allowed"},
         "Refused with 403: origin not allowed."),
        ({"state": "refused", "status": 503}, "Refused with 503."),
        ({"state": "failed", "error": "handshake-timeout"},
         "The handshake failed: handshake timeout."),
        ({"state": "failed", "leg": "upstream", "error": "connect", "error_detail": "refused"},
         "It could not be opened: refused."),
        (
            {"state": "closed", "code": 1000, "closed_by": "peer", "until": 3 * SECOND,
             "reason": "closed by the peer with code 1000"},
            "Closed with 1000 by the peer after 3 s.",
        ),
        (
            {"state": "closed", "code": 1006, "closed_by": "peer", "until": 3 * SECOND,
             "reason": "the connection ended without a close frame", "error": "connection-lost"},
            "Closed with 1006 by the peer after 3 s: connection lost.",
        ),
        (
            {"state": "closed", "code": 1001, "closed_by": "local", "until": 90 * SECOND,
             "reason": "going\n away."},
            "Closed with 1001 by the server after 1 min 30 s: going away.",
        ),
        ({"state": "closed", "until": 3 * SECOND}, "Closed after 3 s."),
    ],
)  # fmt: skip
def test_sentence(known: dict, text: str) -> None:
    assert sentence(ConnectionSummary("7", **known), 41 * SECOND) == text
