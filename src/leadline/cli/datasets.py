"""`leadline datasets`: the built-in sets, and a look at one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import plain, print_json, print_table, print_text

if TYPE_CHECKING:
    from leadline.data import Dataset

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline datasets`
- `leadline datasets city-facts --rows 20`
- `leadline datasets city-places --json`
- `leadline datasets mine.csv --text statement --target label --group topic`: check a file of your own
"""


def command(
    name: Annotated[str | None, Parameter(help="A built-in set, or a file to check.")] = None,
    /,
    *,
    text: str | None = None,
    target: tuple[str, ...] = (),
    group: str | None = None,
    split: str | None = None,
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
        A file's column that says train or test.
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

    columns = {"text": text, "target": list(target) or None, "group": group, "split": split}
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
                "n_groups": _n_groups(data),
                "targets": [
                    {"name": one.name, "columns": one.columns, "kind": one.kind, "positive": one.positive}
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
    groups = _n_groups(data)
    print_text(f"{data.name}: {data.n:,} rows{f' in {groups:,} groups' if groups else ''}", style="bold")
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


def _n_groups(data: Dataset) -> int | None:
    return len(set(data.groups.tolist())) if data.groups is not None else None


def _balance(data: Dataset, name: str) -> str:
    target = data.target(name)
    if target.kind == "binary":
        positive = int(target.values.sum())
        return f"{positive:,} × {target.positive}, {data.n - positive:,} × {target.negative}"
    low, high = target.values.min(axis=0), target.values.max(axis=0)
    return ", ".join(f"{column} {a:.4g} to {b:.4g}" for column, a, b in zip(target.columns, low, high, strict=True))


def _row(data: Dataset, row: int) -> dict[str, object]:
    shown: dict[str, object] = {"row": row, "text": data.texts[row]}
    if data.span_column is not None:
        start, end = data.select([row]).span(data.span_column)[0].tolist()
        shown[data.span_column] = data.texts[row][start:end]
    for target in data.targets:
        for column, value in zip(target.columns, target.values[row], strict=True):
            name = (target.positive if value else target.negative) if target.kind == "binary" else None
            shown[column] = name if name is not None else float(value)
    if data.groups is not None:
        shown["group"] = data.groups[row]
    if data.splits is not None:
        shown["split"] = data.splits[row]
    return shown
