"""From a site back to the embeddings: which steps a direction takes, by the architecture table's own equation.

A direction c at a site scores it as c·h. Where h is a sum, c scores each term; where h is a norm of something, c
becomes the direction that scores what went into the norm, with the norm's statistics as they were. So the walk goes
through the rows' equations (`leadline.models.row`) from the site's block down, and each step adds terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from leadline.causal.frozen import Frozen
from leadline.errors import CausalError
from leadline.models.hooks import find_module
from leadline.models.part import Part, n_inputs
from leadline.models.ports import Port, projection_slice
from leadline.models.row import Sum
from leadline.sites import Site

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["BRANCHES", "Chain", "Component", "Step"]

# What a branch is called by a person.
BRANCHES = {"attn_out": "attn", "mixer_out": "mixer", "cross_out": "cross", "mlp_out": "mlp"}
_STREAM = ("resid_pre", "resid_mid", "resid_post", "final_norm", "embed")
_KINDS = (*_STREAM, *BRANCHES, "head_out")


@dataclass(frozen=True)
class Component:
    """One term of a score.

    Parameters
    ----------
    name : as in `"head 8.3"`, `"mlp 8"`, `"embed"` or `"attn_bias 8"`.
    kind : `"embed"`, `"head"`, `"attn"` (of blocks whose heads cannot be told apart), `"mixer"`, `"cross"`, `"mlp"`, or
        `"bias"`.
    site : where it is read and ablated; None for a bias.
    """

    name: str
    kind: str
    site: Site | None = None

    @property
    def ablatable(self) -> bool:
        """Whether it is a head, an MLP or another branch: something that a model computes in a block."""
        return self.kind not in ("embed", "bias")


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the walk.

    Parameters
    ----------
    components : the terms that it adds.
    reads : the names of the tensors that it needs.
    run : from c (m or 1, d) and those tensors (m, width) to the direction that goes on, and the terms (m, T).
    """

    components: tuple[Component, ...]
    reads: tuple[str, ...]
    run: Callable[[torch.Tensor, Mapping[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]


class Chain:
    """The steps from a site back to the embeddings, and the ports where their tensors are found.

    Parameters
    ----------
    part : the part of the model. site : where the direction stands.

    Raises
    ------
    CausalError : the site's activation is no sum of what blocks write.
    """

    def __init__(self, part: Part, site: Site) -> None:
        if site.kind not in _KINDS:
            raise CausalError(
                f"a score at '{site.name}' is no sum of what heads and MLPs write; expected a site of the kinds "
                f"{', '.join(_KINDS)}."
            )
        self.part = part
        self.ports: dict[str, Port] = {}
        self.steps: list[Step] = []
        self._prefix = f"{part.name}:" if part.name else ""
        self._walk(site)
        self.components: tuple[Component, ...] = tuple(c for step in self.steps for c in step.components)
        # In the order of computation: the embeddings first.
        self.order = sorted(range(len(self.components)), key=lambda i: -i)

    @contextmanager
    def reading(self, receive: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
        """Hand every tensor that a step needs to `receive` as it appears."""

        def take(name: str) -> Callable[[torch.Tensor], None]:
            return lambda tensor: receive(name, tensor)

        with ExitStack() as stack:
            for name, port in self.ports.items():
                for handle in port.open(take(name)):
                    stack.callback(handle.remove)
            yield

    def terms(self, c: torch.Tensor, found: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(m, T) float64 terms of c·h in the order of `components`, from tensors (m, width) at m tokens."""
        m = len(next(iter(found.values())))
        parts = []
        for step in self.steps:
            c, terms = step.run(c, found)
            parts.append(terms.expand(m, -1))
        return torch.cat(parts, dim=1)

    # ---- the walk

    def _walk(self, site: Site) -> None:
        part, layer = self.part, site.layer
        if site.kind == "final_norm":
            norm = find_module(part.root, part.row.final_norm)
            self._norm(norm, "final norm", "norm_bias final")
            self._block(part.n_layers - 1, "resid_post")
        elif site.kind == "embed":
            self._embed()
        elif site.kind == "resid_pre":
            assert layer is not None
            self._block(layer - 1, "resid_post")
        elif site.kind in ("resid_mid", "resid_post"):
            assert layer is not None
            self._block(layer, site.kind)
        elif site.kind == "head_out":
            name = f"head {site.layer}.{site.head}"
            self._term(Component(name, "head", site), part.port(site), name)
        else:
            assert layer is not None
            self._branch(site.kind, layer)

    def _block(self, layer: int, whole: str) -> None:
        """The walk from a place of a block back through it and all before it."""
        while layer >= 0:
            self._sum(layer, whole)
            layer, whole = layer - 1, "resid_post"
        self._embed()

    def _sum(self, layer: int, whole: str) -> None:
        one = self._line(whole)
        ports = self.part.block_ports(layer)
        if one.norm:
            norm = find_module(self.part.blocks[layer], one.norm)
            place = whole.removeprefix("resid_").removeprefix("_")
            self._norm(norm, f"{one.norm} of block {layer}", f"norm_bias {place} {layer}")
        first = one.terms[0]
        for kind in reversed(one.terms[1:]):
            # Of terms that only some blocks have, a block has some.
            if kind in ports:
                self._branch(kind, layer)
        if first != "resid_pre":
            self._sum(layer, first)

    def _line(self, whole: str) -> Sum:
        for one in self.part.row.equation.sums:
            if one.whole == whole:
                return one
        raise CausalError(
            f"the row '{self.part.row.name}' of the architecture table does not say what '{whole}' is a sum of "
            f"({self.part.row.equation.text}); take a probe at another kind of site."
        )

    # ---- the steps

    def _term(self, component: Component, port: Port, name: str) -> None:
        self.ports[name] = port

        def run(c: torch.Tensor, found: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            return c, (found[name].double() * c).sum(-1, keepdim=True)

        self.steps.append(Step((component,), (name,), run))

    def _embed(self) -> None:
        site = Site("embed", part=self.part.name)
        self._term(Component("embed", "embed", site), self.part.port(site), "embed")

    def _norm(self, module: nn.Module, what: str, bias: str) -> None:
        frozen = Frozen.of(module, self.part.d_model, self.part.weights, what)
        before, behind = f"before {what}", f"behind {what}"
        self.ports[before], self.ports[behind] = Port(module, "input"), Port(module, "output")
        has_bias = bool(frozen.offset.any())

        def run(c: torch.Tensor, found: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            s = frozen.scale(found[before].double(), found[behind].double())
            given = (c * frozen.offset).sum(-1, keepdim=True) if has_bias else torch.zeros(1, 0, dtype=torch.float64)
            return frozen.pull(c, s), given

        self.steps.append(Step((Component(bias, "bias"),) if has_bias else (), (before, behind), run))

    def _branch(self, kind: str, layer: int) -> None:
        port = self.part.block_ports(layer)[kind]
        if kind == "attn_out" and self._heads(layer, port):
            return
        name = BRANCHES[kind]
        site = Site(kind, layer, part=self.part.name)
        self._term(Component(f"{name} {layer}", name, site), port, f"{name} {layer}")

    def _heads(self, layer: int, port: Port) -> bool:
        """The heads of a block, through what stands between their projection and the stream."""
        part, row = self.part, self.part.row
        given = part.block_ports(layer).get("head_out")
        weight = getattr(given.module, "weight", None) if given is not None else None
        if given is None or row.attn_out is None or not isinstance(weight, torch.Tensor) or weight.ndim != 2:
            return False
        # A tap on a module that holds the projection gives what the projection gives; else a norm stands between.
        behind = not f"{row.heads}.".startswith(f"{row.attn_out.path}.")
        block, projection, scale = part.blocks[layer], given.module, port.scale
        z_name, x_name, y_name = f"z {layer}", f"projected {layer}", f"attn_out {layer}"
        self.ports[z_name] = Port(projection, "input", block=block)
        what = f"{row.attn_out.path} of block {layer}"
        frozen = Frozen.of(port.module, part.d_model, part.weights, what) if behind else None
        if frozen is not None:
            self.ports[x_name], self.ports[y_name] = Port(port.module, "input"), replace(port, scale=1.0)
        width = n_inputs(projection)
        n_heads = part.n_heads
        if width % n_heads:
            raise CausalError(
                f"the {width} inputs of {row.heads} of block {layer} are no multiple of {n_heads} heads, so its "
                f"heads cannot be told apart; take a probe at a site before that block."
            )
        bias = getattr(projection, "bias", None)
        components = [
            Component(f"head {layer}.{head}", "head", Site("head_out", layer, head, part.name))
            for head in range(n_heads)
        ]
        if isinstance(bias, torch.Tensor):
            components.append(Component(f"attn_bias {layer}", "bias"))
        norm_bias = frozen is not None and bool(frozen.offset.any())
        if norm_bias:
            components.append(Component(f"attn_norm_bias {layer}", "bias"))

        def run(c: torch.Tensor, found: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            at = c * scale
            terms = []
            if frozen is not None:
                s = frozen.scale(found[x_name].double(), found[y_name].double())
                terms.append((at * frozen.offset).sum(-1, keepdim=True) if norm_bias else torch.zeros(1, 0))
                at = frozen.pull(at, s)
            z = found[z_name].double()
            # W_Oᵀ c scores z: one product for all heads of the block, and one row where c is the same for all tokens.
            out = projection_slice(projection, 0, width).detach().to("cpu", torch.float64)
            heads = (z * (at @ out.T)).view(len(z), n_heads, -1).sum(-1)
            found_terms = [heads]
            if isinstance(bias, torch.Tensor):
                found_terms.append((at * bias.detach().to("cpu", torch.float64)).sum(-1, keepdim=True))
            return c, torch.cat([t.double().expand(len(z), -1) for t in (*found_terms, *terms)], dim=1)

        reads = (z_name, x_name, y_name) if frozen is not None else (z_name,)
        self.steps.append(Step(tuple(components), reads, run))
        return True
