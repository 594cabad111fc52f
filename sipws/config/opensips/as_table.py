"""The settings of an ``opensips.cfg`` as a table, over those of a configuration."""

from typing import TYPE_CHECKING, Any, Final

from sipws.config.admission import WSS_NAMES
from sipws.config.opensips.reader import OpensipsCfg

if TYPE_CHECKING:
    from sipws.config.settings import Config

_TRACING: Final = ("trace_on", "trace_destination", "trace_filter_route")
"""Settings that ``[tracing.wss]`` has too."""


def as_table(cfg: OpensipsCfg, base: "Config") -> dict[str, dict[str, Any]]:
    """Make a table of settings.

    What the file sets for proto_ws alone does not change ``wss``: there, the setting of the
    configuration stays.

    Args:
        cfg: the contents of the file.
        base: the configuration whose settings stay where the file has none.

    Returns:
        sections of settings.
    """
    sections = {name: dict(settings) for name, settings in cfg.sections.items()}
    transport, tracing = sections["transport"], sections["tracing"]
    wss, wss_tracing = sections.pop("transport.wss"), sections.pop("tracing.wss")
    for name, wss_name in WSS_NAMES.items():
        if name in transport and getattr(base.transport.wss, wss_name) is None:
            wss.setdefault(wss_name, getattr(base.transport, name))
    for name in _TRACING:
        if name in tracing and getattr(base.tracing.wss, name) is None:
            before = getattr(base.tracing, name)
            wss_tracing.setdefault(name, "" if before is None else before)
    if wss:
        transport["wss"] = wss
    if wss_tracing:
        tracing["wss"] = wss_tracing
    if cfg.also:
        also = [section.model_dump(exclude_unset=True) for section in base.tracing.also]
        tracing["also"] = (*also, *cfg.also)
    return sections


def without_repetitions(table: dict[str, dict[str, Any]], config: "Config") -> None:
    """Leave out what ``[transport.wss]`` and ``[tracing.wss]`` have in common with ``ws``.

    Args:
        table: sections of settings, which is changed.
        config: the configuration that it makes.
    """
    pairs = {wss_name: getattr(config.transport, name) for name, wss_name in WSS_NAMES.items()}
    _leave_out(table["transport"], pairs)
    values = {name: getattr(config.tracing, name) for name in _TRACING}
    values["trace_filter_route"] = values["trace_filter_route"] or ""
    _leave_out(table["tracing"], values)


def _leave_out(section: dict[str, Any], values: dict[str, Any]) -> None:
    left = {k: x for k, x in section.pop("wss", {}).items() if k not in values or values[k] != x}
    if left:
        section["wss"] = left
