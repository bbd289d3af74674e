"""The summary: everything that a report says, typed, computed from the results alone.

`summarise` turns `Results` into sentences, tables and figure data; `html` and `markdown` only lay them out. Nothing
here knows HTML or Plotly, and no text is escaped yet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from leadline.report.causal import CausalSummary, causal_summary
from leadline.report.claims import Claim, caution, claims, convergence, finding, how_sure
from leadline.report.curves import LayerCurve, layer_curves, transfer_curve
from leadline.report.ladders import Ladder, control_ladder, gain_ladder
from leadline.report.measures import MeasureSummary, class_confusion_table, measures
from leadline.report.scores import HistogramFigure, PointsFigure, class_names, histogram_figure, points_figures
from leadline.report.tables import Table, chosen_table, metrics_table, sites_table
from leadline.report.wording import (
    DASH,
    Quantity,
    bytes_text,
    count,
    duration,
    joined,
    metric_title,
    number,
    p_text,
    parameters_text,
    plain_number,
    plural,
    quantity,
    sentence_start,
    shorten,
)
from leadline.study.results import Confusion, Finding, Results, TargetResult, TestResult, WrongText

__all__ = [
    "ConfusionSummary",
    "ControlRow",
    "Decision",
    "Notice",
    "StageRow",
    "Summary",
    "TargetSummary",
    "TestSummary",
    "WrongRow",
    "summarise",
]


@dataclass(frozen=True)
class Notice:
    """A finding as it is shown: a title, the message, and the rows it speaks of."""

    severity: str
    title: str
    message: str
    rows: str


@dataclass(frozen=True)
class Decision:
    """How many rows of a class got a decision, their share of the class, and whether the decision is right."""

    n: int
    share: float | None
    right: bool


@dataclass(frozen=True)
class ConfusionSummary:
    """Decisions of the chosen probe: a row a true class, its decisions in the order positive, negative."""

    negative: str
    positive: str
    rows: tuple[tuple[str, tuple[Decision, ...]], ...]


@dataclass(frozen=True)
class ControlRow:
    """A control: what it is, its figure, and what the probe gains over it, paired."""

    name: str
    title: str
    explanation: str
    quantity: Quantity
    gain: Quantity
    p_gain: float | None
    p_text: str
    below_chance: bool
    has_curve: bool


@dataclass(frozen=True)
class WrongRow:
    """A text on which the probe is most wrong."""

    row: int
    text: str
    label: str
    score: float
    score_text: str
    group: str | None


@dataclass(frozen=True)
class TestSummary:
    """The chosen probe on rows it never saw."""

    name: str
    source: str
    n_rows: int
    headline: Quantity
    metrics: Table
    curve: LayerCurve | None
    remarks: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class TargetSummary:
    """Everything that is said about one target. `key` is its anchor."""

    key: str
    name: str
    kind: str
    columns: tuple[str, ...]
    finding: str
    how_sure: tuple[str, ...]
    caution: str
    claims: tuple[Claim, ...]
    metric_title: str
    headline: Quantity
    chance: str
    best_site: str
    facts: tuple[tuple[str, str], ...]
    ladder: Ladder
    gains: Ladder | None
    curves: tuple[LayerCurve, ...]
    null_note: str
    fit_note: str
    chosen: Table
    controls: tuple[ControlRow, ...]
    histogram: HistogramFigure | None
    confusion: ConfusionSummary | None
    class_confusion: Table | None
    points: tuple[PointsFigure, ...]
    wrong: tuple[WrongRow, ...]
    tests: tuple[TestSummary, ...]
    measures: tuple[MeasureSummary, ...]
    causal: CausalSummary | None
    sites: Table
    warnings: tuple[Notice, ...]
    notes: tuple[Notice, ...]


@dataclass(frozen=True)
class StageRow:
    """A stage of the run; `share` is its part of the whole time in percent."""

    name: str
    seconds: float
    text: str
    share: float
    reused: bool


@dataclass(frozen=True)
class Summary:
    """A whole report. `warnings` come before everything else, since they may undo it."""

    name: str
    facts: tuple[tuple[str, str, str], ...]
    warnings: tuple[Notice, ...]
    notes: tuple[Notice, ...]
    targets: tuple[TargetSummary, ...]
    data_facts: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]
    model_facts: tuple[tuple[str, str], ...]
    equation: str
    proof: str
    methods: tuple[str, ...]
    stages: tuple[StageRow, ...]
    versions: tuple[tuple[str, str], ...]
    run_facts: tuple[tuple[str, str], ...]
    study_yaml: str
    command: str
    schema_version: str
    leadline_version: str


def summarise(results: Results) -> Summary:
    """Compute the summary of a study's results.

    Parameters
    ----------
    results : the results of a study; nothing else is read.

    Returns
    -------
    Summary : sentences, tables and figure data, none of it escaped yet.
    """
    targets = tuple(_target(results, t, i) for i, t in enumerate(results.targets, start=1))
    shared = _notices([*results.findings, *results.data.findings])
    if len(targets) == 1:
        # With one target, its warnings are the study's: one block, at the top.
        shared = _distinct([*shared, *targets[0].warnings, *targets[0].notes])
    provenance = results.provenance
    whole = max(provenance.seconds, sum(s.seconds for s in provenance.stages if not s.reused), 1e-9)
    return Summary(
        name=results.name,
        facts=_facts(results),
        warnings=tuple(n for n in shared if n.severity == "warning"),
        notes=tuple(n for n in shared if n.severity != "warning"),
        targets=targets,
        data_facts=_data_facts(results),
        examples=tuple(results.data.examples),
        model_facts=_model_facts(results),
        equation=results.model.equation,
        proof=(
            "Proved at load: every site was read and put together by this equation, on float32 weights, with a largest "
            f"relative error of {results.model.proof_error:.1e}."
        ),
        methods=tuple(provenance.methods),
        stages=tuple(
            StageRow(s.name, s.seconds, duration(s.seconds), min(100.0, 100 * s.seconds / whole), s.reused)
            for s in provenance.stages
        ),
        versions=(
            ("leadline", provenance.leadline_version),
            ("Python", provenance.python),
            *provenance.versions.items(),
        ),
        run_facts=(
            ("started", provenance.started),
            ("took", duration(provenance.seconds)),
            ("peak memory", bytes_text(provenance.peak_memory_bytes)),
            ("seed", str(provenance.seed)),
            ("threads", count(provenance.n_threads)),
            ("processor", provenance.processor),
            ("platform", provenance.platform),
        ),
        study_yaml=yaml.safe_dump(
            results.model_dump(mode="json")["study"], sort_keys=False, allow_unicode=True, width=100
        ),
        command="leadline run study.yaml",
        schema_version=results.schema_version,
        leadline_version=provenance.leadline_version,
    )


def _facts(results: Results) -> tuple[tuple[str, str, str], ...]:
    """The strip under the title: (label, value, small print)."""
    model, data = results.model, results.data
    groups = f", {plural(data.n_groups, 'group')}" if data.n_groups is not None else ", no groups"
    rows = (
        f"{count(data.n_train)} to train, {count(data.n_test)} to test" if data.n_test else plural(data.n_rows, "row")
    )
    return (
        ("model", model.name, f"{parameters_text(model.n_parameters)} parameters, {plural(model.n_layers, 'block')}"),
        ("data", data.name, rows + groups),
        ("probe", results.family.replace("_", " "), f"tokens: {results.tokens}, {plural(len(results.sites), 'site')}"),
        ("made", results.provenance.started[:10], f"in {duration(results.provenance.seconds)}"),
    )


def _data_facts(results: Results) -> tuple[tuple[str, str], ...]:
    data = results.data
    used = f"{count(data.n_rows)} of {count(data.n_given)} given" if data.n_given != data.n_rows else count(data.n_rows)
    split = f"column “{shorten(data.split_column, 60)}”: " if data.split_column else ""
    split += f"{count(data.n_train)} to train, {count(data.n_test)} to test" if data.n_test else "all rows to train"
    group = DASH + " (none named: every row stands for itself)"
    if data.group_column is not None:
        group = (
            f"{shorten(data.group_column, 60)}, {plural(data.n_groups, 'group')}"
            if data.n_groups
            else data.group_column
        )
    facts = [
        ("name", data.name),
        ("source", data.source),
        ("rows", used),
        ("text", data.text_column),
        ("target", joined(data.target_columns)),
        ("groups", group),
        ("split", split),
        ("fingerprint", data.fingerprint),
    ]
    for target in results.targets:
        if target.n_negative is not None and target.n_positive is not None:
            negative, positive = class_names(target)
            name = f"classes of {shorten(target.target, 40)}" if len(results.targets) > 1 else "classes"
            sizes = (
                f"{count(target.n_negative)} {shorten(negative, 40)}",
                f"{count(target.n_positive)} {shorten(positive, 40)}",
            )
            facts.insert(5, (name, ", ".join(sizes)))
    return tuple(facts)


def _model_facts(results: Results) -> tuple[tuple[str, str], ...]:
    model = results.model
    return (
        ("name", model.name),
        ("source", model.source),
        ("architecture", model.architecture),
        ("size", f"{count(model.n_parameters)} parameters"),
        (
            "shape",
            f"{plural(model.n_layers, 'block')}, d_model {count(model.d_model)}, {plural(model.n_heads, 'head')}",
        ),
        ("run as", f"{model.dtype} on {model.device}"),
        ("fingerprint", model.fingerprint),
    )


_TITLES = {
    "below_chance": "Rows leak between folds: a control stands below chance",
    "conflicting_duplicates": "The same text with different labels",
    "duplicate_rows": "Duplicate rows",
    "group_crosses_split": "Groups stand on both sides of the split",
    "length": "Length gives the label away",
    "no_interval": "No intervals",
    "not_converged": "Some fits did not converge",
    "text_crosses_split": "Texts stand on both sides of the split",
}


def _notices(findings: Sequence[Finding]) -> tuple[Notice, ...]:
    return _distinct([_notice(f) for f in findings])


def _distinct(notices: Sequence[Notice]) -> tuple[Notice, ...]:
    return tuple(dict.fromkeys(notices))


def _notice(found: Finding) -> Notice:
    rows = ""
    # Many messages name their rows already.
    if found.rows and not re.search(r"\brows? \d", found.message):
        shown = ", ".join(count(r) for r in found.rows[:8])
        more = f" and {count(len(found.rows) - 8)} more" if len(found.rows) > 8 else ""
        rows = f"row {shown}" if len(found.rows) == 1 else f"rows {shown}{more}"
    title = _TITLES.get(found.code) or found.code.replace("_", " ").strip().capitalize()
    return Notice(found.severity, shorten(title, 80), sentence_start(found.message), rows)


def _target(results: Results, target: TargetResult, index: int) -> TargetSummary:
    notices = list(_notices(target.findings))
    unconverged = convergence(target)
    if unconverged and not any(f.code == "not_converged" for f in target.findings):
        notices.append(Notice("warning", "Some fits did not converge", unconverged, ""))
    metric = target.primary_metric
    return TargetSummary(
        key=f"target-{index}",
        name=target.target,
        kind=target.kind,
        columns=tuple(target.columns),
        finding=finding(results, target),
        how_sure=how_sure(results, target),
        caution=caution(target),
        claims=claims(target),
        metric_title=metric_title(metric),
        headline=quantity(target.best.metrics.get(metric)),
        chance=number(target.chance),
        best_site=target.best.site,
        facts=_chosen_facts(target),
        ladder=control_ladder(target),
        gains=gain_ladder(target),
        curves=layer_curves(target),
        null_note=_null_note(target),
        fit_note=unconverged,
        chosen=chosen_table(target),
        controls=_controls(target),
        histogram=histogram_figure(target, target.histogram) if target.histogram is not None else None,
        confusion=_confusion(target, target.confusion) if target.confusion is not None else None,
        class_confusion=class_confusion_table(target.class_confusion) if target.class_confusion is not None else None,
        points=points_figures(target.points),
        wrong=tuple(_wrong(target, w) for w in target.most_wrong),
        tests=tuple(_test(target, t, i) for i, t in enumerate(target.tests, start=1)),
        measures=measures(target.measures),
        causal=causal_summary(target.causal) if target.causal is not None else None,
        sites=sites_table(target),
        warnings=tuple(n for n in notices if n.severity == "warning"),
        notes=tuple(n for n in notices if n.severity != "warning"),
    )


def _chosen_facts(target: TargetResult) -> tuple[tuple[str, str], ...]:
    best = target.best
    permutation = target.permutation
    return (
        ("site", best.site),
        (
            target.parameter or "setting",
            plain_number(best.setting) if best.setting is not None else f"{DASH} (the family has none)",
        ),
        ("correction", best.correction or DASH),
        ("folds", count(target.n_folds)),
        ("p, best of all sites", p_text(permutation.p_max) if permutation else f"{DASH} (no permutations)"),
        ("probe file" if len(best.probe_files) == 1 else "probe files", ", ".join(best.probe_files) or DASH),
    )


def _null_note(target: TargetResult) -> str:
    permutation = target.permutation
    if permutation is None:
        return "No permutations were run, so the curve has no null."
    return (
        f"Labels shuffled: {plural(permutation.n_permutations, 'permutation')} ({shorten(permutation.scheme, 160)}); "
        f"statistic: {shorten(permutation.statistic, 120)}. The smallest p they can give is "
        f"{p_text(permutation.smallest_p)}. With shuffled labels the best of all sites averages "
        f"{number(permutation.null_max_mean)} and stays below {number(permutation.null_max_95)} in 95% of the "
        f"permutations; with the true labels it reaches {number(permutation.observed_max)}."
    )


def _controls(target: TargetResult) -> tuple[ControlRow, ...]:
    rows = [
        ControlRow(
            b.name,
            b.title,
            b.explanation,
            quantity(b.metrics.get(target.primary_metric)),
            quantity(b.gain, sign=True),
            b.p_gain,
            p_text(b.p_gain),
            b.below_chance,
            bool(b.sites),
        )
        for b in target.baselines
    ]
    return tuple(sorted(rows, key=lambda r: (r.quantity.value is None, -(r.quantity.value or 0.0))))


def _confusion(target: TargetResult, table: Confusion) -> ConfusionSummary:
    negative, positive = class_names(target)

    def row(name: str, said_positive: int, said_negative: int, truth: bool) -> tuple[str, tuple[Decision, ...]]:
        total = said_negative + said_positive
        return name, tuple(
            Decision(n, n / total if total else None, right)
            for n, right in ((said_positive, truth), (said_negative, not truth))
        )

    return ConfusionSummary(
        negative,
        positive,
        (
            row(positive, table.true_positive, table.false_negative, True),
            row(negative, table.false_positive, table.true_negative, False),
        ),
    )


def _wrong(target: TargetResult, row: WrongText) -> WrongRow:
    score = number(row.score, digits=2, sign=target.kind == "binary")
    return WrongRow(row.row, row.text, row.label, row.score, score, row.group)


def _test(target: TargetResult, test: TestResult, index: int) -> TestSummary:
    primary = target.primary_metric
    order = dict.fromkeys(k for k in (primary, *test.metrics) if k in test.metrics)
    return TestSummary(
        name=test.name,
        source=test.source,
        n_rows=test.n_rows,
        headline=quantity(test.metrics.get(primary)),
        metrics=metrics_table(
            f"The chosen probe ({target.best.site}) on this set", {k: test.metrics[k] for k in order}
        ),
        curve=transfer_curve(target, test, index),
        remarks=_remarks(test),
        note=test.note,
    )


def _remarks(test: TestResult) -> tuple[str, ...]:
    """What the figures of a test set mean together, where a reader might take one for the other."""
    values = {k: e.value for k, e in test.metrics.items() if e.value is not None}
    remarks = []
    auroc = test.metrics.get("auroc")
    if auroc is not None and auroc.high is not None and auroc.high < 0.5:
        remarks.append(
            f"AUROC {number(auroc.value)} lies below chance with its whole interval: here the direction points the "
            f"other way. What it reads changes sign between the two sets."
        )
    elif {"accuracy", "centred_accuracy"} <= set(values) and values["centred_accuracy"] - values["accuracy"] > 0.05:
        remarks.append(
            f"Accuracy is {number(values['accuracy'])}, centred accuracy {number(values['centred_accuracy'])}: the "
            f"direction carries over and the threshold does not. Centred accuracy puts the threshold at the centre of "
            f"this set’s own scores."
        )
    return tuple(remarks)
