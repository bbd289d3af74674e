"""Folds over several data sets at once, so that what they have in common is never both trained on and tested.

`cities` and `neg_cities` hold the same cities: a probe trained on one and scored on the other may have learnt the
cities by heart. Sets that share a group therefore take their folds together, from the union of their groups, and a row
of one is scored by the fit of the other that left out its fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from leadline.errors import EvidenceError
from leadline.evidence.labels import Labels
from leadline.probes.splits import make_folds

__all__ = ["SharedFolds", "shared_folds"]


@dataclass(frozen=True)
class SharedFolds:
    """Folds of several sets.

    Attributes
    ----------
    folds : {set: (n,) the fold that tests a row}.
    units : {set: (n,) codes of what a fold keeps whole}; equal codes in two sets are one group.
    """

    folds: dict[str, np.ndarray]
    units: dict[str, np.ndarray]

    def n_shared(self, train: str, test: str) -> int:
        """How many rows of `test` are of a group that `train` has too."""
        return int(np.isin(self.units[test], self.units[train]).sum())


def shared_folds(labels: Mapping[str, Labels], n_folds: int, seed: int) -> SharedFolds:
    """Assign folds by group name over all sets that share group names, directly or through a third set.

    Groups of two sets are the same where their names are; names that agree by chance cost nothing but balance. A row
    without a group is its own; in two sets without groups, rows of equal text are the same, unless it is empty. A set
    that shares nothing gets the folds that `make_folds` gives it alone. Classes of each set, or its rows, are balanced
    over the folds.

    Raises
    ------
    EvidenceError : too few groups of some set, or of a class in it, for every fold to have one.
    """
    names = list(labels)
    keys = _keys(labels)
    codes = {key: i for i, key in enumerate(dict.fromkeys(key for name in names for key in keys[name]))}
    units = {name: np.array([codes[key] for key in keys[name]], dtype=np.int64) for name in names}
    n_units = len(codes)
    ends = np.concatenate([units[name] for name in names])
    starts = np.concatenate([np.full(len(units[name]), n_units + s) for s, name in enumerate(names)])
    size = n_units + len(names)
    graph = coo_matrix((np.ones(len(ends)), (starts, ends)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    of_set = component[n_units:]
    folds: dict[str, np.ndarray] = {}
    for part in np.unique(of_set):
        members = [name for name, c in zip(names, of_set, strict=True) if c == part]
        classes = [_classes(labels[name]) for name in members]
        if len(members) == 1:
            (only,) = members
            one = labels[only]
            stratify = one.kind != "continuous"
            try:
                folds[only] = make_folds(one.Y, units[only], n_folds, stratify=stratify, seed=seed)
            except EvidenceError as error:
                raise EvidenceError(f"the set '{only}': {error}") from error
            continue
        for name, codes_of in zip(members, classes, strict=True):
            _check(name, labels[name], codes_of, units[name], n_folds)
        before = np.cumsum([0, *(int(c.max()) + 1 for c in classes)])
        strata = np.concatenate([c + start for c, start in zip(classes, before, strict=False)])
        together = np.concatenate([units[name] for name in members])
        try:
            fold = make_folds(strata, together, n_folds, stratify=True, seed=seed)
        except EvidenceError as error:
            raise EvidenceError(
                f"{', '.join(members)} share groups, and no {n_folds} folds of all their groups leave every class of "
                f"each set in training and test; use fewer folds or finer groups."
            ) from error
        cuts = np.cumsum([len(units[name]) for name in members])[:-1]
        folds |= dict(zip(members, np.split(fold, cuts), strict=True))
    return SharedFolds({name: folds[name] for name in names}, units)


def _keys(labels: Mapping[str, Labels]) -> dict[str, list[tuple[str, ...]]]:
    """What each row is of, as a key that is equal between sets where the rows belong together."""
    holders = Counter(
        text
        for one in labels.values()
        if one.groups is None and one.texts is not None
        for text in set(one.texts) - {""}
    )
    keys: dict[str, list[tuple[str, ...]]] = {}
    for name, one in labels.items():
        if one.groups is not None:
            # Rows whose group is missing have it missing together, as everywhere, but not with those of other sets.
            groups = np.asarray(one.groups, dtype=str).tolist()
            keys[name] = [("group", group) if group else ("none", name) for group in groups]
            continue
        texts = one.texts if one.texts is not None else [""] * len(one.Y)
        keys[name] = [("text", text) if holders[text] > 1 else ("row", name, str(i)) for i, text in enumerate(texts)]
    return keys


def _classes(labels: Labels) -> np.ndarray:
    """(n,) codes of what is to be balanced: classes; all rows alike for numbers."""
    if labels.kind == "continuous":
        return np.zeros(len(labels.Y), dtype=np.int64)
    found = np.unique(labels.Y[:, 0], return_inverse=True)[1]
    return np.asarray(found.ravel(), dtype=np.int64)


def _check(name: str, labels: Labels, classes: np.ndarray, units: np.ndarray, n_folds: int) -> None:
    for c in range(int(classes.max()) + 1):
        holders = len(np.unique(units[classes == c]))
        if holders < n_folds:
            value = float(labels.Y[classes == c][0, 0])
            what = "the set" if labels.kind == "continuous" else f"class {labels.classes[int(value)]} of the set"
            raise EvidenceError(
                f"{what} '{name}' stands in {holders} groups and cannot be in all of {n_folds} folds; use fewer folds."
            )
