"""The rules by which each claim ends: stated here, before any data is seen.

`supported`: the interval's lower bound passes the margin and p ≤ α. `refuted`: the upper bound stays below the margin.
Otherwise `inconclusive`; `not tested` says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from leadline.evidence.bootstrap import Estimate

__all__ = ["CLAIMS", "LEAK_MARGIN", "MARGINS", "Verdict", "beyond_surface", "decodable", "not_tested"]

CLAIMS = ("decodable", "selective", "beyond surface", "general", "used", "where from")

# How far the metric must pass chance to count as decodable, and the best surface baseline to count as beyond surface.
MARGINS = {
    "auroc": {"decodable": 0.05, "beyond surface": 0.02},
    "r2": {"decodable": 0.05, "beyond surface": 0.02},
}

# A baseline whose upper bound lies this far below chance betrays rows that belong together, split by the folds.
LEAK_MARGIN = 0.05


@dataclass(frozen=True)
class Verdict:
    """A claim, how it ended, the sentence for a person, the rule, and the figures that decided."""

    claim: str
    verdict: str
    sentence: str
    rule: str
    figures: dict[str, float] = field(default_factory=dict)


def _word(low: float, high: float, p: float, margin: float, alpha: float) -> str:
    if low > margin and p <= alpha:
        return "supported"
    return "refuted" if high < margin else "inconclusive"


def not_tested(claim: str, reason: str) -> Verdict:
    """A claim that this study could not, or did not, test."""
    return Verdict(claim, "not tested", reason, "")


def decodable(metric: str, chance: float, best: Estimate, site: str, p_max: float | None, alpha: float) -> Verdict:
    """Can a linear map read the concept at the best site, corrected for having chosen it?"""
    line = chance + MARGINS[metric]["decodable"]
    shown = _NAMES[metric]
    rule = (
        f"supported if the lower bound of the best site's {shown}, corrected for the choice, exceeds {line:.2f} and "
        f"the p-value of the maximum over all sites is at most {alpha:g}; "
        f"refuted if the upper bound is below {line:.2f}"
    )
    if not np.isfinite([best.low, best.high]).all():
        return Verdict("decodable", "not tested", "No interval can be given: too few groups in a fold.", rule)
    if p_max is None:
        return Verdict(
            "decodable", "not tested", "The permutation test was switched off, so there is no p-value.", rule
        )
    word = _word(best.low, best.high, p_max, line, alpha)
    text = (
        f"{shown} {best.value:.3f} [{best.low:.3f}, {best.high:.3f}] at {site}, "
        f"p = {p_max:.2g} for the best of all sites"
    )
    sentence = {
        "supported": f"A linear probe reads the concept: {text}.",
        "refuted": f"No linear probe reads the concept to a useful degree: {text}, below the line of {line:.2f}.",
        "inconclusive": f"The data do not decide whether a linear probe reads the concept: {text}.",
    }[word]
    return Verdict(
        "decodable",
        word,
        sentence,
        rule,
        {metric: best.value, "low": best.low, "high": best.high, "line": line, "p_max": p_max, "alpha": alpha},
    )


def beyond_surface(
    metric: str, gains: dict[str, tuple[str, Estimate, float]], decodes: str, alpha: float, leaking: bool
) -> Verdict:
    """Does the probe say more than every surface baseline?

    The claim is that it beats all of them, so each must be passed at α and no further correction is due (an
    intersection-union test, Berger 1982).

    Parameters
    ----------
    gains : {baseline: (title, paired gain of the probe over it, one-sided p)}.
    decodes : how `decodable` ended; what cannot be read cannot be beyond surface.
    leaking : a baseline lies below chance by more than `LEAK_MARGIN`, so that the comparison is not trusted.
    """
    margin = MARGINS[metric]["beyond surface"]
    shown = _NAMES[metric]
    rule = (
        f"supported if the probe's {shown} exceeds that of every surface baseline on the same folds, with the lower "
        f"bound of each paired gain above {margin:.2f} and each p at most {alpha:g}, and the concept is decodable; "
        f"refuted if the upper bound of some gain is below {margin:.2f}"
    )
    if not gains:
        return Verdict("beyond surface", "not tested", "No surface baseline was run.", rule)
    if any(not np.isfinite([g.low, g.high, p]).all() for _, g, p in gains.values()):
        return Verdict("beyond surface", "not tested", "No interval can be given: too few groups in a fold.", rule)
    if decodes == "not tested":
        return Verdict("beyond surface", "not tested", "Whether the concept is decodable was not tested.", rule)
    worst = min(gains, key=lambda name: gains[name][1].low)
    title, estimate, p = gains[worst]
    word = _word(
        min(g.low for _, g, _ in gains.values()),
        min(g.high for _, g, _ in gains.values()),
        max(p for _, _, p in gains.values()),
        margin,
        alpha,
    )
    # The gain that refutes is the one whose upper bound is lowest, which need not be the one with the lowest lower.
    if word == "refuted":
        worst = min(gains, key=lambda name: gains[name][1].high)
        title, estimate, p = gains[worst]
    if word == "supported" and decodes != "supported":
        word = "inconclusive"
    figures = {
        "gain": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": p,
        "margin": margin,
        "alpha": alpha,
    }
    text = (
        f"{shown} {estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}] over the closest one, "
        f"{title.lower()}"
    )
    if leaking and word == "supported":
        return Verdict(
            "beyond surface",
            "inconclusive",
            f"The gain over the surface cannot be trusted while a baseline lies far below chance: the folds split rows "
            f"that belong together ({text}).",
            rule,
            figures,
        )
    sentence = {
        "supported": f"The probe says more than the text's surface: {text}.",
        "refuted": f"The probe says no more than the text's surface: {text}.",
        "inconclusive": f"The data do not decide whether the probe says more than the text's surface: {text}.",
    }[word]
    return Verdict("beyond surface", word, sentence, rule, figures)


_NAMES = {"auroc": "AUROC", "r2": "R²"}
