"""Arrays that were made elsewhere, checked and brought into Leadline's form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.activations.layout import FORMAT, VERSION
from leadline.errors import ActivationsError
from leadline.files import fingerprint
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.data import Dataset

__all__ = ["given_arrays", "given_dataset", "given_lengths", "given_manifest"]


def given_arrays(arrays: Mapping[str | Site, Any]) -> dict[Site, np.ndarray]:
    """Each site's (n, d) float32 C-contiguous array, in the order of computation.

    Raises
    ------
    SiteError : a name that is no site.
    ActivationsError : no arrays, a wrong shape, unequal numbers of rows, or numbers that are not finite.
    """
    if not isinstance(arrays, Mapping) or not arrays:
        raise ActivationsError(
            "no activations were given; expected a mapping of sites to (n, d) arrays, as in {'resid_post.8': array}."
        )
    held: dict[Site, np.ndarray] = {}
    for name, value in arrays.items():
        site = Site.parse(name)
        if site in held:
            raise ActivationsError(f"two arrays were given for {site.name}; expected one a site.")
        held[site] = _array(site.name, value)
    first = next(iter(held))
    for site, array in held.items():
        if len(array) != len(held[first]):
            raise ActivationsError(
                f"{site.name} has {len(array)} rows, {first.name} {len(held[first])}; every site needs the same rows."
            )
    return dict(sorted(held.items(), key=lambda item: item[0].depth))


def _array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        # A torch tensor, which numpy cannot take from a device, with a gradient or in bfloat16.
        value = value.detach().float().cpu().numpy()
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise ActivationsError(f"the activations at {name} are no array ({error}); expected (n, d) numbers.") from error
    if raw.dtype.kind not in "fiu":
        raise ActivationsError(f"the activations at {name} have the dtype {raw.dtype}; expected real numbers.")
    if raw.ndim != 2 or not raw.size:
        raise ActivationsError(
            f"the activations at {name} have the shape {raw.shape}; expected (n, d) with a vector a row, both over 0. "
            f"Pool token-level activations first, or give them as (tokens, d) with lengths=, the tokens of each row."
        )
    with np.errstate(over="ignore"):
        # A view would keep the whole array alive that it is of.
        array = np.array(raw, dtype=np.float32, order="C", copy=None if raw.base is None else True)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ActivationsError(
            f"the activations at {name} are not finite in float32 in {len(bad)} of {len(array)} rows (at index "
            f"{', '.join(map(str, bad[:5]))}{', …' if len(bad) > 5 else ''}); leave those rows out, or compute them in "
            f"float32 or bfloat16."
        )
    return array


def given_lengths(lengths: Any, n_vectors: int) -> np.ndarray:
    """The tokens of each row as (n,) int64.

    Raises
    ------
    ActivationsError : they are no counts, or do not add up to the vectors.
    """
    counts = np.asarray(lengths.cpu() if hasattr(lengths, "cpu") else lengths)
    if counts.ndim != 1 or not counts.size or counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ActivationsError(
            f"lengths have the shape {counts.shape} and dtype {counts.dtype}; expected (n,) whole numbers, the tokens "
            f"of each row."
        )
    if counts.sum() != n_vectors:
        raise ActivationsError(
            f"the lengths add up to {counts.sum():,} tokens, the arrays have {n_vectors:,} rows; expected the same."
        )
    return counts.astype(np.int64)


def given_dataset(
    n_rows: int, targets: Any, groups: Sequence[Any] | None, texts: Sequence[str] | None
) -> Dataset | None:
    """A data set of what is known of the rows; None where nothing is. Without texts, every text is empty.

    Parameters
    ----------
    targets : (n,) labels, called `label`, or a mapping of names to such.

    Raises
    ------
    ActivationsError : a part of another length than the arrays.
    DataError : targets that no data set can be made of.
    """
    if targets is None and groups is None and texts is None:
        return None
    import polars as pl

    from leadline.data import Dataset

    labels = {} if targets is None else targets if isinstance(targets, Mapping) else {"label": targets}
    parts: dict[str, Any] = {str(name): values for name, values in labels.items()}
    names = list(parts)
    for name, values in (("text", texts), ("group", groups)):
        if name in parts:
            raise ActivationsError(f"a target is called '{name}', which is the name of the {name}s; call it otherwise.")
        if values is not None:
            parts[name] = values
    columns = {}
    for name, values in parts.items():
        values = values.detach().cpu().numpy() if hasattr(values, "detach") else values
        columns[name] = [x.item() if isinstance(x, np.generic) else x for x in values]
        if len(columns[name]) != n_rows:
            raise ActivationsError(
                f"'{name}' has {len(columns[name])} entries, the arrays {n_rows} rows; expected one each."
            )
    columns.setdefault("text", [""] * n_rows)
    frame = pl.DataFrame([pl.Series(name, values, strict=False) for name, values in columns.items()])
    if names:
        group = None if groups is None else "group"
        return Dataset.from_frame(frame, target=names, group=group, name="arrays", source="arrays")
    return Dataset(
        name="arrays",
        source="arrays",
        inputs=tuple(str(text) for text in columns["text"]),
        targets=(),
        groups=None if groups is None else np.array([str(x) for x in columns["group"]], dtype=object),
        splits=None,
        frame=frame,
        text_column="text",
        group_column=None if groups is None else "group",
    )


def given_manifest(
    arrays: Mapping[Site, np.ndarray],
    lengths: np.ndarray | None,
    dataset: Dataset | None,
    tokens: str,
    model_fingerprint: str | None,
) -> dict[str, Any]:
    """What is known of arrays from elsewhere, in the form of a store's manifest; their content is their fingerprint."""
    digest = hashlib.sha256()
    for site, array in arrays.items():
        digest.update(f"\0{site.name}\0{array.shape}\0".encode())
        digest.update(array.data)
    if lengths is not None:
        digest.update(lengths.data)
    data = None if dataset is None else dataset.fingerprint
    return {
        "fingerprint": fingerprint(FORMAT, VERSION, digest.hexdigest(), data, tokens, model_fingerprint),
        "model": {"name": None, "source": None, "fingerprint": model_fingerprint},
        "data": {"name": None if dataset is None else dataset.name, "fingerprint": data},
        "sites": [{"site": site.name, "width": array.shape[1]} for site, array in arrays.items()],
        "tokens": tokens,
        "n_rows": len(next(iter(arrays.values()))) if lengths is None else len(lengths),
    }
