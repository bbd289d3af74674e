"""A batch whose rows share their beginnings: what is computed once, and for which rows.

A plan notes two lengths of such a batch, no more; the rest follows from its rows. Every row is context + stem + tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from leadline.errors import ActivationsError

__all__ = ["Arrangement", "Sharing", "Work", "arrange"]


class Sharing(NamedTuple):
    """What the rows of a batch share, in tokens.

    Parameters
    ----------
    context : the first tokens, the same in all rows of the batch and often of the batches next to it.
    stem : the tokens after them that are computed once for all rows in which they are the same. Each row goes on.

    With neither, equal rows are computed once.
    """

    context: int
    stem: int


class Work(NamedTuple):
    """What a plan computes.

    Parameters
    ----------
    computed : tokens, padding included.
    passes : through the model.
    plain : the tokens of all rows, each by itself, without padding.
    """

    computed: int
    passes: int
    plain: int

    def total(self, batch_cost: int) -> int:
        """The work in tokens, if a pass costs `batch_cost` tokens besides its own."""
        return self.computed + batch_cost * self.passes


@dataclass(frozen=True)
class Arrangement:
    """A batch of n rows as one context, S stems and U tails, all as token ids.

    Row i is `context_ids`, then `stems[tail_stem[row_tail[i]]]`, then `tails[row_tail[i]]`.

    Parameters
    ----------
    context_ids : (c,) the same in all rows; c may be 0.
    stems : (S, p) int64, all different, in the order of their first rows. Without stems p is 0 and S is 1.
    tails : U lists of at least one id; those of a stem are different.
    tail_stem : (U,) int64, the stem before each tail.
    row_tail : (n,) int64, the tail of each row.
    """

    context_ids: np.ndarray
    stems: np.ndarray
    tails: list[list[int]]
    tail_stem: np.ndarray
    row_tail: np.ndarray

    @property
    def computed(self) -> int:
        """The tokens of the stems and of the tails, padded to the longest; the context is not among them."""
        return self.stems.size + len(self.tails) * max(map(len, self.tails))

    def row(self, i: int) -> list[int]:
        """The token ids of a row."""
        tail = self.row_tail[i]
        return [*self.context_ids.tolist(), *self.stems[self.tail_stem[tail]].tolist(), *self.tails[tail]]


def arrange(ids: Sequence[Sequence[int]], context: int = 0, stem: int = 0) -> Arrangement:
    """Take a batch's rows apart into what is computed once each.

    Parameters
    ----------
    ids : the token ids of the batch's rows.
    context, stem : as of `Sharing`. With 0 and 0 the tails are the different rows.

    Raises
    ------
    ActivationsError : no rows, a length below 0, a row without a token beyond context and stem, or rows that differ in
        the context.
    """
    if not ids:
        raise ActivationsError("there are no rows to arrange; give a batch of at least one.")
    if context < 0 or stem < 0:
        raise ActivationsError(f"context is {context} and stem is {stem}; expected lengths of at least 0.")
    ahead = context + stem
    first = tuple(ids[0][:context])
    stems: dict[tuple[int, ...], int] = {}
    tails: dict[tuple[int, tuple[int, ...]], int] = {}
    row_tail = np.empty(len(ids), dtype=np.int64)
    for i, each in enumerate(ids):
        row = tuple(each)
        if len(row) <= ahead:
            raise ActivationsError(
                f"row {i} of the batch has {len(row)} tokens; expected more than context and stem, {context} + {stem}. "
                f"The plan was made for other rows: plan these anew."
            )
        if row[:context] != first:
            raise ActivationsError(
                f"row {i} of the batch does not begin with the {context} tokens of row 0; expected one context. The "
                f"plan was made for other rows: plan these anew."
            )
        its_stem = stems.setdefault(row[context:ahead], len(stems))
        row_tail[i] = tails.setdefault((its_stem, row[ahead:]), len(tails))
    return Arrangement(
        context_ids=np.array(first, dtype=np.int64),
        stems=np.array(list(stems), dtype=np.int64).reshape(len(stems), stem),
        tails=[list(tail) for _, tail in tails],
        tail_stem=np.array([its_stem for its_stem, _ in tails], dtype=np.int64),
        row_tail=row_tail,
    )
