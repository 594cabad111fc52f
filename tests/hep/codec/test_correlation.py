"""Correlation ids that any collector takes, whatever a peer wrote as its Call-ID."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hep.codec.correlation import LONGEST_ID, call_of, identifier


@pytest.mark.parametrize(
    "usual",
    [b"", b"a84b4c76e66710@pc33.atlanta.com", "Grüße@example".encode(), b"x" * LONGEST_ID],
)
def test_what_is_short_and_text_stays_as_it_is(usual: bytes) -> None:
    assert identifier(usual) == usual


def test_what_is_too_long_keeps_its_beginning() -> None:
    found = identifier(b"0123456789" * 1000)
    assert len(found) == LONGEST_ID
    assert found.startswith(b"0123456789" * 22)


def test_long_ones_that_begin_alike_stay_apart() -> None:
    assert identifier(b"x" * 5000 + b"1") != identifier(b"x" * 5000 + b"2")


def test_what_is_no_text_is_escaped_and_stays_apart() -> None:
    nul, written = identifier(b"a\0b"), identifier(rb"a\x00b")
    assert nul.startswith(rb"a\x00b~")
    assert written == rb"a\x00b"
    assert identifier(b"a\xffb").startswith(rb"a\xffb~")


def test_a_character_is_not_cut() -> None:
    assert identifier("ü".encode() * 200).decode().startswith("ü" * 111)


@given(st.binary(max_size=3 * LONGEST_ID))
@example(b"\xc3" * LONGEST_ID)
@example(b"x" * (LONGEST_ID - 1) + "ü".encode())
def test_each_is_bounded_text_without_nul(value: bytes) -> None:
    found = identifier(value)
    assert len(found) <= LONGEST_ID
    assert "\0" not in found.decode()


@given(st.lists(st.binary(min_size=250, max_size=270) | st.binary(max_size=4), unique=True))
def test_different_ones_never_become_one(values: list[bytes]) -> None:
    assert len(set(map(identifier, values))) == len(values)


def test_the_call_id_of_a_captured_message_is_one() -> None:
    assert call_of(b"SIP/2.0 200 OK\r\nCall-ID: a\xffb\r\n\r\n") == identifier(b"a\xffb")
