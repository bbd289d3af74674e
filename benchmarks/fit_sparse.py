"""Probes with an L1 penalty: a path of 20 penalties × (5 folds + the refit), against scikit-learn, skglm and celer.

    .venv/bin/python benchmarks/fit_sparse.py [--sizes demo,5000x4096] [--sample 3] [--repeats 3] [--quick]

The lasso (the labels as −1 and +1) and logistic regression, each fold standardised by its own training rows; l1 runs
in geometric steps from the smallest that leaves no feature in the refit down to a hundredth of it, the same for all
sides. A fit's quality is its duality gap relative to its objective, computed here in float64 from the coefficients
alone: a bound on the distance to the optimum that trusts no side's own word. Rivals fit a sample where the whole would
take too long (stated with each size), and their times are extrapolated by the training rows.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np

from certify import l1_gap, standard
from fit_logistic import our_coefficients
from inputs import Problem, Sample, load, sample_of
from leadline.probes import SiteFit
from leadline.probes.elastic_net import ElasticNet, SparseLogistic
from leadline.probes.parallel import map_sites
from report import Side, arguments, ratios, rounded, show, take_turns, write
from rivals import call

N_PENALTIES, SMALLEST = 20, 1e-2
RIVALS = {"scikit-learn": "sklearn", "skglm": "skglm", "celer": "celer"}


def grid_of(problem: Problem, sample: Sample, kind: str) -> np.ndarray:
    """(20,) l1, from large to small."""
    rows = np.ones(problem.n, dtype=bool)
    y = problem.Y[:, sample.targets] - problem.Y[:, sample.targets].mean(axis=0)
    largest = max(np.abs(standard(problem.sites[s], rows).Z.T @ y).max() for s in sample.sites) / problem.n
    # The lasso's labels are twice as far apart.
    return np.asarray(largest * (2 if kind == "lasso" else 1) * np.geomspace(1.0, SMALLEST, N_PENALTIES))


def worst_gaps(
    problem: Problem, sample: Sample, grid: np.ndarray, kind: str, found: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Each side's worst relative duality gap over the sampled fits, and its mean number of features."""
    worst = dict.fromkeys(found, 0.0)
    kept: dict[str, list[int]] = {name: [] for name in found}
    for s, site in enumerate(sample.sites):
        for f, k in enumerate(sample.folds):
            rows = problem.fold != k
            own = standard(problem.sites[site], rows)
            for t, target in enumerate(sample.targets):
                y = problem.Y[rows, target]
                y = 2 * y - 1 if kind == "lasso" else y
                for name, (coef, _) in found.items():
                    for index, l1 in enumerate(grid):
                        w = coef[s, t, f, index] * own.scale
                        free = not (name == "celer" and kind == "logistic")
                        gap = l1_gap(own.Z, y, w, float(l1), logistic=kind == "logistic", intercept=free)[1]
                        worst[name] = max(worst[name], gap if np.isfinite(gap) else float("inf"))
                        kept[name].append(int((w != 0).sum()))
    return worst, {name: float(np.mean(counts)) for name, counts in kept.items()}


def measure(problem: Problem, kind: str, options: argparse.Namespace) -> tuple[dict[str, object], dict[str, object]]:
    """One kind of path at one size: the figures for the last line, and the details."""
    sample = sample_of(problem, options.sample, options.sample)
    grid = grid_of(problem, sample, kind)
    family = (ElasticNet if kind == "lasso" else SparseLogistic)(l1=tuple(grid.tolist()))
    arrays = {
        "X": np.stack([problem.sites[s] for s in sample.sites]),
        "Y": problem.Y[:, sample.targets],
        "fold": problem.fold,
        "grid": grid,
        "folds": np.array(sample.folds),
    }
    print(f"\n{problem.name}, {kind}: {problem.description}; rivals fit {sample.words}", flush=True)

    def one(X: np.ndarray) -> SiteFit:
        return family.fit_site(X, problem.Y, problem.fold)

    def ours() -> list[SiteFit]:
        return [one(problem.sites[0])] if len(problem.sites) == 1 else list(map_sites(one, problem.sites))

    turns = {
        title: partial(call, title, f"sparse:{name}_{kind}", arrays, options.limit) for title, name in RIVALS.items()
    }
    seconds, fits, outcomes = take_turns(ours, turns, options.repeats)
    assert isinstance(fits, list)
    mine = Side("leadline", statistics.median(seconds), statistics.median(seconds), repeats=seconds)
    mine.unconverged = sum(int((~fit.converged).sum()) for fit in fits)
    mine.settings = f"{len(fits) * fits[0].converged.size:,} fits, tolerance {family.tolerance:g}"
    others = [Side.of(title, outcome, sample.factor) for title, outcome in outcomes.items()]
    found = {"leadline": our_coefficients(fits, sample, problem.n_folds)}
    for title, outcome in outcomes.items():
        if "coef" in outcome.arrays:
            found[title] = (outcome.arrays["coef"], outcome.arrays["intercept"])
    gaps, features = worst_gaps(problem, sample, grid, kind, found)
    for side in (mine, *others):
        side.gap = gaps.get(side.name, float("nan"))
        if side.name in features:
            side.note = f"{features[side.name]:.1f} features on average"
    title = f"{problem.name}, {kind}: {len(problem.sites)} sites x {len(grid)} penalties x {problem.n_folds + 1}"
    show(title, mine, others, "worst duality gap")
    memory = call(
        "leadline", f"sparse:leadline_{kind}", {**arrays, "X": arrays["X"][:1], "Y": problem.Y}, options.limit
    )
    ratio = memory.peak_bytes / arrays["X"][0].nbytes
    print(f"  memory: {memory.reason or f'one site takes {ratio:.1f} times its activations more'}")
    figures = {**ratios(mine, others, "scikit-learn"), "worst_objective_gap": rounded(mine.gap)}
    return figures, {"sample": sample.words, "grid": grid.tolist(), "sides": [mine, *others], "peak_over_input": ratio}


def main() -> None:
    """Measure every size, print, write JSON, and end with one JSON object."""
    options = arguments(__doc__, "demo,1000x4096,5000x4096")
    figures: dict[str, dict[str, object]] = {}
    details: dict[str, object] = {}
    for name in options.sizes:
        problem = load(name, options.folder)
        for kind in ("lasso", "logistic"):
            figures[f"{name}, {kind}"], details[f"{name}, {kind}"] = measure(problem, kind, options)
    keys = ("speedup_vs_sklearn", "speedup_vs_fastest_peer", "fastest_peer", "worst_objective_gap")
    record: dict[str, object] = {"benchmark": "fit_sparse"}
    record |= {key: {size: found[key] for size, found in figures.items()} for key in keys}
    write("fit_sparse_quick" if options.quick else "fit_sparse", record, details)


if __name__ == "__main__":
    main()
