"""``{…}``: what each makes of a value."""

import pytest

from sipws.tracing.filter import Script, Subject


def transformed(value: str, chain: str) -> str:
    """What ``$(var(x)CHAIN)`` is, as ``xlog`` writes it."""
    text = f'route[f] {{ $var(n) = 2; $var(x) = {value}; xlog("$(var(x){chain})"); }}'
    return Script.parse(text).evaluate("f", Subject("::1", 1, "::1", 1)).messages[0][5:]


@pytest.mark.parametrize(
    ("value", "chain", "result"),
    [
        ('"abc"', "{s.len}", "3"),
        ("1234", "{s.len}", "4"),
        ('"abc"', "{S.TOUPPER}", "ABC"),
        ('"ABC"', "{s.tolower}{s.reverse}", "cba"),
        ('"abcdef"', "{s.substr,1,2}", "bc"),
        ('"abcdef"', "{s.substr,-2,0}", "ef"),
        ('"abcdef"', "{s.substr,1,-2}", "bcd"),
        ('"abcdef"', "{s.substr,$var(n),9}", "cdef"),
        ('"abc"', "{s.substr,3,1}", "<null>"),
        ('"a,b,c"', "{s.select,1,,}", "b"),
        ('"a.b.c"', "{s.select,-1,.}", "c"),
        ('"a.b.c"', "{s.select,3,.}", "<null>"),
        ('"abcabc"', "{s.index,c}", "2"),
        ('"abcabc"', "{s.index,c,3}", "5"),
        ('"abcabc"', "{s.index,a,-2}", "<null>"),
        ('"abcabc"', "{s.rindex,b}", "4"),
        ('"abcabc"', "{s.rindex,b,3}", "1"),
        ('"abc"', "{s.index,x}", "<null>"),
        ('"ab"', "{s.fill.left,0,5}", "000ab"),
        ('"ab"', "{s.fill.right,xyz,6}", "abxyzx"),
        ('"ab"', "{s.fill.left,xyz,6}", "zxyzab"),
        ('"abc"', "{s.width,2}", "ab"),
        ('"abc"', "{s.width,5}", "abc  "),
        ('" a "', "{s.trim}", "a"),
        ('" a "', "{s.trimr}", " a"),
        ('" a "', "{s.triml}", "a "),
        ('"abc"', "{s.md5}", "900150983cd24fb0d6963f7d28e17f72"),
        ('"abc"', "{s.sha1}", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ('"abc"', "{s.sha1_hmac,k}", "f9bef091fe00d9f5128593836dba99e193f08174"),
        ('"abc"', "{s.crc32}", "3403398717"),
        ('"abc"', "{s.b64encode}", "YWJj"),
        ('"YWJj"', "{s.b64decode}", "abc"),
        ('"abc"', "{s.encode.hexa}", "616263"),
        ('"616263"', "{s.decode.hexa}", "abc"),
        ('"61x"', "{s.decode.hexa}", "a"),
        ('"xx"', "{s.decode.hexa}", "<null>"),
        ('"ff"', "{s.hex2dec}", "255"),
        ("255", "{s.dec2hex}", "ff"),
        ('"-12ab"', "{s.int}", "-12"),
        ('"sip:joe:secret@example.com:5062;transport=ws;lr?a=b"', "{uri.user}", "joe"),
        ('"sip:joe:secret@example.com:5062;transport=ws;lr?a=b"', "{uri.host}{s.len}", "11"),
        ('"sip:joe:secret@example.com:5062;transport=ws;lr?a=b"', "{uri.port}", "5062"),
        ('"sip:joe:secret@example.com:5062;transport=ws;lr?a=b"', "{uri.transport}", "ws"),
        ('"sip:joe:secret@example.com:5062;transport=ws;lr?a=b"', "{uri.headers}", "a=b"),
        ('"sip:[::1]"', "{uri.domain}", "[::1]"),
        ('"sip:example.com"', "{uri.port}", "<null>"),
        ('"sip:a;x=1"', "{uri.param,X}", "1"),
        ('"no uri"', "{uri.user}", "<null>"),
        ('"a b&"', "{s.escape.param}", "a%20b&"),
        ('"a%20b"', "{s.unescape.user}", "a b"),
        ('"a%2"', "{s.unescape.user}", "<null>"),
        ('"abc"', "{s.xor,abc}{s.encode.hexa}", "000000"),
        ('"127.0.0.1"', "{ip.isip}", "1"),
        ('"127.0.0.1"', "{ip.isip6}", "0"),
        ('"[::1]"', "{ip.isip6}", "1"),
        ('"127.0.0.256"', "{ip.isip4}", "0"),
        ('"127.0.0.1"', "{ip.pton}{s.encode.hexa}", "7f000001"),
        ('"::1"', "{ip.pton}{ip.ntop}", "0:0:0:0:0:0:0:1"),
        ('"127.0.0.1"', "{ip.pton}{ip.family}", "INET"),
        ('"127.0.0.1"', "{ip.family}", "<null>"),
        ('"127.0.0.1"', "{ip.resolve}", "127.0.0.1"),
        ('"example.com"', "{ip.resolve}", "<null>"),
        ('"10.9.8.7"', "{ip.isprivate}", "1"),
        ('"192.0.2.1"', "{ip.isprivate}", "0"),
        ('"10.9.8.7"', "{ip.matches,10.0.0.0/8}", "1"),
        ('"11.9.8.7"', "{ip.matches,10.0.0.0/8}", "0"),
        ('"::1"', "{ip.matches,10.0.0.0/8}", "<null>"),
        ('"10.9.8.7"', "{ip.matches,10.0.0.0}", "<null>"),
        ('"a,b,c"', "{csv.count}", "3"),
        ('"a,b,c"', "{csv.value,-1}", "c"),
        ('"a,b,c"', "{csv.value,3}", "<null>"),
        ('"a=1;b=2"', "{param.value,B}", "2"),
        ('"a=1;b=2"', "{param.exist,c}", "0"),
        ('"a=1;b=2"', "{param.count}", "2"),
        ('"a=1;b=2"', "{param.valueat,1}", "2"),
        ('"a=1;b=2"', "{param.name,0}", "a"),
        ("$var(none)", "{s.len}", "<null>"),
        ('""', "{s.len}", "0"),
        ('""', "{ip.isip}", "<null>"),
    ],
    ids=lambda part: part,
)
def test_a_transformation_gives_its_value(value: str, chain: str, result: str) -> None:
    assert transformed(value, chain) == result


@pytest.mark.parametrize(
    ("text", "number"), [("-12", -12), ("-12ab", -12), ("+7", 7), ("ab", 0), ("", 0)]
)
def test_a_text_is_read_as_a_number_as_far_as_it_is_one(text: str, number: int) -> None:
    script = Script.parse(
        f'route[f] {{ $var(x) = "{text}"; if ($(var(x){{s.int}}) == {number}) drop; }}'
    )
    assert script.decider("f")(Subject("192.0.2.5", 1, "10.0.0.1", 80)) is False


def test_a_number_that_was_read_from_a_text_keeps_the_text() -> None:
    script = Script.parse(
        'route[f] { if ($(si{s.int}) == 192 && $(si{s.int}) == "192.0.2.5") drop; }'
    )
    assert script.decider("f")(Subject("192.0.2.5", 1, "10.0.0.1", 80)) is False
