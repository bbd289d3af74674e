"""Rows that stand in two folds under two names: near-duplicates, by text and by activations.

Out-of-fold scores of a row are no test where a copy of it was trained on. What counts is a pair across folds that
shares the label; copies with the opposite label (minimal pairs) are no leak of it, and are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.duplicate_clusters import agreeing, chains, components, in_other_fold, label_shares
from leadline.evidence.near_rows import near_rows, standardised_rows
from leadline.evidence.near_texts import near_texts
from leadline.probes.intervals import Estimate, draw_groups, percentile
from leadline.probes.splits import group_codes

__all__ = ["LEAK_SHARE", "DuplicatePair", "SplitDuplicates", "cluster_cap", "split_duplicates"]

LEAK_SHARE = 0.05
"""Fewer duplicated rows, all of them right, move a metric by less than half the margin of "decodable"."""

_MIN_CLUSTERS = 5
_N_EXAMPLES = 10
_SAME_SPREAD = 0.1
_CONFIRMS = 0.1
_N_BOOTSTRAPS = 500


@dataclass(frozen=True)
class DuplicatePair:
    """A pair of near-duplicates in different folds.

    Attributes
    ----------
    first, second : rows. by : `"equal text"`, `"near text"` or `"activations"`.
    closeness : the Jaccard similarity of texts; for activations the distance as a share of the median distance.
    same_label : of the pair.
    """

    first: int
    second: int
    by: str
    closeness: float
    same_label: bool


@dataclass(frozen=True)
class SplitDuplicates:
    """Near-duplicates across folds.

    Shares are of the rows at hand, and need no interval.

    Attributes
    ----------
    n_rows, n_compared : rows, and those whose activations were compared with all others.
    share : of rows with a near-duplicate in another fold; share_equal_text, share_near_text, share_activations : by
        what shows it.
    share_same_label : of rows most of whose near-duplicates in other folds share their label; share_opposite_label :
        of rows none of whose do.
    agreement : how often a row and its near-duplicate in another fold share the label, with an interval over clusters;
        chance_agreement : how often two random rows do.
    n_clusters : clusters of near-duplicates that stand in two folds or more; largest_cluster : rows in the largest.
    cap : the largest cluster that counts. n_in_large_clusters : rows in larger ones, which do not count.
    examples : pairs. suggested_groups : (n,) int codes that keep near-duplicates, and the given groups, together.
    notes : what was sampled, left out, or cannot be told, in words.
    reason : why nothing could be compared, or an empty string.
    """

    n_rows: int
    n_compared: int
    share: float
    share_equal_text: float
    share_near_text: float
    share_activations: float
    share_same_label: float
    share_opposite_label: float
    agreement: Estimate
    chance_agreement: float
    n_clusters: int
    largest_cluster: int
    cap: int
    n_in_large_clusters: int
    examples: tuple[DuplicatePair, ...]
    suggested_groups: np.ndarray
    notes: tuple[str, ...]
    reason: str = ""

    @property
    def leaks(self) -> bool:
        """Whether the folds let a probe see test rows' labels: enough rows, and labels shared beyond chance."""
        return bool(
            self.share_same_label >= LEAK_SHARE
            and self.n_clusters >= _MIN_CLUSTERS
            and self.agreement.low > self.chance_agreement
        )

    @property
    def sentence(self) -> str:
        """What was found, in plain words."""
        if self.reason:
            return f"Near-duplicates across folds were not looked for: {self.reason}."
        if not self.n_clusters:
            return "No row has a near-duplicate in another fold."
        text = (
            f"{self.share:.1%} of rows have a near-duplicate in another fold; {self.share_same_label:.1%} share its "
            f"label, {self.share_opposite_label:.1%} have the opposite one"
        )
        return f"{text}: put the rows of a cluster into one group." if self.leaks else f"{text}."


def cluster_cap(n: int) -> int:
    """The largest cluster that is taken for copies of one row: ten rows, or 1% of them.

    Copies of one origin are few (a row read twice, its paraphrases, a handful of augmentations). Where hundreds of rows
    are equal, the text or the site has few distinct values, and what they share is a token or a template: a fact about
    the input that no grouping of rows would mend. A hundredth of the rows is also too little to carry a metric alone.
    """
    return max(10, n // 100)


def split_duplicates(
    X: np.ndarray | None,
    texts: Sequence[str] | None,
    Y: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray | None,
    *,
    max_rows: int = 10_000,
    seed: int = 0,
) -> SplitDuplicates:
    """Look for near-duplicates across folds.

    Where both are given, a pair must be near in both: the same word in another sentence is another row, and so is
    another text that ends in the same word. (Near texts that are not equal count whatever their activations.)

    Parameters
    ----------
    X : (n, d) activations of one site, or None. texts : one a row, or None.
    Y : (n, m) targets; a label is shared where all columns are equal, numbers within a tenth of their spread.
    fold : (n,). groups : (n,) or None. max_rows : rows whose activations are compared with all others.

    Raises
    ------
    EvidenceError : neither activations nor texts, or lengths that do not fit.
    """
    n = len(Y)
    if X is None and texts is None:
        raise EvidenceError("got neither activations nor texts; give at least one of them to compare rows by.")
    for name, given in (("activations", X), ("texts", texts), ("fold", fold)):
        if given is not None and len(given) != n:
            raise EvidenceError(f"got {len(given)} rows of {name} for {n} targets; give one a row.")
    cap = cluster_cap(n)
    notes: list[str] = []
    reasons: list[str] = []
    edges: list[tuple[str, np.ndarray, np.ndarray]] = []
    Z, median, compared = None, float("nan"), np.arange(n)
    if X is not None:
        Z = standardised_rows(X, seed)
        rows = near_rows(Z, cap, max_rows=max_rows, seed=seed)
        compared = rows.compared
        if rows.reason:
            reasons.append(rows.reason)
            notes.append(f"Activations: {rows.reason}.")
            Z = None
        else:
            median = rows.median
            edges.append(("activations", rows.pairs, rows.distance))
            if rows.n_crowded:
                notes.append(f"{rows.n_crowded:,} rows have more than {cap} equals and were not counted.")
        if len(compared) < n:
            notes.append(f"{len(compared):,} of {n:,} rows, drawn by the seed, were compared with all others.")
    if texts is not None:
        found = near_texts(texts, cap)
        if found.note:
            notes.append(found.note)
        if Z is not None and len(edges[0][1]):
            edges[0] = _told_apart(edges[0], found.codes, found.near, notes)
        same = chains(found.codes)
        if Z is not None and len(same):
            distance = np.concatenate(
                [np.linalg.norm(Z[p[:, 0]] - Z[p[:, 1]], axis=1) for p in np.array_split(same, 1 + len(same) // 4096)]
            )
            apart = distance >= _CONFIRMS * median
            if apart.any():
                notes.append(
                    f"{int(apart.sum()):,} pairs of equal text differ in their activations and were not counted: the "
                    "text shown is not all that the model read."
                )
            same = same[~apart]
        edges.append(("equal text", same, np.ones(len(same))))
        first = np.full(int(found.codes.max()) + 1, -1)
        first[found.codes[::-1]] = np.arange(n)[::-1]
        edges.append(("near text", first[found.near], found.similarity))
    if X is not None and texts is None and reasons:
        return _nothing(n, len(compared), cap, groups, tuple(notes), reasons[0])
    return _judged(edges, Y, fold, groups, len(compared) if X is not None else n, compared, cap, notes, seed)


def _told_apart(
    edge: tuple[str, np.ndarray, np.ndarray], codes: np.ndarray, near: np.ndarray, notes: list[str]
) -> tuple[str, np.ndarray, np.ndarray]:
    """Pairs by activations whose texts are equal or near too.

    Rows of different texts that lie close share a token, a template or the concept itself, which is no copying: a site
    that reads little else than the last word has them close by the hundred.
    """
    by, pairs, distance = edge
    n_codes = int(codes.max()) + 1
    low, high = np.sort(codes[pairs], axis=1).T
    alike = (low == high) | np.isin(low * n_codes + high, np.sort(near, axis=1) @ np.array([n_codes, 1]))
    if not alike.all():
        notes.append(
            f"{int((~alike).sum()):,} pairs have near activations and different texts, and were not counted: the site "
            "holds the same token, template or concept there."
        )
    return by, pairs[alike], distance[alike]


def _judged(
    edges: list[tuple[str, np.ndarray, np.ndarray]],
    Y: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray | None,
    n_compared: int,
    compared: np.ndarray,
    cap: int,
    notes: list[str],
    seed: int,
) -> SplitDuplicates:
    n = len(Y)
    tolerance = np.array(
        [0.0 if np.isin(y, np.arange(50)).all() and len(np.unique(y)) <= 50 else _SAME_SPREAD * y.std() for y in Y.T]
    )
    large = np.zeros(n, dtype=bool)
    has: dict[str, np.ndarray] = {}
    kept_edges = []
    for by, pairs, closeness in edges:
        cluster = components(n, pairs)
        too_large = np.bincount(cluster)[cluster] > cap
        large |= too_large
        kept = ~too_large[pairs[:, 0]] if len(pairs) else np.empty(0, dtype=bool)
        kept_edges.append((by, pairs[kept], closeness[kept]))
        other = in_other_fold(components(n, pairs[kept]), fold)
        has[by] = has.get(by, np.zeros(n, dtype=bool)) | other
    pairs = np.concatenate([p for _, p, _ in kept_edges]) if kept_edges else np.empty((0, 2), dtype=np.int64)
    cluster = components(n, pairs)
    crossing = in_other_fold(cluster, fold)
    rows, share_same = label_shares(cluster, crossing, Y, fold, tolerance)
    rng = np.random.default_rng([seed, 43])
    one, another = rng.integers(n, size=20_000), rng.integers(n, size=20_000)
    chance = float(agreeing(Y[one], Y[another], tolerance)[one != another].mean())
    agreement = Estimate(float("nan"))
    if len(rows):
        drawn = draw_groups(len(rows), _N_BOOTSTRAPS, seed, groups=cluster[rows])
        agreement = percentile(share_same @ drawn / np.maximum(drawn.sum(axis=0), 1e-12))
    sizes = np.bincount(cluster[crossing]) if crossing.any() else np.zeros(1, dtype=np.int64)
    if large.any():
        notes.append(f"{int(large.sum()):,} rows stand in clusters of more than {cap} and were not counted.")
    codes = group_codes(groups, n)
    own = np.arange(n)
    joined = np.concatenate([pairs, chains(codes)]) if groups is not None else pairs
    # Shares by activations are of the compared rows, of which alone they can be known.
    seen = np.zeros(n, dtype=bool)
    seen[compared] = True

    def share(by: str, among: np.ndarray) -> float:
        return float(has[by][among].mean()) if by in has else float("nan")

    return SplitDuplicates(
        n_rows=n,
        n_compared=n_compared,
        share=float(crossing[seen].mean()),
        share_equal_text=share("equal text", own),
        share_near_text=share("near text", own),
        share_activations=share("activations", compared),
        share_same_label=float((share_same[seen[rows]] > 0.5).sum() / seen.sum()),
        share_opposite_label=float((share_same[seen[rows]] == 0).sum() / seen.sum()),
        agreement=agreement,
        chance_agreement=chance,
        n_clusters=int((sizes > 0).sum()),
        largest_cluster=int(np.bincount(cluster)[cluster[crossing]].max()) if crossing.any() else 0,
        cap=cap,
        n_in_large_clusters=int(large.sum()),
        examples=_examples(kept_edges, Y, fold, tolerance),
        suggested_groups=group_codes(components(n, joined), n),
        notes=tuple(notes),
    )


def _examples(
    edges: list[tuple[str, np.ndarray, np.ndarray]], Y: np.ndarray, fold: np.ndarray, tolerance: np.ndarray
) -> tuple[DuplicatePair, ...]:
    found: dict[tuple[int, int], DuplicatePair] = {}
    # Equal texts say most, then near ones, then activations.
    for by, pairs, closeness in sorted(edges, key=lambda e: ("equal text", "near text", "activations").index(e[0])):
        cross = np.flatnonzero(fold[pairs[:, 0]] != fold[pairs[:, 1]]) if len(pairs) else np.empty(0, dtype=np.int64)
        nearest = cross[np.argsort(closeness[cross] if by == "activations" else -closeness[cross], kind="stable")]
        for p in nearest:
            first, second = sorted((int(pairs[p, 0]), int(pairs[p, 1])))
            same = bool(agreeing(Y[first], Y[second], tolerance))
            found.setdefault((first, second), DuplicatePair(first, second, by, float(closeness[p]), same))
            if len(found) == _N_EXAMPLES:
                return tuple(found.values())
    return tuple(found.values())


def _nothing(
    n: int, n_compared: int, cap: int, groups: np.ndarray | None, notes: tuple[str, ...], reason: str
) -> SplitDuplicates:
    nan = float("nan")
    return SplitDuplicates(
        n_rows=n,
        n_compared=n_compared,
        share=nan,
        share_equal_text=nan,
        share_near_text=nan,
        share_activations=nan,
        share_same_label=nan,
        share_opposite_label=nan,
        agreement=Estimate(nan),
        chance_agreement=nan,
        n_clusters=0,
        largest_cluster=0,
        cap=cap,
        n_in_large_clusters=0,
        examples=(),
        suggested_groups=group_codes(groups, n),
        notes=notes,
        reason=reason,
    )
