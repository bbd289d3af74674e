"""`transfer`: from activations of several data sets to the matrix of how probes carry over between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from leadline.errors import EvidenceError
from leadline.events import SILENT, EventSink
from leadline.evidence.transfer_matrix import TransferMatrix, transfer_matrix
from leadline.probes.adapt import default_family, family_for
from leadline.probes.fit import Family
from leadline.sites import Site, expand_sites, split_patterns
from leadline.study.sweep import labels_of

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.data.records import Target

__all__ = ["named", "transfer"]


def transfer(
    sources: Mapping[str, Activations] | Sequence[Activations],
    family: Family | None = None,
    *,
    target: str | None = None,
    sites: str | Site | Iterable[str | Site] | None = None,
    folds: int = 5,
    bootstraps: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
    events: EventSink = SILENT,
) -> TransferMatrix:
    """Train a probe on each data set and score it on each, at every site that all of them have.

    Parameters
    ----------
    sources : activations with their data sets, of one model and one selection of tokens; named by a mapping, else by
        their data sets. Only the training rows of a set are used, where it has a split.
    family : by default the one for the kind of target; of several classes in its form for these.
    target : which target of the data sets; needed where one has several.
    sites : patterns, as in `"resid_post.*"`; all common sites by default.
    folds : of each set; sets that share groups take theirs together. bootstraps : replicates for the intervals.
    permutations : of the Mantel tests, where there are more than seven sets. seed : of all of these.

    Raises
    ------
    EvidenceError : sets that do not go together, or that no probe can be judged on.

    Examples
    --------
    >>> import numpy as np, leadline as ll
    >>> from leadline.study.transfer import transfer
    >>> rng, y = np.random.default_rng(0), np.arange(200) % 2
    >>> def made(sign):
    ...     x = rng.normal(size=(200, 8)) + sign * 3 * y[:, None] * np.eye(8)[0]
    ...     return ll.Activations.from_arrays({"resid_post.0": x}, targets={"concept": y})
    >>> found = transfer({"a": made(1), "b": made(1), "c": made(-1)})
    >>> found.values("auroc", "resid_post.0").round() + 0.0
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 0., 1.]])
    """
    given = dict(sources) if isinstance(sources, Mapping) else named(sources)
    given = {name: acts.by_token() if acts.ragged else acts for name, acts in given.items()}
    _same(given)
    targets = {name: _target(name, acts, target) for name, acts in given.items()}
    first = next(iter(targets.values()), None)
    if first is not None:
        family = default_family(first.kind) if family is None else family
        if all(one.kind == first.kind for one in targets.values()):
            family = family_for(family, first.kind, f"target '{first.name}'")
    else:
        family = default_family("binary")
    labelled = {}
    for name, acts in given.items():
        assert acts.dataset is not None
        labels = labels_of(acts.dataset, targets[name])
        # A word, a caption or the name of a picture may recur without being the same row; a whole text may not.
        whole = acts.dataset.modality in ("text", "chat") and acts.dataset.span_column is None
        labelled[name] = (acts, labels if whole else replace(labels, texts=None))
    return transfer_matrix(
        labelled,
        family,
        n_folds=folds,
        n_bootstraps=bootstraps,
        n_permutations=permutations,
        seed=seed,
        sites=None if sites is None else _sites(sites, given),
        events=events,
    )


def named(sources: Sequence[Activations]) -> dict[str, Activations]:
    """Activations by the names of their data sets.

    Raises
    ------
    EvidenceError : activations without a data set, or two of one name.
    """
    found: dict[str, Activations] = {}
    for acts in sources:
        if acts.dataset is None:
            raise EvidenceError(f"{acts!r} comes without labels; give Activations.from_arrays a dataset or targets.")
        name = acts.dataset.name
        if name in found:
            raise EvidenceError(f"two sets are called '{name}'; give them in a mapping, as in {{'{name} 2': acts}}.")
        found[name] = acts
    return found


def _same(given: Mapping[str, Activations]) -> None:
    """Refuse activations of several models, or of differently pooled tokens."""
    models = {name: acts.model_fingerprint for name, acts in given.items() if acts.model_fingerprint is not None}
    if len(set(models.values())) > 1:
        said = ", ".join(f"{name} by {given[name].manifest['model']['name']} ({mark})" for name, mark in models.items())
        raise EvidenceError(
            f"the sets were read by different models ({said}); a probe of one means nothing in another. Extract all "
            f"sets with one model."
        )
    tokens = {name: acts.tokens for name, acts in given.items() if acts.tokens != "unknown"}
    if len(set(tokens.values())) > 1:
        said = ", ".join(f"{name} '{one}'" for name, one in tokens.items())
        raise EvidenceError(f"the sets select different tokens ({said}); extract all of them with one --tokens.")


def _target(name: str, acts: Activations, wanted: str | None) -> Target:
    data = acts.dataset
    if data is None or not data.targets:
        raise EvidenceError(f"the activations of '{name}' come without labels; extract a data set with a target.")
    if wanted is not None:
        return data.target(wanted)
    if len(data.targets) > 1:
        raise EvidenceError(
            f"'{name}' has {len(data.targets)} targets: {', '.join(t.name for t in data.targets)}; name one as target."
        )
    return data.targets[0]


def _sites(patterns: str | Site | Iterable[str | Site], given: Mapping[str, Activations]) -> list[Site]:
    """The sites that patterns name; a `*` stands for those that all sets have."""
    everywhere = [set(acts.sites) for acts in given.values()]
    common = set.intersection(*everywhere) if everywhere else set()
    known = set.union(*everywhere) if everywhere else set()
    n_layers = 1 + max((site.layer for site in known if site.layer is not None), default=0)
    n_heads = 1 + max((site.head for site in known if site.head is not None), default=0)
    found: list[Site] = []
    for pattern in split_patterns(patterns):
        expanded = expand_sites(pattern, n_layers=n_layers, n_heads=n_heads)
        there = [site for site in expanded if site in common] if "*" in pattern else list(expanded)
        if not there:
            listed = ", ".join(site.name for site in sorted(common, key=lambda s: s.depth)) or "none"
            raise EvidenceError(f"'{pattern}' names no site that all sets have; in common are {listed}.")
        found += there
    return list(dict.fromkeys(found))
