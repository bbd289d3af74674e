"""How few features, how many directions, and is a linear map enough? A language, and the truth.

"Is it French?" among six languages (parallel sentences, so folds keep a sentence's translations together), and "is it
true?" of statements on cities. Features are the neurons of one MLP, read with a hook of our own: activations may come
from anywhere.
"""
# ruff: noqa: T201

from __future__ import annotations

import time

import numpy as np
import polars as pl
import torch
from real_data import activations, data_file, share

import leadline as ll
from leadline.probes import MLP, ConceptRank, KSparse, Logistic, SparseLogistic, make_folds

BLOCK = 14
SITE = f"resid_post.{BLOCK}"
N_SENTENCES = 100


def neurons(model: ll.Model, texts: list[str]) -> np.ndarray:
    """(n, 1536) what the MLP of one block has after its nonlinearity, at the last token."""
    ids = model.encode(texts)
    lengths = np.array([len(row) for row in ids])
    down = model.trunk.get_submodule(f"layers.{BLOCK}.mlp.down_proj")
    found = np.empty((len(texts), down.in_features), dtype=np.float32)
    seen: list[torch.Tensor] = []
    handle = down.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -1].float().clone()))
    try:
        # Rows of one length go together, so that none is padded and the last token is the last place.
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            # The block's own output is the last thing asked for, so that nothing after it is computed.
            model.read(torch.tensor([ids[i] for i in rows]), None, model.sites([SITE]))
            found[rows] = seen.pop().numpy()
    finally:
        handle.remove()
    return found


def judge(name: str, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> None:
    """Sparse probes against Logistic on the same folds; and an MLP; every class weighs alike where a family can."""
    fold = make_folds(y, groups, 5, stratify=True, seed=0)
    dense = Logistic(class_weight="balanced").fit(X, y, fold=fold)
    print(f"\n{name}: n {len(y)}, d {X.shape[1]}, positive {y.mean():.2f}")
    print(f"{'probe':26s} {'recall, positive':22s} {'recall, negative':22s} {'features':10s} seconds converged")
    rows = [("logistic", dense.scores[:, 0], X.shape[1], float("nan"), dense.converged)]
    start = time.perf_counter()
    sparse = SparseLogistic(class_weight="balanced").fit(X, y, fold=fold)
    took = time.perf_counter() - start
    used = int((sparse.probe.coef != 0).sum())
    rows.append(("sparse_logistic", sparse.scores[:, 0], used, took, sparse.converged))
    start = time.perf_counter()
    network = MLP(hidden=(64,)).fit_site(X, y[:, None].astype(np.float64), fold, groups=groups)
    ended = bool(network.converged[network.chosen].all())
    rows.append(("mlp", network.scores[network.chosen][:, 0], X.shape[1], time.perf_counter() - start, ended))
    for select in ("f_statistic", "l1"):
        start = time.perf_counter()
        fitted = KSparse(k=(1, 2, 4, 16, 64), select=select, class_weight="balanced").fit(X, y, fold=fold)
        took = time.perf_counter() - start
        for at, k in enumerate(fitted.fit.settings):
            ended = bool(fitted.fit.converged[at].all())
            rows.append((f"k_sparse {select}", fitted.fit.scores[at][:, 0], int(k), took, ended))
    for title, scores, k, seconds, ended in rows:
        recalls = [share((scores > 0)[y == c] == c, groups[y == c], fold[y == c]) for c in (1, 0)]
        print(f"{title:26s} {recalls[0]!r:22s} {recalls[1]!r:22s} {k:<10d} {seconds:<7.1f} {ended}")


def main() -> None:
    instead = "The built-in set 'city-facts' serves the second part; give any CSV with text, language and sentence."
    frame = pl.read_csv(data_file("language_id/pud_sentences.csv", instead))
    ids = frame["sent_id"].unique(maintain_order=True).head(N_SENTENCES)
    frame = frame.filter(pl.col("sent_id").is_in(ids.to_list()))
    codes, language = np.unique(frame["lang"].to_numpy(), return_inverse=True)
    sentence = frame["sent_id"].to_numpy()
    model = ll.load_model("smollm2-135m", dtype="float32")
    texts = frame["text"].to_list()
    # Eight words: reading stays cheap, and the last token is no full stop, the same one in every language.
    texts = [" ".join(text.split()[:8]) for text in texts]
    judge(
        f"French, neurons of block {BLOCK}", neurons(model, texts), (language == list(codes).index("fr")) * 1, sentence
    )

    cities = pl.read_csv(data_file("truth/cities.csv", "The built-in set 'city-facts' has such statements.")).head(600)
    judge(
        f"truth, neurons of block {BLOCK}",
        neurons(model, cities["statement"].to_list()),
        cities["label"].to_numpy(),
        cities["city"].to_numpy(),
    )

    X = activations(model, texts, SITE)[SITE]
    print(f"\ndirections of {len(codes)} languages ({', '.join(codes)}) at {SITE}:")
    for method in ("erasure", "reduced_rank"):
        print(ConceptRank(method=method).fit(X, language, groups=sentence).table)
    binary = ConceptRank().fit(X, (language == list(codes).index("fr")) * 1, groups=sentence)
    print(f"French or not: {binary}")


if __name__ == "__main__":
    main()
