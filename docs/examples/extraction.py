"""Extraction on SmolLM2-135M: which tokens a selection reads, what sharing saves, what a smaller store costs.

The figures of `docs/extraction.md`. Counts of tokens and errors, no times: they do not depend on who else is using the
machine.

    python docs/examples/extraction.py
"""
# ruff: noqa: T201

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from real_data import data_file

import leadline as ll
from leadline.activations import BatchPlan, Selection

TEXT = "Krasnodar, a city of  Russia."
SELECTIONS = (
    "last",
    "-3:",
    "every:3",
    "regex:Krasnodar",
    "regex:, ",
    "regex:of(.*)Russia",
    "first@regex:Krasnodar",
)
FEW_SHOT = (
    "Is it true? Two and two are four: yes. The sun is cold: no. Snow is white: yes. Stones float on water: no. "
    "Is it true?"
)
SITES = "resid_post.9 resid_post.19 resid_post.29"


def chosen_tokens(model: ll.Model) -> None:
    """The pieces that each selection reads of one text."""
    row = model.encode_rows([TEXT], offsets=True)[0]
    pieces = [model.tokenizer.decode([i]) for i in row.ids]
    print(f"{TEXT!r} has the tokens {' '.join(f'{piece!r}' for piece in pieces)}")
    for name in SELECTIONS:
        selection = Selection.parse(name)
        one = {"last": slice(-1, None), "first": slice(1)}.get(selection.pool, slice(None))
        found = " ".join(f"{pieces[i]!r}" for i in selection.positions(row)[one])
        print(f"{name:22s} {selection.name:24s} {found}")


def apart(a: ll.Activations, b: ll.Activations) -> float:
    """The largest distance of a row from the same row of the other store, relative to the row's norm."""
    return max(
        float((np.linalg.norm(a.read(s) - b.read(s), axis=1) / np.linalg.norm(b.read(s), axis=1)).max())
        for s in a.sites
    )


def what_is_shared(model: ll.Model, data: ll.Dataset, tokens: str, folder: Path) -> None:
    """Tokens through the model with and without sharing, and how far the vectors are apart."""
    stores = {}
    computed = []
    for share in (True, False):
        store = ll.extract(model, data, SITES, tokens, out=folder / f"{data.name}-{share}", share_prefixes=share)
        plan = BatchPlan.from_json(json.loads((folder / f"{data.name}-{share}" / "plan.json").read_text())["plan"])
        stores[share] = store
        computed.append(plan.work(model.encode(data.inputs)).computed)
    print(
        f"{data.name:10s} {data.n:4d} rows: {computed[1]:6,d} tokens by themselves, {computed[0]:6,d} shared; "
        f"apart by {apart(stores[True], stores[False]):.1e}"
    )


def what_a_store_costs(model: ll.Model, data: ll.Dataset, folder: Path) -> None:
    """Bytes a value and the error, in standard deviations of a dimension, of each format."""
    stores = {
        kind: ll.extract(model, data, SITES, out=folder / kind, stored=kind) for kind in ("float32", "float16", "int8")
    }
    exact = stores["float32"]
    n_values = exact.n_rows * sum(exact.width(site) for site in exact.sites)
    for kind, store in stores.items():
        assert store.path is not None
        size = sum(file.stat().st_size for file in store.path.glob("shard-*")) / n_values
        off = [np.abs(store.read(s) - exact.read(s)).mean(0) / exact.read(s).std(0) for s in exact.sites]
        print(
            f"{kind:8s} {size:.2f} bytes a value; mean error {np.median(off):.3%} of a dimension's standard deviation "
            f"at the median dimension, {np.max(off):.2%} at the worst"
        )


def main() -> None:
    cities = ll.Dataset.from_csv(
        data_file("truth/cities.csv", "Any CSV of texts will do."), text="statement", target="label", group="city"
    )
    words = ll.Dataset.from_conllu(data_file("ud_ewt/en_ewt-ud-dev.conllu", "Any CoNLL-U file will do."), target=())
    model = ll.load_model("smollm2-135m", dtype="float32")
    chosen_tokens(model)
    pairs = cities.select(range(100))
    prompts = [{"text": f"{FEW_SHOT} {text}", "city": city} for text, city in zip(pairs.inputs, pairs.frame["city"])]
    few_shot = ll.Dataset.from_rows(prompts, target=(), group="city", name="few-shot")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print()
        what_is_shared(model, pairs, "last", folder)
        what_is_shared(model, few_shot, "last", folder)
        what_is_shared(model, words.select(words.frame["sentence"].to_numpy() <= 8), "last@span:word", folder)
        print()
        what_a_store_costs(model, cities.sample(300), folder)


if __name__ == "__main__":
    main()
