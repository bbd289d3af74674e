"""A data set on disk, beside the activations made from it: `dataset.parquet` and `dataset.json`.

The Parquet file holds the frame as it is, and what was read from it in columns under a prefix of their own; files of
pictures and sounds stay where they are (see `stored_inputs`). The JSON file is written last and carries the
fingerprint, so a half-written or edited pair is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from leadline.data import stored_inputs
from leadline.data.records import Finding, Target
from leadline.data.words import word_types
from leadline.errors import DataError
from leadline.files import ensure_folder, replace_atomic, write_atomic

if TYPE_CHECKING:
    from leadline.data.dataset import Dataset

__all__ = ["read", "write"]

# Plain texts and chats are written as ever; 2 added other inputs and words, 3 several classes, pairs and types.
_PLAIN, _ANY_INPUT, _FORMAT = 1, 2, 3
_MOST_BYTES = 2**28


def write(data: Dataset, folder: str | Path) -> Path:
    """Write a data set into a folder (made if it is not there), and return the folder.

    Raises
    ------
    OutputError : the folder cannot be written to.
    DataError : a file of a picture or sound cannot be read.
    """
    folder = ensure_folder(folder)
    prefix = "leadline."
    while any(column.startswith(prefix) for column in data.frame.columns):
        prefix = f"_{prefix}"
    extra = [*stored_inputs.input_columns(data, prefix), pl.Series(f"{prefix}source_row", data.source_rows)]
    is_plain = data.modality in ("text", "chat") and data.span_column is None
    # Types that are words in lower case follow from the frame.
    types = None if data.type_column is None else data.types
    has_classes = any(t.kind in ("multiclass", "ordinal") for t in data.targets)
    is_new = has_classes or data.pairs is not None or types is not None
    for part, names in (("group", data.groups), ("split", data.splits), ("pair", data.pairs), ("type", types)):
        if names is not None:
            extra.append(pl.Series(prefix + part, names.tolist(), dtype=pl.String))
    for i, target in enumerate(data.targets):
        extra += [pl.Series(f"{prefix}target.{i}.{j}", column) for j, column in enumerate(target.values.T)]
    about = {
        "format": _FORMAT if is_new else _PLAIN if is_plain else _ANY_INPUT,
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
                **({"classes": t.classes} if t.kind in ("multiclass", "ordinal") else {}),
            }
            for t in data.targets
        ],
        "findings": [
            {"code": f.code, "severity": f.severity, "message": f.message, "rows": f.rows} for f in data.findings
        ],
        "columns": data.frame.columns,
        "prefix": prefix,
    }
    if not is_plain:
        about |= {"modality": data.modality, "media_column": data.media_column, "span_column": data.span_column}
    if is_new:
        about |= {"pair_column": data.pair_column, "type_column": data.type_column}
    with replace_atomic(folder / "dataset.parquet") as temporary:
        table = data.frame.with_columns(extra)
        table.write_parquet(temporary, row_group_size=_rows_a_group(table))
    write_atomic(folder / "dataset.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    return folder


def _rows_a_group(table: pl.DataFrame) -> int | None:
    """How many rows may stand in one row group; None for as many as there are.

    A column's part of a group is one page, of which Parquet counts the bytes in 31 bits.
    """
    columns = [table[c].bin.size().fill_null(0).to_numpy() for c, dtype in table.schema.items() if dtype == pl.Binary]
    large = [sizes for sizes in columns if sizes.sum() > _MOST_BYTES]
    return min((max(1, _MOST_BYTES // int(sizes.max())) for sizes in large), default=None)


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
        if about.get("format") not in (_PLAIN, _ANY_INPUT, _FORMAT):
            raise DataError(
                f"'{folder / 'dataset.json'}' is of format {about.get('format')}; this version reads {_PLAIN} to "
                f"{_FORMAT}. Write the data set again."
            )
        table = pl.read_parquet(folder / "dataset.parquet")
        prefix = about["prefix"]
        modality = about.get("modality", "chat" if about["is_chat"] else "text")
        inputs = stored_inputs.read_inputs(table, prefix, modality, about.get("media_column"))
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
                classes=tuple(t.get("classes", ())),
            )
            for i, t in enumerate(about["targets"])
        )
        types = _names(table, f"{prefix}type")
        if types is None and about.get("span_column") is not None and "form" in table.columns:
            types = word_types(table)
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
            media_column=about.get("media_column"),
            span_column=about.get("span_column"),
            pairs=_names(table, f"{prefix}pair"),
            types=types,
            pair_column=about.get("pair_column"),
            type_column=about.get("type_column"),
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
