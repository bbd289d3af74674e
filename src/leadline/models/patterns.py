"""Attention patterns, summarised: where each head looks from each token, in a few numbers.

The whole pattern of a layer has a number for every pair of tokens; a probe, and a store, need a vector a token.
"""

from __future__ import annotations

import torch

__all__ = ["FEATURES", "summarise"]

# Per head, in this order. The site `attn_pattern` is n_heads × these, head by head.
FEATURES = ("entropy", "first", "self", "previous", "distance")


def summarise(weights: torch.Tensor) -> torch.Tensor:
    """Summarise attention weights.

    Parameters
    ----------
    weights : (batch, n_heads, n_queries, n_keys), rows that sum to 1 at most (below 1 where an architecture has sinks
        outside the sequence). The last query stands at the last key.

    Returns
    -------
    (batch, n_queries, n_heads × 5): for each head the entropy of the row in nats, the weight on position 0 (the usual
    sink), on the token itself and on the one before it, and the mean distance in tokens to what is attended to.
    """
    w = weights.float()
    n_queries, n_keys = w.shape[-2:]
    query = torch.arange(n_keys - n_queries, n_keys, device=w.device)
    key = torch.arange(n_keys, device=w.device)
    entropy = -torch.special.xlogy(w, w).sum(-1)
    own = torch.gather(w, -1, query.view(1, 1, -1, 1).expand(*w.shape[:2], -1, 1)).squeeze(-1)
    before = (query - 1).clamp(min=0)
    previous = torch.gather(w, -1, before.view(1, 1, -1, 1).expand(*w.shape[:2], -1, 1)).squeeze(-1)
    previous = previous * (query > 0)
    distance = (w * (query[:, None] - key[None, :]).abs()).sum(-1)
    features = torch.stack([entropy, w[..., 0], own, previous, distance], dim=-1)
    return features.permute(0, 2, 1, 3).flatten(2)
