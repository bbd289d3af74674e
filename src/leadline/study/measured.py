"""From what the evidence measured to what the results schema holds: a sentence, figures and tables for each measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leadline.data import Dataset
from leadline.evidence import MEASURES, Sweep
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.calibration import Calibration
from leadline.evidence.codelength import CodeLength
from leadline.evidence.control_task import ControlTask
from leadline.evidence.duplicates import SplitDuplicates
from leadline.evidence.emergence import Emergence
from leadline.evidence.giveaway import Giveaways
from leadline.evidence.giveaway_effect import GiveawayEffect
from leadline.evidence.label_issues import LabelIssues
from leadline.evidence.leakage import LeakingColumn
from leadline.evidence.metrics import PRIMARY
from leadline.evidence.nested import Comparison
from leadline.evidence.nonlinearity import NonlinearityGap
from leadline.evidence.operating_point import OperatingPoint
from leadline.evidence.robustness import Robustness
from leadline.evidence.simplified import Simplified
from leadline.evidence.text_features import TextFeatures
from leadline.study.results import Estimate as Figure
from leadline.study.results import Measure, MeasureFigure, MeasureTable

__all__ = ["measured"]

N_ROWS = 20
_NAMES = {"auroc": "AUROC", "r2": "R²", "concordance": "concordance", "accuracy": "accuracy"}
Told = tuple[str, list[MeasureFigure], list[MeasureTable], str]


def measured(sweep: Sweep, data: Dataset) -> list[Measure]:
    """Every measure that was asked for, in the order of `MEASURES`."""
    found = []
    for name, info in MEASURES.items():
        result = getattr(sweep.measures, name)
        why = sweep.measures.not_taken.get(name, "")
        if result is None and not why:
            continue
        told: Told = ("", [], [], why) if result is None else _TELL[name](result, sweep, data)
        sentence, figures, tables, reason = told
        found.append(
            Measure(
                name=name,
                title=info.title,
                explanation=info.explanation,
                reference=info.reference,
                reason=reason,
                sentence="" if reason else sentence,
                figures=[] if reason else figures,
                tables=tables,
            )
        )
    return found


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _figure(name: str, label: str, value: Estimate | float, *, signed: bool = False) -> MeasureFigure:
    e = value if isinstance(value, Estimate) else Estimate(float(value))
    shown = Figure(value=_number(e.value), low=_number(e.low), high=_number(e.high))
    return MeasureFigure(name=name, label=label, value=shown, signed=signed)


def _text(e: Estimate, digits: int = 3, *, sign: bool = False) -> str:
    plus = "+" if sign else ""
    if not math.isfinite(e.value):
        return "–"
    if not math.isfinite(e.low):
        return f"{e.value:{plus}.{digits}f}"
    return f"{e.value:{plus}.{digits}f} [{e.low:{plus}.{digits}f}, {e.high:{plus}.{digits}f}]"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> MeasureTable:
    def plain(v: Any) -> str | float | int | None:
        if isinstance(v, np.generic):
            v = v.item()
        return _number(v) if isinstance(v, float) else v

    return MeasureTable(title=title, columns=list(columns), rows=[[plain(v) for v in row] for row in rows])


def _duplicates(found: SplitDuplicates, sweep: Sweep, data: Dataset) -> Told:
    rows = data.source_rows[sweep.labels.rows]
    texts = sweep.labels.texts
    table = [
        [
            int(rows[e.first]) + 1,
            int(rows[e.second]) + 1,
            e.by,
            "same" if e.same_label else "another",
            "" if texts is None else texts[e.first],
            "" if texts is None else texts[e.second],
        ]
        for e in found.examples
    ]
    columns = ["row", "near row", "by", "label", "text", "near text"]
    tables = [_table("Examples of near-duplicates in different folds", columns, table)] if table else []
    figures = [
        _figure("share", "rows with a near-duplicate in another fold", found.share),
        _figure("share_same_label", "… most of which share its label", found.share_same_label),
        _figure("share_opposite_label", "… none of which shares its label", found.share_opposite_label),
    ]
    return " ".join([found.sentence, *found.notes]), figures, tables, found.reason


def _leaking_columns(found: tuple[LeakingColumn, ...], sweep: Sweep, data: Dataset) -> Told:
    if not found:
        return "No further column gives the label away.", [], [], ""
    rows = [[c.name, c.kind, c.n_values, c.covered, c.purity, _text(c.metric), c.p] for c in found]
    columns = ["column", "kind", "values", "rows covered", "purity", _NAMES[PRIMARY[sweep.labels.kind]], "p"]
    return " ".join(c.sentence for c in found), [], [_table("Columns", columns, rows)], ""


def _emergence(found: tuple[Emergence, ...], sweep: Sweep, data: Dataset) -> Told:
    name = _NAMES[found[0].metric]
    said, tables = [], []
    for one in found:
        over = one.reference if one.reference.startswith("chance") else f"the strongest control ({one.reference})"
        if one.site is None:
            said.append(f"Over {over} nothing emerges: {one.reason}.")
        else:
            late = one.high or "none"
            said.append(f"Over {over} it emerges at {one.site}, 95% interval {one.low or 'none'} to {late}.")
        rows = [[site, _text(g, sign=True), p] for site, g, p in zip(one.sites, one.gains, one.p_values, strict=True)]
        tables.append(_table(f"Gain over {over}", ["site", f"gain, {name}", "p"], rows))
    # Without intervals there are no tests at all.
    reason = found[0].reason if not np.isfinite(found[0].p_values).any() else ""
    return " ".join(said), [], tables, reason


def _control_task(found: ControlTask, sweep: Sweep, data: Dataset) -> Told:
    name = _NAMES[found.metric]
    figures = [
        _figure("selectivity", f"selectivity, {name}", found.selectivity, signed=True),
        _figure("task", f"{name} on the task", found.task),
        _figure("control", f"{name} on random labels of the same types", found.control),
        _figure("p_value", "p", found.p_value),
        _figure("share_recurring", "rows whose type recurs", found.share_recurring),
    ]
    sentence = (
        f"Selectivity {_text(found.selectivity, sign=True)} ({name}): {found.task.value:.3f} on the task, "
        f"{found.control.value:.3f} on random labels for the {found.n_recurring:,} of {found.n_types:,} types that "
        f"recur."
    )
    table = _table("Each draw of the control task", ["draw", name], [[i + 1, v] for i, v in enumerate(found.draws)])
    return sentence, figures, [table] if found.draws else [], found.reason


def _code_length(found: CodeLength, sweep: Sweep, data: Dataset) -> Told:
    name = _NAMES[found.metric]
    curve = _table(
        "Label efficiency: the probe from few labels, on the labels that come next",
        ["training rows (mean)", name, "lowest", "highest", "bits a label"],
        [[p.n_train, p.metric.value, p.metric.low, p.metric.high, p.bits_per_label.value] for p in found.curve],
    )
    few = found.rows_to_reach()
    reach = f" {few:,.0f} training rows reach nine tenths of what all do." if math.isfinite(few) else ""
    if found.reason:
        return "", [], [curve], found.reason + reach
    figures = [
        _figure("bits_per_label", "bits a label", found.bits_per_label),
        _figure("compression", "compression against uniform coding", found.compression),
        _figure("compression_prior", "compression against the prior's entropy", found.compression_prior),
        _figure("entropy", "the prior's entropy, bits a label", found.entropy_bits / found.n),
    ]
    random = ""
    if math.isfinite(found.random_bits.value):
        figures += [
            _figure("random_bits_per_label", "bits a shuffled label", found.random_bits.value / found.n),
            _figure("gap", "shuffled minus true labels, bits a label", found.gap, signed=True),
        ]
        random = f"; shuffled labels take {found.random_bits.value / found.n:.3f}"
    figures.append(_figure("rows_to_reach_90", "training rows for nine tenths of the final gain", few))
    sentence = (
        f"The labels are coded in {_text(found.bits_per_label)} bits each, a compression of "
        f"{found.compression.value:.2f} against uniform coding{random}.{reach}"
    )
    return " ".join([sentence, *found.notes]), figures, [curve], ""


def _nonlinearity(found: NonlinearityGap, sweep: Sweep, data: Dataset) -> Told:
    name = _NAMES[found.metric]
    figures = [
        _figure("gap", f"network minus linear probe, {name}", found.gap, signed=True),
        _figure("mlp", f"network, {name}", found.mlp),
        _figure("linear", f"linear probe, {name}", found.linear),
        _figure("p_value", "p", found.p_value),
    ]
    more = math.isfinite(found.gap.low) and found.gap.low > 0
    words = "reads more than the linear probe" if more else "reads no more than the linear probe, as far as it shows"
    sentence = f"A small network {words}: {_text(found.gap, sign=True)} {name}, {found.mlp.value:.3f} in all."
    return sentence, figures, [], found.reason


def _calibration(found: Calibration, sweep: Sweep, data: Dataset) -> Told:
    from leadline.probes.fitted import LIKELIHOODS

    several = {"raw": found.raw, "platt": found.platt, "isotonic": found.isotonic}
    if sweep.family.name not in LIKELIHOODS:
        # The scores of other families are no log odds, and say nothing of probabilities as they are.
        del several["raw"]
    titles = {"raw": "as it is", "platt": "Platt", "isotonic": "isotonic"}
    figures, rows = [], []
    for key, one in several.items():
        if one.reason:
            continue
        figures += [
            _figure(f"ece_{key}", f"ECE, {titles[key]}", one.ece),
            _figure(f"brier_{key}", f"Brier score, {titles[key]}", one.brier),
        ]
        curve = one.curve
        rows += [
            [titles[key], *map(float, point)]
            for point in zip(curve.predicted, curve.observed, curve.low, curve.high, curve.n, strict=True)
        ]
    columns = ["probabilities", "predicted", "observed", "low", "high", "rows"]
    best = found.platt if not found.platt.reason else found.raw
    sentence = (
        f"After Platt scaling on held-out folds the expected calibration error is {best.ece.value:.3f} (a perfectly "
        f"calibrated probe of this size shows {best.ece_floor:.3f}), the Brier score {_text(best.brier)}."
    )
    if sweep.labels.kind == "multiclass":
        sentence = f"Of the most probable class: {sentence}"
    return sentence, figures, [_table("Reliability curve", columns, rows)] if rows else [], found.reason


def _operating_points(found: tuple[OperatingPoint, ...], sweep: Sweep, data: Dataset) -> Told:
    figures: list[MeasureFigure] = []
    rows: list[list[Any]] = []
    said: list[str] = []
    for point in found:
        rate = f"{point.threshold.asked:.3g}"
        if point.status == "unattainable" or point.recall is None or point.realised is None:
            rows.append([rate, "unattainable", None, None, None, None, point.threshold.n_negatives])
            said.append(
                f"a false-positive rate of {rate} is unattainable with {point.threshold.n_negatives:,} "
                f"{point.unit}s of negatives (the smallest is {point.threshold.smallest_rate:.3g})"
            )
            continue
        figures.append(_figure(f"recall_at_{rate}", f"recall at a false-positive rate of {rate}", point.recall))
        rows.append(
            [
                rate,
                _text(point.recall),
                point.threshold.value,
                point.threshold.expected_rate,
                point.threshold.upper_rate,
                _text(point.realised),
                point.threshold.n_negatives,
            ]
        )
        said.append(f"recall {_text(point.recall)} at a false-positive rate of {rate}")
    columns = ["asked", "recall", "threshold", "expected rate", "rate, 95% bound", "on held-out folds", "negatives"]
    sentence = "; ".join(said)
    return f"{sentence[:1].upper()}{sentence[1:]}.", figures, [_table("Thresholds", columns, rows)], ""


def _giveaway(found: tuple[Giveaways, GiveawayEffect], sweep: Sweep, data: Dataset) -> Told:
    words, effect = found
    name = _NAMES[effect.metric]
    rows = [[w.word, w.n_texts, w.n_folds, w.association, w.q] for w in words.merged[:N_ROWS]]
    tables = [_table("Words that go with the label", ["word", "texts", "folds", "φ", "q"], rows)] if rows else []
    if not words.merged and not words.reason:
        return "No word's presence goes with the label beyond chance.", [], [], ""
    figures = [
        _figure("before", f"{name}, texts as they are", effect.before),
        _figure("after", f"{name}, giveaways masked", effect.after),
        _figure("loss", "lost by masking", effect.loss, signed=True),
    ]
    for key, label, value in (
        ("bag_before", "bag of words, texts as they are", effect.bag_before),
        ("bag_after", "bag of words, giveaways masked", effect.bag_after),
    ):
        if value is not None:
            figures.append(_figure(key, label, value))
    shown = ", ".join(f"“{w.word}”" for w in words.merged[:5])
    sentence = (
        f"Without the words that go with the label ({shown}{', …' if len(words.merged) > 5 else ''}; "
        f"{effect.n_changed:,} of {effect.n:,} texts) {name} falls from {effect.before.value:.3f} to "
        f"{_text(effect.after)}."
    )
    return sentence, figures, tables, words.reason or effect.reason


def _robustness(found: Robustness, sweep: Sweep, data: Dataset) -> Told:
    name = _NAMES[found.metric_name]
    rows = [
        [
            c.name,
            _text(c.metric),
            _text(c.baseline),
            _text(c.difference, sign=True),
            c.spread,
            "–" if c.passes is None else "yes" if c.passes else "no",
            c.reason or c.explanation,
        ]
        for c in found.conditions
    ]
    columns = [
        "condition",
        name,
        "unchanged",
        "difference",
        "sd of repetitions",
        f"above {found.line:.2f}",
        "what it is",
    ]
    run = [c for c in found.conditions if not c.reason]
    if not run:
        return "", [], [], "; ".join(dict.fromkeys(c.reason for c in found.conditions))
    worst = min(run, key=lambda c: c.metric.value if math.isfinite(c.metric.value) else math.inf)
    failing = f" It no longer passes {found.line:.2f} under: {', '.join(found.failing)}." if found.failing else ""
    sentence = (
        f"Of {len(run)} changed conditions the worst is {worst.name}: {name} {_text(worst.metric)} against "
        f"{_text(worst.baseline)}.{failing}"
    )
    figures = [_figure(c.name, f"{name}, {c.name}", c.metric) for c in run]
    return sentence, figures, [_table("Conditions", columns, rows)], ""


def _label_issues(found: LabelIssues, sweep: Sweep, data: Dataset) -> Told:
    labels = sweep.labels
    rows = data.source_rows[labels.rows]

    def shown(value: float) -> str | float:
        return labels.classes[int(value)] if labels.n_classes else float(value)

    table = [
        [
            int(rows[i.row]) + 1,
            shown(i.given),
            shown(i.suggested),
            i.probability,
            "" if labels.texts is None else labels.texts[i.row],
        ]
        for i in found.issues[:N_ROWS]
    ]
    columns = ["row", "label", "suggested", "probability of the label", "text"]
    tables = [_table("Labels that the probe contradicts most", columns, table)] if table else []
    figures = [_figure("expected_wrong", "expected number of wrong labels", found.expected_wrong)]
    sentence = (
        f"{found.n_flagged:,} of {len(labels.Y):,} labels are contradicted by confident out-of-fold scores. "
        f"{found.caution}"
    )
    return sentence, figures, tables, found.reason


def _simplified(found: tuple[Simplified, ...], sweep: Sweep, data: Dataset) -> Told:
    metric = PRIMARY[sweep.labels.kind]
    name = _NAMES[metric]
    rows = []
    for one in found:
        if one.reason:
            continue
        what = f"{one.size} {one.method.replace('_', ' ')}"
        for place, compared in (("training distribution", one.inside), *one.outside.items()):
            rows.append(
                [
                    what,
                    place,
                    one.explained,
                    compared.full[metric].value,
                    compared.simplified[metric].value,
                    _text(compared.difference[metric], sign=True),
                    compared.agreement.value,
                ]
            )
    columns = ["kept", "on", "variance kept", f"{name}, full", f"{name}, simplified", "full − simplified", "agreement"]
    misled = [(one, name) for one in found for name in one.misleads_on]
    if misled:
        one, where = misled[0]
        sentence = (
            f"Simplified representations lose more off the training distribution than on it: with {one.size} "
            f"{one.method.replace('_', ' ')}, {_text(one.gap[where][metric], sign=True)} {name} more on {where}."
        )
    else:
        sentence = "No simplified representation loses significantly more off the training distribution than on it."
    reason = "" if rows else "; ".join(dict.fromkeys(one.reason for one in found))
    return sentence, [], [_table("Full and simplified", columns, rows)] if rows else [], reason


def _text_features(found: TextFeatures, sweep: Sweep, data: Dataset) -> Told:
    titles = {"auroc": "AUROC", "spearman": "Spearman ρ", "eta_squared": "η²"}
    name = titles[found.metric_name]
    rows = [
        [f.description, f.mean, _text(f.label), f.sign, f.q_label, _text(f.probe, sign=True), f.q_probe]
        for f in found.features
        if not f.reason
    ]
    columns = [
        "feature",
        "mean",
        f"{name} for the label",
        "sign",
        "q, label",
        "probe's score beyond the label, partial r",
        "q, probe",
    ]
    label = [f.description for f in found.explain_label][:3]
    probe = [f.description for f in found.explain_probe][:3]
    said = [
        f"{len(found.explain_label)} plain features go with the label ({'; '.join(label)})."
        if label
        else "No plain feature of the text goes with the label.",
        f"The probe's score follows {len(found.explain_probe)} of them beyond the label ({'; '.join(probe)})."
        if probe
        else "The probe's score follows none of them beyond the label.",
    ]
    return " ".join(said), [], [_table("Features", columns, rows)], ""


def _nested(found: Comparison, sweep: Sweep, data: Dataset) -> Told:
    name = _NAMES[found.metric]
    figures = [
        _figure("naive", f"{name} of the best site and setting, not corrected", found.naive),
        _figure("corrected", f"{name}, corrected (BBC-CV)", found.corrected),
        _figure("nested", f"{name}, nested", found.nested),
    ]
    rows = [[k, c.site, c.setting, c.inner] for k, c in enumerate(found.choices)]
    table = _table("What each fold chose", ["fold", "site", "setting", f"inner {name}"], rows)
    sentence = (
        f"Full nesting gives {name} {_text(found.nested)}, the corrected estimate {_text(found.corrected)}, and the "
        f"best of all without correction {found.naive:.3f}."
    )
    return sentence, figures, [table], found.reason


_TELL: dict[str, Callable[[Any, Sweep, Dataset], Told]] = {
    "duplicates": _duplicates,
    "leaking_columns": _leaking_columns,
    "emergence": _emergence,
    "control_task": _control_task,
    "code_length": _code_length,
    "nonlinearity": _nonlinearity,
    "calibration": _calibration,
    "operating_points": _operating_points,
    "giveaway": _giveaway,
    "robustness": _robustness,
    "label_issues": _label_issues,
    "text_features": _text_features,
    "nested": _nested,
    "simplified": _simplified,
}
