"""A packet queue that chooses the flow that loses a packet when the queue is full. Pure.

A flow is all packets between two addresses and ports, such as those of a connection. The flow with
the most queued data loses a packet first. Each flow thus keeps a fair share of the queue (max-min
fairness): a flow within its share loses nothing, no matter how much the others send.
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
"""The two ends of a flow, packed address and port, in the same order for both directions; empty for
bytes that are no packet."""

SORTED_AT_A_TIME: Final = 2
"""Old packets assigned to their flows with each packet added. With 2, a queue that is half full
when sorting starts is sorted before it is full."""

_STALE: Final = 1024
"""Entries of the heap beyond two for each flow before the heap is rebuilt."""


def flow_of(packet: bytes) -> Flow:
    """The flow of an encoded packet; empty if the bytes are no packet or have no addresses."""
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
    """Format a flow for logs: ``192.0.2.5:50123 - [2001:db8::1]:443``."""
    ends = ((ip_address(packed), port) for packed, port in flow)
    texts = (f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}" for ip, port in ends)
    return " - ".join(texts) or "no packet"


def _ordered(one: tuple[bytes, int], other: tuple[bytes, int]) -> Flow:
    return (one, other) if one <= other else (other, one)


@dataclass(slots=True, eq=False)
class _Waiting:
    """The queued packets of one flow."""

    flow: Flow
    weight: int = 0
    """Sum of the weights of its packets, as `FairQueue._weight`."""
    entry: int = 0
    """The number of its valid entry in the heap; its other entries are stale."""
    numbers: deque[int] = field(default_factory=deque)
    """The numbers of its packets, ascending."""


class FairQueue:
    """A FIFO queue of packets that can also remove a packet of the heaviest flow.

    Each operation takes at most logarithmic time in the number of flows. Sorting all packets given
    to the constructor into flows at once would take many milliseconds. Therefore each `append`
    sorts a few of them.

    Args:
        packets: the packets queued so far, oldest first. The queue takes over the deque.
        limit: maximum number of packets, from 1; used for the weight of a packet.
        limit_bytes: maximum number of bytes, from 1; used for the weight of a packet.
    """

    __slots__ = (
        "_entries", "_first", "_flows", "_heap", "_limit", "_limit_bytes", "_next", "_order",
        "_unsorted",
    )  # fmt: skip

    def __init__(self, packets: deque[bytes], limit: int, limit_bytes: int) -> None:
        # These packets are older than all others.
        self._unsorted = packets
        self._limit = limit
        self._limit_bytes = limit_bytes
        # By number, oldest first.
        self._order: OrderedDict[int, tuple[_Waiting, bytes]] = OrderedDict()
        self._first = self._next = 0
        self._entries = 0
        self._flows: dict[Flow, _Waiting] = {}
        # Negative weights of flows. An entry may be out of date, but its weight is never below the
        # flow's weight now. So the heaviest flow is at the top after stale entries there are
        # corrected.
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
        """Add packets at the beginning, each before the packet that was first."""
        self._unsorted.extendleft(packets)

    def popleft(self) -> bytes:
        """Remove and return the oldest packet.

        Raises:
            KeyError: the queue is empty.
        """
        if self._unsorted:
            return self._unsorted.popleft()
        _, (waiting, packet) = self._order.popitem(last=False)
        waiting.numbers.popleft()
        self._remove(waiting, packet)
        return packet

    def pop_heaviest(self, *, oldest: bool) -> tuple[bytes, Flow]:
        """Remove a packet of the flow with the most queued data.

        Args:
            oldest: True removes the flow's oldest packet, False its newest.

        Returns:
            the packet and its flow.

        Raises:
            IndexError: the queue is empty.
        """
        self._sort(len(self._unsorted))
        waiting = self._heaviest()
        number = waiting.numbers.popleft() if oldest else waiting.numbers.pop()
        _, packet = self._order.pop(number)
        self._remove(waiting, packet)
        return packet, waiting.flow

    def _sort(self, most: int) -> None:
        """Assign up to ``most`` packets to their flows, the newest first."""
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
        # A packet takes 1/limit of the packets and bytes/limit_bytes of the bytes allowed. The
        # weight is the sum of both, multiplied by limit * limit_bytes.
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
