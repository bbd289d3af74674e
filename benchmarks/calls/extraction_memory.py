"""One extraction of many short rows, for its memory; a process of its own, since a peak is a process's.

    PYTHON -m calls.extraction_memory JOB.json ANSWER.json          (in benchmarks/)

The job: `n_rows`, `folder` of a tokenizer and `out` (an empty folder). The model is a Llama of random weights, 4 blocks
of width 64, so that 100,000 rows take a minute or two: what grows with the rows (the data set, their token ids, the
plan, what waits to be written) is the same for a large model, whose own weights come on top.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from rivals_run import forget_peak, memory

D_MODEL, N_LAYERS = 64, 4
WORDS = ("river", "stone", "garden", "window", "teacher", "market", "winter", "letter", "bridge", "candle", "orange")


def small_model(folder: str) -> Any:
    """A Leadline model of random weights, with a real tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from leadline import load_model

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        intermediate_size=2 * D_MODEL,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return load_model(LlamaForCausalLM(config).eval(), tokenizer=tokenizer)


def short_rows(n: int) -> list[dict[str, object]]:
    """Rows of six to nine words, no two equal."""
    rng = random.Random(0)
    return [
        {"text": f"The {' '.join(rng.choices(WORDS, k=rng.randint(3, 6)))} of {i} is here.", "label": i % 2}
        for i in range(n)
    ]


def main() -> None:
    """Extract, and say how much memory it took."""
    if len(sys.argv) != 3:
        print(__doc__)
        return
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    from leadline import extract
    from leadline.data import Dataset

    model = small_model(job["folder"])
    extract(model, Dataset.from_rows(short_rows(64), target="label", name="warm"), out=Path(job["out"], "warm"))
    loaded = memory("VmRSS")
    data = Dataset.from_rows(short_rows(job["n_rows"]), target="label", name="short rows")
    with_data = memory("VmRSS")
    known = forget_peak()
    began = time.perf_counter()
    acts = extract(model, data, out=Path(job["out"], "store"))
    seconds = time.perf_counter() - began
    answer = {
        "n_rows": acts.n_rows,
        "seconds": seconds,
        "rss_loaded": loaded,
        "rss_with_data": with_data,
        "peak_rss": memory("VmHWM") if known else None,
        "rss_after": memory("VmRSS"),
        "store_bytes": sum(path.stat().st_size for path in Path(job["out"], "store").iterdir()),
        "sites": len(acts.sites),
        "model": f"Llama of random weights, {N_LAYERS} blocks of width {D_MODEL}",
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
