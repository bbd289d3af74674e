"""`leadline score`: a fitted probe on new text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import plain, print_json, print_table
from leadline.errors import ConfigError, DataError, ProbeError

if TYPE_CHECKING:
    from leadline.probes import Probe
    from leadline.study.results import Results

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline score runs/demo "The city of Lima is in Peru." "The city of Lima is in Japan."`
- `leadline score runs/demo/probes/label.safetensors --file claims.csv --text statement --json`
- `cat claims.txt | leadline score runs/demo --file -`: a text a line
"""


def command(
    probe: Annotated[Path, Parameter(help="A probe's file, or the folder of a run, whose chosen probe is taken.")],
    texts: Annotated[tuple[str, ...], Parameter(help="The texts to score.")] = (),
    /,
    *,
    file: str | None = None,
    text: str | None = None,
    model: str | None = None,
    dtype: str | None = None,
    device: str = "auto",
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Score new texts with a fitted probe; above 0 it decides for the positive class.

    Parameters
    ----------
    file
        A .csv, .tsv, .jsonl, .parquet or .txt file of texts (a text a line); `-` reads lines from stdin.
    text
        The file's column with the texts, or with chat messages.
    model
        The model that the probe was fitted on, where its file does not lead there.
    dtype
        The weights' dtype; by default the one that the probe was fitted in.
    device
        auto, cpu, cuda or mps.
    """
    import leadline as ll
    from leadline.cli.progress import progress

    probes = _probes(probe)
    inputs: list[Any] = [*texts, *(_inputs(file, text) if file is not None else [])]
    if not inputs:
        raise ConfigError('nothing to score; give texts, as in `leadline score PROBE "a text"`, or a --file.')
    empty = [str(row) for row, one in enumerate(inputs, start=1) if not (one.strip() if isinstance(one, str) else one)]
    if empty:
        raise DataError(f"text {', '.join(empty[:5])} of {len(inputs)} is empty; leave it out.")
    options = _model(probe, probes[0], model, dtype)
    with progress(common.quiet) as events:
        loaded = ll.load_model(device=device, events=events, **options)
        scores = [one.score(loaded, inputs) for one in probes]
    rows = [
        {"text": said, **{one.target: float(values[row]) for one, values in zip(probes, scores, strict=True)}}
        for row, said in enumerate(inputs)
    ]
    first = probes[0]
    if first.kind == "binary":
        for row, value in zip(rows, scores[0], strict=True):
            row["decision"] = first.positive if value > 0 else first.negative
    if as_json:
        print_json(
            {
                "model": loaded.name,
                "probes": [
                    {
                        "target": one.target,
                        "site": one.site and one.site.name,
                        "tokens": one.tokens,
                        "positive": one.positive,
                    }
                    for one in probes
                ],
                "rows": rows,
            }
        )
        return 0
    names = [one.target for one in probes]
    print_table(
        [*names, *(["decision"] if first.kind == "binary" else []), "text"],
        [
            [
                *(f"{row[name]:+.3f}" for name in names),
                *([row["decision"]] if first.kind == "binary" else []),
                plain(row["text"], 120),
            ]
            for row in rows
        ],
        right=names,
    )
    return 0


def _results(path: Path) -> Results | None:
    """The results of the run that a probe belongs to, where it stands in one."""
    from leadline.study.results import Results

    for folder in (path, path.parent, path.parent.parent):
        if (folder / "results.json").is_file():
            return Results.read(folder)
    return None


def _probes(path: Path) -> list[Probe]:
    from leadline.probes import Probe

    if not path.is_dir():
        return [Probe.read(path)]
    results = _results(path)
    if results is None:
        files = sorted(path.glob("*.safetensors"))
        if len(files) == 1:
            return [Probe.read(files[0])]
        raise ProbeError(
            f"'{path}' is neither a probe's file nor the folder of a finished run"
            + (f"; it holds {len(files)} probes, so name one of them." if files else "; give one of the two.")
        )
    chosen = [target.best.probe_files for target in results.targets]
    if len(chosen) > 1:
        raise ProbeError(
            f"this run has {len(chosen)} targets; give the file of one chosen probe: "
            f"{', '.join(str(path / file) for files in chosen for file in files)}."
        )
    # A target of several columns has a probe for each.
    return [Probe.read(path / file) for file in chosen[0]]


def _model(path: Path, probe: Probe, model: str | None, dtype: str | None) -> dict[str, Any]:
    """The arguments of `load_model`: as asked, else as the probe's run had them, else as its file says."""
    results = _results(path)
    asked = results.study.get("model") if results is not None else None
    options: dict[str, Any] = {"spec": probe.model, "dtype": probe.extra.get("dtype")}
    if results is not None and isinstance(asked, dict):
        # The dtype that `auto` came to on the machine of the run, which may not be what it comes to here.
        options = {"spec": asked.get("name"), "revision": asked.get("revision"), "dtype": results.model.dtype}
    if model is not None:
        options = {"spec": model, "dtype": options["dtype"]}
    if dtype is not None:
        options["dtype"] = dtype
    if options["spec"] is None:
        raise ProbeError("the probe's file does not say which model it was fitted on; give it with --model.")
    return {key: value for key, value in options.items() if value is not None}


def _inputs(file: str, column: str | None) -> list[Any]:
    """Texts, or chats, from a file."""
    if file == "-":
        return [line for line in sys.stdin.read().splitlines() if line.strip()]
    path = Path(file)
    if path.suffix.lower() == ".txt":
        if not path.is_file():
            raise DataError(f"there is no file '{path}'; give one with a text a line, or - for stdin.")
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    from leadline.data.columns import find_column, read_inputs
    from leadline.data.readers import read_csv, read_jsonl, read_parquet

    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_jsonl, ".json": read_jsonl, ".parquet": read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"'{path}' is of no known kind; expected {', '.join(readers)} or .txt, or - for stdin.")
    frame = reader(path)
    return list(read_inputs(find_column(frame, column or "text", "text", str(path)), frame, str(path)))
