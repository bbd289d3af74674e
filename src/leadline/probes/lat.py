"""Linear artificial tomography: the first principal component of the differences of contrast pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leadline.probes.folds import training_rows
from leadline.probes.pairs import PairFamily, PairMoments, PairSolution, top_component

__all__ = ["LAT", "component_solution"]


@dataclass(frozen=True)
class LAT(PairFamily):
    """w = the unit vector that maximises Σ_i (w·δ_i)² over the training pairs, with δ_i = x_first − x_second raw.

    The paper flips the order of each pair at random before a PCA, which centres. Flips make the mean of the
    differences 0 on average, so that their covariance is, up to a factor of 1 − 1/n, the second moment about 0: what
    is taken here. It is the mean over all flips, needs no seed, and keeps the mean difference in, which a PCA of
    unflipped differences would subtract and with it the very concept.

    The component is whatever differs most between the sides. Where that is their wording and the concept goes either
    way, as between a statement and its negation, it reads nothing; `CRC` takes each side's mean off first.

    The intercept puts a score of 0 at the middle of all training activations. Without labels the first sides are the
    positive ones (`sign_rule` "first_positive"); give labels where the order of a pair says nothing.

    Parameters
    ----------
    scale : whether features are divided by their spread in the training pairs; the paper's are raw.

    References
    ----------
    A. Zou et al. (2023), Representation Engineering: A Top-Down Approach to AI Transparency, arXiv:2310.01405.
    """

    scale: bool = False

    unlabelled: ClassVar[str] = "first_positive"
    centred: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "lat"

    def _solve(
        self, first: np.ndarray, second: np.ndarray, fold: np.ndarray, omega: np.ndarray, moments: PairMoments
    ) -> PairSolution:
        scale = moments.scale if self.scale else np.ones_like(moments.scale)
        return component_solution(first - second, np.zeros_like(scale), scale, fold, omega, self.name)


def component_solution(
    differences: np.ndarray, mean: np.ndarray, scale: np.ndarray, fold: np.ndarray, omega: np.ndarray, family: str
) -> PairSolution:
    """The top component of (differences − mean) / scale of each fit's training pairs, for raw activations.

    Parameters
    ----------
    differences : (n, d). mean, scale : (K + 1, d). family : a name for messages.
    """
    coef, losses = np.empty_like(mean), np.empty((len(mean), 1))
    for k in range(len(mean)):
        rows = training_rows(fold, k)
        u, losses[k] = top_component((differences[rows] - mean[k]) / scale[k], omega[rows], family)
        coef[k] = u / scale[k]
    none = np.zeros(losses.shape, dtype=np.int8)
    return PairSolution(coef, np.zeros(len(mean)), losses, none[:, 0].astype(np.int64), none, none.astype(np.int32))
