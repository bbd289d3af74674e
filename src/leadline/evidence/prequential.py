"""One order of the rows, coded online: every target and setting of a portion by fits on the portions before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from leadline.errors import ProbeError
from leadline.evidence.learning_curve import Order
from leadline.evidence.metrics import PRIMARY, all_metrics
from leadline.probes.losses import LOSSES

__all__ = ["OnlineCode", "OrderCode", "code_order"]

# Krichevsky and Trofimov (1981): half a row of every class before the first.
_SMOOTHING = 0.5


@dataclass(frozen=True)
class OrderCode:
    """The code of one order, a portion after the other.

    Attributes
    ----------
    ends : (P,) rows coded when a portion ends. bits, prior_bits : (P,) of the portions, by the probe's code and by the
        prior's; the first of both is uniform, and both are NaN for a continuous target.
    setting : (P,) that had the least code before a portion; NaN where the prior had, in the first portion, and for
        families without one. by_probe : (P,) bool, whether a probe had less code than the prior.
    metric : (P,) the primary metric on a portion; entry 0 NaN.
    random_bits, random_prior_bits : (R,) in all, for each shuffle of the labels.
    """

    ends: np.ndarray
    bits: np.ndarray
    prior_bits: np.ndarray
    setting: np.ndarray
    by_probe: np.ndarray
    metric: np.ndarray
    random_bits: np.ndarray
    random_prior_bits: np.ndarray


class OnlineCode:
    """The code of one target in one order as it grows: every setting's code so far, and what was sent."""

    def __init__(self, kind: str, n_classes: int, family: Any, choice: str) -> None:
        self.kind, self.n_classes, self.choice = kind, n_classes, choice
        self.loss = LOSSES["squared_error" if kind == "continuous" else family.loss]
        self.fewest_first = family.parameter == "k"
        self.bits: list[float] = []
        self.prior_bits: list[float] = []
        self.settings: list[float] = []
        self.by_probe: list[bool] = []
        self._prior_so_far = 0.0
        self._so_far: np.ndarray | None = None
        self._seen: np.ndarray = np.empty(0, dtype=np.int64)
        self._prior: np.ndarray = np.empty(0)
        self._mean: np.ndarray = np.empty(0)
        self._spread: np.ndarray = np.empty(0)

    def begin(self, n_rows: int) -> None:
        """The first portion, at log2 C bits a label."""
        uniform = n_rows * np.log2(self.n_classes) if self.n_classes else np.nan
        self._send(uniform, uniform, np.nan, False)

    def prepare(self, past: np.ndarray) -> np.ndarray | None:
        """Take in the past, and return what to fit: codes of the classes that it holds; None where it holds one."""
        if not self.n_classes:
            self._mean = past.mean(axis=0)
            spread = past.var(axis=0)
            self._spread = np.where(spread > 0, spread, 1.0)
            return past
        counts = np.bincount(past[:, 0].astype(np.int64), minlength=self.n_classes)
        self._prior = (counts + _SMOOTHING) / (counts.sum() + _SMOOTHING * self.n_classes)
        self._seen = np.flatnonzero(counts)
        return np.searchsorted(self._seen, past).astype(np.float64) if len(self._seen) > 1 else None

    def code(self, fitted: tuple[np.ndarray, np.ndarray] | None, own: np.ndarray) -> np.ndarray:
        """Code a portion (r, m) by the best so far, then count every setting's code; returns the scores to judge."""
        prior = self._prior_loss(own)
        flat = np.tile(self._mean, (len(own), 1)) if not self.n_classes else np.zeros((len(own), self._n_outputs))
        if fitted is None:
            self._send(prior, prior, np.nan, False)
            if self._so_far is not None:
                self._so_far = self._so_far + prior
            self._prior_so_far += prior
            return flat
        settings, scores = fitted
        # Where a fit has no finite scores, its setting codes by the prior; that is known before the labels are.
        losses = np.array([self._loss(s, own) if np.isfinite(s).all() else prior for s in scores])
        so_far = np.full(len(settings), self._prior_so_far) if self._so_far is None else self._so_far
        # The strongest penalty first, so that it is taken among equals.
        by_strength = np.argsort(settings if self.fewest_first else -settings, kind="stable")
        leader = int(by_strength[np.argmin(so_far[by_strength])])
        by_probe = bool(so_far[leader] < self._prior_so_far)
        sent = losses[leader] if by_probe else prior
        if self.choice == "mixture":
            before = -np.log(2) * np.append(so_far, self._prior_so_far)
            after = before - np.log(2) * np.append(losses, prior)
            sent = (logsumexp(before) - logsumexp(after)) / np.log(2)
        self._send(sent, prior, settings[leader] if by_probe else np.nan, by_probe)
        self._so_far = so_far + losses
        self._prior_so_far += prior
        return self._spread_out(scores[leader]) if np.isfinite(scores[leader]).all() else flat

    def _send(self, bits: float, prior: float, setting: float, by_probe: bool) -> None:
        self.bits.append(float(bits) if self.n_classes else np.nan)
        self.prior_bits.append(float(prior) if self.n_classes else np.nan)
        self.settings.append(float(setting))
        self.by_probe.append(by_probe)

    @property
    def _n_outputs(self) -> int:
        return {"binary": 1, "multiclass": self.n_classes, "ordinal": self.n_classes - 1}[self.kind]

    def _prior_loss(self, own: np.ndarray) -> float:
        """Bits of a portion by the smoothed shares of the past; of numbers, their squared error about its mean."""
        if not self.n_classes:
            return float((np.square(own - self._mean) / self._spread).sum())
        return float(-np.log2(self._prior[own[:, 0].astype(np.int64)]).sum())

    def _loss(self, scores: np.ndarray, own: np.ndarray) -> float:
        """Bits of a portion by a fit's scores (r, c); of numbers, their squared error."""
        if not self.n_classes:
            return float((self.loss(scores, own) / self._spread).sum())
        codes = own[:, 0].astype(np.int64)
        known = np.isin(codes, self._seen)
        bits = -np.log2(self._prior[codes[~known]]).sum()
        if known.any():
            ranks = np.searchsorted(self._seen, codes[known])[:, None].astype(np.float64)
            bits += self.loss(scores[known], ranks).sum() / np.log(2)
            # The share of the classes that the past lacks is taken from what the fit shares out.
            bits -= known.sum() * np.log2(self._prior[self._seen].sum()) if len(self._seen) < self.n_classes else 0.0
        return float(bits)

    def _spread_out(self, scores: np.ndarray) -> np.ndarray:
        """Scores of the classes that the past holds, as (r, c) scores of all of them."""
        if not self.n_classes or len(self._seen) == self.n_classes:
            return scores
        low = np.full((len(scores), 1), scores.min() - 1)
        if self.kind == "multiclass":
            out = np.repeat(low, self.n_classes, axis=1)
            out[:, self._seen] = scores
            return out
        # Column k says y > k: it is the threshold above the last class up to k that the past holds, if any.
        bounded = np.hstack([np.full((len(scores), 1), scores.max() + 1), scores, low])
        return bounded[:, np.searchsorted(self._seen, np.arange(self.n_classes - 1), side="right")]


def code_order(
    family: Any, X: np.ndarray, Y: np.ndarray, kind: str, n_classes: int, order: Order, choice: str
) -> tuple[OrderCode, list[str]]:
    """Code one order.

    Parameters
    ----------
    family : whose scores are log odds. X : (n, d). n_classes : C, 0 for a continuous target.
    Y : (n, 1 + R), the target and its shuffles; (n, m) of a continuous target.
    choice : "leader" or "mixture".

    Returns
    -------
    The code, and what the family said where it refused a fit.
    """
    n_portions = len(order.ends)
    tracks = [OnlineCode(kind, n_classes, family, choice) for _ in range(Y.shape[1] if n_classes else 1)]
    targets = [Y[:, j : j + 1] for j in range(Y.shape[1])] if n_classes else [Y]
    metric = np.full(n_portions, np.nan)
    refused = []
    for p in range(n_portions):
        past, own = np.split(order.rows[: order.ends[p]], [order.ends[p - 1] if p else 0])
        if not p:
            for track in tracks:
                track.begin(len(own))
            continue
        wanted = [track.prepare(target[past]) for track, target in zip(tracks, targets, strict=True)]
        scores, messages = _past_fits(family, X, past, own, wanted, together=kind == "binary")
        refused += messages
        for at, (track, target) in enumerate(zip(tracks, targets, strict=True)):
            judged = track.code(scores[at], target[own])
            if not at:
                found = all_metrics(kind, judged, target[own], np.ones((len(own), 1)))
                metric[p] = found[PRIMARY[kind]][0]
    bits, prior = (np.array([getattr(track, name) for track in tracks]) for name in ("bits", "prior_bits"))
    code = OrderCode(
        ends=order.ends,
        bits=bits[0],
        prior_bits=prior[0],
        setting=np.array(tracks[0].settings),
        by_probe=np.array(tracks[0].by_probe),
        metric=metric,
        random_bits=bits[1:].sum(axis=1),
        random_prior_bits=prior[1:].sum(axis=1),
    )
    return code, refused


def _past_fits(
    family: Any, X: np.ndarray, past: np.ndarray, own: np.ndarray, wanted: list[np.ndarray | None], together: bool
) -> tuple[list[tuple[np.ndarray, np.ndarray] | None], list[str]]:
    """For each target (settings, scores (L, r, c) of the rows to code) by fits on the past; None where there is none.

    Parameters
    ----------
    wanted : (n_past, m) targets, None where the past has too few classes. together : fit the columns as one, which is
        where a family takes several; each column's fit is its own all the same.
    """
    found: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(wanted)
    asked = [at for at, target in enumerate(wanted) if target is not None]
    # A grid of l1 is derived from all columns of a fit together.
    batches = [asked] if asked and together and family.parameter != "l1" else [[at] for at in asked]
    rows, refused = X[past], []
    none = np.full(len(past), -1)
    while batches:
        batch = batches.pop()
        Y = np.hstack([target for at in batch if (target := wanted[at]) is not None])
        try:
            fit = family.fit_site(rows, Y, none)
        except ProbeError as error:
            # A past of few rows may be one that a family cannot fit, as where no class varies within itself; of
            # several targets, that may be so for one alone.
            if len(batch) > 1:
                batches += [[at] for at in batch]
            else:
                refused.append(f"{len(past)} rows: {error}")
            continue
        n_settings, _, d = fit.coef.shape
        scores = np.empty((n_settings, len(own), fit.coef.shape[1]))
        flat = fit.coef.reshape(-1, d).T
        for start in range(0, len(own), 4096):
            part = slice(start, start + 4096)
            block = (X[own[part]].astype(np.float64) @ flat).reshape(-1, *fit.coef.shape[:2])
            scores[:, part] = block.transpose(1, 0, 2) + fit.intercept[:, None]
        for place, at in enumerate(batch):
            found[at] = (fit.settings, scores[:, :, place : place + 1] if len(batch) > 1 else scores)
    return found, refused
