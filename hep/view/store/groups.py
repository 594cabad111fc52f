"""Refusals in groups, and closes over time."""

from collections import Counter, defaultdict
from typing import Final

from hep.view.store.asking import Segments, each
from hep.view.store.query import CloseBucket, CloseCode, Closes, RefusalGroup, Refusals
from hep.view.store.reader import CONNECTIONS
from hep.view.store.terms import ip_of

MOST_GROUPS: Final = 100
"""Groups of refusals that are listed; the most frequent ones."""

MOST_REFUSALS: Final = 100_000
"""Refused handshakes that are grouped; the latest ones."""

MOST_REASONS: Final = 5
"""Reasons that an address's group names."""

MOST_BUCKETS: Final = 1_000
"""Parts of the time of a chart."""


def refusals(segments: Segments, since: int, until: int) -> Refusals:
    """Refused and failed handshakes of a time, by reason and by address.

    Args:
        segments: of the store, the newest first.
        since: start of the time, in microseconds.
        until: its end.
    """
    by_reason: dict[str, RefusalGroup] = {}
    by_address: dict[str, RefusalGroup] = {}
    reasons_of: dict[str, Counter[str]] = defaultdict(Counter)
    seen: set[str] = set()
    for _, ask in each(segments):
        rows = ask(
            "SELECT key, error, status, peer, since, error_detail, user_agent FROM connections"
            " WHERE state IN ('refused', 'failed') AND since BETWEEN ? AND ?"
            " ORDER BY since DESC LIMIT ?",
            since, until, MOST_REFUSALS - len(seen),
        )  # fmt: skip
        for key, error, status, peer, at, detail, agent in rows:
            if key in seen:
                continue
            seen.add(key)
            reason = error or (f"HTTP {status}" if status else "unknown")
            ip = ip_of(peer) or "unknown"
            reasons_of[ip][reason] += 1
            for groups, name in ((by_reason, reason), (by_address, ip)):
                group = groups.get(name)
                if group is None:
                    groups[name] = RefusalGroup(name, 1, at, status, detail, agent)
                    continue
                group.count += 1
                if at > group.last:
                    group.last, group.status, group.detail = at, status, detail
                    group.user_agent = agent
    for ip, group in by_address.items():
        most = reasons_of[ip].most_common(MOST_REASONS)
        group.detail = ", ".join(f"{reason} ({count})" for reason, count in most)
    return Refusals(_most(by_reason), _most(by_address), len(seen))


def _most(groups: dict[str, RefusalGroup]) -> list[RefusalGroup]:
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last))[:MOST_GROUPS]


def closes(segments: Segments, since: int, until: int, buckets: int) -> Closes:
    """Ended connections of a time by code, and over time.

    Args:
        segments: of the store, the newest first.
        since: start of the time, in microseconds.
        until: its end, not before the start.
        buckets: parts of the time, from 1 to `MOST_BUCKETS`.
    """
    buckets = max(1, min(buckets, MOST_BUCKETS))
    step = max(1, -(-(until - since) // buckets))
    codes: dict[int, CloseCode] = {}
    counts: Counter[tuple[int, int]] = Counter()
    newer: set[str] = set()
    for _, ask in each(segments):
        shown_already = set(newer)
        newer |= CONNECTIONS.carried(ask)
        for key, code, by, at in ask(
            "SELECT key, code, closed_by, until FROM connections"
            " WHERE state = 'closed' AND until BETWEEN ? AND ?",
            since, until,
        ):  # fmt: skip
            if key in shown_already:
                continue
            group = codes.setdefault(code, CloseCode(code))
            if by == "peer":
                group.by_peer += 1
            elif by == "local":
                group.by_local += 1
            else:
                group.other += 1
            counts[min((at - since) // step, buckets - 1), code] += 1
    parts = [CloseBucket(since + number * step) for number in range(buckets)]
    for (number, code), count in sorted(counts.items()):
        parts[number].counts[code] = count

    def total(group: CloseCode) -> int:
        return group.by_peer + group.by_local + group.other

    return Closes(sorted(codes.values(), key=lambda x: (-total(x), x.code)), parts, step)
