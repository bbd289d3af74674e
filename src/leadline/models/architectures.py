"""The table of architectures: which module holds which site, and the equation that its blocks obey.

A row says where a site is tapped; it is believed only after `check.prove` has found its equation true on the loaded
model's own weights. To add an architecture, add a row to `ARCHITECTURES`; the more special row of a model type
stands before the more general one. A model of several parts has a row for each, or an entry in `COMPOSITES`, which
puts the rows of its parts' own model types together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from leadline.errors import ArchitectureError, did_you_mean
from leadline.models.row import (
    MIXED,
    PARALLEL,
    SEQUENTIAL,
    Architecture,
    Equation,
    Sum,
    Tap,
    post_norm,
    sequential,
)

__all__ = [
    "ARCHITECTURES",
    "COMPOSITES",
    "PARALLEL",
    "SEQUENTIAL",
    "Architecture",
    "Equation",
    "Tap",
    "find_architecture",
    "find_architectures",
    "known_types",
]


def _mid(path: str) -> Tap:
    return Tap(path, "input")


# ---- decoders with norms before the branches: the shape that most of today's share

_LLAMA = Architecture(
    name="Llama",
    model_types=("llama",),
    equation=SEQUENTIAL,
    attn_out=Tap("self_attn"),
    resid_mid=_mid("post_attention_layernorm"),
    mlp_out=Tap("mlp"),
    heads="self_attn.o_proj",
    hidden="mlp.down_proj",
    pattern=Tap("self_attn", item=1),
)


def _llama(name: str, *model_types: str, **changes: Any) -> Architecture:
    return replace(_LLAMA, name=name, model_types=model_types, **changes)


_DECODERS = (
    _LLAMA,
    _llama("Mistral", "mistral", "ministral"),
    # Experts are slices of one tensor: there is no module whose input are a token's neurons.
    _llama("Mixtral", "mixtral", hidden=""),
    _llama("Qwen2", "qwen2"),
    _llama("Qwen2-MoE", "qwen2_moe", optional=("mlp_hidden",)),
    _llama("Qwen3", "qwen3"),
    _llama("Qwen3-MoE", "qwen3_moe", optional=("mlp_hidden",)),
    _llama("Gemma", "gemma"),
    _llama("OLMo", "olmo"),
    _llama("SmolLM3", "smollm3"),
    _llama("DeepSeek-V3", "deepseek_v3", optional=("mlp_hidden",)),
    _llama("GPT-OSS", "gpt_oss", hidden=""),
    _llama(
        "Granite",
        "granite",
        attn_out=Tap("self_attn", scale="residual_multiplier"),
        mlp_out=Tap("mlp", scale="residual_multiplier"),
    ),
    _llama(
        "Granite-MoE",
        "granitemoe",
        attn_out=Tap("self_attn", scale="residual_multiplier"),
        mlp_out=Tap("block_sparse_moe", scale="residual_multiplier"),
        hidden="",
    ),
    _llama("Qwen2-VL text", "qwen2_vl_text"),
    _llama(
        "OLMo 2",
        "olmo2",
        "olmo3",
        attn_out=Tap("post_attention_layernorm"),
        resid_mid=_mid("mlp"),
        mlp_out=Tap("post_feedforward_layernorm"),
    ),
    _llama(
        "Gemma 2",
        "gemma2",
        attn_out=Tap("post_attention_layernorm"),
        resid_mid=_mid("pre_feedforward_layernorm"),
        mlp_out=Tap("post_feedforward_layernorm"),
    ),
    _llama(
        "Gemma 3",
        "gemma3_text",
        attn_out=Tap("post_attention_layernorm"),
        resid_mid=_mid("pre_feedforward_layernorm"),
        mlp_out=Tap("post_feedforward_layernorm"),
        applies=lambda config: not getattr(config, "use_bidirectional_attention", False),
    ),
    _llama(
        "Gemma 3 (embedding)",
        "gemma3_text",
        attn_out=Tap("post_attention_layernorm"),
        resid_mid=_mid("pre_feedforward_layernorm"),
        mlp_out=Tap("post_feedforward_layernorm"),
        causal=False,
        caches=False,
        applies=lambda config: bool(getattr(config, "use_bidirectional_attention", False)),
    ),
    _llama("Phi-3", "phi3"),
    _llama(
        "Phi",
        "phi",
        equation=PARALLEL,
        resid_mid=None,
        heads="self_attn.dense",
        hidden="mlp.fc2",
        final_norm="final_layernorm",
    ),
    _llama("Cohere", "cohere", "cohere2", equation=PARALLEL, resid_mid=None),
    _llama(
        "StableLM (parallel)",
        "stablelm",
        equation=PARALLEL,
        resid_mid=None,
        applies=lambda config: bool(config.use_parallel_residual),
    ),
    _llama("StableLM", "stablelm", applies=lambda config: not config.use_parallel_residual),
    Architecture(
        name="GPT-2",
        model_types=("gpt2",),
        equation=SEQUENTIAL,
        attn_out=Tap("attn"),
        resid_mid=_mid("ln_2"),
        mlp_out=Tap("mlp"),
        heads="attn.c_proj",
        hidden="mlp.c_proj",
        pattern=Tap("attn", item=1),
        blocks="h",
        final_norm="ln_f",
        # A GPT-2 made into the decoder of an encoder-decoder adds a third branch to its blocks.
        applies=lambda config: not getattr(config, "add_cross_attention", False),
    ),
    Architecture(
        name="GPT-J",
        model_types=("gptj",),
        equation=PARALLEL,
        attn_out=Tap("attn"),
        resid_mid=None,
        mlp_out=Tap("mlp"),
        heads="attn.out_proj",
        hidden="mlp.fc_out",
        pattern=Tap("attn", item=1),
        blocks="h",
        final_norm="ln_f",
    ),
    Architecture(
        name="GPT-Neo",
        model_types=("gpt_neo",),
        equation=SEQUENTIAL,
        attn_out=Tap("attn"),
        resid_mid=_mid("ln_2"),
        mlp_out=Tap("mlp"),
        heads="attn.attention.out_proj",
        hidden="mlp.c_proj",
        pattern=Tap("attn", item=1),
        blocks="h",
        final_norm="ln_f",
    ),
    Architecture(
        name="GPT-NeoX (parallel)",
        model_types=("gpt_neox",),
        equation=PARALLEL,
        attn_out=Tap("attention"),
        resid_mid=None,
        mlp_out=Tap("mlp"),
        heads="attention.dense",
        hidden="mlp.dense_4h_to_h",
        pattern=Tap("attention", item=1),
        final_norm="final_layer_norm",
        applies=lambda config: bool(config.use_parallel_residual),
    ),
    Architecture(
        name="GPT-NeoX (sequential)",
        model_types=("gpt_neox",),
        equation=SEQUENTIAL,
        attn_out=Tap("attention"),
        resid_mid=_mid("post_attention_layernorm"),
        mlp_out=Tap("mlp"),
        heads="attention.dense",
        hidden="mlp.dense_4h_to_h",
        pattern=Tap("attention", item=1),
        final_norm="final_layer_norm",
        applies=lambda config: not config.use_parallel_residual,
    ),
    Architecture(
        name="OPT",
        model_types=("opt",),
        equation=SEQUENTIAL,
        attn_out=Tap("self_attn"),
        resid_mid=Tap("final_layer_norm", "input", flat=True),
        mlp_out=Tap("fc2", flat=True),
        heads="self_attn.out_proj",
        hidden="fc2",
        flat_hidden=True,
        pattern=Tap("self_attn", item=1),
        blocks="decoder.layers",
        final_norm="decoder.final_layer_norm",
        applies=lambda config: config.do_layer_norm_before and not getattr(config, "_remove_final_layer_norm", False),
    ),
    Architecture(
        name="OPT (post-norm)",
        model_types=("opt",),
        equation=post_norm("self_attn_layer_norm", "final_layer_norm"),
        attn_out=Tap("self_attn"),
        resid_mid=Tap("self_attn_layer_norm"),
        mlp_out=Tap("fc2", flat=True),
        heads="self_attn.out_proj",
        hidden="fc2",
        flat_hidden=True,
        pattern=Tap("self_attn", item=1),
        blocks="decoder.layers",
        final_norm="",
        applies=lambda config: not config.do_layer_norm_before,
    ),
    Architecture(
        name="BLOOM",
        model_types=("bloom",),
        equation=SEQUENTIAL,
        # Attention and the MLP add the stream themselves, so what they add is their last projection's output.
        attn_out=Tap("self_attention.dense"),
        resid_mid=_mid("post_attention_layernorm"),
        mlp_out=Tap("mlp.dense_4h_to_h"),
        heads="self_attention.dense",
        hidden="mlp.dense_4h_to_h",
        pattern=Tap("self_attention", item=1),
        blocks="h",
        final_norm="ln_f",
        applies=lambda config: not config.apply_residual_connection_post_layernorm,
    ),
    Architecture(
        name="Falcon (parallel)",
        model_types=("falcon",),
        equation=PARALLEL,
        attn_out=Tap("self_attention"),
        resid_mid=None,
        mlp_out=Tap("mlp"),
        heads="self_attention.dense",
        hidden="mlp.dense_4h_to_h",
        # Its fast attention never holds the weights, and cannot be changed once built.
        pattern=None,
        blocks="h",
        final_norm="ln_f",
        applies=lambda config: config.new_decoder_architecture or config.parallel_attn,
    ),
    Architecture(
        name="Falcon (sequential)",
        model_types=("falcon",),
        equation=SEQUENTIAL,
        attn_out=Tap("self_attention"),
        resid_mid=_mid("post_attention_layernorm"),
        mlp_out=Tap("mlp"),
        heads="self_attention.dense",
        hidden="mlp.dense_4h_to_h",
        # Its fast attention never holds the weights, and cannot be changed once built.
        pattern=None,
        blocks="h",
        final_norm="ln_f",
        applies=lambda config: not (config.new_decoder_architecture or config.parallel_attn),
    ),
)

# ---- recurrent mixers, alone and beside attention

_MIXERS = (
    Architecture(
        name="Mamba",
        model_types=("mamba", "mamba2"),
        equation=Equation("recurrent", (Sum("resid_post", ("resid_pre", "mixer_out")),)),
        attn_out=None,
        mixer_out=Tap("mixer"),
        resid_mid=None,
        mlp_out=None,
        final_norm="norm_f",
        caches=False,
        n_heads="",
        # transformers lists what leaves each block, from the first on.
        hidden_states=False,
    ),
    Architecture(
        name="Jamba",
        model_types=("jamba",),
        equation=MIXED,
        attn_out=Tap("self_attn"),
        mixer_out=Tap("mamba"),
        resid_mid=_mid("pre_ff_layernorm"),
        mlp_out=Tap("feed_forward"),
        heads="self_attn.o_proj",
        hidden="feed_forward.down_proj",
        pattern=Tap("self_attn", item=1),
        optional=("attn_out", "mixer_out", "head_out", "attn_pattern", "mlp_hidden"),
        final_norm="final_layernorm",
        caches=False,
    ),
    Architecture(
        name="Granite 4 (hybrid)",
        model_types=("granitemoehybrid",),
        equation=MIXED,
        attn_out=Tap("self_attn", scale="residual_multiplier"),
        mixer_out=Tap("mamba", scale="residual_multiplier"),
        resid_mid=_mid("post_attention_layernorm"),
        # With experts, what is added is the sum of two modules, and no module's output.
        mlp_out=Tap("shared_mlp", scale="residual_multiplier"),
        heads="self_attn.o_proj",
        hidden="shared_mlp.output_linear",
        pattern=Tap("self_attn", item=1),
        optional=("attn_out", "mixer_out", "head_out", "attn_pattern"),
        caches=False,
        applies=lambda config: not getattr(config, "num_local_experts", 0),
    ),
)

_HYBRID = _MIXERS[1]
_HYBRIDS = (
    replace(_HYBRID, name="Bamba", model_types=("bamba",)),
    replace(
        _HYBRID,
        name="Falcon-H1",
        model_types=("falcon_h1",),
        # Both in every block, side by side.
        equation=sequential("attn_out", "mixer_out", name="attention and mixer"),
        attn_out=Tap("self_attn", scale="attention_out_multiplier"),
        mixer_out=Tap("mamba", scale="ssm_out_multiplier"),
        # A multiplier stands between the last projection and what is added.
        hidden="",
        optional=(),
    ),
    replace(
        _HYBRID,
        name="LFM2",
        model_types=("lfm2",),
        mixer_out=Tap("conv"),
        resid_mid=_mid("ffn_norm"),
        heads="self_attn.out_proj",
        hidden="feed_forward.w2",
        final_norm="embedding_norm",
    ),
    replace(
        _HYBRID,
        name="Qwen3-Next",
        model_types=("qwen3_next",),
        mixer_out=Tap("linear_attn"),
        resid_mid=_mid("post_attention_layernorm"),
        mlp_out=Tap("mlp"),
        hidden="mlp.down_proj",
        final_norm="norm",
    ),
)

# ---- encoders

_BERT = Architecture(
    name="BERT",
    model_types=("bert",),
    equation=post_norm("attention.output.LayerNorm", "output.LayerNorm"),
    attn_out=Tap("attention.output.dense"),
    resid_mid=Tap("attention.output.LayerNorm"),
    mlp_out=Tap("output.dense"),
    heads="attention.output.dense",
    hidden="output.dense",
    pattern=Tap("attention", item=1),
    blocks="encoder.layer",
    final_norm="",
    causal=False,
    applies=lambda config: not getattr(config, "is_decoder", False),
)

_ENCODERS = (
    _BERT,
    replace(_BERT, name="RoBERTa", model_types=("roberta", "xlm-roberta", "camembert")),
    replace(_BERT, name="ELECTRA", model_types=("electra",)),
    replace(
        _BERT,
        name="DeBERTa-v2",
        model_types=("deberta-v2",),
        # A convolution beside the first block adds to its output outside of it.
        applies=lambda config: not getattr(config, "conv_kernel_size", 0),
        pattern=None,
    ),
    Architecture(
        name="DistilBERT",
        model_types=("distilbert",),
        equation=post_norm("sa_layer_norm", "output_layer_norm"),
        attn_out=Tap("attention"),
        resid_mid=Tap("sa_layer_norm"),
        mlp_out=Tap("ffn"),
        heads="attention.out_lin",
        hidden="ffn.lin2",
        pattern=Tap("attention", item=1),
        blocks="transformer.layer",
        final_norm="",
        causal=False,
    ),
    Architecture(
        name="ModernBERT",
        model_types=("modernbert",),
        equation=SEQUENTIAL,
        attn_out=Tap("attn"),
        resid_mid=_mid("mlp_norm"),
        mlp_out=Tap("mlp"),
        heads="attn.Wo",
        hidden="mlp.Wo",
        pattern=Tap("attn", item=1),
        final_norm="final_norm",
        causal=False,
    ),
)

# ---- encoder-decoders: a site names its side

_BART_ENCODER = Architecture(
    name="BART: encoder",
    model_types=("bart",),
    equation=post_norm("self_attn_layer_norm", "final_layer_norm"),
    attn_out=Tap("self_attn"),
    resid_mid=Tap("self_attn_layer_norm"),
    mlp_out=Tap("fc2"),
    heads="self_attn.out_proj",
    hidden="fc2",
    pattern=Tap("self_attn", item=1),
    final_norm="",
    causal=False,
    n_heads="encoder_attention_heads",
    part="encoder",
    tower="encoder",
)

_T5_ENCODER = Architecture(
    name="T5: encoder",
    model_types=("t5",),
    equation=SEQUENTIAL,
    attn_out=Tap("layer.0.SelfAttention"),
    resid_mid=Tap("layer.1.layer_norm", "input"),
    mlp_out=Tap("layer.1.DenseReluDense"),
    heads="layer.0.SelfAttention.o",
    hidden="layer.1.DenseReluDense.wo",
    pattern=Tap("layer.0.SelfAttention", item=2),
    blocks="block",
    final_norm="final_layer_norm",
    causal=False,
    n_heads="num_heads",
    part="encoder",
    tower="encoder",
)

_MBART_ENCODER = replace(
    _BART_ENCODER,
    name="mBART: encoder",
    model_types=("mbart",),
    equation=SEQUENTIAL,
    resid_mid=_mid("final_layer_norm"),
    final_norm="layer_norm",
)

_SIDES = (
    _T5_ENCODER,
    replace(
        _T5_ENCODER,
        name="T5: decoder",
        equation=sequential("attn_out", "cross_out"),
        cross_out=Tap("layer.1.EncDecAttention"),
        resid_mid=Tap("layer.2.layer_norm", "input"),
        mlp_out=Tap("layer.2.DenseReluDense"),
        hidden="layer.2.DenseReluDense.wo",
        blocks="decoder.block",
        final_norm="decoder.final_layer_norm",
        part="decoder",
        tower="",
    ),
    _BART_ENCODER,
    replace(
        _BART_ENCODER,
        name="BART: decoder",
        equation=Equation(
            "post-norm",
            (
                Sum("_after_attention", ("resid_pre", "attn_out"), "self_attn_layer_norm"),
                Sum("resid_mid", ("_after_attention", "cross_out"), "encoder_attn_layer_norm"),
                Sum("resid_post", ("resid_mid", "mlp_out"), "final_layer_norm"),
            ),
        ),
        places=(("_after_attention", Tap("self_attn_layer_norm")),),
        cross_out=Tap("encoder_attn"),
        resid_mid=Tap("encoder_attn_layer_norm"),
        blocks="decoder.layers",
        n_heads="decoder_attention_heads",
        part="decoder",
        tower="",
    ),
    _MBART_ENCODER,
    replace(
        _MBART_ENCODER,
        name="mBART: decoder",
        equation=sequential("attn_out", "cross_out"),
        cross_out=Tap("encoder_attn"),
        blocks="decoder.layers",
        final_norm="decoder.layer_norm",
        n_heads="decoder_attention_heads",
        part="decoder",
        tower="",
    ),
    replace(_MBART_ENCODER, name="Whisper: encoder", model_types=("whisper",), inputs="audio", n_special=0),
)

# ---- pictures

_CLIP = Architecture(
    name="CLIP vision",
    model_types=("clip_vision_model",),
    equation=SEQUENTIAL,
    attn_out=Tap("self_attn"),
    resid_mid=_mid("layer_norm2"),
    mlp_out=Tap("mlp"),
    heads="self_attn.out_proj",
    hidden="mlp.fc2",
    pattern=Tap("self_attn", item=1),
    blocks="encoder.layers",
    # CLIP's norm after the last block sees the class token alone.
    final_norm="",
    causal=False,
    inputs="image",
)

_VISION = (
    Architecture(
        name="ViT",
        model_types=("vit",),
        equation=SEQUENTIAL,
        attn_out=Tap("attention"),
        resid_mid=_mid("layernorm_after"),
        mlp_out=Tap("mlp"),
        heads="attention.o_proj",
        hidden="mlp.fc2",
        pattern=Tap("attention", item=1),
        final_norm="layernorm",
        causal=False,
        inputs="image",
        normed_last=False,
    ),
    Architecture(
        name="DINOv2",
        model_types=("dinov2",),
        equation=SEQUENTIAL,
        attn_out=Tap("layer_scale1"),
        resid_mid=_mid("norm2"),
        mlp_out=Tap("layer_scale2"),
        heads="attention.o_proj",
        hidden="mlp.fc2",
        pattern=Tap("attention", item=1),
        blocks="encoder.layer",
        final_norm="layernorm",
        causal=False,
        inputs="image",
        normed_last=False,
        applies=lambda config: not config.use_swiglu_ffn,
    ),
    Architecture(
        name="DINOv2 (SwiGLU)",
        model_types=("dinov2",),
        equation=SEQUENTIAL,
        attn_out=Tap("layer_scale1"),
        resid_mid=_mid("norm2"),
        mlp_out=Tap("layer_scale2"),
        heads="attention.o_proj",
        hidden="mlp.down_proj",
        pattern=Tap("attention", item=1),
        blocks="encoder.layer",
        final_norm="layernorm",
        causal=False,
        inputs="image",
        normed_last=False,
        applies=lambda config: bool(config.use_swiglu_ffn),
    ),
    _CLIP,
    replace(
        _CLIP,
        name="CLIP text",
        model_types=("clip_text_model",),
        causal=True,
        caches=False,
        inputs="text",
        final_norm="final_layer_norm",
        normed_last=False,
    ),
    replace(
        _CLIP,
        name="SigLIP vision",
        model_types=("siglip_vision_model",),
        final_norm="post_layernorm",
        normed_last=False,
        n_special=0,
    ),
    replace(
        _CLIP,
        name="SigLIP text",
        model_types=("siglip_text_model",),
        inputs="text",
        final_norm="final_layer_norm",
        normed_last=False,
    ),
)

ARCHITECTURES: tuple[Architecture, ...] = (*_DECODERS, *_MIXERS, *_HYBRIDS, *_ENCODERS, *_SIDES, *_VISION)

# Model types made of parts with model types of their own: for each part its name, the attribute of the config that is
# its own config, the module that is run for it, and where its stack lies in that module.
COMPOSITES: Mapping[str, tuple[str, tuple[tuple[str, str, str, str], ...]]] = {
    "clip": ("CLIP", (("vision", "vision_config", "vision_model", ""), ("text", "text_config", "text_model", ""))),
    "siglip": ("SigLIP", (("vision", "vision_config", "vision_model", ""), ("text", "text_config", "text_model", ""))),
    "llava": ("LLaVA", (("", "text_config", "", "language_model."), ("vision", "vision_config", "vision_tower", ""))),
    "qwen2_vl": ("Qwen2-VL", (("", "text_config", "", "language_model."),)),
    "gemma3": (
        "Gemma 3",
        (("", "text_config", "", "language_model."), ("vision", "vision_config", "vision_tower", "")),
    ),
}


def known_types() -> tuple[str, ...]:
    """Every model type of the table, by its name."""
    return tuple(sorted({t for row in ARCHITECTURES for t in row.model_types} | set(COMPOSITES)))


def find_architectures(config: Any) -> tuple[Architecture, ...]:
    """The rows for a model's config, one a part; the first is the part that the model is mostly used for.

    Raises
    ------
    ArchitectureError : the config names no `model_type`, or no row is for it.
    """
    model_type = str(getattr(config, "model_type", ""))
    if model_type in COMPOSITES:
        name, parts = COMPOSITES[model_type]
        found = []
        for part, attribute, tower, prefix in parts:
            own = find_architecture(getattr(config, attribute))
            row = own.within(part=part, prefix=prefix, tower=tower, config=attribute, name=name)
            # The language model of a vision-language model is run as a whole, on pictures and text.
            found.append(replace(row, inputs="image+text") if not part and len(parts) > 1 else row)
        return tuple(found)
    first = find_architecture(config)
    rows = [first]
    if first.part:
        rows += [
            row
            for row in ARCHITECTURES
            if model_type in row.model_types and row.part != first.part and row.applies(config)
        ]
    return tuple(rows)


def find_architecture(config: Any) -> Architecture:
    """The row for a model's config; of a model with parts, the first part's.

    Raises
    ------
    ArchitectureError : the config names no `model_type`, or no row is for it.
    """
    known = known_types()
    model_type = getattr(config, "model_type", None)
    if not model_type:
        raise ArchitectureError(
            "the model has no config with a model_type, which says where its residual stream runs; give a transformers "
            f"model of one of these types: {', '.join(known)}."
        )
    if model_type in COMPOSITES:
        return find_architectures(config)[0]
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
