"""Hooks: how tensors are taken out of a pass, and how a pass ends once nobody waits for more.

There is one mechanism. A `Reading` hangs hooks on the modules that hold its sites; a pass that `Readings.run` starts
ends early, by a private exception raised in a hook, as soon as every reading that takes part has all its sites. The
hooks go when the reading closes, whatever happened inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from leadline.errors import ArchitectureError
from leadline.models.architectures import Architecture, Tap
from leadline.sites import Site

__all__ = ["Readings", "Receive", "evaluating", "find_module", "listen"]

Receive = Callable[[Site, torch.Tensor], None]


class _Stop(Exception):
    """Raised in a hook when nobody waits for more; never leaves `Readings.run`."""


def find_module(trunk: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises
    ------
    ArchitectureError : there is none, so the row of the table is not this model's.
    """
    try:
        return trunk.get_submodule(path)
    except AttributeError as error:
        raise ArchitectureError(
            f"{type(trunk).__name__} has no module '{path}' ({error}), where its row of the architecture table says a "
            f"site is, so its sites cannot be read."
        ) from error


def listen(module: nn.Module, end: str, take: Callable[[torch.Tensor], None]) -> RemovableHandle:
    """Call `take` with the tensor at one end of a module each time it runs, until the handle is removed."""
    name = type(module).__name__

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # transformers hands the stream over as the first argument, or by this name.
        take(_first(args[0] if args else kwargs.get("hidden_states"), name, "input"))

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        take(_first(output, name, "output"))

    if end == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def _first(value: Any, name: str, end: str) -> torch.Tensor:
    tensor = value[0] if isinstance(value, (tuple, list)) and value else value
    if not isinstance(tensor, torch.Tensor):
        raise ArchitectureError(
            f"the {end} of {name} is a {type(tensor).__name__}, not a tensor, so the site there cannot be read."
        )
    return tensor


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every part of a module in eval mode; afterwards put back those that were training."""
    training = [part for part in module.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


class _Reading:
    """One open reading: what it wants and who receives it."""

    def __init__(self, sites: Sequence[Site], receive: Receive) -> None:
        self.sites = frozenset(sites)
        self.receive = receive


class Readings:
    """The readings open on one model and the passes under way through it, innermost last."""

    def __init__(self, trunk: nn.Module, architecture: Architecture) -> None:
        self.trunk = trunk
        self.architecture = architecture
        self._open: list[_Reading] = []
        self._passes: list[dict[_Reading, set[Site]]] = []
        self._floors: list[int] = []

    @contextmanager
    def reading(self, sites: Iterable[Site], receive: Receive) -> Iterator[None]:
        """Hand each site's tensor to `receive` as it appears, in every pass made inside the body."""
        reading = _Reading(tuple(sites), receive)
        with ExitStack() as stack:
            for site in sorted(reading.sites, key=lambda s: s.depth):
                tap: Tap = self.architecture.tap(site)
                handle = listen(find_module(self.trunk, tap.path), tap.end, self._taker(reading, site))
                stack.callback(handle.remove)
            self._open.append(reading)
            stack.callback(self._open.remove, reading)
            yield

    def _taker(self, reading: _Reading, site: Site) -> Callable[[torch.Tensor], None]:
        def take(tensor: torch.Tensor) -> None:
            waiting = self._passes[-1] if self._passes else None
            if waiting is not None and reading not in waiting:
                return
            reading.receive(site, tensor)
            if waiting is not None:
                waiting[reading].discard(site)
                if not any(waiting.values()):
                    raise _Stop

        return take

    def run(self, run: Callable[[], Any]) -> Any:
        """Make one pass by calling `run`, to its end or to the last site that an open reading waits for.

        A pass that is made inside another (from a `receive`) serves the readings opened since that one began, and no
        others, whose tensors it would mix up.

        Returns
        -------
        What `run` returned, or None if the pass ended early.

        Raises
        ------
        ArchitectureError : the pass ended without coming by a wanted site.
        """
        floor = self._floors[-1] if self._floors else 0
        waiting = {reading: set(reading.sites) for reading in self._open[floor:]}
        self._passes.append(waiting)
        self._floors.append(len(self._open))
        try:
            result = run()
        except _Stop:
            return None
        finally:
            self._passes.pop()
            self._floors.pop()
        missed = sorted({site for sites in waiting.values() for site in sites}, key=lambda s: s.depth)
        if missed:
            raise ArchitectureError(
                f"the model ran without passing {', '.join(site.name for site in missed)}: part of it was skipped "
                f"(layer dropping, an exit on its way?), so these sites cannot be read."
            )
        return result
