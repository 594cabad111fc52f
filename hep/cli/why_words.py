"""Words and times of calls for terminals. Pure."""

from datetime import datetime
from typing import Final

from hep.view.export.plain import one_line
from hep.view.model.record import MICROSECONDS
from hep.view.model.summary import CallSummary

WHAT: Final = {"registration": "register", "subscription": "subscribe"}
"""Short words for kinds of calls; the others are short."""


def local(at: int) -> datetime | None:
    """A time of this machine's zone; None if it is none.

    Args:
        at: microseconds since the epoch.
    """
    try:
        return datetime.fromtimestamp(at / MICROSECONDS).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def clock(at: int, today: datetime) -> str:
    """A time of this machine's zone, with the date unless it is today.

    Args:
        at: microseconds since the epoch.
        today: any time of today.
    """
    when = local(at)
    if when is None:
        return str(at)
    return f"{when:%H:%M:%S}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M:%S}"


def party(user: str, host: str) -> str:
    """A user of a call, or the host of one that has no user."""
    return one_line(user or host) or "-"


def how(call: CallSummary) -> str:
    """How a call ended, or where it is, in some words."""
    return one_line(call.ended or (call.state if call.state != "ended" else call.outcome))


def what(call: CallSummary) -> str:
    """What a call is about, in a word."""
    return one_line(WHAT.get(call.kind, call.kind))
