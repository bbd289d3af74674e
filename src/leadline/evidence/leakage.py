"""Columns that give the label away across folds: an identity that the folds should have kept whole.

Where a value of some column recurs in several folds, and the label hardly varies within a value, a probe that reads
the identity scores well without the concept. What a column gives away is measured as a probe would use it: a row is
predicted by the labels of the rows of its value in *other folds* alone.

*Statistic*: the mean over rows of (t − t̄)·(m − t̄), with t the row's target (one-hot for classes, standardised for
numbers) and m the mean target of its value in the other folds. p comes from shuffles that respect the groups, of the
rows whose value is known: a column that is given for one class alone says nothing within what it names.

A number that the label rises or falls with (the score that it was cut from) is the label under another name, not an
identity: a probe of the concept reads it too, and folds that kept its values whole would hold no concept together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import rankdata

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Estimate, bootstrap_design, metric_table
from leadline.evidence.metrics import PRIMARY, weighted_concordance, weighted_spearman
from leadline.evidence.permutation import draw_shuffles
from leadline.probes.intervals import percentile

__all__ = ["LeakingColumn", "leaking_columns"]

# A number that belongs to a value, and is not merely near it, leaves no variance within values.
_CONSTANT = 0.995
_ALPHA = 0.01
_COVERED = 0.2
_MIN_ROWS = 20
_PURITY = 0.95
# What a prediction from the other folds must reach for a column to count, by the primary metric.
_EFFECT = {"auroc": 0.9, "concordance": 0.9, "r2": 0.8}
# A number that orders the classes this well, or correlates in ranks with a continuous target, is another name for it.
_SYNONYM = 0.9
_N_BOOTSTRAPS = 500
_BLOCK_VALUES = 1 << 21


@dataclass(frozen=True)
class LeakingColumn:
    """A column within whose values the label hardly varies.

    Attributes
    ----------
    name : of the column. kind : `"identity"`, one to group the folds by, or `"synonym"`, the label, perhaps, under
        another name: no more values than the label has classes, or numbers that order it. Those have an AUROC of .9 or
        more in either direction (over all pairs of levels for an ordinal target, the mean over pairs of classes for a
        multiclass one), or |Spearman| of .9 or more with a column of a continuous target; or `"coarse"`, within whose
        values a continuous target varies little, and yet varies, as latitude does within a country.
    n_values : different values. covered : share of rows whose value stands in another fold too.
    purity : share of those rows that have the label of the majority of their value's rows in other folds; for a
        continuous target the share of variance between values.
    metric : the primary metric of predicting a row by its value's rows in other folds, over the covered rows.
    p : of the shuffles, one-sided; smallest_p is the smallest that they can give.
    """

    name: str
    kind: str
    n_values: int
    covered: float
    purity: float
    metric: Estimate
    p: float
    smallest_p: float

    @property
    def sentence(self) -> str:
        """What was found, in plain words."""
        if self.kind == "coarse":
            return (
                f"'{self.name}' nearly gives the target, which varies little within its {self.n_values:,} values: it "
                "may be a coarse form of it. Fold by it to see what is left within and between them."
            )
        if self.kind == "synonym":
            return (
                f"'{self.name}' has {self.n_values:,} values and gives the label: it may be the label under another "
                "name, or what the label was made from."
            )
        return (
            f"'{self.name}' gives the label away: its {self.n_values:,} values recur across folds, and a row's label "
            f"follows from other rows of its value ({self.metric.value:.2f}). Group the folds by it, or leave the "
            "column out if it only describes the concept in finer words."
        )


def leaking_columns(
    candidates: Mapping[str, np.ndarray],
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    *,
    n_permutations: int = 999,
    seed: int = 0,
) -> tuple[LeakingColumn, ...]:
    """Find the columns that give the label away across folds, the worst first.

    A column whose values stand in one fold each (the groups themselves, or a number of its own for every row) gives
    nothing away. Missing values (None, NaN, an empty text) are no value. A finer name of the concept (the tag under
    a part of speech) cannot be told from an identity by these figures, and is given as one.

    Parameters
    ----------
    candidates : {name: (n,) values}; values are compared as text. Y : (n, m) targets. kind : of the target.
    fold : (n,) the fold that tests a row. groups : (n,) or None.

    Raises
    ------
    EvidenceError : a column of another length; fewer than 100 permutations, of which no p of .01 can come; or labels
        that no shuffle can move.
    """
    n = len(Y)
    if n_permutations < 100:
        raise EvidenceError(f"got {n_permutations} permutations; a p-value of .01 needs 100 or more.")
    for name, values in candidates.items():
        if np.shape(values) != (n,):
            raise EvidenceError(f"column '{name}' has shape {np.shape(values)}; expected one value for {n} rows.")
    target = _target(Y, kind)
    n_classes = None if kind == "continuous" else int(Y.max()) + 1
    shuffles: dict[bytes, np.ndarray] = {}
    found = []
    for name, values in candidates.items():
        codes = _codes(values)
        screened = _screen(codes, target, Y, kind, fold, groups, seed)
        if screened is None:
            continue
        covered, purity, metric = screened
        known = codes >= 0
        which = known.tobytes()
        if which not in shuffles:
            own = None if groups is None else np.asarray(groups)[known]
            shuffles[which] = draw_shuffles(Y[known], own, n_permutations, seed).index
        p = _p_value(codes[known], target[known], fold[known], shuffles[which])
        if p > _ALPHA:
            continue
        n_values = int(codes.max()) + 1
        few = n_classes is not None and n_values <= n_classes
        synonym = few or _orders(np.asarray(values, dtype=object)[known], Y[known], kind)
        found.append(
            LeakingColumn(
                name,
                "synonym" if synonym else "coarse" if kind == "continuous" and purity < _CONSTANT else "identity",
                n_values,
                covered,
                purity,
                metric,
                p,
                1 / (1 + n_permutations),
            )
        )
    return tuple(sorted(found, key=lambda c: (c.kind, -c.covered, -c.metric.value)))


def _target(Y: np.ndarray, kind: str) -> np.ndarray:
    """(n, C) one-hot, or (n, m) standardised numbers."""
    if kind == "continuous":
        spread = Y.std(axis=0)
        return (Y - Y.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.eye(max(int(Y.max()) + 1, 2))[Y[:, 0].astype(np.int64)]


def _codes(values: np.ndarray) -> np.ndarray:
    """(n,) codes of the values, −1 where one is missing."""
    given = np.asarray(values, dtype=object)
    missing = np.array(
        [
            v is None or (isinstance(v, float) and np.isnan(v)) or (isinstance(v, str) and not v.strip())
            for v in given.tolist()
        ]
    )
    codes = np.full(len(given), -1)
    if not missing.all():
        codes[~missing] = np.unique(given[~missing].astype(str), return_inverse=True)[1].ravel()
    return codes


def _elsewhere(codes: np.ndarray, target: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) how many rows of other folds have a row's value, and (n, c) the sum of their targets."""
    known = codes >= 0
    n_folds = int(fold.max()) + 1
    cells = np.where(known, codes, 0) * n_folds + fold
    n_values = max(int(codes.max()) + 1, 1)
    at = np.flatnonzero(known)
    by_cell = csr_array((np.ones(len(at)), (cells[at], at)), shape=(n_values * n_folds, len(codes)))
    sums, counts = by_cell @ target, by_cell @ np.ones(len(codes))
    all_sums = sums.reshape(n_values, n_folds, -1).sum(axis=1)
    all_counts = counts.reshape(n_values, n_folds).sum(axis=1)
    own = np.where(known, codes, 0)
    return np.where(known, all_counts[own] - counts[cells], 0), all_sums[own] - sums[cells]


def _screen(
    codes: np.ndarray,
    target: np.ndarray,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
) -> tuple[float, float, Estimate] | None:
    """The share of covered rows, purity and metric of a column that passes on all of them; else None."""
    count, total = _elsewhere(codes, target, fold)
    rows = count > 0
    if rows.mean() < _COVERED or rows.sum() < _MIN_ROWS:
        return None
    mean = total[rows] / count[rows, None]
    if kind == "continuous":
        centred = target[rows] - target[rows].mean(axis=0)
        within = target[rows] - _value_means(codes[rows], target[rows])
        purity = 1 - float(np.square(within).sum() / max(np.square(centred).sum(), 1e-300))
        passes = purity >= _EFFECT["r2"]
        scores = mean * Y.std(axis=0) + Y.mean(axis=0)
    else:
        purity = float((mean.argmax(axis=1) == Y[rows, 0]).mean())
        passes = purity >= _PURITY
        # The share of each class, drawn towards the base rate by one row, so that many rows say more than one.
        share = (total[rows] + target.mean(axis=0)) / (count[rows, None] + 1)
        if kind == "binary":
            scores = share[:, 1:] - 0.5
        elif kind == "multiclass":
            scores = share
        else:
            scores = share[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] - 0.5
    if not passes:
        return None
    local = np.unique(fold[rows], return_inverse=True)[1].ravel()
    name = PRIMARY[kind]
    design = bootstrap_design(local, None if groups is None else np.asarray(groups)[rows], _N_BOOTSTRAPS, seed)
    table = metric_table(scores[None], Y[rows], kind, design)
    metric = Estimate(float(table.point[name][0]))
    if not metric.value >= _EFFECT[name]:
        return None
    if not design.reason:
        metric = percentile(np.append(table.point[name], table.drawn[name]))
    return float(rows.mean()), purity, metric


def _value_means(codes: np.ndarray, target: np.ndarray) -> np.ndarray:
    count = np.bincount(codes)
    return np.stack([(np.bincount(codes, t) / np.maximum(count, 1))[codes] for t in target.T], axis=1)


def _p_value(codes: np.ndarray, target: np.ndarray, fold: np.ndarray, index: np.ndarray) -> float:
    """p of the statistic, a block of shuffles in one sparse product."""
    statistic = np.zeros(len(index))
    size = max(1, _BLOCK_VALUES // len(codes))
    for column in (target - target.mean(axis=0)).T:
        for start in range(0, len(index), size):
            dealt = column[index[start : start + size]].T
            count, total = _elsewhere(codes, dealt, fold)
            rows = count > 0
            statistic[start : start + size] += (dealt[rows] * total[rows] / count[rows, None]).mean(axis=0)
    observed, null = statistic[0], statistic[1:]
    return float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null)))


def _orders(values: np.ndarray, Y: np.ndarray, kind: str) -> bool:
    """Whether known values are numbers that order the classes, or follow a column of a continuous target."""
    try:
        numbers = np.array([float(v) for v in values.tolist()])
    except (TypeError, ValueError):
        return False
    finite = np.isfinite(numbers)
    # Ranks keep the precision of large numbers.
    ranks, Y = rankdata(numbers[finite])[:, None], Y[finite]
    W = np.ones((len(Y), 1), dtype=np.float32)
    if kind == "continuous":
        found = [weighted_spearman(ranks, y[:, None], W)[0] for y in Y.T]
        return bool(np.nanmax(np.abs(found), initial=0) >= _SYNONYM)
    if kind == "ordinal":
        agree = float(weighted_concordance(ranks[:, 0], Y[:, 0], W)[0])
        return max(agree, 1 - agree) >= _SYNONYM
    of_class = [ranks[Y[:, 0] == c, 0] for c in np.unique(Y)]
    between = [_auroc(one, other) for i, one in enumerate(of_class) for other in of_class[:i]]
    return float(np.mean([max(a, 1 - a) for a in between])) >= _SYNONYM if between else False


def _auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    above = rankdata(np.concatenate([positive, negative]))[: len(positive)].sum()
    return float((above - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))
