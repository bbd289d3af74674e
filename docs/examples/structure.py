"""Is a parse tree there as distances and depths? Structural probes on English sentences, against three baselines.

Trained on sentences of one set of documents, judged on those of another. A word is the mean of its tokens. Punctuation
counts for no figure.
"""
# ruff: noqa: T201

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from real_data import data_file

import leadline as ll
from leadline.probes import DepthProbe, DistanceProbe
from leadline.probes.intervals import Estimate, draw_groups, percentile
from leadline.probes.structural import score_random_map
from leadline.probes.structural_metrics import DistanceScores, score_chain

SITES = ("embed", "resid_post.7", "resid_post.14", "resid_post.20")
N_TRAIN, N_TEST = 400, 200


@dataclass(frozen=True)
class Sentence:
    """Words with their places (start, end) in the text, heads (0-based, −1 at the root), and what is no punctuation."""

    text: str
    places: list[tuple[int, int]]
    heads: np.ndarray
    keep: np.ndarray


def read_conllu(path: Path, n: int) -> list[Sentence]:
    """The first `n` sentences of 5 to 25 words."""
    found: list[Sentence] = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        text = next((line[9:] for line in block.splitlines() if line.startswith("# text = ")), "")
        rows = [line.split("\t") for line in block.splitlines() if line and not line.startswith("#")]
        # Ranges (don't = do + n't) and empty nodes are no words of the tree.
        words = [row for row in rows if row[0].isdigit()]
        places, at = [], 0
        for word in words:
            start = text.find(word[1], at)
            if start < 0:
                break
            at = start + len(word[1])
            places.append((start, at))
        if len(places) == len(words) and 5 <= len(words) <= 25:
            heads = np.array([int(word[6]) - 1 for word in words])
            found.append(Sentence(text, places, heads, np.array([word[3] != "PUNCT" for word in words])))
        if len(found) == n:
            break
    return found


def word_activations(model: ll.Model, sentences: list[Sentence]) -> dict[str, list[np.ndarray]]:
    """For each site, (T, d) of every sentence: the mean over the tokens that a word's characters lie in."""
    sites = model.sites(SITES)
    found: dict[str, list[np.ndarray]] = {site.name: [] for site in sites}
    for sentence in sentences:
        given = model.tokenizer(sentence.text, return_offsets_mapping=True)
        spans = np.array(given["offset_mapping"])
        of_word = np.array([(spans[:, 0] < end) & (spans[:, 1] > start) for start, end in sentence.places])
        share = of_word / of_word.sum(axis=1, keepdims=True)
        for site, tensor in model.read(torch.tensor([given["input_ids"]]), None, sites).items():
            found[site.name].append(share @ tensor[0].double().numpy())
    return found


def gain(one: DistanceScores, other: DistanceScores) -> Estimate:
    """The difference of two UUAS over the same sentences, with a paired interval."""
    drawn = draw_groups(len(one.edges), 2000, 0)
    return percentile((one.correct - other.correct) @ drawn / (one.edges @ drawn))


def main() -> None:
    instead = "No built-in set has parses; give any treebank in CoNLL-U."
    train = read_conllu(data_file("ud_ewt/train_part.conllu", instead), N_TRAIN)
    judged = read_conllu(data_file("ud_ewt/en_ewt-ud-dev.conllu", instead), N_TEST)
    sentences = train + judged
    test = np.arange(len(sentences)) >= len(train)
    heads, keep = [s.heads for s in sentences], [s.keep for s in sentences]
    words = word_activations(ll.load_model("smollm2-135m", dtype="float32"), sentences)
    n_words = [sum(len(s.heads) for s in part) for part in (train, judged)]
    print(f"train {len(train)} sentences of {n_words[0]} words, test {len(judged)} of {n_words[1]}")

    chain = score_chain(heads[len(train) :], keep=keep[len(train) :])
    print(f"\n{'distances, rank 32':20s} {'UUAS':22s} {'DSpr.':22s} {'UUAS over the chain':25s} status")
    print(f"{'chain':20s} {chain.uuas!r:22s} {chain.spearman!r:22s}")
    probe = DistanceProbe(rank=32)
    for site in SITES:
        fit = probe.fit(words[site], heads, test=test, keep=keep)
        row = f"{fit.scores.uuas!r:22s} {fit.scores.spearman!r:22s} {gain(fit.scores, chain)!r:25s}"
        print(f"{site:20s} {row} {'converged' if fit.converged else fit.status}")
        if site in ("embed", "resid_post.14"):
            random = score_random_map(probe, words[site][len(train) :], heads[len(train) :], keep=keep[len(train) :])
            print(f"{'  random map':20s} {random.uuas!r:22s} {random.spearman!r:22s} {gain(random, chain)!r:25s}")

    sweep = probe.rank_sweep(words["resid_post.14"], heads, (2, 8, 64), test=test, keep=keep)
    print("\nresid_post.14 by rank:")
    for fit in sweep.fits:
        print(f"  rank {len(fit.map):3d}: UUAS {fit.scores.uuas}, DSpr. {fit.scores.spearman}, {fit.converged}")

    print(f"\n{'depths, rank 32':20s} {'root accuracy':22s} NSpr.")
    depths = DepthProbe(rank=32, has_offset=True)
    for site in ("embed", "resid_post.14"):
        fit = depths.fit(words[site], heads, test=test, keep=keep)
        print(f"{site:20s} {fit.scores.root_accuracy!r:22s} {fit.scores.spearman!r:22s} {fit.converged}")
    random = score_random_map(
        depths, words["resid_post.14"][len(train) :], heads[len(train) :], keep=keep[len(train) :]
    )
    print(f"{'  random map':20s} {random.root_accuracy!r:22s} {random.spearman!r:22s}")


if __name__ == "__main__":
    main()
