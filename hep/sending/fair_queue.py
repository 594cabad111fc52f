"""A queue of packets that is full: from which flow one goes. Pure.

A flow is what goes on between two addresses and ports, such as a connection. The flow that has most
waiting loses a packet first, so that each flow keeps a fair share of the queue (max-min fairness):
one that has no more than its share loses nothing, whatever the others send.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from ipaddress import ip_address
from typing import Final

from hep.codec import prefix
from hep.codec.any_version import decode
from hep.errors import HepDecodeError

Flow = tuple[tuple[bytes, int], ...]
"""The two ends of a flow, packed address and port, in the same order for either direction; none for
what is no packet."""

SORTED_AT_A_TIME: Final = 2
"""Packets that are sorted with each one that is added: a queue that was half full is sorted before
it is full."""

_STALE: Final = 1024
"""Entries of the heap beyond two for each flow, before it is made anew."""


def flow_of(packet: bytes) -> Flow:
    """The flow of an encoded packet."""
    if (found := prefix.ends(packet)) is not None:
        return _ordered(*found)
    try:
        read = decode(packet)
        if read.src_ip is None or read.dst_ip is None:
            return ()
        src, dst = ip_address(read.src_ip).packed, ip_address(read.dst_ip).packed
    except (HepDecodeError, ValueError):
        return ()
    return _ordered((src, read.src_port or 0), (dst, read.dst_port or 0))


def named(flow: Flow) -> str:
    """A flow for a person to read: ``192.0.2.5:50123 - [2001:db8::1]:443``."""
    ends = ((ip_address(packed), port) for packed, port in flow)
    texts = (f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}" for ip, port in ends)
    return " - ".join(texts) or "no packet"


def _ordered(one: tuple[bytes, int], other: tuple[bytes, int]) -> Flow:
    return (one, other) if one <= other else (other, one)


@dataclass(slots=True, eq=False)
class _Waiting:
    """What waits of a flow."""

    flow: Flow
    weight: int = 0
    entry: int = 0
    """The number of its entry in the heap; any other of its entries is stale."""
    numbers: deque[int] = field(default_factory=deque)
    """Of its packets, rising."""


class FairQueue:
    """Packets in their order, of which one of the heaviest flow can be taken out.

    Each operation takes a time that grows with the logarithm of the number of flows at most. What
    was waiting already is not sorted into flows at once, which would take many milliseconds, but
    some of it with each packet that is added.

    Args:
        packets: what waits already, in order; no longer the caller's.
        limit: packets that may wait; what one packet weighs beside its bytes.
        limit_bytes: bytes that may wait.
    """

    __slots__ = (
        "_entries", "_first", "_flows", "_heap", "_limit", "_limit_bytes", "_next", "_order",
        "_unsorted",
    )  # fmt: skip

    def __init__(self, packets: deque[bytes], limit: int, limit_bytes: int) -> None:
        # Older than all others.
        self._unsorted = packets
        self._limit = limit
        self._limit_bytes = limit_bytes
        # By number; the first in it is the next to leave.
        self._order: OrderedDict[int, tuple[_Waiting, bytes]] = OrderedDict()
        self._first = self._next = 0
        self._entries = 0
        self._flows: dict[Flow, _Waiting] = {}
        # The weights of flows, negative, as they once were: never less than they are. So the
        # heaviest flow is found at the top, once what is stale there has been set right.
        self._heap: list[tuple[int, int, _Waiting]] = []

    def __len__(self) -> int:
        return len(self._unsorted) + len(self._order)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._unsorted
        yield from (packet for _, packet in self._order.values())

    def append(self, packet: bytes) -> None:
        """Add a packet at the end."""
        waiting = self._add(packet)
        waiting.numbers.append(self._next)
        self._order[self._next] = waiting, packet
        self._next += 1
        self._sort(SORTED_AT_A_TIME)

    def extend(self, packets: Iterable[bytes]) -> None:
        """Add packets at the end, in their order."""
        for packet in packets:
            self.append(packet)

    def extendleft(self, packets: Iterable[bytes]) -> None:
        """Add packets at the beginning, each before the one that was first."""
        self._unsorted.extendleft(packets)

    def popleft(self) -> bytes:
        """Take the first packet."""
        if self._unsorted:
            return self._unsorted.popleft()
        _, (waiting, packet) = self._order.popitem(last=False)
        waiting.numbers.popleft()
        self._remove(waiting, packet)
        return packet

    def pop_heaviest(self, *, oldest: bool) -> tuple[bytes, Flow]:
        """Take a packet of the flow that has most waiting.

        Args:
            oldest: whether its oldest packet rather than its newest.

        Returns:
            the packet, and the flow.
        """
        self._sort(len(self._unsorted))
        waiting = self._heaviest()
        number = waiting.numbers.popleft() if oldest else waiting.numbers.pop()
        _, packet = self._order.pop(number)
        self._remove(waiting, packet)
        return packet, waiting.flow

    def _sort(self, most: int) -> None:
        """Sort the newest of what is not sorted yet, so many packets at most."""
        for _ in range(min(most, len(self._unsorted))):
            packet = self._unsorted.pop()
            self._first -= 1
            waiting = self._add(packet)
            waiting.numbers.appendleft(self._first)
            self._order[self._first] = waiting, packet
            self._order.move_to_end(self._first, last=False)

    def _add(self, packet: bytes) -> _Waiting:
        flow = flow_of(packet)
        waiting = self._flows.get(flow)
        if waiting is None:
            waiting = self._flows[flow] = _Waiting(flow)
        waiting.weight += self._weight(packet)
        if len(self._heap) > 2 * len(self._flows) + _STALE:
            self._heap = [self._entry_of(each) for each in self._flows.values()]
            heapify(self._heap)
        else:
            heappush(self._heap, self._entry_of(waiting))
        return waiting

    def _entry_of(self, waiting: _Waiting) -> tuple[int, int, _Waiting]:
        self._entries += 1
        waiting.entry = self._entries
        return -waiting.weight, self._entries, waiting

    def _remove(self, waiting: _Waiting, packet: bytes) -> None:
        waiting.weight -= self._weight(packet)
        if not waiting.numbers:
            waiting.entry = 0
            del self._flows[waiting.flow]

    def _weight(self, packet: bytes) -> int:
        # Of what there is room for, a packet takes 1/limit and its bytes/limit_bytes.
        return self._limit_bytes + len(packet) * self._limit

    def _heaviest(self) -> _Waiting:
        heap = self._heap
        while True:
            weight, entry, waiting = heap[0]
            if entry != waiting.entry:
                heappop(heap)
            elif -weight != waiting.weight:
                heapreplace(heap, self._entry_of(waiting))
            else:
                return waiting
