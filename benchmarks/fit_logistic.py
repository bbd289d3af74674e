"""Logistic probes: every penalty × fold of a site, ours against the ways that people fit them.

    .venv/bin/python benchmarks/fit_logistic.py [--sizes demo,5000x4096] [--sample 3] [--repeats 3] [--quick]

7 penalties × (5 folds + the refit), each fold standardised by its own training rows; everybody minimises mean log-loss
+ (l2/2)·‖w‖², which is C = 1/(n·l2) elsewhere, and scores the held-out rows. Ours runs in this process, the rivals in
turn between its repeats, each in a subprocess: its import and a warm-up are not counted. Rivals fit a sample where the
whole would take too long (stated with each size), and their times are extrapolated by the training rows. The gap is the
worst relative excess of the objective over a float64 optimum, on the same sampled fits for all sides.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np

from certify import NEWTON_UP_TO, logistic_minima, logistic_objective, newton_minimum, standard
from efficiency import gemm_gflops, iteration_flops, time_split
from inputs import QUICK, Problem, Sample, load, sample_of
from leadline.probes import Logistic, SiteFit
from leadline.probes.parallel import map_sites
from report import Side, arguments, ratios, rounded, show, take_turns, write
from rivals import Outcome, call

DEFAULT = "scikit-learn loop"
OWN_SCHEME = "LogisticRegressionCV"
RIVALS = {
    "scikit-learn loop": ("scikit-learn", "logistic:sklearn_default"),
    "scikit-learn loop, converged": ("scikit-learn", "logistic:sklearn_converged"),
    "scikit-learn newton-cholesky": ("scikit-learn", "logistic:sklearn_newton"),
    OWN_SCHEME: ("scikit-learn", "logistic:sklearn_cv"),
    "probekit": ("probekit", "logistic:probekit_auto"),
    "probekit newton-cg": ("probekit", "logistic:probekit_cg"),
    "probelab": ("probelab", "logistic:probelab"),
}


def fit_all(family: Logistic, problem: Problem) -> list[SiteFit]:
    """Ours, as a sweep does it: sites side by side; a single one with all threads inside its products."""

    def one(X: np.ndarray) -> SiteFit:
        return family.fit_site(X, problem.Y, problem.fold)

    return [one(problem.sites[0])] if len(problem.sites) == 1 else list(map_sites(one, problem.sites))


def our_coefficients(fits: list[SiteFit], sample: Sample, n_folds: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, m, F, L, d) and (S, m, F, L) of the sampled fits, as the rivals return them."""
    coef, intercept = [], []
    for s in sample.sites:
        whole = np.concatenate([fits[s].fold_coef.astype(np.float64), fits[s].coef[:, None]], axis=1)
        free = np.concatenate([fits[s].fold_intercept, fits[s].intercept[:, None]], axis=1)
        at = np.ix_(range(len(whole)), sample.folds, sample.targets)
        coef.append(whole[at].transpose(2, 1, 0, 3))
        intercept.append(free[at].transpose(2, 1, 0))
    return np.stack(coef), np.stack(intercept)


def share_of_cv(problem: Problem, sample: Sample, grid: np.ndarray) -> float:
    """What LogisticRegressionCV fits beside a whole grid, whose refit has one penalty only, where folds are sampled."""
    if problem.n_folds in sample.folds:
        return 1.0
    rows = [int((problem.fold != k).sum()) for k in range(problem.n_folds)]
    return (sum(rows) + problem.n / len(grid)) / (sum(rows) + problem.n)


def worst_gaps(
    problem: Problem, sample: Sample, grid: np.ndarray, found: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[str, float], dict[str, object]]:
    """Each side's worst relative excess over the float64 optimum, and how that was found and checked."""
    gaps: dict[str, list[float]] = {name: [] for name in found}
    about: dict[str, object] = {}
    for s, site in enumerate(sample.sites):
        for f, k in enumerate(sample.folds):
            rows = problem.fold != k
            own = standard(problem.sites[site], rows)
            for t, target in enumerate(sample.targets):
                y = problem.Y[rows, target]
                least, words = logistic_minima(own.Z, y, grid)
                if not about:
                    about["reference"] = words
                    if min(own.Z.shape) > NEWTON_UP_TO:
                        middle = len(grid) // 2
                        other = newton_minimum(own.Z, y, float(grid[middle]))
                        about["reference_check"] = abs(least[middle] / other - 1)
                for name, (coef, intercept) in found.items():
                    w, b = own.from_raw(coef[s, t, f], intercept[s, t, f])
                    gap = logistic_objective(own.Z, y, w, b, grid) / least - 1
                    # What overflowed did not solve the problem.
                    gaps[name].append(float(np.where(np.isfinite(gap), gap, np.inf).max()))
    return {name: max(values) for name, values in gaps.items()}, about


def measure(name: str, options: argparse.Namespace) -> tuple[dict[str, object], dict[str, object]]:
    """Everything at one size: the figures for the last line, and the details."""
    problem = load(name, options.folder)
    sample = sample_of(problem, options.sample, options.sample)
    family = Logistic()
    grid = np.array(family.grid)
    arrays = {
        "X": np.stack([problem.sites[s] for s in sample.sites]),
        "Y": problem.Y[:, sample.targets],
        "fold": problem.fold,
        "grid": grid,
        "folds": np.array(sample.folds),
    }
    limit = options.limit
    print(f"\n{name}: {problem.description}; rivals fit {sample.words}", flush=True)
    turns = {title: partial(call, rival, function, arrays, limit) for title, (rival, function) in RIVALS.items()}
    seconds, fits, outcomes = take_turns(lambda: fit_all(family, problem), turns, options.repeats)
    assert isinstance(fits, list)
    mine = Side("leadline", statistics.median(seconds), statistics.median(seconds), repeats=seconds)
    mine.unconverged = sum(int((~fit.converged).sum()) for fit in fits)
    mine.settings = f"{len(fits) * fits[0].converged.size:,} fits, tolerance {family.tolerance:g}, float32"
    found = {"leadline": our_coefficients(fits, sample, problem.n_folds)}
    others = [
        Side.of(title, outcome, sample.factor * (share_of_cv(problem, sample, grid) if title == OWN_SCHEME else 1))
        for title, outcome in outcomes.items()
    ]
    for title, outcome in outcomes.items():
        if "coef" in outcome.arrays:
            found[title] = (outcome.arrays["coef"], outcome.arrays["intercept"])
    gaps, about = worst_gaps(problem, sample, grid, found)
    for side in (mine, *others):
        side.gap = gaps.get(side.name, float("nan"))
    n_fits = (
        f"{len(problem.sites)} sites x {problem.Y.shape[1]} targets x {len(grid)} penalties x {problem.n_folds + 1}"
    )
    show(f"{name}: {n_fits}; gap to {about['reference']}", mine, others)
    if "reference_check" in about:
        check = about["reference_check"]
        print(f"  the reference against scikit-learn's newton-cholesky in float64 on one fit: {check:.1e}")
    figures = {**ratios(mine, others, DEFAULT), "worst_objective_gap": rounded(mine.gap)}
    details = {
        "problem": problem.description,
        "sample": sample.words,
        "sides": [mine, *others],
        **about,
        **memory_of(problem, sample, arrays, limit),
        **efficiency_of(problem, family, fits, mine.seconds, name in QUICK),
    }
    return figures, details


def memory_of(problem: Problem, sample: Sample, arrays: dict[str, np.ndarray], limit: float) -> dict[str, object]:
    """Peak memory of one site's fit beyond what stood before it, over the bytes of its activations."""
    X = problem.sites[sample.sites[0]]
    outcome: Outcome = call("leadline", "logistic:leadline", {**arrays, "X": X[None], "Y": problem.Y}, limit)
    if outcome.failed:
        print(f"  memory: failed: {outcome.reason}")
        return {"memory": outcome.reason}
    ratio = outcome.peak_bytes / X.nbytes
    print(
        f"  memory: one site's fit takes {outcome.peak_bytes / 2**20:,.0f} MiB more, {ratio:.1f} times its activations"
    )
    return {"peak_bytes": outcome.peak_bytes, "input_bytes": X.nbytes, "peak_over_input": ratio}


def efficiency_of(
    problem: Problem, family: Logistic, fits: list[SiteFit], seconds: float, quick: bool
) -> dict[str, object]:
    """The share of the machine's matrix-product limit, and where one site's time goes."""
    limit = gemm_gflops(512 if quick else 4096)
    reached = iteration_flops(problem, fits) / seconds / 1e9
    split = time_split(lambda: family.fit_site(problem.sites[len(problem.sites) // 2], problem.Y, problem.fold))
    iterations = np.concatenate([fit.iterations.ravel() for fit in fits])
    print(
        f"  iterations: median {np.median(iterations):.0f}, most {iterations.max()}; their products run at "
        f"{reached:,.1f} of the {limit:,.1f} GFlop/s of a large float32 product ({reached / limit:.0%} at least)"
    )
    shares = ", ".join(f"{kind} {value:.0%}" for kind, value in split.items() if kind != "seconds")
    print(f"  one site's {split['seconds']:.2f} s under the profiler: {shares}")
    return {"gemm_gflops": limit, "iteration_gflops": reached, "share_of_gemm": reached / limit, "split": split}


def main() -> None:
    """Measure every size, print, write JSON, and end with one JSON object."""
    options = arguments(__doc__, "demo,5000x4096,1000x4096,100000x576,1500x576x200")
    names = options.sizes
    figures, details = {}, {}
    for name in names:
        figures[name], details[name] = measure(name, options)
    keys = ("speedup_vs_sklearn", "speedup_vs_fastest_peer", "fastest_peer", "worst_objective_gap")
    record = {"benchmark": "fit_logistic", **{key: {name: figures[name][key] for name in names} for key in keys}}
    write("fit_logistic_quick" if options.quick else "fit_logistic", record, details)


if __name__ == "__main__":
    main()
