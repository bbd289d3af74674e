"""Out-of-fold scores as plain data: histograms of two classes, and points against the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leadline.report.wording import number, plural, quoted
from leadline.study.results import Histogram, Points, TargetResult

__all__ = ["Bar", "HistogramFigure", "PointsFigure", "class_names", "histogram_figure", "points_figures"]


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram."""

    low: float
    high: float
    negative: int
    positive: int


@dataclass(frozen=True)
class HistogramFigure:
    """Out-of-fold scores of the two classes."""

    negative: str
    positive: str
    bars: tuple[Bar, ...]
    description: str


@dataclass(frozen=True)
class PointsFigure:
    """Out-of-fold predictions against the truth, one column."""

    column: str
    true: tuple[float, ...]
    predicted: tuple[float, ...]
    rows: tuple[int, ...]
    low: float
    high: float
    description: str


def class_names(target: TargetResult) -> tuple[str, str]:
    """The names of the negative and the positive class."""
    return target.negative or "negative", target.positive or "positive"


def histogram_figure(target: TargetResult, histogram: Histogram) -> HistogramFigure:
    """The two classes' out-of-fold scores, in the bins that the results hold."""
    negative, positive = class_names(target)
    bars = tuple(
        Bar(low, high, n, p)
        for low, high, n, p in zip(
            histogram.edges[:-1], histogram.edges[1:], histogram.negative, histogram.positive, strict=True
        )
    )

    def middle(counts: Sequence[int]) -> str:
        half, total = 0.0, sum(counts)
        for bar, n in zip(bars, counts, strict=True):
            half += n
            if total and half * 2 >= total:
                return f"between {number(bar.low, digits=2)} and {number(bar.high, digits=2)}"
        return "nowhere"

    description = (
        f"Two histograms of out-of-fold scores over {plural(len(bars), 'bin')}. The median score of "
        f"{quoted(positive)} ({plural(sum(histogram.positive), 'row')}) lies {middle(histogram.positive)}, that of "
        f"{quoted(negative)} ({plural(sum(histogram.negative), 'row')}) {middle(histogram.negative)}."
    )
    return HistogramFigure(negative, positive, bars, description)


def points_figures(points: Iterable[Points]) -> tuple[PointsFigure, ...]:
    """True against predicted values of each column, on one scale for both axes."""
    figures = []
    for column in points:
        finite = [v for v in (*column.true, *column.predicted) if math.isfinite(v)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        pad = 0.04 * (high - low or 1.0)
        figures.append(
            PointsFigure(
                column.column,
                tuple(column.true),
                tuple(column.predicted),
                tuple(column.rows),
                low - pad,
                high + pad,
                f"Out-of-fold predictions of {quoted(column.column)} against its true values, "
                f"{plural(len(column.true), 'row')}; a perfect probe would put every row on the diagonal.",
            )
        )
    return tuple(figures)
