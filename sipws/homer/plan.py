"""Compares what homer-app has with what it is to have, and makes steps of the differences. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sipws.homer import dashboards
from sipws.homer.files import Json, MappingLookups, Wanted
from sipws.homer.lookups import (
    entries,
    has_text,
    is_added,
    key_of,
    slips,
    with_added,
    with_fields,
    with_lookups,
    without,
)

EVENTS: Final = (35, "default")
"""HEP id and profile of the mapping of network events: heplify-server stores all types that it does
not know under them."""

_SIGNATURE: Final = {f"data_header.{name}" for name in ("Protocol", "Event", "Status", "Message")}
# The searchable parts of these have fields of their own.
_OLD_IDS: Final = ("data_header.Ws-Request", "data_header.Ws-Reply")
_CORRELATION: Final = "correlation_mapping"
_FIELDS: Final = "fields_mapping"

Action = Literal["unchanged", "create", "change", "delete"]


@dataclass(frozen=True, slots=True)
class Existing:
    """What homer-app has."""

    mappings: Sequence[Json]
    """All mappings, in any order."""
    dashboard: Json | None = None
    """The dashboard with the id `sipws.homer.dashboards.ID` that the user sees, if there is one."""
    owner: str = ""
    """The user whose dashboard it is."""
    user: str = ""
    """The user that has logged in."""


@dataclass(frozen=True, slots=True)
class Step:
    """One mapping or dashboard: what it is, and what it becomes."""

    kind: Literal["mapping", "dashboard"]
    name: str
    """Its name for people."""
    before: Json | None
    """What homer-app has; None if it does not exist."""
    after: Json | None
    """The wanted contents; None to delete it."""

    @property
    def action(self) -> Action:
        """The action."""
        if self.before is None:
            return "create" if self.after is not None else "unchanged"
        if self.after is None:
            return "delete"
        return "unchanged" if self.before == self.after else "change"

    @property
    def new_slips(self) -> list[str]:
        """Mistakes that this step would bring in, each of which ends all flows of the mapping."""
        before, after = (
            slips((each or {}).get(_CORRELATION)) for each in (self.before, self.after)
        )
        # Lookups of others stay in front of ours.
        return after[len(before) :]

    @property
    def guid(self) -> str:
        """The guid of an existing mapping."""
        return str((self.before or {}).get("guid", ""))


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions, in this order."""

    steps: tuple[Step, ...]
    """All objects that concern sipws, unchanged ones included."""
    warnings: tuple[str, ...]
    """What the user has to know or to do."""

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.action != "unchanged")


def plan_install(existing: Existing, wanted: Wanted) -> Plan:
    """Plan how mapping, dashboard and lookups get into homer-app.

    Args:
        existing: what homer-app has.
        wanted: what it is to have.
    """
    warnings: list[str] = []
    steps = _events_steps(_of(existing, *EVENTS), wanted, warnings)
    for each in wanted.lookups:
        if (each.hepid, each.profile) == EVENTS:
            continue
        found = _of(existing, each.hepid, each.profile)
        steps += [_mapping_step(mapping, _with_lookups(mapping, each)) for mapping in found]
        if not found:
            warnings.append(
                f"there is no mapping {each.hepid} {each.profile}, which Homer has by default: it"
                " gets no lookups"
            )
    steps += _dashboard_steps(existing, wanted.dashboard, warnings)
    return Plan(tuple(steps), (*warnings, *_about_slips(steps)))


def plan_remove(existing: Existing, wanted: Wanted) -> Plan:
    """Plan how all that sipws installed is taken out of homer-app.

    Args:
        existing: what homer-app has.
        wanted: what `plan_install` would install.
    """
    steps: list[Step] = []
    warnings: list[str] = []
    for mapping in _in_order(existing.mappings, wanted):
        after: Json | None = mapping
        if (mapping.get("hepid"), mapping.get("profile")) == EVENTS:
            fields, lookups = _users_lists(mapping, wanted)
            if not is_ours(mapping):
                after = _stripped(mapping)
                warnings.append(f"{_named(mapping)} is not from sipws and stays")
            elif fields or lookups:
                after = _with(_with(mapping, _FIELDS, fields), _CORRELATION, lookups)
                warnings.append(
                    f"{_named(mapping)} has fields or lookups that are not from sipws: it stays"
                    " with these alone"
                )
            else:
                after = None
        else:
            after = _stripped(mapping)
        steps.append(_mapping_step(mapping, after))
    steps += _dashboard_steps(existing, None, warnings)
    return Plan(tuple(steps), tuple(warnings))


def is_ours(mapping: Json) -> bool:
    """Whether a mapping of network events is from sipws.

    Its field ``sid`` is marked; a foreign mapping has its own. Mappings of earlier
    versions, which were loaded manually, have no mark.
    """
    fields = {each["id"]: each for each in entries(mapping.get(_FIELDS)) if has_text(each, "id")}
    sid = fields.get("sid", {})
    return is_added(sid) or (
        mapping.get("hep_alias") == "WEBSOCKET"
        and sid.get("name") == "Connection"
        and set(fields) >= _SIGNATURE
    )


def _events_steps(events: Sequence[Json], wanted: Wanted, warnings: list[str]) -> list[Step]:
    """Plan the mappings of network events: one of ours, or foreign ones with our entries."""
    ours = [each for each in events if is_ours(each)]
    ours.sort(key=lambda each: _users_part(each, wanted), reverse=True)
    foreign = [each for each in events if not is_ours(each)]
    warnings += _about_several(foreign)
    steps: list[Step] = []
    lookups = wanted.lookups_of(*EVENTS)
    for mapping in foreign:
        # A marked sid would make it ours. homer-app searches sid without a field.
        new = [field for field in _fields(wanted) if field["id"] != "sid"]
        after = _with(mapping, _FIELDS, with_fields(without(mapping.get(_FIELDS)), new))
        steps.append(_mapping_step(mapping, _with_lookups(after, lookups)))
        warnings.append(
            f"{_named(mapping)} is not from sipws: its own fields and lookups stay, those of sipws"
            " are added"
        )
    if not events:
        steps.append(_mapping_step(None, _with_lookups(wanted.mapping, lookups)))
    elif not foreign:
        steps.append(_mapping_step(ours[0], _refreshed(ours[0], wanted)))
    for mapping in ours if foreign else ours[1:]:
        if _users_part(mapping, wanted):
            steps.append(_mapping_step(mapping, mapping))
            warnings.append(
                f"{_named(mapping)}, guid {mapping.get('guid')}, is a second one with changes that"
                " are not from sipws. Searches use only the mapping that was loaded last: move"
                " the changes and delete it in Homer's preferences"
            )
        else:
            steps.append(_mapping_step(mapping, None))
            warnings.append(
                f"{_named(mapping)} was loaded twice, and searches use only one of them: the"
                f" duplicate with guid {mapping.get('guid')} is deleted"
            )
    return steps


def _of(existing: Existing, hepid: int, profile: str) -> list[Json]:
    """The mappings of a HEP id and profile, in an order that does not change."""
    found = [
        each
        for each in existing.mappings
        if each.get("hepid") == hepid and each.get("profile") == profile
    ]
    return sorted(found, key=lambda each: str(each.get("guid")))


def _in_order(mappings: Sequence[Json], wanted: Wanted) -> list[Json]:
    """The mappings that `plan_install` changes; those of network events first."""
    existing = Existing(mappings)
    return [
        mapping for each in wanted.lookups for mapping in _of(existing, each.hepid, each.profile)
    ]


def _fields(wanted: Wanted) -> list[Json]:
    return list(wanted.mapping[_FIELDS])


def _users_lists(mapping: Json, wanted: Wanted) -> tuple[list[Any], list[Any]]:
    """The fields and lookups of our mapping that are not from sipws."""
    ids = {field["id"] for field in _fields(wanted)}
    known = ids | {_hyphened(name) for name in ids} | set(_OLD_IDS)
    fields = [
        field
        for field in entries(mapping.get(_FIELDS))
        if not is_added(field) and not (has_text(field, "id") and field["id"] in known)
    ]
    return fields, entries(without(mapping.get(_CORRELATION)))


def _hyphened(field: str) -> str:
    """The id of a field in the mappings of earlier versions."""
    column, dot, key = field.partition(".")
    return column + dot + key.replace("_", "-")


def _users_part(mapping: Json, wanted: Wanted) -> int:
    """How many entries of our mapping are not from sipws."""
    return sum(map(len, _users_lists(mapping, wanted)))


def _refreshed(mapping: Json, wanted: Wanted) -> Json:
    """The wanted mapping: with our fields and lookups, and those of the user."""
    fields, lookups = _users_lists(mapping, wanted)
    return mapping | {
        _FIELDS: with_added([], _fields(wanted)) + fields,
        _CORRELATION: with_lookups(lookups, wanted.lookups_of(*EVENTS)),
    }


def _stripped(mapping: Json) -> Json:
    for name in (_FIELDS, _CORRELATION):
        mapping = _with(mapping, name, without(mapping.get(name)))
    return mapping


def _with_lookups(mapping: Json, ours: MappingLookups) -> Json:
    lookups = with_lookups(without(mapping.get(_CORRELATION)), ours)
    return _with(mapping, _CORRELATION, lookups)


def _with(mapping: Json, name: str, value: Any) -> Json:
    """A mapping with another value; a value that was not there stays away."""
    return mapping if mapping.get(name) == value else mapping | {name: value}


def _mapping_step(before: Json | None, after: Json | None) -> Step:
    return Step("mapping", _named(before or after or {}), before, after)


def _named(mapping: Json) -> str:
    return (
        f"mapping {mapping.get('hepid')} {mapping.get('profile')} ({mapping.get('hep_alias', '')})"
    )


def _about_several(foreign: Sequence[Json]) -> Iterator[str]:
    if len(foreign) > 1:
        guids = ", ".join(str(each.get("guid")) for each in foreign)
        yield (
            f"there are {len(foreign)} mappings 35 default that are not from sipws (guid {guids})."
            " Searches use only the one that was loaded last: delete the others in Homer's"
            " preferences"
        )


def _about_slips(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        if step.kind == "mapping" and step.after is not None:
            for slip in slips(step.after.get(_CORRELATION)):
                yield (
                    f"{step.name}, {slip}: homer-app closes the connection without an answer for"
                    " each flow of this mapping until it is corrected"
                )


def _dashboard_steps(existing: Existing, ours: Json | None, warnings: list[str]) -> list[Step]:
    """Plan the dashboard: with ours, or without it if ours is None."""
    before = existing.dashboard
    if before is None:
        return [] if ours is None else [_dashboard_step(None, ours)]
    owner = existing.owner if existing.owner != existing.user else ""
    if refusal := dashboards.why_not_ours(before, owner):
        warnings.append(refusal)
        return []
    after = dashboards.without(before) if ours is None else dashboards.merged(before, ours)
    if ours is None and after is not None:
        warnings.append(
            f"dashboard {dashboards.ID} has widgets that are not from sipws: it stays with them"
        )
    return [_dashboard_step(before, after)]


def _dashboard_step(before: Json | None, after: Json | None) -> Step:
    return Step("dashboard", f"dashboard {dashboards.ID}", before, after)


def summary(step: Step) -> str:
    """Say in words what a step does."""
    if step.action in ("create", "delete"):
        return f"{step.action}d"
    if step.action == "unchanged":
        return "unchanged"
    if step.kind == "dashboard":
        return "changed"
    before, after = step.before or {}, step.after or {}
    parts = [
        *_counted("lookup", before.get(_CORRELATION), after.get(_CORRELATION), key_of),
        *_counted("field", before.get(_FIELDS), after.get(_FIELDS), _id_of),
    ]
    return "changed" + (f": {', '.join(parts)}" if parts else "")


def _id_of(field: Any) -> Any:
    return field.get("id") if isinstance(field, dict) else field


def _counted(noun: str, before: Any, after: Any, key: Any) -> Iterator[str]:
    """Count the entries that are added, changed and removed."""
    old = [entry for entry in entries(before) if entry not in entries(after)]
    new = [entry for entry in entries(after) if entry not in entries(before)]
    changed = sum(key(entry) in map(key, old) for entry in new)
    for number, verb in (
        (len(new) - changed, "added"),
        (changed, "changed"),
        (len(old) - changed, "removed"),
    ):
        if number > 0:
            yield f"{number} {noun}{'' if number == 1 else 's'} {verb}"
