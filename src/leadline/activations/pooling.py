"""One vector of a row's tokens, on the device where the activations are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations.selection_grammar import POOLS
from leadline.errors import ActivationsError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = ["Pool", "pool_mask", "pool_positions"]

Pool = Callable[["torch.Tensor"], "torch.Tensor"]

# What tokens gathered for a mean or a maximum may take at once.
_GATHER_BYTES = 32 << 20


def pool_mask(pool: str, mask: torch.Tensor, device: torch.device | str | None = None) -> Pool:
    """Pool whole rows by their attention mask; `Selection.pooler` says how."""
    if mask.ndim != 2:
        raise ActivationsError(f"the attention mask has the shape {tuple(mask.shape)}; expected (batch, seq).")
    real = mask.bool()
    empty = (~real.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ActivationsError(f"no real token in row {empty[0]} of the batch; every row needs one.")
    if pool in ("last", "first"):
        edge = _edge(real, last=pool == "last").to(device or mask.device)
        return _at(_arange(len(edge), edge.device), edge)
    if pool == "all":
        rows, positions = real.nonzero(as_tuple=True)
        return _at(rows.to(device or mask.device), positions.to(device or mask.device))
    padding = None if bool(real.all()) else (~real).unsqueeze(-1).to(device or mask.device)
    if pool == "max":
        return _max(padding)
    return _mean(padding, real.sum(dim=1, keepdim=True).to(device or mask.device))


def pool_positions(
    pool: str,
    source: np.ndarray,
    positions: Sequence[np.ndarray],
    device: torch.device | str | None = None,
) -> Pool:
    """Work out, once a batch, how each output row is pooled of some tokens of a batch row.

    Several output rows may read one batch row, as the words of a sentence do.

    Parameters
    ----------
    pool : `"last"`, `"first"`, `"mean"`, `"max"` or `"all"`.
    source : (rows,) int, the batch row that each output row reads.
    positions : for each output row the sorted positions in that batch row, at least one.
    device : where the activations will be; None for the CPU.

    Returns
    -------
    A function from activations (batch, seq, d) of any float dtype to (rows, d) float32; for `all` to (number of
    positions, d), output row after output row. Nothing but those positions is read, so that padding and whatever else
    is in the batch change a mean by its last bit at most and anything else not at all. The mean is accumulated in
    float64 (float32 where the device has no other). Where every batch row is pooled whole, and in order, the
    result has the bytes of `Selection.pooler`.

    Raises
    ------
    ActivationsError : an unknown pool, no positions for a row, or (of the function) a position outside the batch.
    """
    import torch

    if pool not in POOLS:
        raise ActivationsError(
            f"unknown pool '{pool}'; expected one of {', '.join(POOLS)}." + did_you_mean(str(pool), POOLS)
        )
    source = np.asarray(source, dtype=np.int64).reshape(-1)
    positions = [np.asarray(own, dtype=np.int64).reshape(-1) for own in positions]
    lengths = np.array([len(own) for own in positions], dtype=np.int64)
    _check_positions(source, positions, lengths)
    where = torch.device(device or "cpu")
    in_order = np.array_equal(source, np.arange(len(source)))
    whole = in_order and all(own[0] == 0 and own[-1] == len(own) - 1 for own in positions)
    longest, last_row, last_token = int(lengths.max()), int(source.max()), max(int(own[-1]) for own in positions)
    made: dict[bool, Pool] = {}

    def run(x: torch.Tensor) -> torch.Tensor:
        if last_row >= x.shape[0] or last_token >= x.shape[1]:
            raise ActivationsError(
                f"the positions reach row {last_row} and token {last_token}, the activations have the shape "
                f"{tuple(x.shape)}; expected (batch, seq, d) that holds them."
            )
        # A batch whose every row is pooled whole: one pass over it as it lies, without a copy of its tokens.
        by_mask = whole and x.shape[:2] == (len(source), longest)
        if by_mask not in made:
            if by_mask:
                mask = torch.arange(longest) < torch.from_numpy(lengths)[:, None]
                made[by_mask] = pool_mask(pool, mask, where)
            else:
                made[by_mask] = _by_position(pool, source, positions, lengths, where)
        return made[by_mask](x)

    return run


def _by_position(
    pool: str, source: np.ndarray, positions: Sequence[np.ndarray], lengths: np.ndarray, device: torch.device
) -> Pool:
    import torch

    if pool in ("mean", "max"):
        return _gathered(pool, source, positions, lengths, device)
    if pool == "all":
        rows, at = np.repeat(source, lengths), np.concatenate(positions)
    else:
        rows, at = source, np.array([own[-1 if pool == "last" else 0] for own in positions], dtype=np.int64)
    return _at(torch.from_numpy(rows).to(device), torch.from_numpy(at).to(device))


def _check_positions(source: np.ndarray, positions: Sequence[np.ndarray], lengths: np.ndarray) -> None:
    if len(source) != len(positions) or not len(source):
        raise ActivationsError(
            f"{len(source)} batch rows and {len(positions)} sets of positions were given; expected one of each for "
            f"every output row, and at least one row."
        )
    if not lengths.all():
        raise ActivationsError(f"output row {int(lengths.argmin())} has no positions; every row needs one.")
    every = np.concatenate(positions)
    rising = np.diff(every) > 0
    rising[np.cumsum(lengths)[:-1] - 1] = True
    if source.min() < 0 or every.min() < 0 or not rising.all():
        raise ActivationsError("batch rows and positions count from 0, and the positions of a row must be sorted.")


def _edge(real: torch.Tensor, *, last: bool) -> torch.Tensor:
    """The position of each row's last or first real token, (batch,). Not a count of tokens: padding may be left."""
    if not last:
        return real.int().argmax(dim=1)
    return real.shape[1] - 1 - real.flip(1).int().argmax(dim=1)


def _arange(n: int, device: torch.device) -> torch.Tensor:
    import torch

    return torch.arange(n, device=device)


def _at(rows: torch.Tensor, positions: torch.Tensor) -> Pool:
    def pool(x: torch.Tensor) -> torch.Tensor:
        # Indexing copies, so the whole (batch, seq, d) tensor is not kept alive.
        return x[rows, positions].float()

    return pool


def _max(padding: torch.Tensor | None) -> Pool:
    def pool(x: torch.Tensor) -> torch.Tensor:
        return (x if padding is None else x.masked_fill(padding, float("-inf"))).amax(dim=1).float()

    return pool


def _mean(padding: torch.Tensor | None, counts: torch.Tensor) -> Pool:
    import torch

    # Added one by one to an attention sink of 20,000 at token 0, the other tokens would lose digits in float32.
    exact = torch.float32 if counts.device.type == "mps" else torch.float64

    def pool(x: torch.Tensor) -> torch.Tensor:
        # Padding is filled, not multiplied by 0, which would let its NaN through.
        real = x if padding is None else x.masked_fill(padding, 0)
        return (real.sum(dim=1, dtype=exact) / counts).float()

    return pool


def _gathered(
    pool: str, source: np.ndarray, positions: Sequence[np.ndarray], lengths: np.ndarray, device: torch.device
) -> Pool:
    """Gather tokens of output rows of like length, a part of them at a time, and reduce them as a small batch."""
    import torch

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    every, starts = np.concatenate(positions), np.cumsum(lengths) - lengths
    parts: list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for rows in _alike(lengths):
        k = int(lengths[rows].max())
        # A shorter row repeats its last token, which changes no maximum and is masked in a mean.
        at = every[starts[rows, None] + np.minimum(np.arange(k), lengths[rows, None] - 1)]
        parts.append((k, tensor(rows), tensor(source[rows, None]), tensor(at), tensor(lengths[rows, None])))

    def run(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty((len(source), x.shape[2]), dtype=torch.float32, device=x.device)
        for k, rows, own, at, counts in parts:
            size = max(1, _GATHER_BYTES // (k * x.shape[2] * x.element_size()))
            for start in range(0, len(rows), size):
                now = slice(start, start + size)
                if pool == "max":
                    reduce = _max(None)
                else:
                    beyond = torch.arange(k, device=x.device) >= counts[now]
                    reduce = _mean(beyond.unsqueeze(-1), counts[now])
                out[rows[now]] = reduce(x[own[now], at[now]])
        return out

    return run


def _alike(lengths: np.ndarray) -> list[np.ndarray]:
    """Output rows in sets whose longest has at most a quarter more tokens than the shortest."""
    order = np.argsort(lengths, kind="stable")
    sets: list[list[int]] = []
    for row in order:
        if not sets or 4 * lengths[row] > 5 * lengths[sets[-1][0]]:
            sets.append([])
        sets[-1].append(int(row))
    return [np.array(rows) for rows in sets]
