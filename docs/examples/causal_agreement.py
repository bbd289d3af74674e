"""Where is the number of a subject acted upon: at the subject, or at the word before the verb, and from which block on?

Reads the agreement data that `python docs/examples/causal_data.py` writes. At each place a probe is fitted on ten
subjects; forty-eight prefixes of the other ten are moved along its pattern, and exchanged with their twins in the other
number.
"""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import polars as pl
from causal_data import agreement
from causal_told import auroc
from real_data import activations

import leadline as ll
from leadline.causal import prompts, test_use
from leadline.probes.probe import pattern_of
from leadline.study.causal_rows import choose_rows

# "The teachers near the desk": the second token is the subject's, the last the other noun's.
PLACES = (("resid_post.12", "1"), ("resid_post.17", "last"), ("resid_post.23", "last"), ("resid_post.27", "last"))


def main() -> None:
    table = agreement().unique("text", keep="first", maintain_order=True)
    table = table.filter(pl.col("pair").is_duplicated())
    y = (table["number"] == "plural").to_numpy().astype(float)
    subjects, texts = table["subject"].to_numpy(), table["text"].to_list()
    rows = choose_rows(y, subjects, 48, 0, table["pair"].to_numpy())
    model = ll.load_model("smollm2-135m", dtype="float32")
    own = table[rows.tried.tolist()]
    examples = prompts(
        model,
        own["text"].to_list(),
        positive=[(form,) for form in own["plural_verb"]],
        negative=[(form,) for form in own["singular_verb"]],
        y=y[rows.tried],
        groups=subjects[rows.tried],
        pairs=own["pair"].to_numpy(),
    )
    print(f"{len(texts)} prefixes; fitted on {len(rows.fitted)}, tried on {len(examples)} of other subjects")
    for site, tokens in PLACES:
        X = activations(model, texts, site, tokens)[site].astype(np.float64)
        fit = ll.Logistic(l2=(0.1,)).fit_site(X[rows.fitted], y[rows.fitted, None], np.full(len(rows.fitted), -1))
        coef = fit.coef[0, 0].astype(np.float64)
        probe = ll.Probe(
            site=ll.Site.parse(site),
            coef=coef,
            intercept=float(fit.intercept[0, 0]),
            pattern=pattern_of(X[rows.fitted], coef),
            family="logistic",
            kind="binary",
            target="number",
            tokens=tokens,
            model_fingerprint=model.fingerprint,
        )
        use = test_use(model, examples, probe, X[rows.fitted], y[rows.fitted], tokens=tokens, nulls=("pattern",))
        reads = auroc(probe.score(X[rows.tried]), y[rows.tried], subjects[rows.tried])
        pattern, whole = use.vectors["pattern"], use.interchange["site"]
        along = use.interchange["pattern"]
        print(f"\n{site}, token {tokens}: AUROC {reads}; verbs differ by {use.natural} nats, accuracy {use.accuracy}")
        p = f"p {pattern.p_isotropic:.2f}, {pattern.p_covariance:.2f}"
        print(f"  moved along the pattern     {pattern.effect}, flips {pattern.flips}, {p}")
        print(f"  exchanged along the pattern {along.effect}, flips {along.flips}")
        print(f"  the whole site exchanged    {whole.effect}, flips {whole.flips}")
        verdict = use.verdict()
        print(f"  used: {verdict.verdict}. {verdict.sentence}")


if __name__ == "__main__":
    main()
