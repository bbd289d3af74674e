"""A norm with its statistics held fixed: then it is affine, and a direction behind it is a direction before it.

Found by trying the module out, not by its class, so that it holds for LayerNorm, RMSNorm, Gemma's 1 + w, norms without
weights and layer scales alike; what is none of these does not fit, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from leadline.errors import CausalError
from leadline.models.hooks import evaluating

__all__ = ["Frozen"]

# Large beside a norm's ε, and exact in every float format.
_LARGE = 1024.0
# How far the affine map may be from what the module gave, relative to it.
_TOLERANCE, _HALF_TOLERANCE = 1e-4, 3e-2


@dataclass(frozen=True, eq=False)
class Frozen:
    """y = offset + s · gain ∘ (x − κ·mean(x)), with s of each token as it was: 1/rms(x), 1/std(x), or 1.

    Parameters
    ----------
    gain, offset : (d,) float64 on the CPU.
    centred : whether the mean of x is taken off (κ = 1), as LayerNorm does.
    scales : whether the size of x is divided out, as norms do and layer scales do not.
    name : of the module, for errors.
    tolerance : how far the map may be from the module's own result.
    """

    gain: torch.Tensor
    offset: torch.Tensor
    centred: bool
    scales: bool
    name: str
    tolerance: float = _TOLERANCE

    @classmethod
    def of(cls, module: nn.Module, d: int, reference: torch.Tensor, name: str) -> Frozen:
        """Try a module out on four vectors of width d, on the device and in the dtype of a weight."""
        # Mean 0 and no zero, whether d is even or odd.
        swing = torch.where(torch.arange(d) % 2 == 0, _LARGE, -_LARGE).double()
        if d % 2:
            swing[0] *= 2
            swing[2] *= -1
        tried = torch.stack([torch.zeros(d).double(), swing, 2 * swing, torch.full((d,), _LARGE).double()])
        with torch.inference_mode(), evaluating(module):
            found = module(tried[:, None].to(reference.device, reference.dtype))
        zero, *others = torch.as_tensor(found)[:, 0].to("cpu", torch.float64)
        swung, twice, level = (other - zero for other in others)
        scales = bool((twice - swung).norm() < 0.5 * swung.norm())
        gain = swung / swing * (swing.square().mean().sqrt() if scales else 1.0)
        centred = bool(level.norm() < 1e-3 * swung.norm())
        tolerance = _TOLERANCE if reference.dtype in (torch.float32, torch.float64) else _HALF_TOLERANCE
        return cls(gain, zero, centred, scales, name, tolerance)

    def push(self, x: torch.Tensor) -> torch.Tensor:
        """gain ∘ (x − κ·mean(x)), (..., d): where x goes, but for s and the offset."""
        return self.gain * (x - x.mean(-1, keepdim=True) if self.centred else x)

    def scale(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """s of each token (m, 1), from what entered the module and what left it, both (m, d).

        Raises
        ------
        CausalError : no s makes the map give y.
        """
        linear, moved = self.push(x), y - self.offset
        s = (linear * moved).sum(-1, keepdim=True) / linear.square().sum(-1, keepdim=True).clamp(min=1e-300)
        off = (moved - s * linear).norm(dim=-1)
        worst = float((off / y.norm(dim=-1).clamp(min=1e-30)).max())
        if not worst <= self.tolerance:
            raise CausalError(
                f"{self.name} is no norm or scale (off by {worst:.2g} of its output when its statistics are fixed); a "
                f"score behind it cannot be traced to what stands before it. Take a probe at a site before it."
            )
        return s

    def pull(self, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """The direction c' (m, d) before the module for c (m or 1, d) behind it, so that c'·x = c·(y − offset)."""
        g = self.gain * c
        return s * (g - g.mean(-1, keepdim=True) if self.centred else g)
