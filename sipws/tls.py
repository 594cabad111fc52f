"""Certificates and contexts for TLS: the public names of `sipws.transport.tls`."""

from sipws.transport.tls import (
    Certificate,
    Certificates,
    client_context,
    load_certificate,
    server_context,
)

__all__ = ["Certificate", "Certificates", "client_context", "load_certificate", "server_context"]
