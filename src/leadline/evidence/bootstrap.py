"""Bootstrap over groups within folds, and estimates corrected for having chosen (BBC-CV).

Out-of-fold scores of every configuration (site × l2) are kept; a replicate draws, inside each fold, one group fewer
than it has, with replacement: n draws of n groups would understate a variance by (n − 1)/n, which tells where a fold
holds few (Rao and Wu 1988, J. Am. Stat. Assoc. 83). The fitted probes stay as they are, and the intervals condition on
them.

*Correction.* The configuration that is best on a replicate's drawn groups is scored on the groups that it left out;
the mean over replicates estimates what the choice is worth on new data (Tsamardinos, Greasidou and Borboudakis 2018,
Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation, Machine Learning 107). A metric
about a fold's own mean, such as R², is lower on a third of a fold for that reason alone; what left-out groups cost the
average configuration, which nobody chose, is therefore given back.
*Interval.* The left-out third of the groups is more variable than the whole; so the interval's shape is that of the
chosen configuration's metric over the drawn groups, choice repeated in each replicate, centred on the corrected
estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.stats

from leadline.errors import EvidenceError
from leadline.evidence.metrics import METRICS, PRIMARY, all_metrics, fold_mean, pair_accuracy
from leadline.probes.intervals import Estimate
from leadline.probes.splits import group_codes

__all__ = [
    "BootstrapDesign",
    "Estimate",
    "MetricTable",
    "Selection",
    "bootstrap_design",
    "gain",
    "interval",
    "metric_table",
    "select",
]

LEVEL = 0.95
MIN_GROUPS = 3
_UNBOUNDED_BELOW = ("r2", "spearman", "kappa")


@dataclass(frozen=True)
class BootstrapDesign:
    """Replicates drawn once and shared by every configuration and control, so that differences are paired.

    Attributes
    ----------
    fold : (n,) the fold that tests a row.
    weights : one (n_fold, 1 + 2·B) float32 array a fold: ones, then the B drawn weightings, then the B left-out ones.
    n_replicates : B.
    reason : why no interval can be given, or an empty string.
    widening : by how much Student's t with as many degrees of freedom as groups less folds exceeds the normal quantile:
        with few groups their spread is itself uncertain, and intervals are that much wider about their estimate.
    """

    fold: np.ndarray
    weights: tuple[np.ndarray, ...]
    n_replicates: int
    reason: str
    widening: float = 1.0


def bootstrap_design(fold: np.ndarray, groups: np.ndarray | None, n_replicates: int, seed: int) -> BootstrapDesign:
    """Draw the replicates.

    Raises
    ------
    EvidenceError : fewer than 100 replicates, of which no 95% interval can be read.
    """
    if n_replicates < 100:
        raise EvidenceError(f"got {n_replicates} bootstrap replicates; a 95% interval needs 100 or more.")
    rng = np.random.default_rng([seed, 1])
    codes = group_codes(groups, len(fold))
    weights = []
    fewest, n_groups = len(fold), 0
    for k in range(int(fold.max()) + 1):
        members, local = np.unique(codes[fold == k], return_inverse=True)
        size = len(members)
        fewest, n_groups = min(fewest, size), n_groups + size
        drawn = rng.multinomial(max(size - 1, 1), np.full(size, 1 / size), size=n_replicates).T.astype(np.float32)
        rows = drawn[local.ravel()]
        ones = np.ones((len(rows), 1), dtype=np.float32)
        weights.append(np.hstack([ones, rows, (rows == 0).astype(np.float32)]))
    holds = f"a fold holds {fewest} group{'s' * (fewest != 1)}"
    needed = f"an interval over groups needs {MIN_GROUPS} or more in each fold"
    reason = f"{holds}; {needed}" if fewest < MIN_GROUPS else ""
    return BootstrapDesign(fold, tuple(weights), n_replicates, reason, widening(n_groups - len(weights)))


def widening(freedom: int) -> float:
    """The ratio of Student's t to the normal quantile at the interval's level."""
    if freedom < 1:
        return float("nan")
    tail = (1 + LEVEL) / 2
    return float(scipy.stats.t.ppf(tail, freedom) / scipy.stats.norm.ppf(tail))


@dataclass(frozen=True)
class MetricTable:
    """Metrics of C configurations, averaged over folds.

    Attributes
    ----------
    point : {metric: (C,)} on all rows.
    drawn, left_out : {metric: (C, B)} on each replicate's drawn, and left-out, groups.
    kind : of the target.
    """

    point: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    left_out: dict[str, np.ndarray]
    kind: str

    def take(self, rows: np.ndarray | slice) -> MetricTable:
        """The table of some configurations."""
        return MetricTable(
            {m: v[rows] for m, v in self.point.items()},
            {m: v[rows] for m, v in self.drawn.items()},
            {m: v[rows] for m, v in self.left_out.items()},
            self.kind,
        )

    @staticmethod
    def join(tables: list[MetricTable]) -> MetricTable:
        """One table of the configurations of several, in order."""
        first = tables[0]
        return MetricTable(
            {m: np.concatenate([t.point[m] for t in tables]) for m in first.point},
            {m: np.concatenate([t.drawn[m] for t in tables]) for m in first.drawn},
            {m: np.concatenate([t.left_out[m] for t in tables]) for m in first.left_out},
            first.kind,
        )


def metric_table(
    scores: np.ndarray, Y: np.ndarray, kind: str, design: BootstrapDesign, pairs: np.ndarray | None = None
) -> MetricTable:
    """Every metric of every configuration under every replicate.

    Parameters
    ----------
    scores : (C, n, c) out-of-fold scores. Y : (n, m).
    pairs : (n,) minimal pairs of a binary target, for `pair_accuracy` too.
    """
    n_b = design.n_replicates
    paired = pairs is not None and kind == "binary"
    names = (*METRICS[kind], "pair_accuracy") if paired else METRICS[kind]
    values = {name: np.empty((len(scores), 1 + 2 * n_b), dtype=np.float32) for name in names}
    rows = [np.flatnonzero(design.fold == k) for k in range(len(design.weights))]
    for c, configuration in enumerate(scores):
        by_fold = [all_metrics(kind, configuration[r], Y[r], w) for r, w in zip(rows, design.weights, strict=True)]
        if pairs is not None and paired:
            for found, r, w in zip(by_fold, rows, design.weights, strict=True):
                found["pair_accuracy"] = pair_accuracy(configuration[r, 0], Y[r, 0], pairs[r], w)
        for name in names:
            values[name][c] = fold_mean([found[name] for found in by_fold])
    return MetricTable(
        {m: v[:, 0] for m, v in values.items()},
        {m: v[:, 1 : 1 + n_b] for m, v in values.items()},
        {m: v[:, 1 + n_b :] for m, v in values.items()},
        kind,
    )


@dataclass(frozen=True)
class Selection:
    """The chosen configuration, and what the choice is worth.

    Attributes
    ----------
    index : the configuration with the best primary metric on all rows.
    naive : {metric: its value there}, not corrected.
    metrics : {metric: Estimate}, corrected for the choice.
    centred : {metric: (B,)} replicates about the corrected estimate, for paired differences.
    """

    index: int
    naive: dict[str, float]
    metrics: dict[str, Estimate]
    centred: dict[str, np.ndarray]


def select(table: MetricTable, design: BootstrapDesign, by: str | None = None) -> Selection:
    """Choose the configuration with the best primary metric, or that of `by`, and correct its metrics for the choice.

    Raises
    ------
    EvidenceError : the primary metric is undefined for every configuration.
    """
    primary = by or PRIMARY[table.kind]
    point = table.point[primary]
    if not np.isfinite(point).any():
        raise EvidenceError(
            f"{primary} is undefined at every site; each fold needs both classes, or a target that varies."
        )
    index = int(np.nanargmax(point))
    n_c = len(point)
    drawn = np.where(np.isfinite(table.drawn[primary]), table.drawn[primary], -np.inf)
    chosen = drawn.argmax(axis=0) if n_c > 1 else np.zeros(drawn.shape[1], dtype=np.int64)
    at = np.arange(drawn.shape[1])
    metrics, centred = {}, {}
    for name in table.point:
        inside = table.drawn[name][chosen, at].astype(np.float64)
        outside = table.left_out[name][chosen, at].astype(np.float64)
        # What smaller sets alone cost: the mean over configurations chooses none.
        cost = table.point[name] - np.array([_mean(row) for row in table.left_out[name].astype(np.float64)])
        value = float(table.point[name][index]) if n_c == 1 else _mean(outside) + _mean(cost)
        spread = inside - _mean(inside)
        # Centring must not carry a replicate out of the metric's range.
        lowest = -np.inf if name in _UNBOUNDED_BELOW else 0.0
        replicates = np.clip(value + spread, lowest, 1.0)
        centred[name] = replicates
        e = interval(value, replicates, design)
        metrics[name] = replace(e, low=max(e.low, lowest)) if np.isfinite(e.low) else e
    return Selection(index, {m: float(v[index]) for m, v in table.point.items()}, metrics, centred)


def gain(one: Selection, other: Selection, metric: str, design: BootstrapDesign) -> tuple[Estimate, float]:
    """The paired difference of two selections' metrics, and its one-sided p-value against no gain.

    Returns
    -------
    (one − other with its interval, p = (1 + #{replicates ≤ 0}) / (1 + B)); NaN where no interval can be given.
    """
    difference = one.centred[metric] - other.centred[metric]
    estimate = interval(one.metrics[metric].value - other.metrics[metric].value, difference, design)
    if not np.isfinite(estimate.low):
        return estimate, float("nan")
    finite = difference[np.isfinite(difference)]
    return estimate, float((1 + (finite <= 0).sum()) / (1 + len(finite)))


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def interval(value: float, replicates: np.ndarray, design: BootstrapDesign) -> Estimate:
    """The estimate with its replicates' interval; NaN ends where the design, or undefined replicates, forbid one."""
    finite = replicates[np.isfinite(replicates)]
    # Replicates that are undefined for lack of a class would make the rest look surer than they are.
    if design.reason or len(finite) < 0.9 * len(replicates):
        return Estimate(value)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = (value + (end - value) * design.widening for end in (low, high))
    return Estimate(value, float(low), float(min(high, 1.0)))
