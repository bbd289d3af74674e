"""What a run's folder keeps of its results."""

from __future__ import annotations

from pathlib import Path

from leadline.files import replace_atomic, write_atomic
from leadline.study import describe
from leadline.study.results import Results

__all__ = ["write_results"]


def write_results(results: Results, folder: Path) -> None:
    """Write `results.parquet`, then `results.json`, each whole or not at all."""
    with replace_atomic(folder / "results.parquet") as temporary:
        describe.long_table(results).write_parquet(temporary)
    write_atomic(folder / "results.json", results.model_dump_json(indent=1))
