"""The part of ``[transport]`` that says who is let in, and how TLS is done."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

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
        """Refuse ``true`` for a number, which it would be 1 as, and a NUL, which no path has."""
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError("a NUL character is not allowed")
        wanted = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(wanted) or (wanted,)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise ValueError("a number is wanted")
        return value


def listed(value: object) -> object:
    """One value where a list is expected stands for a list of one."""
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
    """A check of one text by what will read it."""

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
    """Who may open a connection."""

    ws_resource: Annotated[str, AfterValidator(_path)] = "/"
    """The path that is served; any other gets a 404. ``/`` stands for every path."""

    health_path: Annotated[str, AfterValidator(_health_path)] | None = None
    """The path that is answered with 200 to a plain GET, HEAD or OPTIONS, for health checks of load
    balancers; none without it."""

    require_origin: bool = True
    """Whether an upgrade request without ``Origin``, which pages have and most other programs have
    not, is refused with a 403."""

    allowed_origins: Annotated[tuple[Origin, ...], BeforeValidator(listed)] = ()
    """Origins of pages that may connect, others get a 403; any where there are none."""

    allowed_hosts: Annotated[tuple[Host, ...], BeforeValidator(listed)] = ()
    """Values of ``Host`` that are served, others get a 421; any where there are none."""

    max_connections: int | None = Field(default=None, ge=1)
    """Connections at once, handshakes under way included; without it as many as there are file
    descriptors for (`sipws.transport.descriptors`)."""

    max_connections_per_address: int | None = Field(default=None, ge=1)
    """Connections at once from one IPv4 address or one IPv6 /64."""

    max_handshake_rate: float | None = Field(default=None, gt=0)
    """Connections a second in total; ten seconds' worth may come at once."""

    max_handshake_rate_per_address: float | None = Field(default=None, gt=0)
    """Connections a second from one address; ten seconds' worth may come at once."""

    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(listed)] = ()
    """Addresses and networks whose PROXY and forwarding headers are believed."""

    proxy_protocol: bool | Annotated[tuple[str, ...], BeforeValidator(listed)] = False
    """Whether trusted proxies begin with a PROXY header (version 1 or 2): on all listeners, or on
    those with one of these tags."""

    forwarding_header: Annotated[str, AfterValidator(_header_name)] = "x-forwarded-for"
    """The header of an upgrade request in which trusted proxies tell who is behind them: one that
    they write themselves, whatever the client sent in it."""

    @property
    def rules(self) -> Rules:
        """These settings as rules."""
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


class TlsEntry(Section):
    """``[[transport.tls]]``: a certificate for some server names."""

    server_names: Annotated[tuple[ServerName, ...], BeforeValidator(listed)] = Field(min_length=1)
    """Names that clients ask for (SNI), ``*.example.com`` for every name one label below."""

    certificate: Path
    """PEM file with the certificate chain."""

    key: Path | None = None
    """PEM file with its private key, where the certificate's file does not hold it."""


class TlsSettings(Section):
    """What ``wss`` listeners show and ask for."""

    tls_certificate: Path | None = None
    """PEM file with the certificate chain of the ``wss`` listeners."""

    tls_key: Path | None = None
    """PEM file with its private key, where the certificate's file does not hold it."""

    tls: tuple[TlsEntry, ...] = ()
    """Further certificates, chosen by the name that a client asks for. Without
    ``tls_certificate`` the first of them is for clients that ask for none of the names."""

    tls_verify_client: VerifyClient = "off"
    """Whether clients are asked for a certificate: ``off``, ``optional`` (one that is shown must be
    right) or ``required``."""

    tls_client_ca: Path | None = None
    """PEM file with the authorities that issue clients' certificates."""

    @property
    def certificates(self) -> Certificates | None:
        """The certificates, read; None where none is set.

        Raises:
            ConfigurationError: one of them cannot be used.
        """
        found = [Certificate(x.certificate, x.key, x.server_names) for x in self.tls]
        if self.tls_certificate is not None:
            found.insert(0, Certificate(self.tls_certificate, self.tls_key))
        if not found:
            return None
        return Certificates(
            found, verify_client=self.tls_verify_client, client_ca=self.tls_client_ca
        )


PATHS: tuple[str, ...] = ("tls_certificate", "tls_key", "tls_client_ca")
"""Settings that are files."""

ENTRY_PATHS: tuple[Literal["certificate", "key"], ...] = ("certificate", "key")
"""Settings of a ``[[transport.tls]]`` that are files."""
