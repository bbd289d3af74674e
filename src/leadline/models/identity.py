"""What names a model: a hash over its config, its weights and what turns inputs into its tokens."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

__all__ = ["fingerprint_of"]

# What a config says about how it was saved or is to be run, not about what the model computes.
_VOLATILE = frozenset(
    {
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
    }
)
_CHUNK = 1 << 26


def fingerprint_of(module: nn.Module, config: Any, tokenizer: Any, processor: Any) -> str:
    """16 hex digits of the SHA-256 over the config, every weight, the tokenizer and the processor."""
    digest = hashlib.sha256()
    settings = _clean(config.to_dict()) if hasattr(config, "to_dict") else {"class": type(module).__name__}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        for start in range(0, flat.numel(), _CHUNK):
            digest.update(flat[start : start + _CHUNK].cpu().numpy().data)
    if tokenizer is not None:
        digest.update(_tokenizer_text(tokenizer).encode())
    if processor is not None:
        digest.update(f"\0processor\0{_processor_text(processor)}".encode())
    return digest.hexdigest()[:16]


def _clean(value: Any) -> Any:
    """A config without what does not change the model's results, at any depth."""
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items() if k not in _VOLATILE and not str(k).startswith("_")}
    return [_clean(v) for v in value] if isinstance(value, (list, tuple)) else value


def _processor_text(processor: Any) -> str:
    if hasattr(processor, "to_dict"):
        return json.dumps(_clean(processor.to_dict()), sort_keys=True, default=str)
    # A function of the user's own: its name is all that can be told of it.
    return f"{getattr(processor, '__module__', '')}.{getattr(processor, '__qualname__', type(processor).__name__)}"


def _tokenizer_text(tokenizer: Any) -> str:
    """All that decides how the tokenizer encodes, as canonical JSON; how it last padded or cut is left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        rules = json.loads(backend.to_str())
        rules.pop("padding", None)
        rules.pop("truncation", None)
    else:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    special = {k: str(v) for k, v in tokenizer.special_tokens_map.items()}
    parts = {"rules": rules, "special": special, "chat_template": getattr(tokenizer, "chat_template", None)}
    return json.dumps(parts, sort_keys=True, default=str)
