"""Turns packets into rows: keeps the calls and connections that go on, and writes what changed.

One thread calls it. A batch is one transaction with its packets, calls, connections and terms, so
that a store that was cut off mid-write has all of a batch or nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from hep.view.model.calls import Call
from hep.view.model.connections import Connection
from hep.view.model.record import Kind, Record, Sip
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store import schema
from hep.view.store.schema import Row
from hep.view.store.segment import Segment
from hep.view.store.terms import digits_of, ip_of, number_term, term

MOST_CALLS: Final = 8_192
"""Calls whose state is in memory. That of others is read again when a message of them comes."""

MOST_CONNECTIONS: Final = 16_384
"""Connections whose state is in memory."""

MOST_PAIRS: Final = 131_072
"""Pairs of addresses whose connection is known."""

MOST_TERMS: Final = 64
"""Terms of a call or connection in a segment. A call has about 10; one with thousands of branches
or addresses is found by the first ones."""

MOST_READ: Final = 500
"""Packets from which the state of a call is read again."""

_EVICTED: Final = 256

T = TypeVar("T", Call, Connection)


class _Entry(Generic[T]):
    """A call or connection that goes on, and where its row is."""

    __slots__ = ("batch", "carried", "number", "segment", "terms", "thing")

    def __init__(self, thing: T) -> None:
        self.thing: T = thing
        self.segment = 0
        self.number = 0
        self.carried = 0
        self.batch = 0
        """The batch that has its row."""
        self.terms: set[str] = set()


class Batch:
    """Rows of a number of packets, and of what they change.

    Args:
        segment: where they are written.
        number: of the batch.
    """

    __slots__ = (
        "call_rows", "calls", "changes", "connection_rows", "connections", "facts", "number",
        "packets", "segment", "terms",
    )  # fmt: skip

    def __init__(self, segment: Segment, number: int) -> None:
        self.segment = segment
        self.number = number
        self.packets: list[Row] = []
        self.terms: list[tuple[int, int]] = []
        self.calls: list[_Entry[Call]] = []
        self.call_rows: list[Row] = []
        self.connections: list[_Entry[Connection]] = []
        self.connection_rows: list[Row] = []
        self.facts: list[tuple[str, int]] = []
        self.changes: tuple[list[CallSummary], list[ConnectionSummary]] | None = None
        """Copies of what it changes; None if no program follows."""

    def write(self) -> None:
        """Write it in one transaction.

        Raises:
            sqlite3.Error: nothing of it was written.
        """
        with self.segment.writing() as database:
            schema.PACKETS.write(database, self.packets)
            schema.CALLS.write(database, self.call_rows)
            schema.CONNECTIONS.write(database, self.connection_rows)
            # In order: neighbours in the index are written together.
            self.terms.sort()
            schema.TERMS.write(database, self.terms)
            database.executemany(
                "INSERT OR REPLACE INTO facts (name, number) VALUES (?, ?)", self.facts
            )


class Writer:
    """The state of what goes on.

    Args:
        find_call: reads the packets of a call from the store, and the segment and number of its
            latest row; None if it has none.
        find_connection: the same for a connection.
    """

    def __init__(
        self,
        find_call: Callable[[str], tuple[list[Record], int, int] | None],
        find_connection: Callable[[str], tuple[list[Record], int, int] | None],
    ) -> None:
        self._find_call = find_call
        self._find_connection = find_connection
        self._calls: OrderedDict[str, _Entry[Call]] = OrderedDict()
        self._connections: OrderedDict[str, _Entry[Connection]] = OrderedDict()
        self._pairs: dict[tuple[str, str], str] = {}
        self.batches = 0
        """Batches so far."""

    def forget(self) -> None:
        """Forget all state, after a batch that was not written; it is read again when needed."""
        self._calls.clear()
        self._connections.clear()
        self._pairs.clear()

    def counts(self) -> tuple[int, int]:
        """Calls and connections in memory that go on."""
        # Copies, since another thread may add to them.
        calls = sum(entry.thing.summary.outcome == "open" for entry in list(self._calls.values()))
        connections = sum(
            entry.thing.summary.state == "open" for entry in list(self._connections.values())
        )
        return calls, connections

    def take(self, records: Iterable[Record], segment: Segment) -> Batch:
        """Take packets, and number their rows in a segment.

        Args:
            records: the packets, in order of arrival. ``connection`` and ``id`` are set.
            segment: where they will be written.
        """
        self.batches += 1
        batch = Batch(segment, self.batches)
        rows = batch.packets
        at = segment.number
        for record in records:
            call_number = connection_number = None
            sip = record.sip
            connection: _Entry[Connection] | None = None
            if record.kind is Kind.EVENT:
                connection = self._connection(self._key_of_event(record), batch, segment)
            elif sip is not None:
                key = self._pairs.get((record.src, record.dst))
                if key is None and record.correlation in self._connections:
                    key = record.correlation
                if key is not None:
                    connection = self._connection(key, batch, segment)
            if connection is not None:
                summary = connection.thing.summary
                record.connection = summary.id
                was_open = summary.state == "open"
                connection.thing.feed(record)
                connection_number = connection.number
                if record.kind is Kind.EVENT:
                    self._learn(connection, batch)
                    if was_open and summary.state == "closed":
                        self._lose_calls(summary, batch, segment)
                elif not connection.terms or (sip is not None and sip.method == "REGISTER"):
                    # Found by its user while it is open, and in the next segment.
                    self._connection_terms(connection, batch)
            if sip is not None and sip.call_id:
                entry = self._call(sip.call_id, batch, segment)
                entry.thing.feed(record)
                call_number = entry.number
                self._call_terms(entry, record, sip, batch)
            elif sip is None and record.kind is not Kind.EVENT and record.correlation:
                known = self._calls.get(record.correlation)
                if known is not None:
                    call_number = self._call(record.correlation, batch, segment).number
            segment.packets += 1
            record.id = schema.packet_id(at, segment.packets)
            rows.append(
                (
                    segment.packets, record.at, record.kind, call_number, connection_number,
                    record.src, record.dst, record.payload, record.protocol_type,
                    record.ip_protocol, record.capture_id, record.node, record.correlation,
                )
            )  # fmt: skip
        # The values change with the next batch, so their rows are made now.
        batch.call_rows = [
            (*schema.call_row(entry.thing.summary), entry.number, entry.carried)
            for entry in batch.calls
        ]
        batch.connection_rows = [
            (*schema.connection_row(entry.thing.summary), entry.number, entry.carried)
            for entry in batch.connections
        ]
        self._evict()
        return batch

    def _evict(self) -> None:
        """Forget what was used longest ago, beyond the most that is kept in memory."""
        caches: tuple[tuple[dict[Any, Any], int], ...] = (
            (self._calls, MOST_CALLS),
            (self._connections, MOST_CONNECTIONS),
            (self._pairs, MOST_PAIRS),
        )
        for cache, most in caches:
            if len(cache) > most:
                for key in list(islice(cache, len(cache) - most + _EVICTED)):
                    del cache[key]

    def _call(self, call_id: str, batch: Batch, segment: Segment) -> _Entry[Call]:
        entry = _known(self._calls, call_id, Call, self._find_call)
        if entry.segment != segment.number:
            segment.calls += 1
            _move(entry, segment, segment.calls)
        if entry.batch != batch.number:
            entry.batch = batch.number
            batch.calls.append(entry)
        return entry

    def _connection(self, key: str, batch: Batch, segment: Segment) -> _Entry[Connection]:
        entry = _known(self._connections, key, Connection, self._find_connection)
        if entry.segment != segment.number:
            segment.connections += 1
            _move(entry, segment, segment.connections)
        if entry.batch != batch.number:
            entry.batch = batch.number
            batch.connections.append(entry)
        return entry

    def _lose_calls(self, connection: ConnectionSummary, batch: Batch, segment: Segment) -> None:
        """Tell the calls that need a connection, and its registrations, that it has ended."""
        for call_id in connection.calls:
            entry = self._calls.get(call_id)
            if entry is None:
                continue
            call, peer = entry.thing, connection.peer
            if (call.summary.outcome == "open" and call.needs(peer)) or (
                connection.broke and call.is_registered(peer, connection.until)
            ):
                self._call(call_id, batch, segment).thing.lose(connection.until)

    @staticmethod
    def _key_of_event(record: Record) -> str:
        # An event without an id is of the connection between its addresses.
        return record.correlation or f"{record.src}-{record.dst}"

    def _learn(self, entry: _Entry[Connection], batch: Batch) -> None:
        """Note the addresses of a connection, by which its SIP is found, and its terms."""
        summary = entry.thing.summary
        peer, local = summary.peer, summary.local
        if peer and local and self._pairs.get((peer, local)) != summary.id:
            # A port that is used again is of the latest connection.
            for pair in ((peer, local), (local, peer)):
                self._pairs.pop(pair, None)
                self._pairs[pair] = summary.id
        self._connection_terms(entry, batch)

    def _connection_terms(self, entry: _Entry[Connection], batch: Batch) -> None:
        summary = entry.thing.summary
        peer = summary.peer
        thing = 2 * entry.number + 1
        if peer:
            self._address_terms(entry, peer, thing, batch)
        if summary.client:
            self._address_terms(entry, summary.client, thing, batch)
        if summary.aor:
            self._user_terms(entry, summary.aor.partition("@")[0], thing, batch)

    def _call_terms(self, entry: _Entry[Call], record: Record, sip: Sip, batch: Batch) -> None:
        thing = 2 * entry.number
        terms = entry.terms
        if record.src not in terms:
            self._address_terms(entry, record.src, thing, batch)
        if record.dst not in terms:
            self._address_terms(entry, record.dst, thing, batch)
        for user in (sip.from_user, sip.to_user):
            if user and user not in terms:
                self._user_terms(entry, user, thing, batch)
        if sip.branch and sip.branch not in terms:
            self._add(entry, sip.branch, thing, batch)

    def _address_terms(self, entry: _Entry[Any], address: str, thing: int, batch: Batch) -> None:
        if self._add(entry, address, thing, batch):
            batch.terms.append((term(ip_of(address)), thing))

    def _user_terms(self, entry: _Entry[Any], user: str, thing: int, batch: Batch) -> None:
        if self._add(entry, user, thing, batch) and (digits := digits_of(user)) is not None:
            batch.terms.append((number_term(digits), thing))

    @staticmethod
    def _add(entry: _Entry[Any], text: str, thing: int, batch: Batch) -> bool:
        """Add a term unless the row has it already; returns whether it was added."""
        if text in entry.terms or not text or len(entry.terms) >= MOST_TERMS:
            return False
        entry.terms.add(text)
        batch.terms.append((term(text), thing))
        return True


def _known(
    cache: OrderedDict[str, _Entry[T]],
    key: str,
    make: Callable[[str], T],
    find: Callable[[str], tuple[list[Record], int, int] | None],
) -> _Entry[T]:
    """A call or connection from memory, or from the store, or a new one.

    Args:
        cache: what is in memory; the one that is used goes to its end.
        key: Call-ID or id.
        make: makes a new one.
        find: as in `Writer`.
    """
    entry = cache.get(key)
    if entry is not None:
        cache.move_to_end(key)
        return entry
    entry = cache[key] = _Entry(make(key))
    if (found := find(key)) is not None:
        records, entry.segment, entry.number = found
        for record in records:
            entry.thing.feed(record)
    return entry


def _move(entry: _Entry[Any], segment: Segment, number: int) -> None:
    """Give a call or connection a row in a segment."""
    entry.carried = entry.segment
    entry.segment = segment.number
    entry.number = number
    entry.terms = set()
