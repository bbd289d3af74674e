"""Gradients: how much a number that a pass ends in depends on the activations at each site and token.

The weights stand still. Every wanted site's tensor is put back as a copy that records its gradient, so that the
gradient at a site is that of an edit there: of a head's share, say, as if something were added to it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from leadline.errors import ModelError
from leadline.models.hooks import evaluating

if TYPE_CHECKING:
    from leadline.models.model import Model
    from leadline.sites import Site

__all__ = ["Take", "frozen", "gradients"]

# Given a site and its activations (batch, seq, width): what is called with their gradient, of the same shape.
Take = Callable[["Site", torch.Tensor], Callable[[torch.Tensor], None]]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let no weight ask for a gradient; afterwards those that did ask again."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def gradients(model: Model, sites: Iterable[str | Site], run: Callable[[], torch.Tensor], take: Take) -> torch.Tensor:
    """Make one pass, and go back through it: ∂m_b/∂h for each row b of the batch, at every site and token.

    Rows of a batch do not see each other, so the gradient of Σ_b m_b holds each row's own. What is computed before the
    first site is not recorded. No weight, hook or gradient is left behind, whatever happens.

    Parameters
    ----------
    sites : sites of this model or patterns. At a site that the pass does not come by, or that `m` does not depend on,
        nothing is reported: the gradient there is 0.
    run : makes the pass, by `Model.run(..., grad=True)` or the module's own call, and returns m, (batch,).
    take : called on the way forward with a site and its activations, which carry no gradient and must not be written
        to; the function it returns is called on the way back, with the gradient, from the last site to the first.

    Returns
    -------
    (batch,) m, without its history.

    Raises
    ------
    SiteError : a site that this model does not have or that cannot be edited.
    ModelError : `run` gave no (batch,) tensor.
    """

    def record(site: Site, x: torch.Tensor) -> torch.Tensor:
        kept = x.clone()
        if not kept.requires_grad:
            kept.requires_grad_(True)
        kept.register_hook(take(site, kept.detach()))
        return kept

    with torch.inference_mode(False), torch.enable_grad(), evaluating(model.module), frozen(model.module):
        with model.editing(sites, record):
            m = run()
        if not isinstance(m, torch.Tensor) or m.ndim != 1:
            given = tuple(m.shape) if isinstance(m, torch.Tensor) else type(m).__name__
            raise ModelError(f"the pass gave {given}; expected a number for each row, (batch,).")
        if m.requires_grad:
            # To leaves that nobody else holds, so nothing but the hooks sees a gradient.
            m.sum().backward()
        return m.detach()
