"""The closed-form families from streamed moments: the same fits as in memory, for rows that do not fit into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from leadline.errors import ProbeError
from leadline.probes.covariance import Spectrum, oas
from leadline.probes.fit import SiteFit
from leadline.probes.lda import LDA, class_priors, discriminants
from leadline.probes.mean_difference import MeanDifference, pooled_difference
from leadline.probes.nearest_centroid import NearestCentroid, centroid_scores
from leadline.probes.ridge import Ridge, solve_primal
from leadline.probes.streaming import StreamedMoments, TrainingMoments

__all__ = ["StreamedFit", "fit_streamed", "principal_components"]

_ROUNDING = 100.0
"""Covariances here are differences of sums, and carry more rounding than those of centred rows."""


@dataclass(frozen=True)
class StreamedFit:
    """Every fit from one pass: L settings × (K folds + the refit) × c outputs.

    Attributes
    ----------
    settings, coef, intercept, fold_coef, fold_intercept, objective : as in `SiteFit`, but for `fold_coef` in float64.
    pattern : (L, c, d) of the refit, Σ·coef of unit length; see `Probe`.
    """

    settings: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    fold_coef: np.ndarray
    fold_intercept: np.ndarray
    objective: np.ndarray
    pattern: np.ndarray

    def score(self, X: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """(L, r, c) out-of-fold scores of a chunk (r, d), in a second pass: each row by the fit of its `fold` (r,).

        Raises
        ------
        ProbeError : a fold that was not fitted.
        """
        n_folds = self.fold_coef.shape[1]
        if np.shape(fold) != (len(X),) or not np.isin(fold, np.arange(n_folds)).all():
            raise ProbeError(f"expected a fold from 0 to {n_folds - 1} for each of the {len(X)} rows.")
        scores = np.empty((len(self.settings), len(X), self.coef.shape[1]))
        for k in np.unique(fold):
            rows = fold == k
            scores[:, rows] = X[rows].astype(np.float64) @ self.fold_coef[:, k].swapaxes(1, 2)
            scores[:, rows] += self.fold_intercept[:, k, None]
        return scores

    def site_fit(self, scores: np.ndarray) -> SiteFit:
        """The same as a `SiteFit`, with the out-of-fold scores (L, n, c) of the second pass."""
        coef = np.concatenate([self.fold_coef, self.coef[:, None]], axis=1)
        intercept = np.concatenate([self.fold_intercept, self.intercept[:, None]], axis=1)
        return SiteFit.closed_form(
            self.settings, scores.astype(np.float32), coef, intercept, self.objective, problems=self.objective.shape[2]
        )


def fit_streamed(family: Ridge | LDA | MeanDifference | NearestCentroid, moments: StreamedMoments) -> StreamedFit:
    """Fit a closed-form family from moments, equal to its `fit_site` on all rows in memory but for rounding.

    Matrices are d × d whatever n is.

    Raises
    ------
    ProbeError : targets that the family does not take, or moments that it lacks. `LDA(shrinkage="ledoit_wolf")` needs
        fourth moments about each class's mean, which one pass cannot gather.
    """
    fits = [_fit(family, moments, moments.training(k)) for k in range(moments.n_folds + 1)]
    coef, intercept, objective = (np.stack([fit[i] for fit in fits], axis=1) for i in range(3))
    covariance = moments.training(moments.n_folds).covariance
    pattern = coef[:, -1] @ covariance
    norm = np.linalg.norm(pattern, axis=2, keepdims=True)
    return StreamedFit(
        settings=np.asarray(family.grid if isinstance(family, Ridge | LDA) else (np.nan,)),
        coef=coef[:, -1],
        intercept=intercept[:, -1],
        fold_coef=coef[:, :-1],
        fold_intercept=intercept[:, :-1],
        objective=objective,
        pattern=pattern / np.where(norm > 0, norm, 1.0),
    )


def _fit(
    family: Ridge | LDA | MeanDifference | NearestCentroid, moments: StreamedMoments, training: TrainingMoments
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L, c, d) coefficients and (L, c) intercepts for raw activations, and (L, p) objectives."""
    if isinstance(family, Ridge):
        return _ridge(family, training, signed=moments.binary)
    kind = "binary" if isinstance(family, MeanDifference) else family.kind
    if (moments.n_classes is None) != (kind == "binary") or not training.class_weight.size:
        given = f"{moments.n_classes} classes" if moments.n_classes else "binary" if moments.binary else "continuous"
        raise ProbeError(
            f"a {kind} {family.name} probe cannot be fitted to streamed targets that are {given}; stream columns of 0 "
            "and 1 for a binary probe, or codes with n_classes for a multiclass one."
        )
    fits = [_classes(family, training, t) for t in range(len(training.class_weight))]
    coef, intercept = (np.concatenate([fit[i] for fit in fits], axis=1) for i in range(2))
    return coef, intercept, np.full((len(coef), len(fits)), np.nan)


def _ridge(family: Ridge, training: TrainingMoments, *, signed: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scale, factor = training.scale, 2.0 if signed else 1.0
    gram = training.covariance / np.outer(scale, scale)
    centre = factor * training.target_mean - (factor - 1)
    standard, objective = solve_primal(
        gram, factor * training.cross / scale[:, None], factor**2 * training.square, family.grid
    )
    coef = standard / scale
    return coef, centre - coef @ training.mean, objective


def _classes(
    family: LDA | MeanDifference | NearestCentroid, training: TrainingMoments, t: int
) -> tuple[np.ndarray, np.ndarray]:
    """One target's (L, c, d) coefficients and (L, c) intercepts."""
    weight, means = training.class_weight[t], training.class_mean[t] - training.mean
    if isinstance(family, MeanDifference):
        w = means[1] - means[0]
        if family.covariance == "pooled":
            w = pooled_difference(Spectrum(matrix=_within(training, t), rounding=_ROUNDING), w)
        coef, b = w[None], -0.5 * (means[1] + means[0]) @ w[None].T
        return coef[None], (b - coef @ training.mean)[None]
    scaled = not isinstance(family, NearestCentroid) or family.scale
    scale = training.scale if scaled else np.ones_like(training.scale)
    binary = family.kind == "binary"
    if isinstance(family, NearestCentroid):
        w, b = (part[None] for part in centroid_scores((means / scale)[:, None], binary=binary))
    else:
        w, b = _discriminants(family, training, t, means / scale, class_priors(family.priors, weight), binary=binary)
    coef = w / scale
    return coef, b - coef @ training.mean


def _discriminants(
    family: LDA, training: TrainingMoments, t: int, means: np.ndarray, priors: np.ndarray, *, binary: bool
) -> tuple[np.ndarray, np.ndarray]:
    """In standardised space."""
    if family.shrinkage == "ledoit_wolf":
        raise ProbeError(
            "Ledoit and Wolf's estimate needs fourth moments, which one pass cannot gather; stream with "
            "shrinkage='oas' or numbers."
        )
    unit = np.outer(training.scale, training.scale)
    weight, d = training.class_weight[t], len(training.mean)
    if family.shrinkage != "oas" and family.priors == "empirical":
        within = _within(training, t) / unit
        return discriminants(means, priors, family.grid, None, matrix=within, rounding=_ROUNDING, binary=binary)
    if training.class_covariance is None:
        raise ProbeError("this LDA needs the covariance of each class; stream with class_moments=True.")
    within, diagonal = np.zeros((d, d)), 0.0
    for c, prior in enumerate(priors):
        own = training.class_covariance[t, c] / unit
        trace = float(np.trace(own))
        s = oas(float(np.square(own).sum()), trace, d, weight[c]) if family.shrinkage == "oas" else 0.0
        within += prior * (1 - s) * own
        diagonal += prior * s * trace / d
    grid = None if family.shrinkage == "oas" else family.grid
    ridge = np.full(d, diagonal)
    return discriminants(means, priors, grid, ridge, matrix=within, rounding=_ROUNDING, binary=binary)


def _within(training: TrainingMoments, t: int) -> np.ndarray:
    """(d, d) the covariance within the classes of a target, each class by its weight: the total less the between."""
    between = training.class_mean[t] - training.mean
    share = training.class_weight[t] / training.weight
    return np.asarray(training.covariance - (between.T * share) @ between)


def principal_components(
    moments: StreamedMoments, n_components: int, *, scale: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the activations, of the training rows of every fold and of all rows (last).

    Parameters
    ----------
    n_components : q, from 1 to d. scale : whether features are standardised first.

    Returns
    -------
    (K + 1, q, d) unit vectors, the first explaining most, each with its largest coordinate positive; and (K + 1, q)
    the variances along them (divided by the weight of the rows).

    Raises
    ------
    ProbeError : a number of components outside 1 … d.
    """
    if not 1 <= n_components <= max(moments.d, 1):
        raise ProbeError(f"got {n_components} components; expected from 1 to {moments.d}.")
    directions, variances = [], []
    for k in range(moments.n_folds + 1):
        training = moments.training(k)
        covariance = training.covariance / np.outer(training.scale, training.scale) if scale else training.covariance
        values, vectors = scipy.linalg.eigh(
            covariance, subset_by_index=[moments.d - n_components, moments.d - 1], check_finite=False
        )
        own = vectors.T[::-1]
        sign = np.sign(own[np.arange(n_components), np.abs(own).argmax(axis=1)])
        directions.append(own * sign[:, None])
        variances.append(values[::-1])
    return np.stack(directions), np.stack(variances)
