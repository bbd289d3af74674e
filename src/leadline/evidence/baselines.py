"""What a probe is held against on the same folds and draws: the text's surface, other activations of the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import EvidenceError, did_you_mean
from leadline.events import EventSink, stage
from leadline.evidence.bootstrap import BootstrapDesign, Estimate, MetricTable, Selection, gain, metric_table, select
from leadline.evidence.controls import CONTROLS, control_scores
from leadline.evidence.labels import Labels, Source
from leadline.evidence.metrics import CHANCE, JUDGED_BY, PRIMARY
from leadline.evidence.site_fits import SiteOutcome, fit_sites
from leadline.probes.fit import Family

__all__ = ["Baseline", "run_baselines"]


@dataclass(frozen=True)
class Baseline:
    """A control on the same folds, and the probe's paired gain over it.

    `below_chance` is set where some penalty of it lies significantly below chance, which no honest predictor does: rows
    that belong together were split by the folds. It holds that penalty's {metric: value}, and `"high"`, the upper bound
    of the primary one. `judged_gain` is that by which the claim is judged (`JUDGED_BY`; the baseline is then at its
    best for that metric). `pair_gain` is that of pair accuracy, where the rows come in minimal pairs: what ranks the
    two rows of a pair need not rank rows of different pairs, and the other way round.
    """

    name: str
    title: str
    explanation: str
    selection: Selection
    gain: Estimate
    p_gain: float
    below_chance: dict[str, float] | None
    outcomes: tuple[SiteOutcome, ...] = ()
    judged_gain: Estimate | None = None
    p_judged_gain: float = float("nan")
    pair_gain: Estimate | None = None
    p_pair_gain: float = float("nan")


def run_baselines(
    labels: Labels,
    family: Family,
    fold: np.ndarray,
    design: BootstrapDesign,
    selection: Selection,
    text_controls: Sequence[str],
    surface: Mapping[str, np.ndarray],
    sources: Mapping[str, Source | Sequence[Source]],
    events: EventSink,
    *,
    weights: np.ndarray | None = None,
) -> tuple[Baseline, ...]:
    """Fit every baseline and hold the chosen probe (`selection`) against it.

    Parameters
    ----------
    text_controls, surface, sources : as `sweep_target` has them.

    Raises
    ------
    EvidenceError : a text control without texts, or an unknown name.
    """
    found: list[Baseline] = []

    def add(name: str, table: MetricTable, parts: tuple[SiteOutcome, ...] = ()) -> None:
        other = select(table, design)
        difference, p = gain(selection, other, PRIMARY[labels.kind], design)
        metric = JUDGED_BY[labels.kind]
        judged, p_judged = difference, p
        if metric != PRIMARY[labels.kind]:
            judged, p_judged = gain(selection, select(table, design, by=metric), metric, design)
        by_pair, p_pair = None, float("nan")
        if "pair_accuracy" in selection.metrics and "pair_accuracy" in other.metrics:
            by_pair, p_pair = gain(selection, other, "pair_accuracy", design)
        found.append(
            Baseline(
                name=name,
                title=CONTROLS[name].title,
                explanation=CONTROLS[name].explanation,
                selection=other,
                gain=difference,
                p_gain=p,
                below_chance=_below_chance(table, design) if labels.kind != "continuous" else None,
                outcomes=parts if len(parts) > 1 else (),
                judged_gain=judged,
                p_judged_gain=p_judged,
                pair_gain=by_pair,
                p_pair_gain=p_pair,
            )
        )

    for name in (*text_controls, *surface, *sources):
        if name not in CONTROLS:
            raise EvidenceError(
                f"unknown control '{name}'; expected one of {', '.join(CONTROLS)}." + did_you_mean(name, CONTROLS)
            )
    kept = None if weights is None else weights > 0
    for name in dict.fromkeys((*text_controls, *surface)):
        with stage(events, "controls", CONTROLS[name].title):
            scores = control_scores(name, labels.Y, labels.kind, fold, texts=labels.texts, arrays=surface, kept=kept)
            add(name, metric_table(scores, labels.Y, labels.kind, design, labels.pairs))
    for name, given in sources.items():
        several = list(given) if isinstance(given, Sequence) else [given]
        fits = [
            fit_sites(one, family, labels, fold, design, CONTROLS[name].title, events, weights=weights)
            for one in several
        ]
        # With several random models, the control is the best site of all of them; the curve is the first one's.
        add(name, MetricTable.join([fit.table for fit in fits]), fits[0].outcomes)
    return tuple(found)


def _below_chance(table: MetricTable, design: BootstrapDesign) -> dict[str, float] | None:
    """The figures of the lowest configuration, if its interval (Bonferroni over all of them) lies below chance."""
    metric = PRIMARY[table.kind]
    point = table.point[metric]
    if design.reason or not np.isfinite(point).any():
        return None
    lowest = int(np.nanargmin(point))
    replicates = table.drawn[metric][lowest]
    high = float(np.quantile(replicates[np.isfinite(replicates)], 1 - 0.025 / len(point)))
    if not high < CHANCE[metric]:
        return None
    return {name: float(values[lowest]) for name, values in table.point.items()} | {"high": high}
