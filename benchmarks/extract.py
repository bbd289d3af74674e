"""Tokens per second of `extract`, against the bare trunk on the same batches and against the naive way.

    .venv/bin/python benchmarks/extract.py [--rows 384] [--repeats 3] [--budgets 256,512,1024]

- extract: all of `leadline.extract` into a fresh folder: tokenizing, batching, the pass, pooling, checksums, writing.
- trunk: the forward passes alone, over the same batches, made and padded beforehand, in the fastest form (no mask).
- naive: what a notebook does: AutoModelForCausalLM in float32, output_hidden_states=True, batches of 32 in file order,
  padded, the last token of every layer kept in memory.

They run in turn, several times, in one process; times are medians. Beside each stands its error: the worst relative
distance, over sites and some rows, from a forward pass of float64 weights, one row at a time (transformers computes
its norms in float32 even then). Tokens are real ones; padding is nobody's achievement. The sets: `mixed` (sentences
and questions of one to some hundred words, shuffled), on which the headline stands, and `cities` (statements of one
pattern and nearly one length); without ../shared/data the built-in `city-facts`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from leadline import extract, load_dataset, load_model
from leadline.activations import Activations
from leadline.activations.extract import BATCH_TOKENS, plan_batches
from leadline.data import Dataset
from leadline.models import Model
from machine import describe_machine

SHARED = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results" / "extract.json"
N_CHECKED = 6
NAIVE_BATCH = 32


def texts_of(name: str) -> list[str]:
    """The texts of a set, in the order in which they are read."""
    if name == "cities":
        with open(SHARED / "truth" / "cities.csv", newline="", encoding="utf-8") as file:
            return [row["statement"] for row in csv.DictReader(file)]
    with open(SHARED / "xstest" / "xstest_prompts.csv", newline="", encoding="utf-8") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    with open(SHARED / "truthfulqa" / "TruthfulQA.csv", newline="", encoding="utf-8") as file:
        texts += [f"{row['Question']} {row['Best Answer']}" for row in csv.DictReader(file)]
    lines = (SHARED / "ud_ewt" / "en_ewt-ud-dev.conllu").read_text(encoding="utf-8").splitlines()
    texts += [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    random.Random(0).shuffle(texts)
    return texts


def data_sets(n_rows: int) -> dict[str, Dataset]:
    """The sets to measure on, the headline's first, each cut to its first rows."""
    if not SHARED.is_dir():
        return {"city-facts": load_dataset("city-facts").select(range(n_rows))}
    return {
        name: Dataset.from_rows(
            [{"text": text, "label": i % 2} for i, text in enumerate(texts_of(name)[:n_rows])],
            target="label",
            name=name,
        )
        for name in ("mixed", "cities")
    }


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def padded_batches(model: Model, data: Dataset, budget: int) -> list[torch.Tensor]:
    """The token ids of the batches that `extract` makes, on the device."""
    ids = model.encode(data.inputs)
    batches = []
    for batch in (batch for shard in plan_batches(ids, budget).shards for batch in shard):
        seq = max(len(ids[row]) for row in batch)
        rows = [ids[row] + ids[row][:1] * (seq - len(ids[row])) for row in batch]
        batches.append(torch.tensor(rows, device=model.device))
    return batches


@torch.inference_mode()
def trunk(model: Model, batches: list[torch.Tensor]) -> None:
    """The forward passes alone."""
    for batch in batches:
        model.trunk(input_ids=batch, use_cache=False)


@torch.no_grad()
def naive(model: Model, data: Dataset) -> np.ndarray:
    """(entries of hidden_states, n, d_model), as a notebook gets them."""
    tokenizer = model.tokenizer
    kept = []
    for start in range(0, data.n, NAIVE_BATCH):
        batch = tokenizer(
            list(data.inputs[start : start + NAIVE_BATCH]), return_tensors="pt", padding=True, padding_side="right"
        )
        states = model.module(**batch.to(model.device), output_hidden_states=True).hidden_states
        last = batch["attention_mask"].sum(dim=1) - 1
        kept.append(torch.stack([state[torch.arange(len(last)), last] for state in states]).cpu())
    return torch.cat(kept, dim=1).numpy()


@torch.inference_mode()
def reference(model: Model, data: Dataset, rows: list[int]) -> np.ndarray:
    """(entries of hidden_states, rows, d_model) from float64 weights, each row by itself."""
    exact = copy.deepcopy(model.trunk).double()
    found = []
    for row in model.encode([data.inputs[i] for i in rows]):
        states = exact(input_ids=torch.tensor([row], device=model.device), output_hidden_states=True).hidden_states
        found.append(torch.stack([state[0, -1] for state in states]))
    return torch.stack(found, dim=1).cpu().numpy()


def stacked(acts: Activations, n_layers: int) -> np.ndarray:
    """The sites that `hidden_states` has too: its last entry stands after the final norm."""
    names = ["embed", *[f"resid_post.{i}" for i in range(n_layers - 1)], "final_norm"]
    return np.stack([acts.read(name) for name in names])


def worst_error(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest relative distance over sites and rows."""
    return float((np.linalg.norm(found - exact, axis=-1) / np.linalg.norm(exact, axis=-1)).max())


def measure(model: Model, plain: Model, data: Dataset, budget: int, repeats: int) -> dict[str, object]:
    """One set in one dtype; `plain` is the float32 model for the naive way and the reference."""
    lengths = [len(row) for row in model.encode(data.inputs)]
    batches = padded_batches(model, data, budget)
    n_tokens = sum(lengths)
    in_file_order = [lengths[i : i + NAIVE_BATCH] for i in range(0, data.n, NAIVE_BATCH)]
    times: dict[str, list[float]] = {"extract": [], "trunk": [], "naive": []}
    kept: dict[str, np.ndarray] = {}
    trunk(model, batches[:2])

    def naively() -> None:
        kept["naive"] = naive(plain, data)

    with tempfile.TemporaryDirectory() as folder:
        for i in range(repeats):
            turns = [
                ("trunk", partial(trunk, model, batches)),
                ("extract", partial(extract, model, data, out=f"{folder}/{i}", batch_tokens=budget)),
                ("naive", naively),
            ]
            # Turn about, so that a machine that warms up or slows down favours nobody.
            for name, turn in turns[i % 3 :] + turns[: i % 3]:
                times[name].append(seconds(turn))
        kept["extract"] = stacked(Activations.open(f"{folder}/0"), model.n_layers)
    rows = np.linspace(0, data.n - 1, N_CHECKED).astype(int).tolist()
    exact = reference(plain, data, rows)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "rows": data.n,
        "tokens": n_tokens,
        "longest": max(lengths),
        "batch_tokens": budget,
        "batches": len(batches),
        "padding": 1 - n_tokens / sum(batch.numel() for batch in batches),
        "naive_padding": 1 - n_tokens / sum(len(batch) * max(batch) for batch in in_file_order),
        "seconds": times,
        "tokens_per_second": {name: n_tokens / value for name, value in median.items()},
        "share_of_trunk": median["trunk"] / median["extract"],
        "speedup_vs_naive": median["naive"] / median["extract"],
        "worst_error": {name: worst_error(values[:, rows], exact) for name, values in kept.items()},
    }


def show(name: str, found: dict[str, object]) -> None:
    """One set's table."""
    print(
        f"\n{name}, {found['dtype']}: {found['rows']:,} rows, {found['tokens']:,} tokens, the longest row "
        f"{found['longest']}; {found['batches']} batches of up to {found['batch_tokens']} tokens"
    )
    print(f"{'':<10}{'seconds':>10}{'tokens/s':>10}{'padding':>10}{'worst error':>14}")
    for way in ("trunk", "extract", "naive"):
        error = found["worst_error"].get(way)
        print(
            f"{way:<10}{statistics.median(found['seconds'][way]):>10.2f}{found['tokens_per_second'][way]:>10,.0f}"
            f"{found['naive_padding' if way == 'naive' else 'padding']:>10.1%}"
            f"{'' if error is None else format(error, '.1e'):>14}"
        )
    print(f"share of the trunk {found['share_of_trunk']:.3f}; {found['speedup_vs_naive']:.2f} times the naive way")


def show_budgets(model: Model, data: Dataset, budgets: list[int], repeats: int) -> dict[int, float]:
    """Tokens per second of the trunk for several token budgets, in turn."""
    n_tokens = sum(len(row) for row in model.encode(data.inputs))
    batches = {budget: padded_batches(model, data, budget) for budget in budgets}
    times: dict[int, list[float]] = {budget: [] for budget in budgets}
    for _ in range(repeats):
        for budget in budgets:
            times[budget].append(seconds(lambda budget=budget: trunk(model, batches[budget])))
    speeds = {budget: n_tokens / statistics.median(values) for budget, values in times.items()}
    print(f"\nthe trunk by token budget, {data.name}: " + ", ".join(f"{b}: {s:,.0f}/s" for b, s in speeds.items()))
    return speeds


def main() -> None:
    """Measure, print, write JSON, and end with one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--budgets", default="", help="compare these token budgets first, as in 256,512,1024")
    options = parser.parse_args()

    load_before = os.getloadavg()[0]
    models = [load_model(options.model)]
    if models[0].dtype != torch.float32:
        models.append(load_model(options.model, dtype="float32"))
    plain = models[-1]
    fingerprinting = seconds(lambda: [model.fingerprint for model in models])
    budget = options.batch_tokens or BATCH_TOKENS[models[0].device.type]
    machine = {**describe_machine(), "device": str(plain.device), "load_before": load_before}
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if load_before > 0.5:
        print(f"warning: the machine was busy already (load {load_before:.1f}); times are not to be relied on")

    sets = data_sets(options.rows)
    budgets = {}
    if options.budgets:
        tried = [int(part) for part in options.budgets.split(",")]
        budgets = {name: show_budgets(models[0], data, tried, options.repeats) for name, data in sets.items()}
    found: dict[str, dict[str, object]] = {}
    for name, data in sets.items():
        for model in models:
            key = name if model is models[0] else f"{name}, float32"
            found[key] = measure(model, plain, data, budget, options.repeats)
            show(key, found[key])

    first = next(iter(found))
    record = {
        "benchmark": "extract",
        "share_of_trunk": round(found[first]["share_of_trunk"], 4),
        "speedup_vs_naive": round(found[first]["speedup_vs_naive"], 3),
        "set": first,
        "dtype": found[first]["dtype"],
        "sets": {
            name: {key: round(part[key], 3) for key in ("share_of_trunk", "speedup_vs_naive")}
            for name, part in found.items()
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    details = {
        **record,
        "sites": plain.default_sites,
        "details": found,
        "budgets": budgets,
        "fingerprint_seconds": fingerprinting,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "machine": machine,
    }
    RESULTS.write_text(json.dumps(details, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
