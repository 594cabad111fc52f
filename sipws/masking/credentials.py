"""Finds credentials in handshakes. Pure.

Credentials are looked for in four places:

- the values of headers with certain names,
- the parameters of every URL,
- the user of every URL,
- JSON Web Tokens, anywhere.

Refused handshakes are traced too, so that the bytes may not be HTTP: headers can be folded, broken
by control characters, or cut anywhere. If the end of a credential is unclear, too much is masked
rather than too little.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache, partial
from typing import Final
from urllib.parse import unquote_to_bytes

MASK: Final = b"***"
"""The replacement for a credential of any length."""

UNREAD: Final = b"(unread)"
"""The credential that represents all those in a part that was masked whole, unread."""

NAMES: Final = (
    "*authorization",
    "*authentication",
    "auth",
    "*auth",
    "auth-*",
    "x-auth-*",
    "authcode",
    "authdata",
    "authn",
    "authz",
    "*bearer",
    "*token*",
    "*ticket*",
    "*secret*",
    "pass",
    "*-pass",
    "userpass",
    "*passw*",
    "*passphrase*",
    "*passcode*",
    "*pwd*",
    "pw",
    "*-pw",
    "pin",
    "*-pin",
    "pincode",
    "*otp",
    "otp-*",
    "*-otp-*",
    "creds",
    "*-creds",
    "*credential*",
    "*session*",
    "*sessid*",
    "sess",
    "*-sess",
    "sess-*",
    "sid",
    "*-sid",
    "*cookie",
    "*cookie2",
    "*csrf*",
    "*xsrf*",
    "*signature",
    "sig",
    "*-sig",
    "*hmac*",
    "*jwt*",
    "*dpop*",
    "*assertion*",
    "saml*",
    "*api*key*",
    "*access*key*",
    "*auth*key",
    "*subscription-key",
)
"""Names of credentials, in headers and in parameters; ``*`` matches any characters. A capital
within a name begins a word, and ``_`` and ``.`` count as ``-``."""

HEADERS: Final = (*NAMES, "*signature-*", "x-*key", "sec-websocket-protocol")
"""Headers whose values are masked by default."""

PARAMETERS: Final = (*NAMES, "*signature*", "*key", "code", "code-*", "bearer*", "authenticat*")
"""Query parameters, and members of JSON in a query, whose values are masked by default."""

is_handshake: Final = re.compile(
    rb"(?:sec-websocket-key:\s*[a-z0-9+/]{22}==|sec-websocket-accept:\s*[a-z0-9+/]{27}="
    rb"|upgrade:\s*websocket|connection:\s*(?:keep-alive,\s*)?upgrade)\s*",
    re.IGNORECASE,
).fullmatch
"""Whether a line is a well-formed header of the handshake, which holds no credential."""

MOST: Final = 200
"""Parts of a header, and places in a line where a credential can begin, that are checked one by
one. Browsers send up to 180 cookies. A line with more is masked whole, so that a hostile one costs
little time."""

DEEPEST: Final = 4
"""Layers of percent-encoding that are undone: a URL in the query of a URL has two."""

BLANKS: Final = b" \t\r\n\0"
"""Characters around a credential that are not part of it."""

_AS_HYPHENS: Final = bytes.maketrans(b"_.", b"--")
_CAPITAL: Final = re.compile(rb"(?<=[a-z0-9])(?=[A-Z])")

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_BREAKS: Final = re.compile(rb"\r?\n[ \t]*|[^\t -~]")
# A header after a character that some programs take for the end of a line.
_INNER: Final = re.compile(
    rb"[\r\n][ \t\0]*+([-!#$%&'*+.^_`|~0-9A-Za-z]{1,100}+)(?:[ \t\0]*+(:)|[ \t=])"
)
# A header without its colon, which the reader of a trace may still take for one.
_NO_COLON: Final = re.compile(rb"[ \t\0]*+([-!#$%&'*+.^_`|~0-9A-Za-z]{1,100}+)[ \t\0=;,]++")
_METHOD: Final = re.compile(rb"[A-Za-z]{1,20}[ \t]+")
_VERSION: Final = re.compile(rb"[ \t]HTTP/[0-9.]*[\0-\x20]*\Z")

SCHEME: Final = re.compile(
    rb"(basic|bearer|digest|negotiate|ntlm|dpop|hoba|mutual|vapid|gnap|hawk|oauth|token|apikey"
    rb"|scram-[a-z0-9-]+|aws4-[a-z0-9-]+|kerberos|tls-dsk)(?:[ \t\r\n]+|\Z)",
    re.IGNORECASE,
)
"""The beginning of a credential of a known scheme (IANA, HTTP authentication schemes)."""
_GOES_ON: Final = rb"\r?\n[ \t]+|[\r\v\f](?!\n)"
"""A break within a line that goes on after it."""
_SCHEME_FIRST: Final = re.compile(
    rb"[ \t\r\n]*+[\"']?(?i:bearer|dpop)[ \t\r\n]++[\"']?([^\s,;\"'<>=*]++(?:"
    rb"={1,2}(?=[\s,;<>]|\Z)|(?=[\s,;\"'<>]|\Z))(?:(?:%b)++[^\s,;\"'<>=]++)*+)" % _GOES_ON
)
"""A Bearer token in any header; ``Bearer realm="..."`` is the challenge of a server."""
_BEHIND: Final = rb"(?:[ \t+:]|%(?:25)*(?:20|2B|3A)|\r?\n[ \t])++[\"']?"
_LOOKS_SO: Final = rb"(?=[A-Za-z][a-z]*+[-._~+/]*+[0-9A-Z]|[0-9]|[a-z]++=)"
_PADDING: Final = rb"(?:=|%(?:25)*3D){0,2}+"
_MORE: Final = rb"(?:(?:[\0-\x08\x0e-\x1f]|%b)++[A-Za-z0-9._~+/-]++)*+" % _GOES_ON
_SCHEMES: Final = re.compile(
    rb"(?<![A-Za-z0-9])(?:(?i:bearer|dpop)%b(%b[A-Za-z0-9._~+/-]{6,}+%b%b)(?!=)"
    rb"|(?i:basic)%b(%b[A-Za-z0-9+/]{6,}+%b%b)(?![.=~\w-]))"
    % ((_BEHIND, _LOOKS_SO, _MORE, _PADDING) * 2)
)
"""What looks like a credential behind such a word in any text: a word alone does not."""
_ATTRIBUTE: Final = re.compile(
    rb"\s*(?:domain|expires|httponly|max-age|partitioned|path|priority|samesite|secure|version)"
    rb"\s*(?:=[^=]*)?",
    re.IGNORECASE,
)
_WORD: Final = (
    rb"(?:(?:[A-Z]?[a-z]{1,15}|[A-Z]{1,15})(?:[A-Z][a-z]{1,14}){0,2}[0-9]{0,2}[A-Za-z]?|[0-9]{1,2})"
)
_SUBPROTOCOL: Final = re.compile(_WORD + rb"(?:[-._~+/:]" + _WORD + rb"){0,7}[-._~+/:]?")
"""What a subprotocol is called: words and small numbers. A token does not look like that."""

_MOST_WORDS: Final = 32
"""Words of one that are looked at for a name; the name of one has eight at most."""

# A URL within a parameter is percent-encoded, one within that URL twice.
_HINT: Final = re.compile(rb"[?&;#@%{\"']|//|eyJ|(?i:sips?:|bearer|basic|dpop)")
_SIGNS: Final = (
    *(b"=", b"3d", b"@", b"//", b"%2f", b"sip:", b"sips:", b"eyj"),
    *(b'":', b"':", b'" :', b"%3a", b"bearer", b"basic", b"dpop"),
)
"""What is counted: in any other text no credential is looked for at so many places."""
_EQUALS: Final = re.compile(rb"=|%((?:25)*)3[Dd]")
_NAME: Final = re.compile(rb"[?&;#]([^?&;#\s/,\"'<>=]+)\Z")

_BLANK: Final = rb"(?:[ \t+]|%(?:25)*20)*+"
_MEMBER: Final = re.compile(
    rb"(?:(?:[\"']|%%(?:25)*2[27])%b|(?:[{,]|%%(?:25)*(?:7B|2C))%b[A-Z][\w-]{0,99}+)"
    rb"(?::|%%(?:25)*3A)%b" % (_BLANK, _BLANK, _BLANK),
    re.IGNORECASE,
)
"""Where the value of a member begins, in JSON that may be percent-encoded."""
_MEMBER_NAME: Final = re.compile(rb"[\"'{,]\s*([^\"'{},:=?&\s\\]+)\\?[\"']?[ +]*:?[ +]*\Z")
_LIST: Final = re.compile(
    rb"(?:\[|%%(?:25)*5B)(?:(?!%%(?:25)*(?:5D|26))[^]&\r\n]|%b)*+" % _GOES_ON, re.IGNORECASE
)
_MEMBER_VALUES: Final = {
    # A quote ends what begins with one; one that is escaped does not.
    b'"': re.compile(
        rb"\"(?:[^\"\\&\r\n]|%b|\\[^\"]|\\\"(?![ \t]*[,}\]]))*+" % _GOES_ON, re.DOTALL
    ),
    b"'": re.compile(rb"'(?:[^'\\&\r\n]|%b|\\.)*+" % _GOES_ON, re.DOTALL),
    b"%": re.compile(
        rb"(?:%%(?:25)*2[27])?"
        rb"(?:%%(?:25)*5C%%(?:25)*2[27]|(?!%%(?:25)*2[267])[^&\s]|%b)*+" % _GOES_ON,
        re.IGNORECASE,
    ),
    b"": re.compile(rb"(?:[^,}&\r\n]|%b)*+" % _GOES_ON),
}
_OPENING: Final = re.compile(rb"\\?[\"']|%(?:25)*2[27]")
_PARTS: Final = re.compile(rb"[^][.]+(?=[][.])|(?<=[][.])[^][.]+").findall
_LONGEST_NAME: Final = 100
_TARGET_VALUE: Final = re.compile(rb"[^&]*")
_VALUE: Final = re.compile(rb"(?:[^&\s\"<>']|'(?![\s:;,]|\Z)|" + _GOES_ON + rb")*")

_AUTHORITIES: Final = (
    re.compile(rb"(//)((?:[^/?#\s\"<>]|" + _GOES_ON + rb")+)"),
    re.compile(
        rb"((?:%(?:25)*2F){2})((?:(?!%(?:25)*(?:2F|3F|23|26))[^/?#&\s\"<>]|" + _GOES_ON + rb")+)",
        re.IGNORECASE,
    ),
    re.compile(
        rb"(?<![A-Za-z0-9])(sips?(?::|%(?:25)*3A))((?:[^;?&\s\"<>]|" + _GOES_ON + rb")+)",
        re.IGNORECASE,
    ),
)
"""User and host in a URL, in one within it, and in a SIP URI."""
_USER: Final = re.compile(rb".*(?=@|%(?:25)*40)", re.DOTALL | re.IGNORECASE)
_COLON: Final = re.compile(rb":|%(?:25)*3A", re.IGNORECASE)
_CUT_USER: Final = re.compile(rb"[^:[]*(?::|%(?:25)*3A)(?![0-9]{0,5}\Z)", re.IGNORECASE)
"""A user and some of a password, whose end did not come: what is not a port."""

_JWT: Final = re.compile(
    rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}(?:[A-Za-z0-9_.-]|[\0-\x08\x0e-\x1f]|"
    + _GOES_ON
    + rb")*+(?:(?:[+/=]|%(?:25)*(?:2[BbFf]|3[Dd]))++[A-Za-z0-9_-]*+)*+"
)
"""A JSON Web Token wherever it stands: base64url of what begins with ``{"`` (RFC 7519), or
base64 of other JSON."""


class Credentials:
    """Masks credentials.

    Args:
        headers: names of headers whose values are masked. Of cookies the names are kept, of
            ``Authorization`` the scheme, of ``Sec-WebSocket-Protocol`` what is a name.
        parameters: names of query parameters whose values are masked, wherever a URL stands.
            Capitals and percent-encoding make no difference. Unless there are none, users and
            passwords in URLs and JSON Web Tokens are masked too. Unless both lists are empty, so
            is what stands behind ``Bearer`` or ``Basic`` and looks like a credential.
    """

    def __init__(self, headers: Sequence[str], parameters: Sequence[str]) -> None:
        self._is_header = _any_of(headers)
        self._is_parameter = _any_of(parameters)
        self._parameters_are_masked = bool(parameters)
        self._schemes_are_masked = bool(headers or parameters)

    def in_line(self, line: bytes, found: list[bytes], *, body: bool = False) -> bytes:
        """Mask a line of a handshake, with its end and what it is folded into.

        Args:
            line: byte for byte.
            found: gets the credentials.
            body: whether it stands behind the head: there a word and a blank begin no header.
        """
        name, colon, value = line.partition(b":")
        word = _BREAKS.sub(b"", name).strip(b" \t")
        if colon and _TOKEN.fullmatch(word):
            if self._is_header(word) and not is_handshake(line):
                return name + b":" + self._in_header(word.lower(), value, found)
        elif not body and (first := _NO_COLON.match(line)) and self._is_header(first[1]):
            at = first.end()
            return line[:at] + self._in_header(first[1].lower(), line[at:], found)
        for inner in _INNER.finditer(line):
            if (inner[2] == b":" or not body) and self._is_header(inner[1]):
                at = inner.start(1)
                return self._in_one_line(line[:at], found) + self.in_line(line[at:], found)
        if colon:
            word = word.lower()
            if is_handshake(line):
                return line
            if self._schemes_are_masked and (known := _SCHEME_FIRST.match(value)):
                start, end = known.span(1)
                found.append(known[1])
                value = value[:start] + MASK + value[end:]
                line = name + b":" + value
            if word.endswith(b"host"):
                host = value.lstrip(BLANKS)
                masked = self.in_text(b"//" + host, found)[2:]
                return line[: len(line) - len(host)] + masked
        return self._in_one_line(line, found)

    def _in_one_line(self, line: bytes, found: list[bytes]) -> bytes:
        """Mask the credentials in a line that is not a masked header."""
        method = _METHOD.match(line)
        if method is None:
            return self.in_text(line, found)
        # A target has no blanks, but a malformed one may.
        version = _VERSION.search(line)
        start = method.end()
        end = max(start, version.start() if version else len(line.rstrip(BLANKS)))
        return line[:start] + self.in_text(line[start:end], found, _TARGET_VALUE) + line[end:]

    # Headers.

    def _in_header(self, word: bytes, value: bytes, found: list[bytes]) -> bytes:
        core = value.strip(BLANKS)
        if not core:
            return value
        start = value.index(core)
        end = start + len(core)
        if core.count(b";") + core.count(b",") > MOST:
            masked = MASK
            found.append(UNREAD)
        elif word == b"sec-websocket-protocol":
            masked = b",".join(self._subprotocols(core, found))
        elif word in (b"cookie", b"cookie2"):
            masked = b";".join(_cookie(part, found) for part in core.split(b";"))
        elif word in (b"set-cookie", b"set-cookie2"):
            # Behind the cookie stand its attributes, which are no secret.
            first, *more = core.split(b";")
            more = [part if _ATTRIBUTE.fullmatch(part) else _cookie(part, found) for part in more]
            masked = b";".join([_cookie(first, found), *more])
        else:
            masked = MASK
            if word.endswith(b"authorization") and (scheme := SCHEME.match(core)):
                core = core[scheme.end() :]
                masked = scheme[1] + (b" " + MASK if core else b"")
            found.append(core)
            # Of a token a part may be quoted.
            _JWT.sub(partial(_without_token, found), core)
        return value[:start] + masked + value[end:]

    def _subprotocols(self, offered: bytes, found: list[bytes]) -> Iterator[bytes]:
        """Of subprotocols, what is one: browsers can send a token in no other header."""
        is_next = False
        for item in offered.split(b","):
            word = item.strip(BLANKS)
            named = self._named(word)
            secret = b""
            if word.lower() != b"sip":
                if is_next:
                    secret = word
                elif named or not _SUBPROTOCOL.fullmatch(word):
                    secret = word[len(named) :]
            # "bearer, TOKEN" is a token too.
            is_next = bool(named) and named == word and not secret
            start, end = item.index(word), item.index(word) + len(word)
            if secret:
                # Behind more words, as in "bearer.k8s.io.TOKEN", it is the last that is quoted.
                found.extend((secret, secret.rpartition(b".")[2]))
                yield item[: end - len(secret)] + MASK + item[end:]
            else:
                yield item[:start] + word + item[end:]

    def _named(self, word: bytes) -> bytes:
        """What stands before a token that is named, as in ``bearer.TOKEN``; else nothing."""
        at = 0
        for part in re.split(rb"([-._~+/:=])", word, maxsplit=_MOST_WORDS):
            at += len(part)
            if self._is_parameter(part) and _SUBPROTOCOL.fullmatch(part):
                return word[: at + 1]
        return b""

    # Text.

    def in_text(self, text: bytes, found: list[bytes], value: re.Pattern[bytes] = _VALUE) -> bytes:
        """Mask parameters, users with their passwords, and tokens that are known by their form.

        Args:
            text: any text.
            found: gets the credentials.
            value: how far the value of a parameter goes.
        """
        if not self._schemes_are_masked or not _HINT.search(text):
            return text
        lowered = text.lower()
        if sum(map(lowered.count, _SIGNS)) > MOST:
            found.append(UNREAD)
            return MASK + text[len(text.rstrip(b"\r\n")) :]
        text = _SCHEMES.sub(partial(_without_credential, found), text)
        if not self._parameters_are_masked:
            return text
        text = self._in_parameters(text, found, value)
        if b":" in lowered or b"3a" in lowered:
            text = self._in_members(text, found)
        if b":" in text or b"%" in text or b"@" in text:
            for authority in _AUTHORITIES:
                text = authority.sub(partial(_without_user, found), text)
        return _JWT.sub(partial(_without_token, found), text) if b"eyJ" in text else text

    def _in_parameters(self, text: bytes, found: list[bytes], value: re.Pattern[bytes]) -> bytes:
        masked: list[bytes] = []
        done = name_from = 0
        for equals in _EQUALS.finditer(text):
            start, end = equals.span()
            before = text[max(name_from, start - _LONGEST_NAME) : start]
            name_from = end
            if start < done or not self._is_name(before):
                continue
            nested = equals[1]
            goes = value if nested is None else _encoded_value(min(len(nested) // 2, DEEPEST))
            if (match := goes.match(text, end)) and match[0]:
                found.append(match[0])
                masked += text[done:end], MASK
                done = match.end()
        return b"".join([*masked, text[done:]]) if masked else text

    def _in_members(self, text: bytes, found: list[bytes]) -> bytes:
        """Mask members of JSON objects."""
        masked: list[bytes] = []
        done = 0
        for number, member in enumerate(_MEMBER.finditer(text)):
            if number > MOST:
                found.append(UNREAD)
                return MASK + text[len(text.rstrip(b"\r\n")) :]
            end = member.end()
            if end <= done or not self._is_member(text[max(done, end - _LONGEST_NAME) : end]):
                continue
            goes = _MEMBER_VALUES.get(text[end : end + 1], _MEMBER_VALUES[b""])
            match = _LIST.match(text, end) or goes.match(text, end)
            secret = match[0] if match else b""
            quoted = _OPENING.match(secret)
            start = end + (quoted.end() if quoted else 0)
            stop = end + len(secret)
            if start < stop and text[start:stop] != MASK:
                found.append(text[start:stop])
                masked += text[done:start], MASK
                done = stop
        return b"".join([*masked, text[done:]]) if masked else text

    def _is_member(self, before: bytes) -> bool:
        """Whether what stands before a value ends with the name of such a member."""
        name = _decoded(_BREAKS.sub(b"", before))
        match = _MEMBER_NAME.search(name)
        return match is not None and self._is_parameter(match[1])

    def _is_name(self, before: bytes) -> bool:
        """Whether what stands before an equals sign ends with the name of such a parameter."""
        name = _decoded(_BREAKS.sub(b"", before))
        if (match := _NAME.search(name)) is None:
            return False
        name = match[1]
        # "user[password]", "connect.sid"
        return self._is_parameter(name) or any(map(self._is_parameter, _PARTS(name)))


def _any_of(names: Sequence[str]) -> Callable[[bytes], bool]:
    patterns = (translate(name.lower().replace("_", "-").replace(".", "-")) for name in names)
    either = re.compile("|".join(patterns).encode())

    def matches(name: bytes) -> bool:
        # "ws_ticket", "wsTicket" and "ws-ticket" are one name, "api-key" and "apikey" too.
        plain = name.translate(_AS_HYPHENS)
        written = {
            plain.lower(),
            _CAPITAL.sub(b"-", plain).lower(),
            plain.replace(b"-", b"").lower(),
        }
        return any(map(either.match, written))

    # All clients write the same names.
    return lru_cache(256)(lambda name: bool(names) and matches(name))


def _decoded(name: bytes) -> bytes:
    for _ in range(DEEPEST):
        if b"%" not in name:
            break
        name = unquote_to_bytes(name)
    return name


def _without_credential(found: list[bytes], scheme: re.Match[bytes]) -> bytes:
    secret = scheme[1] or scheme[2]
    found.append(secret)
    return scheme[0][: len(scheme[0]) - len(secret)] + MASK


def _without_token(found: list[bytes], token: re.Match[bytes]) -> bytes:
    found.extend((token[0], *re.split(rb"[.\0-\x20]+", token[0])))
    return MASK


def _without_user(found: list[bytes], authority: re.Match[bytes]) -> bytes:
    kept, where = authority.groups()
    if user := _USER.match(where):
        secret = user[0]
    elif _CUT_USER.match(where) and not authority.string[authority.end() :].strip(BLANKS):
        secret = where
    else:
        return authority[0]
    behind = where[len(secret) :]
    colon = _COLON.search(secret)
    password = secret[colon.end() :] if colon else b""
    if kept[:3].lower() == b"sip":
        # Who that is, is not a secret.
        kept, secret = kept + secret[: len(secret) - len(password)], password
    if not secret:
        return authority[0]
    found.extend((secret, password))
    return kept + MASK + behind


def _cookie(part: bytes, found: list[bytes]) -> bytes:
    name, equals, value = part.partition(b"=")
    if equals and _TOKEN.fullmatch(name.strip(BLANKS)):
        found.append(value)
        return name + b"=" + MASK if value.strip(BLANKS) else part
    found.append(part)
    start = len(part) - len(part.lstrip(BLANKS))
    return part[:start] + MASK if start < len(part) else part


def _encoded_value(depth: int) -> re.Pattern[bytes]:
    """The value of a parameter whose URL stands, percent-encoded so often, in another one."""
    return re.compile(rb"(?:(?!%%(?:25){0,%d}26)[^&\s\"<>]|%b)*" % (depth, _GOES_ON))
