"""`leadline sweep`: a probe at every site of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import print_json, print_table, print_text
from leadline.errors import ConfigError, did_you_mean
from leadline.files import file_name

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.evidence import Sweep
    from leadline.evidence.bootstrap import Estimate
    from leadline.probes import Family, Probe, ProbeSet

__all__ = ["EXAMPLES", "command", "family_named"]

EXAMPLES = """
- `leadline sweep runs/demo/activations`
- `leadline sweep acts --probe ridge --l2 0.01 --l2 1 --permutations 200`
- `leadline sweep acts --out probes --json > sweep.json`
"""


def command(
    store: Annotated[Path, Parameter(help="The folder that `leadline extract` wrote.")],
    /,
    *,
    target: str | None = None,
    probe: str = "logistic",
    l2: tuple[float, ...] = (),
    k: tuple[int, ...] = (),
    folds: int = 5,
    permutations: int = 1000,
    bootstraps: int = 1000,
    controls: tuple[str, ...] = ("default",),
    measures: tuple[str, ...] = ("default",),
    test: tuple[Path, ...] = (),
    balance: bool = False,
    seed: int = 0,
    out: Path | None = None,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Fit a probe at every site of a store, and judge each on rows that it never saw.

    Parameters
    ----------
    target
        Which of the data set's targets, where it has several.
    probe
        logistic, linear_svm, ridge, mean_difference, lda, nearest_centroid, elastic_net, sparse_logistic or k_sparse.
    l2
        The penalty, in mean loss + (l2/2)·|w|²; several to choose from, the family's own grid by default.
    k
        How many features a k_sparse probe may use; several to choose from.
    folds
        How many; groups stay whole.
    permutations
        How many, for the p-values; 0 leaves them out.
    bootstraps
        How many, for the intervals.
    controls
        bag_of_words, char_ngrams, length, first_token, last_token, all of these by default, or none; may be given
        several times.
    measures
        Further evidence at the chosen site, all by default, or none: control_task, code_length, nonlinearity,
        calibration, operating_points, robustness, label_issues, text_features, emergence, simplified, nested.
    test
        A store of another labelled set, on which the probes are tried: for "general"; may be given several times.
    balance
        Train on as many rows of each class as the rarest has.
    seed
        Of folds, permutations and bootstraps.
    out
        A folder for the probes of all sites, each refitted on all rows.
    """
    import leadline as ll
    from leadline.cli.progress import progress
    from leadline.files import ensure_folder

    family = family_named(probe, l2=l2, k=k)
    if out is not None:
        ensure_folder(out)
    acts = ll.Activations.open(store)
    with progress(common.quiet) as events:
        result = ll.sweep(
            acts,
            family,
            target=target,
            folds=folds,
            permutations=permutations,
            bootstraps=bootstraps,
            controls=controls[0] if len(controls) == 1 else controls,
            measures=measures[0] if len(measures) == 1 else measures,
            tests={one.name: ll.Activations.open(one) for one in test},
            balance=balance,
            seed=seed,
            events=events,
        )
    written = _write(result, out) if out is not None else {}
    if as_json:
        print_json(_json(result, written, acts))
    else:
        _print(result)
        if out is not None:
            print_text(f"\n{len(written)} sites' probes: {out}")
    return 0


def family_named(name: str, **given: tuple[float, ...] | tuple[int, ...]) -> Family:
    from pydantic import ValidationError

    from leadline.probes import FAMILIES
    from leadline.study.config import ProbeConfig

    if name not in FAMILIES:
        raise ConfigError(
            f"unknown probe '{name}'; expected one of {', '.join(FAMILIES)}." + did_you_mean(name, FAMILIES)
        )
    wanted = {key: list(value) for key, value in given.items() if value}
    try:
        options = ProbeConfig.model_validate({"family": name, **wanted}).options()
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{next(iter(wanted), 'probe')}: {said}.") from error
    family: Family = FAMILIES[name](**options)
    return family


def _write(result: Sweep, out: Path) -> dict[str, list[str]]:
    """Write every site's probe, or probes of a target with several columns; the files by their site."""
    written: dict[str, list[str]] = {}
    for outcome in result.outcomes:
        fitted: Probe | ProbeSet = result.probe(outcome.site)
        several = [fitted] if not hasattr(fitted, "probes") else list(fitted.probes)
        for one in several:
            name = outcome.site.name if len(several) == 1 else f"{outcome.site.name}.{file_name(one.target)}"
            written.setdefault(outcome.site.name, []).append(str(one.write(out / f"{name}.safetensors")))
    return written


def _estimates(metrics: dict[str, Estimate]) -> dict[str, Any]:
    return {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in metrics.items()}


def _json(result: Sweep, written: dict[str, list[str]], acts: Activations) -> dict[str, Any]:
    from leadline.study.measured import measured

    test = result.permutation
    data = acts.by_token().dataset if acts.ragged else acts.dataset
    return {
        "target": result.labels.name,
        "family": result.family.name,
        "tokens": result.tokens,
        "table": result.table.to_dicts(),
        "best": {
            "site": result.best_site.name,
            "metrics": _estimates(result.selection.metrics),
            "p_value": test.p_max if test is not None else None,
            "files": written.get(result.best_site.name, []),
        },
        "baselines": [
            {"name": one.name, "metrics": _estimates(one.selection.metrics), "p_gain": one.p_gain}
            for one in result.baselines
        ],
        "verdicts": {one.claim: one.verdict for one in result.verdicts},
        "measures": [] if data is None else [one.model_dump() for one in measured(result, data)],
    }


def _print(result: Sweep) -> None:
    from leadline.evidence.metrics import METRICS, PRIMARY
    from leadline.report.wording import metric_title, number, p_text, plain_number

    kind = result.labels.kind
    names = list(METRICS[kind])
    shown = [] if result.family.parameter is None else [result.family.parameter]
    print_table(
        ["site", *(metric_title(name) for name in names), "p", *shown, ""],
        [
            [
                row["site"],
                *(
                    f"{number(row[name])} ({number(row[f'{name}_low'])} to {number(row[f'{name}_high'])})"
                    for name in names
                ),
                p_text(row.get("p_value")),
                *(plain_number(row[key]) for key in shown),
                "best" if row["best"] else "",
            ]
            for row in result.table.iter_rows(named=True)
        ],
    )
    print_text()
    metric = PRIMARY[kind]
    best = result.selection.metrics[metric]
    p = f", p = {p_text(result.permutation.p_max)}" if result.permutation is not None else ""
    print_text(
        f"{result.labels.name}: best at {result.best_site}, {metric_title(metric)} {number(best.value)} "
        f"({number(best.low)} to {number(best.high)}){p}, corrected for the choice of {' and '.join(['site', *shown])}",
        style="bold",
    )
    for verdict in result.verdicts:
        if verdict.rule:
            print_text(f"  {verdict.claim:<16}{verdict.verdict:<14}{verdict.sentence}")
    for control in result.baselines:
        one = control.selection.metrics[metric]
        print_text(
            f"  {control.title:<20}{number(one.value)} ({number(one.low)} to {number(one.high)}); "
            f"the probe gains {number(control.gain.value, sign=True)}"
        )
