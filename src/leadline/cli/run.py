"""`leadline run`: a study from its YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leadline.cli.options import COMMON, AsJson, Common, Overwrite

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline run cities.yaml`
- `leadline run cities.yaml --test neg_cities.csv --test sp_en_trans.csv`
- `leadline run cities.yaml --out runs/again --overwrite`
- `leadline run runs/cities/study.yaml --out runs/replay`: the same figures again

A study file:

    model: smollm2-135m
    data: {path: cities.csv, text: statement, target: label, group: city}
    sites: [embed, resid_post.*, final_norm]
    probe: logistic
"""


def command(
    study: Path,
    /,
    *,
    out: Path | None = None,
    test: tuple[str, ...] = (),
    test_text: str | None = None,
    test_target: tuple[str, ...] = (),
    test_group: str | None = None,
    seed: int | None = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Run a study: extract, sweep, controls, tests, report.

    A run that was interrupted goes on where it stopped when the same command is given again.

    Parameters
    ----------
    study
        The study's YAML file.
    out
        The run's folder; by default the study's own `out`.
    test
        A labelled file, or a built-in set, on which to try the chosen probe; may be given several times.
    test_text
        The text column of the --test files, where it is not the study's.
    test_target
        Their target column, where it is not the study's.
    test_group
        Their group column, where it is not the study's.
    seed
        Of folds, permutations and random weights; by default the study's own.
    """
    from leadline.cli.progress import progress
    from leadline.cli.summary import print_study
    from leadline.study.config import load_config

    config = load_config(study)
    changes: dict[str, Any] = {}
    if out is not None:
        changes["out"] = str(out)
    if seed is not None:
        changes["seed"] = seed
    if test:
        columns = {"text": test_text, "target": list(test_target) or None, "group": test_group}
        given = {key: value for key, value in columns.items() if value is not None}
        changes["test"] = [*config.to_mapping()["test"], *(_test(one, given) for one in test)]  # type: ignore[misc]
    if changes:
        config = config.replace(**changes)
    # After the checks, which are quick to answer: this imports torch.
    from leadline.study.run import run_study

    with progress(common.quiet) as events:
        done = run_study(config, events=events, overwrite=overwrite)
    print_study(done.results, done.folder, as_json=as_json)
    return 0


def _test(given: str, columns: dict[str, Any]) -> Any:
    from leadline.study.config import named_data

    return {**named_data(given), **columns} if columns else given
