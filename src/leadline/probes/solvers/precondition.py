"""Preconditioners of the batched solver: cheap approximations of each problem's inverse Hessian.

At the start every score is 0 and the Hessian is c·Σ + l2·I exactly, with Σ the second moment of the features and c one
number a problem. `EigenDiagonal` inverts that for every c and l2 at once, after one factorisation; `LowRank` keeps the
leading eigenvectors alone, where d³ is too dear. As a weakly regularised fit grows confident, a few rows carry its
curvature, and Σ no longer resembles the Hessian: `GroupInverse` then holds the inverse of the mean Hessian of the
problems that share an l2, since folds differ by some of their rows only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from leadline.probes.solvers.features import Features

__all__ = ["EigenDiagonal", "GroupInverse", "LowRank", "Preconditioner", "leading_eigenvectors"]


class Preconditioner(Protocol):
    """Maps gradients of P problems to steps."""

    def apply(self, g: Tensor, curvature: Tensor, l2: Tensor) -> Tensor:
        """(P, q, r) for gradients g (P, q, r), curvatures (P, q) and penalties (P,)."""
        ...

    def take(self, keep: Tensor) -> Self:
        """That of some of the problems."""
        ...

    def to(self, dtype: torch.dtype) -> Self:
        """The same in another precision."""
        ...


@dataclass(frozen=True, eq=False)
class EigenDiagonal:
    """For features in the eigenbasis of their second moment; `eigenvalues` (r,)."""

    eigenvalues: Tensor

    def apply(self, g: Tensor, curvature: Tensor, l2: Tensor) -> Tensor:
        return g / torch.addcmul(l2[:, None, None], curvature[..., None], self.eigenvalues)

    def take(self, keep: Tensor) -> Self:
        return self

    def to(self, dtype: torch.dtype) -> Self:
        return replace(self, eigenvalues=self.eigenvalues.to(dtype))


@dataclass(frozen=True, eq=False)
class LowRank:
    """For features in any basis: leading eigenvectors `U` (k, r) of Σ, their `values` (k,), and one for the `rest`."""

    U: Tensor
    values: Tensor
    rest: Tensor

    def apply(self, g: Tensor, curvature: Tensor, l2: Tensor) -> Tensor:
        c = curvature[..., None]
        lam = l2[:, None, None]
        tail = 1 / (c * self.rest + lam)
        inside = (g.reshape(-1, g.shape[-1]) @ self.U.T).reshape(*g.shape[:2], -1)
        inside *= 1 / (c * self.values + lam) - tail
        out = g * tail
        return out.add_((inside.reshape(-1, inside.shape[-1]) @ self.U).reshape(g.shape))

    def take(self, keep: Tensor) -> Self:
        return self

    def to(self, dtype: torch.dtype) -> Self:
        return replace(self, U=self.U.to(dtype), values=self.values.to(dtype), rest=self.rest.to(dtype))


@dataclass(frozen=True, eq=False)
class GroupInverse:
    """An inverse a group of problems: `inverses` (G, r, r), `group` (P,) int64; `other` for problems of group −1."""

    inverses: tuple[Tensor, ...]
    group: Tensor
    other: Preconditioner

    def apply(self, g: Tensor, curvature: Tensor, l2: Tensor) -> Tensor:
        out = torch.empty_like(g)
        for index, inverse in enumerate(self.inverses):
            at = self.group == index
            if bool(at.any()):
                part = g[at]
                out[at] = (part.reshape(-1, part.shape[-1]) @ inverse).reshape(part.shape)
        at = self.group < 0
        if bool(at.any()):
            out[at] = self.other.apply(g[at], curvature[at], l2[at])
        return out

    def take(self, keep: Tensor) -> Self:
        return replace(self, group=self.group[keep], other=self.other.take(keep))

    def to(self, dtype: torch.dtype) -> Self:
        return replace(self, inverses=tuple(x.to(dtype) for x in self.inverses), other=self.other.to(dtype))


def inverse_of(H: Tensor) -> Tensor | None:
    """The inverse of a symmetric positive definite matrix by Cholesky; None where rounding has made it indefinite."""
    if H.is_cuda:
        factor, info = torch.linalg.cholesky_ex(H)
        return None if int(info) else torch.cholesky_inverse(factor)
    lapack = scipy.linalg.lapack
    single = H.dtype == torch.float32
    potrf, potri = (lapack.spotrf, lapack.spotri) if single else (lapack.dpotrf, lapack.dpotri)
    factor, info = potrf(np.asfortranarray(H.numpy()), lower=True, overwrite_a=True, clean=False)
    if info:
        return None
    inverse, info = potri(factor, lower=True, overwrite_c=True)
    if info:
        return None
    lower = torch.from_numpy(inverse.T)  # Fortran's lower triangle is the upper one here.
    full = torch.triu(lower)
    return full + torch.triu(lower, 1).T


def leading_eigenvectors(
    features: Features, weights: Tensor, k: int, seed: int = 0, power: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """The k leading eigenvectors of Σ_i w_i z_i z_iᵀ by a randomised range finder (Halko, Martinsson and Tropp 2011).

    Parameters
    ----------
    weights : (n,) summing to 1. power : iterations of the range finder, each reading every row twice.

    Returns
    -------
    U : (k, r) orthonormal rows. values : (k,). rest : () the mean of the other eigenvalues.
    """
    generator = torch.Generator(device=features.device).manual_seed(seed)
    Q = torch.randn(k, features.r, generator=generator, dtype=features.dtype, device=features.device)
    for _ in range(power):
        Q = torch.linalg.qr(features.backward(features.forward(Q) * weights).T)[0].T.contiguous()
    T = features.forward(Q)
    values, W = torch.linalg.eigh((T * weights) @ T.T)
    trace = features.square_norms() @ weights
    rest = ((trace - values.sum()) / max(features.r - k, 1)).clamp_min(0)
    return W.T @ Q, values.clamp_min(0), rest
