"""Patching maps against one full pass for every cell, and gradients against finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from leadline.activations.tokens import Selection
from leadline.causal.examples import Examples, prompts
from leadline.causal.patch_map import rank_correlation
from leadline.causal.patching import activation_patching, attribution_patching
from leadline.causal.quantity import LogOdds, Score
from leadline.errors import CausalError, ModelError, SiteError
from leadline.models.gradients import gradients
from leadline.models.model import Model
from leadline.probes.probe import Probe
from leadline.sites import Site

CLEAN = ["one two three four five", "The city of Lima is in Peru.", "a probe reads", "six seven eight", "two ten four"]
OTHER = [
    "one two ten four five",
    "The city of Paris is in France.",
    "a layer and a stream",
    "six two eight",
    "two ten four",
]
POSITIVE = [(" one", " Lima", " The city"), (" two",), (" ten",), (" a probe",), (" one",)]
NEGATIVE = [(" three",), (" of Paris", " of Peru"), (" four",), (" layer",), (" six", " seven")]
GROUPS = np.array([0, 1, 2, 3, 4])
EVERYWHERE = "embed resid_pre.1 head_out.0.1 head_out.1.3 attn_out.1 resid_mid.1 mlp_hidden.0 mlp_out.1 resid_post.*"


def asked(model: Model, texts: list[str] | None = None, template: str = "{text} Is it") -> Examples:
    return prompts(model, texts or CLEAN, template=template, positive=POSITIVE, negative=NEGATIVE, groups=GROUPS)


def probe_at(model: Model, site: str, tokens: str = "last", seed: int = 0) -> Probe:
    coef = np.random.default_rng([seed, 23]).normal(size=model.width(site))
    return Probe(Site.parse(site), coef, 0.3, coef, "given", "binary", "y", tokens=tokens)


def sites_of(model: Model, wanted: str = EVERYWHERE) -> list[Site]:
    return list(model.sites([name for name in wanted.split() if name.split(".")[0] in model.kinds]))


def kept_pairs(model: Model, clean: Examples, other: Examples) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(clean.rows, other.rows, strict=True)) if a.length == b.length]


def log_odds(model: Model, ids: list[int], positive: tuple, negative: tuple) -> float:
    """By one full pass for each answer."""
    sides = []
    for answers in (positive, negative):
        found = []
        for answer in answers:
            with torch.no_grad():
                logits = model.module(input_ids=torch.tensor([[*ids, *answer]]), use_cache=False).logits[0].double()
            log_p = logits.log_softmax(dim=-1)
            found.append(sum(float(log_p[len(ids) - 1 + k, token]) for k, token in enumerate(answer)))
        sides.append(np.logaddexp.reduce(found))
    return float(sides[0] - sides[1])


def one_by_one(model: Model, clean: Examples, other: Examples, sites: list[Site], measure) -> dict[int, np.ndarray]:
    """For each pair (S, length) changes of `measure(row, ids)`, by an edit of one site and token in full passes."""
    maps = {}
    for i in kept_pairs(model, clean, other):
        ids = list(clean.rows[i].ids)
        values = model.read(torch.tensor([list(other.rows[i].ids)]), None, sites)
        before = measure(i, ids)
        found = np.empty((len(sites), len(ids)))
        for s, site in enumerate(sites):
            for k in range(len(ids)):

                def edit(_: Site, x: torch.Tensor, source=values[site], k=k) -> torch.Tensor:
                    x = x.clone()
                    x[:, k] = source[:, k]
                    return x

                with model.editing([site], edit):
                    found[s, k] = measure(i, ids) - before
        maps[i] = found
    return maps


def assert_equals(got, expected: dict[int, np.ndarray], tolerance: float = 2e-5) -> None:
    assert list(got.rows) == list(expected)
    assert max(np.abs(one).max() for one in expected.values()) > 1e-2
    for n, i in enumerate(got.rows):
        length = expected[i].shape[1]
        np.testing.assert_allclose(got.values[n, :, -length:], expected[i], atol=tolerance, rtol=2e-4)
        assert np.isnan(got.values[n, :, :-length]).all()


def hooks(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "granite"])
def test_the_exact_map_of_log_odds_is_that_of_one_edit_at_a_time(tiny_model, family) -> None:
    model = tiny_model(family)
    clean, other = asked(model), asked(model, OTHER)
    sites = sites_of(model, EVERYWHERE + " final_norm")
    got = activation_patching(model, clean, other, None, sites)

    def measure(i: int, ids: list[int]) -> float:
        return log_odds(model, ids, clean.positive[i], clean.negative[i])

    assert_equals(got, one_by_one(model, clean, other, sites, measure))
    assert set(got.unequal) == set(range(len(CLEAN))) - set(kept_pairs(model, clean, other)) != set()
    for n, i in enumerate(got.rows):
        assert got.clean[n] == pytest.approx(measure(i, list(clean.rows[i].ids)), abs=1e-4)
        assert got.counterfactual[n] == pytest.approx(measure(i, list(other.rows[i].ids)), abs=1e-4)


@pytest.mark.parametrize(
    ("family", "tokens"), [("llama", "last"), ("llama", "mean@span:text"), ("gpt2", "-2"), ("bert", "max")]
)
def test_the_exact_map_of_a_score_is_that_of_one_edit_at_a_time(tiny_model, family, tokens) -> None:
    model = tiny_model(family)
    given = [prompts(model, t, template="A text: {text} so", positive=(), negative=()) for t in (CLEAN, OTHER)]
    probe = probe_at(model, "resid_post.1", tokens)
    selection = Selection.parse(tokens)
    sites = sites_of(model, EVERYWHERE + " resid_post.2")
    got = activation_patching(model, *given, probe, sites)

    def measure(i: int, ids: list[int]) -> float:
        span = given[0].span(i) if selection.span else None
        at = selection.positions(given[0].rows[i], span)
        at = at[-1:] if selection.pool == "last" else at
        seen = []
        with model.editing([probe.site], lambda _, x: seen.append(x.clone()) or x):
            model.forward(torch.tensor([ids]))
        h = seen[0][0, at].double()
        return float(probe.score((h.amax(0) if selection.pool == "max" else h.mean(0)).numpy()[None])[0])

    assert_equals(got, one_by_one(model, *given, sites, measure))
    assert (np.nan_to_num(got.values[:, got.sites.index(Site("resid_post", 2))]) == 0).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_attribution_is_the_exact_map_where_the_score_is_linear_in_the_site(tiny_model, family) -> None:
    model = tiny_model(family)
    linear = "resid_post.1 mlp_out.1" + (" attn_out.1 head_out.1.*" if family == "gpt_neox" else "")
    for tokens in ("last", "mean"):
        probe = probe_at(model, "resid_pre.2", tokens)
        exact = activation_patching(model, CLEAN, OTHER, probe, linear.split())
        estimate = attribution_patching(model, CLEAN, OTHER, probe, linear.split())
        assert np.nanmax(np.abs(exact.values)) > 0.1
        np.testing.assert_allclose(estimate.values, exact.values, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(estimate.clean, exact.clean, atol=1e-5)
        np.testing.assert_allclose(estimate.counterfactual, exact.counterfactual, atol=1e-5)
    found = rank_correlation(exact, estimate)
    # Cells that are nearly equal may change places.
    assert found.of_means == pytest.approx(1, abs=0.02)
    assert found.by_pair.value == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("metric", ["score", "log odds"])
def test_attribution_comes_to_the_exact_map_as_the_counterfactual_comes_to_the_clean_prompt(
    tiny_model, family, metric
) -> None:
    model = tiny_model(family)
    # Two words whose embeddings are nearly one: all else follows.
    first, second = model.encode(["three five ten", "three four ten"])
    ((one, two),) = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    table = model.module.get_input_embeddings().weight
    errors = []
    for step in (1e-1, 1e-2):
        shift = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            table[two] = table[one] + step * float(table.std()) * shift
        texts = ["three five ten", "a five city"], ["three four ten", "a four city"]
        given = [prompts(model, t, positive=(" ten", " The city"), negative=(" seven",)) for t in texts]
        probe = probe_at(model, "resid_post.2", "mean") if metric == "score" else None
        sites = sites_of(model)
        exact = activation_patching(model, *given, probe, sites)
        estimate = attribution_patching(model, *given, probe, sites)
        assert np.isfinite(exact.values[0]).all()
        errors.append(np.nanmax(np.abs(exact.values - estimate.values)) / np.nanmax(np.abs(exact.values)))
    # The error is of second order, so a tenth of the step has a tenth of it beside the effect, up to float32.
    assert errors[1] < max(0.3 * errors[0], 3e-3)
    assert errors[1] < 0.03


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "granite", "olmo2", "opt_post_norm", "bert"])
def test_gradients_are_finite_differences(tiny_model, family) -> None:
    model = tiny_model(family)
    model.module.double()
    examples = [asked(model)] if family != "bert" else []
    quantities = [LogOdds(model, one) for one in examples]
    # With the kinks of ReLU a large step says nothing.
    if family != "opt_post_norm":
        quantities.append(Score(model, probe_at(model, "resid_post.2", "mean"), asked(model)))
    sites = sites_of(model, EVERYWHERE + " final_norm")
    rows = range(len(CLEAN))
    rng = np.random.default_rng(5)
    for quantity in quantities:
        seen: dict[Site, torch.Tensor] = {}
        held: dict[Site, torch.Tensor] = {}

        def take(site: Site, x: torch.Tensor, seen=seen, held=held):
            held[site] = x.clone()
            return lambda g: seen.__setitem__(site, g.clone())

        m = gradients(model, sites, lambda q=quantity: q.measure(rows, grad=True), take)
        np.testing.assert_allclose(m.numpy(), quantity.measure(rows).numpy(), rtol=1e-5)
        # Pools and RMS norms compute in float32, in whose last bits a small step would drown.
        exact = quantity.name != "score" and family in ("gpt2", "gpt_neox", "opt_post_norm")
        step, tolerance = (1e-5, 1e-5) if exact else (2e-3, 2e-2)
        reached = [site for site in sites if site.kind != "final_norm" or quantity.name != "score"]
        assert set(seen) == set(reached)
        for site in reached:
            v = torch.from_numpy(rng.normal(size=held[site].shape)) * held[site].std()

            def moved(size: float, site=site, v=v, quantity=quantity) -> float:
                with model.editing([site], lambda _, x: x + size * v):
                    return float(quantity.measure(rows).sum())

            numeric = (moved(step) - moved(-step)) / (2 * step)
            length = float(seen[site].norm() * v.norm()) / v.numel() ** 0.5
            assert float((seen[site] * v).sum()) == pytest.approx(numeric, abs=tolerance * length), site


@pytest.mark.parametrize("metric", ["score", "log odds"])
def test_batches_and_lengths_change_nothing(tiny_model, metric) -> None:
    model = tiny_model("llama")
    clean, other = asked(model), asked(model, OTHER)
    probe = probe_at(model, "resid_post.2") if metric == "score" else None
    for make in (activation_patching, attribution_patching):
        whole = make(model, clean, other, probe, "resid_post.* head_out.1.*")
        single = make(model, clean, other, probe, "resid_post.* head_out.1.*", batch_tokens=1)
        np.testing.assert_allclose(single.values, whole.values, atol=1e-5)
        last = make(model, clean, other, probe, "resid_post.* head_out.1.*", positions=2)
        assert last.tokens == ("-2", "-1")
        np.testing.assert_allclose(last.values, whole.values[:, :, -2:], atol=1e-5)


def test_before_the_first_difference_nothing_changes_and_nothing_is_run(tiny_model) -> None:
    model = tiny_model("llama")
    clean, other = asked(model), asked(model, OTHER)
    for make in (activation_patching, attribution_patching):
        got = make(model, clean, other, None, "resid_post.0")
        for n, i in enumerate(got.rows):
            a, b = clean.rows[i].ids, other.rows[i].ids
            first = next((k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
            own = got.values[n, 0, got.values.shape[2] - len(a) :]
            assert (own[:first] == 0).all()
            assert list(got.live[n, -len(a) :]) == [k >= first for k in range(len(a))]
            if first < len(a):
                assert own[first] != 0
    # The last pair is of one and the same prompt.
    assert (np.nan_to_num(got.values[-1]) == 0).all()
    assert got.clean[-1] == pytest.approx(got.counterfactual[-1], abs=1e-6)


def test_a_module_that_cannot_be_entered_behind_its_trunk_gives_the_same_maps(tiny_model) -> None:
    model = tiny_model("gpt2")
    clean, other = asked(model), asked(model, OTHER)
    maps = [make(model, clean, other, None, "resid_post.*") for make in (activation_patching, attribution_patching)]
    model.__dict__["_plain_head"] = False
    for make, before in zip((activation_patching, attribution_patching), maps, strict=True):
        after = make(model, clean, other, None, "resid_post.*")
        np.testing.assert_allclose(after.values, before.values, atol=2e-5)


def test_no_weight_asks_for_less_or_more_and_no_hook_is_left_after_an_exception(tiny_model) -> None:
    model = tiny_model("llama")
    parameters = list(model.module.parameters())
    for k, parameter in enumerate(parameters):
        parameter.requires_grad_(k % 2 == 0)
    model.module.train()

    def state() -> tuple:
        asking = [p.requires_grad for p in parameters]
        return asking, hooks(model), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), model.module.training

    before = state()
    clean, other = asked(model), asked(model, OTHER)
    first = attribution_patching(model, clean, other, None, "resid_mid.* head_out.*.*")
    assert state() == before
    quantity = LogOdds(model, clean)
    ids = model.sites("resid_post.* resid_mid.1 head_out.0.0")

    def fails_forward(site: Site, x: torch.Tensor):
        if site == Site("resid_post", 1):
            raise KeyboardInterrupt
        return lambda g: None

    def fails_backward(site: Site, x: torch.Tensor):
        def receive(g: torch.Tensor) -> None:
            raise RuntimeError("on the way back")

        return receive

    with pytest.raises(KeyboardInterrupt):
        gradients(model, ids, lambda: quantity.measure([0], grad=True), fails_forward)
    assert state() == before
    with pytest.raises(RuntimeError, match="on the way back"):
        gradients(model, ids, lambda: quantity.measure([0], grad=True), fails_backward)
    assert state() == before
    with pytest.raises(ModelError, match="a number for each row"):
        gradients(model, ids, lambda: model.run(model.batch(clean.rows), grad=True), lambda s, x: lambda g: None)
    assert state() == before
    assert all(p.grad is None for p in parameters)
    again = attribution_patching(model, clean, other, None, "resid_mid.* head_out.*.*")
    np.testing.assert_array_equal(again.values, first.values)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_callers_without_gradients_get_the_same_map(tiny_model, mode) -> None:
    model = tiny_model("llama")
    expected = attribution_patching(model, CLEAN, OTHER, probe_at(model, "resid_post.2"))
    with mode():
        found = attribution_patching(model, CLEAN, OTHER, probe_at(model, "resid_post.2"))
    np.testing.assert_array_equal(found.values, expected.values)


def test_partners_are_the_counterfactuals_of_examples(tiny_model) -> None:
    model = tiny_model("llama")
    texts = [text for pair in zip(CLEAN[:4], OTHER[:4], strict=True) for text in pair]
    examples = prompts(
        model, texts, positive=(" one",), negative=(" two",), y=[1, 0] * 4, pairs=[k // 2 for k in range(8)]
    )
    got = attribution_patching(model, examples, sites="resid_post.*")
    expected = attribution_patching(
        model, examples, [texts[i ^ 1] for i in range(8)], sites="resid_post.*", groups=np.repeat(np.arange(4), 2)
    )
    np.testing.assert_array_equal(got.values, expected.values)
    assert got.unequal == expected.unequal
    assert list(got.partners) == [i ^ 1 for i in got.rows]


def test_means_shares_and_the_table_say_what_the_values_are(tiny_model) -> None:
    model = tiny_model("llama")
    got = attribution_patching(model, asked(model), asked(model, OTHER), None, "resid_post.*")
    there = np.isfinite(got.values)
    np.testing.assert_allclose(got.mean.value, np.nanmean(got.values, axis=0))
    total = got.counterfactual - got.clean
    sums = np.where(there[:, 0], total[:, None], 0).sum(axis=0)
    np.testing.assert_allclose(got.share.value, np.nansum(got.values, axis=0) / sums)
    assert got.total.estimate().value == pytest.approx(total.mean())
    table = got.table
    assert table.columns == ["site", "token", "word", "mean", "low", "high", "share", "n_pairs"]
    assert len(table) == len(got.sites) * len(got.tokens)
    one = table.rows_by_key(["site", "token"], named=True, unique=True)["resid_post.1", "-1"]
    assert one["mean"] == pytest.approx(got.values[:, 1, -1].mean())
    assert one["low"] < one["mean"] < one["high"]
    assert one["n_pairs"] == got.n_pairs == len(got.rows)
    # All prompts end alike.
    assert got.words[-1] != "" != got.words[-2]
    assert table["n_pairs"].min() < got.n_pairs
    assert "left out" in repr(got)


def test_what_the_last_stream_carries_is_everything(tiny_model) -> None:
    model = tiny_model("llama")
    got = activation_patching(model, CLEAN, OTHER, probe_at(model, "resid_post.2"), "resid_post.2")
    np.testing.assert_allclose(got.values[:, 0, -1], got.counterfactual - got.clean, atol=1e-5)
    assert got.share.value[0, -1] == pytest.approx(1, abs=1e-4)


def test_a_rank_correlation_goes_by_order_and_needs_one_kind_of_map(tiny_model) -> None:
    model = tiny_model("llama")
    probe = probe_at(model, "resid_post.2")
    one = attribution_patching(model, CLEAN, OTHER, probe)
    flipped = replace(one, values=-one.values)
    assert rank_correlation(one, flipped).of_means == pytest.approx(-1)
    assert rank_correlation(one, flipped).by_pair.value == pytest.approx(-1)
    larger = replace(one, values=one.values * 3.0)
    assert rank_correlation(one, larger).of_means == pytest.approx(1)
    # No cells: tokens before the first difference, and behind the last block all but the one that is read.
    assert rank_correlation(one, one).n_cells == 2 * int(one.live.any(axis=0).sum()) + 1 < one.mean.value.size
    with pytest.raises(CausalError, match="compare maps of the same"):
        rank_correlation(one, attribution_patching(model, CLEAN, OTHER, probe, "resid_post.1"))


def test_what_cannot_be_mapped_is_refused(tiny_model) -> None:
    model = tiny_model("llama")
    before = hooks(model)
    probe = probe_at(model, "resid_post.2")
    clean = asked(model)
    for make in (activation_patching, attribution_patching):
        with pytest.raises(CausalError, match="none has as many tokens"):
            make(model, ["one two"], ["one two three four"], probe)
        with pytest.raises(CausalError, match="pair each with one"):
            make(model, CLEAN, OTHER[:2], probe)
        with pytest.raises(CausalError, match="no example has a partner"):
            make(model, clean, None, probe)
        with pytest.raises(CausalError, match="groups of shape"):
            make(model, CLEAN, OTHER, probe, groups=np.arange(2))
        with pytest.raises(CausalError, match="no answers"):
            make(model, CLEAN, OTHER)
        with pytest.raises(CausalError, match="no vector for each token"):
            make(model, CLEAN, OTHER, probe, "attn_pattern.0")
        with pytest.raises(CausalError, match="positions=0"):
            make(model, CLEAN, OTHER, probe, positions=0)
        with pytest.raises(CausalError, match="states no site"):
            make(model, CLEAN, OTHER, replace(probe, site=None))
        with pytest.raises(CausalError, match="fingerprint"):
            make(model, CLEAN, OTHER, replace(probe, model_fingerprint="0" * 16))
        with pytest.raises(CausalError, match="dimensions"):
            make(model, CLEAN, OTHER, replace(probe, coef=np.ones(5)))
        with pytest.raises(SiteError):
            make(model, CLEAN, OTHER, probe, "resid_post.7")
        with pytest.raises(CausalError, match="no answer has a probability"):
            make(tiny_model("bert"), clean, asked(model, OTHER))
    assert hooks(model) == before
