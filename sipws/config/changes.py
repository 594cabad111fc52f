"""What differs between two configurations, and what of it a running program takes over. Pure.

`EFFECTS` has every setting. One that is missing there needs a restart.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import BaseModel

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.errors import ConfigurationError

log = logging.getLogger(__name__)


class Effect(StrEnum):
    """When the new value of a setting takes effect."""

    NEW_CONNECTIONS = "new connections"
    """Open connections keep the old value."""
    AT_ONCE = "at once"
    RESTART = "restart"


EFFECTS: Final[Mapping[str, Effect]] = {
    f"{section}.{name}": effect
    for section, effect, names in (
        (
            "transport",
            Effect.NEW_CONNECTIONS,
            "ws_resource health_path require_origin allowed_origins allowed_hosts max_connections"
            " max_connections_per_address max_handshake_rate max_handshake_rate_per_address"
            " trusted_proxies forwarding_header ws_send_timeout ws_handshake_timeout"
            " ws_max_msg_chunks ws_ping_interval ws_ping_timeout ws_idle_timeout"
            " permessage_deflate ws_max_inflate_rate ws_close_timeout max_request_size"
            " max_header_line max_headers max_message_size tls_certificate tls_key tls"
            " tls_verify_client tls_client_ca wss.require_origin wss.wss_resource"
            " wss.wss_max_msg_chunks wss.wss_send_timeout wss.wss_handshake_timeout"
            " wss.wss_tls_handshake_timeout",
        ),
        ("transport", Effect.AT_ONCE, "shutdown_spread shutdown_grace"),
        ("transport", Effect.RESTART, "listen ws_port wss_port workers proxy_protocol"),
        (
            "hep",
            Effect.AT_ONCE,
            "hep_capture_id hep_ip_protocol hep_auth_key homer5_on homer5_delim",
        ),
        (
            "hep",
            Effect.RESTART,
            "hep_id hep_port hep_queue_packets hep_queue_bytes hep_when_full hep_when_too_long"
            " hep_connect_timeout hep_retry_first hep_retry_longest hep_spool hep_spool_bytes"
            " hep_spool_fsync hep_tls_ca hep_tls_certificate hep_tls_key",
        ),
        (
            "tracing",
            Effect.NEW_CONNECTIONS,
            "trace_filter_route script trace_filter wss.trace_filter_route",
        ),
        (
            "tracing",
            Effect.AT_ONCE,
            "trace_on wss.trace_on trace_events trace_sip trace_sample trace_methods"
            " trace_correlation_headers trace_sip_correlation trace_sip_format trace_keys"
            " trace_call_logs trace_mask_headers trace_mask_parameters trace_mask_sip",
        ),
        (
            "tracing",
            Effect.RESTART,
            "trace_destination trace_distribution wss.trace_destination also",
        ),
        (
            "upstream",
            Effect.RESTART,
            "upstream_uri upstream_tls_ca upstream_tls_verify upstream_trace_sip",
        ),
        ("control", Effect.RESTART, "listen token metrics_token"),
        ("log", Effect.AT_ONCE, "format level connections"),
    )
    for name in names.split()
}
"""The effect of a reload on each setting."""


class Changes(NamedTuple):
    """The names of the settings that differ, such as ``transport.require_origin``."""

    live: tuple[str, ...] = ()
    """Those that a running program takes over."""
    restart: tuple[str, ...] = ()
    """Those that need a restart."""

    def log(self) -> None:
        """Log them; a setting that needs a restart is a warning."""
        if self.live:
            log.info("changed in the configuration: %s", ", ".join(self.live))
        if self.restart:
            log.warning(
                "changed in the configuration, but not in force: %s", needs_restart(self.restart)
            )

    @property
    def answer(self) -> str:
        """The answer of MI ``reload``: ``OK``, and what became of the settings that differ."""
        parts = ["OK"]
        if self.live:
            parts.append(f"applied: {', '.join(self.live)}")
        if self.restart:
            parts.append(needs_restart(self.restart))
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of a configuration, from which a reload reads it again."""

    name: str
    """The files that it comes from, for messages."""
    read: Callable[[], Config]
    """Reads the files, with the options of the command line. Raises ConfigurationError."""

    def compared_to(self, running: Config) -> tuple[Changes, Config]:
        """Read the files, and compare them to the configuration that the program runs with.

        Args:
            running: that configuration.

        Returns:
            what differs, and ``running`` with the live settings of the files.

        Raises:
            ConfigurationError: the files have a mistake, so that nothing of them is applied.
        """
        try:
            new = self.read()
            found = changes(running, new)
            return found, with_live(running, new, found, self.name)
        except ConfigurationError as exc:
            raise refused(exc) from exc


def resolve_again(config: Config, source: str) -> ResolvedConfig:
    """Check a configuration to the end, while the program runs with another one.

    Args:
        config: what `Source.compared_to` has returned.
        source: the files that it comes from, for messages.

    Raises:
        ConfigurationError: a filter or a certificate is wrong.
    """
    try:
        return ResolvedConfig.of(config, source)
    except ConfigurationError as exc:
        raise refused(exc) from exc
    except Exception as exc:
        # The module of a filter function is code of the operator.
        log.exception("the new configuration cannot be checked")
        raise refused(ConfigurationError(f"{type(exc).__name__}: {exc}")) from exc


def refused(exc: ConfigurationError) -> ConfigurationError:
    """Say that a configuration with a mistake is not applied."""
    return ConfigurationError(f"the new configuration is refused, the old one stays:\n{exc}")


def settings_in(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The name and the value of each setting, those of tables within sections included.

    Args:
        section: the configuration, or a part of it.
        prefix: what the names begin with.
    """
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from settings_in(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def changes(old: Config, new: Config) -> Changes:
    """Compare two configurations.

    Args:
        old: the configuration that the program runs with.
        new: the configuration that was read.
    """
    before = dict(settings_in(old))
    changed = [name for name, value in settings_in(new) if value != before[name]]
    restart = [name for name in changed if _effect(name) is Effect.RESTART]
    live = [name for name in changed if name not in restart]
    return Changes(tuple(live), tuple(restart))


def with_live(old: Config, new: Config, found: Changes, source: str) -> Config:
    """Make the configuration that a running program takes over.

    Args:
        old: the configuration that the program runs with.
        new: the configuration that was read.
        found: their `changes`.
        source: the files that ``new`` comes from, for messages.

    Returns:
        ``old`` with the live settings of ``new``.

    Raises:
        ConfigurationError: they are wrong without the settings that need a restart.
    """
    if not found.restart:
        return new
    table, wanted = old.model_dump(), new.model_dump()
    for name in found.live:
        *sections, key = name.split(".")
        into, of = table, wanted
        for section in sections:
            into, of = into[section], of[section]
        into[key] = of[key]
    try:
        return Config.of(table, source)
    except ConfigurationError as exc:
        raise ConfigurationError(
            f"{needs_restart(found.restart)}, and the other changes are wrong without it:\n{exc}"
        ) from exc


def needs_restart(names: Sequence[str]) -> str:
    """Say that settings need a restart."""
    return f"{', '.join(names)} {'needs' if len(names) == 1 else 'need'} a restart"


def _effect(name: str) -> Effect:
    return EFFECTS.get(name, Effect.RESTART)
