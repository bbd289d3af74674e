"""Which tokens of a row count, and how they become one vector.

Everything goes by the attention mask, so that the side of the padding and its amount do not change a result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadline.errors import ActivationsError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = ["SELECTIONS", "Pool", "Selection"]

SELECTIONS = ("last", "first", "mean", "max")

Pool = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Selection:
    """A way to make one vector of a row's tokens.

    Parameters
    ----------
    name : `"last"` or `"first"` token, or the `"mean"` or `"max"` over all tokens, dimension by dimension.

    Raises
    ------
    ActivationsError : an unknown name.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in SELECTIONS:
            raise ActivationsError(
                f"unknown token selection '{self.name}'; expected one of {', '.join(SELECTIONS)}."
                + did_you_mean(str(self.name), SELECTIONS)
            )

    @classmethod
    def parse(cls, text: str | Selection) -> Selection:
        """Read a selection from its name, as in `Selection.parse("last")`."""
        return text if isinstance(text, Selection) else cls(str(text).strip())

    def __str__(self) -> str:
        return self.name

    def pooler(self, mask: torch.Tensor, device: torch.device | str | None = None) -> Pool:
        """Work out, once a batch, what is the same for every site.

        Parameters
        ----------
        mask : (batch, seq), 1 at real tokens.
        device : where the activations will be; None for where the mask is.

        Returns
        -------
        A function from activations (batch, seq, d) of any float dtype to pooled (batch, d) float32. Only real
        tokens are read: what stands at padding, NaN included, does not matter. The mean is accumulated in float64
        (float32 where the device has no other).

        Raises
        ------
        ActivationsError : a mask that is not (batch, seq), or a row without any real token.
        """
        if mask.ndim != 2:
            raise ActivationsError(f"the attention mask has the shape {tuple(mask.shape)}; expected (batch, seq).")
        real = mask.bool()
        empty = (~real.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise ActivationsError(f"no real token in row {empty[0]} of the batch; every row needs one.")
        if self.name in ("last", "first"):
            return _at(_edge(real, last=self.name == "last").to(device or mask.device))
        padding = None if bool(real.all()) else (~real).unsqueeze(-1).to(device or mask.device)
        if self.name == "max":
            return _max(padding)
        return _mean(padding, real.sum(dim=1, keepdim=True).to(device or mask.device))


def _edge(real: torch.Tensor, *, last: bool) -> torch.Tensor:
    """The position of each row's last or first real token, (batch,). Not a count of tokens: padding may be left."""
    if not last:
        return real.int().argmax(dim=1)
    return real.shape[1] - 1 - real.flip(1).int().argmax(dim=1)


def _at(positions: torch.Tensor) -> Pool:
    import torch

    rows = torch.arange(len(positions), device=positions.device)

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
