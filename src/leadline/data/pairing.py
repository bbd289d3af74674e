"""The column that pairs rows of opposite labels, where no one has named it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from leadline.data.records import Target

if TYPE_CHECKING:
    from leadline.data.dataset import Dataset

__all__ = ["pairing_column"]

_MAX_PAIRED = 8


def pairing_column(data: Dataset, target: Target) -> tuple[str, float] | None:
    """The column whose values pair rows of opposite labels, which folds should not part.

    A probe that learns a city from its true statement is wrong on its false one, so folds that part the two push a
    baseline below chance. A value pairs its rows where it has 2 to 8 of them and no class has more than half of these,
    or of two classes more than 3 in 4. A value whose rows are all in one group pairs nothing, since folds keep it whole
    already.

    Returns
    -------
    The finest such column (the most pairing values) and the share of all rows that it pairs, where that share is above
    one half and well above what labels that ignore the column would give (by 3 standard deviations); else None, as for
    a continuous target, which has no opposite labels.
    """
    if not target.has_classes or data.n == 0:
        return None
    n_classes = 2 if target.kind == "binary" else len(target.classes)
    known = ~np.isnan(target.values[:, 0])
    labels = np.where(known, target.values[:, 0], 0).astype(np.int64)
    taken = {
        data.text_column,
        data.media_column,
        data.group_column,
        data.split_column,
        data.pair_column,
        *(c for t in data.targets for c in t.columns),
    }
    groups = None if data.groups is None else np.unique(data.groups, return_inverse=True)[1]
    shares = np.bincount(labels[known], minlength=n_classes) / max(int(known.sum()), 1)
    best: tuple[int, float, str] | None = None
    for column in data.frame.columns:
        if column in taken or data.frame[column].dtype.is_nested() or data.frame[column].dtype == pl.Binary:
            continue
        # Code 0 is for a missing value, which pairs nothing.
        seen: dict[object, int] = {None: 0}
        codes = np.array([seen.setdefault(v, len(seen)) for v in data.frame[column].to_list()])
        sizes = np.bincount(codes)
        few = (sizes >= 2) & (sizes <= _MAX_PAIRED)
        few[0] = False
        if groups is not None:
            low = np.full(len(sizes), groups.max() + 1)
            high = np.full(len(sizes), -1)
            np.minimum.at(low, codes, groups)
            np.maximum.at(high, codes, groups)
            few &= low < high
        # How many rows of a value the largest class has.
        cells, counts = np.unique(codes[known] * n_classes + labels[known], return_counts=True)
        largest = np.zeros(len(sizes), dtype=np.int64)
        np.maximum.at(largest, cells // n_classes, counts)
        paired = few & (largest > 0) & (largest <= _most(sizes, n_classes))
        share = float(sizes[paired].sum()) / data.n
        by_size = Counter(sizes[few].tolist())
        chance = {s: _chance_of_a_pair(s, shares.tolist()) for s in by_size}
        expected = sum(n * s * chance[s] for s, n in by_size.items()) / data.n
        spread = math.sqrt(sum(n * s**2 * chance[s] * (1 - chance[s]) for s, n in by_size.items())) / data.n
        key = (int(paired.sum()), share, column)
        if share > 0.5 and share > expected + 3 * spread and (best is None or key[:2] > best[:2]):
            best = key
    return None if best is None else (best[2], best[1])


def _chance_of_a_pair(size: int, shares: Sequence[float]) -> float:
    """How likely no class, drawn with these shares, has more of `size` rows than `_most`.

    No two classes can have more than half, so that their chances add up.
    """
    most = int(_most(np.array(size), len(shares)))
    return 1.0 - sum(
        math.comb(size, k) * p**k * (1 - p) ** (size - k) for p in shares for k in range(most + 1, size + 1)
    )


def _most(sizes: np.ndarray, n_classes: int) -> np.ndarray:
    """How many of a value's rows one class may have. The more classes, the less it says that two are there."""
    return np.asarray(3 * sizes // 4 if n_classes == 2 else sizes // 2)
