"""Does an interval that is given the fitted probes hold what it says where nothing is to be read?

Labels are shuffled as the permutation test does (within a city, or a whole type for another), the site is fitted and
bootstrapped anew for each, and the intervals of its AUROC that leave out 0.5 are counted: 2.5% on either side are due.

    python docs/examples/null_intervals.py RUN SITE SHUFFLES
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import leadline as ll
from leadline.evidence import folds_of
from leadline.evidence.bootstrap import bootstrap_design, metric_table, select
from leadline.evidence.permutation import draw_shuffles
from leadline.evidence.proportions import clopper_pearson
from leadline.probes import Logistic
from leadline.study.sweep import labels_of


def main() -> None:
    run, site, shuffles = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    store = ll.Activations.open(next(run.glob("activations/data-*")))
    assert store.dataset is not None
    labels = labels_of(store.dataset, store.dataset.targets[0])
    X = store.read(site)[labels.rows]
    orders = draw_shuffles(labels.Y, labels.groups, shuffles, 7).index[1:]
    found = []
    for order in orders:
        null = replace(labels, Y=labels.Y[order])
        design = bootstrap_design(folds_of(null, 5, 0), labels.groups, 500, 0)
        fit = Logistic().fit_site(X, null.Y, design.fold)
        found.append(select(metric_table(fit.scores, null.Y, null.kind, design), design).metrics["auroc"])
    value, low, high = np.array([(e.value, e.low, e.high) for e in found]).T
    print(f"{run.name}, {site}, {shuffles} shuffles of the labels")
    for side, out in (("above", low > 0.5), ("below", high < 0.5)):
        share = clopper_pearson(int(out.sum()), len(out))
        print(f"whole interval {side} 0.5: {share.value:.3f} [{share.low:.3f}, {share.high:.3f}]")
    implied = (high - low).mean() / (2 * 1.96)
    print(f"standard deviation of AUROC over shuffles {value.std():.3f}, as the intervals have it {implied:.3f}")


if __name__ == "__main__":
    main()
