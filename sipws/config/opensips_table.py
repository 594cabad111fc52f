"""The settings of an ``opensips.cfg`` as a table, over those of a configuration."""

from collections.abc import Mapping
from typing import Any, Final

from sipws.config.admission import WSS_NAMES
from sipws.config.opensips.reader import OpensipsCfg

_TRACING: Final = ("trace_on", "trace_destination", "trace_filter_route")
"""Settings that ``[tracing.wss]`` has too."""


Sections = Mapping[str, dict[str, Any]]


def as_table(cfg: OpensipsCfg, base: Sections) -> dict[str, dict[str, Any]]:
    """Make a table of settings.

    What the file sets for proto_ws alone does not change ``wss``: there, the setting of the
    configuration stays.

    Args:
        cfg: the contents of the file.
        base: all settings of the configuration, which stay where the file has none.

    Returns:
        sections of settings.
    """
    sections = {name: dict(settings) for name, settings in cfg.sections.items()}
    transport, tracing = sections["transport"], sections["tracing"]
    wss, wss_tracing = sections.pop("transport.wss"), sections.pop("tracing.wss")
    for name, wss_name in WSS_NAMES.items():
        if name in transport and base["transport"]["wss"][wss_name] is None:
            wss.setdefault(wss_name, base["transport"][name])
    for name in _TRACING:
        if name in tracing and base["tracing"]["wss"][name] is None:
            before = base["tracing"][name]
            wss_tracing.setdefault(name, "" if before is None else before)
    if wss:
        transport["wss"] = wss
    if wss_tracing:
        tracing["wss"] = wss_tracing
    if cfg.also:
        tracing["also"] = (*base["tracing"]["also"], *cfg.also)
    return sections


def without_repetitions(table: Sections, whole: Sections) -> None:
    """Leave out what ``[transport.wss]`` and ``[tracing.wss]`` have in common with ``ws``.

    Args:
        table: sections of settings, which is changed.
        whole: all settings of the configuration that it makes.
    """
    pairs = {wss_name: whole["transport"][name] for name, wss_name in WSS_NAMES.items()}
    _leave_out(table["transport"], pairs)
    values = {name: whole["tracing"][name] for name in _TRACING}
    values["trace_filter_route"] = values["trace_filter_route"] or ""
    _leave_out(table["tracing"], values)


def _leave_out(section: dict[str, Any], values: dict[str, Any]) -> None:
    left = {k: x for k, x in section.pop("wss", {}).items() if k not in values or values[k] != x}
    if left:
        section["wss"] = left
