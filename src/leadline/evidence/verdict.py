"""The rules by which each claim ends: stated here, before any data is seen.

`supported`: the interval's lower bound passes the margin and p ≤ α. `refuted`: the upper bound stays below the margin.
Otherwise `inconclusive`; `not tested` says why. "Used" and "where from" need interventions on the model: without the
causal stage both are not tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from leadline.evidence.bootstrap import Estimate

__all__ = [
    "CLAIMS",
    "FEWEST_GROUPS",
    "LEAK_MARGIN",
    "MARGINS",
    "METRIC_TITLES",
    "USED_MARGIN",
    "WHERE_FROM_SHARE",
    "Verdict",
    "beyond_surface",
    "decodable",
    "general",
    "not_tested",
    "selective",
    "used",
    "where_from",
]

CLAIMS = ("decodable", "selective", "beyond surface", "general", "used", "where from")

# How far the metric must pass chance to count as decodable, or as general on another set; its control task to count
# as selective; and the best surface baseline to count as beyond surface.
_MARGINS = {"decodable": 0.05, "selective": 0.05, "beyond surface": 0.02, "general": 0.05}
MARGINS = {"auroc": _MARGINS, "r2": _MARGINS, "concordance": _MARGINS, "accuracy": _MARGINS}

METRIC_TITLES = {"auroc": "AUROC", "r2": "R²", "concordance": "Concordance", "accuracy": "Accuracy"}

# With fewer groups than this in a test set, intervals and shuffles over groups are not to be relied on.
FEWEST_GROUPS = 6

# A baseline whose upper bound lies this far below chance betrays rows that belong together, split by the folds.
LEAK_MARGIN = 0.05

# How far moving the concept must move the log odds of the model's answers (nats) to count as used.
USED_MARGIN = 0.1
# How much of what the decomposition gives to the named components must go with them.
WHERE_FROM_SHARE = 0.5


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


def decodable(
    metric: str,
    chance: float,
    best: Estimate,
    site: str,
    p_max: float | None,
    alpha: float,
    leaks: Sequence[str] = (),
    *,
    dominated: bool = False,
) -> Verdict:
    """Can a linear map read the concept at the best site, corrected for having chosen it?

    Parameters
    ----------
    leaks : what shows that the folds split rows that belong together, a clause each; the claim is then not awarded.
    dominated : one group fills more than half of a fold, where R² about the fold's own mean says little; the claim is
        then not refuted.
    """
    line = chance + MARGINS[metric]["decodable"]
    shown = METRIC_TITLES[metric]
    rule = (
        f"supported if the lower bound of the best site's {shown}, corrected for the choice, exceeds {line:.2f} and "
        f"the p-value of the maximum over all sites is at most {alpha:g}; "
        f"refuted if the upper bound is below {line:.2f}; withheld while the folds split rows that belong together"
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
    figures = {metric: best.value, "low": best.low, "high": best.high, "line": line, "p_max": p_max, "alpha": alpha}
    if word == "supported" and leaks:
        word = "inconclusive"
        sentence = f"The figures cannot be trusted ({text}): {'; '.join(leaks)}."
    if word == "refuted" and dominated:
        word = "inconclusive"
        sentence = f"One group fills more than half of a fold, which R² there is held against: {text}."
    return Verdict("decodable", word, sentence, rule, figures)


def selective(
    metric: str,
    decodes: str,
    alpha: float,
    selectivity: Estimate | None,
    p: float,
    *,
    task: Estimate | None = None,
    control: Estimate | None = None,
    reason: str = "",
    instead: str = "",
    leaks: Sequence[str] = (),
) -> Verdict:
    """Does the probe read the concept, or could it have learnt any labelling of the same types?

    Parameters
    ----------
    selectivity : the task's metric minus that of a control task, which gives each type a random label (Hewitt and
        Liang 2019), paired on the rows whose type recurs; None where it was not, or could not be, run.
    p : one-sided. task, control : the two figures. reason : why there is none.
    instead : a sentence on the code length of random labels, which stands in where no type recurs.
    leaks : as of `decodable`; the claim is then neither awarded nor refuted.
    """
    margin, shown = MARGINS[metric]["selective"], METRIC_TITLES[metric]
    rule = (
        f"supported if the probe's {shown} exceeds that of a control task with random labels for each type by more "
        f"than {margin:.2f} (lower bound) with p at most {alpha:g}, and the concept is decodable; refuted if the upper "
        f"bound is below {margin:.2f}; not tested where no type recurs across folds"
    )
    if selectivity is None or task is None or control is None:
        said = " ".join(x for x in (reason or "No control task was run.", instead) if x)
        return Verdict("selective", "not tested", said, rule)
    if not np.isfinite([selectivity.low, selectivity.high, p]).all():
        return Verdict("selective", "not tested", "No interval can be given: too few groups in a fold.", rule)
    word = _word(selectivity.low, selectivity.high, p, margin, alpha)
    if word == "supported" and decodes != "supported":
        word = "inconclusive"
    text = (
        f"{shown} {task.value:.3f} against {control.value:.3f} on random labels of the same types, "
        f"{selectivity.value:+.3f} [{selectivity.low:+.3f}, {selectivity.high:+.3f}]"
    )
    sentence = {
        "supported": f"The probe reads the concept and does not merely remember types: {text}.",
        "refuted": (
            f"The probe reads neither the concept nor random labels of the same types: {text}."
            if decodes == "refuted"
            else f"The probe reads random labels of the same types as well as the concept: {text}."
        ),
        "inconclusive": f"The data do not decide whether the probe does more than remember types: {text}.",
    }[word]
    figures = {
        "selectivity": selectivity.value,
        "low": selectivity.low,
        "high": selectivity.high,
        "task": task.value,
        "control": control.value,
        "p": p,
        "margin": margin,
        "alpha": alpha,
    }
    if leaks and word in ("supported", "refuted"):
        word, sentence = "inconclusive", f"The figures cannot be trusted ({text}): {'; '.join(leaks)}."
    return Verdict("selective", word, sentence, rule, figures)


def general(
    metric: str, chance: float, decodes: str, tests: Mapping[str, tuple[Estimate, float, int]], alpha: float
) -> Verdict:
    """Does the chosen probe, as it is, read the concept on labelled data of other distributions?

    The claim is that it does on all of them, so each must pass and no further correction is due (Berger 1982).

    Parameters
    ----------
    tests : {name: (the probe's metric there, its p, the number of groups)}, of sets from another distribution than the
        one it was fitted on.
    """
    line, shown = chance + MARGINS[metric]["general"], METRIC_TITLES[metric]
    rule = (
        f"supported if the chosen probe's {shown}, without refitting, has its lower bound above {line:.2f} and p at "
        f"most {alpha:g} on every labelled set of another distribution, and the concept is decodable; refuted if its "
        f"upper bound is below {line:.2f} on some set; sets of fewer than {FEWEST_GROUPS} groups decide nothing; rows "
        f"whose group or text was trained on are scored by a fold that never saw it; not tested without such a set"
    )
    if not tests:
        said = "No labelled set of another distribution was given (test: in a study)."
        return Verdict("general", "not tested", said, rule)
    known = {
        name: e
        for name, (e, _, n_groups) in tests.items()
        if np.isfinite([e.low, e.high]).all() and n_groups >= FEWEST_GROUPS
    }
    if not known:
        return Verdict("general", "not tested", "No interval can be given: too few groups in the test sets.", rule)
    if decodes == "not tested":
        return Verdict("general", "not tested", "Whether the concept is decodable was not tested.", rule)
    failing = [name for name, e in known.items() if e.high < line]
    passing = [name for name, e in known.items() if e.low > line and tests[name][1] <= alpha]
    if failing:
        word = "refuted"
        worst = min(failing, key=lambda name: known[name].high)
    else:
        word = "supported" if len(passing) == len(tests) and decodes == "supported" else "inconclusive"
        worst = min(known, key=lambda name: known[name].low)
    e = known[worst]
    among = f"the lowest of {len(tests)} sets" if len(tests) > 1 else "the one other set"
    text = f"{shown} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}] on {worst}, {among}"
    below = e.high < 2 * chance - line if metric != "r2" else False
    sentence = {
        "supported": f"The probe holds on every other labelled set: {text}.",
        "refuted": (
            f"The probe {'turns round' if below else 'does not hold'} off its training distribution: {text}; it fails "
            f"on {len(failing)} of {len(tests)}."
        ),
        "inconclusive": f"The data do not decide whether the probe holds off its training distribution: {text}.",
    }[word]
    figures = {
        metric: e.value,
        "low": e.low,
        "high": e.high,
        "p": tests[worst][1],
        "line": line,
        "n_sets": float(len(tests)),
        "n_failing": float(len(failing)),
        "n_passing": float(len(passing)),
    }
    return Verdict("general", word, sentence, rule, figures)


def beyond_surface(
    metric: str,
    gains: dict[str, tuple[str, Estimate, float]],
    decodes: str,
    alpha: float,
    leaking: bool,
    *,
    leaks: Sequence[str] = (),
    lacks_words: bool = False,
) -> Verdict:
    """Does the probe say more than every surface baseline?

    The claim is that it beats all of them, so each must be passed at α and no further correction is due (an
    intersection-union test, Berger 1982).

    Parameters
    ----------
    gains : {baseline: (title, paired gain of the probe over it, one-sided p)}.
    decodes : how `decodable` ended; what cannot be read cannot be beyond surface.
    leaking : a baseline lies below chance by more than `LEAK_MARGIN`, so that the comparison is not trusted.
    leaks : as of `decodable`: a baseline profits from what the folds split as the probe does, so that the claim is then
        neither awarded nor refuted.
    lacks_words : the rows are texts and no baseline of their words was run, without which nothing is awarded.
    """
    margin = MARGINS[metric]["beyond surface"]
    shown = METRIC_TITLES[metric]
    rule = (
        f"supported if the probe's {shown} (and pair accuracy, where rows come in pairs) exceeds that of every surface "
        f"baseline on the same folds, with the lower "
        f"bound of each paired gain above {margin:.2f} and each p at most {alpha:g}, and the concept is decodable; "
        f"refuted if the upper bound of some gain is below {margin:.2f}; not awarded without a baseline of the text's "
        f"words or characters, and withheld while the folds split rows that belong together"
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
    undecided = word == "supported" and decodes != "supported"
    if undecided:
        word = "inconclusive"
    figures = {
        "gain": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": p,
        "margin": margin,
        "alpha": alpha,
    }
    closest = "the only baseline" if len(gains) == 1 else f"the closest of {len(gains)} baselines"
    text = f"{shown} {estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}] over {closest}, {title.lower()}"
    if undecided:
        said = f"The probe gains on the surface ({text}), but that it reads the concept is {decodes}."
        return Verdict("beyond surface", word, said, rule, figures)
    if leaks and word in ("supported", "refuted"):
        said = f"The gain over the surface cannot be trusted ({text}): {'; '.join(leaks)}."
        return Verdict("beyond surface", "inconclusive", said, rule, figures)
    if lacks_words and word == "supported":
        said = f"No baseline of the text's words or characters was run, so the gain says little ({text})."
        return Verdict("beyond surface", "inconclusive", said, rule, figures)
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


def used(
    decodes: str,
    alpha: float,
    effect: Estimate | None,
    p: float,
    *,
    n_groups: int,
    site: Estimate | None = None,
    direction: Estimate | None = None,
    share: Estimate | None = None,
    reason: str = "",
) -> Verdict:
    """Does the model act on what the probe reads?

    Parameters
    ----------
    decodes : how `decodable` ended; a direction that reads nothing is not the concept's.
    effect : how far the log odds of the answers move toward the other class when each example is moved along the
        probe's pattern by the gap between the classes; mean over examples, nats. None where it was not tested.
    p : the larger of the p-values against random directions of the same norm, isotropic and drawn from the activations'
        covariance within classes.
    site : the same when the whole site is exchanged with an example of the other class.
    direction : the same along the direction that reads.
    share : `effect` as a share of the difference between the classes without any intervention.
    reason : why it was not tested.
    """
    margin = USED_MARGIN
    rule = (
        f"supported if moving each example along the probe's pattern by the gap between the classes moves the log odds "
        f"of the model's answers toward the other class by more than {margin:g} (lower bound), further than random "
        f"directions of the same norm (p at most {alpha:g}, isotropic and drawn from the covariance within classes "
        f"alike), exchanging the whole site with an example of the other class moves them by more than {margin:g} too "
        f"(lower bound), and half as far at least (upper bound), and the concept is decodable; refuted if the upper "
        f"bound of either stays below {margin:g}; not tested with fewer than {FEWEST_GROUPS} groups"
    )
    if effect is None:
        return Verdict("used", "not tested", reason or "No intervention was made.", rule)
    if n_groups < FEWEST_GROUPS or not np.isfinite([effect.low, effect.high, p]).all():
        said = f"No interval can be given: the examples are of {n_groups} groups."
        return Verdict("used", "not tested", reason or said, rule)
    figures = {"effect": effect.value, "low": effect.low, "high": effect.high, "p": p, "margin": margin, "alpha": alpha}
    for name, one in (("site", site), ("direction", direction), ("share", share)):
        if one is not None:
            figures |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    word = _word(effect.low, effect.high, p, margin, alpha)
    text = f"{effect.value:+.2f} nats [{effect.low:+.2f}, {effect.high:+.2f}] along its pattern, p = {p:.2g}"
    if share is not None and np.isfinite(share.low) and abs(share.value) < 10:
        text += f", {share.value:.0%} of the difference between the classes"
    known = site is not None and bool(np.isfinite([site.low, site.high]).all())
    if known and site is not None:
        whole = f"exchanging the whole site moves them by {site.value:+.2f} [{site.low:+.2f}, {site.high:+.2f}]"
        if word == "refuted" and site.low > margin:
            said = f"The model acts on this site, but not along the probe's direction: {text}; {whole}."
            return Verdict("used", word, said, rule, figures)
        if site.high < margin:
            wakes = effect.low > margin or (direction is not None and direction.low > margin)
            woken = (
                " An edit along the direction alone wakes a pathway that the model does not use here." if wakes else ""
            )
            said = f"The answers do not follow what stands at this site: {whole}; {text}.{woken}"
            return Verdict("used", "refuted", said, rule, figures)
        if word == "inconclusive" and site.low > max(margin, 2 * effect.high):
            said = f"The model acts on this site, and hardly along the probe's direction, if at all: {text}; {whole}."
            return Verdict("used", word, said, rule, figures)
        # Moved along a direction, the answers may go where nothing that stands at the site takes them (Makelov et al.
        # 2023): what is exchanged whole holds the same shift, and stays within what the model knows.
        further = site.high < effect.low / 2
        if word == "supported" and (further or not site.low > margin):
            but = (
                "further than all that stands at the site does, as where an edit wakes a pathway that is not used"
                if further
                else "but that the site matters is open"
            )
            said = f"Moving along the pattern moves the answers ({text}), {but}: {whole}."
            return Verdict("used", "inconclusive", said, rule, figures)
    if word == "supported" and decodes != "supported":
        said = f"The direction moves the answers ({text}), but that it reads the concept is {decodes}."
        return Verdict("used", "inconclusive", said, rule, figures)
    away = " The answers move away from the class that is added." if effect.high < -margin else ""
    more = effect.low > margin and p > alpha
    sentence = {
        "supported": f"The model acts on what the probe reads: its answers' log odds move by {text}.",
        "refuted": f"The model does not act on the probe's direction to a useful degree: {text}.{away}",
        "inconclusive": (
            f"Random directions of the same norm move the answers as far: {text}."
            if more
            else f"The data do not decide whether the model acts on the probe's direction: {text}."
        ),
    }[word]
    return Verdict("used", word, sentence, rule, figures)


def where_from(
    decodes: str,
    alpha: float,
    kept: Estimate | None,
    p: float,
    *,
    named: Sequence[str],
    share: float = float("nan"),
    n_groups: int,
    reason: str = "",
) -> Verdict:
    """Do the components that the decomposition names write the probe's score?

    Parameters
    ----------
    kept : how much of what the decomposition gives to the named components, of the difference in score between the
        classes, is gone once they are ablated: measured over predicted.
    p : against random sets of as many components of the same kinds.
    named : the heads and MLPs. share : of the difference in score that the decomposition gives them.
    reason : why it was not tested.
    """
    line = WHERE_FROM_SHARE
    rule = (
        f"supported if ablating the named heads and MLPs takes away more than {line:.0%} (lower bound) of the "
        f"difference in score between the classes that the exact decomposition gives them, more than random sets of as "
        f"many components (p at most {alpha:g}), and the concept is decodable; refuted if the upper bound is below "
        f"{line:.0%}; not tested with fewer than {FEWEST_GROUPS} groups"
    )
    if kept is None:
        return Verdict("where from", "not tested", reason or "No score was decomposed.", rule)
    if n_groups < FEWEST_GROUPS or not np.isfinite([kept.low, kept.high, p]).all():
        said = f"No interval can be given: the examples are of {n_groups} groups."
        return Verdict("where from", "not tested", reason or said, rule)
    word = _word(kept.low, kept.high, p, line, alpha)
    if word == "supported" and decodes != "supported":
        word = "inconclusive"
    whom = ", ".join(named[:6]) + (f" and {len(named) - 6} more" if len(named) > 6 else "")
    text = f"{kept.value:.0%} [{kept.low:.0%}, {kept.high:.0%}] of what the decomposition gives them, p = {p:.2g}"
    of = f" ({share:.0%} of the difference in score)" if np.isfinite(share) else ""
    sentence = {
        "supported": f"It is written by {whom}{of}: ablating them takes away {text}.",
        "refuted": f"The decomposition names {whom}{of}, but ablating them takes away only {text}.",
        "inconclusive": f"The data do not decide whether {whom}{of} write it: ablating them takes away {text}.",
    }[word]
    figures = {"kept": kept.value, "low": kept.low, "high": kept.high, "p": p, "line": line, "alpha": alpha}
    figures |= {"share": share, "n_components": float(len(named))}
    return Verdict("where from", word, sentence, rule, figures)
