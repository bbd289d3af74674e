"""A data set on disk, beside the activations made from it: `dataset.parquet` and `dataset.json`.

The Parquet file holds the frame as it is, and what was read from it in columns under a prefix of their own. The JSON
file is written last and carries the fingerprint, so a half-written or edited pair is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from leadline.data.records import Finding, Input, Target
from leadline.errors import DataError
from leadline.files import ensure_folder, replace_atomic, write_atomic

if TYPE_CHECKING:
    from leadline.data.dataset import Dataset

__all__ = ["read", "write"]

_FORMAT = 1


def write(data: Dataset, folder: str | Path) -> Path:
    """Write a data set into a folder (made if it is not there), and return the folder.

    Raises
    ------
    OutputError : the folder cannot be written to.
    """
    folder = ensure_folder(folder)
    prefix = "leadline."
    while any(column.startswith(prefix) for column in data.frame.columns):
        prefix = f"_{prefix}"
    inputs = [x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in data.inputs]
    extra = [pl.Series(f"{prefix}input", inputs, dtype=pl.String), pl.Series(f"{prefix}source_row", data.source_rows)]
    for part, names in (("group", data.groups), ("split", data.splits)):
        if names is not None:
            extra.append(pl.Series(prefix + part, names.tolist(), dtype=pl.String))
    for i, target in enumerate(data.targets):
        extra += [pl.Series(f"{prefix}target.{i}.{j}", column) for j, column in enumerate(target.values.T)]
    about = {
        "format": _FORMAT,
        "name": data.name,
        "source": data.source,
        "n": data.n,
        "n_given": data.n_given,
        "fingerprint": data.fingerprint,
        "is_chat": data.is_chat,
        "text_column": data.text_column,
        "group_column": data.group_column,
        "split_column": data.split_column,
        "targets": [
            {
                "name": t.name,
                "columns": t.columns,
                "kind": t.kind,
                "negative": t.negative,
                "positive": t.positive,
            }
            for t in data.targets
        ],
        "findings": [
            {"code": f.code, "severity": f.severity, "message": f.message, "rows": f.rows} for f in data.findings
        ],
        "columns": data.frame.columns,
        "prefix": prefix,
    }
    with replace_atomic(folder / "dataset.parquet") as temporary:
        data.frame.with_columns(extra).write_parquet(temporary)
    write_atomic(folder / "dataset.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    return folder


def read(folder: str | Path) -> Dataset:
    """Read a data set that `write` wrote.

    Raises
    ------
    DataError : the files are not there, cannot be read, or do not have the fingerprint that was written.
    """
    from leadline.data.dataset import Dataset

    folder = Path(folder)
    try:
        about: dict[str, Any] = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if about.get("format") != _FORMAT:
            raise DataError(
                f"'{folder / 'dataset.json'}' is of format {about.get('format')}; this version reads {_FORMAT}. "
                f"Write the data set again."
            )
        table = pl.read_parquet(folder / "dataset.parquet")
        prefix = about["prefix"]
        inputs: list[Input] = table[f"{prefix}input"].to_list()
        if about["is_chat"]:
            inputs = [tuple(json.loads(str(x))) for x in inputs]
        targets = tuple(
            Target(
                name=t["name"],
                columns=tuple(t["columns"]),
                kind=t["kind"],
                values=np.stack(
                    [table[f"{prefix}target.{i}.{j}"].to_numpy() for j in range(len(t["columns"]))], axis=1
                ),
                negative=t["negative"],
                positive=t["positive"],
            )
            for i, t in enumerate(about["targets"])
        )
        data = Dataset(
            name=about["name"],
            source=about["source"],
            inputs=tuple(inputs),
            targets=targets,
            groups=_names(table, f"{prefix}group"),
            splits=_names(table, f"{prefix}split"),
            frame=table.select(about["columns"]),
            text_column=about["text_column"],
            group_column=about["group_column"],
            split_column=about["split_column"],
            n_given=about["n_given"],
            findings=tuple(
                Finding(f["code"], f["severity"], f["message"], tuple(f["rows"])) for f in about["findings"]
            ),
            source_rows=np.array(table[f"{prefix}source_row"].to_list(), dtype=np.int64),
        )
    except FileNotFoundError as error:
        raise DataError(
            f"there is no data set in '{folder}': '{Path(error.filename or '').name or 'dataset.json'}' is missing. "
            f"Give a folder that Dataset.write made."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"the data set in '{folder}' is damaged ({type(error).__name__}); write it again.") from error
    if data.fingerprint != about["fingerprint"]:
        raise DataError(
            f"the data set in '{folder}' is not the one that was written: its fingerprint is {data.fingerprint}, "
            f"expected {about['fingerprint']}. Its two files were edited or mixed up; write it again."
        )
    return data


def _names(table: pl.DataFrame, column: str) -> np.ndarray | None:
    if column not in table.columns:
        return None
    names = np.empty(table.height, dtype=object)
    names[:] = table[column].to_list()
    return names
