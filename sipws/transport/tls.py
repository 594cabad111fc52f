"""TLS for wss listeners and destinations; a server can read its certificates again as it runs."""

import re
import ssl
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sipws.errors import ConfigurationError
from sipws.transport.certificate_validity import Validity, validities
from sipws.transport.tls_alerts import AlertingContext

VerifyClient = Literal["off", "optional", "required"]
"""Whether clients are asked for a certificate, and whether one is required."""

_VERIFY: Final = {
    "off": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

_SERVER_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate, and its server names."""

    certificate: Path
    """PEM file with the certificate and the chain behind it."""

    key: Path | None = None
    """PEM file with the private key; None if the certificate's file contains it."""

    server_names: tuple[str, ...] = ()
    """Names that clients ask for (SNI); ``*.example.com`` stands for every name one label below."""


ANY_NAME: Final = "*"
"""The name of the certificate for clients that ask for no name, or for an unknown one."""


class Certificates:
    """The certificates of a server, as contexts for its ``wss`` listeners.

    `reload` reads the files again. Open connections keep their certificates; later handshakes use
    the new ones.

    Args:
        certificates: the certificates. Clients that ask for no name, or for an unknown one, get the
            first.
        verify_client: whether clients are asked for a certificate.
        client_ca: PEM file with the authorities of clients' certificates; needed unless ``off``.

    Raises:
        ConfigurationError: see `server_context`.
    """

    def __init__(
        self,
        certificates: Sequence[Certificate],
        *,
        verify_client: VerifyClient = "off",
        client_ca: Path | None = None,
    ) -> None:
        self._certificates = tuple(certificates)
        self._verify_client: VerifyClient = verify_client
        self._client_ca = client_ca
        self.expiries: dict[str, float] = {}
        """The end of the certificate for each server name, in seconds since the epoch."""
        self.warnings: tuple[str, ...] = ()
        """Problems of certificates that can be used, as they were read last."""
        self._context = self._read()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        return self._context

    def reload(self) -> None:
        """Read the files again.

        Raises:
            ConfigurationError: a file cannot be used; the old certificates stay in use.
        """
        self._context = self._read()

    def take(self, other: "Certificates") -> None:
        """Use what others have read, files and rules, from the next handshake on."""
        self._certificates = other._certificates
        self._verify_client, self._client_ca = other._verify_client, other._client_ca
        self.expiries, self.warnings = other.expiries, other.warnings
        self._context = other._context

    def _read(self) -> ssl.SSLContext:
        contexts = [self._context_of(certificate) for certificate in self._certificates]
        by_name = {
            name.lower(): context
            for certificate, context in zip(self._certificates, contexts, strict=True)
            for name in certificate.server_names
        }
        for name in by_name:
            check_server_name(name)
        first = contexts[0]

        def choose(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
            if name is not None:
                connection.context = context_for(name, by_name) or first

        if by_name:
            first.sni_callback = choose
        self._look()
        return first

    def _look(self) -> None:
        """Note the ends and the problems of the certificates."""
        warnings: list[str] = []
        self.expiries = {}
        for certificate in self._certificates:
            found = _validities(certificate.certificate)
            warnings += certificate_warnings(certificate.certificate, certificate.key)
            if found:
                for name in certificate.server_names or (ANY_NAME,):
                    self.expiries[name.lower()] = found[0].ends
        self.warnings = tuple(dict.fromkeys(warnings))

    def _context_of(self, certificate: Certificate) -> ssl.SSLContext:
        context = server_context(certificate.certificate, certificate.key)
        if self._verify_client == "off":
            return context
        if self._client_ca is None:
            raise ConfigurationError(
                f"tls_verify_client = {self._verify_client!r} needs tls_client_ca, the file with"
                " the authorities that issue clients' certificates"
            )
        try:
            context.load_verify_locations(self._client_ca)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"tls_client_ca {self._client_ca} cannot be used: {exc}; name a PEM file with the"
                " certificates of the authorities that issue clients' certificates"
            ) from exc
        context.verify_mode = _VERIFY[self._verify_client]
        return context


def certificate_warnings(certificate: Path, key: Path | None = None) -> Iterator[str]:
    """The problems of a certificate and its key that can be used.

    Args:
        certificate: PEM file with the certificate and its chain.
        key: PEM file with the private key; None if the certificate's file contains it.
    """
    now = time.time()
    for number, validity in enumerate(_validities(certificate)):
        if (problem := validity.problem(now)) is not None:
            which = f", certificate {number + 1} of its chain," if number else ""
            yield f"TLS certificate {certificate}{which} {problem}"
    secret = key or certificate
    try:
        mode = stat.S_IMODE(secret.stat().st_mode)
    except OSError:
        # It was removed after it was read.
        return
    if mode & stat.S_IROTH:
        yield (
            f"TLS key {secret} can be read by every user of this machine (mode {mode:04o}):"
            " chmod 0600 keeps it for its owner"
        )


def _validities(certificate: Path) -> list[Validity]:
    try:
        # A pipe can be read once only.
        return validities(certificate.read_bytes()) if certificate.is_file() else []
    except OSError:
        return []


def check_server_name(name: str) -> None:
    """Check a server name.

    Raises:
        ConfigurationError: it is not a server name.
    """
    if not _SERVER_NAME.fullmatch(name.lower()):
        raise ConfigurationError(
            f"TLS server name {name!r} is not a name; write 'sip.example.com', or '*.example.com'"
            " for every name one label below"
        )


def context_for(name: str, by_name: dict[str, ssl.SSLContext]) -> ssl.SSLContext | None:
    """The context for a server name: its own, or that of a wildcard one label above."""
    name = name.lower().removesuffix(".")
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Make a context with a certificate; TLS 1.2 and later.

    Args:
        certificate: PEM file with the certificate and its chain.
        key: PEM file with the private key; None if the certificate's file contains it.

    Raises:
        ConfigurationError: a file cannot be read, or certificate and key do not match.
    """
    context = AlertingContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A TLS 1.2 client could repeat the handshake on one connection without limit.
    context.options |= ssl.OP_NO_RENEGOTIATION
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None = None) -> None:
    """Load a certificate into a context.

    Args:
        context: the context.
        certificate: PEM file with the certificate and its chain.
        key: PEM file with the private key; None if the certificate's file contains it.

    Raises:
        ConfigurationError: a file cannot be read, or certificate and key do not match.
    """
    files = str(certificate) if key is None else f"{certificate} with key {key}"
    try:
        # Without a password OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError, ValueError) as exc:
        raise ConfigurationError(
            f"TLS certificate {files} cannot be used: {exc}; both must be PEM files, the key"
            " without a password"
        ) from exc


def client_context(authority: Path | None = None) -> ssl.SSLContext:
    """Make a context that checks a server's certificate and its name; TLS 1.2 and later.

    Args:
        authority: PEM file with the authorities to trust; None for those of the system.

    Raises:
        ConfigurationError: the file cannot be read, or contains no certificate.
    """
    # `ssl.create_default_context` makes contexts of one class only.
    context = AlertingContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(authority)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"TLS authority {authority} cannot be used: {exc}; it must be a PEM file with the"
            " certificates of the authorities to trust"
        ) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


_REASONS: Final = {
    "HTTP_REQUEST": "plain HTTP on a wss listener; use a wss: URL or a ws listener",
    "WRONG_VERSION_NUMBER": "not a TLS handshake",
    "UNSUPPORTED_PROTOCOL": "the client offers nothing newer than TLS 1.1, and 1.2 is the least",
    "NO_SHARED_CIPHER": "no cipher that both sides know",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client shows no certificate, and one is required",
    "CERTIFICATE_VERIFY_FAILED": "the client's certificate cannot be verified",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust who issued our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client finds our certificate expired",
    "UNEXPECTED_EOF_WHILE_READING": "the client left during the TLS handshake",
}
"""The meaning of OpenSSL's reasons; the reason itself is logged too."""


def failure_reason(exc: BaseException, timeout: float) -> str:
    """Why a TLS handshake failed, for people.

    Args:
        exc: the exception of the event loop.
        timeout: seconds that the handshake was allowed to take.
    """
    if isinstance(exc, ssl.SSLError):
        reason = exc.reason or "unknown"
        words = _REASONS.get(reason, "the TLS handshake failed")
        if isinstance(exc, ssl.SSLCertVerificationError) and exc.verify_message:
            return f"{words}: {exc.verify_message} ({reason})"
        return f"{words} ({reason})"
    if isinstance(exc, ConnectionAbortedError):
        return f"the TLS handshake took longer than {timeout:g} s"
    return "the client left during the TLS handshake"
