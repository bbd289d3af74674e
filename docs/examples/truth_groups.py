"""The truth sets with a group column, a file each: what two statements share, and what folds must therefore keep whole.

Of the eleven files only `cities` names what its statements are about. A Spanish word, an element or an animal stands in
several rows, once rightly and once wrongly labelled, and in a negated twin of the same set: without a group a probe may
learn the word by heart. What is written here feeds the commands of docs/real-data/truth.md.
"""
# ruff: noqa: T201

from __future__ import annotations

import re
import sys
from pathlib import Path

import polars as pl
from real_data import data_file

# What the statement is about, as its first words say it; facts have nothing in common but their negation.
SUBJECT = {
    "cities": r"The city of (.+?) is ",
    "sp_en_trans": r"The Spanish word '(.+?)' ",
    "element_symb": r"(\w+) (?:has|does)",
    "animal_class": r"The (.+?) is ",
    "smaller_than": r"([\w-]+) is ",
    "facts": "",
}
NEGATED = ("cities", "sp_en_trans", "element_symb", "animal_class", "facts")


def grouped(name: str) -> pl.DataFrame:
    """`statement`, `label` and `subject` of one set."""
    pattern = SUBJECT[name.removeprefix("neg_")]
    frame = pl.read_csv(data_file(f"truth/{name}.csv", "The built-in set 'city-facts' has its groups already."))
    subjects = []
    for row, statement in enumerate(frame["statement"].to_list()):
        found = re.match(pattern, statement) if pattern else None
        if pattern and found is None:
            raise SystemExit(f"row {row + 1} of {name} has no subject: {statement}")
        # A row of facts and its negation stand in the same row of two files.
        subjects.append(found.group(1).lower() if found else f"fact {row + 1}")
    return frame.select("statement", "label", pl.Series("subject", subjects))


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/truth/data")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'set':18s} {'rows':>5s} {'true':>5s} {'subjects':>8s} {'with both labels':>16s}")
    for name in [*SUBJECT, *(f"neg_{one}" for one in NEGATED)]:
        frame = grouped(name)
        both = frame.group_by("subject").agg(pl.col("label").n_unique() == 2)["label"]
        print(f"{name:18s} {len(frame):5d} {frame['label'].sum():5d} {len(both):8d} {both.sum():16d}")
        frame.write_csv(folder / f"{name}.csv")


if __name__ == "__main__":
    main()
