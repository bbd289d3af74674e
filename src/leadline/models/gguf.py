"""GGUF files, made dense once and kept.

transformers takes long to make a GGUF dense (it reads the file's metadata as Python objects, several times), so the
dense float32 weights and the tokenizer are saved in the cache; `converted` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from leadline.errors import ModelError
from leadline.events import SILENT, EventSink
from leadline.models.converted import Conversion, converted_copy
from leadline.models.pretrained import read_config, read_module, read_tokenizer
from leadline.models.quiet import quiet

__all__ = ["dense_folder"]

# Raise it when a conversion gives other files than before.
_FORMAT = 1


def dense_folder(file: Path, events: EventSink = SILENT) -> Path:
    """The folder with a GGUF file's dense float32 weights and tokenizer, converted if it is not there or damaged.

    Raises
    ------
    ModelError : the file is no GGUF, cannot be converted, or the packages to do so are not installed.
    ArchitectureError : the table has no row for its architecture.
    OutputError : the cache folder cannot be written to.
    """
    import transformers

    try:
        with open(file, "rb") as handle:
            magic = handle.read(4)
    except OSError as error:
        raise ModelError(f"cannot read '{file}' ({error.strerror}); make it readable or give another.") from error
    if magic != b"GGUF":
        raise ModelError(f"'{file}' is not a GGUF file (it does not begin with 'GGUF'); give another, or a folder.")
    conversion = Conversion(
        result="dense float32 weights",
        versions={"format": _FORMAT, "transformers": transformers.__version__},
        needs=("gguf", "accelerate"),
        extra="gguf",
        write=_write,
    )
    return converted_copy(file, conversion, events)


def _write(file: Path, folder: Path, events: EventSink) -> None:
    import transformers

    # Versions without this class make every GGUF dense; later ones keep it packed unless told.
    dense = (
        {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}
    )
    # The config is read by itself and handed on, which saves reading the metadata twice more.
    config = read_config(file.parent, gguf_file=file.name, local_files_only=True)
    with _without_bar():
        module = read_module(
            file.parent, config, torch.float32, events=events, gguf_file=file.name, local_files_only=True, **dense
        )
    tokenizer = read_tokenizer(file.parent, gguf_file=file.name, config=config, local_files_only=True)
    with quiet():
        module.save_pretrained(folder)  # type: ignore[operator]
        tokenizer.save_pretrained(folder)


@contextmanager
def _without_bar() -> Iterator[None]:
    """Hide the one progress bar that transformers draws without asking its own switch."""
    from transformers import modeling_gguf_pytorch_utils as loader

    drawn = getattr(loader, "tqdm", None)
    if drawn is None:
        yield
        return
    loader.tqdm = partial(drawn, disable=True)
    try:
        yield
    finally:
        loader.tqdm = drawn
