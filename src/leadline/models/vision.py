"""Pictures, sounds and arrays to what a model is called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leadline.errors import DataError, ModelError
from leadline.models.encoded import Encoded
from leadline.models.part import Part
from leadline.models.texts import encode_texts

__all__ = ["PlainPictures", "encode_arrays", "encode_captioned", "encode_pictures", "encode_sounds", "image_tokens"]

# Mean and standard deviation of red, green and blue over ImageNet, which DINOv2 and ViTs trained there are fed with.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class PlainPictures:
    """The processor of a checkpoint that came without one: a square of the given size, normalised by channel.

    Parameters
    ----------
    size : pixels a side.
    mean, std : by channel, of values between 0 and 1.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.size = size
        self.mean, self.std = tuple(mean), tuple(std)

    @classmethod
    def of(cls, config: Any) -> PlainPictures:
        """What suits a config: ImageNet's figures for DINOv2, halves elsewhere; 224 pixels or its fixed size."""
        model_type = str(getattr(config, "model_type", ""))
        size = getattr(config, "image_size", 224)
        size = size if isinstance(size, int) else int(size[0])
        if model_type.startswith("dino"):
            # Its positions are interpolated; it was trained at 224 for the most part.
            size = min(size, 224 // config.patch_size * config.patch_size or size)
            return cls(size, *_IMAGENET)
        return cls(size, *_HALVES)

    def __repr__(self) -> str:
        return f"PlainPictures({self.size} pixels, mean {self.mean}, std {self.std})"

    def to_dict(self) -> dict[str, Any]:
        """What decides the pixels."""
        return {"size": self.size, "mean": list(self.mean), "std": list(self.std), "resample": "bicubic"}

    def __call__(self, images: Sequence[Any], **_: Any) -> dict[str, np.ndarray]:
        """`{"pixel_values": (n, 3, size, size) float32}` of PIL pictures."""
        from PIL import Image

        found = []
        for image in images:
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
            found.append(((pixels - self.mean) / self.std).transpose(2, 0, 1))
        return {"pixel_values": np.ascontiguousarray(np.stack(found), dtype=np.float32)}


def _load(row: Any, i: int) -> Any:
    try:
        return row.load()
    except DataError as error:
        raise DataError(f"row {i}: {error}") from error


def encode_pictures(processor: Any, inputs: Sequence[Any], part: Part) -> list[Encoded]:
    """Pictures (objects whose `load()` gives a PIL image) for a vision part.

    Raises
    ------
    DataError : a picture that cannot be read; names the row.
    """
    found = []
    for i, row in enumerate(inputs):
        pixels = _pixels(processor, [_load(row, i)])[0]
        length = _positions(part, pixels.shape)
        patches = np.ones(length, dtype=bool)
        patches[: part.row.n_special] = False
        found.append(Encoded(length=length, arrays={"pixel_values": pixels}, parts={"patches": patches}))
    return found


def _pixels(processor: Any, images: list[Any]) -> np.ndarray:
    given = processor(images=images, return_tensors="np")
    return np.asarray(given["pixel_values"], dtype=np.float32)


def _positions(part: Part, shape: tuple[int, ...]) -> int:
    patch = part.config.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else (patch[0], patch[1])
    return part.row.n_special + (shape[-2] // height) * (shape[-1] // width)


def encode_sounds(processor: Any, inputs: Sequence[Any], part: Part) -> list[Encoded]:
    """Sounds (objects whose `load()` gives samples and their rate) for Whisper's encoder.

    Its window is 30 seconds; a shorter sound is followed by silence, which is real input to the model and counts.

    Raises
    ------
    DataError : a sound that cannot be read, is longer than the window, or of another rate; names the row.
    """
    found = []
    for i, row in enumerate(inputs):
        samples, rate = _load(row, i)
        if rate != processor.sampling_rate:
            samples = _resampled(samples, rate, processor.sampling_rate)
        if len(samples) > processor.n_samples:
            raise DataError(
                f"row {i}: it lasts {len(samples) / processor.sampling_rate:.1f} s, the model takes "
                f"{processor.n_samples / processor.sampling_rate:g} s at most; cut it, nothing is cut silently."
            )
        given = processor(samples, sampling_rate=processor.sampling_rate, return_tensors="np")
        features = np.asarray(given["input_features"], dtype=np.float32)[0]
        length = features.shape[-1] // 2
        # The positions that stand for the sound itself rather than the silence after it.
        heard = np.arange(length) < int(np.ceil(length * len(samples) / processor.n_samples))
        found.append(Encoded(length=length, arrays={"input_features": features}, parts={"patches": heard}))
    return found


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    return np.asarray(resample_poly(samples, wanted // common, rate // common), dtype=np.float32)


def image_tokens(config: Any) -> int:
    """The positions that a picture takes among a vision-language model's tokens."""
    per_image = getattr(config, "mm_tokens_per_image", None)
    if per_image:
        return int(per_image)
    vision = config.vision_config
    n = (vision.image_size // vision.patch_size) ** 2
    return n if getattr(config, "vision_feature_select_strategy", "default") == "default" else n + 1


def encode_captioned(
    processor: Any, tokenizer: Any, inputs: Sequence[Any], config: Any, name: str, *, offsets: bool
) -> list[Encoded]:
    """Pictures with a text, for the language model of a vision-language model.

    The picture's positions stand where the text has the tokenizer's image token, and before the text where it has none.

    Raises
    ------
    DataError : a picture that cannot be read, or a text with more than one picture's place; names the row.
    """
    token = config.image_token_id
    texts = encode_texts(tokenizer, [row.text for row in inputs], name, offsets=offsets)
    found = []
    for i, (row, text) in enumerate(zip(inputs, texts, strict=True)):
        ids = list(text.ids)
        if ids.count(token) > 1:
            raise DataError(f"row {i}: it has {ids.count(token)} places for pictures in its text, and one picture.")
        at = ids.index(token) if token in ids else 0
        rest = ids[at + 1 :] if token in ids else ids
        n = image_tokens(config)
        whole = [*ids[:at], *[token] * n, *rest]
        image = np.zeros(len(whole), dtype=bool)
        image[at : at + n] = True
        places = None
        if text.offsets is not None:
            after = text.offsets[at + 1 :] if token in ids else text.offsets
            places = np.concatenate([text.offsets[:at], np.zeros((n, 2), dtype=np.int64), after])
        found.append(
            Encoded(
                ids=whole,
                length=len(whole),
                arrays={"pixel_values": _pixels(processor, [_load(row.picture, i)])[0]},
                text=text.text,
                offsets=places,
                parts={"image": image, "text": ~image},
            )
        )
    return found


def encode_arrays(inputs: Sequence[Any], convert: Callable[[Sequence[Any]], Any] | None, name: str) -> list[Encoded]:
    """Rows for a module that is no transformer: what `convert` makes of each, or an array as it is.

    Raises
    ------
    DataError : a row that is no array where nothing converts it.
    ModelError : what `convert` gives is no array.
    """
    found = []
    for i, row in enumerate(inputs):
        if convert is not None:
            given: Any = convert([row])
        elif hasattr(row, "values"):
            given = np.asarray(row.values)[None]
        else:
            raise DataError(
                f"row {i} is a {type(row).__name__}, but '{name}' takes arrays; give the data set as arrays, or "
                f"load_model a processor= that turns a list of inputs into a tensor."
            )
        arrays = dict(given) if hasattr(given, "keys") else {"": given}
        try:
            rows = {key: np.asarray(value)[0] for key, value in arrays.items()}
        except (TypeError, ValueError, IndexError) as error:
            raise ModelError(f"the processor gave {type(given).__name__}, which is no array ({error}).") from error
        found.append(Encoded(length=1, arrays=rows))
    return found
