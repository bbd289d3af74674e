"""The nearest class mean, as a linear score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows
from leadline.probes.lda import check_class_kind

__all__ = ["NearestCentroid", "centroid_scores"]


@dataclass(frozen=True)
class NearestCentroid(LinearFamily):
    """score_c(x) = x'μ_c − ½·‖μ_c‖², which is −½·‖x − μ_c‖² but for a term that all classes share.

    The largest score names the class whose mean lies nearest. A binary fit has one output, score_1 − score_0, and so
    equals the plain mean difference where features are not scaled. No penalty, nothing to choose.

    Parameters
    ----------
    scale : whether distances are taken between features standardised inside each fold, or between raw ones.
    kind : `"binary"`, columns of 0 and 1, each with one output; `"multiclass"`, one column of codes 0 … C−1, with C.

    Raises
    ------
    ProbeError : an unknown kind.

    References
    ----------
    R. Tibshirani, T. Hastie, B. Narasimhan and G. Chu (2002), Diagnosis of multiple cancer types by shrunken centroids
    of gene expression; here without the shrinkage.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.nearest_centroid import NearestCentroid
    >>> X = np.random.default_rng(0).normal(size=(90, 4))
    >>> NearestCentroid(kind="multiclass").fit(X, np.arange(90) % 3).scores.shape
    (90, 3)
    """

    scale: bool = True
    kind: str = "binary"

    def __post_init__(self) -> None:
        check_class_kind(self.kind, "nearest centroid")

    @property
    def name(self) -> str:
        return "nearest_centroid"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def parameter(self) -> None:
        return None

    @property
    def loss(self) -> str:
        return "log_loss" if self.kind == "binary" else "multiclass_log_loss"

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        n_classes = check_labels(Y, self.kind, "nearest centroid", fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        n, d = X.shape
        omega = np.ones(n) if weights is None else weights
        binary = self.kind == "binary"
        outputs = Y.shape[1] if binary else n_classes
        coef, intercept = np.empty((1, n_folds + 1, outputs, d)), np.empty((1, n_folds + 1, outputs))
        scores = np.full((1, n, outputs), np.nan, dtype=np.float32)
        member = np.stack([1 - Y, Y]) if binary else (Y[:, 0] == np.arange(n_classes)[:, None])[:, :, None]
        member = member * omega[:, None]  # (C, n, m)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            mean = moments.fold_mean[k]
            scale = moments.fold_scale[k] if self.scale else np.ones(d)
            Z = (X[rows] - mean) / scale
            means = np.stack([(each / each.sum(axis=0)).T @ Z for each in member[:, rows]])  # (C, m, d)
            w, b = centroid_scores(means, binary=binary)
            coef[0, k] = w / scale
            intercept[0, k] = b - coef[0, k] @ mean
            scores[0, ~rows] = ((X[~rows] - mean) / scale) @ w.T + b
        return SiteFit.closed_form((np.nan,), scores, coef, intercept, problems=Y.shape[1] if binary else 1)


def centroid_scores(means: np.ndarray, *, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (c, d) and intercepts (c,) from class means (C, m, d) of m targets; m = 1 for several classes."""
    if binary:
        w = means[1] - means[0]
        return w, -0.5 * np.einsum("md,md->m", w, means[1] + means[0])
    return means[:, 0], -0.5 * np.square(means[:, 0]).sum(axis=1)
