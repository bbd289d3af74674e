"""The demo's grid of logistic probes against a loop of scikit-learn, on the same activations in the same run.

Every site × 7 penalties × (5 folds + the refit), each fold standardised by its own training rows. The rival is
`StandardScaler` + `LogisticRegression` in float32 input as a notebook gives it, one fit after the other, on a sample of
sites, with the machine to itself; its warnings are counted. The reference for both sides' objectives is the optimum
that scikit-learn's newton-cholesky finds in float64 at tol 1e-10.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from leadline import Logistic, extract, load_dataset, load_model
from leadline.data import Dataset
from leadline.evidence import make_folds
from leadline.probes import SiteFit
from leadline.probes.parallel import map_sites
from machine import describe_machine

CITIES = Path(__file__).parents[2] / "shared" / "data" / "truth" / "cities.csv"
MAX_ITER, TOL = 1000, 1e-4


def objective(Z: np.ndarray, y: np.ndarray, w: np.ndarray, b: float, l2: float) -> float:
    """Mean log-loss + (l2/2)·‖w‖² in float64."""
    return float(np.logaddexp(0, -(2 * y - 1) * (Z @ w + b)).mean() + l2 / 2 * w @ w)


Fitted = dict[tuple[int, int], LogisticRegression]


def sklearn_fits(X: np.ndarray, y: np.ndarray, fold: np.ndarray, grid: np.ndarray) -> tuple[float, int, Fitted]:
    """Seconds of the notebook's loop over one site, how many of its fits warned, and the fits by fold and penalty."""
    warned = 0
    fitted: Fitted = {}
    began = time.perf_counter()
    for k in range(int(fold.max()) + 2):
        rows = fold != k
        scaler = StandardScaler().fit(X[rows])
        Z = scaler.transform(X[rows])
        rest = scaler.transform(X[~rows]) if not rows.all() else None
        for index, l2 in enumerate(grid):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                model = LogisticRegression(C=1 / (rows.sum() * l2), max_iter=MAX_ITER, tol=TOL).fit(Z, y[rows])
            warned += any(issubclass(c.category, ConvergenceWarning) for c in caught)
            if rest is not None:
                model.decision_function(rest)
            fitted[k, index] = model
    return time.perf_counter() - began, warned, fitted


def worst_gap(
    X: np.ndarray, y: np.ndarray, fold: np.ndarray, grid: np.ndarray, fit: SiteFit, rival: Fitted
) -> tuple[float, float]:
    """Worst relative excess of our objectives, and of the rival's, over a float64 optimum at one site."""
    ours, theirs = [], []
    n_folds = int(fold.max()) + 1
    for k in range(n_folds + 1):
        rows = fold != k
        scaler = StandardScaler().fit(X[rows].astype(np.float64))
        Z = scaler.transform(X[rows].astype(np.float64))
        t = y[rows]
        for index, l2 in enumerate(grid):
            C = 1 / (rows.sum() * l2)
            best = LogisticRegression(C=C, max_iter=500, tol=1e-10, solver="newton-cholesky").fit(Z, t)
            least = objective(Z, t, best.coef_[0], float(best.intercept_[0]), l2)
            w = (fit.coef[index, 0] if k == n_folds else fit.fold_coef[index, k, 0].astype(np.float64)) * scaler.scale_
            b = fit.intercept[index, 0] if k == n_folds else fit.fold_intercept[index, k, 0]
            b = float(b + (w / scaler.scale_) @ scaler.mean_)
            ours.append(objective(Z, t, w, b, l2) / least - 1)
            usual = rival[k, index]
            theirs.append(objective(Z, t, usual.coef_[0].astype(float), float(usual.intercept_[0]), l2) / least - 1)
    return max(ours), max(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=3, help="sites that scikit-learn fits")
    parser.add_argument("--repeats", type=int, default=3, help="runs of our sweep; the median counts")
    parser.add_argument("--folder", default=None, help="a store of activations to use")
    args = parser.parse_args()
    if CITIES.is_file():
        data = Dataset.from_csv(CITIES, text="statement", target="label", group="city")
    else:
        data = load_dataset("city-facts")
    acts = extract(load_model("smollm2-135m", dtype="float32"), data, out=args.folder)
    y = data.targets[0].values
    fold = make_folds(y, data.groups, 5, stratify=True, seed=0)
    family = Logistic()
    grid = np.array(family.grid)
    sites = {site: acts.read(site) for site in acts.sites}
    seconds: list[float] = []
    fits = {}
    for _ in range(args.repeats):
        began = time.perf_counter()
        found = map_sites(lambda X: family.fit_site(X, y, fold), list(sites.values()))
        fits = dict(zip(sites, found, strict=True))
        seconds.append(time.perf_counter() - began)
    ours = statistics.median(seconds)
    n_fits = sum(fit.converged.size for fit in fits.values())
    sample = [acts.sites[i] for i in np.linspace(1, len(acts.sites) - 2, args.sample).round().astype(int)]
    theirs, warned, gaps, usual = [], 0, [], []
    for site in sample:
        spent, count, rival = sklearn_fits(sites[site], y[:, 0], fold, grid)
        theirs.append(spent)
        warned += count
        gap, other = worst_gap(sites[site], y[:, 0], fold, grid, fits[site], rival)
        gaps.append(gap)
        usual.append(other)
        print(
            f"{site.name:>14}: scikit-learn {spent:7.1f} s; objective gap ours {gap:.1e}, scikit-learn's {other:.1e}",
            flush=True,
        )
    whole = statistics.mean(theirs) * len(acts.sites)
    speedup = whole / ours
    size = f"n = {data.n:,}, d = {acts.width(sample[0])}"
    print(f"\n{n_fits:,} fits ({len(acts.sites)} sites x {len(grid)} penalties x 6), {size}")
    print(f"leadline      {ours:8.1f} s  (median of {', '.join(f'{s:.1f}' for s in seconds)})")
    print(
        f"scikit-learn  {whole:8.1f} s  (from {len(sample)} sites; max_iter {MAX_ITER}, tol {TOL}, {warned} warnings)"
    )
    print(f"ratio         {speedup:8.0f}")
    unconverged = sum(int((~fit.converged).sum()) for fit in fits.values())
    result = {
        "benchmark": "sweep",
        "speedup_vs_sklearn": round(speedup, 1),
        "worst_objective_gap": float(f"{max(gaps):.2e}"),
        "worst_objective_gap_sklearn": float(f"{max(usual):.2e}"),
        "leadline_seconds": round(ours, 2),
        "sklearn_seconds_extrapolated": round(whole, 1),
        "n_fits": n_fits,
        "n_not_converged": unconverged,
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    stamp = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "threads": torch.get_num_threads()}
    (folder / "sweep.json").write_text(json.dumps({**result, **stamp, "machine": describe_machine()}, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
