"""Files to frames: types, encodings, and the line of whatever is broken."""

from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest

from leadline.data.readers import frame_of_rows, read_csv, read_jsonl, read_parquet
from leadline.errors import DataError


def write(tmp_path, content, name="given.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_csv_columns_get_the_type_that_every_field_has(tmp_path):
    path = write(tmp_path, "text,n,x,ok,code,mixed,gap\na,1,0.5,True,007,1,\nb,-2,1e3,false,010,two,3\n")
    frame = read_csv(path)
    assert frame.schema == {
        "text": pl.String,
        "n": pl.Int64,
        "x": pl.Float64,
        "ok": pl.Boolean,
        "code": pl.String,
        "mixed": pl.String,
        "gap": pl.Int64,
    }
    assert frame.rows() == [
        ("a", 1, 0.5, True, "007", "1", None),
        ("b", -2, 1000.0, False, "010", "two", 3),
    ]


def test_csv_numbers_too_large_for_64_bits_stay_text(tmp_path):
    frame = read_csv(write(tmp_path, "id\n123456789012345678901234567890\n1\n"))
    assert frame["id"].to_list() == ["123456789012345678901234567890", "1"]


def test_csv_nan_is_a_number_and_na_is_text(tmp_path):
    frame = read_csv(write(tmp_path, "x,country\n1.5,NA\nnan,DE\n"))
    assert np.isnan(frame["x"][1])
    assert frame["country"].to_list() == ["NA", "DE"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_csv_mark_at_the_beginning_is_not_part_of_the_header(tmp_path, encoding):
    frame = read_csv(write(tmp_path, "text,label\nZürich,1\n".encode(encoding)))
    assert frame.rows() == [("Zürich", 1)]
    assert frame.columns == ["text", "label"]


def test_csv_in_another_encoding_names_the_line_and_is_read_when_told(tmp_path):
    path = write(tmp_path, "text,label\nplain,0\nZürich,1\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"not utf-8: line 3 .*encoding='cp1252'"):
        read_csv(path)
    assert read_csv(path, encoding="cp1252")["text"].to_list() == ["plain", "Zürich"]
    with pytest.raises(DataError, match="unknown encoding 'latin-99'"):
        read_csv(path, encoding="latin-99")


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("\n\n", "is empty"), ("text,label\n", "no rows")])
def test_csv_without_rows(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_csv(write(tmp_path, content))


@pytest.mark.parametrize(("row", "fields"), [("a,1,extra", "3 fields"), ("a", "1 field,")])
def test_csv_ragged_row_is_named_by_its_line(tmp_path, row, fields):
    # The quoted field spans two lines, so the bad row is the fourth line of the file and the second row.
    path = write(tmp_path, f'text,label\n"two\nlines",1\n{row}\nb,0\n')
    with pytest.raises(DataError, match=f"line 4 of .* has {fields}.* header has 2"):
        read_csv(path)


@pytest.mark.parametrize("content", ['text,label\na,1\n"open,0\n', 'text,label\na,1\n"bad"quote,0\n'])
def test_csv_broken_quotes_are_named_by_their_line(tmp_path, content):
    with pytest.raises(DataError, match="line 3 of"):
        read_csv(write(tmp_path, content))


def test_csv_header_with_a_name_twice(tmp_path):
    with pytest.raises(DataError, match="names 'a' more than once"):
        read_csv(write(tmp_path, "a,b,a\n1,2,3\n"))


def test_csv_header_with_an_index_without_name(tmp_path):
    assert read_csv(write(tmp_path, ",text\n0,a\n")).columns == ["column_1", "text"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_separator_is_seen_in_a_header_without_commas(tmp_path, separator):
    path = write(tmp_path, f"text{separator}label\none, two{separator}1\n")
    assert read_csv(path).rows() == [("one, two", 1)]


def test_csv_separator_can_be_given(tmp_path):
    path = write(tmp_path, "text,a|label\none|1\n")
    assert read_csv(path, separator="|").rows() == [("one", 1)]
    with pytest.raises(DataError, match="not one character"):
        read_csv(path, separator="||")


def test_missing_files_offer_the_nearest_name(tmp_path):
    write(tmp_path, "text\na\n", "cities.csv")
    with pytest.raises(DataError, match=r"there is no file .*citis.csv'. Did you mean 'cities.csv'\?"):
        read_csv(tmp_path / "citis.csv")
    with pytest.raises(DataError, match=r"its folder .*nowhere' does not exist"):
        read_jsonl(tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read_parquet(tmp_path)


def test_jsonl_keys_that_a_row_lacks_are_null_and_nested_values_become_text(tmp_path):
    path = write(tmp_path, '{"text": "a", "tags": ["x", "ü"]}\n\n{"text": "b", "label": 1}\n', "given.jsonl")
    assert read_jsonl(path).to_dicts() == [
        {"text": "a", "tags": '["x", "ü"]', "label": None},
        {"text": "b", "tags": None, "label": 1},
    ]


def test_jsonl_lines_end_at_line_feeds_alone(tmp_path):
    path = write(tmp_path, '{"text": "a\u2028b\x85c"}\r\n{"text": "d"}\n', "given.jsonl")
    assert read_jsonl(path)["text"].to_list() == ["a\u2028b\x85c", "d"]


def test_jsonl_array_is_read_too(tmp_path):
    assert read_jsonl(write(tmp_path, '[{"a": 1},\n {"a": 2}]', "x.json"))["a"].to_list() == [1, 2]
    with pytest.raises(DataError, match="line 2 of"):
        read_jsonl(write(tmp_path, '[{"a": 1},\n {"a": }]', "y.json"))
    with pytest.raises(DataError, match=r"item 2 .*is a number"):
        read_jsonl(write(tmp_path, '[{"a": 1}, 2]', "z.json"))
    with pytest.raises(DataError, match="no rows"):
        read_jsonl(write(tmp_path, "[]", "e.json"))


def test_jsonl_broken_line_is_named(tmp_path):
    path = write(tmp_path, '{"text": "a"}\n{"text": "b", \n{"text": "c"}\n', "x.jsonl")
    with pytest.raises(DataError, match=r"line 2 of .* is not JSON .*column"):
        read_jsonl(path)
    with pytest.raises(DataError, match=r"line 2 of .* is a text; expected an object"):
        read_jsonl(write(tmp_path, '{"text": "a"}\n"b"\n', "y.jsonl"))
    with pytest.raises(DataError, match="is empty"):
        read_jsonl(write(tmp_path, "\n", "z.jsonl"))


def test_jsonl_half_of_a_surrogate_pair_is_refused(tmp_path):
    path = write(tmp_path, '{"text": "fine"}\n{"text": "\\ud83d"}\n', "x.jsonl")
    with pytest.raises(DataError, match=r"row 2 of column 'text' .*surrogate"):
        read_jsonl(path)


def test_rows_of_mixed_types_become_text_and_none_is_lost():
    frame = frame_of_rows([{"a": 1, "b": 1, "c": True}, {"a": "x", "b": 2.5, "c": 3}, {"a": None, "b": None}])
    assert frame["a"].to_list() == ["1", "x", None]
    assert frame["b"].to_list() == [1.0, 2.5, None]
    assert frame["c"].to_list() == ["true", "3", None]


def test_rows_take_numpy_values_large_numbers_and_dates():
    day = datetime.date(2024, 2, 29)
    frame = frame_of_rows([{"a": np.float32(0.5), "b": np.bool_(True), "c": 2**70, "d": day, "e": np.array([1, 2])}])
    assert frame.rows() == [(0.5, True, str(2**70), day, "[1, 2]")]
    assert frame.schema["a"] == pl.Float64


def test_rows_that_are_no_rows():
    with pytest.raises(DataError, match="no rows were given"):
        frame_of_rows([])
    with pytest.raises(DataError, match="row 2 is a list"):
        frame_of_rows([{"a": 1}, ["a", 1]])
    with pytest.raises(DataError, match="key 5"):
        frame_of_rows([{5: 1}])


def test_parquet_that_is_none_or_empty(tmp_path):
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_parquet(write(tmp_path, "text,label\n", "x.parquet"))
    pl.DataFrame({"text": []}).write_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match=r"has columns \(text\) but no rows"):
        read_parquet(tmp_path / "y.parquet")
