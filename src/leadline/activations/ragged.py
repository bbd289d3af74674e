"""Rows of different numbers of tokens: what must hold of them, and the same store seen with a row a token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations.mapped import MappedRows
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.activations.vectors import Vectors
    from leadline.data import Dataset

__all__ = ["ByToken", "position_problem", "token_dataset", "token_positions"]


def token_positions(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2… anew for each row: (sum of lengths,) int32."""
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return (np.arange(len(starts)) - starts).astype(np.int32)


def position_problem(lengths: np.ndarray, positions: np.ndarray) -> str | None:
    """What is wrong with the lengths of some rows and the positions of their tokens; None where nothing is."""
    if lengths.min(initial=0) < 0 or lengths.sum() != len(positions):
        return f"the rows have {lengths.sum():,} tokens in all, and {len(positions):,} positions were given"
    rising = np.diff(positions, prepend=-1) > 0
    # A row's first token need only not be negative.
    begins = (np.cumsum(lengths) - lengths)[lengths > 0]
    rising[begins] = positions[begins] >= 0
    return None if rising.all() else "the positions of a row's tokens do not rise from 0 on"


class ByToken:
    """The vectors of a ragged source, each as a row of its own."""

    ragged = False

    def __init__(self, whole: Vectors) -> None:
        self._whole = whole
        self.n = whole.n

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(self.n, dtype=np.int64)

    @property
    def positions(self) -> np.ndarray:
        return self._whole.positions

    def take(self, site: Site, index: np.ndarray) -> np.ndarray:
        return self._whole.take(site, index)

    def of_row(self, site: Site, row: int) -> np.ndarray:
        return self._whole.take(site, np.array([row]))

    def mapped(self, site: Site) -> MappedRows | np.ndarray:
        return self._whole.mapped(site)

    def verify(self) -> None:
        self._whole.verify()


def token_dataset(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """The data set of tokens: each has its row's input, targets and group.

    Without groups, a row's tokens are one, so that no fold trains on some of a text's tokens and is judged on others.

    Parameters
    ----------
    rows : (n_tokens,) the row of each token.
    """
    tokens = dataset.select(rows)
    if tokens.groups is not None:
        return tokens
    return replace(tokens, groups=rows.astype(str).astype(object), group_column="row")
