"""``[hep]`` and ``[tracing]``: the collectors, and what is traced to them."""

import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    field_validator,
    model_validator,
)

from hep import HepId, HepIdError, SenderSettings
from hep.hep_id import PORT
from hep.sending.fitting import WhenTooLong
from hep.sending.outbox import WhenFull
from hep.sending.spool import Fsync
from sipws.address import PROTOCOLS, Proto
from sipws.config.admission import Section, listed
from sipws.errors import ConfigurationError
from sipws.masking.credentials import HEADERS, PARAMETERS
from sipws.masking.handshakes import Masking
from sipws.masking.sip_messages import Scope
from sipws.tracing.destinations import Distribution, spool_of
from sipws.tracing.messages import CorrelateBy, MessageRules
from sipws.tracing.packets import PacketSettings, SipFormat
from sipws.tracing.payloads import Keys
from sipws.tracing.tracer import CALL_LOGS, TraceSettings
from sipws.transport.tls import client_context, load_certificate

IP_PROTOCOLS: Final = {"tcp": 6, "opensips": 50}
"""The values of ``hep_ip_protocol`` in chunk 0x0002 for ws and wss."""

LONGEST_KEY: Final = 1024
"""Bytes of ``hep_auth_key``. Every packet carries it, and its payload needs the rest."""

HEP_PATHS: Final = ("hep_spool", "hep_tls_ca", "hep_tls_certificate", "hep_tls_key")
"""Settings of ``[hep]`` that name a file or a directory."""

_SENDER: Final = SenderSettings()


def _hep_id(text: object) -> object:
    if isinstance(text, HepId):
        return text
    if not isinstance(text, str):
        raise ValueError("a hep_id is text such as '[homer]10.0.0.2:9060;transport=udp'")
    try:
        HepId.parse(text)
    except HepIdError as exc:
        raise ValueError(str(exc)) from exc
    return text


HepIdText = Annotated[Any, BeforeValidator(_hep_id), PlainSerializer(str)]
Names = Annotated[tuple[str, ...], BeforeValidator(listed)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Hep(Section):
    """``[hep]``: the collectors, the format of packets, and the limits of sending."""

    hep_id: Annotated[tuple[HepIdText, ...], BeforeValidator(listed)] = ()
    """Destinations: ``[name]host[:port][; transport=udp|tcp|tls][; version=1|2|3]``."""

    hep_port: int = Field(default=PORT, ge=1, le=65535)
    """Port of a destination without one."""

    hep_capture_id: int = Field(default=1, ge=0, le=0xFFFFFFFF)
    """Capture agent id (chunk 0x000c)."""

    hep_ip_protocol: Literal["tcp", "opensips"] = "tcp"
    """IP protocol in ws and wss packets (chunk 0x0002): ``tcp`` is 6, ``opensips`` 50."""

    hep_auth_key: SecretStr | None = None
    """Authenticate key (chunk 0x000e). Default: none."""

    homer5_on: bool = False
    """Whether payloads are OpenSIPS' delimited text instead of JSON. Default: off."""

    homer5_delim: str = ":"
    """Delimiter of the values with ``homer5_on``."""

    hep_queue_packets: int = Field(default=_SENDER.queue_limit, ge=1)
    """Maximum packets queued per destination; ``hep_when_full`` says which are dropped."""

    hep_queue_bytes: int = Field(default=_SENDER.queue_limit_bytes, ge=65536)
    """Maximum bytes queued per destination; see ``hep_when_full``."""

    hep_when_full: WhenFull = _SENDER.when_full
    """Which packet a full queue drops: ``drop-oldest`` or ``drop-newest``."""

    hep_when_too_long: WhenTooLong = "truncate"
    """What happens to a packet too long for a datagram: ``truncate`` its payload, ``compress`` it
    (Homer cannot read that), or ``drop`` it."""

    hep_connect_timeout: int = Field(default=round(_SENDER.connect_timeout * 1000), ge=1)
    """Time limit for connecting to a destination, in ms."""

    hep_retry_first: int = Field(default=round(_SENDER.retry_first * 1000), ge=1)
    """Pause before the first retry, in ms; doubled with each, and jittered by half."""

    hep_retry_longest: int = Field(default=round(_SENDER.retry_longest * 1000), ge=1)
    """Maximum pause between retries, in ms."""

    hep_spool: Path | None = None
    """Directory for packets beyond the queue, and for those left at the end. Default: none; they
    are dropped."""

    hep_spool_bytes: int = Field(default=_SENDER.spool_limit_bytes, ge=1024 * 1024)
    """Maximum bytes in the spool per destination. Beyond it, the oldest packets are dropped."""

    hep_spool_fsync: Fsync = _SENDER.spool_fsync
    """When the spool is written through to the disk: ``never``, per ``segment`` (1 MiB), or per
    ``batch`` (each write). A power cut costs what was not."""

    hep_tls_ca: Path | None = None
    """PEM file with the CA certificates for collectors. Default: those of the system."""

    hep_tls_certificate: Path | None = None
    """PEM file with the client certificate for collectors. Default: none."""

    hep_tls_key: Path | None = None
    """PEM file with its private key. Default: the certificate's file."""

    @field_validator("hep_auth_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key is not None else ""
        try:
            size = len(text.encode())
        except UnicodeEncodeError as exc:
            raise ValueError(
                "the key is not Unicode text: it has half of a surrogate pair"
            ) from exc
        if size > LONGEST_KEY:
            raise ValueError(
                f"the key has {size} bytes; every packet carries it, and {LONGEST_KEY} bytes are"
                " the maximum"
            )
        return key

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [hep_id.name for hep_id in self.hep_ids]
        for name in names:
            if name is not None and names.count(name) > 1:
                raise ValueError(f"hep_id {name!r} is defined twice; rename one of them")
        if self.hep_tls_key is not None and self.hep_tls_certificate is None:
            raise ValueError("hep_tls_key needs hep_tls_certificate, which it belongs to")
        return self

    @property
    def hep_ids(self) -> tuple[HepId, ...]:
        """The destinations, parsed."""
        return tuple(self.parsed(each) for each in self.hep_id)

    def parsed(self, hep_id: HepId | str) -> HepId:
        """Parse a destination; without a port it gets ``hep_port``.

        Raises:
            HepIdError: it is not a HEP id.
        """
        return hep_id if isinstance(hep_id, HepId) else HepId.parse(hep_id, self.hep_port)

    @property
    def auth_key(self) -> bytes | None:
        """The authenticate key as bytes."""
        return self.hep_auth_key.get_secret_value().encode() if self.hep_auth_key else None

    def sender_settings(self, destination: HepId) -> SenderSettings:
        """The limits of sending to a destination.

        Raises:
            ConfigurationError: a certificate cannot be used.
        """
        spool = self.hep_spool
        if spool is not None:
            spool = spool_of(spool, destination)
        return SenderSettings(
            queue_limit=self.hep_queue_packets,
            queue_limit_bytes=self.hep_queue_bytes,
            when_full=self.hep_when_full,
            connect_timeout=self.hep_connect_timeout / 1000,
            retry_first=self.hep_retry_first / 1000,
            retry_longest=self.hep_retry_longest / 1000,
            tls=self.tls if destination.transport == "tls" else None,
            when_too_long=self.hep_when_too_long,
            spool=spool,
            spool_limit_bytes=self.hep_spool_bytes,
            spool_fsync=self.hep_spool_fsync,
        )

    @property
    def tls(self) -> ssl.SSLContext:
        """The TLS context for connections to collectors.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        try:
            context = client_context(self.hep_tls_ca)
        except ConfigurationError as exc:
            raise ConfigurationError(f"hep_tls_ca: {exc}") from exc
        if self.hep_tls_certificate is not None:
            try:
                load_certificate(context, self.hep_tls_certificate, self.hep_tls_key)
            except ConfigurationError as exc:
                raise ConfigurationError(f"hep_tls_certificate: {exc}") from exc
        return context


class TraceSection(Section):
    """What is traced to one destination, or to one group of them."""

    trace_destination: Names = ()
    """Names of hep_ids, or whole HEP ids. Default: none; nothing is traced."""

    trace_distribution: Distribution = "duplicate"
    """How several destinations get packets: all of them (``duplicate``), the first that is
    reachable (``failover``), or one chosen by correlation id (``balanced``)."""

    trace_filter_route: str | None = None
    """Route that decides, once per connection, whether it is traced. Default: none; all are."""

    script: Path | None = None
    """File with the route: a script of routes, or an ``opensips.cfg``."""

    trace_filter: str | None = None
    """Filter in Python instead of a route: ``MODULE:FUNCTION``, called with the connection."""

    trace_events: bool = True
    """Whether events of connections are traced. Default: on."""

    trace_sip: bool = False
    """Whether SIP messages are traced. Default: off."""

    trace_sample: Fraction = 1.0
    """Fraction of calls whose messages are traced, 0 to 1. Calls are chosen by Call-ID, so that
    they are complete."""

    trace_methods: Names = ()
    """SIP methods whose requests and responses are traced. Default: all."""

    trace_correlation_headers: Names = ()
    """Headers whose value replaces the Call-ID as correlation id, such as ``X-CID``."""

    trace_sip_correlation: CorrelateBy = "call"
    """Correlation id of SIP messages: the ``call``'s id, or that of the ``connection``, by which
    Homer 7 leads from a call to its connection."""

    trace_sip_format: SipFormat = "raw"
    """How SIP messages are written: ``raw``, or ``json`` as OpenSIPS does with ``homer5_on=0``:
    ``{"payload": …}``, and a chunk 0x0065 that names the connection. Homer 7 stores no message
    in JSON."""

    trace_keys: Keys = "underscore"
    """How the JSON of events writes names that OpenSIPS does not send: ``underscore``
    (``Close_Code``, which Homer searches) or ``hyphen`` (``Close-Code``)."""

    trace_call_logs: int = Field(default=CALL_LOGS, ge=0, le=1000)
    """Maximum calls that get a log line when their connection fails or ends. 0: none."""

    @model_validator(mode="after")
    def _check_section(self) -> Self:
        if self.trace_filter is not None and self.script is not None:
            raise ValueError("trace_filter and script are both set; one filter decides")
        if self.trace_sip_correlation == "connection" and self.trace_correlation_headers:
            raise ValueError(
                'trace_sip_correlation = "connection" leaves no place for'
                " trace_correlation_headers; set one of them"
            )
        return self

    def writes_text(self, hep: Hep) -> bool:
        """Whether its events are OpenSIPS' delimited text.

        Args:
            hep: the section ``[hep]``.
        """
        return hep.homer5_on


class AlsoSettings(TraceSection):
    """``[[tracing.also]]``: a further destination, with its own filter and format."""

    trace_destination: Names = Field(min_length=1)
    """As in ``[tracing]``; required here."""

    homer5_on: bool | None = None
    """As in ``[hep]``, for this destination. Default: that of ``[hep]``."""

    def writes_text(self, hep: Hep) -> bool:
        """Whether its events are OpenSIPS' delimited text; its own ``homer5_on`` comes first."""
        return super().writes_text(hep) if self.homer5_on is None else self.homer5_on


class WssTracing(Section):
    """``[tracing.wss]``: what differs for connections over ``wss`` (the parameters of proto_wss).

    A setting without a value is that of ``[tracing]``.
    """

    trace_on: bool | None = None
    """As in ``[tracing]``."""

    trace_destination: Annotated[tuple[str, ...], BeforeValidator(listed)] | None = None
    """As in ``[tracing]``. Empty: none; nothing is traced."""

    trace_filter_route: str | None = None
    """As in ``[tracing]``; the route is in the same ``script``. Empty: no filter."""


class Tracing(TraceSection):
    """``[tracing]``: what is traced, and to which destination."""

    trace_on: bool = False
    """Whether tracing is on at the start. Default: off."""

    wss: WssTracing = WssTracing()
    """What differs for connections over ``wss``."""

    trace_mask_headers: Names = HEADERS
    """Headers of handshakes whose values are masked; ``*`` matches any characters."""

    trace_mask_parameters: Names = PARAMETERS
    """Query parameters whose values are masked; ``*`` matches any characters."""

    trace_mask_sip: Scope = "tokens"
    """Which credentials in ``Authorization`` and ``Proxy-Authorization`` of SIP messages are
    masked: ``tokens`` (all but Digest), ``all``, or ``none``."""

    also: tuple[AlsoSettings, ...] = ()
    """Further destinations."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sections: tuple[TraceSection, ...] = (self, self.of_wss, *self.also)
        for section in sections:
            if section.trace_filter_route is not None and self.script_of(section) is None:
                raise ValueError(
                    f"trace_filter_route {section.trace_filter_route!r} needs script, the file that"
                    " holds the route"
                )
        return self

    @property
    def of_wss(self) -> Self:
        """These settings as they are for connections over ``wss``."""
        own, changed = self.wss, dict[str, object]()
        if own.trace_on is not None:
            changed["trace_on"] = own.trace_on
        if own.trace_destination is not None:
            changed["trace_destination"] = own.trace_destination
        if own.trace_filter_route is not None:
            changed |= {"trace_filter_route": own.trace_filter_route or None, "trace_filter": None}
            if not own.trace_filter_route:
                changed["script"] = None
        return self.model_copy(update=changed) if changed else self

    @property
    def protocols_on(self) -> frozenset[Proto]:
        """The protocols for which tracing is on at the start."""
        return frozenset(proto for proto in PROTOCOLS if self.of(proto).trace_on)

    def of(self, proto: Proto) -> Self:
        """These settings as they are for connections over a protocol."""
        return self.of_wss if proto == "wss" else self

    @property
    def masking(self) -> Masking:
        """The masking of credentials in traces and logs."""
        return Masking(self.trace_mask_headers, self.trace_mask_parameters)

    def script_of(self, section: TraceSection) -> Path | None:
        """The file with a destination's filter route: its own, or else that of ``[tracing]``."""
        if section.script is not None or section.trace_filter is not None:
            return section.script
        return self.script if section is self or section.trace_filter_route is not None else None

    def settings_of(self, section: TraceSection, hep: Hep, version: int) -> TraceSettings:
        """The format of traces for one destination.

        Args:
            section: the section that configures the destination.
            hep: the section ``[hep]``.
            version: of HEP, 1 to 3.
        """
        return TraceSettings(
            packets=PacketSettings(
                version=version,
                capture_id=hep.hep_capture_id,
                ip_protocol=IP_PROTOCOLS[hep.hep_ip_protocol],
                auth_key=hep.auth_key,
                sip_format=section.trace_sip_format,
            ),
            homer5=section.writes_text(hep),
            homer5_delimiter=hep.homer5_delim,
            masking=self.masking,
            mask_sip=self.trace_mask_sip,
            trace_events=section.trace_events,
            trace_sip=section.trace_sip,
            messages=MessageRules(
                sample=section.trace_sample,
                methods=frozenset(section.trace_methods),
                correlation_headers=section.trace_correlation_headers,
                correlate_by=section.trace_sip_correlation,
            ),
            call_logs=section.trace_call_logs,
            keys=section.trace_keys,
        )
