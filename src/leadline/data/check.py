"""What must hold before any work is spent on a data set, and what could mislead a probe on it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leadline.data.media import Captioned
from leadline.data.pairing import pairing_column
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
# What an AUROC of .65 comes to for two classes of one size.
_LENGTH_ETA = 3 / 4 * (2 * _LENGTH_AUROC - 1) ** 2
_RARE_CLASS = 0.1
_SHOWN = 5


def check(data: Dataset, *, n_folds: int = 5) -> tuple[Finding, ...]:
    """Judge whether a probe on this data can be judged; all training rows count, and no model is needed.

    Parameters
    ----------
    n_folds : the grouped folds that are planned; each must get some of every class. 1 for data that is only scored.

    Returns
    -------
    Warnings and notes: `duplicate_rows`, `conflicting_duplicates`, `text_crosses_split`, `group_crosses_split`,
    `length` (the label follows from the length of the text or word alone), `rare_class`, `test_one_class`,
    `test_lacks_class`, `pairs` (minimal pairs that contrast nothing). Those of reading stand in `data.findings`.

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
        *_idle_pairs(data),
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
        only = target.class_of(int(train[0]))
        yield (
            f"target '{target.name}' is '{only}' in every training row; a probe needs rows of both classes. "
            f"Check that the right column was named, and that the file is not sorted and cut."
        )
        return
    if target.kind != "binary":
        yield from _small_classes(data, target, n_folds)
        return
    for value, name in ((0.0, target.negative), (1.0, target.positive)):
        chosen = train[labels[train] == value]
        units, what = (len(chosen), "row") if data.groups is None else (len(set(data.groups[chosen])), "group")
        if units < n_folds:
            yield (
                f"class '{name}' of target '{target.name}' stands in {_count(units, what)}; {n_folds} folds need it in "
                f"at least {n_folds}. Give more {what}s, or fewer folds."
            )


def _small_classes(data: Dataset, target: Target, n_folds: int) -> Iterable[str]:
    """The classes of a target of several that stand in fewer rows, or groups, than there are folds."""
    train, what = data.train_rows, "row" if data.groups is None else "group"
    labels = target.values[train, 0]
    found: list[tuple[str, int]] = []
    for code, name in enumerate(target.classes):
        chosen = train[labels == code]
        units = len(chosen) if data.groups is None else len(set(data.groups[chosen]))
        if units < n_folds:
            found.append((name, units))
    if found:
        shown = ", ".join(f"'{name}' ({_count(n, what)})" for name, n in found[:_SHOWN])
        yield (
            f"of the {len(target.classes):,} classes of target '{target.name}' {len(found):,} "
            f"{'stands' if len(found) == 1 else 'stand'} in too few {what}s: {shown}"
            f"{', …' if len(found) > _SHOWN else ''}; {n_folds} folds need each in at least {n_folds}. Give more "
            f"{what}s or fewer folds, join classes, or leave them out (Dataset.keep_classes)."
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
        elif target.kind == "multiclass":
            present = [code for code in range(len(target.classes)) if (values == code).any()]
            parts = [lengths[values == code] for code in present]
            test = stats.kruskal(*parts)
            # The share of the variance of the ranks that lies between classes, without what chance would give.
            eta = (test.statistic - len(parts) + 1) / max(len(lengths) - len(parts), 1)
            found = eta > _LENGTH_ETA and test.pvalue < _ALPHA
            typical = sorted((float(np.median(part)), target.classes[code]) for part, code in zip(parts, present))
            figure = (
                f"Kruskal-Wallis η² {eta:.2f}; the shortest are '{typical[0][1]}' with a median of {typical[0][0]:g} "
                f"characters, the longest '{typical[-1][1]}' with {typical[-1][0]:g}"
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
    if target.kind in ("multiclass", "ordinal"):
        yield from _rare_of_several(data, target)
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


def _rare_of_several(data: Dataset, target: Target) -> Iterable[Finding]:
    n_classes = len(target.classes)
    limit = 2 * _RARE_CLASS / n_classes
    for part, rows in (("training", data.train_rows), ("test", data.test_rows)):
        if not rows.size:
            continue
        counts = np.array([(target.values[rows, 0] == code).sum() for code in range(n_classes)])
        absent = [name for name, n in zip(target.classes, counts) if not n]
        if part == "test" and absent:
            one = len(absent) == n_classes - 1
            yield Finding(
                "test_one_class" if one else "test_lacks_class",
                "warning",
                f"target '{target.name}' has no {_listed(absent)} among the test rows; "
                + ("no figure can be given there." if one else "figures there are of the other classes alone."),
            )
        rare = [(n / len(rows), name) for name, n in zip(target.classes, counts) if 0 < n < limit * len(rows)]
        if rare:
            rare.sort()
            yield Finding(
                "rare_class",
                "note",
                f"{'a class' if len(rare) == 1 else f'{len(rare):,} classes'} of target '{target.name}' "
                f"{'has' if len(rare) == 1 else 'have'} under {limit:.1%} of the {part} rows: "
                + ", ".join(f"'{name}' {share:.1%}" for share, name in rare[:_SHOWN])
                + f"{', …' if len(rare) > _SHOWN else ''}; read figures that weigh classes alike rather than accuracy.",
            )


def _listed(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        return f"{', '.join(shown)} and {len(names) - _SHOWN:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _idle_pairs(data: Dataset) -> Iterable[Finding]:
    """Pairs of one row, or of rows with the same labels, which contrast nothing."""
    if data.pairs is None or not data.targets:
        return
    places: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(data.pairs):
        if name:
            places[name].append(row)
    labels = np.concatenate([t.values for t in data.targets], axis=1)
    idle = [row for rows in places.values() if (labels[rows] == labels[rows[0]]).all() for row in rows]
    if idle:
        idle.sort()
        n = len({data.pairs[row] for row in idle})
        yield Finding(
            "pairs",
            "warning",
            f"{n:,} of the {_count(len(places), 'pair')} of '{data.pair_column}' {'holds' if n == 1 else 'hold'} a "
            f"single row or rows of one label ({_named(data, idle)}) and {'contrasts' if n == 1 else 'contrast'} "
            f"nothing; check the column, or leave {'it' if n == 1 else 'them'} out.",
            tuple(idle),
        )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _is(rows: Sequence[int] | np.ndarray) -> str:
    return "is" if len(rows) == 1 else "are"


def _has(rows: Sequence[int] | np.ndarray) -> str:
    return "has" if len(rows) == 1 else "have"


def _it(rows: Sequence[int] | np.ndarray) -> str:
    return "it" if len(rows) == 1 else "them"
