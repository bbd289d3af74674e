"""Files that are written whole or not at all, the cache folder, and fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from leadline.errors import OutputError

__all__ = ["ensure_folder", "file_name", "fingerprint", "home", "replace_atomic", "sha256_file", "write_atomic"]


def ensure_folder(path: str | Path) -> Path:
    """Make a folder (and its parents) if it is not there, and prove that it can be written to.

    Raises
    ------
    OutputError : it is a file, cannot be made, or cannot be written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".leadline-", dir=folder)
        os.close(handle)
        os.unlink(name)
    except FileExistsError as error:
        raise OutputError(f"'{folder}' is a file; expected a folder to write to. Give another with --out.") from error
    except OSError as error:
        raise OutputError(
            f"cannot write to the folder '{folder}' ({error.strerror}); make it writable, or give another with --out."
        ) from error
    return folder


@contextmanager
def replace_atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes its place, on an error it is removed.

    Raises
    ------
    OutputError : the folder cannot be written to, or the disk is full. What stood at `path` is untouched.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
    try:
        # Not mkstemp, whose files are private: this one gets what the process's umask grants, without a look at the
        # umask, which threads share.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        raise OutputError(
            f"cannot write '{target}' ({error.strerror}); make its folder writable or give another."
        ) from error
    try:
        yield temporary
        # A writer may have replaced the file by another; what counts is the one that now has the name.
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"cannot write '{target}' ({error.strerror or error}); what stood there is unchanged. "
            f"Free some space or give another folder."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a whole file, or leave what stood there."""
    with replace_atomic(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def home() -> Path:
    """The cache folder: `LEADLINE_HOME`, else `leadline` under `XDG_CACHE_HOME`, else under `~/.cache`."""
    given = os.environ.get("LEADLINE_HOME")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "leadline"


def file_name(label: str) -> str:
    """A file name for a label from outside: plain characters alone, and told apart where any was replaced.

    >>> file_name("label"), file_name("../a b")
    ('label', '___a_b-9f8a7b')
    """
    plain = re.sub(r"[^A-Za-z0-9_+-]", "_", label)[:60]
    return plain if plain == label else f"{plain}-{fingerprint(label)[:6]}"


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: object) -> str:
    """16 hex digits of the SHA-256 over the parts, as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
