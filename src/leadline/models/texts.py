"""Texts and chats to token ids, with where in the text each token stands."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import DataError
from leadline.models.encoded import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Input", "encode_texts", "name_rows"]

# What a tokenizer gives of a row is large beside its ids.
_AT_ONCE = 2048

# A text, or chat messages in the form of transformers: {"role": ..., "content": ...}.
Input = str | Sequence[Mapping[str, Any]]


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    inputs: Sequence[Input],
    name: str,
    *,
    offsets: bool = False,
    generation_prompt: bool = False,
) -> list[Encoded]:
    """Turn texts or chats into token ids, unpadded and uncut.

    A text gets the special tokens that the tokenizer itself adds. A chat goes through the tokenizer's chat template.

    Parameters
    ----------
    inputs : a text, or a sequence of messages `{"role": ..., "content": ...}`, per row.
    name : the model's, for errors.
    offsets : note the text, and where each token stands in it.
    generation_prompt : let the template end a chat with what opens the model's answer.

    Raises
    ------
    DataError : a chat that the tokenizer has no template for or that its template refuses; a tokenizer that keeps no
        offsets where they are asked for. Names the rows.
    """
    texts = {i: row for i, row in enumerate(inputs) if isinstance(row, str)}
    chats = {
        i: _render(tokenizer, i, row, name, generation_prompt)
        for i, row in enumerate(inputs)
        if not isinstance(row, str)
    }
    if offsets and inputs and not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"the tokenizer of '{name}' ({type(tokenizer).__name__}) does not say where its tokens stand in the text, "
            f"so spans, roles and expressions cannot be found; give a fast tokenizer, or select by position (last)."
        )
    found: dict[int, Encoded] = {}
    # A template writes the special tokens itself; the tokenizer must not add them again.
    for rows, special in ((texts, True), (chats, False)):
        for start in range(0, len(rows), _AT_ONCE):
            some = list(rows.items())[start : start + _AT_ONCE]
            encoded = tokenizer(
                [text for _, text in some],
                add_special_tokens=special,
                padding=False,
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                return_offsets_mapping=offsets,
                verbose=False,
            )
            places = encoded["offset_mapping"] if offsets else [None] * len(some)
            for (i, text), ids, place in zip(some, encoded["input_ids"], places, strict=True):
                found[i] = Encoded(
                    ids=array("i", ids),
                    length=len(ids),
                    text=text if offsets else None,
                    offsets=None if place is None else np.asarray(place, dtype=np.int64).reshape(-1, 2),
                    messages=_messages(tokenizer, text, inputs[i], i, name) if offsets and rows is chats else (),
                )
    return [found[i] for i in range(len(inputs))]


def _render(tokenizer: Any, i: int, messages: Any, name: str, generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    well_formed = (
        isinstance(messages, Sequence)
        and len(messages) > 0
        and all(isinstance(m, Mapping) and "role" in m and "content" in m for m in messages)
    )
    if not well_formed:
        raise DataError(
            f"row {i} is neither a text nor a chat; expected a string, or a list of "
            f"{{'role': ..., 'content': ...}} with at least one message."
        )
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            f"row {i} is a chat, but the tokenizer of '{name}' has no chat template; give the data as plain "
            f"texts, or a model that was tuned for chat."
        )
    try:
        rendered = tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=generation_prompt
        )
    except TemplateError as error:
        raise DataError(
            f"row {i}: the chat template of '{name}' refuses these messages ({error}); change their roles or "
            f"order to what it takes."
        ) from error
    return str(rendered)


def _messages(tokenizer: Any, text: str, messages: Any, i: int, name: str) -> tuple[tuple[str, int, int], ...]:
    """Where each message's content stands in the rendered chat.

    The chat is rendered again with marks in place of the contents, which shows what the template itself writes between
    them: a content may be a word that the template uses too.
    """
    marks = [f"\ue000{k}\ue001" for k in range(len(messages))]
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    around = _render(tokenizer, i, marked, name)
    found: list[tuple[str, int, int]] = []
    cursor = before = 0
    for message, mark in zip(messages, marks, strict=True):
        at = around.find(mark, before)
        written = around[before:at] if at >= 0 else None
        content = str(message["content"])
        if written is not None and text.startswith(written, cursor):
            start = cursor + len(written)
            # Many templates strip what they write.
            stands = next((c for c in (content, content.strip()) if text.startswith(c, start)), None)
            if stands is not None:
                found.append((str(message["role"]), start, start + len(stands)))
                cursor, before = start + len(stands), at + len(mark)
                continue
        raise DataError(
            f"row {i}: the chat template of '{name}' writes the message of '{message['role']}' in other words, so "
            f"that its tokens cannot be told; select by position (last, mean) instead."
        )
    return tuple(found)


def name_rows(rows: Sequence[int]) -> str:
    """Rows for a person, as in `"rows 3, 7 and 12 more"`."""
    named = ", ".join(str(i) for i in rows[:10])
    return f"row{'s' if len(rows) > 1 else ''} {named}" + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
