"""`leadline demo`: a whole study of a small real model on a built-in data set."""

from __future__ import annotations

from pathlib import Path

from leadline.cli.options import COMMON, AsJson, Common, Overwrite

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline demo`: SmolLM2-135M on true and false statements about cities
- `leadline demo --data city-places --probe ridge --tokens mean`: where on the globe is a city?
- `leadline demo --model ./my-model --out runs/mine --quiet --json`
"""


def command(
    *,
    out: Path = Path("runs/demo"),
    model: str = "smollm2-135m",
    data: str = "city-facts",
    sites: tuple[str, ...] = ("default",),
    tokens: str = "last",
    probe: str = "logistic",
    dtype: str = "auto",
    device: str = "auto",
    sample: int | None = None,
    permutations: int = 1000,
    seed: int = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Run the whole study on a small real model and a built-in data set, and print what it found.

    Every residual-stream site is probed, with all controls; the report is one HTML file in the run's folder.

    Parameters
    ----------
    out
        The run's folder.
    model
        A bundled model, a Hugging Face id, a folder or a .gguf file.
    data
        A built-in data set; `leadline datasets` lists them.
    sites
        What to probe, as in `resid_post.*`; may be given several times.
    tokens
        last, first, mean or max.
    probe
        The family, as in `leadline sweep`.
    dtype
        auto, float32, bfloat16 or float16.
    device
        auto, cpu, cuda or mps.
    sample
        Use only this many rows, for a quicker look.
    permutations
        How many, for the p-values.
    seed
        Of folds, permutations and random weights.
    """
    from leadline.cli.progress import progress
    from leadline.cli.summary import print_study
    from leadline.study.config import StudyConfig

    config = StudyConfig.from_mapping(
        {
            "model": {"name": model, "dtype": dtype, "device": device},
            "data": {"name": data, "sample": sample},
            "sites": list(sites),
            "tokens": tokens,
            "probe": probe,
            "permutations": permutations,
            "seed": seed,
            "out": str(out),
        }
    )
    # After the checks, which are quick to answer: this imports torch.
    from leadline.study.run import run_study

    with progress(common.quiet) as events:
        study = run_study(config, events=events, overwrite=overwrite)
    print_study(study.results, study.folder, as_json=as_json)
    return 0
