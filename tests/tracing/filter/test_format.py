"""``sipws filter fmt``: indentation changes, and nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.tracing.filter import FilterRouteError, Script
from sipws.tracing.filter.format import formatted
from sipws.tracing.filter.syntax.lexer import pieces

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8"
SCRIPTS = [
    case["script"]
    for name in ("filter_routes.json", "filter_routes_2.json")
    for case in json.loads((GOLDEN / name).read_text())["scripts"].values()
]

UNTIDY = """\
#  my filter
  modparam("proto_ws",
"trace_on", 1)


route[ws_filter] {   \n
if ($si == 10.0.0.0/8
&& $sp == 80) {  # office
\t\t\tdrop;
  } else
exit;
  /* a
   comment { */
switch ($sp) {
case 80:
drop;
default:
xlog("two
   lines {");
}
}



route[b] { exit; }

"""

TIDY = """\
#  my filter
modparam("proto_ws",
    "trace_on", 1)

route[ws_filter] {

    if ($si == 10.0.0.0/8
        && $sp == 80) {  # office
        drop;
    } else
        exit;
    /* a
   comment { */
    switch ($sp) {
        case 80:
            drop;
        default:
            xlog("two
   lines {");
    }
}

route[b] { exit; }
"""


def test_a_script_is_indented() -> None:
    assert formatted(UNTIDY) == TIDY


def test_a_formatted_script_stays_as_it_is() -> None:
    assert formatted(TIDY) == TIDY


@pytest.mark.parametrize("text", SCRIPTS)
def test_the_pieces_of_a_script_stay(text: str) -> None:
    made = formatted(text)
    assert [(it.kind, it.text) for it in pieces(made)] == [
        (it.kind, it.text.rstrip("\r") if it.kind == "COMMENT" else it.text) for it in pieces(text)
    ]
    assert formatted(made) == made


@given(
    st.lists(
        st.sampled_from(
            ["route[f] {", "}", "{", "(", ")", "switch ($sp) {", "case 1:", "drop;", "if ($sp)",
             '"', "'", "/*", "*/", "# x", "\n", "  ", "\t", "$(", "$si", "else", "\\\n", "é"]
        ),
        max_size=30,
    ).map("".join)
)  # fmt: skip
def test_any_text_keeps_its_pieces(text: str) -> None:
    made = formatted(text)
    kept = [(it.kind, it.text.strip()) for it in pieces(text)]
    assert [(it.kind, it.text.strip()) for it in pieces(made)] == kept
    assert formatted(made) == made


def test_what_is_formatted_decides_the_same() -> None:
    for text in SCRIPTS[:50]:
        try:
            trees = Script.parse(text).trees
        except FilterRouteError:
            continue
        assert Script.parse(formatted(text)).trees == trees
