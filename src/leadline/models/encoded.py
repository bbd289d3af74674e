"""`Encoded`: one row as a model takes it, and what each of its positions stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Encoded"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """One row, ready for the model.

    Parameters
    ----------
    ids : its token ids, unpadded; none for a picture, a sound or an array.
    length : its positions in the stream.
    arrays : what else the model is called with, without the batch dimension, as in `{"pixel_values": ...}`.
    text : the text that was tokenised, a chat as its template renders it; None where there is none.
    offsets : (length, 2) the range of characters of `text` that each position stands for; (0, 0) for special tokens.
        None where it was not asked for.
    messages : for a chat (role, start, end) of each message's content in `text`.
    parts : named sets of positions as truth values (length,): `"image"` and `"text"` of a vision-language model,
        `"patches"` of a picture.
    """

    ids: Sequence[int] = ()
    length: int = 0
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    text: str | None = None
    offsets: np.ndarray | None = None
    messages: tuple[tuple[str, int, int], ...] = ()
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
