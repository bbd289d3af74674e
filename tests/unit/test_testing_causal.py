"""Planted transformers: what is said of them holds by direct edits; the verdicts on them; and what the bench counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from leadline.cli import main
from leadline.errors import CausalError
from leadline.testing import causal_bench
from leadline.testing import planted_causal as plant
from leadline.testing.causal_bench import USE_NULLS, UseCase, run_causal_bench
from leadline.testing.causal_judge import judge_use
from leadline.testing.planted.record import NOT_SUPPORTED
from leadline.testing.planted_causal import CONCEPT, DORMANT, PlantedUse

Make = Callable[[int], PlantedUse]
MAKERS: tuple[Make, ...] = (
    plant.used,
    plant.one_head_of_many,
    plant.idle,
    plant.another_route,
    plant.nonlinear,
    plant.dormant,
)
SEEDS = (0, 1)
every_case = pytest.mark.parametrize(
    ("make", "seed"), [(m, s) for m in MAKERS for s in SEEDS], ids=lambda x: getattr(x, "__name__", str(x))
)


@cache
def made(make: Make, seed: int) -> PlantedUse:
    return make(seed)


def activations(planted: PlantedUse) -> np.ndarray:
    return planted.activations(planted.texts).astype(float)


def answers(planted: PlantedUse, stream: np.ndarray | None = None) -> np.ndarray:
    """The difference between the answers' logits, with what stands at the site's last token replaced."""
    model = planted.model
    ids = torch.tensor(model.encode([plant.TEMPLATE.replace("{text}", text) for text in planted.texts]))
    first, second = (model.encode([word])[0][0] for word in plant.ANSWERS)

    def put(site: object, x: torch.Tensor) -> torch.Tensor:
        assert stream is not None
        x = x.clone()
        x[:, -1] = torch.from_numpy(stream).float()
        return x

    with torch.inference_mode():
        if stream is None:
            logits = model.module(ids).logits[:, -1]
        else:
            with model.editing([planted.site], put):
                logits = model.module(ids).logits[:, -1]
    return np.asarray((logits[:, first] - logits[:, second]).double())


def interchanged(planted: PlantedUse, directions: np.ndarray | None = None) -> float:
    """The mean move toward the other class when each row gets what a row of that class has: the mean over partners."""
    X, y, clean = activations(planted), planted.y, answers(planted)
    found = []
    for shift in range(4):
        partner = np.empty(len(y), dtype=int)
        ones, zeros = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
        partner[ones], partner[zeros] = np.roll(zeros, 5 * shift)[: len(ones)], np.roll(ones, 5 * shift)[: len(zeros)]
        step = X[partner] - X
        if directions is not None:
            step = step @ directions.T @ directions
        found.append(float(np.mean((1 - 2 * y) * (answers(planted, X + step) - clean))))
    return float(np.mean(found))


def natural(planted: PlantedUse) -> float:
    clean = answers(planted)
    return float(clean[planted.y == 1].mean() - clean[planted.y == 0].mean())


def axes(planted: PlantedUse, *dimensions: int) -> np.ndarray:
    return np.eye(planted.model.d_model)[list(dimensions)]


# ---- what is planted


@every_case
def test_the_concept_is_decodable_at_the_site_and_one_head_writes_it(make: Make, seed: int) -> None:
    planted = made(make, seed)
    X, y = activations(planted), planted.y
    assert roc_auc_score(y, planted.direction.score(X)) > 0.9
    assert set(planted.texts).isdisjoint(planted.fitted)

    def gap(x: np.ndarray) -> float:
        return float(x[y == 1].mean() - x[y == 0].mean())

    ids = torch.tensor(planted.model.encode([plant.TEMPLATE.replace("{text}", text) for text in planted.texts]))
    heads = planted.model.read(ids, None, planted.model.sites("head_out.*.*"))
    before = {site: x[:, -1, CONCEPT] for site, x in heads.items() if (site.layer or 0) < 3}
    written = {f"head {site.layer}.{site.head}": gap(np.asarray(x, dtype=float)) for site, x in before.items()}
    whole = gap(X[:, CONCEPT])
    assert written.pop(planted.writer) == pytest.approx(whole, rel=0.15)
    # Of decoys, a part that cancels.
    assert max(map(abs, written.values())) < (0.5 if make is plant.one_head_of_many else 1e-5) * whole


@every_case
def test_the_same_seed_plants_the_same(make: Make, seed: int) -> None:
    one, again = made(make, seed), make(seed)
    assert one.texts == again.texts
    np.testing.assert_array_equal(answers(one), answers(again))
    other = made(make, 1 - seed)
    assert one.texts != other.texts
    assert not np.array_equal(answers(one), answers(other))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [plant.used, plant.one_head_of_many])
def test_where_it_is_used_the_concept_alone_carries_the_answer(make: Make, seed: int) -> None:
    planted = made(make, seed)
    assert natural(planted) > 1
    assert interchanged(planted, axes(planted, CONCEPT)) > 0.6 * natural(planted)
    rest = [i for i in range(planted.model.d_model) if i != CONCEPT]
    assert abs(interchanged(planted, axes(planted, *rest))) < 0.35 * natural(planted)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [plant.idle, plant.another_route, plant.nonlinear, plant.dormant])
def test_where_it_is_not_the_concept_carries_nothing_and_answers_vary(make: Make, seed: int) -> None:
    planted = made(make, seed)
    assert answers(planted).std() > 0.5
    assert abs(interchanged(planted, axes(planted, CONCEPT))) < 0.08


@pytest.mark.parametrize("seed", SEEDS)
def test_another_route_makes_answers_follow_the_label_past_the_site(seed: int) -> None:
    planted = made(plant.another_route, seed)
    assert natural(planted) > 1
    assert abs(interchanged(planted)) < 0.15


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_product_the_site_decides_and_no_direction(seed: int) -> None:
    planted = made(plant.nonlinear, seed)
    X, clean, toward = activations(planted), answers(planted), 1 - 2 * planted.y
    assert interchanged(planted) > 0.8 * natural(planted)
    assert natural(planted) > 1
    rng = np.random.default_rng([seed, 1])
    steps = np.concatenate([axes(planted, *range(planted.model.d_model)), rng.normal(size=(40, X.shape[1])) / 5])
    # Where nothing stands at the site, what is written behind it would be forged.
    steps[:, X.std(axis=0) == 0] = 0
    moved = [np.mean(toward * (answers(planted, X + 2 * np.outer(toward, step)) - clean)) for step in steps]
    assert max(moved) < 0.4 * natural(planted)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_dormant_direction_fools_an_interchange_along_it(seed: int) -> None:
    planted = made(plant.dormant, seed)
    assert planted.probe is not None
    X = activations(planted)
    assert np.abs(X[:, DORMANT]).max() == 0
    assert interchanged(planted, planted.probe.direction[None]) > 1
    assert abs(interchanged(planted)) < 0.2


def test_what_is_read_like_noise_is_read_no_more_than_other_dimensions() -> None:
    ranks = []
    for seed in range(30):
        planted = plant.read_like_noise(seed)
        planted = replace(planted, texts=planted.texts[:6], y=planted.y[:6])
        X, clean = activations(planted), answers(planted)
        others = [CONCEPT, *range(9, planted.model.d_model)]
        moved = [np.mean(answers(planted, X + 0.5 * step) - clean) for step in axes(planted, *others)]
        ranks.append(np.mean(np.abs(moved)[1:] < abs(moved[0])))
    assert 0.35 < np.mean(ranks) < 0.65


# ---- what Leadline says of it


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_verdicts_and_attribution_tell_the_truth(make: Make, seed: int) -> None:
    judged = judge_use(made(make, seed), n_random=39, seed=seed)
    assert set(judged.right) >= {"used", "where from", "writer"}
    if make is plant.dormant:
        # What is exchanged along the direction alone, with no control beside, fools.
        assert judged.peer == "supported"
    assert all(judged.right.values()), (judged.right, judged.named, judged.sentences)


@pytest.mark.parametrize("null", USE_NULLS, ids=lambda null: null.name)
def test_nothing_is_seldom_found_to_be_used(null: UseCase) -> None:
    words = [judge_use(null.make(seed), claims=("used",), seed=seed).verdicts["used"] for seed in range(3)]
    # Of a rate of 5%, two of three or more come once in 140 times.
    assert words.count("supported") <= 1


# ---- the bench


def lying(seed: int) -> PlantedUse:
    """A concept that is not used, said to be."""
    return replace(plant.idle(seed, plant.DRAW), truth={"used": frozenset({"supported"})}, says="")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    true = UseCase("a true one", lambda seed: replace(plant.idle(seed, plant.DRAW), truth={"used": NOT_SUPPORTED}))
    monkeypatch.setattr(causal_bench, "USE_CASES", (true, UseCase("a wrong one", lying)))
    loud = UseCase("a loud null", partial(plant.used, size=plant.DRAW), "it is used")
    monkeypatch.setattr(causal_bench, "USE_NULLS", (USE_NULLS[1], loud))
    monkeypatch.setattr(causal_bench, "_N_RANDOM", 39)


def test_true_and_false_claims_are_counted(small: None) -> None:
    result = run_causal_bench(seeds=1, draws=4, workers=1)
    true, wrong = result.cases
    assert (true.n, true.n_right, true.wrong) == (1, 1, ())
    assert wrong.n_right == 0
    assert wrong.wrong[0].startswith("seed 0: used: ")
    assert result.accuracy == 0.5
    null, loud = result.nulls
    assert null.n == loud.n == 4
    assert null.n_supported <= 1
    assert loud.n_supported >= 3
    exact = binomtest(loud.n_supported, 4).proportion_ci(method="exact")
    assert (loud.rate.low, loud.rate.high) == pytest.approx((exact.low, exact.high))
    assert result.too_high == (loud,)
    assert loud.peer_supported == 4


def test_the_command_prints_and_writes(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cases", "wrong", "--cases", "idle", "--seeds", "1", "--draws", "2", "--workers", "1", "--quiet"]
    assert main(["bench", "causal", *options]) == 0
    out = capsys.readouterr().out
    assert "wrong: a wrong one: seed 0: used: " in out
    assert "idle, draws" in out
    assert "beyond surface" not in out
    assert main(["bench", "causal", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["planted_accuracy"] == {"a wrong one": 0.0}
    assert found["false_used_rate"]["idle, draws"]["n"] == 2
    assert (found["n_runs"], found["n_draws"]) == (1, 2)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"cases": ["nowhere"]}, "called 'nowhere'"), ({"seeds": 0, "draws": 0}, "nothing to run"), ({"seeds": -1}, "-1")],
)
def test_what_cannot_be_run_is_said(options: dict[str, object], told: str) -> None:
    with pytest.raises(CausalError, match=told):
        run_causal_bench(**{"workers": 1, **options})
