"""Masking reads in proportion to what was sent: counted in calls, not in time."""

import sys

import pytest

from sipws.masking.credentials import MOST
from sipws.masking.handshakes import Masking


@pytest.mark.parametrize("before", [b"GET /?", b"X: ", b'GET /?x={"token":'])
@pytest.mark.parametrize(
    "unit",
    [
        *(b'":', b'"token":"', b"{a:", b",a:", b"%22%3A", b"Bearer A1b2c3 ", b"Basic ", b"%7Ba%3A"),
        *(b"eyJaaaaaaaaaa+", b'\\"', b"\rX-Api ", b"%25", b"{'token':[", b"&pw=a"),
        b"X-Api-Key a\r\n",
    ],
)
def test_calls_grow_no_faster_than_what_was_sent(before: bytes, unit: bytes) -> None:
    def calls(size: int) -> int:
        masking, counted = Masking(), 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        request = before + unit * (size // len(unit)) + b"\r\n\r\n"
        sys.setprofile(count)
        try:
            masking.handshake(request)
        finally:
            sys.setprofile(None)
        return counted

    assert calls(16_000) <= 4 * calls(4_000) + 40 * MOST
