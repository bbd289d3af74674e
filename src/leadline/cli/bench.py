"""`leadline bench`: whether the verdicts are right, on data with known answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import print_table, print_text

if TYPE_CHECKING:
    from leadline.evidence.bootstrap import Estimate
    from leadline.testing.causal_bench import CausalBench
    from leadline.testing.evidence_bench import CaseResult, EvidenceBench

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline bench evidence`
- `leadline bench evidence --quick`
- `leadline bench evidence --cases xor --cases surface --seeds 3 --draws 0`
- `leadline bench evidence --json > bench.json`
- `leadline bench causal`
- `leadline bench causal --cases dormant --seeds 2 --draws 20`
"""


def command(
    what: Literal["evidence", "causal"],
    /,
    *,
    cases: tuple[str, ...] = (),
    seeds: int | None = None,
    draws: int | None = None,
    workers: int = 2,
    quick: bool = False,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Hold the verdicts against planted truths, and count how often nothing is found to be something.

    Every case is planted with one answer; every null family has none. Of `evidence`, data are planted, and a peer that
    cross-validates scikit-learn over the layers is run on the same; of `causal`, transformers that use a concept or
    do not, and the peer exchanges activations along the direction with no control beside.

    Parameters
    ----------
    what
        evidence: what can be read. causal: what is used, and where from.
    cases
        Only the cases and null families whose name holds this word; may be given several times.
    seeds
        Of each case, 10 by default; 0 leaves the cases out.
    draws
        Of each null family, 300 by default (200 of causal); 0 leaves them out.
    workers
        Processes to run side by side.
    quick
        One seed of each case and 20 draws of each null family, unless they are given.
    """
    from leadline.cli.progress import progress

    n_seeds = seeds if seeds is not None else 1 if quick else 10
    with progress(common.quiet) as events:
        result: EvidenceBench | CausalBench
        if what == "causal":
            from leadline.testing.causal_bench import run_causal_bench

            n_draws = draws if draws is not None else 20 if quick else 200
            result = run_causal_bench(cases or None, seeds=n_seeds, draws=n_draws, workers=workers, events=events)
        else:
            from leadline.testing.evidence_bench import run_evidence_bench

            n_draws = draws if draws is not None else 20 if quick else 300
            result = run_evidence_bench(cases or None, seeds=n_seeds, draws=n_draws, workers=workers, events=events)
    if as_json:
        # On one line, so that a script that keeps a log finds it in the last one.
        print_text(json.dumps(result.as_json(), ensure_ascii=False, allow_nan=False))
    else:
        _print(result)
    return 0


def _print(result: EvidenceBench | CausalBench) -> None:
    if result.cases:
        print_table(
            ["case", "claim: verdicts", "right", "peer"],
            [
                [
                    case.name,
                    _words(case),
                    f"{case.n_right} of {case.n}",
                    None if case.peer_right is None else f"{case.peer_right} of {case.n}",
                ]
                for case in result.cases
            ],
            right=["right", "peer"],
        )
        for case in result.cases:
            for fault in case.wrong:
                print_text(f"  wrong: {case.name}: {fault}", style="yellow")
        print_text()
    if result.nulls:
        print_table(
            ["null family", "false claim", "draws", "supported", "rate (95%)", "peer (95%)"],
            [
                [null.name, null.claim, null.n, null.n_supported, _rate(null.rate), _rate(null.peer_rate)]
                for null in result.nulls
            ],
            right=["draws", "supported", "rate (95%)", "peer (95%)"],
        )
        print_text()
    for line in _conclusions(result):
        print_text(line, style="bold")


def _words(case: CaseResult) -> str:
    return "; ".join(
        f"{claim}: {', '.join(f'{n} {word}' for word, n in words.items())}" for claim, words in case.words.items()
    )


def _rate(rate: Estimate | None) -> str | None:
    return None if rate is None else f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _conclusions(result: EvidenceBench | CausalBench) -> list[str]:
    from leadline.testing.evidence_bench import TARGET_ACCURACY, TARGET_RATE, EvidenceBench

    lines = []
    if result.cases:
        n = sum(case.n for case in result.cases)
        peers = [case for case in result.cases if case.peer_right is not None]
        lines.append(
            f"{result.accuracy:.1%} of {n:,} runs on {len(result.cases)} planted cases are right (target: "
            f"{TARGET_ACCURACY:.0%})"
        )
        if peers:
            share = sum(case.peer_right or 0 for case in peers) / sum(case.n for case in peers)
            asked = "that ask for 'decodable' alone" if isinstance(result, EvidenceBench) else "as to 'used'"
            lines.append(f"the peer is right on {share:.1%} of the {len(peers)} cases {asked}")
    if result.nulls:
        high = [null.name for null in result.too_high]
        lines.append(
            f"the rate of false 'supported' is surely above {TARGET_RATE:.0%} on "
            f"{', '.join(high) if high else f'none of {len(result.nulls)} null families'}"
        )
    if isinstance(result, EvidenceBench):
        lines.append(f"'beyond surface' was supported {result.surface_claimed} times where the surface is the label")
    lines.append(f"{result.seconds:.0f} s")
    return lines
