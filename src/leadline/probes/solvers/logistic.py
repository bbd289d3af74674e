"""Batched L-BFGS for the logistic loss: every column of a site in one solve.

Columns (l2 × fold × target × permutation) share the features `R`, so that an iteration is two matrix products for all
of them together. Each minimises, over a (r,) and b,

    Σ_i w_i · log(1 + exp(−y_i f_i))  +  (l2 / 2) · aᵀ P a,      f = R a + b,   Σ_i w_i = 1,   y ∈ {−1, +1}

with its own weights w (folds are zero weights), labels y, l2 and penalty P.

*Preconditioner.* `R` is expected in the eigenbasis of its own second moment, where the logistic Hessian is nearly
diagonal: Böhning's bound ¼·RᵀR (Böhning 1992) is diagonal, and the mean of σ(1−σ) in place of ¼ follows the
curvature as a fit grows confident. *Line search.* On stored scores, it needs no product. *Certificate.* P is positive
definite, so the objective exceeds its minimum by at most ‖g‖²/(2·l2·λ_min(P)), with g the gradient: that bound,
relative to the objective, is what is compared with `tolerance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LogisticSolution", "solve_logistic"]

HISTORY = 10
LINE_SEARCH_STEPS = 12


@dataclass(frozen=True)
class LogisticSolution:
    """What the solver returns; a column that did not converge is data, not an exception.

    Attributes
    ----------
    coef : (r, C), in the basis of `R`.
    intercept : (C,).
    objective : (C,), at the solution.
    gap : (C,), upper bound on (objective − minimum) / objective.
    converged : (C,) bool, gap ≤ tolerance.
    iterations : (C,) int.
    """

    coef: Tensor
    intercept: Tensor
    objective: Tensor
    gap: Tensor
    converged: Tensor
    iterations: Tensor


def solve_logistic(
    R: Tensor,
    eigenvalues: Tensor,
    labels: Tensor,
    weights: Tensor,
    l2: Tensor,
    *,
    penalty: Callable[[Tensor, Tensor], Tensor] | None = None,
    penalty_floor: Tensor | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 500,
) -> LogisticSolution:
    """Minimise every column's regularised logistic loss at once.

    Parameters
    ----------
    R : (n, r) features, in the eigenbasis of RᵀR/n.
    eigenvalues : (r,) of RᵀR/n.
    labels : (n, C) of −1 and +1.
    weights : (n, C), ≥ 0, each column summing to 1.
    l2 : (C,) > 0.
    penalty : maps (A (r, c), columns (c,)) to P A for those columns; None for the identity.
    penalty_floor : (C,) lower bounds of λ_min(P); None for ones.
    """
    n, r = R.shape
    total = labels.shape[1]
    device, dtype = R.device, R.dtype
    floor = torch.ones(total, dtype=dtype, device=device) if penalty_floor is None else penalty_floor
    out_A = torch.zeros(r, total, dtype=dtype, device=device)
    out_b = torch.zeros(total, dtype=dtype, device=device)
    out_f = torch.zeros(total, dtype=dtype, device=device)
    out_gap = torch.full((total,), torch.inf, dtype=dtype, device=device)
    out_it = torch.zeros(total, dtype=torch.int32, device=device)

    columns = torch.arange(total, device=device)
    Rt = R.T.contiguous()
    y, w, lam, low = labels, weights, l2, floor
    A = torch.zeros(r, total, dtype=dtype, device=device)
    PA = torch.zeros_like(A)
    # The intercept starts at its optimum for a = 0, so that rare classes do not spend iterations on it.
    rate = ((y > 0) * w).sum(0).clamp(1e-6, 1 - 1e-6)
    b = torch.log(rate / (1 - rate))
    F = b.expand(n, total).clone()
    S: list[Tensor] = []
    Y: list[Tensor] = []
    rho: list[Tensor] = []
    previous: Tensor | None = None
    step_taken: Tensor | None = None

    for iteration in range(max_iterations + 1):
        # Gradient at the current scores. s = σ(−y f); dℓ/df = −y s.
        margin = y * F
        s = torch.sigmoid(-margin)
        G = w * y * s
        G.neg_()
        g = torch.empty(r + 1, len(columns), dtype=dtype, device=device)
        torch.mm(Rt, G, out=g[:r])
        g[:r].addcmul_(PA, lam.expand_as(PA))
        g[r] = G.sum(0)
        loss = (w * torch.nn.functional.softplus(-margin)).sum(0)
        f = loss + 0.5 * lam * (A * PA).sum(0)
        curvature = (w * s * (1 - s)).sum(0).clamp_min(1e-4)
        bound = (g[:r].square().sum(0) / (2 * lam * low) + g[r].square() / (2 * curvature)) / f
        done = bound <= tolerance
        last = iteration == max_iterations
        n_done = int(done.sum())
        if last or n_done == len(columns) or n_done >= max(1, len(columns) // 5):
            leave = done if not last else torch.ones_like(done)
            where = columns[leave]
            out_A[:, where], out_b[where] = A[:, leave], b[leave]
            out_f[where], out_gap[where], out_it[where] = f[leave], bound[leave], iteration
            stay = ~leave
            if not bool(stay.any()):
                break
            columns, A, PA, b, F = columns[stay], A[:, stay], PA[:, stay], b[stay], F[:, stay]
            y, w, lam, low = y[:, stay], w[:, stay], lam[stay], low[stay]
            g, curvature = g[:, stay], curvature[stay]
            S, Y, rho = [x[:, stay] for x in S], [x[:, stay] for x in Y], [x[stay] for x in rho]
            if previous is not None and step_taken is not None:
                previous, step_taken = previous[:, stay], step_taken[:, stay]

        if previous is not None and step_taken is not None:
            change = g - previous
            sy = (step_taken * change).sum(0)
            S.append(step_taken)
            Y.append(change)
            # A pair that float32 has rounded to nothing is left out for that column alone.
            rho.append(torch.where(sy > 1e-30, 1 / sy.clamp_min(1e-30), torch.zeros_like(sy)))
            if len(S) > HISTORY:
                S.pop(0), Y.pop(0), rho.pop(0)

        inverse = torch.empty_like(g)
        inverse[:r] = 1 / (eigenvalues[:, None] * curvature + lam)
        inverse[r] = 1 / curvature
        q = g.clone()
        alphas = []
        for s_i, y_i, rho_i in zip(reversed(S), reversed(Y), reversed(rho), strict=True):
            a_i = rho_i * (s_i * q).sum(0)
            q.addcmul_(y_i, a_i.expand_as(y_i), value=-1)
            alphas.append(a_i)
        q *= inverse
        for s_i, y_i, rho_i, a_i in zip(S, Y, rho, reversed(alphas), strict=True):
            q.addcmul_(s_i, (a_i - rho_i * (y_i * q).sum(0)).expand_as(s_i))
        d = q.neg_()
        slope = (d * g).sum(0)
        # Rounding can leave a column without a descent direction: it falls back to the preconditioned gradient.
        bad = slope >= 0
        if bool(bad.any()):
            d = torch.where(bad, -inverse * g, d)
            slope = (d * g).sum(0)

        T = R @ d[:r]
        T += d[r]
        Pd = d[:r] if penalty is None else penalty(d[:r], columns)
        quad_slope, quad = lam * (d[:r] * PA).sum(0), lam * (d[:r] * Pd).sum(0)
        step = _line_search(F, T, y, w, slope, quad_slope, quad)
        step_taken = d * step
        previous = g
        A = A + step_taken[:r]
        PA = PA + Pd * step
        b = b + step_taken[r]
        F = F.addcmul(T, step.expand_as(T))

    return LogisticSolution(out_A, out_b, out_f, out_gap, out_gap <= tolerance, out_it)


def _line_search(F: Tensor, T: Tensor, y: Tensor, w: Tensor, slope: Tensor, quad_slope: Tensor, quad: Tensor) -> Tensor:
    """Safeguarded Newton in one dimension for every column: φ is convex, so a root of φ' is all that is sought.

    A step is taken where |φ'(α)| ≤ ½·|φ'(0)|, which on a convex φ is the strong Wolfe curvature condition.
    """
    step = torch.ones_like(slope)
    low = torch.zeros_like(slope)
    high = torch.full_like(slope, torch.inf)
    wy = w * y
    wt2 = None
    for _ in range(LINE_SEARCH_STEPS):
        s = torch.sigmoid(-(y * (F + step * T)))
        derivative = quad_slope + step * quad - (wy * s * T).sum(0)
        good = derivative.abs() <= 0.5 * slope.abs()
        if bool(good.all()):
            break
        if wt2 is None:
            wt2 = w * T.square()
        second = (wt2 * s * (1 - s)).sum(0) + quad
        low = torch.where(derivative < 0, step, low)
        high = torch.where(derivative > 0, step, high)
        newton = step - derivative / second.clamp_min(1e-30)
        inside = (newton > low) & (newton < high)
        middle = torch.where(torch.isfinite(high), 0.5 * (low + high), 2 * step)
        # A far extrapolation rests on a flat tail of the loss; it is bounded so that bisection can catch up.
        newton = torch.minimum(newton, 10 * step)
        step = torch.where(good, step, torch.where(inside, newton, middle))
    return step
