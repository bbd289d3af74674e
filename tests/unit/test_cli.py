"""The command line: help, exit codes, what goes to which stream, and that starting it is light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import report_example

from leadline import __version__
from leadline.cli import main
from leadline.errors import DataError

VERBS = ("demo", "run", "extract", "sweep", "transfer", "score", "report", "models", "datasets", "bench", "doctor")


class Answer:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def leadline(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`leadline("run", "x.yaml")`: run a command in this process."""

    def run(*words: str) -> Answer:
        code = main(words)
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with the results of two targets."""
    folder = tmp_path / "run"
    folder.mkdir()
    results = report_example.results(report_example.binary_target())
    (folder / "results.json").write_text(results.model_dump_json(), encoding="utf-8")
    return folder


def test_help_lists_every_command(leadline: Callable[..., Answer]) -> None:
    for words in (["--help"], ["-h"], []):
        answer = leadline(*words)
        assert answer.code == 0
        assert answer.err == ""
        for verb in VERBS:
            assert f"│ {verb} " in answer.out
        assert "Exit codes" in answer.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_with_examples(leadline: Callable[..., Answer], verb: str) -> None:
    answer = leadline(verb, "--help")
    assert answer.code == 0
    assert answer.err == ""
    assert f"Usage: leadline {verb}" in answer.out
    assert "Examples" in answer.out
    assert f"leadline {verb}" in answer.out.split("Examples", 1)[1]
    assert "--debug" in answer.out
    assert "--json" in answer.out
    assert "[default: None]" not in answer.out


def test_version(leadline: Callable[..., Answer]) -> None:
    assert leadline("--version").out == f"leadline {__version__}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rn", "a.yaml"], 'Did you mean "run"?'),
        (["run", "a.yaml", "--otu", "x"], "Did you mean --out?"),
        (["run"], "requires an argument"),
        (["run", "a.yaml", "--seed", "x"], "--seed"),
        (["report", "a", "b"], "b"),
        (["extract", "--model", "m"], "--data and --out are missing"),
    ],
)
def test_a_wrong_word_exits_with_2_and_the_nearest_name(
    leadline: Callable[..., Answer], words: list[str], told: str
) -> None:
    answer = leadline(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert told in answer.err
    assert "--help" in answer.err
    assert "Traceback" not in answer.err


def test_a_wrong_study_key_is_told_with_its_line(leadline: Callable[..., Answer], tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("model: smollm2-135m\ndata:\n  name: city-facts\n  targt: label\n")
    answer = leadline("run", str(study))
    assert answer.code == 2
    assert "study.yaml, line 4: unknown key 'targt' in 'data'" in answer.err
    assert "Did you mean 'target'?" in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_debug_shows_the_traceback(leadline: Callable[..., Answer], tmp_path: Path) -> None:
    answer = leadline("run", str(tmp_path / "none.yaml"), "--debug")
    assert answer.code == 2
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.rstrip().splitlines()[-1].startswith("error: the study file")


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (DataError("row 3 is empty; drop it."), 2, "error: row 3 is empty; drop it.\n"),
        (RuntimeError("odd"), 1, "RuntimeError: odd\nThis is a bug in Leadline."),
        (OSError("no name"), 1, "This is a bug in Leadline."),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "error: Permission denied: '/x/y'.\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(
    leadline: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, told: str
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("leadline.report.write_report", fail)
    answer = leadline("report", "runs/x")
    assert answer.code == code
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert ("--debug" in answer.err) == (code == 1)
    assert "Traceback" in leadline("report", "runs/x", "--debug").err


def test_an_interrupted_run_is_told_to_go_on(
    leadline: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("leadline.study.config.load_config", stop)
    answer = leadline("run", str(tmp_path / "study.yaml"))
    assert answer.code == 130
    assert "the same command goes on from there" in answer.err


def test_debug_after_two_dashes_is_a_text(leadline: Callable[..., Answer], tmp_path: Path) -> None:
    answer = leadline("score", str(tmp_path / "none.safetensors"), "--", "--debug")
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_report_writes_the_page_and_says_where(leadline: Callable[..., Answer], run_folder: Path) -> None:
    answer = leadline("report", str(run_folder))
    assert answer.code == 0
    assert answer.out == f"{run_folder / 'report.html'}\n"
    assert (run_folder / "report.html").stat().st_size > 1000
    other = run_folder / "other.html"
    assert json.loads(leadline("report", str(run_folder), "--out", str(other), "--json").out) == {"report": str(other)}
    assert other.is_file()


def test_a_folder_without_results_is_refused(leadline: Callable[..., Answer], tmp_path: Path) -> None:
    answer = leadline("report", str(tmp_path))
    assert answer.code == 2
    assert "no results" in answer.err


def test_an_unwritable_folder_is_refused(leadline: Callable[..., Answer], run_folder: Path) -> None:
    answer = leadline("report", str(run_folder), "--out", str(run_folder / "results.json" / "x.html"))
    assert answer.code == 2
    assert "is a file" in answer.err


def test_models(leadline: Callable[..., Answer]) -> None:
    answer = leadline("models")
    assert answer.code == 0
    assert "smollm2-135m" in answer.out
    found = json.loads(leadline("models", "--json").out)
    assert found[0]["name"] == "smollm2-135m"
    assert isinstance(found[0]["available"], bool)
    rows = json.loads(leadline("models", "--architectures", "--json").out)
    assert {"llama", "gpt2", "gpt_neox", "gemma2"} <= {name for row in rows for name in row["model_types"]}
    table = leadline("models", "--architectures").out
    assert len(table.splitlines()) == len(rows) + 3, "a row a line away from a terminal, and a word on other modules"
    assert "resid_post = resid_pre + attn_out + mlp_out" in table


def test_doctor(leadline: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEADLINE_HOME", str(tmp_path / "cache"))
    answer = leadline("doctor", "--json")
    assert answer.code == 0
    checks = {check["name"]: check for check in json.loads(answer.out)}
    assert checks["leadline"]["value"] == __version__
    assert checks["folder"]["value"].startswith(str(tmp_path / "cache"))
    assert {"torch", "memory", "features", "torch build"} <= set(checks)
    assert "software" in leadline("doctor").out


def test_doctor_finds_a_cache_that_cannot_be_written_to(
    leadline: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LEADLINE_HOME", str(tmp_path / "file"))
    answer = leadline("doctor")
    assert answer.code == 2
    assert "! folder" in answer.out


def test_doctor_finds_a_run_that_is_not_whole(leadline: Callable[..., Answer], run_folder: Path) -> None:
    answer = leadline("doctor", str(run_folder), "--json")
    assert answer.code == 2
    checks = {check["name"]: check["status"] for check in json.loads(answer.out) if check["group"] == str(run_folder)}
    assert checks == {"study": "problem", "results": "ok", "activations/activations": "problem", "probes": "problem"}
    assert leadline("doctor", str(run_folder / "none")).code == 2


def test_starting_is_light() -> None:
    code = f"""
import sys
import leadline.cli
assert leadline.cli.main(["--version"]) == 0
for verb in {VERBS!r}:
    assert leadline.cli.main([verb, "--help"]) == 0
heavy = [name for name in ("torch", "transformers", "polars", "scipy", "sklearn", "pydantic") if name in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_leadline_is_light() -> None:
    code = """
import sys
import leadline
assert "load_model" in dir(leadline)
heavy = [name for name in ("torch", "transformers", "polars", "numpy", "pydantic", "rich") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "leadline", "run", "none.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: the study file 'none.yaml' does not exist")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "leadline", "models"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert done.stderr == ""
