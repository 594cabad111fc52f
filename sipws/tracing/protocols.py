"""Filters that differ by protocol: OpenSIPS configures those of proto_ws and proto_wss apart."""

from sipws.events import Connection
from sipws.tracing.tracer import TRACED, Decide, Verdict


def decide_by_protocol(ws: Decide | None, wss: Decide | None) -> Decide | None:
    """Make one filter of two.

    Args:
        ws: decides about connections over ``ws``; None traces all of them.
        wss: decides about connections over ``wss``; None traces all of them.
    """
    if ws is wss:
        return ws

    def decide(connection: Connection) -> Verdict:
        chosen = wss if connection.listener.proto == "wss" else ws
        return TRACED if chosen is None else chosen(connection)

    return decide
