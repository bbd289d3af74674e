"""Data for the studies of interventions: subject-verb agreement with its counterfactuals, and sentences with a feeling.

    python docs/examples/causal_data.py     # writes runs/causal-data/agreement.csv and sentiment.csv

Agreement (feature-circuits, MIT) comes from the data beside the project: a prefix, its twin with the subject in the
other number, and the verb that either asks for. Each becomes a row, with the twin as its pair, the two forms of the
verb as its own answers, and the subject as its group. The sentences with a feeling are made here.
"""
# ruff: noqa: T201

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from real_data import data_file

OUT = Path(__file__).parents[2] / "runs" / "causal-data"

_THINGS = ("film", "meal", "hotel", "book", "concert", "lecture", "garden", "service", "trip", "show", "party", "game")
_GOOD = (
    "wonderful",
    "excellent",
    "delightful",
    "superb",
    "lovely",
    "brilliant",
    "charming",
    "marvellous",
    "pleasant",
    "splendid",
    "fantastic",
    "enjoyable",
    "beautiful",
    "impressive",
    "thrilling",
    "flawless",
)
_BAD = (
    "terrible",
    "awful",
    "dreadful",
    "horrible",
    "disgusting",
    "miserable",
    "boring",
    "appalling",
    "unpleasant",
    "lousy",
    "pathetic",
    "annoying",
    "ugly",
    "disappointing",
    "tedious",
    "worthless",
)


def agreement() -> pl.DataFrame:
    """A row a prefix: text, number, verb forms, pair and subject, once each."""
    instead = "A study of your own needs a file with a text, its label, its pair and both answers in columns."
    rows: list[dict[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for file in ("nounpp_train.jsonl", "nounpp_test.jsonl"):
        for line in Path(data_file(f"agreement/{file}", instead)).read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            clean = one["case"].split("_")[0]
            other = {"singular": "plural", "plural": "singular"}[clean]
            form = {clean: one["clean_answer"], other: one["patch_answer"]}
            text = {clean: one["clean_prefix"], other: one["patch_prefix"]}
            key = (text["singular"], form["singular"])
            if key in seen:
                continue
            seen.add(key)
            # "The teacher near the desk": the subject stands second.
            subject = text["singular"].split()[1]
            rows += [
                {
                    "text": text[number],
                    "number": number,
                    "singular_verb": form["singular"],
                    "plural_verb": form["plural"],
                    "pair": f"{text['singular']}{form['singular']}",
                    "subject": subject,
                }
                for number in ("singular", "plural")
            ]
    return pl.DataFrame(rows)


def sentiment() -> pl.DataFrame:
    """Every thing with every word of either feeling; words are the groups, so that a probe meets new ones."""
    rows = [
        {"text": f"The {thing} was {word}.", "feeling": feeling, "word": word, "thing": thing}
        for feeling, words in (("good", _GOOD), ("bad", _BAD))
        for word in words
        for thing in _THINGS
    ]
    return pl.DataFrame(rows)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, table in (("agreement", agreement()), ("sentiment", sentiment())):
        table.write_csv(OUT / f"{name}.csv")
        print(f"{name}.csv: {table.height:,} rows; {', '.join(table.columns)}")
