"""What verbs print with: text that cannot steer a terminal, JSON that is JSON, and progress in both forms."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import report_example
from rich.console import Console

from leadline.cli.output import megabytes, plain, print_json, print_table, print_text
from leadline.cli.progress import Bars, Lines, progress
from leadline.cli.summary import print_study, study_json
from leadline.events import Event


def test_text_from_data_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("a\x1b[31mb [bold]c[/bold]")
    print_table(["x"], [["\x1b]0;title\x07"], ["[red]"]])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert r"a\x1b[31mb [bold]c[/bold]" in out
    assert "[red]" in out


def test_plain_text_is_cut_to_one_line() -> None:
    assert plain("a\n b\tc", 10) == "a b c"
    assert plain("a" * 20, 10) == "a" * 9 + "…"
    assert plain("\u202eabc") == r"\u202eabc"


def test_tables_away_from_a_terminal_keep_a_row_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "n"], [["x" * 300, 1], ["y", None]], right=["n"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == "x" * 300 + "  1"
    assert lines[2].split() == ["y", "–"]


def test_json_holds_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(
        {"a": float("nan"), "b": np.float32(0.5), "c": np.array([1, 2]), "d": (Path("x"), np.inf), 3: {"é": None}}
    )
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": 0.5, "c": [1, 2], "d": ["x", None], "3": {"é": None}}
    assert "é" in out


def test_sizes() -> None:
    assert (megabytes(98_000_000), megabytes(1_250_000_000)) == ("98 MB", "1.2 GB")


def events() -> list[Event]:
    return [
        Event("start", "extract", "reading", total=1000, unit="rows", time=0.0),
        Event("progress", "extract", done=100, total=1000, unit="rows", time=5.0),
        Event("progress", "extract", done=250, total=1000, unit="rows", time=10.0),
        Event("progress", "extract", done=300, total=1000, unit="rows", time=12.0),
        Event("warning", "extract", "row 3 is long", time=13.0),
        Event("note", "extract", "reused", time=14.0),
        Event("finish", "extract", done=1000, total=1000, unit="rows", seconds=75.0, time=75.0),
    ]


def test_lines_tell_progress_now_and_then_with_the_time_left() -> None:
    said: list[str] = []
    sink = Lines(said.append)
    for event in events():
        sink.emit(event)
    assert said == [
        "extract: reading",
        "extract: 250 of 1,000 rows, about 30 s left",
        "warning: extract: row 3 is long",
        "extract: reused",
        "extract: finished (1,000 rows, 1 min 15 s)",
    ]


def test_quiet_lines_are_warnings_alone() -> None:
    said: list[str] = []
    sink = Lines(said.append, warnings_only=True)
    for event in events():
        sink.emit(event)
    assert said == ["warning: extract: row 3 is long"]


def test_lines_take_progress_of_a_stage_that_never_started() -> None:
    said: list[str] = []
    sink = Lines(said.append)
    sink.emit(Event("progress", "sweep", done=1, time=0.0))
    sink.emit(Event("progress", "sweep", done=2, time=11.0))
    sink.emit(Event("finish", "sweep"))
    assert said == ["sweep: 2", "sweep: finished (done)"]


def test_bars_leave_a_line_for_each_finished_stage() -> None:
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=120)) as bars:
        for event in events():
            bars.emit(event)
        bars.emit(Event("progress", "sweep", done=2, total=31, unit="sites"))
    text = stream.getvalue()
    assert "row 3 is long" in text
    assert "1,000 rows, 1 min 15 s" in text


def test_bars_tell_the_time_left() -> None:
    now = [0.0]
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=120), clock=lambda: now[0]) as bars:
        bars.emit(Event("start", "extract", total=1000, unit="rows"))
        now[0] = 20.0
        bars.emit(Event("progress", "extract", done=250, total=1000, unit="rows"))
    assert "250 of 1,000 rows" in stream.getvalue()
    assert "20 s, 1 min 00 s left" in stream.getvalue()


def test_bars_are_cleared_when_the_work_fails() -> None:
    stream = io.StringIO()
    bars = Bars(Console(file=stream, force_terminal=True, width=120))

    def work() -> None:
        with bars:
            bars.emit(Event("start", "extract", total=10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "\x1b[?25h" in stream.getvalue(), "the cursor is shown again"


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as sink:
        sink.emit(Event("start", "extract", "reading"))
    with progress(quiet=True) as sink:
        sink.emit(Event("start", "sweep", "fitting"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "extract: reading\n"


def test_a_study_ends_with_its_finding_its_six_claims_and_its_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = report_example.results(report_example.binary_target(), report_example.continuous_target())
    (tmp_path / "report.html").write_text("x")
    print_study(results, tmp_path)
    out = capsys.readouterr().out
    for target in results.targets:
        assert target.best.site in out
        for verdict in target.verdicts:
            assert f"{verdict.claim:<16}{verdict.verdict:<14}" in out
    assert str(tmp_path / "report.html") in out
    assert str(tmp_path / "results.json") not in out, "it is not there"


def test_a_study_for_a_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = report_example.results()
    print_study(results, tmp_path, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == study_json(results, tmp_path)
    target = printed["targets"][0]
    assert target["best_site"] == results.targets[0].best.site
    assert target["verdicts"]["decodable"] in ("supported", "refuted", "inconclusive", "not tested")
    assert target["metrics"]["auroc"]["value"] == results.targets[0].best.metrics["auroc"].value


def test_a_study_with_hostile_names_and_with_nothing_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    print_study(report_example.hostile(), tmp_path)
    print_study(report_example.bare(), tmp_path)
    assert "\x1b" not in capsys.readouterr().out
