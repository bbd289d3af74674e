"""Inputs as columns of a Parquet file, and back.

Texts are texts and chats JSON. Bytes of pictures and sounds are written, unless the frame has them already; a file is
not copied but written as its path with the SHA-256 of its contents, which is checked when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from leadline.data.media import Array, Captioned, Picture, Sound
from leadline.data.records import Input, Modality
from leadline.errors import DataError

if TYPE_CHECKING:
    from leadline.data.dataset import Dataset

__all__ = ["input_columns", "read_inputs"]


def input_columns(data: Dataset, prefix: str) -> list[pl.Series]:
    """The columns that hold the inputs.

    Raises
    ------
    DataError : a file of a picture or sound cannot be read.
    """
    if data.modality == "array":
        arrays = [x.values for x in data.inputs if isinstance(x, Array)]
        return [
            pl.Series(f"{prefix}array", [_little(x).tobytes() for x in arrays], dtype=pl.Binary),
            pl.Series(f"{prefix}array.dtype", [x.dtype.str[1:] for x in arrays], dtype=pl.String),
            pl.Series(f"{prefix}array.shape", [list(x.shape) for x in arrays], dtype=pl.List(pl.Int64)),
        ]
    found: list[pl.Series] = []
    if data.has_text:
        texts = [_text(x) for x in data.inputs]
        found.append(pl.Series(f"{prefix}input", texts, dtype=pl.String))
    media = [x.picture if isinstance(x, Captioned) else x for x in data.inputs]
    files = [x for x in media if isinstance(x, (Picture, Sound))]
    if files:
        if not _frame_has(data, files):
            found.append(pl.Series(f"{prefix}media.bytes", [x.data for x in files], dtype=pl.Binary))
        paths = [None if x.path is None else str(x.path) for x in files]
        found += [
            pl.Series(f"{prefix}media.path", paths, dtype=pl.String),
            pl.Series(f"{prefix}media.digest", [None if x.path is None else x.digest for x in files], dtype=pl.String),
            pl.Series(f"{prefix}media.name", [x.name for x in files], dtype=pl.String),
        ]
    return found


def _text(item: Input) -> str:
    if isinstance(item, Captioned):
        return item.text
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _little(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _frame_has(data: Dataset, files: Sequence[Picture | Sound]) -> bool:
    """Whether the frame's own column holds every row's bytes, so that they need not be written twice."""
    name = data.media_column
    if name is None or name not in data.frame.columns or data.frame[name].dtype != pl.Binary:
        return False
    return all(x.data == given for x, given in zip(files, data.frame[name].to_list(), strict=True))


def read_inputs(table: pl.DataFrame, prefix: str, modality: Modality, media_column: str | None) -> list[Input]:
    """The inputs that `input_columns` wrote; equal ones share one object, and no file is opened.

    Raises
    ------
    KeyError, ValueError, PolarsError : columns that are missing or damaged.
    """
    if modality == "array":
        columns = (table[f"{prefix}array"], table[f"{prefix}array.dtype"], table[f"{prefix}array.shape"])
        return [
            Array(np.frombuffer(raw, dtype=np.dtype(f"<{dtype}")).reshape(shape))
            for raw, dtype, shape in zip(*columns, strict=True)
        ]
    if modality == "text":
        seen: dict[str, str] = {}
        return [seen.setdefault(text, text) for text in table[f"{prefix}input"].to_list()]
    if modality == "chat":
        return [tuple(json.loads(str(x))) for x in table[f"{prefix}input"].to_list()]
    media = _media(table, prefix, Sound if modality == "audio" else Picture, media_column)
    if modality != "captioned":
        return list(media)
    texts = table[f"{prefix}input"].to_list()
    return [Captioned(x, text) for x, text in zip(media, texts, strict=True) if isinstance(x, Picture)]


def _media(
    table: pl.DataFrame, prefix: str, kind: type[Picture] | type[Sound], media_column: str | None
) -> Iterable[Picture | Sound]:
    own = f"{prefix}media.bytes"
    if own not in table.columns and media_column is None:
        raise DataError("the data set's pictures or sounds are in none of its columns; write it again.")
    held = table[own if own in table.columns else str(media_column)].to_list()
    made: dict[Any, Picture | Sound] = {}
    paths, digests, names = (table[f"{prefix}media.{part}"].to_list() for part in ("path", "digest", "name"))
    for data, path, digest, name in zip(held, paths, digests, names, strict=True):
        key = (data if path is None else path, name)
        if key not in made:
            made[key] = kind(data=data, name=name) if path is None else kind(Path(path), None, name, digest or "")
        yield made[key]
