"""The tables behind the figures of interventions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from leadline.report.tables import Cell, Table
from leadline.report.wording import DASH, Quantity, number, p_text, percent, quantity
from leadline.study.results import CausalEffect, Contribution, DoseCurve, Estimate, RandomBand

__all__ = ["contributions_table", "doses_table", "effects_table", "heat_table", "middle"]

KINDS = {"isotropic": "isotropic", "covariance": "as activations vary"}


def middle(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95% of values, linearly interpolated between them."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.025), at(0.975)


def effects_table(effects: Sequence[CausalEffect], nulls: Mapping[tuple[str, str], Sequence[float]]) -> Table:
    """A row an intervention: effect, share of the difference between the classes, flips, KL, size, random ones."""
    has = {
        name: any(getattr(e, name) is not None for e in effects) for name in ("share", "flips", "kl", "norm", "dose")
    }
    has |= {kind: any(key[1] == kind for key in nulls) for kind in KINDS}
    columns = ["intervention", "effect, nats"]
    titles = {"share": "share of the difference", "flips": "answers flipped", "kl": "KL, nats"}
    titles |= {"norm": "‖shift‖", "dose": "dose"}
    columns += [title for name, title in titles.items() if has[name]]
    for kind, title in KINDS.items():
        columns += [f"random, {title}: 95%", f"p, {title}"] if has[kind] else []
    rows = []
    for e in effects:
        cells = [Cell(e.label), _cell(e.effect, sign=True)]
        for name in ("share", "flips", "kl"):
            if has[name]:
                cells.append(_cell(getattr(e, name), sign=name == "share"))
        for name in ("norm", "dose"):
            if has[name]:
                value = getattr(e, name)
                cells.append(Cell(number(value), value))
        for kind in KINDS:
            if has[kind]:
                values = nulls.get((e.name, kind))
                cells.append(Cell(DASH if not values else _range(*middle(values))))
                p = e.p_isotropic if kind == "isotropic" else e.p_covariance
                cells.append(Cell(p_text(p), p))
        rows.append(tuple(cells))
    return Table("Effects of interventions on the answers", tuple(columns), tuple(rows))


def doses_table(curves: Sequence[DoseCurve], bands: Sequence[RandomBand]) -> Table:
    """A row a vector and dose, then the random directions'. Cost is the change in perplexity of neutral text."""
    points = [p for c in curves for p in c.points]
    titles = {"change": "change, nats", "probability": "P(positive)", "reading": "read downstream"}
    titles |= {"flips": "answers flipped", "kl": "KL of neutral text, nats"}
    shown = {k: t for k, t in titles.items() if k == "change" or any(getattr(p, k) is not None for p in points)}
    with_cost = any(p.cost is not None for p in points)
    columns = ("vector", "dose", *shown.values(), *(["perplexity of neutral text"] if with_cost else []))
    rows = []
    for curve in curves:
        for p in curve.points:
            cells = [Cell(curve.label), Cell(number(p.dose, digits=2, sign=True), p.dose)]
            cells += [_cell(getattr(p, k), sign=k in ("change", "reading")) for k in shown]
            cells += [_cost(p.cost)] if with_cost else []
            rows.append(tuple(cells))
    for band in bands:
        for dose, mean, low, high in zip(band.doses, band.mean, band.low, band.high, strict=True):
            name = Cell(f"random directions, {KINDS[band.kind]} (their middle 95%)")
            change = _cell(Estimate(value=mean, low=low, high=high), sign=True)
            blank = (Cell(DASH),) * (len(columns) - 3)
            rows.append((name, Cell(number(dose, digits=2, sign=True), dose), change, *blank))
    return Table("Dose and response", columns, tuple(rows))


def contributions_table(contributions: Sequence[Contribution], total: float | None) -> Table:
    """A row a component: the difference between the classes, and its share of the whole where that is known."""
    columns = ("component", "difference in score", *(["share"] if total else []))
    rows = []
    for one in contributions:
        value = one.difference.value
        share = [Cell(percent(value / total), value / total)] if total and value is not None else []
        rows.append((Cell(one.component), _cell(one.difference, sign=True), *share))
    return Table("What each component adds to the difference in score between the classes", columns, tuple(rows))


def heat_table(
    title: str, row_title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]]
) -> Table:
    """A map's values."""
    cells = (
        (Cell(name), *(Cell(number(v, sign=True), v) for v in line)) for name, line in zip(rows, values, strict=True)
    )
    return Table(title, (row_title, *columns), tuple(cells))


def _cell(estimate: Estimate | None, *, sign: bool = False) -> Cell:
    shown = quantity(estimate, sign=sign) if estimate is not None else Quantity(None)
    return Cell(shown.text, shown.value, shown.interval)


def _cost(cost: Estimate | None) -> Cell:
    """Nats a token, worded as the change in perplexity that they are."""
    if cost is None or cost.value is None:
        return Cell(DASH)
    known = cost.low is not None and cost.high is not None
    interval = f"[{_rise(cost.low)},\N{NO-BREAK SPACE}{_rise(cost.high)}]" if known else ""
    return Cell(_rise(cost.value), math.expm1(min(cost.value, 700.0)), interval)


def _rise(nats: float | None) -> str:
    return percent(math.expm1(min(nats, 700.0)), sign=True) if nats is not None else DASH


def _range(low: float, high: float) -> str:
    return f"[{number(low, sign=True)},\N{NO-BREAK SPACE}{number(high, sign=True)}]"
