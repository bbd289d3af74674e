"""Which tokens of a row count, and how they become one vector.

Everything goes by the attention mask or by positions in the row, so that the side of the padding and its amount do
not change a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations.pooling import Pool, pool_mask, pool_positions
from leadline.activations.selection_grammar import POOLS, Span, TokenRow, Which, parse_selection
from leadline.errors import ActivationsError

if TYPE_CHECKING:
    import torch

__all__ = ["POOLS", "SELECTIONS", "Pool", "Selection", "TokenRow", "pool_positions"]

SELECTIONS = ("last", "first", "mean", "max")


@dataclass(frozen=True)
class Selection:
    """Which tokens of a row are read, and how they become one vector: `POOL@WHICH`, `POOL` or `WHICH`.

    `POOL` is the `last` or `first` of them, their `mean` or `max`, dimension by dimension, or `all`, which keeps each.
    Without it, it is `last` for a single token and `mean` otherwise. `WHICH` is one of

        (nothing)       every real token
        -3:  2:5  :4    a slice of them, as of a Python list
        -2  0           one of them
        every:4         the first, and every fourth after it
        span:NAME       those in the character range that the data set's column NAME gives
        role:ROLE       those in the contents of a chat's messages of that role
        regex:PATTERN   those that overlap a match of the pattern (its group 1, where it has one) in the text
        content         those that stand for characters of the text: no special tokens
        image, text     those parts of a vision-language row
        patches         all but the special tokens of a picture

    A token is in a range of characters if it shares with it a character that is no white space, since whether " Paris"
    holds the space before the word depends on the tokenizer. A match that is all white space is what it looks like:
    every token that holds a part of it.

    Parameters
    ----------
    name : as above. It is kept in canonical form, with the pool: `"mean@-3:"` for `"-3:"`, and `"last"` for `"last"`.

    Attributes
    ----------
    pool, which : the two parts; `which` is empty for every real token.

    Raises
    ------
    ActivationsError : it is outside this grammar.

    Examples
    --------
    >>> Selection.parse("-3:").name, Selection.parse("max@role:user").pool
    ('mean@-3:', 'max')
    """

    name: str
    pool: str = field(init=False, repr=False, compare=False)
    which: str = field(init=False, repr=False, compare=False)
    _rule: Which = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pool, rule = parse_selection(str(self.name))
        for key, value in (("pool", pool), ("which", rule.text), ("_rule", rule)):
            object.__setattr__(self, key, value)
        object.__setattr__(self, "name", f"{pool}@{rule.text}" if rule.text else pool)

    @classmethod
    def parse(cls, text: str | Selection) -> Selection:
        """Read a selection from its name, as in `Selection.parse("last")`."""
        return text if isinstance(text, Selection) else cls(str(text))

    def __str__(self) -> str:
        return self.name

    @property
    def span(self) -> str | None:
        """The data set's column of character ranges that this reads; None for any other selection."""
        return self._rule.name if isinstance(self._rule, Span) else None

    @property
    def needs_offsets(self) -> bool:
        """Whether `positions` reads the row's text and its tokens' character ranges."""
        return self._rule.needs_offsets

    @property
    def ragged(self) -> bool:
        """Whether it keeps a vector a token rather than a vector a row."""
        return self.pool == "all"

    def positions(self, row: TokenRow, span: tuple[int, int] | None = None) -> np.ndarray:
        """The positions that the pool reads.

        Parameters
        ----------
        row : an encoded row.
        span : the character range [start, end) in the row's text; for `span:` selections, and only for them.

        Returns
        -------
        (k,) int64, sorted, k of at least 1, counted from 0 in the row's own tokens without padding.

        Raises
        ------
        ActivationsError : the row has no such token or not what the selection reads, or the span is not in its text.
        """
        rule = self._rule
        if span is None:
            found = rule.positions(row)
        elif isinstance(rule, Span):
            found = rule.within(row, span)
        else:
            raise ActivationsError(
                f"a span was given for '{self.name}', which reads none; expected a selection such as 'span:NAME'."
            )
        if not len(found):
            raise ActivationsError(
                f"'{self.name}' found no token: it looked for {rule.missed(row)}. Leave such rows out, or select "
                f"otherwise."
            )
        return found.astype(np.int64, copy=False)

    def pooler(self, mask: torch.Tensor, device: torch.device | str | None = None) -> Pool:
        """Work out, once a batch, what is the same for every site. For selections of whole rows.

        Parameters
        ----------
        mask : (batch, seq), 1 at real tokens.
        device : where the activations will be; None for where the mask is.

        Returns
        -------
        A function from activations (batch, seq, d) of any float dtype to pooled (batch, d) float32; for `all` to
        (number of real tokens, d), row after row. Only real tokens are read: what stands at padding, NaN included, does
        not matter. The mean is accumulated in float64 (float32 where the device has no other).

        Raises
        ------
        ActivationsError : a mask that is not (batch, seq), a row without any real token, or a selection that a mask
            alone does not decide.
        """
        if self.which:
            raise ActivationsError(
                f"'{self.name}' reads some tokens of a row, which a mask alone does not tell; find them with "
                f"positions() and pool them with pool_positions()."
            )
        return pool_mask(self.pool, mask, device)
