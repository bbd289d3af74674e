"""The transfer matrix: a probe trained on each set, scored on each set, at every site, and what predicts its cells.

*Diagonal.* Out of fold, corrected for the choice of penalty as a sweep's site is (BBC-CV).
*Off the diagonal.* The refit on all rows of the one set, on all rows of the other; where the two share groups, by folds
over the union of groups (`shared_folds`), so that no group is both trained on and tested. The penalty is the one with
the best out-of-fold primary metric on the training set: nothing is chosen on the set that is scored.
*Predictors.* Three measures of how alike the probes of two sets are, each held against the cells by a Mantel test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from leadline.errors import EvidenceError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.evidence.bootstrap import BootstrapDesign, Estimate, MetricTable, bootstrap_design, metric_table, select
from leadline.evidence.labels import Labels, Source
from leadline.evidence.mantel import mantel
from leadline.evidence.metrics import fold_mean
from leadline.evidence.shared_folds import SharedFolds, shared_folds
from leadline.evidence.transfer import (
    centred_accuracy,
    centred_scores,
    cosine,
    held_out_metrics,
    score_correlation,
    weighted_metrics,
)
from leadline.evidence.transfer_result import PREDICTED, PREDICTORS, Prediction, TransferCell, TransferMatrix
from leadline.probes.fit import Family
from leadline.probes.intervals import percentile
from leadline.probes.parallel import map_sites
from leadline.sites import Site

__all__ = ["PREDICTED", "PREDICTORS", "Prediction", "TransferCell", "TransferMatrix", "transfer_matrix"]


@dataclass(frozen=True)
class _Trained:
    """One set at one site: its rows, and its fits at the chosen setting."""

    X: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    fold_coef: np.ndarray
    fold_intercept: np.ndarray
    scores: np.ndarray
    setting: float
    metrics: dict[str, Estimate]


def transfer_matrix(
    sources: Mapping[str, tuple[Source, Labels]],
    family: Family,
    *,
    n_folds: int = 5,
    n_bootstraps: int = 1000,
    n_permutations: int = 9999,
    seed: int = 0,
    sites: Sequence[str | Site] | None = None,
    events: EventSink = SILENT,
) -> TransferMatrix:
    """Train on each set, score on each set, at every site.

    Parameters
    ----------
    sources : {name: (activations, labels)} of two sets or more, of one model and one kind of target.
    n_folds : of each set, and of the groups that sets share. n_bootstraps : replicates of the intervals.
    n_permutations : of the Mantel tests, where the sets are too many to go through all of them.
    sites : by default those that all sources have.

    Raises
    ------
    EvidenceError : fewer than two sets, targets or widths that differ, no site in common, or a set that no folds can
        judge.

    References
    ----------
    S. Marks and M. Tegmark (2023), The Geometry of Truth, arXiv:2310.06824: probes across sets of statements.
    """
    labels = {name: one for name, (_, one) in sources.items()}
    kind = _one_kind(labels, family)
    where = _common_sites(sources, sites)
    together = shared_folds(labels, n_folds, seed)
    designs = {
        name: bootstrap_design(together.folds[name], one.groups, n_bootstraps, seed) for name, one in labels.items()
    }

    def at(site: Site) -> list[TransferCell]:
        X = {name: source.read(site)[labels[name].rows] for name, (source, _) in sources.items()}
        if len({x.shape[1] for x in X.values()}) > 1:
            widths = ", ".join(f"{name} {x.shape[1]}" for name, x in X.items())
            raise EvidenceError(f"the sets differ in width at {site} ({widths}); extract all of them with one model.")
        trained = {name: _train(X[name], labels[name], family, designs[name]) for name in X}
        return _cells(site, trained, labels, together, designs, seed)

    cells: list[TransferCell] = []
    with stage(events, "transfer", f"{len(labels)} sets at {len(where)} sites", total=len(where), unit="sites"):
        for done, (site, found) in enumerate(zip(where, map_sites(at, where), strict=True), start=1):
            cells += found
            events.emit(Event("progress", "transfer", site.name, done=done, total=len(where), unit="sites"))
    notes = _notes(labels, together, designs)
    matrix = TransferMatrix(tuple(labels), where, kind, family, tuple(cells), (), together, seed, notes)
    return replace(matrix, predictions=_predictions(matrix, n_permutations, seed))


def _one_kind(labels: Mapping[str, Labels], family: Family) -> str:
    if len(labels) < 2:
        raise EvidenceError(f"got {len(labels)} labelled set; transfer is between two or more.")
    kinds = {name: (one.kind, one.Y.shape[1]) for name, one in labels.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name} {kind} with {m} column{'s' * (m > 1)}" for name, (kind, m) in kinds.items())
        raise EvidenceError(f"the targets differ ({said}); a probe carries over to a target of its own kind alone.")
    ((kind, m),) = set(kinds.values())
    if kind in ("multiclass", "ordinal") and len({one.classes for one in labels.values()}) > 1:
        said = "; ".join(f"{name}: {', '.join(one.classes)}" for name, one in labels.items())
        raise EvidenceError(f"the sets have different classes ({said}); give sets of the same classes in one order.")
    if kind == "binary" and m != 1:
        raise EvidenceError(f"the binary targets have {m} columns; give one of them.")
    if kind not in family.kinds:
        raise EvidenceError(
            f"the targets are {kind}; the {family.name} probe takes {' and '.join(family.kinds)} targets."
        )
    return kind


def _common_sites(
    sources: Mapping[str, tuple[Source, Labels]], wanted: Sequence[str | Site] | None
) -> tuple[Site, ...]:
    there = {name: source.sites for name, (source, _) in sources.items()}
    first = next(iter(there.values()))
    common = tuple(site for site in first if all(site in sites for sites in there.values()))
    listed = "; ".join(f"{name}: {', '.join(s.name for s in sites)}" for name, sites in there.items())
    if wanted is not None:
        asked = tuple(dict.fromkeys(Site.parse(site) for site in wanted))
        missing = [site for site in asked if site not in common]
        if missing or not asked:
            raise EvidenceError(
                f"{missing[0] if missing else 'no site'} is not a site of every set ({listed}); name sites that all "
                f"of them have."
            )
        return asked
    if not common:
        raise EvidenceError(f"the sets have no site in common ({listed}); extract them at the same sites.")
    return common


def _train(X: np.ndarray, labels: Labels, family: Family, design: BootstrapDesign) -> _Trained:
    """Fit one set, choose its setting by its own folds, and judge it there."""
    fit = family.fit_site(X, labels.Y, design.fold)
    table = metric_table(fit.scores, labels.Y, labels.kind, design)
    if labels.kind == "binary":
        table = _with_centred(table, fit.scores, labels.Y, design)
    selection = select(table, design)
    i = selection.index
    return _Trained(
        X,
        fit.coef[i],
        fit.intercept[i],
        fit.fold_coef[i],
        fit.fold_intercept[i],
        fit.scores[i].astype(np.float64),
        float(fit.settings[i]),
        selection.metrics,
    )


def _with_centred(table: MetricTable, scores: np.ndarray, Y: np.ndarray, design: BootstrapDesign) -> MetricTable:
    """The table with `centred_accuracy`, for the same replicates."""
    rows = [np.flatnonzero(design.fold == k) for k in range(len(design.weights))]
    found = np.empty((len(scores), 1 + 2 * design.n_replicates), dtype=np.float32)
    for c, one in enumerate(scores):
        by_fold = [centred_accuracy(one[r], Y[r], w) for r, w in zip(rows, design.weights, strict=True)]
        found[c] = fold_mean(by_fold)
    name, b = "centred_accuracy", 1 + design.n_replicates
    return MetricTable(
        table.point | {name: found[:, 0]},
        table.drawn | {name: found[:, 1:b]},
        table.left_out | {name: found[:, b:]},
        table.kind,
    )


def _cells(
    site: Site,
    trained: Mapping[str, _Trained],
    labels: Mapping[str, Labels],
    together: SharedFolds,
    designs: Mapping[str, BootstrapDesign],
    seed: int,
) -> list[TransferCell]:
    names = list(trained)
    cells = {}
    for test in names:
        own, of_test = trained[test], labels[test]
        fold, n_b = together.folds[test], designs[test].n_replicates
        # All sets' probes on these rows in one product.
        stacked = centred_scores(own.X, np.vstack([trained[name].coef for name in names]))
        centred = dict(zip(names, np.split(stacked, len(names), axis=1), strict=True))
        drawn = np.empty((len(fold), 1 + n_b), dtype=np.float32)
        for k, weights in enumerate(designs[test].weights):
            drawn[fold == k] = weights[:, : 1 + n_b]
        for train in names:
            of_train = trained[train]
            shared = len(fold) if train == test else together.n_shared(train, test)
            if train == test:
                scores, metrics = own.scores, own.metrics
            elif shared:
                scores = _by_fold(own.X, fold, of_train)
                found = weighted_metrics(scores, of_test.Y, of_test.kind, drawn, fold)
                certain = not designs[test].reason
                metrics = {m: percentile(v) if certain else Estimate(float(v[0])) for m, v in found.items()}
            else:
                scores = own.X.astype(np.float64) @ of_train.coef.T + of_train.intercept
                metrics = held_out_metrics(scores, of_test.Y, of_test.kind, of_test.groups, n_replicates=n_b, seed=seed)
            cells[train, test] = TransferCell(
                train=train,
                test=test,
                site=site,
                metrics=metrics,
                setting=of_train.setting,
                scored_by="folds" if shared else "refit",
                n_rows=len(fold),
                n_shared=shared,
                mahalanobis_cosine=score_correlation(centred[train], centred[test]),
                cosine=cosine(of_train.coef, own.coef),
                cross_fitted_cosine=_within_folds(scores, own.scores, fold),
            )
    return [cells[train, test] for train in names for test in names]


def _by_fold(X: np.ndarray, fold: np.ndarray, trained: _Trained) -> np.ndarray:
    """(n, c) scores, each row's by the fit that left its fold out."""
    scores = np.empty((len(X), len(trained.coef)))
    for k in np.unique(fold):
        rows = fold == k
        scores[rows] = X[rows].astype(np.float64) @ trained.fold_coef[k].T + trained.fold_intercept[k]
    return scores


def _within_folds(one: np.ndarray, other: np.ndarray, fold: np.ndarray) -> float:
    """The mean over folds of the correlation of two (n, c) scores within each."""
    parts = [fold == k for k in np.unique(fold)]
    found = [score_correlation(one[r] - one[r].mean(axis=0), other[r] - other[r].mean(axis=0)) for r in parts]
    return float(fold_mean([np.array([value]) for value in found])[0])


def _predictions(matrix: TransferMatrix, n_permutations: int, seed: int) -> tuple[Prediction, ...]:
    metric = PREDICTED[matrix.kind]
    cells = np.stack([matrix.values(metric, site) for site in matrix.sites])
    found = []
    for predictor in PREDICTORS:
        alike = np.stack([matrix.values(predictor, site) for site in matrix.sites])
        for i, site in enumerate(matrix.sites):
            test = mantel(alike[i], cells[i], n_permutations=n_permutations, seed=seed)
            found.append(Prediction(predictor, metric, site, test))
        found.append(
            Prediction(predictor, metric, None, mantel(alike, cells, n_permutations=n_permutations, seed=seed))
        )
    return tuple(found)


def _notes(
    labels: Mapping[str, Labels], together: SharedFolds, designs: Mapping[str, BootstrapDesign]
) -> tuple[str, ...]:
    notes = [f"{name}: {design.reason}." for name, design in designs.items() if design.reason]
    kinds = {one.classes for one in labels.values() if one.kind == "binary"}
    if len(kinds) > 1:
        said = "; ".join(f"{name}: {one.classes[1]}" for name, one in labels.items())
        notes.append(f"The class that counts as 1 goes by different names ({said}); an AUROC below 0.5 may mean this.")
    for test, one in labels.items():
        for train, other in labels.items():
            if train != test and one.texts is not None and other.texts is not None:
                same = _unguarded(one, other, together, train, test)
                if same:
                    notes.append(
                        f"{same:,} of {len(one.Y):,} rows of '{test}' have a text that '{train}' has too, under "
                        f"another group: the probe of '{train}' was trained on it. Give both sets groups of one naming."
                    )
    return tuple(notes)


def _unguarded(one: Labels, other: Labels, together: SharedFolds, train: str, test: str) -> int:
    """How many test rows are scored by a fit that has trained on their very text."""
    by_folds = together.n_shared(train, test) > 0
    trained: dict[str, set[int]] = {}
    for text, fold in zip(other.texts or (), together.folds[train].tolist(), strict=True):
        if not text:
            continue
        trained.setdefault(text, set()).add(fold)
    return sum(
        bool(trained.get(text, set()) - ({fold} if by_folds else set()))
        for text, fold in zip(one.texts or (), together.folds[test].tolist(), strict=True)
    )
