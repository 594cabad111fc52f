"""A filter route as the tracer's filter: what a script sees of a connection."""

from sipws.events import Connection
from sipws.tracing.filter import Script, Subject
from sipws.tracing.tracer import Decide


def decide_by(script: Script, route: str) -> Decide:
    """The filter that a route of a script is (OpenSIPS ``trace_filter_route``).

    Args:
        script: the parsed script.
        route: the name of the route; one that the script does not have excludes nothing.
    """
    decide = script.decider(route)
    return lambda connection: decide(subject_of(connection))


def subject_of(connection: Connection) -> Subject:
    """What a route sees of a connection: ``$si:$sp`` is the peer, ``$socket_in`` our end."""
    listener = connection.listener
    return Subject(
        si=connection.peer.ip,
        sp=connection.peer.port,
        socket_ip=connection.local.ip,
        socket_port=connection.local.port,
        proto=listener.proto,
        tag=listener.tag,
        advertised_ip=listener.advertised_ip,
        advertised_port=listener.advertised_port,
    )
