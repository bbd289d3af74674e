"""Pictures, sounds and arrays: what they hold, and what they say of files that are gone, changed or damaged."""

from __future__ import annotations

import builtins
import io
import struct
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from leadline.data import Array, Captioned, Picture, Sound
from leadline.errors import DataError

needs_pillow = pytest.mark.skipif(util.find_spec("PIL") is None, reason="Pillow is not installed")


def encoded(pixels, form="PNG", **options):
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(held, form, **options)
    return held.getvalue()


def wav(samples, rate=8000):
    from scipy.io import wavfile

    held = io.BytesIO()
    wavfile.write(held, rate, np.asarray(samples))
    return held.getvalue()


GRADIENT = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@needs_pillow
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_picture_from_bytes_and_from_a_file_has_its_pixels(tmp_path, form):
    raw = encoded(GRADIENT, form, **({"lossless": True} if form == "WEBP" else {}))
    path = tmp_path / "one.img"
    path.write_bytes(raw)
    for picture in (Picture(data=raw), Picture(path)):
        loaded = picture.load()
        assert loaded.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(loaded), GRADIENT)
    assert Picture(path).name == "one.img"
    assert Picture(path).digest == Picture(data=raw).digest
    assert len(Picture(path).digest) == 64


@needs_pillow
def test_a_photograph_is_turned_upright():
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # shot with the camera turned: to be shown a quarter turn clockwise
    raw = encoded(GRADIENT, "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(Picture(data=raw).load()), np.rot90(GRADIENT, k=-1))


@needs_pillow
def test_sixteen_bits_of_grey_keep_their_range():
    raw = encoded(np.array([[0, 256, 32768, 65535]], dtype=np.uint16))
    assert np.asarray(Picture(data=raw).load())[0, :, 0].tolist() == [0, 1, 128, 255]


@needs_pillow
def test_a_palette_with_transparency_loads_without_a_warning():
    from PIL import Image

    held = io.BytesIO()
    paletted = Image.fromarray(GRADIENT).quantize(4)
    paletted.save(held, "PNG", transparency=bytes([0, 255, 128, 255]))
    assert Picture(data=held.getvalue()).load().mode == "RGB"


@needs_pillow
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
def test_damaged_pictures_are_named(tmp_path, form, share):
    path = tmp_path / "broken.png"
    raw = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8), form)
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(DataError, match=r"the picture '.*broken.png' cannot be read as a picture .*PNG, JPEG or WEBP"):
        Picture(path).load()
    with pytest.raises(DataError, match=r"the picture of 5 bytes cannot be read as a picture"):
        Picture(data=b"hello").load()


def test_without_pillow_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r'not installed.* pip install "leadline\[vision\]"'):
        Picture(data=b"x").load()


@pytest.mark.parametrize("kind", [Picture, Sound])
def test_exactly_one_of_path_and_data_is_given(kind):
    with pytest.raises(DataError, match="neither of path and data"):
        kind()
    with pytest.raises(DataError, match="both of path and data"):
        kind(Path("x"), b"x")
    with pytest.raises(DataError, match="is of type str; expected the bytes"):
        kind(data="x.png")
    assert kind(data=bytearray(b"x")).data == b"x"


@pytest.mark.parametrize("kind", [Picture, Sound])
def test_files_that_are_gone_or_have_changed(tmp_path, kind):
    path = tmp_path / "one"
    path.write_bytes(b"first")
    item = kind(path)
    digest = item.digest
    path.write_bytes(b"other")
    with pytest.raises(DataError, match=r"one' has changed since the data set was made \(SHA-256"):
        item.load()
    with pytest.raises(DataError, match="has changed"):
        kind(path, expected=digest).read()
    # An expected digest is not looked up before the file is read.
    assert kind(path, expected=digest).digest == digest
    path.unlink()
    for use in (item.load, lambda: kind(path).digest, kind(path, expected=digest).load):
        with pytest.raises(DataError, match=r"one' cannot be read \(No such file"):
            use()


def test_a_relative_path_means_the_file_of_its_time(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"here")
    monkeypatch.chdir(tmp_path / "a")
    picture = Picture("x")
    monkeypatch.chdir(tmp_path)
    assert picture.read() == b"here"
    assert picture == Picture(tmp_path / "a" / "x")
    assert len({picture, Picture(tmp_path / "a" / "x", name="other"), Sound(tmp_path / "a" / "x")}) == 2


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 16384, -32768], np.int16), [0, 0.5, -1]),
        (np.array([0, 2**30, -(2**31)], np.int32), [0, 0.5, -1]),
        (np.array([128, 192, 0], np.uint8), [0, 0.5, -1]),
        (np.array([0, 0.5, -1], np.float32), [0, 0.5, -1]),
        (np.array([[0, 0], [16384, 0], [-32768, 16384]], np.int16), [0, 0.25, -0.25]),
    ],
)
def test_sounds_are_one_channel_in_unit_scale(tmp_path, samples, expected):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(samples, 16000))
    for sound in (Sound(path), Sound(data=path.read_bytes())):
        found, rate = sound.load()
        assert (found.dtype, found.shape, rate) == (np.float32, (3,), 16000)
        np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_a_sound_with_a_title_is_read_without_a_warning():
    raw = wav(np.array([1, 2], np.int16))
    extra = b"LIST" + struct.pack("<I", 4) + b"abcd"
    whole = raw[:4] + struct.pack("<I", len(raw) + len(extra) - 8) + raw[8:] + extra
    assert Sound(data=whole).load()[0].shape == (2,)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", ""),
        (b"hello, this is no sound at all", "not understood"),
        (wav(np.zeros(100, np.int16))[:120], ""),
        (wav(np.zeros(0, np.int16)), "no samples"),
        (wav(np.array([0, np.nan], np.float32)), "not finite"),
    ],
)
def test_damaged_sounds_are_named(raw, why):
    with pytest.raises(DataError, match=rf"the sound 'mine' cannot be read as a sound \(.*{why}.*expected a WAV file"):
        Sound(data=raw, name="mine").load()


def test_arrays_are_kept_as_read_only_copies():
    given = np.arange(6, dtype=np.float64).reshape(2, 3)
    array = Array(given)
    given[:] = 9
    assert array.values.dtype == np.float32
    assert array.values.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError):
        array.values[0, 0] = 1
    assert Array(given[:, 1]).values.base is None
    assert Array(np.array([3, -1], np.int8)).values.dtype == np.int8
    assert Array([True, False]).values.tolist() == [1, 0]
    assert Array(np.array([1, 2], ">i4")).values.dtype.isnative


def test_arrays_are_equal_by_dtype_shape_and_numbers():
    one = Array(np.arange(6.0).reshape(2, 3))
    assert one == Array(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert hash(one) == hash(Array(np.arange(6.0).reshape(2, 3)))
    others = [np.arange(6.0), np.arange(6).reshape(2, 3), np.arange(6.0).reshape(3, 2), np.arange(6.0) + 1]
    assert len({one, *map(Array, others)}) == 5
    assert one != "text"
    # A view in another order of memory is the same array.
    assert Array(np.arange(6.0).reshape(2, 3).T) == Array(np.ascontiguousarray(np.arange(6.0).reshape(2, 3).T))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array(["a"]), "expected real or whole numbers"),
        (np.array([1j]), "complex"),
        ([[1, 2], [3]], "is no array"),
        (np.float32(3), r"shape \(\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        ([1.0, np.nan], "not finite"),
        ([1e300], "not finite in float32"),
    ],
)
def test_what_is_no_array_of_numbers(bad, message):
    with pytest.raises(DataError, match=message):
        Array(bad)


def test_a_captioned_picture_is_of_its_picture_and_its_text():
    picture = Picture(data=b"x")
    one = Captioned(picture, "What is it?")
    assert one == Captioned(Picture(data=b"x"), "What is it?")
    assert (
        len({one.digest, Captioned(picture, "Why?").digest, Captioned(Picture(data=b"y"), "What is it?").digest}) == 3
    )
    with pytest.raises(DataError, match="given a Sound and a str; expected a Picture and a text"):
        Captioned(Sound(data=b"x"), "What is it?")
