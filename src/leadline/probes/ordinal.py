"""Ordinal regression with a cumulative link: one direction, several thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from leadline.probes.regularised import Regularised, Rows
from leadline.probes.solvers.losses import CumulativeLogit, Loss

__all__ = ["Ordinal"]


@dataclass(frozen=True)
class Ordinal(Regularised):
    """Proportional odds: mean of −log P(y) + (l2/2)·‖w‖², P(y > k) = σ(w·x − θ_k), θ increasing and free.

    For labels with an order, such as the levels of Bloom's taxonomy: one direction serves all of them. The target is
    one column of codes 0 … C−1. The fit has C−1 outputs, one a threshold, all with the same coefficients: output k
    scores the log odds of y > k. Features are standardised inside each fold.

    Parameters
    ----------
    l2, tolerance, device : as for `Logistic`.
    class_weight : None, `"balanced"`, or a positive number for each class.

    References
    ----------
    P. McCullagh (1980), Regression models for ordinal data, J. R. Statist. Soc. B 42.
    """

    @property
    def name(self) -> str:
        return "ordinal"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("ordinal",)

    @property
    def loss(self) -> str:
        return "ordinal_log_loss"

    def _outputs(self, coef: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(coef, offsets.shape[-1], axis=-2), -offsets

    def _n_outputs(self, n_classes: int) -> int:
        return n_classes - 1

    def _loss_of(self, rows: Rows) -> Loss:
        classes = torch.empty(len(rows.codes), rows.n_classes, dtype=torch.bool, device=rows.codes.device)
        return CumulativeLogit(rows.codes.long(), rows.weights, classes)
