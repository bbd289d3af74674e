"""What a plan would touch, told before it runs: sites, tokens by their text, what is done, how far it moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.activations.tokens import Selection
from leadline.causal.change import Intervention
from leadline.causal.places import GENERATED, covers_generated, reads_text
from leadline.errors import CausalError
from leadline.models.encoded import Encoded

if TYPE_CHECKING:
    from leadline.causal.plan import Bound, Plan
    from leadline.models.model import Model

__all__ = ["explained"]

# Tokens of a row that are written out.
_SHOWN = 8


def explained(plan: Plan, model: Model, inputs: Sequence[Any] | None, n: int) -> str:
    """As `Plan.explain`."""
    bound = plan.bind(model)
    if not plan.interventions:
        return f"This plan changes nothing in {model.name}."
    lines = [f"On {model.name}, in this order where they meet at a site:"]
    rows = _rows(plan, model, inputs, n)
    where = [bound.positions(row) for row in rows]
    seen = model.read_rows(rows, bound.sites) if rows else {}
    for j, one in enumerate(plan.interventions):
        lines.append(f"{j + 1}. {one.site}, {_tokens(one)}: {one.describe()}.")
        for i, row in enumerate(rows):
            at = where[i][j]
            lines.append(f"   row {i}: {_named(model, row, at)}")
            if len(at):
                lines[-1] += "; " + _moved(bound, j, i, seen[one.site][i], at)
    if len(plan.interventions) > 1 and rows:
        lines.append("Moves are of the clean activations: of an intervention behind another they may differ.")
    return "\n".join(lines)


def _rows(plan: Plan, model: Model, inputs: Sequence[Any] | None, n: int) -> list[Encoded]:
    if inputs is None:
        return []
    if isinstance(inputs, str):
        raise CausalError("explain takes a list of inputs, but was given one text; put it in a list.")
    some = list(inputs[:n])
    if all(isinstance(row, Encoded) for row in some):
        return some
    part = model.part_of([one.site for one in plan.interventions])
    return model.encode_rows(some, part=part, offsets=any(reads_text(one.tokens) for one in plan.interventions))


def _tokens(one: Intervention) -> str:
    if one.tokens == GENERATED:
        return "generated tokens"
    selection = Selection.parse(one.tokens)
    named = one.tokens if selection.pool in ("last", "first") else selection.which or "all"
    more = ", and those generated after them" if covers_generated(one.tokens) and not one.ordered else ""
    return f"tokens '{named}'{more}"


def _named(model: Model, row: Encoded, at: np.ndarray) -> str:
    if not len(at):
        return "no token of the prompt"
    shown = f"token{'' if len(at) == 1 else 's'} {', '.join(str(int(p)) for p in at[:_SHOWN])}"
    if model.tokenizer is not None and row.ids:
        texts = [repr(model.tokenizer.decode([int(row.ids[int(p)])])) for p in at[:_SHOWN]]
        shown += f" ({', '.join(texts)})"
    more = f" and {len(at) - _SHOWN} more" if len(at) > _SHOWN else ""
    return f"{shown}{more}, {len(at)} of {row.length}"


def _moved(bound: Bound, j: int, i: int, x: torch.Tensor, at: np.ndarray) -> str:
    """How long the activations are and how far they would go, by the intervention's own function on a copy."""
    h = x[torch.from_numpy(at).to(x.device)]
    one = bound.interventions[j]
    if one.n_rows is not None and i >= one.n_rows:
        raise CausalError(f"row {i}: the plan holds values for {one.n_rows} rows; explain it for those.")
    ids = torch.full((len(h),), i, device=x.device)
    nth = torch.arange(len(h), device=x.device) if one.ordered else None
    with torch.inference_mode():
        new = bound.changes[j](h, ids, nth)
        norm, way = (t.double().norm(dim=-1).mean().item() for t in (h, new.double() - h.double()))
    return f"mean ‖h‖ {norm:.4g}, moved by {way:.4g} (dose {way / norm if norm else float('inf'):.3g})"
