"""Calibrators: maps from a binary score to a probability, and how they are fitted on scores that the probe was not.

A calibrator is frozen, goes to and from plain lists for a probe's file, and gives a probability to any score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from leadline.errors import EvidenceError
from leadline.evidence.proportions import binary_rows

__all__ = ["METHODS", "RAW", "Isotonic", "Platt", "cross_fit", "fit_calibrator"]

METHODS = ("raw", "platt", "isotonic")
_NEWTON_STEPS = 200


@dataclass(frozen=True)
class Platt:
    """probability = 1 / (1 + exp(−(slope · score + intercept)))."""

    slope: float
    intercept: float

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of the positive class, of the shape of `scores`, in float64."""
        return np.asarray(expit(self.slope * np.asarray(scores, dtype=np.float64) + self.intercept))

    def to_list(self) -> list[float]:
        """[slope, intercept]."""
        return [self.slope, self.intercept]

    @classmethod
    def from_list(cls, values: Sequence[float]) -> Platt:
        """The inverse of `to_list`; EvidenceError where the list is another."""
        if len(values) != 2 or not np.isfinite(values).all():
            raise EvidenceError(
                f"got {list(values)!r} for a Platt calibrator; expected [slope, intercept], both finite."
            )
        return cls(float(values[0]), float(values[1]))


@dataclass(frozen=True)
class Isotonic:
    """A non-decreasing map: linear between the knots (x, y), constant beyond the first and the last.

    Attributes
    ----------
    x : scores, increasing. y : probabilities, non-decreasing, as many.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of the positive class, of the shape of `scores`, in float64."""
        return np.asarray(np.interp(np.asarray(scores, dtype=np.float64), self.x, self.y))

    def to_list(self) -> list[list[float]]:
        """[[x, …], [y, …]]."""
        return [list(self.x), list(self.y)]

    @classmethod
    def from_list(cls, values: Sequence[Sequence[float]]) -> Isotonic:
        """The inverse of `to_list`; EvidenceError where the knots are no non-decreasing map to [0, 1]."""
        if len(values) != 2 or len(values[0]) != len(values[1]) or not len(values[0]):
            raise EvidenceError(
                "got no two lists of equal length for an isotonic calibrator; expected [[x, …], [y, …]]."
            )
        x, y = np.asarray(values[0], dtype=np.float64), np.asarray(values[1], dtype=np.float64)
        rising = bool((np.diff(x) > 0).all() and (np.diff(y) >= 0).all() and np.isfinite(x).all())
        if not rising or not (y[0] >= 0 and y[-1] <= 1):
            raise EvidenceError(
                "got knots of an isotonic calibrator that do not rise, or leave [0, 1]; expected increasing x, y that "
                "never falls: fit it again."
            )
        return cls(tuple(x.tolist()), tuple(y.tolist()))


RAW = Platt(1.0, 0.0)


def fit_calibrator(scores: np.ndarray, y: np.ndarray, method: str) -> Platt | Isotonic:
    """Fit one calibrator on scores of rows that the probe was not fitted on.

    "raw" fits nothing: the score is taken for the log odds. "platt" minimises the cross-entropy of σ(slope · score +
    intercept) to the targets (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), which keep it finite where the scores separate the
    classes (Platt 1999; solved by Newton's method, after Lin, Lin and Weng 2007, Machine Learning 68). "isotonic"
    is the non-decreasing map of least squared error, by pooling adjacent violators (Zadrozny and Elkan 2002), kept
    between those same two targets: a probability of exactly 0 or 1 would be a claim that no sample supports.

    Parameters
    ----------
    scores : (n,) or (n, 1). y : 0/1 targets. method : one of `METHODS`.

    Raises
    ------
    EvidenceError : an unknown method, rows that `binary_rows` refuses, or rows of one class only.
    """
    if method not in METHODS:
        raise EvidenceError(f"got the calibration method {method!r}; expected one of {', '.join(METHODS)}.")
    score, positive = binary_rows(scores, y)
    if method == "raw":
        return RAW
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    if not n_pos or not n_neg:
        raise EvidenceError(
            f"got {n_pos} positives and {n_neg} negatives to fit a calibrator on; it needs both: give it more rows."
        )
    lowest, highest = 1 / (n_neg + 2), (n_pos + 1) / (n_pos + 2)
    if method == "platt":
        return _platt(score, np.where(positive, highest, lowest))
    fitted = IsotonicRegression(y_min=lowest, y_max=highest, increasing=True, out_of_bounds="clip")
    fitted.fit(score, positive.astype(np.float64))
    return Isotonic(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


def cross_fit(scores: np.ndarray, y: np.ndarray, fold: np.ndarray, method: str) -> dict[int, Platt | Isotonic]:
    """{k: the calibrator that may judge fold k, fitted on the out-of-fold scores of all other folds}."""
    score, positive = binary_rows(scores, y)
    part = np.asarray(fold)
    return {int(k): fit_calibrator(score[part != k], positive[part != k], method) for k in np.unique(part)}


def _platt(scores: np.ndarray, target: np.ndarray) -> Platt:
    centre, scale = float(scores.mean()), float(scores.std())
    if scale <= 1e-12 * max(1.0, abs(centre)):
        return Platt(0.0, float(logit(target.mean())))
    # In units of their own spread the scores of any probe give a well-scaled problem of two unknowns.
    X = np.column_stack([(scores - centre) / scale, np.ones(len(scores))])
    w = np.array([0.0, logit(target.mean())])

    def loss(w: np.ndarray) -> float:
        z = X @ w
        return float(np.mean(np.logaddexp(0, z) - target * z))

    value = loss(w)
    for _ in range(_NEWTON_STEPS):
        p = expit(X @ w)
        gradient = X.T @ (p - target) / len(X)
        if np.abs(gradient).max() < 1e-10:
            break
        hessian = (X * (p * (1 - p))[:, None]).T @ X / len(X) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        length, slope = 1.0, float(gradient @ step)
        # Near the minimum the loss is flat to rounding, and a full step is the right one.
        while loss(w - length * step) > value - 1e-4 * length * slope + 1e-14 and length > 1e-10:
            length /= 2
        w = w - length * step
        value = loss(w)
    else:
        raise EvidenceError(
            f"Platt scaling of {len(scores)} scores did not converge in {_NEWTON_STEPS} Newton steps; look for scores "
            "of extreme size and leave those rows out."
        )
    return Platt(float(w[0] / scale), float(w[1] - w[0] * centre / scale))
