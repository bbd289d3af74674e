"""Stores: how fast they are written and read, what memory that takes, how large they are, and how exact.

    .venv/bin/python benchmarks/store.py [--rows 20000] [--width 4096] [--sites 4] [--stored float32,float16,int8]

A store of generated vectors, as wide as those of a model of 7 billion parameters, is written for each stored dtype, in
shards of the size that `extract` makes. Then, in a process of its own: one site whole, single rows and batches of 32
rows at random, cold and warm, beside what the machine gives to plain reads of the same files. Cold means that the
files' pages were dropped from the page cache just before; they are not larger than the machine's memory unless `--rows`
makes them so (a row of 4 sites takes 64 KiB in float32). How much did come from the disk is told; what it is above the
rows asked for is the system's reading ahead.

Errors are those of the last tokens of real texts at every site of the bundled model: of a vector, relative to its
length (the worst), and of a dimension, the root mean square relative to its standard deviation (the worst, and the
median). Texts of one token are among them, whose vectors are a hundred times the size of the rest.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leadline import extract, load_model
from leadline.activations import Activations, BatchPlan
from leadline.activations.store import Identity
from leadline.activations.writer import StoreWriter
from leadline.data import Dataset
from machine import describe_machine
from report import rounded, write
from rivals import RivalFailed, ask
from texts import data_set, mixed_texts

STORED = ("float32", "float16", "int8")
# What `extract` closes a shard at.
SHARD_BYTES = 32 << 20
N_BASE = 512
READS = ("site_cold", "site_warm", "row_cold", "row_warm", "batch_cold", "batch_warm")


def generated(width: int, n_sites: int) -> Callable[[int, np.ndarray], np.ndarray]:
    """Gives the vectors of some rows at a site, always the same ones; most of their energy lies in three dimensions."""
    rng = np.random.default_rng([width, n_sites])
    base = rng.standard_normal((N_BASE, width), dtype=np.float32)
    heavy = rng.choice(width, size=min(3, width), replace=False)
    base[:, heavy] = base[:, heavy] * 5 + 50

    def vectors(site: int, rows: np.ndarray) -> np.ndarray:
        scale = (1 + (rows % 97) / 970).astype(np.float32)
        return np.asarray(base[(rows * 31 + site * 7) % N_BASE] * scale[:, None])

    return vectors


def write_store(
    folder: Path,
    data: Dataset,
    names: list[str],
    width: int,
    stored: str,
    vectors: Callable[[int, np.ndarray], np.ndarray],
) -> float:
    """Write a store shard by shard; the seconds of the writing alone."""
    identity = Identity(
        model_fingerprint="generated",
        data_fingerprint=data.fingerprint,
        sites=tuple((name, width) for name in names),
        tokens="last",
        dtype="float32",
        n_rows=data.n,
        stored=stored,
    )
    # Rows of like length stand together in a shard, so that neighbours in the data set do not.
    lengths = np.random.default_rng(data.n).integers(5, 60, size=data.n).tolist()
    per_row = 4 * width * len(names)
    plan = BatchPlan.build(lengths, batch_tokens=512, batch_cost=18, shard_rows=max(1, SHARD_BYTES // per_row))
    folder.mkdir(parents=True)
    store = StoreWriter(folder, identity, {})
    store.propose(plan, sum(lengths))
    data.write(folder)
    spent = 0.0
    for i in range(len(plan.shards)):
        rows = np.asarray(plan.rows(i))
        arrays = {name: vectors(s, rows) for s, name in enumerate(names)}
        began = time.perf_counter()
        store.write_shard(i, arrays)
        spent += time.perf_counter() - began
    began = time.perf_counter()
    store.finish()
    return spent + time.perf_counter() - began


def size_of(folder: Path) -> int:
    """Bytes of the shards."""
    return sum(file.stat().st_size for file in folder.glob("shard-*"))


def same_rows(
    folder: Path, names: list[str], vectors: Callable[[int, np.ndarray], np.ndarray], rng: np.random.Generator
) -> float:
    """The largest relative distance of some rows of each site from what was written."""
    acts = Activations.open(folder)
    worst = 0.0
    for s, name in enumerate(names):
        rows = rng.integers(acts.n_rows, size=64)
        given, found = vectors(s, rows), acts.rows(name, rows)
        worst = max(worst, float((np.linalg.norm(found - given, axis=1) / np.linalg.norm(given, axis=1)).max()))
    return worst


def measure(options: argparse.Namespace, stored: str, folder: Path) -> dict[str, Any]:
    """One stored dtype: write, check, read."""
    names = [f"resid_post.{i}" for i in range(options.sites)]
    data = data_set("generated", [f"row {i}" for i in range(options.rows)])
    vectors = generated(options.width, options.sites)
    values = options.rows * options.width * options.sites
    found: dict[str, Any] = {"write_seconds": write_store(folder, data, names, options.width, stored, vectors)}
    found["bytes"] = size_of(folder)
    found["bytes_per_value"] = found["bytes"] / values
    found["write_mb_per_second"] = 4 * values / found["write_seconds"] / 1e6
    found["worst_difference"] = same_rows(folder, names, vectors, np.random.default_rng(0))
    job = {
        "folder": str(folder),
        "site": names[len(names) // 2],
        "stored": stored,
        "n_reads": options.reads,
        "seconds": options.seconds,
        "seed": 0,
    }
    # A mapping that is still open here, in a store that awaits the collector, keeps its pages in the cache.
    gc.collect()
    try:
        found["reads"] = ask("leadline", "calls.store_read", job)
    except RivalFailed as error:
        found["reason"] = str(error)
    show(stored, found)
    return found


def show(stored: str, found: dict[str, Any]) -> None:
    """One stored dtype's table."""
    print(
        f"\n{stored}: {found['bytes'] / 2**20:,.0f} MiB, {found['bytes_per_value']:.2f} bytes a value; written at "
        f"{found['write_mb_per_second']:,.0f} MB of float32 a second; rows read back differ by at most "
        f"{found['worst_difference']:.1e}"
    )
    if "reason" in found:
        print(f"  reading failed: {found['reason']}")
        return
    reads = found["reads"]
    print(f"{'':<12}{'reads':>8}{'reads/s':>10}{'MB/s given':>12}{'from disk':>12}{'memory more':>13}")
    for name in READS:
        part = reads[name]
        count = part.get("reads", 1)
        more = "unknown" if part["peak_more"] is None else f"{part['peak_more'] / 2**20:,.1f} MiB"
        print(
            f"{name:<12}{count:>8,}{count / part['seconds']:>10,.1f}{part['mb_per_second']:>12,.0f}"
            f"{part['disk_bytes'] / 2**20:>8,.0f} MiB{more:>13}"
        )
    whole, bare = reads["machine_whole"], reads["machine_random"]
    print(
        f"  the machine, cold: whole files {whole['mb_per_second']:,.0f} MB/s; reads of a row's bytes "
        f"{bare['reads'] / bare['seconds']:,.0f}/s; opening {reads['open_seconds'] * 1e3:.1f} ms, the first row "
        f"{reads['row_cold']['first_seconds'] * 1e3:.1f} ms"
    )


def measure_errors(n_rows: int, folder: Path) -> dict[str, dict[str, float]]:
    """Each stored dtype on real activations."""
    acts = extract(
        load_model("smollm2-135m", dtype="float32"), data_set("mixed", mixed_texts()[:n_rows]), out=folder / "0"
    )
    names = [site.name for site in acts.sites]
    given = [acts.read(name) for name in names]
    assert acts.dataset is not None
    errors = {}
    for stored in STORED[1:]:
        own = folder / stored
        write_store(own, acts.dataset, names, given[0].shape[1], stored, lambda s, rows: given[s][rows])
        found = [Activations.open(own).read(name) for name in names]
        away = [a - b for a, b in zip(found, given, strict=True)]
        dimensions = [
            np.sqrt(np.square(a).mean(axis=0)) / np.maximum(b.std(axis=0), 1e-30)
            for a, b in zip(away, given, strict=True)
        ]
        errors[stored] = {
            "vector": max(
                float((np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).max())
                for a, b in zip(away, given, strict=True)
            ),
            "dimension": max(float(part.max()) for part in dimensions),
            "median_dimension": float(np.median(np.concatenate(dimensions))),
        }
    print(f"\nerrors on {acts.n_rows} real rows at {len(names)} sites (worst vector, worst and median dimension):")
    for stored, part in errors.items():
        print(
            f"  {stored}: {part['vector']:.1e} of its length, {part['dimension']:.1e} and "
            f"{part['median_dimension']:.1e} standard deviations"
        )
    return errors


def main() -> None:
    """Measure every stored dtype, print, write JSON, and end with one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--stored", default=",".join(STORED), help="comma-separated")
    parser.add_argument("--reads", type=int, default=2000, help="random reads of single rows")
    parser.add_argument("--seconds", type=float, default=20, help="that a kind of random read may take")
    parser.add_argument("--real-rows", type=int, default=128, help="real rows for the errors")
    parser.add_argument("--folder", default=None, help="where the stores go (and are removed from); a temporary one")
    parser.add_argument("--quick", action="store_true", help="a smoke run on a small store; no figure of it counts")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.width, options.sites, options.reads, options.real_rows = 600, 256, 2, 50, 16

    busy = os.getloadavg()[0]
    print(", ".join(f"{key} {value}" for key, value in describe_machine().items()))
    if busy > 0.5:
        print(f"warning: the machine was busy already (load {busy:.1f}); times are not to be relied on")
    details: dict[str, Any] = {"options": vars(options), "load_before": busy}
    chosen = options.stored.split(",")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        details["errors"] = measure_errors(options.real_rows, Path(folder, "real"))
        for stored in chosen:
            # One at a time, so that the disk need not hold all.
            with tempfile.TemporaryDirectory(dir=folder) as own:
                details[stored] = measure(options, stored, Path(own, "store"))
    write("store_quick" if options.quick else "store", record_of(details, chosen), details)


def record_of(details: dict[str, Any], chosen: list[str]) -> dict[str, object]:
    """The figures to be looked at, each by stored dtype."""
    read = [stored for stored in chosen if "reads" in details[stored]]

    def by_dtype(name: str, key: str) -> dict[str, float]:
        return {stored: rounded(details[stored]["reads"][name][key]) for stored in read}

    return {
        "benchmark": "store",
        "bytes_per_value": {stored: rounded(details[stored]["bytes_per_value"]) for stored in chosen},
        "read_mb_per_second_cold": by_dtype("site_cold", "mb_per_second"),
        "row_reads_per_second_cold": by_dtype("row_cold", "reads_per_second"),
        "row_reads_per_second_warm": by_dtype("row_warm", "reads_per_second"),
        "batch_reads_per_second_cold": by_dtype("batch_cold", "reads_per_second"),
        "row_read_peak_more": {stored: details[stored]["reads"]["row_cold"]["peak_more"] for stored in read},
        "errors": {stored: {k: rounded(v) for k, v in part.items()} for stored, part in details["errors"].items()},
    }


if __name__ == "__main__":
    main()
