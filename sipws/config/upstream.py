"""``[upstream]``: the server that SIP is relayed to, in the place of the built-in answers."""

import ssl
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from sipws.config.admission import Section
from sipws.errors import AddressError
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
    """``[upstream]``: where messages are relayed to."""

    upstream_uri: Annotated[str, AfterValidator(_url)] | None = Field(default=None)
    """``ws:`` or ``wss:`` URL of the server; without it the built-in responder answers."""

    upstream_tls_ca: Path | None = None
    """PEM file with the authorities that its certificate must come from; the system's unless
    given."""

    upstream_tls_verify: bool = True
    """Whether its certificate and its name are checked."""

    upstream_trace_sip: bool = True
    """Whether ``trace_sip`` traces messages on the connections to it too: each message then shows
    as two hops."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.upstream_tls_ca is not None and not self.upstream_tls_verify:
            raise ValueError("upstream_tls_ca is of no use with upstream_tls_verify = false")
        return self

    @property
    def destination(self) -> Destination | None:
        """The server, parsed."""
        return None if self.upstream_uri is None else Destination.parse(self.upstream_uri)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How a ``wss`` server is checked.

        Raises:
            ConfigurationError: the file cannot be used.
        """
        destination = self.destination
        if destination is None or destination.proto != "wss":
            return None
        context = client_context(self.upstream_tls_ca)
        if not self.upstream_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
