"""What several workers say, as the answer of one program. Pure.

MI methods are a table; a method that is not in it is done by all, and all say the same.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sipws.control.mi import NOT_FOUND
from sipws.metrics.prometheus_text import Family, Histogram

Content = Mapping[str, Any]
"""What a reply of JSON-RPC holds beside its id: a ``result`` or an ``error``."""


def _first(results: Sequence[Any]) -> Any:
    return results[0]


def _sums(results: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {
        name: (max if name in _SWITCHES else sum)(result.get(name, 0) for result in results)
        for name in results[0]
    }


def _connections(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"Connections": [each for result in results for each in result["Connections"]]}


def _traces(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    traces: dict[str, dict[str, Any]] = {}
    for result in results:
        for trace in result["Traces"]:
            whole = traces.setdefault(trace["ID"], {})
            for name, said in trace.items():
                if isinstance(said, dict):
                    whole[name] = dict(Counter(whole.get(name, {})) + Counter(said))
                else:
                    whole[name] = whole.get(name, 0) + said if isinstance(said, int) else said
    return {"Traces": list(traces.values())}


_SWITCHES: Final = frozenset({"trace:on"})
"""Statistics that are the same everywhere."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How the answers to a method become one."""

    merge: Callable[[Sequence[Any]], Any] = _first
    """One result out of those that there are."""
    one_is_enough: bool = False
    """Whether a no of the others does not count: what is asked about is with one of them."""


_STATISTICS: Final = Rule(_sums)
_CONNECTIONS: Final = Rule(_connections)

RULES: Final[Mapping[str, Rule]] = {
    "get_statistics": _STATISTICS,
    "statistics:get": _STATISTICS,
    "list_tcp_conns": _CONNECTIONS,
    "tcp:list": _CONNECTIONS,
    "tcp:close": Rule(one_is_enough=True),
    "trace_list": Rule(_traces),
    # A trace ends by itself in the worker that finds its peer gone.
    "trace_stop": Rule(one_is_enough=True),
}


def merged(method: str, contents: Sequence[Content]) -> Content:
    """The answer of all to a method.

    Args:
        method: its name.
        contents: what each of them answered; one at least.
    """
    rule = RULES.get(method, Rule())
    results = [content["result"] for content in contents if "result" in content]
    errors = [content for content in contents if "error" in content]
    if errors and not (rule.one_is_enough and results):
        # That it is not here says less than any other reason.
        return next((x for x in errors if x["error"]["code"] != NOT_FOUND), errors[0])
    return {"result": rule.merge(results)}


class Switched:
    """What was switched while the program runs: a worker that is started later has to be told."""

    def __init__(self) -> None:
        self.trace_on: bool | None = None
        """How tracing was switched; None where it is as configured."""
        self._traces: dict[str, dict[str, Any]] = {}

    def note(self, method: str, params: Any) -> None:
        """Take what was asked for and done, if it switches something."""
        match method.replace(":", "_"), by_name(method, params):
            case "ws_trace", {"trace_mode": mode}:
                self.trace_on = mode == "on"
            case "trace_start", {"id": name, **rest}:
                self._traces[name] = {"id": name, **rest}
            case "trace_stop", {"id": name}:
                self._traces.pop(name, None)

    @property
    def traces(self) -> Mapping[str, Mapping[str, Any]]:
        """With what each trace was started, by its id."""
        return self._traces

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The methods that bring a new worker to where the others are, with their parameters."""
        calls = [("trace_start", params) for params in self._traces.values()]
        if self.trace_on is not None:
            calls.append(("ws_trace", {"trace_mode": "on" if self.trace_on else "off"}))
        return calls


_PARAMETERS: Final = {
    "ws_trace": ("trace_mode",),
    "ws:trace": ("trace_mode",),
    "trace_start": ("id", "uri", "filter"),
    "trace_stop": ("id",),
}
"""Of the methods that switch something, in order."""


def by_name(method: str, params: Any) -> dict[str, Any]:
    """The parameters of a method that switches something, which may come in order."""
    if isinstance(params, dict):
        return params
    return dict(zip(_PARAMETERS.get(method, ()), params or (), strict=False))


def packed(families: Iterable[Family]) -> list[Any]:
    """Metrics as JSON can say them."""
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


def unpacked(packs: Iterable[Any]) -> list[Family]:
    """What `packed` made, behind a ``json.loads``."""
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
        for name, kind, meaning, samples in packs
    ]


def by_worker(parts: Mapping[int, Iterable[Family]]) -> list[Family]:
    """Metrics of several processes, each sample with a label ``worker``.

    They are not added up: a counter that is a sum would fall when one of its parts begins anew, and
    Prometheus would take all that is left for news.
    """
    whole: dict[str, Family] = {}
    for number, families in parts.items():
        for family in families:
            into = whole.setdefault(family.name, Family(family.name, family.kind, family.meaning))
            into.samples += (({**labels, "worker": str(number)}, x) for labels, x in family.samples)
    return list(whole.values())


def request(method: str, params: Any) -> str:
    """A request of JSON-RPC."""
    return json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params or []})


def content_of(reply: str) -> Content:
    """What a reply holds beside its id."""
    content: dict[str, Any] = json.loads(reply)
    return {name: content[name] for name in ("result", "error") if name in content}
