"""Collecting the residual stream by every side: after the embedding and every block, at each row's last token.

A side loads a transformers folder, then `collect` takes texts and leaves their vectors in a folder on disk: that is
what is timed, from strings to files. `read` gives back what was written, so that it can be compared. Each is called as
its documentation shows, with the batch size that it has by default or 32 where it has none, in the order of the texts,
padded. Two switches that save work are set, so that nobody is slowed by us: TransformerLens caches the wanted hooks
alone, and lmprobe computes no perplexity. All hooks and language model heads that run otherwise run by default.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["SIDES", "Side"]

BATCH = 32
VECTORS = "vectors.npy"


class Side(Protocol):
    """One way to collect.

    Attributes
    ----------
    settings : how it was called, in words. dtype : what the model computes in, as in `"float32"`.
    """

    settings: str
    dtype: str

    def __init__(self, folder: str, dtype: str | None) -> None:
        """Load a model; `dtype` None is the tool's own choice."""

    def collect(self, texts: list[str], out: Path) -> None:
        """Write the vectors of all texts into an empty folder."""

    def read(self, texts: list[str], out: Path) -> dict[str, np.ndarray]:
        """What `collect` wrote: for each site (n, d) float32, by our name of it."""


def _name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _torch_dtype(dtype: str) -> Any:
    import torch

    return getattr(torch, dtype)


class _Stacked:
    """What the sides share whose vectors a script stacks, and saves as one float32 .npy (rows, sites, d)."""

    names: list[str]

    def batch(self, texts: list[str]) -> Any:
        """(rows, sites, d) of one batch."""
        raise NotImplementedError

    def collect(self, texts: list[str], out: Path) -> None:
        import torch

        found = [self.batch(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        # NumPy has no bfloat16.
        np.save(out / VECTORS, torch.cat(found).float().cpu().numpy())

    def read(self, texts: list[str], out: Path) -> dict[str, np.ndarray]:
        values = np.load(out / VECTORS)
        return {name: values[:, i] for i, name in enumerate(self.names)}


class HiddenStates(_Stacked):
    """What a notebook does with transformers alone."""

    def __init__(self, folder: str, dtype: str | None) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        chosen = {} if dtype is None else {"dtype": _torch_dtype(dtype)}
        self.model = AutoModelForCausalLM.from_pretrained(folder, **chosen)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.dtype = _name_of(self.model.dtype)
        # The last entry of hidden_states stands after the final norm.
        n_layers = self.model.config.num_hidden_layers
        self.names = ["embed", *[f"resid_post.{i}" for i in range(n_layers - 1)], "final_norm"]
        self.settings = f"AutoModelForCausalLM, output_hidden_states=True, no_grad, batches of {BATCH}"

    def batch(self, texts: list[str]) -> Any:
        import torch

        batch = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        with torch.no_grad():
            states = self.model(**batch, output_hidden_states=True).hidden_states
        last = batch["attention_mask"].sum(dim=1) - 1
        return torch.stack([state[torch.arange(len(last)), last] for state in states], dim=1)


class TransformerLens(_Stacked):
    """`TransformerBridge`, since version 4 the only way; a folder in place of a hub name works as it is."""

    def __init__(self, folder: str, dtype: str | None) -> None:
        from transformer_lens.model_bridge import TransformerBridge  # type: ignore[import-not-found]

        chosen = {} if dtype is None else {"dtype": _torch_dtype(dtype)}
        self.bridge = TransformerBridge.boot_transformers(folder, device="cpu", **chosen)
        self.dtype = _name_of(next(self.bridge.original_model.parameters()).dtype)
        n_layers = self.bridge.cfg.n_layers
        self.names = ["embed", *[f"resid_post.{i}" for i in range(n_layers)]]
        # The right names only: a cache of all hooks is several times as large.
        self.hooks = ["hook_embed", *[f"blocks.{i}.hook_resid_post" for i in range(n_layers)]]
        self.settings = f"TransformerBridge.run_with_cache, names_filter, no_grad, no BOS, batches of {BATCH}"

    def batch(self, texts: list[str]) -> Any:
        import torch

        # The bridge makes its tokenizer prepend a BOS, as the folder's own does not; others would see another text.
        batch = self.bridge.tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
        )
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with torch.no_grad():
            _, cache = self.bridge.run_with_cache(ids, attention_mask=mask, names_filter=self.hooks)
        last = mask.sum(dim=1) - 1
        return torch.stack([cache[hook][torch.arange(len(last)), last] for hook in self.hooks], dim=1)


class Nnsight(_Stacked):
    """A trace a batch, each block's output saved at the last position; it pads on the left by itself."""

    def __init__(self, folder: str, dtype: str | None) -> None:
        from nnsight import TransformersModel  # type: ignore[import-not-found]

        chosen = {} if dtype is None else {"dtype": _torch_dtype(dtype)}
        self.model = TransformersModel(folder, task="text-generation", device_map="cpu", dispatch=True, **chosen)
        self.dtype = _name_of(next(self.model._module.parameters()).dtype)
        self.names = ["embed", *[f"resid_post.{i}" for i in range(self.model.config.num_hidden_layers)]]
        self.settings = f"TransformersModel.trace, output[:, -1].save() of every block, no_grad, batches of {BATCH}"

    def batch(self, texts: list[str]) -> Any:
        import nnsight
        import torch

        model = self.model
        with torch.no_grad(), model.trace(texts):
            found = nnsight.save([])
            found.append(model.model.embed_tokens.output[:, -1])
            for layer in model.model.layers:
                found.append(layer.output[:, -1])
        return torch.stack(list(found), dim=1)


class Lmprobe:
    """`UnifiedCache.warmup`, which writes a safetensors file a text into its cache; it has no embeddings."""

    def __init__(self, folder: str, dtype: str | None) -> None:
        from lmprobe import UnifiedCache  # type: ignore[import-not-found]

        self.cache = UnifiedCache(model=folder, layers="all", compute_perplexity=False, device="cpu", dtype=dtype)
        backend = self.cache._resolved_backend
        self.dtype = _name_of(backend.model.dtype)
        self.settings = (
            f"UnifiedCache.warmup, layers 'all', last_token, pooled, compute_perplexity=False, batches of "
            f"{self.cache.batch_size} (its default)"
        )

    def collect(self, texts: list[str], out: Path) -> None:
        from lmprobe import set_cache_backend

        set_cache_backend(str(out))
        # It draws a progress bar.
        with contextlib.redirect_stderr(io.StringIO()):
            self.cache.warmup(texts)

    def read(self, texts: list[str], out: Path) -> dict[str, np.ndarray]:
        with contextlib.redirect_stderr(io.StringIO()):
            values, _ = self.cache.get_activations(texts)
        n_layers = len(self.cache.layer_indices)
        values = values.float().numpy().reshape(len(texts), n_layers, -1)
        return {f"resid_post.{i}": values[:, i] for i in range(n_layers)}


class Leadline:
    """Ours at its defaults: `load_model` and `extract` into a store."""

    def __init__(self, folder: str, dtype: str | None) -> None:
        import leadline as ll

        self.model = ll.load_model(folder, dtype=dtype or "auto")
        self.dtype = _name_of(self.model.dtype)
        self.settings = "leadline.extract, its default sites, budget and dtype"

    def collect(self, texts: list[str], out: Path) -> None:
        import leadline as ll

        rows = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
        data = ll.Dataset.from_rows(rows, target="label", name="texts")
        ll.extract(self.model, data, out=out)

    def read(self, texts: list[str], out: Path) -> dict[str, np.ndarray]:
        from leadline.activations import Activations

        acts = Activations.open(out)
        return {site.name: acts.read(site) for site in acts.sites}


SIDES: dict[str, type[Side]] = {
    "leadline": Leadline,
    "hidden-states": HiddenStates,
    "transformer-lens": TransformerLens,
    "nnsight": Nnsight,
    "lmprobe": Lmprobe,
}
