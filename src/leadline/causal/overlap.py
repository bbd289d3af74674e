"""Which heads can write a direction: how much of it lies in what their output projections reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from scipy import stats

from leadline.causal.frozen import Frozen
from leadline.errors import CausalError
from leadline.evidence.multiplicity import benjamini_hochberg
from leadline.models.hooks import find_module
from leadline.models.part import Part, n_inputs
from leadline.models.ports import Port, projection_slice
from leadline.probes.probe import Probe
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["HeadOverlap", "head_overlap"]

_STREAM = ("resid_pre", "resid_mid", "resid_post", "final_norm")
# A singular value below this share of the largest is none.
_RANK = 1e-6


@dataclass(frozen=True, eq=False)
class HeadOverlap:
    """For each head, what of a direction it can write.

    Parameters
    ----------
    sites : H heads. rank : (H,) the dimensions that a head reaches.
    share : (H,) ‖Q Qᵀ v̂‖², Q an orthonormal basis of what the head reaches: 1 if it can write the direction exactly.
    p : (H,) the probability that a random direction has as large a share; over isotropic ones it is Beta(r/2, (d−r)/2).
    q : (H,) the same, adjusted for there being H heads (Benjamini-Hochberg).
    gain : (H,) ‖W_O v̂‖, how strongly a z of length 1 can score along the direction.
    p_gain : (H,) (1 + random directions with as large a gain) / (1 + n_random).
    """

    sites: tuple[Site, ...]
    rank: np.ndarray
    share: np.ndarray
    p: np.ndarray
    q: np.ndarray
    gain: np.ndarray
    p_gain: np.ndarray

    @property
    def table(self) -> pl.DataFrame:
        """A row a head, the largest share first."""
        frame = pl.DataFrame(
            {
                "head": [f"head {site.layer}.{site.head}" for site in self.sites],
                "rank": self.rank,
                "share": self.share,
                "p": self.p,
                "q": self.q,
                "gain": self.gain,
                "p_gain": self.p_gain,
            }
        )
        return frame.sort("share", descending=True)


def head_overlap(
    model: Model,
    vector: Probe | np.ndarray,
    *,
    site: str | Site | None = None,
    n_random: int = 999,
    seed: int = 0,
) -> HeadOverlap:
    """Compare a direction in the stream with the output subspace of each head that writes before it.

    A head's subspace is spanned by the rows of its slice of W_O, behind the norm (its gain, and its centring) and the
    multiplier that stand between it and the stream.

    Parameters
    ----------
    vector : (d,); of a probe its `direction`, so that the share is of what scores (`probe.pattern` is what is there).
    site : where it stands in the stream; heads of later blocks are left out. All heads without it. A direction behind
        the final norm is taken before it.
    n_random : isotropic random directions for `p_gain`.

    Raises
    ------
    CausalError : a model whose stream passes a norm in every block, one without heads that can be told apart, a site
        before every head, or a vector of another width.
    """
    where = vector.site if isinstance(vector, Probe) and site is None else site
    one = None if where is None else model.sites([where])[0]
    if one is not None and one.kind not in _STREAM:
        raise CausalError(f"'{one.name}' is not the stream that heads write into; give one of {', '.join(_STREAM)}.")
    part = model.part if one is None else model.parts[one.part]
    if any(line.norm for line in part.row.equation.sums):
        raise CausalError(
            f"the stream of '{part.row.name}' passes a norm in every block, so that what a head wrote does not stay "
            f"as it was; decompose() follows it through the norms."
        )
    v = np.asarray(vector.direction if isinstance(vector, Probe) else vector, dtype=np.float64)
    if v.shape != (part.d_model,) or not np.isfinite(v).all() or not v.any():
        raise CausalError(f"got a vector of shape {v.shape}; expected ({part.d_model},) finite numbers, not all 0.")
    if one is not None and one.kind == "final_norm":
        norm = find_module(part.root, part.row.final_norm)
        frozen = Frozen.of(norm, part.d_model, part.weights, "final norm")
        v = frozen.pull(torch.from_numpy(v)[None], torch.ones(1, 1))[0].numpy()
    heads = [(layer, port) for layer, port in _projections(part) if one is None or _stands_before(layer, one)]
    if not heads:
        raise CausalError(
            f"no head of '{part.row.name}' that can be told apart writes before {one.name if one else 'its end'}."
        )
    rng = np.random.default_rng([seed, 72])
    directions = np.concatenate([v[None], rng.standard_normal((n_random, part.d_model))])
    tried = torch.from_numpy(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    sites, found = [], []
    for layer, port in heads:
        behind = _behind(part, layer)
        size = n_inputs(port.module) // part.n_heads
        for head in range(part.n_heads):
            weight = projection_slice(port.module, head * size, (head + 1) * size).detach().to("cpu", torch.float64)
            sites.append(Site("head_out", layer, head, part.name))
            found.append(_of_head(behind(weight), tried))
    rank, share, gain, p_gain = (np.array(column) for column in zip(*found, strict=True))
    # Where a head reaches nothing, nothing is a surprise.
    p = np.where(rank > 0, stats.beta.sf(share, np.maximum(rank, 1) / 2, np.maximum(part.d_model - rank, 1) / 2), 1.0)
    return HeadOverlap(tuple(sites), rank, share, p, benjamini_hochberg(p), gain, p_gain)


def _of_head(weight: torch.Tensor, tried: torch.Tensor) -> tuple[int, float, float, float]:
    """Rank, share, gain and its p of one head, from its (width, d) slice as it stands before the stream."""
    _, values, basis = torch.linalg.svd(weight, full_matrices=False)
    rank = int((values > _RANK * values.max().clamp(min=1e-300)).sum())
    share = float((basis[:rank] @ tried[0]).square().sum()) if rank else 0.0
    gains = (tried @ weight.T).norm(dim=1)
    p = (1 + int((gains[1:] >= gains[0]).sum())) / len(gains)
    return rank, share, float(gains[0]), p


def _behind(part: Part, layer: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What becomes of a head's rows of W_O on their way into the stream."""
    port = part.block_ports(layer)["attn_out"]
    tap = part.row.attn_out
    assert tap is not None
    if f"{part.row.heads}.".startswith(f"{tap.path}."):
        return lambda weight: weight * port.scale
    frozen = Frozen.of(port.module, part.d_model, part.weights, f"{tap.path} of block {layer}")
    return lambda weight: frozen.push(weight) * port.scale


def _projections(part: Part) -> list[tuple[int, Port]]:
    found = []
    for layer in range(part.n_layers):
        port = part.block_ports(layer).get("head_out")
        weight = getattr(port.module, "weight", None) if port is not None else None
        if port is not None and isinstance(weight, torch.Tensor) and weight.ndim == 2:
            found.append((layer, port))
    return found


def _stands_before(layer: int, site: Site) -> bool:
    """Whether a block's heads write into a site."""
    if site.layer is None:
        return True
    return layer < site.layer or (layer == site.layer and site.kind != "resid_pre")
