"""The sweep: every site × penalty × fold of one target, with its controls, from arrays alone.

`sweep_target` reads one site after the other, fits all its penalties and folds together, bootstraps the out-of-fold
scores, and lets one set of shuffles serve all sites. Nothing here has seen the rows of a held-out split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from leadline.errors import EvidenceError, ProbeError
from leadline.events import SILENT, EventSink
from leadline.evidence.baselines import Baseline, run_baselines
from leadline.evidence.bootstrap import Selection, bootstrap_design, select
from leadline.evidence.controls import TEXT_CONTROLS
from leadline.evidence.labels import Labels, Source
from leadline.evidence.measures import SAFEGUARDS, Masked, Measures, check_measures, take_measures
from leadline.evidence.metrics import CHANCE, JUDGED_BY, PRIMARY
from leadline.evidence.permutation import PermutationTest, deal, draw_shuffles, max_test, null_at_site
from leadline.evidence.site_fits import SiteOutcome, fit_sites
from leadline.evidence.transfer import HeldOut, hold_out
from leadline.evidence.verdict import LEAK_MARGIN, Verdict, beyond_surface, decodable, general, not_tested, selective
from leadline.probes.adapt import family_for
from leadline.probes.fit import Family
from leadline.probes.probe import Probe, ProbeSet
from leadline.probes.splits import make_folds
from leadline.probes.weights import balanced_sample
from leadline.sites import Site

__all__ = ["Baseline", "Labels", "SiteOutcome", "Source", "Sweep", "folds_of", "sweep_target"]


@dataclass(frozen=True)
class Sweep:
    """Probes at every site, with the evidence.

    Attributes
    ----------
    table : a row a site; metrics are corrected for the choice of setting, `*_low` and `*_high` are their 95% intervals.
    best : the probe of the chosen site, refitted on all rows; its metrics are corrected for having chosen it.
    best_site : that site. selection : its corrected (and naive) metrics.
    baselines, permutation : the controls, the test, which is None if switched off.
    measures : further evidence, each None where it was not asked for.
    held_out : the probes on labelled sets of other distributions.
    q_value : `permutation.p_max` adjusted for several targets, by whoever swept them; the verdict then goes by it.
    verdicts : the claims, by the rules of `leadline.evidence.verdict`.
    scores : (S, n, c) out-of-fold scores. fold : (n,). labels : what was read.
    """

    family: Family
    labels: Labels
    fold: np.ndarray
    outcomes: tuple[SiteOutcome, ...]
    best_index: int
    selection: Selection
    permutation: PermutationTest | None
    baselines: tuple[Baseline, ...]
    measures: Measures
    held_out: tuple[HeldOut, ...]
    alpha: float
    design_reason: str
    seed: int
    tokens: str
    model: str | None
    model_fingerprint: str | None
    dtype: str | None
    n_bootstraps: int = 1000
    balanced: bool = False
    q_value: float | None = None

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        return _judge(self)

    def tried_on(self, sets: Mapping[str, tuple[Source, Labels]], *, shifted: bool = True) -> Sweep:
        """The sweep with its refitted probes tried on further labelled sets, as they are.

        Parameters
        ----------
        sets : {name: (activations at the swept sites, labels)}.
        shifted : whether they come from another distribution, and so bear on the claim "general".
        """
        found = tuple(
            hold_out(self, source, labels, name=name, shifted=shifted, n_replicates=self.n_bootstraps, seed=self.seed)
            for name, (source, labels) in sets.items()
        )
        return replace(self, held_out=(*self.held_out, *found))

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
                    **({"balanced": True} if self.balanced else {}),
                },
            )
            for c, column in enumerate(labels.outputs)
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
            for name, estimate in o.selection.metrics.items():
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


def folds_of(labels: Labels, n_folds: int, seed: int) -> np.ndarray:
    """(n,) the fold that tests a row, as `sweep_target` makes them: groups whole, classes balanced."""
    return make_folds(labels.Y, labels.groups, n_folds, stratify=labels.kind != "continuous", seed=seed)


def sweep_target(
    source: Source,
    family: Family,
    labels: Labels,
    *,
    n_folds: int = 5,
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    text_controls: Sequence[str] = TEXT_CONTROLS,
    surface: Mapping[str, np.ndarray] | None = None,
    sources: Mapping[str, Source | Sequence[Source]] | None = None,
    measures: Sequence[str] = SAFEGUARDS,
    masked: Masked | None = None,
    held_out: Mapping[str, tuple[Source, Labels]] | None = None,
    balance: bool = False,
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
    family : taken in its own form for the kind of target (`leadline.probes.adapt.family_for`).
    n_permutations : shuffles of the permutation test; 0 switches it off.
    text_controls : baselines of `labels.texts`: `TEXT_CONTROLS`, `first_token`, `last_token`.
    surface : further surface baselines, from what the caller knows of each row, by the names of `ARRAY_CONTROLS`, as
        in `{"perplexity": (n,)}`.
    sources : further activations of the same rows as controls, as `{"random_weights": …, "token_embeddings": …}`; one
        source a seed where there are several.
    measures : further evidence, of `MEASURES`.
    masked : the rows' activations after masking what gives the label away, for `giveaway`.
    held_out : labelled sets of other distributions, on which the chosen probe is tried: for "general".
    balance : train on as many rows of each class as the rarest has, drawn in every fold; all rows are judged.

    Raises
    ------
    EvidenceError : a target that the family does not take, or data that no fold scheme can judge.
    """
    kind, Y = labels.kind, labels.Y
    if getattr(source, "ragged", False):
        raise EvidenceError("these activations keep every token, and a label is of a row; give them by_token().")
    try:
        family = family_for(family, kind, f"target '{labels.name}'")
    except ProbeError as error:
        raise EvidenceError(str(error)) from error
    if not 0 < alpha < 1:
        raise EvidenceError(f"alpha is {alpha}; expected a number between 0 and 1.")
    check_measures(measures)
    fold = folds_of(labels, n_folds, seed)
    design = bootstrap_design(fold, labels.groups, n_bootstraps, seed)
    weights = None
    if balance:
        if kind == "continuous":
            raise EvidenceError(f"balance draws rows by class, and target '{labels.name}' is continuous; leave it out.")
        weights = balanced_sample(Y, seed, groups=labels.groups, fold=fold).astype(np.float64)
    shuffles = draw_shuffles(Y, labels.groups, n_permutations, seed) if n_permutations else None
    dealt = None if shuffles is None else deal(Y, kind, shuffles)

    def permute(X: np.ndarray) -> dict[str, np.ndarray]:
        return {} if dealt is None else null_at_site(family, X, dealt, kind, fold)

    fits = fit_sites(source, family, labels, fold, design, "sweep", events, weights=weights, permute=permute)
    selection = select(fits.table, design)
    best_index = fits.site_of(selection.index)
    permutation = max_test(fits.permuted, kind, family, shuffles) if shuffles is not None else None
    baselines = run_baselines(
        labels, family, fold, design, selection, text_controls, surface or {}, sources or {}, events, weights=weights
    )
    result = Sweep(
        family=family,
        labels=labels,
        fold=fold,
        outcomes=fits.outcomes,
        best_index=best_index,
        selection=selection,
        permutation=permutation,
        baselines=baselines,
        measures=Measures(),
        held_out=(),
        alpha=alpha,
        design_reason=design.reason,
        seed=seed,
        tokens=tokens,
        model=model,
        model_fingerprint=model_fingerprint,
        dtype=dtype,
        n_bootstraps=n_bootstraps,
        balanced=balance,
    )
    taken = take_measures(
        measures, source, result, design, masked=masked, held_out=held_out, weights=weights, events=events
    )
    result = replace(result, measures=taken)
    return result.tried_on(held_out) if held_out else result


def _judge(sweep: Sweep) -> tuple[Verdict, ...]:
    """The six claims from what a sweep holds; the rules are `leadline.evidence.verdict`'s."""
    metric, alpha = PRIMARY[sweep.labels.kind], sweep.alpha
    chance, site = CHANCE[metric], sweep.best_site.name
    p_max = sweep.permutation.p_max if sweep.permutation else None
    if p_max is not None and sweep.q_value is not None:
        # One of several targets: its p-value is adjusted for their number.
        p_max = max(p_max, sweep.q_value)
    first = decodable(
        metric,
        chance,
        sweep.selection.metrics[metric],
        site,
        p_max,
        alpha,
        sweep.measures.leaks,
        dominated=metric == "r2" and _dominated(sweep),
    )
    task = sweep.measures.control_task
    judged_by = JUDGED_BY[sweep.labels.kind]
    second = selective(
        judged_by,
        first.verdict,
        alpha,
        task.selectivity if task is not None and not task.reason else None,
        task.p_value if task is not None else float("nan"),
        task=task.task if task is not None else None,
        control=task.control if task is not None else None,
        reason=task.reason if task is not None else sweep.measures.not_taken.get("control_task", ""),
        instead=sweep.measures.random_labels,
        leaks=sweep.measures.leaks,
    )
    gains = {b.name: (b.title, b.judged_gain or b.gain, b.p_judged_gain) for b in sweep.baselines}
    for b in sweep.baselines:
        # A likelihood that says little of a sentence alone may tell nearly every minimal pair apart.
        if b.pair_gain is not None:
            gains[f"{b.name}, by pairs"] = (f"{b.title} (pair accuracy)", b.pair_gain, b.p_pair_gain)
    leaking = any(b.below_chance and b.below_chance["high"] < chance - LEAK_MARGIN for b in sweep.baselines)
    third = beyond_surface(
        judged_by,
        gains,
        first.verdict,
        alpha,
        leaking,
        leaks=sweep.measures.leaks,
        lacks_words=sweep.labels.texts is not None and not {"bag_of_words", "char_ngrams"} & set(gains),
    )
    tests = {h.name: (h.metrics[site][metric], h.p_value, h.n_groups) for h in sweep.held_out if h.shifted}
    fourth = general(metric, chance, first.verdict, tests, alpha)
    later = "No intervention was made (causal: in a study, or `leadline causal RUN`)."
    return (first, second, third, fourth, not_tested("used", later), not_tested("where from", later))


def _dominated(sweep: Sweep) -> bool:
    """Whether one group fills more than half of a fold, whose own mean and spread are then that group's."""
    if sweep.labels.groups is None:
        return False
    counts = np.unique(np.asarray(sweep.labels.groups, dtype=str), return_counts=True)[1]
    return bool(counts.max() * (int(sweep.fold.max()) + 1) > len(sweep.fold) / 2)
