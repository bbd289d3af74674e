"""How a store lies on disk: the names of its files, and the JSON that says what it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.activations.quantised import STORED, stored_tensors
from leadline.errors import ActivationsError, DataError, StoreError, did_you_mean
from leadline.files import fingerprint

if TYPE_CHECKING:
    from leadline.data import Dataset

__all__ = [
    "AGAIN",
    "DATASET_FILES",
    "FORMAT",
    "LENGTHS",
    "MANIFEST",
    "PLAN",
    "POSITIONS",
    "ROWS",
    "SHARD_NOTE",
    "VERSION",
    "Identity",
    "damaged_files",
    "is_ragged",
    "read_json",
    "shard_name",
    "short_list",
    "stored_dataset",
]

FORMAT = "leadline-activations"
# What a store of float32 vectors, one a row, has; one of tokens or of another stored dtype has the later version.
VERSION = 1
_LATER_VERSION = 2
PLAN = "plan.json"
MANIFEST = "manifest.json"
DATASET_FILES = ("dataset.parquet", "dataset.json")
ROWS = "rows"
LENGTHS = "lengths"
POSITIONS = "positions"
# One key alone: safetensors writes several in an order that changes from run to run.
SHARD_NOTE = "leadline"

AGAIN = "run the same extract again, which rebuilds what is missing and keeps the rest"


def shard_name(i: int) -> str:
    """The file name of a shard."""
    return f"shard-{i:05d}.safetensors"


def is_ragged(tokens: str) -> bool:
    """Whether a selection of that name keeps a vector a token."""
    return tokens == "all" or tokens.startswith("all@")


@dataclass(frozen=True)
class Identity:
    """What a store is of: two stores with equal fingerprints hold the same activations.

    Parameters
    ----------
    model_fingerprint, data_fingerprint : of the model (its weights and tokenizer) and of the data set.
    sites : the names of the sites and their widths.
    tokens : the token selection.
    dtype : what the model computed in, as in `"bfloat16"`.
    n_rows : rows of the data set.
    model_name, model_source, data_name : for a person.
    stored : what the shards hold: `"float32"`, `"float16"` or `"int8"` (`quantised` says with which error).
    span_fingerprint : of the character ranges that a `span:` selection reads; the data set's own does not cover them.

    Raises
    ------
    ActivationsError : an unknown stored dtype.
    """

    model_fingerprint: str
    data_fingerprint: str
    sites: tuple[tuple[str, int], ...]
    tokens: str
    dtype: str
    n_rows: int
    model_name: str = ""
    model_source: str = ""
    data_name: str = ""
    stored: str = "float32"
    span_fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.stored not in STORED:
            raise ActivationsError(
                f"activations cannot be stored as '{self.stored}'; expected one of {', '.join(STORED)}."
                + did_you_mean(str(self.stored), STORED)
            )

    @property
    def ragged(self) -> bool:
        """Whether the store holds a vector a token rather than a vector a row."""
        return is_ragged(self.tokens)

    @property
    def version(self) -> int:
        """The version of the layout: the first one wherever it suffices."""
        return VERSION if self.stored == "float32" and not self.ragged else _LATER_VERSION

    @property
    def header(self) -> dict[str, Any]:
        """What every JSON of the store begins with."""
        return {"format": FORMAT, "version": self.version}

    @property
    def fingerprint(self) -> str:
        """16 hex digits over model, data, sites, tokens and dtype, and over the stored dtype and spans, if any."""
        sites = [name for name, _ in self.sites]
        return fingerprint(
            FORMAT,
            VERSION,
            self.model_fingerprint,
            self.data_fingerprint,
            sites,
            self.tokens,
            self.dtype,
            # Absent rather than at their default: stores made before these were thought of keep their fingerprints.
            *([f"stored {self.stored}"] if self.stored != "float32" else []),
            *([f"span {self.span_fingerprint}"] if self.span_fingerprint else []),
        )

    def tensors(self, n_rows: int, n_vectors: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The tensors of a shard, as (safetensors dtype, shape) by name."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {ROWS: ("I64", (n_rows,))}
        if self.ragged:
            found |= {LENGTHS: ("I64", (n_rows,)), POSITIONS: ("I32", (n_vectors,))}
        for name, width in self.sites:
            found |= stored_tensors(name, n_vectors, width, self.stored)
        return found

    def to_json(self) -> dict[str, Any]:
        """The identity as it stands in `plan.json` and `manifest.json`."""
        content: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "model": {"name": self.model_name, "source": self.model_source, "fingerprint": self.model_fingerprint},
            "data": {"name": self.data_name, "fingerprint": self.data_fingerprint},
            "sites": [{"site": name, "width": width} for name, width in self.sites],
            "tokens": self.tokens,
            "dtype": self.dtype,
            "n_rows": self.n_rows,
        }
        if self.stored != "float32":
            content["stored"] = self.stored
        if self.span_fingerprint:
            content["span_fingerprint"] = self.span_fingerprint
        return content

    @classmethod
    def from_json(cls, value: Mapping[str, Any], file: Path) -> Identity:
        """Read what `to_json` gave.

        Parameters
        ----------
        file : where it stood, for the message.

        Raises
        ------
        StoreError : a part is missing, or it does not have the fingerprint that was written.
        """
        try:
            model, data = value["model"], value["data"]
            found = cls(
                model_fingerprint=model["fingerprint"],
                data_fingerprint=data["fingerprint"],
                sites=tuple((str(entry["site"]), int(entry["width"])) for entry in value["sites"]),
                tokens=str(value["tokens"]),
                dtype=str(value["dtype"]),
                n_rows=int(value["n_rows"]),
                model_name=model["name"],
                model_source=model["source"],
                data_name=data["name"],
                stored=value.get("stored", "float32"),
                span_fingerprint=value.get("span_fingerprint", ""),
            )
            written = value["fingerprint"]
        except (KeyError, TypeError, ValueError, ActivationsError) as error:
            raise StoreError(f"'{file}' is damaged ({error!r}); extract again with overwrite=True.") from error
        if found.fingerprint != written:
            raise StoreError(
                f"'{file}' is damaged: what it says has the fingerprint {found.fingerprint}, it names {written}. "
                f"Extract again with overwrite=True."
            )
        return found

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What a store's JSON says otherwise, for a person; one entry a part."""
        mine = self.to_json()
        found = []
        for part in ("model", "data"):
            there, here = other.get(part) or {}, mine[part]
            if there.get("fingerprint") != here["fingerprint"]:
                found.append(
                    f"{part}: '{there.get('name')}' ({there.get('fingerprint')}) there, "
                    f"'{here['name']}' ({here['fingerprint']}) here"
                )
        there_sites = [entry.get("site") for entry in other.get("sites") or ()]
        here_sites = [name for name, _ in self.sites]
        if there_sites != here_sites:
            found.append(f"sites: {short_list(there_sites)} there, {short_list(here_sites)} here")
        plain = {"stored": "float32", "span_fingerprint": "none"}
        for part in ("tokens", "dtype", "stored", "span_fingerprint"):
            one, two = other.get(part, plain.get(part)), mine.get(part, plain.get(part))
            if one != two:
                found.append(f"{part}: {one} there, {two} here")
        return found or [f"fingerprint: {other.get('fingerprint')} there, {self.fingerprint} here"]


def short_list(names: Sequence[Any]) -> str:
    """Names for a person, the middle ones left out where there are many."""
    return ", ".join(map(str, names)) if len(names) <= 4 else f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)})"


def read_json(path: Path) -> dict[str, Any] | None:
    """A store's `plan.json` or `manifest.json`; None where there is none.

    Raises
    ------
    StoreError : it cannot be read, or is not Leadline's, or of a later version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read '{path}' ({error}), which should describe an activation store; give another folder, or "
            f"remove this one."
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise StoreError(
            f"'{path}' was not written by Leadline (expected \"format\": \"{FORMAT}\"), so '{path.parent}' is no "
            f"activation store; give another folder."
        )
    if value.get("version") not in (VERSION, _LATER_VERSION):
        raise StoreError(
            f"the store '{path.parent}' has format version {value.get('version')}, this Leadline reads {VERSION} and "
            f"{_LATER_VERSION}; update Leadline, or extract into another folder."
        )
    return value


def damaged_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The files of a complete store that are missing or have another size than the manifest says, and which of both."""
    found = {}
    for entry in manifest["shards"]:
        try:
            size = (folder / entry["file"]).stat().st_size
        except OSError:
            found[entry["file"]] = "is missing"
            continue
        if size != entry["bytes"]:
            found[entry["file"]] = f"has {size:,} bytes where {entry['bytes']:,} were written"
    for name in DATASET_FILES:
        if not (folder / name).is_file():
            found[name] = "is missing"
    return found


def stored_dataset(folder: Path, manifest: Mapping[str, Any]) -> Dataset:
    """The rows that a store's activations are of.

    Raises
    ------
    StoreError : they cannot be read, or are another data set's.
    """
    from leadline.data import Dataset

    try:
        dataset = Dataset.read(folder)
    except DataError as error:
        raise StoreError(
            f"the store '{folder}' is damaged: {error} Or delete {' and '.join(DATASET_FILES)}, then {AGAIN}."
        ) from error
    if dataset.fingerprint != manifest["data"]["fingerprint"]:
        raise StoreError(
            f"the data set in '{folder}' is not the one the activations are of (fingerprint {dataset.fingerprint}, "
            f"expected {manifest['data']['fingerprint']}). Delete {' and '.join(DATASET_FILES)}, then {AGAIN}."
        )
    return dataset
