"""Everybody's extraction of the same texts, in turn: who takes how long, and whose vectors are ours.

Each turn is a process of its own, in the environment of its side (see `calls/extraction_run.py`).
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from calls.extraction import SIDES
from rivals import RivalFailed, ask

__all__ = ["measure_peers", "relative_errors"]

OURS = "leadline"
# Vectors of float32 that are further off, relative to a row's norm, are not of the same computation.
SAME = 1e-3
N_WARM = 8


def relative_errors(found: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """(n,) the distance of rows, relative to ours."""
    return np.asarray(np.linalg.norm(found - ours, axis=1) / np.maximum(np.linalg.norm(ours, axis=1), 1e-30))


def one_turn(side: str, dtype: str | None, job: dict[str, Any], limit: float, keep: Path | None) -> dict[str, Any]:
    """One side's answer, or why there is none."""
    # What transformers does alone needs no environment of its own.
    rival = "leadline" if side == "hidden-states" else side
    with tempfile.TemporaryDirectory() as out:
        own = {"side": side, "dtype": dtype, "out": out, "keep": None if keep is None else str(keep)}
        try:
            return ask(rival, "calls.extraction_run", {**job, **own}, limit)
        except RivalFailed as error:
            return {"reason": str(error)}


def measure_round(
    dtype: str | None, job: dict[str, Any], n_tokens: int, repeats: int, limit: float, folder: Path
) -> dict[str, dict[str, Any]]:
    """All sides at a dtype, or each at its own."""
    found: dict[str, dict[str, Any]] = {}
    names = list(SIDES)
    for i in range(repeats):
        for side in names[i % len(names) :] + names[: i % len(names)]:
            if "reason" in found.get(side, {}):
                continue
            first = side not in found
            answer = one_turn(side, dtype, job, limit, folder / f"{side}-{dtype}.npz" if first else None)
            before = found.get(side, {}).get("times", [])
            print(
                f"  {side}: {answer['reason'] if 'reason' in answer else format(answer['seconds'], '.2f')}", flush=True
            )
            found[side] = answer if "reason" in answer else {**answer, "times": [*before, answer["seconds"]]}
    for part in found.values():
        if "reason" not in part:
            part["seconds"] = statistics.median(part["times"])
            part["tokens_per_second"] = n_tokens / part["seconds"]
    return found


def compare(found: dict[str, dict[str, Any]], dtype: str | None, folder: Path) -> None:
    """Add to every side how far its vectors are from ours: `worst_error` and `worst_cosine`, over the sites of both."""
    if "reason" in found[OURS]:
        return
    with np.load(folder / f"{OURS}-{dtype}.npz") as ours:
        for side, part in found.items():
            if side == OURS or "reason" in part:
                continue
            with np.load(folder / f"{side}-{dtype}.npz") as theirs:
                names = [name for name in theirs.files if name in ours.files]
                pairs = [(theirs[name], ours[name]) for name in names]
            part["sites"] = len(names)
            part["worst_error"] = max(float(relative_errors(a, b).max()) for a, b in pairs)
            norms = [np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) for a, b in pairs]
            part["worst_cosine"] = min(
                float(((a * b).sum(axis=1) / norm).min()) for (a, b), norm in zip(pairs, norms, strict=True)
            )


def fastest(found: dict[str, dict[str, Any]], wrong: set[str]) -> tuple[float, str] | tuple[None, None]:
    """How many times as fast as the fastest peer ours is, and which that is."""
    peers = {side: part for side, part in found.items() if side != OURS and "reason" not in part and side not in wrong}
    if not peers or "reason" in found[OURS]:
        return None, None
    best = min(peers, key=lambda side: peers[side]["seconds"])
    return peers[best]["seconds"] / found[OURS]["seconds"], best


def show_peers(title: str, found: dict[str, dict[str, Any]]) -> None:
    """One round's table."""
    print(f"\n{title}")
    print(f"{'':<18}{'dtype':>10}{'seconds':>9}{'tokens/s':>10}{'ratio':>7}{'memory more':>13}{'error to ours':>15}")
    ours = found[OURS].get("seconds", float("nan"))
    for side, part in found.items():
        if "reason" in part:
            print(f"{side:<18} failed: {part['reason']}")
            continue
        error = "" if side == OURS else format(part.get("worst_error", float("nan")), ".1e")
        more = "unknown" if part["peak_more"] is None else f"{part['peak_more'] / 2**20:,.0f} MiB"
        print(
            f"{side:<18}{part['dtype']:>10}{part['seconds']:>9.2f}{part['tokens_per_second']:>10,.0f}"
            f"{part['seconds'] / ours:>7.2f}{more:>13}{error:>15}"
        )
    for side, part in found.items():
        if "reason" not in part:
            print(f"  {side}: {part['settings']}")


def measure_peers(
    texts: list[str], n_tokens: int, source: Path, repeats: int, limit: float, folder: Path
) -> dict[str, Any]:
    """All rounds; `speedup_vs_fastest_peer` and its like at the same dtype."""
    job = {"folder": str(source), "texts": texts, "n_warm": N_WARM}
    print(f"\npeers: {len(texts):,} rows, {n_tokens:,} tokens")
    rounds: dict[str, dict[str, dict[str, Any]]] = {
        "defaults": measure_round(None, job, n_tokens, repeats, limit, folder)
    }
    dtypes = {part["dtype"] for part in rounds["defaults"].values() if "reason" not in part}
    compare(rounds["defaults"], None, folder)
    if len(dtypes) == 1:
        rounds[dtypes.pop()] = rounds["defaults"]
    for dtype in sorted(dtypes, reverse=True):
        rounds[dtype] = measure_round(dtype, job, n_tokens, repeats, limit, folder)
        compare(rounds[dtype], dtype, folder)
    # Rounding in other dtypes is everybody's own; in float32 they agree, or compute something else.
    exact = rounds.get("float32", {})
    wrong = {side for side, part in exact.items() if not part.get("worst_error", 0) <= SAME}
    for side in sorted(wrong):
        print(f"  {side} is no peer: its vectors are off by {exact[side]['worst_error']:.1e}")
    same: dict[str, float | None] = {}
    for name, found in rounds.items():
        if name == "defaults" or found is not rounds["defaults"]:
            show_peers(f"{name}:", found)
        if name != "defaults":
            same[name], _ = fastest(found, wrong)
    ratio, best = fastest(rounds["defaults"], wrong)
    return {"speedup": ratio, "fastest": best, "same_dtype": same, "rounds": rounds, "no_peers": sorted(wrong)}
