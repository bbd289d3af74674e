"""Whether "used" and "where from" are right: planted transformers, and the rate of false "used" where nothing reads it.

Cases are what one would run; draws are small, few examples and a tiny transformer, and made by the hundred. Beside them
stands the field's habit as a peer: exchange along the direction, and call it used if the answers move.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from leadline.errors import CausalError, LeadlineError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.testing import planted_causal as plant
from leadline.testing.causal_judge import JudgedUse, judge_use
from leadline.testing.evidence_bench import TARGET_RATE, CaseResult, NullResult
from leadline.testing.planted_causal import PlantedUse
from leadline.testing.workers import in_processes

__all__ = ["USE_CASES", "USE_NULLS", "CausalBench", "UseCase", "run_causal_bench"]


@dataclass(frozen=True)
class UseCase:
    """A planted transformer, or a family of them on which "used" is false: its name, and from a seed the transformer.

    `about` says of a family why one might claim it all the same.
    """

    name: str
    make: Callable[[int], PlantedUse]
    about: str = ""


USE_CASES: tuple[UseCase, ...] = (
    UseCase("used", plant.used),
    UseCase("used: one head among decoys", plant.one_head_of_many),
    UseCase("idle: nothing reads it", plant.idle),
    UseCase("idle: the answer follows it by another route", plant.another_route),
    UseCase("nonlinear: the site is used, no direction is", plant.nonlinear),
    UseCase("dormant: an illusion of subspaces", plant.dormant),
)

USE_NULLS: tuple[UseCase, ...] = (
    UseCase("read like noise", plant.read_like_noise, "random weights read it as they read anything else"),
    UseCase("idle, draws", partial(plant.idle, size=plant.DRAW), "a weak or strong copy, answers that vary"),
    UseCase("another route, draws", partial(plant.another_route, size=plant.DRAW), "the answers follow the label"),
    UseCase("dormant, draws", partial(plant.dormant, size=plant.DRAW), "an edit along the direction moves the answers"),
)

_PER_TASK = {"case": 2, "null": 20}
# In a draw and in a case: random directions of each kind.
_N_RANDOM = 99


@dataclass(frozen=True)
class CausalBench:
    """All cases and null families, and whether the targets were met."""

    cases: tuple[CaseResult, ...]
    nulls: tuple[NullResult, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of runs on planted cases that are right; NaN without cases."""
        n = sum(case.n for case in self.cases)
        return sum(case.n_right for case in self.cases) / n if n else float("nan")

    @property
    def too_high(self) -> tuple[NullResult, ...]:
        """The null families on which "used" is supported more often than `TARGET_RATE`, beyond chance."""
        return tuple(null for null in self.nulls if null.rate.low > TARGET_RATE)

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "false_used_rate": {
                null.name: {
                    "rate": null.rate.value,
                    "k": null.n_supported,
                    "n": null.n,
                    "clopper_pearson": [null.rate.low, null.rate.high],
                    "verdicts": dict(null.words),
                    "peer_k": null.peer_supported,
                }
                for null in self.nulls
            },
            "planted_accuracy": {case.name: case.accuracy for case in self.cases},
            "verdicts": {case.name: {claim: dict(words) for claim, words in case.words.items()} for case in self.cases},
            "accuracy": self.accuracy if self.cases else None,
            "peer_accuracy": {c.name: c.peer_right / c.n for c in self.cases if c.peer_right is not None},
            "wrong": {case.name: list(case.wrong) for case in self.cases if case.wrong},
            "n_cases": len(self.cases),
            "n_runs": sum(case.n for case in self.cases),
            "n_draws": sum(null.n for null in self.nulls),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class _Task:
    what: str
    name: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class _Run:
    what: str
    name: str
    seed: int
    planted_about: str
    allowed: dict[str, frozenset[str]]
    judged: JudgedUse


def run_causal_bench(
    cases: Sequence[str] | None = None,
    *,
    seeds: int = 10,
    draws: int = 200,
    workers: int = 2,
    events: EventSink = SILENT,
) -> CausalBench:
    """Run planted transformers and null families.

    Parameters
    ----------
    cases : those cases and null families alone whose name holds one of these words; all by default.
    seeds : of each case; 0 leaves the cases out. draws : of each null family; 0 leaves them out.
    workers : processes; 1 is this one alone.
    events : receives progress, in runs.

    Raises
    ------
    CausalError : a word that stands in no name, or nothing to run.
    """
    if seeds < 0 or draws < 0 or workers < 1:
        raise CausalError(
            f"got {seeds} seeds, {draws} draws and {workers} workers; expected 0 or more, 0 or more, 1 or more."
        )
    named = _chosen(cases)
    chosen_cases = [case for case in USE_CASES if case.name in named and seeds]
    chosen_nulls = [null for null in USE_NULLS if null.name in named and draws]
    tasks = [
        *(task for case in chosen_cases for task in _tasks("case", case.name, seeds)),
        *(task for null in chosen_nulls for task in _tasks("null", null.name, draws)),
    ]
    if not tasks:
        raise CausalError("there is nothing to run; ask for some seeds of cases or some draws of null families.")
    began = time.perf_counter()
    total = sum(len(task.seeds) for task in tasks)
    runs: dict[tuple[str, str], list[_Run]] = {}
    done = 0
    with stage(events, "bench", f"{len(chosen_cases)} cases, {len(chosen_nulls)} null families", total, "runs"):
        for found in in_processes(_run, tasks, workers):
            for run in found:
                runs.setdefault((run.what, run.name), []).append(run)
            done += len(found)
            events.emit(Event("progress", "bench", found[0].name, done=done, total=total, unit="runs"))
    return CausalBench(
        cases=tuple(_case_result(case, runs["case", case.name]) for case in chosen_cases),
        nulls=tuple(_null_result(null, runs["null", null.name]) for null in chosen_nulls),
        seconds=time.perf_counter() - began,
    )


def _chosen(words: Sequence[str] | None) -> set[str]:
    names = [one.name for one in (*USE_CASES, *USE_NULLS)]
    if not words:
        return set(names)
    lost = [word for word in words if not any(word.lower() in name.lower() for name in names)]
    if lost:
        raise CausalError(f"no case or null family is called '{lost[0]}'; there are: {'; '.join(names)}.")
    return {name for name in names if any(word.lower() in name.lower() for word in words)}


def _tasks(what: str, name: str, n: int) -> Iterator[_Task]:
    for start in range(0, n, _PER_TASK[what]):
        yield _Task(what, name, tuple(range(start, min(start + _PER_TASK[what], n))))


def _run(task: _Task) -> list[_Run]:
    make = {one.name: one.make for one in (USE_CASES if task.what == "case" else USE_NULLS)}[task.name]
    found = []
    for seed in task.seeds:
        try:
            planted = make(seed)
            judged = judge_use(
                planted, n_random=_N_RANDOM, claims=("used",) if task.what == "null" else None, seed=seed
            )
        except LeadlineError as error:
            raise CausalError(f"'{task.name}' with seed {seed}: {error}") from error
        found.append(_Run(task.what, task.name, seed, planted.about, dict(planted.truth), judged))
    return found


def _case_result(case: UseCase, runs: Sequence[_Run]) -> CaseResult:
    ordered = sorted(runs, key=lambda run: run.seed)
    allowed = ordered[0].allowed
    return CaseResult(
        name=case.name,
        about=ordered[0].planted_about,
        allowed=allowed,
        words={c: dict(sorted(Counter(run.judged.verdicts[c] for run in ordered).items())) for c in allowed},
        n=len(ordered),
        n_right=sum(all(run.judged.right.values()) for run in ordered),
        peer_right=sum(run.judged.peer in run.allowed["used"] for run in ordered) if "used" in allowed else None,
        wrong=tuple(_fault(run) for run in ordered if not all(run.judged.right.values())),
    )


def _fault(run: _Run) -> str:
    fault = next(name for name, right in run.judged.right.items() if not right)
    said = run.judged.sentences["where from" if fault == "writer" else "used" if fault == "sentence" else fault]
    return f"seed {run.seed}: {fault}: {said} (planted: {run.planted_about})"


def _null_result(null: UseCase, runs: Sequence[_Run]) -> NullResult:
    return NullResult(
        name=null.name,
        claim="used",
        about=null.about,
        words=dict(sorted(Counter(run.judged.verdicts["used"] for run in runs).items())),
        n=len(runs),
        peer_supported=sum(run.judged.peer == "supported" for run in runs),
    )
