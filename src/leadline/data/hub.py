"""Data sets of the Hugging Face hub, through the package `datasets` where it is installed, to a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from leadline.data.records import Finding
from leadline.errors import DataError, did_you_mean

__all__ = ["PREFIX", "load", "source", "table"]

PREFIX = "hub:"
"""What the name of a data set begins with where it is one of the hub."""


def source(name: str, split: str | None, config: str | None, revision: str | None) -> str:
    """Where the rows are from, for a person."""
    chosen = ", ".join(part for part in (config, split, revision) if part is not None)
    return f"{PREFIX}{name}" + (f" ({chosen})" if chosen else "")


def load(name: str, *, split: str | None = None, config: str | None = None, revision: str | None = None) -> Any:
    """What `datasets.load_dataset` gives, or `load_from_disk` for a folder that `save_to_disk` made.

    Raises
    ------
    DataError : `datasets` is not installed, the hub cannot be reached, or there is no such data set, configuration or
        split.
    """
    datasets = _datasets(name)
    shown = not datasets.are_progress_bars_disabled()
    try:
        if shown:
            datasets.disable_progress_bars()
        folder = Path(name)
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            return _of_disk(datasets.load_from_disk(name), name, split, config, revision)
        return datasets.load_dataset(name, config, split=split, revision=revision)
    except ConnectionError as error:
        raise DataError(
            f"the data set '{name}' is not in the cache and the hub cannot be reached ({_why(error).rstrip('.')}); "
            f"check the connection, or load it once where there is one. A file of it is read by its path, as in "
            f"load_dataset('train.parquet')."
        ) from error
    except (OSError, ValueError, LookupError, ImportError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"the data set '{name}'{f' ({config})' if config else ''} cannot be loaded: {_why(error)} Check its name, "
            f"config (its subset) and split, and that it may be read."
        ) from error
    except datasets.exceptions.DatasetsError as error:
        raise DataError(
            f"the data set '{name}' cannot be made from its files: {_why(error)} Load one of its files by its path."
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        missing: Exception | None = error
    else:
        missing = None
    # A folder of that name beside the program can be imported too, and is empty.
    if missing is not None or not hasattr(datasets, "load_dataset"):
        raise DataError(
            f"'{name}' is a data set of the Hugging Face hub, which needs the package datasets; install it with: "
            f'pip install "leadline[hub]"'
        ) from missing
    return datasets


def _of_disk(found: Any, name: str, split: str | None, config: str | None, revision: str | None) -> Any:
    for key, value in (("config", config), ("revision", revision)):
        if value is not None:
            raise DataError(f"{key}='{value}' was given for the folder '{name}', which has none; leave it out.")
    if split is None:
        return found
    if not isinstance(found, Mapping) or split not in found:
        splits = list(found) if isinstance(found, Mapping) else []
        has = f"its splits are {', '.join(splits)}" if splits else "it is a single split"
        raise DataError(f"the folder '{name}' has no split '{split}'; {has}." + did_you_mean(split, splits))
    return found[split]


def _why(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    text = text if len(text) <= 300 else text[:297] + "..."
    return text if text.endswith((".", "?", "!")) else f"{text}."


def table(found: Any, options: Mapping[str, Any], source: str) -> tuple[pl.DataFrame, dict[str, Any], list[Finding]]:
    """A loaded data set as a frame, with class labels by their names.

    Parameters
    ----------
    found : a `datasets.Dataset`, or splits of it by name.
    options : what the reader was asked for: `target`, `kind`, `positive`, `split`.

    Returns
    -------
    The frame; options that follow from the data (`split`, a column made of the names of two splits; `positive`, the
    second of two class labels); and notes.

    Raises
    ------
    DataError : splits that leave a choice, or something else than a loaded data set.
    """
    if not isinstance(found, Mapping):
        return (*_frame(found, options, source), [])
    if len(found) == 1:
        return (*_frame(next(iter(found.values())), options, source), [])
    if not {"train", "test"} <= set(found):
        raise DataError(
            f"'{source}' has the splits {', '.join(found)}; name one, as in split='{next(iter(found), 'train')}'. Only "
            f"'train' and 'test' are read together."
        )
    if options.get("split") is not None:
        raise DataError(
            f"the column '{options['split']}' was named for the split, but '{source}' has the splits "
            f"{', '.join(found)} already; give one of them alone, or leave the column out."
        )
    (train, extra), (test, _) = (_frame(found[part], options, source) for part in ("train", "test"))
    column = "split"
    while column in train.columns:
        column = f"_{column}"
    try:
        frame = pl.concat([train, test])
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"the splits 'train' and 'test' of '{source}' have other columns ({_why(error)}); read them one by one."
        ) from error
    names = pl.Series(column, ["train"] * train.height + ["test"] * test.height)
    left = [name for name in found if name not in ("train", "test")]
    notes = []
    if left:
        message = f"the splits train and test of '{source}' are read; left out: {', '.join(left)}."
        notes.append(Finding("splits_left_out", "note", message))
    return frame.with_columns(names), {**extra, "split": column}, notes


def _frame(found: Any, options: Mapping[str, Any], source: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    if not hasattr(found, "to_polars"):
        raise DataError(
            f"'{source}' is of type {type(found).__name__}; expected a data set of the package datasets. Rows from "
            f"elsewhere are read with Dataset.from_rows."
        )
    frame: pl.DataFrame = found.to_polars()
    classes = {
        column: list(feature.names)
        for column, feature in (found.features or {}).items()
        if type(feature).__name__ == "ClassLabel" and column in frame.columns
    }
    frame = frame.with_columns([_named(frame[column], names) for column, names in classes.items()])
    target = options.get("target")
    single = target if isinstance(target, str) or target is None or len(target) != 1 else next(iter(target))
    extra: dict[str, Any] = {}
    own = classes.get(single, []) if isinstance(single, str) else []
    if len(own) == 2 and options.get("positive") is None and options.get("kind") in (None, "binary"):
        extra["positive"] = own[1]
    return frame, extra


def _named(column: pl.Series, names: Sequence[str]) -> pl.Series:
    # A label that is kept back in a test split is -1.
    values = [None if v is None or not 0 <= v < len(names) else names[v] for v in column.to_list()]
    return pl.Series(column.name, values, dtype=pl.Enum(names))
