"""Pairs of a clean prompt and its counterfactual, token against token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leadline.causal.examples import Examples, prompts
from leadline.errors import CausalError

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["Pairs", "pair_up"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """n pairs whose two prompts have as many tokens.

    Parameters
    ----------
    clean : what is run. counterfactual : what activations are taken from, with the clean prompts' answers.
    rows : (n,) which of the given pairs these are.
    unequal : of the given pairs, those left out, since their prompts differ in their number of tokens.
    begins : (n,) the first token that can differ in its activations: where the prompts' tokens first differ, in a model
        that sees nothing to the right; else 0. As many as there are tokens where nothing differs.
    partners : (n,) labels of the groups of the counterfactuals; None where they are no rows of the clean prompts.
    """

    clean: Examples
    counterfactual: Examples
    rows: np.ndarray
    unequal: tuple[int, ...]
    begins: np.ndarray
    partners: np.ndarray | None

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) the number of tokens of either prompt."""
        return np.array([row.length for row in self.clean.rows], dtype=np.int64)

    def take(self, some: np.ndarray) -> Pairs:
        """Some of the pairs, by their place (m,)."""
        partners = None if self.partners is None else self.partners[some]
        return Pairs(
            self.clean.take(some), self.counterfactual.take(some), self.rows[some], (), self.begins[some], partners
        )


def pair_up(
    model: Model,
    clean: Examples | Sequence[str],
    counterfactual: Examples | Sequence[str] | None = None,
    groups: np.ndarray | None = None,
) -> Pairs:
    """Put each prompt beside its counterfactual.

    Parameters
    ----------
    clean : n prompts; texts are taken as they are, without a question behind them.
    counterfactual : n prompts, one for each; None takes the partners of the examples, and leaves out rows without one.
    groups : (n,) labels of pairs that err together; by default those of the examples.

    Raises
    ------
    CausalError : other numbers of prompts, no partners, or no pair of as many tokens.
    """
    first = _examples(model, clean)
    partners: np.ndarray | None = None
    if counterfactual is None:
        given = np.flatnonzero(first.partner >= 0)
        if not len(given):
            raise CausalError("no example has a partner; give counterfactuals, or examples with classes or pairs.")
        second = first.take(first.partner[given])
        partners = first.groups[first.partner[given]]
    else:
        second = _examples(model, counterfactual)
        given = np.arange(len(first))
        if len(second) != len(first):
            raise CausalError(f"{len(first)} prompts and {len(second)} counterfactuals were given; pair each with one.")
    if groups is not None:
        if np.shape(groups) != (len(first),):
            raise CausalError(f"got groups of shape {np.shape(groups)} for {len(first)} pairs; give one a pair.")
        codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1].reshape(-1)
        partners = None if counterfactual is not None else codes[first.partner[given]]
        first = replace(first, groups=codes.astype(np.int64))
    first = first.take(given)
    lengths = [(a.length, b.length) for a, b in zip(first.rows, second.rows, strict=True)]
    alike = np.array([a == b for a, b in lengths])
    if not alike.any():
        shown = ", ".join(f"{a} against {b}" for (a, b), _ in Counter(lengths).most_common(3))
        raise CausalError(
            f"of {len(alike)} pairs none has as many tokens on both sides ({shown}), so no token stands against "
            f"another; give pairs that differ in words of as many tokens."
        )
    first, second = first.take(alike), second.take(alike)
    begins = np.zeros(len(first), dtype=np.int64)
    if model.architecture.causal and not model.part.row.part:
        begins[:] = [_differ(a.ids, b.ids) for a, b in zip(first.rows, second.rows, strict=True)]
    return Pairs(
        clean=first,
        # The behaviour asked for is that of the clean prompt.
        counterfactual=replace(second, positive=first.positive, negative=first.negative),
        rows=given[alike],
        unequal=tuple(int(i) for i in given[~alike]),
        begins=begins,
        partners=None if partners is None else partners[alike],
    )


def _examples(model: Model, given: Examples | Sequence[str]) -> Examples:
    return given if isinstance(given, Examples) else prompts(model, given, positive=(), negative=())


def _differ(a: Sequence[int], b: Sequence[int]) -> int:
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
