"""Logistic regression with an L2 penalty, for every fold and penalty of a site in one solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from leadline.probes.fit import SiteFit, Status
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import FoldMoments, check_design, check_labels, fold_moments, training_rows
from leadline.probes.grid import penalties
from leadline.probes.solvers.logistic import LogisticSolution, solve_logistic

__all__ = ["DEFAULT_L2", "Logistic"]

DEFAULT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-4, 2, 7))

# Work arrays of the solver hold n × C floats, about ten of them; columns beyond this many bytes go in a later chunk.
_COLUMN_BYTES = 1 << 30


@dataclass(frozen=True)
class Logistic(LinearFamily):
    """Binary logistic regression: mean log-loss + (l2/2)·‖w‖², intercept free, features standardised inside each fold.

    The penalty acts on the standardised features, each fold's scaled by its own training rows. `C` of scikit-learn is
    1 / (n · l2) with n the number of training rows.

    Parameters
    ----------
    l2 : one penalty, several (one is then chosen, and the choice corrected), or None for 1e-4, 1e-3, … 1e2.
    tolerance : a fit has converged when (objective − minimum) / objective is proved to be at most this.
    device : where to solve, as torch names it.

    Raises
    ------
    ProbeError : a penalty that is not positive, or a target that is not binary.

    References
    ----------
    D. Böhning (1992), Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44: the diagonal bound.
    """

    l2: float | tuple[float, ...] | None = None
    tolerance: float = 1e-5
    device: str = "cpu"

    def __post_init__(self) -> None:
        _ = self.grid

    @property
    def name(self) -> str:
        return "logistic"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary",)

    @property
    def parameter(self) -> str:
        return "l2"

    @property
    def loss(self) -> str:
        return "log_loss"

    @property
    def grid(self) -> tuple[float, ...]:
        """The penalties that are tried."""
        return penalties(self.l2, DEFAULT_L2)

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (l2 × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, "binary", self.name, fold, weights)
        moments = fold_moments(X, fold, n_folds)
        n, d = X.shape
        # One eigenbasis for all folds costs d³; the folds' own Gram matrices cost (K + 1)·n³ and are exact too.
        fit = self._shared if d <= 2 * n else self._by_fold
        return fit(X, Y, fold, n_folds, moments)

    def _solve(
        self,
        R: Tensor,
        eigenvalues: Tensor,
        labels: Tensor,
        weights: Tensor,
        l2: Tensor,
        V: Tensor | None = None,
        D: Tensor | None = None,
    ) -> LogisticSolution:
        """Solve in chunks of columns; those that float32 leaves uncertified are solved again in float64."""
        n, total = weights.shape
        size = max(1, _COLUMN_BYTES // (40 * n))
        parts: list[LogisticSolution] = []
        for start in range(0, total, size):
            columns = slice(start, min(start + size, total))
            parts.append(_solve_chunk(R, eigenvalues, labels, weights, l2, V, D, columns, self.tolerance))
        solution = LogisticSolution(
            *(torch.cat([getattr(p, f) for p in parts], dim=-1) for f in LogisticSolution.__dataclass_fields__)
        )
        failed = torch.nonzero(~solution.converged).flatten()
        if len(failed) and R.dtype != torch.float64:
            again = _solve_chunk(
                R.double(),
                eigenvalues.double(),
                labels[:, failed].double(),
                weights[:, failed].double(),
                l2[failed].double(),
                None if V is None else V.double(),
                None if D is None else D[:, failed].double(),
                slice(0, len(failed)),
                self.tolerance,
            )
            solution.coef[:, failed] = again.coef.to(R.dtype)
            for name in ("intercept", "objective", "gap"):
                getattr(solution, name)[failed] = getattr(again, name).to(R.dtype)
            solution.converged[failed] = again.converged
            solution.iterations[failed] += again.iterations
        return solution

    def _shared(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, n_folds: int, moments: FoldMoments) -> SiteFit:
        n, d = X.shape
        m, grid = Y.shape[1], self.grid
        device = torch.device(self.device)
        Z = torch.from_numpy(((X - moments.mean) / moments.scale).astype(np.float32)).to(device)
        eigenvalues, V = _eigenbasis((Z.T @ Z) / n)
        R = Z @ V
        # Columns run over (l2, fold or refit, target), the last the fastest.
        shape = (len(grid), n_folds + 1, m)
        l2_index, fold_index, target_index = (x.ravel() for x in np.indices(shape))
        train = np.stack([training_rows(fold, k) for k in range(n_folds + 1)], axis=1).astype(np.float64)
        weights = torch.from_numpy((train / train.sum(0)).astype(np.float32)).to(device)[:, fold_index]
        labels = torch.from_numpy((2 * Y - 1).astype(np.float32)).to(device)[:, target_index]
        l2 = torch.tensor(grid, dtype=torch.float32, device=device)[l2_index]
        ratio = np.square(moments.fold_scale / moments.scale).T.astype(np.float32)
        D = torch.from_numpy(ratio).to(device)[:, fold_index]
        solution = self._solve(R, eigenvalues, labels, weights, l2, V, D)
        standard = V @ solution.coef
        fitted = (Z @ standard + solution.intercept).cpu().numpy().reshape(n, *shape)
        scores = np.empty((len(grid), n, m), dtype=np.float32)
        for k in range(n_folds):
            rows = fold == k
            scores[:, rows] = fitted[rows, :, k].transpose(1, 0, 2)
        coef = (standard.double().cpu().numpy() / moments.scale[:, None]).T.reshape(*shape, d)
        intercept = solution.intercept.double().cpu().numpy().reshape(shape) - coef @ moments.mean
        return _site_fit(grid, scores, coef, intercept, solution, shape)

    def _by_fold(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, n_folds: int, moments: FoldMoments) -> SiteFit:
        n, d = X.shape
        m, grid = Y.shape[1], self.grid
        device = torch.device(self.device)
        shape = (len(grid), n_folds + 1, m)
        scores = np.empty((len(grid), n, m), dtype=np.float32)
        coef = np.empty((*shape, d))
        intercept = np.empty(shape)
        solutions = []
        l2_index, target_index = (x.ravel() for x in np.indices((len(grid), m)))
        l2 = torch.tensor(grid, dtype=torch.float32, device=device)[l2_index]
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            mean, scale = moments.fold_mean[k], moments.fold_scale[k]
            Z = torch.from_numpy(((X[rows] - mean) / scale).astype(np.float32)).to(device)
            values, Q = _eigenbasis(Z @ Z.T / d)
            keep = values > values.max() * 1e-7
            root = torch.sqrt(values[keep] * d)
            Q = Q[:, keep]
            labels = torch.from_numpy((2 * Y[rows] - 1).astype(np.float32)).to(device)[:, target_index]
            weights = torch.full((len(Z), len(l2)), 1 / len(Z), device=device)
            solution = self._solve(Q * root, root.square() / len(Z), labels, weights, l2)
            standard = Z.T @ (Q @ (solution.coef / root[:, None]))
            raw = (standard.double().cpu().numpy() / scale[:, None]).T.reshape(len(grid), m, d)
            coef[:, k] = raw
            intercept[:, k] = solution.intercept.double().cpu().numpy().reshape(len(grid), m) - raw @ mean
            if k < n_folds:
                scores[:, ~rows] = np.einsum("nd,lmd->lnm", X[~rows] - mean, raw) + (
                    intercept[:, k] + raw @ mean
                ).reshape(len(grid), 1, m)
            solutions.append(solution)
        stacked = LogisticSolution(
            *(
                torch.stack(
                    [getattr(s, f).reshape(*getattr(s, f).shape[:-1], len(grid), m) for s in solutions], dim=-2
                ).flatten(-3)
                if f != "coef"
                else torch.empty(0)
                for f in LogisticSolution.__dataclass_fields__
            )
        )
        return _site_fit(grid, scores, coef, intercept, stacked, shape)


def _eigenbasis(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (clipped at 0) and eigenvectors of a symmetric matrix, by divide and conquer on the CPU."""
    if gram.is_cuda:
        values, vectors = torch.linalg.eigh(gram)
    else:
        # LAPACK's syevd; torch's own choice takes several times as long for large float32 matrices.
        found = scipy.linalg.eigh(gram.numpy(), driver="evd", overwrite_a=True, check_finite=False)
        values, vectors = torch.from_numpy(found[0]), torch.from_numpy(np.ascontiguousarray(found[1]))
    return values.clamp_min(0), vectors


def _fold_penalty(V: Tensor, Vt: Tensor, scale: Tensor, A: Tensor, columns: Tensor) -> Tensor:
    """Vᵀ diag((σ_fold/σ)²) V A: a fold's own scaling, as a penalty in the basis that all folds share."""
    return Vt @ (V @ A).mul_(scale[:, columns])


def _solve_chunk(
    R: Tensor,
    eigenvalues: Tensor,
    labels: Tensor,
    weights: Tensor,
    l2: Tensor,
    V: Tensor | None,
    D: Tensor | None,
    columns: slice,
    tolerance: float,
) -> LogisticSolution:
    penalty: Callable[[Tensor, Tensor], Tensor] | None = None
    floor: Tensor | None = None
    if V is not None and D is not None:
        scale = D[:, columns].contiguous()
        floor = scale.amin(0)
        penalty = partial(_fold_penalty, V, V.T.contiguous(), scale)
    return solve_logistic(
        R,
        eigenvalues,
        labels[:, columns].contiguous(),
        weights[:, columns].contiguous(),
        l2[columns],
        penalty=penalty,
        penalty_floor=floor,
        tolerance=tolerance,
    )


def _site_fit(
    grid: tuple[float, ...],
    scores: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    solution: LogisticSolution,
    shape: tuple[int, int, int],
) -> SiteFit:
    def stat(name: str) -> np.ndarray:
        return np.asarray(getattr(solution, name).cpu().numpy().reshape(shape))

    return SiteFit(
        settings=np.array(grid),
        scores=scores,
        coef=coef[:, -1],
        intercept=intercept[:, -1],
        fold_coef=coef[:, :-1].astype(np.float32),
        fold_intercept=intercept[:, :-1],
        objective=stat("objective").astype(np.float64),
        gap=stat("gap").astype(np.float64),
        status=np.where(stat("converged"), Status.CONVERGED, Status.ITERATION_LIMIT).astype(np.int8),
        iterations=stat("iterations"),
    )
