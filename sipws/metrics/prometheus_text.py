"""Prometheus' text format (version 0.0.4): families of samples as lines. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What the format is called in HTTP."""

Kind = Literal["counter", "gauge", "histogram"]
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations sorted into buckets."""

    bounds: tuple[float, ...]
    """Upper bounds of the buckets, rising; one more bucket takes what is above them."""

    counts: tuple[int, ...]
    """Observations in each bucket alone, that last one included."""

    total: float
    """All observations added up."""


@dataclass(slots=True)
class Family:
    """A metric: its name, what it means, and its values by labels."""

    name: str
    """Its name with the unit, and ``_total`` for a counter."""

    kind: Kind
    meaning: str
    samples: list[tuple[Labels, float | Histogram]] = field(default_factory=list)

    def add(self, number: float | Histogram, **labels: str) -> "Family":
        """Add a value.

        Args:
            number: the value.
            labels: its labels.

        Returns:
            the family, for chained calls.
        """
        self.samples.append((labels, number))
        return self


def render(families: Iterable[Family]) -> str:
    """Write families; those without a sample are left out."""
    return "".join(f"{line}\n" for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    meaning = family.meaning.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {family.name} {meaning}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, number in family.samples:
        if isinstance(number, Histogram):
            yield from _buckets(family.name, labels, number)
        else:
            yield f"{family.name}{_written(labels)} {_number(number)}"


def _buckets(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    bounds = [*map(_number, histogram.bounds), "+Inf"]
    cumulative = list(accumulate(histogram.counts))
    for bound, count in zip(bounds, cumulative, strict=True):
        yield f"{name}_bucket{_written({**labels, 'le': bound})} {count}"
    yield f"{name}_sum{_written(labels)} {_number(histogram.total)}"
    yield f"{name}_count{_written(labels)} {cumulative[-1]}"


def _written(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(number: float) -> str:
    return repr(number) if isinstance(number, int) else repr(float(number))
