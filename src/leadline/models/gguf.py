"""GGUF files, made dense once and kept.

transformers takes long to make a GGUF dense (it reads the file's metadata as Python objects, several times), so the
dense float32 weights and the tokenizer are saved in the cache under a name that holds the fingerprint of the source.
Each reuse checks the SHA-256 of every file. A folder comes into place whole, by a rename, so two processes may
convert at once: the second finds the first one's folder there and uses it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError

from leadline.errors import ModelError, OutputError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.files import ensure_folder, fingerprint, sha256_file
from leadline.models.catalogue import RECORD, converted_folder
from leadline.models.pretrained import read_config, read_module, read_tokenizer
from leadline.models.quiet import quiet

__all__ = ["dense_folder"]

# Raise it when a conversion gives other files than before.
_FORMAT = 1
_DAY = 24 * 3600


def dense_folder(file: Path, events: EventSink = SILENT) -> Path:
    """The folder with a GGUF file's dense float32 weights and tokenizer, converted if it is not there or damaged.

    Raises
    ------
    ModelError : the file is no GGUF, cannot be converted, or the packages to do so are not installed.
    ArchitectureError : the table has no row for its architecture.
    OutputError : the cache folder cannot be written to.
    """
    import transformers

    try:
        with open(file, "rb") as handle:
            magic = handle.read(4)
        if magic != b"GGUF":
            raise ModelError(f"'{file}' is not a GGUF file (it does not begin with 'GGUF'); give another, or a folder.")
        source = {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
    except OSError as error:
        raise ModelError(f"cannot read '{file}' ({error.strerror}); make it readable or give another.") from error
    versions = {"format": _FORMAT, "transformers": transformers.__version__}
    folder = converted_folder() / f"{file.stem}-{fingerprint(source['sha256'], versions)}"
    if folder.exists():
        damage = _damage(folder)
        if damage is None:
            return folder
        events.emit(Event("warning", "convert", f"the converted model in '{folder}' is damaged ({damage}); once more."))
        _discard(folder)
    with stage(events, "convert", f"{file.name} to dense float32 weights (once)"):
        _convert(file, folder, {"source": source, "versions": versions}, events)
    return folder


def _damage(folder: Path) -> str | None:
    """What is wrong with a converted folder, or None."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = {str(name): (entry["bytes"], entry["sha256"]) for name, entry in record["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{RECORD} cannot be read"
    for name, (size, sha256) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is not there"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
        if sha256_file(path) != sha256:
            return f"{name} has changed"
    return None


def _discard(folder: Path) -> None:
    """Move a damaged folder out of the way before removing it, so that nobody reads a half of it."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".damaged", dir=folder.parent))
    try:
        # Another process may have done so already.
        with suppress(FileNotFoundError):
            os.rename(folder, aside / folder.name)
    except OSError as error:
        raise OutputError(
            f"cannot remove the damaged '{folder}' ({error.strerror}); remove it yourself, or set LEADLINE_HOME to "
            f"another folder."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _convert(file: Path, folder: Path, record: Mapping[str, object], events: EventSink) -> None:
    lacking = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if lacking:
        raise ModelError(
            f"'{file.name}' needs the package{'s' if len(lacking) > 1 else ''} {' and '.join(lacking)} to be made "
            f"dense. Install what is missing: pip install leadline[gguf]"
        )
    import transformers

    try:
        ensure_folder(folder.parent)
    except OutputError as error:
        raise OutputError(
            f"the cache folder '{folder.parent}', in which a converted model is kept, cannot be written to; make it "
            f"writable, or set LEADLINE_HOME to another folder."
        ) from error
    _sweep(folder.parent)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    # Versions without this class make every GGUF dense; later ones keep it packed unless told.
    dense = (
        {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}
    )
    try:
        # The config is read by itself and handed on, which saves reading the metadata twice more.
        config = read_config(file.parent, gguf_file=file.name, local_files_only=True)
        with _without_bar():
            module = read_module(
                file.parent,
                config,
                torch.float32,
                events=events,
                gguf_file=file.name,
                local_files_only=True,
                **dense,
            )
        tokenizer = read_tokenizer(file.parent, gguf_file=file.name, config=config, local_files_only=True)
        with quiet():
            module.save_pretrained(building)  # type: ignore[operator]
            tokenizer.save_pretrained(building)
        files = {
            str(path.relative_to(building)): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(building.rglob("*"))
            if path.is_file()
        }
        (building / RECORD).write_text(json.dumps({**record, "files": files}, indent=1), encoding="utf-8")
        # Temporary files and folders are private; the finished ones get what the process's umask grants.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(building, 0o777 & ~mask)
        for name in (*files, RECORD):
            os.chmod(building / name, 0o666 & ~mask)
        try:
            os.rename(building, folder)
        except OSError:
            # Another process was first. Its folder serves as well, if it is whole.
            if not folder.is_dir() or _damage(folder) is not None:
                raise
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write the converted model to '{folder}' ({error}); free some space, or set LEADLINE_HOME to "
            f"another folder."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed conversions left behind; none takes a day."""
    for left in (*folder.glob(".*.partial"), *folder.glob(".*.damaged")):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _without_bar() -> Iterator[None]:
    """Hide the one progress bar that transformers draws without asking its own switch."""
    from transformers import modeling_gguf_pytorch_utils as loader

    drawn = getattr(loader, "tqdm", None)
    if drawn is None:
        yield
        return
    loader.tqdm = partial(drawn, disable=True)
    try:
        yield
    finally:
        loader.tqdm = drawn
