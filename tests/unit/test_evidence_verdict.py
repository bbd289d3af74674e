"""The rules: every word of every claim is reachable, and only where the rule says."""

import numpy as np
import pytest

from leadline.evidence.bootstrap import Estimate
from leadline.evidence.transfer import held_out_metrics
from leadline.evidence.verdict import FEWEST_GROUPS, beyond_surface, decodable, general, selective, used


@pytest.mark.parametrize(
    ("low", "high", "p", "word"),
    [
        (0.56, 0.70, 0.01, "supported"),
        (0.56, 0.70, 0.06, "inconclusive"),
        (0.54, 0.70, 0.01, "inconclusive"),
        (0.45, 0.54, 0.01, "refuted"),
        (float("nan"), float("nan"), 0.01, "not tested"),
        (0.56, 0.70, None, "not tested"),
    ],
)
def test_decodable(low, high, p, word):
    found = decodable("auroc", 0.5, Estimate(0.6, low, high), "resid_post.3", p, 0.05)
    assert found.verdict == word
    assert "0.55" in found.rule


def gains(**lows):
    return {name: (name, Estimate(low + 0.1, low, low + 0.2), 0.001) for name, low in lows.items()}


def test_beyond_surface_must_pass_every_baseline():
    assert beyond_surface("auroc", gains(a=0.1, b=0.2), "supported", 0.05, False).verdict == "supported"
    one = beyond_surface("auroc", gains(a=0.1, b=0.01), "supported", 0.05, False)
    assert one.verdict == "inconclusive"
    assert "over the closest of 2 baselines, b" in one.sentence
    worse = beyond_surface("auroc", gains(a=0.1, b=-0.3), "supported", 0.05, False)
    assert worse.verdict == "refuted"
    assert worse.figures["high"] == pytest.approx(-0.1)


def test_beyond_surface_needs_a_p_value_a_decodable_concept_and_no_leak():
    good = gains(a=0.1)
    late = {"a": ("a", good["a"][1], 0.2)}
    assert beyond_surface("auroc", late, "supported", 0.05, False).verdict == "inconclusive"
    assert beyond_surface("auroc", good, "inconclusive", 0.05, False).verdict == "inconclusive"
    assert beyond_surface("auroc", good, "not tested", 0.05, False).verdict == "not tested"
    assert beyond_surface("auroc", good, "supported", 0.05, True).verdict == "inconclusive"
    assert beyond_surface("auroc", {}, "supported", 0.05, False).verdict == "not tested"


def test_a_shifted_threshold_is_mended_by_centring_and_not_by_luck():
    rng = np.random.default_rng(0)
    y = np.tile([0.0, 1.0], 100)[:, None]
    scores = 2 * y + 0.5 * rng.normal(size=(200, 1)) + 10
    found = held_out_metrics(scores, y, "binary", None, n_replicates=200, seed=0)
    assert found["accuracy"].value == 0.5
    assert found["centred_accuracy"].low > 0.9
    assert found["auroc"].low > 0.95


def test_held_out_intervals_are_over_groups_and_absent_for_one():
    rng = np.random.default_rng(0)
    y = np.tile([0.0, 1.0], 100)[:, None]
    scores = y + rng.normal(size=(200, 1))
    # Ten copies of each of twenty rows are worth twenty rows, if the copies are known to belong together.
    copied_y, copied = np.repeat(y[:20], 10, axis=0), np.repeat(scores[:20], 10, axis=0)
    copies = np.repeat(np.arange(20), 10).astype(str)
    widths = []
    for groups in (None, copies):
        found = held_out_metrics(copied, copied_y, "binary", groups, n_replicates=300, seed=0)["accuracy"]
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]
    alone = held_out_metrics(scores, y, "binary", np.full(200, "x"), n_replicates=300, seed=0)["accuracy"]
    assert np.isnan([alone.low, alone.high]).all()


LEAK = ("'id' gives the label away",)


def test_a_leak_withholds_every_claim_that_the_folds_decide():
    assert decodable("auroc", 0.5, Estimate(0.9, 0.8, 0.95), "s", 0.001, 0.05, LEAK).verdict == "inconclusive"
    # What is refuted stays so: a leak only flatters.
    assert decodable("auroc", 0.5, Estimate(0.5, 0.45, 0.54), "s", 0.5, 0.05, LEAK).verdict == "refuted"
    for low in (0.1, -0.5):
        found = beyond_surface("auroc", gains(a=low), "supported", 0.05, False, leaks=LEAK)
        assert found.verdict == "inconclusive"
        assert "'id' gives the label away" in found.sentence
        e = Estimate(low + 0.1, low, low + 0.2)
        kept = selective("auroc", "supported", 0.05, e, 0.001, task=e, control=e, leaks=LEAK)
        assert kept.verdict == "inconclusive"


def test_beyond_surface_is_not_awarded_without_a_baseline_of_words():
    assert beyond_surface("auroc", gains(a=0.1), "supported", 0.05, False, lacks_words=True).verdict == "inconclusive"
    assert beyond_surface("auroc", gains(a=-0.3), "supported", 0.05, False, lacks_words=True).verdict == "refuted"


@pytest.mark.parametrize(
    ("low", "high", "p", "decodes", "word"),
    [
        (0.10, 0.30, 0.001, "supported", "supported"),
        (0.10, 0.30, 0.10, "supported", "inconclusive"),
        (0.10, 0.30, 0.001, "inconclusive", "inconclusive"),
        (0.04, 0.30, 0.001, "supported", "inconclusive"),
        (-0.02, 0.04, 0.4, "supported", "refuted"),
    ],
)
def test_selective(low, high, p, decodes, word):
    e = Estimate((low + high) / 2, low, high)
    assert selective("auroc", decodes, 0.05, e, p, task=e, control=e).verdict == word


def test_selective_without_types_says_why_and_what_stands_instead():
    found = selective(
        "auroc", "supported", 0.05, None, float("nan"), reason="No type recurs.", instead="Instead: bits."
    )
    assert found.verdict == "not tested"
    assert found.sentence == "No type recurs. Instead: bits."


def on(low, high, p=0.001, n_groups=100):
    return Estimate((low + high) / 2, low, high), p, n_groups


@pytest.mark.parametrize(
    ("tests", "decodes", "word"),
    [
        ({}, "supported", "not tested"),
        ({"a": on(0.6, 0.8)}, "supported", "supported"),
        ({"a": on(0.6, 0.8, p=0.2)}, "supported", "inconclusive"),
        ({"a": on(0.6, 0.8)}, "inconclusive", "inconclusive"),
        ({"a": on(0.6, 0.8), "b": on(0.5, 0.7)}, "supported", "inconclusive"),
        ({"a": on(0.6, 0.8), "b": on(0.4, 0.54)}, "supported", "refuted"),
        ({"a": on(0.01, 0.05)}, "supported", "refuted"),
        ({"a": on(0.6, 0.8), "b": on(0.9, 1.0, n_groups=FEWEST_GROUPS - 1)}, "supported", "inconclusive"),
        ({"a": on(0.6, 0.8, n_groups=FEWEST_GROUPS - 1)}, "supported", "not tested"),
        ({"a": on(float("nan"), float("nan"))}, "supported", "not tested"),
    ],
)
def test_general_must_hold_on_every_other_set(tests, decodes, word):
    assert general("auroc", 0.5, decodes, tests, 0.05).verdict == word


def test_general_says_where_a_direction_turns_round():
    assert "turns round" in general("auroc", 0.5, "supported", {"a": on(0.01, 0.05)}, 0.05).sentence
    assert "does not hold" in general("auroc", 0.5, "supported", {"a": on(0.46, 0.54)}, 0.05).sentence


@pytest.mark.parametrize(
    ("effect", "p", "site", "word", "said"),
    [
        ((1.0, 0.8, 1.2), 0.01, (1.1, 0.7, 1.5), "supported", "acts on what the probe reads"),
        ((1.0, 0.8, 1.2), 0.06, (1.1, 0.7, 1.5), "inconclusive", "Random directions of the same norm"),
        ((0.02, -0.04, 0.08), 0.9, (1.1, 0.7, 1.5), "refuted", "acts on this site, but not along"),
        ((0.1, -0.1, 0.3), 0.9, (1.1, 0.7, 1.5), "inconclusive", "acts on this site, and hardly along"),
        ((0.1, -0.1, 0.3), 0.9, (0.4, 0.3, 0.5), "inconclusive", "do not decide"),
        ((1.0, 0.8, 1.2), 0.01, (0.0, -0.05, 0.05), "refuted", "wakes a pathway"),
        # The site may matter, but not by what the direction seems to do.
        ((5.0, 4.8, 5.2), 0.01, (0.07, 0.01, 0.12), "inconclusive", "further than all that stands at the site"),
        ((5.0, 4.8, 5.2), 0.01, (0.5, 0.2, 0.8), "inconclusive", "further than all that stands at the site"),
        ((0.3, 0.2, 0.4), 0.01, (0.1, 0.02, 0.2), "inconclusive", "that the site matters is open"),
    ],
)
def test_used_needs_the_site_to_do_what_the_direction_does(effect, p, site, word, said):
    verdict = used("supported", 0.05, Estimate(*effect), p, n_groups=40, site=Estimate(*site))
    assert verdict.verdict == word
    assert said in verdict.sentence
    if word == "supported":
        assert used("refuted", 0.05, Estimate(*effect), p, n_groups=40, site=Estimate(*site)).verdict == "inconclusive"


def test_used_is_not_tested_without_intervals_or_groups():
    one = Estimate(1.0, 0.8, 1.2)
    assert used("supported", 0.05, one, 0.01, n_groups=FEWEST_GROUPS - 1, site=one).verdict == "not tested"
    assert used("supported", 0.05, Estimate(1.0), 0.01, n_groups=40, site=one).verdict == "not tested"
    assert used("supported", 0.05, None, 1.0, n_groups=0, reason="no answers.").sentence == "no answers."
