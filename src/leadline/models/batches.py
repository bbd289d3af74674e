"""Rows side by side, padded on the right: what a part of a model is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from leadline.errors import DataError, ModelError
from leadline.models.encoded import Encoded
from leadline.models.part import Part
from leadline.models.texts import name_rows

__all__ = ["Batch", "batch_of", "text_arguments"]


@dataclass(frozen=True)
class Batch:
    """Rows that go through a model together.

    Parameters
    ----------
    arguments : what the part's root is called with, on the model's device.
    mask : (batch, seq) truth values on the CPU: where a row has a position. Padding stands to the right.
    """

    arguments: dict[str, Any]
    mask: torch.Tensor


def batch_of(rows: Sequence[Encoded], part: Part | None, reference: torch.Tensor) -> Batch:
    """Put rows together.

    Parameters
    ----------
    part : the part to read; None for a module that is no transformer.
    reference : a weight, on whose device and in whose dtype the input goes.

    Raises
    ------
    DataError : arrays of different shapes.
    """
    arguments: dict[str, Any] = {}
    lengths = torch.tensor([row.length for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    if part is not None and rows[0].ids:
        ids, known = _padded(rows)
        # With pictures the padding must be none of their places, and a causal model needs no mask for it.
        arguments = text_arguments(ids, None if part.row.inputs == "image+text" else known, part)
    elif rows[0].ids:
        ids, known = _padded(rows)
        arguments = {"input_ids": ids, "attention_mask": known.long()}
    for key in rows[0].arrays:
        shapes = {row.arrays[key].shape for row in rows}
        if len(shapes) > 1:
            raise DataError(f"inputs of different shapes cannot go together: {sorted(shapes)}; make them one size.")
        stacked = torch.from_numpy(np.stack([np.ascontiguousarray(row.arrays[key]) for row in rows]))
        dtype = reference.dtype if stacked.is_floating_point() else None
        arguments[key] = stacked.to(reference.device, dtype)
    return Batch({key: _to(value, reference.device) for key, value in arguments.items()}, mask)


def _padded(rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (batch, seq), padded on the right with a token of the row that is no picture's place; their mask."""
    width = max(len(row.ids) for row in rows)
    ids = []
    for row in rows:
        image = row.parts.get("image")
        filler = row.ids[0] if image is None else row.ids[int(np.argmin(image))]
        ids.append([*row.ids, *[filler] * (width - len(row.ids))])
    return torch.tensor(ids), torch.arange(width) < torch.tensor([[len(row.ids)] for row in rows])


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def text_arguments(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, part: Part) -> dict[str, torch.Tensor]:
    """What the part's root is called with for token ids (batch, seq), padded on either side.

    Raises
    ------
    ModelError : the shapes do not fit, or a row has no real token, or an encoder's rows are padded on the left.
    """
    if input_ids.ndim != 2 or not input_ids.numel():
        raise ModelError(f"input_ids has the shape {tuple(input_ids.shape)}; expected (batch, seq), both over 0.")
    if attention_mask is None:
        return _sided({"input_ids": input_ids}, part)
    if attention_mask.shape != input_ids.shape:
        raise ModelError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}; "
            f"expected the same."
        )
    mask = attention_mask.bool()
    empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ModelError(f"attention_mask leaves no token in {name_rows(empty)}; leave such rows out.")
    if bool(mask[:, 0].all()) and not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        # The padding becomes a copy of the row's first token, since an id that is only good for padding may be none
        # that the model can embed.
        ids = torch.where(mask, input_ids, input_ids[:, :1])
        if bool(mask.all()) or (part.row.causal and not part.row.part):
            # Real tokens never see the padding to their right, so the mask changes nothing for them, and without
            # one attention takes its fast causal path.
            return _sided({"input_ids": ids}, part)
        return _sided({"input_ids": ids, "attention_mask": mask.long()}, part)
    if not part.row.causal or part.row.part:
        raise ModelError(
            f"rows for {part.row.name} are padded on the left or have holes; pad them on the right: its positions "
            f"count from the left."
        )
    # Positions count real tokens, so that a text has the same ones wherever its padding stands.
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    arguments = {"input_ids": torch.where(mask, input_ids, input_ids[mask][0]), "attention_mask": mask.long()}
    if part.takes("position_ids"):
        arguments["position_ids"] = positions
    return arguments


def _sided(arguments: dict[str, torch.Tensor], part: Part) -> dict[str, torch.Tensor]:
    """For a decoder beside an encoder: it reads the same tokens, one place later, as in training to copy them."""
    if part.row.part != "decoder":
        return arguments
    ids = arguments["input_ids"]
    start = getattr(part.config, "decoder_start_token_id", None)
    if start is None:
        raise ModelError(
            f"the config of this {part.row.name} names no decoder_start_token_id, which its decoder begins with."
        )
    shifted = torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)
    return {**arguments, "decoder_input_ids": shifted}
