"""A DINOv2 that was exported to ONNX, made into a folder of transformers once and kept.

The exporter of PyTorch keeps the names of most weights, but folds others into nameless constants: the weight of every
linear layer stands transposed in a `MatMul`, and the position embeddings are cut into the class token's and the
patches', since the latter are interpolated. Both are found again by what they are used for: a product's weight belongs
to the bias that is added to the product, and the positions are told by their shape. A weight that is not found, and
one that has no place, is an error, never a guess. `converted` keeps the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leadline.errors import ModelError
from leadline.events import SILENT, EventSink
from leadline.models.converted import Conversion, converted_copy
from leadline.models.pretrained import read_config, read_module

__all__ = ["dinov2_folder"]

# Raise it when a conversion gives other files than before.
_FORMAT = 1
# What the exported module calls its DINOv2; the rest (a head of another task) is left out.
_TRUNK = "backbone."
_CLASS = f"{_TRUNK}embeddings.cls_token"
# Heads are this wide in every published DINOv2; the graph holds their number only inside its reshapes.
_D_HEAD = 64
_EMBEDDINGS = ("cls_token", "patch_embeddings.projection.weight", "patch_embeddings.projection.bias")
_NORMS = ("norm1.weight", "norm1.bias", "layer_scale1.lambda1", "norm2.weight", "norm2.bias", "layer_scale2.lambda1")
_LINEARS = (
    "attention.attention.query",
    "attention.attention.key",
    "attention.attention.value",
    "attention.output.dense",
    "mlp.fc1",
    "mlp.fc2",
)
# As published with DINOv2: the shorter side to 256 pixels, the middle 224 by 224, normalised by ImageNet's figures.
_PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def dinov2_folder(file: Path, install: str, events: EventSink = SILENT) -> Path:
    """The folder with the DINOv2 of an ONNX file as float32 weights, converted if it is not there or damaged.

    Parameters
    ----------
    file : an export of a module whose `backbone` is a Dinov2Model.
    install : the command that installs the file, for the error that says it is another one.
    events : takes the stage `convert`.

    Raises
    ------
    ModelError : the file is no ONNX, holds another model, or the package `onnx` is not installed.
    OutputError : the cache folder cannot be written to.
    """
    conversion = Conversion(
        result="float32 weights for transformers",
        versions={"format": _FORMAT},
        needs=("onnx",),
        extra="onnx",
        write=partial(_write, install),
    )
    return converted_copy(file, conversion, events)


def _write(install: str, file: Path, folder: Path, events: EventSink) -> None:
    from safetensors.numpy import save_file

    state = _state(file, install)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (("config.json", _config(state)), ("preprocessor_config.json", _PREPROCESSOR)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    # transformers renames the weights as it loads them; what it then lacks is told now rather than at each load.
    config = read_config(folder, local_files_only=True)
    read_module(folder, config, torch.float32, events=events, local_files_only=True)


def _state(file: Path, install: str) -> dict[str, np.ndarray]:
    """The weights of a file under the names that DINOv2's checkpoints give them, as float32."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(file.read_bytes()).graph
        return _named(graph, {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer})
    except (DecodeError, ValueError, TypeError) as error:
        raise ModelError(
            f"'{file}' is not the DINOv2 in ONNX that was expected: {error}. Install it again: {install}"
        ) from error


def _named(graph: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The trunk's weights by name, from the graph's constants; ValueError if there are too few or too many."""
    named = {name.removeprefix(_TRUNK): array for name, array in arrays.items() if name.startswith(_TRUNK)}
    for bias, weight in _products(graph, arrays):
        # ONNX multiplies by (inputs, outputs), torch keeps (outputs, inputs).
        named[f"{bias.removeprefix(_TRUNK).removesuffix('bias')}weight"] = arrays[weight].T
    named |= _positions(arrays)
    wanted = _names(sum(name.endswith(".norm1.weight") for name in named))
    if lacking := sorted(wanted - named.keys()):
        raise ValueError(f"it lacks {lacking[0]}")
    if left := sorted(named.keys() - wanted):
        raise ValueError(f"it holds {left[0]}, which has no place")
    return {name: np.ascontiguousarray(named[name], dtype=np.float32) for name in sorted(wanted)}


def _products(graph: Any, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """The name of each bias of the trunk that is added to a product, and of the constant in that product."""
    weights = {
        node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in arrays
    }
    for node in graph.node:
        if node.op_type == "Add":
            first, second = node.input
            for product, bias in ((first, second), (second, first)):
                if product in weights and bias.startswith(_TRUNK) and bias in arrays:
                    yield bias, weights[product]


def _positions(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The position embeddings, (1, 1 + n_patches, d_model), by their name; nothing where they are not found."""
    d_model = arrays[_CLASS].shape[-1] if _CLASS in arrays else 0
    nameless = [array for name, array in arrays.items() if name.startswith("onnx::") and array.ndim == 3]
    first = [array for array in nameless if array.shape == (1, 1, d_model)]
    rest = [array for array in nameless if array.shape[1] > 1 and array.shape == (1, array.shape[1], d_model)]
    if len(first) != 1 or len(rest) != 1:
        return {}
    return {"embeddings.position_embeddings": np.concatenate([first[0], rest[0]], axis=1)}


def _names(n_layers: int) -> set[str]:
    """What the checkpoint of a DINOv2 holds, but for the mask token, which only its training uses."""
    names = {f"embeddings.{name}" for name in (*_EMBEDDINGS, "position_embeddings")}
    names |= {"layernorm.weight", "layernorm.bias"}
    for i in range(max(1, n_layers)):
        names |= {f"encoder.layer.{i}.{name}" for name in _NORMS}
        names |= {f"encoder.layer.{i}.{name}.{kind}" for name in _LINEARS for kind in ("weight", "bias")}
    return names


def _config(state: dict[str, np.ndarray]) -> dict[str, object]:
    """The config that the shapes of the weights tell."""
    d_model, n_channels, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
    n_patches = state["embeddings.position_embeddings"].shape[1] - 1
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": d_model,
        "num_hidden_layers": sum(name.endswith(".norm1.weight") for name in state),
        "num_attention_heads": d_model // _D_HEAD,
        "mlp_ratio": state["encoder.layer.0.mlp.fc1.bias"].shape[0] // d_model,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": isqrt(n_patches) * patch,
        "patch_size": patch,
        "num_channels": n_channels,
        "qkv_bias": True,
        "use_mask_token": False,
    }
