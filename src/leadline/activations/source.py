"""The seam between activations and what reads them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from leadline.sites import Site

__all__ = ["ActivationSource"]


@runtime_checkable
class ActivationSource(Protocol):
    """Activations of one data set at some sites, one vector a row."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites, in the order of computation."""
        ...

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name these activations; equal ones were made from equal parts."""
        ...

    def width(self, site: str | Site) -> int:
        """The number of dimensions at a site."""
        ...

    def read(self, site: str | Site) -> np.ndarray:
        """One site as an (n_rows, width) float32 array, C-contiguous and the caller's own, in data-set order."""
        ...
