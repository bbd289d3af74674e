"""Many p-values at once: false-discovery and family-wise control, as adjusted p-values.

An adjusted p-value is the smallest level at which the procedure rejects that hypothesis: compare it with α (or with
the false-discovery rate) as it stands. A hypothesis that was not tested, NaN, takes no part: it stays NaN and does not
count among the m.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leadline.errors import EvidenceError

__all__ = ["benjamini_hochberg", "benjamini_yekutieli", "holm"]


def benjamini_hochberg(p: np.ndarray | Sequence[float]) -> np.ndarray:
    """q-values that control the false-discovery rate: q₍ᵢ₎ = min over j ≥ i of m·p₍ⱼ₎ / j, at most 1.

    Rejecting all q ≤ δ keeps the expected share of false rejections at or below δ for independent tests, and for tests
    with positive regression dependence, such as those of targets that share activations. For any dependence use
    `benjamini_yekutieli`.

    Parameters
    ----------
    p : p-values of any shape; NaN for what was not tested.

    Returns
    -------
    The q-values, of the same shape.

    Raises
    ------
    EvidenceError : a value outside 0 to 1.

    References
    ----------
    Y. Benjamini and Y. Hochberg (1995), Controlling the false discovery rate, J. R. Statist. Soc. B 57.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.02, 0.9]).tolist()
    [0.03, 0.03, 0.9]
    """
    return _step_up(p, 1.0)


def benjamini_yekutieli(p: np.ndarray | Sequence[float]) -> np.ndarray:
    """q-values that control the false-discovery rate under any dependence: those of Benjamini-Hochberg × Σ 1/i.

    Parameters, results and errors are those of `benjamini_hochberg`.

    References
    ----------
    Y. Benjamini and D. Yekutieli (2001), The control of the false discovery rate in multiple testing under dependency,
    Annals of Statistics 29.
    """
    m = int(np.isfinite(_checked(p)).sum())
    return _step_up(p, float((1 / np.arange(1, m + 1)).sum()))


def holm(p: np.ndarray | Sequence[float]) -> np.ndarray:
    """Adjusted p-values that control the family-wise error: p̃₍ᵢ₎ = max over j ≤ i of (m − j + 1)·p₍ⱼ₎, at most 1.

    Rejecting all p̃ ≤ α keeps the probability of even one false rejection at or below α, under any dependence.

    Parameters, results and errors are those of `benjamini_hochberg`.

    References
    ----------
    S. Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.
    """
    values = _checked(p)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    order, ordered = _sorted(values[tested])
    m = len(ordered)
    found = np.minimum(np.maximum.accumulate(ordered * np.arange(m, 0, -1)), 1.0)
    adjusted[tested] = found[np.argsort(order)]
    return adjusted


def _step_up(p: np.ndarray | Sequence[float], factor: float) -> np.ndarray:
    values = _checked(p)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    order, ordered = _sorted(values[tested])
    m = len(ordered)
    scaled = ordered * (factor * m / np.arange(1, m + 1))
    found = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    adjusted[tested] = found[np.argsort(order)]
    return adjusted


def _sorted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(values, kind="stable")
    return order, values[order]


def _checked(p: np.ndarray | Sequence[float]) -> np.ndarray:
    values = np.asarray(p, dtype=np.float64)
    # A NaN is no value outside the range; an infinity is.
    outside = values[~np.isnan(values) & ~((values >= 0) & (values <= 1))]
    if len(outside):
        raise EvidenceError(f"got a p-value of {outside[0]:g}; expected numbers from 0 to 1, or NaN for no test.")
    return values
