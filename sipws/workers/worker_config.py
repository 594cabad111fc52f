"""What each worker gets: its part of what is configured for all. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from sipws.address import Listener
from sipws.config.settings import Config, Control


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is started with."""

    number: int
    """Counted from 1."""

    config: Config
    source: str
    """Where the configuration comes from, for messages."""

    sockets: tuple[tuple[int, ...], ...]
    """File descriptors of the sockets of each listener."""

    is_service: bool
    """Whether it logs, as a service does; else its traces are printed in a terminal."""

    is_restart: bool
    """Whether it takes the place of one that has ended: what keeps it from starting is then for the
    log, and not for who has just started the program."""

    relays: str
    """How the paths begin where the parent takes traces; see `sipws.workers.trace_relay`."""


def share_of(
    config: Config,
    number: int,
    listeners: Sequence[Listener],
    *,
    trace_on: bool | None = None,
) -> Config:
    """A worker's configuration.

    Limits in total are shared out; those per address stay as they are, as connections of one
    address may all come to the same worker. A spool has one sender: the first worker has the one
    that is configured, so that what waits there from a run with one process is sent.

    Args:
        config: that of the whole.
        number: of the worker, counted from 1.
        listeners: with their real ports.
        trace_on: whether tracing has been switched on or off by now.
    """
    transport, hep, tracing = config.transport, config.hep, config.tracing
    workers, most, rate = transport.workers, transport.max_connections, transport.max_handshake_rate
    shared = {
        "listen": tuple(map(str, listeners)),
        "workers": 1,
        "max_connections": None if most is None else (most + workers - number) // workers,
        "max_handshake_rate": None if rate is None else rate / workers,
    }
    spool = hep.hep_spool
    if spool is not None and number > 1:
        spool /= f"worker-{number}"
    return config.model_copy(
        update={
            "transport": transport.model_copy(update=shared),
            "hep": hep.model_copy(update={"hep_spool": spool}),
            "tracing": tracing
            if trace_on is None
            else tracing.model_copy(update={"trace_on": trace_on}),
            "control": Control(),
        }
    )
