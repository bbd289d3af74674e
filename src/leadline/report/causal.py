"""Interventions as the report shows them: what was asked, the effects, doses, components and token maps as plain data.

Nothing here knows HTML or Plotly. `causal_figures` draws these, and `causal_tables` gives the numbers behind each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leadline.report.causal_tables import contributions_table, doses_table, effects_table, heat_table
from leadline.report.measures import MeasureSummary, measures
from leadline.report.tables import Table
from leadline.report.wording import (
    Quantity,
    count,
    duration,
    inside,
    joined,
    number,
    percent,
    plural,
    quantity,
    sentence_start,
    shorten,
    visible,
)
from leadline.study.results import CausalEffect, CausalResult, Contribution, DoseCurve, HeatMap, RandomBand

__all__ = [
    "BarsFigure",
    "CausalSummary",
    "DosesFigure",
    "EffectsFigure",
    "HeatFigure",
    "RandomEffects",
    "causal_summary",
]

# Bars that are drawn; the table has the others.
_TOP = 16
# A map of heads is drawn where the results hold at least so many, and this share of its cells.
_FEWEST_HEADS, _FILLED = 12, 0.4
# Maps of one unit share their scale unless one is so much larger than another that nothing would show on it.
_SAME_SCALE = 4.0
_HEAD = re.compile(r"head (\d+)\.(\d+)\Z")
_MLP = re.compile(r"mlp (\d+)\Z")


@dataclass(frozen=True)
class RandomEffects:
    """Effects of random directions with one vector's norm, in the row of that vector."""

    of: str
    kind: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class EffectsFigure:
    """Every intervention's effect with its interval, beside random directions.

    `natural` is the difference between the classes that a full effect would undo, in nats.
    """

    effects: tuple[CausalEffect, ...]
    nulls: tuple[RandomEffects, ...]
    natural: float | None
    description: str
    table: Table


@dataclass(frozen=True)
class DosesFigure:
    """Change of the answers, and cost, against signed dose. `budget` is in nats a token."""

    curves: tuple[DoseCurve, ...]
    bands: tuple[RandomBand, ...]
    budget: float | None
    description: str
    note: str
    table: Table


@dataclass(frozen=True)
class BarsFigure:
    """The components with the largest shares; `rest` is what all others sum to, `n_rest` how many they are."""

    bars: tuple[Contribution, ...]
    rest: float | None
    n_rest: int
    description: str
    note: str
    table: Table


@dataclass(frozen=True)
class HeatFigure:
    """A map: `values[row][column]`, drawn on a scale from −limit to limit."""

    name: str
    title: str
    explanation: str
    row_title: str
    column_title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    unit: str
    limit: float
    description: str
    table: Table


@dataclass(frozen=True)
class CausalSummary:
    """Everything that is said about interventions on one target."""

    site: str
    facts: tuple[tuple[str, str], ...]
    natural: Quantity
    behaviour_reason: str
    where_from_reason: str
    effects: EffectsFigure | None
    doses: DosesFigure | None
    bars: BarsFigure | None
    heads: HeatFigure | None
    maps: tuple[HeatFigure, ...]
    measures: tuple[MeasureSummary, ...]
    notes: tuple[str, ...]


def causal_summary(result: CausalResult) -> CausalSummary:
    """Word what interventions found, as data for figures and tables."""
    return CausalSummary(
        site=result.site,
        facts=_facts(result),
        natural=quantity(result.natural, sign=True),
        behaviour_reason=sentence_start(result.behaviour_reason),
        where_from_reason=sentence_start(result.where_from_reason),
        effects=_effects(result) if result.effects else None,
        doses=_doses(result) if any(c.points for c in result.curves) else None,
        bars=_bars(result) if result.contributions else None,
        heads=_heads(result.contributions),
        maps=_maps(result.heat_maps),
        measures=measures(result.measures),
        notes=tuple(sentence_start(n) for n in result.notes),
    )


def _facts(result: CausalResult) -> tuple[tuple[str, str], ...]:
    facts = [("edited at", f"{result.site}, tokens: {result.tokens}"), ("prompt", visible(result.prompt, spaces=False))]
    if result.answers_from:
        facts.append(("answers", f"by row, from {joined(result.answers_from)}"))
    elif result.positive or result.negative:
        sides = [" or ".join(visible(a) for a in side) for side in (result.positive, result.negative)]
        facts.append(("answers", " against ".join(s for s in sides if s)))
    examples = f"{count(result.n_examples)}, of {plural(result.n_groups, 'group')}"
    facts.append(("examples", f"{examples}, {plural(result.n_pairs, 'pair')}" if result.n_pairs else examples))
    if result.n_random:
        facts.append(("random directions", f"{count(result.n_random)} of each kind"))
    if result.natural is not None:
        facts.append(("classes differ by", f"{quantity(result.natural, sign=True).full} nats, with no intervention"))
    if result.accuracy is not None:
        facts.append(("answers right", quantity(result.accuracy).full))
    if result.cosine is not None:
        facts.append(("pattern and direction", f"cosine {number(result.cosine)}"))
    if result.seconds is not None:
        facts.append(("took", duration(result.seconds)))
    return tuple(facts)


def _effects(result: CausalResult) -> EffectsFigure:
    nulls = tuple(
        RandomEffects(n.of, n.kind, values)
        for n in result.nulls
        if (values := tuple(v for v in n.values if math.isfinite(v)))
    )
    known = [(e, quantity(e.effect, sign=True)) for e in result.effects]
    description = "Effects on the log odds of the answers, in nats toward the other class: " + "; ".join(
        f"{inside(shorten(e.label, 60))} {q.full}" for e, q in known
    )
    for null in nulls:
        of = next((e.label for e in result.effects if e.name == null.of), null.of)
        description += (
            f". {plural(len(null.values), 'random direction')} ({null.kind}) of the norm of {inside(shorten(of, 60))} "
            f"reach from {number(min(null.values), sign=True)} to {number(max(null.values), sign=True)}"
        )
    natural = result.natural.value if result.natural is not None else None
    table = effects_table(result.effects, {(n.of, n.kind): n.values for n in nulls})
    return EffectsFigure(tuple(result.effects), nulls, natural, description + ".", table)


def _doses(result: CausalResult) -> DosesFigure:
    curves = tuple(c.model_copy(update={"points": sorted(c.points, key=lambda p: p.dose)}) for c in result.curves)
    parts, usable = [], []
    for curve in curves:
        known = [p for p in curve.points if p.change.value is not None]
        if known:
            ends = [f"{quantity(p.change, sign=True).full} at dose {number(p.dose, digits=2)}" for p in known]
            parts.append(f"{shorten(curve.label, 60)} goes from {ends[0]} to {ends[-1]}")
        if curve.usable is not None:
            low, high = (number(x, digits=2, sign=True) for x in curve.usable)
            usable.append(f"{inside(shorten(curve.label, 60))} {low} to {high}")
    description = "Change of the log odds of the positive answers against signed dose. " + "; ".join(parts) + "."
    budget = math.log1p(result.cost_budget) if result.cost_budget is not None else None
    note = ""
    if usable and result.cost_budget is not None:
        note = (
            f"Usable is the range of doses at which the perplexity of neutral text rises by at most "
            f"{percent(result.cost_budget)}: {'; '.join(usable)}."
        )
        description += f" {note}"
    return DosesFigure(curves, tuple(result.bands), budget, description, note, doses_table(curves, result.bands))


def _bars(result: CausalResult) -> BarsFigure:
    known = [c for c in result.contributions if c.difference.value is not None]
    order = sorted(known, key=lambda c: -abs(c.difference.value or 0.0))
    top, others = order[:_TOP], order[_TOP:]
    whole = len(known) >= result.n_contributions
    total = sum(c.difference.value or 0.0 for c in known)
    rest = sum(c.difference.value or 0.0 for c in others) if whole and others else None
    n_all = max(result.n_contributions, len(known))
    description = f"The largest of {count(n_all)} contributions to the difference in score between the classes: "
    description += "; ".join(f"{shorten(c.component, 40)} {quantity(c.difference, sign=True).full}" for c in top) + "."
    if rest is not None:
        description += f" The other {count(len(others))} together: {number(rest, sign=True)}."
    note = f"The decomposition has {plural(n_all, 'term')}"
    note += f", which sum to {number(total, sign=True)} in score" if whole else ""
    if result.decomposition_error is not None:
        note += f"; against the score itself they err by {result.decomposition_error:.1e} of their sum of sizes"
    table = contributions_table(order, total if whole and total else None)
    return BarsFigure(tuple(top), rest, len(others), description, note + ".", table)


def _heads(contributions: Sequence[Contribution]) -> HeatFigure | None:
    """Layers against heads, with a last column for the MLPs; None where too few are known to make a map."""
    heads, mlps = {}, {}
    for one in contributions:
        if found := _HEAD.match(one.component):
            heads[int(found[1]), int(found[2])] = one.difference.value
        elif found := _MLP.match(one.component):
            mlps[int(found[1])] = one.difference.value
    if len(heads) < _FEWEST_HEADS:
        return None
    layers = range(max(layer for layer, _ in heads) + 1)
    columns = range(max(head for _, head in heads) + 1)
    if len(heads) < _FILLED * len(layers) * len(columns):
        return None
    values = [[*(heads.get((i, j)) for j in columns), *([mlps.get(i)] if mlps else [])] for i in layers]
    given = HeatMap(
        name="heads",
        title="Every head" + (" and MLP" if mlps else ""),
        explanation="",
        sites=[str(i) for i in layers],
        tokens=[*(str(j) for j in columns), *(["MLP"] if mlps else [])],
        values=values,
        n_pairs=0,
        unit="score",
    )
    return _heat(given, _largest(given), "layer", "head")


def _maps(given: Iterable[HeatMap]) -> tuple[HeatFigure, ...]:
    maps = [m for m in given if m.sites and m.tokens]
    largest = [_largest(m) for m in maps]
    figures = []
    for one, own in zip(maps, largest, strict=True):
        alike = [x for other, x in zip(maps, largest, strict=True) if other.unit == one.unit]
        shared = max(alike) <= _SAME_SCALE * min(alike)
        figures.append(_heat(one, max(alike) if shared else own, "site", "token"))
    return tuple(figures)


def _largest(given: HeatMap) -> float:
    return max((abs(v) for row in given.values for v in row if v is not None and math.isfinite(v)), default=0.0) or 1.0


def _heat(given: HeatMap, limit: float, row_title: str, column_title: str) -> HeatFigure:
    values = tuple(tuple(v if v is not None and math.isfinite(v) else None for v in row) for row in given.values)
    columns = tuple(visible(t) for t in given.tokens)
    cells = [(v, i, j) for i, row in enumerate(values) for j, v in enumerate(row) if v is not None]
    description = f"{shorten(given.title, 80)}: a map of {plural(len(given.sites), row_title)}"
    description += f" by {plural(len(columns), column_title)}."
    if cells:
        strongest = sorted(cells, key=lambda c: -abs(c[0]))[:3]
        description += " Largest: " + "; ".join(
            f"{number(v, sign=True)} at {row_title} {shorten(given.sites[i], 40)}, {column_title} "
            f"{shorten(columns[j], 40)}"
            for v, i, j in strongest
        )
        description += "."
    explanation = given.explanation
    if given.n_pairs:
        explanation = f"{explanation} Mean over {plural(given.n_pairs, 'pair')}.".strip()
    return HeatFigure(
        given.name,
        given.title,
        explanation,
        row_title,
        column_title,
        tuple(given.sites),
        columns,
        values,
        given.unit,
        limit,
        description,
        heat_table(given.title, row_title, given.sites, columns, values),
    )
