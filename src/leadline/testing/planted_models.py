"""Small transformers whose weights were set by hand, so that what they know, and from which layer on, is known.

Each is a Llama of four blocks that reads words. Attention is uniform everywhere (queries and keys are 0). In one block
it copies a property of earlier words to every later position, the last one included; in another the MLP multiplies two
copied bits, exactly: with SiLU(x) = x·σ(x), SiLU(ab-neuron pair) gives

    SiLU(a)·b + SiLU(−a)·(−b) = a·b·(σ(a) + σ(−a)) = a·b

All other weights are random, and read from and write to dimensions of their own. Activations are read by
`leadline.extract` at the last token, which is a word without any of the properties.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.testing.planted.record import (
    NOT_SUPPORTED,
    SUPPORTED,
    TEXT_CONTROLS,
    WORDS,
    Arrays,
    Planted,
    binary_labels,
    family_for,
    labelled,
)

if TYPE_CHECKING:
    from leadline.models import Model

__all__ = [
    "copied_concept",
    "copied_nothing",
    "surface_word_model",
    "word_model",
    "word_tokenizer",
    "xor_after_mlp",
    "xor_before_mlp",
]

D_MODEL, N_LAYERS, N_HEADS, D_MLP, N_TOKENS = 24, 4, 2, 32, 8
COPY_LAYER, MLP_LAYER = 2, 3
# What the first dimensions hold: two properties of a word, the copies of both, and their product. The rest is noise.
A, B, COPY_A, COPY_B, PRODUCT, N_OWN = 0, 1, 2, 3, 4, 5
# How much of a copied property the last position gets, in units of the noise there.
_STRENGTH = 3.0


def word_model(words: Sequence[str], properties: np.ndarray, seed: int, *, multiply: bool = False) -> Model:
    """A Llama whose embeddings hold two properties of each word, and which copies both in block `COPY_LAYER`.

    Parameters
    ----------
    words : its vocabulary. properties : (V, 2), such as −1, 0 and 1.
    multiply : whether the MLP of block `MLP_LAYER` multiplies the two copies.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import leadline as ll

    config = LlamaConfig(
        vocab_size=len(words) + 1,
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_HEADS,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    # Weights are all set below; made without memory first, they need no random state that is everybody's.
    with torch.device("meta"):
        module = LlamaForCausalLM(config)
    module = module.to_empty(device="cpu").eval()
    module.model.rotary_emb = type(module.model.rotary_emb)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(1.0) if "norm" in name else parameter.normal_(0, 1, generator=generator)
        embeddings = module.model.embed_tokens.weight
        embeddings[1:, [A, B]] = torch.from_numpy(properties).float()
        embeddings[0] = 0
        for layer, block in enumerate(module.model.layers):
            block.self_attn.q_proj.weight.zero_()
            block.self_attn.k_proj.weight.zero_()
            _keep_apart(block, 1 / np.sqrt(D_MODEL))
            if layer == COPY_LAYER:
                _copy(block.self_attn, np.abs(properties).max())
            if layer == MLP_LAYER and multiply:
                _multiply(block.mlp)
    return ll.load_model(module, tokenizer=word_tokenizer(words), dtype="float32", device="cpu")


def _keep_apart(block: Any, size: float) -> None:
    """Let the random weights of a block read and write the dimensions of noise alone."""
    readers = (block.self_attn.v_proj, block.mlp.gate_proj, block.mlp.up_proj)
    writers = (block.self_attn.o_proj, block.mlp.down_proj)
    for matrix in (*readers, *writers):
        matrix.weight.mul_(size)
    for matrix in readers:
        matrix.weight[:, :N_OWN] = 0
    for matrix in writers:
        matrix.weight[:N_OWN] = 0


def _copy(attention: Any, largest: float) -> None:
    """Value dimensions 0 and 1 of the first head carry the properties from all positions to their copies.

    One word of `N_TOKENS` has the property; of the mean over positions it is that share.
    """
    value, out = attention.v_proj.weight, attention.o_proj.weight
    value[:2] = 0
    out[:, :2] = 0
    for carried, (source, target) in enumerate(((A, COPY_A), (B, COPY_B))):
        value[carried, source] = 1
        out[target, carried] = _STRENGTH * N_TOKENS / largest


def _multiply(mlp: Any) -> None:
    """Two neurons whose sum is the product of the copies."""
    mlp.down_proj.weight[:, :2] = 0
    for neuron, sign in enumerate((1.0, -1.0)):
        for matrix, source in ((mlp.gate_proj.weight, COPY_A), (mlp.up_proj.weight, COPY_B)):
            matrix[neuron] = 0
            matrix[neuron, source] = sign
        mlp.down_proj.weight[PRODUCT, neuron] = 1.0


def word_tokenizer(words: Sequence[str]) -> Any:
    """Every word is a token; nothing stands before or after a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<pad>": 0, **{w: i + 1 for i, w in enumerate(words)}}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<pad>")


def _read(model: Model, texts: Sequence[str], sites: str, tokens: str) -> Arrays:
    """(n, d) float32 of each site; the store is gone afterwards."""
    import leadline as ll

    data = ll.Dataset.from_rows([{"text": t, "label": i % 2} for i, t in enumerate(texts)], target="label")
    with tempfile.TemporaryDirectory() as folder:
        acts = ll.extract(model, data, sites, tokens, out=f"{folder}/acts")
        return {site.name: np.array(acts.read(site)) for site in acts.sites}


_N_NEUTRAL = 60


def _texts(rng: np.random.Generator, marked: np.ndarray) -> list[str]:
    """Texts of `N_TOKENS` words with the words `marked` (n, k) at random places but the last."""
    n, k = marked.shape
    texts = rng.integers(_N_NEUTRAL, size=(n, N_TOKENS))
    places = rng.permuted(np.tile(np.arange(N_TOKENS - 1), (n, 1)), axis=1)[:, :k]
    np.put_along_axis(texts, places, marked, axis=1)
    return [" ".join(WORDS[w] for w in row) for row in texts]


def _copied(
    seed: int, code: int, n: int, n_words: int, *, random_labels: bool = False
) -> tuple[Model, np.ndarray, list[str]]:
    """A model with `n_words` words a class, of which each text has one; its labels and texts."""
    rng = np.random.default_rng([seed, code])
    y = binary_labels(rng, n)
    properties = np.zeros((_N_NEUTRAL + 2 * n_words, 2))
    properties[_N_NEUTRAL:, A] = np.repeat([-1.0, 1.0], n_words)
    # Words go round, so that with enough of them none stands in two texts.
    order = np.empty(n, dtype=np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        order[rows] = np.arange(len(rows)) % n_words + label * n_words
    texts = _texts(rng, _N_NEUTRAL + order[:, None])
    model = word_model(WORDS[: len(properties)], properties, seed)
    return model, (binary_labels(rng, n) if random_labels else y), texts


def copied_concept(seed: int, *, n: int = 300) -> Planted:
    """Each text has one word with the concept, never the same; block 2 brings it to the last position.

    Words do not recur, so that no baseline of words reads the label; the embeddings of the words themselves do.
    """
    model, y, texts = _copied(seed, 141, n, n_words=n // 2)
    return Planted(
        about=f"a transformer that copies a word's property to the last token in block {COPY_LAYER}",
        activations=_read(model, texts, "resid_post.*", "last"),
        labels=labelled(y, texts=texts),
        truth={"decodable": SUPPORTED, "beyond surface": NOT_SUPPORTED},
        family=family_for("binary"),
        sources={"token_embeddings": _read(model, texts, "embed", "mean")},
        text_controls=TEXT_CONTROLS,
        measures=("emergence",),
        first_layer=COPY_LAYER,
    )


def copied_nothing(seed: int, *, n: int = 300) -> Planted:
    """The same transformer, with labels that have nothing to do with the texts."""
    model, y, texts = _copied(seed, 142, n, n_words=n // 2, random_labels=True)
    return Planted(
        about="a transformer that copies a word's property; random labels",
        activations=_read(model, texts, "resid_post.*", "last"),
        labels=labelled(y, texts=texts),
        truth={"decodable": NOT_SUPPORTED},
        family=family_for("binary"),
    )


def surface_word_model(seed: int, *, n: int = 300) -> Planted:
    """One word of five a class stands in each text and is the label; the transformer copies that property."""
    model, y, texts = _copied(seed, 143, n, n_words=5)
    return Planted(
        about="a transformer that copies a word's property, where five words a class decide the label",
        activations=_read(model, texts, "resid_post.*", "last"),
        labels=labelled(y, texts=texts),
        truth={"decodable": SUPPORTED, "beyond surface": NOT_SUPPORTED},
        family=family_for("binary"),
        text_controls=TEXT_CONTROLS,
        first_layer=COPY_LAYER,
    )


def _xor(seed: int, n: int) -> tuple[Model, np.ndarray, list[str]]:
    """Texts with one word for each of two bits, and a transformer that copies and multiplies them."""
    rng = np.random.default_rng([seed, 144])
    n_words = 10
    corner = rng.permutation(np.arange(n) % 4)
    bits = np.stack([corner // 2, corner % 2], axis=1)
    properties = np.zeros((_N_NEUTRAL + 4 * n_words, 2))
    properties[_N_NEUTRAL : _N_NEUTRAL + 2 * n_words, A] = np.repeat([-1.0, 1.0], n_words)
    properties[_N_NEUTRAL + 2 * n_words :, B] = np.repeat([-1.0, 1.0], n_words)
    words = _N_NEUTRAL + rng.integers(n_words, size=(n, 2)) + n_words * bits + [0, 2 * n_words]
    model = word_model(WORDS[: len(properties)], properties, seed, multiply=True)
    return model, (bits[:, 0] ^ bits[:, 1]).astype(np.float64), _texts(rng, words)


def xor_before_mlp(seed: int, *, n: int = 500) -> Planted:
    """The two bits stand at the last position in block 2, their exclusive or nowhere yet: only an MLP reads it."""
    model, y, texts = _xor(seed, n)
    return Planted(
        about=f"two words' bits are copied in block {COPY_LAYER}; their exclusive or is linear nowhere before block "
        f"{MLP_LAYER}",
        activations=_read(model, texts, f"resid_post.{COPY_LAYER}", "last"),
        labels=labelled(y, texts=texts),
        truth={"decodable": NOT_SUPPORTED},
        family=family_for("binary"),
        measures=("nonlinearity",),
        nonlinear=True,
    )


def xor_after_mlp(seed: int, *, n: int = 500) -> Planted:
    """The MLP of block 3 multiplies the bits, so that their exclusive or is linear there, and in no surface."""
    model, y, texts = _xor(seed, n)
    return Planted(
        about=f"two words' bits are copied in block {COPY_LAYER} and multiplied by the MLP of block {MLP_LAYER}",
        activations=_read(model, texts, "resid_post.*", "last"),
        labels=labelled(y, texts=texts),
        truth={"decodable": SUPPORTED, "beyond surface": SUPPORTED},
        family=family_for("binary"),
        sources={"token_embeddings": _read(model, texts, "embed", "mean")},
        text_controls=TEXT_CONTROLS,
        measures=("emergence",),
        first_layer=MLP_LAYER,
    )
