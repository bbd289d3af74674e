"""What masking the giveaway tokens takes from a probe, and from the bag of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import BootstrapDesign, Estimate, gain, metric_table, select
from leadline.evidence.controls import tfidf_scores
from leadline.evidence.giveaway import Giveaways, mask_text
from leadline.evidence.metrics import PRIMARY

__all__ = ["GiveawayEffect", "giveaway_effect", "masked_bag_of_words", "score_by_fold"]


def masked_bag_of_words(
    texts: Sequence[str], giveaways: Giveaways, Y: np.ndarray, kind: str, fold: np.ndarray, *, mask: str = ""
) -> np.ndarray:
    """(L, n, c) scores of the bag of words that is trained and tested without the giveaways.

    Each fold masks all rows by its own words, its training rows too: by those of their own folds they would bear the
    trace of the labels that are to be predicted.
    """
    scores: np.ndarray | None = None
    for k in range(int(fold.max()) + 1):
        masked = [mask_text(text, giveaways.words[k], mask) for text in texts]
        own = tfidf_scores("bag_of_words", masked, Y, kind, fold, folds=[k])
        scores = own if scores is None else np.where((fold == k)[:, None], own, scores)
    assert scores is not None
    return scores


def score_by_fold(X: np.ndarray, fold: np.ndarray, fold_coef: np.ndarray, fold_intercept: np.ndarray) -> np.ndarray:
    """Score each row by the probe of its fold, which never saw it.

    Parameters
    ----------
    X : (n, d) raw activations. fold : (n,). fold_coef : (K, c, d). fold_intercept : (K, c).

    Returns
    -------
    (n, c) float32.

    Raises
    ------
    EvidenceError : shapes that do not fit.
    """
    K, c, d = fold_coef.shape
    if X.shape != (len(fold), d) or fold_intercept.shape != (K, c) or fold.min() < 0 or fold.max() >= K:
        raise EvidenceError(
            f"activations {X.shape} and folds 0 to {int(fold.max())} do not fit probes of shape {fold_coef.shape} with "
            f"intercepts {fold_intercept.shape}; expected (n, d), (K, c, d) and (K, c)."
        )
    scores = np.empty((len(X), c), dtype=np.float32)
    for k in range(K):
        rows = fold == k
        # Large means would cost a float32 product digits.
        scores[rows] = X[rows].astype(np.float64) @ fold_coef[k].astype(np.float64).T + fold_intercept[k]
    return scores


@dataclass(frozen=True)
class GiveawayEffect:
    """What masking the giveaways takes from the probe, and from the bag of words.

    Attributes
    ----------
    metric : the primary metric of the kind of target, which all estimates are of.
    before, after : of the probe on the texts as they are, and masked. loss : before − after, paired.
    p_loss : one-sided, against no loss.
    bag_before, bag_after : of the bag of words, trained and tested on either; None where they were not given.
    n_changed, n : rows that masking changed, of how many. reason : why nothing was measured, or an empty string.
    """

    metric: str
    before: Estimate
    after: Estimate
    loss: Estimate
    p_loss: float
    bag_before: Estimate | None
    bag_after: Estimate | None
    n_changed: int
    n: int
    reason: str = ""


def giveaway_effect(
    scores_before: np.ndarray,
    scores_after: np.ndarray | None,
    Y: np.ndarray,
    kind: str,
    design: BootstrapDesign,
    changed: np.ndarray,
    *,
    bag_before: np.ndarray | None = None,
    bag_after: np.ndarray | None = None,
    reason: str = "",
) -> GiveawayEffect:
    """Hold the probe on masked texts against itself on the texts as they are.

    The probes stay as they were trained, on texts with their giveaways; what they lose is what they read off these
    words, together with what they lose because masked texts read oddly. Where most of the metric stays, they read more
    than the words.

    Parameters
    ----------
    scores_before : (n, c) out of fold. scores_after : (n, c), by `score_by_fold` on the masked texts' activations
        (unchanged rows keep their scores); None where there are none.
    changed : (n,) bool, as of `mask_texts`.
    bag_before, bag_after : (L, n, c), as of `tfidf_scores` and `masked_bag_of_words`.
    reason : why there are no scores after masking.
    """
    metric = PRIMARY[kind]
    one = select(metric_table(scores_before[None], Y, kind, design), design)
    bags = [
        None if b is None else select(metric_table(b, Y, kind, design), design).metrics for b in (bag_before, bag_after)
    ]
    n_changed = int(np.count_nonzero(changed))
    if not n_changed:
        reason = reason or "no word carries the label on the surface, so nothing was masked"
    elif scores_after is None:
        reason = reason or "the masked texts were not run through the model"
    nothing = Estimate(float("nan"))
    after, loss, p_loss = nothing, nothing, float("nan")
    if not reason:
        assert scores_after is not None
        other = select(metric_table(scores_after[None], Y, kind, design), design)
        after = other.metrics[metric]
        loss, p_loss = gain(one, other, metric, design)
    return GiveawayEffect(
        metric=metric,
        before=one.metrics[metric],
        after=after,
        loss=loss,
        p_loss=p_loss,
        bag_before=None if bags[0] is None else bags[0][metric],
        bag_after=None if bags[1] is None else bags[1][metric],
        n_changed=n_changed,
        n=len(Y),
        reason=reason,
    )
