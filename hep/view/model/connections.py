"""A WebSocket connection from its events and messages. Pure."""

from typing import Final

from hep.view.model.durations import spoken
from hep.view.model.events import Event, read_event
from hep.view.model.record import Kind, Record, Sip
from hep.view.model.summary import MOST_ADDRESSES, ConnectionSummary

_OPENINGS: Final = ("ACCEPTED", "CONNECTED")
_MICROSECONDS: Final = 1_000_000
_SUCCESS: Final = range(200, 300)


def sentence(connection: ConnectionSummary, now: int) -> str:
    """Say what became of a connection, in one sentence.

    Args:
        connection: what is known of it.
        now: time in microseconds since the epoch.
    """
    aor, status, error = connection.aor, connection.status, connection.error.replace("-", " ")
    by = {"peer": " by the peer", "local": " by the server"}.get(connection.closed_by, "")
    span = spoken((connection.until or now) - connection.since)
    match connection.state:
        case "open":
            text = f"open for {span}" + (f", registered as {aor}" if aor else "")
        case "closed":
            code = f" with {connection.code}" if connection.code else ""
            text = f"closed{code}{by} after {span}"
            why = error or connection.reason
            # sipws says the code there if the peer gave no reason.
            text += f": {why}" if why and f" code {connection.code}" not in why else ""
        case "refused" | "failed":
            text = (
                "the handshake failed" if connection.leg == "client" else "it could not be opened"
            )
            if connection.state == "refused":
                text = f"refused with {status}"
            text += f": {why}" if (why := connection.error_detail or error) else ""
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


class Connection:
    """What is known of a connection. `feed` it with its packets, in order of arrival.

    Args:
        key: the id that its events have.
    """

    __slots__ = ("_registers", "summary")

    def __init__(self, key: str) -> None:
        self.summary = ConnectionSummary(key)
        self._registers = ""

    def feed(self, record: Record) -> None:
        """Take an event or a SIP message of the connection. Never raises."""
        summary = self.summary
        if not summary.since or record.at < summary.since:
            summary.since = record.at
        summary.last = max(summary.last, record.at)
        if record.kind is Kind.EVENT:
            event = read_event(record.payload)
            if event is not None:
                self._take(event, record)
        elif record.sip is not None:
            self._message(record.sip, record)

    def _take(self, event: Event, record: Record) -> None:
        summary = self.summary
        if event.protocol:
            summary.protocol = event.protocol
        self._place(event, record)
        for name in ("user_agent", "origin", "host", "resource", "relayed_with", "client"):
            if said := getattr(event, name):
                setattr(summary, name, said)
        if event.reply_code:
            summary.status = event.reply_code
        if event.error:
            summary.error = event.error
        if event.failed:
            summary.error_detail = event.error_detail or event.message
        if event.event in _OPENINGS:
            if event.failed:
                summary.state = "refused" if summary.status >= 300 else "failed"
                summary.until = summary.until or record.at
            elif summary.state != "closed":
                summary.state = "open"
        elif event.closed:
            self._close(event, record)
        for call_id in event.call_ids:
            self._add_call(call_id)

    def _place(self, event: Event, record: Record) -> None:
        """Read which of the addresses is the peer's. An event may have none (OpenSIPS' CLOSED)."""
        summary = self.summary
        src, dst = record.src, record.dst
        if not src or src.endswith(":0") or src == dst:
            return
        if event.event in ("CONNECTING", "CONNECTED") or event.client:
            # The server that traces opened it, and its address is the source.
            summary.leg = "upstream"
            summary.local, summary.peer = src, dst
        elif event.event == "ACCEPTED" or not summary.peer:
            summary.peer, summary.local = src, dst

    def _close(self, event: Event, record: Record) -> None:
        summary = self.summary
        summary.until = record.at
        if summary.state in ("open", "closed"):
            summary.state = "closed"
            # An upstream's connection that was never open ends too.
            summary.code = event.close_code
            summary.reason = event.close_reason or event.message
            if event.closed_by == "peer":
                summary.closed_by = "peer"
            elif event.closed_by == "local":
                summary.closed_by = "local"
        if event.messages_in or event.messages_out or event.bytes_in:
            summary.messages_in, summary.messages_out = event.messages_in, event.messages_out
            summary.bytes_in, summary.bytes_out = event.bytes_in, event.bytes_out
        if event.duration > 0:
            began = record.at - int(event.duration * _MICROSECONDS)
            # The start was not captured, or by a clock that went wrong.
            if summary.since >= record.at:
                summary.since = began

    def _message(self, sip: Sip, record: Record) -> None:
        summary = self.summary
        is_in = record.src == summary.peer
        if summary.state == "open":
            if is_in:
                summary.messages_in += 1
            else:
                summary.messages_out += 1
        if is_in and sip.user_agent and not summary.user_agent:
            summary.user_agent = sip.user_agent
        if sip.call_id:
            self._add_call(sip.call_id)
        if sip.method == "REGISTER":
            self._register(sip)

    def _register(self, sip: Sip) -> None:
        if sip.is_request:
            self._registers = f"{sip.to_user}@{sip.to_host}"[:512] if sip.to_user else ""
        elif sip.status in _SUCCESS and self._registers:
            self.summary.aor = self._registers

    def _add_call(self, call_id: str) -> None:
        calls = self.summary.calls
        if call_id in calls:
            if calls[-1] == call_id:
                return
            calls.remove(call_id)
        elif len(calls) >= MOST_ADDRESSES:
            del calls[0]
        calls.append(call_id)
