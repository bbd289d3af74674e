"""Many small networks trained at once: stacked parameters, one batched product a layer.

Networks of one site (settings × folds × targets) read the same rows, so that their first layers are one product with
the site's features; sites stand side by side in a batched product. Rows that a network does not train on have weight 0.
Every network starts from the same draw and sees the same batches in the same order, so that none depends on which
others are trained beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["ACTIVATIONS", "POINT_LOSSES", "MLPSolution", "Schedule", "forward", "train_mlps"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.nn.functional.gelu,
    "relu": torch.nn.functional.relu,
}

PointLosses = Callable[[Tensor, Tensor], Tensor]
"""Maps scores (S, N, n, c) and targets (N, n, q) to losses (S, N, n)."""


def _binary(scores: Tensor, targets: Tensor) -> Tensor:
    f = scores[..., 0]
    return torch.nn.functional.softplus(torch.where(targets[..., 0] > 0.5, -f, f))


def _multiclass(scores: Tensor, targets: Tensor) -> Tensor:
    codes = targets[..., 0].long().expand(scores.shape[:-1])
    return torch.logsumexp(scores, -1) - scores.gather(-1, codes[..., None])[..., 0]


def _continuous(scores: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (scores[..., 0] - targets[..., 0]).square()


POINT_LOSSES: dict[str, PointLosses] = {"binary": _binary, "multiclass": _multiclass, "continuous": _continuous}


@dataclass(frozen=True)
class Schedule:
    """How to train; as `leadline.probes.mlp.MLP` states it."""

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    epochs: int
    batch_size: int | None
    learning_rate: float
    patience: int
    seed: int


@dataclass(frozen=True)
class MLPSolution:
    """S sites × N networks.

    Attributes
    ----------
    parameters : (weight (S, N, in, out), bias (S, N, out)) of each layer, at the best epoch.
    train_loss, validation_loss : (S, N, E) of each epoch; the latter NaN for networks without a validation part.
    best_epoch : (S, N), the epoch that the parameters are of. finite : (S, N) bool, no loss left floating point.
    """

    parameters: list[tuple[Tensor, Tensor]]
    train_loss: Tensor
    validation_loss: Tensor
    best_epoch: Tensor
    finite: Tensor


def forward(
    Z: Tensor,
    parameters: list[tuple[Tensor, Tensor]],
    shift: Tensor,
    gain: Tensor,
    activation: Callable[[Tensor], Tensor],
    masks: list[Tensor] | None = None,
) -> Tensor:
    """(S, N, n, c) scores of features Z (S, n, d), each network's first scaled as (Z − shift)·gain.

    Parameters
    ----------
    shift, gain : (S, N, d). masks : for each hidden layer (n, width), dropout's factors; None for none.
    """
    S, n, d = Z.shape
    weight, bias = parameters[0]
    N, width = weight.shape[1], weight.shape[3]
    scaled = weight * gain[..., None]
    # One product for all networks of a site: (S, n, d) @ (S, d, N·width).
    first = torch.bmm(Z, scaled.permute(0, 2, 1, 3).reshape(S, d, N * width))
    offset = bias - torch.einsum("snd,sndh->snh", shift, scaled)
    h = first.reshape(S, n, N, width).permute(0, 2, 1, 3) + offset[:, :, None]
    for index, (weight, bias) in enumerate(parameters[1:]):
        h = activation(h)
        if masks is not None:
            h = h * masks[index]
        h = torch.matmul(h, weight) + bias[:, :, None]
    return h


def _initial(sizes: list[int], generator: torch.Generator, shape: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """The same draw for every network: uniform within ±1/√(inputs), as torch's linear layers start, and no bias."""
    parameters = []
    for inputs, outputs in pairwise(sizes):
        drawn = (2 * torch.rand(inputs, outputs, generator=generator) - 1) / math.sqrt(inputs)
        parameters.append((drawn.expand(*shape, inputs, outputs).clone(), torch.zeros(*shape, outputs)))
    return parameters


def train_mlps(
    Z: Tensor,
    shift: Tensor,
    gain: Tensor,
    targets: Tensor,
    weights: Tensor,
    held_out: Tensor,
    decay: Tensor,
    point_losses: PointLosses,
    outputs: int,
    schedule: Schedule,
) -> MLPSolution:
    """Train every network with AdamW under a cosine schedule, and keep each at its best epoch on its held-out rows.

    Parameters
    ----------
    Z : (S, n, d) float32. shift, gain : (S, N, d), see `forward`. targets : (N, n, q).
    weights : (N, n) ≥ 0 of the rows trained on, each network's summing to 1.
    held_out : (N, n) the same of the rows that decide when to stop; all 0 where nothing does, and training goes on to
        the last epoch.
    decay : (N,) the weight decay of each network, on weights but not on biases.
    """
    S, _, d = Z.shape
    N = len(weights)
    device = Z.device
    act = ACTIVATIONS[schedule.activation]
    generator = torch.Generator().manual_seed(schedule.seed)
    parameters = [
        (w.to(device).requires_grad_(), b.to(device).requires_grad_())
        for w, b in _initial([d, *schedule.hidden, outputs], generator, (S, N))
    ]
    flat = [p for pair in parameters for p in pair]
    best = [(w.detach().clone(), b.detach().clone()) for w, b in parameters]
    optimiser = torch.optim.Adam(flat, lr=schedule.learning_rate)
    # Rows that nothing trains on would only lengthen the batches.
    used = torch.nonzero((weights > 0).any(0)).flatten().cpu()
    size = len(used) if schedule.batch_size is None else min(schedule.batch_size, len(used))
    n_batches = math.ceil(len(used) / size)
    n_steps = schedule.epochs * n_batches
    stops = (held_out > 0).any(1).expand(S, N)
    best_loss = torch.full((S, N), torch.inf, device=device)
    best_epoch = torch.zeros(S, N, dtype=torch.int64, device=device)
    finite = torch.ones(S, N, dtype=torch.bool, device=device)
    train_losses, validation_losses = [], []
    step = 0
    for epoch in range(schedule.epochs):
        order = used if schedule.batch_size is None else used[torch.randperm(len(used), generator=generator)]
        total = torch.zeros(S, N, device=device)
        for rows in order.to(device).split(size):
            rate = schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * step / n_steps))
            for group in optimiser.param_groups:
                group["lr"] = rate
            masks = None
            if schedule.dropout > 0:
                keep = 1 - schedule.dropout
                masks = [
                    ((torch.rand(len(rows), width, generator=generator) < keep) / keep).to(device)
                    for width in schedule.hidden
                ]
            scores = forward(Z[:, rows], parameters, shift, gain, act, masks)
            loss = (point_losses(scores, targets[:, rows]) * weights[:, rows]).sum(-1)
            optimiser.zero_grad(set_to_none=True)
            # Each network's weights sum to 1 over all batches; a batch stands for its share of them.
            (loss.sum() * n_batches).backward()
            with torch.no_grad():
                for w, _ in parameters:
                    w.mul_((1 - rate * decay).clamp_min(0)[None, :, None, None])
            optimiser.step()
            total += loss.detach()
            step += 1
        validation = _held_out_loss(Z, parameters, shift, gain, act, targets, held_out, point_losses)
        train_losses.append(total)
        validation_losses.append(torch.where(stops, validation, torch.nan))
        finite &= torch.isfinite(total) & torch.isfinite(validation)
        # Once its patience has run out, a network's best is settled, whatever others still do.
        waiting = epoch - best_epoch <= schedule.patience
        better = torch.where(stops, (validation < best_loss) & waiting, finite)
        best_loss = torch.where(better, validation, best_loss)
        best_epoch = torch.where(better, epoch, best_epoch)
        with torch.no_grad():
            for (w, b), (best_w, best_b) in zip(parameters, best, strict=True):
                best_w.copy_(torch.where(better[..., None, None], w, best_w))
                best_b.copy_(torch.where(better[..., None], b, best_b))
        if not bool((~stops & finite).any() | (waiting & finite).any()):
            break
    return MLPSolution(best, torch.stack(train_losses, -1), torch.stack(validation_losses, -1), best_epoch, finite)


@torch.no_grad()
def _held_out_loss(
    Z: Tensor,
    parameters: list[tuple[Tensor, Tensor]],
    shift: Tensor,
    gain: Tensor,
    act: Callable[[Tensor], Tensor],
    targets: Tensor,
    held_out: Tensor,
    point_losses: PointLosses,
) -> Tensor:
    """(S, N), over the rows that any network holds out."""
    total = torch.zeros(len(Z), len(held_out), device=Z.device)
    for rows in torch.nonzero((held_out > 0).any(0)).flatten().split(1024):
        scores = forward(Z[:, rows], parameters, shift, gain, act)
        total += (point_losses(scores, targets[:, rows]) * held_out[:, rows]).sum(-1)
    return total
