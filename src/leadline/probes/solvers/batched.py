"""Batched L-BFGS: every problem of a site in one solve.

Problems (l2 × fold × target) share the features Z (n, r), so that an iteration is two matrix products for all of them
together. Each minimises, over A (q, r) and offsets,

    Σ_i w_i · ℓ(A z_i, offsets)  +  (l2 / 2) · Σ_c a_cᵀ P a_c

with its own weights w (folds are zero weights), labels, l2 and penalty P. *Line search:* on stored scores, it needs no
product. *Certificate:* minimised over the offsets, the objective is strongly convex in A with modulus l2·P, so it
exceeds its minimum by at most gᵀP⁻¹g / (2·l2), with g the gradient by A; what the offsets' own gradient may add is
estimated from their curvature. That bound, relative to the objective, is compared with `tolerance`. It equals the
duality gap at the dual point that the scores imply. *Leaving:* problems that are done leave the batch.

J. Nocedal (1980), Updating quasi-Newton matrices with limited storage, Math. Comp. 35.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from leadline.probes.fit import Status
from leadline.probes.solvers.features import Features
from leadline.probes.solvers.losses import Loss
from leadline.probes.solvers.precondition import GroupInverse, Preconditioner, inverse_of

__all__ = ["DiagonalPenalty", "Penalty", "Solution", "UnitPenalty", "minimise"]

HISTORY = 8
LINE_SEARCH_STEPS = 20
# A problem whose certificate has not halved in this many iterations has reached the rounding of its precision.
PATIENCE = 40
# When slow groups may be given inverses of their own Hessians; the rate of the last `LOOK_BACK` iterations tells
# whether they are. Products with few columns cost as much as with `NARROW` of them.
REFRESH = (12, 40, 100, 200)
LOOK_BACK = 6
NARROW = 16


class Penalty(Protocol):
    """P of every problem: symmetric positive definite."""

    def apply(self, A: Tensor) -> Tensor:
        """(P, q, r) P A."""
        ...

    def inverse_norm(self, g: Tensor) -> Tensor:
        """(P,) an upper bound of Σ_c g_cᵀ P⁻¹ g_c."""
        ...

    def take(self, keep: Tensor) -> Penalty: ...
    def to(self, dtype: torch.dtype) -> Penalty: ...


@dataclass(frozen=True, eq=False)
class DiagonalPenalty:
    """P = diag(scale); `scale` is (P, r)."""

    scale: Tensor

    def apply(self, A: Tensor) -> Tensor:
        return A * self.scale[:, None]

    def inverse_norm(self, g: Tensor) -> Tensor:
        return (g.square() / self.scale[:, None]).sum((1, 2))

    def take(self, keep: Tensor) -> DiagonalPenalty:
        return DiagonalPenalty(self.scale[keep])

    def to(self, dtype: torch.dtype) -> DiagonalPenalty:
        return DiagonalPenalty(self.scale.to(dtype))


@dataclass(frozen=True, eq=False)
class UnitPenalty:
    """P = I."""

    def apply(self, A: Tensor) -> Tensor:
        return A

    def inverse_norm(self, g: Tensor) -> Tensor:
        return g.square().sum((1, 2))

    def take(self, keep: Tensor) -> UnitPenalty:
        return self

    def to(self, dtype: torch.dtype) -> UnitPenalty:
        return self


@dataclass(eq=False)
class Solution:
    """What the solver returns; a problem that did not converge is data, not an exception.

    Attributes
    ----------
    coef : (P, q, r), in the basis of the features. offsets : (P, t).
    objective : (P,). gap : (P,), upper bound on (objective − minimum) / objective.
    status : (P,) int8 of `Status`. iterations : (P,) int32.
    """

    coef: Tensor
    offsets: Tensor
    objective: Tensor
    gap: Tensor
    status: Tensor
    iterations: Tensor

    def double(self) -> Solution:
        """The same in float64."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Solution(**{k: v.double() if v.is_floating_point() else v for k, v in parts.items()})


def minimise(
    features: Features,
    loss: Loss,
    l2: Tensor,
    precondition: Preconditioner,
    *,
    penalty: Penalty | None = None,
    group: Tensor | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 500,
    start: tuple[Tensor, Tensor] | None = None,
) -> Solution:
    """Minimise every problem's regularised loss at once.

    Parameters
    ----------
    l2 : (P,) > 0.
    group : (P,) int64, problems whose Hessians are alike (one l2, one target, different folds); None for none. A
        group that is slow is given the inverse of its mean Hessian as preconditioner.
    start : coefficients (P, q, r) and offsets (P, t) to begin from.
    """
    q, r, n_problems = loss.n_outputs, features.r, len(l2)
    device, dtype = features.device, features.dtype
    P: Penalty = UnitPenalty() if penalty is None else penalty
    lam = l2
    in_scores = loss.offsets_in_scores
    if start is None:
        A = torch.zeros(n_problems, q, r, dtype=dtype, device=device)
        offsets = loss.start()
        F = torch.zeros(n_problems, q, features.n, dtype=dtype, device=device)
        PA = torch.zeros_like(A)
    else:
        A, offsets = start
        F = _forward(features, A)
        PA = P.apply(A)
    if in_scores:
        F += offsets[..., None]
    out = Solution(
        torch.zeros_like(A),
        torch.zeros_like(offsets),
        torch.zeros(n_problems, dtype=dtype, device=device),
        torch.full((n_problems,), torch.inf, dtype=dtype, device=device),
        torch.full((n_problems,), int(Status.ITERATION_LIMIT), dtype=torch.int8, device=device),
        torch.zeros(n_problems, dtype=torch.int32, device=device),
    )
    where = torch.arange(n_problems, device=device)
    best = torch.full_like(out.gap, torch.inf)
    since = torch.zeros(n_problems, dtype=torch.int32, device=device)
    memory = _Memory(HISTORY)
    step_taken: Tensor | None = None
    previous: Tensor | None = None
    earlier: Tensor | None = None

    for iteration in range(max_iterations + 1):
        G, g_off, curvature, c_off = loss.gradient(F, offsets)
        gA = _backward(features, G).addcmul_(PA, lam[:, None, None])
        objective = loss.value(F, offsets) + 0.5 * lam * (A * PA).sum((1, 2))
        bound = (P.inverse_norm(gA) / (2 * lam) + (g_off.square() / (2 * c_off)).sum(1)) / objective.clamp_min(1e-30)
        g = torch.cat([gA.flatten(1), g_off], dim=1)
        improved = bound < 0.5 * best
        since = torch.where(improved, 0, since + 1)
        best = torch.where(improved, bound, best)
        finite = torch.isfinite(bound)
        done = (bound <= tolerance) | ~finite | (since > PATIENCE)
        last = iteration == max_iterations
        n_done = int(done.sum())
        if last or n_done == len(where) or n_done >= max(1, len(where) // 8):
            leave = torch.ones_like(done) if last else done
            at = where[leave]
            out.coef[at], out.offsets[at], out.objective[at] = A[leave], offsets[leave], objective[leave]
            out.gap[at], out.iterations[at] = bound[leave], iteration
            out.status[at] = _status(bound[leave], finite[leave], since[leave], tolerance)
            stay = ~leave
            if not bool(stay.any()):
                break
            where, A, PA, F, offsets, lam = where[stay], A[stay], PA[stay], F[stay], offsets[stay], lam[stay]
            g, curvature, c_off, best, since = g[stay], curvature[stay], c_off[stay], best[stay], since[stay]
            loss, P, precondition = loss.take(stay), P.take(stay), precondition.take(stay)
            bound, earlier = bound[stay], None if earlier is None else earlier[stay]
            group = None if group is None else group[stay]
            memory.take(stay)
            if step_taken is not None and previous is not None:
                step_taken, previous = step_taken[stay], previous[stay]
        if step_taken is not None and previous is not None:
            memory.add(step_taken, g - previous)
        if iteration + LOOK_BACK in REFRESH:
            earlier = bound
        if (
            group is not None
            and earlier is not None
            and iteration in REFRESH
            and _worth(features.n, r, q, group, earlier, bound, tolerance)
        ):
            precondition = _refresh(features, loss, F, offsets, lam, group, precondition)
            memory = _Memory(HISTORY)

        inverse = partial(_inverse, precondition, curvature, c_off, lam, r)
        d = memory.direction(g, inverse)
        slope = (d * g).sum(1)
        # Rounding can leave a problem without a descent direction: it falls back to the preconditioned gradient.
        bad = slope >= 0
        if bool(bad.any()):
            d = torch.where(bad[:, None], -inverse(g), d)
            slope = (d * g).sum(1)
        dA, d_off = d[:, : q * r].reshape(-1, q, r), d[:, q * r :]
        T = _forward(features, dA)
        if in_scores:
            T += d_off[..., None]
        PdA = P.apply(dA)
        quad_slope, quad = lam * (dA * PA).sum((1, 2)), lam * (dA * PdA).sum((1, 2))
        step = _line_search(loss, F, T, offsets, d_off, slope, quad_slope, quad)
        step_taken, previous = d * step[:, None], g
        grow = step[:, None, None]
        A = torch.addcmul(A, dA, grow)
        PA = torch.addcmul(PA, PdA, grow)
        F = torch.addcmul(F, T, grow)
        offsets = offsets + step[:, None] * d_off
    return out


def _inverse(
    precondition: Preconditioner, curvature: Tensor, offset_curvature: Tensor, l2: Tensor, r: int, v: Tensor
) -> Tensor:
    """The preconditioner applied to (P, q·r + t) vectors of coefficients and offsets."""
    q = curvature.shape[1]
    head = precondition.apply(v[:, : q * r].reshape(-1, q, r), curvature, l2)
    return torch.cat([head.flatten(1), v[:, q * r :] / offset_curvature], dim=1)


def _worth(n: int, r: int, q: int, group: Tensor, earlier: Tensor, bound: Tensor, tolerance: float) -> bool:
    """Whether new inverses cost less than half of the iterations that the slowest problem still needs at its rate."""
    rate = (torch.log(earlier / bound) / LOOK_BACK).clamp_min(0.02)
    remaining = float((torch.log(bound / tolerance).clamp_min(0) / rate).max())
    inverses = len(torch.unique(group)) * (2.0 * n * r * r + 2.0 * r**3)
    iteration = 4.0 * n * r * max(len(group) * q, NARROW)
    return inverses <= 0.5 * min(remaining, 500.0) * iteration


def _status(bound: Tensor, finite: Tensor, since: Tensor, tolerance: float) -> Tensor:
    status = torch.full_like(bound, int(Status.ITERATION_LIMIT), dtype=torch.int8)
    status[since > PATIENCE] = int(Status.STALLED)
    status[~finite] = int(Status.NOT_FINITE)
    status[bound <= tolerance] = int(Status.CONVERGED)
    return status


def _forward(features: Features, A: Tensor) -> Tensor:
    return features.forward(A.reshape(-1, A.shape[-1])).reshape(*A.shape[:2], -1)


def _backward(features: Features, G: Tensor) -> Tensor:
    return features.backward(G.reshape(-1, G.shape[-1])).reshape(*G.shape[:2], -1)


def _refresh(
    features: Features,
    loss: Loss,
    F: Tensor,
    offsets: Tensor,
    l2: Tensor,
    group: Tensor,
    precondition: Preconditioner,
) -> Preconditioner:
    """The inverse of each group's mean Hessian; a group whose mean is not positive definite keeps what it had."""
    other = precondition.other if isinstance(precondition, GroupInverse) else precondition
    h = loss.hessian_weights(F, offsets).mean(1)
    found = torch.full_like(group, -1)
    inverses: list[Tensor] = []
    for code in torch.unique(group):
        at = group == code
        H = features.gram(h[at].mean(0))
        H.diagonal().add_(l2[at].mean())
        inverse = inverse_of(H)
        if inverse is not None:
            found[at] = len(inverses)
            inverses.append(inverse)
    return GroupInverse(tuple(inverses), found, other)


class _Memory:
    """The steps and gradient changes of the last iterations."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.S: list[Tensor] = []
        self.Y: list[Tensor] = []
        self.rho: list[Tensor] = []

    def add(self, s: Tensor, y: Tensor) -> None:
        sy = (s * y).sum(1, keepdim=True)
        # A pair that float32 has rounded to nothing is left out for that problem alone.
        self.S.append(s)
        self.Y.append(y)
        self.rho.append(torch.where(sy > 1e-30, 1 / sy.clamp_min(1e-30), torch.zeros_like(sy)))
        if len(self.S) > self.size:
            self.S.pop(0), self.Y.pop(0), self.rho.pop(0)

    def take(self, keep: Tensor) -> None:
        self.S, self.Y, self.rho = ([x[keep] for x in part] for part in (self.S, self.Y, self.rho))

    def direction(self, g: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
        """−H g by the two-loop recursion."""
        v = g.clone()
        alphas = []
        for s, y, rho in zip(reversed(self.S), reversed(self.Y), reversed(self.rho), strict=True):
            a = rho * (s * v).sum(1, keepdim=True)
            v.addcmul_(y, a, value=-1)
            alphas.append(a)
        v = inverse(v)
        for s, y, rho, a in zip(self.S, self.Y, self.rho, reversed(alphas), strict=True):
            v.addcmul_(s, a - rho * (y * v).sum(1, keepdim=True))
        return v.neg_()


def _line_search(
    loss: Loss,
    F: Tensor,
    T: Tensor,
    offsets: Tensor,
    d_offsets: Tensor,
    slope: Tensor,
    quad_slope: Tensor,
    quad: Tensor,
) -> Tensor:
    """Safeguarded Newton in one dimension for every problem: φ is convex, so a root of φ' is all that is sought.

    A step is taken where |φ'(α)| ≤ ½·|φ'(0)|, the strong Wolfe curvature condition. Short of the minimum of a convex φ
    that implies a decrease; well beyond it, φ itself is compared.
    """
    origin: Tensor | None = None
    step = torch.ones_like(slope)
    low = torch.zeros_like(slope)
    high = torch.full_like(slope, torch.inf)
    largest = loss.largest_step(offsets, d_offsets)
    if largest is not None:
        high = largest
        step = torch.minimum(step, 0.9 * largest)
    for _ in range(LINE_SEARCH_STEPS):
        first, second = loss.along(F, T, offsets, d_offsets, step)
        derivative = quad_slope + step * quad + first
        good = derivative.abs() <= 0.5 * slope.abs()
        beyond = good & (derivative > 0.1 * slope.abs())
        if bool(beyond.any()):
            if origin is None:
                origin = loss.value(F, offsets)
            moved = loss.value(torch.addcmul(F, T, step[:, None, None]), offsets + step[:, None] * d_offsets)
            change = moved - origin + step * (quad_slope + 0.5 * step * quad)
            good &= ~beyond | (change <= 1e-6 * origin.abs())
        if bool(good.all()):
            break
        low = torch.where(derivative < 0, step, low)
        high = torch.where(derivative > 0, step, high)
        newton = step - derivative / (second + quad).clamp_min(1e-30)
        # A far extrapolation rests on a flat tail of the loss; it is bounded so that bisection can catch up.
        newton = torch.minimum(newton, 10 * step)
        inside = (newton > low) & (newton < high)
        middle = torch.where(torch.isfinite(high), 0.5 * (low + high), 2 * step)
        step = torch.where(good, step, torch.where(inside, newton, middle))
    else:
        # Whatever was not found: where φ' was still negative, a convex φ lies below φ(0).
        step = torch.where(good | (low <= 0), step, low)
    return step
