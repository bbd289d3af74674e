"""Directions and subspaces that interventions act along, of a probe or of any vectors, and whom they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import CausalError, ProbeError
from leadline.probes.probe import Probe
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["VECTORS", "basis_of", "check_owner", "name_of", "row_values", "site_of", "unit_vector", "vector_of"]

# A probe's two: the one that reads, along its coefficients, and the one that shows, Σ·coef.
VECTORS = ("direction", "pattern")
# Rows of a subspace count as dependent below this share of the largest singular value.
_DEPENDENT = 1e-10


def unit_vector(vector: np.ndarray, what: str = "the direction") -> np.ndarray:
    """(d,) float64 of length 1.

    Raises
    ------
    CausalError : another shape, a value that is not finite, or a vector of zeros.
    """
    v = np.asarray(vector, dtype=np.float64)
    if v.ndim != 1 or not v.size:
        raise CausalError(f"{what} has the shape {v.shape}; expected one vector (d,).")
    if not np.isfinite(v).all():
        raise CausalError(f"{what} holds a NaN or an infinity; give finite numbers.")
    norm = float(np.linalg.norm(v))
    if norm == 0:
        raise CausalError(f"{what} is a vector of zeros, which points nowhere; give another.")
    return np.asarray(v / norm)


def vector_of(direction: Probe | np.ndarray, vector: str) -> np.ndarray:
    """(d,) float64 unit vector: one of a probe's two, or the given one made unit.

    Raises
    ------
    CausalError : as `unit_vector`, or a name other than `direction` and `pattern`.
    """
    if vector not in VECTORS:
        raise CausalError(f"unknown vector '{vector}' of a probe; expected 'direction' (reads) or 'pattern' (writes).")
    if isinstance(direction, Probe):
        return unit_vector(getattr(direction, vector), f"the {vector} of {name_of(direction)}")
    return unit_vector(direction)


def basis_of(direction: Probe | np.ndarray, vector: str) -> np.ndarray:
    """(k, d) orthonormal rows that span a probe's vector, one vector (d,) with its sign kept, or vectors (m, d).

    Raises
    ------
    CausalError : as `vector_of`; a shape of neither kind.
    """
    if isinstance(direction, Probe) or np.ndim(direction) == 1:
        return vector_of(direction, vector)[None]
    V = np.asarray(direction, dtype=np.float64)
    if V.ndim != 2 or not V.size:
        raise CausalError(f"the subspace has the shape {V.shape}; expected one vector (d,), or several (k, d).")
    for i, row in enumerate(V):
        unit_vector(row, f"vector {i} of the subspace")
    _, size, rows = np.linalg.svd(V / np.linalg.norm(V, axis=1, keepdims=True), full_matrices=False)
    return np.asarray(rows[size > _DEPENDENT * size[0]])


def name_of(direction: Probe | np.ndarray, vector: str | None = None) -> str:
    """What a person calls it."""
    if isinstance(direction, Probe):
        what = f"the {direction.family} probe for '{direction.target}'"
        return what if vector is None else f"the {vector} of {what}"
    return "the given direction" if np.ndim(direction) == 1 else f"the given subspace of {len(direction)} vectors"


def site_of(source: Any, site: str | Site | None, what: str) -> Site:
    """Where an intervention stands: the given site, or that of what it was fitted as.

    Raises
    ------
    CausalError : neither says.
    """
    found = site if site is not None else getattr(source, "site", None)
    if found is None:
        raise CausalError(f"{what} states no site; say where it is to act, as in site='resid_post.8'.")
    return Site.parse(found)


def check_owner(thing: Any, model: Model) -> None:
    """Refuse what was fitted on another model.

    Raises
    ------
    ProbeError : its fingerprint is not the model's.
    """
    known = getattr(thing, "model_fingerprint", None)
    if known is not None and known != model.fingerprint:
        whom = getattr(thing, "model", None) or "another model"
        raise ProbeError(
            f"{thing!r} was fitted on {whom} with fingerprint {known}; '{model.name}' has {model.fingerprint}, where "
            f"the same numbers mean something else. Load the same model, in the same dtype."
        )


def row_values(values: float | np.ndarray, what: str) -> float | np.ndarray:
    """One number, or (n,) float64, one a row.

    Raises
    ------
    CausalError : another shape, or a value that is not finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim > 1 or not found.size:
        raise CausalError(f"{what} has the shape {found.shape}; expected one number, or (n,), one a row.")
    if not np.isfinite(found).all():
        raise CausalError(f"{what} holds a NaN or an infinity; give finite numbers.")
    return float(found) if found.ndim == 0 else found
