"""Which tokens a plan edits in the pass under way, told by what the model is called with: ids, mask and cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.causal.places import covers_all, covers_generated, positions_of
from leadline.causal.plan import Bound, Where
from leadline.errors import ActivationsError, CausalError
from leadline.models.encoded import Encoded
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["UnderWay"]


class UnderWay:
    """Follows the passes of a model and edits them by a plan.

    A generated token costs a look at the cache's length and the edit itself; positions are worked out in the first pass
    of a prompt alone.

    Parameters
    ----------
    bound : the plan on the model.
    rows : the encoded rows of each batch; None tells tokens by position alone.
    spans : (batch, 2) their character ranges, for selections `span:NAME`.
    ids : (batch,) which of the plan's rows each is; None where the batch holds them in order.
    """

    def __init__(
        self,
        bound: Bound,
        model: Model,
        rows: Sequence[Encoded] | None = None,
        spans: np.ndarray | None = None,
        ids: np.ndarray | None = None,
    ) -> None:
        self.bound = bound
        self._model, self._rows, self._spans, self._given = model, rows, spans, ids
        self._root, self._stack = _modules(bound, model)
        self._decoder = bound.part is not None and bound.part.row.part == "decoder"
        self._whole = [covers_all(one.tokens) and not one.ordered for one in bound.interventions]
        nowhere = torch.empty(0, dtype=torch.long, device=model.device)
        self._steps: list[Where] = [
            None if covers_generated(one.tokens) and not one.ordered else (nowhere, nowhere)
            for one in bound.interventions
        ]
        self._stepping = {
            site: any(
                step is None for step, one in zip(self._steps, bound.interventions, strict=True) if one.site == site
            )
            for site in bound.sites
        }
        self._where: list[Where] | None = None
        self._ids: torch.Tensor | None = None
        self._arguments: tuple[tuple[Any, ...], Mapping[str, Any]] = ((), {})
        self._past = 0
        # The root has been called, and the stack of blocks within it not yet.
        self._from_root = self._pending = False

    @contextmanager
    def following(self) -> Iterator[None]:
        """Be told of each pass in the body, before it."""
        handles = [m.register_forward_pre_hook(self._begin, with_kwargs=True) for m in {self._root, self._stack}]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A pass begins: before the root, whose arguments say most, or before the blocks where it is left out."""
        if module is not self._root and self._pending:
            self._pending = False
            return
        self._from_root = module is self._root
        self._pending = self._from_root and self._stack is not self._root
        self._past = _length(kwargs)
        # Positions wait for the activations, whose shape says how many there are.
        self._where, self._arguments = None, (args, kwargs)

    def edit(self, site: Site, x: torch.Tensor) -> torch.Tensor:
        """Make the plan's interventions in a site's activations (batch, seq, d)."""
        if self._past and x.shape[1] == 1:
            if not self._stepping[site]:
                return x
            if self._ids is None or len(self._ids) != len(x):
                self._ids = self._entries(len(x))
            return self.bound.edit_checked(site, x, self._steps, self._ids)
        if self._where is None:
            self._ids = self._entries(len(x))
            self._where = self._find(x.shape[0], x.shape[1])
        assert self._ids is not None
        return self.bound.edit_checked(site, x, self._where, self._ids)

    def _entries(self, n: int) -> torch.Tensor:
        """(n,) which of the plan's rows each entry of a batch is."""
        if self._given is None:
            self.bound.check_rows(n)
            return torch.arange(n, device=self._model.device)
        if len(self._given) != n:
            raise CausalError(f"a batch of {len(self._given)} rows is run as {n}; generate without beams.")
        return torch.from_numpy(self._given.astype(np.int64)).to(self._model.device)

    def _find(self, n: int, seq: int) -> list[Where]:
        """What each intervention edits in the first pass of a prompt."""
        args, kwargs = self._arguments
        self._arguments = ((), {})
        if all(self._whole):
            return [None] * len(self._whole)
        if self._past:
            raise CausalError(
                f"a pass goes on from a cache of {self._past} tokens with {seq} more a row, and a selection other than "
                f"'all' cannot be told in a part of a row; run the rows whole, or select 'all'."
            )
        real = [np.flatnonzero(row) for row in self._mask(kwargs, n, seq)]
        rows = self._match(real, None if self._decoder else _token_ids(args, kwargs))
        found: list[Where] = []
        for j, one in enumerate(self.bound.interventions):
            if self._whole[j]:
                found.append(None)
                continue
            where = [real[i][self._positions(one.tokens, row, i)] for i, row in enumerate(rows)]
            entries = np.repeat(np.arange(n), [len(own) for own in where])
            found.append((self._long(entries), self._long(np.concatenate(where))))
        return found

    def _positions(self, tokens: str, row: Encoded, i: int) -> np.ndarray:
        span = None if self._spans is None else (int(self._spans[i][0]), int(self._spans[i][1]))
        try:
            return positions_of(tokens, row, span)
        except ActivationsError as error:
            raise ActivationsError(f"row {i}: {error}") from error

    def _mask(self, kwargs: Mapping[str, Any], n: int, seq: int) -> np.ndarray:
        """(n, seq) truth values: where the rows of the pass have real tokens."""
        mask = self._model.pass_mask
        if mask is None:
            mask = kwargs.get("decoder_attention_mask" if self._decoder and self._from_root else "attention_mask")
        if mask is None:
            return np.ones((n, seq), dtype=bool)
        if not isinstance(mask, torch.Tensor) or tuple(mask.shape) != (n, seq):
            shape = tuple(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
            raise CausalError(
                f"the attention mask of the pass is {shape}, where activations are ({n}, {seq}): which tokens are real "
                f"cannot be told; give a mask (batch, seq), or select 'all'."
            )
        return np.asarray(mask.bool().cpu().numpy())

    def _match(self, real: Sequence[np.ndarray], ids: torch.Tensor | None) -> list[Encoded]:
        """A row for each entry of the batch, checked to be the one that is run."""
        if self._rows is None:
            return [Encoded(length=len(at)) for at in real]
        if len(self._rows) != len(real):
            raise CausalError(
                f"inputs= holds {len(self._rows)} rows, but {len(real)} are run; give those of the batch, in its order "
                f"(a search with beams repeats each)."
            )
        known = None if ids is None else ids.cpu().numpy()
        for i, (row, at) in enumerate(zip(self._rows, real, strict=True)):
            if row.length != len(at) or (known is not None and row.ids and list(known[i][at]) != list(row.ids)):
                raise CausalError(
                    f"row {i} of inputs= is not what is run: it has {row.length} tokens, the batch's row {len(at)}, or "
                    f"other ids. Give the same texts, encoded the same way (a chat with its generation prompt)."
                )
        return list(self._rows)

    def _long(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._model.device)


def _modules(bound: Bound, model: Model) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The root of the part, and the module in it that runs the blocks, which some heads call by itself."""
    if bound.part is None:
        return model.module, model.module
    path, _, _ = bound.part.row.blocks.rpartition(".")
    return bound.part.root, bound.part.root.get_submodule(path)


def _length(kwargs: Mapping[str, Any]) -> int:
    """How many tokens of each row were run before; of a state that keeps no count 1 for some."""
    cache = kwargs.get("past_key_values")
    if cache is None:
        cache = kwargs.get("cache_params")
    if cache is None:
        return 0
    try:
        return int(cache.get_seq_length())
    except ValueError:
        # Recurrent states alone.
        return int(bool(cache.has_previous_state()))


def _token_ids(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    ids = kwargs.get("input_ids", args[0] if args else None)
    return ids if isinstance(ids, torch.Tensor) and not ids.is_floating_point() else None
