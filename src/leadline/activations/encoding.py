"""A data set's rows as a model takes them: token ids all at once, pictures and sounds as they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from leadline.data.records import name_rows
from leadline.errors import DataError

if TYPE_CHECKING:
    from leadline.data import Dataset
    from leadline.models import Model
    from leadline.models.encoded import Encoded
    from leadline.models.part import Part

__all__ = ["EncodedRows"]

# Pictures kept as arrays; a batch is asked for its positions and then for itself.
_KEPT = 64


class EncodedRows(Sequence["Encoded"]):
    """The rows of a data set, encoded for one part of a model when the first of them is asked for.

    Texts and chats are encoded once and held as token ids. A picture's pixels would fill the memory, so that rows of
    other kinds are read again each time they are asked for, but for the last few.

    Parameters
    ----------
    part : the part to be read; None for named modules of any module.
    offsets : note where each token stands in its text.

    Raises
    ------
    DataError : inputs that the part does not take, or that cannot be read; names the rows.
    """

    def __init__(self, model: Model, data: Dataset, part: Part | None, *, offsets: bool) -> None:
        self.model, self.data, self.part = model, data, part
        self._offsets = offsets
        self._kept: OrderedDict[int, Encoded] = OrderedDict()

    @cached_property
    def _texts(self) -> list[Encoded] | None:
        if self.data.modality not in ("text", "chat"):
            return None
        return self.model.encode_rows(self.data.inputs, part=self.part, offsets=self._offsets)

    def __len__(self) -> int:
        return self.data.n

    def __iter__(self) -> Iterator[Encoded]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, row: int) -> Encoded:  # type: ignore[override]
        if self._texts is not None:
            return self._texts[row]
        if row not in self._kept:
            try:
                found = self.model.encode_rows([self.data.inputs[row]], part=self.part, offsets=self._offsets)[0]
            except DataError as error:
                # The row that was given is the only one there.
                raise DataError(f"{self.name(row)}: {str(error).removeprefix('row 0: ')}") from error
            self._kept[row] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(row)
        return self._kept[row]

    @cached_property
    def lengths(self) -> list[int]:
        """The positions of each row; of pictures and sounds all have those of the first."""
        if self._texts is not None:
            return [row.length for row in self._texts]
        if self.data.modality == "captioned":
            # The text decides; a picture always takes the same.
            with_picture = self[0].length
            texts = [len(ids) for ids in self.model.encode([row.text for row in self.data.inputs])]  # type: ignore[union-attr]
            return [with_picture - texts[0] + n for n in texts]
        return [self[0].length] * len(self)

    @property
    def ids(self) -> list[Sequence[int]] | None:
        """The rows' token ids where they are all there is to a row; else None."""
        return None if self._texts is None else [row.ids for row in self._texts]

    def name(self, row: int) -> str:
        """A row for a person, by its place in the source."""
        return name_rows([int(self.data.source_rows[row])])

    def spans(self, name: str) -> np.ndarray:
        """(n, 2) the ranges of characters that the data set's column gives, in the text that was tokenised.

        Raises
        ------
        DataError : no such column, or a range that is not in its row.
        """
        found = self.data.span(name)
        if not self.data.is_chat:
            return found
        # (message, start, end) in the message's content.
        placed = np.empty((len(self), 2), dtype=np.int64)
        for row, (message, start, end) in enumerate(found):
            _, begins, ends = self[row].messages[message]
            content = str(self.data.inputs[row][message]["content"])  # type: ignore[index]
            # Where the template stripped the content, what stood before it is gone.
            lost = len(content) - len(content.lstrip()) if ends - begins < len(content) else 0
            placed[row] = begins + start - lost, begins + end - lost
        return placed
