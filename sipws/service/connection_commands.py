"""MI methods that list and close connections.

OpenSIPS 3.6 lists them (net/net_tcp.c). It closes none; ``tcp:close`` is ours, with the name that
OpenSIPS 4 has.
"""

import logging
import re
import time
from typing import Any, Final

from websockets.frames import CloseCode

from sipws.control.mi import INVALID_PARAMS, NOT_FOUND, Method, MiError
from sipws.errors import TransportError
from sipws.relay.relay_legs import Leg
from sipws.service.running import Running
from sipws.service.statistics import traffic_of
from sipws.transport.flow import Flow
from sipws.ws.phase import Phase

log = logging.getLogger(__name__)

REASON: Final = "closed by the operator"

STATES: Final = {Phase.HANDSHAKE: 1, Phase.OPEN: 0, Phase.CLOSING: 2}
"""OpenSIPS' numbers: S_CONN_CONNECTING, S_CONN_OK, S_CONN_EOF (net/tcp_conn_defs.h)."""

_CODE: Final = "[0-9]{1,5}"
_ID: Final = "[0-9]{1,20}"
"""A close code, and a connection's id: a number of 64 bits. Python refuses to read thousands of
digits."""

UNLIMITED: Final = "unlimited"
"""Replaces the time at which OpenSIPS would drop an idle connection; sipws has none."""


def connection_commands(application: Running) -> dict[str, Method]:
    """The MI methods about connections, by name."""

    def tcp_list(proto: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """List all connections, or those of one protocol: OpenSIPS' fields first, then ours."""
        flows = [flow for flow in application.server.flows if flow.phase in STATES]
        return {
            "Connections": [
                _described(flow)
                for flow in flows
                if proto in (None, flow.connection.listener.proto)
            ]
        }

    def tcp_close(
        ipport: str | int | None = None,
        id: str | int | None = None,  # noqa: A002 - the parameter's name on the wire
        code: str | int = CloseCode.NORMAL_CLOSURE,
        reason: str = REASON,
    ) -> str:
        """Close a connection with a close frame.

        Args:
            ipport: the peer's IP:PORT, or a connection id.
            id: a connection id; it has precedence over ``ipport``.
            code: close code.
            reason: close reason.
        """
        named = id if id is not None else ipport
        if (
            not isinstance(named, str | int)
            or not isinstance(code, str | int)
            or not re.fullmatch(_CODE, str(code))
            or not isinstance(reason, str)
        ):
            raise MiError("Invalid params", INVALID_PARAMS)
        flow = _find(application, str(named))
        if flow is None:
            raise MiError("Connection not found", NOT_FOUND)
        try:
            flow.close(int(code), reason)
        except TransportError as exc:
            raise MiError(str(exc), INVALID_PARAMS) from exc
        log.info("connection %d with %s is closed", flow.connection.id, flow.connection.peer)
        return "OK"

    listing = Method(tcp_list, ((), ("proto",)), "core", "lists the connections")
    return {
        "list_tcp_conns": listing,
        "tcp:list": listing,
        "tcp:close": Method(tcp_close, about="closes a connection with a close frame"),
    }


def _find(application: Running, named: str) -> Flow | None:
    flows = application.server.flows
    if re.fullmatch(_ID, named):
        return flows.get(int(named))
    return next((flow for flow in flows if str(flow.connection.peer) == named), None)


def _described(flow: Flow) -> dict[str, Any]:
    connection, phase, traffic = flow.connection, flow.phase, traffic_of(flow)
    return {
        "ID": connection.id,
        "Type": connection.listener.proto,
        "State": STATES[phase],
        "Remote": str(connection.peer),
        "Local": str(connection.local),
        "Lifetime": UNLIMITED,
        "Listener": str(connection.listener),
        "Phase": phase.name.lower(),
        "Age": round(time.monotonic() - connection.started_monotonic, 3),
        "Messages in": traffic.messages_in,
        "Messages out": traffic.messages_out,
        "Bytes in": traffic.bytes_in,
        "Bytes out": traffic.bytes_out,
        **_relayed(flow),
    }


def _relayed(flow: Flow) -> dict[str, Any]:
    """The destination of a connection that we opened, and the id that it is relayed with."""
    fields: dict[str, Any] = {}
    if flow.connection.destination is not None:
        fields["Destination"] = flow.connection.destination
    if isinstance(flow, Leg) and (other := flow.pair.other(flow)) is not None:
        fields["Relayed with"] = other.connection.id
    return fields
