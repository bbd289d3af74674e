"""One call of a rival, in its own environment: reads its arguments from an .npz, and writes what it found to another.

    PYTHON benchmarks/rivals_run.py MODULE:FUNCTION GIVEN.npz FOUND.npz

`FUNCTION` of `calls/MODULE.py` takes the arrays by name: X (S, n, d) float32, Y (n, m), fold (n,), grid (L,), and
folds, the folds to fit (K, the number of folds, stands for the refit on all rows). It is called once on a small
problem first, so that imports and compilers are done with; then it is timed, and the peak of the process's memory is
taken. This file and the calls need numpy and scikit-learn alone, beside what a rival brings.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np


def memory(name: str) -> int:
    """Bytes of `VmRSS` (now) or `VmHWM` (at most so far); 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")]
    return found[0] if found else 0


def forget_peak() -> bool:
    """Let `VmHWM` begin anew; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def limit_memory() -> None:
    """Fail with a MemoryError at nine tenths of the machine's memory, rather than be ended by the system."""
    info = Path("/proc/meminfo")
    if info.is_file():
        total = int(info.read_text().split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (total * 9 // 10, total * 9 // 10))


def small_problem(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arguments on 80 rows of 6 features."""
    rng = np.random.default_rng(0)
    n, m = 80, arrays["Y"].shape[1]
    X = rng.normal(size=(1, n, 6)).astype(np.float32)
    Y = X[0, :, :1].astype(np.float64) + rng.normal(size=(n, m))
    if np.isin(arrays["Y"], (0.0, 1.0)).all():
        Y = (Y > 0).astype(np.float64)
    n_folds = int(arrays["fold"].max()) + 1
    return {**arrays, "X": X, "Y": Y, "fold": np.arange(n) % n_folds}


def main() -> None:
    """Warm up, call, measure, write."""
    if len(sys.argv) != 4:
        print(__doc__)
        return
    function, given, found = sys.argv[1:]
    limit_memory()
    module, name = function.split(":")
    call = getattr(importlib.import_module(f"calls.{module}"), name)
    with np.load(given) as file:
        arrays = {key: file[key] for key in file.files}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(**small_problem(arrays))
    known = forget_peak()
    before = memory("VmRSS")
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = call(**arrays)
    seconds = time.perf_counter() - began
    peak = memory("VmHWM") - before if known else float("nan")
    about = {"seconds": seconds, "peak_bytes": peak, "settings": result.pop("settings", "")}
    np.savez(found, about=np.array(json.dumps(about)), **result)


if __name__ == "__main__":
    main()
