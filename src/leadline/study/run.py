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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl
import torch
import yaml

from leadline import __version__
from leadline.data import Dataset, load_dataset
from leadline.data.records import Finding
from leadline.errors import ConfigError, ProbeError
from leadline.events import SILENT, Event, EventSink, Fanout, stage
from leadline.evidence.sweep import Sweep, sweep_target
from leadline.files import ensure_folder, file_name, replace_atomic, write_atomic
from leadline.models import load_model
from leadline.probes import FAMILIES, Family, Probe, ProbeSet
from leadline.probes.adapt import family_for
from leadline.report import write_report
from leadline.study import describe
from leadline.study.causal import add_causal
from leadline.study.config import DataConfig, StudyConfig, load_config
from leadline.study.events import EventLog, StageClock
from leadline.study.material import read_material
from leadline.study.results import Provenance, Results, TargetResult
from leadline.study.sweep import fold_findings, labels_of, leak_findings, matching_target, test_rows
from leadline.study.written import write_results

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
        if config.causal is not None:
            # The sweep's own results stand by now, from which `leadline causal` goes on should this be cut short.
            write_report(results, folder / "report.html")
            results = add_causal(results, config, folder, sink)
            provenance = {"seconds": round(time.perf_counter() - began, 3), "stages": clock.stages()}
            results = results.model_copy(update={"provenance": results.provenance.model_copy(update=provenance)})
            write_results(results, folder)
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
        tests = dict(zip(_names(config.test), (_load(given, config.seed) for given in config.test), strict=True))
        findings = (*data.findings, *data.check(n_folds=config.folds))
        for one in tests.values():
            one.check(n_folds=1)
    _warn(events, findings)
    for target in data.targets:
        try:
            family_for(family, target.kind, f"target '{target.name}'")
        except ProbeError as error:
            raise ConfigError(str(error)) from error
        for name, one in tests.items():
            matching_target(target, one, name)
    model = load_model(
        config.model.name,
        dtype=config.model.dtype,
        device=config.model.device,
        revision=config.model.revision,
        events=events,
    )
    material = read_material(config, model, data, tests, folder / "activations", events)
    acts = material.acts
    model_summary = describe.model_summary(model)
    model_print, dtype = model.fingerprint, str(model.dtype).removeprefix("torch.")
    # The weights are not needed any more, and the sweep wants the memory.
    del model

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
            text_controls=material.text_controls,
            surface=material.surface,
            sources=material.sources,
            measures=config.measures,
            masked=material.masked.get(target.name),
            held_out={name: test_rows(one, target, name) for name, one in material.tests.items()},
            balance=config.balance,
            alpha=config.alpha,
            seed=config.seed,
            tokens=config.tokens,
            model=config.model.name,
            model_fingerprint=model_print,
            dtype=dtype,
            events=events,
        )
        if len(data.test_rows):
            own = {f"{data.name}: test split": (acts, labels_of(data, target, rows=data.test_rows))}
            result = result.tried_on(own, shifted=False)
        sweeps[target.name] = result
    q = describe.q_values(sweeps)
    crossing = next((f.message for f in findings if f.code == "group_crosses_split"), "")
    where = {name: (one.source, "") for name, one in tests.items()}
    where[f"{data.name}: test split"] = (data.source, crossing)
    for target in data.targets:
        result = sweeps[target.name] = replace(sweeps[target.name], q_value=q.get(target.name))
        found = (*leak_findings(data, target, result), *fold_findings(data, target, result))
        _warn(events, found)
        probe_files = _write_probes(folder / "probes", result)
        targets.append(describe.target_result(data, target, result, found, where, probe_files, config))
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
    write_results(results, folder)
    return results, sweeps


def _names(sets: Sequence[DataConfig]) -> list[str]:
    """What to call each test set: by its label, numbered where several have the same."""
    labels = [one.label for one in sets]
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[: at + 1].count(label)})"
        for at, label in enumerate(labels)
    ]


def _family(config: StudyConfig) -> Family:
    found: Family = FAMILIES[config.probe.family](**config.probe.options())
    return found


def _load(config: DataConfig, seed: int) -> Dataset:
    name, keywords = config.arguments()
    return load_dataset(name, **{"seed": seed, **keywords})


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
        for c, column in enumerate(result.labels.outputs):
            parts.append(
                pl.DataFrame(
                    {
                        "target": [name] * len(rows),
                        "column": [column] * len(rows),
                        "row": data.source_rows[rows],
                        "group": None if data.groups is None else data.groups[rows].tolist(),
                        "fold": result.fold,
                        # Several outputs of one target column share its codes.
                        "true": result.labels.Y[:, min(c, result.labels.Y.shape[1] - 1)],
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
