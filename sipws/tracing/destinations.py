"""The collectors of a trace: their names, and how packets are spread over several of them. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self

from hep import HepId, HepIdError, SenderSettings
from hep.hep_id import PORT
from sipws.errors import ConfigurationError

Distribution = Literal["duplicate", "failover", "balanced"]
"""How packets are spread over several destinations: to all of them (``duplicate``), to the first
that is connected (``failover``), or to one by correlation id (``balanced``)."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Destinations:
    """The collectors of one trace, and how packets are sent to each of them.

    Raises:
        ConfigurationError: there is none, one is there twice, or their HEP versions differ.
    """

    hep_ids: tuple[HepId, ...]
    """The collectors; with ``failover`` in order of preference."""
    senders: tuple[SenderSettings, ...]
    """Queue, retries, TLS and spool of each of them, in the same order."""
    distribution: Distribution = "duplicate"

    def __post_init__(self) -> None:
        listed = ", ".join(map(str, self.hep_ids))
        if not self.hep_ids:
            raise ConfigurationError("trace_destination is empty; name a hep_id")
        if len(set(self.hep_ids)) < len(self.hep_ids):
            raise ConfigurationError(
                f"trace_destination: {listed}: one of them is there twice; remove it"
            )
        if len({hep_id.version for hep_id in self.hep_ids}) > 1:
            raise ConfigurationError(
                f"trace_destination: {listed} take different versions of HEP; trace to one of"
                " them separately, by [[tracing.also]] or another Pipeline"
            )

    @classmethod
    def alike(
        cls,
        hep_ids: Iterable[HepId | str],
        settings: SenderSettings,
        distribution: Distribution = "duplicate",
    ) -> Self:
        """Collectors that are all sent to in the same way.

        Args:
            hep_ids: the collectors, parsed or as ``HOST:PORT;transport=udp;version=3``.
            settings: of each sender. ``spool`` is the common directory: each collector gets a
                directory in it.
            distribution: how packets are spread over them.

        Raises:
            HepIdError: a collector does not parse.
            ConfigurationError: see `Destinations`.
        """
        parsed = tuple(each if isinstance(each, HepId) else HepId.parse(each) for each in hep_ids)
        spools = (settings.spool and spool_of(Path(settings.spool), each) for each in parsed)
        return cls(parsed, tuple(replace(settings, spool=each) for each in spools), distribution)

    @property
    def version(self) -> int:
        """The HEP version of all of them."""
        return self.hep_ids[0].version

    def __str__(self) -> str:
        return ", ".join(map(str, self.hep_ids))


def spool_of(directory: Path, destination: HepId) -> Path:
    """The spool of one destination: no two senders may share a directory.

    The path does not depend on the destination's name, so that a new name keeps the spool.

    Args:
        directory: what holds the spools of all destinations.
        destination: the collector.
    """
    return directory / f"{destination.host}_{destination.port}_{destination.transport}"


def resolve(destination: str, hep_ids: Sequence[HepId], port: int = PORT) -> HepId:
    """Find a trace destination among the configured ones.

    Args:
        destination: the name of one of ``hep_ids`` (OpenSIPS ``trace_destination``), or a whole
            HEP id such as ``10.0.0.2:9060;transport=udp``.
        hep_ids: the configured destinations (OpenSIPS ``hep_id``).
        port: default port of a destination that names none (OpenSIPS ``hep_port``).

    Raises:
        ConfigurationError: no such name; the message lists the names that exist.
    """
    for hep_id in hep_ids:
        if hep_id.name == destination:
            return hep_id
    names = ", ".join(repr(hep_id.name) for hep_id in hep_ids if hep_id.name) or "none"
    if _NAME.fullmatch(destination):
        raise ConfigurationError(
            f"trace_destination {destination!r} is not a hep_id; configured: {names}. Add hep_id"
            f" '[{destination}]HOST:PORT;transport=udp', or use one of those"
        )
    try:
        return HepId.parse(destination, port)
    except HepIdError as exc:
        raise ConfigurationError(
            f"trace_destination {destination!r} is neither the name of a hep_id (configured:"
            f" {names}) nor a HEP id: {exc}"
        ) from exc
