"""Exports: every form, without credentials, and without names on request."""

import base64
import hashlib
import html.parser
import json
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.captures.pcap import Capture
from hep.view.export import FORMATS, MEDIA_TYPES, Format, export, text_ladder
from hep.view.export.as_mermaid import LONGEST_DIAGRAM, escaped
from hep.view.export.content import MOST_MESSAGES
from hep.view.export.masks import text_without_credentials, without_credentials
from hep.view.model.ladder import ladder
from hep.view.model.picture import Ladder, Party, Step, Verdict
from hep.view.model.record import Kind, read_sip
from hep.view.model.summary import CallSummary

from .talks import ALICE, LEG, SERVER, START, UP, Talk, legs, relayed

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
VERDICT = Verdict("Ended by BYE of alice (10.1.2.3) after 3 s.", "ok", ["bob@example.com rang."])
CALL = CallSummary(
    "c1@10.1.2.3",
    "call",
    "INVITE",
    START,
    from_user="alice",
    from_host="example.com",
    to_user="bob",
    to_host="example.com",
    addresses=[ALICE],
)


def written(talk: Talk, form: Format, *, anonymous: bool = False) -> bytes:
    picture = ladder(talk.records, legs())
    return export(CALL, VERDICT, picture, talk.records, form, anonymous=anonymous)


def sip_of(data: bytes, tmp_path: Path) -> list[bytes]:
    path = tmp_path / "call.pcap"
    path.write_bytes(data)
    with Capture(path) as capture:
        return [packet.payload for _, packet in capture.packets()]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("anonymous", [False, True])
def test_nothing_gives_a_file_in_each_format(form: Format, anonymous: bool) -> None:
    empty = export(
        CallSummary(""), Verdict("", "open"), Ladder([], []), [], form, anonymous=anonymous
    )
    assert empty
    assert form in MEDIA_TYPES


def test_a_capture_has_times_addresses_and_messages(tmp_path: Path) -> None:
    talk = relayed()
    talk.event('{"Event":"CLOSED"}')
    path = tmp_path / "call.pcap"
    path.write_bytes(written(talk, "pcap"))
    with Capture(path) as capture:
        found = [packet for _, packet in capture.packets()]
    assert [packet.payload for packet in found] == [each.payload for each in talk.records[:-1]]
    first = found[0]
    assert (f"{first.src_ip}:{first.src_port}", f"{first.dst_ip}:{first.dst_port}") == (
        ALICE,
        SERVER,
    )
    assert (first.seconds, first.microseconds) == divmod(talk.records[0].at, 1_000_000)


def test_a_capture_has_messages_without_an_address() -> None:
    talk = Talk()
    for src in ("", "x:1", "[fe80::1%eth0]:5", "1.2.3.4:99999", "1.2.3.4:²"):
        talk.request(src, "[::1]:5060", "OPTIONS")
    data = written(talk, "pcap")
    assert data.count(b"OPTIONS sip:") == 5


def test_text_has_verdict_ladder_and_messages() -> None:
    said = written(relayed(), "text").decode()
    assert VERDICT.text in said
    assert VERDICT.notes[0] in said
    assert re.search(r"\+0\.000 +│─+INVITE \(SDP\)─+▶│", said) is None
    assert re.search(r"│─+INVITE \(SDP\)─+▶│ ", said)
    assert said.count("INVITE sip:bob@example.com SIP/2.0\n") == 2


def test_json_has_all_and_messages_as_text() -> None:
    talk = relayed()
    talk.raw(ALICE, SERVER, b"OPTIONS sip:x SIP/2.0\r\nCall-ID: c\r\nX: \xff\r\n\r\n")
    said = json.loads(written(talk, "json"))
    assert said["format"] == "hep-view-call"
    assert said["verdict"]["text"] == VERDICT.text
    assert len(said["messages"]) == len(talk.records)
    assert said["messages"][0]["text"] == talk.records[0].payload.decode()
    assert "\\xff" in said["messages"][-1]["text"]
    assert [party["name"] for party in said["parties"]] == ["alice", SERVER, UP]


class Page(html.parser.HTMLParser):
    """Collects the tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


ATTACKS = (
    "<script>alert(1)</script>",
    "'><img src=x onerror=alert(1)>",
    "</title><svg onload=alert(1)>",
    "]]>--><!--",
    "&lt;b&gt;",
)


def attacked() -> tuple[Talk, Ladder]:
    talk = Talk()
    for attack in ATTACKS:
        talk.request(ALICE, SERVER, "INVITE", user=attack, agent=attack, more=[f"X: {attack}"])
        talk.answer(SERVER, ALICE, f"200 {attack}", server=attack)
        talk.event(json.dumps({"Event": attack, "Message": attack, "User_Agent": attack}))
        talk.log(attack)
    return talk, ladder(talk.records, [])


def test_a_page_has_no_script_and_shows_markup_as_text() -> None:
    talk, picture = attacked()
    call = CallSummary(ATTACKS[0], from_user=ATTACKS[1], to_user=ATTACKS[2])
    data = export(call, Verdict(ATTACKS[0], "ok", list(ATTACKS)), picture, talk.records, "html")
    page = Page(data.decode())
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "p", "code", "div", "svg"}
    allowed |= {"text", "line", "polygon", "circle", "details", "summary", "pre"}
    assert set(page.tags) <= allowed
    assert not [
        name
        for name, _ in page.attributes
        if name.startswith("on") or name in ("src", "href", "style")
    ]
    assert any(ATTACKS[0] in text for text in page.texts)
    assert page.tags.count("details") == len(talk.records)


def test_a_page_states_a_policy_that_its_own_style_fulfils() -> None:
    page = written(relayed(), "html").decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy[1]
    assert f"'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]


LINE = re.compile(
    r"sequenceDiagram|    participant p\d+ as [^\n]+|    Note over p\d+(?:,p\d+)?: [^\n]+"
    r"|    p\d+-?->>p\d+: [^\n]+"
)


def test_a_diagram_escapes_what_mermaid_would_read() -> None:
    assert escaped('a;b#c:d<e>%%f\n"g"{}') == (
        "a#59;b#35;c#58;d#60;e#62;#37;#37;f #34;g#34;#123;#125;"
    )
    assert escaped("the end") == "the #101;nd"
    assert escaped("send") == "send"
    assert escaped(" ") == "-"


def test_a_diagram_has_a_line_for_each_row_and_nothing_else() -> None:
    talk, picture = attacked()
    data = export(
        CALL, Verdict("a\nend\n%%{init}%%", "ok"), picture, talk.records, "mermaid"
    ).decode()
    lines = data.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert len(lines) == 1 + len(picture.parties) + 1 + len(picture.steps)


def test_a_diagram_stays_below_what_mermaid_renders() -> None:
    talk = Talk()
    for number in range(1_500):
        talk.request(ALICE, SERVER, "INFO", number, more=[f"Reason: {'<' * 90}"])
    data = written(talk, "mermaid")
    assert len(data) <= LONGEST_DIAGRAM + 200
    assert b"more are left out" in data


def test_a_ladder_in_text_acts_on_no_terminal() -> None:
    steps = [Step(1, 0, "sip", 0, 1, "", "", "INVITE\x1b[31m\u202e\r\n\x00", "d\x07")]
    picture = Ladder([Party("a\x1b]0;x\x07", "phone"), Party("b\n", "server", ["c\x9b"])], steps)
    for width in (20, 40, 100):
        said = text_ladder(picture, Verdict("v\x1b[2J", "ok", ["n\x1b"]), width)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    coloured = text_ladder(picture, None, 100, True)
    assert set(re.findall("\x1b[^m]*m", coloured)) <= {"\x1b[36m", "\x1b[0m"}
    assert text_ladder(picture, None, 100, ascii_only=True).isascii()


# Credentials.

SECRETS = (
    "s3cr3tS3cr3t",
    "pr00fpr00f",
    "t0kent0ken",
    "c00kiec00kie",
    "k3yk3yk3yk3y",
    "iceiceicepwd",
)


def secret_talk() -> Talk:
    talk = Talk()
    token = f"eyJhbGciOiJIUzI1NiJ9.{SECRETS[2]}.sig"
    body = (
        f"v=0\r\no=- 1 1 IN IP4 10.1.2.3\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SECRETS[4]}"
        "|2^20\r\n"
        f"a=ice-ufrag:u\r\na=ice-pwd:{SECRETS[5]}\r\n"
    )
    talk.request(
        ALICE,
        SERVER,
        "INVITE",
        more=[
            f'Authorization: Digest username="alice", realm="example.com", response="{SECRETS[1]}",'
            f' uri="sip:x", cnonce="{SECRETS[0]}"',
            f"Proxy-Authorization: Bearer {SECRETS[2]}",
            f"authorization : Basic\r\n {SECRETS[0]}==",
            f"Contact: <sip:alice:{SECRETS[0]}@10.1.2.3;token={SECRETS[2]}>",
            f"Identity: {SECRETS[0]};info=<https://x>",
            f"X-Api-Key: {SECRETS[2]}",
            f"X-Whatever: {token}",
            f"Refer-To: <sip:bob@example.com?Authorization=Basic%20{SECRETS[0]}>",
        ],
        body=body,
    )
    request = (
        f"GET /ws?access_token={SECRETS[2]}&a=b HTTP/1.1\r\nHost: example.com\r\n"
        f"Cookie: sid={SECRETS[3]}; b={SECRETS[3]}\r\nAuthorization: Bearer {SECRETS[2]}\r\n"
        f"Sec-WebSocket-Protocol: sip, bearer, {SECRETS[2]}\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
    )
    event = {
        "Event": "ACCEPTED",
        "Resource": f"/ws?token={SECRETS[2]}",
        "Ws-Request": request,
        "n": 1,
    }
    talk.event(json.dumps(event))
    talk.event(json.dumps(event)[:-3])
    talk.event("WS:ACCEPTED:" + request + ":SUCCESS::ok")
    talk.log(f"gone: Authorization: Bearer {SECRETS[2]}")
    return talk


def holders(data: bytes, text: str) -> bool:
    """Whether data has a text, as it is or in base64."""
    if text.lower().encode() in data.lower():
        return True
    found = re.findall(rb"[A-Za-z0-9+/]{16,}={0,2}", data)
    return any(text.encode() in base64.b64decode(each + b"=" * (-len(each) % 4)) for each in found)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_credential_is_in_an_export(form: Format, anonymous: bool, secret: str) -> None:
    talk = secret_talk()
    picture = ladder(talk.records, [])
    picture.steps[0].detail = f"refer to sip:bob:{SECRETS[0]}@example.com"
    data = export(CALL, VERDICT, picture, talk.records, form, anonymous=anonymous)
    assert not holders(data, secret)


def test_of_credentials_the_scheme_and_of_digest_the_rest_is_kept() -> None:
    message = without_credentials(secret_talk().records[0].payload, Kind.SIP)
    assert b'Authorization: Digest username="alice", realm="example.com", response="***"' in message
    assert b"Proxy-Authorization: Bearer ***\r\n" in message
    assert b"a=ice-ufrag:u\r\na=ice-pwd:***\r\n" in message
    assert b"inline:***" in message


def test_the_content_length_follows_the_body() -> None:
    before = secret_talk().records[0].payload
    after = without_credentials(before, Kind.SIP)
    head, _, body = after.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    wrong = before.replace(b"Content-Length: ", b"Content-Length: 1")
    head, _, body = without_credentials(wrong, Kind.SIP).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() not in head


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*.sip")), ids=lambda path: path.stem)
def test_recorded_messages_lose_their_keys_alone(path: Path) -> None:
    message = path.read_bytes()
    lines = message.split(b"\n")
    after = without_credentials(message, Kind.SIP).split(b"\n")
    changed = [old for old, new in zip(lines, after, strict=True) if old != new]
    assert all(re.match(rb"a=ice-pwd|Content-Length|Authorization", line) for line in changed)


# Names.

NAMES = (
    *("alice", "carol.secret", "Wonder Land", "+4915112345678", "7001", "victor", "Elisabeth"),
    *("example.com", "pbx.corp.example.net", "10.1.2.3", "192.168.7.1", "172.16.9.9", "10.77.1.9"),
    *("10.44.3.2", "10.44.3.3", "+4930", "zed", "2001:470:1:2::a"),
    *("fd00::dead:beef", "secrethost", "2001:470:1:2::9", "hunter.local", "gateway-7"),
    *("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "hidden subject", "private text", "agentnode"),
)


def named_talk() -> Talk:
    talk = Talk("abc@secrethost")
    body = (
        "v=0\r\no=victor 1 1 IN IP4 10.1.2.3\r\ns=Elisabeth\r\nc=IN IP4 10.77.1.9\r\nt=0 0\r\n"
        "m=audio 4000 RTP/AVP 0\r\na=candidate:1 1 udp 1 10.77.1.9 5000 typ host\r\n"
        "a=candidate:1 1 udp 1 hunter.local 5000 typ srflx raddr fd00::dead:beef rport 9\r\n"
        "a=rtcp:9 IN IP6 2001:470:1:2::9\r\na=ssrc:1 cname:victor@hunter\r\n"
    )
    talk.request(
        ALICE,
        SERVER,
        "INVITE",
        tags=("alice77", ""),
        via=[
            "WSS gateway-7;branch=z9a;received=10.77.1.9",
            "UDP pbx.corp.example.net:5060;branch=z",
        ],
        more=[
            'Contact: "Wonder Land" <sip:carol.secret@10.1.2.3:5060>;+sip.instance='
            '"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"',
            "P-Asserted-Identity: Elisabeth <tel:+4915112345678>, <sip:7001@example.com>",
            "Record-Route: <sip:pbx.corp.example.net;lr>, <sip:[2001:470:1:2::9]:5060;lr>",
            "Subject: hidden subject",
            "Refer-To: <sip:bob@h.example.com?Replaces=q%4010.44.3.2%3Bto-tag%3Dzz10.44.3.3>",
            "Referred-By: <tel:0301234567;phone-context=+4930>",
            "Reply-To: <sip:zed@h.example.com>",
            "Replaces: q%40zed;x=%5B2001:470:1:2::a%5D",
            "X-Extension: 7001 of victor",
            'WWW-Authenticate: Digest realm="pbx.corp.example.net", nonce="x"',
            'Warning: 392 10.77.1.9:5060 "at pbx.corp.example.net"',
        ],
        body=body,
    )
    talk.raw(
        SERVER,
        ALICE,
        b"MESSAGE sip:7001@example.com SIP/2.0\r\nFrom: <sip:alice@example.com>;tag=1\r\n"
        b"To: <sip:7001@example.com>\r\nCall-ID: abc@secrethost\r\nCSeq: 2 MESSAGE\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 12\r\n\r\nprivate text",
    )
    request = (
        "GET /ws?user=victor HTTP/1.1\r\nHost: pbx.corp.example.net:8080\r\n"
        "Origin: https://example.com\r\n"
        "X-Forwarded-For: 10.77.1.9\r\nX-Who: Elisabeth\r\n\r\n"
    )
    event = {
        "Event": "ACCEPTED", "Ws-Request": request, "Client": "10.77.1.9:5", "Message": "by alice",
        "Resource": "/ws?user=victor", "Unknown": "Elisabeth", "Call_IDs": "abc@secrethost",
    }  # fmt: skip
    talk.event(json.dumps(event))
    talk.event("WS:CLOSED:SUCCESS:alice left from 10.77.1.9")
    talk.log(
        "WebSocket connection 7 10.1.2.3:41000 > 192.168.7.1:8080 (Call-ID abc@secrethost) "
        "closed 1006 by alice"
    )
    talk.log("the user Elisabeth is victor")
    talk.raw(ALICE, SERVER, b"rtcp of victor", kind=Kind.OTHER)
    for record in talk.records:
        record.node = "agentnode"  # type: ignore[misc]
        record.correlation = "abc@secrethost"  # type: ignore[misc]
    return talk


def anonymous_exports() -> Iterator[tuple[Format, bytes]]:
    talk = named_talk()
    call = CallSummary(
        "abc@secrethost",
        from_user="alice",
        from_host="example.com",
        to_user="7001",
        addresses=[ALICE],
    )
    verdict = Verdict(
        "alice (10.1.2.3) called 7001; victor hung up.", "ok", ["pbx.corp.example.net"]
    )
    picture = ladder(talk.records, legs())
    picture.parties[0].user_agent = "JsSIP of alice"
    for form in FORMATS:
        yield form, export(call, verdict, picture, talk.records, form, anonymous=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_in_an_anonymous_export(name: str) -> None:
    for form, data in anonymous_exports():
        assert not holders(data, name), form
        if re.fullmatch(r"[0-9.]+", name) and name.count(".") == 3:
            assert bytes(map(int, name.split("."))) not in data, form


def test_an_anonymous_message_is_sip_and_names_are_consistent(tmp_path: Path) -> None:
    data = dict(anonymous_exports())["pcap"]
    messages = sip_of(data, tmp_path)
    invite, message = read_sip(messages[0]), read_sip(messages[1])
    assert invite is not None
    assert message is not None
    assert invite.from_user == message.from_user == "user1"
    assert invite.call_id == message.call_id
    assert invite.from_host == message.to_host
    assert invite.from_host.endswith(".invalid")
    for each in messages[:2]:
        head, _, body = each.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"User-Agent: JsSIP 3.10" in head or b"MESSAGE" in head
    assert b"Subject: ***" in messages[0]
    events = json.loads(dict(anonymous_exports())["json"])["messages"]
    assert '"Client": "192.0.2.' in events[2]["text"]
    assert b"m=audio 4000 RTP/AVP 0\r\n" in messages[0]
    assert b"12 bytes left out" in messages[1]


def test_made_up_names_are_none_of_the_call() -> None:
    talk = Talk()
    talk.request("192.0.2.1:1", "192.0.2.9:2", "INVITE", user="user1", to="user2")
    picture = ladder(talk.records, [])
    data = export(
        CallSummary("c", from_user="user1"), VERDICT, picture, talk.records, "text", anonymous=True
    )
    for name in (b"192.0.2.1:", b"192.0.2.9", b"sip:user1@", b"sip:user2@"):
        assert name not in data


def test_words_of_sip_are_no_names_outside_their_places() -> None:
    talk = Talk()
    for user in ("from", "tag", "INVITE", "200", "sip", "5060", "a"):
        talk.request(ALICE, SERVER, "INVITE", user=user, to=user)
    data = written(talk, "json", anonymous=True)
    for message in json.loads(data)["messages"]:
        found = read_sip(message["text"].encode())
        assert found is not None
        assert (found.method, found.cseq, found.from_tag) == ("INVITE", 1, "fa")
        assert found.from_user.startswith("user")


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*.sip")), ids=lambda path: path.stem)
def test_recorded_messages_stay_sip_without_their_names(path: Path) -> None:
    message = path.read_bytes()
    talk = Talk()
    talk.raw(ALICE, SERVER, message)
    before = talk.records[0].sip
    said = json.loads(written(talk, "json", anonymous=True))["messages"][0]["text"]
    after = read_sip(said.encode())
    assert before is not None
    assert after is not None
    assert (after.method, after.status, after.cseq) == (before.method, before.status, before.cseq)
    assert before.from_user not in said
    assert before.from_host not in said
    head, _, body = said.partition("\r\n\r\n")
    assert f"Content-Length: {len(body.encode())}" in head


# Bounds and hostile bytes.


def test_an_export_has_at_most_so_many_messages() -> None:
    talk = Talk()
    for number in range(MOST_MESSAGES + 5):
        talk.request(ALICE, SERVER, "INFO", number)
    said = json.loads(written(talk, "json"))
    assert (len(said["messages"]), said["messages_left_out"]) == (MOST_MESSAGES, 5)


@pytest.mark.parametrize(
    "piece",
    [
        b"sip:", b"a@", b"eyJ", b"sip:a:", b"<", b'"', b"\\", b"Bearer ", b",", b"1.", b":",
        b"a=crypto:", b"x.", b"\r\n ", b"\r\nAuthorization: Digest a=", b"?token=", b"SIP/2.0/",
        b"\n-", b"http://", b"\\n",
    ],
)  # fmt: skip
def test_hostile_messages_take_time_in_proportion(piece: bytes) -> None:
    def seconds(size: int) -> float:
        talk = Talk()
        talk.raw(
            ALICE,
            SERVER,
            b"INVITE sip:x SIP/2.0\r\nCall-ID: a\r\nX: " + piece * (size // len(piece)),
        )
        picture = ladder(talk.records, [])
        started = time.thread_time()
        export(CALL, VERDICT, picture, talk.records, "json", anonymous=True)
        return time.thread_time() - started

    assert seconds(64_000) < 40 * max(seconds(8_000), 0.004)


TEXTS = st.text(max_size=60) | st.sampled_from(
    [*ATTACKS, 'Digest a="', "sip:a:b@c", "end", "%%{", "\r\n"]
)


@st.composite
def calls(draw: st.DrawFn) -> Talk:
    talk = Talk()
    for _ in range(draw(st.integers(0, 5))):
        what = draw(st.integers(0, 4))
        text = draw(TEXTS)
        if what == 0:
            talk.request(
                ALICE, SERVER, "INVITE", user=text or "x", more=[f"X: {text}"], body=draw(TEXTS)
            )
        elif what == 1:
            talk.answer(UP, LEG, f"200 {text}", server=text)
        elif what == 2:
            talk.event(json.dumps({"Event": text, "Ws-Request": text, "Message": draw(TEXTS)}))
        else:
            kind = draw(st.sampled_from(list(Kind)))
            payload = draw(st.binary(max_size=80))
            start = draw(st.sampled_from([b"", b"INVITE sip:a SIP/2.0\r\n", b'{"Event":', b"{"]))
            talk.raw(draw(st.sampled_from([ALICE, "", "x"])), SERVER, start + payload, kind=kind)
    return talk


@given(calls(), st.sampled_from(FORMATS), st.booleans(), TEXTS)
def test_no_packets_raise_and_files_are_well_formed(
    talk: Talk, form: Format, anonymous: bool, text: str
) -> None:
    picture = ladder(talk.records, legs())
    call = CallSummary(text, from_user=text, to_user=text, addresses=[text])
    data = export(
        call, Verdict(text, "ok", [text]), picture, talk.records, form, anonymous=anonymous
    )
    if form == "json":
        json.loads(data)
    elif form == "mermaid":
        assert all(LINE.fullmatch(line) for line in data.decode().splitlines())
    elif form == "html":
        assert "script" not in Page(data.decode()).tags
    elif form == "text":
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", data.decode())
    else:
        at = 24
        while at < len(data):
            at += 16 + struct.unpack_from("<I", data, at + 8)[0]
        assert at == len(data)


@given(st.text(max_size=200))
def test_masking_twice_is_masking_once(text: str) -> None:
    once = text_without_credentials(text)
    assert text_without_credentials(once) == once
