"""What must hold before any work is spent on a data set, and what could mislead a probe on it."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from leadline.data.media import Captioned
from leadline.data.records import Finding, Input, Target, content_of, name_rows
from leadline.errors import DataError

if TYPE_CHECKING:
    from leadline.data.dataset import Dataset

__all__ = ["MIN_ROWS", "check", "pairing_column"]

MIN_ROWS = 20
"""Below this no interval says anything."""

_LENGTH_AUROC = 0.65
_LENGTH_SPEARMAN = 0.3
_ALPHA = 0.01
_RARE_CLASS = 0.1
_MAX_PAIRED = 8


def check(data: Dataset, *, n_folds: int = 5) -> tuple[Finding, ...]:
    """Judge whether a probe on this data can be judged; all training rows count, and no model is needed.

    Parameters
    ----------
    n_folds : the grouped folds that are planned; each must get some of every class. 1 for data that is only scored.

    Returns
    -------
    Warnings and notes: `duplicate_rows`, `conflicting_duplicates`, `text_crosses_split`, `group_crosses_split`,
    `length` (the label follows from the length of the text or word alone), `rare_class`, `test_one_class`. Those
    of reading stand in `data.findings`.

    Raises
    ------
    DataError : empty texts, missing groups, NaN or infinite targets, one class or one value only, fewer than
        `MIN_ROWS` training rows, fewer groups than folds in all or in a class. All of them are named at once.
    """
    problems = [
        *_empty(data),
        *_missing_groups(data),
        *(p for t in data.targets for p in _unusable(data, t, n_folds)),
        *_too_few(data, n_folds),
    ]
    if problems:
        if len(problems) == 1:
            raise DataError(f"'{data.name}': {problems[0]}")
        listed = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, start=1))
        raise DataError(f"'{data.name}' cannot be used, for {len(problems)} reasons:{listed}")
    return (
        *_duplicates(data),
        *_crossing_groups(data),
        *(f for t in data.targets for f in (*_length(data, t), *_rare(data, t))),
    )


def _named(data: Dataset, rows: Sequence[int] | np.ndarray) -> str:
    return name_rows(data.source_rows[np.asarray(rows, dtype=np.int64)])


def _empty(data: Dataset) -> Iterable[str]:
    rows = [i for i, x in enumerate(data.inputs) if not _content(x).strip()] if data.has_text else []
    if rows:
        yield (
            f"{_named(data, rows)} of column '{data.text_column}' {_is(rows)} empty; "
            f"a model needs at least a word. Fill {_it(rows)} or leave {_it(rows)} out."
        )


def _content(item: Input) -> str:
    if isinstance(item, (tuple, list)):
        return "".join(message["content"] for message in item)
    return item.text if isinstance(item, Captioned) else str(item)


def _missing_groups(data: Dataset) -> Iterable[str]:
    if data.groups is not None and (rows := np.flatnonzero(data.groups == "")).size:
        yield (
            f"{_named(data, rows)} {_has(rows)} no group in column '{data.group_column}'; "
            f"name one for every row, or leave {_it(rows)} out."
        )


def _unusable(data: Dataset, target: Target, n_folds: int) -> Iterable[str]:
    rows = np.flatnonzero(~np.isfinite(target.values).all(axis=1))
    if rows.size:
        yield (
            f"{_named(data, rows)} {_has(rows)} no finite value for target '{target.name}'; "
            f"fill {_it(rows)} or leave {_it(rows)} out."
        )
        return
    train = data.train_rows
    if not train.size:
        return
    if target.kind == "continuous":
        for column, values in zip(target.columns, target.values[train].T):
            if values.min() == values.max():
                yield f"target '{column}' is {values[0]:g} in every training row; a probe needs values that differ."
        return
    labels = target.values[:, 0]
    if len(set(labels[train])) < 2:
        only = target.positive if labels[train[0]] else target.negative
        yield (
            f"target '{target.name}' is '{only}' in every training row; a probe needs rows of both classes. "
            f"Check that the right column was named, and that the file is not sorted and cut."
        )
        return
    for value, name in ((0.0, target.negative), (1.0, target.positive)):
        chosen = train[labels[train] == value]
        units, what = (len(chosen), "row") if data.groups is None else (len(set(data.groups[chosen])), "group")
        if units < n_folds:
            yield (
                f"class '{name}' of target '{target.name}' stands in {_count(units, what)}; {n_folds} folds need it in "
                f"at least {n_folds}. Give more {what}s, or fewer folds."
            )


def _too_few(data: Dataset, n_folds: int) -> Iterable[str]:
    train = data.train_rows
    if len(train) < MIN_ROWS:
        of = "" if data.splits is None else f" (column '{data.split_column}')"
        yield f"there {_is(train)} {_count(len(train), 'training row')}{of}; at least {MIN_ROWS} are needed."
    if data.groups is not None and (n := len(set(data.groups[train]))) < n_folds:
        yield (
            f"column '{data.group_column}' has {_count(n, 'group')}; {n_folds} folds that keep groups whole need at "
            f"least {n_folds}. Give a finer group, or fewer folds."
        )


def _duplicates(data: Dataset) -> Iterable[Finding]:
    # Where rows are words, a row's input is its sentence and its place in it.
    parts = [()] * data.n if data.span_column is None else map(tuple, data.span(data.span_column).tolist())
    places: dict[object, list[int]] = defaultdict(list)
    for row, (item, part) in enumerate(zip(data.inputs, parts, strict=True)):
        content = content_of(item)
        places[content if isinstance(content, str) else json.dumps(content, sort_keys=True), part].append(row)
    labels = np.concatenate([t.values for t in data.targets], axis=1) if data.targets else np.zeros((data.n, 0))
    same: list[int] = []
    conflicting: list[int] = []
    crossing: list[int] = []
    for rows in places.values():
        if len(rows) > 1:
            agree = (labels[rows] == labels[rows[0]]).all()
            (same if agree else conflicting).extend(rows)
            if data.splits is not None and len(set(data.splits[rows])) > 1:
                crossing.extend(rows)
    for code, rows, what in (
        ("duplicate_rows", same, "have an input that another row has too, with the same label"),
        ("conflicting_duplicates", conflicting, "have an input that another row has with another label"),
        ("text_crosses_split", crossing, "have an input that stands both in training and in test"),
    ):
        if rows:
            rows.sort()
            advice = "keep one of each" if data.groups is not None else "keep one of each, or give them a common group"
            yield Finding(
                code,
                "warning",
                f"{len(rows):,} rows {what} ({_named(data, rows)}); a probe can remember it: {advice}.",
                tuple(rows),
            )


def _crossing_groups(data: Dataset) -> Iterable[Finding]:
    if data.groups is None or data.splits is None:
        return
    train, test = data.train_rows, data.test_rows
    in_train, in_test = set(data.groups[train]), set(data.groups[test])
    both = in_train & in_test
    if both:
        rows = tuple(int(r) for r in test if data.groups[r] in both)
        shown = ", ".join(sorted(both)[:3]) + (", …" if len(both) > 3 else "")
        yield Finding(
            "group_crosses_split",
            "warning",
            f"{len(both):,} of the {_count(len(in_test), 'test group')} of '{data.group_column}' ({shown}) also "
            f"{'stands' if len(both) == 1 else 'stand'} in training: {len(rows):,} of {len(test):,} test rows are not "
            f"new to the probe. Split by '{data.group_column}', or report by group.",
            rows,
        )


def _length(data: Dataset, target: Target) -> Iterable[Finding]:
    from scipy import stats

    if not data.has_text:
        return
    train, what = data.train_rows, "text"
    lengths = np.array([len(text) for text in data.texts], dtype=np.float64)[train]
    if data.span_column is not None:
        what = data.span_column
        lengths = np.diff(data.span(what)[:, -2:], axis=1)[train, 0].astype(np.float64)
    if len(lengths) < 3 or lengths.min() == lengths.max():
        return
    for column, values in zip(target.columns, target.values[train].T):
        if target.kind == "binary":
            longer, shorter = lengths[values == 1], lengths[values == 0]
            test = stats.mannwhitneyu(longer, shorter, method="asymptotic")
            auroc = test.statistic / (len(longer) * len(shorter))
            found = max(auroc, 1 - auroc) > _LENGTH_AUROC and test.pvalue < _ALPHA
            figure = (
                f"AUROC {auroc:.2f}; {'longer' if auroc > 0.5 else 'shorter'} ones are more often '{target.positive}'"
            )
        else:
            test = stats.spearmanr(lengths, values)
            found = abs(test.statistic) > _LENGTH_SPEARMAN and test.pvalue < _ALPHA
            figure = f"Spearman correlation {test.statistic:.2f}"
        if found:
            yield Finding(
                "length",
                "warning",
                f"the length of the {what} alone predicts '{column}' ({figure}); a probe may read nothing else. "
                f"Balance the lengths, or hold its figures against the length control.",
            )


def _rare(data: Dataset, target: Target) -> Iterable[Finding]:
    if target.kind != "binary":
        return
    for part, rows in (("training", data.train_rows), ("test", data.test_rows)):
        labels = target.values[rows, 0]
        if not rows.size:
            continue
        share = labels.mean()
        name = target.positive if share < 0.5 else target.negative
        if share in (0.0, 1.0):
            yield Finding(
                "test_one_class",
                "warning",
                f"target '{target.name}' has no '{name}' among the test rows; no AUROC can be given there.",
            )
        elif min(share, 1 - share) < _RARE_CLASS:
            yield Finding(
                "rare_class",
                "note",
                f"only {min(share, 1 - share):.1%} of the {part} rows are '{name}' of target '{target.name}'; "
                f"read AUROC and balanced accuracy rather than accuracy.",
            )


def pairing_column(data: Dataset, target: Target) -> tuple[str, float] | None:
    """The column whose values pair rows of opposite labels, which folds should not part.

    A probe that learns a city from its true statement is wrong on its false one, so folds that part the two push a
    baseline below chance. A value pairs its rows where it has 2 to 8 of them with a mean label between .25 and .75. A
    value whose rows are all in one group pairs nothing, since folds keep it whole already.

    Returns
    -------
    The finest such column (the most pairing values) and the share of all rows that it pairs, where that share is above
    one half and well above what labels that ignore the column would give (by 3 standard deviations); else None.
    """
    if target.kind != "binary" or data.n == 0:
        return None
    labels = target.values[:, 0]
    taken = {
        data.text_column,
        data.media_column,
        data.group_column,
        data.split_column,
        *(c for t in data.targets for c in t.columns),
    }
    groups = None if data.groups is None else np.unique(data.groups, return_inverse=True)[1]
    base = float(np.nanmean(labels))
    best: tuple[int, float, str] | None = None
    for column in data.frame.columns:
        if column in taken or data.frame[column].dtype.is_nested() or data.frame[column].dtype == pl.Binary:
            continue
        # Code 0 is for a missing value, which pairs nothing.
        seen: dict[object, int] = {None: 0}
        codes = np.array([seen.setdefault(v, len(seen)) for v in data.frame[column].to_list()])
        sizes = np.bincount(codes)
        ones = np.bincount(codes, weights=np.nan_to_num(labels), minlength=len(sizes))
        few = (sizes >= 2) & (sizes <= _MAX_PAIRED)
        few[0] = False
        if groups is not None:
            low = np.full(len(sizes), groups.max() + 1)
            high = np.full(len(sizes), -1)
            np.minimum.at(low, codes, groups)
            np.maximum.at(high, codes, groups)
            few &= low < high
        mean = ones / np.maximum(sizes, 1)
        paired = few & (mean >= 0.25) & (mean <= 0.75)
        share = float(sizes[paired].sum()) / data.n
        by_size = Counter(sizes[few].tolist())
        chance = {s: _chance_of_a_pair(s, base) for s in by_size}
        expected = sum(n * s * chance[s] for s, n in by_size.items()) / data.n
        spread = math.sqrt(sum(n * s**2 * chance[s] * (1 - chance[s]) for s, n in by_size.items())) / data.n
        key = (int(paired.sum()), share, column)
        if share > 0.5 and share > expected + 3 * spread and (best is None or key[:2] > best[:2]):
            best = key
    return None if best is None else (best[2], best[1])


def _chance_of_a_pair(size: int, base: float) -> float:
    """How likely `size` labels drawn with mean `base` have a mean between .25 and .75."""
    counts = range(math.ceil(size / 4), math.floor(3 * size / 4) + 1)
    return sum(math.comb(size, k) * base**k * (1 - base) ** (size - k) for k in counts)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _is(rows: Sequence[int] | np.ndarray) -> str:
    return "is" if len(rows) == 1 else "are"


def _has(rows: Sequence[int] | np.ndarray) -> str:
    return "has" if len(rows) == 1 else "have"


def _it(rows: Sequence[int] | np.ndarray) -> str:
    return "it" if len(rows) == 1 else "them"
