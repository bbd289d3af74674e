"""The machine that a benchmark ran on; run by itself it prints it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, object]:
    """Processor, cores, threads and versions, ready for JSON."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(describe_machine()))
