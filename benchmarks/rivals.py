"""Other packages to measure against: each in an environment of its own, made on first use, and run in a subprocess.

    .venv/bin/python benchmarks/rivals.py        make every environment, and say which rivals work

An environment sees the packages of the current one (torch, numpy, scikit-learn) through a .pth file, so that a rival
brings only itself, at the version pinned here. A call reads an .npz and writes one (`rivals_run.py`); its seconds leave
out the start of the interpreter, imports, reading and a warm-up on a small problem, in which compilers run. What cannot
be installed, imported or run is an `Outcome` with a reason: a failure is a result, and is printed like one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RIVALS", "Outcome", "Rival", "RivalFailed", "ask", "call", "environment"]

HOME = Path(__file__).parent / ".rivals"
RUNNER = Path(__file__).parent / "rivals_run.py"
_INSTALL_SECONDS = 900


class RivalFailed(Exception):
    """A rival that cannot be installed or run; the message is the reason."""


@dataclass(frozen=True)
class Rival:
    """A package to measure against.

    Parameters
    ----------
    name : its folder under `.rivals`. pins : what pip installs there, without dependencies; empty for packages that the
        current environment has, in which the rival then runs.
    """

    name: str
    pins: tuple[str, ...] = ()


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("leadline"),
        Rival("scikit-learn"),
        Rival("probekit", ("probekit==0.4.0",)),
        Rival("probelab", ("probelab==0.1.0",)),
        Rival("himalaya", ("himalaya==0.4.11",)),
        Rival("skglm", ("skglm==0.5", "numba==0.68.1", "llvmlite==0.50.0")),
        Rival("celer", ("celer==0.7.4",)),
        Rival(
            "transformer-lens",
            (
                "transformer-lens==4.3.0",
                "einops==0.8.2",
                "fancy-einsum==0.0.3",
                "jaxtyping==0.3.11",
                "wadler_lindig==0.1.8",
                "beartype==0.23.1",
                "typeguard==4.6.0",
                "datasets==5.2.0",
                "dill==0.4.1",
                "multiprocess==0.70.19",
                "xxhash==4.1.0",
                "httpx==0.28.1",
                "httpcore==1.0.9",
                "pandas==3.1.1",
                "python-dateutil==4.0.0",
            ),
        ),
        Rival(
            "nnsight",
            ("nnsight==0.8.1", "httpx==0.28.1", "httpcore==1.0.9", "websocket-client==1.9.2", "zstandard==0.25.0"),
        ),
        Rival("lmprobe", ("lmprobe==0.10.3",)),
    )
}


@dataclass(frozen=True)
class Outcome:
    """What a call gave.

    Attributes
    ----------
    reason : why it failed; empty if it did not.
    seconds : of the call alone. peak_bytes : how far the process's memory rose during it; NaN where unknown.
    arrays : what it returned. settings : how the rival was called, in words.
    """

    reason: str = ""
    seconds: float = float("nan")
    peak_bytes: float = float("nan")
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    settings: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.reason)


def environment(rival: Rival) -> str:
    """The rival's interpreter; its environment is made unless it stands there with the same pins.

    Raises
    ------
    RivalFailed : with the end of what pip or venv said.
    """
    if not rival.pins:
        return sys.executable
    folder = HOME / rival.name
    # The environment is good for these pins beside these packages only.
    made_from = [*rival.pins, sys.version, *site.getsitepackages()]
    stamp = hashlib.sha256("\n".join(made_from).encode()).hexdigest()
    marker = folder / ".made"
    python = folder / "bin" / "python"
    if marker.is_file() and marker.read_text() == stamp:
        return str(python)
    if folder.exists():
        shutil.rmtree(folder)
    print(f"making benchmarks/.rivals/{rival.name} ...", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    # Its own packages come first on the path, so a pin overrides what is shared.
    found = subprocess.run(
        [str(python), "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    )
    Path(found.stdout.strip(), "shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    _run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", *rival.pins])
    marker.write_text(stamp)
    return str(python)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RivalFailed(f"its installation took longer than {_INSTALL_SECONDS} s") from None
    if done.returncode:
        raise RivalFailed(f"not installed: {_last_line(done.stderr or done.stdout)}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def call(rival: str, function: str, arrays: dict[str, np.ndarray], limit: float = 1800) -> Outcome:
    """Run `calls.MODULE:FUNCTION` in the rival's environment.

    Parameters
    ----------
    rival : a name in `RIVALS`. function : as in `"logistic:probekit"`.
    arrays : its arguments. limit : seconds after which it counts as failed.
    """
    try:
        python = environment(RIVALS[rival])
    except RivalFailed as error:
        return Outcome(reason=str(error))
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "found.npz")
        np.savez(given, **arrays)  # type: ignore[arg-type]
        command = [python, str(RUNNER), function, str(given), str(found)]
        threads = os.environ.get("OMP_NUM_THREADS")
        # A compiler's threads follow the same limit as everybody's.
        env = {**os.environ, **({"NUMBA_NUM_THREADS": threads} if threads else {})}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=env)
        except subprocess.TimeoutExpired:
            return Outcome(reason=f"took longer than {limit:.0f} s")
        if done.returncode < 0:
            return Outcome(reason=f"ended by signal {-done.returncode}; memory is the likely cause")
        if done.returncode or not found.is_file():
            return Outcome(reason=_last_line(done.stderr))
        with np.load(found) as file:
            back = {name: file[name] for name in file.files}
    about = json.loads(str(back.pop("about")))
    return Outcome("", about["seconds"], about["peak_bytes"], back, about["settings"])


def ask(rival: str, module: str, job: Mapping[str, object], limit: float = 1800) -> dict[str, Any]:
    """Run `python -m MODULE JOB.json ANSWER.json` in the rival's environment, offline, and return the answer.

    Parameters
    ----------
    rival : a name in `RIVALS`. module : as in `"calls.extraction_run"`.
    job : what JSON can hold. limit : seconds after which it counts as failed.

    Raises
    ------
    RivalFailed : it could not be installed, or failed; with the last line of what it said.
    """
    python = environment(RIVALS[rival])
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "job.json"), Path(folder, "answer.json")
        given.write_text(json.dumps(job), encoding="utf-8")
        command = [python, "-m", module, str(given), str(found)]
        # The hub is left alone: models are folders here.
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit, check=False, env=env, cwd=HOME.parent
            )
        except subprocess.TimeoutExpired:
            raise RivalFailed(f"took longer than {limit:.0f} s") from None
        if done.returncode < 0:
            raise RivalFailed(f"ended by signal {-done.returncode}; memory is the likely cause")
        if done.returncode or not found.is_file():
            raise RivalFailed(_last_line(done.stderr))
        return dict(json.loads(found.read_text(encoding="utf-8")))


def main() -> None:
    """Make and try every environment."""
    result = {}
    for rival in RIVALS.values():
        try:
            python = environment(rival)
        except RivalFailed as error:
            result[rival.name] = str(error)
        else:
            module = {"scikit-learn": "sklearn"}.get(rival.name, rival.name.replace("-", "_"))
            done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
            result[rival.name] = "works" if not done.returncode else f"not imported: {_last_line(done.stderr)}"
        print(f"{rival.name:>14}  {', '.join(rival.pins) or 'the current environment'}: {result[rival.name]}")
    print(json.dumps({"benchmark": "rivals", **result}))


if __name__ == "__main__":
    main()
