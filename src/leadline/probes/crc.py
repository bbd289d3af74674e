"""Contrastive representation clustering: the top component of the normalised differences of contrast pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.probes.lat import component_solution
from leadline.probes.pairs import PairFamily, PairMoments, PairSolution

__all__ = ["CRC"]


@dataclass(frozen=True)
class CRC(PairFamily):
    """w = the unit vector that maximises Σ_i (w·δ_i)², with δ_i the difference of the two normalised sides of a pair.

    Each side is centred on its own mean over the training pairs, which takes out what tells the two phrasings apart,
    and divided by the spread of the feature. The top principal component of what remains splits the pairs into two
    clusters at 0 (the variant called TPC; bimodal salience search, the other one, is not offered). Which cluster is
    the true one only labels can say; see `PairFit.sign_rule`.

    Parameters
    ----------
    scale : whether features are divided by their spread in the training pairs, one for both sides, or only centred.

    References
    ----------
    C. Burns, H. Ye, D. Klein and J. Steinhardt (2022), Discovering Latent Knowledge in Language Models Without
    Supervision, arXiv:2212.03827.
    """

    scale: bool = True

    @property
    def name(self) -> str:
        return "crc"

    def _solve(
        self, first: np.ndarray, second: np.ndarray, fold: np.ndarray, omega: np.ndarray, moments: PairMoments
    ) -> PairSolution:
        scale = moments.scale if self.scale else np.ones_like(moments.scale)
        return component_solution(first - second, moments.first - moments.second, scale, fold, omega, self.name)
