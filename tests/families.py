"""A small random model of every family of transformers models that Leadline knows or may meet, and inputs for it.

`build_module(family)` gives a fresh module, `example_inputs(family, module)` the arguments of one pass of it. A family
is a model type of transformers, or one of the ways in which a model type is built (`falcon_sequential`, `t5_gated`).
Choices that would hide a mistake are avoided: multipliers are not 1, windows are shorter than the texts, kinds of
layer alternate, and here and there the heads together are wider than the stream.

Nothing here imports torch until a function is called, so that the tests of light rooms stay light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "N_VOCAB", "Family", "build_module", "example_inputs"]

N_VOCAB = 384
N_HEADS = 4
N_TOKENS = 12
WINDOW = 8
IMAGE_SIZE = 32
PATCH_SIZE = 8
N_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
N_MELS = 16
N_FRAMES = 64
# Ordinary tokens are drawn from between the special ones and this one, which stands for a place of an image.
IMAGE_TOKEN = N_VOCAB - 1
SPECIAL_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

Sizes = Callable[[int, int], dict[str, Any]]


@dataclass(frozen=True)
class Family:
    """How a small model of a family is built and called.

    Parameters
    ----------
    model, config : the names of the transformers classes.
    sizes : from the number of layers and `d_model` to the arguments of the config.
    inputs : the name of a row of `INPUTS`: what a pass takes.
    part : the dotted path of the module wanted inside the model; `""` is the model.
    """

    model: str
    config: str
    sizes: Sizes
    inputs: str = "text"
    part: str = ""


def _fill(settings: Mapping[str, Any], n_layers: int, d_model: int) -> dict[str, Any]:
    return {name: value(n_layers, d_model) if callable(value) else value for name, value in settings.items()}


def _named(names: str, **settings: Any) -> Sizes:
    """Sizes of a text model under its config's own names: layers, width, heads, MLP width and positions, or `-`."""

    def sizes(n_layers: int, d_model: int) -> dict[str, Any]:
        values = (n_layers, d_model, N_HEADS, 2 * d_model, 128)
        common = {name: value for name, value in zip(names.split(), values) if name != "-"}
        return {"vocab_size": N_VOCAB} | SPECIAL_TOKENS | common | _fill(settings, n_layers, d_model)

    return sizes


STANDARD = "num_hidden_layers hidden_size num_attention_heads intermediate_size max_position_embeddings"


def _standard(**settings: Any) -> Sizes:
    """Sizes of a text model under the names that most configs use."""
    return _named(STANDARD, **settings)


def _grouped(**settings: Any) -> Sizes:
    """`_standard` with two heads to each key and value."""
    return _standard(num_key_value_heads=2, **settings)


def _image(**settings: Any) -> Sizes:
    """Sizes of a vision transformer over square patches, but for its MLP's width."""

    def sizes(n_layers: int, d_model: int) -> dict[str, Any]:
        common = {
            "num_hidden_layers": n_layers,
            "hidden_size": d_model,
            "num_attention_heads": N_HEADS,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        }
        return common | _fill(settings, n_layers, d_model)

    return sizes


def _two(**settings: Any) -> Sizes:
    """Sizes of an encoder with a decoder, named as BART names them."""

    def sizes(n_layers: int, d_model: int) -> dict[str, Any]:
        sides = ("encoder", "decoder")
        common: dict[str, Any] = {"vocab_size": N_VOCAB, "d_model": d_model, "decoder_start_token_id": 2}
        common |= {f"{side}_layers": n_layers for side in sides}
        common |= {f"{side}_attention_heads": N_HEADS for side in sides}
        common |= {f"{side}_ffn_dim": 2 * d_model for side in sides}
        return common | SPECIAL_TOKENS | _fill(settings, n_layers, d_model)

    return sizes


def _joined(text: Sizes, vision: Sizes, **settings: Any) -> Sizes:
    """Sizes of a text and of a vision model under one config."""

    def sizes(n_layers: int, d_model: int) -> dict[str, Any]:
        parts = {"text_config": text(n_layers, d_model), "vision_config": vision(n_layers, d_model)}
        return parts | _fill(settings, n_layers, d_model)

    return sizes


def _alternate(first: str, second: str) -> Callable[[int, int], list[str]]:
    return lambda n_layers, d_model: [(first, second)[layer % 2] for layer in range(n_layers)]


def _odd_layers(n_layers: int, d_model: int) -> list[int]:
    return list(range(1, n_layers, 2))


def _times(factor: float) -> Callable[[int, int], int]:
    """A setting that is so many times `d_model`."""
    return lambda n_layers, d_model: int(factor * d_model)


def _three_axes(n_layers: int, d_model: int) -> dict[str, Any]:
    """Rotary positions of Qwen2-VL: how many of a head's frequencies go to time, height and width."""
    frequencies = d_model // N_HEADS // 2
    sections = [frequencies - 2 * (frequencies // 4), frequencies // 4, frequencies // 4]
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}


def _causal(name: str, sizes: Sizes) -> Family:
    return Family(f"{name}ForCausalLM", f"{name}Config", sizes)


SLIDING = _alternate("sliding_attention", "full_attention")
GPT = "n_layer n_embd n_head - n_positions"
OPT = "num_hidden_layers hidden_size num_attention_heads ffn_dim max_position_embeddings"
FALCON = "num_hidden_layers hidden_size num_attention_heads ffn_hidden_size max_position_embeddings"
MULTIPLIERS = {
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.3,
    "attention_multiplier": 0.2,
    "logits_scaling": 3.0,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": _times(1)}
# The chunk is shorter than the texts, so that the state is carried from one chunk to the next.
SSM = {"mamba_n_heads": 8, "mamba_d_state": 8, "mamba_expand": 2, "mamba_chunk_size": 8}
MLA = {"q_lora_rank": 12, "kv_lora_rank": 10, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6}

DECODERS: dict[str, Family] = {
    "llama": _causal("Llama", _grouped()),
    "mistral": _causal("Mistral", _grouped(sliding_window=WINDOW)),
    "mixtral": _causal("Mixtral", _grouped(sliding_window=WINDOW, num_local_experts=4)),
    "qwen2": _causal("Qwen2", _grouped(use_sliding_window=True, sliding_window=WINDOW, layer_types=SLIDING)),
    # A dense block stands between blocks of experts.
    "qwen2_moe": _causal("Qwen2Moe", _grouped(**MOE, shared_expert_intermediate_size=_times(1), mlp_only_layers=[1])),
    "qwen3": _causal("Qwen3", _grouped(head_dim=_times(0.5))),
    "qwen3_moe": _causal("Qwen3Moe", _grouped(**MOE, head_dim=_times(0.5), mlp_only_layers=[1])),
    "gemma": _causal("Gemma", _grouped(head_dim=_times(0.5))),
    "gemma2": _causal("Gemma2", _grouped(head_dim=8, sliding_window=WINDOW)),
    "gemma3_text": Family(
        "Gemma3ForCausalLM", "Gemma3TextConfig", _grouped(head_dim=8, sliding_window=WINDOW, layer_types=SLIDING)
    ),
    "phi": _causal("Phi", _grouped()),
    "phi3": _causal("Phi3", _grouped(sliding_window=WINDOW)),
    "gpt2": Family("GPT2LMHeadModel", "GPT2Config", _named(GPT)),
    "gptj": _causal("GPTJ", _named(GPT, rotary_dim=4)),
    "gpt_neox": _causal("GPTNeoX", _standard(use_parallel_residual=True)),
    "gpt_neox_sequential": _causal("GPTNeoX", _standard(use_parallel_residual=False)),
    "gpt_neo": _causal(
        "GPTNeo",
        _named(
            "num_layers hidden_size num_heads intermediate_size max_position_embeddings",
            window_size=WINDOW,
            attention_types=lambda n, d: [[[kind], 1] for kind in _alternate("global", "local")(n, d)],
        ),
    ),
    "opt": _causal("OPT", _named(OPT)),
    "opt_post_norm": _causal("OPT", _named(OPT, do_layer_norm_before=False, word_embed_proj_dim=_times(0.5))),
    "bloom": _causal("Bloom", _named("n_layer hidden_size n_head - -")),
    "falcon": _causal("Falcon", _named(FALCON, multi_query=True, parallel_attn=True)),
    "falcon_new": _causal(
        "Falcon", _named(FALCON, new_decoder_architecture=True, num_ln_in_parallel_attn=2, num_kv_heads=2)
    ),
    "falcon_sequential": _causal(
        "Falcon", _named(FALCON, parallel_attn=False, alibi=True, multi_query=False, bias=True)
    ),
    "olmo": _causal("Olmo", _grouped()),
    "olmo2": _causal("Olmo2", _grouped()),
    "stablelm": _causal("StableLm", _grouped()),
    "stablelm_parallel": _causal("StableLm", _grouped(use_parallel_residual=True)),
    "cohere": _causal("Cohere", _grouped()),
    "cohere2": _causal("Cohere2", _grouped(sliding_window=WINDOW, layer_types=SLIDING)),
    "granite": _causal("Granite", _grouped(**MULTIPLIERS)),
    "granitemoe": _causal("GraniteMoe", _grouped(**MULTIPLIERS, num_local_experts=4)),
    "deepseek_v3": _causal(
        "DeepseekV3",
        _standard(
            num_key_value_heads=N_HEADS,
            **MLA,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            moe_intermediate_size=_times(1),
            first_k_dense_replace=1,
        ),
    ),
    "smollm3": _causal("SmolLM3", _grouped(no_rope_layer_interval=2)),
    "gpt_oss": _causal(
        "GptOss",
        _grouped(
            head_dim=_times(0.5),
            sliding_window=WINDOW,
            num_local_experts=4,
            num_experts_per_tok=2,
            # The scaling of gpt-oss itself supposes far longer texts.
            rope_parameters={"rope_type": "default", "rope_theta": 150000.0},
        ),
    ),
}

RECURRENT: dict[str, Family] = {
    "mamba": _causal("Mamba", _named("num_hidden_layers hidden_size - - -", state_size=8)),
    "mamba2": _causal(
        "Mamba2",
        _named(
            "num_hidden_layers hidden_size - - -",
            state_size=8,
            num_heads=8,
            head_dim=_times(0.25),
            n_groups=2,
            chunk_size=8,
        ),
    ),
    # Blocks 1, 3, ... have attention; every third one, from block 1 on, has experts.
    "jamba": _causal(
        "Jamba",
        _grouped(
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=3,
            expert_layer_offset=1,
            num_experts=4,
            mamba_d_state=8,
        ),
    ),
    "bamba": _causal("Bamba", _grouped(**SSM, attn_layer_indices=_odd_layers)),
    "zamba2": _causal(
        "Zamba2",
        _standard(
            layers_block_type=_alternate("linear_attention", "hybrid"),
            mamba_d_state=8,
            n_mamba_heads=8,
            chunk_size=8,
            adapter_rank=4,
            use_mem_rope=True,
        ),
    ),
    "falcon_h1": _causal(
        "FalconH1",
        _grouped(
            **SSM,
            mamba_d_ssm=_times(2),
            embedding_multiplier=2.0,
            lm_head_multiplier=0.5,
            key_multiplier=0.7,
            attention_in_multiplier=1.2,
            attention_out_multiplier=0.6,
            ssm_in_multiplier=0.9,
            ssm_out_multiplier=0.4,
            mlp_multipliers=[0.8, 0.3],
            ssm_multipliers=[0.7, 0.8, 0.9, 1.1, 1.2],
        ),
    ),
    "granitemoehybrid": _causal(
        "GraniteMoeHybrid",
        _grouped(
            **SSM,
            **MULTIPLIERS,
            num_local_experts=4,
            shared_intermediate_size=_times(2),
            layer_types=_alternate("linear_attention", "full_attention"),
        ),
    ),
    "lfm2": _causal("Lfm2", _grouped(full_attn_idxs=_odd_layers, block_auto_adjust_ff_dim=False)),
    "qwen3_next": _causal(
        "Qwen3Next",
        _grouped(
            **MOE,
            head_dim=_times(0.5),
            shared_expert_intermediate_size=_times(1),
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            layer_types=_alternate("linear_attention", "full_attention"),
        ),
    ),
}

T5 = "num_layers d_model num_heads d_ff -"
ENCODERS: dict[str, Family] = {
    "bert": Family("BertForMaskedLM", "BertConfig", _standard()),
    "roberta": Family("RobertaForMaskedLM", "RobertaConfig", _standard()),
    "deberta_v2": Family(
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        _standard(
            relative_attention=True,
            position_buckets=4,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
        ),
    ),
    "distilbert": Family(
        "DistilBertForMaskedLM", "DistilBertConfig", _named("n_layers dim n_heads hidden_dim max_position_embeddings")
    ),
    "modernbert": Family(
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        _standard(
            local_attention=WINDOW,
            layer_types=_alternate("full_attention", "sliding_attention"),
            cls_token_id=1,
            sep_token_id=2,
        ),
    ),
    "electra": Family("ElectraForMaskedLM", "ElectraConfig", _standard(embedding_size=_times(0.5))),
    "t5": Family(
        "T5ForConditionalGeneration", "T5Config", _named(T5, d_kv=8, decoder_start_token_id=0), "encoder_decoder"
    ),
    "t5_gated": Family(
        "T5ForConditionalGeneration",
        "T5Config",
        _named(T5, d_kv=8, decoder_start_token_id=0, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        "encoder_decoder",
    ),
    "t5_encoder": Family("T5EncoderModel", "T5Config", _named(T5, d_kv=8)),
    "bart": Family("BartForConditionalGeneration", "BartConfig", _two(max_position_embeddings=128), "encoder_decoder"),
    "mbart": Family(
        "MBartForConditionalGeneration",
        "MBartConfig",
        _two(max_position_embeddings=128, scale_embedding=True),
        "encoder_decoder",
    ),
}

# 64 frames of sound, of which the encoder's second convolution keeps every other one.
SOUND = _two(num_mel_bins=N_MELS, max_source_positions=N_FRAMES // 2, max_target_positions=128)
SENSES: dict[str, Family] = {
    "vit": Family("ViTForImageClassification", "ViTConfig", _image(intermediate_size=_times(2)), "image"),
    "dinov2": Family("Dinov2Model", "Dinov2Config", _image(mlp_ratio=2), "image"),
    "dinov2_swiglu": Family("Dinov2Model", "Dinov2Config", _image(mlp_ratio=2, use_swiglu_ffn=True), "image"),
    "dinov3_vit": Family(
        "DINOv3ViTModel", "DINOv3ViTConfig", _image(intermediate_size=_times(2), num_register_tokens=2), "image"
    ),
    "clip": Family(
        "CLIPModel",
        "CLIPConfig",
        _joined(
            _standard(projection_dim=16), _image(intermediate_size=_times(2), projection_dim=16), projection_dim=16
        ),
        "image_and_text",
    ),
    "siglip": Family(
        "SiglipModel",
        "SiglipConfig",
        _joined(_standard(projection_size=_times(1)), _image(intermediate_size=_times(2))),
        "image_and_text",
    ),
    "gemma3": Family(
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        _joined(
            _grouped(head_dim=8, sliding_window=WINDOW, layer_types=SLIDING),
            _image(intermediate_size=_times(2)),
            image_token_index=IMAGE_TOKEN,
            mm_tokens_per_image=4,
        ),
        "image_in_text",
    ),
    "llava": Family(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        _joined(
            _grouped(model_type="llama"),
            _image(intermediate_size=_times(2), model_type="clip_vision_model"),
            image_token_index=IMAGE_TOKEN,
            image_seq_length=N_PATCHES,
        ),
        "image_in_text",
    ),
    "qwen2_vl": Family(
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        _joined(
            _grouped(rope_parameters=_three_axes),
            lambda n, d: {
                "depth": n,
                "embed_dim": d,
                "hidden_size": d,
                "num_heads": N_HEADS,
                "mlp_ratio": 2,
                "patch_size": PATCH_SIZE,
            },
            image_token_id=IMAGE_TOKEN,
            video_token_id=IMAGE_TOKEN - 1,
            vision_start_token_id=IMAGE_TOKEN - 2,
            vision_end_token_id=IMAGE_TOKEN - 3,
        ),
        "patches_in_text",
    ),
    "whisper": Family("WhisperModel", "WhisperConfig", SOUND, "sound_and_text"),
    "whisper_encoder": Family("WhisperModel", "WhisperConfig", SOUND, "sound", "encoder"),
}

FAMILIES: dict[str, Family] = DECODERS | RECURRENT | ENCODERS | SENSES


def build_module(family: str, *, n_layers: int = 3, d_model: int = 32, seed: int = 0, **overrides: Any) -> Any:
    """A model of `family` with random float32 weights on the CPU, in eval mode, from a fixed seed.

    Parameters
    ----------
    family : a name of `FAMILIES`.
    n_layers, d_model : of every stack of blocks in the model; `d_model` is a multiple of 8.
    seed : of the weights; the global random state is as before afterwards.
    overrides : arguments of the config, in place of the family's own. In a model of text and images they go to the
        config around both.

    Raises
    ------
    ValueError : no family is called so.
    """
    import torch
    import transformers

    row = _find(family)
    settings = row.sizes(n_layers, d_model) | overrides
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = getattr(transformers, row.model)(getattr(transformers, row.config)(**settings))
        # transformers starts at a scale of 0.02 and biases at 0, where a missing term would hardly show.
        # State-space models bear it too: A = -exp(A_log) stays negative, and a softplus keeps each step positive.
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.get_submodule(row.part).eval()


def example_inputs(family: str, module: Any, *, batch: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """The arguments of one pass, `module(**arguments)`, drawn from a seed: no padding, no special tokens.

    Parameters
    ----------
    family : a name of `FAMILIES`.
    module : what `build_module(family)` gave.
    batch : the number of texts, images or sounds.

    Returns
    -------
    arguments : `input_ids` (batch, 12); for images `pixel_values` (batch, 3, 32, 32), for sounds `input_features`
        (batch, 16, 64), as log-mel features are laid out; what else the family's forward needs.

    Raises
    ------
    ValueError : no family is called so.
    """
    import torch

    return INPUTS[_find(family).inputs](module, batch, torch.Generator().manual_seed(seed))


def _find(family: str) -> Family:
    if family not in FAMILIES:
        raise ValueError(f"no small model for '{family}'; known: {', '.join(FAMILIES)}")
    return FAMILIES[family]


def _ids(batch: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    # The special tokens stand below, those of images at the top.
    return torch.randint(3, IMAGE_TOKEN - 8, (batch, N_TOKENS), generator=generator)


def _normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    import torch

    return torch.randn(shape, generator=generator)


def _text(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"input_ids": _ids(batch, generator)}


def _encoder_decoder(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"input_ids": _ids(batch, generator), "decoder_input_ids": _ids(batch, generator)[:, :8]}


def _pixels(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"pixel_values": _normal(generator, batch, 3, IMAGE_SIZE, IMAGE_SIZE)}


def _image_and_text(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return _text(module, batch, generator) | _pixels(module, batch, generator)


def _with_places(ids: torch.Tensor, n_places: int) -> torch.Tensor:
    """Put the places of one image after each text's first three tokens."""
    import torch

    places = torch.full((len(ids), n_places), IMAGE_TOKEN)
    return torch.cat([ids[:, :3], places, ids[:, 3:]], dim=1)


def _image_in_text(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    n_places = getattr(module.config, "mm_tokens_per_image", N_PATCHES)
    return {"input_ids": _with_places(_ids(batch, generator), n_places)} | _pixels(module, batch, generator)


def _patches_in_text(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    import torch

    side = IMAGE_SIZE // PATCH_SIZE
    # Four patches make one place; a patch holds two equal frames of three colours.
    ids = _with_places(_ids(batch, generator), N_PATCHES // 4)
    return {
        "input_ids": ids,
        "mm_token_type_ids": (ids == IMAGE_TOKEN).int(),
        "pixel_values": _normal(generator, batch * N_PATCHES, 3 * 2 * PATCH_SIZE**2),
        "image_grid_thw": torch.tensor([[1, side, side]] * batch),
    }


def _sound(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"input_features": _normal(generator, batch, N_MELS, N_FRAMES)}


def _sound_and_text(module: Any, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return _sound(module, batch, generator) | {"decoder_input_ids": _ids(batch, generator)[:, :8]}


Inputs = Callable[[Any, int, "torch.Generator"], "dict[str, torch.Tensor]"]
INPUTS: dict[str, Inputs] = {
    "text": _text,
    "encoder_decoder": _encoder_decoder,
    "image": _pixels,
    "image_and_text": _image_and_text,
    "image_in_text": _image_in_text,
    "patches_in_text": _patches_in_text,
    "sound": _sound,
    "sound_and_text": _sound_and_text,
}
