"""Would the verdict stand if the data had been a little different? Conditions at the chosen site and setting.

Nothing is searched: the family's setting stays as it was chosen. Every condition changes what is *trained on*, and is
judged on the given labels of held-out rows, against the unchanged probe on the same rows:
other folds; wrong labels in the training rows; classes balanced by down-sampling, or made imbalanced; training on
short texts and testing on long ones, and the reverse; training on all paraphrases but one and testing on that one.

Conditions that share the folds are columns of one fit where the family takes missing labels (logistic regression): a
row that a condition leaves out has no label in its column. The features' scale is then that of all training rows of
the fold. Other families fit one condition after the other, with weights of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.conditions import (
    Design,
    Plan,
    balanced,
    imbalanced,
    label_noise,
    length_shift,
    paraphrase_shift,
)
from leadline.evidence.metrics import CHANCE, PRIMARY, all_metrics, fold_mean
from leadline.evidence.verdict import MARGINS
from leadline.probes.adapt import at_setting
from leadline.probes.fit import Family
from leadline.probes.intervals import draw_groups, percentile
from leadline.probes.parallel import map_sites
from leadline.probes.ridge import Ridge
from leadline.probes.splits import group_codes, make_folds

__all__ = ["Condition", "Robustness", "robustness"]

_MIN_GROUPS = 2


@dataclass(frozen=True)
class Condition:
    """The probe under one changed condition.

    Attributes
    ----------
    name, explanation : what was changed.
    metric : the primary metric, with a 95% interval over groups. baseline : of the unchanged probe on the same rows.
    difference : metric − baseline, paired.
    passes : whether the lower bound still exceeds chance by the margin of "decodable"; None where there is no interval.
    values : the metric of each repetition (fold seed, draw of noise, variant left out), named by `labels`.
    reason : why the condition could not be run, or an empty string; all figures are then NaN.
    """

    name: str
    explanation: str
    metric: Estimate
    baseline: Estimate
    difference: Estimate
    passes: bool | None
    values: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    reason: str = ""

    @property
    def spread(self) -> float:
        """Standard deviation of the repetitions; NaN with fewer than two."""
        known = [v for v in self.values if np.isfinite(v)]
        return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


@dataclass(frozen=True)
class Robustness:
    """The conditions, those that could not be run among them.

    Attributes
    ----------
    metric_name : the primary metric. line : chance plus the margin. baseline : of the unchanged probe on all rows.
    """

    metric_name: str
    line: float
    baseline: Estimate
    conditions: tuple[Condition, ...]

    @property
    def failing(self) -> tuple[str, ...]:
        """Names of the conditions under which the probe no longer passes."""
        return tuple(c.name for c in self.conditions if c.passes is False)

    @property
    def table(self) -> pl.DataFrame:
        """A row a condition: name, metric and difference with intervals, spread, passes, reason."""
        records: list[dict[str, object]] = []
        for c in self.conditions:
            record: dict[str, object] = {"condition": c.name}
            for name, e in ((self.metric_name, c.metric), ("difference", c.difference)):
                record |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
            records.append(record | {"spread": c.spread, "passes": c.passes, "reason": c.reason})
        schema = {"passes": pl.Boolean}
        table = pl.DataFrame(records, infer_schema_length=None, schema_overrides=schema)
        return table.with_columns(pl.selectors.float().fill_nan(None))


def robustness(
    family: Family,
    X: np.ndarray,
    Y: np.ndarray,
    kind: str,
    groups: np.ndarray | None,
    *,
    setting: float,
    n_folds: int = 5,
    texts: Sequence[str] | None = None,
    paraphrase: np.ndarray | None = None,
    seeds: int = 5,
    noise: tuple[float, ...] = (0.05, 0.1, 0.2),
    balance: bool = True,
    lengths: bool = True,
    n_bootstraps: int = 1000,
    seed: int = 0,
) -> Robustness:
    """Refit the probe under changed conditions.

    Parameters
    ----------
    family : of the probe; its parameter is fixed at `setting` (NaN for a family without one).
    X : (n, d) activations of the chosen site. Y : (n, m). kind : of the target. groups : (n,) or None.
    texts : one a row, for the shift of length. paraphrase : (n,) names each row's variant (its template), while
        `groups` name its meaning.
    seeds : seeds of the folds, the first `seed` itself, as in the sweep. noise : shares of wrong training labels; of
        whole groups where a label belongs to a group. balance, lengths : whether to run these conditions.

    Raises
    ------
    EvidenceError : shapes that do not fit, a share of noise outside 0 … 1, or folds that the data do not allow.
    """
    n = len(Y)
    for name, given in (("activations", X), ("texts", texts), ("paraphrase", paraphrase)):
        if given is not None and len(given) != n:
            raise EvidenceError(f"got {len(given)} rows of {name} for {n} targets; give one a row.")
    if seeds < 1 or any(not 0 < share < 1 for share in noise):
        raise EvidenceError(
            f"got {seeds} seeds and noise {noise}; expected one seed or more and shares between 0 and 1."
        )
    fixed = at_setting(family, setting)
    stratify = kind != "continuous"
    folds = [make_folds(Y, groups, n_folds, stratify=stratify, seed=seed)]
    no_folds = ""
    for s in range(1, seeds):
        try:
            folds.append(make_folds(Y, groups, n_folds, stratify=stratify, seed=seed + s))
        except EvidenceError as error:
            # Few groups can leave a class out of a fold by one seed and not by another.
            no_folds = f"seed {seed + s} gives no folds: {error}"
    data = Design(X, Y, kind, groups, folds[0], seed)
    base = Plan("baseline", "The probe as it is.")
    base.add(Y, data.everything, data.folds, "")
    plans = [base, *(label_noise(data, share) for share in noise)]
    if balance:
        plans += [balanced(data), imbalanced(data)]
    if lengths:
        plans += length_shift(data, texts)
    plans.append(paraphrase_shift(data, paraphrase))

    scores = _fit(fixed, data, plans)
    W = draw_groups(n, n_bootstraps, seed, groups=groups, fold=folds[0]).astype(np.float32)
    codes = group_codes(groups, n)
    enough = min(len(np.unique(codes[rows])) for rows in data.folds) >= _MIN_GROUPS
    judge = _Judge(Y, kind, W, enough)
    own = scores[0][0]
    conditions = [_seeds(fixed, data, folds, own, judge, no_folds)]
    conditions += [judge.condition(plan, found, own) for plan, found in zip(plans[1:], scores[1:], strict=True)]
    metric = PRIMARY[kind]
    baseline = judge.estimate(judge.replicates(own, data.folds))
    return Robustness(metric, CHANCE[metric] + MARGINS[metric]["decodable"], baseline, tuple(conditions))


@dataclass(frozen=True)
class _Judge:
    """The primary metric of scores in cells, for the rows as they are and for every replicate at once."""

    Y: np.ndarray
    kind: str
    W: np.ndarray
    has_interval: bool

    def replicates(self, scores: np.ndarray, cells: list[np.ndarray]) -> np.ndarray:
        name = PRIMARY[self.kind]
        found = [all_metrics(self.kind, scores[rows], self.Y[rows], self.W[rows])[name] for rows in cells if len(rows)]
        return fold_mean(found) if found else np.full(self.W.shape[1], np.nan)

    def estimate(self, replicates: np.ndarray) -> Estimate:
        return percentile(replicates) if self.has_interval else Estimate(float(replicates[0]))

    def condition(self, plan: Plan, scores: list[np.ndarray], baseline: np.ndarray) -> Condition:
        if plan.reason:
            return _not_run(plan.name, plan.explanation, plan.reason)
        found = [self.replicates(s, cells) for s, cells in zip(scores, plan.cells, strict=True)]
        same = {id(cells): cells for cells in plan.cells}
        before = {key: self.replicates(baseline, cells) for key, cells in same.items()}
        return self.compared(plan, found, [before[id(cells)] for cells in plan.cells])

    def compared(self, plan: Plan, found: list[np.ndarray], before: list[np.ndarray]) -> Condition:
        after, baseline = fold_mean(found), fold_mean(before)
        if not np.isfinite(after[0]):
            return _not_run(plan.name, plan.explanation, "no part of the held-out rows holds two classes to tell apart")
        metric = self.estimate(after)
        line = CHANCE[PRIMARY[self.kind]] + MARGINS[PRIMARY[self.kind]]["decodable"]
        return Condition(
            plan.name,
            plan.explanation,
            metric,
            self.estimate(baseline),
            self.estimate(after - baseline),
            bool(metric.low > line) if np.isfinite(metric.low) else None,
            tuple(float(f[0]) for f in found) if len(found) > 1 else (),
            tuple(plan.labels) if len(found) > 1 else (),
        )


def _not_run(name: str, explanation: str, reason: str) -> Condition:
    nothing = Estimate(float("nan"))
    return Condition(name, explanation, nothing, nothing, nothing, None, reason=reason)


def _fit(family: Family, data: Design, plans: list[Plan]) -> list[list[np.ndarray]]:
    """Out-of-fold scores (n, c) of every repetition of every plan."""
    jobs = [(target, mask) for plan in plans for target, mask in zip(plan.targets, plan.masks, strict=True)]
    scores: dict[int, np.ndarray] = {}
    together: Sequence[int] = ()
    if "multilabel" in family.kinds and data.kind == "binary":
        together = range(len(jobs))
    elif isinstance(family, Ridge):
        together = [j for j, (_, mask) in enumerate(jobs) if mask.all()]
    if together:
        columns = np.hstack([np.where(jobs[j][1][:, None], jobs[j][0], np.nan) for j in together])
        found = family.fit_site(data.X, columns, data.fold).scores[0]
        m = data.Y.shape[1]
        scores = {j: found[:, i * m : (i + 1) * m] for i, j in enumerate(together)}
    alone = [j for j in range(len(jobs)) if j not in scores]

    def one(j: int) -> np.ndarray:
        target, mask = jobs[j]
        weights = None if mask.all() else mask.astype(np.float64)
        return family.fit_site(data.X, target, data.fold, weights=weights).scores[0]

    scores |= dict(zip(alone, map_sites(one, alone), strict=True))
    at = iter(range(len(jobs)))
    return [[scores[next(at)] for _ in plan.targets] for plan in plans]


def _seeds(
    family: Family, data: Design, folds: list[np.ndarray], own: np.ndarray, judge: _Judge, no_folds: str
) -> Condition:
    """The same probe by other folds; the difference is to the first seed's."""
    plan = Plan(
        "fold seeds",
        f"Other folds, of {len(folds)} seeds: the mean, and how much the figure depends on the draw of the folds.",
        labels=[f"seed {data.seed + s}" for s in range(len(folds))],
    )
    if no_folds:
        return _not_run(plan.name, plan.explanation, no_folds)
    if len(folds) < 2:
        return _not_run(plan.name, plan.explanation, "one seed was asked for")
    found = [judge.replicates(own, data.folds)]
    fits = map_sites(lambda fold: family.fit_site(data.X, data.Y, fold).scores[0], folds[1:])
    for fold, scores in zip(folds[1:], fits, strict=True):
        found.append(judge.replicates(scores, [np.flatnonzero(fold == k) for k in range(int(fold.max()) + 1)]))
    return judge.compared(plan, found, found[:1])
