"""The proof at load: does the model do what its row of the architecture table says?

One pass over random tokens, then every block again by itself in float32, upcast one at a time so that the proof of a
large bfloat16 model costs the memory of one float32 block. A row that is wrong here would give wrong tensors under
right names for ever after; so a model that fails is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from leadline.errors import ArchitectureError, ModelError
from leadline.models.architectures import Architecture
from leadline.models.hooks import evaluating, find_module, listen

__all__ = ["TOLERANCE", "Proof", "prove"]

TOLERANCE = 1e-3
# A float32 sum is off by some 1e-8 of the stream. Beside a branch that is small against the stream that is a large
# share, so a thousandth of the stream counts too: rounding then stays below 1e-4, and a branch that is left out is
# still found if it is larger than a millionth of the stream.
_STREAM_SHARE = 1e-3
_BATCH, _LENGTH = 2, 8


@dataclass(frozen=True)
class Proof:
    """What was found true of a model at load.

    Parameters
    ----------
    equation : the residual equation, as in `"resid_post = resid_pre + attn_out + mlp_out"`.
    error : the largest deviation over all blocks and tokens: the norm of (left side minus right side), over the norm
        of the smallest term plus a thousandth of that of the largest.
    tolerance : what the error had to stay within.
    n_blocks : how many blocks it was proved for.
    cross_checked : transformers' own `hidden_states` were there to compare with, and agreed.
    """

    equation: str
    error: float
    tolerance: float
    n_blocks: int
    cross_checked: bool


def prove(trunk: nn.Module, architecture: Architecture) -> Proof:
    """Prove an architecture's row on a model's own weights.

    Proved are, at every block, the residual equation in float32; that what leaves a block enters the next one and
    the last one's output the final norm; that `embed`, `resid_post` and `final_norm` are the `hidden_states` of
    transformers, where it gives them (its entry for the last block stands after the final norm, and is skipped);
    and that nothing is infinite or NaN.

    Raises
    ------
    ArchitectureError : a module of the row is not there, or an equation does not hold; says which, where, by how much.
    ModelError : an activation is not finite.
    """
    blocks = find_module(trunk, architecture.blocks)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise ArchitectureError(
            f"'{architecture.blocks}' of {type(trunk).__name__} holds no list of blocks, as its row "
            f"'{architecture.name}' says it does."
        )
    with torch.inference_mode(), evaluating(trunk):
        run = _run(trunk, architecture, blocks)
        n = len(blocks)
        for layer in range(n):
            _finite(run.enters[layer], f"resid_pre.{layer}")
            _finite(run.leaves[layer], f"resid_post.{layer}")
        _finite(run.final_norm, "final_norm")
        for layer in range(n - 1):
            _same(run.leaves[layer], run.enters[layer + 1], f"resid_post.{layer} = resid_pre.{layer + 1}", architecture)
        _same(run.leaves[-1], run.enters_norm, f"resid_post.{n - 1} = the input of the final norm", architecture)
        _same(run.final_norm, run.last_hidden_state, "final_norm = the trunk's last hidden state", architecture)
        if run.hidden_states is not None:
            if len(run.hidden_states) != n + 1:
                raise _refused(
                    architecture,
                    f"transformers gives {len(run.hidden_states)} hidden_states for {n} blocks, not {n + 1}",
                )
            ours = [("embed", run.enters[0])]
            ours += [(f"resid_post.{layer}", run.leaves[layer]) for layer in range(n - 1)]
            ours += [("final_norm", run.final_norm)]
            for i, (name, tensor) in enumerate(ours):
                _same(tensor, run.hidden_states[i], f"{name} = hidden_states[{i}]", architecture)
        error = max(_prove_block(block, layer, run, architecture) for layer, block in enumerate(blocks))
    return Proof(architecture.equation.text, error, TOLERANCE, n, run.hidden_states is not None)


@dataclass
class _Run:
    """What one pass over random tokens showed; tensors are (batch, seq, d_model) in the model's own dtype."""

    enters: list[torch.Tensor]
    leaves: list[torch.Tensor]
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]]
    enters_norm: torch.Tensor
    final_norm: torch.Tensor
    last_hidden_state: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None


def _run(trunk: nn.Module, architecture: Architecture, blocks: nn.ModuleList) -> _Run:
    embeddings = trunk.get_input_embeddings()  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(embeddings.weight.shape[0], (_BATCH, _LENGTH), generator=generator)
    found: dict[str, torch.Tensor] = {}
    arguments: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def keep(name: str) -> Callable[[torch.Tensor], None]:
        # A later block may write into what an earlier one gave; the copy is small.
        return lambda tensor: found.__setitem__(name, tensor.clone())

    def keep_arguments(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            arguments[layer] = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, (args, kwargs))

        return hook

    with ExitStack() as stack:
        for layer, block in enumerate(blocks):
            stack.callback(listen(block, "input", keep(f"enters.{layer}")).remove)
            stack.callback(listen(block, "output", keep(f"leaves.{layer}")).remove)
            stack.callback(block.register_forward_pre_hook(keep_arguments(layer), with_kwargs=True).remove)
        norm = find_module(trunk, architecture.final_norm)
        stack.callback(listen(norm, "input", keep("enters_norm")).remove)
        stack.callback(listen(norm, "output", keep("final_norm")).remove)
        # transformers hangs its own hooks on the blocks to answer output_hidden_states, once, and keeps them; they do
        # nothing in a pass that does not ask for it.
        output = trunk(
            input_ids=ids.to(embeddings.weight.device), use_cache=False, output_hidden_states=True, return_dict=True
        )
    wanted = [f"{end}.{layer}" for layer in range(len(blocks)) for end in ("enters", "leaves")]
    missed = [name for name in (*wanted, "enters_norm", "final_norm") if name not in found]
    if missed:
        raise _refused(architecture, f"in a whole pass these never ran: {', '.join(missed)}")
    n = len(blocks)
    return _Run(
        enters=[found[f"enters.{layer}"] for layer in range(n)],
        leaves=[found[f"leaves.{layer}"] for layer in range(n)],
        arguments=[arguments[layer] for layer in range(n)],
        enters_norm=found["enters_norm"],
        final_norm=found["final_norm"],
        last_hidden_state=output.last_hidden_state,
        hidden_states=getattr(output, "hidden_states", None),
    )


def _prove_block(block: nn.Module, layer: int, run: _Run, architecture: Architecture) -> float:
    """Run one block by itself in float32 and return the error of its residual equation."""
    weights = {
        name: tensor.float()
        for name, tensor in (*block.named_parameters(), *block.named_buffers())
        if tensor.is_floating_point()
    }
    args, kwargs = pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, run.arguments[layer]
    )
    found: dict[str, torch.Tensor] = {}

    def keep(kind: str) -> Callable[[torch.Tensor], None]:
        return lambda tensor: found.__setitem__(kind, tensor.to("cpu", torch.float64))

    with ExitStack() as stack:
        for kind, tap in architecture.block_taps.items():
            stack.callback(listen(find_module(block, tap.path), tap.end, keep(kind)).remove)
        functional_call(block, weights, args, kwargs)
    worst = 0.0
    for whole, terms in architecture.equation.sums:
        missed = [kind for kind in (whole, *terms) if kind not in found]
        if missed:
            raise _refused(architecture, f"block {layer} ran without its {', '.join(missed)}")
        for kind in (whole, *terms):
            _finite(found[kind], f"{kind}.{layer}")
        equation = f"{whole}.{layer} = {' + '.join(f'{kind}.{layer}' for kind in terms)}"
        shapes = {tuple(found[kind].shape) for kind in (whole, *terms)}
        if len(shapes) > 1:
            raise _refused(architecture, f"{equation} cannot hold: the shapes are {sorted(shapes)}")
        left, right = found[whole], sum(found[kind] for kind in terms)
        norms = torch.stack([found[kind].norm(dim=-1) for kind in (whole, *terms)])
        scale = norms.amin(0) + _STREAM_SHARE * norms.amax(0)
        error = float(((left - right).norm(dim=-1) / scale.clamp(min=torch.finfo(torch.float32).tiny)).max())
        if not error <= TOLERANCE:
            raise _refused(architecture, f"{equation} is off by {error:.2g} of the smallest term")
        worst = max(worst, error)
    if run.leaves[layer].dtype is torch.float32:
        # In the same precision, what was proved of the block by itself must be what it does in a whole pass.
        equation = f"resid_post.{layer} in a whole pass = resid_post.{layer} of the block by itself"
        _same(run.leaves[layer], found["resid_post"], equation, architecture)
    return worst


def _finite(tensor: torch.Tensor, name: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(
            f"the model's activations at {name} are not finite on random tokens. If it runs in float16, give "
            f"dtype='bfloat16' or 'float32'; else its weights are damaged: get them again."
        )


def _same(ours: torch.Tensor, theirs: torch.Tensor, equation: str, architecture: Architecture) -> None:
    if ours.shape != theirs.shape:
        raise _refused(architecture, f"{equation} cannot hold: shapes {tuple(ours.shape)} and {tuple(theirs.shape)}")
    a, b = ours.to("cpu", torch.float64), theirs.to("cpu", torch.float64)
    scale = b.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    error = float(((a - b).norm(dim=-1) / scale).max())
    if not error <= TOLERANCE:
        raise _refused(architecture, f"{equation} is off by {error:.2g}")


def _refused(architecture: Architecture, what: str) -> ArchitectureError:
    return ArchitectureError(
        f"the model is not what the row '{architecture.name}' of the architecture table says, so its sites cannot be "
        f"trusted and it is refused: {what} (relative, tolerance {TOLERANCE:g}; expected {architecture.equation.text})."
        f" Its code was changed, or this version of transformers builds it in another way."
    )
