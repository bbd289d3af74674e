"""Probes on contrast pairs: what their fits yield, how their sign is set, and the interface that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import scipy.linalg

from leadline.errors import ProbeError
from leadline.probes.fit import Status
from leadline.probes.folds import check_design, check_labels, training_rows
from leadline.probes.probe import Probe, pattern_of
from leadline.probes.splits import make_folds
from leadline.sites import Site

__all__ = ["FittedPairs", "PairFamily", "PairFit", "PairMoments", "PairSolution", "top_component"]


@dataclass(frozen=True)
class PairMoments:
    """Moments of the training pairs of the K folds and of the refit, which is last.

    Attributes
    ----------
    first, second : (K + 1, d) the means of each side.
    scale : (K + 1, d) a spread for both sides: the root of their mean variance, each about its own mean. A constant
        feature has 1. One scale for both sides keeps the fit a single linear map.
    varies : (K + 1, d) bool, False for constant features.
    """

    first: np.ndarray
    second: np.ndarray
    scale: np.ndarray
    varies: np.ndarray


@dataclass(frozen=True)
class PairSolution:
    """What a family finds before the sign is set; see `PairFit` for `losses`, `taken`, `status` and `iterations`.

    Attributes
    ----------
    coef : (K + 1, d) for raw activations. bias : (K + 1,) the score at the middle of the two sides' means.
    """

    coef: np.ndarray
    bias: np.ndarray
    losses: np.ndarray
    taken: np.ndarray
    status: np.ndarray
    iterations: np.ndarray


@dataclass(frozen=True)
class PairFit:
    """Every fit on the pairs of one site: K folds, and the refit on all pairs.

    A fit scores one activation of either side with `coef` and `intercept`, and a pair with the difference of the
    centred scores of its sides, coef·(x_first − x_second) + pair_intercept; above 0 it says that the first is the
    positive one.

    Attributes
    ----------
    coef : (d,) of the refit, for raw activations. intercept : of the refit.
    pair_intercept : of the refit; 0 for families that do not centre the sides apart.
    fold_coef : (K, d). fold_intercept, fold_pair_intercept : (K,).
    scores : (n,) of the pairs, out of fold; NaN without folds.
    losses : (K + 1, R) what is minimised on the training pairs, for every restart.
    taken : (K + 1,) the restart that was taken: the one with the smallest training loss.
    status : (K + 1, R) int8 of `Status`. iterations : (K + 1, R).
    sign_rule : how the sign was set. `"labels"`: the sign under which more training pairs (by weight) agree with their
        labels, for each fit by its own training pairs; on a tie, under which the labels and the scores correlate
        positively. `"first_positive"`: the first sides score higher on average, in the training pairs of each fit.
        `"largest_coordinate"`: nothing says which side is the positive one, so the coordinate of the refit's `coef`
        with the largest magnitude is positive, and each fold's fit takes the sign of the refit. That one bit of a
        fold's fit comes from all pairs, but from no label.
    """

    coef: np.ndarray
    intercept: float
    pair_intercept: float
    fold_coef: np.ndarray
    fold_intercept: np.ndarray
    fold_pair_intercept: np.ndarray
    scores: np.ndarray
    losses: np.ndarray
    taken: np.ndarray
    status: np.ndarray
    iterations: np.ndarray
    sign_rule: str

    @property
    def converged(self) -> np.ndarray:
        """(K + 1,) bool: whether the restart that was taken did."""
        return np.asarray(self.status[np.arange(len(self.taken)), self.taken] == Status.CONVERGED)


@dataclass(frozen=True, eq=False)
class FittedPairs:
    """A family fitted on arrays of pairs.

    Attributes
    ----------
    family : what was fitted. fit : everything about every fit. fold : (n,) the fold that tests a pair, −1 without.
    probe : of the refit on all pairs.
    """

    family: PairFamily
    fit: PairFit
    fold: np.ndarray
    probe: Probe

    @property
    def scores(self) -> np.ndarray:
        """(n,) out-of-fold scores of the pairs; NaN without folds."""
        return self.fit.scores

    @property
    def table(self) -> pl.DataFrame:
        """A row a fit and restart: fold (null for the refit), status, iterations and loss, and whether it was taken."""
        fit = self.fit
        n_fits = len(fit.losses)
        at, restart = (x.ravel() for x in np.indices(fit.losses.shape))
        return pl.DataFrame(
            {
                "fold": [None if i == n_fits - 1 else int(i) for i in at],
                "restart": restart,
                "status": [Status(int(s)).name.lower() for s in fit.status.ravel()],
                "iterations": fit.iterations.ravel(),
                "loss": fit.losses.ravel(),
                "taken": restart == fit.taken[at],
            },
            schema_overrides={"fold": pl.Int64},
        )

    @property
    def converged(self) -> bool:
        """Whether every fit did; `fit.status` says which did not, and `Status.explanation` why."""
        return bool(self.fit.converged.all())

    def __repr__(self) -> str:
        failed = int((~self.fit.converged).sum())
        ended = "all converged" if not failed else f"{failed} did not converge"
        return f"FittedPairs({self.family.name}: {len(self.fit.taken)} fits, {ended}, sign by {self.fit.sign_rule})"


class PairFamily(ABC):
    """What the families on contrast pairs share: checks, moments, signs, scores and `fit`."""

    unlabelled: ClassVar[str] = "largest_coordinate"
    """The rule for the sign where no labels are given."""
    centred: ClassVar[bool] = True
    """Whether each side is centred on its own mean."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in files and tables."""

    @abstractmethod
    def _solve(
        self, first: np.ndarray, second: np.ndarray, fold: np.ndarray, omega: np.ndarray, moments: PairMoments
    ) -> PairSolution:
        """Fit every fold and the refit, whatever the sign."""

    def fit_pairs(
        self,
        X_first: np.ndarray,
        X_second: np.ndarray,
        fold: np.ndarray,
        labels: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> PairFit:
        """Fit on the pairs of one site.

        Parameters
        ----------
        X_first, X_second : (n, d) raw activations of the two sides of each pair, as in a statement answered "yes" and
            the same answered "no", or a positive phrasing and its contrast.
        fold : (n,) the fold that tests a pair; −1 everywhere for the refit alone.
        labels : (n,) 1 where the first side is the positive (true) one, 0 where the second is. They set the sign, and
            nothing else. None: see `PairFit.sign_rule`.
        weights : (n,) ≥ 0; 2 equals a pair that stands twice, 0 one that is left out.

        Raises
        ------
        ProbeError : shapes or values that do not fit; pairs that do not differ; labels of one class where the family
            centres each side, since no sign then agrees with them better than the other.
        """
        first, second = np.asarray(X_first, dtype=np.float64), np.asarray(X_second, dtype=np.float64)
        if first.ndim != 2 or first.shape != second.shape:
            raise ProbeError(
                f"got first sides {np.shape(X_first)} and second sides {np.shape(X_second)}; expected one (n, d) each, "
                "with row i of both from pair i."
            )
        fold = np.asarray(fold)
        y = np.zeros((len(first), 1)) if labels is None else np.asarray(labels, dtype=np.float64).reshape(-1, 1)
        n_folds = check_design(first, y, fold, weights)
        check_design(second, y, fold, weights)
        omega = np.ones(len(first)) if weights is None else np.asarray(weights, dtype=np.float64)
        if labels is not None:
            if not np.isin(y, (0.0, 1.0)).all():
                raise ProbeError("the labels of pairs are 1 where the first side is the positive one, else 0.")
            if self.centred:
                check_labels(y, "binary", self.name, fold, weights)
        moments = _moments(first, second, fold, omega, n_folds)
        solution = self._solve(first, second, fold, omega, moments)
        coef = solution.coef
        middle = (moments.first + moments.second) / 2
        offset = np.einsum("fd,fd->f", coef, moments.second - moments.first) if self.centred else np.zeros(len(coef))
        pair_scores = (first - second) @ coef.T + offset
        sign = self._signs(pair_scores, coef, fold, omega, None if labels is None else y[:, 0])
        coef = coef * sign[:, None]
        intercept = sign * solution.bias - np.einsum("fd,fd->f", coef, middle)
        scores = np.full(len(first), np.nan)
        tested = fold >= 0
        scores[tested] = (pair_scores * sign)[tested, fold[tested]]
        return PairFit(
            coef=coef[-1],
            intercept=float(intercept[-1]),
            pair_intercept=float((sign * offset)[-1]),
            fold_coef=coef[:-1],
            fold_intercept=intercept[:-1],
            fold_pair_intercept=(sign * offset)[:-1],
            scores=scores,
            losses=solution.losses,
            taken=solution.taken,
            status=solution.status,
            iterations=solution.iterations,
            sign_rule=self.unlabelled if labels is None else "labels",
        )

    def _signs(
        self, pair_scores: np.ndarray, coef: np.ndarray, fold: np.ndarray, omega: np.ndarray, labels: np.ndarray | None
    ) -> np.ndarray:
        """(K + 1,) of −1 and 1, by the rule that `PairFit.sign_rule` names."""
        largest = np.where(coef[np.arange(len(coef)), np.abs(coef).argmax(axis=1)] < 0, -1.0, 1.0)
        counted = omega[:, None] * np.stack([training_rows(fold, k) for k in range(len(coef))], axis=1)
        if labels is not None:
            wanted = 2 * labels[:, None] - 1
            agreeing = (counted * np.sign(pair_scores) * wanted).sum(axis=0)
            votes = np.where(agreeing != 0, agreeing, (counted * pair_scores * wanted).sum(axis=0))
        elif self.unlabelled == "first_positive":
            votes = (counted * pair_scores).sum(axis=0)
        else:
            votes = largest[-1] * (counted * pair_scores * pair_scores[:, -1:]).sum(axis=0)
        return np.where(votes != 0, np.sign(votes), largest)

    def fit(
        self,
        X_first: np.ndarray,
        X_second: np.ndarray,
        labels: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        n_folds: int = 5,
        seed: int = 0,
        *,
        fold: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        target: str = "target",
        site: str | Site | None = None,
    ) -> FittedPairs:
        """Make folds of the pairs, fit, and keep the refit's probe.

        Parameters
        ----------
        X_first, X_second, labels, weights : as in `fit_pairs`.
        groups : (n,) labels of pairs; folds keep groups whole.
        n_folds : 0 for the refit alone. seed : of the folds. fold : (n,) ready-made folds in their place.
        target, site : of the probe.

        Raises
        ------
        ProbeError : as in `fit_pairs`. EvidenceError : groups that cannot fill the folds.

        Examples
        --------
        >>> import numpy as np
        >>> from leadline.probes.lat import LAT
        >>> rng = np.random.default_rng(0)
        >>> second = rng.normal(size=(60, 8))
        >>> fitted = LAT().fit(second + 3 * np.eye(8)[2], second)
        >>> int(np.argmax(fitted.probe.direction))
        2
        """
        n = len(X_first)
        for what, given in (("groups", groups), ("labels", labels), ("fold", fold)):
            if given is not None and np.shape(given) != (n,):
                raise ProbeError(f"got {what} of shape {np.shape(given)} for {n} pairs; give one a pair.")
        if labels is not None and not np.isin(np.asarray(labels), (0, 1)).all():
            raise ProbeError("the labels of pairs are 1 where the first side is the positive one, else 0.")
        if fold is not None:
            fold = np.asarray(fold)
        elif n_folds == 0:
            fold = np.full(n, -1)
        else:
            y = np.zeros(n) if labels is None else np.asarray(labels, dtype=np.float64)
            both = labels is not None and len(np.unique(y)) == 2
            fold = make_folds(y, groups, n_folds, stratify=both, seed=seed)
        fit = self.fit_pairs(X_first, X_second, fold, labels, weights)
        probe = Probe(
            site=None if site is None else Site.parse(site),
            coef=fit.coef,
            intercept=fit.intercept,
            pattern=pattern_of(np.concatenate([X_first, X_second]), fit.coef),
            family=self.name,
            kind="binary",
            target=target,
            extra={"converged": bool(fit.converged[-1]), "sign_rule": fit.sign_rule},
        )
        return FittedPairs(self, fit, fold, probe)


def _moments(first: np.ndarray, second: np.ndarray, fold: np.ndarray, omega: np.ndarray, n_folds: int) -> PairMoments:
    means = np.empty((2, n_folds + 1, first.shape[1]))
    spread = np.empty((n_folds + 1, first.shape[1]))
    for k in range(n_folds + 1):
        rows = training_rows(fold, k)
        share = omega[rows] / omega[rows].sum()
        variance = np.zeros(first.shape[1])
        for side, X in enumerate((first[rows], second[rows])):
            means[side, k] = share @ X
            variance += share @ np.square(X - means[side, k]) / 2
        spread[k] = np.sqrt(variance)
    # As in `fold_moments`, a spread below 1e-6 of the magnitude is rounding.
    varies = spread > 1e-6 * np.abs(means).max(axis=0)
    return PairMoments(means[0], means[1], np.where(varies, spread, 1.0), varies)


def top_component(rows: np.ndarray, weights: np.ndarray, family: str) -> tuple[np.ndarray, float]:
    """The unit vector u that maximises Σ_i ω_i·(u·δ_i)², of arbitrary sign, and the share that it leaves unexplained.

    Parameters
    ----------
    rows : (n, d) differences δ, taken as they are. weights : (n,) ω.

    Raises
    ------
    ProbeError : rows that are all 0.
    """
    own = rows * np.sqrt(weights / weights.sum())[:, None]
    total = float(np.square(own).sum())
    if total == 0:
        raise ProbeError(f"the sides of the training pairs of some fold do not differ, so {family} has no direction.")
    dual = len(own) < own.shape[1]
    gram = own @ own.T if dual else own.T @ own
    top = len(gram) - 1
    value, vector = scipy.linalg.eigh(gram, subset_by_index=[top, top], check_finite=False)
    u = own.T @ vector[:, 0] if dual else vector[:, 0]
    return u / np.linalg.norm(u), max(1 - float(value[0]) / total, 0.0)
