"""How often a 95% interval of the best site holds what its probe is worth on fresh data, where that is known.

Draws of noise with a concept of a given strength at the last of several sites. The worth is the AUROC of the chosen
site's refit on 20,000 fresh rows; the interval is the corrected one that a sweep reports.

Usage: python docs/examples/interval_coverage.py [DRAWS]
"""
# ruff: noqa: T201

from __future__ import annotations

import sys

import numpy as np

from leadline.evidence import Labels, sweep_target
from leadline.evidence.metrics import weighted_auroc
from leadline.probes import Ridge
from leadline.sites import Site

N_FRESH = 20_000
D = 8


class Arrays:
    """Activations in memory."""

    def __init__(self, arrays: dict[Site, np.ndarray]) -> None:
        self.arrays, self.sites = arrays, tuple(arrays)

    def read(self, site: Site) -> np.ndarray:
        return self.arrays[site]


def covered(seed: int, n: int, n_sites: int, strength: float) -> tuple[bool, float]:
    """Whether the interval holds the worth, and corrected − worth."""
    rng = np.random.default_rng([seed, n, n_sites])
    sites = [Site("resid_post", layer) for layer in range(n_sites)]

    def draw(rows: int, layer: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(rows) % 2
        shift = strength * (layer == n_sites - 1)
        return (rng.normal(size=(rows, D)) + shift * np.outer(y - 0.5, np.eye(D)[0])).astype(np.float32), y

    y = np.arange(n) % 2
    source = Arrays({site: draw(n, site.layer or 0)[0] for site in sites})
    labels = Labels("concept", ("concept",), "binary", y[:, None].astype(float), None, None, np.arange(n))
    sweep = sweep_target(
        source, Ridge(l2=(0.01, 0.1, 1.0)), labels, n_permutations=0, n_bootstraps=300, text_controls=(), seed=seed
    )
    fresh, truth = draw(N_FRESH, sweep.best_site.layer or 0)
    chosen = sweep.outcomes[sweep.best_index]
    scores = fresh.astype(np.float64) @ chosen.coef[0] + chosen.intercept[0]
    worth = float(weighted_auroc(scores, truth, np.ones((N_FRESH, 1), dtype=np.float32))[0])
    e = sweep.selection.metrics["auroc"]
    return bool(e.low <= worth <= e.high), e.value - worth


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("| rows | sites | strength | interval holds the worth | corrected − worth, mean |\n|---|---|---|---|---|")
    for n in (120, 400):
        for n_sites, strength in ((1, 1.0), (8, 1.0), (8, 0.0)):
            found = [covered(seed, n, n_sites, strength) for seed in range(draws)]
            share = np.mean([hit for hit, _ in found])
            error = 1.96 * np.sqrt(share * (1 - share) / draws)
            bias = np.mean([b for _, b in found])
            print(f"| {n} | {n_sites} | {strength:g} | {share:.1%} ± {error:.1%} | {bias:+.3f} |", flush=True)


if __name__ == "__main__":
    main()
