"""How long `import leadline` and `leadline --help` take, each in a fresh process, against a bare interpreter.

    .venv/bin/python benchmarks/import_time.py

The median of several runs; the target is 0.2 s for the import, above what the interpreter itself needs.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time

N_RUNS = 11
COMMANDS = {
    "interpreter": ["-c", "pass"],
    "import_leadline": ["-c", "import leadline"],
    "help": ["-m", "leadline", "--help"],
    "import_torch": ["-c", "import torch"],
}


def seconds(arguments: list[str], n_runs: int) -> float:
    """The median time of a fresh interpreter with these arguments; one run before warms the disk cache."""
    times = []
    for _ in range(n_runs + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Time, print, and end with one JSON object."""
    found = {name: seconds(arguments, 3 if "torch" in name else N_RUNS) for name, arguments in COMMANDS.items()}
    for name, value in found.items():
        print(f"{name:<16}{value:7.3f} s")
    record = {
        "benchmark": "import_time",
        "seconds": round(found["import_leadline"] - found["interpreter"], 4),
        "help_seconds": round(found["help"] - found["interpreter"], 4),
        "torch_seconds": round(found["import_torch"] - found["interpreter"], 4),
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
