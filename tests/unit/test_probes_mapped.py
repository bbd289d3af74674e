"""Activations that stay on disk are fitted to the same answer as in memory."""

import numpy as np
import pytest

from leadline.probes import LinearSVM, Logistic, Multinomial, Ordinal, Ridge
from leadline.probes import blocks as blocks_module
from leadline.probes.blocks import blocks, is_mapped
from leadline.probes.folds import fold_moments
from leadline.probes.solvers.features import MappedFeatures


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(400, 30)) * np.geomspace(0.1, 300, 30) + 50).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(blocks_module.blocks, "__defaults__", (30 * 8 * 37,))  # blocks of 37 rows
    return X, np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("family", [Logistic, LinearSVM, Multinomial, Ordinal])
def test_the_mapped_answer_equals_the_one_in_memory(family, mapped):
    X, M = mapped
    latent = X[:, 0] * 10 - X[:, 1]
    codes = np.digitize(latent, np.quantile(latent, [0.5] if family in (Logistic, LinearSVM) else [0.3, 0.7]))
    fold = np.arange(400) % 4
    weights = np.random.default_rng(1).random(400)
    spec = family(l2=(1e-3, 0.1), tolerance=1e-8)
    one = spec.fit_site(X, codes[:, None].astype(float), fold, weights=weights)
    other = spec.fit_site(M, codes[:, None].astype(float), fold, weights=weights)
    assert one.converged.all()
    assert other.converged.all()
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-6)
    np.testing.assert_allclose(other.scores, one.scores, atol=2e-3)


def test_no_product_holds_more_than_a_block(mapped):
    _, M = mapped
    assert is_mapped(M)
    assert [len(part) for _, part in blocks(M)] == [37] * 10 + [30]
    read = []

    class Watched:
        shape = M.shape

        def __getitem__(self, rows):
            read.append(rows.stop - rows.start)
            return M[rows]

    codes = (np.asarray(M[:, 0]) > np.median(M[:, 0])).astype(float)
    fitted = Logistic(l2=0.01).fit(Watched(), codes)
    assert fitted.converged
    assert max(read) == 37
    moments = fold_moments(M, np.arange(400) % 4, 4)
    assert isinstance(MappedFeatures(M, moments.mean, moments.scale, "cpu").X, np.memmap)


def test_a_family_that_reads_no_blocks_loads_the_rows(mapped):
    X, M = mapped

    class Rows:
        shape = M.shape

        def __getitem__(self, rows):
            return np.asarray(M[rows])

    one, other = Ridge(l2=0.1).fit(X, X[:, 0]), Ridge(l2=0.1).fit(Rows(), X[:, 0])
    np.testing.assert_array_equal(one.scores, other.scores)
