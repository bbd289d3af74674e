"""The permutation test: one shuffle serves all sites, and the best of all sites has the null of the maximum.

The statistic is a linear score at a penalty that is set without labels: as the family's `smoothers` map training
labels to test scores by one matrix a fold, thousands of shuffles cost one matrix product. The observed statistic is
computed the same way. Labels move within groups where they vary there; the groups in which they do not vary exchange
their labels whole. p = (1 + k) / (1 + B) (Phipson and Smyth 2010); the maximum over sites is as in Westfall and Young
(1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats
import torch

from leadline.errors import EvidenceError
from leadline.probes.fit import Family
from leadline.probes.splits import group_codes

__all__ = ["STATISTIC", "PermutationTest", "Shuffles", "deal", "draw_shuffles", "max_test", "null_at_site"]

# What is computed of every shuffle; rank correlation stands for concordance, which costs a pass a level.
STATISTIC = {"binary": "auroc", "continuous": "r2", "multiclass": "auroc", "ordinal": "spearman"}

# Labels are −1 and +1: scores that differ by less than this differ by rounding.
_FLAT = 1e-5


@dataclass(frozen=True)
class Shuffles:
    """Shuffled row orders, drawn once for all sites.

    Attributes
    ----------
    index : (1 + B, n) int32; row 0 is the identity. Row i takes the target of row index[b, i].
    scheme : in words, how labels moved.
    """

    index: np.ndarray
    scheme: str


def draw_shuffles(Y: np.ndarray, groups: np.ndarray | None, n_permutations: int, seed: int) -> Shuffles:
    """Draw B shuffles that respect the groups.

    Parameters
    ----------
    Y : (n, m) targets. groups : (n,) or None.

    Raises
    ------
    EvidenceError : fewer than 19 shuffles, of which no p of .05 can come, or labels that no shuffle can move.
    """
    if n_permutations < 19:
        raise EvidenceError(f"got {n_permutations} permutations; a p-value of .05 needs 19 or more.")
    n = len(Y)
    rng = np.random.default_rng([seed, 2])
    index = np.tile(np.arange(n, dtype=np.int32), (1 + n_permutations, 1))
    if groups is None:
        for b in range(1, 1 + n_permutations):
            index[b] = rng.permutation(n)
        return Shuffles(index, "labels were shuffled over all rows")
    codes = group_codes(groups, n)
    first = np.unique(codes, return_index=True)[1].astype(np.int32)
    varies = np.bincount(codes, (Y[first[codes]] != Y).any(axis=1)) > 0
    n_varying, n_constant = int(varies.sum()), int((~varies).sum())
    if not n_varying and len(np.unique(Y[first], axis=0)) < 2:
        raise EvidenceError("no shuffle can move a label: every group holds the same one.")
    moving = np.flatnonzero(varies[codes])
    moving = moving[np.argsort(codes[moving], kind="stable")]
    whole = np.flatnonzero(~varies[codes])
    first = first[~varies]
    # The number of a row's group among those that move whole.
    group = (np.cumsum(~varies) - 1)[codes[whole]]
    for b in range(1, 1 + n_permutations):
        # Sorting by group with a random fraction shuffles the rows of every group at once.
        index[b, moving] = moving[np.argsort(codes[moving] + rng.random(len(moving)))]
        if n_constant > 1:
            # Whole groups move: each row takes the (constant) label of the group that came.
            index[b, whole] = first[rng.permutation(n_constant)][group]
    words = []
    if n_varying:
        words.append(f"labels were shuffled within {n_varying:,} groups")
    if n_constant:
        words.append(f"whole groups exchanged their labels ({n_constant:,} groups hold one label each)")
    return Shuffles(index, " and ".join(words))


def deal(Y: np.ndarray, kind: str, shuffles: Shuffles) -> np.ndarray:
    """(m, n, 1 + B) float32: the targets as each shuffle deals them, binary ones as −1 and +1; once for all sites.

    Codes of classes stay codes: `null_at_site` sets one class after the other against the rest.
    """
    target = 2 * Y - 1 if kind == "binary" else Y
    return np.stack([np.ascontiguousarray(column.astype(np.float32)[shuffles.index].T) for column in target.T])


def null_at_site(
    family: Family, X: np.ndarray, dealt: np.ndarray, kind: str, fold: np.ndarray
) -> dict[str, np.ndarray]:
    """The statistic of every shuffle at one site, averaged over folds.

    Parameters
    ----------
    X : (n, d). dealt : (m, n, 1 + B), as `deal` gives them. fold : (n,).

    Returns
    -------
    {`STATISTIC[kind]`: (1 + B,)}, entry 0 the observed; for a binary target also `"accuracy"`, at the threshold 0.
    """
    n_b = dealt.shape[2]
    names = (STATISTIC[kind], "accuracy") if kind == "binary" else (STATISTIC[kind],)
    sums = {name: np.zeros(n_b) for name in names}
    counts = np.zeros(n_b)
    for k, smoother in enumerate(family.smoothers(X, fold)):
        test = fold == k
        H = torch.from_numpy(np.ascontiguousarray(smoother))
        found = _fold_statistic(H, dealt, kind, test)
        defined = np.isfinite(found[STATISTIC[kind]])
        for name in names:
            sums[name] += np.where(defined, found[name], 0)
        counts += defined
    with np.errstate(invalid="ignore"):
        return {name: total / counts for name, total in sums.items()}


def _fold_statistic(H: torch.Tensor, dealt: np.ndarray, kind: str, test: np.ndarray) -> dict[str, np.ndarray]:
    """The statistic of every shuffle in one fold, NaN where it is undefined; H maps training labels to test scores."""

    def scored(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        train = target[~test]
        mean = train.mean(axis=0)
        return (H @ torch.from_numpy(train - mean)).numpy(), mean

    if kind == "binary":
        scores, mean = scored(dealt[0])
        held = dealt[0][test] > 0
        return {"auroc": _auroc_by_column(scores, held), "accuracy": ((scores + mean > 0) == held).mean(axis=0)}
    if kind == "multiclass":
        by_class = []
        for c in range(int(dealt[0].max()) + 1):
            target = np.where(dealt[0] == c, np.float32(1), np.float32(-1))
            by_class.append(_auroc_by_column(scored(target)[0], target[test] > 0))
        defined = np.isfinite(by_class)
        total = np.where(defined, by_class, 0).sum(axis=0)
        n_defined = defined.sum(axis=0)
        return {"auroc": np.divide(total, n_defined, out=np.full(len(total), np.nan), where=n_defined > 0)}
    if kind == "ordinal":
        scores, _ = scored(dealt[0])
        return {"spearman": _spearman_by_column(scores, dealt[0][test])}
    by_column = []
    for target in dealt:
        scores, mean = scored(target)
        held = target[test]
        spread = np.square(held - held.mean(axis=0)).sum(axis=0)
        residual = np.square(held - mean - scores).sum(axis=0)
        by_column.append(1 - np.divide(residual, spread, out=np.full(len(spread), np.nan), where=spread > 0))
    return {"r2": np.mean(by_column, axis=0)}


def _spearman_by_column(scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Rank correlation of each column of scores (n, B) with its own levels (n, B); 0 for a flat column, NaN for one
    level."""
    a = scipy.stats.rankdata(scores, axis=0)
    b = scipy.stats.rankdata(held, axis=0)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    spread = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    found = np.divide((a * b).sum(axis=0), spread, out=np.zeros(scores.shape[1]), where=spread > 0)
    flat = scores.max(axis=0) - scores.min(axis=0) <= _FLAT
    return np.where(held.min(axis=0) == held.max(axis=0), np.nan, np.where(flat, 0.0, found))


def _auroc_by_column(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """AUROC of each column of scores (n, B) for its own labels (n, B).

    Ties are broken by an order that knows no label; a column without any spread, as where every row has the same
    activations, scores one half.
    """
    mixed = np.random.default_rng(0).permutation(len(scores))
    scores, positive = scores[mixed], positive[mixed]
    order = np.argsort(np.ascontiguousarray(scores.T), axis=1)
    sorted_labels = np.take_along_axis(positive.T, order, axis=1)
    n = sorted_labels.shape[1]
    ranks = np.arange(1, n + 1, dtype=np.float64)
    n_pos = sorted_labels.sum(axis=1)
    wins = sorted_labels @ ranks - n_pos * (n_pos + 1) / 2
    pairs = n_pos * (n - n_pos)
    found = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
    flat = scores.max(axis=0) - scores.min(axis=0) <= _FLAT
    return np.where(flat & (pairs > 0), 0.5, found)


@dataclass(frozen=True)
class PermutationTest:
    """What the shuffles say.

    Attributes
    ----------
    p_values : (S,) each site's own; p_max : of the best of all sites, against the null of the maximum.
    observed : (S,); null_mean, null_low, null_high : (S,) mean and 95% range of the shuffled statistic.
    null_accuracy : (S,) mean accuracy on shuffled labels, NaN for a continuous target.
    observed_max, null_max_mean, null_max_95 : of the maximum over sites.
    smallest_p : the smallest p that B shuffles can give.
    """

    p_values: np.ndarray
    p_max: float
    observed: np.ndarray
    null_mean: np.ndarray
    null_low: np.ndarray
    null_high: np.ndarray
    null_accuracy: np.ndarray
    observed_max: float
    null_max_mean: float
    null_max_95: float
    n_permutations: int
    smallest_p: float
    scheme: str
    statistic: str


def max_test(by_site: list[dict[str, np.ndarray]], kind: str, family: Family, shuffles: Shuffles) -> PermutationTest:
    """Combine `null_at_site` of all sites into their p-values and that of their maximum."""
    primary = STATISTIC[kind]
    values = np.stack([site[primary] for site in by_site])
    observed, null = values[:, 0], values[:, 1:]
    n_b = null.shape[1]
    # A shuffle that leaves every fold without a class has no statistic: it counts against the probe.
    against = np.where(np.isfinite(null), null, np.inf)
    observed_max = float(np.nanmax(observed)) if np.isfinite(observed).any() else float("nan")
    highest = np.where(np.isfinite(null), null, -np.inf).max(axis=0)
    highest = np.where(np.isfinite(highest), highest, np.inf)
    score = "mean-difference" if family.name == "mean_difference" else "least-squares"
    penalty = "" if family.name == "mean_difference" else ", penalty set without labels"
    return PermutationTest(
        p_values=np.where(np.isfinite(observed), (1 + (against >= observed[:, None]).sum(axis=1)) / (1 + n_b), np.nan),
        p_max=float((1 + (highest >= observed_max).sum()) / (1 + n_b)) if np.isfinite(observed_max) else float("nan"),
        observed=observed,
        null_mean=np.array([_mean(row) for row in null]),
        null_low=np.array([_quantile(row, 0.025) for row in null]),
        null_high=np.array([_quantile(row, 0.975) for row in null]),
        null_accuracy=np.stack([s["accuracy"][1:].mean() if "accuracy" in s else np.float64("nan") for s in by_site]),
        observed_max=observed_max,
        null_max_mean=_mean(highest),
        null_max_95=_quantile(highest, 0.95),
        n_permutations=n_b,
        smallest_p=1 / (1 + n_b),
        scheme=shuffles.scheme,
        statistic=f"{primary} of a {score} score (out of fold{penalty})",
    )


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _quantile(values: np.ndarray, share: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")
