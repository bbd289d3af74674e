"""The results schema: what a study found, as `results.json` holds it.

`study` writes it and `report` reads it; nothing else passes between them. A reader of 2.2 accepts any 2.x.
Figures that could not be computed are null, never a guess. Every `Estimate` carries its 95% interval.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from leadline.errors import ConfigError

__all__ = ["SCHEMA_VERSION", "Results"]

SCHEMA_VERSION = "2.2"

VerdictWord = Literal["supported", "refuted", "inconclusive", "not tested"]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Estimate(_Schema):
    """A figure and its interval (95%, bootstrap over groups within folds, given the fitted probes)."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Finding(_Schema):
    """Something that the data check, or a baseline, noticed."""

    code: str
    severity: Literal["warning", "note"]
    message: str
    rows: list[int] = []


class DataSummary(_Schema):
    """The labelled data set. `n_rows` were used; `n_given` stood in the source; the difference is in `findings`."""

    name: str
    source: str
    fingerprint: str
    n_given: int
    n_rows: int
    text_column: str
    target_columns: list[str]
    group_column: str | None
    split_column: str | None
    n_groups: int | None
    n_train: int
    n_test: int
    examples: list[str]
    findings: list[Finding] = []


class ModelSummary(_Schema):
    """The model. `equation` is the residual equation that was proved at load, with its largest relative error."""

    name: str
    source: str
    architecture: str
    equation: str
    proof_error: float
    n_layers: int
    d_model: int
    n_heads: int
    n_parameters: int
    dtype: str
    device: str
    fingerprint: str


class SiteResult(_Schema):
    """One site. `metrics` are corrected for the choice of setting at this site; `p_value` is this site's own.

    `setting` is what was chosen of the target's `parameter` (an l2, a k); None for a family without one. `statuses`
    counts the fits that did not converge, by how they ended.
    """

    site: str
    kind: str
    layer: int | None
    metrics: dict[str, Estimate]
    setting: float | None
    p_value: float | None = None
    null_mean: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    n_fits: int = 0
    n_not_converged: int = 0
    statuses: dict[str, int] = {}


class Permutation(_Schema):
    """The permutation test: its statistic (`observed` and the null have the same), and the best site's null."""

    n_permutations: int
    statistic: str
    scheme: str
    smallest_p: float
    p_max: float | None
    observed_max: float | None
    null_max_mean: float | None
    null_max_95: float | None


class BestSite(_Schema):
    """The chosen site. `metrics` are corrected for having chosen site and setting (BBC-CV); `naive` are not.

    `probe_files` holds one path a target column, relative to the run's folder.
    """

    site: str
    layer: int | None
    setting: float | None
    metrics: dict[str, Estimate]
    naive: dict[str, float | None]
    correction: str
    probe_files: list[str]


class BaselineResult(_Schema):
    """A control on the same folds. `gain` is the best probe's primary metric minus this one's, paired.

    `sites` holds the curve of a control that has one (the same architecture with random weights).
    """

    name: str
    title: str
    explanation: str
    metrics: dict[str, Estimate]
    gain: Estimate
    p_gain: float | None
    below_chance: bool = False
    sites: list[SiteResult] = []


class Verdict(_Schema):
    """One of the six claims: the word, the sentence for a person, the rule stated before, the figures behind it."""

    claim: Literal["decodable", "selective", "beyond surface", "general", "used", "where from"]
    verdict: VerdictWord
    sentence: str
    rule: str
    figures: dict[str, float | None] = {}


class MeasureFigure(_Schema):
    """One figure of a measure, with what to call it. `signed` marks differences."""

    name: str
    label: str
    value: Estimate
    signed: bool = False


class MeasureTable(_Schema):
    """The plain numbers behind a measure: a curve's points, a ranking, a row a condition."""

    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]


class Measure(_Schema):
    """Further evidence at the chosen site: selectivity, code length, calibration, robustness and so on.

    `sentence` says what was found; `reason` why it could not be measured (then there are no figures).
    """

    name: str
    title: str
    explanation: str
    reference: str = ""
    reason: str = ""
    sentence: str = ""
    figures: list[MeasureFigure] = []
    tables: list[MeasureTable] = []


class CausalEffect(_Schema):
    """What one intervention does to the model's answers, as a mean over examples.

    `effect` is the change of the log odds of the answers (nats), positive where it moves toward the other class.
    `share` is that as a share of the difference between the classes without any intervention (the normalised indirect
    effect). `flips` is the share of examples whose decision changes; `kl` (nats) how far the next-token distribution
    moves. `norm` is the mean length of the shift, `dose` that by the mean length of the activation. The p-values are
    against random directions of the same norm; None for an intervention without such a control.
    """

    name: str
    label: str
    explanation: str = ""
    effect: Estimate
    share: Estimate | None = None
    flips: Estimate | None = None
    kl: Estimate | None = None
    norm: float | None = None
    dose: float | None = None
    p_isotropic: float | None = None
    p_covariance: float | None = None


class NullEffects(_Schema):
    """The mean effects of random directions of one vector's norm. `of` names the vector's `CausalEffect`."""

    of: str
    kind: Literal["isotropic", "covariance"]
    values: list[float]


class DosePoint(_Schema):
    """One strength. `dose` is signed, ‖αv‖/‖h‖; `change` the change of the log odds of the positive answers (nats).

    `probability` is that of the positive answers; `cost` the change in mean negative log-likelihood of neutral text
    (nats a token), `kl` the divergence there.
    """

    strength: float
    dose: float
    change: Estimate
    probability: Estimate | None = None
    reading: Estimate | None = None
    flips: Estimate | None = None
    cost: Estimate | None = None
    kl: Estimate | None = None


class DoseCurve(_Schema):
    """Dose and response of one vector. `usable` is the range of doses whose cost stays within the budget."""

    name: str
    label: str
    points: list[DosePoint]
    usable: tuple[float, float] | None = None


class RandomBand(_Schema):
    """What random directions do at each dose: mean and the middle 95% of their mean changes."""

    kind: Literal["isotropic", "covariance"]
    doses: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


class Contribution(_Schema):
    """A component's exact share in the probe's score, as the difference between the classes (mean over examples)."""

    component: str
    kind: Literal["embed", "head", "mlp", "bias", "other"]
    layer: int | None = None
    difference: Estimate


class HeatMap(_Schema):
    """A figure for every (site, token): `values[row][column]`, None where there is none."""

    name: str
    title: str
    explanation: str
    sites: list[str]
    tokens: list[str]
    values: list[list[float | None]]
    n_pairs: int
    unit: str = ""


class CausalResult(_Schema):
    """Interventions at one site: whether the model acts on what the probe reads, and which components write it.

    `prompt` is the template of the examples, `positive` and `negative` the answers (columns of the data in
    `answers_from`); `behaviour_reason` says why no behaviour was measured, `where_from_reason` why no score was
    decomposed.
    `natural` is the difference in log odds between the classes without any intervention.
    """

    site: str
    tokens: str
    prompt: str
    positive: list[str] = []
    negative: list[str] = []
    answers_from: list[str] = []
    n_examples: int
    n_groups: int
    n_pairs: int
    n_random: int
    cosine: float | None = None
    behaviour_reason: str = ""
    where_from_reason: str = ""
    natural: Estimate | None = None
    accuracy: Estimate | None = None
    effects: list[CausalEffect] = []
    nulls: list[NullEffects] = []
    curves: list[DoseCurve] = []
    bands: list[RandomBand] = []
    cost_budget: float | None = None
    contributions: list[Contribution] = []
    n_contributions: int = 0
    decomposition_error: float | None = None
    heat_maps: list[HeatMap] = []
    measures: list[Measure] = []
    notes: list[str] = []
    seconds: float | None = None


class ClassConfusion(_Schema):
    """Out-of-fold decisions among several classes: `counts[true][said]`."""

    classes: list[str]
    counts: list[list[int]]


class Histogram(_Schema):
    """Out-of-fold scores at the chosen site (binary targets). `edges` has one more entry than each count list."""

    edges: list[float]
    negative: list[int]
    positive: list[int]


class Points(_Schema):
    """Out-of-fold predictions against true values (continuous targets), a sample of at most 2,000 rows."""

    column: str
    true: list[float]
    predicted: list[float]
    rows: list[int]


class Confusion(_Schema):
    """Out-of-fold decisions at the chosen site, pooled over folds."""

    true_negative: int
    false_positive: int
    false_negative: int
    true_positive: int


class WrongText(_Schema):
    """A row on which the out-of-fold probe is most wrong. `group` is the row's group, where there is one."""

    row: int
    text: str
    label: str
    score: float
    group: str | None = None


class SiteTransfer(_Schema):
    """Every site's refitted probe on a second labelled set: shown, never used to choose."""

    site: str
    metrics: dict[str, Estimate]


class TestResult(_Schema):
    """The chosen probe on rows it never saw: the data's own test split, or another labelled set.

    `shifted` marks sets of another distribution, by which "general" is judged. `cosine` is the Mahalanobis cosine, in
    this set's covariance, of the chosen probe and one fitted on this set.
    """

    name: str
    source: str
    n_rows: int
    metrics: dict[str, Estimate]
    sites: list[SiteTransfer]
    note: str = ""
    shifted: bool = True
    cosine: float | None = None


class TargetResult(_Schema):
    """Everything about one target. A continuous target may have several columns; its metrics are their means.

    `q_value` is `permutation.p_max` adjusted for the number of targets (Benjamini and Yekutieli 2001), where there are
    several.
    """

    target: str
    columns: list[str]
    kind: Literal["binary", "continuous", "multiclass", "ordinal"]
    negative: str | None = None
    positive: str | None = None
    n_negative: int | None = None
    n_positive: int | None = None
    classes: list[str] = []
    n_by_class: list[int] = []
    primary_metric: str
    chance: float
    n_folds: int
    parameter: str | None = None
    sites: list[SiteResult]
    best: BestSite
    permutation: Permutation | None
    baselines: list[BaselineResult]
    verdicts: list[Verdict]
    findings: list[Finding] = []
    histogram: Histogram | None = None
    points: list[Points] = []
    confusion: Confusion | None = None
    class_confusion: ClassConfusion | None = None
    most_wrong: list[WrongText] = []
    tests: list[TestResult] = []
    measures: list[Measure] = []
    causal: CausalResult | None = None
    q_value: float | None = None


class Stage(_Schema):
    """One stage of the run and how long it took."""

    name: str
    seconds: float
    reused: bool = False


class Provenance(_Schema):
    """How it was made."""

    leadline_version: str
    versions: dict[str, str]
    python: str
    platform: str
    processor: str
    n_threads: int
    seed: int
    started: str
    seconds: float
    peak_memory_bytes: int | None
    stages: list[Stage]
    methods: list[str]


class Results(_Schema):
    """A whole study."""

    schema_version: str = SCHEMA_VERSION
    name: str
    family: str
    tokens: str
    sites: list[str]
    data: DataSummary
    model: ModelSummary
    targets: list[TargetResult]
    findings: list[Finding] = []
    provenance: Provenance
    study: dict[str, object]

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read `results.json`, or the run folder that holds it.

        Raises
        ------
        ConfigError : no such file, not JSON, or a schema this version does not know.
        """
        file = Path(path)
        if file.is_dir():
            file = file / "results.json"
        if not file.is_file():
            raise ConfigError(
                f"no results at '{file}'; expected a run folder with results.json (`leadline run` makes one)."
            )
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"'{file}' is not JSON ({error}); run the study again to write it anew.") from error
        version = str(raw.get("schema_version", "none")) if isinstance(raw, dict) else "none"
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise ConfigError(
                f"'{file}' has results schema {version}; this Leadline reads {SCHEMA_VERSION}. Run the study again, or "
                f"use the version of Leadline that wrote it."
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(x) for x in first["loc"])
            raise ConfigError(f"'{file}' does not fit the results schema at '{where}': {first['msg']}.") from error
