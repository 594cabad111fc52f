"""Several destinations behind one ``send``: duplicate, fail over, or balance.

Each takes senders (`hep.open_sender`) and is used like one::

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
    """What groups have in common."""

    def __init__(self, *members: Sender) -> None:
        if not members:
            raise ValueError("a group needs a sender")
        self.members = members
        """The senders; each has its own ``counters``."""

    @abstractmethod
    def send(self, packet: bytes) -> None:
        """Send an encoded packet; returns at once."""

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Send encoded packets in their order, as if each were sent; returns at once."""
        for packet in packets:
            self.send(packet)

    async def aclose(self, timeout: float = 2.0) -> None:
        """Send what waits, and end; all members at a time.

        Args:
            timeout: seconds that it may take; what is left then is dropped and counted.
        """
        await asyncio.gather(*(member.aclose(timeout) for member in self.members))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class Duplicate(Group):
    """Sends each packet to all members. One that is down holds up only itself."""

    def send(self, packet: bytes) -> None:
        """Send an encoded packet; returns at once."""
        for member in self.members:
            member.send(packet)

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Send encoded packets in their order, as if each were sent; returns at once."""
        for member in self.members:
            member.send_all(packets)


class Failover(Group):
    """Sends to the first member that is connected; they are named in order of preference.

    What waits for a member that is down goes to the one that is chosen instead. When a preferred
    member is back, it gets what comes from then on. While none is connected, packets wait. UDP
    cannot tell whether anybody listens: a UDP member counts as connected, so it belongs last.
    """

    def __init__(self, *members: Sender) -> None:
        super().__init__(*members)
        self._chosen = members[0]
        for member in members:
            member.on_change = self._choose

    def send(self, packet: bytes) -> None:
        """Send an encoded packet; returns at once."""
        self._chosen.send(packet)

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Send encoded packets in their order, as if each were sent; returns at once."""
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
    """Spreads packets over the members so that one correlation id always goes to the same.

    Which one depends on the id and on the members' hep_ids alone, so that all senders of a site
    agree, and adding a member moves only the share that it gets. Packets without a correlation id
    (all of versions 1 and 2) go by their addresses and ports, in either direction. A member that
    is down keeps its share waiting: half a call elsewhere would be of no use.
    """

    def __init__(self, *members: Sender) -> None:
        super().__init__(*members)
        self._salts = [str(member.destination).encode() for member in members]

    def send(self, packet: bytes) -> None:
        """Send an encoded packet; returns at once."""
        key = _key(packet)
        weights = [blake2b(key + salt, digest_size=8).digest() for salt in self._salts]
        self.members[weights.index(max(weights))].send(packet)


def _key(data: bytes) -> bytes:
    """What belongs together has the same."""
    try:
        packet = decode(data)
    except HepDecodeError:
        return b""
    if packet.correlation_id is not None:
        return packet.correlation_id
    ends = (packet.src_ip, packet.src_port), (packet.dst_ip, packet.dst_port)
    return repr(sorted(ends, key=str)).encode()
