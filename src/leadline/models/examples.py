"""Random input on which a part is proved: what its row says it takes, in the smallest size that its config allows."""

from __future__ import annotations

from typing import Any

import torch

from leadline.errors import ArchitectureError
from leadline.models.part import Part

__all__ = ["example"]

_BATCH, _LENGTH = 2, 8
# A side of the picture for models of any size.
_PATCHES = 4


def example(part: Part, config: Any) -> dict[str, torch.Tensor]:
    """The arguments of one call of the part's root.

    Raises
    ------
    ArchitectureError : the config does not say how large its input is.
    """
    generator = torch.Generator().manual_seed(0)
    makers = {"text": _text, "image": _image, "audio": _audio, "image+text": _image_and_text}
    try:
        found = makers[part.row.inputs](part, config, generator)
    except (AttributeError, TypeError) as error:
        raise ArchitectureError(
            f"the config of this {part.row.name} does not say how large its input is ({error}), so it cannot be proved."
        ) from error
    return {
        name: tensor.to(part.weights.device, part.weights.dtype if tensor.is_floating_point() else None)
        for name, tensor in found.items()
    }


def _ids(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(n, (_BATCH, _LENGTH), generator=generator)


def _text(part: Part, config: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    embeddings = part.root.get_input_embeddings()  # type: ignore[operator]
    ids = _ids(embeddings.weight.shape[0], generator)
    if part.row.part != "decoder":
        return {"input_ids": ids}
    return {"input_ids": ids, "decoder_input_ids": _ids(embeddings.weight.shape[0], generator)}


def _pixels(config: Any, generator: torch.Generator) -> torch.Tensor:
    size = config.image_size
    if str(config.model_type).startswith("dinov2"):
        # Its positions are interpolated, so that a small picture proves the same for a hundredth of the work.
        size = min(size, _PATCHES * config.patch_size)
    height, width = (size, size) if isinstance(size, int) else (size[0], size[1])
    channels = getattr(config, "num_channels", 3)
    return torch.randn((_BATCH, channels, height, width), generator=generator)


def _image(part: Part, config: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"pixel_values": _pixels(part.config, generator)}


def _audio(part: Part, config: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shape = (_BATCH, part.config.num_mel_bins, 2 * part.config.max_source_positions)
    return {"input_features": torch.randn(shape, generator=generator)}


def _image_and_text(part: Part, config: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    from leadline.models.vision import image_tokens

    embeddings = part.root.get_input_embeddings()  # type: ignore[operator]
    ids = torch.randint(
        3, min(embeddings.weight.shape[0], config.image_token_id), (_BATCH, _LENGTH), generator=generator
    )
    picture = torch.full((_BATCH, image_tokens(config)), config.image_token_id)
    pixels = _pixels(config.vision_config, generator)
    return {"input_ids": torch.cat([ids[:, :2], picture, ids[:, 2:]], dim=1), "pixel_values": pixels}
