"""What a family's fit at one site yields, and the Protocol that every family follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

__all__ = ["Family", "SiteFit", "Status"]


class Status(IntEnum):
    """How a fit ended. Only `CONVERGED` is a result to rely on; the others are data, and are never raised."""

    CONVERGED = 0
    ITERATION_LIMIT = 1
    STALLED = 2
    NOT_FINITE = 3

    @property
    def explanation(self) -> str:
        """What it means, its likely causes, and what to do."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Status.CONVERGED: "The certificate is within the tolerance, or the solution is in closed form.",
    Status.ITERATION_LIMIT: (
        "The solver still improved when its iterations ended. Classes that a hyperplane separates, together with a "
        "penalty near 0, have no finite optimum to reach; a larger penalty, or fewer features, helps."
    ),
    Status.STALLED: (
        "No step improves the objective any more, yet the certificate is above the tolerance: rounding hides what is "
        "left. Features of very different scale, near-duplicates, or a tolerance below about 1e-12 cause this; a "
        "larger penalty or a larger tolerance helps."
    ),
    Status.NOT_FINITE: (
        "The objective left the range of floating point. Activations beyond about 1e18, or a penalty below 1e-30, "
        "cause this; scale the activations first."
    ),
}


@dataclass(frozen=True)
class SiteFit:
    """Every fit at one site: L settings × (K folds + the refit on all rows) × p problems, each with some outputs.

    A problem is what is minimised as one: a target column for most families, all classes together for a multinomial
    one. c is the number of outputs over all problems; c = p but for families with several outputs a problem.

    Attributes
    ----------
    settings : (L,) of what the family tries, as its `parameter` names it (l2, k, …); one NaN for a family without one.
    scores : (L, n, c) float32, out of fold: row i is scored by the fit that did not train on its fold.
    coef : (L, c, d) float64 of the refit, for raw activations; intercept : (L, c).
    fold_coef : (L, K, c, d) float32 of the folds' fits, for raw activations; fold_intercept : (L, K, c).
    objective : (L, K + 1, p), as the family states it, in each fit's own standardised space; NaN without one.
    gap : (L, K + 1, p), upper bound of (objective − minimum) / objective; 0 for a closed form, NaN where the problem
        is not convex and nothing bounds it.
    status : (L, K + 1, p) int8 of `Status`.
    iterations : (L, K + 1, p) int; 0 for a closed form.
    """

    settings: np.ndarray
    scores: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    fold_coef: np.ndarray
    fold_intercept: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    status: np.ndarray
    iterations: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """(L, K + 1, p) bool."""
        return np.asarray(self.status == Status.CONVERGED)

    @classmethod
    def closed_form(
        cls,
        settings: np.ndarray | tuple[float, ...],
        scores: np.ndarray,
        coef: np.ndarray,
        intercept: np.ndarray,
        objective: np.ndarray | None = None,
        *,
        problems: int | None = None,
    ) -> SiteFit:
        """A fit that needed no iteration.

        Parameters
        ----------
        settings, scores : as in `SiteFit`. coef : (L, K + 1, c, d) and intercept : (L, K + 1, c), the refit last.
        objective : (L, K + 1, p), or None for a family without one.
        problems : p, if it is not c.
        """
        shape = (*coef.shape[:2], coef.shape[2] if problems is None else problems)
        return cls(
            settings=np.asarray(settings, dtype=np.float64),
            scores=scores,
            coef=coef[:, -1],
            intercept=intercept[:, -1],
            fold_coef=coef[:, :-1].astype(np.float32),
            fold_intercept=intercept[:, :-1],
            objective=np.full(shape, np.nan) if objective is None else objective,
            gap=np.zeros(shape),
            status=np.zeros(shape, dtype=np.int8),
            iterations=np.zeros(shape, dtype=np.int32),
        )


class Family(Protocol):
    """A kind of linear probe: a frozen specification that fits all folds and settings of one site."""

    @property
    def name(self) -> str:
        """The name in files and tables, as in `"logistic"`."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of target that it takes.

        `"binary"` and `"multilabel"`: columns of 0 and 1, the latter with NaN where a label is missing.
        `"continuous"`: columns of numbers. `"multiclass"` and `"ordinal"`: one column of codes 0 … C−1.
        """
        ...

    @property
    def parameter(self) -> str | None:
        """What `SiteFit.settings` are: `"l2"`, `"k"`, …; None for a family without anything to choose."""
        ...

    @property
    def loss(self) -> str:
        """The loss by which `fit` chooses among settings; a name in `leadline.probes.losses.LOSSES`."""
        ...

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit at one site.

        Parameters
        ----------
        X : (n, d) raw activations. Y : (n, m), as `kinds` says. fold : (n,) the fold that tests a row; −1 everywhere
            for the refit alone (K = 0).
        weights : (n,) ≥ 0, None for ones. A weight of 2 equals a row that stands twice, and 0 one that is left out,
            in the scaling too.
        """
        ...

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """For each fold, (n_test, n_train): maps centred training labels to test scores, without seeing a label.

        The permutation test scores thousands of shuffled labellings with it in one matrix product.
        """
        ...
