"""What became of a call, message by message. Pure; the hot path of storing.

A `Call` keeps facts with their times, and works out state and outcome from them. Nearly all facts
hold in any order of arrival: packets come over UDP, and from several agents.

A call is recognized by its first request: an INVITE without a tag in To, from its first hop. A
repeated attempt (after 401, 407, 3xx) has a higher CSeq and replaces it. Messages that a proxy
forwards have other branches. Their final responses end nothing: a proxy may try another phone.

Nothing here grows with the number of messages.
"""

import re
from typing import Final, Literal

from hep.sip import first
from hep.view.model.record import MICROSECONDS, Record, Sip
from hep.view.model.summary import MOST_ADDRESSES, CallKind, CallSummary, Outcome

MOST_TAGS: Final = 32
"""Phones that answer, or hang up, of a forked call, that are distinguished."""

MOST_RECENT: Final = 64
"""Messages, at least, among which a retransmission is recognized. The timers of RFC 3261 end
after 32 s; few calls have as many messages in that time."""

SENT_IN_VAIN: Final = 7
"""Times that an INVITE is sent until the transaction times out (RFC 3261, timers A and B)."""

OTHERS_IN_VAIN: Final = 11
"""Times that any other request is sent (RFC 3261, timers E and F)."""

KINDS: Final[dict[str, CallKind]] = {
    "INVITE": "call",
    "REGISTER": "registration",
    "SUBSCRIBE": "subscription",
    "NOTIFY": "subscription",
    "PUBLISH": "subscription",
    "MESSAGE": "message",
    "OPTIONS": "options",
}
"""What a request that opens a dialog or none is about."""

_OF_CALLS: Final = frozenset(("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE"))
"""Methods that only a call has."""

_IN_CALLS: Final = _OF_CALLS | {"INFO", "REFER"}
"""Methods that, inside a dialog, a call has first of all."""

# How sure it is who called whom, from a message that is not the first request.
_NOTHING: Final = 0
_INSIDE: Final = 1
_INSIDE_CALL: Final = 2
_REQUEST: Final = 3
_INVITE: Final = 4

_UNKNOWN: Final = -1
_GONE: Final = frozenset((408, 481))
"""Responses to a request in a dialog that end it (RFC 3261 section 12.2.1.2)."""

_expires: Final = first("expires")
_subscription_state: Final = first("subscription-state")
_read_expires: Final = re.compile(rb";\s*expires\s*=\s*\"?([0-9]{1,10})", re.IGNORECASE).search
_contact_uri: Final = re.compile(r"<([^>]*)>").search
_read_state: Final = re.compile(
    rb"\s*terminated\b(?:[^\n]*?;\s*reason\s*=\s*([A-Za-z0-9-]{1,32}))?", re.IGNORECASE
).match


def outcome_of(status: int) -> Outcome:
    """The outcome of a transaction that ends with a final response.

    Args:
        status: 200 to 699.
    """
    if status < 300:
        return "ok"
    if status == 487:
        return "cancelled"
    if status == 408 or 500 <= status < 600:
        return "failed"
    return "rejected"


def said(status: int, reason: str) -> str:
    """A response as one says it: ``486 Busy Here``."""
    return f"{status} {reason}" if reason else str(status)


class Call:
    """A call, or any other use of a Call-ID: `summary` is right after each `feed`.

    Args:
        call_id: the Call-ID of its messages.
    """

    __slots__ = (
        "_answers", "_branch", "_byes", "_callee", "_caller", "_cancelled_at", "_contact", "_cseq",
        "_dead", "_expires", "_final", "_final_at", "_final_reason", "_has_answer",
        "_key", "_lost_at", "_older", "_rank", "_rank_at", "_recent", "_ringing", "_sent",
        "_tag", "_terminated", "_up", "summary",
    )  # fmt: skip

    summary: CallSummary
    """What is known of it."""

    def __init__(self, call_id: str) -> None:
        self.summary = CallSummary(call_id, state="unknown")
        self._recent: set[int] = set()
        self._older: set[int] = set()
        self._rank = _NOTHING
        self._rank_at = 0
        self._up = False
        # Of the current attempt: the request with the highest CSeq, and what came back.
        self._tag = ""
        self._caller = self._callee = ""
        self._cseq = _UNKNOWN
        self._branch = ""
        self._key = 0
        self._sent = 0
        self._has_answer = False
        self._ringing = False
        self._answers: dict[str, int] = {}
        self._final = 0
        self._final_reason = ""
        self._final_at = 0
        self._cancelled_at = 0
        # Of the dialogs.
        self._byes: dict[tuple[str, str], int] = {}
        self._dead: tuple[int, str] | None = None
        self._lost_at = _UNKNOWN
        # Of registrations and subscriptions.
        self._contact = ""
        self._expires = _UNKNOWN
        self._terminated: tuple[int, str] | None = None

    def feed(self, record: Record) -> None:
        """Take a message. Never raises.

        Args:
            record: a SIP message with this Call-ID; others are ignored.
        """
        sip = record.sip
        if sip is None:
            return
        summary, at = self.summary, record.at
        if not summary.messages:
            summary.first = summary.last = at
        elif at > summary.last:
            summary.last = at
        elif at < summary.first:
            summary.first = at
        summary.messages += 1
        if summary.outcome == "lost" and at > self._lost_at:
            self._work_out()
        # Two agents may both send what passes between them: that is no retransmission.
        key = hash(
            (
                record.src, record.dst, sip.method, sip.status, sip.branch, sip.cseq, sip.to_tag,
                record.capture_id, record.node,
            )
        )  # fmt: skip
        recent = self._recent
        if key in recent or key in self._older:
            summary.retransmissions += 1
            if key == self._key:
                self._sent += 1
                if not self._has_answer:
                    self._work_out()
            return
        if len(recent) >= MOST_RECENT:
            self._older = recent
            self._recent = recent = set()
        recent.add(key)
        _note(summary.addresses, record.src)
        _note(summary.addresses, record.dst)
        _note(summary.connections, record.connection)
        if self._rank < _INVITE or (not sip.status and not sip.to_tag and at < self._rank_at):
            self._find_start(sip, at)
        method = sip.method
        if summary.kind == "call":
            if method == "INVITE":
                changed = (
                    self._take_response(sip, record)
                    if sip.status
                    else self._take_invite(sip, record, key)
                )
            elif method == "BYE":
                changed = not sip.status and self._take_bye(sip, at)
            elif method == "CANCEL":
                changed = not sip.status and self._take_cancel(sip, at)
            elif method == "UPDATE":
                changed = sip.status in _GONE and self._take_end(sip, at)
            else:
                return
        elif method == summary.method:
            if sip.status:
                changed = self._take_response(sip, record)
            else:
                changed = self._take_request(sip, record, key)
        elif method == "NOTIFY" and not sip.status and summary.kind == "subscription":
            changed = self._take_notify(record)
        else:
            return
        if changed:
            self._work_out()

    @property
    def has_start(self) -> bool:
        """Whether its first request was captured."""
        return self._rank >= _REQUEST and (self._rank == _INVITE or self.summary.kind != "call")

    @property
    def caller_tag(self) -> str:
        """Tag of the caller: that of From in the first request; empty if it is unknown."""
        return self._tag

    @property
    def cseq(self) -> int:
        """CSeq of the attempt that counts, the latest one; -1 if it is unknown."""
        return self._cseq

    @property
    def branch(self) -> str:
        """Branch of that attempt between the caller and its first hop; empty if it is unknown."""
        return self._branch

    @property
    def sent(self) -> int:
        """How often the caller sent the request of that attempt."""
        return self._sent

    def needs(self, address: str) -> bool:
        """Whether the call cannot go on without the connection of a phone.

        Args:
            address: ``IP:PORT`` of the phone. That of the caller is needed, and that of the callee
                who answered. A phone that only rings is not: another one may ring too.
        """
        if not address:
            return False
        return address == self._caller or (bool(self._answers) and address == self._callee)

    def is_registered(self, address: str, at: int) -> bool:
        """Whether a phone has a registration that it can lose.

        Args:
            address: ``IP:PORT`` of the phone.
            at: time, microseconds since the epoch.
        """
        return bool(address) and address == self._caller and self._is_registered(at)

    def _is_registered(self, at: int) -> bool:
        if self.summary.method != "REGISTER" or not 200 <= self._final < 300:
            return False
        return self._expires < 0 or at <= self._final_at + self._expires * MICROSECONDS

    def lose(self, at: int) -> None:
        """Take the end of a connection that the call needs. A later message takes it back.

        The call is lost unless it has ended, and a registration unless it has expired. Ask `needs`
        or `is_registered` first.

        Args:
            at: time of the end, microseconds since the epoch.
        """
        self._lost_at = max(at, self._lost_at)
        if self.summary.messages:
            self._work_out()

    # Who calls whom

    def _find_start(self, sip: Sip, at: int) -> None:
        """Take the parties from the first request, or from the best that there is instead."""
        method, rank = sip.method, _INSIDE
        if not sip.status and not sip.to_tag and method not in ("ACK", "CANCEL"):
            rank = _INVITE if method == "INVITE" else _REQUEST
        elif method in _OF_CALLS or (method in _IN_CALLS and sip.to_tag):
            rank = _INSIDE_CALL
        if rank < self._rank or (rank == self._rank and (rank < _REQUEST or at >= self._rank_at)):
            return
        summary = self.summary
        kind = "call" if rank == _INSIDE_CALL else KINDS.get(method, "other")
        if rank == _INSIDE_CALL:
            method = "INVITE"
        if kind != summary.kind or method != summary.method:
            self._restart()
        self._rank, self._rank_at = rank, at
        summary.kind, summary.method = kind, method
        summary.from_user, summary.from_host = sip.from_user, sip.from_host
        summary.to_user, summary.to_host = sip.to_user, sip.to_host
        summary.user_agent = "" if sip.status else sip.user_agent

    def _restart(self) -> None:
        summary = self.summary
        self._tag, self._cseq = "", _UNKNOWN
        self._forget_answers()
        self._contact, self._expires, self._terminated = "", _UNKNOWN, None
        summary.state, summary.outcome = "unknown", "open"
        summary.code, summary.reason, summary.ended = 0, "", ""
        summary.answered_at = summary.ended_at = 0

    def _forget_answers(self) -> None:
        self._branch, self._key, self._sent, self._has_answer = "", 0, 0, False
        self._ringing = False
        self._answers = {}
        self._final, self._final_reason, self._final_at = 0, "", 0
        self._cancelled_at = 0

    # Requests

    def _take_invite(self, sip: Sip, record: Record, key: int) -> bool:
        if sip.to_tag:
            # A re-INVITE, which changes nothing but shows that there is a call.
            changed = not self._up and self._cseq == _UNKNOWN
            self._up = True
            return changed
        if self._answers and (self._key or sip.cseq != self._cseq):
            ended_at = self.summary.ended_at
            if not ended_at or record.at <= ended_at:
                return False  # of another leg, with a tag or CSeq of its own
            # Another call with the same Call-ID.
            self._byes, self._dead, self._up = {}, None, False
        return self._attempt(sip, record.src, key)

    def _take_request(self, sip: Sip, record: Record, key: int) -> bool:
        if not self._attempt(sip, record.src, key):
            return False
        if sip.method in ("REGISTER", "SUBSCRIBE", "PUBLISH"):
            self._terminated = None
            uri = _contact_uri(sip.contact)
            self._contact = uri[1] if uri else ""
            found = _read_expires(record.payload)
            seconds = found[1] if found else _expires(record.payload)
            self._expires = _number(seconds)
        return True

    def _attempt(self, sip: Sip, src: str, key: int) -> bool:
        """Whether a request that opens a transaction is the current one."""
        if sip.cseq == self._cseq and (not self._tag or sip.from_tag == self._tag):
            # A response came before it, or a proxy forwards it.
            if self._key:
                return False
            self._tag = sip.from_tag
            self._branch, self._key, self._sent, self._caller = sip.branch, key, 1, src
            return True
        is_later = sip.cseq > self._cseq and sip.from_tag == self._tag
        if not is_later and self._cseq != _UNKNOWN and not (self._final or self._answers):
            return False  # of another leg, or late
        if sip.from_tag == self._tag and sip.cseq < self._cseq:
            return False  # late
        self._forget_answers()
        self._tag, self._cseq = sip.from_tag, sip.cseq
        self._branch, self._key, self._sent, self._caller = sip.branch, key, 1, src
        return True

    def _take_bye(self, sip: Sip, at: int) -> bool:
        if len(self._byes) >= MOST_TAGS:
            return False
        dialog = (sip.from_tag, sip.to_tag)
        before = self._byes.get(dialog)
        if before is not None and before <= at:
            return False
        self._byes[dialog] = at
        return True

    def side_of(self, from_tag: str, to_tag: str) -> Literal["caller", "callee", ""]:
        """Who sends a request inside a dialog; empty if it is unknown.

        Args:
            from_tag: tag of From of the request.
            to_tag: tag of To.
        """
        if from_tag in self._answers:
            return "callee"
        if to_tag in self._answers:
            return "caller"
        if not self._tag:
            return ""
        if from_tag == self._tag:
            return "caller"
        return "callee" if to_tag == self._tag else ""

    def _take_cancel(self, sip: Sip, at: int) -> bool:
        if self._cseq != _UNKNOWN and sip.cseq != self._cseq:
            return False
        if self._branch and sip.branch != self._branch:
            return False  # of a proxy, to a phone that need not ring any longer
        if self._cancelled_at and self._cancelled_at <= at:
            return False
        self._cancelled_at = at
        return True

    def _take_notify(self, record: Record) -> bool:
        state = _read_state(_subscription_state(record.payload))
        if state is None:
            return False
        self._terminated = (record.at, (state[1] or b"").decode())
        return True

    # Responses

    def _take_response(self, sip: Sip, record: Record) -> bool:
        if self._tag and sip.from_tag != self._tag:
            return sip.status in _GONE and self._take_end(sip, record.at)
        if sip.cseq != self._cseq:
            if sip.cseq < self._cseq:
                return False  # of an earlier attempt, and late
            if self._up or (self._answers and self.summary.kind == "call"):
                return sip.status in _GONE and self._take_end(sip, record.at)
            # Its request is missing, or comes later.
            self._forget_answers()
            self._tag, self._cseq = sip.from_tag, sip.cseq
        status, at = sip.status, record.at
        if status < 200:
            is_new = not self._has_answer or (status > 100 and not self._ringing)
            self._has_answer, self._ringing = True, self._ringing or status > 100
            return is_new
        self._has_answer = True
        if status < 300:
            before = self._answers.get(sip.to_tag)
            if before is None and len(self._answers) >= MOST_TAGS:
                return False
            if before is not None and before <= at:
                return False
            self._answers[sip.to_tag], self._callee = at, record.src
            if self._final >= 300 or not self._final or at < self._final_at:
                self._final, self._final_reason, self._final_at = status, sip.reason, at
            if sip.method == "REGISTER" and self._expires:
                self._expires = self._granted(record.payload)
            return True
        if self._branch and sip.branch != self._branch:
            return False  # a proxy may try another phone
        if self._final and (self._final < 300 or self._final_at <= at):
            return False
        self._final, self._final_reason, self._final_at = status, sip.reason, at
        return True

    def _take_end(self, sip: Sip, at: int) -> bool:
        """Take a response that says that the other end does not know the dialog any more."""
        if not (self._answers or self._up):
            return False
        if sip.method == "INVITE" and sip.cseq == self._cseq and sip.from_tag == self._tag:
            return False
        if self._dead is not None and self._dead[0] <= at:
            return False
        self._dead = (at, said(sip.status, sip.reason))
        return True

    def _granted(self, payload: bytes) -> int:
        """The seconds that a registrar grants the contact of the phone (RFC 3261 section 10.3)."""
        contact = self._contact.encode("utf-8", "replace")
        found = payload.find(contact) if contact else -1
        if found >= 0:
            end = payload.find(b"\n", found)
            row = payload[found + len(contact) : end if end >= 0 else None]
            if own := _read_expires(row.partition(b"<")[0]):
                return _number(own[1])
        return _number(_expires(payload))

    # What follows

    def _work_out(self) -> None:
        summary = self.summary
        if summary.kind != "call":
            self._work_out_transaction()
            return
        ended, ended_at, outcome = "", 0, summary.outcome
        summary.code, summary.reason = self._final, self._final_reason
        summary.answered_at = min(self._answers.values()) if self._answers else 0
        end, dead = self._end_of_dialogs(), self._dead
        if dead is not None and (end is None or dead[0] <= end[0]):
            (ended_at, ended), outcome = dead, "failed"
        elif end is not None and self._final < 300:
            ended_at, by = end
            if by == "caller" and self._cancelled_at:
                ended, outcome = "cancelled by the caller", "cancelled"
                ended_at = self._cancelled_at
            elif by:
                ended, outcome = f"BYE of the {by}", "ok"
            else:
                ended, outcome = "BYE", "ok"
        elif self._final == 487 or (self._cancelled_at and not self._final):
            ended, outcome = "cancelled by the caller", "cancelled"
            ended_at = self._cancelled_at or self._final_at
        elif self._final >= 300:
            ended, outcome = said(self._final, self._final_reason), outcome_of(self._final)
            ended_at = self._final_at
        elif self._lost_at >= summary.last:
            ended, outcome, ended_at = "connection lost", "lost", self._lost_at
        elif self._answers:
            outcome = "open"
        elif self._sent >= SENT_IN_VAIN and not self._has_answer:
            ended, outcome, ended_at = "no answer", "failed", summary.last
        else:
            outcome = "open"
        summary.ended, summary.ended_at, summary.outcome = ended, ended_at, outcome
        if ended:
            summary.state = "ended"
        elif self._answers or self._up:
            summary.state = "answered"
        elif self._ringing:
            summary.state = "ringing"
        else:
            summary.state = "trying" if self._cseq != _UNKNOWN else "unknown"

    def _end_of_dialogs(self) -> tuple[int, str] | None:
        """The BYE that ended the call: the first one of the last dialog that was left."""
        if not self._byes:
            return None
        byes = [(at, self.side_of(*tags), tags) for tags, at in self._byes.items()]
        ends = [
            min(of_answer)
            for tag in self._answers
            if (of_answer := [bye for bye in byes if tag in bye[2]])
        ]
        if ends:
            return max(ends)[:2] if len(ends) == len(self._answers) else None
        # The answer is missing, or a server between has changed the tags.
        return min(byes)[:2]

    def _work_out_transaction(self) -> None:
        summary, status = self.summary, self._final
        summary.code, summary.reason = status, self._final_reason
        if self._terminated is not None and status < 300:
            summary.ended_at, why = self._terminated
            summary.ended = f"terminated: {why}" if why else "terminated"
            summary.outcome, summary.state = "ok", "ended"
        elif self._lost_at >= summary.last and self._is_registered(self._lost_at):
            summary.outcome, summary.state, summary.ended = "lost", "ended", "connection lost"
            summary.ended_at = self._lost_at
        elif status:
            summary.outcome, summary.state = outcome_of(status), "ended"
            summary.ended_at = self._final_at
            summary.ended = self.granted() or said(status, self._final_reason)
        elif self._lost_at >= summary.last:
            summary.outcome, summary.state, summary.ended = "lost", "ended", "connection lost"
            summary.ended_at = self._lost_at
        elif self._sent >= OTHERS_IN_VAIN and not self._has_answer:
            summary.outcome, summary.state, summary.ended = "failed", "ended", "no answer"
            summary.ended_at = summary.last
        else:
            summary.outcome, summary.state = "open", "trying"
            summary.ended, summary.ended_at = "", 0

    def granted(self) -> str:
        """What the final response granted, such as ``registered for 600 s``; may be empty."""
        if self._final >= 300:
            return ""
        seconds = self._expires
        match self.summary.method:
            case "REGISTER":
                if not seconds:
                    return "unregistered"
                return f"registered for {seconds} s" if seconds > 0 else "registered"
            case "SUBSCRIBE":
                return "subscribed" if seconds else "unsubscribed"
        return ""


def _note(known: list[str], one: str) -> None:
    if one and len(known) < MOST_ADDRESSES and one not in known:
        known.append(one)


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) <= 10 else _UNKNOWN
