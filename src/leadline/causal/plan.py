"""`Plan`: interventions in order, bound to a model by `bind`, told to a person by `explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.causal.change import Change, Intervention
from leadline.causal.places import positions_of
from leadline.errors import CausalError, SiteError
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.encoded import Encoded
    from leadline.models.model import Model
    from leadline.models.part import Part

__all__ = ["Bound", "Plan", "Where"]

# Entries of a batch and positions, (m,) each, entry after entry in ascending order; None for every token of all.
Where = tuple[torch.Tensor, torch.Tensor] | None


@dataclass(frozen=True, eq=False, init=False)
class Plan:
    """Interventions that are made in one pass, in this order where they meet at a site.

    Parameters
    ----------
    interventions : `Add`, `Ablate`, `Clamp`, `Patch`, `Erase`, `Rotate`, or plans, whose own are taken. None of them is
        the clean run.
    """

    interventions: tuple[Intervention, ...]

    def __init__(self, *interventions: Intervention | Plan) -> None:
        flat: list[Intervention] = []
        for one in interventions:
            if isinstance(one, Plan):
                flat += one.interventions
            elif hasattr(one, "compile") and hasattr(one, "site"):
                flat.append(one)
            else:
                raise CausalError(
                    f"a {type(one).__name__} is no intervention; give Add, Ablate, Clamp, Patch, Erase or Rotate."
                )
        object.__setattr__(self, "interventions", tuple(flat))

    def bind(self, model: Model) -> Bound:
        """Check the plan against a model, and put its vectors on the model's device.

        Raises
        ------
        SiteError : a site that the model does not have. CausalError : another width, or sites of several parts.
        ProbeError : a probe, eraser or helix of another model.
        """
        return Bound(self, model)

    def explain(self, model: Model, inputs: Sequence[Any] | None = None, n: int = 3) -> str:
        """What the plan would touch: sites, tokens, what is done. No intervention is run.

        Parameters
        ----------
        inputs : texts, chats or encoded rows; of the first `n` the tokens are named, and how far each intervention
            would move them, computed from one clean pass.

        Raises
        ------
        As `bind`; ActivationsError : a row without the selected tokens.
        """
        from leadline.causal.explain import explained

        return explained(self, model, inputs, n)

    def __len__(self) -> int:
        return len(self.interventions)

    def __repr__(self) -> str:
        return f"Plan({'; '.join(f'{one.describe()} at {one.site}' for one in self.interventions)})"


class Bound:
    """A plan on one model, ready to edit activations.

    Attributes
    ----------
    interventions : in order.
    sites : where they stand, distinct, in the order of computation.
    part : of the model that has the sites; None where it was loaded for named modules only.
    n_rows : for how many rows values are held; None where all rows get the same.
    """

    def __init__(self, plan: Plan, model: Model) -> None:
        self.interventions = plan.interventions
        for one in plan.interventions:
            one.check(model)
        self.sites: tuple[Site, ...] = tuple(
            sorted({one.site for one in plan.interventions}, key=lambda site: site.depth)
        )
        try:
            self.part: Part | None = model.part_of(self.sites)
        except SiteError as error:
            raise CausalError(
                f"the plan's sites stand in several parts of '{model.name}', whose tokens differ; make a plan for each."
            ) from error
        counts = {one.n_rows for one in plan.interventions} - {None}
        if len(counts) > 1:
            raise CausalError(f"the plan holds values for {sorted(counts)} rows; give all of them for the same rows.")  # type: ignore[type-var]
        self.n_rows = counts.pop() if counts else None
        self.changes: tuple[Change, ...] = tuple(one.compile(model) for one in plan.interventions)
        # A width may be that of a basis that has to be worked out.
        self._widths = [one.width for one in plan.interventions]
        self._at = {site: [j for j, one in enumerate(plan.interventions) if one.site == site] for site in self.sites}

    def positions(self, row: Encoded, span: tuple[int, int] | None = None) -> list[np.ndarray]:
        """For each intervention the sorted positions of a row that it edits; none of `generated`.

        Parameters
        ----------
        span : the character range for selections `span:NAME`.

        Raises
        ------
        ActivationsError : the row has no such token, or not what a selection reads.
        """
        return [positions_of(one.tokens, row, span) for one in self.interventions]

    def edit(self, site: Site, x: torch.Tensor, where: Sequence[Where], ids: torch.Tensor) -> torch.Tensor:
        """Make the plan's interventions at a site, one after the other; `x` is not written to.

        Parameters
        ----------
        x : (batch, seq, d) activations.
        where : for each intervention of the plan (those at other sites too) what it edits.
        ids : (batch,) which of the plan's rows each entry is, on the device of `x`.

        Raises
        ------
        CausalError : a width or a row that the plan has no values for.
        """
        if self.n_rows is not None:
            self.check_rows(int(ids.max()) + 1, at_most=True)
        return self.edit_checked(site, x, where, ids)

    def edit_checked(self, site: Site, x: torch.Tensor, where: Sequence[Where], ids: torch.Tensor) -> torch.Tensor:
        """As `edit`, for ids known to be rows of the plan: nothing waits for the device, but a `Patch` that counts."""
        out, owned = x, False
        for j in self._at[site]:
            one, change, place = self.interventions[j], self.changes[j], where[j]
            if self._widths[j] not in (None, x.shape[-1]):
                raise CausalError(f"{one.describe()}: it has {self._widths[j]} dimensions, '{site}' {x.shape[-1]}.")
            if place is None:
                out, owned = change(out, ids[:, None], None).to(x.dtype), True
                continue
            b, s = place
            if not len(b):
                continue
            new = change(out[b, s], ids[b], _nth(b) if one.ordered else None)
            if not owned:
                out, owned = out.clone(), True
            out[b, s] = new.to(x.dtype)
        return out

    def check_rows(self, n: int, *, at_most: bool = False) -> None:
        """Refuse a batch of other rows than the plan has values for.

        Raises
        ------
        CausalError : says how many there are.
        """
        if self.n_rows is not None and (n > self.n_rows or (n < self.n_rows and not at_most)):
            raise CausalError(f"the plan holds values for {self.n_rows} rows, but runs on {n}; give one for each row.")


def _nth(b: torch.Tensor) -> torch.Tensor:
    """Of entries (m,), equal ones together, which of its entry's each is."""
    at = torch.arange(len(b), device=b.device)
    new = torch.ones_like(b, dtype=torch.bool)
    new[1:] = b[1:] != b[:-1]
    return at - torch.where(new, at, 0).cummax(0).values
