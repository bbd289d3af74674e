"""Models made from a file once and kept: a cache of folders in the format of transformers.

A folder's name holds the fingerprint of its source, and its record the size and SHA-256 of every file; each reuse
checks them all. A folder comes into place whole, by a rename, so two processes may convert at once: the second finds
the first one's folder there and uses it. What is written into a folder is the caller's affair (`gguf`,
`dinov2_onnx`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from leadline.errors import ModelError, OutputError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.files import ensure_folder, fingerprint, sha256_file
from leadline.models.catalogue import RECORD, converted_folder

__all__ = ["Conversion", "converted_copy"]

_DAY = 24 * 3600


@dataclass(frozen=True)
class Conversion:
    """How a kind of file becomes a folder in the format of transformers.

    Parameters
    ----------
    result : what comes out, for a person, as in `"dense float32 weights"`.
    versions : of whatever decides the files that are written; another version is another folder.
    needs : the modules that writing takes and Leadline can do without.
    extra : the extra that installs them.
    write : from the file, an empty folder to fill and a sink.
    """

    result: str
    versions: Mapping[str, object]
    needs: tuple[str, ...]
    extra: str
    write: Callable[[Path, Path, EventSink], None]


def converted_copy(file: Path, conversion: Conversion, events: EventSink = SILENT) -> Path:
    """The folder of the cache with the model of a file, converted if it is not there or damaged.

    Raises
    ------
    ModelError : the file cannot be read or converted, or the packages to do so are not installed.
    ArchitectureError : the table has no row for its architecture.
    OutputError : the cache folder cannot be written to.
    """
    try:
        source = {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
    except OSError as error:
        raise ModelError(f"cannot read '{file}' ({error.strerror}); make it readable or give another.") from error
    versions = dict(conversion.versions)
    folder = converted_folder() / f"{file.stem}-{fingerprint(source['sha256'], versions)}"
    if folder.exists():
        damage = _damage(folder)
        if damage is None:
            return folder
        events.emit(Event("warning", "convert", f"the converted model in '{folder}' is damaged ({damage}); once more."))
        _discard(folder)
    with stage(events, "convert", f"{file.name} to {conversion.result} (once)"):
        _convert(file, folder, conversion, {"source": source, "versions": versions}, events)
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


def _convert(file: Path, folder: Path, conversion: Conversion, record: Mapping[str, object], events: EventSink) -> None:
    lacking = [name for name in conversion.needs if importlib.util.find_spec(name) is None]
    if lacking:
        raise ModelError(
            f"'{file.name}' needs the package{'s' if len(lacking) > 1 else ''} {' and '.join(lacking)} to be made into "
            f'{conversion.result}. Install what is missing: pip install "leadline[{conversion.extra}]"'
        )
    try:
        ensure_folder(folder.parent)
    except OutputError as error:
        raise OutputError(
            f"the cache folder '{folder.parent}', in which a converted model is kept, cannot be written to; make it "
            f"writable, or set LEADLINE_HOME to another folder."
        ) from error
    _sweep(folder.parent)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        conversion.write(file, building, events)
        files = {
            str(path.relative_to(building)): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(building.rglob("*"))
            if path.is_file()
        }
        (building / RECORD).write_text(json.dumps({**record, "files": files}, indent=1), encoding="utf-8")
        _open_up(building, (*files, RECORD))
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


def _open_up(folder: Path, names: tuple[str, ...]) -> None:
    """Give a finished folder and its files what the process's umask grants; temporary ones are private."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(folder, 0o777 & ~mask)
    for name in names:
        os.chmod(folder / name, 0o666 & ~mask)


def _sweep(folder: Path) -> None:
    """Remove what killed conversions left behind; none takes a day."""
    for left in (*folder.glob(".*.partial"), *folder.glob(".*.damaged")):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
