"""Structural probes: is a parse tree there as distances and norms under one linear map?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.folds import check_design, fold_moments, training_rows
from leadline.probes.solvers.structural import solve_structural, spectral_start, sphering
from leadline.probes.structural_fit import RankSweep, StructuralFit
from leadline.probes.structural_metrics import DepthScores, DistanceScores, score_depths, score_distances
from leadline.probes.trees import check_heads, tree_depths, tree_distances

__all__ = ["DepthProbe", "DistanceProbe", "score_random_map"]


@dataclass(frozen=True)
class _Structural:
    """What both probes share.

    Parameters
    ----------
    rank : k, the rows of B, at most the width of the activations; None for that width.
    rate : the first step of Adam, as a share of the root mean square of the start.
    max_epochs : passes over the sentences, at most. batch_size : sentences a step.
    shrinkage : in 0 to 1, one or several, of which the held-out loss chooses. The solver works on features that are
        sphered up to this share of their identity: near 0 it reaches the smallest training loss, at 1 it works on
        standardised features, and stops where rare directions are hardly used, which generalises better with few words.
    device : where to solve, as torch names it.
    """

    rank: int | None = 64
    shrinkage: float | tuple[float, ...] = (0.01, 0.3, 1.0)
    rate: float = 0.1
    max_epochs: int = 500
    batch_size: int = 20
    device: str = field(default="cpu", kw_only=True)

    def __post_init__(self) -> None:
        if (self.rank is not None and self.rank < 1) or self.max_epochs < 1 or self.batch_size < 1 or not self.rate > 0:
            raise ProbeError(
                f"got rank {self.rank}, rate {self.rate}, max_epochs {self.max_epochs}, batch_size {self.batch_size}; "
                "expected each above 0 (rank None for the full width)."
            )

        if not self.shrinkages or any(not 0 < x <= 1 for x in self.shrinkages):
            raise ProbeError(f"shrinkage is {self.shrinkage}; expected one or several numbers above 0, up to 1.")

    @property
    def shrinkages(self) -> tuple[float, ...]:
        """The shrinkages that are tried."""
        given = self.shrinkage
        return (float(given),) if isinstance(given, int | float) else tuple(float(x) for x in given)

    @property
    def name(self) -> str:
        raise NotImplementedError

    def fit(
        self,
        sentences: Sequence[np.ndarray],
        heads: Sequence[np.ndarray],
        *,
        fold: np.ndarray | None = None,
        test: np.ndarray | None = None,
        keep: Sequence[np.ndarray] | None = None,
        groups: np.ndarray | None = None,
        seed: int = 0,
        n_replicates: int = 1000,
    ) -> StructuralFit:
        """Fit on sentences, and judge on those that were held out.

        Features are standardised by the training words of each fit, and the scaling is folded back into the map.

        Parameters
        ----------
        sentences : S (T_i, d) raw activations, a row a word.
        heads : S (T_i,) trees, as `leadline.probes.trees` describes them: 0-based, −1 or itself at the root.
        fold : (S,) the fold that tests a sentence; the refit on all sentences comes last. −1 everywhere, or None: the
            refit alone.
        test : (S,) bool, in place of `fold`: sentences that no fit trains on.
        keep : S (T_i,) bool, False for words (punctuation) that UUAS and root accuracy leave out. They are trained on.
        seed : of the start, the batches, the held-out tenth and the bootstrap.
        groups : (S,) labels of documents: the bootstrap draws them whole, since sentences of one document are alike.
            Keep them whole in `fold` or `test` too.
        n_replicates : of the bootstrap over sentences, or groups.

        Raises
        ------
        ProbeError : heads that are no tree, shapes that do not fit, a rank above the width.
        """
        return self.rank_sweep(
            sentences,
            heads,
            (self.rank,),
            fold=fold,
            test=test,
            keep=keep,
            groups=groups,
            seed=seed,
            n_replicates=n_replicates,
        )[0]

    def rank_sweep(
        self,
        sentences: Sequence[np.ndarray],
        heads: Sequence[np.ndarray],
        ranks: Sequence[int | None],
        *,
        fold: np.ndarray | None = None,
        test: np.ndarray | None = None,
        keep: Sequence[np.ndarray] | None = None,
        groups: np.ndarray | None = None,
        seed: int = 0,
        n_replicates: int = 1000,
    ) -> RankSweep:
        """Fit every rank, in one pass over the batches for all of them; parameters and errors as for `fit`."""
        words, trees = check_sentences(sentences, heads)
        if groups is not None and np.shape(groups) != (len(words),):
            raise ProbeError(
                f"got groups of shape {np.shape(groups)}; expected one for each of {len(words)} sentences."
            )
        plan, token_fold, n_folds = _plan(words, fold, test)
        d = words[0].shape[1]
        specs = [replace(self, rank=d if r is None else int(r)) for r in ranks]
        if not specs or any(s.rank is None or s.rank > d for s in specs):
            raise ProbeError(
                f"got ranks {list(ranks)} for activations of width {d}; expected 1 to {d}, or rank=None for {d}."
            )
        gold = [self._gold(tree) for tree in trees]
        tokens = np.concatenate(words)
        counted = token_fold > -2
        moments = fold_moments(tokens[counted], token_fold[counted], n_folds)
        shape = (len(plan), len(specs))
        status, epochs = np.zeros(shape, dtype=np.int8), np.zeros(shape, dtype=np.int64)
        train_loss, held_out, shrinkage = np.empty(shape), np.empty(shape), np.empty(shape)
        maps: list[list[np.ndarray]] = [[] for _ in specs]
        offsets: list[list[np.ndarray]] = [[] for _ in specs]
        predicted: list[dict[int, np.ndarray]] = [{} for _ in specs]
        for k, (train, judged) in enumerate(plan):
            mean, scale = self._scaling(moments.fold_mean[k], moments.fold_scale[k])
            standard = [self._design((words[s] - mean) / scale) for s in np.flatnonzero(train)]
            target = [gold[s] for s in np.flatnonzero(train)]
            held_out[k] = np.inf
            chosen: list[np.ndarray] = [np.empty((0, d))] * len(specs)
            for amount in self.shrinkages:
                sphere = sphering(standard, amount, within=self._within)
                sphered = [z @ sphere for z in standard]
                starts = [self._start(sphered, target, int(s.rank or d), seed) for s in specs]
                solution = solve_structural(
                    sphered,
                    target,
                    starts,
                    rate=self.rate,
                    max_epochs=self.max_epochs,
                    batch_size=self.batch_size,
                    seed=seed,
                    device=self.device,
                )
                for r in range(len(specs)):
                    # The first is kept whatever it is, so that a fit out of range still has its status.
                    if chosen[r].size and not solution.held_out_loss[r] < held_out[k, r]:
                        continue
                    chosen[r] = solution.maps[r] @ sphere.T
                    status[k, r], epochs[k, r], shrinkage[k, r] = solution.status[r], solution.epochs[r], amount
                    train_loss[k, r], held_out[k, r] = solution.train_loss[r], solution.held_out_loss[r]
            for r, found in enumerate(chosen):
                raw = found[:, :d] / scale
                extra = found[:, d] if found.shape[1] > d else np.zeros(len(found))
                offset = extra - raw @ mean if found.shape[1] > d else extra
                maps[r].append(raw)
                offsets[r].append(offset)
                for s in np.flatnonzero(judged):
                    predicted[r][int(s)] = self.predict_from(words[s], raw, offset)
        fits = []
        for r, spec in enumerate(specs):
            rows = np.array(sorted(predicted[r]), dtype=np.int64)
            values = tuple(predicted[r][s] for s in rows)
            usable = len(rows) and all(np.isfinite(v).all() for v in values)
            masks = None if keep is None else [keep[s] for s in rows]
            trees_judged = [trees[s] for s in rows]
            own = None if groups is None else np.asarray(groups)[rows]
            fits.append(
                StructuralFit(
                    spec=spec,  # type: ignore[arg-type]
                    map=maps[r][-1],
                    offset=offsets[r][-1],
                    fold_maps=np.stack(maps[r])[:n_folds],
                    fold_offsets=np.stack(offsets[r])[:n_folds],
                    judged=rows,
                    predicted=values,
                    scores=self._score(values, trees_judged, masks, own, n_replicates, seed) if usable else None,
                    status=status[:, r],
                    epochs=epochs[:, r],
                    train_loss=train_loss[:, r],
                    held_out_loss=held_out[:, r],
                    shrinkage=shrinkage[:, r],
                )
            )
        return RankSweep(tuple(fits))

    @property
    def _within(self) -> bool:
        raise NotImplementedError

    def _gold(self, heads: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _scaling(self, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return mean, scale

    def _design(self, standard: np.ndarray) -> np.ndarray:
        return standard

    def _start(self, words: list[np.ndarray], gold: list[np.ndarray], rank: int, seed: int) -> np.ndarray:
        raise NotImplementedError

    def predict_from(self, words: np.ndarray, map: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """(T, T) squared distances or (T,) squared norms of words (T, d) under a raw map (k, d) and offset (k,)."""
        raise NotImplementedError

    def _score(
        self,
        predicted: Sequence[np.ndarray],
        trees: list[np.ndarray],
        keep: list[np.ndarray] | None,
        groups: np.ndarray | None,
        n_replicates: int,
        seed: int,
    ) -> DistanceScores | DepthScores:
        raise NotImplementedError


@dataclass(frozen=True)
class DistanceProbe(_Structural):
    """A map B under which squared distances between words are distances in the parse tree.

    Minimises the mean over sentences of 1/T² · Σ_ij |d_tree(i, j) − ‖B(h_i − h_j)‖²|, from a start in closed form, by
    Adam with a step that falls on a plateau; see `leadline.probes.solvers.structural`. Parameters as the class
    `_Structural` has them: rank (64), shrinkage (0.01, 0.3, 1), rate (0.1), max_epochs (500), batch_size (20), device.

    Raises
    ------
    ProbeError : a parameter that is not positive.

    References
    ----------
    J. Hewitt and C. D. Manning (2019), A structural probe for finding syntax in word representations, NAACL.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> heads = [np.array([-1, 0, 1, 1])] * 12
    >>> sentences = [rng.normal(size=(4, 6)) for _ in heads]
    >>> fit = DistanceProbe(rank=2, max_epochs=3).fit(sentences, heads)
    >>> fit.predict(sentences[0]).shape
    (4, 4)
    """

    @property
    def name(self) -> str:
        return "structural_distance"

    @property
    def figure(self) -> str:
        """The headline figure in `StructuralFit.scores`."""
        return "uuas"

    @property
    def _within(self) -> bool:
        return True

    def _gold(self, heads: np.ndarray) -> np.ndarray:
        return tree_distances(heads)

    def _start(self, words: list[np.ndarray], gold: list[np.ndarray], rank: int, seed: int) -> np.ndarray:
        return spectral_start(words, gold, rank)

    def predict_from(self, words: np.ndarray, map: np.ndarray, offset: np.ndarray) -> np.ndarray:
        projected = (words - words.mean(axis=0)) @ map.T
        square = np.square(projected).sum(axis=1)
        found = np.maximum(square[:, None] + square - 2 * projected @ projected.T, 0)
        np.fill_diagonal(found, 0)
        return np.asarray((found + found.T) / 2)

    def _score(
        self,
        predicted: Sequence[np.ndarray],
        trees: list[np.ndarray],
        keep: list[np.ndarray] | None,
        groups: np.ndarray | None,
        n_replicates: int,
        seed: int,
    ) -> DistanceScores:
        return score_distances(predicted, trees, keep=keep, groups=groups, n_replicates=n_replicates, seed=seed)


@dataclass(frozen=True)
class DepthProbe(_Structural):
    """A map B under which squared norms of words are depths in the parse tree.

    Minimises the mean over sentences of 1/T · Σ_i |depth(i) − ‖B h_i + b‖²|, with b = 0 as in the paper unless
    `has_offset`. Without an offset the features are divided by their root mean square about 0, not about their mean,
    since the origin then bears meaning. The start is random, by the seed.

    Parameters
    ----------
    rank, shrinkage, rate, max_epochs, batch_size, device : as for `DistanceProbe`.
    has_offset : fit b too: depths are then measured from a fitted origin instead of from 0.

    References
    ----------
    J. Hewitt and C. D. Manning (2019), A structural probe for finding syntax in word representations, NAACL.
    """

    has_offset: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return "structural_depth"

    @property
    def figure(self) -> str:
        """The headline figure in `StructuralFit.scores`."""
        return "root_accuracy"

    @property
    def _within(self) -> bool:
        return False

    def _gold(self, heads: np.ndarray) -> np.ndarray:
        return tree_depths(heads)

    def _scaling(self, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.has_offset:
            return mean, scale
        return np.zeros_like(mean), np.sqrt(np.square(mean) + np.square(scale))

    def _design(self, standard: np.ndarray) -> np.ndarray:
        return np.hstack([standard, np.ones((len(standard), 1))]) if self.has_offset else standard

    def _start(self, words: list[np.ndarray], gold: list[np.ndarray], rank: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, rank])
        B = rng.uniform(-1, 1, size=(rank, words[0].shape[1]))
        now = sum(float(np.square(w @ B.T).sum()) for w in words)
        wanted = sum(float(g.sum()) for g in gold)
        return np.asarray(B * np.sqrt(wanted / now)) if now > 0 and wanted > 0 else B

    def predict_from(self, words: np.ndarray, map: np.ndarray, offset: np.ndarray) -> np.ndarray:
        return np.asarray(np.square(words @ map.T + offset).sum(axis=1))

    def _score(
        self,
        predicted: Sequence[np.ndarray],
        trees: list[np.ndarray],
        keep: list[np.ndarray] | None,
        groups: np.ndarray | None,
        n_replicates: int,
        seed: int,
    ) -> DepthScores:
        return score_depths(predicted, trees, keep=keep, groups=groups, n_replicates=n_replicates, seed=seed)


def score_random_map(
    spec: DistanceProbe | DepthProbe,
    sentences: Sequence[np.ndarray],
    heads: Sequence[np.ndarray],
    *,
    keep: Sequence[np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    n_replicates: int = 1000,
    seed: int = 0,
) -> DistanceScores | DepthScores:
    """The baseline that learns nothing: a Gaussian map of the same rank, on features standardised over all words.

    It tells what the activations' own geometry gives. No tree is seen before judging, so all sentences are judged.
    """
    words, trees = check_sentences(sentences, heads)
    d = words[0].shape[1]
    rank = d if spec.rank is None else spec.rank
    tokens = np.concatenate(words)
    moments = fold_moments(tokens, np.full(len(tokens), -1), 0)
    mean, scale = spec._scaling(moments.mean, moments.scale)
    B = np.random.default_rng([seed, rank]).normal(size=(rank, d)) / scale
    values = [spec.predict_from(w - mean, B, np.zeros(rank)) for w in words]
    return spec._score(values, trees, None if keep is None else list(keep), groups, n_replicates, seed)


def check_sentences(
    sentences: Sequence[np.ndarray], heads: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Check activations and trees against each other, and return them in float64 and as `check_heads` does.

    Raises
    ------
    ProbeError : none at all, numbers or shapes that do not fit, values that are not finite, heads that are no tree.
    """
    if not len(sentences) or len(sentences) != len(heads):
        raise ProbeError(f"got {len(sentences)} sentences and {len(heads)} trees; expected one tree a sentence.")
    words = [np.asarray(s, dtype=np.float64) for s in sentences]
    trees = [check_heads(h, f"sentence {index}") for index, h in enumerate(heads)]
    width = words[0].shape[-1] if words[0].ndim == 2 else 0
    for index, (w, tree) in enumerate(zip(words, trees, strict=True)):
        if w.shape != (len(tree), width) or not width:
            raise ProbeError(
                f"sentence {index} has activations of shape {w.shape} and {len(tree)} heads; expected "
                f"({len(tree)}, {width or 'd'}), one row a word and one width for all sentences."
            )
        if not np.isfinite(w).all():
            raise ProbeError(f"sentence {index} holds a NaN or an infinity; extract it again or leave it out.")
    return words, trees


def _plan(
    words: list[np.ndarray], fold: np.ndarray | None, test: np.ndarray | None
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, int]:
    """Which sentences each fit trains on and judges; the words' folds, −2 for words never trained on; K."""
    n = len(words)
    lengths = [len(w) for w in words]
    nobody = np.zeros(n, dtype=bool)
    if test is not None:
        held = np.asarray(test)
        if fold is not None or held.shape != (n,) or held.dtype != bool or held.all():
            raise ProbeError(
                f"got test of shape {held.shape} and dtype {held.dtype}{'' if fold is None else ' and a fold'}; "
                f"expected either a fold or {n} bools, some False."
            )
        return [(~held, held)], np.repeat(np.where(held, -2, -1), lengths), 0
    part = np.full(n, -1) if fold is None else np.asarray(fold)
    if part.shape != (n,):
        raise ProbeError(f"got fold of shape {part.shape}; expected the fold of each of {n} sentences.")
    n_folds = check_design(np.zeros((n, 1)), np.zeros((n, 1)), part)
    plan = [(training_rows(part, k), part == k) for k in range(n_folds)]
    return [*plan, (~nobody, nobody)], np.repeat(part, lengths), n_folds
