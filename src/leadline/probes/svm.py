"""The linear support vector machine with a squared hinge."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.probes.regularised import Regularised, Rows
from leadline.probes.solvers.losses import Loss, SquaredHinge

__all__ = ["LinearSVM"]


@dataclass(frozen=True)
class LinearSVM(Regularised):
    """Linear SVM: mean of max(0, 1 − y f)² + (l2/2)·‖w‖², y ∈ {−1, +1}, intercept free, features standardised in folds.

    `C` of scikit-learn's LinearSVC is 1 / (n · l2) (its liblinear penalises the intercept too, which this does not).
    Parameters, missing labels and errors are those of `Logistic`.

    References
    ----------
    C. Cortes and V. Vapnik (1995), Support-vector networks, Machine Learning 20. R.-E. Fan et al. (2008), LIBLINEAR,
    JMLR 9: the squared hinge.
    """

    @property
    def name(self) -> str:
        return "linear_svm"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary", "multilabel")

    @property
    def loss(self) -> str:
        return "squared_hinge"

    def _loss_of(self, rows: Rows) -> Loss:
        return SquaredHinge(2 * rows.codes - 1, rows.weights)
