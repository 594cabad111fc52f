"""The check of JSON against PostgreSQL's answers, and for any text."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.homer.jsonb import MOST_LEVELS, Kind, Member, fault, members

ANSWERS = json.loads((Path(__file__).parents[2] / "data" / "homer-7" / "jsonb.json").read_text())


def test_postgresql_takes_the_same_texts() -> None:
    wrong = [text for text, taken in ANSWERS if (fault(text) is None) is not taken]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "kind", "offset"),
    [
        (r'{"a":"x\u0000"}', Kind.NUL, 7),
        (r'{"\u0000":1}', Kind.NUL, 2),
        (r'"\ud83d"', Kind.SURROGATE, 1),
        (r'"\ude00\ud83d"', Kind.SURROGATE, 1),
        (r'"\ud83d\u0041"', Kind.SURROGATE, 1),
        (r'"\ud83d\ud83d\ude00"', Kind.SURROGATE, 1),
        ('"a\x01"', Kind.CONTROL, 2),
        ('"a\n"', Kind.CONTROL, 2),
        ("[1e131072]", Kind.NUMBER, 1),
        ("[1e-16384]", Kind.NUMBER, 1),
        ("", Kind.SYNTAX, 0),
        (" ", Kind.SYNTAX, 1),
        ('{"a":"b', Kind.SYNTAX, 7),
        ('{"a":1', Kind.SYNTAX, 6),
        ("{'a':1}", Kind.SYNTAX, 1),
        ("WSS:CLOSED", Kind.SYNTAX, 0),
        ("{} {}", Kind.SYNTAX, 3),
        ("\ufeff{}", Kind.SYNTAX, 0),
        ("NaN", Kind.SYNTAX, 0),
        (r'"\x"', Kind.SYNTAX, 1),
        ("[1}", Kind.SYNTAX, 2),
        ('{"a":]', Kind.SYNTAX, 5),
        ("[" * (MOST_LEVELS + 1), Kind.DEPTH, MOST_LEVELS),
    ],
)
def test_a_fault_has_a_kind_and_a_place(text: str, kind: Kind, offset: int) -> None:
    found = fault(text)
    assert found is not None
    assert (found.kind, found.offset) == (kind, offset)


@pytest.mark.parametrize(
    "text",
    [
        r'"\u0001"',
        r'"\\u0000"',
        r'"\\0"',
        r'"\ud83d\ude00"',
        '"\U0001f600\ufffd\x7f"',
        "[1e131071, 1e-16383, -0, 0.5E+3]",
        ' \t\r\n{ "a" : [ ] , "b" : { } } ',
        '{"a":1,"a":2}',
        "null",
        "[" * MOST_LEVELS + "]" * MOST_LEVELS,
        '{"a":' * MOST_LEVELS + "1" + "}" * MOST_LEVELS,
        '"' + "x" * 60_000 + '"',
        "[" + "1," * 30_000 + "1]",
    ],
)
def test_what_jsonb_takes_has_no_fault(text: str) -> None:
    assert fault(text) is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_json_is_taken_unless_it_has_a_nul(value, ascii_only, indent) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    has_nul = r"\u0000" in text.replace(r"\\", "")
    found = fault(text)
    assert (found is not None) is has_nul
    if found is not None:
        assert found.kind is Kind.NUL


@given(st.text() | st.text(alphabet='{}[],:"\\u0dDe18aflnrstuE+-. \t\n\x01\ud83d'))
def test_no_text_raises_and_what_is_taken_is_json(text: str) -> None:
    found = fault(text)
    if found is None:
        json.loads(text)
    else:
        assert 0 <= found.offset <= len(text)
        assert members(text) is None


@given(VALUES, st.data())
def test_a_text_that_is_cut_is_not_taken(value, data) -> None:
    text = json.dumps([value])
    cut = data.draw(st.integers(0, len(text) - 1))
    assert fault(text[:cut]) is not None


def test_members_are_those_of_the_outermost_object() -> None:
    text = r'{"a": "x", "b": {"c": "y"}, "d": [{"e": 1}], "f": 1, "a": "\u0041", "": null}'
    assert members(text) == [
        Member("a", "x"),
        Member("b", None),
        Member("d", None),
        Member("f", None),
        Member("a", r"\u0041"),
        Member("", None),
    ]


@pytest.mark.parametrize("text", ["[]", '["a", {"b": "c"}]', '"a"', "1", "{", '{"a":1}x'])
def test_other_texts_have_no_members(text: str) -> None:
    assert members(text) is None
