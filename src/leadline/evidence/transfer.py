"""Scores on a labelled set that the probe never saw, and how alike two probes are on its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import LEVEL, MIN_GROUPS, Estimate, widening
from leadline.evidence.giveaway_effect import score_by_fold
from leadline.evidence.labels import Labels, Source
from leadline.evidence.metrics import PRIMARY, all_metrics, fold_mean
from leadline.evidence.permutation import draw_shuffles
from leadline.probes.adapt import at_setting
from leadline.probes.fit import Family
from leadline.probes.parallel import map_sites
from leadline.probes.splits import group_codes
from leadline.sites import Site

__all__ = [
    "HeldOut",
    "Swept",
    "centred_accuracy",
    "centred_scores",
    "cosine",
    "held_out_metrics",
    "hold_out",
    "mahalanobis_cosine",
    "score_correlation",
    "shared_rows",
    "weighted_metrics",
]


_MANY = 20_000


class _Outcome(Protocol):
    @property
    def site(self) -> Site: ...
    @property
    def coef(self) -> np.ndarray: ...
    @property
    def intercept(self) -> np.ndarray: ...
    @property
    def setting(self) -> float: ...
    @property
    def fold_coef(self) -> np.ndarray: ...
    @property
    def fold_intercept(self) -> np.ndarray: ...


class Swept(Protocol):
    """What `hold_out` reads of a `Sweep`."""

    @property
    def outcomes(self) -> Sequence[_Outcome]: ...
    @property
    def best_site(self) -> Site: ...
    @property
    def family(self) -> Family: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def fold(self) -> np.ndarray: ...


@dataclass(frozen=True)
class HeldOut:
    """Every site's probe on a labelled set that it never saw.

    Attributes
    ----------
    name : of the set. n_rows, n_groups : its size; each row is its own group where it has none.
    shifted : whether it is of another distribution than the training rows, or their own split.
    metrics : {site: {metric: Estimate}}, `centred_accuracy` among them for a binary target.
    best_site : the site that the sweep chose on its training rows.
    cosine : {site: Mahalanobis cosine of the probe with one fitted on this set}; NaN at all sites but the best.
    n_shared : rows whose group, or text, is one of the training rows' too. fold : (n,) which fold's probe scored a row,
        where there are such rows: one that never saw its group or text; None where the refit scored all.
    p_value : of the best site's primary metric, against labels that were shuffled as in a permutation test, given the
        scores; NaN where no shuffle can move a label.
    reason : why there is no cosine, or an empty string.
    """

    name: str
    n_rows: int
    n_groups: int
    shifted: bool
    metrics: dict[str, dict[str, Estimate]]
    best_site: str
    cosine: dict[str, float]
    n_shared: int
    reason: str
    p_value: float = float("nan")
    fold: np.ndarray | None = None

    @property
    def best(self) -> dict[str, Estimate]:
        """The metrics at the best site."""
        return self.metrics[self.best_site]


def weighted_metrics(
    scores: np.ndarray, Y: np.ndarray, kind: str, W: np.ndarray, fold: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """{metric: (B,)} under B weightings of the rows; for a binary target `centred_accuracy` too.

    Parameters
    ----------
    scores : (n, c). Y : (n, m). W : (n, B).
    fold : (n,) where the rows of a fold have scores of their own fit: metrics are then means over folds.
    """
    if fold is not None:
        each = [weighted_metrics(scores[r], Y[r], kind, W[r]) for r in (fold == k for k in np.unique(fold))]
        return {name: fold_mean([found[name] for found in each]) for name in each[0]}
    found = all_metrics(kind, scores, Y, W)
    if kind == "binary":
        found["centred_accuracy"] = centred_accuracy(scores, Y, W)
    return found


def centred_accuracy(scores: np.ndarray, Y: np.ndarray, W: np.ndarray) -> np.ndarray:
    """(B,) accuracy of a binary target with the threshold at the scores' own mean: scores, Y (n, 1), W (n, B)."""
    # The mean moves with each replicate's rows, so that its own uncertainty is in the interval.
    with np.errstate(invalid="ignore", divide="ignore"):
        total = W.sum(axis=0)
        correct = (scores[:, :1] > (scores[:, 0] @ W) / total) == (Y[:, :1] > 0)
        return np.asarray((correct * W).sum(axis=0) / total)


def held_out_metrics(
    scores: np.ndarray,
    Y: np.ndarray,
    kind: str,
    groups: np.ndarray | None,
    *,
    n_replicates: int,
    seed: int,
    fold: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Metrics of fixed scores with intervals by a bootstrap over groups.

    For a binary target `centred_accuracy` is the accuracy after the scores' own mean has been taken off, which needs no
    label: a direction may carry over where its threshold does not.

    Parameters
    ----------
    scores : (n, c), as the kind has them. Y : (n, m). groups : (n,) or None, then each row is its own.
    fold : (n,) where folds were scored by fits of their own; metrics are then means over folds.

    Raises
    ------
    EvidenceError : shapes that do not fit.
    """
    fits = scores.ndim == 2 and len(scores) == len(Y)
    if not fits or (kind in ("binary", "continuous") and scores.shape != Y.shape):
        raise EvidenceError(f"got scores {scores.shape} for targets {Y.shape}; expected one score a target.")
    codes = group_codes(groups, len(Y))
    n_groups = int(codes.max()) + 1
    rng = np.random.default_rng([seed, 3])
    # One draw fewer than groups, as in `leadline.evidence.bootstrap`.
    times = rng.multinomial(max(n_groups - 1, 1), np.full(n_groups, 1 / n_groups), size=n_replicates)
    drawn = times.T[codes].astype(np.float32)
    W = np.hstack([np.ones((len(Y), 1), dtype=np.float32), drawn])
    result = {}
    wider = widening(n_groups - (1 if fold is None else len(np.unique(fold))))
    for name, values in weighted_metrics(scores, Y, kind, W, fold).items():
        replicates = values[1:][np.isfinite(values[1:])]
        if n_groups < MIN_GROUPS or len(replicates) < 0.9 * n_replicates:
            result[name] = Estimate(float(values[0]))
            continue
        value = float(values[0])
        ends = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low, high = (value + (float(end) - value) * wider for end in ends)
        result[name] = Estimate(value, low, min(high, 1.0))
    return result


def cosine(w1: np.ndarray, w2: np.ndarray) -> float:
    """⟨w₁, w₂⟩ / (‖w₁‖·‖w₂‖), over all outputs together where they have several; NaN where either is 0."""
    size = float(np.linalg.norm(w1) * np.linalg.norm(w2))
    return float(np.sum(np.asarray(w1, dtype=np.float64) * w2) / size) if size > 0 else float("nan")


def mahalanobis_cosine(w1: np.ndarray, w2: np.ndarray, X_test: np.ndarray) -> float:
    """w₁ᵀΣw₂ / √(w₁ᵀΣw₁ · w₂ᵀΣw₂), Σ the total covariance of the rows of `X_test`.

    w₁ᵀΣw₂ is the covariance of the two probes' scores on those rows, so this is the correlation of the scores, and no
    d × d matrix is formed. Where directions hardly vary on the test rows the plain cosine counts them; this does not.

    With w₂ fitted on the same rows and more dimensions than rows, w₂'s scores can come to equal the labels, and the
    figure to restate what it is to predict: `transfer_matrix` has a cross-fitted one beside it.

    Parameters
    ----------
    w1, w2 : (d,), or (c, d) for c outputs, whose covariances are summed. X_test : (n, d).

    Returns
    -------
    In [−1, 1]; NaN where the scores of either do not vary.

    Raises
    ------
    EvidenceError : widths that differ.
    """
    W1, W2 = np.atleast_2d(w1), np.atleast_2d(w2)
    if W1.shape != W2.shape or W1.shape[1] != X_test.shape[1]:
        raise EvidenceError(
            f"got probes {np.shape(w1)} and {np.shape(w2)} for rows of width {X_test.shape[1]}; expected one width, "
            f"and as many outputs."
        )
    return score_correlation(*np.split(centred_scores(X_test, np.vstack([W1, W2])), 2, axis=1))


def centred_scores(X: np.ndarray, W: np.ndarray) -> np.ndarray:
    """(n, c) scores of W (c, d) about their mean; what is no more than rounding is 0."""
    centred = X - X.mean(axis=0, dtype=np.float64)
    scores = centred @ np.asarray(W, dtype=np.float64).T
    rounding = 1e-12 * np.abs(X).max(initial=0) * np.linalg.norm(W, axis=1)
    scores[:, np.abs(scores).max(axis=0, initial=0) <= rounding] = 0
    return np.asarray(scores)


def score_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """⟨a, b⟩ / (‖a‖·‖b‖) of centred scores (n, c); NaN where either is 0."""
    return float(np.clip(cosine(one, other), -1, 1))


def hold_out(
    sweep: Swept,
    source: Source,
    labels: Labels,
    *,
    name: str,
    shifted: bool = True,
    n_replicates: int = 1000,
    seed: int = 0,
) -> HeldOut:
    """Score every site's probe on another labelled set.

    The refit does it, unless a set of another distribution has groups or texts that were trained on: then each row is
    scored by the fit of a fold that never saw its group or text, and metrics are means over folds, as on the training
    rows.

    Parameters
    ----------
    sweep : its refit probes are used as they are. source : the set's activations at the swept sites.
    labels : of the set; its `rows` say which of the source's rows are scored.
    name, shifted : as in `HeldOut`. n_replicates, seed : of the bootstrap over the set's groups.

    Raises
    ------
    EvidenceError : no rows, another kind of target, or activations of another width.
    """
    kind = sweep.labels.kind
    Y = labels.Y
    if not len(Y):
        raise EvidenceError(f"the set '{name}' has no rows; give some.")
    if labels.kind != kind or Y.shape[1] != sweep.labels.Y.shape[1]:
        raise EvidenceError(
            f"the target of '{name}' is {labels.kind} with {Y.shape[1]} columns, that of the probes {kind} with "
            f"{sweep.labels.Y.shape[1]}; give the target that the probes were trained for."
        )
    reason = _no_probe(labels, sweep.labels)
    best = sweep.best_site
    # A split of one data set is what its makers made it; on another set no memory of a group may help.
    fold = shared_rows(sweep, labels, seed=seed) if shifted else None
    shared = _homes(sweep, labels) >= 0

    def one(outcome: _Outcome) -> tuple[dict[str, Estimate], float, float]:
        X = source.read(outcome.site)[labels.rows]
        if X.shape[1] != outcome.coef.shape[1]:
            raise EvidenceError(
                f"'{name}' has {X.shape[1]} dimensions at {outcome.site}, the probe there {outcome.coef.shape[1]}; "
                f"extract both with one model."
            )
        if fold is None:
            scores = X.astype(np.float64) @ outcome.coef.T + outcome.intercept
        else:
            scores = score_by_fold(X, fold, outcome.fold_coef, outcome.fold_intercept).astype(np.float64)
        found = held_out_metrics(scores, Y, kind, labels.groups, n_replicates=n_replicates, seed=seed, fold=fold)
        if outcome.site != best:
            return found, float("nan"), float("nan")
        p = _p_value(scores, Y, kind, labels.groups, fold, n_replicates, seed)
        if reason:
            return found, float("nan"), p
        own = at_setting(sweep.family, outcome.setting).fit_site(X, Y, np.full(len(Y), -1))
        return found, mahalanobis_cosine(outcome.coef, own.coef[0], X), p

    results = dict(zip([o.site.name for o in sweep.outcomes], map_sites(one, sweep.outcomes), strict=True))
    return HeldOut(
        name=name,
        n_rows=len(Y),
        n_groups=int(group_codes(labels.groups, len(Y)).max()) + 1,
        shifted=shifted,
        metrics={site: found for site, (found, _, _) in results.items()},
        best_site=best.name,
        cosine={site: value for site, (_, value, _) in results.items()},
        n_shared=int(shared.sum()),
        reason=reason,
        p_value=results[best.name][2],
        fold=fold,
    )


def shared_rows(sweep: Swept, labels: Labels, *, seed: int = 0) -> np.ndarray | None:
    """(n,) the fold whose fit may score each row of a set with groups or texts that were trained on; None without such.

    A shared row goes to the fold that left its group, or its text, out; the others, which no fit has seen, are dealt to
    the folds by whole groups.
    """
    own = _homes(sweep, labels)
    if not (own >= 0).any():
        return None
    codes = group_codes(labels.groups, len(own))
    n_folds = int(sweep.fold.max()) + 1
    dealt = np.random.default_rng([seed, 17]).permutation(np.arange(codes.max() + 1) % n_folds)
    return np.where(own >= 0, own, dealt[codes])


def _homes(sweep: Swept, labels: Labels) -> np.ndarray:
    """(n,) the fold that holds a row's group, or its text, among the training rows; −1 where none does."""
    trained = sweep.labels
    own = np.full(len(labels.Y), -1)
    for theirs, mine in ((trained.texts, labels.texts), (trained.groups, labels.groups)):
        if theirs is not None and mine is not None:
            home = {str(value): int(k) for value, k in zip(theirs, sweep.fold, strict=True) if str(value).strip()}
            found = np.array([home.get(str(value), -1) for value in mine])
            own = np.where(found >= 0, found, own)
    return own


def _p_value(
    scores: np.ndarray,
    Y: np.ndarray,
    kind: str,
    groups: np.ndarray | None,
    fold: np.ndarray | None,
    n_permutations: int,
    seed: int,
) -> float:
    """One-sided p of the primary metric of fixed scores, p = (1 + k) / (1 + B); labels move as the groups allow."""
    try:
        # Metrics of many classes on many rows cost seconds a hundred.
        most = 999 if len(Y) * scores.shape[1] <= _MANY else 199
        shuffles = draw_shuffles(Y, groups, max(min(n_permutations, most), 19), seed)
    except EvidenceError:
        # Every group holds the same label: nothing can be tested.
        return float("nan")
    W = np.ones((len(Y), 1), dtype=np.float32)
    metric = PRIMARY[kind]
    found = np.array([float(weighted_metrics(scores, Y[index], kind, W, fold)[metric][0]) for index in shuffles.index])
    observed, null = found[0], np.where(np.isfinite(found[1:]), found[1:], np.inf)
    return float((1 + (null >= observed).sum()) / (1 + len(null))) if np.isfinite(observed) else float("nan")


def _no_probe(labels: Labels, trained: Labels) -> str:
    """Why no probe like the trained one can be fitted on a set; an empty string where one can."""
    if labels.kind == "continuous":
        return "" if len(labels.Y) > 1 else "a probe of the set itself needs two rows or more"
    held, wanted = len(np.unique(labels.Y[:, 0])), len(np.unique(trained.Y[:, 0]))
    return (
        "" if held == wanted else f"the set has {held} of the {wanted} classes, so no probe of its own to compare with"
    )
