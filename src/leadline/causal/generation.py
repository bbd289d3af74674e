"""Interventions in any pass: `intervene` opens a plan around passes and generation, `generate` writes with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from leadline.causal.change import Intervention
from leadline.causal.places import reads_text, refuse_text
from leadline.causal.plan import Bound, Plan
from leadline.causal.under_way import UnderWay
from leadline.errors import CausalError
from leadline.models.encoded import Encoded
from leadline.models.model import Model

__all__ = ["generate", "intervene"]


@contextmanager
def intervene(
    model: Model,
    *interventions: Intervention | Plan,
    inputs: Sequence[Any] | None = None,
    spans: np.ndarray | None = None,
) -> Iterator[Bound]:
    """Make interventions in every pass of the body: of `model.forward`, of `model.module(...)`, of its `generate`.

    Tokens are counted among the real ones of each row, whichever side the padding is on. The prompt is what the first
    pass holds, before there is a cache: `last` is its last token, once. All tokens (`all`), slices that never end
    (`1:`) and `generated` go on through the tokens generated with the cache; any other selection ends with the
    prompt. Nothing is left behind, whatever happens in the body.

    Parameters
    ----------
    interventions : in the order in which they are made where they meet at a site; or a `Plan`.
    inputs : the rows of each batch, as texts, chats or encoded rows, for selections that read text.
    spans : (n, 2) their character ranges, for selections `span:NAME`.

    Raises
    ------
    CausalError : as `Plan.bind`; a selection that reads text, without `inputs`. In a pass: rows other than those of
        `inputs` or than those that values are held for, or several tokens a row behind a cache, of which only `all` can
        be told.
    ActivationsError : in a pass, a row without the selected tokens.

    Examples
    --------
    >>> import leadline as ll                                                           # doctest: +SKIP
    >>> with ll.intervene(model, ll.Add(probe, 0.1)):                                   # doctest: +SKIP
    ...     model.module.generate(**model.tokenizer("The city", return_tensors="pt"))
    """
    bound = Plan(*interventions).bind(model)
    rows = None if inputs is None else _encoded(model, bound, inputs)
    lacking = next((one.tokens for one in bound.interventions if reads_text(one.tokens)), None)
    if rows is None and lacking is not None:
        raise refuse_text(lacking)
    with _opened(model, UnderWay(bound, model, rows, spans)):
        yield bound


def generate(
    model: Model,
    prompts: Sequence[Any],
    *interventions: Intervention | Plan,
    max_new_tokens: int = 40,
    batch_size: int = 16,
    spans: np.ndarray | None = None,
) -> list[str]:
    """Let a model go on, greedily, with interventions.

    Parameters
    ----------
    prompts : n texts or chats; a chat ends with what opens the model's answer.
    interventions : as for `intervene`; values by row are by the order of `prompts`.
    max_new_tokens : the most tokens of each answer.
    batch_size : prompts that are answered together, padded on the left.
    spans : (n, 2) character ranges in the prompts, for selections `span:NAME`.

    Returns
    -------
    n texts: what was generated, without the prompt and without special tokens.

    Raises
    ------
    CausalError : as `intervene`; a model that cannot generate text, or prompts too long to go on from.
    DataError : as `Model.encode_rows`.
    """
    if isinstance(prompts, str):
        raise CausalError("generate takes a list of prompts, but was given one text; put it in a list.")
    tokenizer, module = model.tokenizer, model.module
    if tokenizer is None or not getattr(module, "can_generate", lambda: False)():
        raise CausalError(f"'{model.name}' generates no text: load a causal language model with head and tokenizer.")
    if max_new_tokens < 1 or batch_size < 1:
        raise CausalError(f"got max_new_tokens={max_new_tokens}, batch_size={batch_size}; expected 1 or more of each.")
    bound = Plan(*interventions).bind(model)
    bound.check_rows(len(prompts))
    offsets = any(reads_text(one.tokens) for one in bound.interventions)
    rows = model.encode_rows(prompts, offsets=offsets, generation_prompt=True)
    longest = max((row.length for row in rows), default=0)
    if model.max_tokens is not None and longest + max_new_tokens > model.max_tokens:
        raise CausalError(
            f"the longest prompt has {longest} tokens, and {max_new_tokens} more would pass the {model.max_tokens} "
            f"that '{model.name}' takes; shorten the prompts or lower max_new_tokens."
        )
    own = getattr(module, "generation_config", None)
    end = getattr(own, "eos_token_id", None)
    if end is None:
        end = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = end[0] if isinstance(end, (list, tuple)) else end if end is not None else 0
    # What is left to the model's own settings would sample, or punish repetition.
    options = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    options |= {"max_new_tokens": max_new_tokens, "use_cache": True, "pad_token_id": pad, "eos_token_id": end}
    found = [""] * len(rows)
    # Like lengths together, for little padding.
    order = sorted(range(len(rows)), key=lambda i: -rows[i].length)
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        width = rows[some[0]].length
        ids = torch.full((len(some), width), int(pad))
        mask = torch.zeros_like(ids)
        for k, i in enumerate(some):
            ids[k, width - rows[i].length :] = torch.tensor(list(rows[i].ids))
            mask[k, width - rows[i].length :] = 1
        ranges = None if spans is None else np.asarray(spans)[some]
        state = UnderWay(bound, model, [rows[i] for i in some], ranges, np.array(some))
        with _opened(model, state), torch.inference_mode():
            written = module.generate(  # type: ignore[operator]
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), **options
            )
        texts = tokenizer.batch_decode(written[:, width:].cpu(), skip_special_tokens=True)
        for i, text in zip(some, texts, strict=True):
            found[i] = text
    return found


@contextmanager
def _opened(model: Model, state: UnderWay) -> Iterator[None]:
    if not state.bound.sites:
        yield
        return
    with state.following(), model.editing(state.bound.sites, state.edit):
        yield


def _encoded(model: Model, bound: Bound, inputs: Sequence[Any]) -> list[Encoded]:
    if isinstance(inputs, str):
        raise CausalError("inputs= takes a list of rows, but was given one text; put it in a list.")
    if all(isinstance(row, Encoded) for row in inputs):
        return list(inputs)
    offsets = any(reads_text(one.tokens) for one in bound.interventions)
    return model.encode_rows(inputs, part=bound.part, offsets=offsets)
