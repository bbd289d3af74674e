"""The store: a folder that holds activations as shards, and `Activations`, which reads them back.

plan.json                written first: what is stored, and which rows each shard holds
dataset.parquet, .json   the rows the activations are of
shard-00000.safetensors  a float32 tensor (rows, width) a site, and `rows`: their numbers in the data set
manifest.json            written last, with each shard's size and SHA-256: where it is, the store is complete
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from leadline.activations.mapped import MappedRows, map_tensor
from leadline.errors import ActivationsError, DataError, SiteError, StoreError, did_you_mean
from leadline.files import fingerprint, sha256_file
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.data import Dataset

__all__ = [
    "DATASET_FILES",
    "FORMAT",
    "MANIFEST",
    "PLAN",
    "ROWS",
    "SHARD_NOTE",
    "VERSION",
    "Activations",
    "Identity",
    "read_json",
    "shard_name",
]

FORMAT = "leadline-activations"
VERSION = 1
PLAN = "plan.json"
MANIFEST = "manifest.json"
DATASET_FILES = ("dataset.parquet", "dataset.json")
ROWS = "rows"
# One key alone: safetensors writes several in an order that changes from run to run.
SHARD_NOTE = "leadline"

AGAIN = "run the same extract again, which rebuilds what is missing and keeps the rest"


def shard_name(i: int) -> str:
    """The file name of a shard."""
    return f"shard-{i:05d}.safetensors"


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

    @property
    def fingerprint(self) -> str:
        """16 hex digits over model, data, sites, tokens and dtype."""
        sites = [name for name, _ in self.sites]
        return fingerprint(
            FORMAT, VERSION, self.model_fingerprint, self.data_fingerprint, sites, self.tokens, self.dtype
        )

    def to_json(self) -> dict[str, Any]:
        """The identity as it stands in `plan.json` and `manifest.json`."""
        return {
            "fingerprint": self.fingerprint,
            "model": {"name": self.model_name, "source": self.model_source, "fingerprint": self.model_fingerprint},
            "data": {"name": self.data_name, "fingerprint": self.data_fingerprint},
            "sites": [{"site": name, "width": width} for name, width in self.sites],
            "tokens": self.tokens,
            "dtype": self.dtype,
            "n_rows": self.n_rows,
        }

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
            found.append(f"sites: {_short(there_sites)} there, {_short(here_sites)} here")
        found.extend(
            f"{part}: {other.get(part)} there, {mine[part]} here"
            for part in ("tokens", "dtype")
            if other.get(part) != mine[part]
        )
        return found or [f"fingerprint: {other.get('fingerprint')} there, {self.fingerprint} here"]


def _short(names: Sequence[Any]) -> str:
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
    if value.get("version") != VERSION:
        raise StoreError(
            f"the store '{path.parent}' has format version {value.get('version')}, this Leadline reads {VERSION}; "
            f"update Leadline, or extract into another folder."
        )
    return value


class Activations:
    """Activations of one data set at some sites: a store on disk, or arrays from elsewhere.

    An `ActivationSource`. Made by `extract`, `Activations.open` or `Activations.from_arrays`.

    Attributes
    ----------
    sites : the sites, in the order of computation.
    n_rows : the number of rows.
    fingerprint : 16 hex digits that name these activations.
    tokens : the token selection, or `"unknown"` for arrays from elsewhere.
    model_fingerprint : of the model that gave them, or None.
    manifest : how they were made, as in the store's `manifest.json`; for arrays what is known.
    path : the store's folder, or None.
    """

    def __init__(
        self,
        widths: Mapping[Site, int],
        manifest: dict[str, Any],
        load: Callable[[Site], np.ndarray],
        dataset: Callable[[], Dataset | None],
        path: Path | None = None,
        map_rows: Callable[[Site], MappedRows] | None = None,
    ) -> None:
        self._widths = dict(widths)
        self.sites: tuple[Site, ...] = tuple(sorted(widths, key=lambda s: s.depth))
        self.manifest = manifest
        self.n_rows: int = manifest["n_rows"]
        self.fingerprint: str = manifest["fingerprint"]
        self.tokens: str = manifest["tokens"]
        self.model_fingerprint: str | None = manifest["model"]["fingerprint"]
        self.path = path
        self._load = load
        self._map_rows = map_rows
        self._make_dataset = dataset

    def __repr__(self) -> str:
        where = f"in '{self.path}'" if self.path is not None else "in memory"
        sites = _short([site.name for site in self.sites])
        return f"Activations({self.n_rows:,} rows at {sites}; tokens '{self.tokens}'; {where})"

    @cached_property
    def dataset(self) -> Dataset | None:
        """The rows that the activations are of; None for arrays given without any.

        Raises
        ------
        StoreError : the store's copy cannot be read, or is another data set.
        """
        return self._make_dataset()

    def width(self, site: str | Site) -> int:
        """The number of dimensions at a site.

        Raises
        ------
        SiteError : there is no such site here.
        """
        return self._widths[self._known(site)]

    def read(self, site: str | Site) -> np.ndarray:
        """Read one site.

        Returns
        -------
        (n_rows, width) float32, C-contiguous, the caller's own, rows in the order of the data set.

        Raises
        ------
        SiteError : there is no such site here.
        StoreError : a shard is missing, cut short or not this store's.
        """
        return self._load(self._known(site))

    def mapped(self, site: str | Site) -> MappedRows | np.ndarray:
        """One site, left on disk: rows are read as they are asked for.

        A probe family whose `fit_site` can read blocks takes it in place of an array, so that a site larger than
        memory can be fitted. Arrays in memory are returned as they are.

        Raises
        ------
        SiteError : there is no such site here.
        StoreError : a shard is missing, cut short or not this store's.
        """
        known = self._known(site)
        return self._load(known) if self._map_rows is None else self._map_rows(known)

    def _known(self, site: str | Site) -> Site:
        # A name outside the grammar deserves the list of what is here rather than that of all kinds.
        names = [s.name for s in self.sites]
        name = site.name if isinstance(site, Site) else str(site).strip()
        if name not in names:
            raise SiteError(f"no activations at '{name}' here; there are {_short(names)}." + did_you_mean(name, names))
        return self.sites[names.index(name)]

    def verify(self) -> None:
        """Check the SHA-256 of every shard, and that the rows are those of the data set. Reads the whole store.

        Arrays in memory have nothing to check.

        Raises
        ------
        StoreError : names the first shard whose bytes are not those that were written.
        """
        if self.path is None:
            return
        for entry in self.manifest["shards"]:
            file = self.path / entry["file"]
            try:
                found = sha256_file(file)
            except OSError as error:
                raise StoreError(f"cannot read the shard '{file}' ({error.strerror}); {AGAIN}.") from error
            if found != entry["sha256"]:
                raise StoreError(
                    f"the shard '{file}' is damaged: its SHA-256 is {found[:12]}…, expected {entry['sha256'][:12]}…. "
                    f"Delete that file, then {AGAIN}."
                )
        _ = self.dataset

    @classmethod
    def open(cls, path: str | Path) -> Activations:
        """Open a complete store. Checks every shard's size, reads none.

        Raises
        ------
        StoreError : no store, an incomplete one, or one with a shard missing or cut short (named).
        """
        folder = Path(path)
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            plan = read_json(folder / PLAN)
            if plan is None:
                raise StoreError(
                    f"'{folder}' holds no activation store (no {MANIFEST}); give a folder that `extract` has written."
                )
            there, planned = sum(1 for _ in folder.glob("shard-*.safetensors")), (plan.get("plan") or {}).get("shards")
            raise StoreError(
                f"the store '{folder}' is incomplete ({there} of {len(planned or ())} shards): the extraction was "
                f"interrupted. Run the same extract again, which goes on where it stopped."
            )
        try:
            widths = {Site.parse(entry["site"]): int(entry["width"]) for entry in manifest["sites"]}
            n_rows = int(manifest["n_rows"])
            files = [(str(e["file"]), int(e["bytes"]), int(e["rows"]), str(e["sha256"])) for e in manifest["shards"]]
            _ = manifest["fingerprint"], manifest["tokens"], manifest["model"]["fingerprint"], manifest["data"]
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"'{folder / MANIFEST}' is damaged ({error!r}); extract again with overwrite=True."
            ) from error
        if sum(rows for _, _, rows, _ in files) != n_rows:
            raise StoreError(f"'{folder / MANIFEST}' is damaged: its shards do not hold {n_rows} rows in all.")
        for name, problem in damaged_files(folder, manifest).items():
            raise StoreError(f"the store '{folder}' is damaged: {name} {problem}. To mend it, {AGAIN}.")
        shards = _Shards(folder, [name for name, *_ in files], n_rows)
        return cls(
            widths,
            manifest,
            lambda site: shards.read(site, widths[site]),
            lambda: _read(folder, manifest),
            folder,
            lambda site: shards.map(site, widths[site]),
        )

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str | Site, Any],
        dataset: Dataset | None = None,
        *,
        targets: Any = None,
        groups: Sequence[Any] | None = None,
        texts: Sequence[str] | None = None,
        tokens: str = "unknown",
        model_fingerprint: str | None = None,
    ) -> Activations:
        """Take activations from elsewhere: numpy, torch, TransformerLens, vLLM.

        Parameters
        ----------
        arrays : for each site an (n, d) array of finite numbers; a float32 array of its own memory is held, not
            copied: do not write to it.
        dataset : the n rows that they are of. Or, in its place:
        targets : (n,) labels, or a mapping of names to such; groups : (n,) what each row belongs to;
            texts : (n,) the rows' texts, for the surface baselines and for reports.
        tokens : the token selection, where it is known.
        model_fingerprint : of the model, where it is known.

        Raises
        ------
        SiteError : a name that is no site.
        ActivationsError : no arrays, a wrong shape, unequal numbers of rows, or numbers that are not finite.
        DataError : targets that no data set can be made of.
        """
        from leadline.activations.given import given_arrays, given_dataset

        held = given_arrays(arrays)
        n_rows = len(next(iter(held.values())))
        if dataset is not None and (targets is not None or groups is not None or texts is not None):
            raise ActivationsError("give either a dataset, or targets, groups and texts; not both.")
        if dataset is None:
            dataset = given_dataset(n_rows, targets, groups, texts)
        if dataset is not None and dataset.n != n_rows:
            raise ActivationsError(
                f"the arrays have {n_rows} rows, the data set {dataset.n}; expected the same number."
            )
        digest = hashlib.sha256()
        for site, array in held.items():
            digest.update(f"\0{site.name}\0{array.shape}\0".encode())
            digest.update(array.data)
        data = None if dataset is None else dataset.fingerprint
        manifest = {
            "fingerprint": fingerprint(FORMAT, VERSION, digest.hexdigest(), data, tokens, model_fingerprint),
            "model": {"name": None, "source": None, "fingerprint": model_fingerprint},
            "data": {"name": None if dataset is None else dataset.name, "fingerprint": data},
            "sites": [{"site": site.name, "width": array.shape[1]} for site, array in held.items()],
            "tokens": tokens,
            "n_rows": n_rows,
        }
        widths = {site: array.shape[1] for site, array in held.items()}
        return cls(widths, manifest, lambda site: held[site].copy(), lambda: dataset)


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


def _read(folder: Path, manifest: Mapping[str, Any]) -> Dataset:
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


class _Shards:
    """Reads a site out of all shards of a complete store."""

    def __init__(self, folder: Path, files: Sequence[str], n_rows: int) -> None:
        self.folder = folder
        self.files = files
        self.n_rows = n_rows

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """For each shard, which rows of the data set it holds."""
        rows = [self._tensor(file, ROWS) for file in self.files]
        if not np.array_equal(np.sort(np.concatenate(rows)), np.arange(self.n_rows)):
            raise StoreError(
                f"the shards in '{self.folder}' do not hold each of the {self.n_rows} rows once; extract again with "
                f"overwrite=True."
            )
        return rows

    def read(self, site: Site, width: int) -> np.ndarray:
        out = np.empty((self.n_rows, width), dtype=np.float32)
        for file, rows in zip(self.files, self.rows, strict=True):
            values = self._tensor(file, site.name)
            if values.shape != (len(rows), width):
                raise StoreError(
                    f"'{self.folder / file}' holds {values.shape} at {site.name}, expected {(len(rows), width)}; "
                    f"extract again with overwrite=True."
                )
            out[rows] = values
        return out

    def map(self, site: Site, width: int) -> MappedRows:
        parts = [map_tensor(self.folder / file, site.name) for file in self.files]
        for file, part, rows in zip(self.files, parts, self.rows, strict=True):
            if part.shape != (len(rows), width):
                raise StoreError(
                    f"'{self.folder / file}' holds {part.shape} at {site.name}, expected {(len(rows), width)}; "
                    f"extract again with overwrite=True."
                )
        return MappedRows(parts, self.rows, width)

    def _tensor(self, file: str, name: str) -> np.ndarray:
        try:
            with safe_open(self.folder / file, framework="np") as shard:
                return shard.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"cannot read {name} from the shard '{self.folder / file}' ({error}); {AGAIN}.") from error
