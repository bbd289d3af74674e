"""From a site back to the embeddings: which steps a direction takes, by the architecture table's own equation.

A direction c at a site scores it as c·h. Where h is a sum, c scores each term; where h is a norm of something, c
becomes the direction that scores what went into the norm, with the norm's statistics as they were. So the walk goes
through the rows' equations (`leadline.models.row`) from the site's block down, and each step adds terms.

A norm's statistics are one number s a token beside a linear map that is the same for all. So c is the same for all
tokens but for a factor σ, the product of the s on the way, and what scores each tensor is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
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
    components : the T terms that it adds.
    run : from σ (m, 1) and the tensors by name (m, width) to the σ that goes on, and the terms (m, T).
    """

    components: tuple[Component, ...]
    run: Callable[[torch.Tensor, Mapping[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]


class Chain:
    """The steps from a site back to the embeddings, and the ports where their tensors are found.

    Parameters
    ----------
    part : the part of the model. site : where the direction stands. vector : (d,) the direction.

    Attributes
    ----------
    components : T of them, in the order of computation.

    Raises
    ------
    CausalError : the site's activation is no sum of what blocks write.
    """

    def __init__(self, part: Part, site: Site, vector: np.ndarray) -> None:
        if site.kind not in _KINDS:
            raise CausalError(
                f"a score at '{site.name}' is no sum of what heads and MLPs write; expected a site of the kinds "
                f"{', '.join(_KINDS)}."
            )
        self.part = part
        self.ports: dict[str, Port] = {}
        self.steps: list[Step] = []
        # What scores the place where the walk is, but for σ.
        self._c = torch.from_numpy(np.asarray(vector, dtype=np.float64))
        self._walk(site)
        # The walk goes backwards.
        self.components: tuple[Component, ...] = tuple(c for step in self.steps[::-1] for c in step.components)

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

    def terms(self, found: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(m, T) float64 terms of c·h in the order of `components`, from tensors (m, width) at m tokens."""
        sigma = torch.ones(len(next(iter(found.values()))), 1, dtype=torch.float64)
        parts = []
        for step in self.steps:
            sigma, terms = step.run(sigma, found)
            parts.append(terms)
        return torch.cat(parts[::-1], dim=1)

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
        c = self._c

        def run(sigma: torch.Tensor, found: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            return sigma, sigma * (found[name].double() @ c)[:, None]

        self.steps.append(Step((component,), run))

    def _embed(self) -> None:
        site = Site("embed", part=self.part.name)
        self._term(Component("embed", "embed", site), self.part.port(site), "embed")

    def _norm(self, module: nn.Module, what: str, bias: str) -> None:
        frozen = Frozen.of(module, self.part.d_model, self.part.weights, what)
        before, behind = f"before {what}", f"behind {what}"
        self.ports[before], self.ports[behind] = Port(module, "input"), Port(module, "output")
        offset = float(self._c @ frozen.offset)
        has_bias = bool(frozen.offset.any())
        self._c = frozen.pull(self._c, torch.ones(1))

        def run(sigma: torch.Tensor, found: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            s = frozen.scale(found[before].double(), found[behind].double())
            return sigma * s, sigma * offset if has_bias else sigma[:, :0]

        self.steps.append(Step((Component(bias, "bias"),) if has_bias else (), run))

    def _branch(self, kind: str, layer: int) -> None:
        port = self.part.block_ports(layer)[kind]
        if kind == "attn_out" and self._heads(layer, port):
            return
        name = BRANCHES[kind]
        site = Site(kind, layer, part=self.part.name)
        self._term(Component(f"{name} {layer}", name, site), port, f"{name} {layer}")

    def _heads(self, layer: int, port: Port) -> bool:
        """The heads of a block, through what stands between their projection and the stream; False without heads."""
        part, row = self.part, self.part.row
        given = part.block_ports(layer).get("head_out")
        weight = getattr(given.module, "weight", None) if given is not None else None
        if given is None or row.attn_out is None or not isinstance(weight, torch.Tensor) or weight.ndim != 2:
            return False
        projection, n_heads, width = given.module, part.n_heads, n_inputs(given.module)
        if width % n_heads:
            raise CausalError(
                f"the {width} inputs of {row.heads} of block {layer} are no multiple of {n_heads} heads, so its "
                f"heads cannot be told apart; take a probe at a site before that block."
            )
        names = [f"head {layer}.{head}" for head in range(n_heads)]
        sites = [Site("head_out", layer, head, part.name) for head in range(n_heads)]
        components = [Component(name, "head", site) for name, site in zip(names, sites, strict=True)]
        z_name, before, behind = f"z {layer}", f"before attn_out {layer}", f"behind attn_out {layer}"
        self.ports[z_name] = Port(projection, "input", block=part.blocks[layer])
        c, frozen = self._c * port.scale, None
        # A tap on a module that holds the projection gives what the projection gives; else a norm stands between.
        if not f"{row.heads}.".startswith(f"{row.attn_out.path}."):
            what = f"{row.attn_out.path} of block {layer}"
            frozen = Frozen.of(port.module, part.d_model, part.weights, what)
            self.ports[before], self.ports[behind] = Port(port.module, "input"), replace(port, scale=1.0)
        biases: list[tuple[float, bool]] = []
        if frozen is not None and bool(frozen.offset.any()):
            components.append(Component(f"attn_norm_bias {layer}", "bias"))
            biases.append((float(c @ frozen.offset), False))
        if frozen is not None:
            c = frozen.pull(c, torch.ones(1))
        bias = getattr(projection, "bias", None)
        if isinstance(bias, torch.Tensor):
            components.append(Component(f"attn_bias {layer}", "bias"))
            biases.append((float(c @ bias.detach().to("cpu", torch.float64)), True))
        # W_Oᵀ c scores z: one product for all heads of the block.
        scores = projection_slice(projection, 0, width).detach().to("cpu", torch.float64) @ c

        def run(sigma: torch.Tensor, found: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            inner = sigma
            if frozen is not None:
                inner = sigma * frozen.scale(found[before].double(), found[behind].double())
            heads = inner * (found[z_name].double() * scores).view(len(sigma), n_heads, -1).sum(-1)
            return sigma, torch.cat([heads, *((inner if within else sigma) * b for b, within in biases)], dim=1)

        self.steps.append(Step(tuple(components), run))
        return True
