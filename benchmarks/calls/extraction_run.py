"""One collection of activations by one side, in its own environment; a process a turn.

    PYTHON -m calls.extraction_run JOB.json ANSWER.json          (in benchmarks/)

The job: `side` (in `calls.extraction.SIDES`), `folder` of the model, `dtype` or null for the side's own choice,
`texts`, `out` (an empty folder), `n_warm` and `keep` (an .npz for what was written, or null). Imports, loading and a
warm-up on the first texts come before the clock starts; it stops when the vectors are on disk.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

from calls.extraction import SIDES
from rivals_run import forget_peak, limit_memory, memory


def main() -> None:
    """Load, warm up, collect, answer."""
    if len(sys.argv) != 3:
        print(__doc__)
        return
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    limit_memory()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    side = SIDES[job["side"]](job["folder"], job["dtype"])
    loading = time.perf_counter() - began
    out = Path(job["out"])
    for name in ("warm", "found"):
        (out / name).mkdir(parents=True)
    side.collect(job["texts"][: job["n_warm"]], out / "warm")
    shutil.rmtree(out / "warm")
    known = forget_peak()
    before = memory("VmRSS")
    began = time.perf_counter()
    side.collect(job["texts"], out / "found")
    seconds = time.perf_counter() - began
    peak = memory("VmHWM") if known else None
    if job["keep"] is not None:
        np.savez(job["keep"], **side.read(job["texts"], out / "found"))  # type: ignore[arg-type]
    answer = {
        "seconds": seconds,
        "dtype": side.dtype,
        "settings": side.settings,
        "loading_seconds": loading,
        "peak_rss": peak,
        "peak_more": None if peak is None else peak - before,
        "bytes_written": sum(path.stat().st_size for path in (out / "found").rglob("*") if path.is_file()),
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
