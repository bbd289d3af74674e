"""Parts of speech against a control task: what a probe reads, and what it could have learnt by heart.

Words of Universal Dependencies' English EWT, drawn by document with sentences whole; folds keep documents whole. The
control task of Hewitt and Liang (2019) gives each word type (its form in lower case) one random tag. AUROC is judged
on words whose type stands in the training rows too, since on the others no memory could help; accuracy, as they count
it, on all words.

Usage: python docs/examples/upos_control.py [WORDS]

    WORDS is how many to draw, 6,000 by default.
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from real_data import data_file, share

import leadline as ll
from leadline.evidence.bootstrap import BootstrapDesign, Estimate, bootstrap_design, gain, metric_table, select
from leadline.evidence.codelength import code_length
from leadline.evidence.control_task import control_labels, control_task, recurring_rows
from leadline.probes import Multinomial
from leadline.probes.adapt import at_setting
from leadline.probes.splits import group_codes

SITES = ("embed", "resid_post.4", "resid_post.9", "resid_post.14", "resid_post.19", "resid_post.24", "resid_post.29")
CODED = ("embed", "resid_post.9", "resid_post.14", "resid_post.29")
PENALTIES = (0.001, 0.01, 0.1)
FEWEST = 40
N_TASKS = 5
N_BOOTSTRAPS = 500


def words(n: int) -> ll.Dataset:
    """At least n words, whole documents in a random order, without the tags of fewer than `FEWEST` words."""
    path = data_file("ud_ewt/en_ewt-ud-dev.conllu", "No built-in set has tags; give any CoNLL-U file.")
    data = ll.load_dataset(str(path), target="upos")
    assert data.groups is not None
    documents = np.random.default_rng(0).permutation(sorted(set(data.groups)))
    size = Counter(data.groups)
    enough = int(np.searchsorted(np.cumsum([size[d] for d in documents]), n)) + 1
    data = data.select(np.isin(data.groups.astype(str), documents[:enough]))
    target = data.target("upos")
    held = np.bincount(target.values[:, 0].astype(int), minlength=len(target.classes))
    return data.keep_classes("upos", [c for c, k in zip(target.classes, held, strict=True) if k >= FEWEST])


def most_frequent_tag(tag: np.ndarray, form: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n,) bool: the commonest tag of the word in the training rows is right; of an unseen word, the commonest tag."""
    correct = np.zeros(len(tag), dtype=bool)
    for k in range(int(fold.max()) + 1):
        seen: dict[str, Counter[int]] = {}
        for t, f in zip(tag[fold != k], form[fold != k], strict=True):
            seen.setdefault(f, Counter())[t] += 1
        common = Counter(tag[fold != k].tolist()).most_common(1)[0][0]
        for i in np.flatnonzero(fold == k):
            correct[i] = (seen[form[i]].most_common(1)[0][0] if form[i] in seen else common) == tag[i]
    return correct


def show(e: Estimate, sign: str = "") -> str:
    return f"{e.value:{sign}.3f} [{e.low:{sign}.3f}, {e.high:{sign}.3f}]"


def in_accuracy(
    scores: np.ndarray, Y: np.ndarray, random_scores: np.ndarray, random: np.ndarray, design: BootstrapDesign
) -> tuple[Estimate, Estimate, Estimate]:
    """Accuracy of the task, of one control task, and their difference, over all words: as Hewitt and Liang count it."""
    task, control = (
        select(metric_table(s[None], y, "multiclass", design), design)
        for s, y in ((scores, Y), (random_scores, random))
    )
    return task.metrics["accuracy"], control.metrics["accuracy"], gain(task, control, "accuracy", design)[0]


def main() -> None:
    data = words(int(sys.argv[1]) if len(sys.argv) > 1 else 6000)
    print(data)
    model = ll.load_model("smollm2-135m", dtype="float32")
    acts = ll.extract(model, data, " ".join(SITES), tokens="last@span:word")
    # What the word's own last piece says, before any block has seen its neighbours.
    alone = ll.extract(model, data, "embed", tokens="last@span:word")
    # The measures are taken below at every site, not at the chosen one alone.
    sweep = ll.sweep(
        acts,
        Multinomial(l2=PENALTIES),
        permutations=99,
        bootstraps=N_BOOTSTRAPS,
        sources={"embed_site": alone},
        measures=("duplicates", "emergence"),
    )
    labels, fold = sweep.labels, sweep.fold
    assert labels.types is not None
    assert labels.groups is not None
    design = bootstrap_design(fold, labels.groups, N_BOOTSTRAPS, 0)

    for b in sweep.baselines:
        more = gain(sweep.selection, b.selection, "accuracy", design)[0]
        print(
            f"{b.title}: AUROC {show(b.selection.metrics['auroc'])}, the best site gains {show(b.gain, '+')}; ", end=""
        )
        print(f"accuracy {show(b.selection.metrics['accuracy'])}, the best site gains {show(more, '+')}")
    frequent = most_frequent_tag(labels.Y[:, 0].astype(int), labels.types.astype(str), fold)
    print(f"most frequent tag of the word: accuracy {share(frequent, labels.groups, fold)}")
    for one in sweep.measures.emergence or ():
        print(f"emerges over {one.reference}: {one.site} [{one.low}, {one.high}] {one.reason}")
    for verdict in sweep.verdicts:
        print(f"- {verdict.claim}: {verdict.verdict}. {verdict.sentence}")

    codes = group_codes(labels.types, len(labels.Y))
    _, recurring = recurring_rows(codes, fold)
    random = control_labels(labels.Y, "multiclass", codes, recurring, 1, 0)[0]
    print("\n| site | l2 | accuracy | control task | selectivity | AUROC | control task | selectivity | p |")
    print("|---|---|---|---|---|---|---|---|---|")
    for o in sweep.outcomes:
        X = acts.read(o.site)[labels.rows]
        fixed = at_setting(sweep.family, o.setting)
        scores = fixed.fit_site(X, random, fold).scores[0]
        accuracy = " | ".join(show(e) for e in in_accuracy(o.scores, labels.Y, scores, random, design))
        t = control_task(
            sweep.family, X, labels.Y, "multiclass", fold, labels.types, design,
            setting=o.setting, scores=o.scores, n_tasks=N_TASKS,
        )  # fmt: skip
        auroc = f"{show(t.task)} | {show(t.control)} | {show(t.selectivity, '+')} | {t.p_value:.3f}"
        print(f"| `{o.site.name}` | {o.setting:g} | {accuracy} | {auroc} | {t.reason}", flush=True)
    print(
        f"{t.n_recurring:,} of {t.n_types:,} types recur, with {t.share_recurring:.1%} of the words; "
        f"{t.share_constant:.1%} of them have one tag throughout"
    )

    print(
        "\n| site | bits a label | compression | against the tags' entropy | shuffled tags, bits a label "
        "| 90% of the gain by |"
    )
    print("|---|---|---|---|---|---|")
    for o in sweep.outcomes:
        if o.site.name in CODED:
            X = acts.read(o.site)[labels.rows]
            c = code_length(
                sweep.family, X, labels.Y, "multiclass", labels.groups, n_classes=labels.n_classes, choice="mixture"
            )
            print(
                f"| `{o.site.name}` | {show(c.bits_per_label)} | {show(c.compression)} | {show(c.compression_prior)} | "
                f"{c.random_bits.value / c.n:.3f} | {c.rows_to_reach():,.0f} words | {c.reason}",
                flush=True,
            )
            print("   " + "; ".join(f"{p.n_train:,.0f} words {show(p.metric)}" for p in c.curve))


if __name__ == "__main__":
    main()
