"""Losses of the batched solver: what a problem minimises, apart from how.

P problems are stored problem-major: scores F are (P, q, n), with q outputs a problem, so that every reduction runs over
memory in order and the solver's products have their long side contiguous. A loss is a weighted mean over the rows,
Σ_i w_i ℓ(F_i), Σ_i w_i = 1, and knows its derivatives with respect to F and to its offsets: the intercepts, or the
thresholds of an ordinal loss.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["CumulativeLogit", "LogisticLoss", "Loss", "MultinomialLoss", "SquaredHinge"]


class Loss(Protocol):
    """A convex loss of P problems.

    Attributes
    ----------
    weights : (P, n) ≥ 0, each row summing to 1.
    offsets_in_scores : whether the offsets (P, q) are added to the scores by the solver; if not, the loss does more
        with its offsets (P, t) than that.
    """

    @property
    def weights(self) -> Tensor: ...
    @property
    def n_outputs(self) -> int: ...
    @property
    def offsets_in_scores(self) -> bool: ...

    def start(self) -> Tensor:
        """(P, t) offsets that are (nearly) optimal while all coefficients are 0."""
        ...

    def value(self, F: Tensor, offsets: Tensor) -> Tensor:
        """(P,) the weighted mean loss."""
        ...

    def gradient(self, F: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The derivatives: by F (P, q, n), by the offsets (P, t), and mean curvatures of both, (P, q) and (P, t)."""
        ...

    def along(self, F: Tensor, T: Tensor, offsets: Tensor, d_offsets: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """(P,) first and second derivative of step ↦ value(F + step·T, offsets + step·d_offsets)."""
        ...

    def largest_step(self, offsets: Tensor, d_offsets: Tensor) -> Tensor | None:
        """(P,) the step at which the loss becomes infinite, or None if it never does."""
        ...

    def hessian_weights(self, F: Tensor, offsets: Tensor) -> Tensor:
        """(P, q, n) second derivative by each score, times the row's weight."""
        ...

    def take(self, keep: Tensor) -> Self:
        """The loss of some of the problems; `keep` is (P,) bool or indices."""
        ...

    def to(self, dtype: torch.dtype) -> Self:
        """The same loss in another precision."""
        ...


class _Columns:
    """`take` and `to` for losses whose tensors all have the problems first."""

    def take(self, keep: Tensor) -> Self:
        return replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)})  # type: ignore[type-var, arg-type]

    def to(self, dtype: torch.dtype) -> Self:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **{k: v.to(dtype) if v.is_floating_point() else v for k, v in parts.items()})  # type: ignore[type-var]

    def largest_step(self, offsets: Tensor, d_offsets: Tensor) -> Tensor | None:
        return None


@dataclass(frozen=True, eq=False)
class LogisticLoss(_Columns):
    """log(1 + exp(−y f)), y ∈ {−1, +1}.

    Parameters
    ----------
    labels, weights : (P, n).
    """

    labels: Tensor
    weights: Tensor
    n_outputs = 1
    offsets_in_scores = True

    def start(self) -> Tensor:
        rate = ((self.labels > 0) * self.weights).sum(-1, keepdim=True).clamp(1e-6, 1 - 1e-6)
        return torch.log(rate / (1 - rate))

    def value(self, F: Tensor, offsets: Tensor) -> Tensor:
        return (self.weights * softplus(-(self.labels * F[:, 0]))).sum(-1)

    def gradient(self, F: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s = torch.sigmoid(-(self.labels * F[:, 0]))
        ws = self.weights * s
        curvature = (ws - ws * s).sum(-1, keepdim=True).clamp_min(1e-7)
        G = (ws * self.labels).neg_()
        return G[:, None], G.sum(-1, keepdim=True), curvature, curvature

    def along(self, F: Tensor, T: Tensor, offsets: Tensor, d_offsets: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        t = T[:, 0]
        s = torch.sigmoid(-(self.labels * torch.addcmul(F[:, 0], t, step[:, None])))
        wst = self.weights * s * t
        return -(wst * self.labels).sum(-1), (wst * (1 - s) * t).sum(-1)

    def hessian_weights(self, F: Tensor, offsets: Tensor) -> Tensor:
        s = torch.sigmoid(F)
        return self.weights[:, None] * s * (1 - s)


@dataclass(frozen=True, eq=False)
class SquaredHinge(_Columns):
    """max(0, 1 − y f)², y ∈ {−1, +1}; parameters as for `LogisticLoss`."""

    labels: Tensor
    weights: Tensor
    n_outputs = 1
    offsets_in_scores = True

    def start(self) -> Tensor:
        # With every margin inside the hinge, the optimum is the mean label.
        return (self.labels * self.weights).sum(-1, keepdim=True)

    def value(self, F: Tensor, offsets: Tensor) -> Tensor:
        return (self.weights * (1 - self.labels * F[:, 0]).clamp_min(0).square()).sum(-1)

    def gradient(self, F: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        slack = (1 - self.labels * F[:, 0]).clamp_min(0)
        G = (self.weights * slack * self.labels).mul_(-2)
        curvature = 2 * (self.weights * (slack > 0)).sum(-1, keepdim=True).clamp_min(1e-7)
        return G[:, None], G.sum(-1, keepdim=True), curvature, curvature

    def along(self, F: Tensor, T: Tensor, offsets: Tensor, d_offsets: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        t = T[:, 0]
        slack = (1 - self.labels * torch.addcmul(F[:, 0], t, step[:, None])).clamp_min(0)
        wt = self.weights * t
        return -2 * (wt * slack * self.labels).sum(-1), 2 * (wt * t * (slack > 0)).sum(-1)

    def hessian_weights(self, F: Tensor, offsets: Tensor) -> Tensor:
        return 2 * (self.weights * (self.labels * F[:, 0] < 1))[:, None]


@dataclass(frozen=True, eq=False)
class MultinomialLoss(_Columns):
    """log Σ_c exp(f_c) − f_y, in the symmetric form: every class has its own coefficients.

    Parameters
    ----------
    onehot : (P, C, n). weights : (P, n).
    """

    onehot: Tensor
    weights: Tensor
    offsets_in_scores = True

    @property
    def n_outputs(self) -> int:
        return self.onehot.shape[1]

    def start(self) -> Tensor:
        rate = (self.onehot * self.weights[:, None]).sum(-1).clamp_min(1e-6).log()
        return rate - rate.mean(-1, keepdim=True)

    def value(self, F: Tensor, offsets: Tensor) -> Tensor:
        return (self.weights * (F.logsumexp(1) - (F * self.onehot).sum(1))).sum(-1)

    def gradient(self, F: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = F.softmax(1)
        w = self.weights[:, None]
        curvature = (w * p * (1 - p)).sum(-1).clamp_min(1e-7)
        G = w * (p - self.onehot)
        return G, G.sum(-1), curvature, curvature

    def along(self, F: Tensor, T: Tensor, offsets: Tensor, d_offsets: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        p = (F + step[:, None, None] * T).softmax(1)
        mean = (p * T).sum(1)
        first = (self.weights * (mean - (self.onehot * T).sum(1))).sum(-1)
        second = (self.weights * ((p * T * T).sum(1) - mean.square())).sum(-1)
        return first, second

    def hessian_weights(self, F: Tensor, offsets: Tensor) -> Tensor:
        p = F.softmax(1)
        return self.weights[:, None] * p * (1 - p)


@dataclass(frozen=True, eq=False)
class CumulativeLogit(_Columns):
    """−log(σ(f − θ_{y−1}) − σ(f − θ_y)) with θ_{−1} = −∞ and θ_{C−1} = ∞: proportional odds (McCullagh 1980).

    Jointly convex in f and θ where θ increases; a step that would cross two thresholds is cut short.

    Parameters
    ----------
    codes : (P, n) int64, 0 … C−1. weights : (P, n). classes : (P, C) of anything; its width is C.
    """

    codes: Tensor
    weights: Tensor
    classes: Tensor
    n_outputs = 1
    offsets_in_scores = False

    def start(self) -> Tensor:
        shares = torch.zeros_like(self.classes, dtype=self.weights.dtype).scatter_add_(1, self.codes, self.weights)
        below = shares.cumsum(1)[:, :-1].clamp(1e-6, 1 - 1e-6)
        return torch.log(below / (1 - below))

    def _ends(self, f: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """(P, n) u = f − θ_{y−1} and l = f − θ_y, ±∞ at the outer classes."""
        edge = torch.full_like(offsets[:, :1], torch.inf)
        theta = torch.cat([-edge, offsets, edge], dim=1)
        return f - theta.gather(1, self.codes), f - theta.gather(1, self.codes + 1)

    def _along_ends(self, t: Tensor, d_offsets: Tensor) -> tuple[Tensor, Tensor]:
        edge = torch.zeros_like(d_offsets[:, :1])
        d_theta = torch.cat([edge, d_offsets, edge], dim=1)
        return t - d_theta.gather(1, self.codes), t - d_theta.gather(1, self.codes + 1)

    @staticmethod
    def _ratio(u: Tensor, low: Tensor) -> Tensor:
        """e^(l−u) / (1 − e^(l−u)), 0 at the outer classes."""
        return 1 / torch.expm1(u - low)

    def value(self, F: Tensor, offsets: Tensor) -> Tensor:
        u, low = self._ends(F[:, 0], offsets)
        return (self.weights * (softplus(-u) + softplus(low) - torch.log(-torch.expm1(low - u)))).sum(-1)

    def gradient(self, F: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        u, low = self._ends(F[:, 0], offsets)
        above, under = torch.sigmoid(-u), torch.sigmoid(low)
        ratio = self._ratio(u, low)
        w = self.weights
        G = w * (under - above)
        by_u, by_low = w * (above + ratio), -w * (under + ratio)
        second = ratio * (1 + ratio)
        bend_u, bend_low = w * (above * (1 - above) + second), w * (under * (1 - under) + second)
        n_offsets = offsets.shape[1]
        grad = torch.zeros(len(w), n_offsets + 2, dtype=w.dtype, device=w.device)
        grad.scatter_add_(1, self.codes, by_u).scatter_add_(1, self.codes + 1, by_low)
        bend = torch.zeros_like(grad)
        bend.scatter_add_(1, self.codes, bend_u).scatter_add_(1, self.codes + 1, bend_low)
        curvature = (w * (above * (1 - above) + under * (1 - under))).sum(-1, keepdim=True).clamp_min(1e-7)
        return G[:, None], grad[:, 1:-1], curvature, bend[:, 1:-1].clamp_min(1e-7)

    def along(self, F: Tensor, T: Tensor, offsets: Tensor, d_offsets: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        s = step[:, None]
        u, low = self._ends(F[:, 0] + s * T[:, 0], offsets + s * d_offsets)
        t_u, t_low = self._along_ends(T[:, 0], d_offsets)
        above, under = torch.sigmoid(-u), torch.sigmoid(low)
        ratio = self._ratio(u, low)
        apart = t_u - t_low
        first = under * t_low - above * t_u - ratio * apart
        second = above * (1 - above) * t_u**2 + under * (1 - under) * t_low**2 + ratio * (1 + ratio) * apart**2
        return (self.weights * first).sum(-1), (self.weights * second).sum(-1)

    def largest_step(self, offsets: Tensor, d_offsets: Tensor) -> Tensor | None:
        if offsets.shape[1] < 2:
            return None
        closing = -d_offsets.diff(dim=1)
        room = offsets.diff(dim=1)
        return torch.where(closing > 0, room / closing.clamp_min(1e-30), torch.inf).amin(1)

    def hessian_weights(self, F: Tensor, offsets: Tensor) -> Tensor:
        u, low = self._ends(F[:, 0], offsets)
        above, under = torch.sigmoid(-u), torch.sigmoid(low)
        return (self.weights * (above * (1 - above) + under * (1 - under)))[:, None]
