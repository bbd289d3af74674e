"""Which tokens an intervention acts on: in an encoded row, and in the passes of a generation."""

from __future__ import annotations

import numpy as np

from leadline.activations.selection_grammar import Slice, TokenRow, parse_selection
from leadline.activations.tokens import Selection
from leadline.errors import CausalError

__all__ = ["GENERATED", "check_tokens", "covers_all", "covers_generated", "positions_of", "reads_text"]

# Beside the selections: tokens that the model itself has generated, and none of the prompt.
GENERATED = "generated"


def check_tokens(tokens: str | Selection) -> str:
    """A selection's canonical name, or `generated`.

    Raises
    ------
    ActivationsError : it is outside the grammar of selections.
    """
    return GENERATED if str(tokens).strip() == GENERATED else Selection.parse(tokens).name


def positions_of(tokens: str, row: TokenRow, span: tuple[int, int] | None = None) -> np.ndarray:
    """(k,) the sorted positions of an encoded row: `last` and `first` take one end, every other pool keeps each.

    Raises
    ------
    ActivationsError : the row has no such token, or not what the selection reads.
    """
    if tokens == GENERATED:
        return np.empty(0, dtype=np.int64)
    selection = Selection.parse(tokens)
    found = selection.positions(row, span if selection.span is not None else None)
    return found[-1:] if selection.pool == "last" else found[:1] if selection.pool == "first" else found


def covers_all(tokens: str) -> bool:
    """Whether it is every token of a row and every one that is generated after it."""
    return (
        tokens != GENERATED and Selection.parse(tokens).pool not in ("last", "first") and ends(tokens) == (None, None)
    )


def covers_generated(tokens: str) -> bool:
    """Whether tokens that are generated behind a prompt belong to it: to all tokens, and to slices that never end."""
    if tokens == GENERATED:
        return True
    found = ends(tokens)
    return Selection.parse(tokens).pool not in ("last", "first") and found is not None and found[1] is None


def reads_text(tokens: str) -> bool:
    """Whether it needs more of a row than how many tokens it has."""
    if tokens == GENERATED:
        return False
    selection = Selection.parse(tokens)
    return selection.needs_offsets or selection.which in ("image", "text", "patches")


def ends(tokens: str) -> tuple[int | None, int | None] | None:
    """The bounds of a slice; None for any other rule."""
    rule = parse_selection(tokens)[1]
    return (rule.start, rule.stop) if isinstance(rule, Slice) else None


def refuse_text(tokens: str) -> CausalError:
    """Why a selection that reads text cannot be found in bare token ids."""
    return CausalError(
        f"'{tokens}' is found by the text of a row, and a pass holds token ids alone; give the texts or encoded rows "
        f"of the batch as inputs=, or select by position, as in 'last' or '1:'."
    )
