"""The sweep: every site × penalty × fold of one target, with its controls, from arrays alone.

`sweep_target` reads one site after the other, fits all its penalties and folds together, bootstraps the out-of-fold
scores, and lets one set of shuffles serve all sites. Nothing here has seen the rows of a held-out split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from leadline.errors import EvidenceError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.evidence.bootstrap import (
    BootstrapDesign,
    Estimate,
    MetricTable,
    Selection,
    bootstrap_design,
    gain,
    metric_table,
    select,
)
from leadline.evidence.controls import CONTROLS, TEXT_CONTROLS, length_scores, tfidf_scores
from leadline.evidence.metrics import CHANCE, METRICS, PRIMARY
from leadline.evidence.permutation import PermutationTest, deal, draw_shuffles, max_test, null_at_site
from leadline.evidence.verdict import CLAIMS, LEAK_MARGIN, Verdict, beyond_surface, decodable, not_tested
from leadline.probes.fit import Family, Status
from leadline.probes.parallel import map_sites
from leadline.probes.probe import Probe, ProbeSet, pattern_of
from leadline.probes.splits import make_folds
from leadline.sites import Site

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Baseline", "Labels", "SiteOutcome", "Source", "Sweep", "sweep_target"]


class Source(Protocol):
    """What a sweep reads: the part of `leadline.activations.ActivationSource` that it needs."""

    @property
    def sites(self) -> tuple[Site, ...]: ...
    def read(self, site: Site) -> np.ndarray: ...


@dataclass(frozen=True)
class Labels:
    """What is to be read, and how rows belong together; every array is of the rows that the sweep may use.

    Parameters
    ----------
    name, columns, kind : of the target; `kind` is `"binary"` or `"continuous"`.
    Y : (n, m) float64; binary columns hold 0 and 1.
    groups : (n,) labels that folds keep whole, or None.
    texts : n texts for the surface baselines, or None.
    rows : (n,) int, the rows of the source that the other arrays describe.
    negative, positive : names of a binary target's classes.
    """

    name: str
    columns: tuple[str, ...]
    kind: str
    Y: np.ndarray
    groups: np.ndarray | None
    texts: Sequence[str] | None
    rows: np.ndarray
    negative: str | None = None
    positive: str | None = None


@dataclass(frozen=True)
class SiteOutcome:
    """One site after the sweep.

    Attributes
    ----------
    setting : what was best there of the family's `parameter` (NaN for a family without one), and
    selection : what its metrics are worth, corrected for that choice.
    scores : (n, m) float32 out of fold at that penalty.
    coef : (m, d), intercept : (m,), pattern : (m, d) of the refit on all rows.
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


@dataclass(frozen=True)
class Baseline:
    """A control on the same folds, and the probe's paired gain over it.

    `below_chance` is set where some penalty of it lies significantly below chance, which no honest predictor does: rows
    that belong together were split by the folds. It holds that penalty's {metric: value}, and `"high"`, the upper bound
    of the primary one.
    """

    name: str
    title: str
    explanation: str
    selection: Selection
    gain: Estimate
    p_gain: float
    below_chance: dict[str, float] | None
    outcomes: tuple[SiteOutcome, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """Probes at every site, with the evidence.

    Attributes
    ----------
    table : a row a site; metrics are corrected for the choice of setting, `*_low` and `*_high` are their 95% intervals.
    best : the probe of the chosen site, refitted on all rows; its metrics are corrected for having chosen it.
    best_site : that site. selection : its corrected (and naive) metrics.
    baselines, permutation, verdicts : the controls, the test, the claims. permutation is None if switched off.
    scores : (S, n, m) out-of-fold scores. fold : (n,). labels : what was read.
    """

    family: Family
    labels: Labels
    fold: np.ndarray
    outcomes: tuple[SiteOutcome, ...]
    best_index: int
    selection: Selection
    permutation: PermutationTest | None
    baselines: tuple[Baseline, ...]
    verdicts: tuple[Verdict, ...]
    design_reason: str
    seed: int
    tokens: str
    model: str | None
    model_fingerprint: str | None
    dtype: str | None

    @property
    def best_site(self) -> Site:
        return self.outcomes[self.best_index].site

    @property
    def scores(self) -> np.ndarray:
        return np.stack([o.scores for o in self.outcomes])

    @property
    def best(self) -> Probe | ProbeSet:
        return self.probe(self.best_site)

    def probe(self, site: str | Site) -> Probe | ProbeSet:
        """The probe of one site, refitted on all rows: for use, its metrics come from the folds.

        Raises
        ------
        EvidenceError : the site was not swept.
        """
        wanted = Site.parse(site)
        found = [i for i, o in enumerate(self.outcomes) if o.site == wanted]
        if not found:
            raise EvidenceError(f"{wanted} was not swept; swept were {', '.join(o.site.name for o in self.outcomes)}.")
        outcome = self.outcomes[found[0]]
        chosen = found[0] == self.best_index
        selection = self.selection if chosen else outcome.selection
        parameter = self.family.parameter
        among = () if parameter is None else (parameter,)
        more: dict[str, object] = {} if parameter in (None, "l2") else {str(parameter): outcome.setting}
        metrics: dict[str, object] = {
            name: {"value": e.value, "low": e.low, "high": e.high} if np.isfinite(e.low) else {"value": e.value}
            for name, e in selection.metrics.items()
        }
        labels = self.labels
        probes = tuple(
            Probe(
                site=wanted,
                coef=outcome.coef[c],
                intercept=float(outcome.intercept[c]),
                pattern=outcome.pattern[c],
                family=self.family.name,
                kind=labels.kind,
                target=column,
                negative=labels.negative,
                positive=labels.positive,
                tokens=self.tokens,
                model=self.model,
                model_fingerprint=self.model_fingerprint,
                l2=outcome.setting if parameter == "l2" else None,
                metrics=metrics,
                extra={
                    "corrected_for": " and ".join((*among, "site") if chosen else among),
                    **more,
                    "n_rows": len(labels.Y),
                    "n_folds": int(self.fold.max()) + 1,
                    "seed": self.seed,
                    "dtype": self.dtype,
                    "converged": outcome.n_not_converged == 0,
                },
            )
            for c, column in enumerate(labels.columns)
        )
        return probes[0] if len(probes) == 1 else ProbeSet(probes)

    @property
    def table(self) -> pl.DataFrame:
        records: list[dict[str, object]] = []
        for i, o in enumerate(self.outcomes):
            record: dict[str, object] = {
                "site": o.site.name,
                "layer": o.site.layer,
            }
            if self.family.parameter is not None:
                record[self.family.parameter] = o.setting
            for name in METRICS[self.labels.kind]:
                estimate = o.selection.metrics[name]
                record |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            if self.permutation is not None:
                record |= {
                    "p_value": float(self.permutation.p_values[i]),
                    "null_mean": float(self.permutation.null_mean[i]),
                }
            record |= {"n_fits": o.n_fits, "n_not_converged": o.n_not_converged, "best": i == self.best_index}
            records.append(record)
        return pl.DataFrame(records, infer_schema_length=None).with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        metric = PRIMARY[self.labels.kind]
        e = self.selection.metrics[metric]
        return (
            f"Sweep({self.family.name} for {self.labels.name!r}, {len(self.outcomes)} sites: best {self.best_site}, "
            f"{metric} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}])"
        )


def sweep_target(
    source: Source,
    family: Family,
    labels: Labels,
    *,
    n_folds: int = 5,
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    text_controls: Sequence[str] = TEXT_CONTROLS,
    sources: Mapping[str, Source] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    tokens: str = "last",
    model: str | None = None,
    model_fingerprint: str | None = None,
    dtype: str | None = None,
    events: EventSink = SILENT,
) -> Sweep:
    """Sweep one target over all sites of a source.

    Parameters
    ----------
    n_permutations : shuffles of the permutation test; 0 switches it off.
    text_controls : of `bag_of_words`, `char_ngrams`, `length`; they need `labels.texts`.
    sources : further activations of the same rows as controls, as `{"random_weights": …, "token_embeddings": …}`.

    Raises
    ------
    EvidenceError : a target that the family does not take, or data that no fold scheme can judge.
    """
    kind, Y = labels.kind, labels.Y
    if getattr(source, "ragged", False):
        raise EvidenceError("these activations keep every token, and a label is of a row; give them by_token().")
    if kind not in family.kinds:
        raise EvidenceError(
            f"target '{labels.name}' is {kind}; the {family.name} probe takes {' and '.join(family.kinds)} targets. "
            f"Use {'ridge or elastic_net' if kind == 'continuous' else 'logistic, ridge, lda or mean_difference'}."
        )
    if not 0 < alpha < 1:
        raise EvidenceError(f"alpha is {alpha}; expected a number between 0 and 1.")
    metric = PRIMARY[kind]
    fold = make_folds(Y, labels.groups, n_folds, stratify=kind == "binary", seed=seed)
    design = bootstrap_design(fold, labels.groups, n_bootstraps, seed)
    shuffles = draw_shuffles(Y, labels.groups, n_permutations, seed) if n_permutations else None

    dealt = None if shuffles is None else deal(Y, kind, shuffles)

    def permute(X: np.ndarray) -> dict[str, np.ndarray]:
        return {} if dealt is None else null_at_site(family, X, dealt, kind, fold)

    outcomes, table, nulls = _sites(source, family, labels, fold, design, "sweep", events, permute)
    selection = select(table, design)
    best_index = int(np.searchsorted(_offsets(outcomes, table), selection.index, side="right") - 1)
    permutation = max_test(nulls, kind, family, shuffles) if shuffles is not None else None

    baselines: list[Baseline] = []

    def add(name: str, table: MetricTable, parts: tuple[SiteOutcome, ...] = ()) -> None:
        control = CONTROLS[name]
        other = select(table, design)
        difference, p = gain(selection, other, metric, design)
        baselines.append(
            Baseline(
                name=name,
                title=control.title,
                explanation=control.explanation,
                selection=other,
                gain=difference,
                p_gain=p,
                below_chance=_below_chance(table, design) if kind == "binary" else None,
                outcomes=parts if len(parts) > 1 else (),
            )
        )

    for name in text_controls:
        if labels.texts is None:
            raise EvidenceError(f"the control '{name}' reads texts, and these activations come without; leave it out.")
        with stage(events, "controls", CONTROLS[name].title):
            if name == "length":
                scores = length_scores(labels.texts, Y, kind, fold)
            else:
                scores = tfidf_scores(name, labels.texts, Y, kind, fold)
            add(name, metric_table(scores, Y, kind, design))
    for name, other_source in (sources or {}).items():
        title = CONTROLS[name].title
        parts, other_table, _ = _sites(other_source, family, labels, fold, design, title, events, None)
        add(name, other_table, parts)

    best = selection.metrics[metric]
    site = outcomes[best_index].site.name
    first = decodable(metric, CHANCE[metric], best, site, permutation.p_max if permutation else None, alpha)
    gains = {b.name: (b.title, b.gain, b.p_gain) for b in baselines}
    leaking = any(b.below_chance and b.below_chance["high"] < CHANCE[metric] - LEAK_MARGIN for b in baselines)
    second = beyond_surface(metric, gains, first.verdict, alpha, leaking)
    later = "Not tested by this version."
    verdicts = tuple(
        {"decodable": first, "beyond surface": second}.get(claim) or not_tested(claim, later) for claim in CLAIMS
    )
    return Sweep(
        family=family,
        labels=labels,
        fold=fold,
        outcomes=outcomes,
        best_index=best_index,
        selection=selection,
        permutation=permutation,
        baselines=tuple(baselines),
        verdicts=verdicts,
        design_reason=design.reason,
        seed=seed,
        tokens=tokens,
        model=model,
        model_fingerprint=model_fingerprint,
        dtype=dtype,
    )


def _below_chance(table: MetricTable, design: BootstrapDesign) -> dict[str, float] | None:
    """The figures of the lowest configuration, if its interval (Bonferroni over all of them) lies below chance."""
    metric = PRIMARY[table.kind]
    point = table.point[metric]
    if design.reason or not np.isfinite(point).any():
        return None
    lowest = int(np.nanargmin(point))
    replicates = table.drawn[metric][lowest]
    high = float(np.quantile(replicates[np.isfinite(replicates)], 1 - 0.025 / len(point)))
    if not high < CHANCE[metric]:
        return None
    return {name: float(values[lowest]) for name, values in table.point.items()} | {"high": high}


def _offsets(outcomes: tuple[SiteOutcome, ...], table: MetricTable) -> np.ndarray:
    per_site = len(next(iter(table.point.values()))) // len(outcomes)
    return np.arange(len(outcomes)) * per_site


def _sites(
    source: Source,
    family: Family,
    labels: Labels,
    fold: np.ndarray,
    design: BootstrapDesign,
    name: str,
    events: EventSink,
    permute: Callable[[np.ndarray], dict[str, np.ndarray]] | None,
) -> tuple[tuple[SiteOutcome, ...], MetricTable, list[dict[str, np.ndarray]]]:
    """Fit and bootstrap every site of a source, and `permute` it."""

    def one(site: Site) -> tuple[SiteOutcome, MetricTable, dict[str, np.ndarray]]:
        X = source.read(site)[labels.rows]
        fit = family.fit_site(X, labels.Y, fold)
        table = metric_table(fit.scores, labels.Y, labels.kind, design)
        selection = select(table, design)
        at = selection.index
        outcome = SiteOutcome(
            site=site,
            setting=float(fit.settings[at]),
            selection=selection,
            scores=fit.scores[at],
            coef=fit.coef[at],
            intercept=fit.intercept[at],
            pattern=np.stack([pattern_of(X, w) for w in fit.coef[at]]),
            n_fits=fit.converged.size,
            n_not_converged=int((~fit.converged).sum()),
            worst_gap=float(np.nanmax(fit.gap, initial=0.0)),
            statuses={s.name.lower(): n for s in Status if s and (n := int((fit.status == s).sum()))},
        )
        return outcome, table, permute(X) if permute is not None else {}

    total = len(source.sites)
    found = []
    with stage(events, name, f"{total} sites", total=total, unit="sites"):
        for done, (site, result) in enumerate(zip(source.sites, map_sites(one, source.sites), strict=True), start=1):
            found.append(result)
            events.emit(Event("progress", name, site.name, done=done, total=total, unit="sites"))
    return tuple(f[0] for f in found), MetricTable.join([f[1] for f in found]), [f[2] for f in found]
