"""Limits on connections: their number, their rate, their origin, host and path. Pure.

`Admission` counts and meters connections before any work is spent on them. Each gets an
`AdmissionSlot`, which is released when the connection has closed. `Rules.examine` checks an upgrade
request. Both refuse with a `Refusal`.
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
"""Seconds in ``Retry-After`` when a limit of connections is reached. Long enough for connections to
close, short enough for a phone."""

BURST: Final = 10.0
"""Seconds of a rate that may arrive at once. An office behind one address registers all its phones
in the same second after an outage, and a page reload opens two connections."""

IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that count as one address: a subscriber or a host gets a whole /64."""

METERED_ADDRESSES: Final = 65_536
"""Addresses whose rate is remembered; about 10 MB. Beyond it, the address seen longest ago is
forgotten. The total rate limits an attacker with more addresses."""

MOST_ANSWERED: Final = 64
"""Refused connections at once that get an HTTP answer. Further ones are closed silently, so that a
flood holds no sockets."""

_USUAL_ORIGIN: Final = b"\r\nOrigin: "


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits and the checks; the defaults accept every connection."""

    max_connections: int | None = None
    """Maximum concurrent connections, handshakes included. None: unlimited."""

    max_connections_per_address: int | None = None
    """Maximum concurrent connections from one IPv4 address or one IPv6 /64. None: unlimited."""

    max_rate: float | None = None
    """New connections per second in total; `BURST` seconds of it may come at once. None:
    unlimited."""

    max_rate_per_address: float | None = None
    """New connections per second from one address; `BURST` seconds of it may arrive at once. None:
    unlimited."""

    allowed_origins: OriginPatterns = field(default_factory=OriginPatterns)
    """Origins that may connect. Empty: any origin."""

    require_origin: bool = False
    """Whether a request without ``Origin`` is refused (OpenSIPS ``require_origin``)."""

    allowed_hosts: HostPatterns = field(default_factory=HostPatterns)
    """Values of ``Host`` that are served. Empty: any host."""

    resource: str = "/"
    """The path that is served (OpenSIPS ``ws_resource``). ``/``: every path."""

    trusted_proxies: Networks = field(default_factory=Networks)
    """Proxies whose PROXY and forwarding headers are believed."""

    proxy_protocol: bool | frozenset[str] = False
    """Whether trusted proxies send a PROXY header: on all listeners, or on those with one of these
    tags. Other peers begin with HTTP or TLS."""

    forwarding_header: str = "x-forwarded-for"
    """The header with the client's address, in any case. Only this one is read: a proxy forwards
    headers that it does not know as the client wrote them."""

    def expects_proxy_header(self, listener: Listener) -> bool:
        """Whether trusted proxies send a PROXY header on this listener."""
        if isinstance(self.proxy_protocol, bool):
            return self.proxy_protocol
        return listener.tag in self.proxy_protocol

    @property
    def examines(self) -> bool:
        """Whether these rules check upgrade requests at all."""
        return bool(
            self.allowed_origins
            or self.require_origin
            or self.allowed_hosts
            or self.resource != "/"
            or self.trusted_proxies
        )

    def examine(self, request: UpgradeRequest) -> Refusal | None:
        """Check a complete upgrade request; returns why it is refused, None if it is accepted."""
        path = request.path
        if self.resource not in ("/", path):
            return Refusal(ErrorKind.NOT_FOUND, f"there is nothing at {path!r}")
        if self.allowed_hosts:
            hosts = request.header("host")
            # The handshake refuses a missing, repeated or malformed Host itself.
            # RFC 9112 section 3.2.2: the host of a whole URI counts before Host.
            if len(hosts) == 1 and (not hosts[0] or is_authority(hosts[0])):
                host = request.authority or hosts[0]
                if host not in self.allowed_hosts:
                    return Refusal(ErrorKind.HOST_REFUSED, f"host {host!r} is not served here")
        origins = request.header("origin")
        if not origins:
            # The handshake refuses a request without Upgrade itself: a browser or a health check.
            if self.require_origin and request.header("upgrade"):
                detail = "an Origin header is required (require_origin)"
                return Refusal(ErrorKind.ORIGIN_REFUSED, detail)
        elif self.allowed_origins and (len(origins) > 1 or origins[0] not in self.allowed_origins):
            return Refusal(
                ErrorKind.ORIGIN_REFUSED, f"pages of origin {origins[0]!r} may not connect here"
            )
        return None

    def peer_behind(self, peer: Address, request: UpgradeRequest) -> Address | None:
        """The client's address according to a trusted proxy; None if the peer is not one.

        Args:
            peer: the address of the socket.
            request: the upgrade request.
        """
        if peer.ip not in self.trusted_proxies:
            return None
        return real_peer(
            self.forwarding_header, request.header(self.forwarding_header), self.trusted_proxies
        )


class _Checks:
    """The checks of upgrade requests on the listeners of one protocol.

    Args:
        rules: the rules; their limits do not matter here.
    """

    __slots__ = ("asks_only_for_origin", "rules")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.asks_only_for_origin = not replace(rules, require_origin=False).examines
        """Whether every request with an ``Origin`` is accepted."""


class Admission:
    """Counts and meters connections.

    Args:
        rules: the limits and the checks; None accepts every connection.
        wss_rules: the checks of upgrade requests on ``wss`` listeners; None for those of ``rules``.
            The limits are always those of ``rules``: they count all connections together.
    """

    def __init__(self, rules: Rules | None = None, wss_rules: Rules | None = None) -> None:
        self.rules = Rules()
        self._total_rate = _Meter(None)
        self._address_rate = _Meter(None)
        self._of_address: dict[str, int] = {}
        self.renew(rules or Rules(), wss_rules)
        self.draining: float | None = None
        """Once set, every connection is refused with this ``Retry-After``, in seconds."""
        self.refused: Counter[ErrorKind] = Counter()
        """Refused connections since the start, by reason. The transport adds those that it refuses
        for their PROXY header or in TLS."""
        self.connections = 0
        """Accepted connections that have not closed yet."""
        self._answered = 0

    def renew(self, rules: Rules, wss_rules: Rules | None = None) -> None:
        """Replace the rules. The counts go on, and open connections stay.

        A rate that changes is metered anew. Connections that came while there was no limit per
        address are not counted for one.

        Args:
            rules: as for a new admission.
            wss_rules: as for a new admission.
        """
        old, self.rules = self.rules, rules
        self.wss_rules = rules if wss_rules is None else wss_rules
        self.examines = rules.examines or self.wss_rules.examines
        """Whether upgrade requests are checked at all."""
        self._ws_checks = _Checks(rules)
        self._wss_checks = _Checks(self.wss_rules)
        # Most servers have no limits per address; their connections skip that work.
        self._claims = not (
            rules.max_connections_per_address is None
            and rules.max_rate is None
            and rules.max_rate_per_address is None
        )
        if rules.max_rate != old.max_rate:
            self._total_rate = _Meter(rules.max_rate)
        if rules.max_rate_per_address != old.max_rate_per_address:
            self._address_rate = _Meter(rules.max_rate_per_address)

    @property
    def addresses(self) -> int:
        """Addresses with counted connections."""
        return len(self._of_address)

    @property
    def ending(self) -> Refusal | None:
        """Why every connection is refused during a shutdown; None before."""
        if self.draining is None:
            return None
        headers = _retry_after(self.draining)
        return Refusal(ErrorKind.SHUTTING_DOWN, "this server is about to stop", headers=headers)

    def enter(self, ip: str, now: float) -> "AdmissionSlot":
        """Accept or refuse a connection.

        Args:
            ip: the address of the peer. A trusted proxy counts in total only;
                `AdmissionSlot.claim` counts the client behind it.
            now: seconds on a monotonic clock, the same for all calls.

        Returns:
            the connection's slot, accepted or refused; the caller releases it at the end.
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
        is_answered = self._answered < MOST_ANSWERED
        self._answered += is_answered
        return AdmissionSlot(self, refusal, is_answered=is_answered)

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
        # Last, so that an address above its own rate does not use up the total.
        if wait := self._total_rate.take("", now):
            return Refusal(
                ErrorKind.TOO_FAST,
                f"connections come faster than {self.rules.max_rate:g} a second",
                HTTPStatus.SERVICE_UNAVAILABLE,
                _retry_after(wait),
            )
        # Also without a limit: a reload may set one.
        self._of_address[key] = self._of_address.get(key, 0) + 1
        return None

    def _release(self, key: str | None) -> None:
        if key is None:
            return
        if (left := self._of_address[key] - 1) > 0:
            self._of_address[key] = left
        else:
            # An address without connections takes no memory.
            del self._of_address[key]


class AdmissionSlot:
    """The slot of one connection, by which it is counted.

    Args:
        admission: where it is counted.
        refusal: why it is refused; None if it is accepted.
        is_answered: whether a refused connection gets an HTTP answer.
    """

    __slots__ = ("_admission", "_key", "is_answered", "refusal", "released", "used")

    def __init__(
        self, admission: Admission, refusal: Refusal | None = None, *, is_answered: bool = True
    ) -> None:
        self._admission = admission
        self._key: str | None = None
        self.released = False
        """Whether `release` was called."""
        self.refusal = refusal
        """Why the connection is refused; None if it is accepted."""
        self.is_answered = is_answered
        """Whether the connection gets an HTTP answer if it is refused."""
        self.used = False
        """Whether a flow owns the slot, and releases it."""

    def claim(self, ip: str, now: float) -> Refusal | None:
        """Count the connection for an address: that of the socket, or the client's behind a proxy.

        Args:
            ip: the address.
            now: seconds on the clock of `Admission.enter`.

        Returns:
            why that address is refused; None if it is accepted. The caller that drops the
            connection counts it in `Admission.refused`.
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
            connection: the connection, with its request.
            now: seconds on the clock of `Admission.enter`.

        Returns:
            the connection, with the client's address if a trusted proxy reports one, and why it is
            refused; None if it is accepted.
        """
        admission, request = self._admission, connection.request
        is_wss = connection.listener.proto == "wss"
        checks = admission._wss_checks if is_wss else admission._ws_checks
        # The fast path for the usual configuration and the way that browsers write Origin; with
        # cold caches the full check takes ten times as long.
        if request is None or (checks.asks_only_for_origin and _USUAL_ORIGIN in request.raw):
            return connection, None
        rules, refusal = checks.rules, None
        if (peer := rules.peer_behind(connection.peer, request)) is not None:
            connection = replace(connection, peer=peer)
            refusal = self.claim(peer.ip, now)
        refusal = refusal or rules.examine(request)
        if refusal is not None:
            admission.refused[refusal.kind] += 1
        return connection, refusal

    def release(self) -> None:
        """Release the slot; further calls do nothing."""
        if self.released:
            return
        self.released = True
        admission = self._admission
        if self.refusal is not None:
            admission._answered -= self.is_answered
            return
        admission.connections -= 1
        admission._release(self._key)


class _Meter:
    """A token bucket per key, stored as one number: the time at which it is full again.

    This is the generic cell rate algorithm of ATM; no timer refills buckets.

    Args:
        rate: tokens per second; None for unlimited.
    """

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        # A rate below one per BURST seconds still accepts a single connection.
        self._longest = max(BURST, self._interval)
        self._full_at: dict[str, float] = {}

    def take(self, key: str, now: float) -> float:
        """Take a token.

        Args:
            key: of the bucket.
            now: seconds on a monotonic clock.

        Returns:
            0 if there was one; otherwise the seconds until there is one.
        """
        if not self._interval:
            return 0.0
        # If the clock goes back, the wait is one whole bucket at most.
        full_at = min(max(self._full_at.pop(key, now), now), now + self._longest) + self._interval
        wait = full_at - now - self._longest
        if wait > 1e-9:
            self._full_at[key] = full_at - self._interval
            return wait
        # At the end of the dictionary, so that its order is that of the last connection.
        self._full_at[key] = full_at
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop the oldest entries that are full again: two per call, as a call adds at most one."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= METERED_ADDRESSES:
                break
            del self._full_at[oldest]

    def __len__(self) -> int:
        return len(self._full_at)


def address_key(ip: str) -> str:
    """The key under which an address is counted: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in ip:
        return ip
    try:
        return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
    except ValueError:
        return ip


def _retry_after(seconds: float) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(math.ceil(seconds))),)
