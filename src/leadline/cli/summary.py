"""The few lines that end a run: what was found, the six claims, and where the report is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from leadline.study.results import Results

__all__ = ["print_study", "study_json"]

_MARKS = {"supported": "+", "refuted": "x", "inconclusive": "?", "not tested": "."}
# Beside the primary metric; the report has all of them.
_SHOWN = ("accuracy", "centred_accuracy", "spearman")
_STYLES = {"supported": "green", "refuted": "red", "inconclusive": "yellow", "not tested": "dim"}


def print_study(results: Results, folder: Path, *, as_json: bool = False) -> None:
    """Print a finished study for a person, or for a script."""
    if as_json:
        print_json(study_json(results, folder))
        return
    from leadline.report.summary import summarise

    summary = summarise(results)
    for target in summary.targets:
        print_text()
        print_text(f"{summary.name} · {target.name}", style="bold")
        print_text(target.finding)
        if target.caution:
            print_text(target.caution, style="yellow")
        print_text()
        for verdict in next(t for t in results.targets if t.target == target.name).verdicts:
            word = f"  {_MARKS[verdict.verdict]} {verdict.claim:<16}{verdict.verdict:<14}"
            print_text(word + verdict.sentence, style=_STYLES[verdict.verdict])
        _print_tests(results, target.name)
        for warning in target.warnings:
            print_text(f"  ! {warning.title}: {warning.message}", style="yellow")
    print_text()
    for what, file in _files(results, folder).items():
        print_text(f"{what + ':':<10}{file}")


def _print_tests(results: Results, name: str) -> None:
    target = next(t for t in results.targets if t.target == name)
    if not target.tests:
        return
    from leadline.report.wording import metric_title, quantity

    print_text()
    first = target.primary_metric
    others = [name for name in _SHOWN if name != first and any(name in test.metrics for test in target.tests)]
    print_table(
        ["  tested on", "rows", metric_title(first), *(metric_title(name) for name in others)],
        [
            [
                f"  {test.name}",
                f"{test.n_rows:,}",
                quantity(test.metrics.get(first)).full,
                *(quantity(test.metrics.get(name)).text for name in others),
            ]
            for test in target.tests
        ],
        right=["rows"],
    )


def study_json(results: Results, folder: Path) -> dict[str, Any]:
    """What a script needs of a finished study; `results.json` holds the rest."""
    return {
        "name": results.name,
        "folder": str(folder),
        "files": _files(results, folder),
        "seconds": results.provenance.seconds,
        "targets": [
            {
                "target": target.target,
                "primary_metric": target.primary_metric,
                "best_site": target.best.site,
                "metrics": {name: estimate.model_dump() for name, estimate in target.best.metrics.items()},
                "p_value": target.permutation.p_max if target.permutation else None,
                "baselines": {
                    baseline.name: {name: estimate.model_dump() for name, estimate in baseline.metrics.items()}
                    for baseline in target.baselines
                },
                "verdicts": {verdict.claim: verdict.verdict for verdict in target.verdicts},
                "tests": {
                    test.name: {name: estimate.model_dump() for name, estimate in test.metrics.items()}
                    for test in target.tests
                },
                "probes": [str(folder / file) for file in target.best.probe_files],
            }
            for target in results.targets
        ],
    }


def _files(results: Results, folder: Path) -> dict[str, str]:
    files = {"report": "report.html", "results": "results.json"}
    return {what: str(folder / name) for what, name in files.items() if (folder / name).is_file()}
