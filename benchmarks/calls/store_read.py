"""Reads of one store, in a process of their own, since a peak of memory is a process's.

    PYTHON -m calls.store_read JOB.json ANSWER.json          (in benchmarks/)

The job: `folder` of the store, `site`, `stored`, `n_reads` (of single rows; an eighth as many of 32), `seconds` that a
kind of random read may take, `seed`. Cold means that the files' pages were dropped from the page cache just before
(posix_fadvise, DONTNEED), which leaves the disk's own cache and the host's, where there is one. How many bytes came
from the disk is counted by the system (/proc/self/io), so that a read that was not cold shows.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leadline.activations import Activations
from rivals_run import forget_peak, memory

BATCH = 32


def drop(folder: Path) -> None:
    """Let the system forget the pages of a folder's files; those that a process has mapped it keeps."""
    gc.collect()
    for file in folder.iterdir():
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def from_disk() -> int:
    """Bytes that this process has had read from a disk; 0 where the system does not say."""
    file = Path("/proc/self/io")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes")), 0)


def measured(run: Callable[[], int]) -> dict[str, Any]:
    """What a number of reads took; `run` says how many bytes they gave."""
    known = forget_peak()
    before, disk, began = memory("VmRSS"), from_disk(), time.perf_counter()
    given = run()
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "bytes": given,
        "mb_per_second": given / seconds / 1e6,
        "disk_bytes": from_disk() - disk,
        # Pages of mapped files are in it, which the system takes back when others need them.
        "peak_more": memory("VmHWM") - before if known else None,
        "anonymous": memory("RssAnon"),
    }


def whole_files(folder: Path) -> dict[str, Any]:
    """What the machine gives: every shard's bytes, one file after the other, 1 MiB at a time."""
    drop(folder)

    def run() -> int:
        given, block = 0, bytearray(1 << 20)
        for file in sorted(folder.glob("shard-*")):
            with open(file, "rb", buffering=0) as opened:
                while size := opened.readinto(block):
                    given += size
        return given

    return measured(run)


def bare_reads(folder: Path, size: int, n: int, limit: float, rng: np.random.Generator) -> dict[str, Any]:
    """What the machine gives: as many bytes as a row has, at random places of random shards."""
    drop(folder)
    files = sorted(folder.glob("shard-*"))
    handles = [os.open(file, os.O_RDONLY) for file in files]
    try:
        for handle in handles:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        ends = [max(1, os.fstat(handle).st_size - size) for handle in handles]
        which = rng.integers(len(handles), size=n)
        places = [int(rng.integers(ends[i])) for i in which]
        count = 0

        def run() -> int:
            nonlocal count
            stop = time.perf_counter() + limit
            for i, place in zip(which, places, strict=True):
                os.pread(handles[i], size, place)
                count += 1
                if time.perf_counter() > stop:
                    break
            return count * size

        return {**measured(run), "reads": count}
    finally:
        for handle in handles:
            os.close(handle)


def random_reads(folder: Path, site: str, batches: Iterator[np.ndarray], limit: float, cold: bool) -> dict[str, Any]:
    """Reads of some rows each, from a store opened for them; the first one, which finds out what lies where, apart.

    Cold reads end when a quarter of the store has come from the disk: later ones would find rows that are there.
    """
    if cold:
        drop(folder)
    acts = Activations.open(folder)
    began = time.perf_counter()
    acts.rows(site, next(batches)[:1])
    first = time.perf_counter() - began
    most = sum(file.stat().st_size for file in folder.glob("shard-*")) // 4 if cold else np.inf
    count = 0

    def run() -> int:
        nonlocal count
        given, stop, disk = 0, time.perf_counter() + limit, from_disk()
        for rows in batches:
            given += acts.rows(site, rows).nbytes
            count += 1
            if time.perf_counter() > stop or (cold and from_disk() - disk > most):
                break
        return given

    found = measured(run)
    return {**found, "reads": count, "reads_per_second": count / found["seconds"], "first_seconds": first}


def sequential(folder: Path, site: str, cold: bool) -> dict[str, Any]:
    """One site, whole."""
    if cold:
        drop(folder)
    acts = Activations.open(folder)
    return measured(lambda: acts.read(site).nbytes)


def main() -> None:
    """Measure every kind of read."""
    if len(sys.argv) != 3:
        print(__doc__)
        return
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder, site, limit = Path(job["folder"]), job["site"], job["seconds"]
    rng = np.random.default_rng(job["seed"])
    drop(folder)
    began = time.perf_counter()
    acts = Activations.open(folder)
    opening = time.perf_counter() - began
    n, width = acts.n_rows, acts.width(site)
    del acts

    def some(k: int, reads: int) -> Iterator[np.ndarray]:
        return iter([rng.integers(n, size=k) for _ in range(reads + 1)])

    few = max(1, job["n_reads"] // 8)
    size = {"float32": 4, "float16": 2, "int8": 1}[job["stored"]] * width
    answer = {
        "open_seconds": opening,
        "machine_whole": whole_files(folder),
        "machine_random": bare_reads(folder, size, job["n_reads"], limit, rng),
        "site_cold": sequential(folder, site, cold=True),
        "site_warm": sequential(folder, site, cold=False),
        "row_cold": random_reads(folder, site, some(1, job["n_reads"]), limit, cold=True),
        "batch_cold": random_reads(folder, site, some(BATCH, few), limit, cold=True),
    }
    # Now for the pages that a sequential read leaves.
    sequential(folder, site, cold=False)
    answer["row_warm"] = random_reads(folder, site, some(1, job["n_reads"]), limit, cold=False)
    answer["batch_warm"] = random_reads(folder, site, some(BATCH, few), limit, cold=False)
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
