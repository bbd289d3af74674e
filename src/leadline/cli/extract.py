"""`leadline extract`: a model's activations on a labelled set, into a store."""

from __future__ import annotations

from pathlib import Path

from leadline.cli.options import COMMON, AsJson, Common, Overwrite
from leadline.cli.output import print_json, print_text

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline extract --model smollm2-135m --data city-facts --out runs/facts/activations`
- `leadline extract --model gpt2 --data cities.csv --text statement --target label --group city --out acts`
- `leadline extract --model ./model --data city-places --sites "resid_post.*" --tokens mean --out acts`

Quote a pattern with a `*`, so that the shell leaves it alone.
"""


def command(
    *,
    model: str,
    data: str,
    out: Path,
    text: str | None = None,
    target: tuple[str, ...] = (),
    group: str | None = None,
    split: str | None = None,
    sample: int | None = None,
    sites: tuple[str, ...] = ("embed", "resid_post.*", "final_norm"),
    tokens: str = "last",
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    seed: int = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Store a model's activations on a labelled set, in one pass for all sites.

    A run that was interrupted goes on where it stopped when the same command is given again.

    Parameters
    ----------
    model
        A bundled model, a Hugging Face id, a folder or a .gguf file.
    data
        A built-in set (`leadline datasets`), or a CSV, JSONL or Parquet file.
    out
        The store's folder.
    text
        The column with the texts, or with chat messages.
    target
        The column with the labels; may be given several times.
    group
        The column whose rows belong together, such as a city or a document.
    split
        The column that says train or test.
    sample
        Use only this many rows.
    sites
        What to store, as in `resid_post.*`; may be given several times.
    tokens
        last, first, mean or max.
    dtype
        auto, float32, bfloat16 or float16.
    device
        auto, cpu, cuda or mps.
    revision
        Of a Hugging Face id.
    seed
        Of the sample.
    """
    import leadline as ll
    from leadline.cli.progress import progress
    from leadline.files import ensure_folder
    from leadline.study.config import StudyConfig, named_data

    columns = {"text": text, "target": list(target) or None, "group": group, "split": split, "sample": sample}
    config = StudyConfig.from_mapping(
        {
            "model": {"name": model, "dtype": dtype, "device": device, "revision": revision},
            "data": {**named_data(data), **{key: value for key, value in columns.items() if value is not None}},
            "sites": list(sites),
            "tokens": tokens,
            "seed": seed,
        }
    )
    ensure_folder(out)
    source, keywords = config.data.arguments()
    with progress(common.quiet) as events:
        rows = ll.load_dataset(source, seed=seed, **keywords)
        loaded = ll.load_model(
            config.model.name,
            dtype=config.model.dtype,
            device=config.model.device,
            revision=config.model.revision,
            events=events,
        )
        store = ll.extract(loaded, rows, sites=config.sites, tokens=tokens, out=out, overwrite=overwrite, events=events)
    if as_json:
        print_json(
            {
                "out": str(out),
                "fingerprint": store.fingerprint,
                "n_rows": store.n_rows,
                "tokens": tokens,
                "sites": [{"site": site.name, "width": store.width(site)} for site in store.sites],
            }
        )
    else:
        print_text(f"{store.n_rows:,} rows at {len(store.sites)} sites: {out}")
        print_text(f"next: leadline sweep {out}")
    return 0
