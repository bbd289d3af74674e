"""How likely a causal language model finds each text: the mean negative log-likelihood of its tokens.

The trunk runs once over a batch; the model's own forward then turns hidden states into logits, a few positions at a
time, so that the logits of a whole batch (256 thousand numbers a token for some models) never exist at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from leadline.errors import ModelError
from leadline.events import SILENT, Event, EventSink
from leadline.models.hooks import evaluating

if TYPE_CHECKING:
    from leadline.models.encoded import Encoded
    from leadline.models.model import Model

__all__ = [
    "has_plain_head",
    "logits_of",
    "mean_nll",
    "n_vocab",
    "nll_of_batch",
    "nll_of_rows",
    "why_no_perplexity",
]

# Padding included. Small batches cost little, since rows of like length go together.
_BATCH_TOKENS = 4096
# Logits that exist at once, in numbers; a pass over them holds a handful of arrays of that size in float32.
_LOGITS = 1 << 24
_STAGE = "perplexity"
# How far logits of the head alone may be from the whole model's, relative to their spread.
_TOLERANCE, _HALF_TOLERANCE = 1e-4, 5e-2


def why_no_perplexity(model: Model) -> str:
    """Why a model gives a text no likelihood, in plain words; an empty string where it does."""
    if model.modules_only or not model.parts:
        return f"'{model.name}' was loaded for named modules only"
    row = model.part.row
    if row.inputs != "text" or row.part or len(model.parts) > 1:
        return f"'{model.name}' is no language model of text alone"
    if not row.causal:
        return f"'{model.name}' is an encoder, which sees each token it would have to predict"
    if model.tokenizer is None:
        return f"'{model.name}' was loaded without a tokenizer"
    if _head(model.module) is None:
        return f"'{model.name}' was loaded without a language-model head"
    return ""


def mean_nll(
    model: Model, inputs: Sequence[Any], *, batch_tokens: int = _BATCH_TOKENS, events: EventSink = SILENT
) -> np.ndarray:
    """The mean negative log-likelihood of each text under a causal language model; its exponential is the perplexity.

        −1/(T − 1) · Σ_{t=2..T} log p(x_t | x_1 … x_{t−1})

    over all T tokens that `Model.encode` gives: a special token that opens the text conditions the first word, and a
    chat's template counts along. It is the loss that transformers gives with the text as its own labels.

    Parameters
    ----------
    inputs : n texts or chats. Equal ones are computed once.
    batch_tokens : the most tokens of a batch, padding included.
    events : receives progress, in tokens.

    Returns
    -------
    (n,) float64, in nats a token; NaN for a text of a single token, of which nothing is predicted.

    Raises
    ------
    ModelError : the model is no causal language model; says why.
    DataError : as `Model.encode_rows`.
    """
    reason = why_no_perplexity(model)
    if reason:
        raise ModelError(f"no text has a likelihood here: {reason}. Give a causal language model with its head.")
    return nll_of_rows(model, model.encode_rows(inputs), batch_tokens=batch_tokens, events=events)


def nll_of_rows(
    model: Model, rows: Sequence[Encoded], *, batch_tokens: int = _BATCH_TOKENS, events: EventSink = SILENT
) -> np.ndarray:
    """As `mean_nll`, for rows that are encoded already."""
    ids = {tuple(row.ids): row for row in rows}
    # The longest first, so that what does not fit into memory says so at once.
    unique = sorted((row for own, row in ids.items() if len(own) > 1), key=lambda row: -row.length)
    found: dict[tuple[int, ...], float] = {}
    total = sum(row.length for row in unique)
    done = start = 0
    while start < len(unique):
        some = unique[start : start + max(1, batch_tokens // unique[start].length)]
        batch = model.batch(some)
        losses = _nll(model, partial(model.run, batch), batch.arguments["input_ids"], batch.mask)
        found.update({tuple(row.ids): float(loss) for row, loss in zip(some, losses, strict=True)})
        start += len(some)
        done += sum(row.length for row in some)
        events.emit(Event("progress", _STAGE, done=done, total=total, unit="tokens"))
    return np.array([found.get(tuple(row.ids), np.nan) for row in rows], dtype=np.float64)


def nll_of_batch(model: Model, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> np.ndarray:
    """(batch,) as `mean_nll`, of token ids (batch, seq) padded on either side."""
    mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool().cpu()
    return _nll(model, lambda: model.forward(input_ids, attention_mask), input_ids, mask)


def _nll(model: Model, run: Any, input_ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    with torch.inference_mode(), evaluating(model.module):
        # Tokens whose next one is of the text too: with padding on either side, real tokens stand together.
        row, at = (mask[:, :-1] & mask[:, 1:]).nonzero(as_tuple=True)
        targets = input_ids.cpu()[row, at + 1].to(model.device)
        if has_plain_head(model):
            hidden = run()
            assert hidden is not None
            hidden = hidden[row.to(hidden.device), at.to(hidden.device)]
            losses = _through_head(model.module, hidden, targets)
        else:
            losses = _whole(model.module, input_ids.to(model.device), mask.to(model.device), row, at, targets)
        sums = torch.zeros(len(mask), dtype=torch.float64).index_add_(0, row, losses.double().cpu())
    counts = torch.bincount(row, minlength=len(mask)).double()
    return np.asarray(torch.where(counts > 0, sums / counts.clamp(min=1), torch.nan).numpy())


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def _through_head(module: nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(N,) losses from final hidden states (N, d), a few at a time."""
    size = max(1, _LOGITS // n_vocab(module))
    parts = [
        _losses(logits_of(module, hidden[s : s + size]), targets[s : s + size]) for s in range(0, len(hidden), size)
    ]
    return torch.cat(parts) if parts else torch.zeros(0)


def _whole(
    module: nn.Module, ids: torch.Tensor, mask: torch.Tensor, row: torch.Tensor, at: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """(N,) losses by whole passes, for a model whose forward cannot be entered behind the trunk."""
    parts = []
    for i, real in enumerate(mask):
        # One text after the other and without its padding, so that positions count from its first token.
        first, n = int(real.long().argmax()), int(real.sum())
        here = row == i
        logits = module(input_ids=ids[i : i + 1, first : first + n], use_cache=False).logits[0]
        parts.append(_losses(logits[(at[here] - first).to(logits.device)], targets[here.to(targets.device)]))
    return torch.cat(parts)


def logits_of(module: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """(N, vocabulary) by the model's own forward (its head, scale and cap of the logits) with the trunk left out."""
    with _trunk_gives(module, hidden[None]):
        ids = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
        return torch.as_tensor(module(input_ids=ids, use_cache=False).logits[0])


class _TrunkOutput:
    """What a trunk returns: its last hidden state by name or first of a tuple, and None for anything else."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


@contextmanager
def _trunk_gives(module: nn.Module, hidden: torch.Tensor) -> Iterator[None]:
    """Let the trunk return given hidden states (1, N, d) instead of computing them."""
    trunk: Any = module.base_model
    trunk.forward = lambda *_, **__: _TrunkOutput(hidden)
    try:
        yield
    finally:
        # The class's own is found again.
        del trunk.forward


def has_plain_head(model: Model) -> bool:
    """Whether the forward of the model, entered behind its trunk, gives its logits; tried out on random tokens."""
    if "_plain_head" not in model.__dict__:
        with torch.inference_mode(), evaluating(model.module):
            model.__dict__["_plain_head"] = _tried_head(model)
    return bool(model.__dict__["_plain_head"])


def _tried_head(model: Model) -> bool:
    module = model.module
    ids = torch.randint(min(n_vocab(module), 1000), (1, 6), generator=torch.Generator().manual_seed(0))
    ids = ids.to(model.device)
    hidden = model.forward(ids)
    if hidden is None or getattr(module, "base_model", module) is module:
        return False
    whole = module(input_ids=ids, use_cache=False).logits[0].float()
    try:
        again = logits_of(module, hidden[0]).float()
    except (AttributeError, TypeError, ValueError, RuntimeError, KeyError, IndexError):
        # A forward that needs more of its trunk than the last hidden state.
        return False
    tolerance = _TOLERANCE if model.dtype == torch.float32 else _HALF_TOLERANCE
    return again.shape == whole.shape and bool((again - whole).abs().max() <= tolerance * whole.std())


def _head(module: nn.Module) -> nn.Module | None:
    find = getattr(module, "get_output_embeddings", None)
    return find() if find is not None else None


def n_vocab(module: nn.Module) -> int:
    """How many tokens the head of a language model tells apart."""
    head = _head(module)
    weight = getattr(head, "weight", None)
    if isinstance(weight, torch.Tensor):
        return int(weight.shape[0])
    config: Any = module.config
    return int(config.vocab_size)
