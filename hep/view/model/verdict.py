"""What became of a call, in one sentence. Pure.

State and outcome are those of `Call`, which the list of calls uses too. The sentence adds who did
it, when, and which connection was lost.
"""

from collections.abc import Sequence
from typing import Final

from hep.sip import first
from hep.view.model.calls import Call, said
from hep.view.model.durations import SECOND, spoken
from hep.view.model.losses import Loss, ends_in, losses
from hep.view.model.notes import MOST_NOTES, notes
from hep.view.model.picture import Verdict
from hep.view.model.record import Kind, Record
from hep.view.model.sides import Sides
from hep.view.model.summary import CallSummary, ConnectionSummary

RINGING_AT_MOST: Final = 180 * SECOND
"""A call that rings longer without a message has most likely ended outside of the capture: proxies
end it then (RFC 3261 section 16.6, timer C)."""

TRYING_AT_MOST: Final = 32 * SECOND
"""Time after which a client gives up a request without an answer (RFC 3261, timers B and F)."""

UP_AT_MOST: Final = 2 * 3600 * SECOND
"""A call without a message for longer is said to go on only as far as the capture shows."""

_IN_WANT_OF_A_PHONE: Final = frozenset((408, 410, 430, 480, 487, 500, 503, 504))
"""Responses that a server sends when it does not reach the phone."""

_authorization: Final = first("authorization")
_proxy_authorization: Final = first("proxy-authorization")


def verdict(
    records: Sequence[Record], connections: Sequence[ConnectionSummary], now: int
) -> Verdict:
    """Say what became of a call. Never raises.

    Args:
        records: its packets in any order: SIP, and what else has its Call-ID.
        connections: the connections that it used, and later ones of the same users.
        now: the time, in microseconds since the epoch.
    """
    ordered = sorted(records, key=_time)
    messages = [record for record in ordered if record.kind is Kind.SIP and record.sip is not None]
    if not messages:
        return Verdict("There is no SIP message.", "open")
    call = Call(_call_id(messages))
    for record in messages:
        call.feed(record)
    known = {each.peer for each in connections} | {each.local for each in connections}
    used = [*connections, *(each for each in ends_in(ordered) if each.peer not in known)]
    sides = Sides(messages, call, used)
    lost = losses(sides, messages, used, call)
    loss = _decisive(lost, sides, call)
    if loss is not None and (not call.summary.ended or call.summary.kind == "registration"):
        call.lose(loss.connection.until)
    said_of = _Sentence(messages, call, sides, loss, now)
    text = said_of.text()
    outcome = call.summary.outcome
    if said_of.is_lost:
        outcome = "lost"
    named = loss if said_of.is_lost else None
    if loss is not None and named is not None:
        # What ends after it is a consequence.
        lost = [each for each in lost if each.connection.until < loss.connection.until]
    further = [*said_of.further, *notes(ordered, messages, call, sides, lost, named)]
    return Verdict(text, outcome, further[:MOST_NOTES])


def _time(record: Record) -> int:
    return record.at


def _call_id(messages: Sequence[Record]) -> str:
    sip = messages[0].sip
    return sip.call_id if sip is not None else ""


def _decisive(lost: Sequence[Loss], sides: Sides, call: Call) -> Loss | None:
    """The lost connection without which the call could not go on."""
    summary = call.summary
    if summary.answered_at:
        answered = [
            record.src for key, record in sides.first_sent.items()
            if key[0] == "INVITE" and 200 <= key[1] < 300
        ]  # fmt: skip
        needed = [{sides.caller}, {address for address in answered if address in sides.callees}]
    else:
        needed = [{sides.caller}, set(sides.callees)]
    gone = {each.client for each in lost}
    for each in lost:
        if not each.client:
            return each  # an upstream without which no phone is reached
        for addresses in needed:
            if each.client in addresses and addresses <= gone:
                return each
    return None


class _Sentence:
    """The sentence about a call."""

    def __init__(
        self, messages: Sequence[Record], call: Call, sides: Sides, loss: Loss | None, now: int
    ) -> None:
        self._messages = messages
        self._call = call
        self._summary: CallSummary = call.summary
        self._sides = sides
        self._loss = loss
        self._now = now
        self.is_lost = False
        """Whether it says that a lost connection is the cause."""
        self.further: list[str] = []
        """What belongs to it and is no part of it."""

    def text(self) -> str:
        summary = self._summary
        text = self._lost() or (self._call_text() if summary.kind == "call" else self._other())
        # A reason phrase at its end may have a full stop of its own.
        return text[:1].upper() + text[1:].rstrip(" .") + "."

    def _lost(self) -> str:
        loss, summary = self._loss, self._summary
        if loss is None:
            return ""
        is_cause = summary.outcome == "lost" or (
            summary.outcome in ("failed", "rejected")
            and summary.code in _IN_WANT_OF_A_PHONE
            and loss.side == "callee"
            and not summary.answered_at
        )
        if not is_cause:
            return ""
        self.is_lost = True
        packet = self._final_packet() if summary.code >= 300 else None
        if packet is not None:
            span = spoken(packet.at - loss.connection.until)
            final = said(summary.code, summary.reason)
            self.further.append(f"{final} from {self._sides.name(packet)} followed {span} later.")
        owners = {"caller": "the caller", "callee": "the phone", "upstream": "the upstream"}
        text = loss.text(owners.get(loss.side, "a phone"))
        if summary.answered_at:
            span = spoken(loss.connection.until - summary.answered_at)
            return f"lost {span} after the answer: {text}"
        if granted := self._call.granted():
            return f"{granted}, then lost: {loss.text('the phone')}"
        if loss.side == "caller":
            return f"lost before an answer: {text}"
        return f"no answer: {text}"

    # Calls

    def _call_text(self) -> str:
        summary = self._summary
        if summary.state != "ended":
            return self._open_call()
        if summary.outcome == "cancelled":
            return self._cancelled()
        if summary.ended == "no answer":
            return self._in_vain()
        if summary.ended.startswith("BYE"):
            who = summary.ended
            if who == "BYE" and (user := self._user_of_bye()):
                who = f"BYE of {user}"
            return f"ended by {who}{self._after_answer()}"
        if summary.answered_at or summary.code < 300:
            return f"ended{self._after_answer()}: a request within the call got {summary.ended}"
        return self._rejected("INVITE")

    def _after_answer(self) -> str:
        summary = self._summary
        if not summary.answered_at:
            return ""
        return f" after {spoken(summary.ended_at - summary.answered_at)}"

    def _user_of_bye(self) -> str:
        for record in self._messages:
            sip = record.sip
            if sip is not None and sip.is_request and sip.method == "BYE":
                return sip.from_user
        return ""

    def _cancelled(self) -> str:
        summary = self._summary
        if summary.answered_at:
            return "cancelled by the caller while the callee answered; then ended by BYE"
        since = self._first_of(range(180, 200)) or self._first_of(range(101, 180))
        if since is not None:
            span = max(summary.ended_at - since.at, 0)
            return f"cancelled by the caller after {spoken(span)} of ringing"
        if self._call.has_start:
            span = max(summary.ended_at - self._start(), 0)
            return f"cancelled by the caller after {spoken(span)}, before it rang"
        return "cancelled by the caller"

    def _open_call(self) -> str:
        summary, silent = self._summary, self._now - self._summary.last
        if summary.state == "answered":
            since = summary.answered_at
            if silent > UP_AT_MOST:
                text = "the capture ends while the call is up"
                span = summary.last - since
                return (
                    f"{text}, {spoken(span)} after the answer" if since and span >= SECOND else text
                )
            return "the call is up" + (f" for {spoken(self._now - since)}" if since else "")
        if summary.state == "ringing":
            ringing = self._first_of(range(101, 200))
            since = ringing.at if ringing is not None else summary.last
            if silent > RINGING_AT_MOST:
                return "the capture ends while it rings"
            return f"ringing for {spoken(self._now - since)}"
        if summary.state == "trying":
            return self._unanswered("INVITE")
        return "the capture has neither the start nor the end of the call"

    def _in_vain(self) -> str:
        summary = self._summary
        times, span = self._call.sent, spoken(summary.last - self._start())
        return f"no answer: the {summary.method} was sent {times} times in {span}"

    def _unanswered(self, method: str) -> str:
        waited = self._now - self._start()
        if self._now - self._summary.last <= TRYING_AT_MOST:
            return f"no answer to the {method} yet, {spoken(waited)} after it"
        final = "a final answer" if self._first_of(range(100, 200)) else "an answer"
        return f"the capture ends without {final} to the {method}"

    # Responses

    def _rejected(self, method: str) -> str:
        summary = self._summary
        code, final = summary.code, said(summary.code, summary.reason)
        packet = self._final_packet()
        if packet is None:
            return f"rejected: {final}"
        who = self._sides.name(packet)
        if code in (401, 407):
            if self._has_credentials():
                return f"rejected by {who} in spite of credentials: {final}"
            return f"challenged by {who} with {final}; no {method} with credentials followed"
        if code < 400:
            target = packet.sip.contact if packet.sip is not None else ""
            return f"redirected by {who}" + (f" to {_uri(target)}" if target else "") + f": {final}"
        if code == 408:
            ringing = self._first_of(range(101, 200))
            if ringing is not None:
                span = spoken(packet.at - ringing.at)
                return f"no answer after {span} of ringing: {final} from {who}"
            return f"no answer: {final} from {who}{self._wait(packet)}"
        if summary.outcome == "failed":
            return f"failed: {final} from {who}"
        return f"rejected by {who}: {final}"

    def _wait(self, packet: Record) -> str:
        if not self._call.has_start:
            return ""
        return f", {spoken(packet.at - self._start())} after the {self._summary.method}"

    def _final_packet(self) -> Record | None:
        """The packet in which the final response was sent first."""
        summary, call = self._summary, self._call
        for record in self._messages:
            sip = record.sip
            if (
                sip is not None
                and sip.status == summary.code
                and sip.method == summary.method
                and sip.cseq == call.cseq
                and sip.from_tag == call.caller_tag
            ):
                return record
        return None

    def _has_credentials(self) -> bool:
        return any(
            bool(_authorization(record.payload) or _proxy_authorization(record.payload))
            for record in self._messages
            if record.sip is not None
            and record.sip.is_request
            and record.sip.cseq == self._call.cseq
            and record.sip.method == self._summary.method
        )

    def _first_of(self, statuses: range) -> Record | None:
        """The first response of these to the attempt that counts."""
        for record in self._messages:
            sip = record.sip
            if (
                sip is not None
                and sip.status in statuses
                and sip.method == self._summary.method
                and sip.cseq == self._call.cseq
            ):
                return record
        return None

    def _start(self) -> int:
        """Time of the request that counts."""
        for record in self._messages:
            sip = record.sip
            if (
                sip is not None
                and sip.is_request
                and sip.method == self._summary.method
                and sip.cseq == self._call.cseq
            ):
                return record.at
        return self._summary.first

    # All that are no calls

    def _other(self) -> str:
        summary = self._summary
        method = summary.method or "request"
        if summary.state != "ended":
            if not self._call.has_start:
                return f"the capture has no {method} and no answer to it"
            return self._unanswered(method)
        if summary.ended == "no answer":
            return self._in_vain()
        if summary.kind == "registration" and summary.outcome == "ok":
            return summary.ended
        if summary.ended.startswith("terminated"):
            _, _, why = summary.ended.partition(": ")
            return "the subscription was terminated" + (f": {why}" if why else "")
        if summary.method == "SUBSCRIBE" and summary.outcome == "ok":
            return summary.ended
        if summary.outcome == "ok":
            packet = self._final_packet()
            by = f" by {self._sides.name(packet)}" if packet is not None else ""
            return f"{method} answered{by}: {said(summary.code, summary.reason)}"
        return self._rejected(method)


def _uri(contact: str) -> str:
    start = contact.find("<")
    end = contact.find(">", start)
    return contact[start + 1 : end] if 0 <= start < end else contact.partition(";")[0]
