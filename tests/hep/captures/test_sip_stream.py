"""SIP in a stream: where a message ends, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.captures.sip_stream import LONGEST_BODY, LONGEST_HEAD, LONGEST_LINE, SipSplitter
from hep.sip import is_sip

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n"
MESSAGE = b"MESSAGE sip:a@b SIP/2.0\r\nCall-ID: 2\r\nl : 7\r\n\r\nHi\r\n\r\nyou"[:-2]
ANSWER = b"SIP/2.0 200 OK\r\ni: 3\r\n\r\n"


@given(st.data())
def test_where_the_stream_is_cut_makes_no_difference(data: st.DataObject) -> None:
    messages = data.draw(st.lists(st.sampled_from([OPTIONS, MESSAGE, ANSWER]), max_size=5))
    between = data.draw(st.sampled_from([b"", b"\r\n\r\n", b"garbage\r\n", b"\0\n"]))
    stream = between.join(messages) + between
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    splitter = SipSplitter()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.feed(stream[start:end])
    assert found == messages
    assert splitter.skipped == (len(between) * len(messages) if between.strip(b"\r\n") else 0) or (
        not messages
    )


def test_each_byte_alone_is_enough() -> None:
    splitter = SipSplitter()
    stream = OPTIONS + b"\r\n\r\n" + MESSAGE + b"what\r\n" + ANSWER
    found = [each for byte in stream for each in splitter.feed(bytes([byte]))]
    assert found == [OPTIONS, MESSAGE, ANSWER]
    assert splitter.skipped == len(b"what\r\n")


@pytest.mark.parametrize(
    "garbage",
    [
        b"x" * (LONGEST_LINE + 1) + b"\n",
        b"OPTIONS sip:a@b SIP/2.0\r\n" + b"A: b\r\n" * (LONGEST_HEAD // 6 + 1) + b"\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: %d\r\n\r\n" % (LONGEST_BODY + 1),
        b"\x16\3\1" + bytes(range(256)) * 100 + b"\n",
    ],
    ids=["line", "header", "body", "binary"],
)
def test_what_is_too_long_is_skipped_and_the_next_message_found(garbage: bytes) -> None:
    for size in (len(garbage) + len(OPTIONS), len(garbage), 1000):
        splitter = SipSplitter()
        found = []
        stream = garbage + OPTIONS
        for at in range(0, len(stream), size):
            found += splitter.feed(stream[at : at + size])
        assert found == [OPTIONS]
        assert splitter.skipped


@given(st.lists(st.binary(max_size=60) | st.sampled_from([OPTIONS, MESSAGE[:30], b"\r\n"])))
def test_no_bytes_are_too_much_for_the_splitter(parts: list[bytes]) -> None:
    splitter = SipSplitter()
    found = [each for part in parts for each in splitter.feed(part)]
    assert all(is_sip(each) for each in found)
    assert splitter.skipped + sum(map(len, found)) <= sum(map(len, parts))
