"""Data sets of pictures, sounds, arrays and captioned pictures: reading, fingerprints, checks, and the way to disk."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from leadline.data import Array, Captioned, Dataset, Picture, Sound, pairing_column
from leadline.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Thirty files, and a table that names them by paths relative to itself."""
    made = tmp_path / "set"
    (made / "images").mkdir(parents=True)
    for i in range(30):
        (made / "images" / f"{i:02d}.png").write_bytes(f"picture {i}".encode())
    rows = ["image,label,prompt", *(f"images/{i:02d}.png,{i % 2},What is {i}?" for i in range(30))]
    (made / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return made


def bytes_rows(n=30):
    return [{"image": f"picture {i}".encode(), "label": i % 2, "prompt": f"What is {i}?"} for i in range(n)]


def test_paths_are_relative_to_the_data_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.from_csv("set/table.csv", image="image", target="label")
    assert (data.modality, data.is_chat, data.has_text) == ("image", False, False)
    assert data.inputs[3].modality == "image"
    assert data.inputs[3] == Picture(folder / "images" / "03.png")
    assert data.texts[:2] == ["00.png", "01.png"]
    assert (data.text_column, data.media_column) == ("image", "image")
    assert repr(data).startswith("Dataset('table': 30 pictures; label")


def test_rows_start_from_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rows = [{"image": f"images/{i:02d}.png", "label": i % 2} for i in range(30)]
    data = Dataset.from_rows(rows, image="image", target="label")
    assert data.fingerprint == Dataset.from_csv(folder / "table.csv", image="image", target="label").fingerprint
    assert data.check() == ()


def test_the_fingerprint_follows_contents_and_not_paths(folder):
    by_path = Dataset.from_csv(folder / "table.csv", image="image", target="label")
    by_bytes = Dataset.from_rows(bytes_rows(), image="image", target="label")
    assert by_bytes.fingerprint == by_path.fingerprint
    sounds = Dataset.from_rows(bytes_rows(), audio="image", target="label")
    captioned = Dataset.from_rows(bytes_rows(), image="image", text="prompt", target="label")
    (folder / "images" / "07.png").write_bytes(b"another")
    changed = Dataset.from_csv(folder / "table.csv", image="image", target="label")
    assert len({by_path.fingerprint, sounds.fingerprint, captioned.fingerprint, changed.fingerprint}) == 4


def test_records_of_the_hub_give_bytes_first():
    records = [{"bytes": b"one", "path": "gone.png"}, {"bytes": b"two", "path": None}]
    frame = pl.DataFrame({"image": records, "label": [0, 1]})
    data = Dataset.from_frame(frame, image="image", target="label")
    assert data.inputs == (Picture(data=b"one"), Picture(data=b"two"))


def test_missing_files_are_named_with_their_rows(folder):
    (folder / "images" / "04.png").unlink()
    with pytest.raises(DataError, match=r"row 5 of column 'image' of .* names a file that is not there: '.*04.png'"):
        Dataset.from_csv(folder / "table.csv", image="image", target="label")
    for i in (7, 9, 11):
        (folder / "images" / f"{i:02d}.png").unlink()
    with pytest.raises(DataError, match=r"rows 5, 8, 10 and 12 .*04.png' in row 5, .*09.png' in row 10, …"):
        Dataset.from_csv(folder / "table.csv", image="image", target="label")


def test_columns_that_hold_no_media():
    rows = [{"image": b"x", "n": 1, "label": 0}, {"image": None, "n": 2, "label": 1}]
    with pytest.raises(DataError, match="row 2 of column 'image' of 'rows' has no picture"):
        Dataset.from_rows(rows, image="image", target="label")
    with pytest.raises(
        DataError, match=r"column 'n' .* type Int64; expected paths of files or their bytes for each sound"
    ):
        Dataset.from_rows(rows, audio="n", target="label")
    with pytest.raises(DataError, match=r"no column 'imag' for the image.*Did you mean 'image'"):
        Dataset.from_rows(rows, image="imag", target="label")
    with pytest.raises(DataError, match=r"together with an image column; a sound stands alone"):
        Dataset.from_rows(rows, audio="image", image="image", target="label")
    with pytest.raises(DataError, match=r"together with a text column; a sound stands alone"):
        Dataset.from_rows(rows, audio="image", text="label", target="label")
    with pytest.raises(DataError, match=r"Encoded files are read with image='image'"):
        Dataset.from_rows(rows, text="image", target="label")
    with pytest.raises(DataError, match=r"or a column of inputs \('image'\)"):
        Dataset.from_rows(rows[:1], image="image", target="image")


def test_an_image_beside_a_text_is_a_captioned_picture():
    data = Dataset.from_rows(bytes_rows(), image="image", text="prompt", target="label")
    assert (data.modality, data.has_text, data.text_column, data.media_column) == (
        "captioned",
        True,
        "prompt",
        "image",
    )
    assert data.inputs[2] == Captioned(Picture(data=b"picture 2"), "What is 2?")
    assert data.texts[2] == "What is 2?"
    # Without an explicit `text`, a column of that name is no prompt.
    plain = Dataset.from_rows([{**r, "text": "x"} for r in bytes_rows()], image="image", target="label")
    assert plain.modality == "image"
    chats = [{**r, "prompt": [{"role": "user", "content": "x"}]} for r in bytes_rows()]
    with pytest.raises(DataError, match="row 1 of column 'prompt' of 'rows' holds a chat"):
        Dataset.from_rows(chats, image="image", text="prompt", target="label")


def test_equal_files_share_one_object():
    rows = [{"image": b"same", "prompt": f"{i}", "label": i % 2} for i in range(4)]
    data = Dataset.from_rows(rows, image="image", text="prompt", target="label")
    assert len({id(x.picture) for x in data.inputs}) == 1


def test_one_kind_of_input_a_data_set():
    frame = pl.DataFrame({"text": ["a", "b"]})
    with pytest.raises(DataError, match="mixes texts and pictures; a data set has inputs of one kind"):
        Dataset("x", "x", ("a", Picture(data=b"b")), (), None, None, frame, "text")
    with pytest.raises(DataError, match="an input is of type ndarray; expected a text"):
        Dataset("x", "x", ("a", np.zeros(2)), (), None, None, frame, "text")


def test_arrays_with_labels_and_groups():
    pixels = np.random.default_rng(0).normal(size=(40, 3, 4, 4))
    labels = {"odd": np.arange(40) % 2, "size": np.linspace(0, 1, 40)}
    data = Dataset.from_arrays(pixels, labels, groups=[i // 4 for i in range(40)], splits=[i > 30 for i in range(40)])
    assert (data.modality, data.has_text, data.n) == ("array", False, 40)
    assert [t.name for t in data.targets] == ["odd", "size"]
    assert data.inputs[5] == Array(pixels[5])
    assert data.texts[4] == "row 5"
    assert data.select([4]).texts == ["row 5"]
    assert data.groups[:5].tolist() == ["0", "0", "0", "0", "1"]
    assert len(data.test_rows) == 9
    assert Dataset.from_arrays(pixels, labels["odd"]).targets[0].name == "label"
    assert Dataset.from_arrays([np.zeros(3), np.zeros((2, 5))]).targets == ()
    ragged = Dataset.from_arrays(list(pixels), ["a", "b", "c", "a"] * 10, kind="binary", positive="a", name="mine")
    assert (ragged.name, ragged.targets[0].negative) == ("mine", "not a")
    named_row = Dataset.from_arrays(np.zeros((2, 1)), {"row": [0, 1]})
    assert named_row.target("row").values.tolist() == [[0], [1]]


def test_arrays_that_do_not_fit_are_named():
    with pytest.raises(DataError, match="row 2 of the inputs: the array holds numbers that are not finite"):
        Dataset.from_arrays([[1.0], [np.inf]], [0, 1])
    with pytest.raises(DataError, match="'label' has 3 entries, the inputs 2 rows"):
        Dataset.from_arrays(np.zeros((2, 2)), [0, 1, 1])
    with pytest.raises(DataError, match="a target is called 'group'"):
        Dataset.from_arrays(np.zeros((2, 2)), {"group": [0, 1]})
    for bad in ("text", [], None, {"a": 1}):
        with pytest.raises(DataError, match="expected an array of shape"):
            Dataset.from_arrays(bad, [0, 1])


def make(kind, folder):
    """A small data set of each kind that is no text, with a group and a split."""
    rows = [{**r, "g": f"g{i // 2}", "part": i % 5 == 0} for i, r in enumerate(bytes_rows(10))]
    options = {"target": "label", "group": "g", "split": "part"}
    if kind == "array":
        arrays = [np.arange(i + 1, dtype=[np.float32, np.int16][i % 2]) for i in range(10)]
        return Dataset.from_arrays(arrays, [i % 2 for i in range(10)])
    if kind == "paths":
        return Dataset.from_csv(folder / "table.csv", image="image", target="label")
    if kind == "audio":
        return Dataset.from_rows(rows, audio="image", **options)
    return Dataset.from_rows(rows, image="image", text="prompt" if kind == "captioned" else None, **options)


@pytest.mark.parametrize("kind", ["image", "captioned", "audio", "array", "paths"])
def test_written_media_come_back_equal(tmp_path, folder, kind):
    data = make(kind, folder).select([7, 2, 2, 0])
    data.write(tmp_path / "made")
    back = Dataset.read(tmp_path / "made")
    assert back.inputs == data.inputs
    assert back.texts == data.texts
    assert back.fingerprint == data.fingerprint
    assert (back.modality, back.media_column, back.text_column) == (data.modality, data.media_column, data.text_column)
    assert back.frame.equals(data.frame)
    assert json.loads((tmp_path / "made" / "dataset.json").read_text(encoding="utf-8"))["format"] == 2


def test_bytes_are_written_once_and_files_not_at_all(tmp_path, folder):
    bulk = [np.random.default_rng(i).bytes(20_000) for i in range(10)]
    data = Dataset.from_rows([{"image": b, "label": i % 2} for i, b in enumerate(bulk)], image="image", target="label")
    data.write(tmp_path / "one")
    assert (tmp_path / "one" / "dataset.parquet").stat().st_size < 1.2 * 200_000
    # Pictures that the frame does not hold are written beside it.
    Dataset("x", "x", data.inputs, data.targets, None, None, data.frame.drop("image"), "image").write(tmp_path / "two")
    assert Dataset.read(tmp_path / "two").inputs == data.inputs
    # So are those that its column of that name does not hold.
    others = tuple(Picture(data=x.data + b"!") for x in data.inputs)
    Dataset("x", "x", others, (), None, None, data.frame, "image", media_column="image").write(tmp_path / "two")
    assert Dataset.read(tmp_path / "two").inputs == others
    for i, raw in enumerate(bulk):
        (folder / "images" / f"{i:02d}.png").write_bytes(raw)
    make("paths", folder).write(tmp_path / "three")
    assert (tmp_path / "three" / "dataset.parquet").stat().st_size < 20_000


def test_a_store_of_files_is_opened_without_them_and_says_what_changed(tmp_path, folder):
    data = make("paths", folder)
    data.write(tmp_path / "made")
    (folder / "images" / "00.png").unlink()
    (folder / "images" / "01.png").write_bytes(b"another")
    back = Dataset.read(tmp_path / "made")
    assert back.fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"00.png' cannot be read \(No such file"):
        back.inputs[0].load()
    with pytest.raises(DataError, match=r"01.png' has changed since"):
        back.inputs[1].load()
    assert back.inputs[2].read() == b"picture 2"


def test_writing_what_is_gone_is_refused(tmp_path, folder):
    data = make("paths", folder)
    (folder / "images" / "00.png").unlink()
    with pytest.raises(DataError, match=r"00.png' cannot be read"):
        data.write(tmp_path / "made")
    assert not (tmp_path / "made" / "dataset.json").exists()


def test_edited_bytes_are_refused(tmp_path):
    make("image", None).write(tmp_path)
    table = pl.read_parquet(tmp_path / "dataset.parquet")
    changed = pl.Series("image", [b"forged", *table["image"].to_list()[1:]])
    table.with_columns(changed).write_parquet(tmp_path / "dataset.parquet")
    with pytest.raises(DataError, match="edited or mixed up"):
        Dataset.read(tmp_path)
    table.drop("leadline.media.name").write_parquet(tmp_path / "dataset.parquet")
    with pytest.raises(DataError, match="is damaged"):
        Dataset.read(tmp_path)


def test_large_bytes_are_written_in_several_row_groups(tmp_path, monkeypatch):
    import leadline.data.storage as storage

    monkeypatch.setattr(storage, "_MOST_BYTES", 1_000)
    data = Dataset.from_arrays([np.full(i + 50, i, dtype=np.int64) for i in range(30)], [i % 2 for i in range(30)])
    data.write(tmp_path)
    assert Dataset.read(tmp_path).fingerprint == data.fingerprint
    table = pl.DataFrame({"b": [b"x" * 400, None, b"y" * 700]})
    assert storage._rows_a_group(table) == 1
    assert storage._rows_a_group(table.head(2)) is None


def test_the_check_knows_no_lengths_of_pictures_but_their_duplicates():
    # Names as long as the labels are large: a text would be warned of.
    rows = [{"image": b"%d" % (i // 2), "label": i % 2, "part": i % 8 in (1, 2)} for i in range(40)]
    data = Dataset.from_rows(rows, image="image", target="label", split="part")
    assert [f.code for f in data.check()] == ["conflicting_duplicates", "text_crosses_split"]
    named = tuple(Picture(data=x.data, name="n" * (1 + 9 * (i % 2))) for i, x in enumerate(data.inputs))
    named_data = Dataset("x", "x", named, data.targets, None, None, data.frame, "image")
    assert [f.code for f in named_data.check()] == ["conflicting_duplicates"]


def test_the_check_reads_captions_as_texts():
    rows = [{**r, "prompt": "much longer " * 3 if r["label"] else "short"} for r in bytes_rows()]
    data = Dataset.from_rows(rows, image="image", text="prompt", target="label")
    assert [f.code for f in data.check()] == ["length"]
    rows[3]["prompt"] = " "
    with pytest.raises(DataError, match="row 4 of column 'prompt' is empty"):
        Dataset.from_rows(rows, image="image", text="prompt", target="label").check()


def test_a_column_of_bytes_pairs_nothing():
    rows = [{"text": f"t{i}", "raw": b"%d" % (i // 2), "label": i % 2} for i in range(40)]
    data = Dataset.from_rows(rows, target="label")
    assert pairing_column(data, data.targets[0]) is None
    as_text = Dataset.from_rows([{**r, "raw": r["raw"].decode()} for r in rows], target="label")
    assert pairing_column(as_text, as_text.targets[0]) == ("raw", 1.0)


def test_sounds_of_a_data_set_are_sounds():
    data = make("audio", None)
    assert data.modality == "audio"
    assert data.inputs[1] == Sound(data=b"picture 1")
    assert data.texts[1] == "row 2"
