"""Every site of a source fitted and bootstrapped: the part of a sweep that probes and random weights have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from leadline.events import Event, EventSink, stage
from leadline.evidence.bootstrap import BootstrapDesign, MetricTable, Selection, metric_table, select
from leadline.evidence.labels import Labels, Source
from leadline.probes.fit import Family, Status
from leadline.probes.parallel import map_sites
from leadline.probes.probe import pattern_of
from leadline.sites import Site

__all__ = ["SiteFits", "SiteOutcome", "fit_sites"]


@dataclass(frozen=True)
class SiteOutcome:
    """One site after the sweep.

    Attributes
    ----------
    setting : what was best there of the family's `parameter` (NaN for a family without one), and
    selection : what its metrics are worth, corrected for that choice.
    scores : (n, c) float32 out of fold at that setting.
    coef : (c, d), intercept : (c,), pattern : (c, d) of the refit on all rows.
    fold_coef : (K, c, d) float32, fold_intercept : (K, c) of the folds' fits.
    n_fits, n_not_converged : over settings, folds and columns; worst_gap : the largest certified gap.
    statuses : how many of those that did not converge ended how, by the name of their `Status` in lower case.
    """

    site: Site
    setting: float
    selection: Selection
    scores: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    pattern: np.ndarray
    n_fits: int
    n_not_converged: int
    worst_gap: float
    statuses: dict[str, int]
    fold_coef: np.ndarray
    fold_intercept: np.ndarray


@dataclass(frozen=True)
class SiteFits:
    """All sites of a source.

    Attributes
    ----------
    outcomes : one a site, in order. tables : the metrics of each site's settings, from the same draws.
    permuted : what `permute` gave for each site.
    """

    outcomes: tuple[SiteOutcome, ...]
    tables: tuple[MetricTable, ...]
    permuted: list[dict[str, np.ndarray]]

    @property
    def table(self) -> MetricTable:
        """Every site × setting, as the corrected choice sees them."""
        return MetricTable.join(list(self.tables))

    def site_of(self, configuration: int) -> int:
        """Which site a row of `table` is of."""
        sizes = [len(next(iter(table.point.values()))) for table in self.tables]
        return int(np.searchsorted(np.cumsum(sizes), configuration, side="right"))


def fit_sites(
    source: Source,
    family: Family,
    labels: Labels,
    fold: np.ndarray,
    design: BootstrapDesign,
    name: str,
    events: EventSink,
    *,
    weights: np.ndarray | None = None,
    permute: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
) -> SiteFits:
    """Fit and bootstrap every site of a source.

    Parameters
    ----------
    name : of the stage that events tell of.
    weights : (n,) of the training rows, as a balanced draw gives; every row is scored and judged.
    permute : what else to compute of a site's activations while they are in memory.
    """

    def one(site: Site) -> tuple[SiteOutcome, MetricTable, dict[str, np.ndarray]]:
        X = source.read(site)[labels.rows]
        fit = family.fit_site(X, labels.Y, fold, weights=weights)
        table = metric_table(fit.scores, labels.Y, labels.kind, design, labels.pairs)
        selection = select(table, design)
        at = selection.index
        outcome = SiteOutcome(
            site=site,
            setting=float(fit.settings[at]),
            selection=selection,
            scores=fit.scores[at].copy(),
            coef=fit.coef[at].copy(),
            intercept=fit.intercept[at].copy(),
            pattern=np.stack([pattern_of(X, w) for w in fit.coef[at]]),
            n_fits=fit.converged.size,
            n_not_converged=int((~fit.converged).sum()),
            worst_gap=float(np.nanmax(fit.gap, initial=0.0)),
            statuses={s.name.lower(): n for s in Status if s and (n := int((fit.status == s).sum()))},
            fold_coef=fit.fold_coef[at].copy(),
            fold_intercept=fit.fold_intercept[at].copy(),
        )
        return outcome, table, permute(X) if permute is not None else {}

    total = len(source.sites)
    found = []
    with stage(events, name, f"{total} sites", total=total, unit="sites"):
        for done, (site, result) in enumerate(zip(source.sites, map_sites(one, source.sites), strict=True), start=1):
            found.append(result)
            events.emit(Event("progress", name, site.name, done=done, total=total, unit="sites"))
    return SiteFits(tuple(f[0] for f in found), tuple(f[1] for f in found), [f[2] for f in found])
