"""Hooks: how tensors are taken out of a pass and changed in it, and how a pass ends once nobody waits for more.

There is one mechanism. A client (a reading, or an edit) is open for a while; each site that some client wants has one
hook, which hands the tensor from client to client in the order in which they were opened, so that a reading sees what
the edits opened before it have made. A pass that `Hooks.run` starts ends early, by a private exception raised in a
hook, as soon as every reading that takes part has all its sites. Hooks go with the last client that wants them,
whatever happened inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from leadline.errors import ArchitectureError, SiteError
from leadline.models.ports import Port
from leadline.sites import Site

__all__ = ["Edit", "Hooks", "Receive", "evaluating", "find_module"]

Receive = Callable[[Site, torch.Tensor], None]
Edit = Callable[[Site, torch.Tensor], torch.Tensor]


class _Stop(Exception):
    """Raised in a hook when nobody waits for more; never leaves `Hooks.run`."""


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


@dataclass(eq=False)
class _Client:
    """Who wants some sites: a reading receives their tensors, an edit gives others in their place."""

    sites: frozenset[Site]
    receive: Receive | None = None
    edit: Edit | None = None


@dataclass(eq=False)
class _Pass:
    """A pass under way: the clients that take part, and what the readings among them still wait for."""

    clients: tuple[_Client, ...]
    waiting: dict[_Client, set[Site]] = field(default_factory=dict)


class Hooks:
    """The clients open on one model and the passes under way through it, innermost last.

    Parameters
    ----------
    port : finds a site on the model.
    """

    def __init__(self, port: Callable[[Site], Port]) -> None:
        self._port = port
        self._open: list[_Client] = []
        self._handles: dict[Site, list[RemovableHandle]] = {}
        self._passes: list[_Pass] = []
        self._floors: list[int] = []

    @contextmanager
    def reading(self, sites: Iterable[Site], receive: Receive) -> Iterator[None]:
        """Hand each site's tensor to `receive` as it appears, in every pass made inside the body."""
        with self._client(_Client(frozenset(sites), receive=receive)):
            yield

    @contextmanager
    def editing(self, sites: Iterable[Site], edit: Edit) -> Iterator[None]:
        """Put what `edit` makes of each site's tensor in its place, in every pass made inside the body."""
        with self._client(_Client(frozenset(sites), edit=edit)):
            yield

    @contextmanager
    def _client(self, client: _Client) -> Iterator[None]:
        with ExitStack() as stack:
            self._open.append(client)
            stack.callback(self._close, client)
            for site in sorted(client.sites, key=lambda s: s.depth):
                if site not in self._handles:
                    self._handles[site] = self._port(site).open(self._visitor(site))
            yield

    def _close(self, client: _Client) -> None:
        self._open.remove(client)
        wanted = {site for other in self._open for site in other.sites}
        for site in [site for site in self._handles if site not in wanted]:
            for handle in self._handles.pop(site):
                handle.remove()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Make passes that no client opened outside of the body takes part in."""
        self._floors.append(len(self._open))
        try:
            yield
        finally:
            self._floors.pop()

    def wants(self, kind: str) -> bool:
        """Whether some open client wants a site of this kind."""
        return any(site.kind == kind for client in self._open for site in client.sites)

    def _visitor(self, site: Site) -> Callable[[torch.Tensor], torch.Tensor | None]:
        def visit(tensor: torch.Tensor) -> torch.Tensor | None:
            now = self._passes[-1] if self._passes else None
            current, edited = tensor, False
            for client in tuple(now.clients if now is not None else self._open):
                if site not in client.sites:
                    continue
                if client.edit is not None:
                    current, edited = _fits(client.edit(site, current), current), True
                    continue
                assert client.receive is not None
                client.receive(site, current)
                if now is not None:
                    now.waiting[client].discard(site)
                    if not any(now.waiting.values()):
                        raise _Stop
            return current if edited else None

        return visit

    def run(self, run: Callable[[], Any]) -> Any:
        """Make one pass by calling `run`, to its end or to the last site that an open reading waits for.

        A pass that is made inside another (from a `receive` or an `edit`) serves the clients opened since that one
        began, and no others, whose tensors it would mix up.

        Returns
        -------
        What `run` returned, or None if the pass ended early.

        Raises
        ------
        ArchitectureError : the pass ended without coming by a wanted site.
        """
        floor = self._floors[-1] if self._floors else 0
        clients = tuple(self._open[floor:])
        now = _Pass(clients, {client: set(client.sites) for client in clients if client.receive is not None})
        self._passes.append(now)
        self._floors.append(len(self._open))
        try:
            result = run()
        except _Stop:
            return None
        finally:
            self._passes.pop()
            self._floors.pop()
        missed = sorted({site for sites in now.waiting.values() for site in sites}, key=lambda s: s.depth)
        if missed:
            raise ArchitectureError(
                f"the model ran without passing {', '.join(site.name for site in missed)}: part of it was skipped "
                f"(layer dropping, an exit on its way?), or nothing calls it there (a head, a list of modules), so "
                f"these sites cannot be read."
            )
        return result


def _fits(new: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if not isinstance(new, torch.Tensor):
        raise SiteError(f"an edit gave a {type(new).__name__}; expected a tensor of shape {tuple(x.shape)}.")
    if new.shape != x.shape:
        raise SiteError(
            f"an edit gave a tensor of shape {tuple(new.shape)}; expected {tuple(x.shape)}, as it was given."
        )
    return new.to(device=x.device, dtype=x.dtype)
