"""What a study reads with the model before anything is fitted: activations of the rows, of controls, and of test sets.

Each is a store under the run's folder, named by what is in it, so that a run that is given again finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from leadline.activations import Activations, Selection, extract
from leadline.data import Dataset
from leadline.events import Event, EventSink
from leadline.evidence import Masked, Source, folds_of, giveaway_words, mask_texts
from leadline.evidence.controls import ARRAY_CONTROLS, TEXT_CONTROLS
from leadline.files import ensure_folder, file_name, fingerprint
from leadline.models import Model
from leadline.sites import Site
from leadline.study.config import DEFAULT_SITES, StudyConfig
from leadline.study.surface import surface_arrays
from leadline.study.sweep import OneSite, labels_of

__all__ = ["Material", "data_activations", "read_material"]


@dataclass(frozen=True)
class Material:
    """Everything that a study takes from its model.

    Attributes
    ----------
    acts : of the data, at the sites that are probed. tests : of each test set, by its name.
    sources : activations of the same rows that the probe is held against.
    text_controls : baselines of the texts alone. surface : (n, …) arrays of the training rows for further ones.
    masked : by target, the rows read again without the words that give the label away.
    """

    acts: Activations
    tests: dict[str, Activations]
    sources: dict[str, Source | Sequence[Source]]
    text_controls: tuple[str, ...]
    surface: dict[str, np.ndarray]
    masked: dict[str, Masked]


def read_material(
    config: StudyConfig,
    model: Model,
    data: Dataset,
    tests: Mapping[str, Dataset],
    folder: Path,
    events: EventSink,
) -> Material:
    """Run the model over all that the study asks for, into stores under `folder`."""
    sites = _sites(config, model)
    store = _Stores(folder, model, events)
    acts = store.extract("data", data, sites, config.tokens)
    text_controls = tuple(c for c in TEXT_CONTROLS if c in config.controls)
    if text_controls and not data.has_text:
        message = f"'{data.name}' holds no texts, so it has no text baselines: {', '.join(text_controls)} are left out"
        events.emit(Event("note", "data", message))
        text_controls = ()
    wanted = [c for c in ARRAY_CONTROLS if c in config.controls]
    surface = surface_arrays(model, data, config.tokens, wanted, events) if wanted and data.has_text else {}
    masked = {}
    if "giveaway" in config.measures and data.modality == "text" and data.span_column is None:
        masked = {t.name: _masked(config, store, data, t.name, sites) for t in data.targets}
    return Material(
        acts=acts,
        tests={
            name: store.extract(f"test-{number}", one, sites, config.tokens)
            for number, (name, one) in enumerate(tests.items(), start=1)
        },
        sources=_sources(config, store, data, acts, sites),
        text_controls=text_controls,
        surface={name: values[data.train_rows] for name, values in surface.items()},
        masked=masked,
    )


def data_activations(config: StudyConfig, model: Model, data: Dataset, folder: Path, events: EventSink) -> Activations:
    """The study's own activations: those that a run left under `folder`, or read again."""
    return _Stores(folder, model, events).extract("data", data, _sites(config, model), config.tokens)


def _sites(config: StudyConfig, model: Model) -> tuple[Site, ...]:
    return model.sites(model.default_sites if config.sites == DEFAULT_SITES else config.sites)


def _sources(
    config: StudyConfig, store: _Stores, data: Dataset, acts: Activations, sites: Sequence[Site]
) -> dict[str, Source | Sequence[Source]]:
    found: dict[str, Source | Sequence[Source]] = {}
    embeddings = _embeddings(sites)
    if "embed_site" in config.controls:
        there = embeddings in acts.sites
        found["embed_site"] = (
            OneSite(acts, embeddings) if there else store.extract("embed-site", data, [embeddings], config.tokens)
        )
    if "token_embeddings" in config.controls:
        found["token_embeddings"] = store.extract("token-embeddings", data, [embeddings], "mean")
    if "random_weights" in config.controls:
        several = []
        for number in range(config.random_weights):
            random = _Stores(store.folder, store.model.randomised(config.seed + number), store.events)
            name = f"random-weights-{number + 1}" if config.random_weights > 1 else "random-weights"
            several.append(random.extract(name, data, sites, config.tokens))
        found["random_weights"] = several
    return found


def _masked(config: StudyConfig, store: _Stores, data: Dataset, target: str, sites: Sequence[Site]) -> Masked:
    """The training rows of one target without their giveaway words, read again where one stood."""
    labels = labels_of(data, data.target(target))
    fold = folds_of(labels, config.folds, config.seed)
    given = giveaway_words(labels.texts, labels.Y, labels.kind, fold, labels.groups)
    texts = mask_texts(list(labels.texts or ()), given, fold)
    if not texts.changed.any():
        return Masked(given, fold, texts.changed)
    at = np.flatnonzero(texts.changed)
    rows = data.select(labels.rows[at])
    rows = replace(rows, name=f"{data.name}, masked", inputs=tuple(texts.texts[i] for i in at))
    return Masked(given, fold, texts.changed, store.extract(f"masked-{file_name(target)}", rows, sites, config.tokens))


def _embeddings(sites: Sequence[Site]) -> Site:
    """What enters the first block of the part that is read."""
    return Site("embed", part=next((site.part for site in sites if site.kind != "module"), ""))


class _Stores:
    """Activation stores of one model under the run's folder, each named by what is in it."""

    def __init__(self, folder: Path, model: Model, events: EventSink) -> None:
        self.folder = ensure_folder(folder)
        self.model = model
        self.events = events

    def extract(self, name: str, data: Dataset, sites: str | Iterable[str | Site], tokens: str) -> Activations:
        wanted = self.model.sites(sites)
        span = Selection.parse(tokens).span
        mark = fingerprint(
            self.model.fingerprint,
            data.fingerprint,
            [s.name for s in wanted],
            tokens,
            str(self.model.dtype),
            *([] if span is None else [data.span_fingerprint(span)]),
        )
        return extract(
            self.model, data, wanted, tokens, out=self.folder / f"{name}-{mark[:8]}", events=_Named(self.events, name)
        )


class _Named:
    """Tell extractions apart: their stage is called by what they extract."""

    def __init__(self, events: EventSink, name: str) -> None:
        self._events, self._name = events, name

    def emit(self, event: Event) -> None:
        stage_name = "extract" if self._name == "data" else f"extract {self._name}"
        self._events.emit(Event(**{**event.__dict__, "stage": stage_name}))
