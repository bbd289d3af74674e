"""Plans that need nothing of `leadline.causal`: what the engine and the cost are tested with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from leadline.activations.tokens import Selection
from leadline.sites import Site


@dataclass(frozen=True)
class Shift:
    """An intervention that needs nothing of the library: adds a vector, another multiple in each row."""

    site: Site
    tokens: str
    vector: Any = field(repr=False)
    strength: Any = None

    @property
    def n_rows(self) -> int | None:
        return None if self.strength is None else len(self.strength)

    def apply(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        vector = torch.from_numpy(self.vector).to(h.dtype)
        times = 1.0 if self.strength is None else torch.from_numpy(self.strength)[ids][:, None].to(h.dtype)
        # Not linear in h, so that the order of two shows.
        return h + times * vector * h.norm(dim=-1, keepdim=True)


class Shifts:
    """Several, as a plan and bound."""

    def __init__(self, *interventions: Shift) -> None:
        self.interventions = interventions

    def bind(self, model: Any) -> Shifts:
        return self

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys(one.site for one in self.interventions))

    def positions(self, row: Any, span: Any = None) -> list[np.ndarray]:
        found = []
        for one in self.interventions:
            selection = Selection.parse(one.tokens)
            at = selection.positions(row, span if selection.span else None)
            found.append(at[-1:] if selection.pool == "last" else at[:1] if selection.pool == "first" else at)
        return found

    def check_rows(self, n: int) -> None:
        assert all(one.n_rows in (None, n) for one in self.interventions)

    def edit_checked(self, site: Site, x: torch.Tensor, where: list[Any], ids: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        for one, (b, s) in zip(self.interventions, where, strict=True):
            if one.site == site:
                x[b, s] = one.apply(x[b, s], ids[b])
        return x


def shift(site: str, tokens: str, seed: int, *, d: int = 32, rows: int | None = None) -> Shift:
    rng = np.random.default_rng(seed)
    return Shift(
        Site.parse(site), tokens, rng.normal(size=d) / np.sqrt(d), None if rows is None else rng.normal(size=rows)
    )
