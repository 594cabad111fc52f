"""Dumps of packets as other programs write them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.cli.dump import LONGEST_REPEAT, DumpReader, PlainReader, is_dump, is_plain


def packets(text: bytes, size: int = 7) -> list[bytes]:
    """The packets of a dump that comes in pieces."""
    reader, found, current = DumpReader(), [], b""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for part in [*(part for each in pieces for part in reader.feed(each)), *reader.finish()]:
        if part:
            current += part
        else:
            found.append(current)
            current = b""
    assert not current
    return found


def shown(char: int) -> str:
    return chr(char) if 32 <= char < 127 else "."


def dump(data: bytes, style: str) -> bytes:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(map(shown, row))
        pairs = " ".join(row[each : each + 2].hex() for each in range(0, len(row), 2))
        lines.append(
            {
                "xxd": f"{at:08x}: {pairs:<39}  {text}",
                "hexdump -C": f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|",
                "od": f"{at:06x} {row.hex(' ')}",
                "tcpdump": f"\t0x{at:04x}:  {pairs:<39}  {text}",
                "wireshark": f"{at:04x}  {row.hex(' '):<47}   {text}",
            }[style]
        )
    if style in ("hexdump -C", "od"):
        lines.append(f"{len(data):0{8 if style == 'hexdump -C' else 6}x}")
    return "\n".join(lines).encode() + b"\n"


STYLES = ["xxd", "hexdump -C", "od", "tcpdump", "wireshark"]
LIKE_DIGITS = st.binary(max_size=100) | st.text("0123456789abcdef ", max_size=100).map(str.encode)


@pytest.mark.parametrize("style", STYLES)
@given(LIKE_DIGITS.filter(bool), st.integers(1, 40))
def test_it_makes_no_difference_how_bytes_are_dumped(style: str, data: bytes, size: int) -> None:
    text = dump(data, style)
    assert is_dump(text)
    assert packets(text, size) == [data]
    assert packets(text.replace(b"\n", b"\r\n"), size) == [data]


@pytest.mark.parametrize("style", STYLES)
def test_several_packets_start_at_offset_0(style: str) -> None:
    text = b"12:00:00 IP 1.2.3.4.5060 > x: SIP\n" + dump(b"abc", style) + b"\nFrame 2:\n"
    assert packets(text + dump(b"d" * 50, style)) == [b"abc", b"d" * 50]


def test_a_star_stands_for_rows_like_the_one_before() -> None:
    text = b"00000000  61 61 61 61 61 61 61 61  61 61 61 61 61 61 61 61  |aaaaaaaaaaaaaaaa|\n*\n"
    assert packets(text + b"00000030  62  |b|\n00000031\n") == [b"a" * 48 + b"b"]
    with pytest.raises(hep.HepError, match="line 3: a \\* stands for"):
        packets(text + b"%08x\n" % (LONGEST_REPEAT + 17))


def test_characters_like_digits_behind_a_row_of_eight_bytes_are_none_of_it() -> None:
    text = b"0000  31 32 33 34 35 36 37 38  12345678\n0008  39 30            90\n"
    assert packets(text) == [b"1234567890"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0000  61 62\n0010  63\n", "line 2: offset 0x10 does not follow a row of 2 bytes at 0x0"),
        (b"0000  " + b"61 " * 40_000, "line 1: longer than"),
    ],
)
def test_a_dump_with_a_hole_raises(text: bytes, message: str) -> None:
    with pytest.raises(hep.HepError, match=message):
        packets(text, 1000)


@pytest.mark.parametrize("command", [["xxd"], ["hexdump", "-C"], ["od", "-A", "x", "-t", "x1"]])
def test_what_programs_write_is_read(command: list[str], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is missing")
    data = bytes(range(256)) + bytes(200) + b"end"
    (tmp_path / "x").write_bytes(data)
    text = subprocess.run([*command, str(tmp_path / "x")], capture_output=True, check=True).stdout
    assert packets(text) == [data]


@given(st.binary(max_size=100), st.integers(1, 30))
def test_plain_digits_may_have_any_white_space(data: bytes, size: int) -> None:
    text = data.hex(" ", 3).replace(" ", "\n \t").encode() + b"\n"
    reader = PlainReader()
    found = b"".join(reader.feed(text[at : at + size]) for at in range(0, len(text), size))
    reader.finish()
    assert found == data


def test_plain_digits_that_are_none_raise() -> None:
    reader = PlainReader()
    reader.feed(b"61")
    with pytest.raises(hep.HepError, match="after 2 characters: not a hexadecimal digit"):
        reader.feed(b"6x")
    reader = PlainReader()
    reader.feed(b"616")
    with pytest.raises(hep.HepError, match="odd number of digits"):
        reader.finish()


def test_formats_are_told_apart() -> None:
    assert is_plain(b"4845 5033\n")
    assert not is_plain(b"")
    assert not is_plain(b"HEP3")
    assert not is_dump(b"4845 5033\n")
    assert not is_dump(b"HEP3\0\0\n0000 61")
    assert is_dump(b"some text\n0000  61 62")


@given(st.binary(max_size=200) | st.text("0123abcdef: *\n\t|", max_size=200).map(str.encode))
def test_no_text_is_too_much(text: bytes) -> None:
    try:
        found = packets(text)
    except hep.HepError:
        return
    assert sum(map(len, found)) <= len(text) + text.count(b"*") * LONGEST_REPEAT
