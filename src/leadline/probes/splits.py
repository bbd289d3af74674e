"""Folds that keep groups whole and classes balanced."""

from __future__ import annotations

import numpy as np

from leadline.errors import EvidenceError

__all__ = ["group_codes", "make_folds"]


def group_codes(groups: np.ndarray | None, n: int) -> np.ndarray:
    """(n,) int codes 0 to G-1 in order of first appearance; without groups each row is its own."""
    if groups is None:
        return np.arange(n)
    if np.shape(groups) != (n,):
        raise EvidenceError(f"got groups of shape {np.shape(groups)} for {n} rows; give one a row.")
    _, first, codes = np.unique(np.asarray(groups, dtype=str), return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[codes.ravel()]


def make_folds(y: np.ndarray, groups: np.ndarray | None, n_folds: int, *, stratify: bool, seed: int) -> np.ndarray:
    """Assign each row the fold that tests it.

    Groups go one after the other, the largest first and ties in random order, to the fold that this leaves most
    balanced in rows and, where it is to be stratified, in each class.

    Parameters
    ----------
    y : (n,) or (n, m) targets. groups : (n,) labels, or None.
    stratify : balance the classes of the first target column, whose values are then 0, 1, … C−1.

    Returns
    -------
    (n,) int in 0 … n_folds − 1.

    Raises
    ------
    EvidenceError : no rows, fewer groups than folds, or a class that not every fold could test.
    """
    n = len(y)
    if not n:
        raise EvidenceError("there are no rows to put into folds; give some.")
    codes = group_codes(groups, n)
    n_groups = int(codes.max()) + 1
    if n_folds < 2:
        raise EvidenceError(f"got {n_folds} folds; expected 2 or more.")
    if n_groups < n_folds:
        raise EvidenceError(f"{n_groups} groups cannot fill {n_folds} folds; use at most {n_groups}, or finer groups.")
    if stratify:
        column = np.asarray(y, dtype=np.float64).reshape(n, -1)[:, 0].astype(np.int64)
        n_classes = max(int(column.max()) + 1, 2)
        counts = np.stack([np.bincount(codes, column == c, n_groups) for c in range(n_classes)], axis=1)
        for c in range(n_classes):
            holders = int((counts[:, c] > 0).sum())
            if holders < n_folds:
                name = f"class {c}" if n_classes > 2 else f"the {('negative', 'positive')[c]} class"
                raise EvidenceError(
                    f"{name} stands in {holders} groups and cannot be in all of {n_folds} folds; use fewer folds."
                )
    else:
        counts = np.bincount(codes, minlength=n_groups)[:, None].astype(np.float64)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_groups)
    order = order[np.argsort(-counts[order].max(axis=1), kind="stable")]
    share = counts / counts.sum(axis=0)
    load = np.zeros((n_folds, counts.shape[1]))
    sizes = np.zeros(n_folds)
    fold_of = np.empty(n_groups, dtype=np.int64)
    for g in order:
        # The spread after putting g into a fold differs between folds by 2·load·share alone; rows break ties.
        cost = (load * share[g]).sum(axis=1)
        best = np.flatnonzero(cost <= cost.min() + 1e-12)
        k = int(best[np.argmin(sizes[best])])
        fold_of[g] = k
        load[k] += share[g]
        sizes[k] += counts[g].sum()
    fold = fold_of[codes]
    if stratify:
        for k in range(n_folds):
            held = column[fold == k]
            if held.min() == held.max():
                raise EvidenceError(
                    f"fold {k} of {n_folds} would test one class only; use fewer folds or finer groups."
                )
            if len(np.unique(column[fold != k])) < n_classes:
                raise EvidenceError(
                    f"fold {k} of {n_folds} would train without some class; use fewer folds or finer groups."
                )
    return np.asarray(fold)
