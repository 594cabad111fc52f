"""The server's side of a connection: its opening handshake, without I/O.

The session collects the upgrade request up to its blank line, so that events carry requests and
refusals byte for byte. Everything after the handshake is in `sipws.ws.session`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from sipws.events import (
    LOCAL,
    PEER,
    Accepted,
    Connection,
    ErrorKind,
    Event,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    Probe,
)
from sipws.limits import Limits
from sipws.masking.handshakes import USUAL
from sipws.request import UpgradeRequest
from sipws.ws import handshake
from sipws.ws.engine import SERVER_COMPRESSION, engine_log, restart_parser
from sipws.ws.handshake import Refusal
from sipws.ws.handshake_fast_path import short_answer
from sipws.ws.health_check import HEALTHY, HEALTHY_HEAD, HealthCheck, health_check
from sipws.ws.phase import HANDSHAKE, OPEN
from sipws.ws.session import Session

PATIENCE: Final = 2.0
"""Seconds that a connection that is turned away has for its request, which is answered with the
reason. The number of such connections is limited (`sipws.admission.admission.MOST_ANSWERED`)."""

Examine = Callable[[Connection, float], tuple[Connection, Refusal | None]]
"""Decides on a connection whose request has come. Takes the connection and the monotonic time;
returns the connection, with its real peer address, and a refusal or None."""


def let_in(connection: Connection, now: float) -> tuple[Connection, Refusal | None]:
    """Accept every connection."""
    return connection, None


class ServerSession(Session):
    """The server's side of one connection.

    Args:
        connection: the connection's identity.
        limits: bounds for its messages, handshake and phases.
        examine: decides on the upgrade request, before the checks of RFC 6455 and RFC 7118.
        subprotocols: the client must offer one of them; empty for no subprotocol.
        compression: whether permessage-deflate is accepted (RFC 7692).
        health_path: the path of a load balancer's health check; None for none.
        monotonic: the clock of `Connection.started_monotonic` and of `examine`, in seconds.
    """

    __slots__ = ("_compression", "_examine", "_health_path", "_subprotocols", "_turned_away")

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        examine: Examine = let_in,
        *,
        subprotocols: Sequence[Subprotocol] = (handshake.SUBPROTOCOL,),
        compression: bool = False,
        health_path: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._examine = examine
        self._subprotocols = subprotocols
        self._compression = compression
        self._health_path = health_path
        self._turned_away: Refusal | None = None
        super().__init__(connection, limits, monotonic)

    def _make_engine(self) -> ServerProtocol:
        return ServerProtocol(
            extensions=SERVER_COMPRESSION if self._compression else None,
            subprotocols=self._subprotocols or None,
            state=State.OPEN if self.accepted else State.CONNECTING,
            max_size=self._limits.message_size,
            logger=engine_log,
        )

    def turn_away(self, refusal: Refusal) -> bool:
        """Refuse the connection as soon as its request has come.

        Some clients do not accept an answer before their request.

        Args:
            refusal: why.

        Returns:
            whether this changed anything; False for a connection whose request has come, or that
            is turned away already.
        """
        if self.phase is not HANDSHAKE or self._turned_away is not None:
            return False
        self._turned_away = refusal
        limits = self._limits
        patience = min(limits.handshake_timeout, PATIENCE)
        self._limits = replace(limits, handshake_timeout=patience)
        return True

    def drop(self, refusal: Refusal, now: float, received: bytes = b"") -> list[Event]:
        """Refuse a connection without an answer; the caller drops the socket.

        Args:
            refusal: why.
            now: the time, in seconds since the epoch.
            received: bytes that came in place of HTTP, if they are the reason.

        Returns:
            what happened, in order.
        """
        self._bytes_in += len(received)
        kind, detail = refusal.kind, refusal.detail
        failed = HandshakeFailed(self.connection, now, received, b"", kind, detail)
        # Before `_close`, which would otherwise report a peer that sent nothing.
        self._start_closing(LOCAL, detail)
        return [failed, *self._close(now, LOCAL, detail)]

    def leave(self, probe: Probe, detail: str, now: float) -> list[Event]:
        """End the session of a peer that left before HTTP and attempted nothing.

        Args:
            probe: what the connection was.
            detail: the reason, for a person to read.
            now: the time, in seconds since the epoch.

        Returns:
            what happened, in order.
        """
        self._probe = probe
        return self._close(now, PEER, detail)

    def close(
        self, now: float, code: int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> list[Event]:
        """Start closing; a peer that is turned away still gets the reason.

        Args:
            now: see `Session`.
            code: see `Session.close`.
            reason: at most 123 bytes of UTF-8.
        """
        if self.phase is HANDSHAKE and self._turned_away is not None:
            return self._refuse(self._turned_away, now)
        return super().close(now, code, reason)

    def _receive_handshake(self, data: bytes, now: float) -> list[Event]:
        received, limit = self._received, self._limits.request_size
        if not received and len(data) <= limit and (reply := self._short_answer(data, now)):
            # Only a complete request has a short answer.
            return self._answer(data, now, reply)
        looked_at = len(received)
        received += data
        if problem := handshake.no_http(received):
            return self._refuse(Refusal(ErrorKind.NOT_HTTP, problem), now)
        end = handshake.end_of_request(received, looked_at)
        if (len(received) if end is None else end) > limit:
            detail = f"the upgrade request exceeds max_request_size = {limit} bytes"
            return self._refuse(Refusal(ErrorKind.REQUEST_TOO_LARGE, detail), now)
        if end is None:
            return []
        request, behind = bytes(received[:end]), bytes(received[end:])
        received.clear()
        reply = None if request == data else self._short_answer(request, now)
        return self._answer(request, now, reply, behind)

    def _answer(
        self, request: bytes, now: float, reply: bytes | None, behind: bytes = b""
    ) -> list[Event]:
        """Decide on a request.

        Args:
            request: the request, up to and including its blank line.
            now: the time, in seconds since the epoch.
            reply: the 101 that the request gets unless it is refused; None to ask the engine.
            behind: bytes behind the request.
        """
        if reply is None and (check := health_check(request, self._health_path)) is not None:
            return self._answer_check(check, request)
        asking, refusal = self.connection.with_request(UpgradeRequest(request)), self._turned_away
        if refusal is None:
            asking, refusal = self._examine(asking, self._monotonic())
        self.connection = asking
        happened: list[Event] = [HandshakeRequest(self.connection, now, request)]
        if reply is None or refusal is not None:
            engine = self._make_engine()
            verdict = refusal or handshake.answer(engine, request, self._limits)
            if isinstance(verdict, Refusal):
                return happened + self._refuse(verdict, now, request, engine)
            engine.send_response(verdict)
            reply = b"".join(engine.data_to_send())
            restart_parser(engine)
            self._engine = engine
        self._writes.append(reply)
        self.phase = OPEN
        self.accepted = True
        happened.append(HandshakeReply(self.connection, now, 101, reply))
        happened.append(Accepted(self.connection, now, request, reply))
        if behind:
            # A client may send frames right behind its request, before it has seen the answer.
            happened += self._receive_frames(behind, now)
        return happened

    def _answer_check(self, check: HealthCheck, request: bytes) -> list[Event]:
        """Answer a health check; the only event of such a connection is its end."""
        refusal = self._turned_away
        if refusal is None and not check.is_served:
            # The answer to any request that is not an upgrade; its status may satisfy the checker.
            refusal = handshake.NOT_AN_UPGRADE
        if refusal is None:
            reply = HEALTHY if check.wants_body else HEALTHY_HEAD
        else:
            reply = handshake.refuse(self._make_engine(), refusal).serialize()
        self._writes.append(reply)
        self._probe = Probe.HTTP
        self._eof_to_send = True
        self._start_closing(LOCAL, "health check")
        return []

    def _short_answer(self, request: bytes, now: float) -> bytes | None:
        if not self.use_fast_path:
            return None
        return short_answer(
            request, self._subprotocols, now, self._limits, extensions=self._compression
        )

    def _refuse(
        self,
        refusal: Refusal,
        now: float,
        request: bytes | None = None,
        engine: ServerProtocol | None = None,
    ) -> list[Event]:
        """Refuse a request, or what came in place of one.

        Args:
            refusal: why.
            now: the time, in seconds since the epoch.
            request: the complete request; None for what has been received.
            engine: the engine that read the request; None for a new one.
        """
        if request is None:
            # A request that is refused before its end may be endless: the event's copy is limited.
            request = bytes(self._received[: self._limits.request_size])
            self._received.clear()
        if refusal.kind is not ErrorKind.REQUEST_TOO_LARGE:
            # The detail may quote the request, and others than its sender read it. The detail of a
            # request that is too large holds only sizes, and masking it would be expensive.
            refusal = replace(refusal, detail=USUAL.text(refusal.detail, request))
        response = handshake.refuse(engine or self._make_engine(), refusal)
        reply = response.serialize()
        self._writes.append(reply)
        self._eof_to_send = True
        self._start_closing(LOCAL, refusal.detail)
        kind, detail = refusal.kind, refusal.detail
        return [
            HandshakeReply(self.connection, now, response.status_code, reply),
            HandshakeFailed(self.connection, now, request, reply, kind, detail),
        ]

    def _handshake_timed_out(self, now: float) -> list[Event]:
        if self._turned_away is not None:
            return self._refuse(self._turned_away, now)
        limit = self._limits.handshake_timeout
        detail = f"no complete upgrade request within {limit:g} s"
        return self._refuse(Refusal(ErrorKind.HANDSHAKE_TIMEOUT, detail), now)

    def _handshake_lost(self, now: float, detail: str) -> list[Event]:
        request = bytes(self._received)
        if not request:
            self._probe = self._probe or (
                Probe.TLS if self.connection.listener.proto == "wss" else Probe.TCP
            )
            return []
        detail = detail or "the peer left before its upgrade request was complete"
        kind = ErrorKind.HANDSHAKE_ABORTED
        return [HandshakeFailed(self.connection, now, request, b"", kind, detail)]
