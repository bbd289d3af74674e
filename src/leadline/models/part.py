"""`Part`: one stack of blocks of a loaded model, with its row of the table, its sizes and the ports of its sites."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leadline.errors import ArchitectureError, SiteError
from leadline.models.hooks import find_module
from leadline.models.patterns import FEATURES
from leadline.models.ports import Port
from leadline.models.row import Architecture, Tap
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.check import Proof

__all__ = ["Part", "n_inputs"]


class Part:
    """A stack of blocks: the whole of most models, one side of an encoder-decoder, one tower of several.

    Parameters
    ----------
    trunk : the model without its head.
    row : the row of the architecture table for this part.
    config : the model's config.

    Attributes
    ----------
    root : the module that is run to read this part.
    blocks : the list of blocks.
    config : the part's own config.
    n_layers, d_model, n_heads : sizes; `d_model` is that of the stream, as the last block's branches write it.
    proof : what was found true at load; None until it is proved.

    Raises
    ------
    ArchitectureError : a module of the row is not there.
    """

    def __init__(self, trunk: nn.Module, row: Architecture, config: Any) -> None:
        self.row = row
        # A tower that is loaded by itself, as in a WhisperEncoder, is its own root.
        alone = row.tower and not hasattr(trunk, row.tower) and hasattr(trunk, row.blocks.split(".")[0])
        self.root = trunk if alone else find_module(trunk, row.tower)
        self.proof: Proof | None = None
        self.config = getattr(config, row.config) if row.config else config
        blocks = find_module(self.root, row.blocks)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            raise ArchitectureError(
                f"'{row.blocks}' of {type(self.root).__name__} holds no list of blocks, as its row '{row.name}' says "
                f"it does."
            )
        self.blocks: nn.ModuleList = blocks
        self.n_layers = len(blocks)
        self.d_model = int(self.config.hidden_size)
        self.n_heads = int(getattr(self.config, row.n_heads, 0) or 0)
        self._taps = [self._taps_of(block) for block in blocks]

    def _taps_of(self, block: nn.Module) -> dict[str, tuple[Tap, nn.Module]]:
        """The taps that a block has, with their modules."""
        found = {}
        for kind, tap in (*self.row.block_taps.items(), *self.row.places):
            try:
                found[kind] = (tap, find_module(block, tap.path))
            except ArchitectureError:
                if kind not in self.row.optional:
                    raise
        return found

    @property
    def name(self) -> str:
        """The part's name as it stands before a site, or `""`."""
        return self.row.part

    def takes(self, argument: str) -> bool:
        """Whether the part's root can be called with an argument of that name."""
        return argument in inspect.signature(self.root.forward).parameters

    @property
    def weights(self) -> torch.Tensor:
        """A weight of the first block: its device and dtype are where and in what the stream is computed."""
        return next(p for p in self.blocks.parameters() if p.is_floating_point())

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of site that some block has."""
        there = {kind for taps in self._taps for kind in taps}
        return tuple(k for k in self.row.kinds if k in there or k in ("embed", "final_norm"))

    def block_ports(self, layer: int) -> dict[str, Port]:
        """The ports of one block by kind, places that are no site among them; `head_out` is the whole projection."""
        return {kind: self._port(kind, layer) for kind in self._taps[layer]}

    def has(self, site: Site) -> bool:
        """Whether this part has the site; its layer must be one of the part's."""
        return site.layer is None or site.kind in self._taps[site.layer]

    def width(self, site: Site) -> int:
        """The number of dimensions at a site of this part."""
        if site.kind == "mlp_hidden":
            assert site.layer is not None
            return n_inputs(self._taps[site.layer]["mlp_hidden"][1])
        if site.kind == "attn_pattern":
            return self.n_heads * len(FEATURES)
        return self.d_model

    def port(self, site: Site) -> Port:
        """Where a site of this part is found.

        Raises
        ------
        SiteError : this part does not have it.
        """
        if site.kind == "embed":
            return Port(self.blocks[0], "input")
        if site.kind == "final_norm":
            return Port(find_module(self.root, self.row.final_norm))
        if site.layer is None or site.kind not in self._taps[site.layer]:
            raise SiteError(f"'{self.row.name}' has no '{site.name}'.")
        return self._port(site.kind, site.layer, site.head)

    def _port(self, kind: str, layer: int, head: int | None = None) -> Port:
        tap, module = self._taps[layer][kind]
        columns = None
        if head is not None:
            width = n_inputs(module)
            if width % self.n_heads:
                raise SiteError(f"the {width} inputs of {tap.path} are no multiple of {self.n_heads} heads.")
            size = width // self.n_heads
            columns = (head * size, (head + 1) * size)
            # A head's share of what attention adds, where a multiplier stands between.
            tap = Tap(tap.path, tap.end, scale=self._head_scale())
        return Port(
            module=module,
            end=tap.end,
            item=tap.item,
            scale=float(getattr(self.config, tap.scale)) if tap.scale else 1.0,
            shared=tap.end == "input" and kind in ("resid_mid",),
            block=self.blocks[layer] if tap.flat else None,
            head=columns,
            pattern=kind == "attn_pattern",
        )

    def _head_scale(self) -> str:
        return self.row.attn_out.scale if self.row.attn_out is not None else ""


def n_inputs(module: nn.Module) -> int:
    """The width of what enters a projection."""
    if isinstance(module, nn.Linear):
        return module.in_features
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.ndim == 2:
        # transformers' Conv1D keeps (in, out).
        return int(weight.shape[0])
    raise ArchitectureError(f"{type(module).__name__} is no projection, so its inputs cannot be counted.")
