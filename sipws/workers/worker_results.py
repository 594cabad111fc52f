"""The results of several workers as the answer of one program. Pure.

`RULES` says how the results of an MI method are combined. A method without a rule is carried out by
all workers, and all give the same result.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sipws.address import PROTOCOLS, Proto
from sipws.config.settings import Config
from sipws.control.mi import BAD_VALUE, NOT_FOUND, Content, MiError, text_of
from sipws.metrics.prometheus_text import Family, Histogram


def _first(results: Sequence[Any]) -> Any:
    return results[0]


def _sums(results: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {
        name: (max if name in _SWITCHES else sum)(result.get(name, 0) for result in results)
        for name in results[0]
    }


def _connections(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"Connections": [each for result in results for each in result["Connections"]]}


def _processes(results: Sequence[Mapping[str, Any]]) -> Any:
    if "Processes" not in results[0]:
        return results[0]
    return {"Processes": [each for result in results for each in result["Processes"]]}


def _traces(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    traces: dict[str, dict[str, Any]] = {}
    for result in results:
        for trace in result["Traces"]:
            whole = traces.setdefault(trace["ID"], {})
            for name, value in trace.items():
                if isinstance(value, dict):
                    whole[name] = dict(Counter(whole.get(name, {})) + Counter(value))
                else:
                    whole[name] = whole.get(name, 0) + value if isinstance(value, int) else value
    return {"Traces": list(traces.values())}


_SWITCHES: Final = frozenset({"trace:on", "core:timestamp"})
"""Statistics that are not added up: a switch, and the age of the program."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How the results of a method are combined."""

    combine: Callable[[Sequence[Any]], Any] = _first
    """Makes one result of those of the workers."""
    one_is_enough: bool = False
    """Whether one result outweighs the errors of the others: one worker has the thing asked for."""


_STATISTICS: Final = Rule(_sums)
_CONNECTIONS: Final = Rule(_connections)

RULES: Final[Mapping[str, Rule]] = {
    "get_statistics": _STATISTICS,
    "statistics:get": _STATISTICS,
    "list_tcp_conns": _CONNECTIONS,
    "tcp:list": _CONNECTIONS,
    "tcp:close": Rule(one_is_enough=True),
    "log_level": Rule(_processes, one_is_enough=True),
    "trace_list": Rule(_traces),
    # A trace ends by itself in the worker that finds its destination gone.
    "trace_stop": Rule(one_is_enough=True),
}


MISSING: Final = frozenset({NOT_FOUND, BAD_VALUE})
"""The codes of errors about what does not exist; OpenSIPS' tracer has one of its own."""


def combined(method: str, contents: Sequence[Content]) -> Content:
    """Combine the answers of all workers to a method.

    Args:
        method: its name.
        contents: the answer of each worker; at least one.

    Returns:
        the result; if a worker failed and `Rule.one_is_enough` does not hold, its error.
    """
    rule = RULES.get(method, Rule())
    results = [content["result"] for content in contents if "result" in content]
    errors = [content for content in contents if "error" in content]
    if errors and not (rule.one_is_enough and results):
        # Any other error says more than "not found".
        return next((x for x in errors if x["error"]["code"] not in MISSING), errors[0])
    return {"result": rule.combine(results)}


class Switches:
    """The switches that MI methods have changed at run time, for workers that are started later."""

    def __init__(self) -> None:
        self.trace_on: dict[Proto, bool] = {}
        """How tracing was switched, by protocol; as configured for one that is not here."""
        self.traces_on: dict[str, bool] = {}
        """How traces of the configuration were switched by themselves, by name."""
        self.levels: dict[str, dict[str, Any]] = {}
        """The parameters of the methods that set a log level, by method."""
        self._traces: dict[str, dict[str, Any]] = {}

    def note(self, method: str, params: Any) -> None:
        """Record a method that was carried out, if it switches anything.

        Args:
            method: its name.
            params: its parameters, in order or by name.
        """
        match method.replace(":", "_"), params_by_name(method, params):
            case "ws_trace", {"trace_mode": mode}:
                self.trace_on["ws"] = _is_on(mode)
            case "wss_trace", {"trace_mode": mode}:
                self.trace_on["wss"] = _is_on(mode)
            case "trace", {"id": name, "mode": mode}:
                self.traces_on[str(name)] = _is_on(mode)
            case "trace", {"mode": mode}:
                self.trace_on = dict.fromkeys(sorted(PROTOCOLS), _is_on(mode))
            case ("log_level" | "xlog_level") as name, {"level": level, **rest} if not rest:
                self.levels[name] = {"level": level}
            case "trace_start", {"id": name, **rest}:
                self._traces[name] = {"id": name, **rest}
            case "trace_stop", {"id": name}:
                self._traces.pop(name, None)

    def forget(self, old: Config, new: Config) -> None:
        """Forget what a new configuration overrides.

        Args:
            old: the configuration before.
            new: the configuration from now on.
        """
        for proto in PROTOCOLS:
            if (proto in old.tracing.protocols_on) != (proto in new.tracing.protocols_on):
                self.trace_on.pop(proto, None)
        if old.log.level != new.log.level:
            self.levels.pop("log_level", None)

    @property
    def traces(self) -> Mapping[str, Mapping[str, Any]]:
        """The parameters that each trace was started with, by its id."""
        return self._traces

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The methods and parameters that bring a new worker to the state of the others."""
        calls = [("trace_start", params) for params in self._traces.values()]
        for proto, on in self.trace_on.items():
            calls.append((f"{proto}_trace", {"trace_mode": "on" if on else "off"}))
        for name, on in self.traces_on.items():
            calls.append(("trace", {"id": name, "mode": "on" if on else "off"}))
        return [*calls, *self.levels.items()]


def _is_on(mode: object) -> bool:
    """Whether a mode that a method took is ``on``; case is ignored."""
    return str(mode).lower().startswith("on")


_PARAMETERS: Final = {
    "ws_trace": ("trace_mode",),
    "ws:trace": ("trace_mode",),
    "wss_trace": ("trace_mode",),
    "wss:trace": ("trace_mode",),
    "log_level": ("level", "pid"),
    "xlog_level": ("level",),
    "trace_start": ("id", "uri", "filter"),
    "trace_stop": ("id",),
}
"""The parameters of the methods that switch anything, in order."""


def params_by_name(method: str, params: Any) -> dict[str, Any]:
    """Name the parameters of a method that switches anything.

    Args:
        method: its name.
        params: its parameters, in order or by name.
    """
    named: dict[str, Any] = (
        params
        if isinstance(params, dict)
        else dict(zip(_PARAMETERS.get(method, ()), params or (), strict=False))
    )
    if isinstance(named.get("id"), int | float):
        with suppress(MiError):
            # A number stands for its digits.
            named = {**named, "id": text_of(named["id"], "id")}
    return named


def families_as_json(families: Iterable[Family]) -> list[Any]:
    """Make values of metrics that JSON can hold."""
    return [
        (
            family.name,
            family.kind,
            family.meaning,
            [
                (labels, [x.bounds, x.counts, x.total] if isinstance(x, Histogram) else x)
                for labels, x in family.samples
            ],
        )
        for family in families
    ]


def families_from_json(values: Iterable[Any]) -> list[Family]:
    """Make metrics of the values that `families_as_json` made."""
    return [
        Family(
            name,
            kind,
            meaning,
            [
                (
                    labels,
                    Histogram(tuple(x[0]), tuple(x[1]), x[2]) if isinstance(x, list) else x,
                )
                for labels, x in samples
            ],
        )
        for name, kind, meaning, samples in values
    ]


def by_worker(parts: Mapping[int, Iterable[Family]]) -> list[Family]:
    """Join the metrics of several processes, each sample with a label ``worker``.

    They are not added up. A sum would fall when a worker restarts, and Prometheus would count what
    is left of it as an increase.

    Args:
        parts: the metrics of each worker, by its number; 0 is the parent.
    """
    whole: dict[str, Family] = {}
    for number, families in parts.items():
        for family in families:
            into = whole.setdefault(family.name, Family(family.name, family.kind, family.meaning))
            into.samples += (({**labels, "worker": str(number)}, x) for labels, x in family.samples)
    return list(whole.values())


def request(method: str, params: Any) -> str:
    """Write a request of JSON-RPC 2.0.

    Args:
        method: its name.
        params: its parameters; None for none.
    """
    return json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params or []})


def content_of_reply(reply: str) -> Content:
    """Read the ``result`` or the ``error`` of a reply of JSON-RPC 2.0."""
    content: dict[str, Any] = json.loads(reply)
    return {name: content[name] for name in ("result", "error") if name in content}
