"""A frame and options to what a `Dataset` is made of: inputs, targets, groups, pairs, types and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import polars as pl

from leadline.data import columns, media_columns
from leadline.data.media import Array, Picture, Sound
from leadline.data.readers import frame_of_columns
from leadline.data.records import Finding, Input, Target, name_rows
from leadline.data.targets import read_targets
from leadline.errors import DataError

__all__ = ["Labels", "array_inputs", "plain_frame", "read_any_inputs", "read_labels"]


class Labels(TypedDict):
    """The parts of a `Dataset` that come from columns beside its inputs."""

    targets: tuple[Target, ...]
    groups: np.ndarray | None
    splits: np.ndarray | None
    pairs: np.ndarray | None
    types: np.ndarray | None
    group_column: str | None
    split_column: str | None
    pair_column: str | None
    type_column: str | None
    findings: tuple[Finding, ...]


def plain_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with Python objects as text, since they can be neither compared nor written."""
    objects = [c for c in frame.columns if frame[c].dtype == pl.Object]
    return frame.with_columns([pl.Series(c, [str(v) for v in frame[c].to_list()]) for c in objects])


def read_labels(
    frame: pl.DataFrame,
    *,
    target: str | Sequence[str] | None,
    group: str | None,
    split: str | None,
    pair: str | None,
    type_column: str | None,
    kind: str | None,
    positive: str | int | bool | None,
    order: Sequence[object] | None,
    source: str,
    inputs: Sequence[str],
) -> Labels:
    """Targets, groups, pairs, types and split, as `Dataset.from_frame` describes them.

    Parameters
    ----------
    inputs : the columns that the inputs are read from, which are no targets.

    Raises
    ------
    DataError : no target was named, a column is not there or named twice, its values cannot be read, or a pair has
        rows in several groups.
    """
    if target is None:
        raise DataError(
            f"no target column was named for '{source}'; give the column to predict, as in target='label'. "
            f"Its columns are {', '.join(frame.columns)}."
        )
    wanted = [target] if isinstance(target, str) else [str(t) for t in target]
    if len(set(wanted)) < len(wanted) or set(inputs) & set(wanted):
        named = " and ".join(f"'{name}'" for name in inputs)
        raise DataError(f"target {wanted} names a column twice, or a column of inputs ({named}); name each once.")
    targets, findings = read_targets(
        [columns.find_column(frame, t, "target", source) for t in wanted],
        kind=kind,
        positive=positive,
        order=order,
        source=source,
    )

    def names(column: str | None, role: str) -> np.ndarray | None:
        if column is None:
            return None
        return columns.read_names(columns.find_column(frame, column, role, source), role, source)

    groups, pairs, types, splits = names(group, "group"), names(pair, "pair"), names(type_column, "type"), None
    if pairs is not None and pair is not None:
        groups, noticed = columns.groups_of_pairs(pairs, groups, pair, group, source)
        findings += noticed
        group = group or pair
    if split is not None:
        splits, noticed = columns.read_splits(columns.find_column(frame, split, "split", source), source)
        findings += noticed
    return {
        "targets": targets,
        "groups": groups,
        "splits": splits,
        "pairs": pairs,
        "types": types,
        "group_column": group,
        "split_column": split,
        "pair_column": pair,
        "type_column": type_column,
        "findings": findings,
    }


def read_any_inputs(
    frame: pl.DataFrame,
    *,
    text: str | None,
    image: str | None,
    audio: str | None,
    folder: str | Path | None,
    source: str,
) -> tuple[tuple[Input, ...], str, str | None]:
    """The inputs, the column that stands for them, and the column of media where there is one.

    Raises
    ------
    DataError : columns that do not go together, are not there, or hold something else.
    """
    if audio is not None and (image is not None or text is not None):
        raise DataError(
            f"audio='{audio}' was given together with {'an image' if image is not None else 'a text'} column; a sound "
            f"stands alone. Leave the other out."
        )
    start = Path.cwd() if folder is None else Path(folder).absolute()
    if audio is not None:
        sounds = columns.find_column(frame, audio, "audio", source)
        return media_columns.read_media(sounds, Sound, start, source), audio, audio
    texts: tuple[Input, ...] = ()
    if image is None or text is not None:
        text = text if text is not None else "text"
        texts = columns.read_inputs(columns.find_column(frame, text, "text", source), frame, source)
        if image is None:
            return texts, text, None
    pictures = media_columns.read_media(columns.find_column(frame, image, "image", source), Picture, start, source)
    if text is None:
        return pictures, image, image
    return media_columns.caption(pictures, texts, f"column '{text}' of '{source}'"), text, image


def array_inputs(
    inputs: Any, targets: Any, beside: Mapping[str, Sequence[Any] | None]
) -> tuple[tuple[Array, ...], pl.DataFrame, list[str]]:
    """Arrays, a frame of what is known of their rows, and the names of the targets in it.

    Parameters
    ----------
    beside : (n,) groups, splits and the like by the names of their columns, or None.

    Raises
    ------
    DataError : no rows, an input that is no array of finite numbers, or a part of another length.
    """
    if isinstance(inputs, (str, bytes, Mapping)) or not hasattr(inputs, "__len__") or not len(inputs):
        raise DataError(
            f"inputs are of type {type(inputs).__name__}, or empty; expected an array of shape (n, ...) or a list of "
            f"n arrays, n over 0."
        )
    arrays = []
    for row, values in enumerate(inputs):
        try:
            arrays.append(values if isinstance(values, Array) else Array(values))
        except DataError as error:
            raise DataError(f"{name_rows([row])} of the inputs: {error}") from error
    labels = {} if targets is None else targets if isinstance(targets, Mapping) else {"label": targets}
    parts: dict[str, Any] = {str(name): values for name, values in labels.items()}
    names = list(parts)
    for name, values in beside.items():
        if name in parts:
            raise DataError(f"a target is called '{name}', which is the name of the {name}s; call it otherwise.")
        if values is not None:
            parts[name] = values
    held: dict[str, list[Any]] = {}
    for name, values in parts.items():
        values = values.detach().cpu().numpy() if hasattr(values, "detach") else values
        held[name] = list(values) if hasattr(values, "__iter__") and not isinstance(values, (str, bytes)) else [values]
        if len(held[name]) != len(arrays):
            raise DataError(
                f"'{name}' has {len(held[name]):,} entries, the inputs {len(arrays):,} rows; give one each."
            )
    row_column = "row"
    while row_column in held:
        row_column = f"_{row_column}"
    return tuple(arrays), frame_of_columns({row_column: range(1, len(arrays) + 1), **held}), names
