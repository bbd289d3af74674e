"""Bloom's levels through every layer, as classes and as steps of a scale, with balanced down-sampling.

2,176 questions on data science, each at the level from 1 (remember) to 6 (create) that an expert agreed with. Six share
a topic, so folds keep topics whole. `balance=True` trains in every fold on as many rows of each level as the rarest
has, and judges every row.

Usage: python docs/examples/bloom_layers.py [MODEL ...]

    MODEL is smollm2-135m and minilm-l6 by default, or anything that `load_model` takes, as the path of a .gguf file.
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from real_data import data_file

import leadline as ll
from leadline.evidence import Sweep
from leadline.evidence.bootstrap import Estimate
from leadline.study.measured import measured

# Which tokens stand for a text: a sentence encoder was trained to mean all of them.
TOKENS = {"minilm-l6": "mean"}
MEASURES = ("emergence", "code_length", "nonlinearity", "robustness", "label_issues", "text_features")
METRICS = {
    "multiclass": ("auroc", "accuracy", "balanced_accuracy", "f1"),
    "ordinal": ("concordance", "accuracy", "adjacent_accuracy", "kappa"),
}


def questions() -> ll.Dataset:
    """The questions with both readings of their level as targets: `level` (classes) and `step` (an order)."""
    path = data_file(
        "bloom/bloom_questions.csv", "No built-in set has levels; give any CSV with text, level and group."
    )
    agreed = pl.read_csv(path).filter(pl.col("level_check") == 1)
    rows = agreed.select(text="question", level="level", topic="group").to_dicts()
    nominal, ordinal = (
        ll.Dataset.from_rows(rows, target="level", kind=kind, group="topic") for kind in ("multiclass", "ordinal")
    )
    return replace(nominal, name="bloom", targets=(*nominal.targets, replace(ordinal.targets[0], name="step")))


def first_words(data: ll.Dataset) -> None:
    """How often the commonest first words go with their commonest level."""
    level = data.target("level").values[:, 0] + 1
    first = np.array([text.split()[0] for text in data.texts])
    for word, n in Counter(first.tolist()).most_common(10):
        value, count = np.unique(level[first == word], return_counts=True)
        print(f"{word}: {n} questions, {count.max() / n:.0%} of level {value[count.argmax()]:g}")


def show(e: Estimate, sign: str = "") -> str:
    return f"{e.value:{sign}.3f} [{e.low:{sign}.3f}, {e.high:{sign}.3f}]"


def tell(model: str, sweep: Sweep, data: ll.Dataset) -> None:
    """Every layer, the chosen one, the baselines, the further evidence and the verdicts."""
    kind = sweep.labels.kind
    names = METRICS[kind]
    print(f"\n## {model}, {kind} ({sweep.family.name}, {len(sweep.labels.Y):,} questions)\n")
    print(f"| site | l2 | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for outcome in sweep.outcomes:
        figures = " | ".join(show(outcome.selection.metrics[name]) for name in names)
        print(f"| `{outcome.site.name}` | {outcome.setting:.2g} | {figures} |")
    figures = " | ".join(show(sweep.selection.metrics[name]) for name in names)
    print(f"| best, corrected: `{sweep.best_site.name}` | {sweep.outcomes[sweep.best_index].setting:.2g} | {figures} |")
    for b in sweep.baselines:
        figures = " | ".join(show(b.selection.metrics[name]) for name in names)
        over = f" (the best site gains {show(b.gain, '+')})" if b.gain is not None else ""
        print(f"| {b.title}{over} | | {figures} |")
    if sweep.permutation is not None:
        print(f"\np of the best of all sites: {sweep.permutation.p_max:.3g} ({sweep.permutation.scheme})")
    for measure in measured(sweep, data):
        print(f"{measure.title}: {measure.sentence or measure.reason}")
        for table in measure.tables if measure.name in ("code_length", "robustness") else ():
            for row in table.rows:
                print("  " + "; ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row[:6]))
    for verdict in sweep.verdicts:
        print(f"- {verdict.claim}: {verdict.verdict}. {verdict.sentence}")


def main() -> None:
    data = questions()
    print(f"{data}\n")
    first_words(data)
    for name in sys.argv[1:] or ("smollm2-135m", "minilm-l6"):
        tokens = TOKENS.get(name, "last")
        model = ll.load_model(name, dtype="float32")
        acts = ll.extract(model, data, tokens=tokens)
        # A random model is read up to its fifth block: what it knows of the words it has mixed by then.
        sources = {
            "random_weights": ll.extract(model.randomised(0), data, "embed resid_post.0-4", tokens=tokens),
            "token_embeddings": ll.extract(model, data, "embed", tokens="mean"),
        }
        for target in ("level", "step"):
            found = ll.sweep(
                acts, target=target, balance=True, permutations=200, sources=sources, measures=MEASURES, seed=0
            )
            tell(Path(name).stem, found, data)


if __name__ == "__main__":
    main()
