"""`leadline datasets`: the built-in sets, and a look at one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import plain, print_json, print_table, print_text

if TYPE_CHECKING:
    import numpy as np

    from leadline.data import Dataset

__all__ = ["EXAMPLES", "command"]

Kind = Literal["binary", "continuous", "multiclass", "ordinal"]

# As many as a screen holds.
_MOST_CLASSES = 24

EXAMPLES = """
- `leadline datasets`
- `leadline datasets city-facts --rows 20`
- `leadline datasets city-places --json`
- `leadline datasets mine.csv --text statement --target label --group topic`: check a file of your own
- `leadline datasets essays.csv --target level --order low --order middle --order high`: levels that have an order
- `leadline datasets blimp.jsonl --pairs sentence_good sentence_bad`: minimal pairs, both sentences in a row
"""


def command(
    name: Annotated[str | None, Parameter(help="A built-in set, a file to check, or hub:NAME.")] = None,
    /,
    *,
    text: str | None = None,
    target: tuple[str, ...] = (),
    group: str | None = None,
    split: str | None = None,
    pair: str | None = None,
    type: str | None = None,
    pairs: tuple[str, str] | None = None,
    kind: Kind | None = None,
    positive: str | None = None,
    order: tuple[str, ...] = (),
    config: str | None = None,
    rows: int = 8,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """List the built-in data sets; with a name, show some rows and what its check found.

    Parameters
    ----------
    text
        A file's column with the texts.
    target
        A file's column with the labels; may be given several times.
    group
        A file's column whose rows belong together.
    split
        A file's column that says train or test; of a set of the hub the split to load.
    pair
        A file's column that names the minimal pair of a row.
    type
        A file's column of what recurs, as the same word or template, for control tasks.
    pairs
        The columns of the good and the bad sentence, where a row is a minimal pair.
    kind
        What the target is; by default two classes are binary, other texts multiclass, other numbers continuous.
    positive
        The class that counts as 1; of more than two it is set against the rest.
    order
        A level of an ordinal target; given once for each, from the lowest.
    config
        The subset of a set of the hub.
    rows
        How many rows to show.
    """
    from leadline.data import builtin_datasets, load_dataset

    if name is None:
        found = [
            {"name": one, "description": description, "n": n, "available": available}
            for one, description, n, available in builtin_datasets()
        ]
        if as_json:
            print_json(found)
        else:
            print_table(
                ["name", "rows", "available", "what"],
                [(one["name"], one["n"], "yes" if one["available"] else "no", one["description"]) for one in found],
                right=["rows"],
            )
            if not all(one["available"] for one in found):
                print_text('\nto get them all: pip install "leadline[demo]"')
        return 0

    from leadline.study.config import StudyConfig, named_data

    columns = {
        "text": text,
        "target": list(target) or None,
        "group": group,
        "split": split,
        "pair": pair,
        "type": type,
        "pairs": None if pairs is None else dict(zip(("positive", "negative"), pairs, strict=True)),
        "kind": kind,
        "positive": positive,
        "order": list(order) or None,
        "config": config,
    }
    given = {key: value for key, value in columns.items() if value is not None}
    source, keywords = StudyConfig.from_mapping(
        {"model": "none", "data": {**named_data(name), **given}}
    ).data.arguments()
    data = load_dataset(source, **keywords)
    findings = [*data.findings, *data.check()]
    if as_json:
        print_json(
            {
                "name": data.name,
                "source": data.source,
                "fingerprint": data.fingerprint,
                "n": data.n,
                "n_groups": _n(data.groups),
                "n_pairs": _n(data.pairs),
                "n_types": _n(data.types),
                "targets": [
                    {
                        "name": one.name,
                        "columns": one.columns,
                        "kind": one.kind,
                        "positive": one.positive,
                        "classes": one.counts,
                    }
                    for one in data.targets
                ],
                "findings": [
                    {"code": one.code, "severity": one.severity, "message": one.message, "rows": one.rows}
                    for one in findings
                ],
                "rows": [_row(data, row) for row in range(min(rows, data.n))],
            }
        )
        return 0
    parts = ((_n(data.groups), "groups"), (_n(data.pairs), "pairs"), (_n(data.types), "types"))
    within = " and ".join(f"{n:,} {what}" for n, what in parts if n)
    print_text(f"{data.name}: {data.n:,} rows{f' in {within}' if within else ''}", style="bold")
    print_text(data.source)
    for one in data.targets:
        print_text(f"target {one.name} ({one.kind}): {_balance(data, one.name)}")
    print_text()
    shown = [_row(data, row) for row in range(min(rows, data.n))]
    print_table(list(shown[0]), [[plain(value, 100) for value in row.values()] for row in shown])
    print_text()
    for finding in findings:
        print_text(f"{finding.severity}: {finding.message}", style="yellow" if finding.severity == "warning" else None)
    if not findings:
        print_text("the check found nothing to warn of")
    return 0


def _n(names: np.ndarray | None) -> int | None:
    return len(set(names.tolist()) - {""}) if names is not None else None


def _balance(data: Dataset, name: str) -> str:
    target = data.target(name)
    if target.has_classes:
        counts = list(target.counts.items())
        # The positive class first; levels from the lowest, and other classes from the largest.
        if target.kind == "binary":
            counts.reverse()
        elif target.kind == "multiclass":
            counts.sort(key=lambda pair: -pair[1])
        shown = ", ".join(f"{n:,} × {name}" for name, n in counts[:_MOST_CLASSES])
        rest = len(counts) - _MOST_CLASSES
        return f"{shown}, and {rest:,} more classes" if rest > 0 else shown
    low, high = target.values.min(axis=0), target.values.max(axis=0)
    return ", ".join(f"{column} {a:.4g} to {b:.4g}" for column, a, b in zip(target.columns, low, high, strict=True))


def _row(data: Dataset, row: int) -> dict[str, object]:
    shown: dict[str, object] = {"row": row, "text": data.texts[row]}
    if data.span_column is not None:
        start, end = data.select([row]).span(data.span_column)[0].tolist()
        shown[data.span_column] = data.texts[row][start:end]
    for target in data.targets:
        for column, value in zip(target.columns, target.values[row], strict=True):
            name = target.class_of(row)
            shown[column] = name if name is not None else float(value)
    if data.groups is not None:
        shown["group"] = data.groups[row]
    if data.pairs is not None:
        shown["pair"] = data.pairs[row]
    if data.splits is not None:
        shown["split"] = data.splits[row]
    return shown
