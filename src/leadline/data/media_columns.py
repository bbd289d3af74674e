"""Columns of pictures and sounds: paths, bytes, or the records of both that the Hugging Face hub has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from leadline.data.media import Captioned, Picture, Sound
from leadline.data.records import name_rows
from leadline.errors import DataError

__all__ = ["caption", "read_media"]

Media = TypeVar("Media", Picture, Sound)

_SHOWN = 3


def read_media(column: pl.Series, kind: type[Media], folder: Path, source: str) -> tuple[Media, ...]:
    """Each row's picture or sound; rows with the same path or bytes share one object, so it is hashed once.

    Parameters
    ----------
    column : paths, bytes, or structs `{"bytes", "path"}` of which the bytes count where there are any.
    kind : `Picture` or `Sound`.
    folder : what relative paths start from.

    Raises
    ------
    DataError : a column of something else, rows without a value, or files that are not there; names the rows.
    """
    what = kind.__name__.lower()
    where = f"column '{column.name}' of '{source}'"
    made: dict[str | bytes, Media] = {}
    found: list[Media] = []
    missing: list[int] = []
    absent: list[tuple[int, Path]] = []
    for row, value in enumerate(_values(column, what, where)):
        if not value:
            missing.append(row)
            continue
        if value not in made:
            made[value] = kind(data=value) if isinstance(value, bytes) else kind(path=folder / Path(value).expanduser())
        item = made[value]
        found.append(item)
        if item.path is not None and not item.path.is_file():
            absent.append((row, item.path))
    if missing:
        raise DataError(
            f"{name_rows(missing)} of {where} {'has' if len(missing) == 1 else 'have'} no {what}; "
            f"give a path or the bytes of a file in every row, or leave such rows out."
        )
    if absent:
        files = ", ".join(f"'{path}' in row {row + 1:,}" for row, path in absent[:_SHOWN])
        found_not = "names a file that is" if len(absent) == 1 else "name files that are"
        raise DataError(
            f"{name_rows([row for row, _ in absent])} of {where} {found_not} not there: "
            f"{files}{', …' if len(absent) > _SHOWN else ''}. Relative paths start from '{folder}'; correct them, or "
            f"leave such rows out."
        )
    return tuple(found)


def _values(column: pl.Series, what: str, where: str) -> Iterable[str | bytes | None]:
    dtype = column.dtype
    if dtype in (pl.Categorical, pl.Enum, pl.Null):
        column = column.cast(pl.String)
    elif isinstance(dtype, pl.Struct) and {field.name for field in dtype.fields} & {"bytes", "path"}:
        return [None if record is None else record.get("bytes") or record.get("path") for record in column.to_list()]
    elif dtype not in (pl.String, pl.Binary):
        raise DataError(
            f"{where} holds values of type {dtype}; expected paths of files or their bytes for each {what}."
        )
    values: list[Any] = column.to_list()
    return values


def caption(pictures: Iterable[Picture], texts: Iterable[Any], where: str) -> tuple[Captioned, ...]:
    """Each picture with its text.

    Raises
    ------
    DataError : chats in place of texts.
    """
    captioned = []
    for row, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        if not isinstance(text, str):
            raise DataError(
                f"{name_rows([row])} of {where} holds a chat; expected a plain text beside a picture. "
                f"Give the prompt itself, without its role."
            )
        captioned.append(Captioned(picture, text))
    return tuple(captioned)
