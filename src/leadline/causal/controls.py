"""Directions to hold a probe's against: random ones, the difference of means, an orthogonal one, a shuffled probe.

An isotropic direction is a weak control where activations are not: it lies mostly in dimensions that hardly vary and
that little may read. So random directions are drawn from the covariance of the activations within classes too, where
they look like what the model itself writes there.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.linalg

from leadline.causal.directions import unit_vector
from leadline.errors import CausalError
from leadline.evidence.permutation import draw_shuffles
from leadline.probes import FAMILIES, MeanDifference
from leadline.probes.fitted import Fitted
from leadline.probes.probe import Probe

__all__ = [
    "KINDS",
    "Fits",
    "class_gap",
    "family_of",
    "fit_one",
    "halves",
    "mean_difference",
    "natural_shift",
    "orthogonal_equal_variance",
    "p_value",
    "random_directions",
    "shuffled_label_probe",
    "within_classes",
]

KINDS = ("isotropic", "covariance")
# Of a unit vector û, w·û/‖w‖ below which moving along û does not move the score.
_LEAST_COSINE = 1e-6
# Shares of the largest singular value below which a dimension does not vary.
_FLAT = 1e-9


class Fits(Protocol):
    """A probe family that is fitted on arrays, such as `Logistic` or `Ridge`."""

    @property
    def name(self) -> str: ...

    def fit(
        self, X: np.ndarray, y: np.ndarray, *, n_folds: int = 5, groups: np.ndarray | None = None, seed: int = 0
    ) -> Fitted: ...


def checked_rows(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X (n, d) and y (n,) as float64, finite.

    Raises
    ------
    CausalError : other shapes, values that are not finite, or labels that are all alike.
    """
    rows, label = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if rows.ndim != 2 or label.shape != rows.shape[:1]:
        raise CausalError(f"got activations {rows.shape} and labels {label.shape}; expected (n, d) and (n,) of one n.")
    if not np.isfinite(rows).all() or not np.isfinite(label).all():
        raise CausalError("activations or labels hold a NaN or an infinity; leave such rows out.")
    if len(np.unique(label)) < 2:
        raise CausalError(f"the {len(label)} labels are all alike; give rows of both classes.")
    return rows, label


def halves(y: np.ndarray) -> np.ndarray:
    """(n,) bool, the positive class of labels 0 and 1; of numbers, those above the median."""
    label = np.asarray(y, dtype=np.float64)
    return label == 1 if np.isin(label, (0.0, 1.0)).all() else label > np.median(label)


def mean_difference(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(d,) μ₁ − μ₀ between the classes, or between the upper and the lower half of a number; not made unit.

    Raises
    ------
    CausalError : shapes or values that do not fit, or a single class.
    """
    rows, label = checked_rows(X, y)
    ones = halves(label)
    if not ones.any() or ones.all():
        raise CausalError(f"more than half of the {len(label)} labels are the largest value; split them otherwise.")
    return np.asarray(rows[ones].mean(axis=0) - rows[~ones].mean(axis=0))


def within_classes(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, d) float64: the activations without their class's mean, or without their regression on a number."""
    rows, label = checked_rows(X, y)
    if np.isin(label, (0.0, 1.0)).all():
        out = rows.copy()
        for value in (0.0, 1.0):
            out[label == value] -= rows[label == value].mean(axis=0)
        return out
    centred, z = rows - rows.mean(axis=0), label - label.mean()
    return np.asarray(centred - np.outer(z, (z @ centred) / (z @ z)))


def random_directions(
    X: np.ndarray, y: np.ndarray | None, n: int, *, kind: str = "isotropic", seed: int = 0
) -> np.ndarray:
    """(n, d) unit vectors.

    Parameters
    ----------
    X : (m, d) activations. y : (m,) labels; for `"isotropic"` None will do.
    kind : `"isotropic"`, uniform on the sphere; `"covariance"`, g/‖g‖ with g ~ N(0, Σ) and Σ the covariance within
        classes, so that no direction owes its size to the concept.

    Raises
    ------
    CausalError : an unknown kind, or activations that do not vary within classes.
    """
    if kind not in KINDS:
        raise CausalError(f"unknown random directions '{kind}'; expected one of {', '.join(KINDS)}.")
    rng = np.random.default_rng([seed, 640 + KINDS.index(kind)])
    if kind == "isotropic":
        g = rng.normal(size=(n, np.shape(X)[1]))
    else:
        if y is None:
            raise CausalError("directions from the covariance within classes need the labels; give y.")
        rest = within_classes(X, y)
        # Σᵢ gᵢ rᵢ/√m has the covariance R'R/m, which need not be made.
        g = rng.normal(size=(n, len(rest))) @ rest
    size = np.linalg.norm(g, axis=1, keepdims=True)
    if not (size > 0).all():
        raise CausalError("the activations do not vary within the classes, so no direction can be drawn from them.")
    return np.asarray(g / size)


def orthogonal_equal_variance(X: np.ndarray, v: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(d,) a random unit vector orthogonal to v, along which the activations vary as much as along v.

    Of the activations in the space orthogonal to v let eᵢ be the principal axes and λᵢ the variances. For gᵢ ~ N(0, 1),
    u ∝ Σᵢ gᵢ λᵢᵃ eᵢ varies the more the larger a, from the smallest λ to the largest; a is found by bisection. Where
    the variance along v lies outside of them, u is the axis of the nearest.

    Parameters
    ----------
    X : (n, d) activations. v : (d,), of any length.
    """
    rows, unit = np.asarray(X, dtype=np.float64), unit_vector(v)
    centred = rows - rows.mean(axis=0)
    along = centred @ unit
    rest = centred - np.outer(along, unit)
    _, size, axes = scipy.linalg.svd(rest, full_matrices=False)
    kept = size > _FLAT * max(float(size[0]), 1e-300)
    if not kept.any():
        raise CausalError("the activations vary along the direction alone; there is none that is orthogonal to it.")
    variances, axes = np.square(size[kept]) / len(rows), axes[kept]
    g = np.random.default_rng([seed, 642]).normal(size=len(axes))
    target = float(along @ along) / len(rows)
    logs = np.log(variances)

    def weights(a: float) -> np.ndarray:
        w = np.log(np.abs(g)) + a * logs
        return np.asarray(np.sign(g) * np.exp(w - w.max()))

    def variance(a: float) -> float:
        w = np.square(weights(a))
        return float(w @ variances / w.sum())

    low, high = -64.0, 64.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if variance(middle) < target else (low, middle)
    return unit_vector(weights((low + high) / 2) @ axes)


def family_of(probe: Probe) -> Fits:
    """The family that a probe was fitted as, with its penalty; the difference of means where there is none to fit."""
    if probe.family in ("logistic", "ridge", "linear_svm") and probe.l2 is not None:
        return FAMILIES[probe.family](l2=(probe.l2,))
    return FAMILIES["lda"]() if probe.family == "lda" else MeanDifference()


def shuffled_label_probe(
    family: Fits, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> Probe:
    """A probe fitted on labels that are shuffled: within groups that hold several, else whole groups exchange theirs.

    Numbers are shuffled as such for a family that takes them, and by their halves for one that takes classes.
    """
    rows, label = checked_rows(X, y)
    target = label if "continuous" in getattr(family, "kinds", ()) else halves(label).astype(np.float64)
    order = draw_shuffles(target[:, None], groups, 19, seed).index[1]
    return fit_one(family, rows, target[order], groups, seed=seed)


def fit_one(family: Fits, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0) -> Probe:
    """The probe of a family on all rows; folds are made, of whole groups, only where a setting must be chosen.

    Raises
    ------
    CausalError : the family has several outputs, and so no one direction.
    """
    penalty = getattr(family, "l2", None)
    alone = getattr(family, "parameter", None) is None or (penalty is not None and np.size(penalty) == 1)
    probe = family.fit(X, y, n_folds=0 if alone else 5, groups=groups, seed=seed).probe
    if not isinstance(probe, Probe):
        raise CausalError(f"a {family.name} of several outputs has no one direction; give a family of one output.")
    return probe


def class_gap(coef: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    """w·(μ₁ − μ₀): how far apart a probe's mean scores of the classes are."""
    return float(np.asarray(coef, dtype=np.float64) @ mean_difference(X, y))


def natural_shift(probe: Probe, vector: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    """α by which moving along û moves the score by the gap between the classes: α = w·(μ₁ − μ₀)/(w·û).

    Parameters
    ----------
    vector : (d,) û, made unit. X : (n, d) activations, of rows on which nothing is tried. y : (n,) labels.

    Raises
    ------
    CausalError : the score does not change along û, or does not differ between the classes.
    """
    u, w = unit_vector(vector), np.asarray(probe.coef, dtype=np.float64)
    rate = float(w @ u)
    if not abs(rate) > _LEAST_COSINE * float(np.linalg.norm(w)):
        raise CausalError(
            "the probe's score does not change along the vector, so no shift along it amounts to the gap between the "
            "classes; give a probe whose pattern and direction agree."
        )
    shift = class_gap(w, X, y) / rate
    if not shift:
        raise CausalError("the probe's mean score is the same in both classes; there is no gap to move by.")
    return shift


def p_value(null: np.ndarray, effect: float, *, one_sided: bool = True) -> float:
    """(1 + #{|null| ≥ effect}) / (1 + B): how often a direction that has no sign of its own does as much either way.

    Parameters
    ----------
    null : (B,) mean effects of random directions. effect : the one to judge, whose direction was said beforehand.
    one_sided : a negative effect is none; otherwise its size counts.

    Returns
    -------
    NaN where any of them is.
    """
    values = np.abs(np.asarray(null, dtype=np.float64))
    if not (np.isfinite(effect) and np.isfinite(values).all()):
        return float("nan")
    least = effect if one_sided else abs(effect)
    return (1 + int(np.count_nonzero(values >= least))) / (1 + len(values))
