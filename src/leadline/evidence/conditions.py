"""What each condition of `robustness` trains on, and the held-out rows on which it is judged.

A condition is a plan: for each repetition a target, a mask of the rows that may be trained on (less those of the fold
that is tested), and cells of rows within which the metric is computed. What the data do not allow has a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from leadline.probes.splits import group_codes
from leadline.probes.weights import balanced_sample

__all__ = [
    "Design",
    "Plan",
    "balanced",
    "imbalanced",
    "label_noise",
    "length_shift",
    "paraphrase_shift",
    "wrong_labels",
]

_NOISE_DRAWS = 2
_IMBALANCE = 10
# Classes with a smaller one of this share of the largest are balanced enough to be made imbalanced.
_BALANCED = 0.5
# Down-sampling that drops fewer rows than this share changes nothing to speak of.
_DROPPED = 0.1
# The fewest rows of a class that a fold may train on.
_FEWEST = 5
_MAX_VARIANTS = 6


@dataclass
class Plan:
    """A condition before it is run; a list entry a repetition (a draw, or a variant left out).

    Attributes
    ----------
    targets : (n, m) to train on. masks : (n,) bool, the rows to train on. cells : lists of rows; the metric is computed
        within a cell and averaged over them, as over folds. labels : what a repetition is called.
    reason : why the condition cannot be run, or an empty string.
    """

    name: str
    explanation: str
    targets: list[np.ndarray] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    cells: list[list[np.ndarray]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    reason: str = ""

    def add(self, target: np.ndarray, mask: np.ndarray, cells: list[np.ndarray], label: str) -> None:
        self.targets.append(target)
        self.masks.append(mask)
        self.cells.append(cells)
        self.labels.append(label)


@dataclass(frozen=True)
class Design:
    """What all conditions share: the data, the folds of the baseline and the seed; see `robustness`."""

    X: np.ndarray
    Y: np.ndarray
    kind: str
    groups: np.ndarray | None
    fold: np.ndarray
    seed: int

    @property
    def folds(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.fold == k) for k in range(int(self.fold.max()) + 1)]

    @property
    def everything(self) -> np.ndarray:
        return np.ones(len(self.Y), dtype=bool)

    def trains(self, mask: np.ndarray) -> str:
        """Why some fold cannot be trained on the rows of a mask, or an empty string."""
        for rows in self.folds:
            train = mask.copy()
            train[rows] = False
            if self.kind == "continuous":
                if train.sum() < 2 * _FEWEST:
                    return f"a fold would train on {int(train.sum())} rows"
                continue
            fewest = int(np.bincount(self.Y[train, 0].astype(np.int64), minlength=int(self.Y.max()) + 1).min())
            if fewest < _FEWEST:
                return f"a fold would train on {fewest} rows of a class; {_FEWEST} or more are needed"
        return ""


def wrong_labels(
    Y: np.ndarray, kind: str, groups: np.ndarray | None, share: float, rng: np.random.Generator
) -> np.ndarray:
    """(n, m) targets of which a share is wrong: another class, or the numbers of another row.

    Where every group holds one label, whole groups are made wrong, to about that share of rows; else single rows.
    """
    n = len(Y)
    codes = group_codes(groups, n)
    first = np.full(int(codes.max()) + 1, -1)
    first[codes[::-1]] = np.arange(n)[::-1]
    by_group = groups is not None and bool((Y[first][codes] == Y).all())
    unit = codes if by_group else np.arange(n)
    order = rng.permutation(int(unit.max()) + 1)
    reached = np.cumsum(np.bincount(unit)[order])
    n_wrong = max(1, int(np.argmin(np.abs(reached - share * n))) + 1)
    wrong = order[:n_wrong]
    result = Y.copy()
    if kind == "continuous":
        other = (wrong + rng.integers(1, len(order), n_wrong)) % len(order)
        source = first[other] if by_group else other
    else:
        n_classes = int(Y.max()) + 1
        shift = rng.integers(1, n_classes, n_wrong)
    for i, which in enumerate(wrong):
        rows = codes == which if by_group else which
        result[rows] = Y[source[i]] if kind == "continuous" else (Y[rows] + shift[i]) % n_classes
    return result


def label_noise(data: Design, share: float) -> Plan:
    what = "replaced by those of other rows" if data.kind == "continuous" else "wrong"
    plan = Plan(f"label noise {share:.0%}", f"{share:.0%} of training labels {what}; judged on the given labels.")
    rng = np.random.default_rng([data.seed, 51, round(share * 1e6)])
    cells = data.folds
    for draw in range(_NOISE_DRAWS):
        target = wrong_labels(data.Y, data.kind, data.groups, share, rng)
        for rows in cells:
            train = np.delete(target, rows, axis=0)
            lacks = data.kind != "continuous" and len(np.unique(train)) <= int(data.Y.max())
            if lacks or (np.ptp(train, axis=0) == 0).any():
                plan.reason = "with so many wrong labels a fold would train without some class"
                return plan
        plan.add(target, data.everything, cells, f"draw {draw + 1}")
    return plan


def _class_counts(data: Design) -> np.ndarray:
    return np.bincount(data.Y[:, 0].astype(np.int64), minlength=int(data.Y.max()) + 1)


def balanced(data: Design) -> Plan:
    plan = Plan("balanced", "Training rows drawn so that every class has as many as the rarest; all rows are judged.")
    if data.kind == "continuous":
        plan.reason = "a continuous target has no classes"
        return plan
    n_classes = len(_class_counts(data))
    if any(len(np.unique(data.Y[rows, 0])) < n_classes for rows in data.folds):
        plan.reason = "a fold lacks a class"
        return plan
    kept = balanced_sample(data.Y[:, 0], data.seed, groups=data.groups, fold=data.fold)
    if kept.mean() > 1 - _DROPPED:
        plan.reason = f"the classes are balanced already ({', '.join(f'{c:,}' for c in _class_counts(data))} rows)"
        return plan
    plan.reason = data.trains(kept)
    for draw in range(_NOISE_DRAWS if not plan.reason else 0):
        own = balanced_sample(data.Y[:, 0], data.seed + draw, groups=data.groups, fold=data.fold)
        plan.add(data.Y, own, data.folds, f"draw {draw + 1}")
    return plan


def imbalanced(data: Design) -> Plan:
    plan = Plan(
        f"imbalanced 1:{_IMBALANCE}",
        "The rarest class (the last of equals) thinned to a tenth of the largest in training; all rows are judged.",
    )
    if data.kind == "continuous":
        plan.reason = "a continuous target has no classes"
        return plan
    counts = _class_counts(data)
    thinned = len(counts) - 1 - int(np.argmin(counts[::-1]))
    if counts[thinned] < _BALANCED * counts.max():
        plan.reason = f"the classes are imbalanced as they are (1:{counts.max() / counts[thinned]:.1f})"
        return plan
    rng = np.random.default_rng([data.seed, 52])
    for draw in range(_NOISE_DRAWS):
        mask = data.everything
        for rows in data.folds:
            codes = data.Y[rows, 0].astype(np.int64)
            held = rows[codes == thinned]
            size = round(np.bincount(codes).max() / _IMBALANCE)
            mask[held] = False
            mask[rng.permutation(held)[: max(size, 1)]] = True
        plan.reason = data.trains(mask)
        if plan.reason:
            return plan
        plan.add(data.Y, mask, data.folds, f"draw {draw + 1}")
    return plan


def length_shift(data: Design, texts: Sequence[str] | None) -> list[Plan]:
    """Train on one half by length and test on the other; ties at the median are short."""
    plans = [
        Plan("trained short, tested long", "Training on the shorter half of the texts, testing on the longer half."),
        Plan("trained long, tested short", "Training on the longer half of the texts, testing on the shorter half."),
    ]
    if texts is None:
        reason = "there are no texts to measure"
    else:
        length = np.array([len(t) for t in texts])
        short = length <= np.median(length)
        reason = "half of the texts or more have the same, greatest length" if short.mean() > 0.9 else ""
    for plan, longer in zip(plans, (True, False), strict=True):
        plan.reason = reason
        if reason:
            continue
        tested = ~short if longer else short
        plan.reason = data.trains(~tested)
        if plan.reason:
            plan.reason += ", since length goes with the label"
            continue
        plan.add(data.Y, ~tested, [rows[tested[rows]] for rows in data.folds], "")
    return plans


def paraphrase_shift(data: Design, paraphrase: np.ndarray | None) -> Plan:
    """A row is scored by the fit that saw neither its variant nor its group."""
    plan = Plan(
        "unseen paraphrase",
        "Training on all variants (templates) but one, testing on that one with other meanings, each in turn.",
    )
    if paraphrase is None:
        plan.reason = "no column names the paraphrase, or template, of a row"
        return plan
    if data.groups is None:
        plan.reason = "paraphrases of one meaning can only be kept apart where groups name the meaning"
        return plan
    names, codes = np.unique(np.asarray(paraphrase, dtype=str), return_inverse=True)
    codes = codes.ravel()
    if len(names) < 2:
        plan.reason = "every row has the same variant"
        return plan
    part = np.arange(len(names))
    if len(names) > _MAX_VARIANTS:
        part = np.random.default_rng([data.seed, 53]).permutation(len(names)) % _MAX_VARIANTS
        plan.explanation += f" {len(names)} variants are left out in {_MAX_VARIANTS} lots."
    for p in range(int(part.max()) + 1):
        tested = part[codes] == p
        plan.reason = data.trains(~tested)
        if plan.reason:
            return plan
        cells = [rows[tested[rows]] for rows in data.folds]
        members = names[part == p]
        plan.add(data.Y, ~tested, cells, str(members[0]) if len(members) == 1 else f"lot {p + 1}")
    return plan
