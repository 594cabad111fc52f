"""TOML files of the user, read in time linear in their length."""

import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.config import toml
from sipws.config.toml import LARGEST_FILE, MOST_PARTS, load_toml
from sipws.errors import ConfigurationError


def key(parts: int) -> str:
    return ".".join(["a"] * parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sipws.toml"


@pytest.mark.parametrize("parts", [MOST_PARTS + 1, 50_000])
@pytest.mark.parametrize(
    "written",
    ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "\"q\" . 'r' .{} = 1", "x = [{{{} = 1}}]"],
)
def test_a_key_of_too_many_parts_is_refused_with_its_line(
    path: Path, parts: int, written: str
) -> None:
    path.write_text("# first\n" + written.format(key(parts)))
    with pytest.raises(ConfigurationError) as refused:
        load_toml(path)
    assert str(refused.value) == (
        f"{path}: line 2: a key has more than {MOST_PARTS} parts; write it as 'section.setting'"
    )


@pytest.mark.parametrize(
    "written",
    [
        f"{key(MOST_PARTS)} = 1",
        f'x = "{key(100)}"',
        f"x = '{key(100)}'",
        f'x = """{key(100)}"""',
        f"x = '''\n{key(100)}\n'''",
        f'x = "\\" {key(100)}"',
        f"x = 1 # {key(100)}",
        "x = [" + "1.0, " * 100 + "]",
        "x = 1.5\n" * 1 + "y.z = 07:32:00.999",
    ],
)
def test_dots_elsewhere_are_no_parts_of_a_key(path: Path, written: str) -> None:
    path.write_text(written)
    assert load_toml(path) == tomllib.loads(written)


def test_a_file_that_is_no_configuration_by_its_size_is_refused(path: Path) -> None:
    path.write_text("#" * LARGEST_FILE)
    assert load_toml(path) == {}
    path.write_text("#" * (LARGEST_FILE + 1))
    with pytest.raises(ConfigurationError, match="more than 1048576 bytes"):
        load_toml(path)


TEXTS = st.text(st.sampled_from("a.\"'\\\n#=[]{} ,1\r-_é"), max_size=60)


@given(TEXTS | st.text())
def test_a_text_is_read_as_tomllib_does_or_refused(text: str) -> None:
    try:
        tomllib.loads(text)
    except ValueError:
        return
    assert toml.line_of_long_key(text) is None or text.count(".") >= MOST_PARTS


@pytest.mark.parametrize("unit", ['\n\\"""', '"""', "'''", '"', "'", '\\"', "a.", ". ", '"a"', "#"])
def test_steps_grow_no_faster_than_the_text(unit: str) -> None:
    def lines(size: int) -> int:
        counted = 0

        def count(*_: object) -> object:
            nonlocal counted
            counted += 1
            return count

        before = sys.gettrace()
        sys.settrace(count)  # type: ignore[arg-type]
        try:
            toml.line_of_long_key('"""' + unit * (size // len(unit)))
        finally:
            sys.settrace(before)
        return counted

    assert lines(16_000) <= 4 * lines(4_000) + 100
