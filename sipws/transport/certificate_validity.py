"""The validity of certificates, read from DER without a library for X.509. Pure.

The standard library gives these times for a peer's verified certificate only. Here the certificate
is our own, and OpenSSL has accepted it already. Its validity is the fifth field of its first part
(RFC 5280 section 4.1).
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

ENDS_SOON: Final = 14 * 86400.0
"""Seconds before the end of a certificate from which on a warning is logged: certbot renews 30 days
before the end."""

_PEM: Final = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END ", re.DOTALL
)
"""A certificate in PEM, under each name that OpenSSL accepts."""

_VERSION: Final = 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_LONG_FORM: Final = 0x80
_CENTURY: Final = 50
"""Years with two digits from 50 on belong to the 20th century (RFC 5280 section 4.1.2.5.1)."""


@dataclass(frozen=True, slots=True)
class Validity:
    """The validity of a certificate, in seconds since the epoch."""

    begins: float
    ends: float

    def problem(self, now: float) -> str | None:
        """The problem with the validity at a time.

        Args:
            now: the time, in seconds since the epoch.

        Returns:
            a phrase for a log entry; None if there is no problem.
        """
        if now > self.ends:
            return f"has expired on {_day(self.ends)}: clients refuse it"
        if now < self.begins:
            return f"is not valid before {_day(self.begins)}: clients refuse it until then"
        if now > self.ends - ENDS_SOON:
            days = int((self.ends - now) // 86400)
            left = "in less than a day" if days < 1 else f"in {days} day{'s' * (days > 1)}"
            return f"expires {left}, on {_day(self.ends)}: renew it"
        return None


def validities(pem: bytes) -> list[Validity]:
    """The validities of the certificates in a PEM file, in their order: the server's own is first.

    Blocks that are no certificates are left out.
    """
    found = []
    for match in _PEM.finditer(pem):
        try:
            found.append(validity_of(binascii.a2b_base64(match[1])))
        except ValueError:
            continue
    return found


def validity_of(der: bytes) -> Validity:
    """The validity of a certificate.

    Raises:
        ValueError: it is not a certificate.
    """
    try:
        [(_, certificate), *_] = _elements(der)
        [(_, signed), *_] = _elements(certificate)
        fields = [content for tag, content in _elements(signed) if tag != _VERSION]
        # Serial number, signature algorithm, issuer, validity.
        begins, ends = _elements(fields[3])
    except (IndexError, ValueError) as exc:
        raise ValueError("this is not a certificate") from exc
    return Validity(_seconds(*begins), _seconds(*ends))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tags and contents of consecutive DER elements (X.690)."""
    at = 0
    while at < len(data):
        tag, length, start = data[at], data[at + 1], at + 2
        if length & _LONG_FORM:
            start += length & ~_LONG_FORM
            length = int.from_bytes(data[at + 2 : start], "big")
        if start + length > len(data):
            raise ValueError("an element is longer than what holds it")
        yield tag, data[start : start + length]
        at = start + length


def _seconds(tag: int, content: bytes) -> float:
    text = content.decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = f"{'19' if text[:2] >= str(_CENTURY) else '20'}{text}"
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a time is expected")
    # Both have seconds and end with Z.
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
