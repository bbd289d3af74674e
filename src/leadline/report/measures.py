"""Further evidence as the report shows it: a sentence, the figures with their intervals, and the tables behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leadline.report.tables import Cell, Table
from leadline.report.wording import DASH, MINUS, number, quantity, sentence_start, shorten
from leadline.study.results import ClassConfusion, Measure, MeasureTable

__all__ = ["MeasureSummary", "class_confusion_table", "measures"]


@dataclass(frozen=True)
class MeasureSummary:
    """One measure: what it is, what was found or why nothing was, its figures and its tables."""

    name: str
    title: str
    explanation: str
    reference: str
    reason: str
    sentence: str
    figures: Table | None
    tables: tuple[Table, ...]


def measures(given: list[Measure]) -> tuple[MeasureSummary, ...]:
    """Word every measure, those that were taken first."""
    return tuple(_measure(m) for m in sorted(given, key=lambda m: bool(m.reason)))


def _measure(measure: Measure) -> MeasureSummary:
    rows = []
    for figure in measure.figures:
        shown = quantity(figure.value, sign=figure.signed)
        rows.append((Cell(figure.label), Cell(shown.text, shown.value), Cell(shown.interval or DASH)))
    figures = Table(measure.title, ("figure", "value", "95% interval"), tuple(rows)) if rows else None
    return MeasureSummary(
        measure.name,
        measure.title,
        measure.explanation,
        measure.reference,
        sentence_start(measure.reason),
        measure.sentence,
        figures,
        tuple(_table(t) for t in measure.tables),
    )


def _table(table: MeasureTable) -> Table:
    return Table(table.title, tuple(table.columns), tuple(tuple(_cell(v) for v in row) for row in table.rows))


def _cell(value: str | float | int | None) -> Cell:
    if value is None:
        return Cell(DASH)
    if isinstance(value, str):
        return Cell(shorten(value, 300))
    if isinstance(value, int):
        return Cell(f"{value:,}".replace("-", MINUS), value)
    small = 0 < abs(value) < 0.0005
    return Cell(f"{value:.2g}" if small else number(value), value) if math.isfinite(value) else Cell(DASH)


def class_confusion_table(confusion: ClassConfusion) -> Table:
    """Decisions among several classes: a row a true class, a column a decision, with its share of the row."""
    rows = []
    for name, counts in zip(confusion.classes, confusion.counts, strict=True):
        total = sum(counts)
        cells = [Cell(f"{n:,}", n, f"{n / total:.0%}" if total else "") for n in counts]
        rows.append((Cell(shorten(name, 60)), *cells))
    columns = ("is", *(f"said {shorten(c, 40)}" for c in confusion.classes))
    return Table("Out-of-fold decisions of the probe against the truth", columns, tuple(rows))
