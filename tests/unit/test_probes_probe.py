import numpy as np
import pytest

from leadline.errors import ProbeError
from leadline.probes import Logistic, MeanDifference, Probe, Ridge
from leadline.probes.probe import pattern_of
from leadline.sites import Site


@pytest.fixture
def probe():
    rng = np.random.default_rng(0)
    return Probe(
        site=Site("resid_post", 3),
        coef=rng.normal(size=6) * 40,
        intercept=-1.5,
        pattern=np.eye(6)[0],
        family="logistic",
        kind="binary",
        target="étiquette <b>",
        negative="no",
        positive="yes",
        model="m",
        model_fingerprint="f",
        l2=0.1,
        metrics={"auroc": {"value": 0.9}},
    )


def test_a_file_round_trips_bit_for_bit(probe, tmp_path):
    back = Probe.read(probe.write(tmp_path / "p.safetensors"))
    assert (back.coef == probe.coef).all()
    assert (back.pattern == probe.pattern).all()
    for name in ("site", "intercept", "target", "negative", "positive", "l2", "metrics", "tokens", "model_fingerprint"):
        assert getattr(back, name) == getattr(probe, name)
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def test_the_score_has_its_bias_and_the_direction_unit_length(probe):
    x = np.random.default_rng(1).normal(size=(5, 6))
    np.testing.assert_allclose(probe.score(x), x @ probe.coef - 1.5)
    assert np.linalg.norm(probe.direction) == pytest.approx(1)


def test_bad_files_and_widths_are_refused(probe, tmp_path):
    with pytest.raises(ProbeError, match="no probe at"):
        Probe.read(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a probe")
    with pytest.raises(ProbeError, match="cannot be read"):
        Probe.read(tmp_path / "bad.safetensors")
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ProbeError, match="no probe file of format"):
        Probe.read(tmp_path / "other.safetensors")
    with pytest.raises(ProbeError, match=r"reads \(n, 6\)"):
        probe.score(np.zeros((2, 5)))


def test_a_probe_refuses_another_model(probe):
    class Other:
        fingerprint = "g"

        def activations_of(self, inputs, site, tokens):
            raise AssertionError("the probe read a foreign model")

    with pytest.raises(ProbeError, match="was fitted on m with fingerprint f"):
        probe.score(Other(), ["a text"])


def test_the_pattern_is_the_covariance_times_the_filter():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + 10
    w = rng.normal(size=5)
    expected = np.cov(x.T, bias=True) @ w
    np.testing.assert_allclose(pattern_of(x, w), expected / np.linalg.norm(expected), rtol=1e-8)


@pytest.mark.parametrize("family", [Logistic(l2=0.1), Ridge(l2=0.1)])
def test_scale_shift_and_order_of_features_do_not_matter(family):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 8)).astype(np.float32)
    y = (x[:, :1] + rng.normal(size=(120, 1)) > 0).astype(float)
    fold = np.arange(120) % 4
    order = rng.permutation(8)
    moved = (x * np.geomspace(0.01, 1000, 8) + np.arange(8))[:, order].astype(np.float32)
    one, other = family.fit_site(x, y, fold), family.fit_site(moved, y, fold)
    np.testing.assert_allclose(one.scores, other.scores, atol=0.03)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-4)


@pytest.mark.parametrize("family", [Logistic(l2=(1e-4, 1.0)), Ridge(l2=(1e-4, 1.0)), MeanDifference()])
def test_constant_duplicate_and_massive_features_converge(family):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 6)).astype(np.float32)
    x[:, 1] = 7.0
    x[:, 2] = x[:, 0]
    x[:, 3] *= 1e4
    y = (x[:, :1] > 0).astype(float)  # separable
    fit = family.fit_site(x, y, np.arange(150) % 3)
    assert fit.converged.all()
    assert np.isfinite(fit.scores).all()
    assert np.isfinite(fit.coef).all()


def test_many_columns_equal_one_by_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 10)).astype(np.float32)
    y = (rng.random((100, 3)) < 0.4).astype(float)
    fold = np.arange(100) % 4
    together = Logistic(l2=(0.01, 0.3), tolerance=1e-7).fit_site(x, y, fold)
    for c in range(3):
        alone = Logistic(l2=0.3, tolerance=1e-7).fit_site(x, y[:, c : c + 1], fold)
        np.testing.assert_allclose(together.scores[1, :, c], alone.scores[0, :, 0], atol=2e-3)


@pytest.mark.parametrize(
    ("family", "y", "said"),
    [
        (Logistic(), np.full((40, 1), 0.5), "binary target"),
        (Logistic(), np.zeros((40, 1)), "one class only"),
        (MeanDifference(), np.zeros((40, 1)), "one class only"),
        (Ridge(), np.full((40, 1), np.nan), "NaN"),
    ],
)
def test_targets_that_no_probe_can_be_fitted_to_are_refused(family, y, said):
    with pytest.raises(ProbeError, match=said):
        family.fit_site(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), y, np.arange(40) % 4)


def test_bad_penalties_and_activations_are_refused():
    with pytest.raises(ProbeError, match="positive"):
        Logistic(l2=0)
    with pytest.raises(ProbeError, match="positive"):
        Ridge(l2=(1.0, -1.0))
    x = np.zeros((10, 2), np.float32)
    x[3, 1] = np.inf
    with pytest.raises(ProbeError, match="1 of 10 rows"):
        Ridge().fit_site(x, np.zeros((10, 1)), np.arange(10) % 2)
