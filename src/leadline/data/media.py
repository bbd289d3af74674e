"""Inputs that are no texts: a picture, a sound, an array, and a picture with a text.

Each is small and frozen. A picture or sound is either a file, read only when asked for, or encoded bytes in memory;
its `digest` stands for its contents wherever data sets are compared.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import threading
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from leadline import files
from leadline.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Array", "Captioned", "Modality", "Picture", "Sound", "needs_pillow"]

Modality = Literal["text", "chat", "image", "audio", "array", "captioned"]
"""What an input is."""

_PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")
# What each sample type is divided by to fall in [-1, 1].
_FULL_SCALE = {"i2": 2.0**15, "i4": 2.0**31}
# The filters of `warnings` are shared by all threads, and a loader may read sounds in several.
_WAV_LOCK = threading.Lock()


@dataclass(frozen=True)
class _Encoded:
    """A file, or its bytes; the classes below say what of."""

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    name: str = field(default="", compare=False)
    expected: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.data is None):
            given = "neither" if self.path is None else "both"
            raise DataError(f"{given} of path and data was given for a {self._kind}; expected one of them.")
        if self.path is not None:
            # A later change of the working directory does not change what is meant.
            path = Path(self.path).absolute()
            object.__setattr__(self, "path", path)
            object.__setattr__(self, "name", self.name or path.name)
        elif isinstance(self.data, (bytearray, memoryview)):
            object.__setattr__(self, "data", bytes(self.data))
        elif not isinstance(self.data, bytes):
            raise DataError(
                f"data of a {self._kind} is of type {type(self.data).__name__}; expected the bytes of an encoded file. "
                f"A file itself is given with path=."
            )

    @property
    def _kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def _called(self) -> str:
        if self.path is not None:
            return f"the {self._kind} '{self.path}'"
        return (
            f"the {self._kind} '{self.name}'" if self.name else f"the {self._kind} of {len(self.data or b''):,} bytes"
        )

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the encoded bytes, in hex; the expected one is taken at its word until the file is read.

        Raises
        ------
        DataError : the file cannot be read.
        """
        if self.path is None:
            return hashlib.sha256(self.data or b"").hexdigest()
        if self.expected:
            return self.expected
        try:
            return files.sha256_file(self.path)
        except OSError as error:
            raise self._unreadable(error) from error

    def read(self) -> bytes:
        """The encoded bytes.

        Raises
        ------
        DataError : the file cannot be read, or has changed since its digest was taken.
        """
        if self.path is None:
            return self.data or b""
        try:
            found = self.path.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from error
        known = self.expected or self.__dict__.get("digest", "")
        digest = hashlib.sha256(found).hexdigest() if known else ""
        if digest != known:
            raise DataError(
                f"{self._called} has changed since the data set was made (SHA-256 {digest[:12]}, expected "
                f"{known[:12]}); put the former file back, or make the data set and its activations anew."
            )
        return found

    def _unreadable(self, error: OSError) -> DataError:
        return DataError(
            f"{self._called} cannot be read ({error.strerror or error}); put the file there, or give its true path."
        )


@dataclass(frozen=True)
class Picture(_Encoded):
    """A picture: a PNG, JPEG or WebP file, or the bytes of one.

    Parameters
    ----------
    path : the file, which is read when the picture is loaded. Exactly one of `path` and `data` is given.
    data : the encoded bytes.
    name : what to call it in tables; by default the file's name.
    expected : the SHA-256 that the file must have, where that is known; checked when it is read.

    Raises
    ------
    DataError : both or neither of `path` and `data`.
    """

    modality: ClassVar[Modality] = "image"

    def load(self) -> Image.Image:
        """Decode into 8-bit RGB, turned upright as its EXIF entry says; transparency is dropped.

        Raises
        ------
        DataError : Pillow is not installed, the file is gone or has changed, or it is no picture or a damaged one.
        """
        needs_pillow(self._called)
        from PIL import Image, ImageOps

        encoded = self.read()
        try:
            with Image.open(io.BytesIO(encoded), formats=_PICTURE_FORMATS) as opened:
                opened.load()
                upright = ImageOps.exif_transpose(opened)
                return _rgb(upright)
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise DataError(
                f"{self._called} cannot be read as a picture ({_first_line(error)}); expected a whole "
                f"{', '.join(_PICTURE_FORMATS[:-1])} or {_PICTURE_FORMATS[-1]} file. Replace it, or leave its row out."
            ) from error


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow would clip the upper half of 16 bits to white.
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def needs_pillow(what: str) -> None:
    """Raise where Pillow is missing.

    Parameters
    ----------
    what : for which it is needed, as a sentence begins with it.

    Raises
    ------
    DataError : Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{what} needs the package Pillow, which is not installed (or broken); "
            f'install it with: pip install "leadline[vision]"'
        ) from error


@dataclass(frozen=True)
class Sound(_Encoded):
    """A sound: a WAV file, or the bytes of one; parameters as in `Picture`."""

    modality: ClassVar[Modality] = "audio"

    def load(self) -> tuple[np.ndarray, int]:
        """Decode into one channel.

        Returns
        -------
        samples : (n,) float32; whole numbers are scaled to [-1, 1], channels averaged, floats taken as they are.
        rate : samples a second.

        Raises
        ------
        DataError : the file is gone or has changed, is no WAV file, a damaged or an empty one, or holds NaN.
        """
        from scipy.io import wavfile

        encoded = self.read()
        try:
            with _WAV_LOCK, warnings.catch_warnings():
                # Cut files only warn. Chunks of other programs (a title, a cue) are none of our business.
                warnings.simplefilter("error", wavfile.WavFileWarning)
                warnings.filterwarnings("ignore", r"Chunk \(non-data\)", wavfile.WavFileWarning)
                rate, raw = wavfile.read(io.BytesIO(encoded))
        except (
            ValueError,
            TypeError,
            struct.error,
            EOFError,
            OSError,
            ArithmeticError,
            UnboundLocalError,
            MemoryError,
            wavfile.WavFileWarning,
        ) as error:
            raise self._no_sound(_first_line(error)) from error
        samples = _unit_scale(raw)
        if samples is None:
            raise self._no_sound(f"its samples are of type {raw.dtype}")
        if not samples.size or not np.isfinite(samples).all() or rate <= 0:
            raise self._no_sound("it holds no samples" if not samples.size else "it holds numbers that are not finite")
        return samples, int(rate)

    def _no_sound(self, why: str) -> DataError:
        return DataError(
            f"{self._called} cannot be read as a sound ({why}); expected a WAV file of PCM or float samples. "
            f"Convert it (ffmpeg -i FILE -ac 1 OUT.wav), or leave its row out."
        )


def _unit_scale(raw: np.ndarray) -> np.ndarray | None:
    """(n,) or (n, channels) samples as (n,) float32 in [-1, 1]; None for a type that WAV files do not have."""
    scaled: np.ndarray
    if raw.dtype.kind == "f":
        scaled = raw.astype(np.float32)
    elif raw.dtype == np.uint8:
        scaled = (raw.astype(np.float32) - 128) / 128
    elif raw.dtype.str[1:] in _FULL_SCALE:
        scaled = (raw / _FULL_SCALE[raw.dtype.str[1:]]).astype(np.float32)
    else:
        return None
    return scaled if scaled.ndim == 1 else scaled.mean(axis=1, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Array:
    """An array as a model takes it for one row: pixel values, features, a board.

    Parameters
    ----------
    values : at least one dimension. Kept as a read-only copy: real numbers as float32, whole numbers as they are,
        truth values as uint8.

    Raises
    ------
    DataError : no numbers, complex ones, ones that are not finite in float32, or an empty array.
    """

    modality: ClassVar[Modality] = "array"

    values: np.ndarray

    def __post_init__(self) -> None:
        given: Any = self.values
        if hasattr(given, "detach"):
            # A torch tensor, which numpy cannot take from a device, with a gradient or in bfloat16.
            given = given.detach().cpu()
            given = given.float().numpy() if given.is_floating_point() else given.numpy()
        try:
            raw = np.asarray(given)
        except ValueError as error:
            raise DataError(f"the input is no array ({_first_line(error)}); expected numbers in a box.") from error
        if raw.dtype.kind not in "biuf":
            raise DataError(f"the array has the dtype {raw.dtype}; expected real or whole numbers.")
        if raw.ndim == 0 or not raw.size:
            raise DataError(f"the array has the shape {raw.shape}; expected at least one dimension and one number.")
        kept: np.dtype[Any] = raw.dtype.newbyteorder("=")
        if raw.dtype.kind in "bf":
            kept = np.dtype(np.float32 if raw.dtype.kind == "f" else np.uint8)
        with np.errstate(over="ignore"):
            # A view would keep the whole array alive that it is of.
            values = np.array(raw, dtype=kept, order="C", copy=True)
        if kept.kind == "f" and not np.isfinite(values).all():
            raise DataError(
                "the array holds numbers that are not finite in float32; replace them, or leave the row out."
            )
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of dtype, shape and numbers, in hex; the same on every machine."""
        little = self.values.astype(self.values.dtype.newbyteorder("<"), copy=False)
        head = json.dumps([self.values.dtype.str[1:], self.values.shape])
        return hashlib.sha256(head.encode() + b"\n" + little.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Array) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Array({self.values.dtype} {self.values.shape})"


@dataclass(frozen=True)
class Captioned:
    """A picture with a text, as a vision-language model takes them.

    Raises
    ------
    DataError : something else than a `Picture` and a text.
    """

    modality: ClassVar[Modality] = "captioned"

    picture: Picture
    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.picture, Picture) or not isinstance(self.text, str):
            raise DataError(
                f"a captioned picture was given a {type(self.picture).__name__} and a {type(self.text).__name__}; "
                f"expected a Picture and a text."
            )

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the picture's digest and the text, in hex."""
        return hashlib.sha256(json.dumps([self.picture.digest, self.text]).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
