"""`manifest.json`: what makes a folder of shards a store. Written from the plan and the shards alone.

So shards that several machines have written by one plan become one store by being copied into one folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leadline.activations.layout import (
    AGAIN,
    DATASET_FILES,
    MANIFEST,
    PLAN,
    Identity,
    damaged_files,
    read_json,
    shard_name,
)
from leadline.activations.mapped import read_shapes
from leadline.activations.plan import BatchPlan
from leadline.activations.store import Activations
from leadline.errors import StoreError
from leadline.files import sha256_file, write_atomic

__all__ = ["merge", "name_shards", "shard_note", "write_manifest"]


def merge(folder: str | Path) -> Activations:
    """Make one store of shards that stand together in a folder, whoever wrote them.

    Neither the model nor the data set is needed. The folder holds the plan that all shards were written by
    (`plan.json`), the data set (`dataset.parquet`, `dataset.json`) and the shards. A store that is complete is opened.

    Returns
    -------
    The store, open.

    Raises
    ------
    StoreError : no plan, shards that are missing (all named) or damaged, or a shard of another store or plan.
    OutputError : the manifest cannot be written.
    """
    folder = Path(folder)
    content = read_json(folder / PLAN)
    if content is None:
        if (folder / MANIFEST).exists():
            return Activations.open(folder)
        raise StoreError(
            f"'{folder}' holds no {PLAN}, by which shards could be put together; copy it from the run that wrote them."
        )
    absent = [name for name in DATASET_FILES if not (folder / name).is_file()]
    if absent:
        raise StoreError(
            f"'{folder}' holds no {' and no '.join(absent)}; copy what is lacking from the run that wrote the shards."
        )
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        write_manifest(folder, content, {})
        return Activations.open(folder)
    if _marks(manifest) != _marks(content):
        raise StoreError(
            f"the {MANIFEST} in '{folder}' is of another store or plan than its {PLAN}; delete the {MANIFEST} if the "
            f"shards are of that plan."
        )
    try:
        damaged = damaged_files(folder, manifest)
        known = {entry["file"]: entry["sha256"] for entry in manifest["shards"] if entry["file"] not in damaged}
    except (KeyError, TypeError) as error:
        raise StoreError(f"'{folder / MANIFEST}' is damaged ({error!r}); delete it, then merge again.") from error
    if damaged:
        _check_unchanged(folder, known)
        write_manifest(folder, content, known)
    return Activations.open(folder)


def _marks(content: Mapping[str, Any]) -> tuple[Any, Any]:
    return content.get("fingerprint"), (content.get("plan") or {}).get("fingerprint")


def _check_unchanged(folder: Path, known: Mapping[str, str]) -> None:
    """The shards are still those of an earlier manifest. A new hash alone would bless damage done since."""
    for name, recorded in known.items():
        if sha256_file(folder / name) != recorded:
            raise StoreError(
                f"the shard '{folder / name}' is not the one that the {MANIFEST} names: it was damaged or replaced. "
                f"Delete the {MANIFEST} if it was replaced on purpose; otherwise delete the shard, then {AGAIN}."
            )


def write_manifest(folder: Path, plan_json: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    """Write the manifest of a folder whose shards are all there.

    Parameters
    ----------
    plan_json : its `plan.json`. hashes : the SHA-256 of shards where it is known, by file name.

    Raises
    ------
    StoreError : shards are missing or damaged, or of another store or plan.
    OutputError : it cannot be written.
    """
    identity = Identity.from_json(plan_json, folder / PLAN)
    plan = BatchPlan.from_json(plan_json.get("plan"))
    missing = [i for i in range(len(plan.shards)) if not (folder / shard_name(i)).exists()]
    if missing:
        raise StoreError(
            f"the store '{folder}' is incomplete: {name_shards(missing, len(plan.shards))} missing: run extract with "
            f"--shard for them, or copy them here."
        )
    environments: list[dict[str, Any]] = []
    shards = []
    for i in range(len(plan.shards)):
        file = folder / shard_name(i)
        note = shard_note(file, identity, plan, i)
        if isinstance(note, str):
            raise StoreError(f"the shard '{file}' {note}. Delete it, then {AGAIN}.")
        if note["environment"] not in environments:
            environments.append(note["environment"])
        shards.append(
            {
                "file": file.name,
                "rows": len(plan.rows(i)),
                **({"tokens": note["tokens"]} if identity.ragged else {}),
                "bytes": file.stat().st_size,
                "sha256": hashes.get(file.name) or sha256_file(file),
                "environment": environments.index(note["environment"]),
                **note.get("notes", {}),
            }
        )
    manifest = {
        **identity.header,
        **identity.to_json(),
        "n_tokens": int(plan_json.get("n_tokens", 0)),
        "truncated": "none",
        "stored_dtype": identity.stored,
        "plan": {
            "fingerprint": plan.fingerprint,
            "batch_tokens": plan.batch_tokens,
            "n_batches": sum(len(shard) for shard in plan.shards),
        },
        "environments": environments,
        "shards": shards,
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def shard_note(file: Path, identity: Identity, plan: BatchPlan, i: int) -> dict[str, Any] | str:
    """The note in a shard's header; or, where it is not shard i of this store and plan, what it is instead."""
    try:
        note, shapes = read_shapes(file)
    except StoreError:
        return "is damaged: it cannot be read to its end"
    for key, mine, what in (
        ("store", identity.fingerprint, "store"),
        ("plan", plan.fingerprint, "plan"),
        ("shard", i, "shard"),
    ):
        if note.get(key) != mine:
            return f"is of another {what}: {key} {note.get(key)}, expected {mine}"
    n_rows = len(plan.rows(i))
    n_vectors = int(note.get("tokens", -1)) if identity.ragged else n_rows
    if shapes != identity.tensors(n_rows, n_vectors):
        return "is damaged: it does not hold the tensors of its store"
    return note


def name_shards(numbers: Sequence[int], total: int) -> str:
    """Name shards for a person.

    >>> name_shards([3, 7, 8, 9, 12], 40), name_shards([1], 2)
    ('shards 3, 7-9, 12 of 40 are', 'shard 1 of 2 is')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    named = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"shard {named} of {total} is" if len(numbers) == 1 else f"shards {named} of {total} are"
