"""``[upstream]``: the server that SIP is relayed to, instead of the built-in responder."""

import ssl
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from sipws.config.admission import Section
from sipws.errors import AddressError, ConfigurationError
from sipws.transport.tls import client_context
from sipws.ws.destination import Destination

UPSTREAM_PATHS: Final = ("upstream_tls_ca",)
"""Settings of ``[upstream]`` that name a file."""


def _url(text: str) -> str:
    try:
        Destination.parse(text)
    except AddressError as exc:
        raise ValueError(str(exc)) from exc
    return text


class Upstream(Section):
    """``[upstream]``: the server that messages are relayed to."""

    upstream_uri: Annotated[str, AfterValidator(_url)] | None = Field(default=None)
    """``ws:`` or ``wss:`` URL of the server. Default: none; the built-in responder answers."""

    upstream_tls_ca: Path | None = None
    """PEM file with the CA certificates for the server. Default: those of the system."""

    upstream_tls_verify: bool = True
    """Whether its certificate and its name are verified. Default: on."""

    upstream_trace_sip: bool = True
    """Whether ``trace_sip`` traces messages on connections to it too, so that each message shows as
    two hops."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.upstream_tls_ca is not None and not self.upstream_tls_verify:
            raise ValueError(
                "upstream_tls_ca has no effect with upstream_tls_verify = false; remove one of them"
            )
        return self

    @property
    def destination(self) -> Destination | None:
        """The server, parsed."""
        return None if self.upstream_uri is None else Destination.parse(self.upstream_uri)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context for a ``wss`` server; None for ``ws``.

        Raises:
            ConfigurationError: the file cannot be used.
        """
        destination = self.destination
        if destination is None or destination.proto != "wss":
            return None
        try:
            context = client_context(self.upstream_tls_ca)
        except ConfigurationError as exc:
            raise ConfigurationError(f"upstream_tls_ca: {exc}") from exc
        if not self.upstream_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
