"""Groups of senders: duplicate, fail over, or balance.

A group takes senders (`hep.open_sender`) and has the methods of a sender::

    async with hep.Failover(hep.open_sender(first), hep.open_sender(second)) as group:
        group.send(hep.encode(packet))
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from typing import Self

from hep.codec.any_version import decode
from hep.errors import HepDecodeError
from hep.sending.senders import Sender


class Group(ABC):
    """Base class of groups of senders.

    Interface: `send` and `send_all` queue packets, `aclose` sends the queued packets and closes all
    members. A group is an asynchronous context manager that calls `aclose`. It has no counters:
    each member has its own ``counters``, ``connected`` and ``drained``.

    Args:
        members: one sender or more. The group closes them.

    Raises:
        ValueError: there is no member.
    """

    def __init__(self, *members: Sender) -> None:
        if not members:
            raise ValueError(f"{type(self).__name__}() has no members: pass at least one sender")
        self.members = members
        """The senders; each has its own ``counters``."""

    @abstractmethod
    def send(self, packet: bytes) -> None:
        """Queue an encoded packet for sending. Returns at once and never raises."""

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Queue encoded packets in order, with the result of one `send` each. Returns at once."""
        for packet in packets:
            self.send(packet)

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


class Duplicate(Group):
    """Sends each packet to all members. A member without a connection does not delay the others.

    The interface is that of `Group`.
    """

    def send(self, packet: bytes) -> None:
        """Queue an encoded packet at every member. Returns at once and never raises."""
        for member in self.members:
            member.send(packet)

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Queue encoded packets in order at every member. Returns at once and never raises."""
        for member in self.members:
            member.send_all(packets)


class Failover(Group):
    """Sends each packet to the first connected member.

    - The order of the members is the order of preference.
    - The packets queued at a member that loses its connection move to the chosen member.
    - A preferred member that is connected again gets all packets from then on.
    - While no member is connected, packets stay queued.
    - A UDP member always counts as connected, because UDP does not show whether a collector
      receives. Put it last.

    The interface is that of `Group`. It uses the ``on_change`` of its members.
    """

    def __init__(self, *members: Sender) -> None:
        super().__init__(*members)
        self._chosen = members[0]
        for member in members:
            member.on_change = self._choose

    def send(self, packet: bytes) -> None:
        """Queue an encoded packet at the chosen member. Returns at once and never raises."""
        self._chosen.send(packet)

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Queue encoded packets in order at the chosen member. Returns at once, never raises."""
        self._chosen.send_all(packets)

    def _choose(self) -> None:
        self._chosen = next((each for each in self.members if each.connected), self._chosen)
        if not self._chosen.connected:
            return
        for member in self.members:
            if not member.connected:
                for packet in member.counters.withdraw():
                    self._chosen.send(packet)


class Balanced(Group):
    """Distributes packets over the members by correlation id (rendezvous hashing).

    - All packets with one correlation id go to the same member.
    - The choice depends only on the correlation id and the members' hep_ids. All senders of a site
      agree, and a new member takes over only its own share.
    - Packets without a correlation id (all of versions 1 and 2) go by their addresses and ports.
      Both directions go to the same member.
    - Packets for a member without a connection stay queued there, because a call split over two
      collectors is of no use.

    The interface is that of `Group`.
    """

    def __init__(self, *members: Sender) -> None:
        super().__init__(*members)
        self._salts = [str(member.destination).encode() for member in members]

    def send(self, packet: bytes) -> None:
        """Queue an encoded packet at its member. Returns at once and never raises."""
        key = _key(packet)
        weights = [blake2b(key + salt, digest_size=8).digest() for salt in self._salts]
        self.members[weights.index(max(weights))].send(packet)


def _key(data: bytes) -> bytes:
    """The key that packets of one call share: correlation id, or addresses and ports."""
    try:
        packet = decode(data)
    except HepDecodeError:
        return b""
    if packet.correlation_id is not None:
        return packet.correlation_id
    ends = (packet.src_ip, packet.src_port), (packet.dst_ip, packet.dst_port)
    return repr(sorted(ends, key=str)).encode()
