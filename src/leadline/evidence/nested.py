"""Full nesting: site and setting chosen inside each outer fold's training rows, and judged on the rows left out.

It is the reference that the cheaper correction (BBC-CV, `leadline.evidence.bootstrap.select`) is held against: no row
that judges has had a say in any choice. It costs a fit of every site for each outer fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from leadline.errors import EvidenceError
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
from leadline.evidence.metrics import PRIMARY, all_metrics, fold_mean
from leadline.probes.fit import Family
from leadline.probes.parallel import map_sites
from leadline.probes.splits import make_folds

__all__ = ["Choice", "Comparison", "Nested", "compare_with_bbc", "nested_selection"]

SiteName = TypeVar("SiteName")


@dataclass(frozen=True)
class Choice:
    """What an outer fold chose: a site and a setting, by `inner`, the primary metric over the inner folds."""

    site: str
    setting: float
    inner: float


@dataclass(frozen=True)
class Nested:
    """The worth of the whole procedure, choice included.

    Attributes
    ----------
    metric : the primary one. estimate : its mean over outer folds, with the interval of the replicates.
    choices : one an outer fold. scores : (n, c) each outer fold's rows, scored by its choice's refit.
    selection : all metrics, and replicates for paired differences. reason : why there is no interval, or empty.
    """

    metric: str
    estimate: Estimate
    choices: tuple[Choice, ...]
    scores: np.ndarray
    selection: Selection
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Three estimates of the worth of the best site and setting, on the same folds and replicates.

    Attributes
    ----------
    naive : the best configuration's cross-validated metric, not corrected.
    corrected : by BBC-CV, of `site` and `setting`. nested : by full nesting, of `choices`.
    difference : corrected − nested, paired. Its interval is of the rows alone: where both choose alike it is narrow
        about an offset of a few thousandths, which is the methods' own and no finding about the data.
    reason : why there is no interval, or empty.
    """

    metric: str
    naive: float
    corrected: Estimate
    nested: Estimate
    difference: Estimate
    site: str
    setting: float
    choices: tuple[Choice, ...]
    reason: str = ""


def nested_selection(
    read: Callable[[SiteName], np.ndarray],
    sites: Sequence[SiteName],
    family: Family,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    *,
    n_inner: int = 4,
    design: BootstrapDesign | None = None,
    weights: np.ndarray | None = None,
    n_bootstraps: int = 1000,
    seed: int = 0,
) -> Nested:
    """Cross-validate the choice of site and setting along with the fit.

    For each outer fold, the other rows are split into inner folds, groups whole. Site and setting are those with the
    best primary metric over the inner folds; the refit on all rows of the outer fold's training part scores its test
    part. One `fit_site` call per outer fold × site gives both.

    Parameters
    ----------
    read : gives a site's (n, d) raw activations. sites : in the order in which ties are broken.
    Y : (n, m). kind : of the target, which the family takes. fold : (n,) the outer folds. groups : (n,) or None.
    n_inner : inner folds. design : replicates over the outer folds; drawn here, n_bootstraps of them, if None.
    weights : (n,) of the training rows, None for ones.

    Raises
    ------
    EvidenceError : no site, training rows that cannot fill the inner folds, or a metric that no inner fold defines.

    References
    ----------
    S. Varma and R. Simon (2006), Bias in error estimation when using cross-validation for model selection, BMC
    Bioinformatics 7.
    """
    if not len(sites):
        raise EvidenceError("there are no sites to choose from; give some.")
    metric = PRIMARY[kind]
    if design is None:
        design = bootstrap_design(fold, groups, n_bootstraps, seed)
    outer = [np.flatnonzero(fold != k) for k in range(int(fold.max()) + 1)]
    inner = [
        make_folds(
            Y[rows],
            None if groups is None else np.asarray(groups)[rows],
            n_inner,
            stratify=kind != "continuous",
            seed=seed,
        )
        for rows in outer
    ]

    def one(site: SiteName) -> list[tuple[float, float, np.ndarray]]:
        X = np.asarray(read(site))
        found = []
        for k, (rows, part) in enumerate(zip(outer, inner, strict=True)):
            own = None if weights is None else weights[rows]
            fit = family.fit_site(X[rows], Y[rows], part, weights=own)
            values = np.array([_inner_metric(scores, Y[rows], kind, part) for scores in fit.scores])
            best = int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
            # In float64: raw activations may have large means, which the intercept takes away again.
            held = X[fold == k].astype(np.float64) @ fit.coef[best].T + fit.intercept[best]
            found.append((float(values[best]), float(fit.settings[best]), held))
        return found

    by_site = list(map_sites(one, sites))
    choices = []
    scores = np.empty((len(Y), by_site[0][0][2].shape[1]), dtype=np.float32)
    for k in range(len(outer)):
        values = np.array([found[k][0] for found in by_site])
        if not np.isfinite(values).any():
            raise EvidenceError(
                f"{metric} is undefined at every site in the inner folds of outer fold {k}; each needs both classes, "
                "or a target that varies. Use fewer inner folds."
            )
        at = int(np.nanargmax(values))
        value, setting, held = by_site[at][k]
        choices.append(Choice(str(sites[at]), setting, value))
        scores[fold == k] = held
    selection = select(metric_table(scores[None], Y, kind, design), design)
    return Nested(metric, selection.metrics[metric], tuple(choices), scores, selection, design.reason)


def compare_with_bbc(
    read: Callable[[SiteName], np.ndarray],
    sites: Sequence[SiteName],
    family: Family,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    *,
    n_inner: int = 4,
    design: BootstrapDesign | None = None,
    weights: np.ndarray | None = None,
    n_bootstraps: int = 1000,
    seed: int = 0,
) -> Comparison:
    """The naive, the BBC-corrected and the nested estimate, side by side; parameters are those of `nested_selection`.

    They err in different ways. The naive maximum is too high where many configurations are alike. BBC-CV takes most of
    that away without a refit, but not all where nothing is to be read: rows that choose a configuration have trained
    the probes of the rows that judge it, and the other way round, so that a chance agreement of the two counts on both
    sides. Nesting is free of that. Both choose by fewer distinct rows than the sweep does, and are a little low where
    the choice is hard and matters.
    """
    metric = PRIMARY[kind]
    if design is None:
        design = bootstrap_design(fold, groups, n_bootstraps, seed)
    replicates = design
    nested = nested_selection(
        read,
        sites,
        family,
        Y,
        kind,
        fold,
        groups,
        n_inner=n_inner,
        design=design,
        weights=weights,
        seed=seed,
    )

    def one(site: SiteName) -> tuple[MetricTable, np.ndarray]:
        fit = family.fit_site(np.asarray(read(site)), Y, fold, weights=weights)
        return metric_table(fit.scores, Y, kind, replicates), fit.settings

    found = list(map_sites(one, sites))
    named = [(str(site), float(x)) for site, (_, settings) in zip(sites, found, strict=True) for x in settings]
    corrected = select(MetricTable.join([table for table, _ in found]), design)
    site, setting = named[corrected.index]
    difference, _ = gain(corrected, nested.selection, metric, design)
    return Comparison(
        metric=metric,
        naive=corrected.naive[metric],
        corrected=corrected.metrics[metric],
        nested=nested.estimate,
        difference=difference,
        site=site,
        setting=setting,
        choices=nested.choices,
        reason=design.reason,
    )


def _inner_metric(scores: np.ndarray, Y: np.ndarray, kind: str, part: np.ndarray) -> float:
    parts = [part == k for k in range(int(part.max()) + 1)]
    ones = [np.ones((int(p.sum()), 1), dtype=np.float32) for p in parts]
    values = [all_metrics(kind, scores[p], Y[p], one)[PRIMARY[kind]] for p, one in zip(parts, ones, strict=True)]
    return float(fold_mean(values)[0])
