"""`load_model`: from a name, a folder, a file or a module to a proved `Model`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from leadline.errors import ModelError, did_you_mean
from leadline.events import SILENT, Event, EventSink, stage
from leadline.models.architectures import find_architectures
from leadline.models.catalogue import BUNDLED, Bundled, bundled_path
from leadline.models.dinov2_onnx import dinov2_folder
from leadline.models.gguf import dense_folder
from leadline.models.model import Model
from leadline.models.pretrained import plain_processor, read_config, read_module, read_processor, read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["load_model"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# How long to wait for the hub's first answer, in seconds, before it counts as unreachable.
_PATIENCE = 10.0


def load_model(
    spec: str | os.PathLike[str] | nn.Module,
    *,
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    revision: str | None = None,
    processor: Any = None,
    modules_only: bool = False,
    events: EventSink = SILENT,
) -> Model:
    """Load a model, and prove that its sites are where its architecture's row says.

    Parameters
    ----------
    spec : the name of a bundled model (`"smollm2-135m"`), a folder, a `.gguf` file, a Hugging Face id (looked up in
        the local cache first), or a transformers module, which is used as it is.
    tokenizer : a name, a folder or a tokenizer, in place of the model's own; needed for a module that reads text.
    dtype : `"float32"`, `"bfloat16"`, `"float16"` or torch's own. `"auto"` is bfloat16 where the device is fast in
        it (CUDA; a CPU with AMX) and float32 elsewhere, and leaves a module as it is.
    device : as torch names it. `"auto"` is CUDA where there is some, else the CPU, and leaves a module where it is.
    revision : a branch, tag or commit on the hub.
    processor : what turns pictures or sounds into arrays, in place of the model's own. With `modules_only`, a function
        from a list of inputs to a tensor (or to a mapping of arguments) with the batch first; arrays need none.
    modules_only : take a `torch.nn.Module` of any kind, prove nothing, and offer its modules alone, as in
        `module:layer4.1`.
    events : takes the stages `load` and `convert`.

    Raises
    ------
    ModelError : it cannot be found, reached or read, or dtype or device are not to be had.
    ArchitectureError : Leadline has no row for it, or the row is disproved on its weights.
    OutputError : a GGUF file was to be converted, but the cache cannot be written to.
    """
    if isinstance(spec, nn.Module):
        if revision is not None:
            raise ModelError("revision= is for models of the Hugging Face hub, but a module was given; leave it out.")
        return _from_module(spec, tokenizer, dtype, device, events, processor, modules_only)
    text = os.fspath(spec)
    if not text.strip():
        raise ModelError(
            f"no model was named; give a bundled model ({_bundled()}), a folder, a .gguf file or a hub id."
        )
    target = _device(device)
    wanted = _dtype(dtype, target)
    with stage(events, "load", text):
        name, source, where, options = _locate(text, revision, events)
        if revision is not None and isinstance(where, Path):
            raise ModelError(
                f"revision= is for models of the Hugging Face hub, but '{text}' is {source}; leave it out."
            )
        config = read_config(where, **options)
        module = read_module(where, config, wanted, events=events, **options)
        rows = find_architectures(config)
        own: Any = None
        if tokenizer is not None:
            own = _tokenizer(tokenizer, events)
        elif any("text" in row.inputs for row in rows):
            own = read_tokenizer(where, **options)
        if processor is None and any(row.inputs != "text" for row in rows):
            processor = read_processor(where, config, rows, events=events, **options)
        return Model(module.to(target), own, name=name, source=source, processor=processor, modules_only=modules_only)


def _from_module(
    module: nn.Module,
    tokenizer: Any,
    dtype: str | torch.dtype,
    device: str | torch.device,
    events: EventSink,
    processor: Any,
    modules_only: bool,
) -> Model:
    config = getattr(module, "config", None)
    rows = () if modules_only else find_architectures(config)
    if tokenizer is None and any("text" in row.inputs for row in rows):
        raise ModelError(
            f"a module was given ({type(module).__name__}) without its tokenizer; give tokenizer= (a name, a folder or "
            f"the object)."
        )
    own = None if tokenizer is None else _tokenizer(tokenizer, events)
    if device != "auto" and not any(parameter.is_meta for parameter in module.parameters()):
        module = module.to(_device(device))
    if dtype != "auto":
        module = module.to(_dtype(dtype, torch.device("cpu")))
    if processor is None:
        processor = plain_processor(config, rows, events)
    name = getattr(config, "_name_or_path", "") or type(module).__name__
    return Model(
        module,
        own,
        name=name,
        source=f"a {type(module).__name__} in memory",
        processor=processor,
        modules_only=modules_only,
    )


def _tokenizer(tokenizer: Any, events: EventSink) -> PreTrainedTokenizerBase:
    if not isinstance(tokenizer, (str, os.PathLike)):
        return tokenizer
    text = os.fspath(tokenizer)
    folder = Path(text).expanduser()
    # A folder with a tokenizer alone will do here, where a model's folder needs a config.
    if (folder / "tokenizer_config.json").is_file():
        return read_tokenizer(folder, local_files_only=True)
    _, _, where, options = _locate(text, None, events, weights=False)
    return read_tokenizer(where, **options)


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        if dtype in _DTYPES.values():
            return dtype
    elif dtype in _DTYPES:
        return _DTYPES[dtype]
    elif dtype == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
            fast = device.type == "cpu" and has_amx is not None and bool(has_amx())
        return torch.bfloat16 if fast else torch.float32
    raise ModelError(
        f"unknown dtype '{dtype}'; expected auto, {', '.join(_DTYPES)}." + did_you_mean(str(dtype), _DTYPES)
    )


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"unknown device '{device}'; expected auto, cpu, cuda or cuda:0.") from error
    if found.type == "cuda" and not (torch.cuda.is_available() and (found.index or 0) < torch.cuda.device_count()):
        have = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ModelError(f"the device '{device}' is not there: torch sees {have} CUDA devices. Use device='cpu'.")
    return found


def _locate(
    text: str, revision: str | None, events: EventSink, *, weights: bool = True
) -> tuple[str, str, str | Path, dict[str, Any]]:
    """Find what a name means: its name, its source, and what to give to transformers."""
    local = {"local_files_only": True}
    for model in BUNDLED:
        if text.lower() == model.name:
            return model.name, f"{model.path} of the package {model.package}", _bundled_folder(model, events), local
    path = Path(text).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"'{text}' is a file but no .gguf; expected a .gguf file or a folder with config.json.")
        return path.stem, str(path), dense_folder(path.resolve(), events), local
    if path.is_dir():
        if (path / "config.json").is_file():
            return path.resolve().name, str(path), path, local
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return files[0].stem, str(files[0]), dense_folder(files[0].resolve(), events), local
        held = f"{len(files)} .gguf files, of which to name one" if files else "neither config.json nor a .gguf file"
        raise ModelError(f"the folder '{text}' holds {held}; expected a model in the format of transformers.")
    if path.suffix.lower() == ".gguf" or path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ModelError(f"there is no file or folder '{text}'; check the path." + _nearest(text))
    options = _hub_options(text, revision, events, weights=weights)
    return text, f"{text} on the Hugging Face hub" + (f", revision {revision}" if revision else ""), text, options


def _bundled_folder(model: Bundled, events: EventSink) -> Path:
    """The folder that transformers reads a bundled model from."""
    path = bundled_path(model)
    if path.suffix == ".gguf":
        return dense_folder(path, events)
    if path.suffix == ".onnx":
        return dinov2_folder(path, model.install, events)
    return path


def _bundled() -> str:
    return ", ".join(model.name for model in BUNDLED)


def _nearest(text: str) -> str:
    return did_you_mean(text.lower(), [model.name for model in BUNDLED])


def _hub_options(name: str, revision: str | None, events: EventSink, *, weights: bool) -> dict[str, Any]:
    """Whether to load a hub name from the local cache or over the network; asks the hub once, and briefly.

    transformers itself would try for half a minute to reach a hub that is not there.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError

    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    not_found = f"cannot find the model '{name}': it is no bundled model ({_bundled()}), no folder or file here"
    to_do = "Check the name, give a folder or a .gguf file, or load a bundled model." + _nearest(name)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"{not_found}, and no Hugging Face id either (OWNER/NAME). {to_do}")
    try:
        cached = hub.try_to_load_from_cache(
            name, "config.json" if weights else "tokenizer_config.json", revision=revision
        )
    except ValueError as error:
        raise ModelError(f"{not_found}, and no Hugging Face id either ({error}). {to_do}") from error
    if isinstance(cached, str) and (not weights or _is_whole(Path(cached).parent)):
        return options | {"local_files_only": True}
    # The errors of a connection are the HTTP client's own, and which client that is depends on the hub's version;
    # they share a base with the hub's answers.
    unreachable = cast("tuple[type[Exception], ...]", (OSError, *HfHubHTTPError.__bases__))
    try:
        hub.HfApi().model_info(name, revision=revision, timeout=_PATIENCE)
    except hub.errors.GatedRepoError as error:
        raise ModelError(
            f"'{name}' is gated: accept its terms on its page on huggingface.co, then log in with `hf auth login`."
        ) from error
    except hub.errors.RevisionNotFoundError as error:
        raise ModelError(f"'{name}' has no revision '{revision}' on the Hugging Face hub; check it.") from error
    except hub.errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{not_found}, not in the cache of the Hugging Face hub, and not on the hub (or private: then log in with "
            f"`hf auth login`). {to_do}"
        ) from error
    except unreachable as error:
        raise ModelError(
            f"{not_found}, not in the cache of the Hugging Face hub ({hub.constants.HF_HUB_CACHE}), and the hub cannot "
            f"be reached ({str(error).splitlines()[0] if str(error) else type(error).__name__}). {to_do}"
        ) from error
    events.emit(Event("note", "load", f"downloading '{name}' from the Hugging Face hub"))
    return options


def _is_whole(snapshot: Path) -> bool:
    """Whether a snapshot in the hub's cache holds all its weights; an interrupted download leaves it without some."""
    index = snapshot / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return False
        return all((snapshot / shard).is_file() for shard in shards)
    return any(snapshot.glob("*.safetensors")) or any(snapshot.glob("*.bin"))
