"""The configuration: a TOML file as frozen settings.

A setting that OpenSIPS has too has the same name. Constructing a configuration reads files and
starts nothing. A `ConfigurationError` reports all errors at once.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
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

from sipws.address import WS_PORT, WSS_PORT, Address, Listener, Proto, is_loopback
from sipws.config.admission import (
    ENTRY_PATHS,
    PATHS,
    WSS_NAMES,
    AdmissionSettings,
    Section,
    TlsSettings,
    WssTransport,
    listed,
)
from sipws.config.toml import load_toml
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
"""The default listener of ``sipws run``: loopback, and a port that needs no privileges."""

MOST_WORKERS: Final = 256
"""Maximum of ``workers``. More processes than a machine has cores are a typing error."""

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
    """``[transport]``: the listeners, and the limits of a connection."""

    listen: Annotated[tuple[ListenerDefinition, ...], BeforeValidator(listed)] = Field(
        default=(DEFAULT_LISTENER,), min_length=1
    )
    """Listeners: ``PROTO:HOST[:PORT] [tag NAME] [as ADVERTISED_IP[:PORT]]``."""

    wss: WssTransport = WssTransport()
    """What differs for ``wss`` listeners."""

    ws_port: Port = WS_PORT
    """Port of a ``ws`` listener without one."""

    wss_port: Port = WSS_PORT
    """Port of a ``wss`` listener without one."""

    workers: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Processes that serve. Several have a parent process, which restarts those that end."""

    ws_send_timeout: int = Field(default=round(_DEFAULT_LIMITS.send_timeout * 1000), ge=1)
    """Maximum time for which a peer reads nothing while more than 64 KiB are queued for it, in ms.
    The connection is then dropped; slow readers stay connected."""

    ws_handshake_timeout: int = Field(default=round(_DEFAULT_LIMITS.handshake_timeout * 1000), ge=1)
    """Time limit for the upgrade request, in ms. A peer that is slower gets 408."""

    ws_max_msg_chunks: int = Field(default=_DEFAULT_LIMITS.max_chunks, ge=0)
    """Maximum pieces that a message may come in. With more, the connection is closed. 0:
    unlimited."""

    ws_ping_interval: int = Field(default=round(_DEFAULT_LIMITS.intervals.ping * 1000), ge=0)
    """Silence after which a peer is pinged, in ms. 0: never."""

    ws_ping_timeout: int = Field(default=round(_DEFAULT_LIMITS.intervals.pong * 1000), ge=1)
    """Time limit for any byte after a ping, in ms. The connection is then closed."""

    ws_idle_timeout: int = Field(default=round(_DEFAULT_LIMITS.intervals.idle * 1000), ge=0)
    """Time without a message from the peer, in ms, after which it is closed. 0: never."""

    permessage_deflate: bool = False
    """Whether to accept compressed messages (RFC 7692). Default: off."""

    ws_max_inflate_rate: int = Field(default=round(_DEFAULT_LIMITS.inflate_rate), ge=0)
    """Maximum rate of inflated bytes per connection, in bytes per second. Above it, reading pauses.
    0: unlimited."""

    shutdown_spread: int = Field(default=0, ge=0)
    """Time over which a shutdown closes connections evenly, in ms. 0: all at once."""

    shutdown_grace: int = Field(default=5000, ge=0)
    """Time limit for closing handshakes in a shutdown, in ms. Connections are then dropped."""

    ws_close_timeout: int = Field(default=round(_DEFAULT_LIMITS.close_timeout * 1000), ge=1)
    """Time limit for a closing handshake, in ms. The connection is then dropped."""

    max_request_size: int = Field(default=_DEFAULT_LIMITS.request_size, ge=256)
    """Maximum size of an upgrade request, in bytes. A larger one gets 431."""

    max_header_line: int | None = Field(default=None, ge=128)
    """Maximum size of a line of an upgrade request, in bytes. A longer one gets 431. Default:
    ``max_request_size``."""

    max_headers: int | None = Field(default=None, ge=8)
    """Maximum number of header lines of an upgrade request. More get 431. Default: one per 64 bytes
    of ``max_request_size``."""

    max_message_size: int = Field(default=_DEFAULT_LIMITS.message_size, ge=256)
    """Maximum size of a message, in bytes. A larger one closes the connection with 1009."""

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
                f" max_request_size = {self.max_request_size}, the maximum of all lines together"
            )
        if self.max_connections is not None and self.max_connections < self.workers:
            raise ValueError(
                f"max_connections = {self.max_connections} is divided among"
                f" workers = {self.workers}, and each needs at least one"
            )
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError(
                "proxy_protocol needs trusted_proxies, the addresses whose headers are accepted"
            )
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
    def of_wss(self) -> Self:
        """These settings as they are for ``wss`` listeners."""
        own = ((ws, getattr(self.wss, wss)) for ws, wss in WSS_NAMES.items())
        changed = {name: value for name, value in own if value is not None}
        return self.model_copy(update=changed)

    @property
    def wss_limits(self) -> Limits:
        """The limits of connections over ``wss``."""
        limit = self.wss.wss_tls_handshake_timeout
        return replace(
            self.of_wss.limits, tls_handshake_timeout=None if limit is None else limit / 1000
        )

    @property
    def limits(self) -> Limits:
        """The limits in the units of the transport, seconds and bytes."""
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
    """``[control]``: the control interface."""

    listen: str | None = None
    """Address of the control interface, ``HOST:PORT`` or ``unix:PATH``. Default: no interface."""

    token: SecretStr | None = None
    """Token that requests must carry as ``Authorization: Bearer``. Required beyond loopback. An
    empty or blank one counts as none."""

    metrics_token: SecretStr | None = None
    """Another token, which opens ``/metrics`` but not ``/mi``. Requires ``token``."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            address = self.address
        except AddressError as exc:
            raise ValueError(f"listen = {self.listen!r}: {exc}") from exc
        for name, secret in (("token", self.token), ("metrics_token", self.metrics_token)):
            # No message may hold its value.
            if (text := _secret(secret)) is not None and not _TOKEN.fullmatch(text):
                raise ValueError(
                    f"{name} holds a blank, a control character or a character that is not ASCII;"
                    " use letters, digits and punctuation (openssl rand -hex 32 makes one)"
                )
        if isinstance(address, Address) and self.secret is None and not is_loopback(address.ip):
            empty = "token is empty; " if self.token is not None else ""
            raise ValueError(
                f"listen = {self.listen!r} is not a loopback address: {empty}set token as well"
            )
        if self.metrics_secret is not None and self.secret is None:
            raise ValueError("metrics_token needs token: without it, no token is required at all")
        if self.metrics_secret is not None and self.metrics_secret == self.secret:
            raise ValueError("metrics_token is the same as token; use another one")
        return self

    @property
    def address(self) -> ControlAddress | None:
        """The address, parsed."""
        return None if self.listen is None else parse_control(self.listen)

    @property
    def secret(self) -> str | None:
        """The token in clear; None if it is empty."""
        return _secret(self.token)

    @property
    def metrics_secret(self) -> str | None:
        """The read-only token in clear; None if it is empty."""
        return _secret(self.metrics_token)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Settings that are allowed but most likely mistakes."""
        given = (("token", self.token), ("metrics_token", self.metrics_token))
        return tuple(
            f"control.{name} is empty, which counts as not set: requests need no such token"
            for name, secret in given
            if secret is not None and _secret(secret) is None
        )


_TOKEN: Final = re.compile(r"[!-~]+")
"""Tokens that a header carries unchanged: RFC 6750's, and more punctuation."""


def _secret(secret: SecretStr | None) -> str | None:
    text = secret.get_secret_value() if secret else None
    return text if text and text.strip() else None


class Log(Section):
    """``[log]``: the log, on standard error."""

    format: LogFormat = "text"
    """``text`` or ``json``, one object per line."""

    level: LogLevel = "info"
    """Lowest level that is logged: ``debug``, ``info``, ``warning`` or ``error``."""

    connections: bool = True
    """Whether to log the start and the end of each connection, at level info."""


class Config(Section):
    """A whole configuration."""

    transport: Transport = Transport()
    hep: Hep = Hep()
    tracing: Tracing = Tracing()
    upstream: Upstream = Upstream()
    control: Control = Control()
    log: Log = Log()

    @property
    def protocols(self) -> frozenset[Proto]:
        """The protocols that connections may have: those of the listeners and of the upstream."""
        found = {listener.proto for listener in self.transport.listeners}
        upstream = self.upstream.destination
        return frozenset(found if upstream is None else found | {upstream.proto})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file; paths in it are relative to it.

        Raises:
            ConfigurationError: the file cannot be read, is not TOML, or has wrong settings; the
                message names each setting and its value.
        """
        table = load_toml(path)
        for settings, key in _paths_in(table):
            if isinstance(settings, dict) and isinstance(name := settings.get(key), str) and name:
                settings[key] = path.parent / name
        control = table.get("control")
        if isinstance(control, dict) and isinstance(listen := control.get("listen"), str):
            control["listen"] = relative_to(path.parent, listen)
        return cls.of(table, str(path))

    @classmethod
    def of(cls, table: dict[str, Any], source: str) -> Self:
        """Check a table of settings.

        Args:
            table: sections, each a table of settings.
            source: the file that it comes from, for messages.

        Raises:
            ConfigurationError: see `load`.
        """
        try:
            return cls.model_validate(table)
        except ValidationError as exc:
            raise ConfigurationError("\n".join(_problems(exc, source))) from exc

    def with_opensips_cfg(self, path: Path) -> Self:
        """Return a copy with the settings of an ``opensips.cfg``.

        Raises:
            ConfigurationError: the file cannot be read, or has a wrong value.
            FilterRouteError: its filter route is refused.
        """
        # The parser takes long to import, and is needed only here.
        from sipws.config.opensips.reader import read
        from sipws.config.opensips_table import as_table

        cfg = read(path)
        for line in cfg.lines:
            if line.outcome != "taken":
                what = "passed over" if line.outcome == "not taken" else "changed"
                level = logging.INFO if line.is_usual else logging.WARNING
                why = "; ".join(line.remarks)
                log.log(level, "%s: %s (%s): %s", what, line.text, line.place, why)
        return self.changed(str(path), **as_table(cfg, self.model_dump()))

    def without_wss(self, **sections: Iterable[str]) -> Self:
        """Return a copy in which ``wss`` has the settings of ``ws`` again.

        Args:
            sections: names of settings in ``[transport.wss]`` and ``[tracing.wss]``.
        """
        update = {}
        for section, names in sections.items():
            settings = getattr(self, section)
            wss = settings.wss.model_copy(update=dict.fromkeys(names))
            update[section] = settings.model_copy(update={"wss": wss})
        return self.model_copy(update=update)

    def changed(self, source: str, **sections: dict[str, Any]) -> Self:
        """Return a copy with some settings replaced, checked like the original.

        Args:
            source: the origin of the new values, for messages.
            sections: settings by section; None keeps the old value. Of a table within a section,
                the settings that are not named stay.

        Raises:
            ConfigurationError: see `load`.
        """
        table = self.model_dump()
        for section, settings in sections.items():
            for key, new in settings.items():
                if isinstance(new, dict):
                    table[section][key] |= new
                elif new is not None:
                    table[section][key] = new
        return type(self).of(table, source)


def _paths_in(table: dict[str, Any]) -> Iterable[tuple[object, str]]:
    """The settings that name a file: the table of each, and its key there."""
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


_SECRETS: Final = (("hep_auth_key",), ("token",), ("metrics_token",))
"""Settings whose value no message shows."""


def _problems(exc: ValidationError, source: str) -> Iterable[str]:
    for error in exc.errors(include_url=False):
        where = ".".join(map(str, error["loc"])) or "configuration"
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "too_short" and error["input"]:
            # A list whose items are all wrong counts as empty; each item has its own message.
            continue
        if error["type"] == "too_short":
            yield f"{source}: {where} = {error['input']!r}: at least one is needed"
        elif error["type"] == "extra_forbidden":
            yield f"{source}: {where}: no such setting{_nearest(error['loc'])}"
        elif isinstance(error["input"], dict | BaseModel) or error["loc"][-1:] in _SECRETS:
            yield f"{source}: {where}: {message}"
        else:
            yield f"{source}: {where} = {USUAL.text(repr(error['input']))}: {message}"


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known name that is closest to a misspelt one, as a question."""
    import difflib

    model: type[BaseModel] = Config
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        if field is None or not isinstance(field.annotation, type):
            return ""
        model = field.annotation
    near = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f"; do you mean {near[0]!r}?" if near else f"; known: {', '.join(model.model_fields)}"
