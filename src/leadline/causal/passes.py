"""Edited passes: every plan on every row, with what no plan changes computed once.

A chunk of rows is run once without edits; that pass keeps keys and values, and the stream before the blocks at which
plans begin. A plan's own passes then start at its first edited token and its first edited block. Passes of several
plans and rows go together: those that start at the same block, and at the same token or one close by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from leadline.activations.tokens import Selection, pool_positions
from leadline.causal.schedule import Continued, beginning, block_of, in_order, merged
from leadline.errors import CausalError
from leadline.models.partial import Whole, can_start_at, later_pass, whole_logits, whole_pass
from leadline.models.perplexity import has_plain_head, logits_of, n_vocab
from leadline.probes.probe import Probe
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.causal.plan import Bound
    from leadline.models.model import Model

__all__ = ["EditedPasses", "Logits", "Receiver"]

# What keys, values and streams of a chunk may take, and what the copies for one batch may.
_CHUNK_BYTES, _BATCH_BYTES = 1 << 30, 1 << 28
# Log-probabilities of a chunk's clean passes that receivers may keep, in numbers.
_CLEAN_LOGITS = 1 << 26


# Given entries of a batch (N,) and positions in their sequences (N,): logits (N, vocabulary).
Logits = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Receiver(Protocol):
    """Takes what passes give, chunk by chunk: first the clean passes of some sequences, then their edited ones."""

    def clean(self, sequences: np.ndarray, logits: Logits | None) -> None:
        """(S,) sequences without edits, a batch entry each; no logits where none are wanted."""
        ...

    def edited(self, plans: np.ndarray, sequences: np.ndarray, logits: Logits | None) -> None:
        """(B,) plans on (B,) sequences."""
        ...

    def read(self, name: str, plans: np.ndarray | None, sequences: np.ndarray, scores: np.ndarray) -> None:
        """(B,) a probe's scores; `plans` None for clean passes."""
        ...

    def normed(self, key: int, sequences: np.ndarray, norms: np.ndarray) -> None:
        """(S,) the mean norm of clean activations at what the plans of a key edit first."""
        ...


@dataclass(frozen=True, eq=False)
class _Reading:
    """A probe with where it reads each row."""

    name: str
    probe: Probe
    site: Site
    pool: str
    positions: list[np.ndarray]
    first: np.ndarray


class EditedPasses:
    """Runs bound plans on sequences.

    Parameters
    ----------
    model : a causal language model, or any model of text where no logits are wanted.
    bounds : V plans, bound to the model.
    keys : (V,) which plans edit the same tokens at the same first site.
    places : for each key, intervention of its plans and row the positions that are edited.
    sequences : what to run.
    first_sites : for each key the site of the first intervention of its plans.
    readings : by name, a probe and for each row the positions that it pools.
    behaviour : whether logits are wanted.
    batch_tokens : the most tokens of a pass, padding included.
    """

    def __init__(
        self,
        model: Model,
        bounds: Sequence[Bound],
        keys: np.ndarray,
        places: Sequence[Sequence[Sequence[np.ndarray]]],
        sequences: Sequence[Continued],
        *,
        first_sites: Sequence[Site | None],
        readings: Mapping[str, tuple[Probe, list[np.ndarray]]],
        behaviour: bool,
        batch_tokens: int,
    ) -> None:
        self.model, self.bounds, self.keys, self.places = model, tuple(bounds), keys, places
        self.sequences, self.behaviour, self.batch_tokens = sequences, behaviour, batch_tokens
        self.first_sites = first_sites
        self.readings = [_reading(name, probe, where) for name, (probe, where) in readings.items()]
        self.plain = not behaviour or has_plain_head(model)
        if not self.plain:
            # The logits of every token of a pass exist at once.
            self.batch_tokens = min(batch_tokens, max(1, _CLEAN_LOGITS // n_vocab(model.module)))
        patterns = any(reading.site.kind == "attn_pattern" for reading in self.readings)
        if patterns and behaviour:
            raise CausalError(
                "attention patterns cannot be read in the passes that give answers; read them in a call without "
                "answers, as in prompts(..., positive=(), negative=())."
            )
        # Patterns are summed up over all tokens of a row.
        self.whole_only = patterns or not self.plain
        self.share = not self.whole_only and model.can_share_prefixes
        self.starts = np.array([self._start(bound.sites) for bound in self.bounds], dtype=np.int64)
        self.first = [
            np.array([min(int(own[row][0]) for own in where) for row in range(len(where[0]))]) if where else np.empty(0)
            for where in places
        ]

    def _start(self, sites: Sequence[Site]) -> int:
        """The first block that passes of a plan run."""
        if self.whole_only or any(reading.site.kind == "module" for reading in self.readings):
            return 0
        start = min((block_of(site, self.model.n_layers) for site in sites), default=0)
        return start if can_start_at(self.model, start) else 0

    # ---- chunks

    def run(self, receiver: Receiver) -> Iterator[int]:
        """Run everything; yields how many passes of a plan on a sequence each step has done."""
        # Without answers, what comes by no reading changes nothing.
        live = [
            v
            for v, bound in enumerate(self.bounds)
            if len(bound.sites) and (self.behaviour or self._active(int(self.starts[v])))
        ]
        order = np.array(sorted(range(len(self.sequences)), key=lambda q: -len(self.sequences[q].ids)))
        starts = sorted({int(self.starts[v]) for v in live} - {0})
        at = 0
        while at < len(order):
            chunk = order[at : at + self._chunk_size(len(self.sequences[order[at]].ids), len(starts))]
            at += len(chunk)
            whole = self._clean(chunk, starts, receiver, self._shared(chunk, live))
            yield len(chunk) * (len(self.bounds) - len(live))
            for start in [0, *starts]:
                plans = np.array([v for v in live if self.starts[v] == start], dtype=np.int64)
                for some, entries, cut in self._batches(plans, chunk, start, whole):
                    self._edited(some, entries, cut, start, chunk, whole, receiver)
                    yield len(some)

    def _chunk_size(self, longest: int, n_starts: int) -> int:
        model = self.model
        size = model._weights.element_size()
        held = (model.cache_bytes_per_token if self.share else 0) + (n_starts + 1) * model.d_model * size
        tokens = min(self.batch_tokens, max(1, _CHUNK_BYTES // held))
        rows = _CLEAN_LOGITS // n_vocab(model.module) if self.behaviour else len(self.sequences)
        return max(1, min(tokens // longest, rows))

    def _padded(self, chunk: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([len(self.sequences[q].ids) for q in chunk])
        width = int(lengths.max())
        ids = torch.tensor([[*(own := self.sequences[q].ids), *[own[0]] * (width - len(own))] for q in chunk])
        return ids, torch.arange(width) < lengths[:, None]

    def _shared(self, chunk: np.ndarray, live: Sequence[int]) -> int:
        """How many first tokens are the same in all of a chunk and neither edited nor read, such as examples given."""
        if not self.share or not self.behaviour:
            return 0
        rows = np.array([self.sequences[q].row for q in chunk])
        bounds = [min(self.sequences[q].wanted for q in chunk), *(int(r.first[rows].min()) for r in self.readings)]
        bounds += [int(self.first[key][rows].min()) for key in {int(self.keys[v]) for v in live}]
        return beginning([self.sequences[q].ids for q in chunk], min(bounds))

    def _clean(self, chunk: np.ndarray, starts: list[int], receiver: Receiver, begins: int) -> Whole:
        ids, mask = self._padded(chunk)
        norms: dict[Site, np.ndarray] = {}

        def observe(site: Site, x: torch.Tensor) -> torch.Tensor:
            norms[site] = x.float().norm(dim=-1).cpu().numpy()
            return x

        wanted = {site for site in self.first_sites if site is not None}
        with ExitStack() as stack:
            if wanted:
                stack.enter_context(self.model.editing(in_order(wanted), observe))
            self._open(stack, self.readings, None, chunk, begins, receiver)
            if self.plain:
                whole = whole_pass(self.model, ids, mask, keep_cache=self.share, starts=starts, begins=begins)
                logits = self._from_hidden(whole.hidden, begins)
            else:
                whole = Whole(ids.to(self.model.device), mask.to(self.model.device), None, None)
                logits = _from_logits(whole_logits(self.model, ids, mask))
        if begins and not (whole.prefix is not None and whole.prefix.can_cut):
            # A sliding window has let go of tokens, so later passes are whole ones.
            return self._clean(chunk, starts, receiver, 0)
        rows = [self.sequences[q].row for q in chunk]
        for key, site in enumerate(self.first_sites):
            # Without answers a pass may end before the site, and a named module may have other positions.
            if site in norms and norms[site].shape == tuple(whole.mask.shape):
                own = [norms[site][b, self.places[key][0][row] - begins].mean() for b, row in enumerate(rows)]
                receiver.normed(key, chunk, np.array(own, dtype=np.float64))
        receiver.clean(chunk, logits if self.behaviour else None)
        return whole

    # ---- batches

    def _batches(
        self, plans: np.ndarray, chunk: np.ndarray, start: int, whole: Whole
    ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Batches of plans and entries of the chunk, plan by plan, with the token at which each batch begins."""
        if not len(plans):
            return
        rows = np.array([self.sequences[q].row for q in chunk])
        lengths = np.array([len(self.sequences[q].ids) for q in chunk])
        cuts = np.zeros((len(plans), len(chunk)), dtype=np.int64)
        # Without blocks nothing looks back, so no keys are needed.
        if self.share and whole.prefix is not None and (whole.prefix.can_cut or start == self.model.n_layers):
            least = np.array([self.sequences[q].wanted for q in chunk])
            for reading in self._active(start):
                least = np.minimum(least, reading.first[rows])
            for key in np.unique(self.keys[plans]):
                cuts[self.keys[plans] == key] = np.minimum(self.first[key][rows], least)
        own = self.model.cache_bytes_per_token * (self.model.n_layers - start) // self.model.n_layers
        for low, many in merged(cuts):
            which, entries = np.nonzero(many)
            at = 0
            while at < len(which):
                # All of them may be as long as the longest.
                width = int(lengths[entries[at:]].max()) - low
                size = max(1, min(self.batch_tokens // width, _BATCH_BYTES // max(1, low * own)))
                yield plans[which[at : at + size]], entries[at : at + size], low
                at += size

    def _edited(
        self,
        plans: np.ndarray,
        entries: np.ndarray,
        cut: int,
        start: int,
        chunk: np.ndarray,
        whole: Whole,
        receiver: Receiver,
    ) -> None:
        sequences = chunk[entries]
        rows = np.array([self.sequences[q].row for q in sequences])
        width = max(len(self.sequences[q].ids) for q in sequences) - cut
        bounds = np.flatnonzero(np.diff(plans, prepend=-1, append=-1))
        slices = [
            (int(a), int(b), int(plans[a]), self._where(int(plans[a]), rows[a:b], cut), self._long(rows[a:b]))
            for a, b in pairwise(bounds)
        ]

        def edit(site: Site, x: torch.Tensor) -> torch.Tensor:
            pieces = [
                self.bounds[v].edit_checked(site, x[a:b], where, ids) if site in self.bounds[v].sites else x[a:b]
                for a, b, v, where, ids in slices
            ]
            return pieces[0] if len(pieces) == 1 else torch.cat([piece.to(x.dtype) for piece in pieces])

        sites = {site for _, _, v, _, _ in slices for site in self.bounds[v].sites}
        index = torch.from_numpy(entries)
        with ExitStack() as stack:
            stack.enter_context(self.model.editing(in_order(sites), edit))
            self._open(stack, self._active(start), plans, sequences, cut, receiver)
            if self.plain:
                hidden = later_pass(self.model, whole, index, cut=cut, width=width, start=start)
                logits = self._from_hidden(hidden, cut)
            else:
                index = index.to(whole.ids.device)
                logits = _from_logits(whole_logits(self.model, whole.ids[index], whole.mask[index]))
        receiver.edited(plans, sequences, logits if self.behaviour else None)

    def _where(self, plan: int, rows: np.ndarray, cut: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each intervention of a plan the entries and positions in a slice of a batch that it edits."""
        found = []
        for own in self.places[int(self.keys[plan])]:
            positions = [own[row] for row in rows]
            entries = np.repeat(np.arange(len(rows)), [len(p) for p in positions])
            found.append((self._long(entries), self._long(np.concatenate(positions) - cut)))
        return found

    def _long(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self.model.device)

    # ---- readings and logits

    def _active(self, start: int) -> list[_Reading]:
        """The readings that passes from a block come by; those before it are as in the clean pass."""
        n_layers = self.model.n_layers
        return [r for r in self.readings if not start or block_of(r.site, n_layers) >= start]

    def _open(
        self,
        stack: ExitStack,
        readings: Sequence[_Reading],
        plans: np.ndarray | None,
        sequences: np.ndarray,
        cut: int,
        receiver: Receiver,
    ) -> None:
        rows = [self.sequences[q].row for q in sequences]

        def take(reading: _Reading, x: torch.Tensor) -> None:
            where = [reading.positions[row] - cut for row in rows]
            pooled = pool_positions(reading.pool, np.arange(len(rows)), where, x.device)(x)
            scores = reading.probe.score(pooled.float().cpu().numpy())
            receiver.read(reading.name, plans, sequences, scores)

        def receive(site: Site, x: torch.Tensor) -> None:
            for reading in readings:
                if reading.site == site:
                    take(reading, x)

        def observe(site: Site, x: torch.Tensor) -> torch.Tensor:
            receive(site, x)
            return x

        sites = in_order({reading.site for reading in readings})
        if sites and self.behaviour:
            # A reading would end the pass.
            stack.enter_context(self.model.editing(sites, observe))
        elif sites:
            stack.enter_context(self.model.reading(sites, receive))

    def _from_hidden(self, hidden: torch.Tensor | None, cut: int) -> Logits:
        def logits(entries: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            assert hidden is not None
            with torch.inference_mode():
                return logits_of(
                    self.model.module, hidden[entries.to(hidden.device), positions.to(hidden.device) - cut]
                )

        return logits


def _from_logits(whole: torch.Tensor) -> Logits:
    return lambda entries, positions: whole[entries.to(whole.device), positions.to(whole.device)]


def _reading(name: str, probe: Probe, positions: list[np.ndarray]) -> _Reading:
    assert probe.site is not None
    pool = Selection.parse(probe.tokens).pool
    return _Reading(name, probe, probe.site, pool, positions, np.array([int(own[0]) for own in positions]))
