"""Minimum description length by online (prequential) coding: how few bits a probe needs to send the labels.

Sender and receiver share the activations. The labels of a first portion are sent at log2 C bits each; both sides then
train the same probe on them, and its probabilities code the next portion, and so on. A concept that few labels teach
has a short code; labels that a probe could only memorise have not, since it never codes a label that it has seen.

    bits = n_1·log2 C − Σ_p Σ_{i in portion p} log2 P(y_i | x_i, all portions before p)

*The penalty* comes from the past alone: each portion is coded at the setting with the least code so far. The prior,
which sends the smoothed class frequencies of the past, stands among the settings and begins, so that features
without use cost next to nothing. Or all of them code together, each weighted by 2^−(its code so far): a Bayesian
mixture, whose code exceeds that of the best of them, the prior among them, by log2(their number) at most. *Groups* are
never past and coded at once; the mixture takes each portion as one word.

E. Voita and I. Titov (2020), Information-Theoretic Probing with Minimum Description Length, arXiv:2003.12298.
L. Blier and Y. Ollivier (2018), The Description Length of Deep Learning Models, arXiv:1802.07044.
A. P. Dawid (1984), Present position and potential developments: the prequential approach, J. R. Statist. Soc. A 147.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.learning_curve import (
    DEFAULT_PORTIONS,
    MIN_ROWS,
    CurvePoint,
    draw_orders,
    learning_curve,
    over_orders,
    rows_to_reach,
)
from leadline.evidence.metrics import CHANCE, PRIMARY
from leadline.evidence.permutation import draw_shuffles
from leadline.evidence.prequential import OrderCode, code_order
from leadline.probes.fit import Family
from leadline.probes.fitted import LIKELIHOODS, LinearFamily
from leadline.probes.intervals import Estimate
from leadline.probes.logistic import Logistic
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.parallel import map_sites
from leadline.probes.ridge import Ridge
from leadline.probes.splits import group_codes

__all__ = ["DEFAULT_PORTIONS", "CodeLength", "CurvePoint", "OrderCode", "code_length"]

_FEWEST_SHUFFLES = 19
# Below this share of the largest l1, a path that fits shuffled labels on few rows takes minutes, and codes them badly.
_SMALLEST_L1 = 0.1
_NONE = Estimate(float("nan"))


@dataclass(frozen=True)
class CodeLength:
    """Code lengths in bits. An `Estimate` holds the mean over orders with the lowest and the highest order.

    That spread says how much the order of the rows matters; it is not an interval for another sample of rows.

    Attributes
    ----------
    family : the name of the family that coded. n, n_groups, n_classes : of the data.
    bits, bits_per_label : the code of the labels.
    uniform_bits : n·log2 C. entropy_bits : n·H of the class shares, which a receiver would have to be told.
    prior_bits : the prior's own online code, on the same portions.
    compression, compression_prior : uniform_bits / bits and entropy_bits / bits; the ratio at the mean code, and at
        the longest and the shortest.
    random_bits, random_prior_bits : the same codes of shuffled labels; over orders and shuffles.
    gap : bits a label that shuffled labels need beyond the true ones, each shuffle against its own order.
    scheme : how labels were shuffled, in words.
    curve : a point for each size of the training rows. metric : the name of the curve's.
    orders : what each order gave.
    notes : what a reader should know of how the family was coded. reason : why there is no code; empty where there is.
    """

    family: str
    n: int
    n_groups: int
    n_classes: int
    bits: Estimate
    bits_per_label: Estimate
    uniform_bits: float
    entropy_bits: float
    prior_bits: Estimate
    compression: Estimate
    compression_prior: Estimate
    random_bits: Estimate
    random_prior_bits: Estimate
    gap: Estimate
    scheme: str
    curve: tuple[CurvePoint, ...]
    metric: str
    orders: tuple[OrderCode, ...]
    notes: tuple[str, ...]
    reason: str

    def rows_to_reach(self, share: float = 0.9, final: float | None = None) -> float:
        """The fewest training rows from which on the metric keeps `share` of what it gains over chance by the end.

        `final` is the metric that counts as all; by default that of the curve's last point. NaN where it is not kept,
        or where the end is not above chance.
        """
        return rows_to_reach(self.curve, CHANCE[self.metric], share, final)


def code_length(
    family: Family,
    X: np.ndarray,
    Y: np.ndarray,
    kind: str,
    groups: np.ndarray | None = None,
    *,
    portions: Sequence[float] = DEFAULT_PORTIONS,
    n_orders: int = 5,
    n_classes: int | None = None,
    choice: str = "leader",
    random: bool = True,
    n_shuffles: int = 1,
    seed: int = 0,
) -> CodeLength:
    """Code the labels online at one site, averaged over orders of the rows, and trace the label efficiency.

    A class that the past lacks is coded at its smoothed share, (0.5 + 0) / (n_past + C / 2), and the probe shares out
    the rest; a past of one class, or one that the family refuses, is coded by the prior alone. Families whose scores
    are no log odds are stood in for by the likelihood of the kind (`Logistic`, `Multinomial`, `Ordinal`); class
    weights and priors that do not come from the data are dropped; `notes` says so. The curve's metric is that of the
    probe with the least code so far, the prior aside.

    Parameters
    ----------
    family : with the settings to choose from. X : (n, d). kind, Y : binary (n, 1) of 0 and 1, multiclass and ordinal
        (n, 1) codes 0 … C−1; continuous (n, m), for which there is a curve of R² alone.
    groups : (n,) labels that are kept whole, or None.
    portions : shares of the rows at which an order is cut, the last 1; portions of few rows are joined.
    n_classes : C, where some class may be without rows.
    choice : `"leader"`, the setting with the least code so far, or `"mixture"`, all of them by their code so far.
    random : whether shuffled labels are coded too, `n_shuffles` an order; labels move within groups where they vary
        there, and else whole groups exchange theirs.

    Raises
    ------
    EvidenceError : an unknown kind or choice, arrays that do not fit, activations that are not finite, or labels of
        one class.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.logistic import Logistic
    >>> X = np.random.default_rng(0).normal(size=(400, 8))
    >>> found = code_length(Logistic(), X, (X[:, :1] > 0).astype(float), "binary", n_orders=2)
    >>> bool(found.compression.low > 2 and found.random_bits.value > 2 * found.bits.value)
    True
    """
    n = len(Y)
    _check(X, Y, kind, n_classes)
    if n_shuffles < 1:
        raise EvidenceError(f"got {n_shuffles} shuffles an order; expected 1 or more, or random=False for none.")
    if choice not in ("leader", "mixture"):
        raise EvidenceError(f"choice is {choice!r}; expected 'leader' or 'mixture'.")
    classes = 0 if kind == "continuous" else max(int(Y.max()) + 1, n_classes or 0, 2)
    codes = group_codes(groups, n)
    n_groups = int(codes.max()) + 1
    groups = None if n_groups == n else groups
    coder, notes = _coder(family, kind)
    orders = draw_orders(groups, n, portions, n_orders, seed)
    columns, scheme = Y, ""
    if random and kind != "continuous":
        n_draws = max(_FEWEST_SHUFFLES, n_orders * n_shuffles)
        try:
            shuffles = draw_shuffles(Y, groups, n_draws, seed)
        except EvidenceError as error:
            notes.append(f"no labels at random were coded: {error}")
        else:
            scheme = shuffles.scheme
            columns = np.hstack([Y, Y[:, 0][shuffles.index[1 : 1 + n_orders * n_shuffles]].T])
    uniform, entropy = (n * np.log2(classes), _entropy_bits(Y, classes)) if classes else (np.nan, np.nan)
    empty = CodeLength(
        coder.name, n, n_groups, classes, _NONE, _NONE, float(uniform), float(entropy), _NONE, _NONE, _NONE, _NONE,
        _NONE, _NONE, scheme, (), PRIMARY[kind], (), tuple(notes), "",
    )  # fmt: skip
    if all(len(order.ends) < 2 for order in orders):
        what = f"{n:,} rows" if n < 2 * MIN_ROWS else f"{n:,} rows in {n_groups:,} groups"
        reason = f"{what} leave nothing to train on before the last portion; {MIN_ROWS} rows or more must stand there"
        return replace(empty, reason=reason)

    def run(index: int) -> tuple[OrderCode, list[str]]:
        own = columns
        if classes:
            first = 1 + index * n_shuffles
            own = np.hstack([Y, columns[:, first : first + n_shuffles]])
        return code_order(coder, X, own, kind, classes, orders[index], choice)

    results = list(map_sites(run, range(n_orders)))
    coded = tuple(code for code, _ in results)
    refused = [message for _, messages in results for message in messages]
    if refused:
        notes.append(f"{len(refused)} fits were refused, and the prior coded in their place; the first: {refused[0]}")
    curve = learning_curve(
        orders,
        [code.metric for code in coded],
        [code.bits / np.diff(code.ends, prepend=0) for code in coded],
    )
    result = replace(empty, curve=curve, orders=coded, notes=tuple(notes))
    if not classes:
        return replace(result, reason="a continuous target has no classes to code; the curve of R² stands alone")
    total = np.array([code.bits.sum() for code in coded])
    shuffled = np.array([code.random_bits for code in coded])
    return replace(
        result,
        bits=over_orders(total),
        bits_per_label=over_orders(total / n),
        prior_bits=over_orders(np.array([code.prior_bits.sum() for code in coded])),
        compression=_ratio(float(uniform), over_orders(total)),
        compression_prior=_ratio(float(entropy), over_orders(total)),
        random_bits=over_orders(shuffled.ravel()),
        random_prior_bits=over_orders(np.array([code.random_prior_bits for code in coded]).ravel()),
        gap=over_orders(((shuffled - total[:, None]) / n).ravel()),
    )


def _check(X: np.ndarray, Y: np.ndarray, kind: str, n_classes: int | None) -> None:
    if kind not in PRIMARY:
        raise EvidenceError(f"kind is {kind!r}; expected one of {', '.join(PRIMARY)}.")
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or not X.size * Y.size:
        raise EvidenceError(f"got X {X.shape} and Y {Y.shape}; expected (n, d) and (n, m) of one n.")
    if not np.isfinite(Y).all() or not np.isfinite(X.sum(axis=1, dtype=np.float64)).all():
        raise EvidenceError("the activations or the targets hold a NaN or an infinity; leave those rows out.")
    if kind == "continuous":
        return
    top = 2 if kind == "binary" else n_classes if n_classes is not None else np.inf
    if Y.shape[1] != 1 or (np.round(Y) != Y).any() or Y.min() < 0 or Y.max() >= top:
        limit = "" if top == np.inf else f" below {top}"
        raise EvidenceError(f"a {kind} target is one column of codes 0, 1, …{limit}; got {Y.shape} up to {Y.max():g}.")
    if Y.min() == Y.max():
        raise EvidenceError("every label is the same, so there is nothing to code; give rows of two classes or more.")


def _coder(family: Family, kind: str) -> tuple[Any, list[str]]:
    """The family that codes, and what a reader should know of it."""
    stand_ins: dict[str, Any] = {
        "binary": Logistic(),
        "multiclass": Multinomial(),
        "ordinal": Ordinal(),
        "continuous": Ridge(),
    }
    stand_in = stand_ins[kind]
    if kind not in family.kinds:
        return stand_in, [f"{family.name} takes no {kind} target; {stand_in.name} stands in for it"]
    if kind == "continuous":
        if isinstance(family, LinearFamily):
            return family, []
        return stand_in, [f"{family.name} is no linear family; {stand_in.name} stands in for it"]
    if family.name not in LIKELIHOODS:
        return stand_in, [f"the scores of {family.name} are no log odds; {stand_in.name} codes in its place"]
    coder: Any = family
    names = {field.name for field in fields(coder)}
    notes = []
    # Probabilities that are tilted on purpose would code the labels as they do not come.
    if "class_weight" in names and coder.class_weight is not None:
        coder = replace(coder, class_weight=None)
        notes.append("class weights were left out, since a code needs the classes as they come")
    if "priors" in names and coder.priors != "empirical":
        coder = replace(coder, priors="empirical")
        notes.append("the priors are the empirical ones, since a code needs the classes as they come")
    if coder.parameter == "l1" and coder.l1 is None and coder.smallest_l1 < _SMALLEST_L1:
        coder = replace(coder, smallest_l1=_SMALLEST_L1, n_l1=min(coder.n_l1, 10))
        notes.append(f"l1 was tried down to {_SMALLEST_L1:g} of the largest alone")
    return coder, notes


def _entropy_bits(Y: np.ndarray, n_classes: int) -> float:
    """n·H of the class shares."""
    counts = np.bincount(Y[:, 0].astype(np.int64), minlength=n_classes)
    held = counts[counts > 0]
    return float(-(held * np.log2(held / len(Y))).sum())


def _ratio(top: float, bits: Estimate) -> Estimate:
    return Estimate(top / bits.value, top / bits.high, top / bits.low)
