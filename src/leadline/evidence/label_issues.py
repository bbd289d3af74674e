"""Rows whose given label the out-of-fold scores contradict: candidates for wrong labels, by confident learning.

Scores become probabilities by Platt scaling that is cross-fitted: a fold's is fitted on the other folds' scores. A
class's threshold t_j is the mean probability of j over the rows that are labelled j. A row counts as confidently j
where p_j ≥ t_j (the most probable such j, if there are several); rows confidently of another class than they are
labelled are the off-diagonal of the confident joint. Its rows, scaled to the number of rows of each given label,
estimate how many labels are wrong. Northcutt, Jiang and Chuang 2021, Confident learning: estimating uncertainty in
dataset labels, JAIR 70, arXiv:1911.00068.

A continuous target has outliers instead: the out-of-fold residual over a robust scale of the other folds' residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.stats
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp, softmax

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Estimate, bootstrap_design, metric_table
from leadline.evidence.metrics import CHANCE, PRIMARY
from leadline.probes.intervals import draw_groups, percentile

__all__ = ["LabelIssue", "LabelIssues", "calibrated_probabilities", "confident_joint", "label_issues"]

# Below this value of the primary metric the classes overlap so much that contradicted rows are mostly hard ones.
_CLEAR = 0.95
_CLEAR_R2 = 0.9
# Studentised residuals are flagged at this false-discovery rate.
_FDR = 0.05
# A normal distribution has 0.27% of its mass beyond three standard deviations.
_FAR = 3.0


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is likely wrong.

    Attributes
    ----------
    row : its index. given, suggested : class codes, or the value and its out-of-fold prediction.
    probability : of the given label; for a continuous target the p-value of the residual.
    margin : normalised margin, (p_given − max of the others + 1) / 2, 0 at worst; for a continuous target the
        studentised residual.
    column : of a continuous target.
    """

    row: int
    given: float
    suggested: float
    probability: float
    margin: float
    column: int = 0


@dataclass(frozen=True)
class LabelIssues:
    """Likely wrong labels, the likeliest first.

    Attributes
    ----------
    issues : the flagged rows. quality : (n,) each row's margin, in 0 … 1 and low where doubtful (for a continuous
        target its p-value, the smallest over columns); NaN where nothing could be run.
    expected_wrong : estimated number of wrong labels, and its 95% interval over groups.
    joint : (C, C) estimated number of rows by given label (row) and true label (column); empty if continuous.
    metric : the primary metric of the scores, which says whether they can point anywhere.
    caution : how to read this. reason : why it could not be run, or an empty string.
    """

    kind: str
    issues: tuple[LabelIssue, ...]
    quality: np.ndarray
    expected_wrong: Estimate
    joint: np.ndarray
    metric: Estimate
    caution: str
    reason: str = ""

    @property
    def n_flagged(self) -> int:
        return len(self.issues)

    @property
    def table(self) -> pl.DataFrame:
        """A row an issue: row, column, given, suggested, probability, margin."""
        names = ("row", "column", "given", "suggested", "probability", "margin")
        types = (pl.Int64, pl.Int64, pl.Float64, pl.Float64, pl.Float64, pl.Float64)
        return pl.DataFrame(
            {name: [getattr(i, name) for i in self.issues] for name in names},
            schema=dict(zip(names, types, strict=True)),
        )


def label_issues(
    scores: np.ndarray,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    *,
    n_bootstraps: int = 1000,
    seed: int = 0,
) -> LabelIssues:
    """Find the labels that out-of-fold scores contradict.

    In-sample scores find nothing: a probe that has memorised a wrong label agrees with it.

    Parameters
    ----------
    scores : (n, c) out of fold. Y : (n, m). kind : `"binary"`, `"multiclass"`, `"ordinal"` or `"continuous"`.
    fold : (n,) the fold that tests a row. groups : (n,) or None, drawn whole by the bootstrap.

    Raises
    ------
    EvidenceError : shapes that do not fit, or scores that are not finite.
    """
    if len(scores) != len(Y) or np.shape(fold) != (len(Y),) or not np.isfinite(scores).all():
        raise EvidenceError(
            f"got scores {scores.shape}, Y {Y.shape} and fold {np.shape(fold)}; expected finite out-of-fold scores and "
            "one row of each a row of data."
        )
    metric, why = _metric(scores, Y, kind, fold, groups, n_bootstraps, seed)
    if why:
        nothing = np.full(len(Y), np.nan)
        return LabelIssues(kind, (), nothing, Estimate(float("nan")), np.empty((0, 0)), metric, "", why)
    drawn = draw_groups(len(Y), n_bootstraps, seed, groups=groups, fold=fold)
    if kind == "continuous":
        return _outliers(scores, Y, fold, drawn, metric)
    codes = Y[:, 0].astype(np.int64)
    probabilities = calibrated_probabilities(scores, codes, kind, fold)
    joint, confident = confident_joint(probabilities, codes)
    rows = np.arange(len(codes))
    given = probabilities[rows, codes]
    others = probabilities.copy()
    others[rows, codes] = -np.inf
    margin = (given - others.max(axis=1) + 1) / 2
    flagged = (confident >= 0) & (confident != codes) & (probabilities.argmax(axis=1) != codes)
    order = np.flatnonzero(flagged)[np.argsort(margin[flagged], kind="stable")]
    issues = tuple(
        LabelIssue(int(i), float(codes[i]), float(confident[i]), float(given[i]), float(margin[i])) for i in order
    )
    caution = (
        "A probe can contradict a label because it is wrong, or because the row is hard or rare: read these rows "
        "before changing any."
    )
    if metric.value < _CLEAR:
        caution += (
            f" With {PRIMARY[kind]} {metric.value:.2f} the classes overlap, so that many of them will be hard rows, "
            "and the expected number of wrong labels is an upper bound at best."
        )
    return LabelIssues(kind, issues, margin, _expected(codes, confident, drawn), joint, metric, caution)


def calibrated_probabilities(scores: np.ndarray, codes: np.ndarray, kind: str, fold: np.ndarray) -> np.ndarray:
    """(n, C) class probabilities, each fold's by a scaling that is fitted on the other folds' scores and labels.

    Binary: P(1) = σ(a·s + b). Multiclass: softmax(a·s + b), one a and an offset a class. Ordinal: P(y > k) =
    σ(a_k·s_k + b_k), made to fall with k. Targets are smoothed by Platt's rule, (N₊ + 1)/(N₊ + 2) and 1/(N₋ + 2), so
    that classes that the scores separate do not end at certainty.

    References
    ----------
    J. Platt (1999), Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers.
    """
    n_classes = scores.shape[1] if kind == "multiclass" else scores.shape[1] + 1
    found = np.empty((len(scores), n_classes))
    scores = scores.astype(np.float64)
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        spread = max(float(scores[train].std()), 1e-12)
        own, held, y = scores[train] / spread, scores[test] / spread, codes[train]
        if kind == "multiclass":
            found[test] = _softmax_scaling(own, y, held)
            continue
        above = np.stack([_platt(own[:, j], y > j, held[:, j]) for j in range(own.shape[1])], axis=1)
        above = np.minimum.accumulate(above, axis=1)
        ends = np.ones((len(above), 1))
        found[test] = -np.diff(np.hstack([ends, above, 0 * ends]), axis=1)
    return found


def _platt(scores: np.ndarray, positive: np.ndarray, held: np.ndarray) -> np.ndarray:
    """σ(a·s + b) of held-out scores, with a ≥ 0: a score against its own meaning is taken to say nothing."""
    n_pos = int(positive.sum())
    target = np.where(positive, (n_pos + 1) / (n_pos + 2), 1 / (len(positive) - n_pos + 2))

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = theta[0] * scores + theta[1]
        error = expit(z) - target
        value = -(target * log_expit(z) + (1 - target) * log_expit(-z)).mean()
        return float(value), np.array([(error * scores).mean(), error.mean()])

    fit = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return np.asarray(expit(fit.x[0] * held + fit.x[1]))


def _softmax_scaling(scores: np.ndarray, codes: np.ndarray, held: np.ndarray) -> np.ndarray:
    n, n_classes = scores.shape
    counts = np.bincount(codes, minlength=n_classes)
    # Platt's rule for several classes: a row's own class gets (N_c + 1)/(N_c + C), every other one 1/(N_c + C).
    target = np.repeat(1 / (counts[codes] + n_classes)[:, None], n_classes, axis=1)
    target[np.arange(n), codes] = (counts[codes] + 1) / (counts[codes] + n_classes)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = theta[0] * scores + theta[1:]
        log_p = z - logsumexp(z, axis=1, keepdims=True)
        error = np.exp(log_p) - target
        return float(-(target * log_p).sum() / n), np.append((error * scores).sum() / n, error.sum(axis=0) / n)

    start = np.append(1.0, np.zeros(n_classes))
    bounds: list[tuple[float | None, float | None]] = [(0, None), *([(None, None)] * n_classes)]
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(softmax(fit.x[0] * held + fit.x[1:], axis=1))


def confident_joint(probabilities: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count rows by given label and by the class that they are confidently of.

    Parameters
    ----------
    probabilities : (n, C) out of fold. codes : (n,) given labels.

    Returns
    -------
    joint : (C, C), its rows scaled to the number of rows of each given label.
    confident : (n,) int, the class that a row is confidently of, −1 where it is of none.
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(codes, minlength=n_classes)
    thresholds = np.full(n_classes, np.inf)
    for j in np.flatnonzero(counts):
        thresholds[j] = probabilities[codes == j, j].mean()
    passes = probabilities >= thresholds - 1e-6
    confident = np.where(passes.any(axis=1), np.where(passes, probabilities, -1.0).argmax(axis=1), -1)
    known = confident >= 0
    raw = np.bincount(codes[known] * n_classes + confident[known], minlength=n_classes**2).reshape(n_classes, -1)
    # At least one row of each class is taken to be right, so that every class's share is defined.
    np.fill_diagonal(raw, np.maximum(raw.diagonal(), 1))
    return counts[:, None] * raw / raw.sum(axis=1, keepdims=True), confident


def _expected(codes: np.ndarray, confident: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Rows off the joint's diagonal, in every replicate; the thresholds stay as they are."""
    total = np.zeros(drawn.shape[1])
    for c in np.unique(codes):
        own = codes == c
        known = (own & (confident >= 0)).astype(np.float64) @ drawn
        off = (own & (confident >= 0) & (confident != c)).astype(np.float64) @ drawn
        total += (own.astype(np.float64) @ drawn) * np.divide(off, known, out=np.zeros_like(off), where=known > 0)
    return percentile(total)


def _outliers(scores: np.ndarray, Y: np.ndarray, fold: np.ndarray, drawn: np.ndarray, metric: Estimate) -> LabelIssues:
    """Residuals over the other folds' robust scale, flagged by Benjamini and Hochberg over rows and columns."""
    residual = Y - scores
    student = np.empty_like(residual)
    for k in np.unique(fold):
        other = residual[fold != k]
        centre = np.median(other, axis=0)
        scale = scipy.stats.median_abs_deviation(other, axis=0, scale="normal")
        # Where most predictions are exact, the median deviation is 0 and the standard deviation still is not.
        scale = np.where(scale > 0, scale, np.maximum(other.std(axis=0), 1e-300))
        student[fold == k] = (residual[fold == k] - centre) / scale
    p = 2 * scipy.stats.norm.sf(np.abs(student))
    q = scipy.stats.false_discovery_control(p.ravel()).reshape(p.shape)
    at = np.argwhere(q <= _FDR)
    order = at[np.argsort(-np.abs(student[tuple(at.T)]), kind="stable")]
    issues = tuple(
        LabelIssue(int(i), float(Y[i, j]), float(scores[i, j]), float(p[i, j]), float(student[i, j]), int(j))
        for i, j in order
    )
    far = (np.abs(student) > _FAR).sum(axis=1).astype(np.float64) @ drawn
    by_chance = drawn.sum(axis=0) * Y.shape[1] * 2 * scipy.stats.norm.sf(_FAR)
    caution = (
        "A large residual is a wrong value, or a row that the probe cannot read; the expected number counts residuals "
        f"beyond {_FAR:.0f} robust standard deviations in excess of a normal distribution's, so that heavy tails count."
    )
    if metric.value < _CLEAR_R2:
        caution += f" With R² {metric.value:.2f} only gross errors stand out."
    return LabelIssues(
        "continuous",
        issues,
        p.min(axis=1),
        percentile(np.maximum(far - by_chance, 0)),
        np.empty((0, 0)),
        metric,
        caution,
    )


def _metric(
    scores: np.ndarray,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    n_bootstraps: int,
    seed: int,
) -> tuple[Estimate, str]:
    """The primary metric of the scores, and why they point nowhere, if they do."""
    design = bootstrap_design(fold, groups, n_bootstraps, seed)
    table = metric_table(scores[None], Y, kind, design)
    name = PRIMARY[kind]
    found = percentile(np.append(table.point[name], table.drawn[name]))
    if design.reason:
        return Estimate(found.value), f"Whether the scores read the concept cannot be told: {design.reason}."
    if not found.low > CHANCE[name]:
        return found, (
            f"The scores do not read the concept above chance ({name} {found.value:.3f} "
            f"[{found.low:.3f}, {found.high:.3f}]), so they point at no label."
        )
    return found, ""
