"""What the benchmarks of the fits share in the telling: turns, tables, and the JSON with the machine's description."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from inputs import GENERATED, QUICK
from machine import describe_machine
from rivals import Outcome

__all__ = ["Side", "arguments", "peers_of", "ratios", "rounded", "show", "take_turns", "write"]

RESULTS = Path(__file__).parent / "results"
# A side whose worst objective is further off than this did not solve the problem.
SOLVED = 0.1
SIZES = (*GENERATED, *QUICK)
QUICKEST = next(iter(QUICK))


@dataclass
class Side:
    """One side of a comparison at one size.

    Attributes
    ----------
    seconds : of all fits, extrapolated where `measured`, those of the sample, are fewer.
    gap : the worst over the certified fits; NaN where its scheme has no objective of ours to compare.
    note : what else is to be said. reason : why it failed; empty if it did not.
    """

    name: str
    seconds: float = float("nan")
    measured: float = float("nan")
    gap: float = float("nan")
    unconverged: int = 0
    settings: str = ""
    note: str = ""
    reason: str = ""
    peak_bytes: float = float("nan")
    repeats: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, outcome: Outcome, factor: float) -> Side:
        """From a rival's call."""
        if outcome.failed:
            return cls(name, reason=outcome.reason)
        return cls(
            name,
            seconds=outcome.seconds * factor,
            measured=outcome.seconds,
            unconverged=int(outcome.arrays.get("unconverged", np.array(0))),
            settings=outcome.settings,
            peak_bytes=outcome.peak_bytes,
        )


def arguments(description: str | None, sizes: str, more: Sequence[tuple[str, int, str]] = ()) -> argparse.Namespace:
    """The options that the benchmarks of the fits have, and `more` numbers: (name, default, help)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=sizes, help=f"comma-separated, of demo, {', '.join(SIZES)}")
    parser.add_argument("--quick", action="store_true", help=f"a smoke run at {QUICKEST} alone; no figure of it counts")
    parser.add_argument("--sample", type=int, default=3, help="sites (and targets) that the rivals fit")
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours; the median counts")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which a rival's call has failed")
    parser.add_argument("--folder", default=None, help="a store of the demo's activations to use")
    for name, default, words in more:
        parser.add_argument(name, type=int, default=default, help=words)
    options = parser.parse_args()
    options.sizes = [QUICKEST] if options.quick else options.sizes.split(",")
    busy = os.getloadavg()[0]
    print(", ".join(f"{key} {value}" for key, value in describe_machine().items()))
    if busy > 0.5:
        print(f"warning: the machine was busy already (load {busy:.1f}); times are not to be relied on")
    return options


def take_turns(
    ours: Callable[[], object], rivals: Mapping[str, Callable[[], Outcome]], repeats: int
) -> tuple[list[float], object, dict[str, Outcome]]:
    """Run ours between the rivals, `repeats` times at least, so that a machine that warms up or slows favours nobody.

    Returns
    -------
    our seconds, what our last run gave, and the rivals' outcomes.
    """
    seconds: list[float] = []
    found: object = None
    outcomes: dict[str, Outcome] = {}

    def once() -> None:
        nonlocal found
        began = time.perf_counter()
        found = ours()
        seconds.append(time.perf_counter() - began)

    waiting = list(rivals)
    # Spread over the rivals; the rest of the repeats stand at the front.
    for i in range(max(repeats, 1)):
        once()
        share = len(waiting) if i == repeats - 1 else max(1, len(rivals) // max(repeats, 1))
        for name in waiting[:share]:
            outcomes[name] = rivals[name]()
            print(f"  {name}: {outcomes[name].reason or f'{outcomes[name].seconds:.3f} s'}", flush=True)
        waiting = waiting[share:]
    return seconds, found, outcomes


def show(title: str, ours: Side, rivals: list[Side], figures: str = "worst objective gap") -> None:
    """One table, ours first."""
    print(f"\n{title}")
    print(f"{'':<28}{'measured s':>11}{'all fits s':>11}{'ratio':>8}{figures:>22}{'not converged':>15}")
    for side in (ours, *rivals):
        if side.reason:
            print(f"{side.name:<28} failed: {side.reason}")
            continue
        gap = "its own scheme" if np.isnan(side.gap) else f"{side.gap:.1e}"
        failed = "unknown" if side.unconverged < 0 else str(side.unconverged)
        ratio = side.seconds / ours.seconds
        print(f"{side.name:<28}{side.measured:>11.3f}{side.seconds:>11.3f}{ratio:>8.1f}{gap:>22}{failed:>15}")
    for side in (ours, *rivals):
        if side.settings or side.note:
            print(f"  {side.name}: {'; '.join(part for part in (side.settings, side.note) if part)}")


def peers_of(rivals: list[Side]) -> list[Side]:
    """The rivals that ran, and solved the problem where that can be said."""
    return [side for side in rivals if not side.reason and not side.gap > SOLVED]


def ratios(ours: Side, rivals: list[Side], default: str) -> dict[str, object]:
    """`speedup_vs_sklearn` (the side named `default`), `speedup_vs_fastest_peer`, `fastest_peer`; None if none ran."""
    peers = peers_of(rivals)
    fastest = min(peers, key=lambda side: side.seconds) if peers else None
    usual = next((side for side in rivals if side.name == default and not side.reason), None)
    return {
        "speedup_vs_sklearn": rounded(usual.seconds / ours.seconds) if usual else None,
        "speedup_vs_fastest_peer": rounded(fastest.seconds / ours.seconds) if fastest else None,
        "fastest_peer": fastest.name if fastest else None,
    }


def rounded(value: float, digits: int = 3) -> float:
    """To significant digits."""
    return float(f"{value:.{digits}g}")


def write(name: str, record: Mapping[str, object], details: Mapping[str, object]) -> None:
    """Write `results/NAME.json`, and print the record as the last line."""
    stamp = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "threads": torch.get_num_threads()}
    RESULTS.mkdir(exist_ok=True)
    whole = {**record, "details": details, **stamp, "machine": describe_machine()}
    # NaN is no JSON.
    text = json.dumps(_plain(whole), indent=1, allow_nan=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(json.dumps(_plain(record), allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Side):
        return _plain(vars(value))
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
