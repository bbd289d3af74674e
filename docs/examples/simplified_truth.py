"""A simplified picture of what a probe of `cities` reads: does it hold off `cities`?

The probe stays as it is; what it reads is replaced by its leading principal components, or by the nearest of a few
cluster centres, fitted on the training rows of `cities` alone. The stores are those of docs/real-data/truth.md.
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
from pathlib import Path

import leadline as ll
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.shared_folds import shared_folds
from leadline.evidence.simplified import Simplified, simplified_transfer
from leadline.probes import Logistic
from leadline.study.sweep import labels_of

STORES = Path("runs/truth/acts/smollm2-135m")
TRAIN = "cities"
TESTS = ("sp_en_trans", "element_symb", "facts", "neg_cities")


def text(e: Estimate, digits: int = 2, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{e.value:{plus}.{digits}f} [{e.low:{plus}.{digits}f}, {e.high:{plus}.{digits}f}]"


def tables(found: tuple[Simplified, ...]) -> None:
    print("| kept | variance | cities: full | simplified | decides as the full one | ", end="")
    print(" | ".join(TESTS) + " |\n|---|---|---|---|---|" + "---|" * len(TESTS))
    for one in found:
        what = f"{one.size} {'components' if one.method == 'principal_components' else 'clusters'}"
        if one.reason:
            print(f"| {what} | {one.reason} |")
            continue
        inside = one.inside
        cells = [f"{one.explained:.0%}", text(inside.full["auroc"]), text(inside.simplified["auroc"])]
        cells.append(text(inside.agreement))
        for name in TESTS:
            there = one.outside[name]
            mark = " misleads" if name in one.misleads_on else ""
            cells.append(f"{there.simplified['auroc'].value:.2f} for {text(there.full['auroc'])}{mark}")
        print(f"| {what} | {' | '.join(cells)} |")
    print("\nThe loss of AUROC on the other set less that on cities\n")
    print("| kept | " + " | ".join(TESTS) + " |\n|---|" + "---|" * len(TESTS))
    for one in found:
        what = f"{one.size} {'components' if one.method == 'principal_components' else 'clusters'}"
        print(f"| {what} | " + " | ".join(text(one.gap[name]["auroc"], sign=True) for name in TESTS) + " |")


def main() -> None:
    sites = sys.argv[1:] or ["resid_post.11", "resid_post.14", "resid_post.20"]
    stores = {name: ll.Activations.open(STORES / name) for name in (TRAIN, *TESTS)}
    labels = {}
    for name, store in stores.items():
        assert store.dataset is not None
        labels[name] = labels_of(store.dataset, store.dataset.targets[0])
    together = shared_folds(labels, 5, 0)
    held = {name: together.folds[name] for name in TESTS if together.n_shared(TRAIN, name)}
    for site in sites:
        X = {name: store.read(site)[labels[name].rows] for name, store in stores.items()}
        found = simplified_transfer(
            X[TRAIN],
            labels[TRAIN].Y,
            labels[TRAIN].kind,
            together.folds[TRAIN],
            Logistic(),
            {name: (X[name], labels[name].Y, labels[name].groups) for name in TESTS},
            groups=labels[TRAIN].groups,
            test_folds=held,
            ranks=(1, 2, 4, 8, 16, 32, 64, 128),
            seed=0,
        )
        print(f"\n{site}: AUROC; the other sets' full probe in brackets\n")
        tables(found)


if __name__ == "__main__":
    main()
