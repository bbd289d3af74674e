"""Interventions that apply a fitted map: an eraser of a concept, a turn of a number's helix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from leadline.causal.change import Change, check_width, number, on_device, set_fields, working_dtype
from leadline.causal.directions import check_owner, row_values, site_of
from leadline.causal.eraser import Eraser
from leadline.causal.helix import HelixSubspace
from leadline.causal.places import check_tokens
from leadline.errors import CausalError
from leadline.models.model import Model
from leadline.sites import Site

__all__ = ["Erase", "Rotate"]


@dataclass(frozen=True, eq=False, init=False)
class Erase:
    """Erase a concept: h − P(h − μ), as `leace` or `inlp` fitted it.

    Parameters
    ----------
    eraser : the map.
    site, tokens : where; by default the eraser's site and all tokens.

    Raises
    ------
    CausalError : no site, here or of the eraser.
    """

    eraser: Eraser
    site: Site
    tokens: str
    ordered = False
    n_rows = None

    def __init__(self, eraser: Eraser, *, site: str | Site | None = None, tokens: str = "all") -> None:
        if not isinstance(eraser, Eraser):
            raise CausalError(f"cannot erase with a {type(eraser).__name__}; give an Eraser, as of leace() or inlp().")
        found = site_of(eraser, site, f"the eraser of {eraser.label}")
        set_fields(self, eraser=eraser, site=found, tokens=check_tokens(tokens))

    @property
    def width(self) -> int:
        """d."""
        return self.eraser.d

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        check_width(model, self.site, self.width, f"the eraser of {self.eraser.label}")
        check_owner(self.eraser, model)

    def compile(self, model: Model) -> Change:
        """h, ids → h − P(h − μ)."""
        dtype = working_dtype(model)
        left, mean = on_device(self.eraser.left, model), on_device(self.eraser.mean, model)
        reads = on_device(self.eraser.right.T, model)

        def erase(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
            x = h.to(dtype)
            return x - ((x - mean) @ reads) @ left

        return erase

    def describe(self) -> str:
        """One clause for a person."""
        return f"erase {self.eraser.label} (rank {self.eraser.rank} of {self.eraser.d})"


@dataclass(frozen=True, eq=False, init=False)
class Rotate:
    """Turn a number's helix: by a step, or to another number.

    Parameters
    ----------
    helix : as `HelixSubspace.fit` gives.
    by : the step, one number, or (n,), one for each of the rows that the plan runs on; or
    to : the number to turn to, likewise, from `current`, likewise, and None for what the helix decodes.
    site, tokens : where; by default the helix's site and all tokens.

    Raises
    ------
    CausalError : not exactly one of `by` and `to`, a step that the helix cannot take, or no site.
    """

    helix: HelixSubspace
    by: float | np.ndarray | None
    to: float | np.ndarray | None
    current: float | np.ndarray | None
    site: Site
    tokens: str
    ordered = False

    def __init__(
        self,
        helix: HelixSubspace,
        by: float | np.ndarray | None = None,
        *,
        to: float | np.ndarray | None = None,
        current: float | np.ndarray | None = None,
        site: str | Site | None = None,
        tokens: str = "all",
    ) -> None:
        given = {"by": by, "to": to, "current": current}
        values = {name: None if v is None else row_values(v, f"'{name}'") for name, v in given.items()}
        found = site_of(helix, site, "the helix")
        set_fields(self, helix=helix, **values, site=found, tokens=check_tokens(tokens))
        counts = {len(v) for v in values.values() if isinstance(v, np.ndarray)}
        if len(counts) > 1:
            raise CausalError(f"'to' and 'current' hold values for {sorted(counts)} rows; give one for each row.")
        # Tried on as many activations, so that a wrong step is refused here and not amid a pass.
        helix.rotate(np.zeros((self.n_rows or 1, helix.d)) + helix.origin, self.by, to=self.to, current=self.current)

    @property
    def n_rows(self) -> int | None:
        """For how many rows it holds numbers; None where all have one."""
        return next((len(v) for v in (self.by, self.to, self.current) if isinstance(v, np.ndarray)), None)

    @property
    def width(self) -> int:
        """d."""
        return self.helix.d

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        check_width(model, self.site, self.width, self.helix.describe())
        check_owner(self.helix, model)

    def compile(self, model: Model) -> Change:
        """h, ids → h turned."""
        dtype = working_dtype(model)

        def rotate(h: torch.Tensor, ids: torch.Tensor, nth: torch.Tensor | None) -> torch.Tensor:
            x = h.to(dtype).reshape(-1, h.shape[-1])
            rows = ids.expand(h.shape[:-1]).reshape(-1).cpu().numpy() if self.n_rows is not None else None

            def own(values: float | np.ndarray | None) -> float | np.ndarray | None:
                return values[rows] if isinstance(values, np.ndarray) else values

            turned = self.helix.rotate(x, own(self.by), to=own(self.to), current=own(self.current))
            return turned.reshape(h.shape)

        return rotate

    def describe(self) -> str:
        """One clause for a person."""
        if self.by is not None:
            return f"turn {self.helix.describe()} by {number(self.by)}"
        assert self.to is not None
        return f"turn {self.helix.describe()} to {number(self.to)}"
