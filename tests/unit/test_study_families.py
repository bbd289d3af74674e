"""The families that a study file may name, and the classes that they stand for."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from leadline.probes import FAMILIES
from leadline.study.config import FAMILY_OPTIONS, Family, ProbeConfig
from leadline.study.describe import _FAMILIES


def test_every_family_of_the_room_can_be_named_and_takes_what_the_study_says():
    # Logistic regression of classes and of levels goes by the name of its own form.
    forms = {"multinomial", "ordinal"}
    assert set(FAMILIES) == set(FAMILY_OPTIONS) == set(get_args(Family)) == set(_FAMILIES) - forms
    for name, options in FAMILY_OPTIONS.items():
        assert set(options) <= {f.name for f in fields(FAMILIES[name])}, name


@pytest.mark.parametrize(
    ("given", "attribute", "value"),
    [
        ({"family": "lda", "shrinkage": [0.1, 0.5]}, "shrinkage", (0.1, 0.5)),
        ({"family": "lda", "shrinkage": "oas"}, "shrinkage", "oas"),
        ({"family": "mean_difference", "covariance": "pooled"}, "covariance", "pooled"),
        ({"family": "k_sparse", "k": [1, 4], "select": "mean_difference"}, "k", (1, 4)),
        ({"family": "elastic_net", "l2": 0.1}, "l2", 0.1),
        ({"family": "logistic", "class_weight": "balanced"}, "class_weight", "balanced"),
        ({"family": "nearest_centroid", "scale": False}, "scale", False),
    ],
)
def test_options_reach_the_class(given, attribute, value):
    config = ProbeConfig.model_validate(given)
    family = FAMILIES[config.family](**config.options())
    assert getattr(family, attribute) == value
    assert ProbeConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"family": "ridge", "k": 3}, "has no 'k'"),
        ({"family": "k_sparse", "k": [0]}, "no count"),
        ({"family": "k_sparse", "l2": [0.1, 1]}, "takes one l2"),
        ({"family": "lda", "shrinkage": [2.0]}, "no share"),
    ],
)
def test_options_that_mean_nothing_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        ProbeConfig.model_validate(given)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_fits_with_and_without_folds_and_says_how_it_ended(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 20)).astype(np.float32)
    y = (X[:, 0] + 0.2 * rng.normal(size=120) > 0).astype(float)
    option = {"logistic": {"l2": 0.1}, "linear_svm": {"l2": 0.1}, "ridge": {"l2": 0.1}, "k_sparse": {"k": 2}}
    option |= {"elastic_net": {"l1": 0.05}, "sparse_logistic": {"l1": 0.05}}
    family = FAMILIES[name](**option.get(name, {}))
    fitted = family.fit(X, y, groups=np.arange(120) // 2, seed=1)
    assert fitted.converged, fitted.table
    assert np.mean((fitted.scores[:, 0] > 0) == y) > 0.75
    assert set(fitted.table["status"]) == {"converged"}
    alone = family.fit(X, y, n_folds=0)
    np.testing.assert_allclose(alone.probe.coef, fitted.probe.coef, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone.probe.score(X), X @ alone.probe.coef + alone.probe.intercept, rtol=1e-6)
