"""`written-shapes`: balanced to the last picture, the same for the same seed, and with shape and word to be seen."""

from __future__ import annotations

from collections import Counter
from importlib import util

import numpy as np
import polars as pl
import pytest

from leadline.data import Dataset, Picture, builtin_datasets, load_dataset, pairing_column
from leadline.data.shapes import COLOURS, SHAPES, TARGETS, _inside
from leadline.errors import DataError

pytestmark = pytest.mark.skipif(util.find_spec("PIL") is None, reason="Pillow is not installed")


@pytest.fixture(scope="module")
def data():
    return load_dataset("written-shapes")


def counts(frame, *columns):
    return Counter(frame.select(columns).iter_rows())


def test_size_targets_and_groups(data):
    listed = {b.name: b for b in builtin_datasets()}["written-shapes"]
    assert listed.available
    assert listed.n == data.n == 1250
    assert (data.modality, data.name, data.group_column) == ("image", "written-shapes", "layout")
    assert tuple(t.name for t in data.targets) == TARGETS
    assert all((t.negative, t.positive) == ("false", "true") for t in data.targets)
    assert len(set(data.groups)) == 25
    assert data.source.startswith("rendered with Pillow ")
    assert data.findings == ()
    assert data.check() == ()
    assert all(pairing_column(data, t) is None for t in data.targets)


def test_shape_colour_and_word_are_independent(data):
    frame = data.frame
    assert set(counts(frame, "shape", "colour", "word").values()) == {5}
    assert len(counts(frame, "shape", "colour", "word")) == 250
    assert counts(frame, "word_kind") == {("colour",): 625, ("shape",): 625}
    assert set(frame.filter(word_kind="shape")["word"]) == set(SHAPES)
    assert set(frame.filter(word_kind="colour")["word"]) == set(COLOURS)
    assert frame["agrees"].sum() == 250
    for (_layout,), part in frame.group_by("layout"):
        assert set(counts(part, "shape", "colour").values()) == {2}
        for pair in (("shape", "word"), ("colour", "word")):
            assert len(counts(part, *pair)) == 50
            assert set(counts(part, *pair).values()) == {1}


def test_the_columns_of_truth_values_follow_from_what_is_drawn_and_written(data):
    for row in data.frame.iter_rows(named=True):
        for concept in (*SHAPES, *COLOURS):
            assert row[f"is_{concept}"] == (concept in (row["shape"], row["colour"]))
            assert row[f"says_{concept}"] == (concept == row["word"])
        assert row["agrees"] == (row["word"] in (row["shape"], row["colour"]))
        assert row["word_kind"] == ("shape" if row["word"] in SHAPES else "colour")
    drawn, written = data.target("is_red").values[:, 0], data.target("says_red").values[:, 0]
    assert (drawn.sum(), written.sum(), (drawn * written).sum()) == (250, 125, 25)


def test_the_seed_alone_decides(data):
    again, other = load_dataset("written-shapes"), load_dataset("written-shapes", seed=1)
    assert again.fingerprint == data.fingerprint
    assert again.inputs == data.inputs
    assert other.fingerprint != data.fingerprint
    assert set(counts(other.frame, "shape", "colour", "word").values()) == {5}
    assert len({x.digest for x in data.inputs}) == 1250


def test_other_targets_are_read_from_its_frame(data):
    stars = Dataset.from_frame(data.frame, image="picture", target=["is_star", "says_star"], group="layout")
    assert stars.inputs == data.inputs
    assert stars.target("is_star").values.sum() == 250
    assert data.select([0]).texts == [data.frame["name"][0]]


def pixels(picture):
    return np.asarray(picture.load()).astype(int)


def test_what_is_drawn_can_be_seen(data):
    frame = data.frame.with_row_index("row")
    areas: dict[str, list[int]] = {shape: [] for shape in SHAPES}
    for row in range(0, data.n, 7):
        image = pixels(data.inputs[row])
        assert image.shape == (224, 224, 3)
        colour = np.array(COLOURS[frame["colour"][row]])
        covered = (np.abs(image - colour) <= 6).all(axis=2)
        # A tenth of the picture at least shows the colour beside the word, and the edge shows none of it.
        assert covered.mean() > 0.1
        edge = np.concatenate([covered[0], covered[-1], covered[:, 0], covered[:, -1]])
        assert not edge.any()
        areas[frame["shape"][row]].append(int(covered.sum()))
        grey = image[0, 0]
        assert len(set(grey.tolist())) == 1
        assert 90 <= grey[0] <= 250
        for other in COLOURS.values():
            assert (np.abs(image - np.array(other)) <= 6).all(axis=2).any() == (tuple(colour) == other)
    # No shape is told by its size alone.
    means = [np.mean(a) for a in areas.values()]
    assert max(means) < 1.6 * min(means)


def test_the_word_is_written_and_nothing_else_changes_with_it(data):
    rows = (
        data.frame.with_row_index("row")
        .filter(layout="layout 03", shape="star", colour="blue")
        .select("row", "word")
        .rows()
    )
    (first, _), (second, _) = rows
    one, other = pixels(data.inputs[first]), pixels(data.inputs[second])
    changed = (one != other).any(axis=2)
    # The words differ in a line of writing, not in the rest of the picture.
    lines = np.flatnonzero(changed.any(axis=1))
    assert 15 < np.ptp(lines) < 60
    for image in (one, other):
        inside = image[lines.min() : lines.max() + 1].reshape(-1, 3)
        assert (inside < 30).all(axis=1).sum() > 100
        assert (inside > 225).all(axis=1).sum() > 100


def test_every_word_stays_in_its_picture(data):
    longest = data.frame.with_row_index("row").filter(pl.col("word") == "triangle")["row"].to_list()
    for row in longest:
        image = pixels(data.inputs[row])
        background = image[0, 0]
        border = np.concatenate([image[:3].reshape(-1, 3), image[-3:].reshape(-1, 3)])
        sides = np.concatenate([image[:, :3].reshape(-1, 3), image[:, -3:].reshape(-1, 3)])
        assert (border == background).all()
        assert (sides == background).all()


def test_a_word_at_the_edge_is_moved_inside():
    assert _inside(100, -4, 60) == 100
    assert _inside(200, -4, 60) + 60 == 224 - 6
    assert _inside(-9, -4, 60) - 4 == 6


def test_a_pillow_that_cannot_draw_text_is_named(monkeypatch):
    from PIL import ImageFont

    def broken(size=None):
        raise ImportError("The _imagingft C module is not installed")

    monkeypatch.setattr(ImageFont, "load_default", broken)
    with pytest.raises(DataError, match=r'cannot draw text \(The _imagingft.*"leadline\[vision\]"'):
        load_dataset("written-shapes")


def test_pictures_come_back_from_disk(data, tmp_path):
    some = data.select(range(0, 1250, 25))
    some.write(tmp_path)
    back = Dataset.read(tmp_path)
    assert back.inputs == some.inputs
    assert back.texts == some.texts
    assert isinstance(back.inputs[0], Picture)
