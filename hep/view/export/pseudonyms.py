"""Users, names, numbers, hosts and addresses replaced by made-up ones. Pure.

It is done in two passes. The first one collects what has to go from its places: URIs, display
names, Via, Call-ID, SDP, handshakes, addresses of packets. The second one replaces it there, and
wherever else it stands. What may hold a name and is not known by its form is left out: unknown
headers, texts of messages, log lines of others.

Made-up addresses and domains are those that are reserved for documentation (RFC 5737, RFC 3849, RFC
2606). None of them is one that the call has.
"""

import json
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Final, Literal

from hep.view.export.masks import MASK, decoded, encoded, rewritten, rewritten_event
from hep.view.export.words import HEADERS, MEMBERS, WORDS
from hep.view.model.events import read_event
from hep.view.model.record import Kind, Record

MOST_NAMES: Final = 4_000
"""Names that are replaced. Messages beyond those that hold them are left out."""

LONGEST_NAME: Final = 128
"""Characters of a name that is looked for wherever it stands; longer ones go from their places."""

Sort = Literal["user", "number", "name", "host", "ipv4", "ipv6", "uuid"]

_NETWORKS: Final = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")
_SHORTEST: Final = 5
"""Characters of a name that is replaced within words too."""
_LONGEST_PORT: Final = 5
"""Digits of a port: a shorter number is replaced in its places alone."""

_SIP_URI: Final = re.compile(
    r"(?P<scheme>\b(?:sips?|pres|im|xmpp)(?::|%3A)|mailto:)(?:(?P<user>[^\s@<>\"/:;?,]{1,256}+)"
    r"(?P<password>:[^\s@<>\"/]{0,256}+)?@|(?P<odd>[^\s@<>\"]{1,256}+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]{2,64}\]|[A-Za-z0-9_.-]{1,255}+)?",
    re.IGNORECASE,
)
_TEL_URI: Final = re.compile(r"(\btel:)([^\s;>\"<,?]{1,128})", re.IGNORECASE)
_DISPLAY: Final = re.compile(
    r"(?P<head>(?:\A|[\r\n])[ \t]*+(?:from|f|to|t|contact|m|refer-to|r|referred-by|b|reply-to|route"
    r"|record-route|path|service-route|diversion|history-info|remote-party-id|p-[\w-]{1,64}"
    r"|alert-info|call-info|error-info)[ \t]*+:|,)[ \t]*+"
    r"(?:\"(?P<quoted>(?:[^\"\\\r\n]|\\[^\r\n])*+)\"|(?P<plain>[^\s<>\",;:=@][^<>\",;:=@\r\n]{0,255}?))"
    r"(?=[ \t]*+<)",
    re.IGNORECASE,
)
_VIA: Final = re.compile(
    r"(\bSIP[ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+[A-Za-z0-9-]{1,16}[ \t]++)([A-Za-z0-9_.-]{1,255}+)",
    re.IGNORECASE,
)
_HOST_PARAMETER: Final = re.compile(
    r"(;[ \t]*+(?:received|maddr|sent-by|host|alias)[ \t]*+=[ \t]*+\"?)([A-Za-z0-9_.-]{1,255}+)",
    re.I,
)
_CONTEXT: Final = re.compile(
    r"(;[ \t]*+(?:phone-context|isub|tgrp|trunk-context|otg)[ \t]*+=[ \t]*+)([^\s;>@\"<,?]{1,128})",
    re.IGNORECASE,
)
_CALL_ID: Final = re.compile(
    r"((?:\A|[\r\n])[ \t]*+(?:call-id|i|in-reply-to|replaces|join)[ \t]*+:[^@\r\n]*+@)"
    r"([A-Za-z0-9_.-]{1,255}+)",
    re.IGNORECASE,
)
_CREDENTIAL: Final = re.compile(
    r"(\b(?:username|realm|domain)[ \t]*+=[ \t]*+\")((?:[^\"\\\r\n]|\\[^\r\n])*+)", re.IGNORECASE
)
_ORIGIN: Final = re.compile(r"((?:\A|[\r\n])o=)([^\s]{1,256}+)(?= [^\r\n]* IN IP[46] )")
_SDP_HOST: Final = re.compile(r"(\bIN IP[46] )([A-Za-z0-9_.-]{1,255}+)")
_CANDIDATE: Final = re.compile(
    r"(a=(?:remote-)?candidates?:\S{1,64} \S{1,8} \S{1,8} \S{1,16} )(\S{1,255})((?: \d{1,5} typ)?)"
)
_CNAME: Final = re.compile(r"(\bcname:)([^\s\r\n]{1,255})")
_SDP_TEXT: Final = re.compile(r"((?:\A|(?<=[\r\n]))(?:[iuep]|s)=)(?!-[\r\n])([^\r\n]++)")
_URL: Final = re.compile(
    r"(\b(?:wss?|https?|stuns?|turns?)(?::|%3A)(?://|%2F%2F)?(?:[^\s/@\"<>?]{1,256}@)?)"
    r"([A-Za-z0-9_.-]{1,255}+)((?::\d{1,5})?(?:[^\s\"<>;,?]{0,2048}))(\?[^\s\"<>]*+)?",
    re.IGNORECASE,
)
_HOST_HEADER: Final = re.compile(
    r"((?:\A|[\r\n])[ \t]*+(?:x-forwarded-)?host[ \t]*+:[ \t]*+)([A-Za-z0-9_.-]{1,255}+)",
    re.IGNORECASE,
)
_TARGET: Final = re.compile(r"((?:\A|[\r\n])[A-Z]{3,10} /[^\s?]*+)\?[^\s]++(?= HTTP/)")
_ESCAPE: Final = r"(?<=%[0-9A-Fa-f]{2})"
"""A character that is written as ``%40`` ends before what follows it."""
_IPV4: Final = re.compile(
    r"(?:(?<![0-9.])|" + _ESCAPE + r")([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![0-9]|\.[0-9])"
)
_IPV6: Final = re.compile(
    r"(?:(?<![\w:.])|"
    + _ESCAPE
    + r")([0-9A-Fa-f]{0,4}:(?:[0-9A-Fa-f]{0,4}:){1,7}[0-9A-Fa-f.]{0,15})(?![\w:])"
)
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])([0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})"
    r"(?![0-9A-Za-z])"
)
_IMEI: Final = re.compile(r"(\burn:(?:gsma:imei|imei|nena|esn|meid):)([^\s\">;,]++)", re.IGNORECASE)
_DOMAIN: Final = re.compile(
    r"(?:(?<![\w./+@-])|"
    + _ESCAPE
    + r")((?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})(?![\w-])"
)
_is_number: Final = re.compile(r"\+?[\d.()-]{6,}|\+\d+").fullmatch
_ONLY_DIGITS: Final = re.compile(r"\d+").fullmatch


_HEADER: Final = re.compile(
    r"((?:\A|(?<=\n))(?!SIP/2\.0 )([!-9;-~]{1,64})[ \t]*+:[ \t]*+)"
    r"((?:[^\r\n]|\r?\n[ \t]|\r(?!\n))*+)"
)
_PRODUCT: Final = re.compile(
    r"((?:\A|(?<=\n))(?:user-agent|server)[ \t]*+:)([^\r\n]*+)", re.IGNORECASE
)
_KEPT_BODIES: Final = re.compile(
    rb"\n(?:content-type|c)[ \t]*+:[ \t]*+(?:application/sdp|message/sip)", re.IGNORECASE
)
_OWN_LOG: Final = re.compile(r"WebSocket connection \S{1,64} \S{1,64} > \S{1,64} \(Call-ID ")


class Pseudonyms:
    """Replaces names; see this module.

    Interface: `collect`, `collect_text` and `add` for all that is exported, then `record` and
    `text`.
    """

    def __init__(self) -> None:
        self._sorts: dict[str, Sort] = {}
        self._made: dict[str, str] = {}
        self._chosen: set[str] = set()
        self._counts: dict[str, int] = {}
        self._anywhere: re.Pattern[str] | None = None
        self._numbers: re.Pattern[str] | None = None

    @property
    def full(self) -> bool:
        """Whether `MOST_NAMES` are collected."""
        return len(self._sorts) >= MOST_NAMES

    def add(self, sort: Sort, name: str) -> None:
        """Collect a name.

        Args:
            sort: what it is.
            name: as it stands there.
        """
        if name:
            self._note(sort, name)

    def collect(self, record: Record) -> bool:
        """Collect the names in a packet; return whether there was room for all of them."""
        for address in (record.src, record.dst):
            self.collect_address(address)
        if record.kind in (Kind.SIP, Kind.EVENT, Kind.LOG):
            self._changed(record.payload, record.kind, self._note)
        return not self.full

    def collect_address(self, address: str) -> None:
        """Collect the IP address of ``IP:PORT``."""
        self._address(address.rpartition(":")[0].strip("[]"), self._note)

    def collect_text(self, text: str) -> None:
        """Collect the names in a text, such as an address or a verdict."""
        self._in_places(text, self._note)

    def record(self, record: Record) -> bytes:
        """The payload of a packet with names replaced."""
        return self._changed(record.payload, record.kind, self._replacement, final=True)

    def text(self, text: str) -> str:
        """A text that the viewer wrote, with names replaced."""
        text = self._everywhere(self._in_places(text, self._replacement))
        pattern = self._numbers
        return pattern.sub(self._known, text) if pattern is not None else text

    def name(self, name: str) -> str:
        """A name that stands alone, such as that of a party."""
        return self._made.get(name.casefold()) or self.text(name)

    def product(self, product: str) -> str:
        """A User-Agent, without the names that were collected."""
        return self._collected(product)

    def address(self, address: str) -> str:
        """``IP:PORT`` with another IP address; what is no address becomes empty."""
        ip, _, port = address.rpartition(":")
        try:
            ip_address(ip.strip("[]"))
        except ValueError:
            return ""
        made = self._address(ip.strip("[]"), self._replacement)
        return f"[{made}]:{port}" if ip.startswith("[") else f"{made}:{port}"

    def close(self) -> None:
        """End the collection: made-up names are chosen, and none is one that was collected."""
        for name, sort in self._sorts.items():
            self._make(sort, name)
        words = [
            name
            for name, sort in self._sorts.items()
            if sort not in ("ipv4", "ipv6", "uuid")
            and 2 <= len(name) <= LONGEST_NAME
            and name not in WORDS
            and not (_ONLY_DIGITS(name) and len(name) <= _LONGEST_PORT)
        ]
        long = [word for word in words if len(word) >= _SHORTEST]
        short = [word for word in words if len(word) < _SHORTEST]
        either = [_trie(long)] if long else []
        if short:
            either.append(rf"(?:(?<![A-Za-z0-9])|{_ESCAPE})(?:{_trie(short)})(?![A-Za-z0-9])")
        self._anywhere = re.compile("|".join(either), re.IGNORECASE) if either else None
        digits = [name for name in self._sorts if _ONLY_DIGITS(name) and len(name) >= 3]
        self._numbers = re.compile(rf"(?<![\w.:])(?:{_trie(digits)})(?![\w.])") if digits else None

    # The passes.

    def _note(self, sort: Sort, name: str) -> str:
        key = name.casefold()
        if key and key not in self._sorts and len(self._sorts) < MOST_NAMES:
            self._sorts[key] = sort
        return name

    def _replacement(self, sort: Sort, name: str) -> str:
        key = name.casefold()
        return self._made.get(key) or self._make(sort, key)

    def _known(self, found: re.Match[str]) -> str:
        return self._replacement("user", found[0])

    def _make(self, sort: Sort, key: str) -> str:
        while True:
            number = self._counts[sort] = self._counts.get(sort, 0) + 1
            made = _MAKERS[sort](number)
            if made not in self._sorts and made not in self._made:
                break
        if len(self._made) < 4 * MOST_NAMES:
            self._made[key] = made
            self._chosen.add(made)
        return made

    def _changed(
        self, payload: bytes, kind: Kind, change: "_Change", *, final: bool = False
    ) -> bytes:
        def whole(text: str) -> str:
            text = self._in_places(text, change)
            return self._everywhere(text) if final else text

        def message(text: str) -> str:
            # A text on one line is no head, though it may have a colon.
            return whole(_HEADER.sub(_without_unknown, text) if final and "\n" in text else text)

        if kind is Kind.SIP:
            head, _, body = payload.partition(b"\r\n\r\n")
            if final and body and not _KEPT_BODIES.search(head):
                return rewritten(payload, _Bodyless(message, decoded(body)))
            return rewritten(payload, message)
        if kind is Kind.EVENT:
            changed = rewritten_event(payload, message)
            if not final:
                return changed
            if read_event(changed) is None:
                return f"({len(payload)} bytes left out)".encode()
            return _known_members(changed)
        text = decoded(payload)
        if kind is Kind.LOG and (not final or _OWN_LOG.match(text)):
            return encoded(whole(text))
        return f"({len(payload)} bytes left out)".encode()

    def _in_places(self, text: str, change: "_Change") -> str:
        """Change names where their place says what they are."""

        def second(sort: Sort) -> Callable[[re.Match[str]], str]:
            return lambda found: found[1] + self._named(sort, found[2], change)

        if "<" in text:
            text = _DISPLAY.sub(lambda found: self._display(found, change), text)
        text = _SIP_URI.sub(lambda found: self._uri(found, change), text)
        text = _TEL_URI.sub(second("number"), text)
        text = _CONTEXT.sub(second("number"), text)
        text = _VIA.sub(second("host"), text)
        text = _CALL_ID.sub(second("host"), text)
        text = _HOST_PARAMETER.sub(second("host"), text)
        text = _CREDENTIAL.sub(second("user"), text)
        text = _ORIGIN.sub(lambda f: f[1] + (f[2] if f[2] == "-" else change("user", f[2])), text)
        text = _SDP_HOST.sub(second("host"), text)
        text = _CANDIDATE.sub(lambda f: f[1] + self._named("host", f[2], change) + f[3], text)
        text = _CNAME.sub(second("user"), text)
        text = _URL.sub(
            lambda f: (
                f"{f[1]}{self._named('host', f[2], change)}{f[3]}" + (f"?{MASK}" if f[4] else "")
            ),
            text,
        )
        text = _HOST_HEADER.sub(second("host"), text)
        text = _TARGET.sub(rf"\1?{MASK}", text)
        text = _UUID.sub(lambda found: change("uuid", found[1]), text)
        return _IMEI.sub(rf"\1{MASK}", text)

    def _everywhere(self, text: str) -> str:
        """Replace addresses, collected names and what looks like a domain wherever they stand."""
        kept: list[str] = []

        def keep(found: re.Match[str]) -> str:
            kept.append(self._collected(found[2]))
            return f"{found[1]}\0{len(kept) - 1}\0"

        change = self._replacement
        text = _PRODUCT.sub(keep, text.replace("\0", "\\x00"))
        text = _IPV4.sub(lambda found: self._address(found[1], change), text)
        text = _IPV6.sub(lambda found: self._address(found[1], change), text)
        text = _SDP_TEXT.sub(rf"\1{MASK}", text) if "\no=" in text else text
        text = self._collected(text)
        text = _DOMAIN.sub(lambda found: self._domain(found[1]), text)
        return _KEPT.sub(lambda found: kept[int(found[1])], text)

    def _collected(self, text: str) -> str:
        return self._anywhere.sub(self._known, text) if self._anywhere is not None else text

    def _domain(self, name: str) -> str:
        made = name.casefold()
        if made in self._chosen or made.startswith("z9hg4bk"):
            return name
        return self._replacement("host", name)

    def _named(self, sort: Sort, name: str, change: "_Change") -> str:
        if _IPV4.fullmatch(name) or ":" in name:
            return self._address(name, change)
        if sort == "host" and (_ONLY_DIGITS(name) or not name.strip(".-")):
            return name
        return change(sort, name)

    def _address(self, text: str, change: "_Change") -> str:
        try:
            address = ip_address(text)
        except ValueError:
            return text
        if address.is_unspecified:
            return text
        if text in self._chosen:
            return text
        return change("ipv4" if isinstance(address, IPv4Address) else "ipv6", text)

    def _display(self, found: re.Match[str], change: "_Change") -> str:
        name = found["quoted"] if found["quoted"] is not None else found["plain"]
        if not name or not name.strip():
            return found[0]
        return f'{found["head"]} "{change("name", name.strip())}"'

    def _uri(self, found: re.Match[str], change: "_Change") -> str:
        user, host = found["user"] or found["odd"], found["host"] or ""
        made = found["scheme"]
        if user:
            made += change("number" if _is_number(user) else "user", user)
            made += f":{MASK}@" if found["password"] else "@"
        if host.startswith("["):
            return f"{made}[{self._address(host[1:-1], change)}]"
        return made + (self._named("host", host, change) if host else "")


_Change = Callable[[Sort, str], str]
_KEPT: Final = re.compile("\0([0-9]{1,9})\0")
_MADE_UP: Final = tuple(map(IPv4Network, _NETWORKS))


def _ipv4(number: int) -> str:
    for network in _MADE_UP:
        hosts = network.num_addresses - 2
        if number <= hosts:
            return str(network[number])
        number -= hosts
    return str(_MADE_UP[-1][number % (_MADE_UP[-1].num_addresses - 2) + 1])


_MAKERS: Final[dict[Sort, Callable[[int], str]]] = {
    "user": "user{}".format,
    "number": lambda number: f"+1555{100_000 + number}",
    "name": "Name {}".format,
    "host": "example{}.invalid".format,
    "ipv4": _ipv4,
    "ipv6": "2001:db8::{:x}".format,
    "uuid": "00000000-0000-4000-8000-{:012x}".format,
}


class _Bodyless:
    """Changes a head, and replaces the body behind it."""

    def __init__(self, head: Callable[[str], str], body: str) -> None:
        self._head, self._body = head, body

    def __call__(self, text: str) -> str:
        if text == self._body:
            return f"({len(encoded(text))} bytes left out)"
        return self._head(text)


def _without_unknown(header: re.Match[str]) -> str:
    if header[2].lower() in HEADERS or not header[3].strip():
        return header[0]
    return header[1] + MASK


def _known_members(payload: bytes) -> bytes:
    """An event without the values of keys that are not known."""
    text = decoded(payload).strip("\0 \t\r\n")
    if not text.startswith("{"):
        return payload
    kept = {
        name: said if name.replace("_", "-").lower() in MEMBERS else MASK
        for name, said in json.loads(text, strict=False).items()
    }
    return json.dumps(kept, indent="\t").encode()


def _trie(words: Iterable[str]) -> str:
    """A pattern for words that tries each character once."""
    root: dict[str, dict] = {}  # type: ignore[type-arg]
    for word in words:
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _pattern(root)


def _pattern(node: dict[str, dict]) -> str:  # type: ignore[type-arg]
    branches: list[str] = []
    ends = "" in node
    for character, below in node.items():
        if not character:
            continue
        chain = re.escape(character)
        while len(below) == 1 and "" not in below:
            ((following, below),) = below.items()
            chain += re.escape(following)
        branches.append(chain + (_pattern(below) if set(below) != {""} else ""))
    if not branches:
        return ""
    joined = branches[0] if len(branches) == 1 and not ends else f"(?:{'|'.join(branches)})"
    return f"{joined}?" if ends else joined
