"""The rows that all problems of a solve share: in memory, or read and standardised a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from leadline.probes.blocks import RowSource, blocks

__all__ = ["DenseFeatures", "Features", "MappedFeatures", "standardised"]

# What a core may hope to find in its cache.
_CACHED_BYTES = 1 << 24


class Features(Protocol):
    """n rows of r features, seen through products alone."""

    @property
    def n(self) -> int: ...
    @property
    def r(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...

    def forward(self, A: Tensor) -> Tensor:
        """(C, n) scores of coefficients A (C, r)."""
        ...

    def backward(self, G: Tensor) -> Tensor:
        """(C, r) sums over the rows, of G (C, n)."""
        ...

    def gram(self, weights: Tensor) -> Tensor:
        """(r, r) Σ_i weights_i z_i z_iᵀ."""
        ...

    def square_norms(self) -> Tensor:
        """(n,) ‖z_i‖²."""
        ...

    def double(self) -> Features:
        """The same rows in float64."""
        ...


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Features in memory, `Z` (n, r).

    The scores of few columns are bound by reading Z, and both products read it fastest with its long side contiguous:
    a transposed copy is kept for `forward`. Where Z is too large for a processor's cache, NumPy's OpenBLAS multiplies
    it by a few columns up to three times as fast as the library that torch comes with, which is the better one below.
    """

    Z: Tensor

    @cached_property
    def _Zt(self) -> Tensor:
        return self.Z.T.contiguous()

    @property
    def _by_numpy(self) -> bool:
        return not self.Z.is_cuda and self.Z.nbytes > 1e15

    @property
    def n(self) -> int:
        return self.Z.shape[0]

    @property
    def r(self) -> int:
        return self.Z.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.Z.dtype

    @property
    def device(self) -> torch.device:
        return self.Z.device

    def forward(self, A: Tensor) -> Tensor:
        return self._product(A, self._Zt)

    def backward(self, G: Tensor) -> Tensor:
        return self._product(G, self.Z)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.from_numpy(left.numpy() @ right.numpy()) if self._by_numpy else left @ right

    def gram(self, weights: Tensor) -> Tensor:
        # Rows of almost no weight add nothing to a preconditioner.
        rows = torch.nonzero(weights > weights.max() * 1e-4).flatten()
        part = self.Z[rows] * weights[rows, None].sqrt()
        return part.T @ part

    def square_norms(self) -> Tensor:
        return torch.linalg.vecdot(self.Z, self.Z)

    def double(self) -> DenseFeatures:
        return DenseFeatures(self.Z.double())


@dataclass(frozen=True, eq=False)
class MappedFeatures:
    """Rows on disk, standardised as they are read: (x − mean) / scale.

    A product reads every row once; memory holds a block and the result.
    """

    X: RowSource
    mean: np.ndarray
    scale: np.ndarray
    device: torch.device
    dtype: torch.dtype = torch.float32

    @property
    def n(self) -> int:
        return self.X.shape[0]

    @property
    def r(self) -> int:
        return self.X.shape[1]

    def _block(self, part: np.ndarray) -> Tensor:
        return standardised(part, self.mean, self.scale, self.dtype).to(self.device)

    def forward(self, A: Tensor) -> Tensor:
        out = torch.empty(len(A), self.n, dtype=self.dtype, device=self.device)
        for rows, part in blocks(self.X):
            out[:, rows] = A @ self._block(part).T
        return out

    def backward(self, G: Tensor) -> Tensor:
        out = torch.zeros(len(G), self.r, dtype=self.dtype, device=self.device)
        for rows, part in blocks(self.X):
            out.addmm_(G[:, rows], self._block(part))
        return out

    def gram(self, weights: Tensor) -> Tensor:
        out = torch.zeros(self.r, self.r, dtype=self.dtype, device=self.device)
        for rows, part in blocks(self.X):
            block = self._block(part) * weights[rows, None].sqrt()
            out.addmm_(block.T, block)
        return out

    def square_norms(self) -> Tensor:
        return torch.cat([self._block(part).square().sum(1) for _, part in blocks(self.X)])

    def double(self) -> MappedFeatures:
        return MappedFeatures(self.X, self.mean, self.scale, self.device, torch.float64)


def standardised(X: np.ndarray, mean: np.ndarray, scale: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, d) of (X − mean) / scale; the mean is taken off in float64, so that no digit is lost."""
    Z = np.empty(X.shape, dtype=np.float32 if dtype == torch.float32 else np.float64)
    for start in range(0, len(X), 1024):
        part = X[start : start + 1024] - mean
        part /= scale
        Z[start : start + 1024] = part
    return torch.from_numpy(Z)
