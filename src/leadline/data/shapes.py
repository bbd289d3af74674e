"""The built-in set `written-shapes`: pictures of a coloured shape with a word over it, rendered with Pillow.

Does a vision model hold what is drawn, or what is written there? Each picture has one of 5 shapes in one of 5 colours,
and over it one of 10 words: a shape's name in half of the pictures, a colour's in the other half.

The design is crossed: each of the 250 combinations of shape, colour and word is rendered in 5 pictures, so drawn shape,
drawn colour and written word are independent, and the word agrees with what is drawn in one picture of 5. Position,
size, rotation, background and the style of the writing are a layout. Each of 25 layouts has 50 pictures, in which every
pair of shape and colour stands twice, every pair of shape and word once, and every pair of colour and word once. So
folds that keep layouts whole (`layout` is the group) are balanced to the last picture.

`is_circle` (drawn) and `says_circle` (written) are one concept in two forms, as are `is_red` and `says_red`. In half of
the pictures the word is of the other kind; there `says_circle` is plainly false and not missing. So 1 in 5 pictures is
true for a drawn concept and 1 in 10 for a written one: compare them by AUROC, which does not depend on that share.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

import polars as pl

from leadline.data.media import needs_pillow
from leadline.errors import DataError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["COLOURS", "SHAPES", "TARGETS", "is_available", "n_pictures", "source", "written_shapes"]

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (214, 40, 40),
    "green": (34, 150, 60),
    "blue": (40, 90, 205),
    "yellow": (240, 200, 20),
    "purple": (140, 60, 185),
}
TARGETS = ("is_circle", "says_circle", "is_red", "says_red")
"""What is predicted by default; the frame has a column for each shape and colour, drawn and written."""

_N_LAYOUTS = 25
n_pictures = _N_LAYOUTS * len(SHAPES) * len(COLOURS) * 2

_SIDE = 224
_FINE = 4  # drawn this many times larger and reduced, for smooth edges
_MARGIN = 6
_STROKE = 2
_ROUND = 0.92  # the radius of the circle, in radii of the layout
_REACH = 1.3  # how far the furthest corner of any shape is from its centre, in radii


@dataclass(frozen=True)
class _Layout:
    """What pictures of one layout share; lengths in pixels, the angle in degrees."""

    name: str
    x: float
    y: float
    radius: float
    angle: float
    background: tuple[int, int, int]
    text_x: float
    text_y: float
    text_size: int
    is_dark_text: bool


def is_available() -> bool:
    """Whether Pillow is installed; it is not imported."""
    return util.find_spec("PIL") is not None


def source() -> str:
    """Where the set comes from, with the version of Pillow, on which the bytes depend."""
    return f"rendered with Pillow {metadata.version('pillow')}"


def written_shapes(seed: int = 0) -> pl.DataFrame:
    """1,250 pictures of 224 x 224 pixels, as PNG.

    Parameters
    ----------
    seed : of the layouts, and of which word stands on what within them.

    Returns
    -------
    Columns `picture` (bytes), `name`, `shape`, `colour`, `word`, `word_kind` (`colour` or `shape`), `agrees` (whether
    the word names what is drawn), `layout` (the group), and Boolean `is_X` and `says_X` for each shape and colour X.

    Raises
    ------
    DataError : Pillow is not installed, or cannot draw text.
    """
    needs_pillow("the built-in set 'written-shapes'")
    generator = random.Random(seed)
    kinds = (
        ("colour", generator.sample(list(COLOURS), len(COLOURS))),
        ("shape", generator.sample(SHAPES, len(SHAPES))),
    )
    rows: list[dict[str, Any]] = []
    for number, layout in enumerate(_layouts(generator)):
        layers = {shape: _silhouette(shape, layout) for shape in SHAPES}
        font = _font(layout.text_size)
        for kind, words in kinds:
            for i, shape in enumerate(SHAPES):
                for j, colour in enumerate(COLOURS):
                    # A Latin square in every layout; over any 5 layouts in a row each triple stands once.
                    word = words[(i + 2 * j + number) % len(words)]
                    picture = _render(layers[shape], colour, word, layout, font)
                    rows.append({"picture": picture, **_about(shape, colour, word, kind, layout.name)})
    return pl.DataFrame(rows)


def _about(shape: str, colour: str, word: str, kind: str, layout: str) -> dict[str, Any]:
    drawn = {f"is_{x}": x in (shape, colour) for x in (*SHAPES, *COLOURS)}
    written = {f"says_{x}": x == word for x in (*SHAPES, *COLOURS)}
    return {
        "name": f"{colour} {shape}, '{word}' ({layout})",
        "shape": shape,
        "colour": colour,
        "word": word,
        "word_kind": kind,
        "agrees": word in (shape, colour),
        "layout": layout,
        **drawn,
        **written,
    }


def _layouts(generator: random.Random) -> list[_Layout]:
    found = []
    dark = [i % 2 == 0 for i in range(_N_LAYOUTS)]
    generator.shuffle(dark)
    for number in range(_N_LAYOUTS):
        radius = generator.uniform(60, 78)
        reach = _SIDE / 2 - _MARGIN - radius * _REACH
        x, y = (_SIDE / 2 + generator.uniform(-1, 1) * reach for _ in "xy")
        grey = generator.randint(95, 245)
        found.append(
            _Layout(
                name=f"layout {number + 1:02d}",
                x=x,
                y=y,
                radius=radius,
                angle=generator.uniform(-14, 14),
                background=(grey, grey, grey),
                text_x=x + generator.uniform(-10, 10),
                text_y=y + generator.uniform(-0.3, 0.3) * radius,
                text_size=generator.randint(30, 40),
                is_dark_text=dark[number],
            )
        )
    return found


def _silhouette(shape: str, layout: _Layout) -> Image.Image:
    """(224, 224) of 0 to 255: how much of each pixel the shape covers."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (_SIDE * _FINE, _SIDE * _FINE), 0)
    draw = ImageDraw.Draw(mask)
    x, y, r = (length * _FINE for length in (layout.x, layout.y, layout.radius))
    if shape == "circle":
        draw.ellipse((x - _ROUND * r, y - _ROUND * r, x + _ROUND * r, y + _ROUND * r), fill=255)
    else:
        turn = math.radians(layout.angle)
        cos, sin = math.cos(turn), math.sin(turn)
        draw.polygon(
            [(x + r * (a * cos - b * sin), y + r * (a * sin + b * cos)) for a, b in _OUTLINES[shape]], fill=255
        )
    return mask.reduce(_FINE)


def _star(points: int = 5, inner: float = 0.6, outer: float = 1.22) -> tuple[tuple[float, float], ...]:
    radii = (outer, inner) * points
    angles = (math.pi * (i / points - 0.5) for i in range(2 * points))
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True))


# In units of the radius, around the centre; y points down. Areas are alike, from 2.1 to 2.8 (the circle has 2.7).
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),
    "triangle": ((0.0, -1.24), (1.12, 0.66), (-1.12, 0.66)),
    "star": _star(),
    "cross": tuple(
        (a, b)
        for a, b in (
            (-0.38, -1.1),
            (0.38, -1.1),
            (0.38, -0.38),
            (1.1, -0.38),
            (1.1, 0.38),
            (0.38, 0.38),
            (0.38, 1.1),
            (-0.38, 1.1),
            (-0.38, 0.38),
            (-1.1, 0.38),
            (-1.1, -0.38),
            (-0.38, -0.38),
        )
    ),
}


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size)
    except (ImportError, OSError) as error:
        raise DataError(
            f"this Pillow cannot draw text ({error}), which the built-in set 'written-shapes' needs; install the "
            f'wheel from PyPI: pip install --force-reinstall "leadline[vision]"'
        ) from error


def _render(silhouette: Image.Image, colour: str, word: str, layout: _Layout, font: FreeTypeFont | ImageFont) -> bytes:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_SIDE, _SIDE), layout.background)
    picture.paste(COLOURS[colour], (0, 0, _SIDE, _SIDE), silhouette)
    draw = ImageDraw.Draw(picture)
    ink, edge = ("black", "white") if layout.is_dark_text else ("white", "black")
    left, top, right, bottom = draw.textbbox((0, 0), word, font=font, stroke_width=_STROKE)
    x = _inside(layout.text_x - (left + right) / 2, left, right)
    y = _inside(layout.text_y - (top + bottom) / 2, top, bottom)
    draw.text((x, y), word, font=font, fill=ink, stroke_width=_STROKE, stroke_fill=edge)
    held = io.BytesIO()
    picture.save(held, "PNG", compress_level=3)
    return held.getvalue()


def _inside(origin: float, low: float, high: float) -> int:
    """The origin, moved so that what reaches from `low` to `high` of it stays in the picture."""
    return round(min(max(origin, _MARGIN - low), _SIDE - _MARGIN - high))
