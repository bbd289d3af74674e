"""Weights of rows: by class, and balanced down-sampling by a seed."""

from __future__ import annotations

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.splits import group_codes

__all__ = ["ClassWeight", "balanced_sample", "check_class_weight", "class_weights"]

ClassWeight = str | tuple[float, ...] | None


def check_class_weight(class_weight: ClassWeight, family: str) -> None:
    """Check a family's `class_weight`: None, `"balanced"`, or a positive number a class.

    Raises
    ------
    ProbeError : anything else.
    """
    if class_weight is None or class_weight == "balanced":
        return
    if isinstance(class_weight, str) or any(not 0 < float(w) < np.inf for w in class_weight):
        raise ProbeError(
            f"class_weight of a {family} probe is {class_weight!r}; expected None, 'balanced', or a positive number "
            "for each class in the order of their codes, as in (1.0, 3.0)."
        )


def class_weights(codes: np.ndarray, weights: np.ndarray, n_classes: int, class_weight: ClassWeight) -> np.ndarray:
    """(n,) the weights of training rows, times their class's.

    `"balanced"` gives every class the same total weight, with the sum of all weights unchanged (as scikit-learn does).

    Parameters
    ----------
    codes : (n,) class codes, NaN for a missing label, which gets weight 0. weights : (n,) of the rows.

    Raises
    ------
    ProbeError : a number of class weights other than of classes.
    """
    known = ~np.isnan(codes)
    codes = np.where(known, codes, 0).astype(np.int64)
    weights = np.where(known, weights, 0.0)
    if class_weight is None:
        return weights
    if class_weight == "balanced":
        totals = np.bincount(codes, weights, n_classes)
        factor = totals.sum() / (n_classes * np.maximum(totals, 1e-300))
    else:
        if len(class_weight) != n_classes:
            raise ProbeError(f"got {len(class_weight)} class weights for {n_classes} classes; give one for each.")
        factor = np.array([float(w) for w in class_weight])
    return np.asarray(weights * factor[codes])


def balanced_sample(
    y: np.ndarray, seed: int, *, groups: np.ndarray | None = None, fold: np.ndarray | None = None
) -> np.ndarray:
    """(n,) bool: rows drawn without replacement so that every class has as many as the rarest.

    With `fold`, the classes are balanced inside each fold, and so in every fold's training rows. With `groups`, rows
    are drawn in turn from the groups of a class, so that no group is emptied while another is kept whole.

    Parameters
    ----------
    y : (n,) class labels. groups : (n,). fold : (n,) int.

    Raises
    ------
    ProbeError : more than one target column, or a class that some fold lacks.
    """
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ProbeError(f"got labels of shape {labels.shape}; balance one target column at a time.")
    rng = np.random.default_rng(seed)
    codes = group_codes(groups, len(labels))
    part = np.zeros(len(labels), dtype=np.int64) if fold is None else np.asarray(fold)
    classes = np.unique(labels)
    kept = np.zeros(len(labels), dtype=bool)
    for k in np.unique(part):
        members = [np.flatnonzero((part == k) & (labels == c)) for c in classes]
        size = min(len(rows) for rows in members)
        if not size:
            raise ProbeError(f"fold {k} lacks a class, so it cannot be balanced; use fewer folds.")
        for rows in members:
            drawn = rng.permutation(rows)
            # The i-th row of its group comes before any group's (i+1)-th.
            order = np.argsort(codes[drawn], kind="stable")
            _, first, counts = np.unique(codes[drawn][order], return_index=True, return_counts=True)
            turn = np.empty(len(drawn), dtype=np.int64)
            turn[order] = np.arange(len(drawn)) - np.repeat(first, counts)
            kept[drawn[np.argsort(turn, kind="stable")[:size]]] = True
    return kept
