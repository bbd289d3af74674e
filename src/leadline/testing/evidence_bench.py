"""Whether the verdicts are right: planted cases, the rate of false `supported` on null families, and a peer beside.

Cases and draws are independent tasks, spread over processes of one thread each. A result is decided by its name and
seed, whatever the number of processes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leadline.errors import EvidenceError, LeadlineError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.proportions import clopper_pearson
from leadline.testing.cases import CASES, Case
from leadline.testing.judge import judge
from leadline.testing.nulls import NULLS, Null
from leadline.testing.peer import cross_validate_layers
from leadline.testing.workers import in_processes

__all__ = ["TARGET_ACCURACY", "TARGET_RATE", "CaseResult", "EvidenceBench", "NullResult", "run_evidence_bench"]

TARGET_RATE = 0.05
"""The lower bound of no null family's rate of false `supported` may exceed it."""
TARGET_ACCURACY = 0.95
"""At least this share of runs on planted cases must be right in everything that the case states."""

# Shuffles and replicates: a draw is one of hundreds, a case is what one would run.
_OF_CASES = {"n_permutations": 199, "n_bootstraps": 400}
_OF_DRAWS = {"n_permutations": 99, "n_bootstraps": 200}
_PER_TASK = {"case": 2, "null": 20}


@dataclass(frozen=True)
class CaseResult:
    """A planted case over its seeds.

    Attributes
    ----------
    about : the truth and its size. allowed : {claim: the verdicts that are right}.
    words : {claim: {verdict: how often}}, for the claims that are judged.
    n, n_right : runs, and those right in everything that the case states. peer_right : of the peer on "decodable", None
        where that is not judged. wrong : one entry a run that was not right, with the sentence of the first fault.
    """

    name: str
    about: str
    allowed: Mapping[str, frozenset[str]]
    words: Mapping[str, Mapping[str, int]]
    n: int
    n_right: int
    peer_right: int | None
    wrong: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        return self.n_right / self.n


@dataclass(frozen=True)
class NullResult:
    """A null family over its draws: how often the claim that is false was found `supported`, by Leadline and the peer.

    `peer_supported` is None where the peer has no answer to the claim. `partial` : as of `Null`.
    """

    name: str
    claim: str
    about: str
    words: Mapping[str, int]
    n: int
    peer_supported: int | None
    partial: bool = False

    @property
    def n_supported(self) -> int:
        return self.words.get("supported", 0)

    @property
    def rate(self) -> Estimate:
        """With its two-sided 95% Clopper-Pearson interval."""
        return clopper_pearson(self.n_supported, self.n)

    @property
    def peer_rate(self) -> Estimate | None:
        return None if self.peer_supported is None else clopper_pearson(self.peer_supported, self.n)


@dataclass(frozen=True)
class EvidenceBench:
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
        """The null families on which the claim is supported more often than `TARGET_RATE`, beyond chance."""
        return tuple(null for null in self.nulls if null.rate.low > TARGET_RATE)

    @property
    def surface_claimed(self) -> int:
        """How often "beyond surface" was supported where the surface is the label."""
        cases = [c for c in self.cases if "supported" not in c.allowed.get("beyond surface", {"supported"})]
        found = sum(c.words["beyond surface"].get("supported", 0) for c in cases)
        return found + sum(
            null.n_supported for null in self.nulls if null.claim == "beyond surface" and not null.partial
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "false_supported_rate": {
                null.name: {
                    "claim": null.claim,
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
            "accuracy": self.accuracy if self.cases else None,
            "surface_claimed": self.surface_claimed,
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
    with_peer: bool


@dataclass(frozen=True)
class _Run:
    """One seed of one case or null family."""

    what: str
    name: str
    seed: int
    about: str
    verdicts: Mapping[str, str]
    right: Mapping[str, bool]
    peer: str | None
    fault: str = ""
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)


def run_evidence_bench(
    cases: Sequence[str] | None = None,
    *,
    seeds: int = 10,
    draws: int = 300,
    workers: int = 2,
    with_peer: bool = True,
    events: EventSink = SILENT,
) -> EvidenceBench:
    """Run planted cases and null families.

    Parameters
    ----------
    cases : those cases and null families alone whose name holds one of these words; all by default.
    seeds : of each case; 0 leaves the cases out. draws : of each null family; 0 leaves them out.
    workers : processes; 1 is this one alone.
    with_peer : run the peer on the same data.
    events : receives progress, in runs.

    Raises
    ------
    EvidenceError : a word that stands in no name, nothing to run, or data that no sweep can judge.
    """
    if seeds < 0 or draws < 0 or workers < 1:
        raise EvidenceError(
            f"got {seeds} seeds, {draws} draws and {workers} workers; expected 0 or more, 0 or more, 1 or more."
        )
    named = _chosen(cases)
    chosen_cases = [case for case in CASES if case.name in named and seeds]
    chosen_nulls = [null for null in NULLS if null.name in named and draws]
    tasks = [
        *(task for case in chosen_cases for task in _tasks("case", case.name, seeds, with_peer)),
        *(task for null in chosen_nulls for task in _tasks("null", null.name, draws, with_peer)),
    ]
    if not tasks:
        raise EvidenceError("there is nothing to run; ask for some seeds of cases or some draws of null families.")
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
    return EvidenceBench(
        cases=tuple(_case_result(case, runs["case", case.name]) for case in chosen_cases),
        nulls=tuple(_null_result(null, runs["null", null.name]) for null in chosen_nulls),
        seconds=time.perf_counter() - began,
    )


def _chosen(words: Sequence[str] | None) -> set[str]:
    names = [*(case.name for case in CASES), *(null.name for null in NULLS)]
    if not words:
        return set(names)
    lost = [word for word in words if not any(word.lower() in name.lower() for name in names)]
    if lost:
        raise EvidenceError(f"no case or null family is called '{lost[0]}'; there are: {'; '.join(names)}.")
    return {name for name in names if any(word.lower() in name.lower() for word in words)}


def _tasks(what: str, name: str, n: int, with_peer: bool) -> Iterator[_Task]:
    for start in range(0, n, _PER_TASK[what]):
        yield _Task(what, name, tuple(range(start, min(start + _PER_TASK[what], n))), with_peer)


def _run(task: _Task) -> list[_Run]:
    makers: dict[str, Callable[[int], Any]]
    if task.what == "case":
        makers, effort = {case.name: case.make for case in CASES}, _OF_CASES
    else:
        makers, effort = {null.name: null.draw for null in NULLS}, _OF_DRAWS
    found = []
    for seed in task.seeds:
        try:
            planted = makers[task.name](seed)
            judged = judge(planted, **effort, seed=seed)
        except LeadlineError as error:
            raise EvidenceError(f"'{task.name}' with seed {seed}: {error}") from error
        faults = [name for name, right in judged.right.items() if not right]
        found.append(
            _Run(
                what=task.what,
                name=task.name,
                seed=seed,
                about=planted.about,
                verdicts=judged.verdicts,
                right=judged.right,
                # Of the other claims the peer says nothing.
                peer=cross_validate_layers(planted, seed=seed).verdict
                if task.with_peer and "decodable" in planted.truth
                else None,
                fault=f"seed {seed}: {faults[0]}: {judged.sentences.get(faults[0], judged.sentences['decodable'])}"
                if faults
                else "",
                allowed=planted.truth,
            )
        )
    return found


def _case_result(case: Case, runs: Sequence[_Run]) -> CaseResult:
    ordered = sorted(runs, key=lambda run: run.seed)
    allowed = ordered[0].allowed
    peers = [run.peer in run.allowed["decodable"] for run in ordered if run.peer]
    return CaseResult(
        name=case.name,
        about=ordered[0].about,
        allowed=allowed,
        words={claim: dict(sorted(Counter(run.verdicts[claim] for run in ordered).items())) for claim in allowed},
        n=len(ordered),
        n_right=sum(all(run.right.values()) for run in ordered),
        peer_right=sum(peers) if peers else None,
        wrong=tuple(run.fault for run in ordered if run.fault),
    )


def _null_result(null: Null, runs: Sequence[_Run]) -> NullResult:
    peers = [run.peer == "supported" for run in runs if run.peer and null.claim == "decodable"]
    return NullResult(
        name=null.name,
        claim=null.claim,
        about=null.about,
        words=dict(sorted(Counter(run.verdicts[null.claim] for run in runs).items())),
        n=len(runs),
        peer_supported=sum(peers) if peers else None,
        partial=null.partial,
    )
