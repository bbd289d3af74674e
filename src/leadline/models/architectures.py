"""The table of architectures: which module holds which site, and the equation that its blocks obey.

A row says where a site is tapped; it is believed only after `check.prove` has found its equation true on the loaded
model's own weights. To add an architecture, add a row to `ARCHITECTURES`; the more special row of a model type
stands before the more general one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from leadline.errors import ArchitectureError, did_you_mean
from leadline.sites import KINDS, Site

__all__ = ["ARCHITECTURES", "PARALLEL", "SEQUENTIAL", "Architecture", "Equation", "Tap", "find_architecture"]


@dataclass(frozen=True)
class Tap:
    """One end of a module.

    Parameters
    ----------
    path : the module's dotted path inside the block (inside the trunk for a model-wide site); `""` is the block itself.
    end : `"output"`, or `"input"`: its first argument. Of a tuple, the first entry.
    """

    path: str
    end: str = "output"


@dataclass(frozen=True)
class Equation:
    """What a block adds to the residual stream.

    Parameters
    ----------
    name : `"sequential"` or `"parallel"`.
    sums : pairs of a site kind and the kinds whose sum it is, in the order of computation.
    """

    name: str
    sums: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def text(self) -> str:
        """The equation for a person, as in `"resid_post = resid_pre + attn_out + mlp_out"`."""
        return "; ".join(f"{whole} = {' + '.join(terms)}" for whole, terms in self.sums)


SEQUENTIAL = Equation(
    "sequential", (("resid_mid", ("resid_pre", "attn_out")), ("resid_post", ("resid_mid", "mlp_out")))
)
PARALLEL = Equation("parallel", (("resid_post", ("resid_pre", "attn_out", "mlp_out")),))


def _any(config: Any) -> bool:
    return True


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    `embed`, `resid_pre` and `resid_post` need no path of their own: they are what enters the first block, what
    enters a block and what leaves it. So `embed` holds whatever the model does to its embeddings first (positions,
    a scale, a norm).

    Parameters
    ----------
    name : for a person.
    model_types : the `model_type`s of transformers' configs that the row is for.
    equation : the residual equation of every block.
    blocks, final_norm : paths in the trunk to the list of blocks and to the norm after the last of them.
    attn_out, mlp_out : where that which is *added* to the stream is found, after a post-norm if there is one.
    resid_mid : where the stream between attention and MLP is found; None where blocks have no such place.
    causal : a token never sees what stands to its right, so padding there needs no mask.
    applies : narrows the row to some configs of its model types.
    """

    name: str
    model_types: tuple[str, ...]
    equation: Equation
    attn_out: Tap
    mlp_out: Tap
    resid_mid: Tap | None
    blocks: str = "layers"
    final_norm: str = "norm"
    causal: bool = True
    applies: Callable[[Any], bool] = field(default=_any, repr=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of site that the row offers, in the order of `leadline.sites.KINDS`."""
        taps = self.block_taps
        return tuple(kind for kind in KINDS if kind in taps or kind in ("embed", "final_norm"))

    @property
    def block_taps(self) -> dict[str, Tap]:
        """Where each kind of site is found in a block."""
        taps = {
            "resid_pre": Tap("", "input"),
            "attn_out": self.attn_out,
            "resid_mid": self.resid_mid,
            "mlp_out": self.mlp_out,
            "resid_post": Tap("", "output"),
        }
        return {kind: tap for kind, tap in taps.items() if tap is not None}

    def tap(self, site: Site) -> Tap:
        """Where a site is found, as a path in the trunk.

        Raises
        ------
        KeyError : the row does not offer the site's kind.
        """
        if site.kind == "final_norm":
            return Tap(self.final_norm)
        if site.kind == "embed":
            return Tap(f"{self.blocks}.0", "input")
        tap = self.block_taps[site.kind]
        block = f"{self.blocks}.{site.layer}"
        return Tap(f"{block}.{tap.path}" if tap.path else block, tap.end)


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        name="Llama",
        model_types=("llama",),
        equation=SEQUENTIAL,
        attn_out=Tap("self_attn"),
        resid_mid=Tap("post_attention_layernorm", "input"),
        mlp_out=Tap("mlp"),
    ),
    Architecture(
        name="GPT-2",
        model_types=("gpt2",),
        equation=SEQUENTIAL,
        attn_out=Tap("attn"),
        resid_mid=Tap("ln_2", "input"),
        mlp_out=Tap("mlp"),
        blocks="h",
        final_norm="ln_f",
        # A GPT-2 made into the decoder of an encoder-decoder adds a third branch to its blocks.
        applies=lambda config: not getattr(config, "add_cross_attention", False),
    ),
    Architecture(
        name="GPT-NeoX (parallel)",
        model_types=("gpt_neox",),
        equation=PARALLEL,
        attn_out=Tap("attention"),
        resid_mid=None,
        mlp_out=Tap("mlp"),
        final_norm="final_layer_norm",
        applies=lambda config: bool(config.use_parallel_residual),
    ),
    Architecture(
        name="GPT-NeoX (sequential)",
        model_types=("gpt_neox",),
        equation=SEQUENTIAL,
        attn_out=Tap("attention"),
        resid_mid=Tap("post_attention_layernorm", "input"),
        mlp_out=Tap("mlp"),
        final_norm="final_layer_norm",
        applies=lambda config: not config.use_parallel_residual,
    ),
    Architecture(
        name="Gemma 2",
        model_types=("gemma2",),
        equation=SEQUENTIAL,
        attn_out=Tap("post_attention_layernorm"),
        resid_mid=Tap("pre_feedforward_layernorm", "input"),
        mlp_out=Tap("post_feedforward_layernorm"),
    ),
)


def find_architecture(config: Any) -> Architecture:
    """The row for a model's config.

    Raises
    ------
    ArchitectureError : the config names no `model_type`, or no row is for it.
    """
    known = tuple(dict.fromkeys(t for row in ARCHITECTURES for t in row.model_types))
    model_type = getattr(config, "model_type", None)
    if not model_type:
        raise ArchitectureError(
            "the model has no config with a model_type, which says where its residual stream runs; give a transformers "
            f"model of one of these types: {', '.join(known)}."
        )
    rows = [row for row in ARCHITECTURES if model_type in row.model_types]
    for row in rows:
        if row.applies(config):
            return row
    if rows:
        raise ArchitectureError(
            f"this '{model_type}' model is built in a way that Leadline does not know (its config fits none of the "
            f"rows {', '.join(repr(row.name) for row in rows)}), so its sites cannot be read."
        )
    raise ArchitectureError(
        f"Leadline does not know the architecture '{model_type}', so its sites cannot be read; known: "
        f"{', '.join(known)}." + did_you_mean(model_type, known) + " `leadline models --architectures` lists them."
    )
