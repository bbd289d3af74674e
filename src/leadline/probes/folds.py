"""Moments of the training rows of every fold, so that each fold is standardised by its own rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.blocks import RowSource, blocks

__all__ = ["FoldMoments", "check_design", "check_labels", "fold_moments", "training_rows", "varying_features"]


@dataclass(frozen=True)
class FoldMoments:
    """Means and standard deviations of the features.

    Attributes
    ----------
    mean, scale : (d,) float64, over all rows. A constant feature has scale 1: after centring it is 0 everywhere.
    fold_mean, fold_scale : (K + 1, d) float64, over the training rows of each fold; the last row is over all rows
        (the refit), and so equals `mean` and `scale`.
    """

    mean: np.ndarray
    scale: np.ndarray
    fold_mean: np.ndarray
    fold_scale: np.ndarray


def training_rows(fold: np.ndarray, k: int) -> np.ndarray:
    """(n,) bool: the rows that fold `k` trains on; for `k` = number of folds, all of them (the refit)."""
    return np.asarray(fold != k)


def check_design(X: RowSource, Y: np.ndarray, fold: np.ndarray, weights: np.ndarray | None = None) -> int:
    """Check shapes and values, and return the number of folds K; 0 where `fold` is −1 everywhere.

    NaN in `Y` is left to `check_labels`, since a multi-label target may hold it.

    Raises
    ------
    ProbeError : shapes that do not fit, values that are not finite, fold numbers with gaps, a single fold, weights
        that are negative or leave a fold without training rows.
    """
    if len(X.shape) != 2 or Y.ndim != 2 or X.shape[0] != len(Y) or fold.shape != (len(Y),) or not X.shape[1] * Y.size:
        raise ProbeError(
            f"got X {X.shape}, Y {Y.shape}, fold {fold.shape}; expected X (n, d), Y (n, m) and fold (n,) of one n."
        )
    # A row with a NaN or an infinity has such a sum; one whose finite values overflow would break every product too.
    with np.errstate(over="ignore", invalid="ignore"):
        bad = sum(int((~np.isfinite(part.sum(axis=1))).sum()) for _, part in blocks(X))
    if bad:
        raise ProbeError(
            f"{bad} of {len(Y)} rows hold a NaN or an infinity; "
            "extract them again in float32 or bfloat16, or leave them out."
        )
    n_folds = 0 if (fold == -1).all() else int(fold.max()) + 1
    if n_folds and (n_folds < 2 or set(np.unique(fold)) != set(range(n_folds))):
        raise ProbeError(f"fold numbers are {sorted(set(fold.tolist()))[:8]}; expected 0 to K-1 with K of 2 or more.")
    if weights is not None:
        if weights.shape != (len(Y),) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ProbeError(f"got weights of shape {weights.shape}; expected {len(Y)} finite numbers, none below 0.")
        for k in range(n_folds + 1):
            if not (weights[training_rows(fold, k)] > 0).any():
                raise ProbeError(f"the weights of all training rows of fold {k} are 0; weigh some of them.")
    return n_folds


def check_labels(Y: np.ndarray, kind: str, family: str, fold: np.ndarray, weights: np.ndarray | None = None) -> int:
    """Check the values of a target, and return its number of classes (2 for binary ones, 0 for a continuous one).

    Parameters
    ----------
    Y : (n, m). kind : as in `Family.kinds`. family : a name for the message.

    Raises
    ------
    ProbeError : values that the kind does not allow, or a class that the training rows of some fold lack.
    """
    if kind != "multilabel" and not np.isfinite(Y).all():
        raise ProbeError("the targets hold a NaN or an infinity; leave those rows out.")
    if kind == "continuous":
        return 0
    if kind in ("binary", "multilabel"):
        if not np.isin(Y[~np.isnan(Y)], (0.0, 1.0)).all():
            raise ProbeError(
                f"a {family} probe needs a binary target of 0 and 1{', or NaN' if kind == 'multilabel' else ''}; use "
                "Ridge for a continuous one, and Multinomial, or kind='multiclass' where a family has it, for classes."
            )
        n_classes = 2
    else:
        if Y.shape[1] != 1 or (np.round(Y) != Y).any() or Y.min() < 0:
            raise ProbeError(
                f"a {family} probe needs one column of class codes 0, 1, … (n, 1); got shape {Y.shape} with values "
                f"from {Y.min():g} to {Y.max():g}. Fit several targets one after the other."
            )
        n_classes = int(Y.max()) + 1
        if n_classes < 2:
            raise ProbeError(f"a {family} probe needs two classes or more; every code is {Y.min():g}.")
    counted = np.ones(len(Y), dtype=bool) if weights is None else weights > 0
    n_folds = int(fold.max()) + 1
    for k in range(n_folds + 1):
        rows = training_rows(fold, k) & counted
        for column in Y[rows].T:
            held = np.unique(column[~np.isnan(column)])
            if len(held) < n_classes:
                what = f"the training rows of fold {k}" if n_folds else "the rows"
                missing = "hold one class only" if n_classes == 2 else f"hold {len(held)} of {n_classes} classes"
                raise ProbeError(f"{what} {missing}; use fewer folds or more groups.")
    return n_classes


def fold_moments(X: RowSource, fold: np.ndarray, n_folds: int, weights: np.ndarray | None = None) -> FoldMoments:
    """Moments in float64, in two passes over the rows, a block at a time, each row counted by its weight.

    A feature whose spread is below 1e-6 of its own magnitude is taken as constant: in float32 it is rounding.
    """
    n, d = X.shape
    mean, largest = np.zeros(d), np.zeros(d)
    for rows, part in blocks(X):
        mean += part.sum(axis=0, dtype=np.float64) if weights is None else weights[rows] @ part
        largest = np.maximum(largest, np.maximum(part.max(axis=0), -part.min(axis=0)))
    mean /= n if weights is None else weights.sum()
    parts = max(n_folds, 1)
    sums, squares, counts = np.zeros((parts, d)), np.zeros((parts, d)), np.zeros(parts)
    for rows, part in blocks(X):
        centred = part - mean
        w = np.ones(len(part)) if weights is None else weights[rows]
        # (parts, rows): a row's weight in the fold that tests it.
        share = w * (fold[rows] == np.arange(parts)[:, None]) if n_folds else w[None]
        counts += share.sum(axis=1)
        sums += share @ centred
        squares += share @ np.square(centred, out=centred)
    keep = slice(0, n_folds)
    train_n = np.append(counts.sum() - counts[keep], counts.sum())[:, None]
    train_mean = np.vstack([(sums.sum(0) - sums)[keep], sums.sum(0)]) / train_n
    train_square = np.vstack([(squares.sum(0) - squares)[keep], squares.sum(0)]) / train_n
    scale = np.sqrt(np.maximum(train_square - np.square(train_mean), 0.0))
    constant = scale <= 1e-6 * np.maximum(np.abs(mean), largest * 1e-3)
    # So is one that has died: its values lie dozens of orders below the others', and a coefficient could not undo that.
    constant |= scale <= 1e-12 * scale.max(axis=-1, keepdims=True)
    scale = np.where(constant, 1.0, scale)
    return FoldMoments(mean, scale[-1], train_mean + mean, scale)


def varying_features(X: np.ndarray, fold: np.ndarray, moments: FoldMoments, counted: np.ndarray) -> np.ndarray:
    """(K + 1, d) bool: False where a feature is constant in a fold's training rows, though perhaps not in all rows.

    `fold_moments` gives such a feature the scale 1; a feature whose spread really is 1 is told apart by its extent.
    """
    usable = np.ones(moments.fold_scale.shape, dtype=bool)
    for k, own in enumerate(moments.fold_scale):
        unit = np.flatnonzero(own == 1.0)
        if len(unit):
            part = X[np.ix_(training_rows(fold, k) & counted, unit)]
            # A spread of 1 around a mean needs values 1 or more apart.
            usable[k, unit] = np.asarray(part.max(axis=0) - part.min(axis=0), dtype=np.float64) >= 0.5
    return usable
