"""Ports: a site's tensor at a module of a loaded model, taken out in the site's own terms and put back.

A port knows the arithmetic between what a module handles and what the site means: a residual multiplier, a head's
slice of the output projection, a tensor with batch and sequence in one dimension, a picture's rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from leadline.errors import ArchitectureError, SiteError
from leadline.models.patterns import summarise

__all__ = ["Port", "Visit", "projection_slice"]

# What is done at a port in a pass: given the site's tensor, None to leave it, or what takes its place.
Visit = Callable[[torch.Tensor], torch.Tensor | None]


@dataclass(frozen=True)
class Port:
    """Where one site is found.

    Parameters
    ----------
    module : runs once a pass, with the tensor at its `end`.
    end : `"input"` or `"output"`.
    item : which entry, where the end is a tuple.
    scale : the site is so many times the tensor.
    shared : the input is the stream itself, which other modules read too: it is edited in place.
    block : for a tensor of (batch · seq, width), the block whose input tells the two apart.
    head : for `head_out`, the columns of the module's input that are the head's z: from, to.
    pattern : the tensor is attention's weights, and the site their summaries.
    free : a module that the user named, whose tensor may have any layout.
    """

    module: nn.Module
    end: str = "output"
    item: int = 0
    scale: float = 1.0
    shared: bool = False
    block: nn.Module | None = None
    head: tuple[int, int] | None = None
    pattern: bool = False
    free: bool = False

    def open(self, visit: Visit) -> list[RemovableHandle]:
        """Call `visit` with the site's (batch, seq, width) tensor each time the module runs, until the handles go."""
        handles: list[RemovableHandle] = []
        lead: list[torch.Size] = []
        if self.block is not None:
            handles.append(self.block.register_forward_pre_hook(_remember(lead), with_kwargs=True))

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            place, given = _stream_of(args, kwargs)
            raw = _first(given, module, "input", self.item)
            new = self._through(raw, visit, lead)
            if new is None:
                return None
            if self.shared:
                # The residual branch holds the same tensor.
                raw.copy_(new)
                return None
            if isinstance(place, int):
                return (*args[:place], _replaced(given, new, self.item), *args[place + 1 :]), kwargs
            return args, {**kwargs, place: _replaced(given, new, self.item)}

        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if self.head is not None:
                return self._head(module, args, kwargs, output, visit)
            raw = _first(output, module, "output", self.item)
            new = self._through(raw, visit, lead)
            return None if new is None else _replaced(output, new, self.item)

        if self.end == "input" and self.head is None:
            handles.append(self.module.register_forward_pre_hook(before, with_kwargs=True))
        else:
            handles.append(self.module.register_forward_hook(after, with_kwargs=True))
        return handles

    def _through(self, raw: torch.Tensor, visit: Visit, lead: list[torch.Size]) -> torch.Tensor | None:
        """Take the site's tensor out of the module's, visit, and put the outcome back into the module's terms."""
        if self.pattern:
            if visit(summarise(raw)) is not None:
                raise SiteError("attention patterns can be read but not edited; edit head_out or attn_out instead.")
            return None
        x = raw
        if self.free:
            x = _as_sequence(raw)
        elif self.block is not None and raw.ndim == 2:
            x = raw.view(*lead[-1][:2], -1)
        if self.scale != 1.0:
            x = x * self.scale
        new = visit(x)
        if new is None:
            return None
        if self.scale != 1.0:
            new = new / self.scale
        if self.free:
            return _as_given(new, raw)
        return new.reshape(raw.shape)

    def _head(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any, visit: Visit) -> Any:
        assert self.head is not None
        _, given = _stream_of(args, kwargs)
        z = _first(given, module, "input", 0)
        out = _first(output, module, "output", 0)
        weight = projection_slice(module, *self.head)

        def share() -> torch.Tensor:
            assert self.head is not None
            return (z[..., self.head[0] : self.head[1]] @ weight).view(*out.shape) * self.scale

        new = visit(share())
        if new is None:
            return None
        # Made again, since an edit may have written into the first.
        return _replaced(output, out + (new - share()) / self.scale, 0)


def projection_slice(module: nn.Module, start: int, end: int) -> torch.Tensor:
    """The rows of W_O (head width, d_model) that take a head's z to the stream.

    `nn.Linear` keeps its weight as (out, in), the `Conv1D` of GPT-2 as (in, out).
    """
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    return weight[:, start:end].T if isinstance(module, nn.Linear) else weight[start:end]


def _remember(lead: list[torch.Size]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lead[:] = [_first(_stream_of(args, kwargs)[1], module, "input", 0).shape]

    return hook


# By these names transformers hands the stream over where it is no positional argument.
_NAMES = ("hidden_states", "x", "input", "hidden_state", "inputs_embeds")


def _stream_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int | str, Any]:
    """Where the stream stands among a call's arguments, and what stands there."""
    if args:
        return 0, args[0]
    for name in _NAMES:
        if name in kwargs:
            return name, kwargs[name]
    return 0, None


def _first(value: Any, module: nn.Module, end: str, item: int) -> torch.Tensor:
    tensor = value[item] if isinstance(value, (tuple, list)) and len(value) > item else value
    if not isinstance(tensor, torch.Tensor):
        # A module that the user named may give transformers' own kind of output.
        inner = getattr(tensor, "last_hidden_state", None)
        if isinstance(inner, torch.Tensor):
            return inner
        raise ArchitectureError(
            f"the {end} of {type(module).__name__} is a {type(tensor).__name__}, not a tensor, so the site there "
            f"cannot be read."
        )
    return tensor


def _replaced(value: Any, new: torch.Tensor, item: int) -> Any:
    if isinstance(value, torch.Tensor):
        return new
    if isinstance(value, (tuple, list)):
        parts = list(value)
        parts[item] = new
        return tuple(parts) if isinstance(value, tuple) else parts
    raise SiteError(
        f"the module gives a {type(value).__name__}, which can be read but not edited; name a module that gives a "
        f"tensor."
    )


def _as_sequence(raw: torch.Tensor) -> torch.Tensor:
    """Any tensor as (batch, seq, width): vectors have one position, the places of a feature map are positions."""
    if raw.ndim == 2:
        return raw.unsqueeze(1)
    if raw.ndim == 3:
        return raw
    if raw.ndim >= 4:
        # Channels first, as in convolutions.
        return raw.flatten(2).transpose(1, 2)
    raise SiteError(
        f"the module gives a tensor of shape {tuple(raw.shape)}; expected (batch, width), (batch, seq, width) or "
        f"(batch, channels, height, width)."
    )


def _as_given(new: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
    return new.transpose(1, 2).reshape(raw.shape) if raw.ndim >= 4 else new.reshape(raw.shape)
