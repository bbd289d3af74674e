"""The store: a folder that holds activations as shards, and `Activations`, which reads them back.

plan.json                written first: what is stored, and which rows each shard holds
dataset.parquet, .json   the rows the activations are of
shard-00000.safetensors  a tensor (rows, width) a site, and `rows`: their numbers in the data set. A store that keeps
                         every token has (tokens, width), with `lengths` (rows,) and `positions` (tokens,)
manifest.json            written last, with each shard's size and SHA-256: where it is, the store is complete
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.activations.layout import (
    AGAIN,
    DATASET_FILES,
    FORMAT,
    MANIFEST,
    PLAN,
    ROWS,
    SHARD_NOTE,
    VERSION,
    Identity,
    damaged_files,
    read_json,
    shard_name,
    short_list,
    stored_dataset,
)
from leadline.activations.mapped import MappedRows, checked_rows
from leadline.activations.ragged import ByToken, token_dataset
from leadline.activations.vectors import Held, Stored, Vectors
from leadline.errors import ActivationsError, SiteError, StoreError, did_you_mean
from leadline.files import fingerprint
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


class Activations:
    """Activations of one data set at some sites: a store on disk, or arrays from elsewhere.

    An `ActivationSource`. Made by `extract`, `Activations.open` or `Activations.from_arrays`. There is a vector a row;
    or, where `ragged`, a vector a token, which `by_token` turns into a source with a row a token.

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
        vectors: Vectors,
        dataset: Callable[[], Dataset | None],
        path: Path | None = None,
    ) -> None:
        self._widths = dict(widths)
        self.sites: tuple[Site, ...] = tuple(sorted(widths, key=lambda s: s.depth))
        self.manifest = manifest
        self.n_rows: int = manifest["n_rows"]
        self.fingerprint: str = manifest["fingerprint"]
        self.tokens: str = manifest["tokens"]
        self.model_fingerprint: str | None = manifest["model"]["fingerprint"]
        self.path = path
        self._vectors = vectors
        self._make_dataset = dataset

    def __repr__(self) -> str:
        where = f"in '{self.path}'" if self.path is not None else "in memory"
        sites = short_list([site.name for site in self.sites])
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

    # ---- vectors of rows

    def read(self, site: str | Site) -> np.ndarray:
        """Read one site.

        Returns
        -------
        (n_rows, width) float32, C-contiguous, the caller's own, rows in the order of the data set. Where `ragged`,
        (n_tokens, width): row after row, a row's tokens in the order of the text.

        Raises
        ------
        SiteError : there is no such site here.
        StoreError : a shard is missing, cut short or not this store's.
        """
        return self._vectors.take(self._known(site), np.arange(self.n_tokens))

    def rows(self, site: str | Site, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read some rows of one site, and nothing else of it; where `ragged`, some tokens.

        Parameters
        ----------
        rows : 0-based numbers along the first axis of `read`, in any order, any of them more than once; or as many
            truth values as there are.

        Returns
        -------
        (len(rows), width) float32, in the order asked for.

        Raises
        ------
        SiteError : there is no such site here.
        ActivationsError : a row that is not here.
        StoreError : a shard is missing, cut short or not this store's.
        """
        return self._vectors.take(self._known(site), checked_rows(rows, self.n_tokens))

    def mapped(self, site: str | Site) -> MappedRows | np.ndarray:
        """One site, left on disk: rows (where `ragged`, tokens) are read as they are asked for.

        A probe family whose `fit_site` can read blocks takes it in place of an array, so that a site larger than
        memory can be fitted. Arrays in memory are returned as they are. Reading raises what `rows` does.

        Raises
        ------
        SiteError : there is no such site here.
        """
        return self._vectors.mapped(self._known(site))

    # ---- tokens

    @property
    def ragged(self) -> bool:
        """Whether a row has a vector for each of its selected tokens rather than one."""
        return self._vectors.ragged

    @property
    def n_tokens(self) -> int:
        """The number of vectors at a site: of tokens where `ragged`, else of rows."""
        return self._vectors.n

    @property
    def lengths(self) -> np.ndarray:
        """(n_rows,) int64: how many tokens each row has; 1 for each where not `ragged`."""
        return self._vectors.lengths

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n_rows + 1,) int64: row i's tokens are those from `offsets[i]` to `offsets[i + 1]`, the latter excluded."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def token_rows(self) -> np.ndarray:
        """(n_tokens,) int64: the row of each token."""
        return np.repeat(np.arange(self.n_rows), self.lengths)

    @property
    def token_positions(self) -> np.ndarray:
        """(n_tokens,) int32: each token's position in its row, counted from 0 without padding.

        Raises
        ------
        ActivationsError : the tokens were pooled.
        """
        self._need_tokens()
        return self._vectors.positions

    def read_row(self, site: str | Site, row: int) -> np.ndarray:
        """Read one row's vectors at one site.

        Returns
        -------
        (length, width) float32; of length 1 where not `ragged`.

        Raises
        ------
        SiteError : there is no such site here.
        ActivationsError : a row that is not here.
        StoreError : its shard is missing, cut short or not this store's.
        """
        return self._vectors.of_row(self._known(site), int(checked_rows([row], self.n_rows)[0]))

    def by_token(self) -> Activations:
        """The same vectors as a source whose rows are tokens. Nothing is read or copied before it is asked for.

        Each token has its row's input, targets and group; without groups, the tokens of a row are one, so that they
        stay on one side of a fold.

        Raises
        ------
        ActivationsError : the tokens were pooled.
        """
        self._need_tokens()
        manifest = self.manifest | {
            "n_rows": self.n_tokens,
            "fingerprint": fingerprint("by token", self.fingerprint),
            "by_token": self.fingerprint,
        }

        def dataset() -> Dataset | None:
            return None if self.dataset is None else token_dataset(self.dataset, self.token_rows)

        return Activations(self._widths, manifest, ByToken(self._vectors), dataset, self.path)

    def _need_tokens(self) -> None:
        if not self.ragged:
            raise ActivationsError(
                f"these activations have one vector a row (tokens '{self.tokens}'); extract with tokens='all', or "
                f"'all@' and a selection, to keep one a token."
            )

    def _known(self, site: str | Site) -> Site:
        # A name outside the grammar deserves the list of what is here rather than that of all kinds.
        names = [s.name for s in self.sites]
        name = site.name if isinstance(site, Site) else str(site).strip()
        if name not in names:
            raise SiteError(
                f"no activations at '{name}' here; there are {short_list(names)}." + did_you_mean(name, names)
            )
        return self.sites[names.index(name)]

    def verify(self) -> None:
        """Check the SHA-256 and the layout of every shard, and that the rows are those of the data set.

        Reads the whole store. Arrays in memory have nothing to check.

        Raises
        ------
        StoreError : names the first shard whose bytes are not those that were written.
        """
        self._vectors.verify()
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
        identity = Identity.from_json(manifest, folder / MANIFEST)
        try:
            n_rows = sum(int(entry["rows"]) for entry in manifest["shards"])
            _ = [(entry["file"], entry["bytes"], entry["sha256"]) for entry in manifest["shards"]]
            _ = [int(entry["tokens"]) for entry in manifest["shards"] if identity.ragged]
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"'{folder / MANIFEST}' is damaged ({error!r}); extract again with overwrite=True."
            ) from error
        if n_rows != identity.n_rows:
            raise StoreError(f"'{folder / MANIFEST}' is damaged: its shards do not hold {identity.n_rows} rows in all.")
        for name, problem in damaged_files(folder, manifest).items():
            raise StoreError(f"the store '{folder}' is damaged: {name} {problem}. To mend it, {AGAIN}.")
        widths = {Site.parse(name): width for name, width in identity.sites}
        return cls(
            widths, manifest, Stored(folder, manifest, identity), lambda: stored_dataset(folder, manifest), folder
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
        lengths: Sequence[int] | np.ndarray | None = None,
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
        lengths : (n,) the tokens of each row, where the arrays have a vector a token, (sum of lengths, d).
        tokens : the token selection, where it is known.
        model_fingerprint : of the model, where it is known.

        Raises
        ------
        SiteError : a name that is no site.
        ActivationsError : no arrays, a wrong shape, unequal numbers of rows, or numbers that are not finite.
        DataError : targets that no data set can be made of.
        """
        from leadline.activations.given import given_arrays, given_dataset, given_lengths, given_manifest

        held = given_arrays(arrays)
        n_vectors = len(next(iter(held.values())))
        counts = None if lengths is None else given_lengths(lengths, n_vectors)
        n_rows = n_vectors if counts is None else len(counts)
        if dataset is not None and (targets is not None or groups is not None or texts is not None):
            raise ActivationsError("give either a dataset, or targets, groups and texts; not both.")
        if dataset is None:
            dataset = given_dataset(n_rows, targets, groups, texts)
        if dataset is not None and dataset.n != n_rows:
            raise ActivationsError(
                f"the arrays have {n_rows} rows, the data set {dataset.n}; expected the same number."
            )
        manifest = given_manifest(held, counts, dataset, tokens, model_fingerprint)
        widths = {site: array.shape[1] for site, array in held.items()}
        return cls(widths, manifest, Held(held, counts), lambda: dataset)
