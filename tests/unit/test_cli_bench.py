"""`leadline bench evidence`: what it runs, what it counts, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import scipy.stats

from leadline.cli import main
from leadline.errors import EvidenceError
from leadline.events import Event
from leadline.testing import evidence_bench
from leadline.testing.cases import Case
from leadline.testing.evidence_bench import CaseResult, EvidenceBench, NullResult, run_evidence_bench
from leadline.testing.nulls import Null
from leadline.testing.planted import Planted, linear_concept, nothing

TRUE = Case("a true one", lambda seed: linear_concept(seed, n=80, d=4, n_layers=2, first=1, effect=4.0))


def refuted(seed: int) -> Planted:
    """A clear concept that its case takes for none: no verdict on it is right."""
    return replace(linear_concept(seed, n=80, d=4, n_layers=2, first=1), truth={"decodable": frozenset({"refuted"})})


WRONG = Case("a wrong one", refuted)
NULL = Null("a null", "decodable", "noise", lambda seed: nothing(seed, n=80, d=4, n_layers=1))
LOUD = Null("a loud null", "decodable", "no null", lambda seed: linear_concept(seed, n=80, d=4, n_layers=1, first=0))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_bench, "CASES", (TRUE, WRONG))
    monkeypatch.setattr(evidence_bench, "NULLS", (NULL, LOUD))


class Kept:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_true_and_false_claims_are_counted(small: None) -> None:
    kept = Kept()
    result = run_evidence_bench(seeds=3, draws=20, workers=1, events=kept)
    true, wrong = result.cases
    assert (true.n, true.n_right, true.peer_right) == (3, 3, 3)
    assert true.words == {"decodable": {"supported": 3}}
    assert true.wrong == ()
    assert wrong.n_right == 0
    assert len(wrong.wrong) == 3
    assert wrong.wrong[0].startswith("seed 0: decodable: ")
    assert result.accuracy == 0.5
    null, loud = result.nulls
    assert null.n == 20
    assert null.n_supported <= 4
    assert loud.n_supported == 20
    assert loud.peer_supported == 20
    assert result.too_high == (loud,)
    assert kept.events[-1].kind == "finish"
    assert kept.events[-2].done == kept.events[-2].total == 2 * 3 + 2 * 20


def test_the_rate_has_a_clopper_pearson_interval() -> None:
    null = NullResult("x", "decodable", "", {"refuted": 290, "supported": 10}, 300, 40)
    exact = scipy.stats.binomtest(10, 300).proportion_ci(method="exact")
    assert (null.rate.low, null.rate.high) == pytest.approx((exact.low, exact.high))
    assert null.rate.value == pytest.approx(1 / 30)
    assert null.peer_rate is not None
    assert null.peer_rate.value == pytest.approx(40 / 300)
    assert NullResult("x", "general", "", {}, 300, None).peer_rate is None


def test_beyond_surface_is_counted_where_it_is_false_alone() -> None:
    def case(allowed: str, word: str) -> CaseResult:
        return CaseResult(
            "x", "", {"beyond surface": frozenset({allowed})}, {"beyond surface": {word: 2}}, 2, 0, None, ()
        )

    null = NullResult("x", "beyond surface", "", {"supported": 3}, 300, None)
    other = NullResult("y", "decodable", "", {"supported": 9}, 300, None)
    cases = (case("supported", "supported"), case("refuted", "supported"), case("refuted", "refuted"))
    assert EvidenceBench(cases, (null, other), 1.0).surface_claimed == 2 + 3


def test_processes_change_nothing() -> None:
    words = ("nothing, numbers", "noise")
    one, two = (run_evidence_bench(words, seeds=3, draws=3, workers=workers, with_peer=False) for workers in (1, 2))
    assert one.cases == two.cases
    assert one.nulls == two.nulls


def test_only_what_is_named_is_run(small: None) -> None:
    result = run_evidence_bench(["LOUD", "true"], seeds=1, draws=1, workers=1, with_peer=False)
    assert [case.name for case in result.cases] == ["a true one"]
    assert [null.name for null in result.nulls] == ["a loud null"]
    assert result.cases[0].peer_right is None
    assert run_evidence_bench(seeds=0, draws=1, workers=1, with_peer=False).cases == ()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cases": ["nowhere"]}, "called 'nowhere'"),
        ({"seeds": 0, "draws": 0}, "nothing to run"),
        ({"seeds": -1}, "-1 seeds"),
        ({"workers": 0}, "0 workers"),
    ],
)
def test_what_cannot_be_run_is_said(small: None, options: dict[str, object], told: str) -> None:
    with pytest.raises(EvidenceError, match=told):
        run_evidence_bench(**{"workers": 1, **options})


def test_data_that_cannot_be_judged_is_named(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Case("too few rows", lambda seed: linear_concept(seed, n=6, d=2, n_layers=1, first=0))
    monkeypatch.setattr(evidence_bench, "CASES", (few,))
    with pytest.raises(EvidenceError, match="'too few rows' with seed 0: "):
        run_evidence_bench(draws=0, workers=1)


def test_the_tables_are_printed(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "evidence", "--seeds", "2", "--draws", "3", "--workers", "1", "--quiet"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "decodable: 2 supported" in rows["a true one"]
    assert rows["a true one"].endswith("2 of 2  2 of 2")
    assert "0 of 2" in rows["a wrong one"]
    assert "wrong: a wrong one: seed 1: decodable: " in out
    assert "100.0% (29.2% to 100.0%)" in rows["a loud null"]
    assert "50.0% of 4 runs on 2 planted cases are right (target: 95%)" in out
    assert "surely above 5% on a loud null" in out


def test_json_is_one_object_on_the_last_line(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "evidence", "--cases", "a", "--quick", "--draws", "5", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["planted_accuracy"] == {"a true one": 1.0, "a wrong one": 0.0}
    loud = found["false_supported_rate"]["a loud null"]
    assert (loud["rate"], loud["k"], loud["n"]) == (1.0, 5, 5)
    exact = scipy.stats.binomtest(5, 5).proportion_ci(method="exact")
    assert loud["clopper_pearson"] == pytest.approx([exact.low, exact.high])
    assert found["seconds"] > 0
    assert found["n_runs"] == 2


def test_another_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "speed"]) == 2
    assert "evidence" in capsys.readouterr().err
