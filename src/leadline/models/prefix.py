"""Prefixes: the key-value cache that some tokens leave behind, from which several rows may go on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Prefix"]


@dataclass(frozen=True)
class Prefix:
    """What was computed of `n` prefixes of equal length.

    Parameters
    ----------
    cache : transformers' cache after them, never written to: `take` copies.
    length : tokens of each, from the start of the sequence.
    n : how many there are.
    """

    cache: Any
    length: int
    n: int

    def take(self, rows: torch.Tensor) -> Any:
        """A cache with the keys and values of some prefixes, one a row that goes on from it.

        Parameters
        ----------
        rows : (batch,) which prefix each row has.
        """
        found = copy.copy(self.cache)
        found.layers = []
        for layer in self.cache.layers:
            own = copy.copy(layer)
            # Layers after the last wanted site have seen nothing.
            if getattr(own, "keys", None) is not None and own.keys.numel():
                if self.n == 1:
                    # A view: the rows' own keys are put behind it in a copy anyway.
                    own.keys, own.values = (x.expand(len(rows), *x.shape[1:]) for x in (own.keys, own.values))
                else:
                    own.batch_select_indices(rows.to(own.keys.device))
            found.layers.append(own)
        return found
