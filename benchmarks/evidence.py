"""How long all default evidence for the demo takes after extraction, stage by stage.

    .venv/bin/python benchmarks/evidence.py [--repeats 2] [--quick]

The demo study runs once, which extracts, and then again on the same stores; what the later runs take is the evidence:
every site × penalty × fold, the bootstrap, the permutation test, the surface baselines and every default measure. What
only finds its stores again is left out of the sum and shown apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from leadline.study.config import StudyConfig
from leadline.study.run import run_study
from machine import describe_machine

RESULTS = Path(__file__).parent / "results"


def stages(folder: Path, sample: int | None) -> dict[str, float]:
    """Seconds of each stage of one run, in order; stages of one name are added up."""
    data = {"name": "city-facts", "sample": sample}
    config = StudyConfig.from_mapping({"model": "smollm2-135m", "data": data, "out": str(folder)})
    found: dict[str, float] = {}
    for one in run_study(config).results.provenance.stages:
        found[one.name] = found.get(one.name, 0.0) + one.seconds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="runs after the one that extracts")
    parser.add_argument("--quick", action="store_true", help="120 rows, one repeat: to see that it runs")
    options = parser.parse_args()
    sample, repeats = (120, 1) if options.quick else (None, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        first = stages(Path(folder) / "demo", sample)
        runs = [stages(Path(folder) / "demo", sample) for _ in range(repeats)]
    reading = ("extract", "surface", "data", "load", "model")
    median = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[0]}
    evidence = {name: s for name, s in median.items() if not name.startswith(reading)}
    for name, seconds in sorted(evidence.items(), key=lambda pair: -pair[1]):
        print(f"{name:<28}{seconds:8.1f} s")
    total = sum(evidence.values())
    print(f"{'all evidence':<28}{total:8.1f} s  (asked: 120; median of {repeats})")
    apart = {name: s for name, s in median.items() if name.startswith(reading)}
    print(
        "not counted: "
        + ", ".join(f"{name} {s:.1f} s (first time {first.get(name, 0):.1f})" for name, s in apart.items())
    )
    result = {
        "benchmark": "evidence",
        "machine": describe_machine(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "evidence_seconds": round(total, 2),
        "stages": {name: round(s, 2) for name, s in median.items()},
        "first_run": {name: round(s, 2) for name, s in first.items()},
        "runs": len(runs),
        "quick": options.quick,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evidence.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
