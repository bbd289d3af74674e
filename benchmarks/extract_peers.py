"""Extraction beside the bare trunk and beside other packages; what shared prefixes save; memory by rows.

    .venv/bin/python benchmarks/extract_peers.py [--rows 192] [--repeats 3] [--parts trunk,memory] [--quick]

- trunk: `extract`, end to end, against the forward passes alone over the same batches, padded beforehand, no mask. In
  turn in this process, without sharing, on real texts of mixed length.
- peers: the residual stream at the last token of the same texts, from strings to files, by `extract` and by others (see
  `calls/extraction.py` for how each is called). In turn, each turn a process of its own: import, loading and a warm-up
  are not counted. First everybody at its own dtype; then, if these differ, once more at each dtype that ours or the
  others' is. Everybody's vectors in float32 are compared with ours; a side that computes something else is no peer.
- prefixes: sets whose rows begin alike, with and without sharing, and how far the vectors are apart; `prefix_speedup`
  is that of the few-shot prompts.
- memory: the largest resident memory of extracting 10,000 and 100,000 short rows, from a small model of random weights.

Times are medians. Tokens are real ones, counted once a row, whether they are shared or not; padding is nobody's
achievement. The weights are those of the bundled model, dense in float32, from the same folder for all: a side that
takes the checkpoint's dtype computes in float32.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from leadline import extract, load_model
from leadline.activations import Activations
from leadline.data import Dataset
from leadline.models import Model
from machine import describe_machine
from peers import measure_peers, relative_errors
from report import rounded, write
from rivals import RivalFailed, ask
from texts import data_set, mixed_texts, prefix_sets

PARTS = ("trunk", "peers", "prefixes", "memory")
N_WARM = 8
CAN_SHARE = "share_prefixes" in inspect.signature(extract).parameters


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def in_turn(sides: dict[str, Callable[[int], object]], repeats: int) -> dict[str, list[float]]:
    """The seconds of each side by repeat; who begins goes round, so that a machine that slows down favours nobody."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for i in range(repeats):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(seconds(partial(sides[name], i)))
    return times


def sharing(share: bool) -> dict[str, Any]:
    """The argument that switches sharing, where there is one yet."""
    return {"share_prefixes": share} if CAN_SHARE else {}


# ---- the trunk


def batches_of(store: Path, ids: list[list[int]], device: torch.device) -> list[torch.Tensor]:
    """The padded batches that a store was made from, as its plan has them."""
    plan = json.loads((store / "plan.json").read_text(encoding="utf-8"))["plan"]
    batches = []
    for rows in (rows for shard in plan["shards"] for rows in shard):
        seq = max(len(ids[row]) for row in rows)
        batches.append(torch.tensor([ids[row] + ids[row][:1] * (seq - len(ids[row])) for row in rows], device=device))
    return batches


@torch.inference_mode()
def run_trunk(model: Model, batches: list[torch.Tensor]) -> None:
    """The forward passes alone."""
    for batch in batches:
        model.trunk(input_ids=batch, use_cache=False)


def measure_trunk(model: Model, data: Dataset, repeats: int, folder: Path) -> dict[str, Any]:
    """Ours against its own forward passes."""
    ids = model.encode(cast(Any, data.inputs))
    n_tokens = sum(map(len, ids))
    # The first one is the warm-up, and says which batches there are.
    extract(model, data, out=folder / "plan", **sharing(False))
    batches = batches_of(folder / "plan", ids, model.device)
    times = in_turn(
        {
            "trunk": lambda i: run_trunk(model, batches),
            "extract": lambda i: extract(model, data, out=folder / f"turn-{i}", **sharing(False)),
        },
        repeats,
    )
    median = {name: statistics.median(values) for name, values in times.items()}
    share = median["trunk"] / median["extract"]
    padding = 1 - n_tokens / sum(batch.numel() for batch in batches)
    print(
        f"\ntrunk, {dtype_of(model)}: {data.n:,} rows, {n_tokens:,} tokens in {len(batches)} batches, {padding:.1%} "
        f"padding: the trunk {n_tokens / median['trunk']:,.0f} tokens/s, extract {n_tokens / median['extract']:,.0f}; "
        f"share {share:.3f}"
    )
    return {"rows": data.n, "tokens": n_tokens, "batches": len(batches), "seconds": times, "share_of_trunk": share}


def dtype_of(model: Model) -> str:
    """As in `"float32"`."""
    return str(model.dtype).removeprefix("torch.")


# ---- prefixes


def worst_difference(shared: Activations, plain: Activations) -> float:
    """The largest relative distance of a row, over all sites."""
    return max(float(relative_errors(shared.read(site), plain.read(site)).max()) for site in plain.sites)


def measure_prefixes(model: Model, n_rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Ours with and without sharing, a set at a time; empty where extract cannot share yet."""
    if not CAN_SHARE:
        print("\nprefixes: not there yet (extract has no share_prefixes)")
        return {}
    found: dict[str, Any] = {}
    sets = prefix_sets(lambda text: len(model.encode([text])[0]), n_rows)
    for name, data in sets.items():
        n_tokens = sum(len(ids) for ids in model.encode(cast(Any, data.inputs)))
        extract(model, data.select(range(min(N_WARM, data.n))), out=folder / f"{name}-warm")

        def run(share: bool, i: int, data: Dataset = data, name: str = name) -> None:
            extract(model, data, out=folder / f"{name}-{share}-{i}", **sharing(share))

        times = in_turn({"shared": lambda i: run(True, i), "plain": lambda i: run(False, i)}, repeats)
        median = {way: statistics.median(values) for way, values in times.items()}
        stores = [Activations.open(folder / f"{name}-{share}-0") for share in (True, False)]
        found[name] = {
            "rows": data.n,
            "tokens": n_tokens,
            "seconds": times,
            "speedup": median["plain"] / median["shared"],
            "worst_difference": worst_difference(*stores),
        }
        print(
            f"\nprefixes, {name}: {data.n:,} rows, {n_tokens:,} tokens: {median['shared']:.2f} s shared, "
            f"{median['plain']:.2f} s plain: {found[name]['speedup']:.2f} times; the vectors differ by at most "
            f"{found[name]['worst_difference']:.1e}"
        )
    return found


# ---- memory


def measure_memory(sizes: list[int], source: Path, limit: float) -> dict[int, dict[str, Any]]:
    """The peak of an extraction's resident memory by rows."""
    found: dict[int, dict[str, Any]] = {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as out:
            try:
                part = ask(
                    "leadline", "calls.extraction_memory", {"n_rows": n, "folder": str(source), "out": out}, limit
                )
            except RivalFailed as error:
                print(f"\nmemory, {n:,} rows: failed: {error}")
                continue
        found[n] = part
        peak = "unknown" if part["peak_rss"] is None else f"{part['peak_rss'] / 2**20:,.0f} MiB"
        print(
            f"\nmemory, {n:,} rows, {part['model']}: at most {peak}, {part['rss_loaded'] / 2**20:,.0f} MiB "
            f"of which with the model alone; a store of {part['store_bytes'] / 2**20:,.0f} MiB in "
            f"{part['seconds']:.1f} s"
        )
    return found


def main() -> None:
    """Measure, print, write JSON, and end with one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=192, help="texts for the trunk and the peers")
    parser.add_argument("--prefix-rows", type=int, default=200, help="rows of each set whose rows begin alike")
    parser.add_argument("--memory-rows", default="10000,100000", help="comma-separated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prefix-repeats", type=int, default=1)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a turn has failed")
    parser.add_argument("--quick", action="store_true", help="a smoke run on few rows; no figure of it counts")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.prefix_rows, options.memory_rows, options.repeats = 32, 16, "1000,4000", 1
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}")

    busy = os.getloadavg()[0]
    print(", ".join(f"{key} {value}" for key, value in describe_machine().items()))
    if busy > 0.5:
        print(f"warning: the machine was busy already (load {busy:.1f}); times are not to be relied on")
    model = load_model("smollm2-135m")
    # Where it was loaded from, as transformers notes it: the others load the same folder.
    source = Path(str(model.module.name_or_path))
    fingerprinting = seconds(lambda: model.fingerprint)
    texts = mixed_texts()[: options.rows]
    n_tokens = sum(map(len, model.encode(texts)))
    sizes = [int(part) for part in options.memory_rows.split(",")]
    found: dict[str, Any] = {"load_before": busy, "fingerprint_seconds": fingerprinting, "dtype": dtype_of(model)}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            own = Path(folder, part)
            own.mkdir()
            if part == "trunk":
                found[part] = measure_trunk(model, data_set("mixed", texts), options.repeats, own)
            elif part == "prefixes":
                found[part] = measure_prefixes(model, options.prefix_rows, options.prefix_repeats, own)
            elif part == "peers":
                found[part] = measure_peers(texts, n_tokens, source, options.repeats, options.limit, own)
            else:
                found[part] = measure_memory(sizes, source, options.limit)
    write("extract_peers_quick" if options.quick else "extract_peers", record_of(found, sizes), found)


def record_of(found: dict[str, Any], sizes: list[int]) -> dict[str, object]:
    """The figures to be looked at; None for what was not measured."""

    def figure(value: float | None, digits: int = 3) -> float | None:
        return None if value is None else rounded(value, digits)

    peers, prefixes, memory = found.get("peers", {}), found.get("prefixes", {}), found.get("memory", {})
    speedups = {name: figure(part["speedup"]) for name, part in prefixes.items()}
    return {
        "benchmark": "extract_peers",
        "share_of_trunk": figure(found.get("trunk", {}).get("share_of_trunk"), 4),
        "speedup_vs_fastest_peer": figure(peers.get("speedup")),
        "fastest_peer": peers.get("fastest"),
        "speedup_at_same_dtype": {dtype: figure(value) for dtype, value in peers.get("same_dtype", {}).items()},
        "prefix_speedup": speedups.get("few-shot"),
        "prefix_speedups": speedups,
        **{f"peak_rss_{n // 1000}k": memory.get(n, {}).get("peak_rss") for n in sizes},
    }


if __name__ == "__main__":
    main()
