"""`sweep`: from activations with their data set to probes at every site with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from leadline.data.check import pairing_column
from leadline.data.records import Finding, Target
from leadline.errors import DataError, EvidenceError
from leadline.events import SILENT, EventSink
from leadline.evidence.controls import TEXT_CONTROLS
from leadline.evidence.labels import Labels, Source
from leadline.evidence.measures import DEFAULT_MEASURES, SAFEGUARDS
from leadline.evidence.metrics import CHANCE, PRIMARY
from leadline.evidence.sweep import Sweep, sweep_target
from leadline.evidence.verdict import LEAK_MARGIN, METRIC_TITLES
from leadline.probes import Family
from leadline.probes.adapt import default_family
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.data import Dataset

__all__ = [
    "WITHOUT_MODEL",
    "OneSite",
    "fold_findings",
    "labels_of",
    "leak_findings",
    "matching_target",
    "sweep",
    "test_rows",
]

WITHOUT_MODEL = (*TEXT_CONTROLS, "first_token", "last_token")
"""Surface baselines that the texts alone allow."""
_NEED_A_STUDY = ("giveaway",)


def sweep(
    acts: Activations,
    family: Family | None = None,
    *,
    target: str | None = None,
    folds: int = 5,
    permutations: int = 1000,
    bootstraps: int = 1000,
    controls: str | Sequence[str] | None = "default",
    sources: Mapping[str, Source | Sequence[Source]] | None = None,
    measures: str | Sequence[str] | None = "default",
    tests: Mapping[str, Activations] | None = None,
    balance: bool = False,
    alpha: float = 0.05,
    seed: int = 0,
    events: EventSink = SILENT,
) -> Sweep:
    """Fit a probe at every site and judge each on rows that it never saw.

    Parameters
    ----------
    acts : activations with their data set; only its training rows are used, where it has a split. Where every token is
        kept, a row is a token, and those of a row of the data set stay together.
    family : by default `Logistic()`, `Multinomial()`, `Ordinal()` or `Ridge()`, as the kind of target asks.
    target : which of the data set's targets; needed where it has several.
    folds : how many; groups stay whole and classes balanced.
    permutations : shuffles for the p-values; 0 leaves them out. bootstraps : replicates for the intervals.
    controls : `"default"` for the surface baselines that need no model (bag of words, character n-grams, length, first
        and last word), a list of them, or None. What needs a model (random weights, token embeddings, perplexity) is
        given in `sources`, or run by a study.
    sources : activations of the same rows to hold the probe against, as `{"random_weights": acts}`; a list of them
        where there are several random models.
    measures : `"default"` for all further evidence but full nesting, a list of `leadline.evidence.MEASURES`, or None
        for what can withhold a verdict alone.
    tests : activations of other labelled sets, by name, on which the probes are tried: for the claim "general".
    balance : train on as many rows of each class as the rarest has.
    alpha : the level of every verdict. seed : of folds, shuffles and replicates.

    Returns
    -------
    A `Sweep`: `.table`, `.best`, `.best_site`, `.selection`, `.baselines`, `.permutation`, `.measures`, `.verdicts`.

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
        wanted: tuple[str, ...] = WITHOUT_MODEL if data.has_text and any(data.texts) else ()
    elif controls is None or controls == "none":
        wanted = ()
    else:
        wanted = (controls,) if isinstance(controls, str) else tuple(controls)
        unknown = [c for c in wanted if c not in WITHOUT_MODEL]
        if unknown:
            raise EvidenceError(
                f"unknown control '{unknown[0]}'; sweep knows {', '.join(WITHOUT_MODEL)}. Random weights and token "
                f"embeddings need the model: give their activations in sources=, or run a study."
            )
    if measures == "default":
        taken = tuple(m for m in DEFAULT_MEASURES if m not in _NEED_A_STUDY)
    elif measures is None or measures == "none":
        taken = SAFEGUARDS
    else:
        taken = (measures,) if isinstance(measures, str) else tuple(measures)
    embedding = [site for site in acts.sites if site.kind == "embed"]
    given = dict(sources or {})
    if controls == "default" and len(embedding) == 1 and len(acts.sites) > 1:
        given.setdefault("embed_site", OneSite(acts, embedding[0]))
    return sweep_target(
        acts,
        default_family(chosen.kind) if family is None else family,
        labels_of(data, chosen),
        n_folds=folds,
        n_permutations=permutations,
        n_bootstraps=bootstraps,
        text_controls=wanted,
        sources=given,
        measures=taken,
        held_out={name: test_rows(given, chosen, name) for name, given in (tests or {}).items()},
        balance=balance,
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


class OneSite:
    """One site of activations that hold several, as a control."""

    def __init__(self, acts: Activations, site: Site) -> None:
        self._acts, self.sites = acts, (site,)

    def read(self, site: Site) -> np.ndarray:
        return self._acts.read(site)


def test_rows(acts: Activations, target: Target, name: str) -> tuple[Source, Labels]:
    """All rows of another labelled set, with the target that answers to one of the swept data set's.

    Raises
    ------
    EvidenceError : it comes without labels, or without such a target.
    """
    data = acts.dataset
    if data is None or not data.targets:
        raise EvidenceError(f"the test set '{name}' comes without labels; give activations with their data set.")
    theirs = matching_target(target, data, name)
    return acts, labels_of(data, theirs, rows=np.arange(data.n))


def matching_target(target: Target, data: Dataset, name: str) -> Target:
    """The target of another set that answers to one of the swept data set's: by name, else its only one.

    Raises
    ------
    DataError : there is none of this kind, with as many columns and the same classes.
    """
    found = [t for t in data.targets if t.name == target.name] or [t for t in data.targets if len(data.targets) == 1]
    if not found or found[0].kind != target.kind or len(found[0].columns) != len(target.columns):
        raise DataError(
            f"the test set '{name}' has {', '.join(repr(t) for t in data.targets)}; expected a {target.kind} target "
            f"like '{target.name}'. Name its columns under test: target."
        )
    theirs = found[0]
    if target.kind in ("multiclass", "ordinal") and theirs.classes != target.classes:
        strange = [c for c in theirs.classes if c not in target.classes]
        if strange:
            raise DataError(
                f"the test set '{name}' has the class '{strange[0]}', which '{target.name}' does not know; its classes "
                f"are {', '.join(target.classes)}. Leave those rows out."
            )
        # Codes are places in each set's own list of classes.
        place = np.array([target.classes.index(c) for c in theirs.classes], dtype=np.float64)
        values = np.where(np.isnan(theirs.values), np.nan, place[np.nan_to_num(theirs.values).astype(np.int64)])
        theirs = replace(theirs, values=values, classes=target.classes)
    return theirs


def labels_of(data: Dataset, target: Target, *, rows: np.ndarray | None = None) -> Labels:
    """The training rows of a data set, or those that are given, as the evidence reads them."""
    if rows is None:
        rows = data.train_rows
        codes = target.values[rows, 0]
        absent = [c for i, c in enumerate(target.classes) if not (codes == i).any()]
        if absent and target.kind in ("multiclass", "ordinal"):
            raise DataError(
                f"no training row of '{data.name}' is '{absent[0]}' of target '{target.name}', so nothing can be "
                f"learnt of it; give rows of it, or leave those of the test split out (Dataset.keep_classes)."
            )
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
        texts=[texts[i] for i in rows] if data.has_text and any(texts) else None,
        rows=rows,
        negative=target.negative,
        positive=target.positive,
        classes=target.classes,
        types=None if data.types is None else data.types[rows],
        pairs=None if data.pairs is None else data.pairs[rows],
        candidates=_candidates(data, rows),
    )


def _candidates(data: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that nothing was read from: rows that belong together may share their values.

    None for words of sentences: what stands beside a word (its lemma, its tag) describes it, and a control task asks
    how far a word's identity carries.
    """
    if data.span_column is not None:
        return {}
    read = {
        data.text_column,
        data.media_column,
        data.group_column,
        data.split_column,
        data.span_column,
        data.pair_column,
        data.type_column,
        *(column for target in data.targets for column in target.columns),
    }
    found = {}
    for name in data.frame.columns:
        column = data.frame[name]
        if name not in read and not column.dtype.is_nested() and column.dtype != pl.Binary:
            found[name] = np.array([None if v is None else str(v) for v in column.to_list()], dtype=object)[rows]
    return found


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
            f"{worst.title} falls to {METRIC_TITLES[metric]} {figures[metric]:.2f} (accuracy "
            f"{figures['accuracy']:.2f}), "
            f"{'far' if far else 'slightly but significantly'} below chance, which happens when rows that belong "
            f"together are split by the folds. {advice}",
        ),
    )
