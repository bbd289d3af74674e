"""Bloom's levels: classes, or steps of one scale? Multinomial, Ordinal and LDA on the same folds and the same rows.

2,176 questions on data science, each at the level from 1 (remember) to 6 (create) that an expert agreed with. Six
questions share a topic, so folds keep topics whole. `balance=True` draws, in every fold, as many training rows of each
level as the rarest has; every row is judged.
"""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import polars as pl
from real_data import activations, data_file, share
from scipy.special import expit, softmax
from sklearn.feature_extraction.text import TfidfVectorizer

import leadline as ll
from leadline.probes import LDA, Multinomial, Ordinal, make_folds

SITE = "resid_post.14"


def probabilities(name: str, scores: np.ndarray) -> np.ndarray:
    """(n, C) of the classes, from what a family scores: logits, or the log odds of y > 0, y > 1, …"""
    if name != "ordinal":
        return np.asarray(softmax(scores, axis=1))
    above = np.pad(expit(scores), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    return -np.diff(above, axis=1)


def main() -> None:
    path = data_file(
        "bloom/bloom_questions.csv", "No built-in set has levels; give any CSV with text, level and group."
    )
    frame = pl.read_csv(path).filter(pl.col("level_check") == 1)
    y, topic = frame["level"].to_numpy() - 1, frame["group"].to_numpy()
    X = activations(ll.load_model("smollm2-135m", dtype="float32"), frame["question"].to_list(), SITE)[SITE]
    print(f"{len(y)} questions, {len(np.unique(topic))} topics, {SITE}, last token; a level: {np.bincount(y)}")

    fold = make_folds(y, topic, 5, stratify=True, seed=0)
    correct, error = {}, {}
    families = {"multinomial": Multinomial(), "ordinal": Ordinal(), "lda": LDA(kind="multiclass")}
    for balance in (True, False):
        print(f"\nbalance={balance}")
        print(f"{'family':12s} {'accuracy':22s} {'mean absolute error':22s} {'within one level':22s} l2     converged")
        for name, family in families.items():
            fitted = family.fit(X, y, fold=fold, groups=topic, balance=balance, seed=0)
            p = probabilities(name, fitted.scores)
            # The likeliest level errs least often, the median level errs by the least.
            correct[name] = p.argmax(axis=1) == y
            error[name] = np.abs((p.cumsum(axis=1) < 0.5).sum(axis=1) - y)
            figures = [share(v, topic, fold) for v in (correct[name], error[name], error[name] <= 1)]
            print(f"{name:12s} {figures[0]!r:22s} {figures[1]!r:22s} {figures[2]!r:22s}", end=" ")
            print(f"{fitted.setting:<6g} {fitted.converged}")
        for other in ("ordinal", "lda"):
            gained = share(correct[other], topic, fold, against=correct["multinomial"])
            erred = share(error[other], topic, fold, against=error["multinomial"])
            print(f"{other} - multinomial, paired: accuracy {gained}, mean absolute error {erred}")
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True).fit_transform(frame["question"].to_list())
    bag = Multinomial().fit(words.toarray(), y, fold=fold)
    correct["words"] = bag.scores.argmax(axis=1) == y
    print(f"\nwords alone: {words.shape[1]} of one and two words, multinomial: accuracy", end=" ")
    print(f"{share(correct['words'], topic, fold)}; lda - words, paired:", end=" ")
    print(f"{share(correct['lda'], topic, fold, against=correct['words'])}, converged {bag.converged}")
    middle = np.abs(int(np.median(y)) - y)
    print(
        f"\nno probe: accuracy {share(y == np.bincount(y).argmax(), topic, fold)} for the most frequent level,", end=" "
    )
    print(f"mean absolute error {share(middle, topic, fold)} for the median level")


if __name__ == "__main__":
    main()
