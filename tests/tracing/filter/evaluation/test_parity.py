"""The rules of OpenSIPS 3.6.8 behind its decisions: NULL, bytes, sockets, URIs and header texts."""

from collections.abc import Callable
from typing import Any

import pytest

from sipws.tracing.filter import Script, Subject
from sipws.tracing.filter.evaluation.subject import Socket

Holds = Callable[..., bool]


def shown(value: str, chain: str) -> str:
    """What ``$(var(x)CHAIN)`` is for a text, as ``xlog`` writes it."""
    written = value.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r")
    text = f'route[f] {{ $var(n) = 1; $var(x) = "{written}"; xlog("$(var(x){chain})"); }}'
    return Script.parse(text).evaluate("f", Subject("::1", 1, "::1", 1)).messages[0][5:]


FAILING = (
    "$(si{s.substr,99,1})", "$(si{s.substr,-99,1})", "$(si{s.select,9,.})", "$(si{s.width,0})",
    "$(si{s.index,zzz})", "$(si{uri.host})", "$(si{ip.matches,::1/128})", "$(si{ip.family})",
    "$(si{ip.ntop})", "$(var(l){csv.value,2})", "$(var(l){csv.value,-3})", "$(var(bad){csv.count})",
    "$(var(l){param.value,x})", "$(var(p){param.valueat,9})", "$(si{s.decode.hexa})",
    "$(var(q){s.unescape.user})", "$(si{s.dec2hex})", "$(si{nameaddr.2.uri})", "$(si{via.host})",
    "$(si{sdp.line,v})", "$(avp(no)[0])", "$avp($var(none))", "$param($var(none))",
    "$(si{s.substr,$var(none),1})", "$(si{s.hex2dec})",
)  # fmt: skip


@pytest.mark.parametrize("failing", FAILING)
def test_what_cannot_be_transformed_is_null(holds: Holds, failing: str) -> None:
    before = '$var(l) = "a,b"; $var(p) = "a=1"; $var(q) = "a%zz"; $var(bad) = "a,\\"b";'
    before += '$var(r) = "old";'
    assert holds(f"{failing} == NULL", before)
    assert holds(f'{failing} != "x"', before)
    assert holds(f"{failing} != 5", before)
    assert holds(f'{failing} !~ "x"', before)
    assert holds(f"{failing} != 10.0.0.0/8", before)
    assert not holds(f'{failing} == "x"', before)
    assert holds(f'{failing} == "x" || $sp == 8000', before)
    assert holds(f"!({failing})", before)
    assert holds("$var(r) == NULL", f"{before} $var(r) = {failing};")
    assert holds('$var(r) == "a"', f'{before} $var(r) = "a" + {failing};')
    assert not holds(f"{failing} == {failing} && $var(r) == NULL", before)


def test_a_change_of_null_and_with_null_is_not_done(holds: Holds) -> None:
    assert holds('$var(r) == "old"', '$var(r) = "old"; $var(r) += $(si{s.substr,99,1});')


@pytest.mark.parametrize(
    ("condition", "before"),
    [
        ('$(var(x){s.len}) == 4 && $(var(x){s.substr,3,1}) == "c"', '$var(x) = "aéc";'),
        ('$(var(x){s.select,1,b}) == "é"', '$var(x) = "abé";'),
        ("$(var(x){s.index,c}) == 3", '$var(x) = "aéc";'),
        ("$(var(x){s.width,2}{s.len}) == 2", '$var(x) = "éé";'),
        ('$(var(x){s.reverse}{s.reverse}) == "aéc"', '$var(x) = "aéc";'),
        ('$var(x) == "\\xc3\\xa9"', '$var(x) = "é";'),
        ('$(var(x){s.decode.hexa}) == "é"', '$var(x) = "c3a9";'),
        ('$(var(x){s.encode.hexa}) == "c3a9"', '$var(x) = "é";'),
        ('$(var(x){s.toupper}) == "éB" && $(var(x){s.toupper}{s.len}) == 3', '$var(x) = "éb";'),
        ('$var(x) != "É"', '$var(x) = "é";'),
        ('$var(x) =~ "^a..c$" && $var(x) !~ "^a.c$"', '$var(x) = "aéc";'),
        ('$var(x) !~ "^\\w+$" && $var(x) =~ "^\\W+$"', '$var(x) = "é";'),
        ('$(socket_in(tag){s.len}) == 6 && $socket_in(tag) == "größe" || 1', ""),
        ('$avp(é) == 1 && $avp($var(n)) == 1', '$avp(é) = 1; $var(n) = "é";'),
        ('$(var(x){ip.pton}{s.len}) == 16', '$var(x) = "fe80::ff";'),
    ],
)  # fmt: skip
def test_texts_are_bytes(holds: Holds, condition: str, before: str) -> None:
    assert holds(condition, before)


def test_a_text_is_readable_in_logs() -> None:
    script = Script.parse('route[f] { $avp(a) = "größe"; xlog("é $avp(a) $socket_in(tag)"); }')
    found = script.evaluate("f", Subject("::1", 1, "::1", 1, tag="süd"))
    assert found.messages == ("ERR: é größe süd",)


@pytest.mark.parametrize(
    ("value", "chain", "result"),
    [
        # The integer of a text.
        ("-17abc", "{s.int}", "-17"),
        ("+17", "{s.int}", "17"),
        ("4294967297", "{s.int}", "1"),
        ("-" + "9" * 40, "{s.dec2hex}", "1"),
        ("ffffffff", "{s.hex2dec}", "-1"),
        ("1" + "00000001", "{s.hex2dec}", "1"),
        ("xyz", "{s.hex2dec}", "<null>"),
        ("127.0.0.2", "{s.crc32}{s.int}", "-1321121299"),
        ("", "{s.int}", "0"),
        ("Thu, 01 Jan 1970 00:01:00 GMT", "{s.date2unix}", "60"),
        ("no date", "{s.date2unix}", "<null>"),
        ("YW Jj=", "{s.b64decode}", "abc"),
        ("YWI=xx", "{s.b64decode}", "ab"),
        ("a\tb", "{s.escape.param}", "<null>"),
        ("%00", "{s.unescape.param}", "<null>"),
        ("ÉA", "{s.tolower}{s.encode.hexa}", "c38961"),
        ("éa", "{s.toupper}{s.encode.hexa}", "c3a941"),
        # Fields with quotes.
        ('"a,b",c', "{csv.count}", "2"),
        ('"a ""b""",c', "{csv.value,0}", 'a "b"'),
        ('a, "b",c', "{csv.value,1}", ' "b"'),
        ("a,", "{csv.count}", "2"),
        ('"a",', "{csv.count}", "1"),
        ('"a"b', "{csv.count}", "<null>"),
        ("a,é", "{csv.count}", "<null>"),
        # Parameters with quotes.
        ('a="x;y=z";b', "{param.count}", "2"),
        ('a="x;y=z";b', "{param.value,A}", "x;y=z"),
        ("a = 1 ; b = 2", "{param.value,b}", "2"),
        ("a;", "{param.count}", "<null>"),
        ("a=", "{param.count}", "<null>"),
        ("a=1;b=2", "{param.exists,B}", "1"),
        ("a=1,b=2", "{param.count}", "1"),
        ("a=1;b=2", "{param.name,-2}", "a"),
        # URIs.
        ("tel:+1;x=2", "{uri.user}", "+1"),
        ("sip:a@b;lr=on", "{uri.lr}", "on"),
        ("sip:a@b;lr", "{uri.lr}", "<null>"),
        ("sip:a@b;lr", "{uri.param,lr}", ""),
        ("sips:a@b", "{uri.schema}", "sips"),
        ("sip:a;x=1@b", "{uri.user}", "a;x=1"),
        ("sip:a:b:c@d", "{uri.user}", "<null>"),
        ("sip:a@b:99999", "{uri.host}", "<null>"),
        ("sip:a@b@c", "{uri.host}", "<null>"),
        ("sip:[2001:db8::1]:5060;transport=WSS", "{uri.host}", "[2001:db8::1]"),
        ("sip:h:5060", "{uri.port}", "5060"),
        ("sip:h;transport=ws?a=b&c=d", "{uri.headers}", "a=b&c=d"),
        ("sip:h?a=b;c", "{uri.host}", "<null>"),
        ("http://h", "{uri.host}", "<null>"),
        ("SIP:h", "{uri.host}", "h"),
        ("urn:service:sos", "{uri.host}", "sos"),
        # Header texts.
        ('"Al" <sip:a@h>;tag=9', "{nameaddr.name}", '"Al"'),
        ("Al B  <sip:a@h>", "{nameaddr.name}", "Al B"),
        ("<sip:a@h;x>;tag=9", "{nameaddr.uri}", "sip:a@h;x"),
        ("sip:a@h;tag=9;b", "{nameaddr.uri}", "sip:a@h"),
        ("sip:a@h;tag=9;b", "{nameaddr.params}", "tag=9;b"),
        ('<sip:a@h>;x="y;z"', "{nameaddr.params}", 'x="y;z"'),
        ('<sip:a@h>;x="y;z"', "{nameaddr.param,x}", "y;z"),
        ("<sip:a@h>;X=1", "{nameaddr.param,x}", "<null>"),
        ("<sip:a@h>, <sip:b@h>;q=1", "{nameaddr.1.uri}", "sip:b@h"),
        ("<sip:a@h>, <sip:b@h>;q=1", "{nameaddr.$var(n).param,q}", "1"),
        ("<sip:a@h>, <sip:b@h>;q=1", "{nameaddr.-2.uri}", "sip:a@h"),
        ("<sip:a@h>, <sip:b@h>", "{nameaddr.2.uri}", "<null>"),
        # OpenSIPS counts the end of the line that it adds, unless parameters follow.
        ("<sip:a@h>", "{nameaddr.len}", "11"),
        ("<sip:a@h> ;q=1", "{nameaddr.len}", "10"),
        ("<sip:a@h>, <sip:b@h>", "{nameaddr.0.len}", "0"),
        ("<sip:a@h", "{nameaddr.uri}", "<null>"),
        ("<sip:a@h>;tag", "{nameaddr.uri}", "<null>"),
        ("SIP/2.0/WSS h.invalid;branch=z9;rport", "{via.transport}", "WSS"),
        ("SIP/2.0/WSS h.invalid;branch=z9;rport", "{via.params}", "branch=z9;rport"),
        ("SIP / 2.0 / UDP [::1]:5060 ;received=1.2.3.4 (x)", "{via.host}", "[::1]"),
        ("SIP / 2.0 / UDP [::1]:5060 ;received=1.2.3.4 (x)", "{via.received}", "1.2.3.4"),
        ("SIP / 2.0 / UDP [::1]:5060 ;received=1.2.3.4 (x)", "{via.comment}", "x"),
        ("SIP/2.0/UDP h;rport", "{via.rport}", "<null>"),
        ("SIP/2.0/UDP h;rport", "{via.param,rport}", ""),
        ("SIP/2.0/UDP h;branch", "{via.host}", "<null>"),
        ("SIP/3.0/UDP h", "{via.host}", "<null>"),
        ("v=0\r\na=x\r\na=y\r\n", "{sdp.line,a}", "a=x"),
        ("v=0\r\na=x\r\na=y\r\n", "{sdp.line,a,1}", "a=y"),
        ("v=0\r\na=x\r\na=y\r\n", "{sdp.line,a,2}", "<null>"),
        # Addresses.
        ("127.1.2.3", "{ip.isprivate}", "1"),
        ("192.0.0.7", "{ip.isprivate}", "1"),
        ("192.0.0.8", "{ip.isprivate}", "0"),
        ("fd00::1", "{ip.isprivate}", "0"),
        ("2001:db8::aB", "{ip.pton}{ip.ntop}", "2001:DB8:0:0:0:0:0:AB"),
    ],
)
def test_a_transformation_follows_the_rules(value: str, chain: str, result: str) -> None:
    assert shown(value, chain) == result


SDP = (
    "v=0\\r\\no=- 1 1 IN IP4 192.0.2.1\\r\\ns=-\\r\\nc=IN IP4 192.0.2.1\\r\\nt=0 0\\r\\n"
    "m=audio 4000 RTP/AVP 0\\r\\na=x\\r\\nm=video 4002 RTP/AVP 99\\r\\n"
)


@pytest.mark.parametrize(
    ("chain", "begin"),
    [
        ("{sdp.stream,0}", "m=audio 4000"),
        ("{sdp.stream,-1}", "m=video"),
        ("{sdp.stream,VIDEO}", "m=video"),
        ("{sdp.stream,$var(n)}", "m=video"),
        ("{sdp.stream-delete,audio}{sdp.line,m}", "m=video"),
        ("{sdp.stream-delete,1}{sdp.line,m,0}", "m=audio"),
    ],
)
def test_streams_of_a_session_description(holds: Holds, chain: str, begin: str) -> None:
    before = f'$var(n) = 1; $var(x) = "{SDP}";'
    assert holds(f'$(var(x){chain}) =~ "^{begin}"', before)
    assert holds("$(var(x){sdp.stream,2}) == NULL && $(var(x){sdp.stream,text}) == NULL", before)


EDGE: dict[str, Any] = {"tag": "edge", "advertised_ip": "203.0.113.1", "advertised_port": 443}


@pytest.mark.parametrize(
    "field", ["ip", "port", "proto", "tag", "af", "anycast", "advertised_ip", "advertised_port"]
)
def test_the_socket_out_is_the_socket_in_until_it_is_forced(holds: Holds, field: str) -> None:
    for values in ({}, EDGE, {"socket_ip": "2001:db8::1"}):
        assert holds(f"$socket_out({field}) == $socket_in({field})", **values)
    assert holds("$socket_out == $socket_in && $socket_out(forced) == NULL", **EDGE)


def forced(body: str) -> bool:
    others = [("10.0.0.2", 80), Socket("2001:db8::7", 443, "wss", "six", "203.0.113.7", 8443)]
    decide = Script.parse(f"route[f] {{ {body} drop; }}").decider("f", others)
    return decide(Subject("192.0.2.5", 8000, "10.0.0.1", 5060, tag="edge"))


@pytest.mark.parametrize(
    ("socket", "condition"),
    [
        ('"ws:10.0.0.2:80"', '$socket_out(port) == 80 && $socket_out == "ws:10.0.0.2:80"'),
        ('"10.0.0.2:80"', '$socket_out(forced) == "ws:10.0.0.2:80"'),
        ('"10.0.0.2"', "$socket_out(ip) == 10.0.0.2"),
        ('"WSS:[2001:DB8::7]:443"', '$socket_out(tag) == "six" && $socket_out(af) == "INET6"'),
        ('"wss:[2001:db8::7]"', "$socket_out(advertised_port) == 8443"),
        ('"ws:10.0.0.1:5060"', '$socket_out(tag) == "edge" && $socket_out(forced) != NULL'),
        ('"ws:10.0.0.9:80"', "$socket_out(port) == 5060 && $socket_out(forced) == NULL"),
        ('"wss:10.0.0.2:80"', "$socket_out(forced) == NULL"),
        ('"ws:10.0.0.2:81"', "$socket_out(forced) == NULL"),
        ('"udp:10.0.0.2:80"', "$socket_out(forced) == NULL"),
        ('"no socket"', "$socket_out(forced) == NULL"),
    ],
)
def test_an_assignment_forces_a_socket_that_exists(socket: str, condition: str) -> None:
    assert forced(f"$socket_out = {socket}; if ($rc == 1 && {condition}) exit;")


def test_a_forced_socket_is_released_by_null() -> None:
    set_ = '$socket_out = "10.0.0.2:80";'
    assert forced(f"{set_} $socket_out = NULL; if ($socket_out(port) == 5060) exit;")
    assert forced(f'{set_} $socket_out = ""; if ($rc == -1 && $socket_out(port) == 80) exit;')
    assert forced('if (force_send_socket("ws:10.0.0.2:80") && $socket_out(port) == 80) exit;')
    assert forced('if (!force_send_socket("ws:10.0.0.9:80")) exit;')


@pytest.mark.parametrize(
    ("before", "condition"),
    [
        ("", '$ru == "sip:user@dummy.com" && $rU == "user" && $rp == 5060 && $rP == "udp"'),
        ('$ru = "sip:x@h:99;transport=ws";', '$rU == "x" && $rd == "h" && $rp == 99'),
        ('$ru = "sip:x@h;transport=wss";', '$rp == 443 && $rP == "wss"'),
        ('$ru = "sips:h";', '$rU == NULL && $rP == "tls" && $rp == 5061'),
        ('$ru = "no uri";', "$ru == NULL && $rd == NULL"),
        ('$ru = "sip:x@h"; $ru = "";', '$ru == "sip:user@dummy.com"'),
        ("$ru = NULL;", "$rc == -1"),
        ('$rU = "bob";', '$ru == "sip:bob@dummy.com"'),
        ("$rU = NULL;", '$ru == "sip:dummy.com" && $rU == NULL'),
        ('$rd = "h";', '$ru == "sip:user@h"'),
        ("$rd = NULL;", "$rc == -1"),
        ("$rp = 99;", '$ru == "sip:user@dummy.com:99"'),
        ('$ru = "sip:u:p@h:1;maddr=m;x=1?a=b"; $rd = "k";', '$ru == "sip:u:p@k:1;x=1?a=b"'),
        ('prefix("00");', '$rU == "00user" && $ru == "sip:00user@dummy.com"'),
        ("strip(2);", '$rU == "er"'),
        ("strip(9);", "$rU == NULL"),
        ("strip_tail(1);", '$rU == "use"'),
        ('sethostport("h:7");', '$rd == "h" && $rp == 7'),
        ('setport("9");', "$rp == 9"),
        ('setuserpass("a:b");', '$ru == "sip:a:b@dummy.com"'),
        ('seturi("sip:z@$si"); prefix("+");', '$ru == "sip:+z@192.0.2.5"'),
        ('setuser("x"); revert_uri();', '$rU == "user"'),
        ("$ru_q = 2000;", "$ru_q == 1000"),
        ('$ru_q = 500; $ru = "sip:x";', "$ru_q == -1"),
        ("", "$du == NULL && $dd == NULL && $dP == NULL"),
        (
            '$du = "sip:1.2.3.4:5062;transport=ws";',
            '$dd == "1.2.3.4" && $dp == 5062 && $dP == "ws"',
        ),
        ('$du = "sip:h";', '$dp == 5060 && $dP == "udp" && isdsturiset()'),
        ('$du = "sip:h"; $du = NULL;', "$du == NULL && !isdsturiset()"),
        ('$dd = "h";', "$rc == -1 && $du == NULL"),
        ('$du = "sip:h"; $dd = "k"; $dp = 7;', '$du == "sip:k:7"'),
        ('setdsturi("sip:$si"); ', '$du == "sip:192.0.2.5" && $duri == $du'),
        ('setdsturi("sip:h"); resetdsturi();', "$du == NULL"),
    ],
)
def test_the_uris_follow_what_is_assigned(holds: Holds, before: str, condition: str) -> None:
    assert holds(condition, before)


@pytest.mark.parametrize(
    ("before", "condition"),
    [
        ("$msg.flag(X) = 1;", '$msg.flag(X) && $msg.flag(X) == "true" && isflagset("X")'),
        ("$msg.flag(X) = 1; $msg.flag(X) = 0;", '!$msg.flag(X) && $msg.flag(X) == "false"'),
        ('setflag("X");', "$msg.flag(X) == 1 && $msg.flag(Y) == 0"),
        ('setflag("X");', '!isbflagset("X")'),
        ('setflag("X"); setflag("Y"); setbflag("Z");', '$mf == "Y X" && $bf == "Z"'),
        ('setflag("X"); resetflag("X");', '$mf == ""'),
        (
            'construct_uri("sip", "u", "$si", "5060", "x=1", $avp(u));',
            '$avp(u) == "sip:u@192.0.2.5:5060;x=1"',
        ),
        ('construct_uri("sip", , "h", , , $avp(u));', '$avp(u) == "sip:h"'),
        ("", '!cache_store("local", "a", "b") && !send("192.0.2.1") && !forward()'),
        ('$msg.flag(X) = "1";', "$rc == -1 && !$msg.flag(X)"),
        ("$xlog_level = 4;", "$xlog_level == 4"),
        ("$xlog_level = 4; $xlog_level = NULL;", "$xlog_level == 2"),
        ('$xlog_level = "x";', "$rc == -1"),
        ("$log_level = 1;", "$log_level == 1"),
        ("", '$xlog_level == 2 && $log_level == 3 && $msg.type == "request"'),
    ],
)
def test_flags_and_levels(holds: Holds, before: str, condition: str) -> None:
    assert holds(condition, before)


@pytest.mark.parametrize(
    "chain", ["{nameaddr.uri}", "{via.host}", "{sdp.stream,0}", "{csv.count}", "{param.count}"]
)
@pytest.mark.parametrize("part", ["a,", ";a=1", "<", '"', "m=a ", "(", " ", "\\\\", "o=IN ", ":"])
def test_a_long_text_is_transformed_in_linear_time(chain: str, part: str) -> None:
    script = Script.parse(f"route[f] {{ $var(y) = $(socket_in(tag){chain}); drop; }}")
    tag = part * (60_000 // len(part))
    found = script.evaluate("f", Subject("::1", 1, "::1", 1, tag=tag))
    assert not found.traced
