"""What a row of the architecture table says: taps, the residual equation, and where the parts of a model lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from leadline.sites import KINDS

__all__ = ["MIXED", "PARALLEL", "SEQUENTIAL", "Architecture", "Equation", "Sum", "Tap"]


@dataclass(frozen=True)
class Tap:
    """One end of a module.

    Parameters
    ----------
    path : the module's dotted path inside the block (inside the trunk for a model-wide site); `""` is the block itself.
    end : `"output"`, or `"input"`: its first argument.
    item : which entry, where the end is a tuple.
    scale : the attribute of the config that the block multiplies the tensor with before it adds it to the stream.
    flat : the tensor is (batch · seq, width) there, as OPT's MLP has it.
    """

    path: str
    end: str = "output"
    item: int = 0
    scale: str = ""
    flat: bool = False


class Sum(NamedTuple):
    """`whole` is the sum of `terms`; where `norm` names a module of the block, that norm of their sum (a post-norm).

    A name with a leading underscore is of a place that no site kind has; its tap is in `Architecture.places`.
    """

    whole: str
    terms: tuple[str, ...]
    norm: str = ""


@dataclass(frozen=True)
class Equation:
    """What a block adds to the residual stream.

    Parameters
    ----------
    name : as in `"sequential"` or `"parallel"`.
    sums : what is the sum of what, in the order of computation.
    """

    name: str
    sums: tuple[Sum, ...]

    @property
    def text(self) -> str:
        """The equation for a person, as in `"resid_post = resid_pre + attn_out + mlp_out"`."""
        parts = []
        for whole, terms, norm in self.sums:
            together = " + ".join(terms)
            if self.name == "hybrid":
                together = together.replace("attn_out + mixer_out", "(attn_out or mixer_out)")
            parts.append(f"{whole} = {f'norm({together})' if norm else together}")
        return "; ".join(parts).replace("_after_attention", "(after attention)")


def sequential(*attention: str, name: str = "sequential") -> Equation:
    """Attention (or what stands for it), then the MLP, each added to the stream."""
    return Equation(name, (Sum("resid_mid", ("resid_pre", *attention)), Sum("resid_post", ("resid_mid", "mlp_out"))))


SEQUENTIAL = sequential("attn_out")
# Blocks with attention beside blocks with a recurrent mixer.
MIXED = sequential("attn_out", "mixer_out", name="hybrid")
PARALLEL = Equation("parallel", (Sum("resid_post", ("resid_pre", "attn_out", "mlp_out")),))


def post_norm(first: str, second: str) -> Equation:
    """Each branch is added, then the sum is normalised, by the two modules of the block that are named."""
    return Equation(
        "post-norm",
        (Sum("resid_mid", ("resid_pre", "attn_out"), first), Sum("resid_post", ("resid_mid", "mlp_out"), second)),
    )


def _any(config: Any) -> bool:
    return True


@dataclass(frozen=True)
class Architecture:
    """One row of the table: a stack of blocks, of a whole model or of one part of it.

    `embed`, `resid_pre` and `resid_post` need no path of their own: they are what enters the first block, what
    enters a block and what leaves it. So `embed` holds whatever the model does to its embeddings first (positions,
    a scale, a norm).

    Parameters
    ----------
    name : for a person.
    model_types : the `model_type`s of transformers' configs that the row is for.
    equation : the residual equation of every block.
    attn_out, mixer_out, cross_out, mlp_out : where that which is *added* to the stream is found, after a post-norm if
        there is one; None where blocks have no such branch.
    resid_mid : where the stream that the MLP adds to is found; None where blocks have no such place.
    heads : the path of attention's output projection, whose input are the heads' z side by side; `""` for none.
    hidden : the path of the MLP's last projection, whose input are the neurons; `""` for none (experts in one tensor).
    pattern : where attention's weights (batch, heads, query, key) are found; None for none.
    flat_hidden : the neurons are (batch · seq, width) there.
    places : taps of places in the block that are no site, for the equation.
    optional : kinds that only some blocks have.
    blocks, final_norm : paths in the trunk to the list of blocks and to the norm after the last of them (`""`: none).
    causal : a token never sees what stands to its right, so padding there needs no mask.
    caches : what a prefix leaves behind is a key-value cache, from which several rows may go on.
    applies : narrows the row to some configs of its model types.
    n_heads : the config's attribute with the number of heads.
    part : the part's name as it stands before a site, `""` for a model of one part.
    tower : path in the trunk of the module that is run for this part; `""` for the trunk itself.
    config : the attribute of the config that holds this part's own, `""` for the config itself.
    inputs : what the part takes: `"text"`, `"image"`, `"audio"`, or `"image+text"`.
    hidden_states : transformers' `hidden_states` are the stream, so that they can be compared with.
    normed_last : the last of these stands after the final norm.
    n_special : positions before the patches of a picture (its class token and registers), as an attribute of the
        config or a number.
    """

    name: str
    model_types: tuple[str, ...]
    equation: Equation
    attn_out: Tap | None
    mlp_out: Tap | None
    resid_mid: Tap | None
    mixer_out: Tap | None = None
    cross_out: Tap | None = None
    heads: str = ""
    hidden: str = ""
    pattern: Tap | None = None
    flat_hidden: bool = False
    places: tuple[tuple[str, Tap], ...] = ()
    optional: tuple[str, ...] = ()
    blocks: str = "layers"
    final_norm: str = "norm"
    causal: bool = True
    caches: bool = True
    applies: Callable[[Any], bool] = field(default=_any, repr=False)
    n_heads: str = "num_attention_heads"
    part: str = ""
    tower: str = ""
    config: str = ""
    inputs: str = "text"
    hidden_states: bool = True
    normed_last: bool = True
    n_special: int = 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of site that the row offers, in the order of `leadline.sites.KINDS`."""
        taps = self.block_taps
        wide = ("embed", "final_norm") if self.final_norm else ("embed",)
        return tuple(kind for kind in KINDS if kind in taps or kind in wide)

    @property
    def block_taps(self) -> dict[str, Tap]:
        """Where each kind of site is found in a block. For `head_out` the output projection, which it is made from."""
        taps = {
            "resid_pre": Tap("", "input"),
            "attn_pattern": self.pattern,
            "head_out": Tap(self.heads, "input") if self.heads else None,
            "attn_out": self.attn_out,
            "mixer_out": self.mixer_out,
            "cross_out": self.cross_out,
            "resid_mid": self.resid_mid,
            "mlp_hidden": Tap(self.hidden, "input", flat=self.flat_hidden) if self.hidden else None,
            "mlp_out": self.mlp_out,
            "resid_post": Tap("", "output"),
        }
        return {kind: tap for kind, tap in taps.items() if tap is not None}

    def within(self, *, part: str, prefix: str, tower: str, config: str, name: str) -> Architecture:
        """The same stack as a part of a larger model, where it lies under `prefix` of the module that is run."""
        return replace(
            self,
            name=f"{name}: {self.name}",
            part=part,
            tower=tower,
            config=config,
            blocks=f"{prefix}{self.blocks}",
            final_norm=f"{prefix}{self.final_norm}" if self.final_norm else "",
        )
