"""Filters for the tracer: a route of a script, or a function."""

import logging
from collections.abc import Callable, Collection
from typing import Final

from sipws.address import Address, Listener
from sipws.events import Connection, Side
from sipws.tracing.filter import Script, Socket, Subject
from sipws.tracing.tracer import Decide, Verdict

log = logging.getLogger(__name__)

LEVELS: Final = {
    "ALERT": -3, "CRIT": -2, "ERR": -1, "WARN": 1, "NOTICE": 2, "INFO": 3, "DBG": 4,
}  # fmt: skip
"""The levels of ``xlog``, as OpenSIPS numbers them (dprint.h)."""


class Threshold:
    """Which messages of ``xlog`` are logged (OpenSIPS ``xlog_level``)."""

    level = LEVELS["DBG"]
    """The highest level that is logged. Default: all are."""


xlog_threshold: Final = Threshold()
"""That of this process."""


def decide_by_route(script: Script, route: str, own: Collection[Address | Socket] = ()) -> Decide:
    """Make a filter of a route (OpenSIPS ``trace_filter_route``).

    Args:
        script: the parsed script.
        route: the name of the route; one that the script does not have excludes nothing.
        own: our listeners, for ``is_myself`` and ``$socket_out``.
    """
    listeners = frozenset(own)

    def decide(connection: Connection) -> Verdict:
        outcome = script.evaluate(route, subject_of(connection), listeners)
        for message in outcome.messages:
            if LEVELS.get(message.partition(":")[0], 0) <= xlog_threshold.level:
                log.info("xlog: %s", message.rstrip())
        return Verdict(outcome.traced, outcome.stopped or "")

    return decide


def decide_by_function(function: Callable[[Connection], object]) -> Decide:
    """Make a filter of a function, which returns a true value for each connection to trace."""
    return lambda connection: Verdict(bool(function(connection)))


def socket_of(listener: Listener) -> Socket:
    """A listener as a route can name it."""
    return Socket(
        listener.host,
        listener.port,
        listener.proto,
        listener.tag,
        listener.advertised_ip,
        listener.advertised_port,
    )


def subject_of(connection: Connection) -> Subject:
    """The values that a route reads: ``$si:$sp`` is the peer, ``$socket_in`` our end.

    That does not depend on which side connected. The port of a connection that we opened is the
    port of the listener it was opened for, as in OpenSIPS, whose connections all belong to a
    socket.
    """
    listener, local = connection.listener, connection.local
    ours = connection.opened_by is Side.LOCAL
    return Subject(
        si=connection.peer.ip,
        sp=connection.peer.port,
        socket_ip=local.ip,
        socket_port=listener.port if ours else local.port,
        proto=listener.proto,
        tag=listener.tag,
        advertised_ip=listener.advertised_ip,
        advertised_port=listener.advertised_port,
    )
