"""Structural probes by Adam on padded batches: every rank of a sweep in one pass over the sentences.

For a map B (k, d) and a sentence of T words z_1 … z_T (rows), the loss of the sentence is

    distance:  1/T² · Σ_ij | g_ij − ‖B(z_i − z_j)‖² |        depth:  1/T · Σ_i | g_i − ‖B z_i‖² |

with g the tree's distances or depths, and the objective is its mean over sentences (Hewitt and Manning 2019). It is not
convex in B, so nothing bounds what is left to gain. Words come sphered (`sphering`). The step is a share of the root
mean square of the start. It falls, from the best map so far, whenever the loss on held-out sentences has not improved
for two rounds (a round is a pass over the sentences, or as many as make 50 steps); a rank whose step has fallen to its
end has converged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leadline.probes.fit import Status

__all__ = ["Batch", "StructuralSolution", "pad", "sentence_losses", "solve_structural", "spectral_start", "sphering"]

DECAY = 0.3
DROPS = 5
ROUND = 50
PATIENCE = 1
IMPROVEMENT = 1e-4
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class Batch:
    """Sentences padded to the longest: words (b, T, d), gold (b, T, T) or (b, T), mask (b, T) of 1 and 0."""

    words: Tensor
    gold: Tensor
    mask: Tensor


@dataclass(frozen=True)
class StructuralSolution:
    """One entry a rank: the best map by held-out loss, that loss, the loss over the others, how it ended, epochs."""

    maps: tuple[np.ndarray, ...]
    held_out_loss: np.ndarray
    train_loss: np.ndarray
    status: np.ndarray
    epochs: np.ndarray


def pad(words: Sequence[np.ndarray], gold: Sequence[np.ndarray], device: str, dtype: torch.dtype) -> Batch:
    """One batch; padding is 0 in words, gold and mask."""
    n, longest = len(words), max(len(w) for w in words)
    X = torch.zeros((n, longest, words[0].shape[1]), dtype=dtype)
    mask = torch.zeros((n, longest), dtype=dtype)
    G = torch.zeros((n, longest, longest) if gold[0].ndim == 2 else (n, longest), dtype=dtype)
    for s, (w, g) in enumerate(zip(words, gold, strict=True)):
        size = len(w)
        X[s, :size] = torch.as_tensor(w, dtype=dtype)
        mask[s, :size] = 1
        if g.ndim == 2:
            G[s, :size, :size] = torch.as_tensor(g, dtype=dtype)
        else:
            G[s, :size] = torch.as_tensor(g, dtype=dtype)
    return Batch(X.to(device), G.to(device), mask.to(device))


def sentence_losses(projected: Tensor, gold: Tensor, mask: Tensor) -> Tensor:
    """(b,) the loss of each sentence, from B z (b, T, k); `gold` (b, T, T) for distances, (b, T) for depths."""
    length = mask.sum(dim=1)
    if gold.ndim == 3:
        gram = projected @ projected.transpose(1, 2)
        square = gram.diagonal(dim1=1, dim2=2)
        predicted = square[:, :, None] + square[:, None, :] - 2 * gram
        apart = (gold - predicted).abs() * mask[:, :, None] * mask[:, None, :]
        return apart.sum(dim=(1, 2)) / length.square()
    return ((gold - projected.square().sum(dim=2)).abs() * mask).sum(dim=1) / length


def solve_structural(
    words: Sequence[np.ndarray],
    gold: Sequence[np.ndarray],
    starts: Sequence[np.ndarray],
    *,
    rate: float,
    max_epochs: int,
    batch_size: int,
    seed: int,
    device: str = "cpu",
) -> StructuralSolution:
    """Fit one map a start, on the same batches; each ends as it would alone.

    Parameters
    ----------
    words : S (T_i, d) sphered. gold : S (T_i, T_i) distances or (T_i,) depths.
    starts : (k, d) a rank. rate : the first step, as a share of the start's root mean square.
    batch_size : sentences. seed : of the held-out tenth of the sentences and of the batches. With fewer than 10
        sentences none is held out, and the training loss takes the place of the held-out one.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(words))
    n_held = len(words) // 10
    held = order[:n_held]
    train = np.sort(order[n_held:])
    batches = _batches(words, gold, rng.permutation(train), batch_size, device)
    judged = _batches(words, gold, held, batch_size, device) if n_held else batches

    n_ranks = len(starts)
    maps = [torch.as_tensor(np.array(s), dtype=torch.float32, device=device) for s in starts]
    best = [m.clone() for m in maps]
    steps = [rate * float(m.square().mean().sqrt()) for m in maps]
    moments = [_Moments.zeros(m) for m in maps]
    lowest = np.array([_loss(m, judged) for m in maps])
    status = np.full(n_ranks, Status.ITERATION_LIMIT, dtype=np.int8)
    status[~np.isfinite(lowest)] = Status.NOT_FINITE
    bad, drops, epochs = np.zeros(n_ranks, int), np.zeros(n_ranks, int), np.zeros(n_ranks, int)
    active = [r for r in range(n_ranks) if status[r] != Status.NOT_FINITE]
    n_passes = -(-ROUND // len(batches))
    for _ in range(-(-max_epochs // n_passes)):
        if not active:
            break
        for index in np.concatenate([rng.permutation(len(batches)) for _ in range(n_passes)]):
            for r in active:
                moments[r].step(maps[r], _gradient(maps[r], batches[index]), steps[r])
        epochs[active] += n_passes
        for r in list(active):
            loss = _loss(maps[r], judged)
            if not np.isfinite(loss):
                status[r] = Status.NOT_FINITE
                active.remove(r)
                continue
            if loss < lowest[r] * (1 - IMPROVEMENT):
                lowest[r], bad[r] = loss, 0
                best[r].copy_(maps[r])
                continue
            bad[r] += 1
            if bad[r] > PATIENCE:
                drops[r], bad[r] = drops[r] + 1, 0
                steps[r] *= DECAY
                maps[r].copy_(best[r])
                moments[r] = _Moments.zeros(maps[r])
                if drops[r] > DROPS:
                    status[r] = Status.CONVERGED
                    active.remove(r)
    return StructuralSolution(
        tuple(m.double().cpu().numpy() for m in best),
        lowest,
        np.array([_loss(m, batches) for m in best]),
        status,
        epochs,
    )


def sphering(words: Sequence[np.ndarray], shrinkage: float, *, within: bool) -> np.ndarray:
    """(d, d) map A with A Aᵀ the inverse of the words' second moment, shrunk towards its mean eigenvalue.

    On z A with a small shrinkage every direction is as long as every other, and Adam's steps, alike for all
    coordinates, fit them all. On correlated activations as they stand (shrinkage 1) steps end on a plateau well above
    the minimum: a loss where all directions are real, a safeguard where many are noise. `within` centres each sentence
    first, since distances do not see where a sentence lies.
    """
    d = words[0].shape[1]
    second = np.zeros((d, d))
    for z in words:
        seen = z - z.mean(axis=0) if within else z
        second += seen.T @ seen
    size = float(np.trace(second)) / d or 1.0
    second = (1 - shrinkage) * second / size + shrinkage * np.eye(d)
    values, Q = np.linalg.eigh(second)
    values *= size / sum(len(w) for w in words)
    return np.asarray(Q / np.sqrt(values))


def spectral_start(words: Sequence[np.ndarray], distances: Sequence[np.ndarray], rank: int) -> np.ndarray:
    """(rank, d): a start for the distance probe in closed form, on sphered words, from the trees' own Gram matrices.

    Where ‖B(z_i − z_j)‖² are the distances g, the centred words Z of a sentence have B-inner products
    G = −½·J g J (J centres; Torgerson 1952). On sphered words least squares for M = BᵀB is, up to its scale, the mean
    of ZᵀGZ / T²; B holds its first eigenvectors, scaled so that Σ (g − p)² / T² of the predictions p is smallest.
    """
    d = words[0].shape[1]
    M = np.zeros((d, d))
    for z, g in zip(words, distances, strict=True):
        inner = -0.5 * (g - g.mean(axis=0) - g.mean(axis=1)[:, None] + g.mean())
        M += z.T @ inner @ z / len(z) ** 2
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    # Directions that hold nothing still start a little off zero, where the gradient would vanish for good.
    floor = 1e-3 * max(float(values[0]), 0.0) or 1.0
    B = np.sqrt(np.maximum(values, floor))[:, None] * vectors.T
    top = bottom = 0.0
    for z, g in zip(words, distances, strict=True):
        q = z @ B.T
        square = np.square(q).sum(axis=1)
        p = np.maximum(square[:, None] + square - 2 * q @ q.T, 0)
        top += float((g * p).sum()) / len(z) ** 2
        bottom += float(np.square(p).sum()) / len(z) ** 2
    return np.asarray(B * np.sqrt(top / bottom)) if top > 0 and bottom > 0 else B


class _Moments:
    """Adam's running moments of one map (Kingma and Ba 2015)."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second, self.count = first, second, 0

    @classmethod
    def zeros(cls, like: Tensor) -> _Moments:
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def step(self, parameter: Tensor, gradient: Tensor, size: float) -> None:
        self.count += 1
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        scale = (self.second / (1 - BETAS[1] ** self.count)).sqrt_().add_(1e-12)
        parameter.addcdiv_(self.first, scale, value=-size / (1 - BETAS[0] ** self.count))


def _batches(
    words: Sequence[np.ndarray], gold: Sequence[np.ndarray], rows: np.ndarray, size: int, device: str
) -> list[Batch]:
    """Sentences of like length together, so that little is padding."""
    by_length = rows[np.argsort([len(words[r]) for r in rows], kind="stable")]
    cuts = [by_length[start : start + size] for start in range(0, len(by_length), size)]
    return [pad([words[r] for r in cut], [gold[r] for r in cut], device, torch.float32) for cut in cuts]


def _gradient(parameter: Tensor, batch: Batch) -> Tensor:
    """Of the mean loss of the batch."""
    used = parameter.requires_grad_(True)
    loss = sentence_losses(batch.words @ used.T, batch.gold, batch.mask).mean()
    (gradient,) = torch.autograd.grad(loss, used)
    parameter.requires_grad_(False)
    return gradient


def _loss(parameter: Tensor, batches: list[Batch]) -> float:
    """The mean loss over all sentences of the batches."""
    total, n = 0.0, 0
    for batch in batches:
        total += float(sentence_losses(batch.words @ parameter.T, batch.gold, batch.mask).sum())
        n += len(batch.mask)
    return total / n
