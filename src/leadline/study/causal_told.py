"""From what interventions found to what the results schema holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from leadline.causal import ComponentCheck, Decomposition, Effect, FamilyScores, PatchMap, Silence, Use
from leadline.causal.intervals import Intervals
from leadline.causal.overlap import HeadOverlap
from leadline.causal.unembedding import Unembedded
from leadline.causal.used import VectorEffect
from leadline.study import results as schema

__all__ = [
    "ablation_told",
    "bands_of",
    "component_measures",
    "contributions_of",
    "curves_of",
    "effects_of",
    "families_told",
    "figure",
    "heat_map",
    "nulls_of",
    "number",
    "silence_told",
]

_VECTORS = {
    "pattern": ("along the pattern", "moved along the probe's pattern (what one writes with) by the gap of its scores"),
    "direction": ("along the direction", "moved along the probe's direction (what one reads with) by that gap"),
    "mean_difference": ("along the difference of means", "moved by the difference between the classes' means"),
    "orthogonal": ("along an orthogonal direction", "as far, along a direction of equal variance orthogonal to it"),
    "shuffled_labels": ("a probe on shuffled labels", "as far, along the pattern of a probe fitted on shuffled labels"),
}
_EXCHANGES = {
    "site": ("the whole site exchanged", "the site's activation replaced by that of an example of the other class"),
    "pattern": ("exchanged along the pattern", "the component along the pattern replaced by the other example's"),
    "direction": ("exchanged along the direction", "the component along the direction replaced by the other example's"),
}
# A report has room for so many.
_N_TOKENS, _N_HEADS = 12, 12


def number(value: float | None) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and math.isfinite(value) else None


def figure(e: Any) -> schema.Estimate:
    """An estimate for the schema."""
    return schema.Estimate(value=number(e.value), low=number(e.low), high=number(e.high))


def _at(intervals: Intervals, i: int) -> schema.Estimate:
    return figure(intervals[i])


def effects_of(use: Use) -> list[schema.CausalEffect]:
    """Moves, then exchanges."""
    found = []
    for prefix, titles, own in (
        ("", _VECTORS, use.vectors),
        ("exchange_", _EXCHANGES, use.interchange),
    ):
        found += [_effect(prefix + name, *titles[name], own[name]) for name in titles if name in own]
    return found


def _effect(name: str, label: str, explanation: str, one: VectorEffect) -> schema.CausalEffect:
    return schema.CausalEffect(
        name=name,
        label=label,
        explanation=explanation,
        effect=figure(one.effect),
        share=figure(one.nie) if math.isfinite(one.nie.value) else None,
        flips=figure(one.flips),
        kl=figure(one.kl),
        norm=number(one.norm),
        dose=number(one.dose),
        p_isotropic=number(one.p_isotropic),
        p_covariance=number(one.p_covariance),
    )


def nulls_of(use: Use) -> list[schema.NullEffects]:
    """What random directions do, for each vector that they are held against."""
    return [
        schema.NullEffects(of=of, kind=kind, values=[float(v) for v in values])  # type: ignore[arg-type]
        for (of, kind), values in use.nulls.items()
        if of in use.vectors
    ]


def ablation_told(use: Use) -> schema.Measure:
    """Whether the difference between the classes' answers needs the probe's vectors."""
    rows: list[list[Any]] = []
    for name, one in use.ablation.items():
        e, share = one.effect, one.nie
        rows.append([name, number(e.value), number(e.low), number(e.high), number(share.value)])
        rows[-1] += [number(one.p_isotropic), number(one.p_covariance)]
    one = use.ablation["direction"]
    p = max((x for x in (one.p_isotropic, one.p_covariance) if x is not None), default=math.nan)
    columns = ["component set to its mean, along the", "difference lost, nats", "low", "high", "share"]
    columns += ["p, isotropic", "p, covariance"]
    return schema.Measure(
        name="ablation",
        title="Needed: the component ablated",
        explanation="Each example's component along the vector is set to the mean of the fitted rows; how much of the "
        "difference between the classes' answers goes, against ablating random directions.",
        sentence=f"Without the direction's component the classes' answers lie {one.effect.value:+.2f} nats "
        f"[{one.effect.low:+.2f}, {one.effect.high:+.2f}] closer together, p = {p:.2g}.",
        tables=[schema.MeasureTable(title="Lost by ablation", columns=columns, rows=rows)],
    )


def curves_of(effect: Effect) -> list[schema.DoseCurve]:
    """Dose and response of every vector."""
    found = []
    for name, curve in effect.curves.items():
        points = [
            schema.DosePoint(
                strength=float(curve.strengths[i]),
                dose=float(curve.dose[i]),
                change=_at(curve.change, i),
                probability=_at(curve.probability, i),
                reading=_at(next(iter(curve.readings.values())), i) if curve.readings else None,
                flips=_at(curve.flips, i),
                cost=None if curve.cost is None else _at(curve.cost, i),
                kl=None if curve.cost_kl is None else _at(curve.cost_kl, i),
            )
            for i in range(len(curve.strengths))
        ]
        label = _VECTORS.get(name, (name, ""))[0].removeprefix("along the ").removeprefix("along an ")
        found.append(schema.DoseCurve(name=name, label=label, points=points, usable=curve.usable))
    return found


def bands_of(effect: Effect) -> list[schema.RandomBand]:
    """What random directions do at every dose."""
    doses = [float(d) for d in effect.curves[effect.main].dose]
    return [
        schema.RandomBand(
            kind=kind,  # type: ignore[arg-type]
            doses=doses,
            mean=[float(v) for v in band.mean],
            low=[float(v) for v in band.low],
            high=[float(v) for v in band.high],
        )
        for kind, band in effect.bands.items()
    ]


def contributions_of(found: Decomposition) -> list[schema.Contribution]:
    """Every term's share in the difference between the classes, the largest first."""
    order = np.argsort(-np.abs(found.difference.value))
    kinds = {"embed": "embed", "head": "head", "mlp": "mlp", "bias": "bias"}
    return [
        schema.Contribution(
            component=found.components[i].name,
            kind=kinds.get(found.components[i].kind, "other"),  # type: ignore[arg-type]
            layer=None if (site := found.components[i].site) is None else site.layer,
            difference=_at(found.difference, int(i)),
        )
        for i in order
    ]


def heat_map(found: PatchMap, name: str, title: str, explanation: str) -> schema.HeatMap:
    """A map of (site × token), tokens counted from the end."""
    unit = "nats" if found.metric == "logit difference" else "score"
    words = [word.strip() or place for word, place in zip(found.words, found.tokens, strict=True)]
    named = [place if word == place else f"{word} ({place})" for word, place in zip(words, found.tokens, strict=True)]
    left = f" {len(found.unequal)} pairs of unequal length are left out." if found.unequal else ""
    return schema.HeatMap(
        name=name,
        title=title,
        explanation=explanation + left,
        sites=[site.name for site in found.sites],
        tokens=named,
        values=[[number(v) for v in row] for row in found.mean.value],
        n_pairs=found.n_pairs,
        unit=unit,
    )


def _table(title: str, frame: pl.DataFrame, names: dict[str, str]) -> schema.MeasureTable:
    rows: list[list[Any]] = []
    for row in frame.select(list(names)).rows():
        rows.append(
            [number(v) if isinstance(v, float) else v if v is None or isinstance(v, int) else str(v) for v in row]
        )
    return schema.MeasureTable(title=title, columns=list(names.values()), rows=rows)


def families_told(found: FamilyScores) -> schema.Measure:
    """The intervention score of each probe family."""
    reached = [s for s in found.scores if s.reached]
    best = max(reached, key=lambda s: s.effect.value, default=None)
    said = "No direction reaches the budget within the doses that were tried."
    if best is not None:
        said = (
            f"At a rise of {found.budget:.0%} in perplexity the {best.vector} of {best.family.replace('_', ' ')} moves "
            f"the answers most: {best.effect.value:+.2f} nats [{best.effect.low:+.2f}, {best.effect.high:+.2f}], "
            f"p = {best.p:.2g}."
        )
    names = {"family": "family", "vector": "vector", "effect": "effect, nats", "low": "low", "high": "high"}
    names |= {"nie": "share", "dose": "dose", "reached": "cost reaches the budget", "p": "p"}
    frame = found.table.with_columns(pl.col("reached").replace_strict({True: "yes", False: "no"}, default=None))
    return schema.Measure(
        name="families",
        title="Which family's direction edits best, at equal cost",
        explanation="Each family's vectors, fitted on the same rows, are added at the dose where perplexity of neutral "
        "text has risen by the budget; the random row holds mean and middle 95% of the absolute effect.",
        sentence=said,
        tables=[_table("Effect at equal cost", frame, names)],
    )


def silence_told(found: Silence) -> schema.Measure:
    """Whether the concept can still be read once it is erased, and whether the answers change."""
    names = {"eraser": "erased by", "rank": "rank", "site": "site"}
    names |= {"auroc": "fresh probe, AUROC", "auroc_low": "low", "auroc_high": "high"}
    names |= {"separation": "classes apart in the answers, nats", "share": "lost of it", "p": "p"}
    return schema.Measure(
        name="silence",
        title="Silenced: what is left once the concept is erased",
        explanation="LEACE takes the least away that leaves no linear trace in the rows it was fitted on; INLP "
        "projects probes' directions out. A fresh probe is fitted on edited activations of other rows, here and "
        "further down. Held against LEACE of shuffled labels.",
        reference="Belrose et al. 2023; Ravfogel et al. 2020",
        # Folds of few groups give no interval.
        sentence=found.sentence.replace(" [nan, nan]", ""),
        tables=[_table("After erasure", found.table, names)],
    )


def component_measures(
    check: ComponentCheck | None, read: Unembedded | None, overlap: HeadOverlap | None
) -> list[schema.Measure]:
    """Predicted and measured effects of components, and the direction read through the unembedding."""
    found = []
    if check is not None:
        names = {"component": "component", "predicted": "predicted", "predicted_low": "low", "predicted_high": "high"}
        names |= {"measured": "measured", "measured_low": "low", "measured_high": "high"}
        kept = check.kept
        found.append(
            schema.Measure(
                name="components",
                title="Predicted and measured: the named components ablated",
                explanation="The components are named on the rows that the direction was fitted on; on others each is "
                "set to its mean, and the change in the difference of the score between the classes is measured. "
                f"p is against {len(check.null)} sets of as many other components.",
                sentence=f"Together they give {check.predicted_together.value:+.2f} by the decomposition; ablating "
                f"them takes away {check.measured_together.value:+.2f}, {kept.value:.0%} [{kept.low:.0%}, "
                f"{kept.high:.0%}] of that, p = {check.p:.2g}.",
                tables=[_table("Change of the difference in score", check.table, names)],
            )
        )
    if read is not None:
        words = {"side": "side", "rank": "rank", "token": "token", "z": "z"}
        top = ", ".join(f"“{t.text}”" for t in read.top[:6])
        found.append(
            schema.Measure(
                name="unembedding",
                title="The direction read through the unembedding",
                explanation="Tokens whose rows of the unembedding lie along the pattern, the final norm's scale "
                "included; z is √d times the cosine.",
                sentence=f"Toward the positive class: {top} (p = {read.p_top:.2g} against random directions).",
                tables=[
                    _table("Tokens", read.table.filter(pl.col("rank") <= _N_TOKENS), words),
                    *_overlaps(overlap),
                ],
            )
        )
    return found


def _overlaps(overlap: HeadOverlap | None) -> Sequence[schema.MeasureTable]:
    if overlap is None:
        return ()
    names = {
        "head": "head",
        "share": "share of the direction in its output",
        "q": "q",
        "gain": "gain",
        "p_gain": "p, gain",
    }
    return (_table("Heads whose output subspace holds the direction", overlap.table.head(_N_HEADS), names),)
