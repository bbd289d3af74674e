"""What a row's surface is to the model: its first and last token, where what is read stands, how likely the text is.

`evidence` knows arrays alone; what takes a tokenizer or a model to find is found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations import Selection
from leadline.activations.encoding import EncodedRows
from leadline.errors import DataError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.evidence.controls import ARRAY_CONTROLS
from leadline.models.perplexity import nll_of_rows, why_no_perplexity

if TYPE_CHECKING:
    from leadline.data import Dataset
    from leadline.models import Model
    from leadline.models.encoded import Encoded

__all__ = ["surface_arrays"]

_STAGE = "surface"


def surface_arrays(
    model: Model,
    data: Dataset,
    selection: Selection | str,
    controls: Sequence[str] = ARRAY_CONTROLS,
    events: EventSink = SILENT,
) -> dict[str, np.ndarray]:
    """What the baselines of `ARRAY_CONTROLS` read, for every row of a data set.

    Parameters
    ----------
    selection : the tokens that the probe reads.
    controls : which baselines are wanted; others than these four are passed over.
    events : receives progress, and a note on each baseline that cannot be had here, with the reason.

    Returns
    -------
    Those of the following that were asked for and can be had:

    first_token, last_token : (n,) int64 ids of the text's own first and last token, special tokens passed over. Of a
        chat, of its messages' contents; of a row that stands for a word, of that word.
    position : (n, k) float64. For rows that stand for words of a sentence (k = 2): words before and after it. Else
        (k = 3): tokens before the last one that is read, tokens after it, and how many are read.
    perplexity : (n,) float64, the mean negative log-likelihood of the row's tokens (of a word's sentence); NaN for a
        row of one token.

    Raises
    ------
    DataError : as `Model.encode_rows`.
    """
    wanted = [name for name in ARRAY_CONTROLS if name in controls]
    chosen = Selection.parse(selection)

    def leave_out(names: Sequence[str], why: str) -> None:
        for name in names:
            if name in wanted:
                wanted.remove(name)
                events.emit(Event("note", _STAGE, f"the baseline '{name}' is left out: {why}"))

    if data.modality not in ("text", "chat") or model.tokenizer is None:
        leave_out(tuple(wanted), f"the rows of '{data.name}' are no texts that '{model.name}' reads alone")
    if chosen.ragged:
        leave_out(("position",), "every token is kept, so that a row of the data set has no one position")
    if "perplexity" in wanted and (why := why_no_perplexity(model)):
        leave_out(("perplexity",), why)
    if not wanted:
        return {}
    words = data.span_column
    with stage(events, _STAGE, ", ".join(wanted)):
        rows, has_offsets = _encode(model, data, chosen, words, wanted, events)
        found: dict[str, np.ndarray] = {}
        if "first_token" in wanted or "last_token" in wanted:
            ends = _ends(model, data, rows, words, has_offsets)
            found |= {name: ends[:, i] for i, name in enumerate(("first_token", "last_token")) if name in wanted}
        if "position" in wanted:
            found["position"] = _positions(data, rows, chosen)
        if "perplexity" in wanted:
            found["perplexity"] = nll_of_rows(model, rows, events=events)
            n_missing = int(np.isnan(found["perplexity"]).sum())
            if n_missing:
                message = f"{n_missing:,} rows of one token have no perplexity and count as of the mean one"
                events.emit(Event("note", _STAGE, message))
    return found


def _encode(
    model: Model, data: Dataset, selection: Selection, words: str | None, wanted: Sequence[str], events: EventSink
) -> tuple[EncodedRows, bool]:
    """The rows as extraction encodes them, and whether they say where their tokens stand in the text."""
    part = model.part if model.parts else None
    by_place = words is not None or ("position" in wanted and selection.needs_offsets)
    for_chat = data.is_chat and ("first_token" in wanted or "last_token" in wanted)
    if by_place or for_chat:
        try:
            rows = EncodedRows(model, data, part, offsets=True)
            # The texts are encoded when the first is asked for.
            _ = rows.lengths
            return rows, True
        except DataError as error:
            if by_place:
                raise
            message = f"the first and last token are those of the whole chat, its template's among them: {error}"
            events.emit(Event("note", _STAGE, message))
    return EncodedRows(model, data, part, offsets=False), False


def _ends(model: Model, data: Dataset, rows: EncodedRows, words: str | None, has_offsets: bool) -> np.ndarray:
    """(n, 2) int64 ids of the first and the last token of each row's own text."""
    assert model.tokenizer is not None
    special = frozenset(model.tokenizer.all_special_ids)
    found = np.empty((len(rows), 2), dtype=np.int64)
    if words is not None:
        read, spans = Selection.parse(f"span:{words}"), rows.spans(words)
        for i, (row, span) in enumerate(zip(rows, spans, strict=True)):
            at = read.positions(row, (int(span[0]), int(span[1])))
            found[i] = row.ids[at[0]], row.ids[at[-1]]
        return found
    for i, row in enumerate(rows):
        ids = np.asarray(row.ids, dtype=np.int64)
        own = ids[_within_messages(row)] if has_offsets and row.messages else ids
        own = own if len(own) else ids
        text = own[[int(token) not in special for token in own]]
        # A text of nothing but special tokens has these.
        found[i] = (text if len(text) else own)[[0, -1]]
    return found


def _within_messages(row: Encoded) -> np.ndarray:
    """(length,) bool: tokens that share a character with some message's content."""
    assert row.offsets is not None
    starts, ends = row.offsets[:, :1], row.offsets[:, 1:]
    begin, stop = (np.array([message[k] for message in row.messages]) for k in (1, 2))
    return np.asarray(((starts < stop) & (ends > begin)).any(axis=1))


def _positions(data: Dataset, rows: EncodedRows, selection: Selection) -> np.ndarray:
    columns = data.frame.columns
    if data.span_column is not None and "sentence" in columns and "position" in columns:
        place = data.frame["position"].to_numpy().astype(np.float64)
        _, sentence = np.unique(data.frame["sentence"].to_numpy(), return_inverse=True)
        # A word's sentence counts as far as its last labelled word.
        longest = np.zeros(sentence.max() + 1)
        np.maximum.at(longest, sentence, place)
        return np.stack([place - 1, longest[sentence] - place], axis=1)
    spans = None if selection.span is None else rows.spans(selection.span)
    found = np.empty((len(rows), 3))
    for i, row in enumerate(rows):
        at = selection.positions(row, None if spans is None else (int(spans[i, 0]), int(spans[i, 1])))
        # What a mean or a maximum reads ends where the last of its tokens stands.
        last = int(at[0] if selection.pool == "first" else at[-1])
        found[i] = last, row.length - 1 - last, 1 if selection.pool in ("first", "last") else len(at)
    return found
