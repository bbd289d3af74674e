"""One pass of a model over a data set, for all sites at once, into a store.

Rows are sorted by length into batches of a token budget. Each site is pooled on the device as it appears, so that a
vector a row is all that is kept of it; no head is run, and nothing after the last wanted site. A thread writes each
shard behind the pass.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.activations.plan import BatchPlan
from leadline.activations.store import Activations, Identity
from leadline.activations.tokens import Selection
from leadline.activations.writer import StoreWriter
from leadline.errors import ActivationsError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.files import ensure_folder, home
from leadline.sites import Site

if TYPE_CHECKING:
    import torch

    from leadline.data import Dataset
    from leadline.models import Model

__all__ = ["BATCH_TOKENS", "DEFAULT_SITES", "extract"]

DEFAULT_SITES = "embed resid_post.* final_norm"

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

# What of the environment decides the bytes.
_DECIDING = ("device", "machine", "threads", "torch", "transformers")
_PACKAGES = ("leadline", "torch", "transformers", "safetensors", "numpy")


def extract(
    model: Model,
    data: Dataset,
    sites: str | Site | Iterable[str | Site] = DEFAULT_SITES,
    tokens: str | Selection = "last",
    *,
    out: str | Path | None = None,
    batch_tokens: int | None = None,
    overwrite: bool = False,
    events: EventSink = SILENT,
) -> Activations:
    """Read a model's activations on a data set into a store, or find the store that holds them already.

    A store that is complete is opened; one whose extraction was interrupted, or that has lost a shard, is completed,
    by the batch plan that it was begun with. The bytes are then those of an uninterrupted run under the same dtype,
    thread count and machine (all in the manifest). Padding, batches and the order of rows change a result only by
    rounding.

    Parameters
    ----------
    model : a `Model`.
    data : a `Dataset` of n rows.
    sites : site patterns, as in `"embed resid_post.* final_norm"`.
    tokens : `"last"`, `"first"`, `"mean"` or `"max"`.
    out : the store's folder; None for one in the cache, named by the store's fingerprint.
    batch_tokens : the most tokens of a batch, padding included; None for what suits the device.
    overwrite : remove a store that is there, whatever it is of, and extract anew. Other files are never removed.
    events : receives progress, in tokens.

    Returns
    -------
    The store, open.

    Raises
    ------
    SiteError : a site that this model does not have.
    DataError : a row without tokens, or longer than the model takes.
    StoreError : `out` holds a store of something else, or other files.
    ActivationsError : an unknown token selection, or activations that are not finite (names the site and the rows).
    OutputError : the folder cannot be written to, or the disk is full; what was written is kept and used next time.
    """
    wanted = model.sites(sites)
    selection = Selection.parse(tokens)
    budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"]) if batch_tokens is None else batch_tokens
    if budget < 1:
        raise ActivationsError(f"batch_tokens is {budget}; expected at least 1.")
    identity = Identity(
        model_fingerprint=model.fingerprint,
        data_fingerprint=data.fingerprint,
        sites=tuple((site.name, model.width(site)) for site in wanted),
        tokens=selection.name,
        dtype=str(model.dtype).removeprefix("torch."),
        n_rows=data.n,
        model_name=model.name,
        model_source=model.source,
        data_name=data.name,
    )
    folder = home() / "activations" / identity.fingerprint if out is None else Path(out)
    store = StoreWriter(folder, identity, _environment(model))
    if not overwrite:
        store.check()
        if store.complete:
            events.emit(Event("note", "extract", f"found in '{folder}': nothing to compute", data={"out": str(folder)}))
            return _open(folder, data)

    ensure_folder(folder)
    ids = model.encode(data.inputs)
    if overwrite:
        store.clear()
    row_bytes = 4 * sum(width for _, width in identity.sites)
    plan = store.plan or store.propose(plan_batches(ids, budget, row_bytes), sum(map(len, ids)))
    data.write(folder)
    missing = [i for i in range(len(plan.shards)) if not store.has(i)]
    _say_what_is_there(store, plan, missing, events)
    todo = sum(len(ids[row]) for i in missing for row in plan.rows(i))
    with stage(events, "extract", f"{model.name} on {data.name}, {len(wanted)} sites", todo, "tokens"):
        done = 0
        with _write_behind() as write:
            for i in missing:
                # Another run in the same folder may have written it meanwhile.
                here_too = store.has(i)
                blocks = []
                for rows in plan.shards[i]:
                    if not here_too:
                        blocks.append(_read_batch(model, [ids[row] for row in rows], wanted, selection))
                    done += sum(len(ids[row]) for row in rows)
                    events.emit(Event("progress", "extract", done=done, total=todo, unit="tokens"))
                if not here_too:
                    write(partial(_write, store, plan, i, blocks, data, model))
        store.finish()
    return _open(folder, data)


def _open(folder: Path, data: Dataset) -> Activations:
    store = Activations.open(folder)
    # The same data set, with whatever other columns it has this time.
    store.dataset = data
    return store


def plan_batches(ids: Sequence[Sequence[int]], batch_tokens: int, row_bytes: int = 1) -> BatchPlan:
    """The plan that `extract` makes for rows of token ids that each leave `row_bytes` in the store."""
    return BatchPlan.build(
        [len(row) for row in ids],
        batch_tokens=batch_tokens,
        batch_cost=batch_tokens // _BATCH_COST,
        shard_tokens=_SHARD_BATCHES * batch_tokens,
        shard_rows=max(1, _SHARD_BYTES // row_bytes),
    )


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


# ---- the pass


def _read_batch(model: Model, rows: Sequence[Sequence[int]], sites: Sequence[Site], selection: Selection) -> np.ndarray:
    """A batch's pooled activations at all sites, side by side: (rows, sum of widths) float32."""
    import torch

    input_ids, mask = _pad(rows)
    pool = selection.pooler(mask, model.device)
    pooled: dict[Site, torch.Tensor] = {}

    def receive(site: Site, x: torch.Tensor) -> None:
        pooled[site] = pool(x)

    with model.reading(sites, receive):
        model.forward(input_ids, mask)
    with torch.inference_mode():
        # One copy off the device rather than one a site.
        return torch.cat([pooled[site] for site in sites], dim=1).cpu().numpy()


def _pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (batch, seq), padded on the right with each row's first token, and the mask of the real ones."""
    import torch

    seq = max(map(len, rows))
    input_ids = torch.tensor([[*row, *[row[0]] * (seq - len(row))] for row in rows])
    mask = torch.arange(seq) < torch.tensor([[len(row)] for row in rows])
    return input_ids, mask.long()


def _write(
    store: StoreWriter, plan: BatchPlan, i: int, blocks: Sequence[np.ndarray], data: Dataset, model: Model
) -> None:
    rows = np.asarray(plan.rows(i))
    together = np.concatenate(blocks)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for name, width in store.identity.sites:
        arrays[name] = np.ascontiguousarray(together[:, start : start + width])
        start += width
        bad = np.sort(rows[~np.isfinite(arrays[name]).all(axis=1)])
        if len(bad):
            raise ActivationsError(_not_finite(name, bad, data, model, store.identity.dtype))
    store.write_shard(i, arrays)


def _not_finite(site: str, rows: np.ndarray, data: Dataset, model: Model, dtype: str) -> str:
    from leadline.data.records import name_rows

    named = name_rows(rows if data.source_rows is None else data.source_rows[rows])
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
