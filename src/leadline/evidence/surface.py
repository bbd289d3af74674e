"""Baselines from a few numbers or from one category a row: what length, position or a word's identity gives away.

Both give out-of-fold scores (L, n, c) for the four kinds of target, a slice a penalty, that go through the same
bootstrap as the probe's.
"""

from __future__ import annotations

import numpy as np

from leadline.errors import EvidenceError
from leadline.probes.fit import Family
from leadline.probes.logistic import Logistic
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge

__all__ = ["categorical_scores", "constant_scores", "numeric_scores"]

_NUMERIC_L2 = (1e-3, 1e-1)
# Pseudo-rows of the prior that each category's own rows are mixed with.
_STRENGTHS = (0.5, 2.0, 8.0)
_KINDS = ("binary", "continuous", "multiclass", "ordinal")


def numeric_scores(
    values: np.ndarray, Y: np.ndarray, kind: str, fold: np.ndarray, *, kept: np.ndarray | None = None
) -> np.ndarray:
    """Out-of-fold scores of a probe on a few numbers and, where none is negative, their logarithms log(1 + x).

    Logistic, ridge, multinomial or proportional-odds regression, as the kind asks, with the numbers standardised
    inside each fold. A number that is missing (NaN) takes the mean of the column's known ones, and one more feature
    says that it was missing, since that is a property of the surface too.

    Parameters
    ----------
    values : (n,) or (n, k), NaN where missing. Y : (n, m). kind : of the target. fold : (n,) the fold that tests a row.
    kept : (n,) bool, the rows that may be trained on, as a balanced draw keeps them; every row is scored.

    Returns
    -------
    (L, n, c) float32; columns as `leadline.evidence.metrics` takes them.

    Raises
    ------
    EvidenceError : an unknown kind, another number of rows, or an infinite number.
    """
    X = np.asarray(values, dtype=np.float64)
    X = X[:, None] if X.ndim == 1 else X
    _check(kind, len(X), Y, fold)
    if np.isinf(X).any():
        raise EvidenceError("a numeric baseline was given an infinite number; expected finite ones, or NaN.")
    missing = np.isnan(X)
    known = (~missing).sum(axis=0)
    mean = np.where(missing, 0, X).sum(axis=0) / np.maximum(known, 1)
    X = np.where(missing, mean, X)
    parts = [X, np.log1p(X[:, (X >= 0).all(axis=0)]), missing[:, missing.any(axis=0)].astype(np.float64)]
    weights = None if kept is None else kept.astype(np.float64)
    return _family(kind).fit_site(np.hstack(parts).astype(np.float32), Y, fold, weights=weights).scores


def _family(kind: str) -> Family:
    if kind == "binary":
        return Logistic(l2=_NUMERIC_L2)
    if kind == "multiclass":
        return Multinomial(l2=_NUMERIC_L2)
    return Ordinal(l2=_NUMERIC_L2) if kind == "ordinal" else Ridge(l2=_NUMERIC_L2)


def categorical_scores(
    categories: np.ndarray, Y: np.ndarray, kind: str, fold: np.ndarray, *, kept: np.ndarray | None = None
) -> np.ndarray:
    """Out-of-fold scores from one category a row: its rate in the training rows, mixed with the rate of all of them.

    With n_v training rows of the category v, of which n_vc are of class c, and the rate p_c of all training rows,

        r_vc = (n_vc + a·p_c) / (n_v + a)        a of 0.5, 2 and 8

    The score is log(r / (1 − r)) of the positive class for a binary target, log r_vc for each class of a multiclass
    one, log(r / (1 − r)) of y > k for each threshold of an ordinal one, and the mean of the values, mixed likewise, for
    a continuous one (which is ridge regression on the one-hot category). A category that no training row has gets the
    rate of all.

    Parameters
    ----------
    categories : (n,) of any type that compares equal, such as token ids or words.
    Y, kind, fold, kept : as of `numeric_scores`.

    Returns
    -------
    (3, n, c) float32, a slice a strength of mixing.

    Raises
    ------
    EvidenceError : an unknown kind, or another number of rows.
    """
    _check(kind, len(categories), Y, fold)
    names, codes = np.unique(np.asarray(categories), return_inverse=True)
    codes = codes.ravel()
    # What is averaged within a category: values, or 0 and 1 for a class or for y > k.
    outcomes = indicators(Y, kind)
    n, c = outcomes.shape
    scores = np.zeros((len(_STRENGTHS), n, c), dtype=np.float32)
    allowed = np.ones(n, dtype=bool) if kept is None else kept
    for k in range(int(fold.max()) + 1):
        train, test = (fold != k) & allowed, np.flatnonzero(fold == k)
        counts = np.bincount(codes[train], minlength=len(names)).astype(np.float64)[:, None]
        sums = np.stack([np.bincount(codes[train], outcomes[train, j], len(names)) for j in range(c)], axis=1)
        prior = outcomes[train].mean(axis=0)
        for index, strength in enumerate(_STRENGTHS):
            rates = (sums + strength * prior) / (counts + strength)
            scores[index, test] = _scores_of(rates, kind)[codes[test]]
    return scores


def indicators(Y: np.ndarray, kind: str) -> np.ndarray:
    """(n, c) float64 whose means are rates: 0/1 a class (multiclass), 0/1 of y > k a threshold (ordinal), else Y."""
    if kind == "multiclass":
        return (np.arange(int(Y.max()) + 1) == Y).astype(np.float64)
    if kind == "ordinal":
        return (np.arange(int(Y.max())) < Y).astype(np.float64)
    return np.asarray(Y, dtype=np.float64)


def constant_scores(Y_train: np.ndarray, kind: str, n_classes: int) -> np.ndarray:
    """(c,) what can be said without any feature: the training rows' rates as scores, or their mean."""
    if kind == "multiclass":
        rates = np.bincount(Y_train[:, 0].astype(np.int64), minlength=n_classes) / len(Y_train)
    elif kind == "ordinal":
        rates = (Y_train > np.arange(n_classes - 1)).mean(axis=0)
    else:
        rates = Y_train.mean(axis=0)
    return _scores_of(rates, kind)


def _scores_of(rates: np.ndarray, kind: str) -> np.ndarray:
    if kind == "continuous":
        return rates
    # A class that no training row has would have the rate 0.
    bounded = np.clip(rates, 1e-9, 1 - 1e-9)
    return np.log(bounded) if kind == "multiclass" else np.log(bounded) - np.log1p(-bounded)


def _check(kind: str, n: int, Y: np.ndarray, fold: np.ndarray) -> None:
    if kind not in _KINDS:
        raise EvidenceError(f"unknown kind of target '{kind}'; expected one of {', '.join(_KINDS)}.")
    if not n == len(Y) == len(fold):
        raise EvidenceError(f"a baseline got {n} rows of features, {len(Y)} of labels and {len(fold)} of folds.")
