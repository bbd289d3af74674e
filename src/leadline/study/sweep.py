"""`sweep`: from activations with their data set to probes at every site with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leadline.data.check import pairing_column
from leadline.data.records import Finding, Target
from leadline.errors import EvidenceError
from leadline.events import SILENT, EventSink
from leadline.evidence.controls import TEXT_CONTROLS
from leadline.evidence.metrics import CHANCE, PRIMARY
from leadline.evidence.sweep import Labels, Source, Sweep, sweep_target
from leadline.evidence.verdict import LEAK_MARGIN
from leadline.probes import Family, Logistic

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.data import Dataset

__all__ = ["fold_findings", "labels_of", "leak_findings", "sweep"]


def sweep(
    acts: Activations,
    family: Family | None = None,
    *,
    target: str | None = None,
    folds: int = 5,
    permutations: int = 1000,
    bootstraps: int = 1000,
    controls: str | Sequence[str] | None = "default",
    sources: Mapping[str, Source] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    events: EventSink = SILENT,
) -> Sweep:
    """Fit a probe at every site and judge each on rows that it never saw.

    Parameters
    ----------
    acts : activations with their data set; only its training rows are used, where it has a split. Where every token is
        kept, a row is a token, and those of a row of the data set stay together.
    family : `Logistic()` by default; `Ridge()`, `MeanDifference()`.
    target : which of the data set's targets; needed where it has several.
    folds : how many; groups stay whole and classes balanced.
    permutations : shuffles for the p-values; 0 leaves them out. bootstraps : replicates for the intervals.
    controls : `"default"` for the surface baselines that need no model (bag of words, character n-grams, length), a
        list of them, or None. What needs a model (random weights, token embeddings) is given in `sources`, or run by a
        study.
    sources : activations of the same rows to hold the probe against, as `{"random_weights": acts}`.
    alpha : the level of every verdict. seed : of folds, shuffles and replicates.

    Returns
    -------
    A `Sweep`: `.table`, `.best`, `.best_site`, `.selection`, `.baselines`, `.permutation`, `.verdicts`.

    Raises
    ------
    EvidenceError : no labels, an unknown control, or data on which no probe can be judged.

    Examples
    --------
    >>> import numpy as np, leadline as ll
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> x = rng.normal(size=(200, 8)) + 2 * y[:, None] * np.eye(8)[0]
    >>> acts = ll.Activations.from_arrays({"resid_post.0": x}, targets={"concept": y})
    >>> ll.sweep(acts, ll.Logistic(), controls=None, permutations=99).verdicts[0].verdict
    'supported'
    """
    if acts.ragged:
        # Every token is a row; those of one text stay on one side of a fold.
        acts = acts.by_token()
    data = acts.dataset
    if data is None or not data.targets:
        raise EvidenceError(
            "these activations come without labels; give Activations.from_arrays a dataset or targets={'name': values}."
        )
    names = [t.name for t in data.targets]
    if target is None and len(names) > 1:
        raise EvidenceError(f"the data set has {len(names)} targets: {', '.join(names)}; give one as target=.")
    chosen = data.target(names[0] if target is None else target)
    if controls == "default":
        wanted: tuple[str, ...] = TEXT_CONTROLS if data.has_text and any(data.texts) else ()
    elif controls is None or controls == "none":
        wanted = ()
    else:
        wanted = (controls,) if isinstance(controls, str) else tuple(controls)
        unknown = [c for c in wanted if c not in TEXT_CONTROLS]
        if unknown:
            raise EvidenceError(
                f"unknown control '{unknown[0]}'; sweep knows {', '.join(TEXT_CONTROLS)}. Random weights and token "
                f"embeddings need the model: give their activations in sources=, or run a study."
            )
    return sweep_target(
        acts,
        Logistic() if family is None else family,
        labels_of(data, chosen),
        n_folds=folds,
        n_permutations=permutations,
        n_bootstraps=bootstraps,
        text_controls=wanted,
        sources=sources,
        alpha=alpha,
        seed=seed,
        tokens=acts.tokens,
        model=_loadable(acts.manifest["model"]),
        model_fingerprint=acts.model_fingerprint,
        dtype=acts.manifest.get("dtype"),
        events=events,
    )


def _loadable(model: Mapping[str, str | None]) -> str | None:
    """What `load_model` takes for the model of a store: a path where it came from one, else its name."""
    source = model.get("source")
    return source if source and Path(source).exists() else model.get("name")


def labels_of(data: Dataset, target: Target) -> Labels:
    """The training rows of a data set, as the evidence reads them."""
    rows = data.train_rows
    texts = data.texts
    if data.span_column is not None:
        # The surface of a word is the word: all words of a sentence have its text in common.
        texts = [text[start:end] for text, (start, end) in zip(texts, data.span(data.span_column), strict=True)]
    return Labels(
        name=target.name,
        columns=target.columns,
        kind=target.kind,
        Y=target.values[rows],
        groups=None if data.groups is None else data.groups[rows],
        texts=[texts[i] for i in rows],
        rows=rows,
        negative=target.negative,
        positive=target.positive,
    )


def fold_findings(data: Dataset, target: Target, result: Sweep) -> tuple[Finding, ...]:
    """Warn of a group that fills more than half of a fold, which then tests little else."""
    groups = result.labels.groups
    if groups is None:
        return ()
    names, counts = np.unique(groups.astype(str), return_counts=True)
    share, fair = counts.max() / len(groups), 1 / (int(result.fold.max()) + 1)
    if share <= fair / 2:
        return ()
    effect = (
        "R² there is held against the spread of that group alone, and can be far below 0"
        if target.kind == "continuous"
        else "the figures there are of that group alone"
    )
    return (
        Finding(
            "dominant_group",
            "warning",
            f"The group '{names[counts.argmax()]}' of '{data.group_column}' holds {share:.0%} of the rows, where a "
            f"fold holds {fair:.0%}: one fold tests little else, and {effect}. Fewer folds, a cap on the rows "
            f"of a group, or a finer group column mends it.",
        ),
    )


def leak_findings(data: Dataset, target: Target, result: Sweep) -> tuple[Finding, ...]:
    """Name each baseline below chance as a leak, with the column that would group the rows."""
    low = [b for b in result.baselines if b.below_chance]
    if not low:
        return ()
    metric = PRIMARY[target.kind]
    worst = min(low, key=lambda b: (b.below_chance or {})[metric])
    figures = worst.below_chance or {}
    far = figures["high"] < CHANCE[metric] - LEAK_MARGIN
    pairing = pairing_column(data, target)
    if pairing is not None:
        column, share = pairing
        advice = (
            f"{share:.0%} of the rows share their '{column}' with rows of the opposite label: set group to '{column}', "
            f"so that they stay in one fold."
        )
    elif data.group_column is not None:
        advice = (
            f"The folds keep '{data.group_column}' whole, but rows of different groups still share words that stand on "
            f"both sides; no other column pairs them."
        )
    else:
        advice = "No column pairs them; add one that names what the paired rows share, and set group to it."
    return (
        Finding(
            "below_chance",
            "warning" if far or pairing is not None else "note",
            f"{worst.title} falls to AUROC {figures['auroc']:.2f} (accuracy {figures['accuracy']:.2f}), "
            f"{'far' if far else 'slightly but significantly'} below chance, which happens when rows that belong "
            f"together are split by the folds. {advice}",
        ),
    )
