"""The report's tables as data: cells with the text that is shown and the number behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.report.curves import LayerCurve, SitePoint
from leadline.report.scores import HistogramFigure
from leadline.report.wording import (
    DASH,
    Quantity,
    count,
    metric_title,
    number,
    p_text,
    plain_number,
    quantity,
    sentence_start,
)
from leadline.study.results import Estimate, TargetResult

__all__ = ["Cell", "Table", "chosen_table", "curve_table", "histogram_table", "metrics_table", "sites_table"]


@dataclass(frozen=True)
class Cell:
    """What a cell shows (`text`, with `detail` in small print) and the number it stands for; `flag` marks a problem."""

    text: str
    value: float | None = None
    detail: str = ""
    flag: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its first column names the rows. `chosen` is the index of an emphasised row; `note` explains dashes."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chosen: int | None = None
    note: str = ""


def _figure(figure: Quantity) -> Cell:
    return Cell(figure.text, figure.value, figure.interval)


def metrics_table(caption: str, metrics: dict[str, Estimate]) -> Table:
    """Metrics with their intervals, a row each."""
    rows = []
    for key, estimate in metrics.items():
        figure = quantity(estimate)
        rows.append((Cell(metric_title(key)), Cell(figure.text, figure.value), Cell(figure.interval or DASH)))
    return Table(caption, ("metric", "value", "95% interval"), tuple(rows))


def chosen_table(target: TargetResult) -> Table:
    """The chosen site's metrics, corrected for having been chosen, beside the same before the correction."""
    best = target.best
    rows = []
    for key in dict.fromkeys((*best.metrics, *best.naive)):
        figure, naive = quantity(best.metrics.get(key)), best.naive.get(key)
        rows.append(
            (
                Cell(metric_title(key)),
                Cell(figure.text, figure.value),
                Cell(figure.interval or DASH),
                Cell(number(naive), naive),
            )
        )
    return Table(
        f"The probe at {best.site}, out of fold", ("metric", "corrected", "95% interval", "uncorrected"), tuple(rows)
    )


def sites_table(target: TargetResult) -> Table:
    """Every site with every metric, its p-value, its null, its setting and how its fits ended."""
    keys = list(dict.fromkeys(k for s in target.sites for k in s.metrics))
    with_null = any(s.null_low is not None for s in target.sites)
    columns = ["site", *(metric_title(k) for k in keys), "p"]
    columns += ["null, 95%"] if with_null else []
    columns += [*([target.parameter] if target.parameter else []), "not converged"]
    rows, chosen = [], None
    for index, site in enumerate(target.sites):
        if site.site == target.best.site:
            chosen = index
        cells = [Cell(site.site), *(_figure(quantity(site.metrics.get(k))) for k in keys)]
        cells.append(Cell(p_text(site.p_value), site.p_value))
        if with_null:
            null = quantity(Estimate(value=site.null_mean, low=site.null_low, high=site.null_high))
            cells.append(Cell(null.interval or DASH, site.null_high))
        if target.parameter:
            cells.append(Cell(plain_number(site.setting), site.setting))
        bad = site.n_not_converged
        fits = f"{count(bad)} of {count(site.n_fits)}" if site.n_fits else DASH
        cells.append(Cell(fits, bad, flag="did not converge" if bad else ""))
        rows.append(tuple(cells))
    reasons = []
    if target.permutation is None:
        reasons.append("p-values are missing because no permutations were run")
    if target.sites and not any(e.low is not None for s in target.sites for e in s.metrics.values()):
        reasons.append("intervals are missing because no bootstraps were drawn")
    note = f"{DASH}: not computed. " if any(c.text == DASH for row in rows for c in row) else ""
    note += sentence_start("; ".join(reasons)) + "." if reasons else ""
    corrected = "" if target.parameter is None else f", corrected for the choice of {target.parameter} at each site"
    return Table(
        f"All {count(len(rows))} sites; figures are out of fold{corrected}",
        tuple(columns),
        tuple(rows),
        chosen,
        note.strip(),
    )


def curve_table(curve: LayerCurve) -> Table:
    """A layer curve's values: a row a site, a column a series, then the controls that have one figure for all."""
    places: dict[str, dict[str, SitePoint]] = {}
    for series in curve.series:
        for point in series.points:
            places.setdefault(point.site, {})[series.key] = point
    several_kinds = [s for s in curve.series if s.role not in ("control", "reference")]
    shown = list(curve.series)
    if len(several_kinds) > 1 and not any(s.role.startswith("transfer") for s in several_kinds):
        # Each site stands in one kind's series alone: one column serves them all.
        for series in several_kinds[1:]:
            for point in series.points:
                places[point.site][several_kinds[0].key] = point
        shown = [several_kinds[0], *(s for s in curve.series if s.role in ("control", "reference"))]
    missing = Quantity(None)
    rows = tuple(
        (
            Cell(site),
            *(_figure(found[s.key].quantity if s.key in found else missing) for s in shown),
        )
        for site, found in places.items()
    )
    titles = [s.title for s in shown]
    if len(several_kinds) > 1 and len(shown) < len(curve.series):
        titles[0] = "The probe"
    for level in curve.levels:
        rows += ((Cell(f"{level.title} (all sites)"), _figure(level.quantity), *(Cell("") for _ in shown[1:])),)
    return Table(f"{curve.metric_title} at each site", ("site", *titles), rows)


def histogram_table(figure: HistogramFigure) -> Table:
    """The counts of a score histogram, a row a bin."""
    rows = tuple(
        (
            Cell(f"{number(b.low, digits=2)} to {number(b.high, digits=2)}", b.low),
            Cell(count(b.negative), b.negative),
            Cell(count(b.positive), b.positive),
        )
        for b in figure.bars
    )
    return Table("Rows by out-of-fold score", ("score", figure.negative, figure.positive), rows)


def texts(cells: Sequence[Cell]) -> list[str]:
    """A row as plain texts, with their intervals."""
    return [f"{c.text} {c.detail}" if c.detail else c.text for c in cells]
