"""How far activations computed in half precision are from float32, measured on a few rows of the run itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.activations.passes import Passes

if TYPE_CHECKING:
    from leadline.models import Model

__all__ = ["measure_precision", "say_precision"]

_ROWS = 8
# A float32 copy of a larger model would take more than 16 GB.
_MOST_PARAMETERS = 4_000_000_000


def measure_precision(passes: Passes, rows: Sequence[int]) -> dict[str, Any] | None:
    """Compare some rows in the model's own dtype with the same weights in float32.

    Parameters
    ----------
    rows : candidates, of which at most 8 are read.

    Returns
    -------
    By site the lowest cosine of a row and the largest error relative to the row's norm; None for a model in float32,
    one too large for a float32 copy, or values that are not finite.
    """
    import torch

    model: Model = passes.model
    if model.dtype == torch.float32 or model.n_parameters > _MOST_PARAMETERS:
        return None
    some = list(rows)[:_ROWS]
    given = passes.read(some, None).values.astype(np.float64)
    with model.upcast():
        exact = passes.read(some, None).values.astype(np.float64)
    if not (np.isfinite(given).all() and np.isfinite(exact).all()):
        # Told with the rows' names when they are to be stored.
        return None
    found: dict[str, Any] = {"rows": len(some), "sites": {}}
    start = 0
    for site in passes.sites:
        width = model.widths([site], passes.rows[some[0]])[site]
        a, b = given[:, start : start + width], exact[:, start : start + width]
        start += width
        norms = np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)
        found["sites"][site.name] = {
            "cosine": round(float(((a * b).sum(axis=1) / norms).min()), 6),
            "error": round(
                float((np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), 1e-30)).max()), 6
            ),
        }
    return found


def say_precision(precision: Mapping[str, Any]) -> str:
    """The worst site, for a person."""
    worst = max(precision["sites"], key=lambda name: precision["sites"][name]["error"])
    figures = precision["sites"][worst]
    return (
        f"against float32 on {precision['rows']} rows: the worst is {worst}, off by {figures['error']:.2%} of its "
        f"norm, cosine {figures['cosine']:.5f}"
    )
