"""Runs that are killed (`kill -9`), and runs at once: the store ends with the bytes of a run left in peace.

One process imports what is needed and forks a child for each run, so that a kill costs no new start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leadline.activations import Activations

pytest.importorskip("torch")

if not hasattr(os, "fork"):
    pytest.skip("needs os.fork", allow_module_level=True)

# Kills itself just before its n-th change to the store's folder, or runs to its end.
CHILD = r"""
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy, polars, safetensors.numpy, torch, transformers
from conftest import build_module, build_tokenizer
from leadline.activations import extract
from leadline.data import Dataset
from leadline.models import load_model

CHANGES = {"os.link", "os.rename", "os.remove", "os.truncate"}


# Made once, with no thread that a fork would lose.
torch.set_num_threads(1)
model = load_model(build_module("llama"), tokenizer=build_tokenizer(), dtype="float32", device="cpu")
model.fingerprint
model.forward(torch.tensor([[3, 4]]))


def run(folder, kill_at, meet):
    data = Dataset.from_rows(
        [{"text": str(i * 7919) + " the city" * (1 + i % 5), "label": i % 2} for i in range(100)], target="label"
    )
    count = 0

    def watch(event, args):
        nonlocal count
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa+")
        if (event in CHANGES or writes) and str(folder) in str(args[0]):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    class Meet:
        # Says that it has begun, and waits until the other has.
        def emit(self, event):
            if meet and event.kind == "progress":
                mine, other = meet.pop()
                os.write(mine, b"x")
                os.read(other, 1)

    sys.addaudithook(watch)
    extract(model, data, "resid_post.*", out=folder, batch_tokens=24, events=Meet())
    return count


def fork(folder, kill_at=0, meet=None):
    answer, question = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(question, str(run(folder, kill_at, meet or [])).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(question)
    return pid, answer


def end(child):
    pid, answer = child
    status = os.waitpid(pid, 0)[1]
    said = os.read(answer, 100)
    os.close(answer)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), int(said or 0)


root = Path(sys.argv[2])
report = {}
code, n_changes = end(fork(root / "whole"))
report["whole"] = [code, n_changes]
# One kill each, spread over the run; then a run that goes on to the end.
for at in range(1, n_changes + 1, max(1, n_changes // 12)):
    report[f"killed-{at}"] = [end(fork(root / f"killed-{at}", at))[0], end(fork(root / f"killed-{at}"))[0]]
# Killed again and again, until one comes through.
for every in (11, 14):
    codes = []
    while not codes or (codes[-1] != 0 and len(codes) < 20):
        codes.append(end(fork(root / f"again-{every}", every))[0])
    report[f"again-{every}"] = codes
# Two at once, and each a second time on what it finds.
a, b = os.pipe(), os.pipe()
first = fork(root / "both", meet=[(a[1], b[0])])
second = fork(root / "both", meet=[(b[1], a[0])])
report["both"] = [end(first)[0], end(second)[0]]
print(json.dumps(report))
"""


def contents(folder: Path) -> dict[str, bytes]:
    # Hidden files may be the temporary ones of a run that was killed a moment ago.
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder with all stores, and how each run ended."""
    root = tmp_path_factory.mktemp("killed")
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(tests), str(root)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout.splitlines()[-1])


def test_the_run_left_in_peace(ran):
    root, report = ran
    assert report["whole"][0] == 0
    acts = Activations.open(root / "whole")
    assert len(acts.manifest["shards"]) >= 5


def test_a_run_killed_anywhere_is_gone_on_from_to_the_same_bytes(ran):
    root, report = ran
    killed = [name for name in report if name.startswith("killed-")]
    assert len(killed) >= 10
    for name in killed:
        assert report[name] == [-9, 0], name
        assert contents(root / name) == contents(root / "whole"), name


@pytest.mark.parametrize("name", ["again-11", "again-14"])
def test_a_run_killed_again_and_again_comes_to_the_same_bytes(ran, name):
    root, report = ran
    assert len(report[name]) >= 4
    assert report[name][-1] == 0
    assert set(report[name][:-1]) == {-9}
    assert contents(root / name) == contents(root / "whole")


def test_two_runs_at_once_come_to_the_same_bytes(ran):
    root, report = ran
    assert report["both"] == [0, 0]
    assert contents(root / "both") == contents(root / "whole")
    Activations.open(root / "both").verify()
