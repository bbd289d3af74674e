"""Where a fit's time goes, and what share of the machine's matrix products it reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from inputs import Problem
from leadline.probes import SiteFit
from leadline.probes.solvers.features import DenseFeatures

__all__ = ["gemm_gflops", "iteration_flops", "time_split"]

_PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm", "aten::mv", "aten::addmv"}
_FACTORS = ("linalg", "cholesky", "geqrf", "ormqr", "householder", "triangular")
# Where d is more than this times n, `leadline.probes.regularised` solves each fold in the basis of its Gram matrix.
_GRAM_SIDE = 2


def gemm_gflops(size: int = 4096, repeats: int = 5) -> float:
    """GFlop/s of a square float32 product: the best of several, after one to warm up."""
    A, B = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        torch.mm(A, B)
        seconds.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(seconds[1:]) / 1e9


def iteration_flops(problem: Problem, fits: list[SiteFit]) -> float:
    """Floating-point operations of the iterations' products: two of 2·n·r for each column and iteration.

    r is d, or the fold's rows where the solver works in their Gram basis. Set-up, preconditioning, fresh inverses and
    columns that wait for others to leave are not in it, so a share computed from it is a lower bound.
    """
    n, d = problem.n, problem.d
    total = 0.0
    for fit in fits:
        for k in range(problem.n_folds + 1):
            rows = int((problem.fold != k).sum())
            per_column = 4.0 * rows * rows if d > _GRAM_SIDE * n else 4.0 * n * d
            total += per_column * float(np.asarray(fit.iterations[:, k], dtype=np.float64).sum())
    return total


def time_split(fit: Callable[[], object]) -> dict[str, float]:
    """Shares of the wall time of one call: torch's products, its factorisations, its element-wise work, and the rest.

    On one thread, where nothing is handed to others that the profiler does not see. Products of large features are
    NumPy's, and timed apart. The rest is numpy and LAPACK called from it (moments, standardising, eigenbases, scoring)
    and Python. The profiler itself slows small operations somewhat.
    """
    by_numpy = [0.0]
    product = DenseFeatures._product

    def timed(features: DenseFeatures, left: Tensor, right: Tensor) -> Tensor:
        began = time.perf_counter()
        found = product(features, left, right)
        by_numpy[0] += (time.perf_counter() - began) * features._by_numpy
        return found

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    DenseFeatures._product = timed  # type: ignore[method-assign]
    try:
        with threadpool_limits(1), profile(activities=[ProfilerActivity.CPU]) as recorded:
            began = time.perf_counter()
            fit()
            wall = time.perf_counter() - began
    finally:
        DenseFeatures._product = product  # type: ignore[method-assign]
        torch.set_num_threads(threads)
    sums = {"products": by_numpy[0], "factorisations": 0.0, "elementwise": 0.0}
    for event in recorded.key_averages():
        if not event.key.startswith("aten::"):
            continue
        if event.key in _PRODUCTS:
            kind = "products"
        elif any(part in event.key for part in _FACTORS):
            kind = "factorisations"
        else:
            kind = "elementwise"
        sums[kind] += event.self_cpu_time_total / 1e6
    shares = {kind: seconds / wall for kind, seconds in sums.items()}
    return {**shares, "rest": max(0.0, 1 - sum(shares.values())), "seconds": wall}
