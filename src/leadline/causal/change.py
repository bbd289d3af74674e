"""What an intervention is to a plan: a place, a check against a model, and a function on the activations there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from leadline.errors import CausalError
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["Change", "Intervention", "at_rows", "check_width", "number", "on_device", "set_fields", "working_dtype"]

# change(h, ids, nth): new activations, in memory of their own and in any floating type, for h (..., d); `ids`
# broadcasts to (...) and says of which of the bound rows each is; `nth` which of its row's edited tokens it is, from
# 0, and is None where the intervention is not `ordered`.
Change = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class Intervention(Protocol):
    """Something done to the activations at one site."""

    @property
    def site(self) -> Site:
        """Where."""
        ...

    @property
    def tokens(self) -> str:
        """At which tokens: a selection, or `generated`."""
        ...

    @property
    def n_rows(self) -> int | None:
        """For how many rows it holds values; None where it does the same to every row."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether it tells the edited tokens of a row apart."""
        ...

    @property
    def width(self) -> int | None:
        """The width of the activations that it takes; None for any."""
        ...

    def check(self, model: Model) -> None:
        """Refuse a model that it does not belong to."""
        ...

    def compile(self, model: Model) -> Change:
        """The function, with its vectors on the model's device."""
        ...

    def describe(self) -> str:
        """One clause for a person."""
        ...


def working_dtype(model: Model) -> torch.dtype:
    """The dtype in which changes are computed: sums of squares overflow half precision."""
    return torch.float64 if model.dtype is torch.float64 else torch.float32


def on_device(values: np.ndarray, model: Model) -> torch.Tensor:
    """A vector in the working dtype on the model's device."""
    return torch.tensor(np.asarray(values, dtype=np.float64), device=model.device, dtype=working_dtype(model))


def at_rows(values: float | np.ndarray, model: Model) -> Callable[[torch.Tensor], float | torch.Tensor]:
    """A function from row ids (...) to each one's value, (..., 1); or to the one number that all rows have."""
    if isinstance(values, float):
        one = values
        return lambda ids: one
    own = on_device(values, model)
    return lambda ids: own[ids].unsqueeze(-1)


def check_width(model: Model, site: Site, width: int | None, what: str) -> None:
    """Refuse a site of another width.

    Raises
    ------
    SiteError : the model has no such site. CausalError : it has another width, or cannot be edited.
    """
    model.sites([site])
    if site.kind == "attn_pattern":
        raise CausalError(f"'{site}' can be read but not edited; intervene at head_out or attn_out instead.")
    # The width of a named module shows in a pass alone, and is checked there.
    if width is not None and site.kind != "module" and model.width(site) != width:
        raise CausalError(
            f"{what} has {width} dimensions, but '{site}' of '{model.name}' has {model.width(site)}; it belongs to "
            f"another model or another site."
        )


def number(values: float | np.ndarray) -> str:
    """A number for a person; of several the span."""
    if isinstance(values, float):
        return f"{values:.4g}"
    return f"{values.min():.4g} to {values.max():.4g}, by row,"


def set_fields(thing: object, **values: object) -> None:
    """Set the fields of a frozen dataclass in its own `__init__`."""
    for name, value in values.items():
        object.__setattr__(thing, name, value)
