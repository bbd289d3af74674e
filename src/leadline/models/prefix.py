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
    unused : so many layers from the first are not run by the rows that go on; only their length is kept.
    """

    cache: Any
    length: int
    n: int
    unused: int = 0

    @property
    def can_cut(self) -> bool:
        """Whether every layer that was run still holds every token, which one with a sliding window may not."""
        run = [getattr(layer, "keys", None) for layer in self.cache.layers]
        return any(keys is not None for keys in run) and all(
            keys is None or (keys.ndim == 4 and keys.shape[-2] == self.length) for keys in run
        )

    def cut(self, length: int, unused: int = 0) -> Prefix:
        """The first tokens of these prefixes, as views; for rows that run no layer before `unused`."""
        found = copy.copy(self.cache)
        found.layers = []
        for layer in self.cache.layers:
            own = copy.copy(layer)
            if own.keys is not None:
                own.keys, own.values = own.keys[..., :length, :], own.values[..., :length, :]
                if hasattr(own, "cumulative_length"):
                    own.cumulative_length = length
            found.layers.append(own)
        return Prefix(found, length, self.n, unused)

    def take(self, rows: torch.Tensor) -> Any:
        """A cache with the keys and values of some prefixes, one a row that goes on from it.

        Parameters
        ----------
        rows : (batch,) which prefix each row has.
        """
        found = copy.copy(self.cache)
        found.layers = []
        for i, layer in enumerate(self.cache.layers):
            own = copy.copy(layer)
            # Layers after the last wanted site have seen nothing.
            if getattr(own, "keys", None) is not None and own.keys.numel():
                if self.n == 1 or i < self.unused:
                    # A view: the rows' own keys are put behind it in a copy anyway.
                    own.keys, own.values = (x[:1].expand(len(rows), *x.shape[1:]) for x in (own.keys, own.values))
                else:
                    own.batch_select_indices(rows.to(own.keys.device))
            found.layers.append(own)
        return found
