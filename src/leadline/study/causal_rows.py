"""Which rows interventions are tried on: of groups that the direction was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.errors import CausalError
from leadline.probes.splits import group_codes

__all__ = ["LEAST_GROUPS", "CausalRows", "choose_rows", "two_classes"]

# Fewer groups give intervals with hardly any power.
LEAST_GROUPS = 12


@dataclass(frozen=True, eq=False)
class CausalRows:
    """A division of n rows.

    Attributes
    ----------
    fitted : (k,) rows on which the direction is fitted. tried : (m,) rows on which it is tried, of other groups.
    """

    fitted: np.ndarray
    tried: np.ndarray


def two_classes(values: np.ndarray, kind: str) -> np.ndarray:
    """(n,) the class 0 or 1 between which the direction leads; the halves of a continuous target."""
    y = np.asarray(values, dtype=np.float64)
    return (y > np.median(y)).astype(np.float64) if kind == "continuous" else (y > 0).astype(np.float64)


def choose_rows(
    y: np.ndarray, groups: np.ndarray | None, n_examples: int, seed: int, pairs: np.ndarray | None = None
) -> CausalRows:
    """Keep some groups for the examples: as many as `n_examples` rows need, `LEAST_GROUPS` at the least, half at most.

    Groups are taken from both classes in turn, and so are the rows of a group; the rows of a pair stay together.

    Parameters
    ----------
    y : (n,) 0 or 1. groups, pairs : (n,) labels, or None. n_examples : how many rows to try.

    Raises
    ------
    CausalError : a class would be missing on one side.
    """
    n = len(y)
    rng = np.random.default_rng([seed, 620])
    codes = group_codes(groups, n)
    names = np.unique(codes)
    share = np.array([y[codes == g].mean() for g in names])
    shuffled = rng.permutation(len(names))
    order = _in_turn(shuffled, share[shuffled] > np.median(share))
    sizes = np.array([(codes == names[g]).sum() for g in order])
    enough = int(np.searchsorted(np.cumsum(sizes), n_examples)) + 1
    k = min(max(enough, LEAST_GROUPS), max(len(names) // 2, 1))
    kept = np.isin(codes, names[order[:k]])
    fitted, held = np.flatnonzero(~kept), np.flatnonzero(kept)
    units = group_codes(pairs, n) if pairs is not None else np.arange(n)
    tried = _spread(held, y, codes, units, n_examples, rng)
    for what, rows in (("fit a direction on", fitted), ("try it on", tried)):
        if len(np.unique(y[rows])) < 2:
            raise CausalError(
                f"of {len(names)} groups, {k} are kept for the interventions, and the rows to {what} then hold one "
                f"class alone; give more groups, or a finer group column."
            )
    return CausalRows(fitted, tried)


def _in_turn(items: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Items of both kinds alternating for as long as there are both, each kind in its order."""
    rank = np.where(first, np.cumsum(first) - 1, np.cumsum(~first) - 1)
    return np.asarray(items[np.lexsort((first, rank))])


def _spread(
    rows: np.ndarray, y: np.ndarray, codes: np.ndarray, units: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """About n of the rows: whole units (pairs), one of each group before a second of any."""
    shuffled = rng.permutation(rows)
    first = {u: i for i, u in reversed(list(enumerate(units[shuffled])))}
    heads = shuffled[sorted(first.values())]
    # A group's units with its classes in turn; which class leads goes by turns as well.
    turn = np.empty(len(heads), dtype=np.int64)
    for at, group in enumerate(np.unique(codes[heads])):
        own = np.flatnonzero(codes[heads] == group)
        turn[_in_turn(own, (y[heads[own]] > 0) == bool(at % 2))] = np.arange(len(own))
    by_turn = [heads[turn == t] for t in np.unique(turn)]
    ordered = np.concatenate([_in_turn(some, y[some] > 0) for some in by_turn])
    chosen: list[int] = []
    of_unit: dict[int, list[int]] = {}
    for row in rows:
        of_unit.setdefault(int(units[row]), []).append(int(row))
    for row in ordered:
        if len(chosen) >= n:
            break
        chosen += of_unit[int(units[row])]
    return np.sort(np.array(chosen, dtype=np.int64))
