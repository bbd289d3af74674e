"""Is a sentence acceptable? Minimal pairs of several BLiMP paradigms, one study each, and q-values over all of them.

Both sentences of a pair differ by a word or two, so folds keep pairs whole, and the natural figure is the share of
pairs whose better sentence scores higher. The controls are a bag of words, the length, and the sentence's likelihood
under the model, which is how BLiMP itself judges a model (Warstadt et al. 2020).
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
from real_data import data_file

import leadline as ll
from leadline.evidence.multiplicity import benjamini_hochberg, benjamini_yekutieli

PARADIGMS = (
    "anaphor_number_agreement",
    "determiner_noun_agreement_2",
    "regular_plural_subject_verb_agreement_2",
    "distractor_agreement_relative_clause",
    "irregular_past_participle_verbs",
    "passive_1",
    "adjunct_island",
    "wh_questions_object_gap",
    "only_npi_licensor_present",
    "existential_there_quantifiers_2",
    "superlative_quantifiers_1",
    "principle_A_c_command",
)
SITES = ["embed", *(f"resid_post.{layer}" for layer in range(2, 30, 3))]
N_PAIRS = 250
FOLDER = Path("runs/blimp")


def study(name: str, model: str, sites: list[str]) -> ll.Study:
    """One paradigm, in a run of its own; a second call reads the same stores."""
    archive = data_file("blimp/blimp_part.zip", "Give any JSONL file with both sentences of a pair in a row.")
    file = FOLDER / "data" / f"{name}.jsonl"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as z:
            (inside,) = (one for one in z.namelist() if Path(one).stem == name)
            file.write_bytes(z.read(inside))
    return ll.run_study(
        {
            "name": name,
            "model": {"name": model, "dtype": "float32"},
            "data": {
                "path": str(file),
                "pairs": {"positive": "sentence_good", "negative": "sentence_bad"},
                "target": "acceptable",
                "sample": 2 * N_PAIRS,
            },
            "sites": sites,
            "controls": ["bag_of_words", "length", "perplexity", "last_token"],
            "measures": "none",
            "out": str(FOLDER / name),
        }
    )


def text(e: object, digits: int = 2) -> str:
    value, low, high = (getattr(e, key) for key in ("value", "low", "high"))
    return "–" if value is None else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    wanted = sys.argv[1:] or PARADIGMS
    found = {name: study(name, "smollm2-135m", SITES).results.targets[0] for name in wanted}

    print(f"Pair accuracy by site, {N_PAIRS} pairs a paradigm, last token; chance is .50\n")
    print(f"| paradigm | {' | '.join(SITES)} |")
    print(f"|---|{'---|' * len(SITES)}")
    for name, target in found.items():
        print(f"| {name} | {' | '.join(text(s.metrics['pair_accuracy']) for s in target.sites)} |")

    p = np.array([t.permutation.p_max if t.permutation and t.permutation.p_max else np.nan for t in found.values()])
    q, q_any = benjamini_hochberg(p), benjamini_yekutieli(p)
    print("\nThe best site, corrected for the choice, against the controls on the same folds\n")
    print("| paradigm | site | pair accuracy | AUROC | p of the best site | q | q, any dependence | ", end="")
    print("bag of words: pair accuracy | likelihood: pair accuracy | decodable | beyond surface |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (name, t), q_one, q_two in zip(found.items(), q, q_any, strict=True):
        controls = {b.name: b.metrics["pair_accuracy"] for b in t.baselines}
        verdicts = {v.claim: v.verdict for v in t.verdicts}
        figures = [text(t.best.metrics["pair_accuracy"]), text(t.best.metrics["auroc"])]
        figures += [f"{t.permutation.p_max:.3f}" if t.permutation and t.permutation.p_max else "–"]
        figures += [f"{q_one:.4f}", f"{q_two:.4f}", text(controls["bag_of_words"]), text(controls["perplexity"])]
        print(f"| {name} | {t.best.site} | {' | '.join(figures)} | ", end="")
        print(f"{verdicts['decodable']} | {verdicts['beyond surface']} |")


if __name__ == "__main__":
    main()
