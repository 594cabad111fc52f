"""The settings of ``[transport]`` that limit connections, and those of TLS."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from sipws.admission.admission import Rules
from sipws.admission.origin_patterns import HostPatterns, OriginPatterns
from sipws.admission.proxy_headers import Networks
from sipws.errors import ConfigurationError
from sipws.transport.tls import Certificate, Certificates, VerifyClient, check_server_name


class Section(BaseModel):
    """A table of settings."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, strict=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what pydantic would convert: ``true`` to 1, NUL, and an empty path."""
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError("a NUL character is not allowed")
        wanted = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(wanted) or (wanted,)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise ValueError("a number is wanted")
        if value == "" and Path in kinds:
            # As a path it would be the working directory.
            raise ValueError("a path is wanted; leave the setting out for none")
        return value


def listed(value: object) -> object:
    """Turn a single text into a list of one; other values are returned unchanged."""
    return (value,) if isinstance(value, str) else value


def _path(text: str) -> str:
    if not text.startswith("/") or re.search(r"[?#\s]", text):
        raise ValueError("a path starts with '/', and has no query; '/' stands for every path")
    return text


def _health_path(text: str) -> str:
    if not text.startswith("/") or re.search(r"[?#\s]", text):
        raise ValueError("a path starts with '/', and has no query, such as '/healthz'")
    return text


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+", text):
        raise ValueError(
            "a header's name is wanted, such as 'x-forwarded-for', 'x-real-ip' or 'forwarded'"
        )
    return text.lower()


def _each(read: Callable[[str], Any]) -> AfterValidator:
    """Make a check of a text: that ``read`` accepts it."""

    def check(text: str) -> str:
        try:
            read(text)
        except ConfigurationError as exc:
            raise ValueError(str(exc)) from exc
        return text

    return AfterValidator(check)


Origin = Annotated[str, _each(lambda text: OriginPatterns([text]))]
Host = Annotated[str, _each(lambda text: HostPatterns([text]))]
Network = Annotated[str, _each(lambda text: Networks([text]))]
ServerName = Annotated[str, _each(check_server_name)]


class AdmissionSettings(Section):
    """Limits and checks of new connections."""

    ws_resource: Annotated[str, AfterValidator(_path)] = "/"
    """Path that is served; others get 404. Default ``/``: every path."""

    health_path: Annotated[str, AfterValidator(_health_path)] | None = None
    """Path for health checks of load balancers: a plain GET, HEAD or OPTIONS gets 200. Default:
    none."""

    require_origin: bool = True
    """Whether requests without ``Origin`` get 403. Browsers send one, native clients do not."""

    allowed_origins: Annotated[tuple[Origin, ...], BeforeValidator(listed)] = ()
    """Origins that may connect; others get 403. Default: any."""

    allowed_hosts: Annotated[tuple[Host, ...], BeforeValidator(listed)] = ()
    """Values of ``Host`` that are served; others get 421. Default: any."""

    max_connections: int | None = Field(default=None, ge=1)
    """Maximum concurrent connections, handshakes included. Excess connections get 503. Default:
    what file descriptors allow (`sipws.transport.descriptors`)."""

    max_connections_per_address: int | None = Field(default=None, ge=1)
    """Maximum concurrent connections from one IPv4 address or one IPv6 /64. Excess ones get 429.
    Default: unlimited."""

    max_handshake_rate: float | None = Field(default=None, gt=0)
    """Maximum new connections per second in total; bursts of ten seconds are allowed. Excess ones
    get 503. Default: unlimited."""

    max_handshake_rate_per_address: float | None = Field(default=None, gt=0)
    """Maximum new connections per second from one address; bursts of ten seconds are allowed.
    Excess ones get 429. Default: unlimited."""

    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(listed)] = ()
    """Addresses and networks of proxies whose PROXY and forwarding headers are believed."""

    proxy_protocol: bool | Annotated[tuple[str, ...], BeforeValidator(listed)] = False
    """Whether trusted proxies send a PROXY header (version 1 or 2): on all listeners, or on those
    with one of these tags."""

    forwarding_header: Annotated[str, AfterValidator(_header_name)] = "x-forwarded-for"
    """Header in which trusted proxies report the client's address. They must overwrite or append to
    what the client sent in it."""

    @property
    def rules(self) -> Rules:
        """The settings as rules of `sipws.admission`."""
        tags = self.proxy_protocol
        return Rules(
            max_connections=self.max_connections,
            max_connections_per_address=self.max_connections_per_address,
            max_rate=self.max_handshake_rate,
            max_rate_per_address=self.max_handshake_rate_per_address,
            allowed_origins=OriginPatterns(self.allowed_origins),
            require_origin=self.require_origin,
            allowed_hosts=HostPatterns(self.allowed_hosts),
            resource=self.ws_resource,
            trusted_proxies=Networks(self.trusted_proxies),
            proxy_protocol=tags if isinstance(tags, bool) else frozenset(tags),
            forwarding_header=self.forwarding_header,
        )


class WssTransport(Section):
    """``[transport.wss]``: what differs for ``wss`` listeners (the parameters of proto_wss).

    A setting without a value is that of ``[transport]`` for ``ws``.
    """

    require_origin: bool | None = None
    """As in ``[transport]``."""

    wss_resource: Annotated[str, AfterValidator(_path)] | None = None
    """As ``ws_resource``."""

    wss_max_msg_chunks: int | None = Field(default=None, ge=0)
    """As ``ws_max_msg_chunks``."""

    wss_send_timeout: int | None = Field(default=None, ge=1)
    """As ``ws_send_timeout``, in ms."""

    wss_handshake_timeout: int | None = Field(default=None, ge=1)
    """As ``ws_handshake_timeout``, in ms."""

    wss_tls_handshake_timeout: int | None = Field(default=None, ge=1)
    """Time limit for the TLS handshake, in ms. Default: what the handshake timeout leaves."""


WSS_NAMES: Final = {
    "require_origin": "require_origin",
    "ws_resource": "wss_resource",
    "ws_max_msg_chunks": "wss_max_msg_chunks",
    "ws_send_timeout": "wss_send_timeout",
    "ws_handshake_timeout": "wss_handshake_timeout",
}
"""Settings of ``[transport]``, and the settings of ``[transport.wss]`` that override them."""


class TlsEntry(Section):
    """``[[transport.tls]]``: a certificate for certain server names."""

    server_names: Annotated[tuple[ServerName, ...], BeforeValidator(listed)] = Field(min_length=1)
    """Server names (SNI); ``*.example.com`` matches names one label below."""

    certificate: Path
    """PEM file with the certificate chain."""

    key: Path | None = None
    """PEM file with its private key. Default: the certificate's file."""


class TlsSettings(Section):
    """TLS of the ``wss`` listeners."""

    tls_certificate: Path | None = None
    """PEM file with the certificate chain of the ``wss`` listeners."""

    tls_key: Path | None = None
    """PEM file with its private key. Default: the certificate's file."""

    tls: tuple[TlsEntry, ...] = ()
    """Further certificates, chosen by server name. Without ``tls_certificate``, the first one is
    for unknown and missing names."""

    tls_verify_client: VerifyClient = "off"
    """Whether clients need a certificate: ``off``, ``optional`` (a wrong one is refused) or
    ``required``."""

    tls_client_ca: Path | None = None
    """PEM file with the CA certificates for clients. Required unless ``tls_verify_client`` is
    ``off``."""

    @property
    def tls_files(self) -> tuple[Certificate, ...]:
        """The certificates as they are configured, the default one first."""
        found = tuple(Certificate(x.certificate, x.key, x.server_names) for x in self.tls)
        if self.tls_certificate is None:
            return found
        return (Certificate(self.tls_certificate, self.tls_key), *found)

    @property
    def certificates(self) -> Certificates | None:
        """Read the certificates; None if none is set.

        Raises:
            ConfigurationError: one of them cannot be used.
        """
        if not self.tls_files:
            return None
        return Certificates(
            self.tls_files, verify_client=self.tls_verify_client, client_ca=self.tls_client_ca
        )


PATHS: tuple[str, ...] = ("tls_certificate", "tls_key", "tls_client_ca")
"""Settings that name a file."""

ENTRY_PATHS: tuple[Literal["certificate", "key"], ...] = ("certificate", "key")
"""Settings of a ``[[transport.tls]]`` that name a file."""
