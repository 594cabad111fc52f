"""Configuration: a TOML file, and nothing else, becomes frozen settings.

Names are OpenSIPS' where OpenSIPS has the parameter. Constructing a configuration reads files but
starts nothing; what is wrong is reported all at once as a `ConfigurationError`.
"""

import logging
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from sipws.address import WS_PORT, WSS_PORT, Address, Listener, is_loopback
from sipws.config.admission import (
    ENTRY_PATHS,
    PATHS,
    AdmissionSettings,
    Section,
    TlsSettings,
    listed,
)
from sipws.config.tracing import HEP_PATHS, Hep, Tracing
from sipws.config.upstream import UPSTREAM_PATHS, Upstream
from sipws.control.unix_socket import ControlAddress, parse_control, relative_to
from sipws.errors import AddressError, ConfigurationError
from sipws.limits import Limits
from sipws.liveness import Intervals
from sipws.log import Format as LogFormat
from sipws.log import Level as LogLevel
from sipws.masking.handshakes import USUAL

DEFAULT_LISTENER: Final = "ws:127.0.0.1:8080"
"""Where ``sipws run`` listens when nobody says otherwise: loopback, and no privileged port."""

MOST_WORKERS: Final = 256
"""Processes that may be asked for: more than machines have cores is a slip of the finger."""

log = logging.getLogger(__name__)

_DEFAULT_LIMITS: Final = Limits()


def _listener(text: str) -> str:
    try:
        Listener.parse(text)
    except AddressError as exc:
        raise ValueError(str(exc)) from exc
    return text


ListenerDefinition = Annotated[str, AfterValidator(_listener)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Transport(TlsSettings, AdmissionSettings):
    """``[transport]``: where connections are taken, and what one may cost."""

    listen: Annotated[tuple[ListenerDefinition, ...], BeforeValidator(listed)] = Field(
        default=(DEFAULT_LISTENER,), min_length=1
    )
    """Listener definitions: ``PROTO:HOST[:PORT] [tag NAME] [as ADVERTISED_IP[:PORT]]``."""

    ws_port: Port = WS_PORT
    """Port of a ``ws`` listener that names none."""

    wss_port: Port = WSS_PORT
    """Port of a ``wss`` listener that names none."""

    workers: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Processes that serve; more than one have a parent that starts and steers them."""

    ws_send_timeout: int = Field(default=round(_DEFAULT_LIMITS.send_timeout * 1000), ge=1)
    """Milliseconds that a connection may take none of the bytes that wait for it before it is
    dropped."""

    ws_handshake_timeout: int = Field(default=round(_DEFAULT_LIMITS.handshake_timeout * 1000), ge=1)
    """Milliseconds that a peer has for its upgrade request."""

    ws_max_msg_chunks: int = Field(default=_DEFAULT_LIMITS.max_chunks, ge=0)
    """Pieces that a message may come in before its connection is closed; 0 for any number."""

    ws_ping_interval: int = Field(default=round(_DEFAULT_LIMITS.intervals.ping * 1000), ge=0)
    """Milliseconds without a byte from the peer before it is pinged; 0 for never."""

    ws_ping_timeout: int = Field(default=round(_DEFAULT_LIMITS.intervals.pong * 1000), ge=1)
    """Milliseconds that a pinged peer has to show that it is there."""

    ws_idle_timeout: int = Field(default=round(_DEFAULT_LIMITS.intervals.idle * 1000), ge=0)
    """Milliseconds without a message from the peer before it is closed; 0 for never."""

    permessage_deflate: bool = False
    """Whether messages may be compressed (RFC 7692)."""

    ws_max_inflate_rate: int = Field(default=round(_DEFAULT_LIMITS.inflate_rate), ge=0)
    """Bytes a second that a connection's compressed messages may inflate to; 0 for any number."""

    shutdown_spread: int = Field(default=0, ge=0)
    """Milliseconds over which connections are closed at the end, evenly."""

    shutdown_grace: int = Field(default=5000, ge=0)
    """Milliseconds that peers then have to complete the closing handshake."""

    ws_close_timeout: int = Field(default=round(_DEFAULT_LIMITS.close_timeout * 1000), ge=1)
    """Milliseconds that a peer has to complete a closing handshake."""

    max_request_size: int = Field(default=_DEFAULT_LIMITS.request_size, ge=256)
    """Bytes of an upgrade request."""

    max_header_line: int | None = Field(default=None, ge=128)
    """Bytes of one line of an upgrade request; as many as ``max_request_size`` unless set."""

    max_headers: int | None = Field(default=None, ge=8)
    """Header lines of an upgrade request; one in each 64 bytes of ``max_request_size`` unless
    set."""

    max_message_size: int = Field(default=_DEFAULT_LIMITS.message_size, ge=256)
    """Bytes of a message."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        wss = next((x for x in self.listeners if x.proto == "wss"), None)
        if wss is not None and self.tls_certificate is None and not self.tls:
            raise ValueError(f"listener {wss} needs tls_certificate (and tls_key)")
        if self.tls_verify_client != "off" and self.tls_client_ca is None:
            raise ValueError(f"tls_verify_client = {self.tls_verify_client!r} needs tls_client_ca")
        if (self.max_header_line or 0) > self.max_request_size:
            raise ValueError(
                f"max_header_line = {self.max_header_line} is more than"
                f" max_request_size = {self.max_request_size}, which all lines together may have"
            )
        if self.max_connections is not None and self.max_connections < self.workers:
            raise ValueError(
                f"max_connections = {self.max_connections} is shared out among"
                f" workers = {self.workers}, and each needs one at least"
            )
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies, whose headers are believed")
        if not isinstance(self.proxy_protocol, bool):
            tags = [listener.tag for listener in self.listeners]
            for tag in self.proxy_protocol:
                if tag not in tags:
                    raise ValueError(f"proxy_protocol names {tag!r}, and no listener has that tag")
        return self

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The listener definitions, parsed."""
        return tuple(
            Listener.parse(text, ws_port=self.ws_port, wss_port=self.wss_port)
            for text in self.listen
        )

    @property
    def limits(self) -> Limits:
        """The limits, in the transport's units."""
        return Limits(
            handshake_timeout=self.ws_handshake_timeout / 1000,
            request_size=self.max_request_size,
            header_line=self.max_header_line,
            headers=self.max_headers,
            message_size=self.max_message_size,
            send_timeout=self.ws_send_timeout / 1000,
            close_timeout=self.ws_close_timeout / 1000,
            max_chunks=self.ws_max_msg_chunks,
            inflate_rate=self.ws_max_inflate_rate,
            intervals=Intervals(
                ping=self.ws_ping_interval / 1000,
                pong=self.ws_ping_timeout / 1000,
                idle=self.ws_idle_timeout / 1000,
            ),
        )


class Control(Section):
    """``[control]``: how the running program is steered."""

    listen: str | None = None
    """``HOST:PORT`` or ``unix:PATH`` of the control interface (``POST /mi``); none without it."""

    token: SecretStr | None = None
    """What requests must carry as ``Authorization: Bearer``; needed beyond loopback. An empty or
    blank one is none."""

    metrics_token: SecretStr | None = None
    """Another token, which opens ``/metrics`` and never ``/mi``; needs ``token``."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            address = self.address
        except AddressError as exc:
            raise ValueError(f"listen = {self.listen!r}: {exc}") from exc
        for name, secret in (("token", self.token), ("metrics_token", self.metrics_token)):
            # Its value is for no message.
            if (text := _secret(secret)) is not None and not _TOKEN.fullmatch(text):
                raise ValueError(
                    f"{name} holds a blank, a control character or a character that is not ASCII;"
                    " use letters, digits and punctuation (openssl rand -hex 32 makes one)"
                )
        if isinstance(address, Address) and self.secret is None and not is_loopback(address.ip):
            empty = "token is empty; " if self.token is not None else ""
            raise ValueError(
                f"listen = {self.listen!r} is no loopback address: {empty}set token as well"
            )
        if self.metrics_secret is not None and self.secret is None:
            raise ValueError("metrics_token needs token: without that one everything is open")
        if self.metrics_secret is not None and self.metrics_secret == self.secret:
            raise ValueError("metrics_token is the same as token; use another one")
        return self

    @property
    def address(self) -> ControlAddress | None:
        """Where to listen."""
        return None if self.listen is None else parse_control(self.listen)

    @property
    def secret(self) -> str | None:
        """The token itself."""
        return _secret(self.token)

    @property
    def metrics_secret(self) -> str | None:
        """The read-only token itself."""
        return _secret(self.metrics_token)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but most likely not meant."""
        given = (("token", self.token), ("metrics_token", self.metrics_token))
        return tuple(
            f"control.{name} is empty, which is as if it were not set: nobody is asked for it"
            for name, secret in given
            if secret is not None and _secret(secret) is None
        )


_TOKEN: Final = re.compile(r"[!-~]+")
"""What a token may be: what a header can carry unchanged. A little more than RFC 6750 allows."""


def _secret(secret: SecretStr | None) -> str | None:
    text = secret.get_secret_value() if secret else None
    return text if text and text.strip() else None


class Log(Section):
    """``[log]``: what the program writes to standard error."""

    format: LogFormat = "text"
    """``text`` for people, ``json`` for programs: an object a line."""

    level: LogLevel = "info"
    """The least that is written: ``debug``, ``info``, ``warning`` or ``error``."""

    connections: bool = True
    """Whether it is written, with level info, how each connection begins and ends."""


class Config(Section):
    """A whole configuration."""

    transport: Transport = Transport()
    hep: Hep = Hep()
    tracing: Tracing = Tracing()
    upstream: Upstream = Upstream()
    control: Control = Control()
    log: Log = Log()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file; paths in it are relative to it.

        Raises:
            ConfigurationError: the file cannot be read, is no TOML, or says something that is not
                allowed; the message names every place and value.
        """
        try:
            with path.open("rb") as file:
                table = tomllib.load(file)
        except OSError as exc:
            raise ConfigurationError(f"{path}: cannot be read: {exc.strerror}") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path}: not TOML: {exc}") from exc
        except RecursionError as exc:
            raise ConfigurationError(f"{path}: tables or lists are nested too deeply") from exc
        except ValueError as exc:
            # Python refuses to read a number of more than 4,300 digits.
            raise ConfigurationError(f"{path}: a number has too many digits: {exc}") from exc
        for settings, key in _paths_in(table):
            if isinstance(settings, dict) and isinstance(settings.get(key), str):
                settings[key] = path.parent / settings[key]
        control = table.get("control")
        if isinstance(control, dict) and isinstance(listen := control.get("listen"), str):
            control["listen"] = relative_to(path.parent, listen)
        return cls.of(table, str(path))

    @classmethod
    def of(cls, table: dict[str, Any], source: str) -> Self:
        """Check a table of settings.

        Args:
            table: sections, each a table of settings.
            source: where it comes from, for messages.

        Raises:
            ConfigurationError: see `load`.
        """
        try:
            return cls.model_validate(table)
        except ValidationError as exc:
            raise ConfigurationError("\n".join(_problems(exc, source))) from exc

    def with_opensips_cfg(self, path: Path) -> Self:
        """A copy with what an ``opensips.cfg`` sets.

        Raises:
            ConfigurationError: the file cannot be read, or a value of it is not allowed.
            FilterRouteError: its filter route is refused.
        """
        # Who brings no such file need not wait for its parser.
        from sipws.config.opensips_cfg import Setting, Socket, table_of
        from sipws.tracing.filter import Script

        script = Script.load(path)
        table, passed_over = table_of(
            (Setting(*words) for words in script.module_parameters),
            (Socket(*words) for words in script.sockets),
        )
        for words in passed_over:
            log.info("passed over: %s", words)
        if "trace_filter_route" in table["tracing"]:
            table["tracing"]["script"] = path
        return self.changed(str(path), **table)

    def changed(self, source: str, **sections: dict[str, Any]) -> Self:
        """A copy with some settings replaced, checked like the original.

        Args:
            source: where the new values come from, for messages.
            sections: settings by section; a value of None leaves the old one.
        """
        table = self.model_dump()
        for section, settings in sections.items():
            table[section] |= {key: new for key, new in settings.items() if new is not None}
        return type(self).of(table, source)


def _paths_in(table: dict[str, Any]) -> Iterable[tuple[object, str]]:
    """Every place in a file that names a file: its table, and its key there."""
    transport = table.get("transport")
    tracing = table.get("tracing")
    yield tracing, "script"
    also = tracing.get("also") if isinstance(tracing, dict) else None
    yield from ((entry, "script") for entry in (also if isinstance(also, list) else ()))
    yield from ((table.get("hep"), key) for key in HEP_PATHS)
    yield from ((table.get("upstream"), key) for key in UPSTREAM_PATHS)
    yield from ((transport, key) for key in PATHS)
    entries = transport.get("tls") if isinstance(transport, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        yield from ((entry, key) for key in ENTRY_PATHS)


def _problems(exc: ValidationError, source: str) -> Iterable[str]:
    for error in exc.errors(include_url=False):
        where = ".".join(map(str, error["loc"])) or "configuration"
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "too_short" and error["input"]:
            # A list whose items are all wrong counts as empty; the items are named themselves.
            continue
        if error["type"] == "too_short":
            yield f"{source}: {where} = {error['input']!r}: at least one is needed"
        elif error["type"] == "extra_forbidden":
            yield f"{source}: {where}: no such setting{_nearest(error['loc'])}"
        elif isinstance(error["input"], dict | BaseModel):
            yield f"{source}: {where}: {message}"
        else:
            yield f"{source}: {where} = {USUAL.text(repr(error['input']))}: {message}"


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known name that a misspelt one comes closest to, as a question."""
    import difflib

    model: type[BaseModel] = Config
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        if field is None or not isinstance(field.annotation, type):
            return ""
        model = field.annotation
    near = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f"; do you mean {near[0]!r}?" if near else f"; known: {', '.join(model.model_fields)}"
