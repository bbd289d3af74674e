"""The words of a target: the six claims, and the sentences that say what was found and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.report.wording import (
    count,
    inside,
    metric_title,
    number,
    p_text,
    plural,
    quantity,
    quoted,
    sentence_start,
    shorten,
)
from leadline.study.results import BaselineResult, Results, TargetResult, Verdict

__all__ = ["CLAIMS", "Claim", "caution", "claims", "finding", "how_sure", "strongest_control"]

CLAIMS: dict[str, str] = {
    "decodable": "Can a linear map read it?",
    "selective": "Is it the representation, or the probe’s capacity?",
    "beyond surface": "Does it say more than the text’s surface?",
    "general": "Does it hold off its training data?",
    "used": "Does the model act on it?",
    "where from": "Which heads and MLPs write it?",
}


@dataclass(frozen=True)
class Claim:
    """One of the six claims as the strip shows it. `figures` are the numbers behind the verdict, as name and text."""

    claim: str
    question: str
    verdict: str
    sentence: str
    rule: str
    figures: tuple[tuple[str, str], ...]


def claims(target: TargetResult) -> tuple[Claim, ...]:
    """All six claims in their fixed order; one that the results do not hold was not tested."""
    given = {v.claim: v for v in target.verdicts}
    return tuple(_claim(name, question, given.get(name)) for name, question in CLAIMS.items())  # type: ignore[call-overload]


def _claim(name: str, question: str, verdict: Verdict | None) -> Claim:
    if verdict is None:
        return Claim(name, question, "not tested", "This study did not test it.", "", ())
    figures = tuple((metric_title(k), number(v)) for k, v in verdict.figures.items())
    return Claim(name, question, verdict.verdict, verdict.sentence, verdict.rule, figures)


def _verdict(target: TargetResult, claim: str) -> str:
    return next((v.verdict for v in target.verdicts if v.claim == claim), "not tested")


def finding(results: Results, target: TargetResult) -> str:
    """The headline: what the verdicts together say about this target, in one sentence."""
    name, model = quoted(target.target), shorten(results.model.name, 60)
    decodable, surface = _verdict(target, "decodable"), _verdict(target, "beyond surface")
    if decodable == "refuted":
        return f"No linear probe reads {name} from {model} to a useful degree."
    if decodable == "inconclusive":
        return f"Whether a linear probe can read {name} from {model} is not settled by these data."
    if decodable == "not tested":
        return f"Linear probes were fitted for {name} on {model}; whether they read it was not tested."
    rest = {
        "supported": ", and reads more than the text’s surface gives away.",
        "refuted": ", but no better than the text’s surface does.",
        "inconclusive": "; whether it reads more than the text’s surface is not settled.",
        "not tested": "; whether it reads more than the text’s surface was not tested.",
    }
    return f"A linear probe reads {name} from {model}{rest[surface]}"


def how_sure(results: Results, target: TargetResult) -> tuple[str, ...]:
    """The figures behind the headline as sentences: the estimate, its p-value, the strongest control."""
    metric = metric_title(target.primary_metric)
    best = target.best
    figure = quantity(best.metrics.get(target.primary_metric))
    n_sites = len(target.sites)
    where = f"At {best.site}, the best of {count(n_sites)} sites," if n_sites > 1 else f"At {best.site}, the only site,"
    sentences = []
    if figure.value is None:
        sentences.append(f"{where} no {metric} could be computed.")
    else:
        interval = f" (95% interval {figure.interval})" if figure.interval else " (no interval was computed)"
        corrected = ", corrected for having been chosen" if n_sites > 1 and best.correction else ""
        sentences.append(
            f"{where} it reaches {metric} {figure.text}{interval}{corrected}; chance is {number(target.chance)}."
        )
    permutation = target.permutation
    if permutation is None or permutation.p_max is None:
        sentences.append("No permutation test was run, so there is no p-value.")
    else:
        p, times = p_text(permutation.p_max), f"{count(permutation.n_permutations)} permutations of the labels"
        if permutation.p_max <= permutation.smallest_p * (1 + 1e-9):
            sentences.append(f"In {times} no best site did as well: p = {p}, the smallest that so many can give.")
        else:
            sentences.append(f"Against the best site of each of {times}, p = {p}.")
    strongest = strongest_control(target)
    if strongest is not None:
        control = quantity(strongest.metrics.get(target.primary_metric))
        gain = quantity(strongest.gain, sign=True)
        text = f"The strongest control, {inside(shorten(strongest.title, 60))}, reaches {control.text}"
        sentences.append(f"{text}; the probe’s gain over it is {gain.full}." if gain.value is not None else f"{text}.")
    return tuple(sentences)


def strongest_control(target: TargetResult) -> BaselineResult | None:
    """The control with the highest primary metric; None without controls."""
    known = [
        b
        for b in target.baselines
        if target.primary_metric in b.metrics and b.metrics[target.primary_metric].value is not None
    ]
    return max(known, key=lambda b: b.metrics[target.primary_metric].value or 0.0, default=None)


def caution(target: TargetResult) -> str:
    """What the headline must not be taken to say, given what was tested."""
    if _verdict(target, "decodable") != "supported":
        return ""
    parts = []
    if _verdict(target, "used") == "not tested":
        parts.append("That a probe can read it does not show that the model uses it")
    if _verdict(target, "selective") == "not tested":
        parts.append("how much the probe itself adds was not measured")
    if not parts:
        return ""
    return sentence_start("; ".join(parts)) + "."


def convergence(target: TargetResult) -> str:
    """A sentence about fits that did not converge; empty when all did."""
    flagged = [s for s in target.sites if s.n_not_converged]
    if not flagged:
        return ""
    n, of = sum(s.n_not_converged for s in flagged), sum(s.n_fits for s in target.sites)
    names = ", ".join(s.site for s in flagged[:4]) + (f" and {len(flagged) - 4} more" if len(flagged) > 4 else "")
    verb = "its figures" if len(flagged) == 1 else "their figures"
    return (
        f"{count(n)} of {plural(of, 'fit')} did not converge, at {names}: {verb} may be too low. Red crosses mark them "
        f"in the layer curve."
    )
