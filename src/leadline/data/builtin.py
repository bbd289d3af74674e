"""Data sets by name: the built-in ones, files by their suffix, and those of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from leadline.data import cities, hub, shapes
from leadline.data.dataset import Dataset
from leadline.data.media import Picture
from leadline.data.pairs import pair_options
from leadline.errors import DataError, did_you_mean

__all__ = ["BuiltinDataset", "builtin_datasets", "load_dataset"]


class BuiltinDataset(NamedTuple):
    """One built-in set: its name, what it is, its number of rows, and whether the package it needs is installed."""

    name: str
    description: str
    n: int
    available: bool


def _city_facts(seed: int) -> Dataset:
    return Dataset.from_frame(
        cities.city_facts(seed),
        text="statement",
        target="label",
        group="block",
        name="city-facts",
        source=cities.source(),
    )


def _city_places(seed: int) -> Dataset:
    return Dataset.from_frame(
        cities.city_places(),
        text="city",
        target=["latitude", "longitude"],
        group="country",
        name="city-places",
        source=cities.source(),
    )


def _written_shapes(seed: int) -> Dataset:
    frame = shapes.written_shapes(seed)
    data = Dataset.from_frame(
        frame,
        image="picture",
        target=shapes.TARGETS,
        group="layout",
        name="written-shapes",
        source=shapes.source(),
    )
    named = zip(frame["picture"], frame["name"], strict=True)
    return replace(data, inputs=tuple(Picture(data=encoded, name=name) for encoded, name in named))


_BUILTIN: dict[str, tuple[Callable[[int], Dataset], str, int, Callable[[], bool]]] = {
    "city-facts": (
        _city_facts,
        "true and false statements that a city is in a country; groups are blocks of three countries",
        cities.n_facts,
        cities.is_available,
    ),
    "city-places": (
        _city_places,
        "city names with latitude and longitude; groups are countries",
        cities.n_places,
        cities.is_available,
    ),
    "written-shapes": (
        _written_shapes,
        "pictures of a coloured shape with a word over it: what is drawn against what is written; groups are layouts",
        shapes.n_pictures,
        shapes.is_available,
    ),
}

_READERS: dict[str, Callable[..., Dataset]] = {
    ".csv": Dataset.from_csv,
    ".tsv": Dataset.from_csv,
    ".jsonl": Dataset.from_jsonl,
    ".ndjson": Dataset.from_jsonl,
    ".json": Dataset.from_jsonl,
    ".parquet": Dataset.from_parquet,
    ".pq": Dataset.from_parquet,
    ".conllu": Dataset.from_conllu,
}


def builtin_datasets() -> list[BuiltinDataset]:
    """The built-in sets; nothing is built to list them."""
    return [
        BuiltinDataset(name, about, n, is_available())
        for name, (_build, about, n, is_available) in sorted(_BUILTIN.items())
    ]


def load_dataset(name_or_path: str | Path, **options: Any) -> Dataset:
    """A built-in set by its name, a file by its suffix (.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .conllu), or a
    data set of the Hugging Face hub as in `hub:nyu-mll/glue`.

    Parameters
    ----------
    options : for a file, what `Dataset.from_csv`, `from_jsonl`, `from_parquet` or `from_conllu` takes; with
        `pairs={"positive": COLUMN, "negative": COLUMN}` what `Dataset.from_pairs` takes; after `hub:`, what
        `Dataset.from_hub` takes. For a built-in set, `seed` (of what it generates and draws), `sample`, `sample_test`
        and `name`. None stands for the default.

    Raises
    ------
    DataError : no such name or file, another suffix, or an option that a built-in set does not have.

    Examples
    --------
    >>> load_dataset("city-facts")
    Dataset('city-facts': 1,440 rows; label (binary: 720 × false, 720 × true); 30 groups of block)
    """
    path = Path(name_or_path)
    options = {key: value for key, value in options.items() if value is not None}
    if str(name_or_path) in _BUILTIN:
        return _load_builtin(str(name_or_path), options)
    if str(name_or_path).startswith(hub.PREFIX):
        return Dataset.from_hub(str(name_or_path).removeprefix(hub.PREFIX), **options)
    if "pairs" in options:
        named = pair_options(options.pop("pairs"))
        return Dataset.from_pairs(path, positive=named["positive"], negative=named["negative"], **options)
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        if path.suffix.lower() == ".tsv":
            options.setdefault("separator", "\t")
        return reader(path, **options)
    if path.is_dir() and (path / "dataset.json").is_file():
        raise DataError(f"'{path}' is a folder that Dataset.write made; read it with Dataset.read.")
    if path.exists():
        raise DataError(
            f"'{path}' is no file of a known kind; expected one that ends in {', '.join(_READERS)}. "
            f"Rename it, or read it with Dataset.from_csv, from_jsonl or from_parquet."
        )
    if path.suffix or path.parent != Path("."):
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"there is no file '{path}', and a data file ends in {', '.join(_READERS)}."
            + did_you_mean(path.name, beside)
        )
    raise DataError(
        f"there is no data set '{name_or_path}'; built-in ones are {', '.join(sorted(_BUILTIN))}, a file is given "
        f"with its suffix, as in 'cities.csv', and one of the hub as in '{hub.PREFIX}nyu-mll/glue'."
        + did_you_mean(str(name_or_path), _BUILTIN)
    )


def _load_builtin(name: str, options: dict[str, Any]) -> Dataset:
    allowed = ("seed", "sample", "sample_test", "name")
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise DataError(
            f"the built-in set '{name}' has its columns already and takes no {', '.join(unknown)}; "
            f"it takes {', '.join(allowed)}."
        )
    seed = options.get("seed", 0)
    data = _BUILTIN[name][0](seed)
    if "name" in options:
        data = replace(data, name=options["name"])
    return data.sample(options.get("sample"), seed, n_test=options.get("sample_test"))
