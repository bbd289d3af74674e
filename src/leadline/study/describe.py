"""From what the stages return to what the results schema holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from leadline.activations import Activations
from leadline.data import Dataset
from leadline.data import Finding as DataFinding
from leadline.data.records import Target
from leadline.evidence import MEASURES, Sweep
from leadline.evidence.bootstrap import Estimate as Bootstrapped
from leadline.evidence.metrics import CHANCE, PRIMARY, decided_codes
from leadline.evidence.multiplicity import benjamini_yekutieli
from leadline.evidence.permutation import PermutationTest
from leadline.evidence.site_fits import SiteOutcome
from leadline.evidence.transfer import HeldOut
from leadline.evidence.verdict import Verdict
from leadline.models import Model
from leadline.probes import Status
from leadline.study import results as schema
from leadline.study.config import StudyConfig
from leadline.study.measured import measured

__all__ = [
    "data_summary",
    "finding",
    "long_table",
    "methods",
    "model_summary",
    "q_values",
    "target_result",
    "test_result",
]

N_WRONG = 10
N_POINTS = 2000
N_BINS = 40
N_EXAMPLES = 6


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _estimate(e: Bootstrapped) -> schema.Estimate:
    return schema.Estimate(value=_number(e.value), low=_number(e.low), high=_number(e.high))


def _metrics(found: dict[str, Bootstrapped]) -> dict[str, schema.Estimate]:
    return {name: _estimate(e) for name, e in found.items()}


def finding(found: DataFinding) -> schema.Finding:
    """A data finding, with the first hundred of its rows."""
    return schema.Finding(code=found.code, severity=found.severity, message=found.message, rows=list(found.rows)[:100])


def data_summary(data: Dataset, findings: Sequence[DataFinding]) -> schema.DataSummary:
    """The data set, as the report shows it."""
    step = max(1, data.n // N_EXAMPLES)
    return schema.DataSummary(
        name=data.name,
        source=data.source,
        fingerprint=data.fingerprint,
        n_given=data.n_given,
        n_rows=data.n,
        text_column=data.text_column,
        target_columns=[c for t in data.targets for c in t.columns],
        group_column=data.group_column,
        split_column=data.split_column,
        n_groups=None if data.groups is None else len(set(data.groups.tolist())),
        n_train=len(data.train_rows),
        n_test=len(data.test_rows),
        examples=data.texts[::step][:N_EXAMPLES],
        findings=[finding(f) for f in findings],
    )


def model_summary(model: Model) -> schema.ModelSummary:
    """The model, and the proof that its sites are what they are called."""
    return schema.ModelSummary(
        name=model.name,
        source=model.source,
        architecture=model.architecture.name,
        equation=model.proof.equation,
        proof_error=model.proof.error,
        n_layers=model.n_layers,
        d_model=model.d_model,
        n_heads=model.n_heads,
        n_parameters=model.n_parameters,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        fingerprint=model.fingerprint,
    )


def _site(outcome: SiteOutcome, permutation: PermutationTest | None, index: int, show_null: bool) -> schema.SiteResult:
    null = permutation if show_null else None
    return schema.SiteResult(
        site=outcome.site.name,
        kind=outcome.site.kind,
        layer=outcome.site.layer,
        metrics=_metrics(outcome.selection.metrics),
        setting=_number(outcome.setting),
        p_value=float(permutation.p_values[index]) if permutation else None,
        null_mean=_number(null.null_mean[index]) if null else None,
        null_low=_number(null.null_low[index]) if null else None,
        null_high=_number(null.null_high[index]) if null else None,
        n_fits=outcome.n_fits,
        n_not_converged=outcome.n_not_converged,
        statuses=outcome.statuses,
    )


def test_result(tested: HeldOut, source: str, note: str) -> schema.TestResult:
    """A second labelled set: the chosen site's figures, and every site's for the curve."""
    notes = [note] if note else []
    if tested.n_shared:
        how = (
            "every row was scored by the probe of a fold that never saw its group or text"
            if tested.fold is not None
            else "what the probe remembers of them helps it here"
        )
        notes.append(
            f"{tested.n_shared:,} of its {tested.n_rows:,} rows have a group, or a text, that the probe was trained on "
            f"too: {how}."
        )
    return schema.TestResult(
        name=tested.name,
        source=source,
        n_rows=tested.n_rows,
        metrics=_metrics(tested.best),
        sites=[schema.SiteTransfer(site=site, metrics=_metrics(found)) for site, found in tested.metrics.items()],
        note=" ".join(notes),
        shifted=tested.shifted,
        cosine=_number(tested.cosine[tested.best_site]),
    )


def q_values(sweeps: Mapping[str, Sweep]) -> dict[str, float]:
    """{target: its p-value for the best of all sites, adjusted for the number of targets}; empty for one target.

    Targets of one study share rows, so that their tests depend on each other in any way: Benjamini and Yekutieli.
    """
    known = {name: s.permutation.p_max for name, s in sweeps.items() if s.permutation is not None}
    known = {name: p for name, p in known.items() if math.isfinite(p)}
    if len(known) < 2:
        return {}
    return dict(zip(known, map(float, benjamini_yekutieli(list(known.values()))), strict=True))


def verdict_of(v: Verdict) -> schema.Verdict:
    """A verdict for the schema."""
    return schema.Verdict(
        claim=v.claim,  # type: ignore[arg-type]
        verdict=v.verdict,  # type: ignore[arg-type]
        sentence=v.sentence,
        rule=v.rule,
        figures={name: _number(value) for name, value in v.figures.items()},
    )


def target_result(
    data: Dataset,
    target: Target,
    sweep: Sweep,
    found: Sequence[DataFinding],
    sets: Mapping[str, tuple[str, str]],
    probe_files: list[str],
    config: StudyConfig,
) -> schema.TargetResult:
    """One target of a study.

    Parameters
    ----------
    found : what its sweep betrayed of the data. sets : {test set: (its source, a note)}.
    """
    labels, permutation = sweep.labels, sweep.permutation
    chosen = sweep.outcomes[sweep.best_index]
    binary = target.kind == "binary"
    y = labels.Y[:, 0] > 0
    findings = [finding(f) for f in found]
    failed = sum(o.n_not_converged for o in sweep.outcomes)
    ended = [(s, n) for s in Status if (n := sum(o.statuses.get(s.name.lower(), 0) for o in sweep.outcomes))]
    chosen_among = ["site"] if sweep.family.parameter is None else ["site", sweep.family.parameter]
    if failed:
        fits = sum(o.n_fits for o in sweep.outcomes)
        findings.append(
            schema.Finding(
                code="not_converged",
                severity="warning",
                message=f"{failed:,} of {fits:,} fits did not reach their certificate; the table of sites marks them. "
                + " ".join(
                    f"{n:,} {status.name.lower().replace('_', ' ')}: {status.explanation}" for status, n in ended
                ),
            )
        )
    if sweep.design_reason:
        findings.append(
            schema.Finding(
                code="no_interval", severity="warning", message=f"No intervals are given: {sweep.design_reason}."
            )
        )
    return schema.TargetResult(
        target=target.name,
        columns=list(target.columns),
        kind=target.kind,  # type: ignore[arg-type]
        negative=target.negative,
        positive=target.positive,
        n_negative=int((~y).sum()) if binary else None,
        n_positive=int(y.sum()) if binary else None,
        classes=list(labels.classes),
        n_by_class=[int((labels.Y[:, 0] == c).sum()) for c in range(labels.n_classes)],
        primary_metric=PRIMARY[target.kind],
        chance=CHANCE[PRIMARY[target.kind]],
        n_folds=int(sweep.fold.max()) + 1,
        parameter=sweep.family.parameter,
        sites=[_site(o, permutation, i, "shuffled_labels" in config.controls) for i, o in enumerate(sweep.outcomes)],
        best=schema.BestSite(
            site=chosen.site.name,
            layer=chosen.site.layer,
            setting=_number(chosen.setting),
            metrics=_metrics(sweep.selection.metrics),
            naive={name: _number(value) for name, value in sweep.selection.naive.items()},
            correction=f"BBC-CV over every {' and '.join(chosen_among)} (Tsamardinos et al. 2018)",
            probe_files=probe_files,
        ),
        permutation=None
        if permutation is None
        else schema.Permutation(
            n_permutations=permutation.n_permutations,
            statistic=permutation.statistic,
            scheme=permutation.scheme,
            smallest_p=permutation.smallest_p,
            p_max=permutation.p_max,
            observed_max=_number(permutation.observed_max),
            null_max_mean=_number(permutation.null_max_mean),
            null_max_95=_number(permutation.null_max_95),
        ),
        baselines=[
            schema.BaselineResult(
                name=b.name,
                title=b.title,
                explanation=b.explanation,
                metrics=_metrics(b.selection.metrics),
                gain=_estimate(b.gain),
                p_gain=_number(b.p_gain),
                below_chance=b.below_chance is not None,
                sites=[_site(o, None, i, False) for i, o in enumerate(b.outcomes)],
            )
            for b in sweep.baselines
        ],
        verdicts=[verdict_of(v) for v in sweep.verdicts],
        findings=findings,
        histogram=_histogram(chosen.scores[:, 0], y) if binary else None,
        points=_points(data, sweep) if target.kind == "continuous" else [],
        confusion=_confusion(chosen.scores[:, 0], y) if binary else None,
        class_confusion=_class_confusion(sweep) if target.kind in ("multiclass", "ordinal") else None,
        most_wrong=_most_wrong(data, target, sweep),
        tests=[test_result(h, *sets[h.name]) for h in sorted(sweep.held_out, key=lambda h: h.shifted)],
        measures=measured(sweep, data),
        q_value=sweep.q_value,
    )


def _histogram(scores: np.ndarray, y: np.ndarray) -> schema.Histogram:
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, N_BINS + 1)
    return schema.Histogram(
        edges=edges.tolist(),
        negative=np.histogram(scores[~y], edges)[0].tolist(),
        positive=np.histogram(scores[y], edges)[0].tolist(),
    )


def _confusion(scores: np.ndarray, y: np.ndarray) -> schema.Confusion:
    said = scores > 0
    return schema.Confusion(
        true_negative=int((~said & ~y).sum()),
        false_positive=int((said & ~y).sum()),
        false_negative=int((~said & y).sum()),
        true_positive=int((said & y).sum()),
    )


def _class_confusion(sweep: Sweep) -> schema.ClassConfusion:
    labels = sweep.labels
    said = decided_codes(labels.kind, sweep.outcomes[sweep.best_index].scores)
    counts = np.zeros((labels.n_classes, labels.n_classes), dtype=np.int64)
    np.add.at(counts, (labels.Y[:, 0].astype(np.int64), said), 1)
    return schema.ClassConfusion(classes=list(labels.classes), counts=counts.tolist())


def _points(data: Dataset, sweep: Sweep) -> list[schema.Points]:
    rows = sweep.labels.rows
    keep = np.arange(len(rows))
    if len(keep) > N_POINTS:
        keep = np.sort(np.random.default_rng(sweep.seed).choice(keep, N_POINTS, replace=False))
    scores = sweep.outcomes[sweep.best_index].scores
    return [
        schema.Points(
            column=column,
            true=sweep.labels.Y[keep, c].tolist(),
            predicted=[round(float(v), 6) for v in scores[keep, c]],
            rows=data.source_rows[rows[keep]].tolist(),
        )
        for c, column in enumerate(sweep.labels.columns)
    ]


def _most_wrong(data: Dataset, target: Target, sweep: Sweep) -> list[schema.WrongText]:
    labels = sweep.labels
    scores = sweep.outcomes[sweep.best_index].scores
    if target.kind == "binary":
        wrong = np.where(labels.Y[:, 0] > 0, -scores[:, 0], scores[:, 0])
        order = [i for i in np.argsort(-wrong, kind="stable")[:N_WRONG] if wrong[i] > 0]
        names = [str(target.positive) if labels.Y[i, 0] > 0 else str(target.negative) for i in order]
        shown = [float(scores[i, 0]) for i in order]
    elif target.kind in ("multiclass", "ordinal"):
        codes = labels.Y[:, 0].astype(np.int64)
        said = decided_codes(target.kind, scores)
        wrong = _class_error(target.kind, scores, codes)
        order = [i for i in np.argsort(-wrong, kind="stable") if said[i] != codes[i]][:N_WRONG]
        names = [f"{labels.classes[codes[i]]}, read {labels.classes[said[i]]}" for i in order]
        shown = [float(wrong[i]) for i in order]
    else:
        # Columns are measured in their own spread, so that none counts for its unit.
        spread = labels.Y.std(axis=0)
        wrong = np.sqrt(np.square((scores - labels.Y) / np.where(spread > 0, spread, 1)).sum(axis=1))
        order = list(np.argsort(-wrong, kind="stable")[:N_WRONG])
        names = [
            "; ".join(
                f"{c} {y:.4g}, read {s:.4g}" for c, y, s in zip(labels.columns, labels.Y[i], scores[i], strict=True)
            )
            for i in order
        ]
        shown = [float(wrong[i]) for i in order]
    return [
        schema.WrongText(
            row=int(data.source_rows[labels.rows[i]]),
            text=data.texts[labels.rows[i]],
            label=name,
            score=score,
            group=None if labels.groups is None else str(labels.groups[i]),
        )
        for i, name, score in zip(order, names, shown, strict=True)
    ]


def _class_error(kind: str, scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) how far the true class lies behind the highest, or the scores beyond the nearer threshold of the level."""
    rows = np.arange(len(codes))
    if kind == "multiclass":
        return np.asarray(scores.max(axis=1) - scores[rows, codes])
    padded = np.hstack([np.full((len(codes), 1), np.inf), scores, np.full((len(codes), 1), -np.inf)])
    return np.asarray(np.maximum(-padded[rows, codes], padded[rows, codes + 1]))


_FAMILIES = {
    "elastic_net": "linear regression with an L1 and an L2 penalty",
    "k_sparse": "a probe on k features, selected on the training rows of each fold,",
    "lda": "linear discriminant analysis with a shrunken covariance",
    "linear_svm": "a linear support vector machine with a squared hinge",
    "logistic": "logistic regression with an L2 penalty",
    "mean_difference": "the difference of class means",
    "multinomial": "multinomial logistic regression with an L2 penalty",
    "nearest_centroid": "the nearest class mean",
    "ordinal": "ordinal (cumulative) logistic regression with an L2 penalty",
    "ridge": "ridge regression",
    "sparse_logistic": "logistic regression with an L1 and an L2 penalty",
}


def methods(config: StudyConfig, data: Dataset, acts: Activations, sweeps: dict[str, Sweep]) -> list[str]:
    """How the figures were made, in sentences that could stand in a paper."""
    sweep = next(iter(sweeps.values()))
    n_fits = sum(o.n_fits for s in sweeps.values() for o in s.outcomes)
    family = " and ".join(dict.fromkeys(_FAMILIES[s.family.name] for s in sweeps.values()))
    if config.probe.covariance == "pooled":
        family += ", times the inverse of the pooled covariance"
    parameter = sweep.family.parameter
    choices = "the site" if parameter is None else f"{parameter} at a site, and site and {parameter} for the best,"
    grouped = f" that keep '{data.group_column}' whole" if data.group_column else ""
    lines = [
        f"Activations of {data.n:,} texts were read at {len(acts.sites)} sites, token selection '{config.tokens}'.",
        f"At each site {family} was fitted in {config.folds} folds{grouped} and balanced by class, each fold "
        f"standardised by its own training rows where the family is penalised: {n_fits:,} fits in all.",
        "Metrics are computed within a fold on rows that the fit did not see, and averaged over folds.",
        f"Intervals (95%) come from {config.bootstraps:,} bootstrap draws of groups within folds, and condition on the "
        "fitted probes.",
        f"The choice of {choices} is corrected by bootstrap bias-corrected cross-validation (Tsamardinos et al. 2018).",
    ]
    if sweep.permutation is not None:
        test = sweep.permutation
        lines.append(
            f"Permutation test: {test.n_permutations:,} shuffles, the same for all sites; {test.scheme}. Statistic: "
            f"{test.statistic}. p = (1 + k)/(1 + B), at least {test.smallest_p:.2g}; the best site is held against the "
            f"null of the maximum over sites."
        )
    if sweep.baselines:
        titles = ", ".join(b.title.lower() for b in sweep.baselines)
        lines.append(f"Controls on the same folds and bootstrap draws: {titles}.")
    if config.balance:
        lines.append(
            "Training rows were drawn so that every class has as many as the rarest in each fold; every row was judged."
        )
    taken = sorted({name for s in sweeps.values() for name in s.measures.taken})
    if taken:
        lines.append(
            "Further evidence at the chosen site: "
            + "; ".join(f"{MEASURES[n].title.lower()} ({MEASURES[n].reference.rstrip('.')})" for n in taken)
            + "."
        )
    if len(sweeps) > 1:
        lines.append(
            "P-values of several targets are adjusted for their number as q-values, by which verdicts are judged "
            "(Benjamini and Yekutieli 2001)."
        )
    if config.test or len(data.test_rows):
        lines.append(
            "Test sets were scored by the probe refitted on all training rows; centred accuracy puts the threshold at "
            "the set's own mean score. Their intervals come from a bootstrap over their groups."
        )
    return lines


def long_table(results: schema.Results) -> pl.DataFrame:
    """A row a target × source × site × metric, as `results.parquet` holds it."""
    rows: list[dict[str, object]] = []

    def add(target: str, source: str, site: str | None, found: dict[str, schema.Estimate], **more: object) -> None:
        for metric, e in found.items():
            rows.append(
                {
                    "target": target,
                    "family": results.family,
                    "source": source,
                    "site": site,
                    "metric": metric,
                    "value": e.value,
                    "low": e.low,
                    "high": e.high,
                    "parameter": parameter if more.get("setting") is not None else None,
                    "setting": more.get("setting"),
                    "p_value": more.get("p_value"),
                }
            )

    for target in results.targets:
        parameter = target.parameter
        for site in target.sites:
            add(target.target, "probe", site.site, site.metrics, setting=site.setting, p_value=site.p_value)
        p_max = target.permutation.p_max if target.permutation else None
        best = target.best
        add(target.target, "best", best.site, best.metrics, setting=best.setting, p_value=p_max)
        for baseline in target.baselines:
            add(target.target, baseline.name, None, baseline.metrics)
            for site in baseline.sites:
                add(target.target, baseline.name, site.site, site.metrics, setting=site.setting)
        for measure in target.measures:
            found = {f"{measure.name}: {figure.name}": figure.value for figure in measure.figures}
            add(target.target, "measure", best.site, found)
        for test in target.tests:
            add(target.target, f"test: {test.name}", target.best.site, test.metrics)
            for transfer in test.sites:
                add(target.target, f"test: {test.name}", transfer.site, transfer.metrics)
    text, number = pl.String(), pl.Float64()
    names = ("target", "family", "source", "site", "metric", "value", "low", "high", "parameter", "setting", "p_value")
    return pl.DataFrame(
        rows, schema={name: text if name in names[:5] or name == "parameter" else number for name in names}
    )
