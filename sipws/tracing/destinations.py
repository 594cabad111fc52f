"""From the name in ``trace_destination`` to a HEP destination."""

import re
from collections.abc import Sequence
from typing import Final

from hep import HepId, HepIdError
from hep.hep_id import PORT
from sipws.errors import ConfigurationError

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def resolve(destination: str, hep_ids: Sequence[HepId], port: int = PORT) -> HepId:
    """Find a trace destination among the configured ones.

    Args:
        destination: the name of one of ``hep_ids`` (OpenSIPS ``trace_destination``), or a whole
            HEP id such as ``10.0.0.2:9060;transport=udp``.
        hep_ids: what is configured (OpenSIPS ``hep_id``).
        port: of a destination that names none (OpenSIPS ``hep_port``).

    Raises:
        ConfigurationError: no such name; the message names those that exist.
    """
    for hep_id in hep_ids:
        if hep_id.name == destination:
            return hep_id
    names = ", ".join(repr(hep_id.name) for hep_id in hep_ids if hep_id.name) or "none"
    if _NAME.fullmatch(destination):
        raise ConfigurationError(
            f"trace_destination {destination!r} is no hep_id; configured: {names}. Add hep_id"
            f" '[{destination}]HOST:PORT;transport=udp', or use one of those"
        )
    try:
        return HepId.parse(destination, port)
    except HepIdError as exc:
        raise ConfigurationError(
            f"trace_destination {destination!r} is neither the name of a hep_id (configured:"
            f" {names}) nor a HEP id: {exc}"
        ) from exc
