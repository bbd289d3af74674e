"""One pass of a model over a data set, for all sites at once, into a store.

Rows are sorted by length into batches of a token budget; what rows share is computed once. Each site is pooled on the
device as it appears, so that what the selection asks for is all that is kept of it; no head is run, and nothing after
the last wanted site. A thread writes each shard behind the pass.
"""

from __future__ import annotations

import platform
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.activations.encoding import EncodedRows
from leadline.activations.passes import Block, Passes
from leadline.activations.plan import BatchPlan
from leadline.activations.precision import measure_precision, say_precision
from leadline.activations.store import Activations, Identity
from leadline.activations.tokens import Selection
from leadline.activations.writer import StoreWriter
from leadline.errors import ActivationsError, StoreError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.files import ensure_folder, home
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.data import Dataset
    from leadline.models import Model

__all__ = ["BATCH_TOKENS", "extract", "extract_all", "parse_shard"]

# By kind of device. Measured on CPUs, where more falls out of the cache (benchmarks/extract.py); elsewhere a guess.
BATCH_TOKENS: Mapping[str, int] = {"cpu": 512, "mps": 4096, "cuda": 16384}
# A batch reads all weights once: 18 tokens' work for a CPU with budgets of 512.
_BATCH_COST = 28
# A shard ends after so many batches' worth of tokens (what a killed run may lose) or so many bytes (what a write holds
# in memory), whichever comes first.
_SHARD_BATCHES = 8
_SHARD_BYTES = 32 << 20
# Shards that wait for the writer; a slow disk then slows the pass instead of filling the memory.
_WAITING = 2
# What the keys and values of a batch that goes on from a prefix may take.
_CACHE_BYTES = 1 << 30

# What of the environment decides the bytes.
_DECIDING = ("device", "machine", "threads", "torch", "transformers")
_PACKAGES = ("leadline", "torch", "transformers", "safetensors", "numpy")


def extract(
    model: Model,
    data: Dataset,
    sites: str | Site | Iterable[str | Site] | None = None,
    tokens: str | Selection = "last",
    *,
    out: str | Path | None = None,
    batch_tokens: int | None = None,
    stored: str = "float32",
    share_prefixes: bool = True,
    shard: tuple[int, int] | str | None = None,
    overwrite: bool = False,
    events: EventSink = SILENT,
) -> Activations:
    """Read a model's activations on a data set into a store, or find the store that holds them already.

    A store that is complete is opened; one whose extraction was interrupted, or that has lost a shard, is completed,
    by the batch plan that it was begun with. The bytes are then those of an uninterrupted run under the same dtype,
    thread count and machine (all in the manifest). Padding, batches, the order of rows and what they share change a
    result only by rounding. A batch that does not fit into memory is halved until it does; the manifest says which.

    Parameters
    ----------
    model : a `Model`.
    data : a `Dataset` of n rows, of inputs that the model takes.
    sites : site patterns, as in `"embed resid_post.* final_norm"`, all of one part of the model; None for the stream
        after every block.
    tokens : which tokens, and how they become one vector; see `Selection`. With the pool `all` every token is kept.
    out : the store's folder; None for one in the cache, named by the store's fingerprint.
    batch_tokens : the most tokens of a batch, padding included; None for what suits the device.
    stored : `"float32"`, `"float16"` or `"int8"`: what the store holds.
    share_prefixes : compute what rows begin with in common once, and equal rows once.
    shard : `"i/n"` or (i, n): do only every n-th part of the work, from the i-th on (counted from 1). Several processes
        or machines with their own i can share a folder or write into folders of their own, whose files are then put
        together; `merge` or any extraction without `shard` completes it.
    overwrite : remove a store that is there, whatever it is of, and extract anew. Other files are never removed.
    events : receives progress, in tokens.

    Returns
    -------
    The store, open. With `shard`, where other parts are still missing, see Raises.

    Raises
    ------
    SiteError : a site that this model does not have, or sites of several parts.
    DataError : a row without tokens, or longer than the model takes, or of a kind that it does not take.
    StoreError : `out` holds a store of something else, or other files. With `shard`: parts are missing that are others'
        to do (this one's are done).
    ActivationsError : an unknown token selection, a row in which it finds no token, activations that are not finite
        (names the site and the rows), or a row that alone does not fit into memory.
    OutputError : the folder cannot be written to, or the disk is full; what was written is kept and used next time.
    """
    store = extract_part(
        model,
        data,
        sites,
        tokens,
        out=out,
        batch_tokens=batch_tokens,
        stored=stored,
        share_prefixes=share_prefixes,
        shard=shard,
        overwrite=overwrite,
        events=events,
    )
    if isinstance(store, StoreWriter):
        # Says which shards are missing.
        store.finish()
        return _open(store.folder, data)
    return store


def extract_part(
    model: Model,
    data: Dataset,
    sites: str | Site | Iterable[str | Site] | None = None,
    tokens: str | Selection = "last",
    *,
    out: str | Path | None = None,
    batch_tokens: int | None = None,
    stored: str = "float32",
    share_prefixes: bool = True,
    shard: tuple[int, int] | str | None = None,
    overwrite: bool = False,
    events: EventSink = SILENT,
) -> Activations | StoreWriter:
    """As `extract`; where other parts of the work are still missing, the store under construction is returned."""
    wanted = model.sites(model.default_sites if sites is None else sites)
    selection = Selection.parse(tokens)
    mine = parse_shard(shard)
    budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"]) if batch_tokens is None else batch_tokens
    if budget < 1:
        raise ActivationsError(f"batch_tokens is {budget}; expected at least 1.")
    part = model.part_of(wanted)
    rows = EncodedRows(model, data, part, offsets=selection.needs_offsets)
    widths = model.widths(wanted, rows[0] if any(site.kind == "module" for site in wanted) else None)
    identity = Identity(
        model_fingerprint=model.fingerprint,
        data_fingerprint=data.fingerprint,
        sites=tuple((site.name, widths[site]) for site in wanted),
        tokens=selection.name,
        dtype=str(model.dtype).removeprefix("torch."),
        n_rows=data.n,
        model_name=model.name,
        model_source=model.source,
        data_name=data.name,
        stored=stored,
        span_fingerprint="" if selection.span is None else data.span_fingerprint(selection.span),
    )
    folder = home() / "activations" / identity.fingerprint if out is None else Path(out)
    store = StoreWriter(folder, identity, _environment(model))
    if not overwrite:
        store.check()
        if store.complete:
            events.emit(Event("note", "extract", f"found in '{folder}': nothing to compute", data={"out": str(folder)}))
            return _open(folder, data)

    ensure_folder(folder)
    lengths = rows.lengths
    spans = None if selection.span is None else rows.spans(selection.span)
    passes = Passes(model, part, wanted, selection, rows, spans, rows.name)
    passes.check()
    if overwrite:
        store.clear()
    plan = store.plan
    if plan is None:
        vectors = lengths if selection.ragged else [1] * data.n
        row_bytes = 4 * sum(width for _, width in identity.sites) * max(1, sum(vectors) // data.n)
        ids = rows.ids if share_prefixes and part is not None else None
        found = plan_batches(ids or lengths, budget, row_bytes, model if ids else None)
        plan = store.propose(found, sum(lengths))
    elif _shares_prefixes(plan) and not model.can_share_prefixes:
        raise StoreError(
            f"the store in '{folder}' was planned for rows that go on from common beginnings, which this model's cache "
            f"does not give here; extract again with overwrite=True (--overwrite)."
        )
    data.write(folder)
    missing = [i for i in range(len(plan.shards)) if not store.has(i)]
    _say_what_is_there(store, plan, missing, events)
    if mine is not None:
        missing = [i for i in missing if i % mine[1] == mine[0] - 1]
    todo = sum(lengths[row] for i in missing for row in plan.rows(i))
    with stage(events, "extract", f"{model.name} on {data.name}, {len(wanted)} sites", todo, "tokens"):
        done = 0
        with _write_behind() as write:
            for i in missing:
                # Another run in the same folder may have written it meanwhile.
                here_too = store.has(i)
                blocks: list[Block] = []
                for batch, sharing in zip(plan.shards[i], plan.sharing_of(i), strict=True):
                    if not here_too:
                        blocks.append(passes.read(batch, sharing))
                    done += sum(lengths[row] for row in batch)
                    events.emit(Event("progress", "extract", done=done, total=todo, unit="tokens"))
                if not here_too:
                    notes = _notes(blocks, events)
                    if i == 0 and (precision := measure_precision(passes, plan.shards[0][-1])) is not None:
                        notes["precision"] = precision
                        events.emit(Event("note", "extract", say_precision(precision)))
                    write(partial(_write, store, plan, i, blocks, data, model, notes))
        if mine is not None and store.missing():
            return store
        store.finish()
    return _open(folder, data)


def extract_all(
    models: Sequence[Model],
    datasets: Sequence[Dataset],
    sites: str | Site | Iterable[str | Site] | None = None,
    tokens: str | Selection = "last",
    *,
    out: str | Path,
    **options: Any,
) -> dict[tuple[str, str], Activations]:
    """Extract every data set through every model: one job, a store each in `OUT/MODEL/DATA`.

    Parameters
    ----------
    out : the folder of the stores' folders.
    sites, tokens, options : as of `extract`.

    Returns
    -------
    The stores by the names of model and data set.

    Raises
    ------
    ActivationsError : two models or two data sets of one name.
    """
    for what, names in (("models", [m.name for m in models]), ("data sets", [d.name for d in datasets])):
        folders = [folder_name(name) for name in names]
        if len(set(folders)) < len(folders):
            raise ActivationsError(f"two {what} have one name ({', '.join(names)}); give each its own.")
    return {
        (model.name, data.name): extract(
            model, data, sites, tokens, out=Path(out) / folder_name(model.name) / folder_name(data.name), **options
        )
        for model in models
        for data in datasets
    }


def folder_name(name: str) -> str:
    """A name as a folder's: a name from outside never reaches the file system as it is."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "unnamed"


def parse_shard(shard: tuple[int, int] | str | None) -> tuple[int, int] | None:
    """Which part of the work to do, as (i, n), i counted from 1.

    Raises
    ------
    ActivationsError : no such part.
    """
    if shard is None:
        return None
    if isinstance(shard, str):
        match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
        numbers = (int(match[1]), int(match[2])) if match else (0, 0)
    else:
        numbers = (int(shard[0]), int(shard[1]))
    if not 1 <= numbers[0] <= numbers[1]:
        raise ActivationsError(f"shard is '{shard}'; expected I/N with I from 1 to N, as in 2/8.")
    return numbers


def _open(folder: Path, data: Dataset) -> Activations:
    store = Activations.open(folder)
    # The same data set, with whatever other columns it has this time.
    store.dataset = data
    return store


def plan_batches(
    rows: Sequence[Sequence[int]] | Sequence[int], batch_tokens: int, row_bytes: int = 1, model: Model | None = None
) -> BatchPlan:
    """The plan that `extract` makes.

    Parameters
    ----------
    rows : the rows' token ids, where what they share may be computed once; else their lengths.
    row_bytes : what a row leaves in the store.
    model : the model, which says whether rows can go on from a common prefix; None for no sharing.
    """
    options = {
        "batch_tokens": batch_tokens,
        "batch_cost": batch_tokens // _BATCH_COST,
        "shard_tokens": _SHARD_BATCHES * batch_tokens,
        "shard_rows": max(1, _SHARD_BYTES // row_bytes),
    }
    if model is None:
        return BatchPlan.build([row if isinstance(row, int) else len(row) for row in rows], **options)
    ids: Any = rows
    prefixes = model.may_share_prefixes
    limit = max(batch_tokens, _CACHE_BYTES // model.cache_bytes_per_token) if prefixes else None
    plan = BatchPlan.build_shared(ids, **options, prefixes=prefixes, cache_tokens=limit)
    # What a prefix's cache gives is tried out where it would be used, which costs three small passes.
    if _shares_prefixes(plan) and not model.can_share_prefixes:
        plan = BatchPlan.build_shared(ids, **options, prefixes=False)
    return plan


def _shares_prefixes(plan: BatchPlan) -> bool:
    return any(sharing and (sharing.context or sharing.stem) for shard in plan.sharing for sharing in shard)


def _notes(blocks: Sequence[Block], events: EventSink) -> dict[str, Any]:
    halved = [{"batch": b, "passes": block.halved} for b, block in enumerate(blocks) if block.halved > 1]
    if not halved:
        return {}
    message = f"{len(halved)} batch(es) did not fit into memory and were halved: equal to whole ones to rounding"
    events.emit(Event("warning", "extract", message))
    return {"halved": halved}


def _say_what_is_there(store: StoreWriter, plan: BatchPlan, missing: Sequence[int], events: EventSink) -> None:
    damage = store.damage()
    if damage is not None:
        events.emit(Event("warning", "extract", damage))
    there = len(plan.shards) - len(missing)
    if there:
        message = f"goes on in '{store.folder}': {there} of {len(plan.shards)} shards are there"
        events.emit(Event("note", "extract", message, done=there, total=len(plan.shards), unit="shards"))
    before, now = store.planned_under, store.environment
    changed = [f"{key} {before[key]}, now {now[key]}" for key in _DECIDING if before.get(key, now[key]) != now[key]]
    if changed and missing:
        message = (
            f"this extraction was begun with {'; '.join(changed)}: what is still to do will equal an uninterrupted run "
            f"to rounding, not to the byte"
        )
        events.emit(Event("warning", "extract", message))


def _environment(model: Model) -> dict[str, Any]:
    """What the store is made by and on; noted in it."""
    import torch

    device = str(model.device.type)
    if device == "cuda":
        device = f"cuda ({torch.cuda.get_device_name(model.device)})"
    return {
        "device": device,
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# ---- writing


def _write(
    store: StoreWriter,
    plan: BatchPlan,
    i: int,
    blocks: Sequence[Block],
    data: Dataset,
    model: Model,
    notes: Mapping[str, Any],
) -> None:
    rows = np.asarray(plan.rows(i))
    together = np.concatenate([block.values for block in blocks])
    lengths = positions = None
    if store.identity.ragged:
        read = [own for block in blocks for own in block.positions]
        lengths, positions = np.array([len(own) for own in read]), np.concatenate(read)
        rows = np.repeat(rows, lengths)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for name, width in store.identity.sites:
        arrays[name] = np.ascontiguousarray(together[:, start : start + width])
        start += width
        bad = np.unique(rows[~np.isfinite(arrays[name]).all(axis=1)])
        if len(bad):
            raise ActivationsError(_not_finite(name, bad, data, model, store.identity.dtype))
    store.write_shard(i, arrays, lengths, positions, notes)


def _not_finite(site: str, rows: np.ndarray, data: Dataset, model: Model, dtype: str) -> str:
    from leadline.data.records import name_rows

    named = name_rows(data.source_rows[rows])
    if dtype == "float16":
        advice = "float16 overflows beyond 65,504; load the model with dtype='bfloat16' or dtype='float32'."
    elif dtype == "float32":
        advice = "Look at these rows and at the model's weights."
    else:
        advice = "Load the model with dtype='float32', or look at these rows."
    return (
        f"the activations of '{model.name}' in {dtype} are not finite at {site} in {named} of '{data.name}'; they are "
        f"not stored. {advice}"
    )


@contextmanager
def _write_behind() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yield a function that runs jobs, in order, on a thread, and waits while too many are queued.

    An error in a job is raised by the next call or at the end. On an error in the body, what is queued is dropped and
    what is under way ends. The thread never outlives the body.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="leadline-write")
    waiting: deque[Future[None]] = deque()

    def submit(job: Callable[[], None]) -> None:
        while waiting and (len(waiting) >= _WAITING or waiting[0].done()):
            waiting.popleft().result()
        waiting.append(pool.submit(job))

    try:
        yield submit
        while waiting:
            waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
