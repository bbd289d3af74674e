"""Reading configs, weights and tokenizers with transformers, quietly, and with its failures told as ours."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError
from torch import nn

from leadline.errors import ModelError
from leadline.events import SILENT, Event, EventSink
from leadline.models.architectures import Architecture, find_architecture
from leadline.models.quiet import quiet
from leadline.models.vision import PlainPictures

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["plain_processor", "read_config", "read_module", "read_processor", "read_tokenizer"]

# What transformers raises for files that are absent, damaged, of another version or in need of another package.
_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ImportError,
    RuntimeError,
    struct.error,
    SafetensorError,
    *([hub_errors.StrictDataclassError] if hasattr(hub_errors, "StrictDataclassError") else []),
)


def _why(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def read_config(where: str | Path, **options: Any) -> Any:
    """A model's config, once its architecture is known to the table.

    Raises
    ------
    ArchitectureError : the table has no row for it.
    ModelError : there is no config, or it is damaged.
    """
    from transformers import AutoConfig, PreTrainedConfig

    with quiet():
        try:
            config = AutoConfig.from_pretrained(where, **options)
        except _FAILURES as error:
            # A model type that transformers does not know either is better told by our own list.
            if "gguf_file" not in options:
                try:
                    raw, _ = PreTrainedConfig.get_config_dict(where, **options)
                except _FAILURES:
                    raw = {}
                if raw.get("model_type"):
                    find_architecture(SimpleNamespace(**raw))
            raise ModelError(
                f"cannot read the config of '{where}': {_why(error)} Expected a model in the format of transformers "
                f"(config.json, weights as safetensors, a tokenizer) or a .gguf file."
            ) from error
    find_architecture(config)
    return config


def read_module(
    where: str | Path, config: Any, dtype: torch.dtype, *, events: EventSink = SILENT, **options: Any
) -> nn.Module:
    """A model's module with all its weights, in eval mode on the CPU; with its language-model head where it has one.

    Weights of the checkpoint that the module has no place for are named in a warning event.

    Raises
    ------
    ModelError : weights are absent, damaged or incomplete.
    """
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    # A checkpoint of a bare trunk, loaded with a head, would get a random one.
    saved_as = (config.architectures or [None])[0]
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    has_head = causal is not None and saved_as in (None, causal)
    auto = AutoModelForCausalLM if has_head else AutoModel

    def load(**more: Any) -> tuple[nn.Module, list[str], list[str]]:
        with quiet():
            try:
                module, report = auto.from_pretrained(
                    where,
                    config=config,
                    dtype=dtype,
                    output_loading_info=True,
                    trust_remote_code=False,
                    **options,
                    **more,
                )
            except _FAILURES as error:
                raise ModelError(
                    f"cannot load the weights of '{where}': {_why(error)} If files are damaged or absent, get them "
                    f"again."
                ) from error
        return module, sorted(report["missing_keys"]), sorted(report["unexpected_keys"])

    module, absent, unused = load()
    if absent and all(name.split(".")[0] == "pooler" for name in absent):
        # What a checkpoint for masked words leaves out, and nothing here reads.
        module, absent, unused = load(add_pooling_layer=False)
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise ModelError(
            f"the weights of '{where}' are incomplete: {', '.join(absent[:3])}{more} "
            f"{'is' if len(absent) == 1 else 'are'} not there, and would be random. Get the checkpoint again, or build "
            f"the module yourself and give it to load_model with its tokenizer."
        )
    if unused:
        message = f"'{where}' holds {len(unused)} weights that the model has no place for: {', '.join(unused[:3])}"
        events.emit(Event("warning", "load", message + (", ..." if len(unused) > 3 else "")))
    return module.eval()


def read_tokenizer(where: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer.

    Raises
    ------
    ModelError : there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **options)
        except _FAILURES as error:
            raise ModelError(
                f"cannot read a tokenizer from '{where}': {_why(error)} Give another with tokenizer=."
            ) from error
    if len(tokenizer) == len(tokenizer.all_special_tokens):
        # transformers makes an empty one where the files are absent.
        raise ModelError(f"'{where}' holds no tokenizer; give one with tokenizer= (a name, a folder or the object).")
    return tokenizer


def read_processor(
    where: str | Path, config: Any, rows: Sequence[Architecture], *, events: EventSink = SILENT, **options: Any
) -> Any:
    """What turns pictures or sounds into a model's arrays: the checkpoint's own, else what suits its config.

    Raises
    ------
    ModelError : it is there and cannot be read.
    """
    from transformers import AutoFeatureExtractor, AutoImageProcessor

    auto: Any = AutoFeatureExtractor if any(row.inputs == "audio" for row in rows) else AutoImageProcessor
    with quiet():
        try:
            return auto.from_pretrained(where, trust_remote_code=False, **options)
        except _FAILURES as error:
            there = Path(where) if isinstance(where, Path) else None
            named = ("preprocessor_config.json", "processor_config.json")
            if there is None or any((there / name).is_file() for name in named):
                raise ModelError(
                    f"cannot read the processor of '{where}': {_why(error)} Give another with processor=."
                ) from error
    return plain_processor(config, rows, events)


def plain_processor(config: Any, rows: Sequence[Architecture], events: EventSink = SILENT) -> Any:
    """A processor for pictures that suits a config where the checkpoint has none; None where no part takes pictures."""
    for row in rows:
        if "image" in row.inputs:
            own = getattr(config, "vision_config", config)
            processor = PlainPictures.of(own)
            events.emit(Event("note", "load", f"no processor came with the model; pictures go through {processor!r}"))
            return processor
    return None
