"""Llamas whose weights are set by hand: which head copies what where, what is multiplied, and what the answer reads.

The first dimensions of the stream are known: properties that the embeddings of words hold, their copies, a constant,
what the answer reads. The rest is noise. Attention is uniform (queries and keys are 0), so that a value at one of N
positions reaches the last one as its N-th part. Random weights read and write the dimensions of noise alone, unless
they are let read everything from some block on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.testing.planted_models import word_tokenizer

if TYPE_CHECKING:
    import torch

    from leadline.models import Model

__all__ = ["Copy", "Product", "Shape", "Wiring", "hand_set_model"]


@dataclass(frozen=True)
class Shape:
    """The size of a Llama; `n_own` dimensions are known, the others hold noise."""

    d_model: int
    n_layers: int
    n_heads: int
    d_mlp: int
    n_own: int

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads


@dataclass(frozen=True)
class Copy:
    """A head adds `gain` times the mean over positions of dimension `source`, behind the norm, to `target`."""

    layer: int
    head: int
    source: int
    target: int
    gain: float


@dataclass(frozen=True)
class Product:
    """An MLP adds `gain` times the product of two dimensions, behind the norm, to `target`.

    Two neurons do it exactly: SiLU(a)·b + SiLU(−a)·(−b) = a·b.
    """

    layer: int
    first: int
    second: int
    target: int
    gain: float


@dataclass(frozen=True, eq=False)
class Wiring:
    """What is known of the weights.

    Parameters
    ----------
    copies, products : what heads and MLPs do. reads : {dimension: weight}, of the difference between the logits of the
        two answers, behind the final norm.
    noise : standard deviation of that difference's weights on the dimensions of noise.
    reads_all_from : the first block whose random weights read known dimensions as they read noise, and so does the
        difference of the logits; None for no block.
    scales : (d_model,) how large each dimension's noise is; None for ones. prefers : random weights that read a
        dimension, the logits' too, are as its scale to this power.
    """

    copies: tuple[Copy, ...] = ()
    products: tuple[Product, ...] = ()
    reads: Mapping[int, float] = field(default_factory=dict)
    noise: float = 0.0
    reads_all_from: int | None = None
    scales: np.ndarray | None = None
    prefers: float = 0.0


def hand_set_model(
    words: Sequence[str], properties: np.ndarray, answers: tuple[str, str], shape: Shape, wiring: Wiring, seed: int
) -> Model:
    """A Llama of which every word is a token, and what it does is what the wiring says.

    Parameters
    ----------
    words : its vocabulary. properties : (V, k) what the embeddings hold in the first k dimensions; up to `n_own` they
        hold 0.
    answers : the two words whose logits the wiring sets apart: the first minus the second.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import leadline as ll

    config = LlamaConfig(
        vocab_size=len(words) + 1,
        hidden_size=shape.d_model,
        intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_heads,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    # Weights are all set below; made without memory first, they need no random state that is everybody's.
    with torch.device("meta"):
        module = LlamaForCausalLM(config)
    module = module.to_empty(device="cpu").eval()
    module.model.rotary_emb = type(module.model.rotary_emb)(config)
    generator = torch.Generator().manual_seed(seed)
    scales = torch.ones(shape.d_model)
    if wiring.scales is not None:
        scales = torch.from_numpy(np.asarray(wiring.scales)).float()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(1.0) if "norm" in name else parameter.normal_(0, 1, generator=generator)
        _embed(module.model.embed_tokens.weight, properties, scales, shape)
        for layer, block in enumerate(module.model.layers):
            _randomise(block, layer, scales, shape, wiring)
        _unembed(module.lm_head.weight, [words.index(a) + 1 for a in answers], scales, shape, wiring, generator)
        slots: Counter[tuple[int, int]] = Counter()
        for copy in wiring.copies:
            _set_copy(module.model.layers[copy.layer].self_attn, copy, slots[copy.layer, copy.head], shape)
            slots[copy.layer, copy.head] += 1
        neurons: Counter[int] = Counter()
        for one in wiring.products:
            _set_product(module.model.layers[one.layer].mlp, one, neurons[one.layer])
            neurons[one.layer] += 2
    return ll.load_model(module, tokenizer=word_tokenizer(words), dtype="float32", device="cpu")


def _embed(weight: torch.Tensor, properties: np.ndarray, scales: torch.Tensor, shape: Shape) -> None:
    import torch

    weight *= scales
    weight[:, : shape.n_own] = 0
    weight[1:, : properties.shape[1]] = torch.from_numpy(properties).float()
    # Padding.
    weight[0] = 0


def _randomise(block: Any, layer: int, scales: torch.Tensor, shape: Shape, wiring: Wiring) -> None:
    """Random weights keep apart from the known dimensions, but for the readers that may see everything."""
    block.self_attn.q_proj.weight.zero_()
    block.self_attn.k_proj.weight.zero_()
    size = 1 / np.sqrt(shape.d_model)
    for matrix in (block.self_attn.v_proj, block.mlp.gate_proj, block.mlp.up_proj):
        matrix.weight.mul_(size * scales**wiring.prefers)
        if wiring.reads_all_from is None or layer < wiring.reads_all_from:
            matrix.weight[:, : shape.n_own] = 0
    for matrix in (block.self_attn.o_proj, block.mlp.down_proj):
        matrix.weight.mul_(size * scales[:, None])
        matrix.weight[: shape.n_own] = 0


def _unembed(
    weight: torch.Tensor,
    answers: Sequence[int],
    scales: torch.Tensor,
    shape: Shape,
    wiring: Wiring,
    generator: torch.Generator,
) -> None:
    import torch

    reader = torch.randn(shape.d_model, generator=generator) * wiring.noise * scales**wiring.prefers
    if wiring.reads_all_from is None:
        reader[: shape.n_own] = 0
    for dimension, amount in wiring.reads.items():
        reader[dimension] = amount
    weight *= 1 / np.sqrt(shape.d_model)
    weight[:, : shape.n_own] = 0
    both = weight[answers[0]].clone()
    weight[answers[0]] = both + reader / 2
    weight[answers[1]] = both - reader / 2


def _set_copy(attention: Any, copy: Copy, slot: int, shape: Shape) -> None:
    at = copy.head * shape.d_head + slot
    attention.v_proj.weight[at] = 0
    attention.v_proj.weight[at, copy.source] = 1
    attention.o_proj.weight[:, at] = 0
    attention.o_proj.weight[copy.target, at] = copy.gain


def _set_product(mlp: Any, one: Product, neuron: int) -> None:
    for at, sign in ((neuron, 1.0), (neuron + 1, -1.0)):
        for matrix, source in ((mlp.gate_proj.weight, one.first), (mlp.up_proj.weight, one.second)):
            matrix[at] = 0
            matrix[at, source] = sign
        mlp.down_proj.weight[:, at] = 0
        mlp.down_proj.weight[one.target, at] = one.gain
