"""Sites: named places in a model's computation, and the grammar that users write them in.

A site is written `KIND`, `KIND.LAYER` or `KIND.LAYER.HEAD`; the layer is the 0-based block. A pattern may hold `*`
for every layer (or head), a range `4-9` (both ends included) or a list `3,5,8`; several patterns are given as a list
or separated by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leadline.errors import SiteError, did_you_mean

__all__ = ["BLOCK_KINDS", "HEAD_KINDS", "KINDS", "MODEL_KINDS", "Site", "expand_sites"]

MODEL_KINDS = ("embed", "final_norm")
BLOCK_KINDS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_hidden")
HEAD_KINDS = ("head_out",)
KINDS = (*MODEL_KINDS, *BLOCK_KINDS, *HEAD_KINDS)

_WITHIN_BLOCK = {
    "resid_pre": 0,
    "head_out": 1,
    "attn_out": 2,
    "resid_mid": 3,
    "mlp_hidden": 4,
    "mlp_out": 5,
    "resid_post": 6,
}


@dataclass(frozen=True)
class Site:
    """A place in the computation.

    Parameters
    ----------
    kind : one of `KINDS`.
        `embed` is the residual stream that enters block 0; `final_norm` the output of the norm after the last
        block; `resid_pre`, `resid_mid`, `resid_post` the stream before, inside and after a block; `attn_out` and
        `mlp_out` what is *added* to the stream (after a post-norm, where the architecture has one).
    layer : the 0-based block, or None for a model-wide site.
    head : the 0-based attention head, for `head_out` alone.

    Raises
    ------
    SiteError : for an unknown kind, or a layer or head that the kind does not take.
    """

    kind: str
    layer: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SiteError(
                f"unknown site kind '{self.kind}'; known kinds: {', '.join(KINDS)}." + did_you_mean(self.kind, KINDS)
            )
        if (self.kind in MODEL_KINDS) != (self.layer is None):
            raise SiteError(
                f"'{self.kind}' takes no layer: write '{self.kind}'."
                if self.kind in MODEL_KINDS
                else f"'{self.kind}' needs a layer, as in '{self.kind}.8' or '{self.kind}.*'."
            )
        if (self.kind in HEAD_KINDS) != (self.head is not None):
            raise SiteError(
                f"'{self.kind}' needs a layer and a head, as in '{self.kind}.8.3'."
                if self.kind in HEAD_KINDS
                else f"'{self.kind}' takes no head: write '{self.kind}.{self.layer}'."
            )
        for name, value in (("layer", self.layer), ("head", self.head)):
            if value is not None and value < 0:
                raise SiteError(f"{name} {value} of '{self.kind}' is negative; {name}s count from 0.")

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read one site from its name, as in `Site.parse("resid_post.8")`."""
        if isinstance(text, Site):
            return text
        kind, *numbers = str(text).strip().split(".")
        if kind not in KINDS:
            raise SiteError(
                f"unknown site '{text}'; a site is KIND, KIND.LAYER or KIND.LAYER.HEAD with KIND one of "
                f"{', '.join(KINDS)}." + did_you_mean(kind, KINDS)
            )
        if len(numbers) > 2 or not all(re.fullmatch(r"\d+", x) for x in numbers):
            raise SiteError(f"'{text}' is not one site; expected KIND, KIND.LAYER or KIND.LAYER.HEAD in whole numbers.")
        return cls(kind, *(int(x) for x in numbers))

    @property
    def name(self) -> str:
        """The name, as `Site.parse` reads it."""
        return ".".join(str(x) for x in (self.kind, self.layer, self.head) if x is not None)

    @property
    def depth(self) -> tuple[float, int, int]:
        """A key that sorts sites in the order in which the model computes them."""
        if self.kind == "embed":
            return (-1.0, 0, 0)
        if self.kind == "final_norm":
            return (float("inf"), 0, 0)
        assert self.layer is not None
        return (float(self.layer), _WITHIN_BLOCK[self.kind], self.head or 0)

    def __str__(self) -> str:
        return self.name


def _numbers(part: str, limit: int, what: str, pattern: str) -> list[int]:
    if part == "*":
        return list(range(limit))
    found: list[int] = []
    for piece in part.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece.strip())
        if not match:
            raise SiteError(f"'{pattern}': cannot read {what} '{piece}'; write a number, 4-9, 3,5,8 or *.")
        low = int(match[1])
        high = int(match[2]) if match[2] else low
        if high < low:
            raise SiteError(f"'{pattern}': the range {low}-{high} runs backwards; write {high}-{low}.")
        found.extend(range(low, high + 1))
    bad = [x for x in found if x >= limit]
    if bad:
        raise SiteError(f"'{pattern}': {what} {bad[0]} does not exist; this model has {what}s 0 to {limit - 1}.")
    return found


def expand_sites(
    patterns: str | Site | Iterable[str | Site],
    *,
    n_layers: int,
    n_heads: int = 0,
    offered: Sequence[str] = KINDS,
) -> tuple[Site, ...]:
    """Expand site patterns for one model into distinct sites in the order of computation.

    Parameters
    ----------
    patterns : a pattern, several separated by spaces, or a list; as in `"embed resid_post.* final_norm"`.
    n_layers, n_heads : the model's size, to which `*` expands.
    offered : the kinds that the model's architecture offers.

    Raises
    ------
    SiteError : a pattern outside the grammar, a kind that is not offered, a layer that is not there, or none at all.
    """
    if isinstance(patterns, Site):
        items: list[str | Site] = [patterns]
    elif isinstance(patterns, str):
        items = list(patterns.split())
    else:
        items = [piece for p in patterns for piece in ([p] if isinstance(p, Site) else str(p).split())]
    if not items:
        raise SiteError("no sites were given; name at least one, as in 'resid_post.*'.")
    found: set[Site] = set()
    for item in items:
        text = item.name if isinstance(item, Site) else item
        kind, *parts = text.split(".")
        if kind not in KINDS:
            raise SiteError(
                f"unknown site '{text}'; known kinds: {', '.join(KINDS)} (a layer follows after a dot, as in "
                f"'resid_post.8' or 'resid_post.*')." + did_you_mean(kind, KINDS)
            )
        if kind not in offered:
            raise SiteError(f"'{text}': this model offers no '{kind}'; it offers {', '.join(offered)}.")
        if kind in MODEL_KINDS or not parts or len(parts) > (2 if kind in HEAD_KINDS else 1):
            found.add(Site.parse(text))
            continue
        layers = _numbers(parts[0], n_layers, "layer", text)
        if kind in HEAD_KINDS:
            if len(parts) == 1:
                raise SiteError(f"'{text}' needs a head too, as in '{text}.3' or '{text}.*'.")
            heads = _numbers(parts[1], n_heads, "head", text)
            found.update(Site(kind, layer, head) for layer in layers for head in heads)
        else:
            found.update(Site(kind, layer) for layer in layers)
    if not found:
        raise SiteError(
            f"'{' '.join(map(str, items))}' names no site of a model with {n_layers} layers, {n_heads} heads."
        )
    return tuple(sorted(found, key=lambda s: s.depth))
