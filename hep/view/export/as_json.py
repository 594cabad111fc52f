r"""A call as JSON. Pure.

The keys of the object:

- ``format``: ``hep-view-call``; ``version``: 1.
- ``call``: a `CallSummary`; ``verdict``: a `Verdict`; ``parties`` and ``steps``: those of a
  `Ladder`; ``left_out``: its keep-alives.
- ``messages``: all packets, each with ``id``, ``at`` (microseconds since the epoch), ``time``
  (UTC), ``kind`` (``SIP``, ``EVENT``, ``LOG``, ``OTHER``), ``src``,
  ``dst``, ``protocol`` (HEP protocol
  type), ``ip_protocol``, ``capture_id``, ``node``, ``correlation``, ``connection`` and ``text``, in
  which bytes that are no UTF-8 are written as ``\xNN``.
- ``messages_left_out``: packets beyond the bounds of an export.
"""

import json
from dataclasses import asdict
from typing import Any

from hep.view.export.content import Content
from hep.view.export.plain import time_text


def as_json(content: Content) -> bytes:
    """Write a call as JSON."""
    document: dict[str, Any] = {
        "format": "hep-view-call",
        "version": 1,
        "call": asdict(content.call),
        "verdict": asdict(content.verdict),
        "parties": [asdict(party) for party in content.ladder.parties],
        "steps": [asdict(step) for step in content.ladder.steps],
        "left_out": content.ladder.left_out,
        "messages": [
            {
                "id": record.id,
                "at": record.at,
                "time": time_text(record.at),
                "kind": record.kind.name,
                "src": record.src,
                "dst": record.dst,
                "protocol": record.protocol_type,
                "ip_protocol": record.ip_protocol,
                "capture_id": record.capture_id,
                "node": record.node,
                "correlation": record.correlation,
                "connection": record.connection,
                "text": record.payload.decode("utf-8", "backslashreplace"),
            }
            for record in content.records
        ],
        "messages_left_out": content.left_out,
    }
    # Halves of surrogate pairs become escapes, as JSON has them.
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")
