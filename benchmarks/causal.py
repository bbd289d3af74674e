"""What interventions cost: steering while generating, patching maps, and a dose-response study, each beside a loop.

    .venv/bin/python benchmarks/causal.py [--rounds 3] [--pairs 8] [--prompts 200] [--quick]

SmolLM2-135M-Instruct in float32. *Steering*: `intervene` with one direction at one site and all tokens around the
model's own `generate`, against `generate` alone, in turns (plain, steered, steered, plain); the same number of tokens
is generated. *Patching*: `attribution_patching` of all (site, token) cells of pairs that differ in the number of the
subject, against the loop as people write it, one whole pass a cell with a hook, on some pairs, extrapolated; our own
exact map is timed too, must agree with the loop, and gives the rank correlation. *Dose and response*: `run_plans` with
5 strengths on all prompts, encoding included, against one prompt and strength at a time, and against the same loop in
padded batches of 32, both on some of the prompts, extrapolated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from leadline import load_dataset, load_model
from leadline.causal import Add, Plan, activation_patching, attribution_patching, intervene, rank_correlation, run_plans
from leadline.causal.examples import Examples, prompts
from leadline.models import Model
from machine import describe_machine
from report import rounded, write
from texts import SHARED

SITE, DOSE = "resid_post.15", 0.05
STRENGTHS = (-0.2, -0.1, 0.05, 0.1, 0.2)
MAPPED = "resid_post.* attn_out.* mlp_out.*"
MAPPED_QUICK = "resid_post.10 attn_out.20 mlp_out.5"
TEMPLATE, TRUE, FALSE = "{text} This statement is", " true", " false"
BATCH = 32


def seconds(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Of the wall and of the processor, and what the run gave."""
    wall, processor = time.perf_counter(), time.process_time()
    found = run()
    return time.perf_counter() - wall, time.process_time() - processor, found


def unit_vector(d: int) -> np.ndarray:
    vector = np.random.default_rng(0).standard_normal(d)
    return vector / np.linalg.norm(vector)


# ---- steering


def steering(model: Model, texts: Sequence[str], n_tokens: int, rounds: int) -> dict[str, object]:
    """Overheads of the wall and of the processor: medians over rounds of steered / plain − 1."""
    tokenizer: Any = model.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    inputs = tokenizer(list(texts), return_tensors="pt", padding=True)
    options = {"do_sample": False, "min_new_tokens": n_tokens, "max_new_tokens": n_tokens}
    options["pad_token_id"] = tokenizer.pad_token_id
    add = Add(unit_vector(model.d_model), DOSE, site=SITE)

    def plain() -> torch.Tensor:
        with torch.inference_mode():
            return model.module.generate(**inputs, **options)

    def steered() -> torch.Tensor:
        with intervene(model, add):
            return plain()

    before, after = plain(), steered()
    width = inputs["input_ids"].shape[1] + n_tokens
    assert before.shape == after.shape == (len(texts), width), "other numbers of tokens were generated"
    with intervene(model, Add(unit_vector(model.d_model), 0.0, site=SITE)):
        assert torch.equal(plain(), before), "at dose 0 other tokens were generated"
    ratios: list[tuple[float, float]] = []
    times: dict[str, list[float]] = {"plain": [], "steered": []}
    for _ in range(rounds):
        taken: dict[str, list[tuple[float, float]]] = {"plain": [], "steered": []}
        for name, run in (("plain", plain), ("steered", steered), ("steered", steered), ("plain", plain)):
            taken[name].append(seconds(run)[:2])
        for name, own in taken.items():
            times[name] += [wall for wall, _ in own]
        sums = {name: np.sum(own, axis=0) for name, own in taken.items()}
        ratios.append(tuple(sums["steered"] / sums["plain"] - 1))
    wall, processor = (statistics.median(own) for own in zip(*ratios, strict=True))
    per_second = {name: len(texts) * n_tokens / statistics.median(own) for name, own in times.items()}
    print(
        f"generation, batch of {len(texts):>2}: {per_second['plain']:8.1f} tokens/s plain, "
        f"{per_second['steered']:8.1f} steered; overhead {wall:+.2%} of the wall ({processor:+.2%} of the processor), "
        f"rounds {min(r for r, _ in ratios):+.1%} to {max(r for r, _ in ratios):+.1%}"
    )
    return {
        "batch": len(texts),
        "overhead": wall,
        "overhead_processor": processor,
        "rounds": [wall for wall, _ in ratios],
        "tokens_per_second": per_second,
    }


# ---- patching


def number_pairs(model: Model, n: int) -> tuple[Examples, list[str]]:
    """Prompts that go on with a verb, and the same with the subject's other number."""
    file = SHARED / "agreement" / "nounpp_test.jsonl"
    if file.is_file():
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    else:
        nouns, places = ("boy", "girl", "doctor", "teacher", "farmer", "dog"), ("car", "house", "tree", "door")
        rows = [
            {"clean_prefix": f"The {noun} near the {place}", "patch_prefix": f"The {noun}s near the {place}"}
            | {"clean_answer": " is", "patch_answer": " are"}
            for place in places
            for noun in nouns
        ]
    # Some words have more tokens in their plural.
    rows = [r for r in rows if len({len(own) for own in model.encode([r["clean_prefix"], r["patch_prefix"]])}) == 1][:n]
    examples = prompts(
        model,
        [row["clean_prefix"] for row in rows],
        positive=[[row["patch_answer"]] for row in rows],
        negative=[[row["clean_answer"]] for row in rows],
    )
    return examples, [row["patch_prefix"] for row in rows]


def module_of(model: Model, site: str) -> Any:
    kind, layer = site.split(".")
    block = model.module.model.layers[int(layer)]
    return {"resid_post": block, "attn_out": block.self_attn, "mlp_out": block.mlp}[kind]


@contextmanager
def hooked(module: Any, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """A hook as it is written by hand."""

    def hook(_: Any, __: Any, output: Any) -> Any:
        new = change(output[0] if isinstance(output, tuple) else output)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def patching_loop(model: Model, clean: str, other: str, answers: tuple[int, int], sites: Sequence[str]) -> np.ndarray:
    """(S, tokens) by one whole pass for each cell."""
    tokenizer: Any = model.tokenizer
    ids, source_ids = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (clean, other))
    kept: dict[str, torch.Tensor] = {}

    def odds(ids: torch.Tensor) -> float:
        logits = model.module(input_ids=ids).logits[0, -1]
        return float(logits[answers[0]] - logits[answers[1]])

    with torch.inference_mode():
        for site in sites:

            def keep(x: torch.Tensor, site: str = site) -> None:
                kept[site] = x

            with hooked(module_of(model, site), keep):
                model.module(input_ids=source_ids)
        before = odds(ids)
        found = np.empty((len(sites), ids.shape[1]))
        for s, site in enumerate(sites):
            for k in range(ids.shape[1]):

                def put(x: torch.Tensor, site: str = site, k: int = k) -> torch.Tensor:
                    x = x.clone()
                    x[:, k] = kept[site][:, k]
                    return x

                with hooked(module_of(model, site), put):
                    found[s, k] = odds(ids) - before
    return found


def patching(model: Model, mapped: str, n_pairs: int, n_looped: int, repeats: int) -> dict[str, float]:
    """Seconds of both maps and of the loop, and how far they agree."""
    examples, others = number_pairs(model, n_pairs)
    attribution_patching(model, examples.take([0, 1]), others[:2], sites="resid_post.15")
    taken = []
    for _ in range(repeats):
        wall, _, estimate = seconds(lambda: attribution_patching(model, examples, others, sites=mapped))
        taken.append(wall)
    exact_seconds, _, exact = seconds(lambda: activation_patching(model, examples, others, sites=mapped))
    sites = [site.name for site in exact.sites]
    looped, worst = 0.0, 0.0
    for i in range(n_looped):
        answers = examples.positive[i][0][0], examples.negative[i][0][0]
        wall, _, found = seconds(lambda i=i, a=answers: patching_loop(model, examples.texts[i], others[i], a, sites))
        looped += wall
        worst = max(worst, float(np.abs(found - exact.values[i, :, -found.shape[1] :]).max()))
    ours, loop = statistics.median(taken), looped * len(examples) / n_looped
    agreement = rank_correlation(exact, estimate)
    print(
        f"patching, {len(sites)} sites x {len(exact.tokens)} tokens x {len(examples)} pairs: attribution {ours:.2f} s, "
        f"exact {exact_seconds:.1f} s, loop {loop:.0f} s (from {n_looped} pairs); attribution {loop / ours:.0f} times "
        f"and exact {loop / exact_seconds:.1f} times as fast as the loop"
    )
    print(
        f"  exact against loop: {worst:.1e} at most, of an effect of {exact.total.estimate()}; rank correlation of the "
        f"mean maps {agreement.of_means:.3f} ({agreement.n_cells} cells), of single pairs {agreement.by_pair}"
    )
    error = np.abs(exact.mean.value - estimate.mean.value)
    streams = np.array([site.name.startswith("resid_post") for site in exact.sites])
    print(
        f"  mean error of the estimate: {error[streams].mean():.3f} in streams, {error[~streams].mean():.3f} elsewhere"
    )
    return {
        "attribution_seconds": ours,
        "exact_seconds": exact_seconds,
        "loop_seconds": loop,
        "attribution_speedup": loop / ours,
        "exact_speedup": loop / exact_seconds,
        "rank_correlation": agreement.of_means,
        "rank_correlation_by_pair": agreement.by_pair.value,
        "worst_difference_to_loop": worst,
        "n_pairs": len(examples),
        "n_looped": n_looped,
    }


# ---- dose and response


def ours_in_one_job(model: Model, texts: Sequence[str], vector: np.ndarray) -> np.ndarray:
    """(strengths, n) log odds, from texts on."""
    examples = prompts(model, texts, template=TEMPLATE, positive=(TRUE,), negative=(FALSE,))
    plans = [Plan(Add(vector, s, site=SITE, tokens="last@span:text")) for s in STRENGTHS]
    return run_plans(model, examples, plans).logit_difference


def one_at_a_time(model: Model, texts: Sequence[str], vector: np.ndarray, batch: int = 1) -> np.ndarray:
    """The same with a hook by hand, a strength and so many prompts a pass, padded on the right."""
    tokenizer: Any = model.tokenizer
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    yes, no = (tokenizer(answer)["input_ids"][0] for answer in (TRUE, FALSE))
    v = torch.from_numpy(vector).float()
    found = np.empty((len(STRENGTHS), len(texts)))
    with torch.inference_mode():
        for s, strength in enumerate(STRENGTHS):
            for start in range(0, len(texts), batch):
                some = texts[start : start + batch]
                inputs = tokenizer([TEMPLATE.format(text=text) for text in some], return_tensors="pt", padding=True)
                at = torch.tensor([len(tokenizer(text)["input_ids"]) - 1 for text in some])
                rows = torch.arange(len(some))

                def add(
                    x: torch.Tensor, at: torch.Tensor = at, rows: torch.Tensor = rows, strength: float = strength
                ) -> torch.Tensor:
                    x = x.clone()
                    h = x[rows, at]
                    x[rows, at] = h + strength * h.norm(dim=-1, keepdim=True) * v
                    return x

                with hooked(module_of(model, SITE), add):
                    logits = model.module(**inputs).logits
                last = logits[rows, inputs["attention_mask"].sum(dim=1) - 1]
                found[s, start : start + len(some)] = (last[:, yes] - last[:, no]).numpy()
    return found


def dose_response(model: Model, texts: Sequence[str], n_looped: int, repeats: int) -> dict[str, float]:
    """Seconds of the job and of both loops, which run the first prompts alone, and how far they agree."""
    vector = unit_vector(model.d_model)
    ours_in_one_job(model, texts[:4], vector)
    taken = []
    for _ in range(repeats):
        wall, _, got = seconds(lambda: ours_in_one_job(model, texts, vector))
        taken.append(wall)
    batched, _, in_batches = seconds(lambda: one_at_a_time(model, texts[:n_looped], vector, BATCH))
    single, _, alone = seconds(lambda: one_at_a_time(model, texts[:n_looped], vector))
    batched, single = (spent * len(texts) / n_looped for spent in (batched, single))
    ours = statistics.median(taken)
    worst = float(np.abs(got[:, :n_looped] - alone).max())
    print(
        f"dose and response, {len(STRENGTHS)} strengths x {len(texts)} prompts: one job {ours:.2f} s "
        f"({', '.join(f'{s:.2f}' for s in taken)}), one prompt at a time {single:.1f} s ({single / ours:.1f} times), "
        f"batches of {BATCH} {batched:.1f} s ({batched / ours:.1f} times; loops from {n_looped} prompts)"
    )
    print(f"  largest difference of log odds {worst:.1e}, of the batches {np.abs(in_batches - alone).max():.1e}")
    return {
        "seconds": ours,
        "loop_seconds": single,
        "batched_loop_seconds": batched,
        "speedup": single / ours,
        "speedup_vs_batches": batched / ours,
        "worst_difference": worst,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of plain and steered generation in turns")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of the patching maps")
    parser.add_argument("--looped", type=int, default=1, help="pairs that the patching loop runs")
    parser.add_argument("--prompts", type=int, default=200, help="prompts of the dose-response study")
    parser.add_argument("--looped-prompts", type=int, default=80, help="prompts that the loops run")
    parser.add_argument("--repeats", type=int, default=2, help="runs of ours; the median counts")
    parser.add_argument("--quick", action="store_true", help="a smoke run; no figure of it counts")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.pairs, options.looped, options.repeats = 1, 2, 1, 1
        options.prompts = options.looped_prompts = 8
    busy = os.getloadavg()[0]
    print(", ".join(f"{key} {value}" for key, value in describe_machine().items()))
    if busy > 0.5:
        print(f"warning: the machine was busy already (load {busy:.1f}); times are not to be relied on")
    model = load_model("smollm2-135m", dtype="float32", device="cpu")
    texts = list(load_dataset("city-facts").sample(options.prompts, seed=0).texts)
    n_tokens = 8 if options.quick else 24
    generations = [steering(model, texts[:size], n_tokens, options.rounds) for size in (1, 16)]
    maps = patching(model, MAPPED_QUICK if options.quick else MAPPED, options.pairs, options.looped, options.repeats)
    doses = dose_response(model, texts, min(options.looped_prompts, len(texts)), options.repeats)
    record = {
        "benchmark": "causal",
        "steering_overhead": rounded(max(float(one["overhead"]) for one in generations)),
        "attribution_speedup": rounded(maps["attribution_speedup"]),
        "attribution_rank_correlation": rounded(maps["rank_correlation"]),
        "dose_response_speedup": rounded(doses["speedup"]),
        "exact_patching_speedup": rounded(maps["exact_speedup"]),
        "load_before": rounded(busy),
        "quick": options.quick,
    }
    details = {"steering": generations, "patching": maps, "dose_response": doses}
    write("causal_quick" if options.quick else "causal", record, details)


if __name__ == "__main__":
    main()
