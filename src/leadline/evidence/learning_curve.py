"""Growing training sets of whole groups, and what a probe is worth at each size: the label-efficiency curve.

Rows come in a random order of whole groups. A schedule of portions cuts that order at the borders of groups, so that a
probe is trained on all portions before one and judged on that one, and no group is on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import EvidenceError
from leadline.probes.intervals import Estimate
from leadline.probes.splits import group_codes

__all__ = [
    "DEFAULT_PORTIONS",
    "MIN_ROWS",
    "CurvePoint",
    "Order",
    "draw_orders",
    "learning_curve",
    "over_orders",
    "rows_to_reach",
]

DEFAULT_PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""The shares of the rows at which the schedule cuts (Voita and Titov 2020)."""

# A portion of fewer rows than this is joined to the next one.
MIN_ROWS = 8


@dataclass(frozen=True)
class Order:
    """One random order of whole groups, and where it is cut.

    Attributes
    ----------
    rows : (n,) int, the rows in their order.
    ends : (P,) int, growing; portion p holds `rows[ends[p-1]:ends[p]]`, and the last end is n.
    share : (P,) int, the entry of the schedule that each end comes from.
    """

    rows: np.ndarray
    ends: np.ndarray
    share: np.ndarray


def draw_orders(
    groups: np.ndarray | None, n: int, portions: Sequence[float], n_orders: int, seed: int
) -> tuple[Order, ...]:
    """Draw orders of whole groups and cut each at the border of groups that is nearest to each share of the rows.

    Portions of fewer than `MIN_ROWS` rows are joined to the next; large groups may join more.

    Parameters
    ----------
    groups : (n,) labels, or None where each row is its own. portions : growing shares of the rows, the last 1.

    Raises
    ------
    EvidenceError : shares that do not grow up to 1, or fewer than one order.
    """
    shares = np.asarray(portions, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or shares[0] <= 0 or (np.diff(shares) <= 0).any() or shares[-1] != 1:
        raise EvidenceError(f"portions are {tuple(portions)}; expected growing shares of the rows, the last one 1.")
    if n_orders < 1:
        raise EvidenceError(f"got {n_orders} orders; expected 1 or more, and 2 or more for a spread.")
    codes = group_codes(groups, n)
    sizes = np.bincount(codes)
    orders = []
    for index in range(n_orders):
        place = np.random.default_rng([seed, 41, index]).permutation(len(sizes))
        borders = np.cumsum(sizes[np.argsort(place)])
        ends, kept = [0], []
        for at, share in enumerate(shares):
            # Of two borders equally near, argmin takes the earlier.
            end = n if share == 1 else int(borders[np.argmin(np.abs(borders - share * n))])
            if end - ends[-1] >= (1 if share == 1 else MIN_ROWS):
                ends.append(end)
                kept.append(at)
        orders.append(Order(np.argsort(place[codes], kind="stable"), np.array(ends[1:]), np.array(kept)))
    return tuple(orders)


@dataclass(frozen=True)
class CurvePoint:
    """What a probe is worth after some training rows.

    Attributes
    ----------
    n_train : training rows, averaged over orders.
    metric : the primary metric on the rows of the next portion: the mean over orders, with the lowest and the highest.
    bits_per_label : the code length of the next portion's labels, a label, likewise; NaN for a continuous target.
    """

    n_train: float
    metric: Estimate
    bits_per_label: Estimate


def over_orders(values: np.ndarray) -> Estimate:
    """The mean over orders, with the lowest and the highest order in place of an interval.

    Orders share their rows, so that their spread says how much the order matters, and not how another sample of rows
    would come out. One order has no spread.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return Estimate(float("nan"))
    if len(known) == 1:
        return Estimate(float(known[0]))
    return Estimate(float(known.mean()), float(known.min()), float(known.max()))


def learning_curve(
    orders: Sequence[Order], metric: Sequence[np.ndarray], bits_per_label: Sequence[np.ndarray]
) -> tuple[CurvePoint, ...]:
    """Bring the orders together, a point for each share of the rows that at least one order was cut at.

    Parameters
    ----------
    metric, bits_per_label : for each order (P,), on the rows of a portion; entry 0 has nothing before it and is left
        out.
    """
    points = []
    for share in sorted({int(s) for order in orders for s in order.share[:-1]}):
        found = []
        for order, own, bits in zip(orders, metric, bits_per_label, strict=True):
            at = np.flatnonzero(order.share[:-1] == share)
            found += [(order.ends[p], own[p + 1], bits[p + 1]) for p in at]
        sizes, values, lengths = np.array(found, dtype=np.float64).T
        points.append(CurvePoint(float(sizes.mean()), over_orders(values), over_orders(lengths)))
    return tuple(points)


def rows_to_reach(curve: Sequence[CurvePoint], chance: float, share: float = 0.9, final: float | None = None) -> float:
    """The fewest training rows from which on the metric stays at or above chance + share · (final − chance).

    Parameters
    ----------
    chance : the metric without any knowledge. final : what counts as all; by default the curve's last point.

    Returns
    -------
    Rows, of the curve's points; NaN where the last point does not reach it, or where `final` does not exceed chance.

    Raises
    ------
    EvidenceError : a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise EvidenceError(f"share is {share}; expected a number above 0 and at most 1, as in 0.9.")
    known = [point for point in curve if np.isfinite(point.metric.value)]
    if not known:
        return float("nan")
    top = known[-1].metric.value if final is None else final
    if not top > chance:
        return float("nan")
    reached = float("nan")
    for point in reversed(known):
        if point.metric.value < chance + share * (top - chance) - 1e-12:
            break
        reached = point.n_train
    return reached
