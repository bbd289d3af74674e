"""The proof at load: does the model do what its row of the architecture table says?

One pass over random input, then every block again by itself in float32, upcast one at a time so that the proof of a
large bfloat16 model costs the memory of one float32 block. A row that is wrong here would give wrong tensors under
right names for ever after; so a model that fails is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from leadline.errors import ArchitectureError, ModelError
from leadline.models.examples import example
from leadline.models.hooks import evaluating, find_module
from leadline.models.part import Part
from leadline.models.ports import Port
from leadline.models.row import Architecture, Sum

__all__ = ["TOLERANCE", "Proof", "prove"]

TOLERANCE = 1e-3
# A float32 sum is off by some 1e-8 of the stream. Beside a branch that is small against the stream that is a large
# share, so a thousandth of the stream counts too: rounding then stays below 1e-4, and a branch that is left out is
# still found if it is larger than a millionth of the stream.
_STREAM_SHARE = 1e-3


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


def prove(part: Part, config: Any) -> Proof:
    """Prove a part's row on the model's own weights.

    Proved are, at every block, the residual equation in float32; that the heads' and the neurons' contributions, with
    their projection's bias, are what attention and the MLP give; that what leaves a block enters the next one and the
    last one's output the final norm; that `embed`, `resid_post` and `final_norm` are the `hidden_states` of
    transformers, where it gives them (its entry for the last block may stand after the final norm, and is skipped);
    and that nothing is infinite or NaN.

    Raises
    ------
    ArchitectureError : an equation does not hold; says which, where, by how much.
    ModelError : an activation is not finite.
    """
    row = part.row
    with torch.inference_mode(), evaluating(part.root):
        run = _run(part, config)
        n = part.n_layers
        for layer in range(n):
            _finite(run.enters[layer], f"resid_pre.{layer}")
            _finite(run.leaves[layer], f"resid_post.{layer}")
        for layer in range(n - 1):
            _same(run.leaves[layer], run.enters[layer + 1], f"resid_post.{layer} = resid_pre.{layer + 1}", row)
        last = f"resid_post.{n - 1}"
        if run.final_norm is not None and run.enters_norm is not None:
            _finite(run.final_norm, "final_norm")
            _same(run.leaves[-1], run.enters_norm, f"{last} = the input of the final norm", row)
            _same(run.final_norm, run.last_hidden_state, "final_norm = the trunk's last hidden state", row)
        elif run.last_hidden_state.shape == run.leaves[-1].shape:
            _same(run.leaves[-1], run.last_hidden_state, f"{last} = the trunk's last hidden state", row)
        if run.hidden_states is not None:
            _cross_check(run, row)
        error = max(_prove_block(part, layer, run) for layer in range(n))
    return Proof(row.equation.text, error, TOLERANCE, n, run.hidden_states is not None)


@dataclass
class _Run:
    """What one pass over random input showed; tensors are (batch, seq, d_model) in the model's own dtype."""

    enters: list[torch.Tensor]
    leaves: list[torch.Tensor]
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]]
    enters_norm: torch.Tensor | None
    final_norm: torch.Tensor | None
    last_hidden_state: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None


def _run(part: Part, config: Any) -> _Run:
    row, n = part.row, part.n_layers
    found: dict[str, torch.Tensor] = {}
    arguments: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def keep(name: str) -> Callable[[torch.Tensor], None]:
        # A later block may write into what an earlier one gave; the copy is small.
        return lambda tensor: found.__setitem__(name, tensor.clone())

    def keep_arguments(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            arguments[layer] = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, (args, kwargs))

        return hook

    wanted = [f"{end}.{layer}" for layer in range(n) for end in ("enters", "leaves")]
    with ExitStack() as stack:

        def open_(port: Port, name: str) -> None:
            for handle in port.open(keep(name)):
                stack.callback(handle.remove)

        for layer, block in enumerate(part.blocks):
            open_(Port(block, "input"), f"enters.{layer}")
            open_(Port(block, "output"), f"leaves.{layer}")
            stack.callback(block.register_forward_pre_hook(keep_arguments(layer), with_kwargs=True).remove)
        if row.final_norm:
            norm = find_module(part.root, row.final_norm)
            open_(Port(norm, "input"), "enters_norm")
            open_(Port(norm, "output"), "final_norm")
            wanted += ["enters_norm", "final_norm"]
        # transformers hangs its own hooks on the blocks to answer output_hidden_states, once, and keeps them; they do
        # nothing in a pass that does not ask for it.
        output = part.root(**example(part, config), **_plain(row), output_hidden_states=True, return_dict=True)
    missed = [name for name in wanted if name not in found]
    if missed:
        raise _refused(row, f"in a whole pass these never ran: {', '.join(missed)}")
    key = "decoder_hidden_states" if row.part == "decoder" else "hidden_states"
    states: tuple[torch.Tensor, ...] | None = getattr(output, key, None)
    return _Run(
        enters=[found[f"enters.{layer}"] for layer in range(n)],
        leaves=[found[f"leaves.{layer}"] for layer in range(n)],
        arguments=[arguments[layer] for layer in range(n)],
        enters_norm=found.get("enters_norm"),
        final_norm=found.get("final_norm"),
        last_hidden_state=_last_hidden_state(output, states),
        hidden_states=states if row.hidden_states else None,
    )


def _last_hidden_state(output: Any, states: Sequence[torch.Tensor] | None) -> torch.Tensor:
    """T5 with its head gives none of its own name."""
    found = getattr(output, "last_hidden_state", None)
    if found is None and states:
        found = states[-1]
    if found is None:
        raise ArchitectureError(f"{type(output).__name__} holds no last hidden state, so the model cannot be proved.")
    return torch.as_tensor(found)


def _plain(row: Architecture) -> dict[str, Any]:
    """No cache: nothing goes on from the pass."""
    return {"use_cache": False} if row.causal or row.part == "decoder" else {}


def _cross_check(run: _Run, row: Architecture) -> None:
    n, states = len(run.enters), run.hidden_states or ()
    if len(states) != n + 1:
        raise _refused(row, f"transformers gives {len(states)} hidden_states for {n} blocks, not {n + 1}")
    ours = [("embed", run.enters[0])]
    ours += [(f"resid_post.{layer}", run.leaves[layer]) for layer in range(n - 1)]
    if run.final_norm is None:
        # OPT-350m takes its last state to another width.
        same = states[-1].shape == run.leaves[-1].shape
        ours += [(f"resid_post.{n - 1}", run.leaves[-1])] if same else []
    elif row.normed_last:
        ours += [("final_norm", run.final_norm)]
    for i, (name, tensor) in enumerate(ours):
        _same(tensor, states[i], f"{name} = hidden_states[{i}]", row)


def _prove_block(part: Part, layer: int, run: _Run) -> float:
    """Run one block by itself in float32 and return the error of its residual equation."""
    row, block = part.row, part.blocks[layer]
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
        for kind, port in part.block_ports(layer).items():
            if port.pattern:
                continue
            for handle in port.open(keep(kind)):
                stack.callback(handle.remove)
            if kind in ("head_out", "mlp_hidden"):
                # What the projection makes of it.
                given = Port(port.module, "output", block=port.block)
                for handle in given.open(keep(f"projected {kind}")):
                    stack.callback(handle.remove)
        for kind in ("attn_out", "mlp_out"):
            if kind in part.block_ports(layer):
                before = Port(part.block_ports(layer)[kind].module, "input")
                for handle in _open_if_stream(before, keep(f"before {kind}")):
                    stack.callback(handle.remove)
        functional_call(block, weights, args, kwargs)
    worst = max(_prove_sum(one, layer, found, block, weights, row) for one in row.equation.sums)
    for kind, whole in (("head_out", "attn_out"), ("mlp_hidden", "mlp_out")):
        if f"projected {kind}" in found:
            scale = part.block_ports(layer)[whole].scale if whole in part.block_ports(layer) else 1.0
            _prove_projection(kind, whole, scale, layer, found, row)
    if run.leaves[layer].dtype is torch.float32:
        # In the same precision, what was proved of the block by itself must be what it does in a whole pass.
        equation = f"resid_post.{layer} in a whole pass = resid_post.{layer} of the block by itself"
        _same(run.leaves[layer], found["resid_post"], equation, row)
    return worst


def _open_if_stream(port: Port, take: Callable[[torch.Tensor], None]) -> list[Any]:
    """Listen to a module's first argument, if it is a tensor."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args and isinstance(args[0], torch.Tensor):
            take(args[0])

    return [port.module.register_forward_pre_hook(hook, with_kwargs=True)]


def _prove_sum(
    one: Sum,
    layer: int,
    found: dict[str, torch.Tensor],
    block: nn.Module,
    weights: dict[str, torch.Tensor],
    row: Architecture,
) -> float:
    """The error of one line of the equation."""
    # Of terms that only some blocks have, a block has those that ran.
    terms = [kind for kind in one.terms if kind in found or kind not in row.optional]
    missed = [kind for kind in (one.whole, *terms) if kind not in found]
    if missed:
        raise _refused(row, f"block {layer} ran without its {', '.join(missed)}")
    for kind in (one.whole, *terms):
        _finite(found[kind], f"{kind}.{layer}")
    if len(terms) < 2:
        raise _refused(row, f"block {layer} adds nothing to {terms[0]}")
    together = " + ".join(f"{kind}.{layer}" for kind in terms)
    equation = f"{one.whole}.{layer} = {f'norm({together})' if one.norm else together}"
    shapes = {tuple(found[kind].shape) for kind in (one.whole, *terms)}
    if len(shapes) > 1:
        raise _refused(row, f"{equation} cannot hold: the shapes are {sorted(shapes)}")
    left, right = found[one.whole], torch.stack([found[kind] for kind in terms]).sum(0)
    norms = torch.stack([found[kind].norm(dim=-1) for kind in (one.whole, *terms)])
    if one.norm:
        right = _normed(right, one.norm, block, weights)
        # After a norm all is of its size, however small a branch was.
        norms = torch.stack([left.norm(dim=-1), right.norm(dim=-1)])
    scale = norms.amin(0) + _STREAM_SHARE * norms.amax(0)
    error = float(((left - right).norm(dim=-1) / scale.clamp(min=torch.finfo(torch.float32).tiny)).max())
    if not error <= TOLERANCE:
        raise _refused(row, f"{equation} is off by {error:.2g} of the smallest term")
    return error


def _normed(x: torch.Tensor, path: str, block: nn.Module, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    norm = find_module(block, path)
    own = {name.removeprefix(f"{path}."): w for name, w in weights.items() if name.startswith(f"{path}.")}
    device = next(iter(own.values())).device if own else "cpu"
    result = functional_call(norm, own, (x.to(device, torch.float32),))
    return torch.as_tensor(result).to("cpu", torch.float64)


def _prove_projection(
    kind: str, whole: str, scale: float, layer: int, found: dict[str, torch.Tensor], row: Architecture
) -> None:
    """What the last projection gives is what is added, or what a norm or a gate makes that of."""
    given = found[f"projected {kind}"]
    candidates = [found[key] for key in (whole, f"before {whole}") if key in found]
    for other in candidates:
        one = given * scale if other is candidates[0] else given
        if one.numel() == other.numel() and _distance(one.reshape(other.shape), other) <= TOLERANCE:
            return
    raise _refused(row, f"the projection of {kind}.{layer} does not give {whole}.{layer}")


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    scale = b.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((a - b).norm(dim=-1) / scale).max())


def _finite(tensor: torch.Tensor, name: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(
            f"the model's activations at {name} are not finite on random input. If it runs in float16, give "
            f"dtype='bfloat16' or 'float32'; else its weights are damaged: get them again."
        )


def _same(ours: torch.Tensor, theirs: torch.Tensor, equation: str, row: Architecture) -> None:
    if ours.shape != theirs.shape:
        raise _refused(row, f"{equation} cannot hold: shapes {tuple(ours.shape)} and {tuple(theirs.shape)}")
    error = _distance(ours.to("cpu", torch.float64), theirs.to("cpu", torch.float64))
    if not error <= TOLERANCE:
        raise _refused(row, f"{equation} is off by {error:.2g}")


def _refused(row: Architecture, what: str) -> ArchitectureError:
    return ArchitectureError(
        f"the model is not what the row '{row.name}' of the architecture table says, so its sites cannot be "
        f"trusted and it is refused: {what} (relative, tolerance {TOLERANCE:g}; expected {row.equation.text})."
        f" Its code was changed, or this version of transformers builds it in another way."
    )
