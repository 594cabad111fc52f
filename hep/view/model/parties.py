"""Who takes part in a call: addresses merged to parties, named and put in order. Pure.

Two addresses become one party only with evidence:

- Events name both legs of a relayed connection.
- A message arrives at one address and leaves from the other: byte for byte, or with one Via more
  (of a response, one less), or with the same CSeq and body from the same IP address.
- A request states in its Via or Contact where its sender listens.
- A phone connects again: with the same Contact, instance or tag, or with the same user and
  User-Agent from the same IP address after it was last seen on the other port.

Two addresses that send each other messages are never one party. Many phones can be behind one IP
address, so that alone proves nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hep.codec.packet import value
from hep.view.model.events import Event
from hep.view.model.heads import Head
from hep.view.model.picture import Party, PartyRole
from hep.view.model.record import MICROSECONDS, Record, Sip
from hep.view.model.summary import MOST_ADDRESSES, ConnectionSummary

FORWARDED_WITHIN: Final = 2 * MICROSECONDS
"""Time in which a proxy or relay passes a message on."""

MOST_CANDIDATES: Final = 16
"""Earlier messages of one transaction that a message is compared with."""

UNKNOWN: Final = "?"
"""Name of a party without an address."""


@value
class Message:
    """A SIP message with what was read of it."""

    record: Record
    """The packet."""
    sip: Sip
    """Its SIP message."""
    head: Head
    """What a picture needs of it."""


def ip_of(address: str) -> str:
    """The IP address of ``IP:PORT``."""
    return address.rpartition(":")[0]


class Classes:
    """Addresses, merged to classes (union-find). Those that talk to each other stay apart."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}
        self._talks: dict[str, set[str]] = {}

    def add(self, address: str) -> None:
        """Add an address, unless it is known."""
        if address not in self._parent:
            self._parent[address] = address
            self._members[address] = [address]
            self._talks[address] = set()

    def __contains__(self, address: str) -> bool:
        return address in self._parent

    def talk(self, one: str, other: str) -> None:
        """Keep two addresses apart, since one sends the other messages."""
        self.add(one)
        self.add(other)
        if one != other:
            one, other = self.find(one), self.find(other)
            self._talks[one].add(other)
            self._talks[other].add(one)

    def find(self, address: str) -> str:
        """The address that stands for its class."""
        parent = self._parent
        root = address
        while parent[root] != root:
            root = parent[root]
        while parent[address] != root:
            parent[address], address = root, parent[address]
        return root

    def same(self, one: str, other: str) -> bool:
        """Whether two addresses are one party."""
        return self.find(one) == self.find(other)

    def merge(self, one: str, other: str) -> bool:
        """Make two addresses one party, unless they talk to each other; return whether they are."""
        one, other = self.find(one), self.find(other)
        if one == other:
            return True
        if other in self._talks[one]:
            return False
        if len(self._members[one]) + len(self._talks[one]) < len(self._members[other]) + len(
            self._talks[other]
        ):
            one, other = other, one
        self._parent[other] = one
        self._members[one] += self._members.pop(other)
        for third in self._talks.pop(other):
            self._talks[third].discard(other)
            self._talks[third].add(one)
            self._talks[one].add(third)
        return True

    def members(self, address: str) -> list[str]:
        """The addresses of the class of an address."""
        return self._members[self.find(address)]

    def roots(self) -> list[str]:
        """The classes."""
        return list(self._members)


def merged(
    messages: Sequence[Message],
    connections: Sequence[ConnectionSummary],
    events: Sequence[tuple[ConnectionSummary, Event]],
) -> tuple[Classes, list[int]]:
    """Find out which addresses are one party.

    Args:
        messages: in the order of their times, each once.
        connections: those that the messages used.
        events: events of these connections.

    Returns:
        the classes, and for each message the index of that which was forwarded as it, or -1.
    """
    classes = Classes()
    for message in messages:
        classes.talk(message.record.src, message.record.dst)
    for connection in connections:
        if connection.peer and connection.local:
            classes.talk(connection.peer, connection.local)
    _keep_apart(classes, messages, connections)
    _merge_legs(classes, messages, connections)
    copies = _forwarded(classes, messages)
    _merge_listeners(classes, messages, copies)
    _merge_phones(classes, messages, copies, connections, events)
    return classes, copies


def _keep_apart(
    classes: Classes, messages: Sequence[Message], connections: Sequence[ConnectionSummary]
) -> None:
    """Keep apart what the legs of connections say are different parties.

    A phone is no upstream, and a phone that gets a request is not the one that sent it. Otherwise
    an upstream that passes messages on unchanged would be taken for a port of the phones, and two
    phones in one page, which have the same made-up host, for one that has connected again.
    """
    phones = {each.peer for each in connections if each.leg == "client"} - {""}
    upstreams = {each.peer for each in connections if each.leg == "upstream"} - {""}
    for phone in phones - upstreams:
        for upstream in upstreams - phones:
            classes.talk(phone, upstream)
    senders: dict[tuple[int, str, str], str] = {}
    for message in messages:
        sip, record = message.sip, message.record
        if not sip.is_request:
            continue
        turn = (sip.cseq, sip.method, sip.from_tag)
        if record.src in phones:
            senders.setdefault(turn, record.src)
        elif record.dst in phones and senders.get(turn, record.dst) != record.dst:
            classes.talk(senders[turn], record.dst)


def _merge_legs(
    classes: Classes, messages: Sequence[Message], connections: Sequence[ConnectionSummary]
) -> None:
    by_id = {connection.id: connection for connection in connections}
    by_client = {each.peer: each.local for each in connections if each.leg == "client"}
    for message in messages:
        # Without the events of the client's leg, its messages say where the server listens.
        by_client.setdefault(message.record.src, message.record.dst)
    for connection in connections:
        if not connection.local:
            continue
        other = by_id.get(connection.relayed_with)
        local = other.local if other is not None else ""
        if not local and connection.leg == "upstream" and connection.client:
            local = by_client.get(connection.client, "")
        if local in classes and connection.local in classes:
            classes.merge(connection.local, local)


def _forwarded(classes: Classes, messages: Sequence[Message]) -> list[int]:
    """For each message the index of that which a relay or proxy forwarded as it, or -1."""
    copies: list[int] = []
    earlier: dict[tuple[object, ...], list[int]] = {}
    for number, message in enumerate(messages):
        sip = message.sip
        candidates = earlier.setdefault((sip.cseq, sip.method, sip.status, sip.from_tag), [])
        found = -1
        for candidate in reversed(candidates):
            if message.record.at - messages[candidate].record.at > FORWARDED_WITHIN:
                break
            if _passed_on(classes, messages[candidate], message):
                found = candidate
                break
        copies.append(found)
        candidates.append(number)
        del candidates[:-MOST_CANDIDATES]
    return copies


_TRYING: Final = 100


def _passed_on(classes: Classes, before: Message, after: Message) -> bool:
    """Whether the receiver of a message sent it on as another one."""
    one, two = before.record, after.record
    at, sender = one.dst, two.src
    # Nothing is sent on to where it came from, or again to the one that has it.
    if one.src in (sender, two.dst) or classes.same(two.dst, at):
        return False
    equal = one.payload == two.payload
    is_one = classes.same(at, sender)
    if equal:
        # What its sender sends again, on another leg, is no copy.
        return not classes.same(two.dst, one.src) and (is_one or classes.merge(at, sender))
    # Proxies do not pass a 100 on (RFC 3261 section 16.7).
    if after.sip.status == _TRYING:
        return False
    if is_one:
        return True
    more, less = (after, before) if after.sip.is_request else (before, after)
    more_hops = [hop.branch for hop in more.head.hops]
    less_hops = [hop.branch for hop in less.head.hops]
    if more_hops[1:] == less_hops and all(less_hops) and less_hops:
        return classes.merge(at, sender)
    return (
        ip_of(at) == ip_of(sender)
        and bool(at)
        and len(more_hops) == len(less_hops)
        and before.head.body == after.head.body
        and classes.merge(at, sender)
    )


def _merge_listeners(classes: Classes, messages: Sequence[Message], copies: list[int]) -> None:
    """Merge the port that a request comes from with the one where its sender says it listens."""
    for message, copy in zip(messages, copies, strict=True):
        if copy >= 0 or not message.sip.is_request or not message.head.hops:
            continue
        src = message.record.src
        stated = [message.head.hops[0].sent_by]
        if len(message.head.hops) == 1:
            stated.append(message.head.contact.partition(":")[2].rpartition("@")[2])
        for address in stated:
            if address != src and address in classes and ip_of(address) == ip_of(src):
                classes.merge(src, address)


@dataclass(slots=True)
class _Seen:
    """What is known of an address that may be a phone's."""

    first: int
    """Time of the first message that it sends."""
    last: int
    """Time of the last one."""
    who: tuple[str, str, str]
    """User, User-Agent and IP address, of the message that has most of it."""
    keys: set[tuple[str, str]] = field(default_factory=set)
    """What no other phone has: instance, Contact, tag."""
    instances: set[str] = field(default_factory=set)
    """Its instance ids."""
    answers: set[str] = field(default_factory=set)
    """Its tags in responses."""

    def may_be(self, other: "_Seen") -> bool:
        """Whether nothing says that the other one is another phone."""
        return not (
            _differ(self.instances, other.instances) or _differ(self.answers, other.answers)
        )


def _differ(some: set[str], others: set[str]) -> bool:
    return bool(some) and bool(others) and some.isdisjoint(others)


def _merge_phones(
    classes: Classes,
    messages: Sequence[Message],
    copies: list[int],
    connections: Sequence[ConnectionSummary],
    events: Sequence[tuple[ConnectionSummary, Event]],
) -> None:
    by_id = {connection.id: connection for connection in connections}
    for connection, event in events:
        later = by_id.get(event.superseded_by)
        if later is not None and connection.peer in classes and later.peer in classes:
            classes.merge(connection.peer, later.peer)
    seen = _phones(classes, messages, copies, connections)
    for connection in connections:
        found = seen.get(connection.peer)
        if found is not None and connection.leg == "client" and not all(found.who):
            user = connection.aor.partition("@")[0]
            found.who = (user, connection.user_agent, ip_of(connection.peer))
    holders: dict[tuple[str, str], str] = {}
    for address, found in seen.items():
        for key in found.keys:
            classes.merge(holders.setdefault(key, address), address)
    before: dict[tuple[str, str, str], str] = {}
    for address in sorted(seen, key=lambda each: seen[each].first):
        found = seen[address]
        if all(found.who):
            earlier = before.get(found.who)
            if (
                earlier is not None
                and seen[earlier].last <= found.first
                and found.may_be(seen[earlier])
            ):
                classes.merge(earlier, address)
            before[found.who] = address


def _phones(
    classes: Classes,
    messages: Sequence[Message],
    copies: list[int],
    connections: Sequence[ConnectionSummary],
) -> dict[str, _Seen]:
    """What is known of the addresses that send messages of their own, by address."""
    forward = {classes.find(messages[copy].record.dst) for copy in copies if copy >= 0}
    forward |= {classes.find(each.local) for each in connections if each.local in classes}
    longest: dict[tuple[int, str, str], int] = {}
    for message in messages:
        turn = (message.sip.cseq, message.sip.method, message.sip.from_tag)
        longest[turn] = max(longest.get(turn, 0), len(message.head.hops))
    seen: dict[str, _Seen] = {}
    for message, copy in zip(messages, copies, strict=True):
        record, sip, head = message.record, message.sip, message.head
        if copy >= 0 or not record.src or classes.find(record.src) in forward:
            continue
        # The sender of a request adds the first Via, and of a response it has all of them.
        hops = 1 if sip.is_request else longest[sip.cseq, sip.method, sip.from_tag]
        if len(head.hops) != hops:
            continue
        found = seen.setdefault(record.src, _Seen(record.at, record.at, ("", "", "")))
        found.last = record.at
        user = sip.from_user if sip.is_request else sip.to_user
        if user and not all(found.who):
            found.who = (user, sip.user_agent, ip_of(record.src))
        if head.instance:
            found.instances.add(head.instance)
            found.keys.add(("instance", head.instance))
        # A tag names one side of a dialog (RFC 3261 section 19.3).
        if tag := sip.from_tag if sip.is_request else sip.to_tag:
            found.keys.add(("tag", tag))
        if not sip.is_request:
            found.answers |= {sip.to_tag} - {""}
        elif head.contact:
            found.keys.add(("contact", head.contact))
        # Phones in browsers make up a host, for as long as they run.
        if sip.is_request and head.hops[0].sent_by.endswith(".invalid"):
            found.keys.add(("host", head.hops[0].sent_by))
    return seen


class Columns:
    """The parties of a picture, and which of them an address belongs to."""

    def __init__(self) -> None:
        self.parties: list[Party] = []
        """The columns, from left to right."""
        self._by_address: dict[str, int] = {}
        self._by_ip: dict[str, int] = {}

    def add(self, party: Party, addresses: Iterable[str]) -> None:
        """Add a column at the right.

        Args:
            party: the column.
            addresses: all that belong to it.
        """
        number = len(self.parties)
        self.parties.append(party)
        for address in addresses:
            self._by_address[address] = number
            ip = ip_of(address)
            # An IP address of two parties is no evidence.
            self._by_ip[ip] = number if self._by_ip.get(ip, number) == number else -1

    def known(self, address: str) -> int:
        """The column of an address, or of its IP address if that is one party's; -1 if none is."""
        found = self._by_address.get(address, -1)
        return found if found >= 0 or not address else self._by_ip.get(ip_of(address), -1)

    def of(self, address: str) -> int:
        """The column of an address, which is added if there is none."""
        found = self.known(address)
        if found < 0:
            found = len(self.parties)
            shown = [address] if address else []
            self.add(Party(address or UNKNOWN, "unknown", shown), [address])
        return found

    def server(self) -> int:
        """The column of the server that traces; of the first party if none is; -1 without any."""
        for number, party in enumerate(self.parties):
            if party.role == "server":
                return number
        return 0 if self.parties else -1


_ASKED_SERVERS: Final = ("REGISTER", "PUBLISH")
"""Methods that only a server answers."""


def columns(
    classes: Classes,
    messages: Sequence[Message],
    copies: Sequence[int],
    connections: Sequence[ConnectionSummary],
    products: dict[str, str],
) -> Columns:
    """Name the parties and put them in order.

    Args:
        classes: the addresses, merged.
        messages: in the order of their times.
        copies: of each message that which was forwarded as it, or -1.
        connections: those that the messages used.
        products: by address what the answer to a handshake says of the server there.
    """
    facts = {root: _Facts(root) for root in classes.roots()}
    order: dict[str, None] = {}

    def of(address: str) -> _Facts:
        return facts[classes.find(address)]

    first = -1
    for number, (message, copy) in enumerate(zip(messages, copies, strict=True)):
        src, dst = of(message.record.src), of(message.record.dst)
        order.setdefault(src.root)
        order.setdefault(dst.root)
        src.saw(message, is_copy=copy >= 0)
        dst.messages += 1
        if message.sip.is_request:
            if first < 0 and copy < 0:
                first = number
            dst.asked.add(message.sip.method)
            dst.callee = dst.callee or message.sip.to_user
        for address in (message.record.src, message.record.dst):
            of(address).addresses.setdefault(address)
        if copy >= 0:
            src.forwards += 1
    for connection in connections:
        pair = (connection.peer, connection.local)
        for address in pair if connection.leg == "client" else pair[::-1]:
            if address in classes:
                order.setdefault(classes.find(address))
                of(address).addresses.setdefault(address)
        if connection.local in classes:
            server = of(connection.local)
            server.is_server = True
            if connection.leg == "client":
                server.listeners.setdefault(connection.local)
        if connection.peer in classes:
            peer = of(connection.peer)
            peer.is_upstream |= connection.leg == "upstream"
            peer.is_client |= connection.leg == "client"
            peer.agent = peer.agent or connection.user_agent
            if connection.leg == "client":
                peer.user = peer.user or connection.aor.partition("@")[0]
    for address, product in products.items():
        if address in classes:
            of(address).product = of(address).product or product
    known = [facts[root] for root in order]
    caller = of(messages[first].record.src) if first >= 0 else None
    _give_roles(known, caller)
    # Phones stand outside, servers between them.
    known.sort(
        key=lambda each: 0 if each is caller else 2 if each.role == "phone" and caller else 1
    )
    found = Columns()
    for each in known:
        addresses = [address for address in each.addresses if address][:MOST_ADDRESSES]
        party = Party(each.name(), each.role, addresses, each.product or each.agent)
        found.add(party, classes.members(each.root))
    return found


class _Facts:
    """What is known of a party."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.role: PartyRole = "unknown"
        self.addresses: dict[str, None] = {}
        self.listeners: dict[str, None] = {}
        self.asked: set[str] = set()
        self.messages = self.forwards = 0
        self.is_server = self.is_upstream = self.is_client = self.says_server = False
        self.user = self.callee = self.agent = self.product = ""

    def saw(self, message: Message, *, is_copy: bool) -> None:
        """Learn from a message that it sends."""
        self.messages += 1
        sip, head = message.sip, message.head
        if is_copy:
            return
        self.user = self.user or (sip.from_user if sip.is_request else sip.to_user)
        if head.server or sip.status == _TRYING:
            self.product = self.product or head.server or head.user_agent
        self.says_server |= bool(head.server) or (head.routed and not sip.is_request)
        self.agent = self.agent or sip.user_agent

    def name(self) -> str:
        """What stands above its column."""
        if self.role == "phone":
            user = self.user or self.callee
            if user:
                return user
        product = (self.product or self.agent).split("/")[0].split(" ")[0]
        if self.role == "server" and product.lower() == "sipws":
            return "sipws"
        return next(iter([*self.listeners, *filter(None, self.addresses)]), UNKNOWN)


def _give_roles(known: Sequence[_Facts], caller: _Facts | None) -> None:
    traced = any(each.is_server for each in known)
    busiest = None
    if not traced:
        forwarding = [each for each in known if each.forwards]
        busiest = max(forwarding, key=lambda each: each.messages) if forwarding else None
    for each in known:
        if each is busiest or (each.is_server and not each.is_upstream):
            each.role = "server"
        elif each.is_upstream or each.forwards:
            each.role = "upstream"
        elif each.is_client or each is caller:
            each.role = "phone"
            if each is caller and not each.is_client and each.says_server:
                each.role = "upstream" if traced else "unknown"
        elif each.says_server or each.asked.intersection(_ASKED_SERVERS):
            each.role = "upstream" if traced or busiest else "server"
        elif each.user or each.callee:
            each.role = "phone"
        if each.role == "phone" and not each.agent:
            each.agent, each.product = each.product, ""
        if each.role == "phone":
            each.product = ""
