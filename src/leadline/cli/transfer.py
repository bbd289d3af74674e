"""`leadline transfer`: probes of each data set, tried on every other."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import json_text, print_json, print_table, print_text
from leadline.errors import ConfigError

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.events import EventSink
    from leadline.evidence.transfer_matrix import TransferMatrix

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline transfer acts/cities acts/neg_cities acts/sp_en_trans acts/smaller_than`
- `leadline transfer runs/facts runs/places --sites "resid_post.4-8" --out transfer.json`
- `leadline transfer cities.csv neg_cities.csv --model smollm2-135m --text statement --target label --group city \
--keep acts`
- `leadline transfer acts/a acts/b acts/c acts/d --probe mean_difference --json`

With fewer than four sets the Mantel test cannot be significant.
"""


def command(
    *sets: Annotated[
        str, Parameter(help="Stores that `leadline extract` wrote, runs, or with --model data sets; two or more.")
    ],
    sites: tuple[str, ...] = (),
    target: str | None = None,
    probe: str = "default",
    l2: tuple[float, ...] = (),
    k: tuple[int, ...] = (),
    folds: int = 5,
    bootstraps: int = 1000,
    permutations: int = 9999,
    model: str | None = None,
    text: str | None = None,
    positive: str | None = None,
    group: str | None = None,
    tokens: str = "last",
    keep: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Train a probe on each data set and score it on every data set, at every site that all have.

    Off the diagonal no group (such as a city) is both trained on and tested: sets that share groups take their folds
    together. The cosine of two probes, weighted by how the test rows vary, is held against the matrix by a Mantel test.

    Parameters
    ----------
    sites
        Site patterns, as in `resid_post.*`; all common sites by default.
    target
        Which target of the data sets, where one has several. With --model the column with the labels.
    probe
        The family, as in `leadline sweep`; by default logistic, and ridge for numbers.
    l2
        The penalty; several to choose from, the family's own grid by default.
    k
        How many features a k_sparse probe may use; several to choose from.
    folds
        How many; groups stay whole.
    bootstraps
        How many, for the intervals.
    permutations
        How many, for the Mantel tests of more than seven sets.
    model
        Extract those that are data sets with this model first.
    text
        With --model: the column with the texts.
    positive
        With --model: the class that counts as 1, where a column has several.
    group
        With --model: the column whose rows belong together.
    tokens
        With --model: which tokens, and how they are pooled.
    keep
        With --model: a folder that keeps the stores; they are temporary without one.
    seed
        Of folds, permutations and bootstraps.
    out
        A JSON file for the whole matrix.
    """
    from leadline.cli.progress import progress
    from leadline.cli.sweep import family_named
    from leadline.files import write_atomic
    from leadline.study.transfer import transfer

    if len(sets) < 2:
        raise ConfigError(f"got {len(sets)} set; transfer is between two or more. See `leadline transfer --help`.")
    if probe == "default" and k:
        raise ConfigError("--k is of a k_sparse probe; give --probe k_sparse.")
    family = None
    if probe != "default" or l2:
        family = family_named("logistic" if probe == "default" else probe, l2=l2, k=k)
    columns = {"text": text, "target": target, "positive": positive, "group": group}
    with ExitStack() as stack:
        folder = keep
        if model is not None and keep is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="leadline-")))
        events = stack.enter_context(progress(common.quiet))
        sources = _sources(sets, model, columns, sites, tokens, folder, seed, events)
        matrix = transfer(
            sources,
            family,
            target=target,
            sites=list(sites) or None,
            folds=folds,
            bootstraps=bootstraps,
            permutations=permutations,
            seed=seed,
            events=events,
        )
    described = _json(matrix)
    if out is not None:
        write_atomic(out, json_text(described))
    if as_json:
        print_json(described)
        return 0
    _print(matrix)
    if out is not None:
        print_text(f"\nthe whole matrix, {len(matrix.sites)} sites: {out}")
    return 0


def _sources(
    sets: tuple[str, ...],
    model: str | None,
    columns: dict[str, str | None],
    sites: tuple[str, ...],
    tokens: str,
    folder: Path | None,
    seed: int,
    events: EventSink,
) -> dict[str, Activations]:
    """The sets' activations by name: of their data set, or where two have one name of their own places."""
    import leadline as ll

    places: dict[str, Path | None] = {one: _store(Path(one)) for one in dict.fromkeys(sets)}
    if len(places) < len(sets):
        raise ConfigError("a set is given twice; give different ones.")
    unread = [one for one, place in places.items() if place is None]
    if unread and (model is None or folder is None):
        raise ConfigError(
            f"'{unread[0]}' is no store that `leadline extract` wrote and no run. Extract it first, or give --model "
            f"to have it done here."
        )
    # Stores are opened first: what is wrong with them is told before a model is loaded.
    found = {one: ll.Activations.open(place) for one, place in places.items() if place is not None}
    if unread and model is not None and folder is not None:
        found |= _extracted(unread, model, columns, sites, tokens, folder, seed, events)
    names = {one: acts.dataset.name if acts.dataset is not None else one for one, acts in found.items()}
    clash = len(set(names.values())) < len(names)
    return {one if clash else names[one]: found[one] for one in places}


def _store(path: Path) -> Path | None:
    """The store at a path: the folder itself, or the one of a run's own data; None where there is neither."""
    from leadline.activations.store import MANIFEST, PLAN

    if (path / MANIFEST).is_file() or (path / PLAN).is_file():
        return path
    stores = sorted(one.parent for one in path.glob(f"activations/data-*/{MANIFEST}"))
    if len(stores) > 1:
        raise ConfigError(
            f"'{path}' holds {len(stores)} stores of its data ({', '.join(one.name for one in stores)}); give one of "
            f"these folders."
        )
    return stores[0] if stores else None


def _extracted(
    names: list[str],
    model: str,
    columns: dict[str, str | None],
    sites: tuple[str, ...],
    tokens: str,
    folder: Path,
    seed: int,
    events: EventSink,
) -> dict[str, Activations]:
    import leadline as ll
    from leadline.activations.extract import folder_name
    from leadline.files import ensure_folder
    from leadline.study.config import StudyConfig, named_data

    given = {key: value for key, value in columns.items() if value is not None}
    datasets = {}
    for name in names:
        config = StudyConfig.from_mapping({"model": model, "data": {**named_data(name), **given}, "seed": seed})
        source, keywords = config.data.arguments()
        datasets[name] = ll.load_dataset(source, seed=seed, **keywords)
    folders = [folder_name(data.name) for data in datasets.values()]
    twice = next((one for one in folders if folders.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"two data sets are called '{twice}'; rename one of the files.")
    loaded = ll.load_model(model, events=events)
    ensure_folder(folder)
    return {
        name: ll.extract(loaded, data, list(sites) or None, tokens, out=folder / folder_name(data.name), events=events)
        for name, data in datasets.items()
    }


def _json(matrix: TransferMatrix) -> dict[str, Any]:
    return {
        "sets": list(matrix.names),
        "sites": [site.name for site in matrix.sites],
        "kind": matrix.kind,
        "family": matrix.family.name,
        "best_site": matrix.best_site.name,
        "cells": matrix.table.to_dicts(),
        "cosines": matrix.cosines.to_dicts(),
        "predictions": [
            {
                "predictor": one.predictor,
                "metric": one.metric,
                "site": None if one.site is None else one.site.name,
                "correlation": one.test.correlation,
                "p_value": one.test.p_value,
                "smallest_p": one.test.smallest_p,
                "n_pairs": one.test.n_pairs,
                "n_permutations": one.test.n_permutations,
                "exact": one.test.exact,
                "reason": one.test.reason,
                "note": one.test.note,
            }
            for one in matrix.predictions
        ],
        "notes": list(matrix.notes),
        "seed": matrix.seed,
    }


def _print(matrix: TransferMatrix) -> None:
    from leadline.evidence.metrics import PRIMARY
    from leadline.report.wording import metric_title, number

    site, metric = matrix.best_site, PRIMARY[matrix.kind]
    print_text(f"{metric_title(metric)} at {site}: a row trains, a column is scored", style="bold")
    rows = []
    for train in matrix.names:
        shown = []
        for test in matrix.names:
            e = matrix.cell(train, test, site).metrics[metric]
            shown.append(f"{number(e.value)} ({number(e.low)} to {number(e.high)})")
        rows.append([train, *shown])
    print_table(["", *matrix.names], rows)
    print_text("The diagonal is out of fold. Where sets share groups, no group is both trained on and scored.")
    print_text(f"The site is the best on average by each set's own folds, of {len(matrix.sites)}.\n")
    print_text("Mahalanobis cosine of the two probes on the scored set's rows", style="bold")
    alike = matrix.values("mahalanobis_cosine", site)
    print_table(
        ["", *matrix.names],
        [[name, *(number(float(x)) for x in row)] for name, row in zip(matrix.names, alike, strict=True)],
        right=matrix.names,
    )
    print_text()
    for predictor, title in (
        ("mahalanobis_cosine", "Mahalanobis cosine"),
        ("cross_fitted_cosine", "the same, cross-fitted"),
        ("cosine", "plain cosine"),
    ):
        print_text(_mantel(matrix, predictor, title))
    limit = matrix.prediction(site=site).test.note
    for note in (*([limit] if limit else []), *matrix.notes):
        print_text(f"note: {note}", style="yellow")


def _mantel(matrix: TransferMatrix, predictor: str, title: str) -> str:
    """One line: how a cosine goes with the cells, at the site and over all."""
    from leadline.report.wording import metric_title, number, p_text

    here, pooled = matrix.prediction(predictor, matrix.best_site), matrix.prediction(predictor)
    test = here.test
    if test.reason:
        return f"Mantel test, {title}: none, for {test.reason}"
    how = f"all {test.n_permutations:,} permutations" if test.exact else f"{test.n_permutations:,} permutations"
    return (
        f"Mantel test, {title} with {metric_title(here.metric)} off the diagonal: r = {number(test.correlation)}, "
        f"p = {p_text(test.p_value)} ({test.n_pairs} pairs, {how} of the sets); over all sites "
        f"r = {number(pooled.test.correlation)}, p = {p_text(pooled.test.p_value)}"
    )
