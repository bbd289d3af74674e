"""Sites: named places in a model's computation, and the grammar that users write them in.

A site is written `KIND`, `KIND.LAYER` or `KIND.LAYER.HEAD`; the layer is the 0-based block. Where a model has several
parts, the part stands before it: `encoder:resid_post.3`, `vision:resid_post.3`. Any module of any model is
`module:PATH`, as in `module:layer4.1`. A pattern may hold `*` for every layer (or head), a range `4-9` (both ends
included) or a list `3,5,8`; several patterns are given as a list or separated by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leadline.errors import SiteError, did_you_mean

__all__ = ["BLOCK_KINDS", "HEAD_KINDS", "KINDS", "MODEL_KINDS", "PARTS", "Site", "expand_sites", "split_patterns"]

MODEL_KINDS = ("embed", "final_norm")
BLOCK_KINDS = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mixer_out",
    "cross_out",
    "mlp_out",
    "mlp_hidden",
    "attn_pattern",
)
HEAD_KINDS = ("head_out",)
KINDS = (*MODEL_KINDS, *BLOCK_KINDS, *HEAD_KINDS)
# The parts that a model may have, in the order of computation.
PARTS = ("vision", "audio", "encoder", "text", "decoder")

_WITHIN_BLOCK = {
    "resid_pre": 0,
    "attn_pattern": 1,
    "head_out": 2,
    "attn_out": 3,
    "mixer_out": 3,
    "cross_out": 4,
    "resid_mid": 5,
    "mlp_hidden": 6,
    "mlp_out": 7,
    "resid_post": 8,
}
_MODULE = "module"


@dataclass(frozen=True)
class Site:
    """A place in the computation.

    Parameters
    ----------
    kind : one of `KINDS`, or `"module"`.
        `embed` is the residual stream that enters block 0; `final_norm` the output of the norm after the last
        block; `resid_pre`, `resid_mid`, `resid_post` the stream before, inside and after a block (`resid_mid` is what
        the MLP adds to); `attn_out`, `cross_out` and `mlp_out` what attention, cross-attention and the MLP *add* to the
        stream (after a post-norm or a multiplier, where the architecture has one); `mixer_out` the same of a
        state-space or recurrent mixer; `head_out` one head's z times its slice of W_O; `mlp_hidden` the neurons after
        the nonlinearity; `attn_pattern` summaries of every head's attention (`leadline.models.patterns`).
    layer : the 0-based block, or None for a model-wide site.
    head : the 0-based attention head, for `head_out` alone.
    part : one of `PARTS` for a model of several parts, else `""`.
    path : the dotted path of the module, for `"module"` alone.

    Raises
    ------
    SiteError : for an unknown kind or part, or a layer or head that the kind does not take.
    """

    kind: str
    layer: int | None = None
    head: int | None = None
    part: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        if self.kind == _MODULE:
            self._check_module()
            return
        if self.kind not in KINDS:
            raise SiteError(
                f"unknown site kind '{self.kind}'; known kinds: {', '.join(KINDS)}." + did_you_mean(self.kind, KINDS)
            )
        if self.part and self.part not in PARTS:
            raise SiteError(f"unknown part '{self.part}'; known: {', '.join(PARTS)}." + did_you_mean(self.part, PARTS))
        if self.path:
            raise SiteError(f"'{self.kind}' takes no module path; write 'module:{self.path}' for that module.")
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

    def _check_module(self) -> None:
        if not re.fullmatch(r"\w+(\.\w+)*", self.path):
            raise SiteError(
                f"'module:{self.path}' names no module; give its dotted path, as in 'module:layer4.1' (the names are "
                f"those of named_modules())."
            )
        if self.layer is not None or self.head is not None or self.part:
            raise SiteError(f"'module:{self.path}' takes no layer, head or part beside its path.")

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read one site from its name, as in `Site.parse("resid_post.8")`."""
        if isinstance(text, Site):
            return text
        part, rest = _split_part(str(text).strip())
        if part == _MODULE:
            return cls(_MODULE, path=rest)
        kind, *numbers = rest.split(".")
        if kind not in KINDS:
            raise SiteError(
                f"unknown site '{text}'; a site is KIND, KIND.LAYER or KIND.LAYER.HEAD with KIND one of "
                f"{', '.join(KINDS)}, or module:PATH." + did_you_mean(kind, KINDS)
            )
        if len(numbers) > 2 or not all(re.fullmatch(r"\d+", x) for x in numbers):
            raise SiteError(f"'{text}' is not one site; expected KIND, KIND.LAYER or KIND.LAYER.HEAD in whole numbers.")
        layer, head = [*(int(x) for x in numbers), None, None][:2]
        return cls(kind, layer, head, part)

    @property
    def name(self) -> str:
        """The name, as `Site.parse` reads it."""
        if self.kind == _MODULE:
            return f"{_MODULE}:{self.path}"
        name = ".".join(str(x) for x in (self.kind, self.layer, self.head) if x is not None)
        return f"{self.part}:{name}" if self.part else name

    @property
    def depth(self) -> tuple[int, float, int, int, tuple[tuple[int, str], ...]]:
        """A key that sorts sites in the order in which the model computes them; modules come last, by their names."""
        rank = PARTS.index(self.part) if self.part else len(PARTS)
        if self.kind == _MODULE:
            names = tuple((int(x), "") if x.isdigit() else (-1, x) for x in self.path.split("."))
            return (len(PARTS) + 1, 0.0, 0, 0, names)
        if self.kind == "embed":
            return (rank, -1.0, 0, 0, ())
        if self.kind == "final_norm":
            return (rank, float("inf"), 0, 0, ())
        assert self.layer is not None
        return (rank, float(self.layer), _WITHIN_BLOCK[self.kind], self.head or 0, ())

    def __str__(self) -> str:
        return self.name


def _split_part(text: str) -> tuple[str, str]:
    """The part before a colon (`""` where there is none) and the rest."""
    part, colon, rest = text.partition(":")
    return (part, rest) if colon else ("", text)


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
    has: Callable[[Site], bool] | None = None,
) -> tuple[Site, ...]:
    """Expand site patterns for one model into distinct sites in the order of computation.

    Parameters
    ----------
    patterns : a pattern, several separated by spaces, or a list; as in `"embed resid_post.* final_norm"`.
    n_layers, n_heads : the model's size, to which `*` expands.
    offered : the kinds that the model's architecture offers.
    has : whether a layer has a site of a kind that not every layer has; `*` leaves out those that have not.

    Raises
    ------
    SiteError : a pattern outside the grammar, a kind that is not offered, a layer that is not there, or none at all.
    """
    found: set[Site] = set()
    for text in split_patterns(patterns):
        part, rest = _split_part(text)
        if part == _MODULE:
            found.add(Site(_MODULE, path=rest))
            continue
        kind, *parts = rest.split(".")
        if kind not in KINDS:
            raise SiteError(
                f"unknown site '{text}'; known kinds: {', '.join(KINDS)} (a layer follows after a dot, as in "
                f"'resid_post.8' or 'resid_post.*'), or module:PATH." + did_you_mean(kind, KINDS)
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
            wanted = [Site(kind, layer, head, part) for layer in layers for head in heads]
        else:
            wanted = [Site(kind, layer, part=part) for layer in layers]
        there = [site for site in wanted if has is None or has(site)]
        absent = [site for site in wanted if site not in there]
        if absent and (not there or "*" not in parts[0]):
            raise SiteError(f"'{text}': this model has no '{absent[0].name}': that block is built without it.")
        found.update(there)
    if not found:
        raise SiteError(
            f"'{' '.join(split_patterns(patterns))}' names no site of a model with {n_layers} layers, {n_heads} heads."
        )
    return tuple(sorted(found, key=lambda s: s.depth))


def split_patterns(patterns: str | Site | Iterable[str | Site]) -> list[str]:
    """Patterns one by one, as text.

    Raises
    ------
    SiteError : there is none.
    """
    given = [patterns] if isinstance(patterns, (str, Site)) else list(patterns)
    found = [piece for p in given for piece in ([p.name] if isinstance(p, Site) else str(p).split())]
    if not found:
        raise SiteError("no sites were given; name at least one, as in 'resid_post.*'.")
    return found
