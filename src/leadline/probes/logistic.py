"""Logistic regression with an L2 penalty, for every fold and penalty of a site in one solve."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.probes.regularised import DEFAULT_L2, Regularised, Rows
from leadline.probes.solvers.losses import LogisticLoss, Loss

__all__ = ["DEFAULT_L2", "Logistic"]


@dataclass(frozen=True)
class Logistic(Regularised):
    """Logistic regression: mean log-loss + (l2/2)·‖w‖², intercept free, features standardised inside each fold.

    The penalty acts on the standardised features, each fold's scaled by its own training rows. `C` of scikit-learn is
    1 / (n · l2) with n the number of training rows (the sum of their weights). Several columns are several probes
    (multi-label); a label that is missing, NaN, takes its row out of that column alone.

    Parameters
    ----------
    l2 : one penalty, several (one is then chosen, and the choice corrected), or None for 1e-4, 1e-3, … 1e2.
    class_weight : None, `"balanced"`, or a positive number for each class, negative first.
    tolerance : a fit has converged when (objective − minimum) / objective is proved to be at most this.
    device : where to solve, as torch names it.

    Raises
    ------
    ProbeError : a penalty that is not positive, or a target that is not binary.

    References
    ----------
    D. Böhning (1992), Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44: the bound on the
    Hessian that the preconditioner starts from.
    """

    @property
    def name(self) -> str:
        return "logistic"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary", "multilabel")

    @property
    def loss(self) -> str:
        return "log_loss"

    def _loss_of(self, rows: Rows) -> Loss:
        return LogisticLoss(2 * rows.codes - 1, rows.weights)
