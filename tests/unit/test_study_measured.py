"""What is measured reaches the results whole: for each kind of target, as JSON, with a sentence or a reason."""

import json

import numpy as np
import pytest

import leadline as ll
from leadline.evidence import MEASURES
from leadline.evidence.measures import DEFAULT_MEASURES, SAFEGUARDS
from leadline.evidence.verdict import CLAIMS
from leadline.study import config
from leadline.study.measured import measured


def planted(kind, n=240, seed=0):
    """A concept at the second site, words of sixteen types, two texts a group."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2 if kind == "binary" else 3, n)
    target = codes.astype(float) if kind in ("binary", "continuous") else codes
    if kind == "continuous":
        target = target + rng.normal(size=n)
    direction = np.eye(12)[0]
    shift = np.eye(12)[codes] * 2 if kind == "multiclass" else np.outer(target - target.mean(), direction) * 2
    arrays = {"resid_post.0": rng.normal(size=(n, 12)), "resid_post.1": rng.normal(size=(n, 12)) + shift}
    rows = [
        {
            "text": f"{'long ' * int(rng.integers(1, 6))}word{i % 16} number {i}",
            "label": {"binary": bool(codes[i]), "continuous": float(target[i])}.get(kind, "abc"[codes[i]]),
            "group": f"g{i // 2}",
            "word": f"word{i % 16}",
            "note": f"n{i % 5}",
        }
        for i in range(n)
    ]
    more = {"kind": kind} if kind != "ordinal" else {"kind": kind, "order": ["a", "b", "c"]}
    data = ll.Dataset.from_rows(rows, target="label", group="group", type="word", **more)
    return ll.Activations.from_arrays(arrays, dataset=data), data


@pytest.mark.parametrize("kind", ["binary", "continuous", "multiclass", "ordinal"])
def test_every_measure_reaches_the_results_as_a_sentence_or_a_reason(kind):
    acts, data = planted(kind)
    result = ll.sweep(acts, permutations=19, bootstraps=100, measures=tuple(MEASURES), tests={"other": acts})
    found = {m.name: m for m in measured(result, data)}
    assert list(found) == list(MEASURES)
    for name, one in found.items():
        assert bool(one.sentence) != bool(one.reason), name
        assert "nan" not in one.sentence.lower().split(), name
        json.loads(one.model_dump_json())
        for table in one.tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}, name
    expected = {
        "binary": {"giveaway"},
        "continuous": {"calibration", "operating_points", "giveaway", "code_length"},
        "multiclass": {"operating_points", "giveaway"},
        "ordinal": {"calibration", "operating_points", "giveaway"},
    }[kind]
    assert {name for name, one in found.items() if one.reason} == expected
    assert [v.claim for v in result.verdicts] == list(CLAIMS)
    ended = {v.claim: v.verdict for v in result.verdicts}
    assert ended["decodable"] == ended["selective"] == "supported"


def test_the_study_and_the_evidence_know_the_same_measures():
    assert set(config.MEASURES) == set(MEASURES)
    assert set(config.DEFAULT_MEASURES) == set(DEFAULT_MEASURES)
    assert set(SAFEGUARDS) <= set(DEFAULT_MEASURES)


def test_safeguards_are_taken_whatever_is_asked_for():
    acts, data = planted("binary")
    result = ll.sweep(acts, permutations=19, bootstraps=100, measures=None, controls=None)
    assert {m.name for m in measured(result, data)} == set(SAFEGUARDS)
