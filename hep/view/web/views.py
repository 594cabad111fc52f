"""A call and a connection, put together of what the store has. The functions block."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from hep.sip import finder
from hep.view.export import Format, export
from hep.view.export.masks import without_credentials
from hep.view.model.connections import sentence
from hep.view.model.events import read_event
from hep.view.model.ladder import ladder
from hep.view.model.record import Kind, Record, text_of
from hep.view.parts import MOST_RECORDS, cut, parts_of_call
from hep.view.store.protocol import CallStore, Store
from hep.view.web.messages import message_of
from hep.view.web.models import CallView, ConnectionView, Message, Related
from hep.view.web.status import now

MOST_RELATED: Final = 16
"""Related calls that are named."""


def call_view(store: CallStore, call_id: str, *, keepalives: bool) -> CallView | None:
    """Show a call as it is now; see `parts_of_call`."""
    parts = parts_of_call(store, call_id, now(), keepalives=keepalives)
    if parts is None:
        return None
    return CallView(
        call=parts.call,
        verdict=parts.verdict,
        parties=parts.ladder.parties,
        steps=parts.ladder.steps,
        left_out=parts.ladder.left_out,
        cut=parts.cut,
        connections=parts.connections,
        related=_related(store, call_id, parts.records),
    )


def call_file(
    store: CallStore,
    call_id: str,
    format: Format,  # noqa: A002
    *,
    anonymous: bool,
) -> bytes | None:
    """Write a call as a file; None if there is no such call.

    Args:
        store: where it is.
        call_id: its Call-ID.
        format: of the file.
        anonymous: whether users and addresses are replaced.
    """
    parts = parts_of_call(store, call_id, now())
    if parts is None:
        return None
    return export(
        parts.call, parts.verdict, parts.ladder, parts.records, format, anonymous=anonymous
    )


def connection_view(store: CallStore, name: str, *, keepalives: bool) -> ConnectionView | None:
    """Show a connection; None if there is no such one.

    Args:
        store: where it is.
        name: its id.
        keepalives: whether keep-alives are drawn.
    """
    connection = store.connection(name)
    if connection is None:
        return None
    records = store.records_of_connection(name, MOST_RECORDS)
    other = store.connection(connection.relayed_with) if connection.relayed_with else None
    both = [connection] if other is None else [connection, other]
    picture = ladder(records, both, keepalives=keepalives)
    request, reply = _handshake(records)
    found = (store.call(call_id) for call_id in reversed(connection.calls))
    messages = connection.messages_in + connection.messages_out
    return ConnectionView(
        connection=connection,
        sentence=sentence(connection, now()),
        other=other,
        request=request,
        reply=reply,
        parties=picture.parties,
        steps=picture.steps,
        cut=cut(messages, records, picture),
        calls=[call for call in found if call is not None],
    )


def message(store: Store, number: int, *, masked: bool) -> Message | None:
    """Show a packet; None if there is no such one.

    Args:
        store: where it is.
        number: of the packet.
        masked: whether credentials are masked.
    """
    record = store.record(number)
    if record is None:
        return None
    payload = without_credentials(record.payload, record.kind) if masked else record.payload
    return message_of(record, payload)


def _handshake(records: Sequence[Record]) -> tuple[str, str]:
    for record in records:
        if record.kind is Kind.EVENT:
            event = read_event(record.payload)
            if event is not None and event.request:
                return event.request, event.reply
    return "", ""


_find_related: Final = finder("x-cid", "replaces", "refer-to")


def _related(store: CallStore, call_id: str, records: Sequence[Record]) -> list[Related]:
    """The calls that the packets of a call name, as far as the store has them."""
    why: dict[str, str] = {}
    for record in records:
        if record.correlation:
            why.setdefault(record.correlation, "correlation id")
        if record.kind is not Kind.SIP:
            continue
        values = _find_related(record.payload)
        if values is None:
            continue
        x_cid, replaces, refer_to = (text_of(each, 1024) for each in values)
        if x_cid:
            why.setdefault(x_cid, "X-CID")
        if replaces:
            why.setdefault(replaces.partition(";")[0].strip(), "transfer")
        if "Replaces=" in refer_to:
            named = refer_to.partition("Replaces=")[2].partition("&")[0].partition(">")[0]
            why.setdefault(unquote(named).partition(";")[0].strip(), "transfer")
    why.pop(call_id, None)
    found = [
        Related(call_id=other, why=reason)
        for other, reason in [*why.items()][: 2 * MOST_RELATED]
        if store.call(other) is not None
    ]
    return found[:MOST_RELATED]
