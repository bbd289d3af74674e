"""The permutation test of a whole sweep: 1,000 shuffles, the null of the maximum over all sites.

    .venv/bin/python benchmarks/permutation.py [--permutations 1000] [--repeats 3] [--quick]

Ours shuffles once for all sites, and scores all shuffles of a fold with one matrix product. Two loops stand against it,
each on a sample of sites × shuffles, extrapolated: *same statistic*, scikit-learn's Ridge with the same penalty and
scaling, a fit for every site × shuffle × fold, whose AUROC must agree with ours; and *notebook*, StandardScaler and
LogisticRegression, what `permutation_test_score` would run for the probe that was swept.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from inputs import Problem, load
from leadline.evidence.permutation import PermutationTest, Shuffles, deal, draw_shuffles, max_test, null_at_site
from leadline.probes import Logistic
from leadline.probes.parallel import map_sites
from report import arguments, rounded, write


def ours(problem: Problem, n_permutations: int) -> tuple[Shuffles, list[dict[str, np.ndarray]], PermutationTest]:
    """The whole test, as a sweep runs it, the drawing of shuffles included."""
    family = Logistic()
    shuffles = draw_shuffles(problem.Y, problem.groups, n_permutations, seed=0)
    dealt = deal(problem.Y, "binary", shuffles)

    def one(X: np.ndarray) -> dict[str, np.ndarray]:
        return null_at_site(family, X, dealt, "binary", problem.fold)

    by_site = list(map_sites(one, problem.sites))
    return shuffles, by_site, max_test(by_site, "binary", family, shuffles)


def same_statistic(X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """Mean AUROC over the folds of a ridge score, its penalty a tenth of the mean non-zero eigenvalue, in float64."""
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    n, d = Z.shape
    penalty = 0.1 * np.square(Z).sum() / n / min(n, d)
    found = []
    for k in range(int(fold.max()) + 1):
        train = fold != k
        model = Ridge(alpha=train.sum() * penalty).fit(Z[train], y[train])
        found.append(roc_auc_score(y[~train], model.predict(Z[~train])))
    return float(np.mean(found))


def notebook(X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """Mean AUROC over the folds of scikit-learn's default logistic regression, scaled inside each fold."""
    found = []
    for k in range(int(fold.max()) + 1):
        train = fold != k
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X[train], y[train])
        found.append(roc_auc_score(y[~train], model.decision_function(X[~train])))
    return float(np.mean(found))


def measure(problem: Problem, options: argparse.Namespace) -> tuple[dict[str, object], dict[str, object]]:
    """Ours several times, the loops on their samples, and the agreement."""
    n_permutations, n_sites = options.permutations, len(problem.sites)
    seconds = []
    for _ in range(options.repeats):
        began = time.perf_counter()
        shuffles, by_site, test = ours(problem, n_permutations)
        seconds.append(time.perf_counter() - began)
    mine = statistics.median(seconds)
    at = sorted({int(i) for i in np.linspace(0, n_sites - 1, min(options.sample, n_sites)).round()})
    # Entry 0 is the observed labelling.
    shuffled = sorted({int(i) for i in np.linspace(0, n_permutations, options.shuffles).round()})
    differences, spent = [], {"same statistic": 0.0, "notebook": 0.0}
    for site in at:
        for b in shuffled:
            y = problem.Y[shuffles.index[b], 0]
            began = time.perf_counter()
            found = same_statistic(problem.sites[site], y, problem.fold)
            spent["same statistic"] += time.perf_counter() - began
            differences.append(abs(found - float(by_site[site]["auroc"][b])))
            began = time.perf_counter()
            notebook(problem.sites[site], y, problem.fold)
            spent["notebook"] += time.perf_counter() - began
    whole = {name: value / (len(at) * len(shuffled)) * n_sites * (1 + n_permutations) for name, value in spent.items()}
    print(f"\n{problem.name}: {problem.description}; {n_permutations:,} shuffles; {test.scheme}")
    print(f"{'':<18}{'seconds':>12}{'ratio':>12}")
    print(f"{'leadline':<18}{mine:>12.2f}{1:>12}  (median of {', '.join(f'{s:.2f}' for s in seconds)})")
    for name, value in whole.items():
        sample = f"(from {len(at)} sites x {len(shuffled)} shuffles)"
        print(f"{name:<18}{value:>12,.0f}{value / mine:>12,.0f}  {sample}")
    worst = max(differences)
    print(f"largest difference of AUROC to the same statistic in float64: {worst:.1e} (of {len(differences)})")
    print(
        f"the best site's AUROC {test.observed_max:.3f}, the null's maximum {test.null_max_mean:.3f} on average and "
        f"{test.null_max_95:.3f} at 95%: p = {test.p_max:.4f}, the smallest possible {test.smallest_p:.4f}"
    )
    figures: dict[str, object] = {
        "permutation_seconds": rounded(mine),
        "n_permutations": n_permutations,
        "n_sites": n_sites,
        "speedup_vs_same_statistic": rounded(whole["same statistic"] / mine),
        "speedup_vs_notebook": rounded(whole["notebook"] / mine),
        "worst_auroc_difference": rounded(worst),
        "p_max": test.p_max,
    }
    return figures, {"seconds": seconds, "loops_extrapolated": whole, "sites": at, "shuffles": shuffled}


def main() -> None:
    """Measure, print, write JSON, and end with one JSON object."""
    options = arguments(
        __doc__, "demo", [("--permutations", 1000, "shuffles"), ("--shuffles", 3, "shuffles that the loops run")]
    )
    if len(options.sizes) != 1:
        raise SystemExit(f"got the sizes {', '.join(options.sizes)}; expected one, as in --sizes demo.")
    name = options.sizes[0]
    problem = load(name, options.folder)
    if options.quick:
        X = problem.sites[0]
        problem = Problem(name, problem.description, [X, X[:, 1:], X[:, 8:]], problem.Y[:, :1], problem.fold)
    figures, details = measure(problem, options)
    record = {"benchmark": "permutation", "size": name, **figures}
    write("permutation_quick" if options.quick else "permutation", record, details)


if __name__ == "__main__":
    main()
