"""TLS for wss listeners."""

import ssl
from pathlib import Path

from sipws.errors import ConfigurationError


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """A context that shows a certificate; TLS 1.2 and later.

    Args:
        certificate: PEM file with the certificate and the chain behind it.
        key: PEM file with the private key; None where the certificate's file holds it too.

    Raises:
        ConfigurationError: a file cannot be read, or certificate and key do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        files = str(certificate) if key is None else f"{certificate} with key {key}"
        raise ConfigurationError(
            f"TLS certificate {files} cannot be used: {exc}; both are to be PEM files"
        ) from exc
    return context
