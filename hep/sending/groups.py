"""Groups of senders: duplicate, fail over, or balance.

A group takes senders (`hep.open_sender`) and other groups, and has the methods of a sender::

    async with hep.Failover(hep.open_sender(first), hep.open_sender(second)) as group:
        group.send(hep.encode(packet))
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from threading import get_ident
from typing import Self

from hep.codec.any_version import decode
from hep.codec.packet import Packet
from hep.errors import HepDecodeError
from hep.sending.counts import Counters, Counts
from hep.sending.handoff import Handoff, checked
from hep.sending.outbox import FULL, LIMIT, LIMIT_BYTES
from hep.sending.senders import Sender


class Group(ABC):
    """Base class of groups of senders.

    Interface, which is that of a sender:

    - `send` and `send_all` queue packets and return at once, from any thread.
    - ``counters`` adds up those of the members, ``connected`` sums up their state.
    - `drained` waits until the queues of all members are empty.
    - `aclose` sends the queued packets and closes all members. ``async with`` calls it.

    Each member has its own ``counters`` and ``connected`` too. The group uses the ``on_change`` of
    its members, and has an ``on_change`` of its own.

    Args:
        members: one sender or group, or more. The group closes them.

    Raises:
        TypeError: a member is neither a sender nor a group.
        ValueError: there is no member, or one is there twice.
    """

    def __init__(self, *members: "Sender | Group") -> None:
        if not members:
            raise ValueError(f"{type(self).__name__}() has no members: pass at least one sender")
        for member in members:
            if not isinstance(member, Sender | Group):
                raise TypeError(
                    f"{type(self).__name__}() got {member!r}; pass senders, as of"
                    " hep.open_sender, or groups"
                )
        if len(set(members)) < len(members):
            raise ValueError(f"{type(self).__name__}() has a member twice; remove it")
        self.members = members
        """The senders and groups; each has its own ``counters``."""
        self.on_change: Callable[[], object] = _ignore_change
        """Called each time a member connects or loses its connection."""
        for member in members:
            member.on_change = self._member_changed

    @abstractmethod
    def send(self, packet: bytes | Packet) -> None:
        """Queue a packet for sending; see `Sender.send`. Returns at once."""

    def send_all(self, packets: Sequence[bytes | Packet]) -> None:
        """Queue packets in order, with the result of one `send` each. Returns at once."""
        for packet in packets:
            self.send(packet)

    @property
    def counters(self) -> Counts:
        """The counters of all members together, at this moment."""
        every: list[Counters] = [member.counters for member in self.members]
        return Counts.of(every)

    @property
    def connected(self) -> bool:
        """Whether a member is connected."""
        return any(member.connected for member in self.members)

    async def drained(self) -> None:
        """Wait until no member has queued packets, or the group is closed."""
        while True:
            await asyncio.gather(*(member.drained() for member in self.members))
            # Meanwhile packets may have moved to another member.
            if not any(sender.is_waiting for sender in _senders(self)):
                return

    def withdraw(self) -> list[bytes]:
        """Remove the packets that wait in memory for members without a connection. For groups."""
        return [
            packet
            for member in self.members
            if not member.connected
            for packet in member.withdraw()
        ]

    async def refill(self) -> None:
        """Bring the next packets from spools of members without a connection. For groups."""
        waiting = [member for member in self.members if not member.connected]
        await asyncio.gather(*(member.refill() for member in waiting))

    async def aclose(self, timeout: float = 2.0) -> None:
        """Close all members concurrently after they have sent their queued packets.

        Args:
            timeout: seconds, from 0. After that, packets that are still queued are dropped and
                counted, or kept in the spool of a member that has one.
        """
        await asyncio.gather(*(member.aclose(timeout) for member in self.members))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(_name, self.members))})"

    def _member_changed(self) -> None:
        self.on_change()


def _name(member: Sender | Group) -> str:
    return str(member.destination if isinstance(member, Sender) else member)


def _senders(member: Sender | Group) -> Iterator[Sender]:
    """All senders of a group and of the groups in it."""
    if isinstance(member, Sender):
        yield member
    else:
        for each in member.members:
            yield from _senders(each)


def _ignore_change() -> None:
    """Ignore a change of ``connected``."""


class Duplicate(Group):
    """Sends each packet to all members. A member without a connection does not delay the others.

    It counts as connected while one member is. Each member keeps what waits for it: a group around
    it takes over nothing.

    The interface is that of `Group`.
    """

    def send(self, packet: bytes | Packet) -> None:
        """Queue a packet at every member. Returns at once."""
        for member in self.members:
            member.send(packet)

    def send_all(self, packets: Sequence[bytes | Packet]) -> None:
        """Queue packets in order at every member. Returns at once."""
        packets = list(packets)
        for member in self.members:
            member.send_all(packets)

    def withdraw(self) -> list[bytes]:
        """Nothing: other members may have sent the packets that wait for one of them."""
        return []


class Failover(Group):
    """Sends each packet to the first connected member.

    - The order of the members is the order of preference.
    - The packets queued at a member that loses its connection move to the chosen member, which
      counts them as offered too. The first member counts them as ``handed_over``. Packets in the
      spool follow, a segment each time the chosen member has sent all it had. They arrive after
      newer packets that did not wait.
    - A preferred member that is connected again gets all packets from then on.
    - While no member is connected, packets stay queued.
    - A UDP member always counts as connected, because UDP does not show whether a collector
      receives. Put it last.

    The interface is that of `Group`.
    """

    def __init__(self, *members: Sender | Group) -> None:
        super().__init__(*members)
        self._chosen = members[0]
        self._first = next(_senders(self))
        """Encodes the packets of other threads."""
        self._lent: set[Sender | Group] = set()
        """Members whose spools hold copies of packets that the chosen member has not sent."""
        self._moving: asyncio.Task[None] | None = None
        self._changed = False
        """Whether a member has changed since `_move` last looked."""
        self._handoff = Handoff(self.send_all, self._reject, LIMIT, LIMIT_BYTES)
        self._choose()

    def send(self, packet: bytes | Packet) -> None:
        """Queue a packet at the chosen member. Returns at once."""
        if get_ident() == self._handoff.thread:
            self._chosen.send(packet)
        else:
            # The chosen member may change until the packet arrives.
            self._handoff.put([self._first.prepare(packet)])

    def send_all(self, packets: Sequence[bytes | Packet]) -> None:
        """Queue packets in order at the chosen member. Returns at once."""
        if get_ident() == self._handoff.thread:
            self._chosen.send_all(packets)
        else:
            self._handoff.put([self._first.prepare(packet) for packet in packets])

    async def aclose(self, timeout: float = 2.0) -> None:
        """Close all members after they have sent their queued packets; see `Group.aclose`."""
        self._handoff.flush()
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])
        ends = asyncio.get_running_loop().time() + timeout
        if self._lent:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._sent()
                    # The copies on disk have served their purpose.
                    await asyncio.gather(*(member.refill() for member in self._lent))
        await super().aclose(max(0.0, ends - asyncio.get_running_loop().time()))

    def _reject(self, count: int) -> None:
        for _ in range(count):
            self._first.counters.refuse(FULL)

    def _member_changed(self) -> None:
        self._choose()
        self.on_change()

    def _choose(self) -> None:
        self._chosen = next((each for each in self.members if each.connected), self._chosen)
        if not self._chosen.connected:
            return
        self._changed = True
        for member in self.members:
            if not member.connected:
                self._take_over(member)
        if self._left() and (self._moving is None or self._moving.done()):
            self._moving = asyncio.get_running_loop().create_task(self._move(), name=str(self))

    def _take_over(self, member: Sender | Group) -> bool:
        packets = member.withdraw()
        if packets:
            self._lent.add(member)
            self._chosen.send_all(packets)
        return bool(packets)

    def _left(self) -> list[Sender | Group]:
        """The members whose spools have packets for the chosen member, or copies of them."""
        return [
            member
            for member in self.members
            if not member.connected and (member in self._lent or member.counters.spooled)
        ]

    async def _sent(self) -> None:
        """Wait until the chosen member has sent its packets."""
        chosen = [sender for sender in _senders(self._chosen) if sender.connected]
        await asyncio.gather(*(sender.drained() for sender in chosen))

    async def _move(self) -> None:
        """Move packets from the spools of members without a connection to the chosen member."""
        while self._chosen.connected and (left := self._left()):
            self._changed = False
            await self._sent()
            is_moved = False
            for member in left:
                if not member.connected and self._chosen.connected:
                    # Deletes the copies, and loads the next packets.
                    self._lent.discard(member)
                    await member.refill()
                if not member.connected and self._chosen.connected:
                    is_moved |= self._take_over(member)
            if not is_moved and not self._changed:
                # Nothing is left, or it stays where it is.
                return


class Balanced(Group):
    """Distributes packets over the members by correlation id (rendezvous hashing).

    - All packets with one correlation id go to the same member.
    - The choice depends only on the correlation id and the members' hep_ids. All senders of a site
      agree, and a new member takes over only its own share.
    - Packets without a correlation id (all of versions 1 and 2) go by their addresses and ports.
      Both directions go to the same member.
    - Packets for a member without a connection stay queued there, because a call split over two
      collectors is of no use. A group around it takes them over while not all members are
      connected.

    The interface is that of `Group`.
    """

    def __init__(self, *members: Sender | Group) -> None:
        super().__init__(*members)
        self._salts = [_name(member).encode() for member in members]

    @property
    def connected(self) -> bool:
        """Whether all members are connected."""
        return all(member.connected for member in self.members)

    def send(self, packet: bytes | Packet) -> None:
        """Queue a packet at its member. Returns at once."""
        packet = checked(packet)
        key = _key(packet)
        weights = [blake2b(key + salt, digest_size=8).digest() for salt in self._salts]
        self.members[weights.index(max(weights))].send(packet)


def _key(packet: bytes | Packet) -> bytes:
    """The key that packets of one call share: correlation id, or addresses and ports."""
    if not isinstance(packet, Packet):
        try:
            packet = decode(packet)
        except HepDecodeError:
            return b""
    if packet.correlation_id is not None:
        return packet.correlation_id
    ends = (packet.src_ip, packet.src_port), (packet.dst_ip, packet.dst_port)
    return repr(sorted(ends, key=str)).encode()
