"""Simplified representations, and whether they still stand for the full one off the training distribution.

To understand a representation people look at its top principal components, or at clusters. Both are fitted on a
distribution, and can reproduce what the full representation does there while they lose what it does elsewhere. So a
probe is applied to the simplified representation in place of the full one, out of fold on the training distribution and
on other sets, and what the simplification loses is compared between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.linalg
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.metrics import PRIMARY, decided_codes, fold_mean, weighted_r2
from leadline.evidence.transfer import weighted_metrics
from leadline.probes.fit import Family
from leadline.probes.intervals import draw_groups, percentile
from leadline.probes.splits import group_codes

__all__ = ["CLUSTERS", "RANKS", "Compared", "Folded", "FoldedProbe", "Simplified", "fit_folded", "simplified_transfer"]

# A loss off the training distribution below this is none to speak of, however sure it is.
MARGIN = 0.02
RANKS = (1, 2, 4, 8, 16, 32, 64)
CLUSTERS = (2, 4, 8, 16, 32)
_STARTS = 4


@runtime_checkable
class FoldedProbe(Protocol):
    """A probe with the fits of its folds, as a sweep's `SiteOutcome` and `fit_folded` give it.

    coef (c, d) and intercept (c,) of the refit on all rows; fold_coef (K, c, d) and fold_intercept (K, c) of the fits
    that left fold k out.
    """

    @property
    def coef(self) -> np.ndarray: ...
    @property
    def intercept(self) -> np.ndarray: ...
    @property
    def fold_coef(self) -> np.ndarray: ...
    @property
    def fold_intercept(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Folded:
    """A `FoldedProbe` from `fit_folded`, with the setting that was chosen."""

    coef: np.ndarray
    intercept: np.ndarray
    fold_coef: np.ndarray
    fold_intercept: np.ndarray
    setting: float


@dataclass(frozen=True)
class Compared:
    """The probe on the full and on the simplified representation of the same rows.

    Attributes
    ----------
    n_rows : how many. full, simplified : {metric: Estimate}. difference : full − simplified, paired.
    agreement : the share of rows on which both decide alike; for a continuous target the R² of the simplified
        prediction as a prediction of the full one.
    """

    n_rows: int
    full: dict[str, Estimate]
    simplified: dict[str, Estimate]
    difference: dict[str, Estimate]
    agreement: Estimate


@dataclass(frozen=True)
class Simplified:
    """One simplification.

    Attributes
    ----------
    method : `"principal_components"` or `"clusters"`. size : how many of them are kept.
    explained : the share of the training rows' variance that is kept.
    inside : out of fold on the training distribution. outside : {name: on another set}.
    gap : {name: {metric: Estimate}}, (full − simplified) there minus (full − simplified) on the training distribution:
        what the training distribution does not show of the loss.
    kind : of the target. reason : why this size could not be tried, or an empty string; figures are then NaN.
    """

    method: str
    size: int
    explained: float
    inside: Compared
    outside: dict[str, Compared]
    gap: dict[str, dict[str, Estimate]]
    kind: str
    reason: str = ""

    @property
    def misleads_on(self) -> tuple[str, ...]:
        """The sets on which it surely loses more of the primary metric than on the training distribution, by `MARGIN`.

        On a set where the concept turns round, a move towards chance counts as a gain: look at `outside` there.
        """
        return tuple(name for name, gap in self.gap.items() if gap[PRIMARY[self.kind]].low > MARGIN)


def simplified_transfer(
    X: np.ndarray,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    probe: FoldedProbe | Family,
    tests: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    *,
    groups: np.ndarray | None = None,
    test_folds: Mapping[str, np.ndarray] | None = None,
    ranks: Sequence[int] = RANKS,
    clusters: Sequence[int] = CLUSTERS,
    n_replicates: int = 1000,
    seed: int = 0,
) -> tuple[Simplified, ...]:
    """Apply a probe to simplified representations, on the training distribution and off it.

    The probe f(x) = Wx + b stays what it is; x is replaced by s(x). For principal components s(x) = μ + VVᵀ(x − μ), V
    the top `size` of the training rows; for clusters s(x) is the nearest of `size` k-means centroids of the training
    rows. On the training distribution both f and s are of the training folds, and only rows of the fold that they left
    out are judged; on the test sets both are of all training rows. Intervals are percentiles of a bootstrap over
    groups, paired between full and simplified, and drawn apart for each set; fits stay as they are.

    Parameters
    ----------
    X : (n, d). Y : (n, m). kind : of the target. fold : (n,) the fold that tests a row. groups : (n,) or None.
    probe : with its folds' fits, or a family, which is fitted here (`fit_folded`).
    tests : {name: (X (n', d), Y (n', m), groups (n',) or None)}.
    test_folds : {name: (n',) folds} of a set that shares groups with the training rows: a row is scored by the fit
        that left its fold out (`leadline.evidence.shared_folds`).
    ranks, clusters : the sizes to try.

    Returns
    -------
    One for each rank, then one for each number of clusters.

    Raises
    ------
    EvidenceError : shapes that do not fit, no sizes, or a size below 1.

    References
    ----------
    D. Friedman, A. Lampinen, L. Dixon, D. Chen and A. Ghandeharioun (2023), Interpretability illusions in the
    generalization of simplified models, arXiv:2312.03656.
    """
    _check(X, Y, fold, tests, ranks, clusters)
    held = dict(test_folds or {})
    stranger = next((name for name in held if name not in tests), None)
    if stranger is not None:
        raise EvidenceError(f"test_folds names '{stranger}', which is no test set; there are {', '.join(tests)}.")
    fitted = probe if isinstance(probe, FoldedProbe) else fit_folded(probe, X, Y, kind, fold)
    wanted = [("principal_components", k) for k in ranks] + [("clusters", k) for k in clusters]
    sets: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {"": (X, Y, groups), **tests}
    folds = {"": fold, **held}
    full = {name: np.full((len(x), len(fitted.coef)), np.nan) for name, (x, _, _) in sets.items()}
    simple = {name: {one: array.copy() for one in wanted} for name, array in full.items()}
    reasons: dict[tuple[str, int], str] = {}
    explained: dict[tuple[str, int], float] = {}
    for k in [*np.unique(fold).tolist(), -1]:
        rows = fold != k
        w, b = (fitted.coef, fitted.intercept) if k < 0 else (fitted.fold_coef[k], fitted.fold_intercept[k])
        judged = {name: folds[name] == k if name in folds else np.full(len(full[name]), k < 0) for name in sets}
        parts = {name: (sets[name][0][mask], mask) for name, mask in judged.items() if mask.any()}
        for name, (x, mask) in parts.items():
            full[name][mask] = x.astype(np.float64) @ w.T + b
        for one, share, why, scored in _simplified(X[rows], w, b, [x for x, _ in parts.values()], wanted, seed):
            explained[one] = share
            if why:
                reasons.setdefault(one, why)
            else:
                for (name, (_, mask)), scores in zip(parts.items(), scored, strict=True):
                    simple[name][one][mask] = scores
    draws = {}
    for i, (name, (x, _, of)) in enumerate(sets.items()):
        # Each set has draws of its own: their losses are subtracted from each other.
        own = int(np.random.default_rng([seed, 62, i]).integers(2**31))
        W = draw_groups(len(x), n_replicates, own, groups=of, fold=folds.get(name)).astype(np.float32)
        draws[name] = W, _enough(of, folds.get(name), len(x))
    found = []
    for one in wanted:
        reason = reasons.get(one, "")
        values, compared = {}, {}
        for name, (_, of_set, _) in sets.items():
            W, enough = draws[name]
            replaced = None if reason else simple[name][one]
            compared[name], values[name] = _compare(full[name], replaced, of_set, kind, W, folds.get(name), enough)
        gap = {
            name: {m: _estimate(v - values[""][m], draws[""][1] and draws[name][1]) for m, v in values[name].items()}
            for name in tests
        }
        inside = compared.pop("")
        kept = float("nan") if reason else explained[one]
        found.append(Simplified(*one, kept, inside, compared, gap, kind, reason))
    return tuple(found)


def fit_folded(family: Family, X: np.ndarray, Y: np.ndarray, kind: str, fold: np.ndarray) -> Folded:
    """Fit a family, and keep the setting with the best out-of-fold primary metric.

    Raises
    ------
    EvidenceError : the metric is undefined for every setting.
    """
    fit = family.fit_site(X, Y, fold)
    ones = np.ones((len(Y), 1))
    metric = PRIMARY[kind]
    values = [weighted_metrics(scores, Y, kind, ones, fold)[metric][0] for scores in fit.scores]
    if not np.isfinite(values).any():
        raise EvidenceError(f"{metric} is undefined out of fold; each fold needs both classes, or numbers that vary.")
    i = int(np.nanargmax(values))
    return Folded(fit.coef[i], fit.intercept[i], fit.fold_coef[i], fit.fold_intercept[i], float(fit.settings[i]))


def _check(
    X: np.ndarray,
    Y: np.ndarray,
    fold: np.ndarray,
    tests: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    ranks: Sequence[int],
    clusters: Sequence[int],
) -> None:
    if X.ndim != 2 or len(X) != len(Y) or len(fold) != len(X):
        raise EvidenceError(f"got X {X.shape}, Y {Y.shape} and {len(fold)} folds; expected one of each a row.")
    for name, (x, y, _) in tests.items():
        if x.ndim != 2 or x.shape[1] != X.shape[1] or len(x) != len(y) or y.shape[1] != Y.shape[1]:
            raise EvidenceError(
                f"the set '{name}' has X {x.shape} and Y {y.shape}; expected {X.shape[1]} dimensions and "
                f"{Y.shape[1]} target columns, as the training rows have."
            )
    sizes = [*ranks, *clusters]
    if not sizes or min(sizes) < 1:
        raise EvidenceError(f"got ranks {tuple(ranks)} and clusters {tuple(clusters)}; expected sizes of 1 or more.")


def _simplified(
    X: np.ndarray, w: np.ndarray, b: np.ndarray, parts: list[np.ndarray], wanted: list[tuple[str, int]], seed: int
) -> Iterable[tuple[tuple[str, int], float, str, list[np.ndarray]]]:
    """For each simplification of training rows X: the variance kept, why it cannot be, and the scores of each part."""
    mean = X.mean(axis=0, dtype=np.float64)
    base = w @ mean + b
    centred = X - mean
    total = float(np.square(centred).sum())
    most = max((k for method, k in wanted if method == "principal_components"), default=0)
    values, V = _components(centred, most)
    weights = w @ V
    coordinates = [(x - mean) @ V for x in parts]
    distinct = _distinct(X, max((k for method, k in wanted if method == "clusters"), default=0))
    for method, k in wanted:
        if method == "principal_components":
            if k > len(values):
                why = f"the training rows span {len(values)} directions, so there are no {k} principal components"
                yield (method, k), float("nan"), why, []
                continue
            scores = [z[:, :k] @ weights[:, :k].T + base for z in coordinates]
            yield (method, k), float(values[:k].sum() / total), "", scores
            continue
        if k > distinct:
            why = f"the training rows hold {distinct} different vectors, too few for {k} clusters"
            yield (method, k), float("nan"), why, []
            continue
        state = int(np.random.default_rng([seed, 63, k]).integers(2**31))
        # Several threads would sum in an order that changes from run to run.
        with threadpool_limits(1):
            means = KMeans(k, n_init=_STARTS, random_state=state).fit(X)
            nearest = [means.predict(x.astype(X.dtype, copy=False)) for x in parts]
        table = means.cluster_centers_.astype(np.float64) @ w.T + b
        kept = 1 - float(means.inertia_) / total if total > 0 else float("nan")
        yield (method, k), kept, "", [table[codes] for codes in nearest]


def _components(centred: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues of the scatter, at most `most` and none that is rounding, and directions (d, q)."""
    n, d = centred.shape
    wide = d > n
    gram = centred @ centred.T if wide else centred.T @ centred
    size = len(gram)
    most = min(most, size)
    if not most:
        return np.empty(0), np.empty((d, 0))
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(size - most, size - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > max(values[0], 0) * max(n, d) * np.finfo(np.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    return values, centred.T @ vectors / np.sqrt(values) if wide else vectors


def _distinct(X: np.ndarray, enough: int) -> int:
    """How many different rows there are, counted no further than `enough`."""
    seen: set[bytes] = set()
    for row in X:
        if len(seen) >= enough:
            break
        seen.add(row.tobytes())
    return len(seen)


def _compare(
    full: np.ndarray,
    simple: np.ndarray | None,
    Y: np.ndarray,
    kind: str,
    W: np.ndarray,
    fold: np.ndarray | None,
    enough: bool,
) -> tuple[Compared, dict[str, np.ndarray]]:
    """The comparison on one set, and the replicates {metric: (1 + B,)} of its differences."""
    of_full = weighted_metrics(full, Y, kind, W, fold)
    nothing = np.full(W.shape[1], np.nan)
    if simple is None:
        of_simple, agreement = dict.fromkeys(of_full, nothing), nothing
    else:
        of_simple = weighted_metrics(simple, Y, kind, W, fold)
        parts = [slice(None)] if fold is None else [fold == k for k in np.unique(fold)]
        agreement = fold_mean([_agreement(full[r], simple[r], kind, W[r]) for r in parts])
    differences = {m: of_full[m] - of_simple[m] for m in of_full}
    one, other, between = (
        {m: _estimate(v, enough) for m, v in values.items()} for values in (of_full, of_simple, differences)
    )
    return Compared(len(Y), one, other, between, _estimate(agreement, enough)), differences


def _agreement(full: np.ndarray, simple: np.ndarray, kind: str, W: np.ndarray) -> np.ndarray:
    if kind == "continuous":
        return weighted_r2(simple, full, W)
    same = (decided_codes(kind, full) == decided_codes(kind, simple)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((same @ W) / W.sum(axis=0))


def _enough(groups: np.ndarray | None, fold: np.ndarray | None, n: int) -> bool:
    """Whether every part that is drawn from has two groups: of one group, every draw is the same."""
    codes = group_codes(groups, n)
    parts = [np.ones(n, dtype=bool)] if fold is None else [fold == k for k in np.unique(fold)]
    return all(len(np.unique(codes[part])) >= 2 for part in parts)


def _estimate(values: np.ndarray, enough: bool) -> Estimate:
    return percentile(values) if enough else Estimate(float(values[0]))
