"""Passes that begin in the middle: at a later token, and at a later block, from what a whole pass has left.

Many edited passes over the same rows share all that comes before the first edit. One whole pass keeps the keys and
values of every token and the residual stream that leaves a few blocks; a later pass takes the keys and values of the
tokens before its first, and has the blocks before its first hand on the kept stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from leadline.errors import ModelError
from leadline.models.hooks import evaluating
from leadline.models.ports import _stream_of

if TYPE_CHECKING:
    from leadline.models.model import Model
    from leadline.models.part import Part
    from leadline.models.prefix import Prefix

__all__ = ["Whole", "can_start_at", "later_pass", "whole_logits", "whole_pass"]

# How far a pass from the middle may be from a whole one, relative.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.1
# What a model raises whose blocks or cache are not as they are taken to be here.
_UNFIT = (AttributeError, TypeError, ValueError, RuntimeError, KeyError, IndexError)


@dataclass(frozen=True, eq=False)
class Whole:
    """What a pass over whole rows, padded on the right, leaves for later ones.

    Parameters
    ----------
    ids, mask : (batch, seq) what it was made of; the mask as truth values.
    begins : how many tokens of each row stand before these, the same in all of them and computed once.
    hidden : (batch, seq, d_model) the final hidden state; None where the pass ended early.
    prefix : the keys and values of all tokens, padding among them; None where none are kept.
    streams : by the number s of blocks before it the stream (batch, seq, d_model) that enters block s.
    forms : by s how block s − 1 returns a stream.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    hidden: torch.Tensor | None
    prefix: Prefix | None
    streams: dict[int, torch.Tensor] = field(default_factory=dict)
    forms: dict[int, Callable[[torch.Tensor], Any]] = field(default_factory=dict)
    begins: int = 0


def whole_pass(
    model: Model,
    ids: torch.Tensor,
    mask: torch.Tensor,
    *,
    keep_cache: bool = False,
    starts: Iterable[int] = (),
    begins: int = 0,
) -> Whole:
    """Make a pass over whole rows, serving the open readings and edits.

    Parameters
    ----------
    ids : (batch, seq) token ids, padded on the right with any token. mask : (batch, seq) truth values.
    keep_cache : keep keys and values; for models whose `can_share_prefixes`.
    starts : the blocks at which later passes will begin, 1 … n_layers; the stream before each is kept.
    begins : so many first tokens are the same in all rows, and later passes begin after them: they are computed once,
        apart from open readings and edits, which see what follows. With `keep_cache`.
    """
    streams: dict[int, torch.Tensor] = {}
    forms: dict[int, Callable[[torch.Tensor], Any]] = {}

    def keep(start: int) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            forms[start] = _form(output)
            streams[start] = (output if isinstance(output, torch.Tensor) else output[0]).clone()

        return hook

    # With padding to their right alone, rows that see nothing to their right need no mask.
    ids = torch.where(mask, ids, ids[:, :1]).to(model.device)
    context = None
    if begins:
        with model._hooks.apart():
            context = model.prefix(ids[:1, :begins])
        ids, mask = ids[:, begins:], mask[:, begins:]
    with ExitStack() as stack:
        for start in starts:
            # Before a reading there, which may end the pass.
            handle = model.part.blocks[start - 1].register_forward_hook(keep(start), prepend=True)
            stack.callback(handle.remove)
        if keep_cache:
            hidden, prefix = model.prefix_and_hidden(ids, after=context)
        else:
            hidden, prefix = model.forward(ids, mask.long()), None
    return Whole(ids, mask.to(model.device), hidden, prefix, streams, forms, begins)


def later_pass(
    model: Model, whole: Whole, rows: torch.Tensor, *, cut: int = 0, width: int | None = None, start: int = 0
) -> torch.Tensor | None:
    """Make a pass over some of the rows of a whole pass, from a token and a block on, serving readings and edits.

    Sites in blocks before `start` are passed by with nothing in them; the last of these blocks hands on the kept
    stream, so that its `resid_post` can be read and edited.

    Parameters
    ----------
    rows : (batch,) which rows; any of them several times.
    cut : the first token, no earlier than the whole pass begins. width : how many tokens; None for all that follow.
    start : the first block that is run; n_layers for none.

    Returns
    -------
    The final hidden state (batch, width, d_model), or None if the pass ended early.

    Raises
    ------
    ModelError : it begins at a later token, and the keys and values of those before are not there.
    """
    rows = rows.to(whole.ids.device)
    first = cut - whole.begins
    some = slice(first, None if width is None else first + width)
    ids, mask = whole.ids[rows, some], whole.mask[rows, some]
    with ExitStack() as stack:
        if start:
            stream = whole.streams[start][rows, some]
            stack.enter_context(_skipping(model.part, start, stream, whole.forms[start]))
        if not cut or start == model.n_layers:
            # Without blocks nothing looks back.
            return model.forward(ids, mask.long())
        if whole.prefix is None or not whole.prefix.can_cut:
            raise ModelError(
                f"the whole pass kept no keys and values from which '{model.name}' could go on at token {cut}; begin "
                f"at token 0, or keep them (keep_cache), where no sliding window lets go of them."
            )
        return model.forward(ids, mask.long(), after=whole.prefix.cut(cut, start), rows=rows)


@contextmanager
def _skipping(part: Part, start: int, stream: torch.Tensor, form: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    """Let the blocks before `start` hand on what they get, and the last of them the given stream."""
    skipped: list[Any] = list(part.blocks[:start])

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        return form(_stream_of(args, kwargs)[1])

    try:
        for block in skipped[:-1]:
            block.forward = hand_on
        skipped[-1].forward = lambda *_, **__: form(stream)
        yield
    finally:
        for block in skipped:
            # The class's own is found again.
            block.__dict__.pop("forward", None)


def _form(output: Any) -> Callable[[torch.Tensor], Any]:
    """How a block returns a stream: by itself, or first of a tuple, whose other entries (weights) may be None."""
    if isinstance(output, torch.Tensor):
        return lambda x: x
    others = (None,) * (len(output) - 1)
    return lambda x: (x, *others)


def can_start_at(model: Model, start: int) -> bool:
    """Whether later passes can begin at a block; tried out on random tokens when first asked.

    The trial compares the final hidden state of a whole pass with that of passes that begin at the block, with and
    without tokens before them, in which the rows stand in another order.
    """
    if not start:
        return True
    if not model.parts or model.part.row.part or len(model.parts) > 1 or "forward" in model.part.blocks[0].__dict__:
        return False
    key = (start, model.dtype)
    known: dict[tuple[int, torch.dtype], bool] = model.__dict__.setdefault("_partial", {})
    if key not in known:
        try:
            with model._hooks.apart():
                known[key] = _tried(model, start)
        except _UNFIT:
            known[key] = False
    return known[key]


def _tried(model: Model, start: int) -> bool:
    ids = torch.randint(min(model._n_embeddings or 1, 1000), (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    share = model.can_share_prefixes
    whole = whole_pass(model, ids, mask, keep_cache=share, starts=[start])
    rows = torch.tensor([1, 0, 1], device=model.device)
    assert whole.hidden is not None
    tolerance = _TOLERANCE if model.dtype == torch.float32 else _HALF_TOLERANCE
    for cut in (0, 5) if share and whole.prefix is not None and whole.prefix.can_cut else (0,):
        found = later_pass(model, whole, rows, cut=cut, start=start)
        expected = whole.hidden[rows, cut:].double()
        if found is None or found.shape != expected.shape:
            return False
        error = (found.double() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-30)
        if not float(error.max()) <= tolerance:
            return False
    return True


def whole_logits(model: Model, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(batch, seq, vocabulary) by the module's own call, for models whose forward cannot be entered behind the trunk.

    Rows are padded on the right; serves open edits and readings.
    """
    with torch.inference_mode(), evaluating(model.module):
        ids = torch.where(mask, ids, ids[:, :1]).to(model.device)
        return torch.as_tensor(model.module(input_ids=ids, use_cache=False).logits)
