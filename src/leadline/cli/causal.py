"""`leadline causal`: interventions along the direction that a finished run found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline causal runs/cities`: what the study file says under `causal:`
- `leadline causal runs/cities --prompt "{text} This statement is" --positive " true" --negative " false"`
- `leadline causal runs/agreement --positive-column plural_verb --negative-column singular_verb`
- `leadline causal runs/cities --part decomposition --part patching`: where it comes from, without any answers
"""


def command(
    run: Annotated[Path, Parameter(help="The folder of a finished run.")],
    /,
    *,
    prompt: str | None = None,
    positive: tuple[str, ...] = (),
    negative: tuple[str, ...] = (),
    positive_column: str | None = None,
    negative_column: str | None = None,
    tokens: Literal["last", "first", "all"] | None = None,
    site: str | None = None,
    examples: int | None = None,
    random_directions: int | None = None,
    dose: tuple[float, ...] = (),
    part: tuple[str, ...] = (),
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Does the model act on what the probe reads, and which components write it?

    Edits the model's stream along the direction of a finished run, beside random directions of the same norm, and takes
    the probe's score apart. Writes the run's results and report anew; what is not given is as in its study file.

    Parameters
    ----------
    prompt
        What the model is asked, with {text} where the row's text stands.
    positive
        An answer of the positive class as it follows the prompt, mostly with a space before it; may be given several
        times.
    negative
        An answer of the negative class.
    positive_column
        The column of the data with each row's own answer of the positive class.
    negative_column
        The column with that of the negative class.
    tokens
        Of the row's text, where the stream is edited: last, first or all.
    site
        Where; by default the site that the sweep chose.
    examples
        How many rows.
    random_directions
        How many of each kind.
    dose
        A strength as a share of the activation's norm, tried with both signs; may be given several times.
    part
        effects, doses, families, silence, decomposition or patching; all by default.
    """
    from leadline.cli.progress import progress
    from leadline.cli.summary import print_study
    from leadline.study.config import load_config
    from leadline.study.results import Results

    # Answers at once where there is no finished run.
    Results.read(run)
    config = load_config(run / "study.yaml")
    given: dict[str, Any] = {
        "prompt": prompt,
        "positive": list(positive),
        "negative": list(negative),
        "positive_column": positive_column,
        "negative_column": negative_column,
        "tokens": tokens,
        "site": site,
        "examples": examples,
        "random_directions": random_directions,
        "doses": list(dose),
        "parts": list(part),
    }
    changes = {key: value for key, value in given.items() if value not in (None, [])}
    if changes:
        before: dict[str, Any] = {} if config.causal is None else config.causal.model_dump(mode="json")
        # Answers given in one way take the place of those that the study has in the other.
        ways = (("positive", "negative"), ("positive_column", "negative_column"))
        for way, other in (ways, ways[::-1]):
            if changes.keys() & {*way} and not changes.keys() & {*other}:
                before = {key: value for key, value in before.items() if key not in other}
        config = config.replace(causal={**before, **changes})
    # After the checks, which are quick to answer: this imports torch.
    from leadline.study.causal import run_causal

    with progress(common.quiet) as events:
        results = run_causal(run, config.causal, events=events)
    print_study(results, run, as_json=as_json)
    return 0
