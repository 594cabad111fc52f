"""Prometheus' text format, as its own client reads it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from sipws.metrics.prometheus_text import Family, Histogram, render


def test_a_family_has_its_meaning_its_type_and_its_samples() -> None:
    family = Family("a_total", "counter", "What it counts.").add(3, way="in").add(2.5, way="out")
    assert render([family]) == (
        "# HELP a_total What it counts.\n"
        "# TYPE a_total counter\n"
        'a_total{way="in"} 3\n'
        'a_total{way="out"} 2.5\n'
    )


def test_a_family_without_samples_is_left_out() -> None:
    assert render([Family("a", "gauge", "Nothing.")]) == ""


def test_buckets_are_cumulative_and_the_last_one_is_infinite() -> None:
    histogram = Histogram((0.1, 1.0), (2, 3, 1), 4.5)
    text = render([Family("lag_seconds", "histogram", "Lag.").add(histogram, loop="a")])
    assert text.splitlines()[2:] == [
        'lag_seconds_bucket{loop="a",le="0.1"} 2',
        'lag_seconds_bucket{loop="a",le="1.0"} 5',
        'lag_seconds_bucket{loop="a",le="+Inf"} 6',
        'lag_seconds_sum{loop="a"} 4.5',
        'lag_seconds_count{loop="a"} 6',
    ]
    [family] = parse(text)
    assert family.type == "histogram"
    assert family.samples[2].labels == {"loop": "a", "le": "+Inf"}


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 1e300, 0, 10**20])
def test_numbers_are_read_back(number: float) -> None:
    [family] = parse(render([Family("a", "gauge", "A number.").add(number)]))
    assert family.samples[0].value == pytest.approx(number, nan_ok=True)


@given(
    # The parser takes the text apart with splitlines, which knows more line ends than the format.
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from('\\"\n')),
    st.integers(-(2**53), 2**53),
)
def test_no_label_breaks_the_format(label: str, number: int) -> None:
    [family] = parse(render([Family("a", "gauge", "A\n\\number.").add(number, name=label)]))
    [sample] = family.samples
    assert sample.labels == {"name": label}
    assert sample.value == number
    assert family.documentation == "A\n\\number."
