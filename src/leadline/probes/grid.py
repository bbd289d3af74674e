"""The penalties that a family tries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leadline.errors import ProbeError

__all__ = ["penalties"]


def penalties(l2: float | Sequence[float] | None, default: tuple[float, ...], name: str = "l2") -> tuple[float, ...]:
    """The penalties that a family tries: `default` for None, one for a number, else as given.

    Raises
    ------
    ProbeError : one that is not a positive finite number, or none at all.
    """
    if l2 is None:
        return default
    grid = (float(l2),) if isinstance(l2, int | float) else tuple(float(x) for x in l2)
    if not grid or any(not 0 < x < np.inf for x in grid):
        raise ProbeError(f"{name} is {l2}; expected one or several positive numbers.")
    return grid
