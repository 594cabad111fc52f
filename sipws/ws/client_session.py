"""The client's side of a connection: its opening handshake, without I/O.

The session collects the server's answer up to its blank line, and the body of a refusal, so that
events carry the answer byte for byte. Interim answers before it (100, 102, 103) are skipped.
Everything after the handshake is in `sipws.ws.session`.
"""

import time
from collections.abc import Callable

from websockets.client import ClientProtocol

from sipws.events import (
    LOCAL,
    Connected,
    Connection,
    ErrorKind,
    Event,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
)
from sipws.limits import Limits
from sipws.masking.handshakes import USUAL
from sipws.request import UpgradeRequest
from sipws.ws import client_handshake
from sipws.ws.client_handshake import LONGEST_BODY, LONGEST_REPLY, MOST_INTERIM, Head, Offer
from sipws.ws.destination import Destination
from sipws.ws.engine import engine_log, restart_parser
from sipws.ws.frames import server_messages
from sipws.ws.phase import CLOSING, HANDSHAKE, OPEN
from sipws.ws.session import Session


class ClientSession(Session):
    """The client's side of one connection.

    Args:
        connection: the connection's identity.
        limits: bounds for its messages, handshake and phases.
        destination: where it connects to.
        offer: subprotocols and headers of the upgrade request.
        compression: whether permessage-deflate is offered (RFC 7692).
        monotonic: the clock of `Connection.started_monotonic`, in seconds.
    """

    __slots__ = ("_client_engine", "_head", "_interim", "_interim_bytes", "_offer", "_request")
    take_messages = staticmethod(server_messages)

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        destination: Destination,
        offer: Offer,
        *,
        compression: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client_engine: ClientProtocol = client_handshake.engine_for(
            destination,
            offer,
            limits.message_size,
            logger=engine_log,
            compression=compression,
        )
        super().__init__(connection, limits, monotonic, self._client_engine)
        self._offer = offer
        self._request = b""
        self._head: Head | None = None
        self._interim = self._interim_bytes = 0

    def _make_engine(self) -> ClientProtocol:
        return self._client_engine

    def start(self, now: float) -> list[Event]:
        """Send the upgrade request; the caller calls this first, and once.

        Args:
            now: the time, in seconds since the epoch.

        Returns:
            what happened, in order.
        """
        request = client_handshake.request_of(self._client_engine, self._offer)
        self._request = request.serialize()
        self._writes.append(self._request)
        self.connection = self.connection.with_request(UpgradeRequest(self._request))
        return [HandshakeRequest(self.connection, now, self._request)]

    def abort(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        """End the session at once with this error; see `Session.abort`.

        Args:
            kind: the kind of the error.
            detail: the reason, for people.
            now: see `Session`.
        """
        if self.phase is HANDSHAKE:
            return self._fail_handshake(kind, detail, now)
        return super().abort(kind, detail, now)

    def _receive_handshake(self, data: bytes, now: float) -> list[Event]:
        received = self._received
        looked_at = len(received)
        received += data
        while self._head is None:
            if problem := client_handshake.no_reply(received):
                return self._fail_handshake(ErrorKind.BAD_REPLY, problem, now)
            head = client_handshake.head_of(received, looked_at)
            size = self._interim_bytes + (head.size if head else len(received))
            if size > LONGEST_REPLY:
                problem = f"the server's answer exceeds {LONGEST_REPLY} bytes"
                return self._fail_handshake(ErrorKind.BAD_REPLY, problem, now)
            if head is None:
                return []
            if not client_handshake.is_interim(head):
                self._head = head
                break
            self._interim += 1
            self._interim_bytes = size
            if self._interim > MOST_INTERIM:
                problem = f"the server sent more than {MOST_INTERIM} interim answers"
                return self._fail_handshake(ErrorKind.BAD_REPLY, problem, now)
            del received[: head.size]
            looked_at = 0
        head = self._head
        if head.status != 101:
            body = bytes(received[head.size :])
            return self._refused(head, now) if client_handshake.is_whole(head, body) else []
        reply, behind = bytes(received[: head.size]), bytes(received[head.size :])
        if problem := client_handshake.problem_of(self._client_engine, reply):
            return self._fail_handshake(ErrorKind.BAD_REPLY, problem, now)
        request, self._request, self._head = self._request, b"", None
        received.clear()
        restart_parser(self._client_engine)
        self.phase = OPEN
        self.accepted = True
        happened: list[Event] = [
            HandshakeReply(self.connection, now, 101, reply),
            Connected(self.connection, now, request, reply, self._client_engine.subprotocol),
        ]
        # A server may send frames right behind its answer.
        return happened + self._receive_frames(behind, now)

    def _refused(self, head: Head, now: float) -> list[Event]:
        return self._fail_handshake(ErrorKind.HANDSHAKE_REFUSED, self._refusal_of(head), now)

    def _refusal_of(self, head: Head) -> str:
        detail = f"the server refused with {head.status} {head.phrase}".rstrip()
        body = self._received[head.size : head.size + LONGEST_BODY]
        location = client_handshake.location_of(bytes(self._received[: head.size]))
        if location is not None:
            return f"{detail}: it points to {location}"
        if not head.chunked and (reason := body.decode("utf-8", "replace").strip()):
            detail += f": {reason.splitlines()[0][:200]}"
        return detail

    def _fail_handshake(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        """Fail the handshake and close the socket: such a server gets no answer."""
        detail = self._masked(detail)
        failed = self._failed(kind, detail, now)
        # Before `_close`, which would otherwise fail the handshake again.
        self._start_closing(LOCAL, detail)
        self._eof_to_send = True
        return failed + self._close(now, LOCAL, detail)

    def _masked(self, detail: str) -> str:
        """Mask credentials that a server quotes: others than the user read the detail."""
        return USUAL.text(detail, self._request, bytes(self._received))

    def _failed(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        head = self._head
        size = LONGEST_REPLY if head is None else head.size + LONGEST_BODY
        reply = bytes(self._received[:size])
        self._received.clear()
        happened: list[Event] = []
        if head is not None:
            happened.append(HandshakeReply(self.connection, now, head.status, reply))
        happened.append(HandshakeFailed(self.connection, now, self._request, reply, kind, detail))
        return happened

    def _handshake_timed_out(self, now: float) -> list[Event]:
        if self._head is not None:
            # Only the end of the answer's body is missing.
            return self._refused(self._head, now)
        limit = self._limits.handshake_timeout
        detail = f"the server did not answer the upgrade request within {limit:g} s"
        return self._fail_handshake(ErrorKind.HANDSHAKE_TIMEOUT, detail, now)

    def _handshake_lost(self, now: float, detail: str) -> list[Event]:
        if self._head is not None:
            # The body ends with the connection, or is incomplete.
            self.phase = CLOSING
            refused = self._masked(self._refusal_of(self._head))
            return self._failed(ErrorKind.HANDSHAKE_REFUSED, refused, now)
        detail = detail or "the connection ended before the server's answer was complete"
        return self._failed(ErrorKind.HANDSHAKE_ABORTED, detail, now)
