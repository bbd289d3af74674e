"""Ridge probes: 13 penalties × (5 folds + the refit), for 1 and for 200 targets, against the ways people fit them.

    .venv/bin/python benchmarks/fit_ridge.py [--sizes demo,5000x4096] [--sample 3] [--repeats 3] [--quick]

Two comparisons. *Folds*: our `fit_site` against a loop of scikit-learn's Ridge, which solves the same fits, and against
himalaya's cross-validation, which scales once for all folds and keeps the refit at each target's chosen penalty alone.
*Leave-one-out*: our `leave_one_out` against scikit-learn's RidgeCV, the same figures from one scaling; its `gap` is the
worst relative difference of the two mean squared errors. Targets are generated: linear in the activations, and as much
noise. The folds' gap is the worst relative excess of the objective over a float64 singular value decomposition.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np

from certify import ridge_excess, ridge_optima, standard
from inputs import Problem, Sample, linear_targets, load, sample_of
from leadline.probes import Ridge, SiteFit
from leadline.probes.parallel import map_sites
from report import Side, arguments, ratios, rounded, show, take_turns, write
from rivals import call

FOLD_RIVALS = {
    "scikit-learn loop": ("scikit-learn", "ridge:sklearn_loop"),
    "himalaya numpy": ("himalaya", "ridge:himalaya_numpy"),
    "himalaya torch": ("himalaya", "ridge:himalaya_torch"),
}
# Errors of every row, penalty and target, in float64; more than this is not asked of anybody.
_LOO_BYTES = 1 << 30
# For each side the folds that it has, and its coefficients and intercepts there.
Found = dict[str, tuple[list[int], np.ndarray, np.ndarray]]


def counted(problem: Problem) -> str:
    """The number of targets, in words."""
    m = problem.Y.shape[1]
    return f"{m} target{'s' if m > 1 else ''}"


def worst_excess(problem: Problem, sample: Sample, grid: np.ndarray, found: Found) -> dict[str, float]:
    """Each side's worst relative excess over the fits that it has of the sampled sites."""
    worst = dict.fromkeys(found, float("nan"))
    for s, site in enumerate(sample.sites):
        for k in sorted({k for folds, _, _ in found.values() for k in folds}):
            rows = problem.fold != k
            own = standard(problem.sites[site], rows)
            targets = problem.Y[rows]
            best, least = ridge_optima(own.Z, targets, grid)
            for name, (folds, coef, intercept) in found.items():
                if k not in folds:
                    continue
                at = folds.index(k)
                w, b = own.from_raw(coef[s, :, at].swapaxes(0, 1), intercept[s, :, at].T)
                excess = ridge_excess(own.Z, grid, w, b, targets.mean(axis=0), best, least)
                if np.isfinite(excess).any():
                    worst[name] = float(np.nanmax([worst[name], np.nanmax(excess)]))
    return worst


def fold_fits(
    problem: Problem, sample: Sample, options: argparse.Namespace
) -> tuple[dict[str, object], dict[str, object]]:
    """Every penalty × fold × target against the rivals."""
    family = Ridge()
    grid = np.array(family.grid)
    arrays = {
        "X": np.stack([problem.sites[s] for s in sample.sites]),
        "Y": problem.Y,
        "fold": problem.fold,
        "grid": grid,
        "folds": np.array(sample.folds),
    }

    def one(X: np.ndarray) -> SiteFit:
        return family.fit_site(X, problem.Y, problem.fold)

    def ours() -> list[SiteFit]:
        # All sites' coefficients of many targets would fill the memory: those that are not judged are let go.
        fits = map(one, problem.sites) if len(problem.sites) == 1 else map_sites(one, problem.sites)
        return [fit for s, fit in enumerate(fits) if s in sample.sites]

    turns = {
        name: partial(call, rival, function, arrays, options.limit) for name, (rival, function) in FOLD_RIVALS.items()
    }
    seconds, fits, outcomes = take_turns(ours, turns, options.repeats)
    assert isinstance(fits, list)
    mine = Side("leadline", statistics.median(seconds), statistics.median(seconds), repeats=seconds)
    mine.settings = f"{len(problem.sites) * fits[0].converged.size:,} fits in closed form, float64"
    per_site = len(problem.sites) / len(sample.sites)
    others = []
    for name, outcome in outcomes.items():
        # himalaya always goes through all folds.
        others.append(Side.of(name, outcome, per_site if name.startswith("himalaya") else sample.factor))
    # The refit is what himalaya is judged by.
    folds = sorted({*sample.folds, problem.n_folds})
    found: Found = {}
    coef, intercept = [], []
    for fit in fits:
        whole = np.concatenate([fit.fold_coef, fit.coef[:, None]], axis=1)[:, folds]
        free = np.concatenate([fit.fold_intercept, fit.intercept[:, None]], axis=1)[:, folds]
        coef.append(whole.transpose(2, 1, 0, 3))
        intercept.append(free.transpose(2, 1, 0))
    found["leadline"] = (folds, np.stack(coef), np.stack(intercept))
    for name, outcome in outcomes.items():
        if "coef" in outcome.arrays:
            held = [problem.n_folds] if name.startswith("himalaya") else sample.folds
            found[name] = (held, outcome.arrays["coef"], outcome.arrays["intercept"])
    gaps = worst_excess(problem, sample, grid, found)
    for side in (mine, *others):
        side.gap = gaps.get(side.name, float("nan"))
    title = f"{problem.name}, {counted(problem)}, {len(grid)} penalties x {problem.n_folds + 1}"
    show(f"{title}; gap to a float64 singular value decomposition", mine, others)
    memory = call("leadline", "ridge:leadline", {**arrays, "X": arrays["X"][:1]}, options.limit)
    ratio = memory.peak_bytes / arrays["X"][0].nbytes
    print(f"  memory: {memory.reason or f'one site takes {ratio:.1f} times its activations more'}")
    figures = {**ratios(mine, others, "scikit-learn loop"), "worst_objective_gap": rounded(mine.gap)}
    return figures, {"sample": sample.words, "sides": [mine, *others], "peak_over_input": ratio}


def leave_one_out(
    problem: Problem, sample: Sample, options: argparse.Namespace
) -> tuple[dict[str, object], dict[str, object]]:
    """Leave-one-out of every penalty and target against RidgeCV, on the sampled sites."""
    family = Ridge()
    grid = np.array(family.grid)
    bytes_needed = 8 * len(grid) * problem.Y.size
    if bytes_needed > _LOO_BYTES:
        words = f"not run: the errors alone are {bytes_needed / 2**30:.1f} GiB (rows x penalties x targets)"
        print(f"\n{problem.name}, {counted(problem)}, leave-one-out: {words}")
        return {}, {"reason": words}
    X = np.stack([problem.sites[s] for s in sample.sites])
    arrays = {"X": X, "Y": problem.Y, "fold": problem.fold, "grid": grid, "folds": np.array(sample.folds)}
    turns = {"RidgeCV": partial(call, "scikit-learn", "ridge:sklearn_leave_one_out", arrays, options.limit)}

    def ours() -> np.ndarray:
        return np.stack([family.leave_one_out(site, problem.Y).loo_error.T for site in X])

    seconds, error, outcomes = take_turns(ours, turns, options.repeats)
    assert isinstance(error, np.ndarray)
    mine = Side("leadline", statistics.median(seconds), statistics.median(seconds), repeats=seconds)
    side = Side.of("RidgeCV", outcomes["RidgeCV"], 1.0)
    difference = float("nan")
    if not side.reason:
        other = outcomes["RidgeCV"].arrays["error"]
        difference = float(np.abs(error / other - 1).max())
    mine.gap = side.gap = difference
    title = f"{problem.name}, {counted(problem)}, leave-one-out on {len(X)} sites"
    show(title, mine, [side], "relative difference")
    figures: dict[str, object] = {
        "speedup": None if side.reason else rounded(side.seconds / mine.seconds),
        "difference": rounded(difference),
    }
    return figures, {"sides": [mine, side]}


def main() -> None:
    """Measure every size, print, write JSON, and end with one JSON object."""
    options = arguments(__doc__, "demo,5000x4096,1000x4096,100000x576")
    figures: dict[str, dict[str, object]] = {}
    alone: dict[str, dict[str, object]] = {}
    details: dict[str, object] = {}
    for name in options.sizes:
        given = load(name, options.folder)
        for m in (1, 5 if options.quick else 200):
            targets = linear_targets(given.sites[len(given.sites) // 2], m)
            problem = Problem(name, given.description, given.sites, targets, given.fold)
            # The reference of many targets at many sites takes longer than the fits; one site is judged there.
            sample = sample_of(problem, options.sample if m == 1 else 1, m)
            key = f"{name}, {counted(problem)}"
            print(f"\n{key}: {problem.description}; rivals fit {sample.words}", flush=True)
            figures[key], first = fold_fits(problem, sample, options)
            alone[key], second = leave_one_out(problem, sample, options)
            details[key] = {"problem": problem.description, "folds": first, "leave_one_out": second}
    keys = ("speedup_vs_sklearn", "speedup_vs_fastest_peer", "fastest_peer", "worst_objective_gap")
    record: dict[str, object] = {"benchmark": "fit_ridge"}
    record |= {key: {size: found[key] for size, found in figures.items()} for key in keys}
    record["leave_one_out_speedup_vs_sklearn"] = {size: found.get("speedup") for size, found in alone.items()}
    record["leave_one_out_difference"] = {size: found.get("difference") for size, found in alone.items()}
    write("fit_ridge_quick" if options.quick else "fit_ridge", record, details)


if __name__ == "__main__":
    main()
