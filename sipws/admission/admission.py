"""Who may open a connection: how many, how fast, from where, for what. Pure.

`Admission` counts and meters connections as they come, before any work is spent on them: a
`AdmissionSlot` each, which is given back when the connection is gone. `Rules.examine` looks at an
upgrade request. Both say no with a `Refusal`.
"""

import ipaddress
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from sipws.address import Address, Listener, is_authority
from sipws.admission.origin_patterns import HostPatterns, OriginPatterns
from sipws.admission.proxy_headers import Networks, real_peer
from sipws.events import Connection, ErrorKind
from sipws.request import UpgradeRequest
from sipws.ws.handshake import Refusal

RETRY_AFTER: Final = 10
"""Seconds after which a client is asked to come back when there is no room: long enough to make a
difference, short enough for a phone."""

BURST: Final = 10.0
"""Seconds' worth of a rate that may come at once. An office behind one address registers all its
phones in the same second after an outage, and a page reload opens two connections."""

IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that count as one address: what one subscriber or host is given whole."""

METERED_ADDRESSES: Final = 65_536
"""Addresses whose rate is remembered; about 10 MB. Of more, those seen longest ago are forgotten:
who has that many addresses is held by the rate in total."""

TOLD: Final = 64
"""Refused connections that may stay at once to read why. Any more are dropped without a word, so
that a flood that is refused holds no sockets."""

_USUAL_ORIGIN: Final = b"\r\nOrigin: "


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is let in; the defaults let in everybody."""

    max_connections: int | None = None
    """Connections at once, those still in their handshake included."""

    max_connections_per_address: int | None = None
    """Connections at once from one address (of IPv6: from one /64)."""

    max_rate: float | None = None
    """Connections a second in total; `BURST` seconds' worth may come at once."""

    max_rate_per_address: float | None = None
    """Connections a second from one address; `BURST` seconds' worth may come at once."""

    allowed_origins: OriginPatterns = field(default_factory=OriginPatterns)
    """Origins of pages that may connect; any where there are none."""

    require_origin: bool = False
    """Whether a request without ``Origin`` is refused (OpenSIPS ``require_origin``)."""

    allowed_hosts: HostPatterns = field(default_factory=HostPatterns)
    """Values of ``Host`` that are served; any where there are none."""

    resource: str = "/"
    """The path that is served (OpenSIPS ``ws_resource``); ``/`` stands for every path."""

    trusted_proxies: Networks = field(default_factory=Networks)
    """Whose PROXY and forwarding headers are believed."""

    proxy_protocol: bool | frozenset[str] = False
    """Whether trusted proxies begin with a PROXY header: on all listeners, or on those with one of
    these tags. Whoever else connects there begins with HTTP or TLS as ever."""

    forwarding_header: str = "x-forwarded-for"
    """The header in which trusted proxies tell the real peer, in any case; no other one is
    looked at, as a proxy passes on what a client wrote into a header that it does not know."""

    def expects_proxy_header(self, listener: Listener) -> bool:
        """Whether trusted proxies begin with a PROXY header on this listener."""
        if isinstance(self.proxy_protocol, bool):
            return self.proxy_protocol
        return listener.tag in self.proxy_protocol

    @property
    def examines(self) -> bool:
        """Whether an upgrade request can change anything."""
        return bool(
            self.allowed_origins
            or self.require_origin
            or self.allowed_hosts
            or self.resource != "/"
            or self.trusted_proxies
        )

    def examine(self, request: UpgradeRequest) -> Refusal | None:
        """Look at a complete upgrade request; None lets it in."""
        path = request.path
        if self.resource not in ("/", path):
            return Refusal(ErrorKind.NOT_FOUND, f"there is nothing at {path!r}")
        if self.allowed_hosts:
            hosts = request.header("host")
            # A request without a Host, with two or with a wrong one is refused for that a moment
            # later. RFC 9112 section 3.2.2: the host of a whole URI counts before Host.
            if len(hosts) == 1 and (not hosts[0] or is_authority(hosts[0])):
                host = request.authority or hosts[0]
                if host not in self.allowed_hosts:
                    return Refusal(ErrorKind.HOST_REFUSED, f"host {host!r} is not served here")
        origins = request.header("origin")
        if not origins:
            # What asks for no WebSocket is told that a moment later: a person, or a health check.
            if self.require_origin and request.header("upgrade"):
                detail = "an Origin header is required (require_origin)"
                return Refusal(ErrorKind.ORIGIN_REFUSED, detail)
        elif self.allowed_origins and (len(origins) > 1 or origins[0] not in self.allowed_origins):
            return Refusal(
                ErrorKind.ORIGIN_REFUSED, f"pages of origin {origins[0]!r} may not connect here"
            )
        return None

    def peer_behind(self, peer: Address, request: UpgradeRequest) -> Address | None:
        """Whom a trusted proxy got the request from; None where the peer speaks for itself."""
        if peer.ip not in self.trusted_proxies:
            return None
        return real_peer(
            self.forwarding_header, request.header(self.forwarding_header), self.trusted_proxies
        )


class Admission:
    """Counts and meters connections.

    Args:
        rules: the bounds.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.examines = self.rules.examines
        """Whether an upgrade request can change anything."""
        self.asks_only_for_origin = not replace(self.rules, require_origin=False).examines
        """Whether a request with any ``Origin`` is let in."""
        self.draining: float | None = None
        """Set, everybody is refused, and told to come back in so many seconds."""
        self.refused: Counter[ErrorKind] = Counter()
        """Refused connections since the start, by reason: those of `Rules.examine` and of PROXY
        headers and TLS as well, which their finder adds."""
        self.connections = 0
        """Connections that were let in and are not gone yet."""
        self._told = 0
        # Most servers have no bounds for addresses: then nothing is worked out for them.
        self._claims = not (
            self.rules.max_connections_per_address is None
            and self.rules.max_rate is None
            and self.rules.max_rate_per_address is None
        )
        self._of_address: dict[str, int] = {}
        self._total_rate = _Meter(self.rules.max_rate)
        self._address_rate = _Meter(self.rules.max_rate_per_address)

    @property
    def addresses(self) -> int:
        """Addresses whose connections are counted at the moment."""
        return len(self._of_address)

    @property
    def ending(self) -> Refusal | None:
        """Why nobody is let in any more; None while that is not so."""
        if self.draining is None:
            return None
        headers = _retry_after(self.draining)
        return Refusal(ErrorKind.SHUTTING_DOWN, "this server is about to stop", headers=headers)

    def enter(self, ip: str, now: float) -> "AdmissionSlot":
        """Let a connection in, or not.

        Args:
            ip: where it comes from. Connections of a trusted proxy count in total only; whoever
                turns out to be behind it is counted by `AdmissionSlot.claim`.
            now: seconds, by whatever clock, as long as it is the same one.

        Returns:
            the connection's ticket, to be released when it is gone, also where it says no.
        """
        rules = self.rules
        if (ending := self.ending) is not None:
            return self._refuse(ending)
        limit = rules.max_connections
        if limit is not None and self.connections >= limit:
            return self._refuse(
                Refusal(
                    ErrorKind.TOO_MANY_CONNECTIONS,
                    f"there are {limit} connections, and no more are taken",
                    headers=_retry_after(RETRY_AFTER),
                )
            )
        self.connections += 1
        slot = AdmissionSlot(self)
        if not self._claims or ip in rules.trusted_proxies:
            return slot
        if refusal := slot.claim(ip, now):
            slot.release()
            return self._refuse(refusal)
        return slot

    def _refuse(self, refusal: Refusal) -> "AdmissionSlot":
        self.refused[refusal.kind] += 1
        told = self._told < TOLD
        self._told += told
        return AdmissionSlot(self, refusal, told=told)

    def _claim(self, key: str, now: float) -> Refusal | None:
        limit = self.rules.max_connections_per_address
        if limit is not None and self._of_address.get(key, 0) >= limit:
            return Refusal(
                ErrorKind.TOO_MANY_FROM_ADDRESS,
                f"there are {limit} connections from {key}, and no more are taken",
                headers=_retry_after(RETRY_AFTER),
            )
        if wait := self._address_rate.take(key, now):
            return Refusal(
                ErrorKind.TOO_FAST,
                f"connections from {key} come faster than {self.rules.max_rate_per_address:g} a"
                " second",
                headers=_retry_after(wait),
            )
        # Last, so that one address that is too fast leaves the total to the others.
        if wait := self._total_rate.take("", now):
            return Refusal(
                ErrorKind.TOO_FAST,
                f"connections come faster than {self.rules.max_rate:g} a second",
                HTTPStatus.SERVICE_UNAVAILABLE,
                _retry_after(wait),
            )
        if limit is not None:
            self._of_address[key] = self._of_address.get(key, 0) + 1
        return None

    def _release(self, key: str | None) -> None:
        if key is None or self.rules.max_connections_per_address is None:
            return
        if (left := self._of_address[key] - 1) > 0:
            self._of_address[key] = left
        else:
            # An address without connections takes no memory.
            del self._of_address[key]


class AdmissionSlot:
    """A connection's place among those that are counted."""

    __slots__ = ("_admission", "_key", "refusal", "released", "told", "used")

    def __init__(
        self, admission: Admission, refusal: Refusal | None = None, *, told: bool = True
    ) -> None:
        self._admission = admission
        self._key: str | None = None
        self.released = False
        """Whether the place has been given back."""
        self.refusal = refusal
        """Why the connection is not let in; None where it is."""
        self.told = told
        """Whether the connection may stay, if it is refused, until it has read why."""
        self.used = False
        """Whether a flow has it, and will release it."""

    def claim(self, ip: str, now: float) -> Refusal | None:
        """Count the connection for an address: the socket's, or the one behind a proxy.

        Args:
            ip: the address.
            now: seconds, by the clock of `Admission.enter`.

        Returns:
            why that address gets no further connection; None where it does. A connection that is
            refused here is counted as refused by whoever drops it.
        """
        if self._key is not None or self.refusal is not None or not self._admission._claims:
            return None
        key = address_key(ip)
        refusal = self._admission._claim(key, now)
        if refusal is None:
            self._key = key
        return refusal

    def examine(self, connection: Connection, now: float) -> tuple[Connection, Refusal | None]:
        """Decide on a connection whose upgrade request has come.

        Args:
            connection: who it is.
            now: seconds, by the clock of `Admission.enter`.

        Returns:
            the connection, with the real peer where a trusted proxy tells it, and why it is
            refused; None where it is let in.
        """
        admission, request = self._admission, connection.request
        # As most servers are configured and as browsers write it; the long way is ten times as long
        # for a connection that finds cold caches.
        if request is None or (admission.asks_only_for_origin and _USUAL_ORIGIN in request.raw):
            return connection, None
        rules, refusal = admission.rules, None
        if (peer := rules.peer_behind(connection.peer, request)) is not None:
            connection = replace(connection, peer=peer)
            refusal = self.claim(peer.ip, now)
        refusal = refusal or rules.examine(request)
        if refusal is not None:
            admission.refused[refusal.kind] += 1
        return connection, refusal

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        if self.released:
            return
        self.released = True
        admission = self._admission
        if self.refusal is not None:
            admission._told -= self.told
            return
        admission.connections -= 1
        admission._release(self._key)


class _Meter:
    """A token bucket for each key, kept as one number: when the bucket will be full again.

    (The generic cell rate algorithm of ATM: nothing has to be refilled.)
    """

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        # A rate below one in BURST seconds still lets a single connection in.
        self._longest = max(BURST, self._interval)
        self._full_at: dict[str, float] = {}

    def take(self, key: str, now: float) -> float:
        """Take a token.

        Returns:
            0, or the seconds until there will be one.
        """
        if not self._interval:
            return 0.0
        # A clock that was set back must not make anybody wait for longer than a whole bucket.
        full_at = min(max(self._full_at.pop(key, now), now), now + self._longest) + self._interval
        wait = full_at - now - self._longest
        if wait > 1e-9:
            self._full_at[key] = full_at - self._interval
            return wait
        # Written anew at the end, so that the order is that of the last visit.
        self._full_at[key] = full_at
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop the oldest entries that are full again, two for each that may have been added."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= METERED_ADDRESSES:
                break
            del self._full_at[oldest]

    def __len__(self) -> int:
        return len(self._full_at)


def address_key(ip: str) -> str:
    """What is counted as one address: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in ip:
        return ip
    try:
        return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
    except ValueError:
        return ip


def _retry_after(seconds: float) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(math.ceil(seconds))),)
