"""Files and rows to a table: bytes come in, a polars frame goes out, and nothing is dropped or filled in between.

Polars reads Parquet. CSV and JSONL are read here line by line, because polars fills a short CSV row with nulls and
names no line of a broken file. An empty CSV field is a null; a nested JSON value (a list, an object) becomes JSON text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from leadline.errors import DataError, did_you_mean

__all__ = ["frame_of_columns", "frame_of_rows", "read_csv", "read_jsonl", "read_parquet", "read_table", "read_text"]

_INTEGER = r"^[+-]?(0|[1-9][0-9]*)$"
_NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:nan|inf|infinity)$"
_BOOLEAN = r"^(?i:true|false)$"


def read_csv(path: str | Path, *, separator: str | None = None, encoding: str | None = None) -> pl.DataFrame:
    """Read a CSV file with a header line.

    A column becomes Boolean, Int64 or Float64 where every field of it is one, and else stays text; numbers with a
    leading zero are text. A byte order mark is skipped.

    Parameters
    ----------
    separator : one character; by default the comma, or a tab or semicolon where the header has that and no comma.
    encoding : by default UTF-8, or UTF-16 where the file begins with its mark.

    Raises
    ------
    DataError : no such file, an empty one, other bytes than the encoding has, a row with more or fewer fields than
        the header, an unclosed quote.
    """
    text = read_text(path, encoding)
    if not text.strip():
        raise DataError(f"'{path}' is empty; expected a header line and a line for each row.")
    if separator is None:
        header = text.lstrip("\r\n").partition("\n")[0]
        separator = next((s for s in ",\t;" if s in header), ",")
    elif len(separator) != 1:
        raise DataError(f"the separator {separator!r} is not one character; give one, as in separator=';'.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    line = 1
    try:
        for fields in reader:
            if not fields:
                pass
            elif not names:
                names = _header(fields, path)
            elif len(fields) != len(names):
                raise DataError(
                    f"line {line} of '{path}' has {_count(len(fields), 'field')}, but its header has {len(names)}. "
                    f"Put quotes around a field that holds a {separator!r}, and write every field, empty ones too."
                )
            else:
                rows.append(fields)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {line} of '{path}' cannot be read as CSV ({error}). A field with quotes in it is written "
            f'"like ""this"""; long documents are better kept as JSONL or Parquet.'
        ) from error
    if not rows:
        raise DataError(f"'{path}' has a header ({', '.join(names)}) but no rows.")
    columns = zip(*rows)
    return pl.DataFrame(
        [_typed(pl.Series(name, list(fields), dtype=pl.String)) for name, fields in zip(names, columns)]
    )


def read_jsonl(path: str | Path, *, encoding: str | None = None) -> pl.DataFrame:
    """Read a file with one JSON object a line, or one JSON array of objects.

    Raises
    ------
    DataError : no such file, an empty one, a line that is not a JSON object (with its number).
    """
    text = read_text(path, encoding)
    if not text.strip():
        raise DataError(f"'{path}' is empty; expected one JSON object a line.")
    rows: list[Mapping[str, Any]] = []
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"line {error.lineno} of '{path}' is not JSON ({error.msg}, column {error.colno}); "
                f"expected an array of objects, or one object a line."
            ) from error
        for number, item in enumerate(items, start=1):
            rows.append(_object(item, f"item {number} of '{path}'"))
    else:
        # Not splitlines(): JSON strings may hold U+2028 and other marks that it takes for line ends.
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                start = line.strip()[:60]
                raise DataError(
                    f"line {number} of '{path}' is not JSON ({error.msg}, column {error.colno}): {start!r}. "
                    f'Expected one whole object a line, as in {{"text": "…", "label": 1}}.'
                ) from error
            rows.append(_object(item, f"line {number} of '{path}'"))
    if not rows:
        raise DataError(f"'{path}' holds no rows.")
    return frame_of_rows(rows)


def read_parquet(path: str | Path) -> pl.DataFrame:
    """Read a Parquet file.

    Raises
    ------
    DataError : no such file, not a Parquet file, or one without rows.
    """
    file = _existing(path)
    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"'{path}' cannot be read as Parquet ({_first_line(error)}); write it anew, or give the file's true kind."
        ) from error
    if frame.height == 0:
        raise DataError(f"'{path}' has columns ({', '.join(frame.columns)}) but no rows.")
    return frame


def read_table(path: str | Path, *, separator: str | None = None, encoding: str | None = None) -> pl.DataFrame:
    """Read a table by its file's suffix: .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .pq.

    Raises
    ------
    DataError : another suffix, an option that its kind of file does not have, or what the reader of its kind raises.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        return read_csv(path, separator=separator or ("\t" if suffix == ".tsv" else None), encoding=encoding)
    if separator is not None:
        raise DataError(f"separator={separator!r} was given for '{path}', which is no CSV file; leave it out.")
    if suffix in (".jsonl", ".ndjson", ".json"):
        return read_jsonl(path, encoding=encoding)
    if suffix in (".parquet", ".pq"):
        if encoding is not None:
            raise DataError(
                f"encoding='{encoding}' was given for '{path}', which is Parquet and has none; leave it out."
            )
        return read_parquet(path)
    raise DataError(f"'{path}' is no table; expected a name that ends in .csv, .tsv, .jsonl, .json or .parquet.")


def frame_of_rows(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """A frame of dictionaries; a key that a row lacks is a null there.

    Raises
    ------
    DataError : no rows, or a row that is not a dictionary with text keys.
    """
    if not rows:
        raise DataError("no rows were given; expected a list of dictionaries, one a row.")
    names: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        _object(row, f"row {number}")
        names.update(dict.fromkeys(row))
    return frame_of_columns({name: [row.get(name) for row in rows] for name in names})


def frame_of_columns(columns: Mapping[str, Iterable[Any]]) -> pl.DataFrame:
    """A frame of Python or numpy values by column; a column of mixed or nested values becomes text."""
    return pl.DataFrame([_column(name, values) for name, values in columns.items()])


def _existing(path: str | Path) -> Path:
    file = Path(path)
    if file.is_file():
        return file
    if file.is_dir():
        raise DataError(f"'{path}' is a folder; expected a data file, as in a CSV, JSONL, Parquet or CoNLL-U file.")
    if not file.parent.is_dir():
        raise DataError(f"there is no file '{path}': its folder '{file.parent}' does not exist.")
    try:
        beside = [p.name for p in file.parent.iterdir()]
    except OSError:
        beside = []
    raise DataError(f"there is no file '{path}'." + (did_you_mean(file.name, beside) or " Check the name and folder."))


def read_text(path: str | Path, encoding: str | None = None) -> str:
    """A file's text, without its byte order mark; UTF-8 by default.

    Raises
    ------
    DataError : no such file, or other bytes than the encoding has.
    """
    file = _existing(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}); check who may read it.") from error
    if encoding is None:
        encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise DataError(f"unknown encoding '{encoding}'; give one that Python knows, as in 'cp1252'.") from error
    except UnicodeError as error:
        where = ""
        if isinstance(error, UnicodeDecodeError):
            line = raw.count(b"\n", 0, error.start) + 1
            where = f": line {line} holds {raw[error.start : error.start + 1]!r}"
        raise DataError(
            f"'{path}' is not {encoding}{where}. Save it as UTF-8, or name what it is, as in encoding='cp1252'."
        ) from error


def _header(fields: list[str], path: str | Path) -> list[str]:
    # An index written by a data frame library has no name.
    names = [field.strip() or f"column_{i}" for i, field in enumerate(fields, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the header of '{path}' names '{twice[0]}' more than once; give each column its own name.")
    return names


def _typed(texts: pl.Series) -> pl.Series:
    """The column as Boolean, Int64 or Float64 where each of its fields is one; an empty field is a null."""
    name = texts.name
    values = texts.to_frame().select(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name)).to_series()
    known = values.drop_nulls()
    if known.is_empty():
        return values
    if known.str.contains(_BOOLEAN).all():
        return (values.str.to_lowercase() == "true").alias(name)
    for pattern, dtype in ((_INTEGER, pl.Int64), (_NUMBER, pl.Float64)):
        if known.str.contains(pattern).all():
            numbers = values.str.strip_prefix("+").cast(dtype, strict=False)
            # A whole number that 64 bits do not hold is a name, and rounding would change it.
            return numbers if numbers.null_count() == values.null_count() else values
    return values


def _object(item: object, where: str) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise DataError(f"{where} is {_kind(item)}; expected an object with a value for each column.")
    for key in item:
        if not isinstance(key, str):
            raise DataError(f"{where} has the key {key!r}; expected text for the names of columns.")
    return item


def _kind(item: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if item is None else kinds.get(type(item), type(item).__name__)


def _column(name: str, values: Iterable[Any]) -> pl.Series:
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    plain = [v.tolist() if isinstance(v, np.ndarray) else v for v in plain]
    types = {type(v) for v in plain if v is not None}
    try:
        if types <= {bool}:
            return pl.Series(name, plain, dtype=pl.Boolean if types else pl.String)
        if types == {int}:
            return pl.Series(name, plain, dtype=pl.Int64)
        if types <= {int, float}:
            return pl.Series(name, [None if v is None else float(v) for v in plain], dtype=pl.Float64)
        if len(types) == 1 and not types & {str, list, tuple, dict}:
            found = pl.Series(name, plain)
            if found.dtype != pl.Object:
                return found
    except (TypeError, OverflowError, ValueError, pl.exceptions.PolarsError):
        pass
    try:
        return pl.Series(name, [_as_text(v) for v in plain], dtype=pl.String)
    except UnicodeEncodeError as error:
        row = next(i for i, v in enumerate(plain, start=1) if re.search("[\ud800-\udfff]", _as_text(v) or ""))
        raise DataError(
            f"row {row} of column '{name}' holds half of a surrogate pair, which no text has; repair that row."
        ) from error


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
