"""Why a connection to a collector failed, in words for logs, with the setting that cures it. Pure.

A collector sends no answers, so a wrong transport shows only in how the connection ends. The hints
name the transport that such an end suggests.
"""

import os
import ssl
from dataclasses import dataclass
from typing import Final

EXPECTS_TLS: Final = "the collector may expect TLS (transport=tls)"
"""Hint for a collector that ends a TCP connection at its first packet."""

EXPECTS_TCP: Final = "the collector may expect plain TCP (transport=tcp)"
"""Hint for a collector that does not answer the TLS handshake."""

CLOSED: Final = "the collector closed the connection"
"""Reason without an error of the system."""

ALERT: Final = b"\x15\x03"
"""First bytes of a TLS alert: its type and the major version (RFC 8446 section 5.1)."""

_NO_TLS: Final = frozenset(
    {
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNKNOWN_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)
"""Reasons of OpenSSL for an answer that is not TLS."""

_UNKNOWN_ISSUER: Final = (2, 19, 20, 21)
"""OpenSSL's verification codes for a chain whose authority is not trusted."""

_SELF_SIGNED: Final = 18
_WRONG_NAME: Final = 62
_WRONG_ADDRESS: Final = 64


class HandshakeError(ConnectionError):
    """The collector did not answer the TLS handshake with TLS.

    Args:
        reason: what it did.
        answered: whether it sent bytes that are not TLS. Otherwise it closed or said nothing.
    """

    def __init__(self, reason: str, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered

    @classmethod
    def of(cls, exc: OSError) -> "HandshakeError | None":
        """The error for an exception of the TLS handshake; None if the collector speaks TLS."""
        if isinstance(exc, TimeoutError):
            return cls("no answer to the TLS handshake")
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError):
            # Errors that asyncio raises itself have no reason.
            answered = getattr(exc, "reason", None) in _NO_TLS
            return cls("its answer is not TLS", answered=True) if answered else None
        return cls("it closed the connection in the TLS handshake")


@dataclass(frozen=True, slots=True)
class End:
    """How a connection to a collector ended."""

    error: OSError | None = None
    """The error of the system; None if there is none."""
    worked: bool = True
    """Whether the connection stayed open after its first packet."""
    hung_up: bool = False
    """Whether the peer ended it before or directly after its first packet."""
    answer: bytes = b""
    """The first bytes that the peer sent."""

    @property
    def reason(self) -> str:
        """The reason, for logs."""
        if self.answer.startswith(ALERT):
            return f"{why(self.error) if self.error else CLOSED} after a TLS alert"
        return why(self.error) if self.error else CLOSED


def why(exc: Exception) -> str:
    """The reason why a connection failed, for logs; empty if the exception has none."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _why_untrusted(exc)
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno)
    return getattr(exc, "strerror", None) or str(exc)


def _why_untrusted(exc: ssl.SSLCertVerificationError) -> str:
    message = exc.verify_message
    # OpenSSL quotes the name that it expected: "certificate is not valid for 'homer.example'".
    expected = message.partition("not valid for ")[2].rstrip(".") or "this host"
    match exc.verify_code:
        case code if code == _WRONG_ADDRESS:
            return (
                f"its certificate is not valid for the IP address {expected}, and most certificates"
                " have names only; write a host name of the certificate instead of the address"
            )
        case code if code == _WRONG_NAME:
            return (
                f"its certificate is not valid for the name {expected}; write a host name of the"
                " certificate"
            )
        case code if code == _SELF_SIGNED:
            return (
                "its certificate is not trusted, because it is self-signed; set hep_tls_ca (for"
                " the command hep: SSL_CERT_FILE) to its certificate"
            )
        case code if code in _UNKNOWN_ISSUER:
            return (
                f"its certificate is not trusted: {message}; set hep_tls_ca (for the command hep:"
                " SSL_CERT_FILE) to the certificate of the authority that issued it"
            )
    return f"its certificate is not trusted: {message}"
