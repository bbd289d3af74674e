"""Writing a store so that it is whole or absent, whoever else writes or is killed meanwhile.

No locks. `plan.json` is created exclusively, so that everybody who writes into the folder follows one plan. A shard
depends on the plan alone; it appears whole under its name, and one that is there and valid is never replaced, so that
what a manifest says about it stays true. So a killed run leaves a store that the next one completes, and two runs at
once only do some work twice.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from leadline.activations.layout import (
    DATASET_FILES,
    MANIFEST,
    PLAN,
    SHARD_NOTE,
    Identity,
    damaged_files,
    read_json,
    shard_name,
)
from leadline.activations.manifest import merge, shard_note, write_manifest
from leadline.activations.plan import BatchPlan
from leadline.activations.shards import checked_notes, shard_tensors
from leadline.activations.store import Activations
from leadline.errors import OutputError, StoreError
from leadline.files import ensure_folder, sha256_file

__all__ = ["StoreWriter", "merge"]

# Seconds after which a temporary file cannot be another run's that still lives.
_STALE = 600.0


class StoreWriter:
    """A store under construction, or one that is found complete.

    Parameters
    ----------
    folder : where it is or will be.
    identity : what it is of.
    environment : what else decides the bytes (threads, machine, versions); noted in the plan and in every shard.

    Raises
    ------
    StoreError : the folder holds a store of something else, or other files.
    OutputError : it is a file.
    """

    def __init__(self, folder: Path, identity: Identity, environment: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = identity
        self.environment = dict(environment)
        self._plan: BatchPlan | None = None
        self._planned_under: dict[str, Any] = {}
        self._hashes: dict[str, str] = {}
        if folder.exists() and not folder.is_dir():
            ensure_folder(folder)
        self._plan_json = read_json(folder / PLAN)
        self._manifest = read_json(folder / MANIFEST)
        self._recorded = self._trusted()

    def check(self) -> None:
        """Refuse a folder that holds something else."""
        there = self._manifest or self._plan_json
        if there is None:
            self._refuse_foreign()
        elif there.get("fingerprint") != self.identity.fingerprint:
            raise StoreError(
                f"'{self.folder}' holds a store of something else: {'; '.join(self.identity.differences(there))}. "
                f"Give another folder, or overwrite=True (--overwrite) to replace it."
            )
        elif self._plan_json is not None:
            self._adopt(self._plan_json)

    def clear(self) -> None:
        """Remove the store that is there, whatever it is of, and nothing else.

        Raises
        ------
        StoreError : the folder holds other files and no store.
        OutputError : a file cannot be removed.
        """
        if self._plan_json is None and self._manifest is None:
            self._refuse_foreign()
            return
        # The plan goes last: a run killed in between leaves something that is still known for a store.
        shards = sorted(self.folder.glob("shard-*.safetensors"))
        named = [self.folder / name for name in DATASET_FILES]
        try:
            for path in [self.folder / MANIFEST, *shards, *self._partials(), *named, self.folder / PLAN]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove '{path}' ({error.strerror}); give another folder.") from error
        self._plan_json = self._manifest = None
        self._recorded = {}

    def _refuse_foreign(self) -> None:
        if not self.folder.is_dir():
            return
        foreign = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        if foreign:
            raise StoreError(
                f"'{self.folder}' holds other files ({', '.join(foreign[:3])}{', …' if len(foreign) > 3 else ''}) and "
                f"no activation store; give a new or an empty folder. They are left alone."
            )

    # ---- what is there

    def damage(self) -> str | None:
        """Why a store that was complete is so no longer; None if it is, or never was."""
        if self._manifest is None:
            return None
        try:
            Activations.open(self.folder)
        except StoreError as error:
            return str(error)
        return None

    @property
    def complete(self) -> bool:
        """The manifest is there, and every file that it names, in its size."""
        return self._manifest is not None and self.damage() is None

    def _trusted(self) -> dict[str, str]:
        """The SHA-256 that an earlier run noted of each shard that still has its size.

        They are carried into a new manifest: a hash taken then would bless damage done since.
        """
        try:
            damaged = damaged_files(self.folder, self._manifest or {"shards": ()})
            return {e["file"]: str(e["sha256"]) for e in (self._manifest or {})["shards"] if e["file"] not in damaged}
        except (KeyError, TypeError):
            return {}

    @property
    def plan(self) -> BatchPlan | None:
        """The plan on disk; None before there is one."""
        return self._plan

    @property
    def planned_under(self) -> dict[str, Any]:
        """The environment that the plan was made in."""
        return self._planned_under

    def has(self, i: int) -> bool:
        """A shard is there, whole, and of this store and plan."""
        assert self._plan is not None
        return isinstance(shard_note(self.folder / shard_name(i), self.identity, self._plan, i), dict)

    def missing(self) -> list[int]:
        """The shards that are not there, or not whole."""
        assert self._plan is not None
        return [i for i in range(len(self._plan.shards)) if not self.has(i)]

    # ---- writing

    def propose(self, plan: BatchPlan, n_tokens: int) -> BatchPlan:
        """Write `plan.json`, unless somebody else has just done so; return the plan that holds.

        Raises
        ------
        StoreError : another run has just begun a store of something else here.
        OutputError : the folder cannot be written to.
        """
        content = {
            **self.identity.header,
            **self.identity.to_json(),
            "n_tokens": n_tokens,
            "environment": self.environment,
            "plan": {"fingerprint": plan.fingerprint, **plan.to_json()},
        }
        with self._whole(PLAN, (json.dumps(content, ensure_ascii=False) + "\n").encode()) as temporary:
            self._create(temporary, self.folder / PLAN)
        self._plan_json = read_json(self.folder / PLAN)
        self.check()
        assert self._plan is not None
        return self._plan

    def write_shard(
        self,
        i: int,
        arrays: Mapping[str, np.ndarray],
        lengths: np.ndarray | None = None,
        positions: np.ndarray | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one shard, unless a valid one has appeared meanwhile.

        Parameters
        ----------
        arrays : for each site's name (rows, width) float32, rows as the plan has them; of a store of tokens
            (tokens, width), row after row.
        lengths : (rows,) the tokens of each row; for a store of tokens, and only for one.
        positions : (tokens,) each token's position in its row; None for 0, 1, 2… in each.
        notes : JSON that is kept in the shard's header and in its entry of the manifest.

        Raises
        ------
        ActivationsError : arrays of other shapes, or values that the store's dtype cannot hold (names site and rows).
        OutputError : the folder cannot be written to, or the disk is full. What is there stays good.
        """
        assert self._plan is not None
        tensors, n_vectors = shard_tensors(self.identity, self._plan.rows(i), arrays, lengths, positions)
        note = {
            **self.identity.header,
            "store": self.identity.fingerprint,
            "plan": self._plan.fingerprint,
            "shard": i,
            "environment": self.environment,
            **({"tokens": n_vectors} if self.identity.ragged else {}),
            **({"notes": checked_notes(notes)} if notes else {}),
        }
        data = safetensors.numpy.save(tensors, metadata={SHARD_NOTE: json.dumps(note, sort_keys=True)})
        target = self.folder / shard_name(i)
        with self._whole(target.name, data) as temporary:
            if not self._create(temporary, target) and not self.has(i):
                os.replace(temporary, target)
        self._hashes[target.name] = sha256_file(target)

    def finish(self) -> None:
        """Write `manifest.json`.

        Raises
        ------
        StoreError : shards are missing (all named), or the store was replaced by another run meanwhile.
        OutputError : the folder cannot be written to.
        """
        assert self._plan is not None
        on_disk = read_json(self.folder / PLAN) or {}
        if on_disk.get("plan", {}).get("fingerprint") != self._plan.fingerprint:
            raise StoreError(
                f"another run has replaced the store in '{self.folder}' while this one was writing it; give each its "
                f"own folder and extract again."
            )
        write_manifest(self.folder, on_disk, self._recorded | self._hashes)
        self._tidy()

    def _tidy(self) -> None:
        """Remove what killed runs left half written."""
        now = (self.folder / MANIFEST).stat().st_mtime
        for path in self._partials():
            with suppress(OSError):
                # A shard that another run is writing now is there already, and `_create` bears the loss. Its other
                # files it still needs, but not for as long as this.
                if path.name.startswith(".shard-") or path.stat().st_mtime < now - _STALE:
                    path.unlink()

    def _partials(self) -> list[Path]:
        return [*self.folder.glob(".*.partial"), *self.folder.glob(".leadline-*")]

    def _adopt(self, content: Mapping[str, Any]) -> None:
        self._plan = BatchPlan.from_json(content.get("plan"))
        if self._plan.n_rows != self.identity.n_rows:
            raise StoreError(
                f"the plan in '{self.folder}' has {self._plan.n_rows} rows, the data set {self.identity.n_rows}; "
                f"extract again with overwrite=True."
            )
        self._planned_under = dict(content.get("environment") or {})

    @contextmanager
    def _whole(self, name: str, data: bytes) -> Iterator[Path]:
        """Yield a temporary file with the data, safely on disk; it is removed afterwards if it still has its name."""
        temporary = self.folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        except OSError as error:
            raise OutputError(
                f"cannot write '{self.folder / name}' ({error.strerror}); what is there stays good. Free some space, "
                f"then run the same extract again, which goes on where it stopped."
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @staticmethod
    def _create(temporary: Path, target: Path) -> bool:
        """Give a file its name unless that is taken; say whether it was free."""
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                # A run that has finished tidies up behind others.
                if isinstance(error, FileNotFoundError) and target.exists():
                    return False
                raise
            # A file system without hard links: the last to come wins, with the same content.
            os.replace(temporary, target)
        return True
