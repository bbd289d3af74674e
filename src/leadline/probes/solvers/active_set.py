"""The quadratic with an L1 penalty, exactly: an active set, and a Cholesky factor of its block of the matrix.

    minimise  ½ wᵀHw − cᵀw + l1·‖w‖₁

With the signs of w known this is a linear system; so signs are guessed, the system is solved, and coordinates that came
out with the other sign are dropped or passed. Every step lowers the objective, and there are finitely many signs.
Many coordinates enter and leave in one step, which a warm start nearly always allows.

References
----------
H. Lee et al. (2006), Efficient sparse coding algorithms, NeurIPS: the one-at-a-time form, feature-sign search.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

__all__ = ["Factor", "minimise_quadratic"]

MAX_STEPS = 200


class Factor:
    """Solves with H[at, at] for many sets `at` that differ little, from the Cholesky factor of one of them.

    Coordinates that left the factored set are held at 0 by a multiplier, and those that joined border the system; both
    cost one triangular solve each, kept for the next set. Once many have changed, the set is factored anew.
    It belongs to one matrix, which may grow by rows and columns at its end.
    """

    def __init__(self) -> None:
        self._base = np.empty(0, dtype=np.int64)
        self._factor = np.empty((0, 0))
        self._changed = np.empty(0, dtype=np.int64)
        self._half = np.empty((0, 0))

    def solve(self, H: np.ndarray, right: np.ndarray, at: np.ndarray, floor: float) -> np.ndarray:
        """H[at, at]⁻¹ right; `floor` is added to the diagonal, and grows where duplicates make the block singular."""
        if not len(at):
            return right
        size = len(self._base)
        if not size:
            return self._anew(H, right, at, floor)
        place = np.full(len(H), -1)
        place[self._base] = np.arange(size)
        wanted = np.zeros(len(H), dtype=bool)
        wanted[at] = True
        left, joined = self._base[~wanted[self._base]], at[place[at] < 0]
        changes = np.concatenate([left, joined])
        new = changes[~np.isin(changes, self._changed)]
        if len(self._changed) + len(new) > max(8, size // 5):
            return self._anew(H, right, at, floor)
        if len(new):
            border = np.zeros((size, len(new)), order="F")
            out = place[new] < 0
            border[:, out] = H[np.ix_(self._base, new[out])]
            border[place[new[~out]], np.flatnonzero(~out)] = 1.0
            half = dtrtrs(self._factor, border, lower=1, overwrite_b=1)[0]
            self._half = np.hstack([self._half, half]) if len(self._changed) else half
            self._changed = np.concatenate([self._changed, new])
        spread = np.zeros(len(H))
        spread[at] = right
        inner = dtrtrs(self._factor, spread[self._base], lower=1)[0]
        if not len(changes):
            return np.asarray(dtrtrs(self._factor, inner, lower=1, trans=1)[0])[place[at]]
        slot = np.full(len(H), -1)
        slot[self._changed] = np.arange(len(self._changed))
        V = self._half[:, slot[changes]]
        schur = -(V.T @ V)
        corner = np.arange(len(left), len(changes))
        schur[np.ix_(corner, corner)] += H[np.ix_(joined, joined)]
        schur[corner, corner] += floor
        beside = np.concatenate([np.zeros(len(left)), right[place[at] < 0]]) - V.T @ inner
        try:
            outer = np.linalg.solve(schur, beside)
        except np.linalg.LinAlgError:
            return self._anew(H, right, at, floor)
        spread[self._base] = dtrtrs(self._factor, inner - V @ outer, lower=1, trans=1)[0]
        spread[joined] = outer[len(left) :]
        return np.asarray(spread[at])

    def _anew(self, H: np.ndarray, right: np.ndarray, at: np.ndarray, floor: float) -> np.ndarray:
        self._changed, self._half = np.empty(0, dtype=np.int64), np.empty((0, 0))
        while True:
            block = H[np.ix_(at, at)].T  # symmetric: the transpose is laid out as LAPACK reads it
            block[np.diag_indices_from(block)] += floor
            self._factor, failed = dpotrf(block, lower=1, clean=0, overwrite_a=1)
            if not failed:
                self._base = at
                return np.asarray(dpotrs(self._factor, right, lower=1)[0])
            floor *= 100


def minimise_quadratic(
    H: np.ndarray, c: np.ndarray, l1: float, w: np.ndarray, *, factor: Factor, rank: int, tolerance: float = 1e-9
) -> np.ndarray:
    """(s,) the minimiser from the start `w`, its gradient within `tolerance`·l1 of the optimality conditions.

    Parameters
    ----------
    H : (s, s) symmetric, positive semi-definite. c : (s,). l1 > 0. w : (s,).
    factor : of this matrix, perhaps from an earlier call.
    rank : an upper bound of the rank of H; no more coordinates than that are let in at a time.
    """
    w = w.copy()
    gradient = H @ w - c
    floor = 1e-12 * max(float(H.diagonal().max(initial=0.0)), 1e-300)
    for _ in range(MAX_STEPS):
        held = w != 0
        sign = np.where(held, np.sign(w), -np.sign(gradient))
        excess = np.where(held, 0.0, np.abs(gradient) - l1)
        misfit = np.abs(gradient + l1 * sign)[held].max(initial=0.0)
        if not max(misfit, excess.max(initial=0.0)) > tolerance * l1:
            break
        entering = np.flatnonzero(excess > 0.5 * tolerance * l1)
        room = max(1, rank - int(held.sum()))
        if len(entering) > room:
            entering = entering[np.argsort(-excess[entering], kind="stable")[:room]]
        in_set = held.copy()
        in_set[entering] = True
        # A coordinate that enters moves along its sign or not at all, else the step would not descend.
        while True:
            at = np.flatnonzero(in_set)
            # Solved for the change, so that the rounding of one solve is corrected by the next.
            solved = w[at] + factor.solve(H, -(gradient + l1 * sign)[at], at, floor)
            wrong = ~held[at] & (solved * sign[at] <= 0)
            if not wrong.any():
                break
            in_set[at[wrong]] = False
        if not len(at):
            break
        before = w[at]
        move = solved - before
        crossed = solved * sign[at] < 0
        if not crossed.any():
            after = solved
        else:
            slope = float((gradient[at] + l1 * sign[at]) @ move)
            after, gain = _search(before, move, slope, float(move @ _times(H, at, move)), l1)
            dropped = np.where(crossed, 0.0, solved)
            change = dropped - before
            other = gradient[at] @ change + 0.5 * change @ _times(H, at, change)
            other += l1 * (np.abs(dropped).sum() - np.abs(before).sum())
            if other < gain:
                after = dropped
        if np.array_equal(after, before):
            break
        w[at] = after
        gradient = H @ w - c
    return w


def _times(H: np.ndarray, at: np.ndarray, x: np.ndarray) -> np.ndarray:
    """H[at, at] @ x."""
    full = np.zeros(len(H))
    full[at] = x
    return np.asarray((H @ full)[at])


def _search(w: np.ndarray, move: np.ndarray, slope: float, curvature: float, l1: float) -> tuple[np.ndarray, float]:
    """The exact minimiser along w + α·move, 0 ≤ α ≤ 1, and the change of the objective there.

    The slope along the line is linear between the α at which a coordinate crosses 0, and jumps by 2·l1·|move| there.
    """
    crossing = np.flatnonzero(w * move < 0)
    breaks = -w[crossing] / move[crossing]
    order = np.argsort(breaks, kind="stable")
    order = order[breaks[order] < 1]
    breaks, crossing = breaks[order], crossing[order]
    jumps = 2 * l1 * np.abs(move[crossing])
    ahead = slope + np.concatenate([[0.0], np.cumsum(jumps)])
    ends = np.append(breaks, 1.0)
    # The first piece whose slope is no longer negative at its end holds the minimum, inside it or at its start.
    stop = int(np.argmax(ahead + curvature * ends >= 0)) if (ahead + curvature * ends >= 0).any() else len(breaks)
    start = 0.0 if stop == 0 else float(breaks[stop - 1])
    inside = -ahead[stop] / curvature if curvature > 0 else 1.0
    alpha = min(max(inside, start), float(ends[stop]))
    after = w + alpha * move
    if stop > 0 and alpha == start:
        after[crossing[stop - 1]] = 0.0
    gain = alpha * slope + 0.5 * alpha**2 * curvature + float(jumps[:stop] @ (alpha - breaks[:stop]))
    return after, gain
