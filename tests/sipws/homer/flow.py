"""What homer-app shows in a flow, after its recorded exchanges: lookups over rows in memory.

`test_flows` compares it with those exchanges.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.sipws.homer.stand_in import RECORDED, Json

PROTOCOL_HEADER = {
    "captureId", "correlation_id", "dstIp", "dstPort", "payloadType", "protocol",
    "protocolFamily", "srcIp", "srcPort", "timeSeconds", "timeUseconds",
}  # fmt: skip
COLUMNS = {"create_date", "create_ts", "dbnode", "id", "micro_ts", "node", "profile", "raw", "sid"}


@dataclass
class Row:
    """A row of a table of Homer."""

    table: str
    """HEP id and profile, as in ``35_default``."""
    sid: str
    at: float
    """Seconds."""
    raw: str = ""
    data_header: Json = field(default_factory=dict)
    protocol_header: Json = field(default_factory=dict)

    def value(self, expression: str) -> str | None:
        """The value of a ``lookup_field``, None for NULL or for SQL that is refused."""
        if expression in ("sid", "raw"):
            return str(getattr(self, expression))
        if expression == "(data_header::text || raw)":
            return json.dumps(self.data_header, ensure_ascii=False) + self.raw
        if found := re.fullmatch(r"(data_header|protocol_header)->>'(\w+)'", expression):
            value = getattr(self, found[1]).get(found[2])
            return None if value is None else str(value)
        return None

    def source(self, name: str) -> str | None:
        column, dot, key = name.partition(".")
        value = getattr(self, column).get(key) if dot else getattr(self, column)
        return None if value is None else str(value)


FUNCTIONS: dict[str, Callable[[str], list[str]]] = {
    "var r = []; for (var i = 0; i < data.length; i++) { r.push('%' + data[i] + '%'); } r;": (
        lambda value: [f"%{value}%"]
    ),
    "var r = []; for (var i = 0; i < data.length; i++)"
    " { r.push('WebSocket connection ' + data[i] + ' %'); } r;": (
        lambda value: [f"WebSocket connection {value} %"]
    ),
    "var r = []; for (var i = 0; i < data.length; i++)"
    " { var m = /WebSocket connection ([0-9]+)/.exec(data[i]); if (m) r.push(m[1]); } r;": (
        lambda value: re.findall("WebSocket connection ([0-9]+)", value)[:1]
    ),
    "<homer-app's own example function>": lambda value: [],
    # A function that is no JavaScript is passed over.
    "var r = [;": lambda value: [],
}
"""The functions of lookups, and what they do with each value."""


def flow(
    rows: Iterable[Row], lookups: list[Json], table: str, sids: list[str], span: tuple[float, float]
) -> list[Row]:
    """The rows of a flow, sorted by time.

    Args:
        rows: of all tables.
        lookups: ``correlation_mapping`` of the mapping of the table.
        table: that was searched.
        sids: of the search results.
        span: of the search, in seconds.
    """
    rows = list(rows)
    shown = [row for row in rows if row.table == table and row.sid in sids]
    shown = [row for row in shown if span[0] <= row.at <= span[1]]
    searched = list(shown)
    appended: list[str] = []
    for lookup in lookups:
        sources = (row.source(lookup["source_field"]) for row in searched)
        values = list(dict.fromkeys(value for value in sources if value is not None))
        if not values:
            continue
        if (function := lookup.get("input_function_js")) is not None:
            values += [new for value in values for new in FUNCTIONS[function](value)]
        values += appended
        since, until = lookup["lookup_range"]
        found = [
            row
            for row in rows
            if row.table == f"{lookup['lookup_id']}_{lookup['lookup_profile']}"
            and span[0] + since <= row.at <= span[1] + until
            and _matches(
                row.value(lookup["lookup_field"]), values, lookup.get("like_search", False)
            )
        ]
        if lookup.get("append_sid"):
            appended += [row.sid for row in found if row.sid not in appended]
        shown += [row for row in found if row not in shown]
    return sorted(shown, key=lambda row: row.at)


def _matches(value: str | None, wanted: list[str], like: bool) -> bool:
    if value is None:
        return False
    if not like:
        return value in wanted
    patterns = (re.escape(each).replace("%", ".*").replace("_", ".") for each in wanted)
    return any(re.fullmatch(pattern, value, re.DOTALL) for pattern in patterns)


def recorded_rows() -> list[Row]:
    """All rows that the recorded exchanges showed."""
    found: dict[tuple[str, int], Row] = {}
    for path in sorted(RECORDED.glob("*.json")):
        response: Any = json.loads(path.read_text())["response"]
        body = response["body"] if response is not None else None
        data = body.get("data") if isinstance(body, dict) else None
        messages = data.get("messages") if isinstance(data, dict) else None
        for each in messages or []:
            if not isinstance(each, dict) or " " in each["profile"]:
                continue
            header = {name: each[name] for name in PROTOCOL_HEADER & each.keys()}
            more = {name: each[name] for name in each.keys() - PROTOCOL_HEADER - COLUMNS}
            row = Row(
                each["profile"], each["sid"], each["micro_ts"] / 1e6, each["raw"], more, header
            )
            found[each["profile"], each["id"]] = row
    return list(found.values())
