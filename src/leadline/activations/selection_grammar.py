"""The part of a selection behind the `@`: which of a row's tokens are meant, from its text to their positions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from leadline.errors import ActivationsError, did_you_mean

__all__ = ["EXPECTED", "POOLS", "TokenRow", "Which", "parse_selection", "parse_which"]

POOLS = ("last", "first", "mean", "max", "all")
PARTS = ("image", "text", "patches")
_PREFIXED = ("span", "role", "regex", "every")

EXPECTED = (
    f"expected one of {', '.join(POOLS)}, or which tokens ('-3:', '2:5', '-2', 'every:4', 'span:COLUMN', 'role:ROLE', "
    f"'regex:PATTERN', 'content', 'image', 'text' or 'patches'), or both, as in 'mean@-3:'"
)


class TokenRow(Protocol):
    """What a selection reads of an encoded row (`leadline.models.encoded.Encoded` is one)."""

    @property
    def length(self) -> int:
        """The number of real tokens."""
        ...

    @property
    def text(self) -> str | None:
        """What the tokens were made of; None where that was no text."""
        ...

    @property
    def offsets(self) -> np.ndarray | None:
        """(length, 2) int64: each token's character range in `text`, (0, 0) for a special token."""
        ...

    @property
    def messages(self) -> tuple[tuple[str, int, int], ...]:
        """(role, start, end) of each chat message's content in `text`."""
        ...

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """Named (length,) truth values, as in `"image"`."""
        ...


class Which(Protocol):
    """A rule that names tokens of a row."""

    @property
    def text(self) -> str:
        """The rule as it is written; empty for every token."""
        ...

    @property
    def needs_offsets(self) -> bool:
        """Whether it reads the tokens' character ranges."""
        ...

    def positions(self, row: TokenRow) -> np.ndarray:
        """Sorted int64 positions in the row; empty where there are none."""
        ...

    def missed(self, row: TokenRow) -> str:
        """What was looked for and not found, for a person."""
        ...


@dataclass(frozen=True)
class Slice:
    """`2:5`, `-3:`, `:4`; every token without any bound."""

    start: int | None = None
    stop: int | None = None
    needs_offsets = False

    @property
    def text(self) -> str:
        if self.start is None and self.stop is None:
            return ""
        return ":".join("" if bound is None else str(bound) for bound in (self.start, self.stop))

    def positions(self, row: TokenRow) -> np.ndarray:
        return np.arange(row.length, dtype=np.int64)[self.start : self.stop]

    def missed(self, row: TokenRow) -> str:
        return f"tokens {self.text or 'at all'}; the row has {row.length}"


@dataclass(frozen=True)
class Index:
    """`0`, `-2`: one token."""

    at: int
    needs_offsets = False

    @property
    def text(self) -> str:
        return str(self.at)

    def positions(self, row: TokenRow) -> np.ndarray:
        at = self.at + row.length if self.at < 0 else self.at
        return np.array([at] if 0 <= at < row.length else [], dtype=np.int64)

    def missed(self, row: TokenRow) -> str:
        return f"token {self.at}; the row has {row.length}"


@dataclass(frozen=True)
class Every:
    """`every:4`: the first token, and every fourth after it."""

    step: int
    needs_offsets = False

    @property
    def text(self) -> str:
        return f"every:{self.step}"

    def positions(self, row: TokenRow) -> np.ndarray:
        return np.arange(0, row.length, self.step, dtype=np.int64)

    def missed(self, row: TokenRow) -> str:
        return "a token; the row has none"


@dataclass(frozen=True)
class Part:
    """`image`, `text`, `patches`: a named part of the row."""

    text: str
    needs_offsets = False

    def positions(self, row: TokenRow) -> np.ndarray:
        if self.text not in row.parts:
            there = ", ".join(row.parts) or "none"
            raise ActivationsError(
                f"the row has no part '{self.text}' (its parts: {there}); 'image' and 'text' are parts of "
                f"vision-language rows and 'patches' of pictures. Use 'content' for a text's own tokens."
            )
        return np.flatnonzero(row.parts[self.text])

    def missed(self, row: TokenRow) -> str:
        return f"a token of the part '{self.text}'"


@dataclass(frozen=True)
class Content:
    """`content`: tokens that stand for characters of the text, so no special ones."""

    text = "content"
    needs_offsets = True

    def positions(self, row: TokenRow) -> np.ndarray:
        _, offsets = _characters(row, self.text)
        return np.flatnonzero(offsets[:, 1] > offsets[:, 0])

    def missed(self, row: TokenRow) -> str:
        return "a token that stands for characters of the text"


@dataclass(frozen=True)
class Span:
    """`span:NAME`: the characters that the data set's column gives for the row."""

    name: str
    needs_offsets = True

    @property
    def text(self) -> str:
        return f"span:{self.name}"

    def positions(self, row: TokenRow) -> np.ndarray:
        raise ActivationsError(
            f"'{self.text}' needs the row's character range, as in positions(row, span=(3, 8)); it was given none."
        )

    def within(self, row: TokenRow, span: tuple[int, int]) -> np.ndarray:
        """The tokens of a character range."""
        text, offsets = _characters(row, self.text)
        start, end = (int(bound) for bound in span)
        if not 0 <= start < end <= len(text):
            raise ActivationsError(
                f"the range [{start}, {end}) of '{self.text}' is not in the row's text of {len(text)} characters; "
                f"expected 0 <= start < end <= {len(text)}."
            )
        return _overlapping(text, offsets, [(start, end)])

    def missed(self, row: TokenRow) -> str:
        return f"a token in the range of '{self.text}' (ranges of spaces have none)"


@dataclass(frozen=True)
class Role:
    """`role:ROLE`: the contents of a chat's messages of that role."""

    name: str
    needs_offsets = True

    @property
    def text(self) -> str:
        return f"role:{self.name}"

    def positions(self, row: TokenRow) -> np.ndarray:
        text, offsets = _characters(row, self.text)
        return _overlapping(text, offsets, [(start, end) for role, start, end in row.messages if role == self.name])

    def missed(self, row: TokenRow) -> str:
        roles = list(dict.fromkeys(role for role, _, _ in row.messages))
        if not roles:
            return f"messages of the role '{self.name}'; the row is no chat"
        return (
            f"a token in messages of the role '{self.name}'; the roles here: {', '.join(roles)}"
            f"{'.' + did_you_mean(self.name, roles) if self.name not in roles else ''}"
        )


@dataclass(frozen=True)
class Match:
    """`regex:PATTERN`: tokens that overlap a match; only its group 1 where the pattern has one."""

    pattern: re.Pattern[str]
    needs_offsets = True

    @property
    def text(self) -> str:
        return f"regex:{self.pattern.pattern}"

    def positions(self, row: TokenRow) -> np.ndarray:
        text, offsets = _characters(row, self.text)
        group = min(1, self.pattern.groups)
        found = [match.span(group) for match in self.pattern.finditer(text)]
        # Who looks for line breaks means the tokens that hold them.
        blank = [span for span in found if text[span[0] : span[1]].isspace()]
        positions = _overlapping(text, offsets, found)
        return np.union1d(positions, _overlapping(text, offsets, blank, blank=True)) if blank else positions

    def missed(self, row: TokenRow) -> str:
        return f"a token that overlaps a match of the pattern {self.pattern.pattern!r}"


def _characters(row: TokenRow, what: str) -> tuple[str, np.ndarray]:
    if row.text is None or row.offsets is None:
        lacking = "it was not made of text" if row.text is None else "its tokenizer gives none; use a fast tokenizer"
        raise ActivationsError(f"'{what}' needs the character range of each token, and the row has none: {lacking}.")
    return row.text, np.asarray(row.offsets, dtype=np.int64).reshape(-1, 2)


# Every character that is white space lies below this one.
_BLANK = np.array([chr(code).isspace() for code in range(0x3001)])


def _overlapping(
    text: str, offsets: np.ndarray, ranges: Iterable[tuple[int, int]], *, blank: bool = False
) -> np.ndarray:
    """The tokens that share a character with one of the ranges; white space counts for none unless `blank`."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    counts = np.ones(len(codes), dtype=bool) if blank else ~_BLANK[np.minimum(codes, 0x3000)] | (codes > 0x3000)
    bounds = np.clip(np.array(list(ranges), dtype=np.int64).reshape(-1, 2), 0, len(codes))
    depth = np.bincount(bounds[:, 0], minlength=len(codes) + 1) - np.bincount(bounds[:, 1], minlength=len(codes) + 1)
    before = np.concatenate([[0], np.cumsum(counts & (np.cumsum(depth)[:-1] > 0))])
    starts, ends = np.clip(offsets, 0, len(codes)).T
    return np.flatnonzero(before[np.maximum(starts, ends)] > before[starts])


# ---- reading


def parse_selection(name: str) -> tuple[str, Which]:
    """A selection's pool, and the rule for what it reads.

    Raises
    ------
    ActivationsError : it is outside the grammar.
    """
    # A pattern may end in a space that it means.
    text = name.lstrip() if "regex:" in name else name.strip()
    head, at, rest = text.partition("@")
    if text.rstrip() in POOLS:
        return text.rstrip(), Slice()
    if not at or ":" in head:
        rule = parse_which(text, text)
        return "last" if isinstance(rule, Index) else "mean", rule
    pool, rest = head.strip(), rest.lstrip()
    if pool not in POOLS:
        raise ActivationsError(
            f"unknown pool '{pool}' in the token selection '{text}'; expected one of {', '.join(POOLS)} before the "
            f"'@'." + did_you_mean(pool, POOLS)
        )
    if not rest.strip():
        raise ActivationsError(f"nothing stands behind the '@' in the token selection '{text}'; {EXPECTED}.")
    return pool, parse_which(rest, text)


def parse_which(text: str, whole: str) -> Which:
    """Read a rule.

    Parameters
    ----------
    text : the rule. whole : the selection that it stands in, for the message.

    Raises
    ------
    ActivationsError : it is outside the grammar, or names no token of any row.
    """
    if re.fullmatch(r"[+-]?\d+", text):
        return Index(int(text))
    bounds = re.fullmatch(r"([+-]?\d+)?\s*:\s*([+-]?\d+)?", text)
    if bounds:
        start, stop = (None if bound is None else int(bound) for bound in bounds.groups())
        return _slice(start, stop, whole)
    if text in PARTS:
        return Part(text)
    if text == "content":
        return Content()
    head, colon, rest = text.partition(":")
    if colon and head in _PREFIXED:
        if not rest.strip():
            raise ActivationsError(f"nothing stands behind '{head}:' in the token selection '{whole}'; {EXPECTED}.")
        return _prefixed(head, rest, whole)
    known = [f"{name}:{rest}" for name in _PREFIXED] if colon else [*POOLS, *PARTS, "content"]
    raise ActivationsError(f"unknown token selection '{whole}'; {EXPECTED}." + did_you_mean(text, known))


def _slice(start: int | None, stop: int | None, whole: str) -> Slice:
    start = start or None
    same_side = stop is not None and ((start or 0) < 0) == (stop < 0)
    if stop == 0 or (same_side and stop is not None and (start or 0) >= stop):
        raise ActivationsError(
            f"the token selection '{whole}' names no token of any row; expected start < stop, as in '2:5' or '-3:'."
        )
    return Slice(start, stop)


def _prefixed(head: str, rest: str, whole: str) -> Which:
    if head == "regex":
        try:
            return Match(re.compile(rest))
        except re.error as error:
            raise ActivationsError(
                f"the pattern of the token selection '{whole}' is no regular expression ({error}); expected one in "
                f"Python's syntax."
            ) from error
    rest = rest.strip()
    if head == "span":
        return Span(rest)
    if head == "role":
        return Role(rest)
    if not re.fullmatch(r"\+?\d+", rest) or int(rest) < 1:
        raise ActivationsError(
            f"the token selection '{whole}' has the step '{rest}'; expected a whole number of at least 1, as in "
            f"'every:4'."
        )
    return Every(int(rest))
