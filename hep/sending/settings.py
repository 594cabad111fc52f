"""Limits, timeouts and options of a sender."""

import ssl
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final, get_args

from hep.hep_id import HepId, Transport
from hep.sending.fitting import LONGEST, WhenTooLong
from hep.sending.outbox import LIMIT, LIMIT_BYTES, WhenFull
from hep.sending.spool import LIMIT_BYTES as SPOOL_LIMIT_BYTES
from hep.sending.spool import Fsync

_COUNTS: Final = ("queue_limit", "queue_limit_bytes", "longest", "spool_limit_bytes")
_SECONDS: Final = ("connect_timeout", "retry_first", "retry_longest")
_CHOICES: Final = {"when_full": WhenFull, "when_too_long": WhenTooLong, "spool_fsync": Fsync}


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """Limits, timeouts and options of a sender.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of its range.
    """

    queue_limit: int = LIMIT
    """Maximum number of packets queued in memory, from 1. Default: 10000."""
    queue_limit_bytes: int = LIMIT_BYTES
    """Maximum number of bytes queued in memory, from 1. Default: 64 MiB."""
    when_full: WhenFull = "drop-oldest"
    """Packet to drop when the queue is full: ``drop-oldest`` or ``drop-newest``."""
    connect_timeout: float = 5.0
    """Time limit for connecting in seconds, including name resolution and TLS handshake."""
    retry_first: float = 0.2
    """Seconds before the first reconnect. Doubles with each failure. The actual pause is between
    half of the value and the value, at random."""
    retry_longest: float = 15.0
    """Maximum number of seconds between two attempts to connect."""
    tls: ssl.SSLContext | None = None
    """TLS context for transport tls. Default: the CA certificates of the system; certificate and
    host name are verified. A context with a client certificate gives mutual TLS."""
    longest: int = LONGEST
    """Maximum length of a packet in bytes, over any transport. Default: 65507."""
    when_too_long: WhenTooLong = "drop"
    """Handling of a longer packet: ``drop`` it, ``truncate`` its payload, or ``compress`` its
    payload (which Homer cannot read)."""
    auth_key: bytes | None = None
    """Authenticate key (chunk 0x000e) added to each `Packet` without one (version 3 only). Packets
    sent as bytes are not changed."""
    spool: Path | str | None = None
    """Directory for packets that exceed the queue, and for those queued when the sender closes. The
    next sender with the same directory sends them. Default: none, such packets are dropped."""
    spool_limit_bytes: int = SPOOL_LIMIT_BYTES
    """Maximum number of bytes in the spool. Beyond it, the oldest segment is dropped. Default:
    256 MiB."""
    spool_fsync: Fsync = "segment"
    """When the spool is written through to the disk, which decides what a power cut may cost:
    ``never`` (some 30 s), ``segment`` (the newest segment, up to 1 MiB) or ``batch`` (nothing that
    was written)."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check_type(name, value := getattr(self, name), int, "an int")
            if value < 1:
                raise ValueError(f"{name} is {value}; use 1 or more")
        for name in _SECONDS:
            _check_type(name, value := getattr(self, name), (int, float), "seconds")
            if not value >= 0:
                raise ValueError(f"{name} is {value}; use 0 or more seconds")
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in get_args(choices):
                raise ValueError(f"{name} {value!r} is not one of {', '.join(get_args(choices))}")
        if self.tls is not None:
            _check_type("tls", self.tls, ssl.SSLContext, "an ssl.SSLContext")
        if self.auth_key is not None:
            _check_type("auth_key", self.auth_key, bytes, "bytes")
        if self.spool is not None:
            _check_type("spool", self.spool, (str, PathLike), "a path")
            if not self.spool:
                # As a path it is the working directory.
                raise ValueError("spool is ''; name a directory, or None for no spool")


def _check_type(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> None:
    # A bool is an int to Python, and a mistake here.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be {expected}")


def destination_of(given: HepId | str) -> HepId:
    """The destination that a caller names.

    Args:
        given: a HEP id, or its text such as ``10.0.0.2:9060;transport=udp``.

    Raises:
        HepIdError: the text is not a HEP id.
        TypeError: it is something else, or one of its parts has the wrong type.
        ValueError: a part is out of its range.
    """
    if isinstance(given, str):
        return HepId.parse(given)
    if not isinstance(given, HepId):
        raise TypeError(
            f"destination is {given!r}; it must be a hep.HepId, or text such as"
            " '10.0.0.2:9060;transport=udp'"
        )
    _check_type("host", given.host, str, "a str")
    _check_type("port", given.port, int, "an int")
    if not given.host:
        raise ValueError("host is empty; name the collector")
    if not 0 < given.port <= 0xFFFF:
        raise ValueError(f"port {given.port} is not in 1 to 65535")
    if given.transport not in get_args(Transport):
        raise ValueError(
            f"transport {given.transport!r} is not one of {', '.join(get_args(Transport))}"
        )
    if given.version not in (1, 2, 3):
        raise ValueError(f"version {given.version!r} is not 1, 2 or 3")
    return given
