"""Which passes are made: at what block and token they begin, and which go together. Arithmetic, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from leadline.sites import Site

__all__ = ["Continued", "beginning", "block_of", "in_order", "merged"]

# What a pass costs beside its tokens, in tokens: so many may be computed again to save one.
_PASS_TOKENS = 48


@dataclass(frozen=True, eq=False)
class Continued:
    """Token ids to run: a prompt, perhaps with the beginning of an answer behind it.

    Parameters
    ----------
    row : of which row of the examples. ids : its tokens.
    wanted : the first position whose logits are wanted.
    """

    row: int
    ids: tuple[int, ...]
    wanted: int


def in_order(sites: Iterable[Site]) -> list[Site]:
    """Sites in the order of computation."""
    return sorted(sites, key=lambda site: site.depth)


def block_of(site: Site, n_layers: int) -> int:
    """The first block that must be run for an edit at a site, the blocks before it handing on the clean stream."""
    if site.kind == "final_norm":
        return n_layers
    if site.layer is None:
        return 0
    return site.layer + (1 if site.kind == "resid_post" else 0)


def beginning(ids: Sequence[Sequence[int]], limit: int) -> int:
    """How many of the first tokens all rows share, at most `limit`; 0 where a pass for them would not pay."""
    length = 0
    while length < limit and all(own[length] == ids[0][length] for own in ids):
        length += 1
    return length if length * (len(ids) - 1) > _PASS_TOKENS else 0


def merged(cuts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Tokens at which batches begin, each with the truth values (plans, entries) of what begins there.

    What begins a little later goes along, if computing its tokens again costs less than a pass.
    """
    values, counts = np.unique(cuts, return_counts=True)
    at = 0
    while at < len(values):
        low, upto, spent = int(values[at]), at + 1, 0
        while upto < len(values) and spent + (values[upto] - low) * counts[upto] <= _PASS_TOKENS:
            spent += (values[upto] - low) * counts[upto]
            upto += 1
        yield low, (cuts >= low) & (cuts <= values[upto - 1])
        at = upto
