"""Control tasks and selectivity: how much of a probe's metric its own memory could have given.

A control task gives each type (a word, a template) one random label, which all its rows share. Nothing in the
representation holds such labels but the identity of the type; a probe that predicts them on other rows of the same
types has learnt them by heart. Selectivity is the task's metric less the control's, at the same capacity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import BootstrapDesign, Estimate, Selection, gain, metric_table, select
from leadline.evidence.metrics import JUDGED_BY
from leadline.probes.adapt import at_setting
from leadline.probes.fit import Family
from leadline.probes.intervals import percentile
from leadline.probes.splits import group_codes

__all__ = ["ControlTask", "control_labels", "control_task", "recurring_rows"]

MIN_TYPES = 10


@dataclass(frozen=True)
class ControlTask:
    """The task's metric, the control's, and their difference, all on rows whose type recurs.

    Attributes
    ----------
    metric : what differences of the kind are judged by (accuracy for several classes). selectivity : task − control.
    p_value : one-sided, against a task that is itself a random labelling of the types.
    task, control : the latter is the mean over the draws of labels. draws : each draw's own.
    n_types : types in all. n_recurring : those that stand in two folds or more.
    share_recurring : of the rows, those whose type stands in their fold's training rows too.
    share_constant : of the recurring types, those whose rows all have one label in the task itself. At 1 the task is a
        function of the type, and a probe with room to memorise every type scores as well on either.
    setting : the penalty at which both were fitted; NaN where each chose its own, or the family has none.
    reason : why nothing was computed, or no interval, or an empty string.
    """

    metric: str
    selectivity: Estimate
    p_value: float
    task: Estimate
    control: Estimate
    draws: tuple[float, ...]
    n_types: int
    n_recurring: int
    share_recurring: float
    share_constant: float
    setting: float
    reason: str = ""


def control_task(
    family: Family,
    X: np.ndarray,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    types: np.ndarray,
    design: BootstrapDesign,
    *,
    setting: float | None = None,
    scores: np.ndarray | None = None,
    n_tasks: int = 5,
    min_share: float = 0.5,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> ControlTask:
    """Fit control tasks beside the task: same activations, family, penalty and folds.

    Only a row whose type stands in the training rows of its fold can be learnt by memory; task and control are both
    judged on those rows alone, by `JUDGED_BY`, within folds. The interval is of the paired differences over the
    replicates of `design`, for this task against the mean control task; a replicate draws the control tasks with
    replacement too. The p-value asks for more: that the task exceeds what *one* random labelling of the types may score
    by luck. Each replicate is moved by s·√(1 + 1/T)·t, with s the standard deviation between the T draws and t of
    Student's distribution with T − 1 degrees of freedom, and p = (1 + #{replicates ≤ 0}) / (1 + B).

    Where the label is a function of the type, the task itself can be learnt by memory, and a probe that has room for
    every type scores as well on the control: selectivity is then about 0, and rightly so, as the figures cannot tell
    what the representation holds from what the probe has learnt. It stays high only where the probe is too small to
    memorise the types and yet reads the label.

    Parameters
    ----------
    X : (n, d) raw activations of the site. Y : (n, m). kind : of the target, which the family takes. fold : (n,).
    types : (n,) what a row could be remembered by. design : the task's replicates.
    setting : of the family's parameter, for the task and the control alike; None for the family as it is, each then
        with its best setting, corrected for the choice.
    scores : the task's out-of-fold scores, (n, c), or (L, n, c) without a `setting`; it is not fitted again then.
    n_tasks : draws of random labels. min_share : of the rows; below it no type is taken to recur.
    weights : (n,) of the training rows, None for ones.

    Raises
    ------
    EvidenceError : arrays that do not fit one another, or fewer than two draws.

    References
    ----------
    J. Hewitt and P. Liang (2019), Designing and interpreting probes with control tasks, EMNLP, arXiv:1909.03368.
    """
    n = len(Y)
    metric = JUDGED_BY[kind]
    if len(X) != n or np.shape(types) != (n,) or np.shape(fold) != (n,):
        raise EvidenceError(
            f"got X of {len(X)} rows, Y of {n}, fold {np.shape(fold)} and types {np.shape(types)}; expected one a row."
        )
    if n_tasks < 2:
        raise EvidenceError(f"got {n_tasks} control tasks; how much they differ needs 2 or more.")
    codes = group_codes(types, n)
    recurs, recurring_types = recurring_rows(codes, fold, weights)
    n_types, n_recurring = int(codes.max()) + 1, int(recurring_types.sum())
    share = float(recurs.mean())
    none = Estimate(float("nan"))
    outcome = ControlTask(
        metric=metric,
        selectivity=none,
        p_value=float("nan"),
        task=none,
        control=none,
        draws=(),
        n_types=n_types,
        n_recurring=n_recurring,
        share_recurring=share,
        share_constant=float(_constant(Y, codes)[recurring_types].mean()) if n_recurring else float("nan"),
        setting=float("nan") if setting is None else float(setting),
    )
    if share < min_share or n_recurring < MIN_TYPES:
        reason = (
            f"no type recurs: {n_recurring:,} of {n_types:,} types stand in two folds or more, and {share:.0%} of the "
            f"rows have theirs in the training rows too, where {MIN_TYPES} types and {min_share:.0%} are needed"
        )
        return replace(outcome, reason=reason)
    labels = control_labels(Y, kind, codes, recurring_types, n_tasks, seed)
    if not labels:
        reason = f"{n_recurring:,} recurring types do not suffice to deal the task's labels, or all have the same one"
        return replace(outcome, reason=reason)

    fixed = family if setting is None else at_setting(family, setting)
    given = None if scores is None else _as_settings(scores, n, setting)
    columns = [*(() if given is not None else (Y,)), *labels]
    found = _fit(fixed, X, columns, kind, fold, weights)
    tasks = [given, *found] if given is not None else found

    judged = _on_rows(design, recurs)
    tables = [metric_table(each, target, kind, judged) for each, target in zip(tasks, (Y, *labels), strict=True)]
    if not all(np.isfinite(table.point[metric]).any() for table in tables):
        reason = f"{metric} is undefined on the rows whose type recurs: in no fold do they hold two classes"
        return replace(outcome, reason=reason)
    task, *controls = (select(table, judged) for table in tables)
    control = _mean_of(controls, metric, judged, seed)
    selectivity, _ = gain(task, control, metric, judged)
    reason = judged.reason
    if not reason and not np.isfinite(selectivity.low):
        reason = f"{metric} is undefined in more than a tenth of the replicates, which leaves no interval"
    return replace(
        outcome,
        selectivity=selectivity,
        p_value=_p_value(task, controls, metric, seed) if np.isfinite(selectivity.low) else float("nan"),
        task=task.metrics[metric],
        control=control.metrics[metric],
        draws=tuple(c.metrics[metric].value for c in controls),
        reason=reason,
    )


def recurring_rows(
    codes: np.ndarray, fold: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which rows could be learnt by memory, and which types stand in two folds or more.

    Parameters
    ----------
    codes : (n,) int of the types. fold : (n,). weights : (n,) or None; a row of weight 0 trains nothing.

    Returns
    -------
    (n,) bool: a row of the same type is trained on by the row's fold. (T,) bool: trained on by every fold.
    """
    held = np.zeros((int(codes.max()) + 1, int(fold.max()) + 1), dtype=bool)
    counted = np.ones(len(codes), dtype=bool) if weights is None else weights > 0
    held[codes[counted], fold[counted]] = True
    n_held = held.sum(axis=1)
    return n_held[codes] - held[codes, fold] > 0, n_held >= 2


def control_labels(
    Y: np.ndarray, kind: str, codes: np.ndarray, recurring: np.ndarray, n_tasks: int, seed: int
) -> list[np.ndarray]:
    """Random targets, constant within each type.

    A class is drawn for each type from the distribution of classes over types, where a type of several labels counts
    as a share of each. A class that no recurring type drew gets one, from the class that has the most, so that every
    fold trains on every class. The mean values of a continuous target are dealt among the types anew.

    Parameters
    ----------
    Y : (n, m). codes : (n,) int of the types. recurring : (T,) bool, as `recurring_rows` gives it.

    Returns
    -------
    n_tasks arrays (n, m); none where all rows have one label, or the classes outnumber the recurring types.
    """
    rng = np.random.default_rng([seed, 31])
    n_types = int(codes.max()) + 1
    size = np.bincount(codes, minlength=n_types)
    if kind == "continuous":
        means = np.stack([np.bincount(codes, column, n_types) / size for column in Y.T], axis=1)
        if not (np.ptp(means, axis=0) > 0).all():
            return []
        return [means[rng.permutation(n_types)][codes] for _ in range(n_tasks)]
    classes, of_row = np.unique(Y[:, 0], return_inverse=True)
    if len(classes) < 2 or recurring.sum() < len(classes):
        return []
    counts = np.stack([np.bincount(codes, of_row.ravel() == c, n_types) for c in range(len(classes))], axis=1)
    share = (counts / size[:, None]).mean(axis=0)
    at = np.flatnonzero(recurring)
    drawn = []
    for _ in range(n_tasks):
        label = rng.choice(len(classes), size=n_types, p=share / share.sum())
        while True:
            holders = np.bincount(label[at], minlength=len(classes))
            missing = np.flatnonzero(holders == 0)
            if not len(missing):
                break
            label[rng.choice(at[label[at] == holders.argmax()])] = missing[0]
        drawn.append(classes[label[codes]][:, None])
    return drawn


def _fit(
    family: Family, X: np.ndarray, targets: list[np.ndarray], kind: str, fold: np.ndarray, weights: np.ndarray | None
) -> list[np.ndarray]:
    """(L, n, c) out-of-fold scores of each target; all columns in one fit where the kind has a probe a column."""
    if kind in ("binary", "continuous"):
        width = targets[0].shape[1]
        scores = family.fit_site(X, np.hstack(targets), fold, weights=weights).scores
        return [scores[:, :, start : start + width] for start in range(0, scores.shape[2], width)]
    return [family.fit_site(X, target, fold, weights=weights).scores for target in targets]


def _as_settings(scores: np.ndarray, n: int, setting: float | None) -> np.ndarray:
    given = scores[None] if scores.ndim == 2 else scores
    if given.ndim != 3 or given.shape[1] != n or (setting is not None and len(given) > 1):
        raise EvidenceError(
            f"got scores of shape {scores.shape} for {n} rows; expected (n, c), or (settings, n, c) without a setting."
        )
    return given


def _on_rows(design: BootstrapDesign, kept: np.ndarray) -> BootstrapDesign:
    """The same replicates, with the other rows weighing nothing."""
    weights, fewest = [], len(kept)
    for k, own in enumerate(design.weights):
        rows = kept[design.fold == k]
        weights.append(own * rows[:, None].astype(np.float32))
        # Rows of one group are drawn together in every replicate, and two groups hardly ever are.
        fewest = min(fewest, len(np.unique(own[rows, 1 : 1 + min(design.n_replicates, 64)], axis=0)))
    reason = design.reason
    if not reason and fewest < 2:
        reason = f"a fold holds {fewest} group with a type that recurs; an interval over groups needs 2 or more in each"
    return BootstrapDesign(design.fold, tuple(weights), design.n_replicates, reason)


def _mean_of(controls: list[Selection], metric: str, design: BootstrapDesign, seed: int) -> Selection:
    """The mean over draws, each replicate with draws of its own."""
    rng = np.random.default_rng([seed, 32])
    value = float(np.mean([c.metrics[metric].value for c in controls]))
    centred = np.stack([c.centred[metric] for c in controls])
    n_tasks, n_b = centred.shape
    times = rng.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=n_b).T / n_tasks
    replicates = (centred * times).sum(axis=0)
    estimate = Estimate(value) if design.reason else percentile(np.concatenate([[value], replicates]))
    naive = float(np.mean([c.naive[metric] for c in controls]))
    return Selection(-1, {metric: naive}, {metric: estimate}, {metric: replicates})


def _p_value(task: Selection, controls: list[Selection], metric: str, seed: int) -> float:
    """Against a task that is one more draw: its distance from the mean of T draws has the variance s²·(1 + 1/T)."""
    n_tasks = len(controls)
    spread = np.std([c.metrics[metric].value for c in controls], ddof=1) * np.sqrt(1 + 1 / n_tasks)
    difference = task.centred[metric] - np.mean([c.centred[metric] for c in controls], axis=0)
    # s is known from T draws alone: Student's t in place of the normal.
    more = np.random.default_rng([seed, 33]).standard_t(n_tasks - 1, size=len(difference))
    shifted = (difference + spread * more)[np.isfinite(difference)]
    return float((1 + (shifted <= 0).sum()) / (1 + len(shifted)))


def _constant(Y: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(T,) bool: all rows of the type have the same target."""
    first = np.zeros((int(codes.max()) + 1, Y.shape[1]))
    first[codes[::-1]] = Y[::-1]
    differs = (first[codes] != Y).any(axis=1)
    return np.asarray(np.bincount(codes, differs, len(first)) == 0)
