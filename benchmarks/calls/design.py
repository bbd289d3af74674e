"""What every call does alike: standardise by a fold's training rows, and bring coefficients back to raw activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Fits", "Part", "parts"]


@dataclass(frozen=True)
class Part:
    """One fold's fit of one site.

    Attributes
    ----------
    site, at : indices of the site and of the fold in `folds`. rows : (n,) bool, those trained on.
    Z : (n_train, d) standardised by them. rest : (n_test, d) by them too; None for the refit.
    mean, scale : (d,) float64.
    """

    site: int
    at: int
    rows: np.ndarray
    Z: np.ndarray
    rest: np.ndarray | None
    mean: np.ndarray
    scale: np.ndarray


def parts(X: np.ndarray, fold: np.ndarray, folds: np.ndarray, dtype: type = np.float32) -> Iterator[Part]:
    """Every fold of every site, standardised with scikit-learn's StandardScaler, as a notebook does."""
    from sklearn.preprocessing import StandardScaler

    for s, site in enumerate(X):
        for at, k in enumerate(folds):
            rows = fold != k
            own = site[rows].astype(dtype, copy=False)
            scaler = StandardScaler().fit(own)
            rest = None if rows.all() else scaler.transform(site[~rows].astype(dtype, copy=False))
            yield Part(s, at, rows, scaler.transform(own), rest, scaler.mean_, scaler.scale_)


class Fits:
    """Coefficients (S, m, F, L, d) and intercepts (S, m, F, L) for raw activations, as they come in."""

    def __init__(self, X: np.ndarray, n_targets: int, folds: np.ndarray, grid: np.ndarray) -> None:
        self.coef = np.full((len(X), n_targets, len(folds), len(grid), X.shape[2]), np.nan)
        self.intercept = np.full(self.coef.shape[:-1], np.nan)
        self.unconverged = 0

    def put(self, part: Part, target: int | slice, index: int | slice, w: np.ndarray, b: np.ndarray | float) -> None:
        """Keep a fit of standardised features, and score the held-out rows, which every side does."""
        raw = np.asarray(w, dtype=np.float64) / part.scale
        self.coef[part.site, target, part.at, index] = raw
        self.intercept[part.site, target, part.at, index] = b - raw @ part.mean
        if part.rest is not None:
            _ = part.rest @ np.asarray(w, dtype=part.rest.dtype).reshape(-1, part.rest.shape[1]).T + 0

    def result(self, settings: str) -> dict[str, object]:
        """What a call returns."""
        return {
            "coef": self.coef,
            "intercept": self.intercept,
            "unconverged": np.array(self.unconverged),
            "settings": settings,
        }
