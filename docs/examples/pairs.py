"""True and false without labels: CCS, CRC and LAT on contrast pairs, against Logistic, which sees the labels.

A pair is a statement and its negation: "The city of Lima is in Peru." and "The city of Lima is not in Peru." Just one
of them is true. Each city stands in several pairs, so folds keep cities whole.
"""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import polars as pl
from real_data import activations, data_file, share

import leadline as ll
from leadline.probes import CCS, CRC, LAT, Logistic

SITE = "resid_post.14"


def main() -> None:
    instead = "The built-in set 'city-facts' has statements without negations, and so no pairs."
    first = pl.read_csv(data_file("truth/cities.csv", instead))
    second = pl.read_csv(data_file("truth/neg_cities.csv", instead))
    y, city = first["label"].to_numpy(), first["city"].to_numpy()
    same = first.select("city", "country").equals(second.select("city", "country"))
    if not same or (y == second["label"].to_numpy()).any():
        raise SystemExit("the rows of cities.csv and neg_cities.csv are no pairs of a statement and its negation.")
    model = ll.load_model("smollm2-135m", dtype="float32")
    A, B = (activations(model, f["statement"].to_list(), SITE)[SITE] for f in (first, second))
    print(f"{len(y)} pairs of {len(np.unique(city))} cities, {SITE}, last token")

    print(f"\n{'family':24s} {'sign by labels':22s} sign without labels    sign rule")
    for family in (CCS(), CRC(), LAT()):
        labelled = family.fit(A, B, labels=y, groups=city, seed=0)
        blind = family.fit_pairs(A, B, labelled.fold)
        each = [share((fit.scores > 0) == y, city, labelled.fold) for fit in (labelled.fit, blind)]
        print(f"{family.name:24s} {each[0]!r:22s} {each[1]!r:22s} {blind.sign_rule}")
        if family.name == "ccs":
            ccs = labelled
    fold = ccs.fold
    pairs = Logistic().fit(A - B, y, fold=fold)
    single = Logistic().fit(np.vstack([A, B]), np.append(y, 1 - y), fold=np.tile(fold, 2))
    score = single.scores[: len(y), 0] - single.scores[len(y) :, 0]
    print(f"{'logistic on differences':24s} {share((pairs.scores[:, 0] > 0) == y, city, fold)!r:22s}")
    print(f"{'logistic on statements':24s} {share((score > 0) == y, city, fold)!r:22s}")
    kept = share((ccs.scores > 0) == y, city, fold, against=(pairs.scores[:, 0] > 0) == y)
    print(f"ccs - logistic on differences, paired: {kept}")

    # Within one city, "is in Peru" and "is in Chile" differ by nothing but truth, and that is what LAT was made for.
    rng = np.random.default_rng(0)
    one, zero = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    one, zero = one[np.argsort(city[one], kind="stable")], zero[np.argsort(city[zero], kind="stable")]
    if (city[one] != city[zero]).any():
        raise SystemExit("each city should have one true and one false statement.")
    swap = rng.random(len(one)) < 0.5
    left, right = np.where(swap[:, None], A[zero], A[one]), np.where(swap[:, None], A[one], A[zero])
    which = (~swap).astype(np.int64)
    print(f"\n{len(one)} pairs of a true and a false statement on one city, in random order, {SITE}")
    for lat in (LAT(), CRC(), CCS()):
        fit = lat.fit(left, right, labels=which, groups=city[one], seed=0)
        print(f"{lat.name:24s} {share((fit.scores > 0) == which, city[one], fit.fold)!r:22s} {fit.converged}")
    between = Logistic().fit(left - right, which, fold=fit.fold).scores[:, 0] > 0
    print(f"{'logistic on differences':24s} {share(between == which, city[one], fit.fold)!r:22s}")

    print("\nCCS on statements and negations, training loss of ten restarts (p = 1/2 everywhere has 0.25):")
    for k, losses in enumerate(ccs.fit.losses):
        which = "refit" if k == len(ccs.fit.losses) - 1 else f"fold {k}"
        print(f"  {which}: {np.sort(losses).round(4)}, taken {ccs.fit.taken[k]}, converged {ccs.fit.converged[k]}")


if __name__ == "__main__":
    main()
