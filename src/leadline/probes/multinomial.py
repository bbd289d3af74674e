"""Multinomial logistic regression: several classes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from leadline.probes.regularised import Regularised, Rows
from leadline.probes.solvers.losses import Loss, MultinomialLoss

__all__ = ["Multinomial"]


@dataclass(frozen=True)
class Multinomial(Regularised):
    """Softmax regression: mean of −log p_y + (l2/2)·Σ_c ‖w_c‖², p = softmax(f), intercepts free.

    Every class has its own coefficients, as in scikit-learn, whose `C` is 1 / (n · l2); with two classes this is
    `Logistic` at half the penalty. The target is one column of codes 0 … C−1, and the fit has C outputs: the probe of
    a class scores its logit. Features are standardised inside each fold.

    Parameters
    ----------
    l2, tolerance, device : as for `Logistic`.
    class_weight : None, `"balanced"`, or a positive number for each class.

    References
    ----------
    D. Böhning (1992), Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44.
    """

    @property
    def name(self) -> str:
        return "multinomial"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("multiclass",)

    @property
    def loss(self) -> str:
        return "multiclass_log_loss"

    def _n_outputs(self, n_classes: int) -> int:
        return n_classes

    def _outputs(self, coef: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # One number added to every intercept changes nothing; of all equal solutions, the one that sums to 0 is kept.
        return coef, offsets - offsets.mean(axis=-1, keepdims=True)

    def _loss_of(self, rows: Rows) -> Loss:
        classes = torch.arange(rows.n_classes, device=rows.codes.device)[None, :, None]
        return MultinomialLoss((rows.codes[:, None] == classes).to(rows.weights.dtype), rows.weights)
