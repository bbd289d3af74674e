"""What the examples of interventions share: whether a probe reads new groups, and a `Use` in print."""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np

from leadline.causal import Use
from leadline.probes.intervals import Estimate, draw_groups, percentile


def auroc(scores: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Estimate:
    """The share of pairs that the scores put in order, with a 95% interval that draws whole groups."""
    drawn = draw_groups(len(y), 2000, 0, groups=groups)
    one, zero = y == 1, y == 0
    gap = scores[one][:, None] - scores[zero]
    ordered = ((gap > 0) + 0.5 * (gap == 0)) @ drawn[zero]
    with np.errstate(invalid="ignore"):
        return percentile((drawn[one] * ordered).sum(axis=0) / (drawn[one].sum(axis=0) * drawn[zero].sum(axis=0)))


def show(use: Use, reads: Estimate) -> None:
    """What interventions did: the natural difference, a row an intervention, and the verdict.

    `reads` is the probe's AUROC on groups that it was not fitted on, 0.5 being chance.
    """
    print(f"{use.n} examples of {use.n_groups} groups at {use.site}, {use.tokens}; the probe reads them: AUROC {reads}")
    print(f"natural difference {use.natural} nats, answered by their class {use.accuracy}")
    print(f"cosine of pattern and direction {use.cosine:.2f}; gap here over gap where fitted {use.gap_share:.2f}")
    print(f"{'':24s} {'nats toward the other':24s} {'share of natural':24s} {'flips':>5s} {'dose':>5s} p iso, cov")
    rows = [("move", name, one) for name, one in use.vectors.items()]
    rows += [("exchange", name, one) for name, one in use.interchange.items()]
    rows += [("ablate", name, one) for name, one in use.ablation.items()]
    for what, name, one in rows:
        p = "" if one.p_isotropic is None else f"{one.p_isotropic:.2f}, {one.p_covariance:.2f}"
        size = f"{one.dose:5.2f}" if np.isfinite(one.dose) else " " * 5
        cells = f"{one.effect!r:24s} {one.nie!r:24s} {one.flips.value:5.2f} {size} {p}"
        print(f"{what + ' ' + name:24s} {cells}".rstrip())
    for (name, kind), null in use.nulls.items():
        low, middle, high = np.quantile(null, (0.025, 0.5, 0.975))
        print(f"{len(null)} random, {kind}, as far as the {name}: {middle:+.3f}, 95% in [{low:+.3f}, {high:+.3f}]")
    verdict = use.verdict("supported" if reads.low > 0.5 else "inconclusive")
    print(f"used: {verdict.verdict}. {verdict.sentence}")
