"""`causal:` of a study file: which behaviour is asked for, where the model is intervened on, and how much is tried."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from leadline.errors import SiteError, did_you_mean
from leadline.sites import Site

__all__ = ["CAUSAL_FAMILIES", "CAUSAL_PARTS", "CausalConfig"]

Part = Literal["effects", "doses", "families", "silence", "decomposition", "patching"]
CausalFamily = Literal["logistic", "lda", "mean_difference"]
CAUSAL_PARTS: tuple[Part, ...] = get_args(Part)
CAUSAL_FAMILIES: tuple[CausalFamily, ...] = get_args(CausalFamily)
# What stands for the data's text in a prompt.
_TEXT = "{text}"


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _numbers(value: object) -> object:
    values = value if isinstance(value, list | tuple) else (value,)
    found: list[float] = []
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int | float) or not (math.isfinite(one) and one > 0):
            raise ValueError(f"{one!r} is no dose; give numbers above 0 (each is tried with both signs)")
        found.append(float(one))
    if not found or len(set(found)) < len(found):
        raise ValueError("give at least one dose, and each once, as in [0.05, 0.1, 0.2]")
    return tuple(sorted(found))


Answers = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class CausalConfig(BaseModel):
    """`causal:` of a study.

    Parameters
    ----------
    prompt : what the model is asked, with `{text}` where the row's text stands.
    positive, negative : the answers that go with either class, as continuations of the prompt, mostly with the space
        before them (`" true"`). Without answers no behaviour is measured, and "used" is not tested.
    positive_column, negative_column : columns of the data that hold each row's own answers instead.
    tokens : of the row's text, where the stream is edited: the `last`, the `first`, or `all`.
    site : by default the site that the sweep chose.
    examples : how many rows, of a fold that the tried direction was not fitted on.
    random_directions : of each kind, for the p-values.
    doses : ‖αv‖/‖h‖, each with both signs.
    cost_budget : the share by which perplexity of neutral text may rise for a dose to be called usable.
    families : of which the directions are compared at equal cost, beside the first principal component and random ones.
    parts : what is done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: str = _TEXT
    positive: Answers = ()
    negative: Answers = ()
    positive_column: str | None = None
    negative_column: str | None = None
    tokens: Literal["last", "first", "all"] = "last"
    site: str | None = None
    examples: int = Field(default=64, ge=12)
    random_directions: int = Field(default=99, ge=19)
    doses: Annotated[tuple[float, ...], BeforeValidator(_numbers)] = (0.05, 0.1, 0.2, 0.4)
    cost_budget: float = Field(default=0.1, gt=0)
    families: tuple[CausalFamily, ...] = CAUSAL_FAMILIES
    parts: tuple[Part, ...] = CAUSAL_PARTS

    @field_validator("families", "parts", mode="before")
    @classmethod
    def _chosen(cls, given: object, info: object) -> object:
        is_part = getattr(info, "field_name", "") == "parts"
        what, known = ("part", CAUSAL_PARTS) if is_part else ("family", CAUSAL_FAMILIES)
        given = known if given == "default" else _listed(given)
        if not isinstance(given, tuple):
            raise ValueError(f"expected default, or a list of {', '.join(known)}")
        for one in given:
            if one not in known:
                raise ValueError(
                    f"unknown {what} '{one}'; expected {', '.join(known)}." + did_you_mean(str(one), list(known))
                )
        return tuple(dict.fromkeys(given))

    @field_validator("prompt")
    @classmethod
    def _asks(cls, prompt: str) -> str:
        if prompt.count(_TEXT) != 1:
            raise ValueError(
                f"the prompt has {prompt.count(_TEXT)} times {_TEXT}; expected it once, for the row's text"
            )
        return prompt

    @field_validator("site")
    @classmethod
    def _place(cls, site: str | None) -> str | None:
        if site is None:
            return None
        try:
            return Site.parse(site).name
        except SiteError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _whole(self) -> CausalConfig:
        both = {"positive": self.positive, "negative": self.negative}
        columns = {"positive_column": self.positive_column, "negative_column": self.negative_column}
        for pair in (both, columns):
            given = [key for key, value in pair.items() if value]
            if len(given) == 1:
                absent = next(key for key in pair if key not in given)
                raise ValueError(f"'{given[0]}' without '{absent}'; give the answers of both classes, or of neither")
        if self.positive and self.positive_column:
            raise ValueError("answers are given both for all rows (positive) and by column; keep one")
        if {*self.positive} & {*self.negative}:
            raise ValueError(f"'{next(iter({*self.positive} & {*self.negative}))}' is an answer of both classes")
        if any(not answer for answer in (*self.positive, *self.negative)):
            raise ValueError("an answer is empty; give the text that continues the prompt, as in ' true'")
        return self

    @property
    def has_answers(self) -> bool:
        """Whether a behaviour is asked for."""
        return bool(self.positive or self.positive_column)
