"""The configuration of each worker, made of that of the whole program. Pure."""

import base64
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sipws.address import PROTOCOLS, Listener, Proto
from sipws.config.settings import Config, Control
from sipws.config.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Start:
    """The first message of the parent to a worker."""

    number: int
    """The worker's number, from 1."""

    config: Config
    source: str
    """The files that the configuration comes from, for messages."""

    sockets: tuple[tuple[int, ...], ...]
    """File descriptors of the bound sockets, by listener."""

    is_service: bool
    """Whether it logs as a service. Otherwise a terminal shows its traces."""

    is_restart: bool
    """Whether it replaces a worker that ended. Its start logs errors rather than print them."""

    counts_sip: bool
    """Whether it counts SIP messages for the metrics of the control interface, which its parent
    has."""

    relays: str
    """The prefix of the paths of the parent's relays; see `sipws.workers.trace_relay`."""


def config_of_worker(
    config: Config,
    number: int,
    listeners: Sequence[Listener],
    *,
    trace_on: Mapping[Proto, bool] | None = None,
) -> Config:
    """Make a worker's configuration.

    - Total limits are divided among the workers.
    - Limits per address are enforced per worker: all connections of an address may come to one.
    - Each worker has its own spool, since a spool has one sender. The first worker has the
      configured directory, so that it sends what a run with one process left there.

    Args:
        config: the configuration of the whole program.
        number: of the worker, from 1 to ``workers``.
        listeners: the listeners with their real ports.
        trace_on: how tracing was switched at run time, by protocol; as configured for others.
    """
    transport, hep, tracing = config.transport, config.hep, config.tracing
    workers, most, rate = transport.workers, transport.max_connections, transport.max_handshake_rate
    changed = {
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
            "transport": transport.model_copy(update=changed),
            "hep": hep.model_copy(update={"hep_spool": spool}),
            "tracing": _switched(tracing, trace_on) if trace_on else tracing,
            "control": Control(),
        }
    )


def as_text(config: Config) -> str:
    """Write a configuration as text, for the link: JSON cannot hold it."""
    return base64.b64encode(pickle.dumps(config)).decode()


def from_text(text: str) -> Config:
    """Read what `as_text` wrote; only for text from the parent."""
    config: Config = pickle.loads(base64.b64decode(text))  # noqa: S301 - our parent's
    return config


def _switched(tracing: Tracing, trace_on: Mapping[Proto, bool]) -> Tracing:
    """The section with tracing on or off as it was switched at run time."""
    on = {proto: proto in tracing.protocols_on for proto in PROTOCOLS} | dict(trace_on)
    wss = tracing.wss.model_copy(update={"trace_on": on["wss"]})
    return tracing.model_copy(update={"trace_on": on["ws"], "wss": wss})
