"""Checks that scapy is installed, which reads capture files and makes the scapy layers.

scapy is under the GPL, version 2 only, and an extra of the distribution: the rest of sipws is under
the Apache License 2.0 and works without it.
"""

from importlib.util import find_spec

from hep.errors import HepError


class MissingExtraError(HepError):
    """A package that comes with an extra of the distribution is not installed."""


def require_scapy(use: str, extra: str = "pcap") -> None:
    """Check that scapy can be imported.

    Args:
        use: what it is needed for, as the subject of a sentence.
        extra: the extra that brings it.

    Raises:
        MissingExtraError: it is not installed; the message has the command that installs it.
    """
    if find_spec("scapy") is None:
        raise MissingExtraError(
            f"{use} needs scapy, which is not installed: pip install 'sipws[{extra}]'"
        )
