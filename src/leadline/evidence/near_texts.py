"""Texts that are the same, or nearly so, found exactly and at a bounded cost.

Texts are compared without case, punctuation and spacing. Near duplicates share nine tenths of their runs of five
characters (Jaccard), and nine tenths too of the runs that are not boilerplate, of which each must have 20: a template,
or a prompt that stands before every row, must not make its rows alike. Candidates come from prefix filtering
(Chaudhuri, Ganti and Kaushik 2006, A primitive operator for similarity joins in data cleaning, ICDE): two sets of
Jaccard t or more share an element among the ⌊(1 − t)·size⌋ + 1 rarest of each, so that no pair is missed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["TextPairs", "near_texts", "normalised_text"]

_JACCARD = 0.9
_SHINGLE = 5
# Shorter texts differ in more than a tenth of their runs when one letter does.
_MIN_SHINGLES = 20
# Runs kept over all texts; of more, those whose hash is divisible by a common number, which estimates Jaccard without
# bias.
_MAX_SHINGLES = 3_000_000
_CHUNK = 1 << 20
_MAX_CANDIDATES = 2_000_000

_APART = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class TextPairs:
    """What `near_texts` found.

    Attributes
    ----------
    codes : (n,) int, equal for texts that are the same once normalised.
    near : (p, 2) pairs of codes of near duplicates. similarity : (p,) their Jaccard similarity.
    note : what was left out for the sake of cost, or an empty string.
    """

    codes: np.ndarray
    near: np.ndarray
    similarity: np.ndarray
    note: str


def normalised_text(text: str) -> str:
    """Lower case, one space between words, no punctuation; the text itself where nothing would be left."""
    plain = _APART.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return plain or text.strip()


def near_texts(texts: Sequence[str], cap: int) -> TextPairs:
    """Group equal texts and pair those that are nearly equal.

    Parameters
    ----------
    cap : a run of characters that stands in more different texts than this is boilerplate.
    """
    seen: dict[str, int] = {}
    codes = np.array([seen.setdefault(normalised_text(t), len(seen)) for t in texts])
    owner, hashes, note = _shingles(list(seen))
    nothing = TextPairs(codes, np.empty((0, 2), dtype=np.int64), np.empty(0), note)
    if not len(owner):
        return nothing
    _, ids, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    ids = ids.ravel()
    rare = counts[ids] <= cap
    # Rarest first within a text; the same order for all texts.
    order = np.lexsort((ids, counts[ids], owner))
    order = order[rare[order]]
    if not len(order):
        return nothing
    owner_rare, ids_rare = owner[order], ids[order]
    n = len(seen)
    size = np.bincount(owner, minlength=n)
    size_rare = np.bincount(owner_rare, minlength=n)
    start = np.concatenate([[0], np.cumsum(size_rare)])
    place = np.arange(len(order)) - start[owner_rare]
    enough = (size_rare >= _MIN_SHINGLES)[owner_rare]
    prefix = enough & (place < np.floor((1 - _JACCARD) * size_rare + 1e-9)[owner_rare] + 1)
    pairs, more = _candidates(owner_rare[prefix], ids_rare[prefix], size_rare)
    full_start = np.concatenate([[0], np.cumsum(size)])
    by_owner = ids[np.lexsort((ids, owner))]
    kept, similarity = [], []
    for a, b in pairs:
        rare_a, rare_b = ids_rare[start[a] : start[a + 1]], ids_rare[start[b] : start[b + 1]]
        if _jaccard(rare_a, rare_b) < _JACCARD - 1e-9:
            continue
        whole = _jaccard(by_owner[full_start[a] : full_start[a + 1]], by_owner[full_start[b] : full_start[b + 1]])
        if whole >= _JACCARD - 1e-9:
            kept.append((a, b))
            similarity.append(whole)
    near = np.array(kept, dtype=np.int64).reshape(-1, 2)
    return TextPairs(codes, near, np.array(similarity), " ".join(x for x in (note, more) if x))


def _shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray, str]:
    """Text index and 64-bit hash of every distinct run of five characters, sorted by text, of texts long enough."""
    length = np.array([len(t) for t in texts])
    long = np.flatnonzero(length - _SHINGLE + 1 >= _MIN_SHINGLES)
    step = max(1, -(-int(length[long].sum()) // _MAX_SHINGLES))
    multipliers = np.random.default_rng(5).integers(1, 2**63, _SHINGLE, dtype=np.uint64) | np.uint64(1)
    owners, found = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint64)]
    for part in np.split(long, np.flatnonzero(np.diff(np.cumsum(length[long]) // _CHUNK)) + 1):
        chars = np.frombuffer("".join(texts[i] for i in part).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        owner = np.repeat(part, length[part])
        n_runs = max(len(chars) - _SHINGLE + 1, 0)
        mixed = np.zeros(n_runs, dtype=np.uint64)
        for j, multiplier in enumerate(multipliers):
            one = (chars[j : j + n_runs] + np.uint64(1)) * multiplier
            mixed = (mixed ^ one ^ (one >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        kept = owner[:n_runs] == owner[_SHINGLE - 1 :]
        if step > 1:
            kept &= (mixed >> np.uint64(32)) % np.uint64(step) == 0
        owner, mixed = owner[:n_runs][kept], mixed[kept]
        order = np.lexsort((mixed, owner))
        owner, mixed = owner[order], mixed[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (owner[1:] != owner[:-1]) | (mixed[1:] != mixed[:-1])
        owners.append(owner[new])
        found.append(mixed[new])
    note = f"Of every text one in {step} runs of characters was compared." if step > 1 else ""
    return np.concatenate(owners), np.concatenate(found), note


def _candidates(owner: np.ndarray, ids: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, str]:
    """Pairs (p, 2), a < b, of texts of like size that share a prefix element."""
    order = np.lexsort((owner, ids))
    owner, ids = owner[order], ids[order]
    pairs: list[np.ndarray] = []
    total, shift = 0, 1
    # An element's texts stand next to each other: a shift of s pairs each with the s-th after it.
    while len(ids) > shift:
        same = np.flatnonzero(ids[shift:] == ids[:-shift])
        if not len(same):
            break
        a, b = owner[same], owner[same + shift]
        alike = np.minimum(size[a], size[b]) >= _JACCARD * np.maximum(size[a], size[b]) - 1e-9
        pairs.append(np.stack([a[alike], b[alike]], axis=1))
        total += len(same)
        if total > _MAX_CANDIDATES:
            return np.unique(np.concatenate(pairs), axis=0), "Not all pairs of alike texts could be compared."
        shift += 1
    return (np.unique(np.concatenate(pairs), axis=0) if pairs else np.empty((0, 2), dtype=np.int64)), ""


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
