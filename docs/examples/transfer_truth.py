"""Markdown tables of a transfer matrix that `leadline transfer … --out FILE` wrote: docs/real-data/truth.md holds them.

python docs/examples/transfer_truth.py FILE [SITE …]
"""
# ruff: noqa: T201

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

METRICS = ("auroc", "centred_accuracy", "accuracy")
PREDICTORS = ("mahalanobis_cosine", "cross_fitted_cosine", "cosine")


def interval(cell: dict[str, Any] | None) -> str:
    if cell is None or cell["value"] is None:
        return "–"
    value, low, high = cell["value"], cell["low"], cell["high"]
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def grid(title: str, names: list[str], found: dict[tuple[str, str], str]) -> None:
    print(f"\n{title}: a row trains, a column is scored\n")
    print(f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for train in names:
        print(f"| **{train}** | {' | '.join(found[train, test] for test in names)} |")


def polarity(matrix: dict[str, Any]) -> None:
    """How probes carry over between plain and negated statements, cells of other subjects alone."""
    print("\nAUROC between sets of different subjects: the mean of the cells, and how many intervals lie off 0.5\n")
    kinds = ("plain → plain", "negated → negated", "plain → negated", "negated → plain")
    print(f"| site | {' | '.join(kinds)} | with smaller_than |\n|---|{'---|' * (len(kinds) + 1)}")
    for place in matrix["sites"]:
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (*kinds, "")}
        for c in matrix["cells"]:
            subjects = [c[side].removeprefix("neg_") for side in ("train", "test")]
            if (c["site"], c["metric"]) == (place, "auroc") and subjects[0] != subjects[1]:
                ends = ["negated" if c[side].startswith("neg_") else "plain" for side in ("train", "test")]
                found["" if "smaller_than" in subjects else " → ".join(ends)].append(c)
        shown = []
        for cells in found.values():
            above, below = sum(c["low"] > 0.5 for c in cells), sum(c["high"] < 0.5 for c in cells)
            mean = sum(c["value"] for c in cells) / len(cells)
            shown.append(f"{mean:.2f}; {above} above, {below} below of {len(cells)}")
        print(f"| {place} | {' | '.join(shown)} |")


def main() -> None:
    matrix = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    names = matrix["sets"]
    for site in sys.argv[2:] or [matrix["best_site"]]:
        for metric in METRICS:
            cells = {(c["train"], c["test"]): c for c in matrix["cells"] if (c["site"], c["metric"]) == (site, metric)}
            grid(f"{metric}, {site}", names, {(a, b): interval(cells.get((a, b))) for a in names for b in names})
        alike = {(c["train"], c["test"]): c for c in matrix["cosines"] if c["site"] == site}
        for predictor in PREDICTORS[:2]:
            shown = {pair: "–" if c[predictor] is None else f"{c[predictor]:.2f}" for pair, c in alike.items()}
            grid(f"{predictor}, {site}", names, shown)
    print("\nMantel tests of a cosine with the cells off the diagonal\n")
    print(f"| site | {' | '.join(f'{one}: r | p' for one in PREDICTORS)} |\n|---|{'---|' * 2 * len(PREDICTORS)}")
    for place in [*matrix["sites"], None]:
        tests = {p["predictor"]: p for p in matrix["predictions"] if p["site"] == place}
        figures = [
            "– | –" if tests[one]["reason"] else f"{tests[one]['correlation']:.2f} | {tests[one]['p_value']:.4f}"
            for one in PREDICTORS
        ]
        print(f"| {place or 'all sites together'} | {' | '.join(figures)} |")
    polarity(matrix)
    if "cities" in names:
        print("\nAUROC of the probe of cities, by site\n")
        print(f"| site | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for place in matrix["sites"]:
            cells = {
                c["test"]: c
                for c in matrix["cells"]
                if (c["site"], c["metric"], c["train"]) == (place, "auroc", "cities")
            }
            print(f"| {place} | {' | '.join(interval(cells.get(name)) for name in names)} |")
    for note in matrix["notes"]:
        print(f"\nnote: {note}")


if __name__ == "__main__":
    main()
