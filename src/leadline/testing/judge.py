"""What Leadline says of a planted case, and whether that is right: the one place that knows how a sweep is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from leadline.activations import Activations
from leadline.evidence import sweep_target
from leadline.evidence.emergence import Emergence
from leadline.evidence.measures import SAFEGUARDS
from leadline.sites import Site
from leadline.testing.planted import Planted

__all__ = ["CHECKS", "Judged", "judge"]

CHECKS = ("best site", "emergence", "nonlinearity", "simplified")
"""What is checked beside the claims, where a case states it."""


@dataclass(frozen=True)
class Judged:
    """The judgement of a case.

    Attributes
    ----------
    verdicts : {claim: word}. sentences : {claim: what a person is told}.
    right : {claim or check: whether it is what was planted}, for those that the case names.
    """

    verdicts: Mapping[str, str]
    sentences: Mapping[str, str]
    right: Mapping[str, bool]


def judge(planted: Planted, *, n_permutations: int, n_bootstraps: int, seed: int) -> Judged:
    """Sweep a planted case and hold the verdicts against its truth.

    Raises
    ------
    EvidenceError : data on which no sweep can be judged, which is a fault of the case.
    """
    sweep = sweep_target(
        _source(planted.activations),
        planted.family,
        planted.labels,
        n_folds=planted.n_folds,
        n_permutations=n_permutations,
        n_bootstraps=n_bootstraps,
        text_controls=planted.text_controls,
        sources={name: _source(arrays) for name, arrays in planted.sources.items()},
        measures=(*SAFEGUARDS, *planted.measures),
        held_out={name: (_source(arrays), labels) for name, (arrays, labels) in planted.held_out.items()},
        seed=seed,
    )
    verdicts = {one.claim: one.verdict for one in sweep.verdicts}
    right = {claim: verdicts[claim] in allowed for claim, allowed in planted.truth.items()}
    if planted.first_layer is not None:
        right["best site"] = (sweep.best_site.layer or 0) >= planted.first_layer
        if sweep.measures.emergence:
            right["emergence"] = _holds(sweep.measures.emergence[0], planted.first_layer)
    gap = sweep.measures.nonlinearity
    if planted.nonlinear is not None and gap is not None:
        right["nonlinearity"] = bool(np.isfinite(gap.gap.low) and gap.gap.low > 0) == planted.nonlinear
    simplified = sweep.measures.simplified
    if planted.misled is not None and simplified is not None:
        right["simplified"] = any(one.misleads_on for one in simplified) == planted.misled
    return Judged(verdicts, {one.claim: one.sentence for one in sweep.verdicts}, right)


def _holds(found: Emergence, layer: int) -> bool:
    """Whether a gain over chance emerges, and the interval of where holds the planted layer."""
    if found.site is None or found.low is None:
        return False
    low = Site.parse(found.low).layer or 0
    high = len(found.sites) if found.high is None else Site.parse(found.high).layer or 0
    return low <= layer <= high


def _source(arrays: Mapping[str, np.ndarray]) -> Activations:
    return Activations.from_arrays({Site.parse(name): array for name, array in arrays.items()})
