"""Where information first emerges: the first site from which the gain over a reference stays significant.

*Rule.* Sites stand in depth order. The last is tested first; then the one before it, and so on towards the input, each
at level α, until one is not significant: that one, and all before it, are left. The first site of the run emerges.
Tests in an order that is fixed beforehand, which stop at the first failure, keep the probability of claiming even one
site without a gain at or below α with no correction at all (Maurer, Hothorn and Lehmacher 1995; Westfall and Krishen
2001). "Significant, and so at every later site" is this procedure in other words, so that Holm's or the maximum's
stricter levels would only make it find sites later than it may. With probability 1 − α, the gain is real at the site
that it names and at every later one.

*Interval.* A site's gain is significant where it passes a critical value, c = minus the α quantile of its replicates
about their estimate, which the number of rows sets. In each replicate the first site from which the replicate's gains
pass the same critical values, and stay above, is found anew; the interval holds the middle 95% of these sites. The
replicates of all sites come from the same draws, so that what sites have in common stays so. It is an interval for
where the gain becomes large enough to be detected with this many rows, conditional on the fitted probes. A weaker
trace may stand before it, so that its early end is no proof of absence. A run breaks at its weakest link: where gains
grow slowly over many sites whose errors have little in common, site and interval come out too late. Sites that are
judged on the same rows have most of their error in common, and there simulations cover as stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import BootstrapDesign, Estimate, MetricTable, Selection, interval, select
from leadline.evidence.metrics import CHANCE
from leadline.probes.intervals import LEVEL

__all__ = ["Emergence", "emergence", "first_of_last_run"]


@dataclass(frozen=True)
class Emergence:
    """The first site of the run of significant sites that reaches to the last one.

    Attributes
    ----------
    site, index : that site, None where the last site itself is not significant, and nothing emerges.
    low, high : the earliest and latest site of its 95% interval; `high` is None where the interval reaches past the
        last site, to where nothing emerges, and both are where there is no interval.
    share_emerged : of the replicates, those in which some site emerges.
    sites : names, in depth order. gains : each site's metric − the reference, with its interval. p_values : (S,)
        one-sided, against a gain of at most the margin. critical : (S,) what a gain has to pass.
    metric, reference, alpha, margin : what was compared, with what, and how. reason : why nothing emerges or no
        interval can be given, or an empty string.
    """

    site: str | None
    index: int | None
    low: str | None
    high: str | None
    share_emerged: float
    sites: tuple[str, ...]
    gains: tuple[Estimate, ...]
    p_values: np.ndarray
    critical: np.ndarray
    metric: str
    reference: str
    alpha: float
    margin: float
    reason: str = ""


def emergence(
    tables: Sequence[MetricTable | Selection],
    sites: Sequence[object],
    design: BootstrapDesign,
    *,
    baseline: Selection | None = None,
    chance: float | None = None,
    metric: str | None = None,
    permutation_p: np.ndarray | None = None,
    alpha: float = 0.05,
    margin: float = 0.0,
) -> Emergence:
    """Find the first site from which the gain is, and stays, significant.

    Parameters
    ----------
    tables : each site's metrics, or what its choice of setting is worth, in the order of `sites`.
    sites : names or `Site`s in depth order, of one kind, such as the embedding and then `resid_post` layer by layer.
    design : the replicates that all of them share.
    baseline : a reference judged on the same replicates, such as the strongest surface control; the gain is paired.
        Without it the reference is `chance`, and without that the metric's own.
    metric : the primary one by default.
    permutation_p : (S,) each site's p of a permutation test, for gains over chance: the larger of the two p-values then
        counts, since replicates that condition on the fitted probes alone find something in random labels too often.
    alpha : level of the tests. margin : the gain that a site must exceed.

    Raises
    ------
    EvidenceError : no sites or another number of tables, an α outside 0 to 1, two references, or a metric that was not
        judged.

    References
    ----------
    W. Maurer, L. A. Hothorn and W. Lehmacher (1995), Multiple comparisons in drug clinical trials and preclinical
    assays: a-priori ordered hypotheses, in Biometrie in der chemisch-pharmazeutischen Industrie 6.
    P. H. Westfall and A. Krishen (2001), Optimally weighted, fixed sequence and gatekeeper multiple testing procedures,
    Journal of Statistical Planning and Inference 99.
    """
    if not tables or len(tables) != len(sites):
        raise EvidenceError(f"got {len(tables)} tables for {len(sites)} sites; give one a site, and at least one.")
    if not 0 < alpha < 1:
        raise EvidenceError(f"alpha is {alpha}; expected a number between 0 and 1.")
    if baseline is not None and chance is not None:
        raise EvidenceError("got a baseline and a chance level; give the one that the gain is to be over.")
    selections = [select(table, design) if isinstance(table, MetricTable) else table for table in tables]
    wanted = next((m for m in CHANCE if m in selections[0].metrics), "auroc") if metric is None else metric
    for each in (*selections, *(() if baseline is None else (baseline,))):
        if wanted not in each.metrics:
            raise EvidenceError(f"{wanted} was not judged everywhere; judged were {', '.join(each.metrics)}.")
    if baseline is None and chance is None and wanted not in CHANCE:
        raise EvidenceError(f"{wanted} has no chance level of its own; give one, or a baseline.")
    zero = CHANCE.get(wanted, 0.0) if chance is None else chance
    of_reference = zero if baseline is None else baseline.metrics[wanted].value
    moved = zero if baseline is None else baseline.centred[wanted]

    values = np.array([s.metrics[wanted].value for s in selections]) - of_reference
    gains = np.stack([s.centred[wanted] for s in selections]) - moved
    names = tuple(str(site) for site in sites)
    defined = np.isfinite(gains)
    bounded = not design.reason and bool((defined.mean(axis=1) >= 0.9).all() and np.isfinite(values).all())
    estimates = tuple(
        interval(float(v), g, design) if bounded else Estimate(float(v)) for v, g in zip(values, gains, strict=True)
    )
    reference = "the baseline" if baseline is not None else f"chance ({zero:g})"
    unknown = np.full(len(names), np.nan)
    if not bounded:
        reason = design.reason or f"{wanted} is undefined in more than a tenth of the replicates at some site"
        return Emergence(
            None,
            None,
            None,
            None,
            float("nan"),
            names,
            estimates,
            unknown,
            unknown,
            wanted,
            reference,
            alpha,
            margin,
            reason,
        )
    n_known = defined.sum(axis=1)
    p_values = (1 + ((gains <= margin) & defined).sum(axis=1)) / (1 + n_known)
    if permutation_p is not None:
        p_values = np.fmax(p_values, permutation_p)
    # At the critical gain p just reaches α: the replicate at rank floor(α·(1 + B)) from below lies on the margin.
    rank = np.floor(alpha * (1 + n_known) + 1e-9).astype(int) - 1
    ordered = np.sort(np.where(defined, gains, np.inf), axis=1)
    reached = np.where(rank >= 0, ordered[np.arange(len(names)), np.maximum(rank, 0)], -np.inf)
    critical = margin + values - reached
    index = first_of_last_run((p_values <= alpha)[:, None])[0]

    whole = defined.all(axis=0)
    passed = gains[:, whole] > critical[:, None]
    if permutation_p is not None:
        # What the shuffles do not allow, no replicate can find.
        passed &= ~(np.asarray(permutation_p) > alpha)[:, None]
    firsts = first_of_last_run(passed)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(firsts, [tail, 1 - tail], method="inverted_cdf").astype(int)
    none = len(names)
    reason = "" if index < none else f"the gain over {reference} is not significant at the last site, {names[-1]}"
    return Emergence(
        site=None if index == none else names[index],
        index=None if index == none else int(index),
        low=None if low == none else names[low],
        high=None if high == none else names[high],
        share_emerged=float((firsts < none).mean()),
        sites=names,
        gains=estimates,
        p_values=p_values,
        critical=critical,
        metric=wanted,
        reference=reference,
        alpha=alpha,
        margin=margin,
        reason=reason,
    )


def first_of_last_run(passed: np.ndarray) -> np.ndarray:
    """(B,) int: for each column of (S, B) bool, the first row from which all are True; S where the last is False."""
    stays = np.logical_and.accumulate(passed[::-1], axis=0)[::-1]
    return np.asarray(len(passed) - stays.sum(axis=0))
