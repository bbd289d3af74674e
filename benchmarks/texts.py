"""The texts that extraction is measured on: real ones of mixed length, and sets whose rows begin alike.

From ../shared/data; without it, from the built-in `city-facts`, whose rows are all about as long.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leadline import load_dataset
from leadline.data import Dataset

__all__ = ["SHARED", "data_set", "mixed_texts", "prefix_sets"]

SHARED = Path(__file__).parents[2] / "shared" / "data"
PROMPT_TOKENS = 300
SYSTEM_TOKENS = 100
_SYSTEM = (
    "You are a careful assistant of a public library. Answer in one or two sentences, in plain words. Say so if you do "
    "not know. Do not guess names, dates or numbers, and do not repeat the question. If a question could lead to harm, "
    "refuse in one sentence and name a place where help is to be had. "
)


def _column(file: Path, name: str) -> list[str]:
    with open(file, newline="", encoding="utf-8") as opened:
        return [row[name] for row in csv.DictReader(opened)]


def _statements() -> list[str]:
    """Statements in pairs: both begin alike, and differ at the end."""
    if SHARED.is_dir():
        return _column(SHARED / "truth" / "cities.csv", "statement")
    return sorted(str(text) for text in load_dataset("city-facts").inputs)


def _questions() -> list[str]:
    return _column(SHARED / "truthfulqa" / "TruthfulQA.csv", "Question") if SHARED.is_dir() else _statements()


def _answers() -> list[str]:
    return _column(SHARED / "truthfulqa" / "TruthfulQA.csv", "Best Answer") if SHARED.is_dir() else _statements()


def mixed_texts() -> list[str]:
    """Sentences and questions of one to some hundred words, shuffled."""
    if not SHARED.is_dir():
        return _statements()
    texts = _column(SHARED / "xstest" / "xstest_prompts.csv", "prompt")
    texts += [f"{question} {answer}" for question, answer in zip(_questions(), _answers(), strict=True)]
    lines = (SHARED / "ud_ewt" / "en_ewt-ud-dev.conllu").read_text(encoding="utf-8").splitlines()
    texts += [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    random.Random(0).shuffle(texts)
    return texts


def prefix_sets(count: Callable[[str], int], n_rows: int) -> dict[str, Dataset]:
    """Sets of at most `n_rows` whose rows begin alike; `count` gives the tokens of a text.

    - few-shot: one prompt of 300 tokens, made of questions and answers, before every question.
    - pairs: statements, each beside its contrary, which differs in its last words.
    - chats: a system prompt of 100 tokens before every question.
    """
    questions, answers = _questions(), _answers()
    prompt, used = "", 0
    while not prompt or count(prompt) < PROMPT_TOKENS:
        prompt += f"Q: {questions[used]}\nA: {answers[used]}\n\n"
        used += 1
    system = _SYSTEM
    while count(system) < SYSTEM_TOKENS:
        system += _SYSTEM
    asked = questions[used : used + n_rows]
    few_shot = [f"{prompt}Q: {question}\nA:" for question in asked]
    chats = [[{"role": "system", "content": system}, {"role": "user", "content": question}] for question in asked]
    return {
        "few-shot": data_set("few-shot", few_shot),
        "pairs": data_set("pairs", _statements()[:n_rows]),
        "chats": data_set("chats", chats),
    }


def data_set(name: str, inputs: Sequence[Any]) -> Dataset:
    """A data set of texts or chats; its labels mean nothing."""
    rows = [{"input": row, "label": i % 2} for i, row in enumerate(inputs)]
    return Dataset.from_rows(rows, text="input", target="label", name=name)
