"""Further evidence on a sweep, at its chosen site: which measures there are, and taking those that are asked for.

Each measure is a module of this room that works on plain arrays alone; here they are given what a sweep already has, so
that nothing is fitted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import EvidenceError, ProbeError, did_you_mean
from leadline.events import EventSink, stage
from leadline.evidence.bootstrap import BootstrapDesign, gain
from leadline.evidence.calibration import Calibration, calibrate, top_label
from leadline.evidence.codelength import CodeLength, code_length
from leadline.evidence.control_task import ControlTask, control_task
from leadline.evidence.controls import tfidf_scores
from leadline.evidence.duplicates import SplitDuplicates, split_duplicates
from leadline.evidence.emergence import Emergence, emergence
from leadline.evidence.giveaway import Giveaways
from leadline.evidence.giveaway_effect import GiveawayEffect, giveaway_effect, masked_bag_of_words, score_by_fold
from leadline.evidence.label_issues import LabelIssues, label_issues
from leadline.evidence.labels import Labels, Source
from leadline.evidence.leakage import LeakingColumn, leaking_columns
from leadline.evidence.metrics import PRIMARY
from leadline.evidence.nested import Comparison, nested_selection
from leadline.evidence.nonlinearity import NonlinearityGap, nonlinearity_gap
from leadline.evidence.operating_point import OperatingPoint, cross_fitted_recall
from leadline.evidence.robustness import Robustness, robustness
from leadline.evidence.simplified import Simplified, simplified_transfer
from leadline.evidence.site_fits import SiteOutcome
from leadline.evidence.text_features import TextFeatures, text_features
from leadline.evidence.transfer import shared_rows
from leadline.probes.parallel import map_sites

if TYPE_CHECKING:
    from leadline.evidence.sweep import Sweep

__all__ = [
    "DEFAULT_MEASURES",
    "MEASURES",
    "SAFEGUARDS",
    "Masked",
    "MeasureInfo",
    "Measures",
    "check_measures",
    "take_measures",
]


@dataclass(frozen=True)
class MeasureInfo:
    """A measure's name, what it says to a reader, and where it comes from."""

    name: str
    title: str
    explanation: str
    reference: str = ""


MEASURES = {
    m.name: m
    for m in (
        MeasureInfo(
            "duplicates",
            "Near-duplicates across folds",
            "Rows of nearly the same text, or activations, that the folds put apart: a probe can remember one and read "
            "the other.",
            "Broder (1997), On the resemblance and containment of documents.",
        ),
        MeasureInfo(
            "leaking_columns",
            "Columns that give the label away",
            "Columns of the data that nothing was read from, within whose values the label hardly varies while the "
            "folds split them: rows that belong together.",
            "Kaufman et al. (2012), Leakage in data mining, ACM TKDD 6.",
        ),
        MeasureInfo(
            "emergence",
            "Where it emerges",
            "The first site from which the gain over chance, and over the strongest control, is significant and stays "
            "so up to the last one.",
            "Westfall and Krishen (2001), J. Statist. Plann. Inference 99.",
        ),
        MeasureInfo(
            "control_task",
            "Control task",
            "The same probe on random labels, one for each type (a word, a template), judged where a type recurs "
            "across folds. Selectivity is the difference.",
            "Hewitt and Liang (2019), arXiv:1909.03368.",
        ),
        MeasureInfo(
            "code_length",
            "Description length and label efficiency",
            "Labels are coded portion by portion, each by the probe that was trained on those before, with groups kept "
            "whole and each penalty weighted by the code that it cost so far. Brackets hold the lowest and the highest "
            "of several orders of the rows.",
            "Voita and Titov (2020), arXiv:2003.12298.",
        ),
        MeasureInfo(
            "nonlinearity",
            "Nonlinearity",
            "A small network on the same folds, against the linear probe.",
            "Pimentel et al. (2020), arXiv:2004.03061.",
        ),
        MeasureInfo(
            "calibration",
            "Calibration",
            "Whether a probability comes true. Every calibrator is fitted on folds that it is not judged on.",
            "Guo et al. (2017), arXiv:1706.04599; Platt (1999); Zadrozny and Elkan (2002).",
        ),
        MeasureInfo(
            "operating_points",
            "Recall at a fixed false-positive rate",
            "Thresholds are exact order statistics of the negatives; a rate that their number cannot hold is "
            "unattainable. Intervals are Clopper and Pearson's.",
            "Vovk et al. (2005), Algorithmic Learning in a Random World; Clopper and Pearson (1934).",
        ),
        MeasureInfo(
            "giveaway",
            "Giveaway words",
            "Words whose presence goes with the label in the training rows of a fold are masked in the rows that it "
            "tests, and the same probes read these texts again.",
            "Gururangan et al. (2018), arXiv:1803.02324.",
        ),
        MeasureInfo(
            "robustness",
            "Robustness",
            "The probe at the chosen site and setting under changed conditions: other folds, wrong training labels, "
            "balanced and unbalanced classes, other lengths, unseen paraphrases.",
            "Northcutt et al. (2021), arXiv:2103.14749, on label noise.",
        ),
        MeasureInfo(
            "label_issues",
            "Likely wrong labels",
            "Rows whose label the out-of-fold scores contradict.",
            "Northcutt et al. (2021), arXiv:1911.00068.",
        ),
        MeasureInfo(
            "text_features",
            "Plain features of the text",
            "What length, digits, capitals, negations and the like say of the label, and of the probe's score beyond "
            "the label. Q-values control the false-discovery rate over features.",
            "Benjamini and Hochberg (1995), J. R. Statist. Soc. B 57.",
        ),
        MeasureInfo(
            "simplified",
            "Simplified representations",
            "The probe on the leading principal components, or cluster centres, of the training rows: what looks like "
            "the same probe on the training distribution need not be off it.",
            "Friedman et al. (2023), arXiv:2312.03656.",
        ),
        MeasureInfo(
            "nested",
            "Full nesting",
            "Site and setting chosen again inside the training rows of each fold, beside the corrected estimate "
            "(BBC-CV), which needs no refit.",
            "Varma and Simon (2006), BMC Bioinformatics 7:91; Tsamardinos et al. (2018), Machine Learning 107.",
        ),
    )
}
# These can withhold a verdict, and are measured whatever else is asked for.
SAFEGUARDS = ("duplicates", "leaking_columns")
# Types that are this few are templates, of which one after the other can be left out; more of them are words.
MAX_VARIANTS = 20
DEFAULT_MEASURES = tuple(name for name in MEASURES if name != "nested")


@dataclass(frozen=True)
class Masked:
    """The rows whose giveaway words were masked, read by the model again.

    Attributes
    ----------
    giveaways : the words of each fold. fold : (n,) those folds. changed : (n,) bool, the rows in which one stood.
    source : the activations of the changed rows, in order; None where there are none.
    """

    giveaways: Giveaways
    fold: np.ndarray
    changed: np.ndarray
    source: Source | None = None


@dataclass(frozen=True)
class Measures:
    """What was measured at the chosen site; None where a measure was not asked for, or does not apply.

    `not_taken` says why a measure that was asked for is None.
    """

    duplicates: SplitDuplicates | None = None
    leaking_columns: tuple[LeakingColumn, ...] | None = None
    emergence: tuple[Emergence, ...] | None = None
    control_task: ControlTask | None = None
    code_length: CodeLength | None = None
    nonlinearity: NonlinearityGap | None = None
    calibration: Calibration | None = None
    operating_points: tuple[OperatingPoint, ...] | None = None
    giveaway: tuple[Giveaways, GiveawayEffect] | None = None
    robustness: Robustness | None = None
    label_issues: LabelIssues | None = None
    text_features: TextFeatures | None = None
    simplified: tuple[Simplified, ...] | None = None
    nested: Comparison | None = None
    not_taken: Mapping[str, str] = field(default_factory=dict)

    @property
    def leaks(self) -> tuple[str, ...]:
        """What shows that the folds split rows that belong together, a clause each."""
        found = []
        if self.duplicates is not None and self.duplicates.leaks:
            found.append(self.duplicates.sentence.rstrip("."))
        found += [c.sentence.rstrip(".") for c in self.leaking_columns or () if c.kind == "identity"]
        return tuple(found)

    @property
    def taken(self) -> tuple[str, ...]:
        """The names of the measures that were taken."""
        return tuple(name for name in MEASURES if getattr(self, name) is not None)

    @property
    def random_labels(self) -> str:
        """What the code length of random labels says, where it was measured: it stands in for a control task."""
        code = self.code_length
        if code is None or code.reason or not np.isfinite(code.random_bits.value):
            return ""
        return (
            f"Instead: the probe codes the labels in {code.bits_per_label.value:.2f} bits each, and shuffled labels in "
            f"{code.random_bits.value / code.n:.2f}."
        )


def check_measures(names: Sequence[str]) -> None:
    """Refuse a name that is no measure.

    Raises
    ------
    EvidenceError : it is none.
    """
    for name in names:
        if name not in MEASURES:
            raise EvidenceError(
                f"unknown measure '{name}'; expected some of {', '.join(MEASURES)}." + did_you_mean(name, MEASURES)
            )


def take_measures(
    names: Sequence[str],
    source: Source,
    sweep: Sweep,
    design: BootstrapDesign,
    *,
    masked: Masked | None = None,
    held_out: Mapping[str, tuple[Source, Labels]] | None = None,
    weights: np.ndarray | None = None,
    events: EventSink,
) -> Measures:
    """Take some measures at the chosen site, in the order of `MEASURES`.

    Parameters
    ----------
    sweep : without its measures. design : of its replicates. weights : of the training rows.
    masked, held_out : as `sweep_target` has them.
    """
    take = _Take(source, sweep, design, masked, held_out or {}, weights)
    found: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name in MEASURES:
        if name not in (*SAFEGUARDS, *names):
            continue
        with stage(events, "evidence", MEASURES[name].title):
            method: Callable[[], Any] = getattr(take, name)
            try:
                result = method()
            except (EvidenceError, ProbeError) as error:
                # One measure that the data do not carry is no reason to lose the others.
                result = str(error)
        if isinstance(result, str):
            reasons[name] = result
        else:
            found[name] = result
    return Measures(**found, not_taken=reasons)


class _Take:
    """Each measure given what the sweep has. A method returns the result, or why there is none."""

    def __init__(
        self,
        source: Source,
        sweep: Sweep,
        design: BootstrapDesign,
        masked: Masked | None,
        held_out: Mapping[str, tuple[Source, Labels]],
        weights: np.ndarray | None,
    ) -> None:
        self.source, self.sweep, self.design = source, sweep, design
        self.masked, self.held_out, self.weights = masked, held_out, weights
        self.labels, self.fold, self.family, self.seed = sweep.labels, sweep.fold, sweep.family, sweep.seed
        self.best = sweep.outcomes[sweep.best_index]
        self.X = source.read(self.best.site)[self.labels.rows]

    def duplicates(self) -> SplitDuplicates | str:
        labels = self.labels
        return split_duplicates(self.X, labels.texts, labels.Y, self.fold, labels.groups, seed=self.seed)

    def leaking_columns(self) -> tuple[LeakingColumn, ...] | str:
        labels = self.labels
        if not labels.candidates:
            return "The data have no further columns."
        return leaking_columns(labels.candidates, labels.Y, labels.kind, self.fold, labels.groups, seed=self.seed)

    def emergence(self) -> tuple[Emergence, ...] | str:
        outcomes = _in_depth_order(self.sweep.outcomes)
        if len(outcomes) < 2:
            return "Sites of one kind in two layers or more make a depth order; these sites do not."
        selections = [o.selection for o in outcomes]
        sites = [o.site for o in outcomes]
        alpha = self.sweep.alpha
        metric = PRIMARY[self.labels.kind]
        test = self.sweep.permutation
        at = [self.sweep.outcomes.index(o) for o in outcomes] if test is not None else []
        p = None if test is None else test.p_values[at]
        found = [emergence(selections, sites, self.design, metric=metric, permutation_p=p, alpha=alpha)]
        known = [b for b in self.sweep.baselines if np.isfinite(b.selection.metrics[metric].value)]
        if known:
            strongest = max(known, key=lambda b: b.selection.metrics[metric].value)
            over = emergence(selections, sites, self.design, baseline=strongest.selection, metric=metric, alpha=alpha)
            found.append(replace(over, reference=strongest.title))
        return tuple(found)

    def control_task(self) -> ControlTask | str:
        labels = self.labels
        if labels.types is None:
            return (
                "No column was named as the rows' type. Where the same word or template recurs in many rows, naming "
                "its column (type: in a study) makes a control task possible."
            )
        return control_task(
            self.family,
            self.X,
            labels.Y,
            labels.kind,
            self.fold,
            labels.types,
            self.design,
            setting=self.best.setting if self.family.parameter is not None else None,
            scores=self.best.scores,
            weights=self.weights,
            seed=self.seed,
        )

    def code_length(self) -> CodeLength | str:
        labels = self.labels
        n_classes = labels.n_classes or None
        return code_length(
            self.family,
            self.X,
            labels.Y,
            labels.kind,
            labels.groups,
            n_classes=n_classes,
            choice="mixture",
            seed=self.seed,
        )

    def nonlinearity(self) -> NonlinearityGap | str:
        # Its matrices are small: one thread takes as long as two, and does not wait for a busy neighbour.
        return next(iter(map_sites(self._gap, [self.X])))

    def _gap(self, X: np.ndarray) -> NonlinearityGap:
        labels = self.labels
        return nonlinearity_gap(
            X,
            labels.Y,
            labels.kind,
            self.fold,
            labels.groups,
            self.design,
            self.best.selection,
            weights=self.weights,
            seed=self.seed,
        )

    def calibration(self) -> Calibration | str:
        labels = self.labels
        if labels.kind == "binary":
            scores, y = self.best.scores, labels.Y
        elif labels.kind == "multiclass":
            scores, y = top_label(self.best.scores, labels.Y[:, 0])
        else:
            return f"Probabilities are of classes; the target is {labels.kind}."
        return calibrate(scores, y, self.fold, labels.groups, seed=self.seed, n_replicates=self.design.n_replicates)

    def operating_points(self) -> tuple[OperatingPoint, ...] | str:
        labels = self.labels
        if labels.kind != "binary":
            return f"A false-positive rate is of two classes; the target is {labels.kind}."
        return cross_fitted_recall(self.best.scores, labels.Y[:, 0], self.fold, groups=labels.groups)

    def giveaway(self) -> tuple[Giveaways, GiveawayEffect] | str:
        labels, masked = self.labels, self.masked
        if masked is None:
            return "The masked texts were not read by the model; a study of texts does it."
        if not np.array_equal(masked.fold, self.fold):
            return "The words were masked for other folds, whose labels they have seen."
        given = masked.giveaways
        after = None
        if masked.source is not None and masked.changed.any():
            X = self.X.copy()
            X[masked.changed] = masked.source.read(self.best.site)
            after = score_by_fold(X, self.fold, self.best.fold_coef, self.best.fold_intercept)
            after = np.where(masked.changed[:, None], after, self.best.scores)
        bags: dict[str, np.ndarray] = {}
        if labels.texts is not None and masked.changed.any():
            bags["bag_before"] = tfidf_scores("bag_of_words", labels.texts, labels.Y, labels.kind, self.fold)
            bags["bag_after"] = masked_bag_of_words(labels.texts, given, labels.Y, labels.kind, self.fold)
        found = giveaway_effect(
            self.best.scores,
            after,
            labels.Y,
            labels.kind,
            self.design,
            masked.changed,
            reason=given.reason,
            **bags,
        )
        return given, found

    def robustness(self) -> Robustness | str:
        labels = self.labels
        if self.weights is not None:
            return "Training rows are balanced already, and the changed conditions draw from all of them."
        variants = labels.types
        if variants is not None and len(np.unique(variants.astype(str))) > MAX_VARIANTS:
            variants = None
        return robustness(
            self.family,
            self.X,
            labels.Y,
            labels.kind,
            labels.groups,
            setting=self.best.setting,
            n_folds=int(self.fold.max()) + 1,
            texts=labels.texts,
            paraphrase=variants,
            n_bootstraps=self.design.n_replicates,
            seed=self.seed,
        )

    def label_issues(self) -> LabelIssues | str:
        labels = self.labels
        return label_issues(
            self.best.scores,
            labels.Y,
            labels.kind,
            self.fold,
            labels.groups,
            n_bootstraps=self.design.n_replicates,
            seed=self.seed,
        )

    def text_features(self) -> TextFeatures | str:
        labels = self.labels
        if labels.texts is None:
            return "The rows are no texts."
        return text_features(
            labels.texts,
            labels.Y,
            labels.kind,
            self.fold,
            labels.groups,
            self.best.scores,
            n_bootstraps=self.design.n_replicates,
            seed=self.seed,
        )

    def nested(self) -> Comparison | str:
        labels, sweep = self.labels, self.sweep
        found = nested_selection(
            lambda site: self.source.read(site)[labels.rows],
            self.source.sites,
            self.family,
            labels.Y,
            labels.kind,
            self.fold,
            labels.groups,
            design=self.design,
            weights=self.weights,
            seed=self.seed,
        )
        difference, _ = gain(sweep.selection, found.selection, found.metric, self.design)
        return Comparison(
            metric=found.metric,
            naive=sweep.selection.naive[found.metric],
            corrected=sweep.selection.metrics[found.metric],
            nested=found.estimate,
            difference=difference,
            site=self.best.site.name,
            setting=self.best.setting,
            choices=found.choices,
            reason=found.reason,
        )

    def simplified(self) -> tuple[Simplified, ...] | str:
        if not self.held_out:
            return "No labelled set of another distribution was given (test: in a study)."
        tests = {
            name: (source.read(self.best.site)[labels.rows], labels.Y, labels.groups)
            for name, (source, labels) in self.held_out.items()
        }
        labels = self.labels
        seen = {name: shared_rows(self.sweep, one) for name, (_, one) in self.held_out.items()}
        return simplified_transfer(
            self.X,
            labels.Y,
            labels.kind,
            self.fold,
            self.best,
            tests,
            groups=labels.groups,
            test_folds={name: fold for name, fold in seen.items() if fold is not None},
            n_replicates=self.design.n_replicates,
            seed=self.seed,
        )


def _in_depth_order(outcomes: Sequence[SiteOutcome]) -> list[SiteOutcome]:
    """The stream from the embedding through the blocks, else the commonest kind, by layer; of one part of the model."""
    parts = [o.site.part for o in outcomes]
    part = max(sorted(set(parts)), key=parts.count)
    own = [o for o in outcomes if o.site.part == part and o.site.layer is not None]
    kinds = [o.site.kind for o in own]
    if not kinds:
        return []
    kind = "resid_post" if "resid_post" in kinds else max(sorted(set(kinds)), key=kinds.count)
    heads = [o for o in own if o.site.kind == kind]
    if len({o.site.layer for o in heads}) < len(heads):
        # Several heads stand in one layer side by side: no order.
        return []
    first = [o for o in outcomes if o.site.part == part and o.site.kind == "embed"] if kind == "resid_post" else []
    return [*first, *sorted(heads, key=lambda o: o.site.layer or 0)]
