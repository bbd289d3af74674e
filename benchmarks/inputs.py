"""What the benchmarks of the fits are measured on: real activations, and generated ones at the sizes of larger models.

`demo` is the 32 sites of SmolLM2-135M on statements about cities, the last token of each. Every other size is
generated: rows with a covariance whose i-th eigenvalue is 1/i, in a random rotation, one massive feature (mean 200,
standard deviation 20, as residual streams have), and labels drawn from a planted logistic model of the 64 strongest
directions. They stand in for the shapes and the conditioning of activations, not for their meaning: no accuracy on
them says anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leadline.evidence import make_folds

__all__ = ["GENERATED", "QUICK", "Problem", "Sample", "linear_targets", "load", "sample_of"]

CITIES = Path(__file__).parents[2] / "shared" / "data" / "truth" / "cities.csv"
N_FOLDS = 5
# rows, features, targets
GENERATED = {
    "5000x4096": (5000, 4096, 1),
    "1000x4096": (1000, 4096, 1),
    "100000x576": (100_000, 576, 1),
    "1500x576x200": (1500, 576, 200),
}
# For smoke tests; a run of them is short enough to repeat with every change.
QUICK = {"240x32x2": (240, 32, 2), "80x200": (80, 200, 1)}
# A rival fits every fold of a sampled site while a site has at most so many values, else the first fold.
_SMALL = 2_000_000


@dataclass(frozen=True)
class Problem:
    """Sites that share rows, targets and folds.

    Attributes
    ----------
    name, description : the latter says whether it is generated.
    sites : S of (n, d) float32. Y : (n, m) of 0 and 1. fold : (n,), 0 … K−1. groups : (n,) or None.
    """

    name: str
    description: str
    sites: list[np.ndarray]
    Y: np.ndarray
    fold: np.ndarray
    groups: np.ndarray | None = None

    @property
    def n(self) -> int:
        return len(self.Y)

    @property
    def d(self) -> int:
        return int(self.sites[0].shape[1])

    @property
    def n_folds(self) -> int:
        return int(self.fold.max()) + 1


@dataclass(frozen=True)
class Sample:
    """The fits that a rival makes and that are certified; whole times are extrapolated from it.

    Attributes
    ----------
    sites, targets : indices. folds : numbers, all of them and `n_folds` for the refit, or one.
    factor : the whole over the sample, counted in sites × targets × training rows.
    """

    sites: list[int]
    targets: list[int]
    folds: list[int]
    factor: float

    @property
    def words(self) -> str:
        """What was fitted, for the output."""
        if self.factor == 1:
            return "everything"
        folds = "all folds" if len(self.folds) > 1 else f"fold {self.folds[0]}"
        return f"{len(self.sites)} sites x {len(self.targets)} targets x {folds}; times x {self.factor:.2f}"


def load(name: str, folder: str | None = None) -> Problem:
    """A problem by its name.

    Parameters
    ----------
    folder : of a store of the demo's activations, which is written if it is not there.
    """
    if name == "demo":
        return _demo(folder)
    sizes = {**GENERATED, **QUICK}
    if name not in sizes:
        raise SystemExit(f"unknown size '{name}'; expected some of demo, {', '.join(sizes)}, comma-separated.")
    n, d, m = sizes[name]
    X, Y = _generated(n, d, m)
    fold = make_folds(Y[:, :1], None, N_FOLDS, stratify=True, seed=0)
    words = f"generated, 1 site, n = {n:,}, d = {d:,}"
    return Problem(name, words, [X], Y, fold)


def _demo(folder: str | None) -> Problem:
    # These load transformers, which the other sizes do without.
    from leadline import extract, load_dataset, load_model
    from leadline.data import Dataset

    if CITIES.is_file():
        data = Dataset.from_csv(CITIES, text="statement", target="label", group="city")
    else:
        data = load_dataset("city-facts")
    acts = extract(load_model("smollm2-135m", dtype="float32"), data, out=folder)
    Y = data.targets[0].values
    fold = make_folds(Y, data.groups, N_FOLDS, stratify=True, seed=0)
    sites = [np.asarray(acts.read(site)) for site in acts.sites]
    words = f"real activations, {len(sites)} sites, n = {data.n:,}, d = {sites[0].shape[1]:,}"
    return Problem("demo", words, sites, Y, fold, None if data.groups is None else np.asarray(data.groups))


def _generated(n: int, d: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([n, d, m])
    latent = rng.standard_normal((n, d), dtype=np.float32)
    k = min(64, d)
    logits = latent[:, :k] @ rng.standard_normal((k, m), dtype=np.float32)
    logits *= 3.0 / logits.std(axis=0)
    Y = (rng.random((n, m)) < 1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float64)
    rotation = np.linalg.qr(rng.standard_normal((d, d), dtype=np.float32))[0]
    latent *= (1 / np.sqrt(np.arange(1, d + 1))).astype(np.float32)
    X = latent @ rotation
    X[:, 0] = 200 + 20 * rng.standard_normal(n, dtype=np.float32)
    return X, Y


def linear_targets(X: np.ndarray, m: int, seed: int = 0) -> np.ndarray:
    """(n, m) generated continuous targets: linear in 64 random projections of the features, and as much noise."""
    rng = np.random.default_rng([seed, m])
    Z = X - X.mean(axis=0, dtype=np.float64)
    Z /= np.maximum(Z.std(axis=0), 1e-12)
    projected = Z @ rng.standard_normal((X.shape[1], min(64, X.shape[1])))
    signal = projected @ rng.standard_normal((projected.shape[1], m))
    return np.asarray(signal / signal.std(axis=0) + rng.standard_normal((len(X), m)))


def sample_of(problem: Problem, n_sites: int, n_targets: int, all_folds: bool | None = None) -> Sample:
    """The sites, targets and folds that rivals fit; the same for all of them.

    Parameters
    ----------
    all_folds : None for all folds of a small site, and the first one of a large one.
    """
    S, m, K = len(problem.sites), problem.Y.shape[1], problem.n_folds
    inner = range(1, S - 1) if n_sites + 2 < S else range(S)
    sites = sorted({int(i) for i in np.linspace(inner[0], inner[-1], min(n_sites, S)).round()})
    targets = sorted({int(i) for i in np.linspace(0, m - 1, min(n_targets, m)).round()})
    small = problem.n * problem.d <= _SMALL if all_folds is None else all_folds
    folds = list(range(K + 1)) if small else [0]
    rows = [int((problem.fold != k).sum()) for k in range(K + 1)]
    factor = S / len(sites) * m / len(targets) * sum(rows) / sum(rows[k] for k in folds)
    return Sample(sites, targets, folds, factor)
