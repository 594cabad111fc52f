"""Our dashboard in homer-app, and what its user changed. Pure."""

from typing import Any, Final

from sipws.homer.files import Json
from sipws.homer.lookups import entries, has_text

ID: Final = "sipws"
"""Id of the dashboard."""

OUR_WIDGETS: Final = "sipws-"
"""Beginning of the ids of our widgets. The page of Homer keeps ids."""

USERS_CHOICE: Final = ("name", "title", "weight", "shared", "isLocked", "selectedItem", "config")
"""Keys of a dashboard that users change in the page of Homer; they are kept."""

WIDGET_LAYOUT: Final = ("x", "y", "cols", "rows", "activeTab", "tabGroup", "title")
"""Keys of a widget that users change in the page of Homer; they are kept."""


def why_not_ours(dashboard: Json, owner: str = "") -> str:
    """Return why a dashboard with our id is left alone; empty if it is ours.

    Args:
        dashboard: the dashboard.
        owner: another user whose dashboard it is; empty for the user that has logged in.
    """
    if owner:
        return (
            f"dashboard {ID} is shared by the user {owner!r} and is left as it is; give --user of"
            " its owner to change it"
        )
    if any(map(_is_ours, entries(dashboard.get("widgets")))):
        return ""
    return (
        f"there is a dashboard {ID} without a widget from sipws: it is left as it is. Delete it in"
        " Homer and install again"
    )


def merged(there: Json, ours: Json) -> Json:
    """Return our dashboard with what the user chose in the page of Homer.

    Args:
        there: the dashboard that homer-app has.
        ours: the dashboard as it comes with sipws.
    """
    kept = {name: there[name] for name in USERS_CHOICE if name in there}
    # homer-app closes the connection for each list of dashboards if one has no weight.
    if not isinstance(there.get("weight"), int | float):
        kept.pop("weight", None)
    found = {each["id"]: each for each in entries(there.get("widgets")) if _is_ours(each)}
    widgets = [_merged_widget(found.get(each["id"]), each) for each in ours["widgets"]]
    result = there | _unless_held(there, ours | kept | {"widgets": widgets + _others(there)})
    return there if _holds(there, result) else result


def without(there: Json) -> Json | None:
    """Return a dashboard without our widgets; None if nothing is left."""
    others = _others(there)
    return there | {"widgets": others} if others else None


def _is_ours(widget: Any) -> bool:
    return has_text(widget, "id") and widget["id"].startswith(OUR_WIDGETS)


def _others(dashboard: Json) -> list[Any]:
    return [each for each in entries(dashboard.get("widgets")) if not _is_ours(each)]


def _merged_widget(there: Json | None, ours: Json) -> Json:
    if there is None:
        return ours
    wanted = ours | {name: there[name] for name in WIDGET_LAYOUT if name in there}
    return there | _unless_held(there, wanted)


def _unless_held(there: Json, wanted: Json) -> Json:
    """What of the wanted values is missing. The page of Homer adds keys of its own."""
    return {
        name: value
        for name, value in wanted.items()
        if name not in there or not _holds(there[name], value)
    }


def _holds(there: Any, wanted: Any) -> bool:
    """Whether a value has all that is wanted."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and not _unless_held(there, wanted)
    if isinstance(wanted, list):
        is_list = isinstance(there, list) and len(there) == len(wanted)
        return is_list and all(map(_holds, there, wanted))
    return bool(there == wanted)
