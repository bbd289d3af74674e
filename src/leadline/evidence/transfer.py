"""Scores on a labelled set that the probe never saw."""

from __future__ import annotations

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import LEVEL, Estimate
from leadline.evidence.metrics import all_metrics
from leadline.probes.splits import group_codes

__all__ = ["held_out_metrics"]


def held_out_metrics(
    scores: np.ndarray, Y: np.ndarray, kind: str, groups: np.ndarray | None, *, n_replicates: int, seed: int
) -> dict[str, Estimate]:
    """Metrics of fixed scores with intervals by a bootstrap over groups.

    For a binary target `centred_accuracy` is the accuracy after the scores' own mean has been taken off, which needs no
    label: a direction may carry over where its threshold does not.

    Parameters
    ----------
    scores : (n, m). Y : (n, m). groups : (n,) or None, then each row is its own.

    Raises
    ------
    EvidenceError : shapes that do not fit.
    """
    if scores.shape != Y.shape:
        raise EvidenceError(f"got scores {scores.shape} for targets {Y.shape}; expected one score a target.")
    codes = group_codes(groups, len(Y))
    n_groups = int(codes.max()) + 1
    rng = np.random.default_rng([seed, 3])
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_replicates).T[codes].astype(np.float32)
    W = np.hstack([np.ones((len(Y), 1), dtype=np.float32), drawn])
    found = all_metrics(kind, scores, Y, W)
    if kind == "binary":
        # The mean moves with each replicate's rows, so that its own uncertainty is in the interval.
        means = (scores[:, 0] @ W) / W.sum(axis=0)
        correct = (scores[:, :1] > means) == (Y[:, :1] > 0)
        found["centred_accuracy"] = (correct * W).sum(axis=0) / W.sum(axis=0)
    result = {}
    for name, values in found.items():
        replicates = values[1:][np.isfinite(values[1:])]
        if n_groups < 2 or len(replicates) < 0.9 * n_replicates:
            result[name] = Estimate(float(values[0]))
            continue
        low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        result[name] = Estimate(float(values[0]), float(low), float(high))
    return result
