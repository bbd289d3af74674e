"""`run_study`: the stages in order, from a study file to a report.

Each stage reads what the one before it wrote. Activations are kept under the run's folder, named by their fingerprint:
a run that was killed goes on where it stopped, and one that is run again finds them.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import torch
import yaml

from leadline import __version__
from leadline.activations import Activations, Selection, extract
from leadline.data import Dataset, load_dataset
from leadline.data.records import Finding, Target
from leadline.errors import ConfigError, DataError
from leadline.events import SILENT, Event, EventSink, Fanout, stage
from leadline.evidence.controls import TEXT_CONTROLS
from leadline.evidence.sweep import Sweep, sweep_target
from leadline.evidence.transfer import held_out_metrics
from leadline.files import ensure_folder, file_name, fingerprint, replace_atomic, write_atomic
from leadline.models import Model, load_model
from leadline.probes import FAMILIES, Family, Probe, ProbeSet
from leadline.report import write_report
from leadline.sites import Site
from leadline.study import describe
from leadline.study.config import DEFAULT_SITES, DataConfig, StudyConfig, load_config
from leadline.study.events import EventLog, StageClock
from leadline.study.results import Provenance, Results, TargetResult, TestResult
from leadline.study.sweep import fold_findings, labels_of, leak_findings

__all__ = ["Study", "run_study"]


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes
    ----------
    folder : the run's folder. results : what it found. sweeps : {target: Sweep}.
    """

    folder: Path
    results: Results
    sweeps: dict[str, Sweep]

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"


@dataclass(frozen=True)
class _Tested:
    """A second labelled set: its rows, their activations at every site, and what to call it."""

    name: str
    source: str
    data: Dataset
    acts: Activations
    rows: np.ndarray
    note: str


def run_study(
    study: StudyConfig | str | Path | dict[str, object],
    *,
    out: str | Path | None = None,
    events: EventSink = SILENT,
    overwrite: bool = False,
) -> Study:
    """Run a whole study into a folder: activations, probes, evidence, results and report.

    Parameters
    ----------
    study : a study file, its mapping, or a `StudyConfig`.
    out : the run's folder; by default the study's own `out`.
    events : receives progress and warnings.
    overwrite : replace what another study left in the folder.

    Raises
    ------
    LeadlineError : with what was given, what was expected and what to do.
    """
    if isinstance(study, StudyConfig):
        config = study
    elif isinstance(study, dict):
        config = StudyConfig.from_mapping(study)
    else:
        config = load_config(study)
    if out is not None:
        config = config.replace(out=str(out))
    began, started = time.perf_counter(), datetime.now(UTC)
    folder = ensure_folder(config.out)
    _refuse_another(folder, config, overwrite)
    log, clock = EventLog(folder / "events.jsonl"), StageClock()
    sink = Fanout(events, log, clock)
    try:
        write_atomic(folder / "study.yaml", config.to_yaml())
        # What an earlier run left here must not pass for this one's, should this one be cut short.
        for name in ("results.json", "report.html"):
            (folder / name).unlink(missing_ok=True)
        results, sweeps = _run(config, folder, sink, clock, began, started)
        with stage(sink, "report", "report.html"):
            write_report(results, folder / "report.html")
    finally:
        log.close()
    return Study(folder, results, sweeps)


def _refuse_another(folder: Path, config: StudyConfig, overwrite: bool) -> None:
    there = folder / "study.yaml"
    if overwrite or not there.is_file():
        return
    # Where a run stands says nothing about what it computes.
    try:
        found = yaml.safe_load(there.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"'{there}' is not a study file; give another folder with --out, or --overwrite to replace it."
        ) from error
    mine, theirs = yaml.safe_load(config.to_yaml()), found if isinstance(found, dict) else {}
    keys = sorted(str(k) for k in {*mine, *theirs} - {"out"} if theirs.get(k) != mine.get(k))
    if keys:
        raise ConfigError(
            f"'{folder}' holds another study (it differs in {', '.join(keys)}); give another folder with --out, or "
            f"--overwrite to replace its results."
        )


def _run(
    config: StudyConfig, folder: Path, events: EventSink, clock: StageClock, began: float, started: datetime
) -> tuple[Results, dict[str, Sweep]]:
    family = _family(config)
    with stage(events, "data", config.data.label):
        data = _load(config.data, config.seed)
        test_data = [_load(one, config.seed) for one in config.test]
        findings = (*data.findings, *data.check(n_folds=config.folds))
        for one in test_data:
            one.check(n_folds=1)
    _warn(events, findings)
    for target in data.targets:
        if target.kind not in family.kinds:
            raise ConfigError(
                f"target '{target.name}' is {target.kind}; the {family.name} probe takes {' and '.join(family.kinds)} "
                f"targets. Set probe to {'ridge' if target.kind == 'continuous' else 'logistic'}."
            )
        for one, given in zip(test_data, config.test, strict=True):
            _matching(target, data, one, given.label)
    model = load_model(
        config.model.name,
        dtype=config.model.dtype,
        device=config.model.device,
        revision=config.model.revision,
        events=events,
    )
    sites = model.sites(model.default_sites if config.sites == DEFAULT_SITES else config.sites)
    text_controls = [c for c in TEXT_CONTROLS if c in config.controls]
    if text_controls and not data.has_text:
        message = f"'{data.name}' holds no texts, so it has no text baselines: {', '.join(text_controls)} are left out"
        events.emit(Event("note", "data", message))
        text_controls = []
    store = _Stores(folder / "activations", model, events)
    acts = store.extract("data", data, sites, config.tokens)
    sources: dict[str, Activations] = {}
    if "token_embeddings" in config.controls:
        sources["token_embeddings"] = store.extract("token-embeddings", data, [_embeddings(sites)], "mean")
    if "random_weights" in config.controls:
        random = model.randomised(config.seed)
        sources["random_weights"] = _Stores(store.folder, random, events).extract(
            "random-weights", data, sites, config.tokens
        )
        del random
    tested = [
        _Tested(
            given.label,
            one.source,
            one,
            store.extract(f"test-{number}", one, sites, config.tokens),
            np.arange(one.n),
            "",
        )
        for number, (one, given) in enumerate(zip(test_data, config.test, strict=True), start=1)
    ]
    if len(data.test_rows):
        tested.insert(0, _own_split(data, acts, findings))
    model_summary = describe.model_summary(model)
    model_print, dtype = model.fingerprint, str(model.dtype).removeprefix("torch.")
    # The weights are not needed any more, and the sweep wants the memory.
    del model, store

    sweeps: dict[str, Sweep] = {}
    targets: list[TargetResult] = []
    for target in data.targets:
        result = sweep_target(
            acts,
            family,
            labels_of(data, target),
            n_folds=config.folds,
            n_permutations=config.permutations,
            n_bootstraps=config.bootstraps,
            text_controls=text_controls,
            sources=sources,
            alpha=config.alpha,
            seed=config.seed,
            tokens=config.tokens,
            model=config.model.name,
            model_fingerprint=model_print,
            dtype=dtype,
            events=events,
        )
        leaks = (*leak_findings(data, target, result), *fold_findings(data, target, result))
        _warn(events, leaks)
        with stage(events, "test", f"{len(tested)} sets") if tested else nullcontext():
            tests = [_test(result, target, one, data, config) for one in tested]
        probe_files = _write_probes(folder / "probes", result)
        sweeps[target.name] = result
        targets.append(describe.target_result(data, target, result, leaks, tests, probe_files, config.controls))
    _write_scores(folder / "scores.parquet", data, sweeps)
    results = Results(
        name=config.name or data.name,
        family=family.name,
        tokens=config.tokens,
        sites=[s.name for s in acts.sites],
        data=describe.data_summary(data, findings),
        model=model_summary,
        targets=targets,
        findings=[describe.finding(f) for f in findings],
        provenance=_provenance(config, clock, began, started, describe.methods(config, data, acts, sweeps)),
        study=config.to_mapping(),
    )
    with replace_atomic(folder / "results.parquet") as temporary:
        describe.long_table(results).write_parquet(temporary)
    write_atomic(folder / "results.json", results.model_dump_json(indent=1))
    return results, sweeps


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


def _family(config: StudyConfig) -> Family:
    found: Family = FAMILIES[config.probe.family](**config.probe.options())
    return found


def _load(config: DataConfig, seed: int) -> Dataset:
    name, keywords = config.arguments()
    return load_dataset(name, **{"seed": seed, **keywords})


def _matching(target: Target, data: Dataset, other: Dataset, name: str) -> Target:
    """The target of a test set that answers to one of the study's: by name, else the only one."""
    found = [t for t in other.targets if t.name == target.name]
    if not found and len(data.targets) == len(other.targets) == 1:
        found = list(other.targets)
    if not found or found[0].kind != target.kind or len(found[0].columns) != len(target.columns):
        raise DataError(
            f"the test set '{name}' has {', '.join(repr(t) for t in other.targets)}; expected a {target.kind} target "
            f"like '{target.name}'. Name its columns under test: target."
        )
    return found[0]


def _own_split(data: Dataset, acts: Activations, findings: tuple[Finding, ...]) -> _Tested:
    crossing = [f for f in findings if f.code == "group_crosses_split"]
    note = crossing[0].message if crossing else ""
    return _Tested(f"{data.name}: test split", data.source, data, acts, data.test_rows, note)


def _test(result: Sweep, target: Target, tested: _Tested, data: Dataset, config: StudyConfig) -> TestResult:
    theirs = _matching(target, data, tested.data, tested.name)
    Y = theirs.values[tested.rows]
    groups = None if tested.data.groups is None else tested.data.groups[tested.rows]
    by_site = {}
    for outcome in result.outcomes:
        X = tested.acts.read(outcome.site)[tested.rows]
        scores = X.astype(np.float64) @ outcome.coef.T + outcome.intercept
        by_site[outcome.site.name] = held_out_metrics(
            scores, Y, target.kind, groups, n_replicates=config.bootstraps, seed=config.seed
        )
    return describe.test_result(tested.name, tested.source, len(Y), by_site, result.best_site.name, tested.note)


def _write_probes(folder: Path, result: Sweep) -> list[str]:
    """Write every site's probes, and the chosen one's once more under the target's name; return the latter's paths."""
    name = file_name(result.labels.name)
    ensure_folder(folder / name)
    for outcome in result.outcomes:
        for column, probe in _columns(result.probe(outcome.site)):
            probe.write(folder / name / f"{outcome.site.name}{column}.safetensors")
    return [
        str(probe.write(folder / f"{name}{column}.safetensors").relative_to(folder.parent))
        for column, probe in _columns(result.best)
    ]


def _columns(found: Probe | ProbeSet) -> list[tuple[str, Probe]]:
    if isinstance(found, Probe):
        return [("", found)]
    return [(f".{file_name(probe.target)}", probe) for probe in found]


def _write_scores(path: Path, data: Dataset, sweeps: dict[str, Sweep]) -> None:
    """Every training row's out-of-fold score at every site: a row a (target column, data row), a column a site."""
    parts = []
    for name, result in sweeps.items():
        rows = result.labels.rows
        for c, column in enumerate(result.labels.columns):
            parts.append(
                pl.DataFrame(
                    {
                        "target": [name] * len(rows),
                        "column": [column] * len(rows),
                        "row": data.source_rows[rows],
                        "group": None if data.groups is None else data.groups[rows].tolist(),
                        "fold": result.fold,
                        "true": result.labels.Y[:, c],
                        **{o.site.name: o.scores[:, c] for o in result.outcomes},
                    },
                    schema_overrides={"group": pl.String},
                )
            )
    with replace_atomic(path) as temporary:
        pl.concat(parts).write_parquet(temporary)


def _warn(events: EventSink, findings: tuple[Finding, ...]) -> None:
    for found in findings:
        if found.severity == "warning":
            events.emit(Event("warning", "data", found.message, data={"code": found.code}))


def _provenance(
    config: StudyConfig, clock: StageClock, began: float, started: datetime, methods: list[str]
) -> Provenance:
    packages = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "polars", "safetensors")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Provenance(
        leadline_version=__version__,
        versions={name: version(name) for name in packages},
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        processor=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        n_threads=torch.get_num_threads(),
        seed=config.seed,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - began, 3),
        peak_memory_bytes=peak,
        stages=clock.stages(),
        methods=methods,
    )
