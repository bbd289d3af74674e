"""What the families with a smooth loss and an L2 penalty share: one solve for everything at a site.

Scaling inside folds is exact, and nearly free. All folds share the features standardised over all rows; centring is
absorbed by the free offsets, and a fold's own scale σ_f only changes its penalty, to ‖w ∘ σ_f/σ‖², a diagonal. Where
there are far more features than rows, each fold is solved in the basis of its own Gram matrix instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from leadline.errors import ProbeError
from leadline.probes.blocks import RowSource, blocks, is_mapped
from leadline.probes.fit import SiteFit, Status
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import FoldMoments, check_design, check_labels, fold_moments, training_rows
from leadline.probes.grid import penalties
from leadline.probes.parallel import map_sites
from leadline.probes.solvers.batched import DiagonalPenalty, Solution, minimise
from leadline.probes.solvers.features import DenseFeatures, Features, MappedFeatures, standardised
from leadline.probes.solvers.losses import Loss
from leadline.probes.solvers.precondition import EigenDiagonal, LowRank, Preconditioner, leading_eigenvectors
from leadline.probes.weights import ClassWeight, check_class_weight, class_weights

__all__ = ["DEFAULT_L2", "Regularised", "Rows"]

DEFAULT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-4, 2, 7))

# The solver holds about a dozen arrays of scores (problems × outputs × rows); problems beyond this many bytes go in a
# later chunk.
_PROBLEM_BYTES = 1 << 30
_WORK_ARRAYS = 12
# With more features than this times the rows, a fold's Gram matrix is the smaller problem.
_GRAM_SIDE = 2
_MAX_RANK = 256
# Threads take problems apart where each has this many, and the features are this many values or more.
_SPLIT = 3
_SPLIT_VALUES = 1 << 18


@dataclass(frozen=True)
class Rows:
    """Labels and weights of a chunk of problems.

    Attributes
    ----------
    codes : (p, n) float32 of class codes or 0/1 labels (missing labels as 0).
    weights : (p, n) float32, ≥ 0, each row summing to 1; 0 for rows that are not trained on.
    n_classes : over all rows.
    """

    codes: Tensor
    weights: Tensor
    n_classes: int


@dataclass(frozen=True)
class _Problems:
    """The problems (fold or refit, target) of a solve, the target the fastest; made as they are needed."""

    Y: np.ndarray
    fold: np.ndarray
    n_folds: int
    n_classes: int
    base: np.ndarray | None
    class_weight: ClassWeight

    def __len__(self) -> int:
        return (self.n_folds + 1) * self.Y.shape[1]

    def take(self, indices: np.ndarray, device: torch.device) -> Rows:
        n, m = self.Y.shape
        base = np.ones(n) if self.base is None else self.base
        codes = np.nan_to_num(self.Y[:, indices % m].T).astype(np.float32)
        weights = np.empty((len(indices), n), dtype=np.float32)
        for row, (k, j) in enumerate(zip(indices // m, indices % m, strict=True)):
            own = np.where(training_rows(self.fold, k), base, 0.0)
            each = class_weights(self.Y[:, j], own, self.n_classes, self.class_weight)
            weights[row] = each / each.sum()
        return Rows(torch.from_numpy(codes).to(device), torch.from_numpy(weights).to(device), self.n_classes)


@dataclass(frozen=True)
class Regularised(LinearFamily):
    """The fields and the fit that the smooth families share; see `Logistic` for what they mean."""

    l2: float | tuple[float, ...] | None = None
    class_weight: ClassWeight = None
    tolerance: float = 1e-5
    device: str = "cpu"
    reads_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _ = self.grid
        check_class_weight(self.class_weight, self.name)
        if not 0 < self.tolerance < 1:
            raise ProbeError(f"tolerance is {self.tolerance}; expected a number between 0 and 1, such as 1e-5.")

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def kinds(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def parameter(self) -> str:
        return "l2"

    @property
    def loss(self) -> str:
        raise NotImplementedError

    @property
    def grid(self) -> tuple[float, ...]:
        """The penalties that are tried."""
        return penalties(self.l2, DEFAULT_L2)

    def _loss_of(self, rows: Rows) -> Loss:
        """The loss of a chunk of problems."""
        raise NotImplementedError

    def _outputs(self, coef: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From (…, q, r) and (…, t) to the coefficients (…, c, r) and intercepts (…, c) of a problem's outputs."""
        return coef, offsets

    def _n_outputs(self, n_classes: int) -> int:
        """c of one problem."""
        return 1

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (l2 × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        kind = "multilabel" if "multilabel" in self.kinds and np.isnan(Y).any() else self.kinds[0]
        n_classes = check_labels(Y, kind, self.name, fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        if X.shape[1] > _GRAM_SIDE * len(Y):
            # So few rows fit in memory, wherever they lie.
            return self._by_fold(np.asarray(X[:]), Y, fold, n_folds, n_classes, moments, weights)
        return self._shared(X, Y, fold, n_folds, n_classes, moments, weights)

    def _solve(
        self,
        features: Features,
        problems: _Problems,
        precondition: Preconditioner,
        scale: Tensor | None,
    ) -> Solution:
        """Solve (l2, problem) in chunks, a thread a chunk.

        Two threads that share a product of few columns wait for each other more than they gain; each with a half of
        the problems, they never meet.
        """
        total = len(self.grid) * len(problems)
        n_threads = 1 if features.device.type != "cpu" else torch.get_num_threads()
        bytes_each = 4 * _WORK_ARRAYS * features.n * self._n_outputs(problems.n_classes)
        size = max(1, _PROBLEM_BYTES // (bytes_each * n_threads))
        n_chunks = -(-total // size)
        if total >= _SPLIT * n_threads and features.n * features.r >= _SPLIT_VALUES:
            n_chunks = max(n_chunks, n_threads)
        # Every n-th problem, so that each chunk has its share of the weak penalties, which take the longest.
        chunks = [np.arange(start, total, n_chunks) for start in range(n_chunks)]
        if n_chunks == 1:
            return self._solve_chunk(features, problems, precondition, scale, chunks[0])
        parts = list(map_sites(lambda own: self._solve_chunk(features, problems, precondition, scale, own), chunks))
        back = torch.from_numpy(np.argsort(np.concatenate(chunks), kind="stable"))
        return Solution(*(torch.cat([getattr(p, f) for p in parts])[back] for f in Solution.__dataclass_fields__))

    def _solve_chunk(
        self,
        features: Features,
        problems: _Problems,
        precondition: Preconditioner,
        scale: Tensor | None,
        pairs: np.ndarray,
    ) -> Solution:
        """Solve some pairs of l2 and problem; what float32 leaves uncertified is solved on in float64."""
        device, m = features.device, problems.Y.shape[1]
        which, own = np.divmod(pairs, len(problems))
        loss = self._loss_of(problems.take(own, device))
        l2 = torch.tensor(self.grid, dtype=torch.float64)[which].to(device)
        penalty = None if scale is None else DiagonalPenalty(scale[own].to(device))
        # Folds of one penalty and target have Hessians that are alike.
        group = torch.from_numpy(which * m + own % m).to(device)
        solution = minimise(
            features,
            loss.to(features.dtype),
            l2.to(features.dtype),
            precondition,
            penalty=penalty,
            group=group,
            tolerance=self.tolerance,
        ).double()
        failed = torch.nonzero(solution.status != int(Status.CONVERGED)).flatten()
        if len(failed) and features.dtype != torch.float64:
            finite = torch.isfinite(solution.objective[failed]) & torch.isfinite(solution.gap[failed])
            better = loss.take(failed).to(torch.float64)
            more = minimise(
                features.double(),
                better,
                l2[failed],
                precondition.take(failed).to(torch.float64),
                penalty=None if penalty is None else penalty.take(failed).to(torch.float64),
                group=group[failed],
                tolerance=self.tolerance,
                max_iterations=2000,
                start=(
                    torch.where(finite[:, None, None], solution.coef[failed], 0),
                    torch.where(finite[:, None], solution.offsets[failed], better.start()),
                ),
            )
            for name in ("coef", "offsets", "objective", "gap", "status"):
                getattr(solution, name)[failed] = getattr(more, name)
            solution.iterations[failed] += more.iterations
        return solution

    def _shared(
        self,
        X: RowSource,
        Y: np.ndarray,
        fold: np.ndarray,
        n_folds: int,
        n_classes: int,
        moments: FoldMoments,
        weights: np.ndarray | None,
    ) -> SiteFit:
        m, grid, device = Y.shape[1], self.grid, torch.device(self.device)
        features: Features
        if is_mapped(X):
            features = MappedFeatures(X, moments.mean, moments.scale, device=device)
        else:
            features = DenseFeatures(standardised(np.asarray(X), moments.mean, moments.scale).to(device))
        problems = _Problems(Y, fold, n_folds, n_classes, weights, self.class_weight)
        ratio = np.square(moments.fold_scale / moments.scale).astype(np.float32)
        scale = torch.from_numpy(np.repeat(ratio, m, axis=0))
        n_columns = len(grid) * len(problems) * self._n_outputs(n_classes)
        precondition = _low_rank(features, weights, n_columns)
        solution = self._solve(features, problems, precondition, scale)
        lead = (len(grid), n_folds + 1, m)
        coef, intercept = self._raw(solution, lead, moments.scale, moments.mean)
        scores = _held_out(X, fold, n_folds, moments, coef, intercept)
        return _site_fit(grid, scores, coef, intercept, solution, lead)

    def _raw(
        self, solution: Solution, lead: tuple[int, int, int], scale: np.ndarray, mean: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (L, K + 1, c, d) and intercepts (L, K + 1, c) for raw activations."""
        standard = solution.coef.double().cpu().numpy()
        offsets = solution.offsets.double().cpu().numpy()
        coef, intercept = self._outputs(standard / scale, offsets)
        intercept = intercept - coef @ mean
        return coef.reshape(*lead[:2], -1, coef.shape[-1]), intercept.reshape(*lead[:2], -1)

    def _by_fold(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        fold: np.ndarray,
        n_folds: int,
        n_classes: int,
        moments: FoldMoments,
        weights: np.ndarray | None,
    ) -> SiteFit:
        d = X.shape[1]
        m, grid, device = Y.shape[1], self.grid, torch.device(self.device)
        n_outputs = self._n_outputs(n_classes) * m
        coef = np.empty((len(grid), n_folds + 1, n_outputs, d))
        intercept = np.empty((len(grid), n_folds + 1, n_outputs))
        solutions: list[Solution] = []
        for k in range(n_folds + 1):
            train = training_rows(fold, k)
            own = Y[train]
            mean, scale = moments.fold_mean[k], moments.fold_scale[k]
            Z = standardised(X[train], mean, scale).to(device)
            values, Q = _eigenbasis(Z @ Z.T / d)
            keep = values > values.max() * 1e-7
            root = torch.sqrt(values[keep] * d)
            Q = Q[:, keep]
            whole = np.full(len(own), -1)
            base = None if weights is None else weights[train]
            problems = _Problems(own, whole, 0, n_classes, base, self.class_weight)
            R = Q * root
            solution = self._solve(DenseFeatures(R), problems, EigenDiagonal(root.square() / len(Z)), None)
            q = solution.coef.shape[1]
            low = (solution.coef / root.double()).float().flatten(0, 1)
            solution.coef = (low @ Q.T @ Z).double().reshape(-1, q, d)
            coef[:, k : k + 1], intercept[:, k : k + 1] = self._raw(solution, (len(grid), 1, m), scale, mean)
            solutions.append(solution)
        scores = _held_out(X, fold, n_folds, moments, coef, intercept)
        lead = (len(grid), n_folds + 1, m)
        stacked = Solution(
            *(
                torch.stack([getattr(s, f).reshape(len(grid), m) for s in solutions], dim=1)
                if f not in ("coef", "offsets")
                else torch.empty(0)
                for f in Solution.__dataclass_fields__
            )
        )
        return _site_fit(grid, scores, coef, intercept, stacked, lead)


def _low_rank(features: Features, weights: np.ndarray | None, n_columns: int) -> LowRank:
    """All eigenvectors where they are cheap for the number of columns that they serve, else the leading ones."""
    n, d = features.n, features.r
    base = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    share = torch.from_numpy(base.astype(np.float32)).to(features.device)
    if d <= 256 or (d <= 2048 and n_columns >= d):
        values, V = _eigenbasis(features.gram(share))
        return LowRank(V.T.contiguous(), values, torch.zeros((), dtype=features.dtype, device=features.device))
    return LowRank(*leading_eigenvectors(features, share, min(_MAX_RANK, max(32, d // 6), n)))


def _eigenbasis(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (clipped at 0) and eigenvectors of a symmetric matrix, by divide and conquer on the CPU."""
    if gram.is_cuda:
        values, vectors = torch.linalg.eigh(gram)
    else:
        # LAPACK's syevd; torch's own choice takes several times as long for large float32 matrices.
        found = scipy.linalg.eigh(gram.numpy(), driver="evd", overwrite_a=True, check_finite=False)
        values, vectors = torch.from_numpy(found[0]), torch.from_numpy(np.ascontiguousarray(found[1]))
    return values.clamp_min(0), vectors


def _held_out(
    X: RowSource, fold: np.ndarray, n_folds: int, moments: FoldMoments, coef: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """(L, n, c) float32: each fold's rows scored by the fit that did not see them; NaN without folds."""
    n_settings, _, c, d = coef.shape
    scores = np.full((n_settings, X.shape[0], c), np.nan, dtype=np.float32)
    own = [(coef[:, k].reshape(-1, d) * moments.scale).astype(np.float32).T for k in range(n_folds)]
    shift = [intercept[:, k] + coef[:, k] @ moments.mean for k in range(n_folds)]
    for rows, part in blocks(X) if n_folds else ():
        # Scaled and centred first: a float32 product of raw activations would lose digits to large means.
        Z = standardised(part, moments.mean, moments.scale).numpy()
        for k in range(n_folds):
            at = np.flatnonzero(fold[rows] == k)
            found = (Z[at] @ own[k]).reshape(len(at), n_settings, c).transpose(1, 0, 2)
            scores[:, rows.start + at] = found + shift[k][:, None].astype(np.float32)
    return scores


def _site_fit(
    grid: tuple[float, ...],
    scores: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    solution: Solution,
    lead: tuple[int, int, int],
) -> SiteFit:
    def stat(values: Tensor) -> np.ndarray:
        return np.asarray(values.cpu().numpy().reshape(lead))

    return SiteFit(
        settings=np.array(grid),
        scores=scores,
        coef=coef[:, -1],
        intercept=intercept[:, -1],
        fold_coef=coef[:, :-1].astype(np.float32),
        fold_intercept=intercept[:, :-1],
        objective=stat(solution.objective).astype(np.float64),
        gap=stat(solution.gap).astype(np.float64),
        status=stat(solution.status),
        iterations=stat(solution.iterations),
    )
