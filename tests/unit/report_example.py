"""Results for the report's tests, of the shape that a real study gives: plausible figures from a seeded generator."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from leadline.study.results import (
    BaselineResult,
    BestSite,
    CausalEffect,
    CausalResult,
    Confusion,
    Contribution,
    DataSummary,
    DoseCurve,
    DosePoint,
    Estimate,
    Finding,
    HeatMap,
    Histogram,
    Measure,
    MeasureFigure,
    MeasureTable,
    ModelSummary,
    NullEffects,
    Permutation,
    Points,
    Provenance,
    RandomBand,
    Results,
    SiteResult,
    SiteTransfer,
    Stage,
    TargetResult,
    TestResult,
    Verdict,
    WrongText,
)

N_LAYERS = 30
SITES = ["embed", *(f"resid_post.{i}" for i in range(N_LAYERS)), "final_norm"]


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=min(1.0, value + 0.9 * half))


def rise(x: float, low: float, high: float, middle: float = 8.5, width: float = 1.6, fall: float = 0.0) -> float:
    """A curve over layers: low, a sigmoid rise at `middle`, then a slow decline."""
    return low + (high - low) / (1 + math.exp(-(x - middle) / width)) - fall * max(0.0, x - 16)


def curve(
    metrics: dict[str, Callable[[float], float]], *, half: float = 0.016, null: bool = True, chance: float = 0.5
) -> list[SiteResult]:
    draw = random.Random(7)
    found = []
    for index, site in enumerate(SITES):
        x = index - 1.0
        kind, _, layer = site.partition(".")
        values = {
            name: estimate(f(x) + draw.gauss(0, 0.005), half * draw.uniform(0.85, 1.15)) for name, f in metrics.items()
        }
        first = next(iter(values.values())).value
        assert first is not None
        found.append(
            SiteResult(
                site=site,
                kind=kind,
                layer=int(layer) if layer else None,
                metrics=values,
                setting=10.0 ** draw.choice([-3, -2, -1, 0]),
                p_value=(1 / 1001 if first > chance + 0.04 else round(draw.uniform(0.03, 0.6), 3)) if null else None,
                null_mean=chance + draw.gauss(0, 0.002) if null else None,
                null_low=chance - 0.031 + draw.gauss(0, 0.001) if null else None,
                null_high=chance + 0.03 + draw.gauss(0, 0.001) if null else None,
                n_fits=42,
                n_not_converged=0,
            )
        )
    return found


def bell(edges: list[float], mean: float, sd: float, n: int) -> list[int]:
    """Counts of a normal sample in bins."""
    width = edges[1] - edges[0]
    return [round(n * width / sd / 2.5066 * math.exp(-(((e + width / 2 - mean) / sd) ** 2) / 2)) for e in edges[:-1]]


def binary_target() -> TargetResult:
    sites = curve(
        {
            "auroc": lambda x: rise(x, 0.505, 0.929, 8.2, 1.2, fall=0.0012),
            "accuracy": lambda x: rise(x, 0.5, 0.872, 9.0, fall=0.001),
            "balanced_accuracy": lambda x: rise(x, 0.5, 0.871, 9.0, fall=0.001),
            "f1": lambda x: rise(x, 0.48, 0.874, 9.0, fall=0.001),
        }
    )
    sites[14] = sites[14].model_copy(
        update={
            "metrics": {
                "auroc": estimate(0.9358, 0.014),
                "accuracy": estimate(0.863, 0.017),
                "balanced_accuracy": estimate(0.8629, 0.017),
                "f1": estimate(0.8641, 0.018),
            },
            "setting": 0.01,
        }
    )
    sites[4] = sites[4].model_copy(update={"n_not_converged": 3})
    random_sites = curve(
        {"auroc": lambda x: rise(x, 0.5, 0.552, 3), "accuracy": lambda x: rise(x, 0.5, 0.54, 3)}, null=False
    )
    steps = [-4.5 + 0.3 * i for i in range(31)]
    tests = [
        TestResult(
            name="sp_en_trans",
            source="sp_en_trans.csv",
            n_rows=354,
            metrics={
                "auroc": estimate(0.716, 0.05),
                "accuracy": estimate(0.503, 0.012),
                "centred_accuracy": estimate(0.664, 0.048),
            },
            sites=[
                SiteTransfer(
                    site=s,
                    metrics={
                        "auroc": estimate(rise(i - 1, 0.5, 0.73, 9.5, fall=0.004), 0.05),
                        "accuracy": estimate(rise(i - 1, 0.5, 0.504), 0.012),
                        "centred_accuracy": estimate(rise(i - 1, 0.5, 0.67, 9.5, fall=0.003), 0.046),
                    },
                )
                for i, s in enumerate(SITES)
            ],
        ),
        TestResult(
            name="neg_cities",
            source="neg_cities.csv",
            n_rows=1496,
            metrics={
                "auroc": estimate(0.041, 0.012),
                "accuracy": estimate(0.124, 0.016),
                "centred_accuracy": estimate(0.098, 0.016),
            },
            sites=[
                SiteTransfer(
                    site=s,
                    metrics={
                        "auroc": estimate(rise(i - 1, 0.5, 0.05, 10, fall=-0.012), 0.02),
                        "accuracy": estimate(rise(i - 1, 0.5, 0.13, 10, fall=-0.01), 0.016),
                        "centred_accuracy": estimate(rise(i - 1, 0.5, 0.1, 10, fall=-0.01), 0.016),
                    },
                )
                for i, s in enumerate(SITES)
            ],
            note="The statements are the negations of the training statements.",
        ),
    ]
    return TargetResult(
        target="label",
        columns=["label"],
        kind="binary",
        negative="false",
        positive="true",
        n_negative=748,
        n_positive=748,
        primary_metric="auroc",
        chance=0.5,
        n_folds=5,
        parameter="l2",
        sites=sites,
        best=BestSite(
            site="resid_post.13",
            layer=13,
            setting=0.01,
            metrics={
                "auroc": Estimate(value=0.9316, low=0.9175, high=0.9448),
                "accuracy": Estimate(value=0.8577, low=0.8402, high=0.8749),
                "balanced_accuracy": Estimate(value=0.8575, low=0.8399, high=0.8748),
                "f1": Estimate(value=0.8589, low=0.8401, high=0.8768),
            },
            naive={"auroc": 0.9358, "accuracy": 0.8630, "balanced_accuracy": 0.8629, "f1": 0.8641},
            correction="BBC-CV over every site and l2 (Tsamardinos et al. 2018)",
            probe_files=["probes/label.safetensors"],
        ),
        permutation=Permutation(
            n_permutations=1000,
            statistic="auroc of a least-squares score (out of fold, penalty set without labels)",
            scheme="labels within groups",
            smallest_p=1 / 1001,
            p_max=1 / 1001,
            observed_max=0.9358,
            null_max_mean=0.531,
            null_max_95=0.5462,
        ),
        baselines=[
            BaselineResult(
                name="char_ngrams",
                title="Character n-grams",
                explanation="TF-IDF of runs of one to four characters within words, without the model: what spelling "
                "gives away.",
                metrics={"auroc": estimate(0.499, 0.03), "accuracy": estimate(0.501, 0.028)},
                gain=estimate(0.433, 0.033),
                p_gain=1 / 1001,
            ),
            BaselineResult(
                name="bag_of_words",
                title="Bag of words",
                explanation="TF-IDF of the text's words and word pairs, without the model: what the vocabulary alone "
                "gives away.",
                metrics={"auroc": estimate(0.478, 0.026), "accuracy": estimate(0.471, 0.024)},
                gain=estimate(0.4536, 0.029),
                p_gain=1 / 1001,
                below_chance=True,
            ),
            BaselineResult(
                name="length",
                title="Length",
                explanation="The number of characters and of words: what the text's length alone gives away.",
                metrics={"auroc": estimate(0.512, 0.027), "accuracy": estimate(0.507, 0.024)},
                gain=estimate(0.4196, 0.03),
                p_gain=1 / 1001,
            ),
            BaselineResult(
                name="token_embeddings",
                title="Token embeddings",
                explanation="The mean of the model's input embeddings over all tokens, before any layer has worked on "
                "them.",
                metrics={"auroc": estimate(0.567, 0.028), "accuracy": estimate(0.549, 0.024)},
                gain=estimate(0.3646, 0.031),
                p_gain=1 / 1001,
            ),
            BaselineResult(
                name="random_weights",
                title="Random weights",
                explanation="The same architecture and tokenizer with fresh random weights, its best site: what "
                "structure without training gives.",
                metrics={"auroc": estimate(0.556, 0.027), "accuracy": estimate(0.543, 0.025)},
                gain=estimate(0.3756, 0.03),
                p_gain=1 / 1001,
                sites=random_sites,
            ),
        ],
        verdicts=[
            Verdict(
                claim="decodable",
                verdict="supported",
                sentence="A linear probe reads the concept: AUROC 0.932 [0.917, 0.945] at resid_post.13, p = 0.001 "
                "for the best of all sites.",
                rule="supported if the lower bound of the best site's AUROC, corrected for the choice, exceeds "
                "0.55 and the p-value of the maximum over all sites is at most 0.05; refuted if the upper "
                "bound is below 0.55",
                figures={"auroc": 0.9316, "low": 0.9175, "high": 0.9448, "p": 1 / 1001, "margin": 0.05},
            ),
            Verdict(
                claim="selective",
                verdict="not tested",
                sentence="Control tasks, code length and an MLP probe were not run.",
                rule="",
            ),
            Verdict(
                claim="beyond surface",
                verdict="supported",
                sentence="The probe says more than the text's surface: AUROC +0.365 [+0.334, +0.392] over the "
                "closest one, token embeddings.",
                rule="supported when the paired gain's lower bound over every surface control passes .02 and p ≤ .05",
                figures={"gain": 0.3646, "low": 0.3336, "high": 0.3925, "p": 1 / 1001},
            ),
            Verdict(
                claim="general",
                verdict="not tested",
                sentence="Two test sets were scored, but no rule judges them yet.",
                rule="",
            ),
            Verdict(
                claim="used", verdict="not tested", sentence="No direction was ablated, steered or patched.", rule=""
            ),
            Verdict(
                claim="where from",
                verdict="not tested",
                sentence="The score was not traced to heads and MLPs.",
                rule="",
            ),
        ],
        findings=[
            Finding(
                code="below_chance",
                severity="warning",
                message="Bag of words falls to AUROC 0.15 (accuracy 0.23), significantly below chance, which "
                "happens when rows "
                "that belong together are split by the folds. 98% of the rows share their 'city' with rows "
                "of the opposite "
                "label: set group to 'city', so that they stay in one fold.",
            )
        ],
        histogram=Histogram(edges=steps, negative=bell(steps, -1.6, 1.15, 748), positive=bell(steps, 1.55, 1.05, 748)),
        confusion=Confusion(true_negative=638, false_positive=110, false_negative=103, true_positive=645),
        most_wrong=[
            WrongText(
                row=912, text="The city of Barcelona is in Venezuela.", label="false", score=3.41, group="Barcelona"
            ),
            WrongText(
                row=77,
                text="The city of Santiago is in the Dominican Republic.",
                label="false",
                score=3.02,
                group="Santiago",
            ),
            WrongText(row=1204, text="The city of Oral is in Kazakhstan.", label="true", score=-2.87, group="Oral"),
            WrongText(row=408, text="The city of Valencia is in Spain.", label="true", score=-2.41, group="Valencia"),
            WrongText(row=33, text="The city of Bengbu is in Vietnam.", label="false", score=2.22, group="Bengbu"),
            WrongText(row=650, text="The city of Tripoli is in Lebanon.", label="true", score=-2.05, group="Tripoli"),
        ],
        tests=tests,
    )


def continuous_target() -> TargetResult:
    draw = random.Random(3)
    keys = {
        "r2": lambda x: rise(x, 0.33, 0.52, 6, 4),
        "spearman": lambda x: rise(x, 0.57, 0.73, 6, 4),
        "r2.latitude": lambda x: rise(x, 0.36, 0.55, 6, 4),
        "r2.longitude": lambda x: rise(x, 0.30, 0.49, 6, 4),
    }
    points = []
    for column, scale, shift in (("latitude", 25.0, 25.0), ("longitude", 75.0, 20.0)):
        true = [draw.gauss(shift, scale) for _ in range(2000)]
        points.append(
            Points(
                column=column,
                true=true,
                predicted=[shift + 0.55 * (t - shift) + draw.gauss(0, scale * 0.45) for t in true],
                rows=sorted(draw.sample(range(3000), 2000)),
            )
        )
    return TargetResult(
        target="latitude+longitude",
        columns=["latitude", "longitude"],
        kind="continuous",
        primary_metric="r2",
        chance=0.0,
        n_folds=5,
        parameter="l2",
        sites=curve(keys, half=0.025, null=True, chance=0.0),
        best=BestSite(
            site="resid_post.28",
            layer=28,
            setting=0.1,
            metrics={k: estimate(f(28) - 0.006, 0.025) for k, f in keys.items()},
            naive={k: f(28) for k, f in keys.items()},
            correction="BBC-CV over every site and l2 (Tsamardinos et al. 2018)",
            probe_files=["probes/latitude.safetensors", "probes/longitude.safetensors"],
        ),
        permutation=Permutation(
            n_permutations=1000,
            statistic="r2 of a least-squares score (out of fold, penalty set without labels)",
            scheme="rows",
            smallest_p=1 / 1001,
            p_max=1 / 1001,
            observed_max=0.52,
            null_max_mean=-0.004,
            null_max_95=0.002,
        ),
        baselines=[
            BaselineResult(
                name="char_ngrams",
                title="Character n-grams",
                explanation="TF-IDF of runs of one to four characters within words, without the model: what spelling "
                "gives away.",
                metrics={"r2": estimate(0.441, 0.026), "spearman": estimate(0.66, 0.025)},
                gain=estimate(0.042, 0.03),
                p_gain=0.004,
            ),
            BaselineResult(
                name="length",
                title="Length",
                explanation="The number of characters and of words: what the text's length alone gives away.",
                metrics={"r2": estimate(0.012, 0.01), "spearman": estimate(0.08, 0.03)},
                gain=estimate(0.5, 0.03),
                p_gain=1 / 1001,
            ),
            BaselineResult(
                name="token_embeddings",
                title="Token embeddings",
                explanation="The mean of the model's input embeddings over all tokens, before any layer has worked on "
                "them.",
                metrics={"r2": estimate(0.39, 0.026), "spearman": estimate(0.62, 0.025)},
                gain=estimate(0.125, 0.03),
                p_gain=1 / 1001,
            ),
            BaselineResult(
                name="random_weights",
                title="Random weights",
                explanation="The same architecture and tokenizer with fresh random weights, its best site: what "
                "structure without training gives.",
                metrics={"r2": estimate(0.31, 0.03)},
                gain=estimate(0.2, 0.03),
                p_gain=1 / 1001,
                sites=curve({"r2": lambda x: rise(x, 0.315, 0.22, 6, 4)}, half=0.03, null=False),
            ),
        ],
        verdicts=[
            Verdict(
                claim="decodable",
                verdict="supported",
                sentence="A linear probe reads the concept: R² 0.513 [0.488, 0.535] at resid_post.28, p = 0.001 for "
                "the best of all sites.",
                rule="supported when the interval's lower bound passes .05 and p ≤ .05 for the best of all sites",
                figures={"r2": 0.513},
            ),
            Verdict(
                claim="beyond surface",
                verdict="inconclusive",
                sentence="The data do not decide whether the probe says more than the text's surface: R² +0.042 "
                "[+0.012, +0.069] over the closest one, character n-grams.",
                rule="supported when the paired gain's lower bound over every surface control passes .05",
                figures={"gain": 0.072},
            ),
            Verdict(
                claim="general",
                verdict="refuted",
                sentence="On places outside the training countries R² is −0.10 [−0.19, −0.02], below the line of 0.25.",
                rule="supported when the lower bound on every test set passes half of the training figure",
                figures={"r2": -0.1},
            ),
        ],
        points=points,
        most_wrong=[
            WrongText(
                row=2871,
                text="Perth",
                label="latitude 56.39, read -30.1; longitude -3.43, read 114.2",
                score=3.71,
                group="United Kingdom",
            ),
            WrongText(
                row=12,
                text="Santa Rosa de Osos y Valle de los Alcázares del Río Perdido",
                label="latitude 6.64, read 40.2; longitude -75.46, read 3.1",
                score=2.9,
                group="Colombia",
            ),
        ],
        tests=[
            TestResult(
                name="places: test split",
                source="is_test of world_place.csv",
                n_rows=7917,
                metrics={"r2": Estimate(value=-0.103, low=-0.19, high=-0.02), "spearman": estimate(0.21, 0.03)},
                sites=[
                    SiteTransfer(
                        site=s,
                        metrics={"r2": estimate(rise(i - 1, -0.4, -0.1, 6, 4), 0.08), "spearman": estimate(0.2, 0.03)},
                    )
                    for i, s in enumerate(SITES)
                ],
                note="The split shares 268 of its 281 countries with training.",
            )
        ],
    )


def results(*targets: TargetResult, name: str = "cities") -> Results:
    chosen = list(targets) or [binary_target()]
    return Results(
        name=name,
        family="logistic" if chosen[0].kind == "binary" else "ridge",
        tokens="last",
        sites=SITES,
        data=DataSummary(
            name="cities",
            source="cities.csv",
            fingerprint="5b1cf0a2d94e7a31",
            n_given=1512,
            n_rows=1496,
            text_column="statement",
            target_columns=[c for t in chosen for c in t.columns],
            group_column="city",
            split_column=None,
            n_groups=748,
            n_train=1496,
            n_test=0,
            examples=[
                "The city of Krasnodar is in Russia.",
                "The city of Krasnodar is in South Africa.",
                "The city of Lodz is in Poland.",
            ],
            findings=[
                Finding(
                    code="dropped_rows",
                    severity="note",
                    message="16 rows without a label were left out.",
                    rows=list(range(40, 56)),
                ),
            ],
        ),
        model=ModelSummary(
            name="SmolLM2-135M-Instruct",
            source="smollm2-135m",
            architecture="llama",
            equation="resid_mid = resid_pre + attn_out\nresid_post = resid_mid + mlp_out",
            proof_error=3.1e-7,
            n_layers=30,
            d_model=576,
            n_heads=9,
            n_parameters=134_515_008,
            dtype="float32",
            device="cpu",
            fingerprint="c0ffee12ab34cd56",
        ),
        targets=chosen,
        findings=[],
        provenance=Provenance(
            leadline_version="0.1.0",
            versions={"torch": "2.13.0", "transformers": "5.3.0", "numpy": "2.4.6", "scipy": "1.17.0"},
            python="3.11.2",
            platform="Linux x86_64",
            processor="x86-64, 2 cores",
            n_threads=2,
            seed=0,
            started="2026-11-22T19:24:05+00:00",
            seconds=83.4,
            peak_memory_bytes=2_412_000_000,
            stages=[
                Stage(name="load", seconds=2.1, reused=True),
                Stage(name="extract", seconds=31.8),
                Stage(name="sweep", seconds=34.2),
                Stage(name="controls", seconds=12.4),
                Stage(name="report", seconds=0.9),
            ],
            methods=[
                "Activations of SmolLM2-135M-Instruct were read at 32 sites at the last token of each "
                "text, in float32.",
                "At each site a logistic probe was fitted for 7 penalties, standardised by each fold's "
                "training rows; five "
                "folds kept whole cities together and classes balanced.",
                "Figures are means over folds of out-of-fold scores. Intervals are 95% bootstrap intervals over groups "
                "within folds; they condition on the fitted probes. The choice of penalty and site is "
                "corrected by BBC-CV.",
                "p-values come from 1,000 permutations of labels within groups, shared by all sites; the "
                "best site is held "
                "against the maximum over sites.",
            ],
        ),
        study={
            "name": name,
            "model": "smollm2-135m",
            "data": {"path": "cities.csv", "text": "statement", "target": "label", "group": "city"},
            "sites": ["embed", "resid_post.*", "final_norm"],
            "tokens": "last",
            "probe": {"family": "logistic", "l2": None},
            "folds": 5,
            "permutations": 1000,
            "bootstraps": 1000,
            "controls": [
                "shuffled_labels",
                "bag_of_words",
                "char_ngrams",
                "length",
                "token_embeddings",
                "random_weights",
            ],
            "test": [{"path": "sp_en_trans.csv"}, {"path": "neg_cities.csv"}],
            "alpha": 0.05,
            "seed": 0,
            "out": "runs/cities",
        },
    )


HOSTILE = "<script>alert('x')</script>"
BREAKERS = [
    HOSTILE,
    "</script><script>alert(1)</script><!-- ",
    "\u2028\u2029<!--<script>",
    '"><img src=x onerror=alert(2)>',
    "<a href='javascript:alert(3)'>click</a> <b>bold</b> <br> &lt;i&gt; &amp; &nbsp;",
    "{{ 7 * 7 }} {% raw %} ${alert(4)} %{customdata} $E=mc^2$",
    "مرحبا بالعالم ‮ reversed ‬ שלום",
    "👩‍🔬🧪 naïve 漢字 \x00\x07\x1b",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 4,
]


def around(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


TOKENS = [" The", " city", " of", " Łódź", " is", " in", " Poland", ".", "\n", "True", " or", " false", "?"]


def causal() -> CausalResult:
    """Interventions at one site of a model that acts on what the probe reads."""
    draw = random.Random(11)
    rows = [
        ("pattern", "Along the pattern", 2.31, 0.29, 0.02, 0.04),
        ("direction", "Along the direction", 1.02, 0.21, 0.01, 0.02),
        ("mean_difference", "Along the mean difference", 2.24, 0.31, 0.02, 0.06),
        ("orthogonal", "Orthogonal, same variance", 0.08, 0.19, 0.71, 0.66),
        ("shuffled_labels", "Probe on shuffled labels", -0.11, 0.17, 0.58, 0.55),
        ("interchange_direction", "Exchanged along the direction", 0.88, 0.18, None, None),
        ("interchange_pattern", "Exchanged along the pattern", 1.71, 0.26, None, None),
        ("interchange_site", "Whole site exchanged", 3.02, 0.31, None, None),
    ]
    effects = [
        CausalEffect(
            name=name,
            label=label,
            explanation="Each example is moved by the gap between the classes.",
            effect=around(value, half),
            share=around(value / 3.36, half / 3.36),
            flips=around(max(0.02, value / 4), 0.05),
            kl=around(abs(value) / 6, 0.04),
            norm=None if isotropic is None else 14.2,
            dose=None if isotropic is None else 0.31,
            p_isotropic=isotropic,
            p_covariance=covariance,
        )
        for name, label, value, half, isotropic, covariance in rows
    ]
    nulls = [
        NullEffects(of=of, kind=kind, values=[draw.gauss(0, sd) for _ in range(99)])
        for of, scale in (("pattern", 1.0), ("direction", 0.7))
        for kind, sd in (("isotropic", 0.18 * scale), ("covariance", 0.52 * scale))
    ]
    doses = [-0.4, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.4]
    curves = []
    for name, label, slope, price, usable in (
        ("pattern", "Pattern", 9.0, 2.4, (-0.2, 0.2)),
        ("direction", "Direction", 4.0, 1.5, (-0.2, 0.2)),
        ("mean_difference", "Mean difference", 8.4, 2.6, (-0.1, 0.2)),
    ):
        points = [
            DosePoint(
                strength=x,
                dose=x,
                change=around(3.1 * math.tanh(slope * x / 3.1), 0.05 + 0.7 * abs(x)),
                probability=around(1 / (1 + math.exp(-slope * x)), 0.03),
                reading=around(24 * x, 0.6),
                flips=around(min(0.9, abs(x) * 2), 0.04),
                cost=around(price * x * x, 0.02 + 0.05 * abs(x)),
                kl=around(1.6 * price * x * x, 0.02),
            )
            for x in doses
        ]
        curves.append(DoseCurve(name=name, label=label, points=points, usable=usable))
    bands = [
        RandomBand(
            kind=kind,
            doses=doses,
            mean=[0.1 * x for x in doses],
            low=[0.1 * x - width * abs(x) for x in doses],
            high=[0.1 * x + width * abs(x) for x in doses],
        )
        for kind, width in (("isotropic", 0.9), ("covariance", 2.1))
    ]
    written = {(11, 4): 1.9, (9, 2): 1.2, (12, 7): 0.8, (10, 0): -0.55, (7, 3): 0.42}
    contributions = [
        Contribution(
            component=f"head {layer}.{head}",
            kind="head",
            layer=layer,
            difference=around(written.get((layer, head), draw.gauss(0.004, 0.02)), 0.08),
        )
        for layer in range(14)
        for head in range(9)
    ]
    contributions += [
        Contribution(
            component=f"mlp {layer}",
            kind="mlp",
            layer=layer,
            difference=around({10: 0.95, 13: 0.7, 2: -0.3}.get(layer, draw.gauss(0, 0.1)), 0.1),
        )
        for layer in range(14)
    ]
    contributions.append(Contribution(component="embed", kind="embed", difference=around(0.21, 0.06)))
    sites = [f"resid_post.{i}" for i in range(14)]

    def effect_at(row: int, column: int) -> float:
        country = math.exp(-(((column - 6) / 0.7) ** 2) - ((row - 4) / 4) ** 2)
        last = math.exp(-(((column - 12) / 0.8) ** 2) - ((row - 13) / 3.5) ** 2)
        return 2.4 * country + 2.9 * last - 0.5 * math.exp(-((column - 3) ** 2) - ((row - 6) / 3) ** 2)

    exact = [[effect_at(i, j) for j in range(len(TOKENS))] for i in range(len(sites))]
    maps = [
        HeatMap(
            name=name,
            title=title,
            explanation=explanation,
            sites=sites,
            tokens=TOKENS,
            values=[[noise * draw.gauss(0, 1) + scale * v for v in row] for row in exact],
            n_pairs=24,
            unit="nats",
        )
        for name, title, explanation, noise, scale in (
            (
                "activation_patching",
                "Activation patching",
                "Each cell is a pass of its own.",
                0.03,
                1.0,
            ),
            (
                "attribution_patching",
                "Attribution patching",
                "To first order, from one backward pass.",
                0.12,
                0.8,
            ),
        )
    ]
    measures = [
        Measure(
            name="families",
            title="Probe families at equal cost",
            explanation="How far each family’s vector moves the answers at the same rise of perplexity.",
            sentence="The mean difference moves the answers furthest at +10% perplexity.",
            figures=[
                MeasureFigure(name=name, label=label, value=around(value, 0.2), signed=True)
                for name, label, value in (("lda", "LDA", 2.1), ("mean_difference", "mean difference", 2.2))
            ],
            tables=[MeasureTable(title="By family", columns=["family", "effect"], rows=[["LDA", 2.1], ["PCA", 0.3]])],
        ),
        Measure(
            name="unembedding", title="Read through the unembedding", explanation="", reason="the norm is not known."
        ),
    ]
    return CausalResult(
        site="resid_post.13",
        tokens="last",
        prompt="{text}\nTrue or false?",
        positive=[" true", " True"],
        negative=[" false", " False"],
        n_examples=64,
        n_groups=32,
        n_pairs=32,
        n_random=99,
        cosine=0.214,
        natural=around(3.36, 0.42),
        accuracy=around(0.81, 0.09),
        effects=effects,
        nulls=nulls,
        curves=curves,
        bands=bands,
        cost_budget=0.1,
        contributions=contributions,
        n_contributions=len(contributions),
        decomposition_error=3.1e-6,
        heat_maps=maps,
        measures=measures,
        notes=["the direction was fitted on rows of other groups than those it was tried on."],
        seconds=41.2,
    )


def acted() -> Results:
    """A study with interventions and the verdicts that go with them."""
    target = binary_target()
    told = {
        "used": Verdict(
            claim="used",
            verdict="supported",
            sentence="The model acts on what the probe reads: its answers' log odds move by +2.31 nats [+2.02, +2.60] "
            "along its pattern, p = 0.04, 69% of the difference between the classes.",
            rule="supported if moving each example along the probe's pattern moves the answers",
            figures={"effect": 2.31, "low": 2.02, "high": 2.6, "p": 0.04},
        ),
        "where from": Verdict(
            claim="where from",
            verdict="inconclusive",
            sentence="The data do not decide whether head 11.4, head 9.2 and mlp 10 write it: ablating them takes "
            "away 61% [38%, 84%] of what the decomposition gives them, p = 0.01.",
            rule="supported if ablating the named heads and MLPs takes away more than 50%",
            figures={"kept": 0.61, "low": 0.38, "high": 0.84, "p": 0.01},
        ),
    }
    verdicts = [told.get(v.claim, v) for v in target.verdicts]
    return results(target.model_copy(update={"causal": causal(), "verdicts": verdicts}))


def breaking_causal() -> CausalResult:
    """Interventions in which every string is hostile, and much is missing."""
    given = causal()

    def worded(i: int) -> str:
        return BREAKERS[i % len(BREAKERS)]

    return given.model_copy(
        update={
            "site": worded(1),
            "tokens": worded(3),
            "prompt": worded(4),
            "positive": [worded(5), ""],
            "negative": [worded(6)],
            "behaviour_reason": worded(0),
            "where_from_reason": worded(1),
            "effects": [
                e.model_copy(update={"label": worded(i), "name": worded(i), "share": None, "flips": None})
                for i, e in enumerate(given.effects)
            ],
            "nulls": [n.model_copy(update={"of": worded(0)}) for n in given.nulls],
            "curves": [
                c.model_copy(update={"label": worded(i), "name": worded(i)}) for i, c in enumerate(given.curves)
            ],
            "contributions": [
                c.model_copy(update={"component": worded(i)}) if i < len(BREAKERS) else c
                for i, c in enumerate(given.contributions)
            ],
            "heat_maps": [
                m.model_copy(
                    update={
                        "title": worded(i),
                        "explanation": worded(i),
                        "unit": worded(i),
                        "sites": [worded(j) for j in range(len(m.sites))],
                        "tokens": [worded(j) for j in range(len(m.tokens))],
                        "values": [[None, *row[1:]] for row in m.values],
                    }
                )
                for i, m in enumerate(given.heat_maps)
            ],
            "notes": BREAKERS,
        }
    )


def hostile() -> Results:
    """Every string that may come from data, models or files is markup, script, emoji, right-to-left or very long."""
    target = binary_target()
    target = target.model_copy(
        update={
            "target": BREAKERS[1],
            "columns": [BREAKERS[1]],
            "negative": BREAKERS[4],
            "positive": BREAKERS[3],
            "baselines": [
                b.model_copy(update={"title": BREAKERS[i], "explanation": BREAKERS[i], "name": BREAKERS[i]})
                for i, b in enumerate(target.baselines)
            ],
            "verdicts": [
                v.model_copy(update={"sentence": BREAKERS[1], "rule": BREAKERS[3], "figures": {BREAKERS[3]: 1.0}})
                for v in target.verdicts
            ],
            "findings": [Finding(code=BREAKERS[3], severity="warning", message=b, rows=[1]) for b in BREAKERS],
            "most_wrong": [WrongText(row=i, text=b, label=b, score=1.0, group=b) for i, b in enumerate(BREAKERS)],
            "causal": breaking_causal(),
            "tests": [
                t.model_copy(update={"name": b, "source": b, "note": b}) for t, b in zip(target.tests, BREAKERS[1:])
            ],
            "best": target.best.model_copy(update={"correction": BREAKERS[1], "probe_files": [BREAKERS[3]]}),
            "permutation": target.permutation.model_copy(update={"scheme": BREAKERS[1]})
            if target.permutation
            else None,
        }
    )
    columns = continuous_target()
    columns = columns.model_copy(
        update={
            "target": BREAKERS[8],
            "points": [p.model_copy(update={"column": b}) for p, b in zip(columns.points, BREAKERS[3:])],
        }
    )
    whole = results(target, columns, name=BREAKERS[1])
    return whole.model_copy(
        update={
            "family": BREAKERS[3],
            "tokens": BREAKERS[3],
            "data": whole.data.model_copy(
                update={
                    "name": BREAKERS[1],
                    "source": BREAKERS[3],
                    "text_column": BREAKERS[4],
                    "group_column": BREAKERS[8],
                    "examples": BREAKERS,
                    "findings": [Finding(code="x", severity="note", message=b, rows=[]) for b in BREAKERS],
                }
            ),
            "model": whole.model.model_copy(
                update={"name": BREAKERS[3], "source": BREAKERS[1], "equation": BREAKERS[1]}
            ),
            "provenance": whole.provenance.model_copy(
                update={
                    "platform": BREAKERS[3],
                    "methods": BREAKERS,
                    "versions": {BREAKERS[3]: BREAKERS[1]},
                    "stages": [Stage(name=b, seconds=1.0) for b in BREAKERS],
                }
            ),
            "study": {"name": BREAKERS[1], BREAKERS[3]: BREAKERS},
        }
    )


def bare() -> Results:
    """Everything that may be missing is: no groups, permutations, bootstraps, baselines, tests or scores."""
    target = binary_target()
    lonely = [
        s.model_copy(
            update={
                "metrics": {k: Estimate(value=e.value) for k, e in s.metrics.items()},
                "p_value": None,
                "null_mean": None,
                "null_low": None,
                "null_high": None,
                "setting": None,
            }
        )
        for s in target.sites
    ]
    lonely[3] = lonely[3].model_copy(update={"metrics": {k: Estimate(value=None) for k in lonely[3].metrics}})
    target = target.model_copy(
        update={
            "sites": lonely,
            "permutation": None,
            "baselines": [],
            "verdicts": [],
            "findings": [],
            "histogram": None,
            "confusion": None,
            "most_wrong": [],
            "tests": [],
            "n_negative": None,
            "n_positive": None,
            "parameter": None,
            "best": target.best.model_copy(
                update={
                    "setting": None,
                    "metrics": {k: Estimate(value=e.value) for k, e in target.best.metrics.items()},
                }
            ),
        }
    )
    whole = results(target)
    return whole.model_copy(
        update={
            "data": whole.data.model_copy(
                update={"group_column": None, "n_groups": None, "examples": [], "findings": []}
            ),
            "provenance": whole.provenance.model_copy(update={"stages": [], "methods": [], "peak_memory_bytes": None}),
        }
    )


def kinds() -> Results:
    """Several kinds of site: the stream, what attention and the MLP add to it, and the stream between them."""
    target = binary_target()
    extra = []
    for kind, top in (("resid_mid", 0.93), ("attn_out", 0.84), ("mlp_out", 0.88)):
        for layer in range(N_LAYERS):
            like = target.sites[layer + 1]
            value = rise(layer, 0.5, top, 8.5)
            extra.append(
                like.model_copy(
                    update={
                        "site": f"{kind}.{layer}",
                        "kind": kind,
                        "metrics": {k: estimate(value, 0.02) for k in like.metrics},
                    }
                )
            )
    return results(target.model_copy(update={"sites": [*target.sites, *extra]}))
