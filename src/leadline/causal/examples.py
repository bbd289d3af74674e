"""Examples: prompts that ask a model for something, with the answers that count for and against.

The original text stands somewhere in its prompt, in a range of characters, so that an intervention can act on the
tokens of the text (`span:text`) and the answer be read after the question that follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import CausalError
from leadline.models.texts import name_rows
from leadline.probes.splits import group_codes

if TYPE_CHECKING:
    from leadline.models.encoded import Encoded
    from leadline.models.model import Model

__all__ = ["Answer", "Examples", "prompts"]

# One answer: its token ids behind the prompt.
Answer = tuple[int, ...]

_MARK = "{text}"


@dataclass(frozen=True, eq=False)
class Examples:
    """n prompts, ready for a model.

    Parameters
    ----------
    rows : the prompts, with each token's range of characters.
    spans : (n, 2) int64, the range [start, end) of the original text in the prompt's characters.
    positive, negative : for each row the answers that count for the positive class, and for the negative one. Both are
        empty where no behaviour is measured.
    y : (n,) float64, the class 0 or 1; NaN where there is none.
    groups : (n,) int64 codes of rows that err together.
    partner : (n,) int64, the row of the opposite class that a row is interchanged with; −1 for none.
    texts : the original texts.
    """

    rows: tuple[Encoded, ...]
    spans: np.ndarray
    positive: tuple[tuple[Answer, ...], ...]
    negative: tuple[tuple[Answer, ...], ...]
    y: np.ndarray
    groups: np.ndarray
    partner: np.ndarray
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_answers(self) -> bool:
        """Whether behaviour can be measured."""
        return any(self.positive) and any(self.negative)

    def span(self, row: int) -> tuple[int, int]:
        """The range of characters of the original text in a prompt."""
        return int(self.spans[row, 0]), int(self.spans[row, 1])

    def take(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Some of the rows, in that order; a partner that is not among them is none."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        place = np.full(len(self) + 1, -1, dtype=np.int64)
        place[index] = np.arange(len(index))
        return Examples(
            rows=tuple(self.rows[i] for i in index),
            spans=self.spans[index],
            positive=tuple(self.positive[i] for i in index),
            negative=tuple(self.negative[i] for i in index),
            y=self.y[index],
            groups=self.groups[index],
            # −1 takes the last place, which is no row's.
            partner=place[self.partner[index]],
            texts=tuple(self.texts[i] for i in index),
        )


def prompts(
    model: Model,
    texts: Sequence[str],
    *,
    template: str | Sequence[Mapping[str, str]] = _MARK,
    positive: Sequence[str] | Sequence[Sequence[str]] = (" yes",),
    negative: Sequence[str] | Sequence[Sequence[str]] = (" no",),
    y: Sequence[float] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    pairs: Sequence[Any] | np.ndarray | None = None,
    seed: int = 0,
) -> Examples:
    """Put texts into a template, and encode prompts and answers.

    Parameters
    ----------
    texts : n texts.
    template : holds `{text}` once; a text, as in `"{text} Is this true? Answer:"`, or messages of a chat
        `{"role": ..., "content": ...}`, which then end with what opens the model's answer.
    positive, negative : answers as they follow the prompt, with their leading space (`" yes"`); the same for all
        rows, or a list of them for each row. `()` for both: no behaviour is measured, only readings.
    y : (n,) 0 or 1. groups : (n,) labels of rows that err together; each row is its own without them.
    pairs : (n,) labels of rows that are each other's counterfactual.
    seed : draws partners: of the opposite class and the same pair where there is one, else of the same group, else any.

    Raises
    ------
    CausalError : no texts, a template without `{text}`, an empty answer or one on both sides, an answer that the
        tokenizer does not know, labels other than 0 and 1, or arrays of another length.
    DataError : as `Model.encode_rows`.
    """
    n = len(texts)
    if not n or isinstance(texts, str):
        raise CausalError(
            f"prompts takes a list of texts; got {'one text' if isinstance(texts, str) else 'none'}. Put it in a list."
        )
    rendered, chat = _rendered(texts, template)
    rows = model.encode_rows(rendered, offsets=True, generation_prompt=True)
    spans = np.array([_span(i, rows[i], texts[i], template) for i in range(n)], dtype=np.int64)
    sides = [_per_row(side, n, name) for side, name in ((positive, "positive"), (negative, "negative"))]
    if any(bool(p) != bool(q) for p, q in zip(*sides, strict=True)):
        raise CausalError("answers stand on one side alone; give positive and negative answers, or () for both.")
    lacking = [i for i, answers in enumerate(sides[0]) if not answers]
    if 0 < len(lacking) < n:
        raise CausalError(f"{name_rows(lacking)} without answers; give some for every row, or () for none of them.")
    for i, (p, q) in enumerate(zip(*sides, strict=True)):
        both = set(p) & set(q)
        if both:
            raise CausalError(f"row {i}: the answer {sorted(both)[0]!r} is positive and negative; keep it on one side.")
    codes = [_encoded_answers(model, rows, side, special=not chat) for side in sides]
    label = np.full(n, np.nan) if y is None else _labels(y, n)
    own = group_codes(None if groups is None else _column(groups, n, "groups"), n).astype(np.int64)
    counterparts = None if pairs is None else group_codes(_column(pairs, n, "pairs"), n)
    return Examples(
        rows=tuple(rows),
        spans=spans,
        positive=codes[0],
        negative=codes[1],
        y=label,
        groups=own,
        partner=_partners(label, own, counterparts, seed),
        texts=tuple(texts),
    )


# ---- the prompt


def _rendered(texts: Sequence[str], template: str | Sequence[Mapping[str, str]]) -> tuple[list[Any], bool]:
    if isinstance(template, str):
        if template.count(_MARK) != 1:
            raise CausalError(f"the template {template!r} holds {template.count(_MARK)} of '{_MARK}'; expected one.")
        return [template.replace(_MARK, text) for text in texts], False
    count = sum(message["content"].count(_MARK) for message in template)
    if count != 1:
        raise CausalError(f"the messages of the template hold '{_MARK}' {count} times; expected once.")
    return [[{**m, "content": m["content"].replace(_MARK, text)} for m in template] for text in texts], True


def _span(i: int, row: Encoded, text: str, template: str | Sequence[Mapping[str, str]]) -> tuple[int, int]:
    """The characters of the text in its prompt."""
    assert row.text is not None
    if isinstance(template, str):
        start = template.index(_MARK)
    else:
        which = next(k for k, message in enumerate(template) if _MARK in message["content"])
        content = template[which]["content"].replace(_MARK, text)
        _, begins, ends = row.messages[which]
        # A template may strip a message.
        start = begins + template[which]["content"].index(_MARK) - content.index(row.text[begins:ends])
    end = start + len(text)
    kept = max(start, 0), min(end, len(row.text))
    if row.text[kept[0] : kept[1]].strip() != text.strip() or not text.strip():
        raise CausalError(f"row {i}: its text is empty or does not stand in its prompt as it is; leave the row out.")
    return kept


# ---- the answers


def _per_row(side: Sequence[Any], n: int, name: str) -> list[tuple[str, ...]]:
    if isinstance(side, str):
        raise CausalError(f"{name} is one text, {side!r}; expected a list of answers, as in ({side!r},).")
    if all(isinstance(answer, str) for answer in side):
        found = [tuple(side)] * n
    elif len(side) != n:
        raise CausalError(f"{name} has {len(side)} lists of answers for {n} rows; give one a row, or one for all.")
    else:
        found = [(answers,) if isinstance(answers, str) else tuple(answers) for answers in side]
    for i, answers in enumerate(found):
        if any(not answer.strip() for answer in answers):
            raise CausalError(f"row {i}: an answer of {name} is empty; an answer needs at least one token.")
    return found


def _encoded_answers(
    model: Model, rows: Sequence[Encoded], side: Sequence[tuple[str, ...]], *, special: bool
) -> tuple[tuple[Answer, ...], ...]:
    tokenizer: Any = model.tokenizer
    alone = {a: tuple(tokenizer(a, add_special_tokens=False)["input_ids"]) for answers in side for a in answers}
    wanted = [(i, answer) for i, answers in enumerate(side) for answer in answers]
    texts = [f"{rows[i].text}{answer}" for i, answer in wanted]
    together = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"] if texts else []
    found: list[list[Answer]] = [[] for _ in rows]
    unknown = tokenizer.unk_token_id
    for (i, answer), ids in zip(wanted, together, strict=True):
        # As the answer is written behind this prompt: alone, some tokenizers would put a space before it.
        behind = tuple(ids[rows[i].length :]) if list(ids[: rows[i].length]) == list(rows[i].ids) else alone[answer]
        if not behind or (unknown is not None and unknown in behind):
            raise CausalError(
                f"row {i}: the tokenizer of '{model.name}' does not know the answer {answer!r}; give one in its words."
            )
        found[i].append(behind)
    return tuple(tuple(dict.fromkeys(answers)) for answers in found)


# ---- labels and partners


def _column(values: Sequence[Any] | np.ndarray, n: int, name: str) -> np.ndarray:
    column = np.asarray(values)
    if column.shape != (n,):
        raise CausalError(f"got {name} of shape {column.shape} for {n} rows; give one a row.")
    return column


def _labels(y: Sequence[float] | np.ndarray, n: int) -> np.ndarray:
    label = _column(y, n, "y").astype(np.float64)
    strange = np.flatnonzero(~np.isnan(label) & (label != 0) & (label != 1))
    if len(strange):
        raise CausalError(
            f"y is {label[strange[0]]} in {name_rows(strange.tolist())}; expected 0 or 1 (or NaN for no class)."
        )
    return label


def _partners(y: np.ndarray, groups: np.ndarray, pairs: np.ndarray | None, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 611])
    partner = np.full(len(y), -1, dtype=np.int64)
    of_class = {label: np.flatnonzero(y == label) for label in (0.0, 1.0)}
    nearest = [column for column in (pairs, groups) if column is not None]
    for i in np.flatnonzero(~np.isnan(y)):
        opposite = of_class[1.0 - y[i]]
        for column in nearest:
            near = opposite[column[opposite] == column[i]]
            if len(near):
                opposite = near
                break
        if len(opposite):
            partner[i] = rng.choice(opposite)
    return partner
