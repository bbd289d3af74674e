"""`leadline extract`: models' activations on labelled sets, into stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common, Overwrite
from leadline.cli.output import print_json, print_text

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.study.config import StudyConfig

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline extract --model smollm2-135m --data city-facts --out runs/facts/activations`
- `leadline extract --model gpt2 --data cities.csv --text statement --target label --group city --out acts`
- `leadline extract --model ./model --data city-places --sites "resid_post.*" --tokens mean --out acts`
- `leadline extract --model smollm2-135m --data chats.jsonl --text messages --target label --tokens "mean@role:user" \
--out acts`
- `leadline extract --model dinov2-small --data written-shapes --tokens first --out acts`
- `leadline extract --model A --model B --data city-facts --out acts`: a store each, in acts/MODEL/DATA
- `leadline extract --model smollm2-135m --data city-facts --out acts --shard 2/8`: an eighth of the work, on its own
- `leadline extract --merge acts`: complete a store whose shards were done apart

Quote a pattern with a `*`, so that the shell leaves it alone.
"""


def command(
    *,
    model: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    out: Path | None = None,
    text: str | None = None,
    image: str | None = None,
    audio: str | None = None,
    target: tuple[str, ...] = (),
    kind: Literal["binary", "continuous", "multiclass", "ordinal"] | None = None,
    positive: str | None = None,
    order: tuple[str, ...] = (),
    group: str | None = None,
    pair: str | None = None,
    type: str | None = None,
    pairs: tuple[str, str] | None = None,
    split: str | None = None,
    sample: int | None = None,
    sites: tuple[str, ...] = ("default",),
    tokens: str = "last",
    stored: str = "float32",
    batch_tokens: int | None = None,
    share_prefixes: Annotated[bool, Parameter(negative="--no-share-prefixes")] = True,
    shard: str | None = None,
    merge: Path | None = None,
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
        A bundled model, a Hugging Face id, a folder or a .gguf file; several give a store each.
    data
        A built-in set (`leadline datasets`), or a CSV, JSONL, Parquet or CoNLL-U file; several give a store each.
    out
        The store's folder.
    text
        The column with the texts, or with chat messages.
    image
        The column with the files of pictures; with a text column too, pictures with a text.
    audio
        The column with the files of sounds.
    target
        The column with the labels; may be given several times.
    kind
        What the target is; by default two classes are binary, other texts multiclass, other numbers continuous.
    positive
        The class that counts as 1, where a column has several.
    order
        A level of an ordinal target; given once for each, from the lowest.
    group
        The column whose rows belong together, such as a city or a document.
    pair
        The column that names the minimal pair of a row.
    type
        The column of what recurs, as the same word or template, for control tasks.
    pairs
        The columns of the good and the bad sentence, where a row is a minimal pair.
    split
        The column that says train or test.
    sample
        Use only this many rows.
    sites
        What to store, as in `resid_post.*`; may be given several times. By default the stream after every block.
    tokens
        Which tokens, and how they are pooled: last, first, mean, max or all, of all tokens, or before an @ of some:
        a slice (-3:), span:COLUMN, role:ROLE, regex:PATTERN, every:K, content, image, text, patches.
    stored
        float32, float16 or int8.
    batch_tokens
        The most tokens of a batch, padding included.
    share_prefixes
        Compute what rows begin with in common once; --no-share-prefixes computes each row by itself.
    shard
        Do only part I of N, as in 2/8; other parts can run elsewhere at the same time.
    merge
        Complete a store whose shards are all there, without model or data.
    dtype
        auto, float32, bfloat16 or float16.
    device
        auto, cpu, cuda or mps.
    revision
        Of a Hugging Face id.
    seed
        Of the sample.
    """
    from leadline.errors import ConfigError

    if merge is not None:
        from leadline.activations import merge as merge_shards

        return _say({merge: merge_shards(merge)}, as_json)
    missing = [name for name, given in (("--model", model), ("--data", data), ("--out", out)) if not given]
    if missing or out is None:
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; see `leadline extract --help`."
        )
    columns = {
        "text": text,
        "image": image,
        "audio": audio,
        "target": list(target) or None,
        "kind": kind,
        "positive": positive,
        "order": list(order) or None,
        "group": group,
        "pair": pair,
        "type": type,
        "pairs": None if pairs is None else dict(zip(("positive", "negative"), pairs, strict=True)),
        "split": split,
        "sample": sample,
    }
    asked = {"dtype": dtype, "device": device, "revision": revision}
    configs = [[_config({"name": one, **asked}, name, columns, sites, seed) for name in data] for one in model]
    options = {
        "tokens": tokens,
        "stored": stored,
        "batch_tokens": batch_tokens,
        "share_prefixes": share_prefixes,
        "shard": shard,
        "overwrite": overwrite,
    }
    return _extract(configs, out, options, common, as_json)


def _config(
    model: dict[str, Any], data: str, columns: dict[str, Any], sites: tuple[str, ...], seed: int
) -> StudyConfig:
    from leadline.study.config import StudyConfig, named_data

    return StudyConfig.from_mapping(
        {
            "model": model,
            "data": {**named_data(data), **{key: value for key, value in columns.items() if value is not None}},
            "sites": list(sites),
            "seed": seed,
        }
    )


def _extract(
    configs: list[list[StudyConfig]], out: Path, options: dict[str, Any], common: Common, as_json: bool
) -> int:
    import leadline as ll
    from leadline.activations import Selection
    from leadline.activations.extract import extract_part, folder_name, parse_shard
    from leadline.activations.store import Activations
    from leadline.cli.progress import progress
    from leadline.files import ensure_folder
    from leadline.study.config import DEFAULT_SITES

    # What is wrong is told before a model is loaded.
    Selection.parse(options["tokens"])
    parse_shard(options["shard"])
    ensure_folder(out)
    several = len(configs) * len(configs[0]) > 1
    found: dict[Path, Activations] = {}
    waiting: dict[Path, int] = {}
    with progress(common.quiet) as events:
        datasets = []
        for config in configs[0]:
            source, keywords = config.data.arguments()
            datasets.append(ll.load_dataset(source, seed=config.seed, **keywords))
        for of_one_model in configs:
            wanted = of_one_model[0]
            loaded = ll.load_model(
                wanted.model.name,
                dtype=wanted.model.dtype,
                device=wanted.model.device,
                revision=wanted.model.revision,
                events=events,
            )
            sites = None if wanted.sites == DEFAULT_SITES else wanted.sites
            for data in datasets:
                folder = out / folder_name(loaded.name) / folder_name(data.name) if several else out
                store = extract_part(loaded, data, sites, out=folder, events=events, **options)
                if isinstance(store, Activations):
                    found[folder] = store
                else:
                    waiting[folder] = len(store.missing())
    if waiting and as_json:
        print_json([{"out": str(folder), "missing_shards": n} for folder, n in waiting.items()])
        return 0
    for folder, n in waiting.items():
        print_text(f"this part is done; {n} shards of {folder} are left to other parts")
    return _say(found, as_json) if found else 0


def _say(stores: dict[Path, Activations], as_json: bool) -> int:
    if as_json:
        described = [
            {
                "out": str(folder),
                "fingerprint": store.fingerprint,
                "n_rows": store.n_rows,
                "tokens": store.tokens,
                "sites": [{"site": site.name, "width": store.width(site)} for site in store.sites],
            }
            for folder, store in stores.items()
        ]
        print_json(described[0] if len(described) == 1 else described)
        return 0
    for folder, store in stores.items():
        tokens = f" ({store.n_tokens:,} tokens)" if store.ragged else ""
        print_text(f"{store.n_rows:,} rows{tokens} at {len(store.sites)} sites: {folder}")
        print_text(f"next: leadline sweep {folder}")
    return 0
