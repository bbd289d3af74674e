"""What the examples share: where the labelled data stand, activations of texts, and intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import leadline as ll
from leadline.probes.intervals import Estimate, draw_groups, percentile

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_file(name: str, instead: str) -> Path:
    """The path of a labelled data set; ends the program with what to do where it is not there."""
    path = DATA / name
    if not path.is_file():
        raise SystemExit(f"skipped: this example reads '{path}', which is not there. {instead}")
    return path


def activations(
    model: ll.Model, texts: Sequence[str], sites: str | Sequence[str], tokens: str = "last"
) -> dict[str, np.ndarray]:
    """(n, d) a site, in the order of `texts`. Kept in Leadline's cache, where a second run finds it."""
    data = ll.Dataset.from_rows([{"text": text} for text in texts], target=())
    store = ll.extract(model, data, sites=sites, tokens=tokens)
    return {site.name: store.read(site) for site in store.sites}


def share(
    correct: np.ndarray, groups: np.ndarray, fold: np.ndarray, *, against: np.ndarray | None = None, seed: int = 0
) -> Estimate:
    """The mean of a figure a row, with a 95% interval that draws whole groups within folds.

    With `against`, the mean of the difference: the same draws serve both, so the interval is a paired one.
    """
    drawn = draw_groups(len(correct), 2000, seed, groups=groups, fold=fold)
    value = correct.astype(np.float64) - (0.0 if against is None else against)
    return percentile(value @ drawn / drawn.sum(axis=0))
