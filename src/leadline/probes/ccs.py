"""Contrast-consistent search: a probe on contrast pairs that needs no label, by batched L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from leadline.errors import ProbeError
from leadline.probes.fit import Status
from leadline.probes.folds import training_rows
from leadline.probes.pairs import PairFamily, PairMoments, PairSolution

__all__ = ["CCS"]

_MEMORY = 10
_STEPS = 2.0 ** np.arange(3, -21, -1)


@dataclass(frozen=True)
class CCS(PairFamily):
    """Minimise mean((p₁ + p₂ − 1)² + min(p₁, p₂)²) + (l2/2)·‖w‖², with p = σ(w·z + b) of the two sides of a pair.

    The first term asks that a statement and its contrast have probabilities that sum to 1, the second that they are
    not both ½. z are the activations, each side centred on its own mean over the training pairs, so that nothing tells
    the phrasings apart, and divided by the spread of the feature, one for both sides so that a single linear map
    scores raw activations of either.

    The objective is not convex: every fit is begun from several random points, all restarts of all folds in one batch,
    and the one with the smallest training loss is taken (`PairFit.losses` has every restart's). A restart begins at
    the same point in every fold. It has converged when no coordinate of the gradient exceeds the tolerance; min(p₁,
    p₂) has edges, but they bend downward, so that no minimum lies on one. Which end is true only labels can say; see
    `PairFit.sign_rule`.

    Parameters
    ----------
    l2 : the penalty, ≥ 0; the intercept is free. The paper's text has none, its code a weight decay of 0.01. With none
        and as many features as pairs there is no finite minimum, and fits end at the iteration limit.
    n_restarts : random starting points a fit.
    scale : whether features are divided by their spread, or only centred.
    max_iterations, tolerance : of the solver.
    seed : of the starting points; no global state is touched.

    Raises
    ------
    ProbeError : a penalty below 0, or a number of restarts, iterations or a tolerance that is not positive.

    References
    ----------
    C. Burns, H. Ye, D. Klein and J. Steinhardt (2022), Discovering Latent Knowledge in Language Models Without
    Supervision, arXiv:2212.03827.
    """

    l2: float = 0.01
    n_restarts: int = 10
    scale: bool = True
    max_iterations: int = 500
    tolerance: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.l2 < np.inf:
            raise ProbeError(f"l2 is {self.l2}; expected a number of 0 or more.")
        if self.n_restarts < 1 or self.max_iterations < 1 or not self.tolerance > 0:
            raise ProbeError(
                f"got {self.n_restarts} restarts, {self.max_iterations} iterations and tolerance {self.tolerance}; "
                "each must be positive."
            )

    @property
    def name(self) -> str:
        return "ccs"

    def _solve(
        self, first: np.ndarray, second: np.ndarray, fold: np.ndarray, omega: np.ndarray, moments: PairMoments
    ) -> PairSolution:
        n_fits, d = moments.scale.shape
        scale = moments.scale if self.scale else np.ones_like(moments.scale)
        if not ((first - second) - (moments.first[-1] - moments.second[-1])).any():
            raise ProbeError("the centred sides of the pairs do not differ, so ccs has no direction.")
        objective = _Objective(first, second, fold, omega, moments, scale, self.l2, self.n_restarts)
        generator = torch.Generator().manual_seed(self.seed)
        start = torch.randn(self.n_restarts, d + 1, generator=generator, dtype=torch.float64) / d**0.5
        start[:, -1] = 0
        start = start.repeat(n_fits, 1)
        # Nothing but the penalty would pull the weight of a constant feature back to 0.
        start[:, :-1] *= torch.from_numpy(moments.varies).repeat_interleave(self.n_restarts, dim=0)
        theta, losses, status, iterations = _minimise(objective, start, self.max_iterations, self.tolerance)
        by_fit = (n_fits, self.n_restarts)
        losses = losses.reshape(by_fit)
        taken = np.where(np.isfinite(losses), losses, np.inf).argmin(axis=1)
        best = theta.reshape(*by_fit, d + 1)[np.arange(n_fits), taken]
        return PairSolution(
            coef=best[:, :-1] / scale,
            bias=best[:, -1],
            losses=losses,
            taken=taken,
            status=status.reshape(by_fit),
            iterations=iterations.reshape(by_fit),
        )


class _Objective:
    """Value and gradient of B = (K + 1) × R problems, on scores that are linear in the parameters.

    All problems share the rows in one common standardised basis; a fold's own centre and scale enter as a shift of its
    scores and a factor on its gradient, so that each evaluation is one matrix product a side for all of them.
    """

    def __init__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        fold: np.ndarray,
        omega: np.ndarray,
        moments: PairMoments,
        scale: np.ndarray,
        l2: float,
        n_restarts: int,
    ) -> None:
        def each(a: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(a).repeat_interleave(n_restarts, dim=0)

        self.l2 = l2
        self.sides = [
            torch.from_numpy((X - means[-1]) / scale[-1])
            for X, means in ((first, moments.first), (second, moments.second))
        ]
        self.shifts = [each((means - means[-1]) / scale[-1]) for means in (moments.first, moments.second)]
        self.relative = each(scale / scale[-1])
        share = np.stack([training_rows(fold, k) * omega for k in range(len(scale))], axis=1)
        self.share = each((share / share.sum(axis=0)).T).T.contiguous()

    def scores(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """(n, B) of each side for parameters (B, d + 1), which hold the intercept last."""
        w = theta[:, :-1] / self.relative
        return [Z @ w.T - (w * shift).sum(1) + theta[:, -1] for Z, shift in zip(self.sides, self.shifts, strict=True)]

    def value(self, scores: list[torch.Tensor], square: torch.Tensor) -> torch.Tensor:
        """(B,) objectives from scores and ‖w‖² (B,)."""
        p, q = (torch.sigmoid(s) for s in scores)
        each = torch.square(p + q - 1) + torch.square(torch.minimum(p, q))
        return (self.share * each).sum(0) + 0.5 * self.l2 * square

    def gradient(self, scores: list[torch.Tensor], theta: torch.Tensor) -> torch.Tensor:
        """(B, d + 1)."""
        p, q = (torch.sigmoid(s) for s in scores)
        total = torch.zeros_like(theta)
        for own, other, Z, shift in ((p, q, self.sides[0], self.shifts[0]), (q, p, self.sides[1], self.shifts[1])):
            slope = 2 * self.share * (p + q - 1 + own * (own < other)) * own * (1 - own)
            summed = slope.sum(0)
            total[:, :-1] += (slope.T @ Z - summed[:, None] * shift) / self.relative
            total[:, -1] += summed
        total[:, :-1] += self.l2 * theta[:, :-1]
        return total


def _minimise(
    objective: _Objective, theta: torch.Tensor, max_iterations: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """L-BFGS on every problem at once; the best of a ladder of steps is taken, on scores that are at hand already.

    Returns
    -------
    Parameters (B, d + 1), objectives (B,), statuses (B,) and iterations (B,).
    """
    scores = objective.scores(theta)
    value = objective.value(scores, torch.square(theta[:, :-1]).sum(1))
    gradient = objective.gradient(scores, theta)
    pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    status = torch.full((len(theta),), int(Status.ITERATION_LIMIT), dtype=torch.int8)
    iterations = torch.zeros(len(theta), dtype=torch.int32)
    active = torch.ones(len(theta), dtype=torch.bool)
    for iteration in range(max_iterations + 1):
        finite = torch.isfinite(value) & torch.isfinite(gradient).all(1)
        status[active & ~finite] = int(Status.NOT_FINITE)
        done = gradient.abs().amax(1) <= tolerance
        status[active & finite & done] = int(Status.CONVERGED)
        active &= finite & ~done
        if not active.any() or iteration == max_iterations:
            break
        iterations[active] = iteration + 1
        direction = _direction(gradient, pairs)
        uphill = (direction * gradient).sum(1) >= 0
        direction = torch.where(uphill[:, None], -gradient, direction)
        steepest = uphill | (torch.stack([rho for *_, rho in pairs]).sum(0) == 0 if pairs else torch.tensor(True))
        along = objective.scores(direction)
        squares = [
            (a[:, :-1] * b[:, :-1]).sum(1) for a, b in ((theta, theta), (theta, direction), (direction, direction))
        ]
        best, step = value.clone(), torch.zeros_like(value)
        for t in _STEPS:
            trial = objective.value(
                [s + t * a for s, a in zip(scores, along, strict=True)],
                squares[0] + 2 * t * squares[1] + t * t * squares[2],
            )
            better = active & (trial < best)
            best, step = torch.where(better, trial, best), torch.where(better, t, step)
            if t <= 0.25 and (step[active] > t).all():
                break
        stuck = active & (step == 0)
        # A problem may be stuck by its memory, which is then dropped. It stalls if its gradient leads nowhere either.
        stalled = stuck & steepest
        status[stalled] = int(Status.STALLED)
        active &= ~stalled
        moved = step[:, None] * direction
        theta = theta + moved
        scores = [s + step * a for s, a in zip(scores, along, strict=True)]
        if iteration % 50 == 49:  # sums of steps drift
            scores = objective.scores(theta)
        value = torch.where(step > 0, best, value)
        after = objective.gradient(scores, theta)
        change = after - gradient
        curvature = (moved * change).sum(1)
        usable = curvature > 1e-12 * torch.linalg.vector_norm(moved, dim=1) * torch.linalg.vector_norm(change, dim=1)
        rho = torch.where(usable, 1 / torch.where(usable, curvature, 1.0), 0.0)
        pairs = [(s, y, torch.where(stuck, 0.0, r)) for s, y, r in pairs[-_MEMORY + 1 :]]
        pairs.append((moved, change, rho))
        gradient = after
    return theta.numpy(), value.numpy(), status.numpy(), iterations.numpy()


def _direction(gradient: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """−H·gradient (B, d + 1) by the two-loop recursion; a pair with rho 0 counts for nothing in its problem."""
    direction = -gradient
    factors = []
    for moved, change, rho in reversed(pairs):
        alpha = rho * (moved * direction).sum(1)
        direction = direction - alpha[:, None] * change
        factors.append(alpha)
    scale = torch.ones(len(gradient), dtype=gradient.dtype)
    for _, change, rho in pairs:
        known = rho > 0
        scale = torch.where(
            known, 1 / (torch.where(known, rho, 1.0) * torch.square(change).sum(1).clamp_min(1e-300)), scale
        )
    direction = direction * scale[:, None]
    for (moved, change, rho), alpha in zip(pairs, reversed(factors), strict=True):
        beta = rho * (change * direction).sum(1)
        direction = direction + (alpha - beta)[:, None] * moved
    return direction
