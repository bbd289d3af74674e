"""GGUF files: made dense once, kept, verified, and equal to a direct load."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
import torch

from leadline.errors import ArchitectureError, LeadlineError, ModelError, OutputError
from leadline.events import Event
from leadline.models import converted, list_models, load_model
from leadline.models import gguf as room
from leadline.models.catalogue import BUNDLED, RECORD, bundled_path, converted_folder

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed (pip install leadline[gguf])")
pytest.importorskip("accelerate", reason="the package accelerate is not installed (pip install leadline[gguf])")

IDS = torch.tensor([[5, 6, 7, 8, 9]])


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[str]:
        return [e.stage for e in self.events if e.kind == kind]


def write_gguf(path, module, tokenizer, arch: str = "llama") -> None:
    """A GGUF of a small Llama: 8-bit projections, float32 norms and embeddings, a byte-level vocabulary."""
    config = module.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    rules = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(rules["vocab"], key=rules["vocab"].__getitem__)
    tokens += [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in rules["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for i in range(config.num_hidden_layers):
        names |= {f"model.layers.{i}.{ours}": f"blk.{i}.{theirs}" for ours, theirs in parts.items()}
    for name, tensor in module.state_dict().items():
        theirs = f"{names[name.removesuffix('.weight')]}.weight"
        values = tensor.numpy().astype(np.float32)
        if "q_proj" in name or "k_proj" in name:
            # GGUF pairs a head's rotary dimensions next to each other, transformers half a head apart.
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if ".layers." in name and values.ndim == 2:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(theirs, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(theirs, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_models, tiny_tokenizer):
    path = tmp_path_factory.mktemp("gguf") / "tiny-llama.gguf"
    write_gguf(path, tiny_models("llama", n_layers=2), tiny_tokenizer)
    return path


@pytest.fixture
def file(made, tmp_path, monkeypatch):
    """A GGUF file and a cache of its own."""
    monkeypatch.setenv("LEADLINE_HOME", str(tmp_path / "home"))
    return made


@pytest.fixture
def conversions(monkeypatch):
    """Counts the conversions."""
    counted = []
    real = converted._convert

    def convert(*args):
        counted.append(args)
        real(*args)

    monkeypatch.setattr(converted, "_convert", convert)
    return counted


def load(file, **options):
    return load_model(file, dtype="float32", device="cpu", **options)


def test_a_gguf_is_converted_once_and_equals_a_direct_load(file, conversions, capfd) -> None:
    from transformers import AutoModelForCausalLM, GgufConfig

    first, second = Sink(), Sink()
    model = load(file, events=first)
    again = load(file, events=second)
    assert len(conversions) == 1
    assert first.of("finish") == ["convert", "load"]
    assert second.of("finish") == ["load"]
    assert capfd.readouterr() == ("", "")
    assert model.fingerprint == again.fingerprint
    assert model.name == "tiny-llama"
    assert model.source == str(file)
    direct = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    for name, weight in direct.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name])
    with torch.no_grad():
        theirs = direct(IDS, output_hidden_states=True)
        assert torch.equal(again.module(IDS).logits, theirs.logits)
    found = again.read(IDS, None, again.sites("embed resid_post.0 final_norm"))
    for tensor, hidden in zip(found.values(), theirs.hidden_states, strict=True):
        assert torch.equal(tensor, hidden)


def test_the_weights_are_the_8_bit_ones_and_the_tokenizer_is_kept(file, tiny_models, tiny_tokenizer) -> None:
    model = load(file)
    original = tiny_models("llama", n_layers=2).state_dict()
    for name, weight in model.module.state_dict().items():
        error = (weight - original[name]).abs().max() / original[name].abs().max()
        assert error < 0.01
    assert model.encode(["The city of Paris"]) == [tiny_tokenizer.encode("The city of Paris")]


def test_the_cache_records_every_file(file) -> None:
    load(file)
    (folder,) = converted_folder().iterdir()
    record = json.loads((folder / RECORD).read_text())
    assert set(record["files"]) == {path.name for path in folder.iterdir()} - {RECORD}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(record["files"])
    assert record["source"]["bytes"] == file.stat().st_size
    assert all(path.stat().st_mode & 0o777 == (folder / RECORD).stat().st_mode & 0o777 for path in folder.iterdir())
    (listed,) = (m for m in list_models() if m.kind == "converted")
    assert listed.n_bytes == sum(entry["bytes"] for entry in record["files"].values())
    assert load_model(listed.name, device="cpu").n_layers == 2


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda folder: flip(folder / "model.safetensors"), "model.safetensors has changed"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "has 1 bytes instead of"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is not there"),
        (lambda folder: (folder / RECORD).write_text("{"), f"{RECORD} cannot be read"),
        (lambda folder: shutil.rmtree(folder) or folder.mkdir(), f"{RECORD} cannot be read"),
    ],
    ids=["bit", "short", "absent", "record", "empty"],
)
def test_a_damaged_cache_is_noticed_and_converted_again(file, conversions, damage, part) -> None:
    whole = load(file).fingerprint
    (folder,) = converted_folder().iterdir()
    damage(folder)
    sink = Sink()
    assert load(file, events=sink).fingerprint == whole
    assert len(conversions) == 2
    (warning,) = (e for e in sink.events if e.kind == "warning")
    assert part in warning.message
    assert [path.name for path in converted_folder().iterdir()] == [folder.name]


def test_another_file_under_the_same_name_is_another_conversion(file, tmp_path, tiny_models, tiny_tokenizer) -> None:
    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    write_gguf(other, tiny_models("llama", n_layers=2, seed=1), tiny_tokenizer)
    assert load(file).fingerprint != load(other).fingerprint
    assert len(list(converted_folder().iterdir())) == 2


def test_two_conversions_at_once_leave_one_whole_folder(file, monkeypatch) -> None:
    # Both find nothing and convert; the barrier lets them meet before either renames.
    barrier = threading.Barrier(2, timeout=60)
    rename = converted.os.rename

    def wait_and_rename(source, target) -> None:
        barrier.wait()
        rename(source, target)

    monkeypatch.setattr(converted.os, "rename", wait_and_rename)
    folders, errors = [], []

    def convert() -> None:
        try:
            folders.append(room.dense_folder(file))
        except (LeadlineError, OSError, threading.BrokenBarrierError) as error:
            errors.append(error)

    threads = [threading.Thread(target=convert) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert errors == []
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert list(folders[0].parent.iterdir()) == [folders[0]]
    assert converted._damage(folders[0]) is None


def test_a_failed_conversion_leaves_nothing(file, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise ModelError("no tokenizer")

    monkeypatch.setattr(room, "read_tokenizer", fail)
    with pytest.raises(ModelError, match="no tokenizer"):
        load(file)
    assert list(converted_folder().iterdir()) == []


def test_a_full_disk_is_told(file, monkeypatch) -> None:
    real = converted.sha256_file

    def fail(path):
        if path == file:
            return real(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converted, "sha256_file", fail)
    with pytest.raises(OutputError, match=r"No space left.*LEADLINE_HOME"):
        load(file)
    assert list(converted_folder().iterdir()) == []


def test_a_cache_that_cannot_be_written_to_is_told(file, tmp_path, monkeypatch) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("LEADLINE_HOME", str(tmp_path / "a-file"))
    with pytest.raises(OutputError, match="LEADLINE_HOME"):
        load(file)


def test_leftovers_of_killed_conversions_are_swept_away_after_a_day(file) -> None:
    import os
    import time

    old, young = (converted_folder() / f".x-{age}.partial" for age in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    load(file)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("lacking", ["gguf", "accelerate"])
def test_missing_packages_are_named(file, monkeypatch, lacking) -> None:
    real = converted.importlib.util.find_spec
    monkeypatch.setattr(converted.importlib.util, "find_spec", lambda name: None if name == lacking else real(name))
    with pytest.raises(ModelError, match=rf'needs the package {lacking} .*pip install "leadline\[gguf\]"'):
        load(file)


def test_a_folder_with_one_gguf_is_that_file(file) -> None:
    assert load(file.parent).name == "tiny-llama"


def test_damaged_and_unknown_files_are_refused(file, tmp_path, tiny_models, tiny_tokenizer, capfd) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelError, match="cannot read the config"):
        load(cut)
    strange = tmp_path / "strange.gguf"
    write_gguf(strange, tiny_models("llama", n_layers=2), tiny_tokenizer, arch="wolpertinger")
    with pytest.raises(ModelError, match="wolpertinger"):
        load(strange)
    mistral = tmp_path / "qwen.gguf"
    write_gguf(mistral, tiny_models("llama", n_layers=2), tiny_tokenizer, arch="nemotron")
    with pytest.raises(ArchitectureError, match="'nemotron'"):
        load(mistral)
    assert capfd.readouterr() == ("", "")


# ---- the real one


@pytest.fixture(scope="session")
def direct(smollm2):
    """SmolLM2 by transformers alone, without the cache; takes long, so once."""
    from transformers import AutoModelForCausalLM, GgufConfig

    from leadline.models.quiet import quiet

    file = bundled_path(BUNDLED[0])
    with quiet(), room._without_bar():
        return AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        ).eval()


@pytest.mark.real
def test_smollm2_is_proved_and_has_its_sites(smollm2) -> None:
    assert smollm2.name == "smollm2-135m"
    assert (smollm2.n_layers, smollm2.d_model, smollm2.n_heads) == (30, 576, 9)
    assert smollm2.n_parameters == 134_515_008
    assert smollm2.proof.error < 1e-4
    assert smollm2.proof.cross_checked
    assert len(smollm2.sites("embed resid_post.* final_norm")) == 32
    assert smollm2.encode(["The city of Paris is in France."]) == [[504, 2240, 282, 7042, 314, 281, 4649, 30]]
    chat = smollm2.encode([[{"role": "user", "content": "hi"}]])[0]
    assert smollm2.tokenizer.decode(chat).endswith("<|im_start|>user\nhi<|im_end|>\n")


@pytest.mark.real
def test_smollm2_equals_a_direct_load_bit_for_bit(smollm2, direct) -> None:
    ids = torch.tensor(smollm2.encode(["The city of Paris is in France."]))
    with torch.no_grad():
        theirs = direct(ids, output_hidden_states=True)
        assert torch.equal(smollm2.module(ids).logits, theirs.logits)
    found = smollm2.read(ids, None, smollm2.sites("embed resid_post.0-28 final_norm"))
    for tensor, hidden in zip(found.values(), theirs.hidden_states, strict=True):
        assert torch.equal(tensor, hidden)


@pytest.mark.real
def test_smollm2_reads_the_same_padded_on_either_side(smollm2) -> None:
    rows = smollm2.encode(["The city of Paris is in France.", "Ulaanbaatar lies in Mongolia, far away from the sea."])
    n = max(map(len, rows))
    sites = smollm2.sites("resid_post.* final_norm")
    lasts = []
    for side in ("left", "right"):
        blank = [[0] * (n - len(row)) for row in rows]
        ids = [b + r if side == "left" else r + b for r, b in zip(rows, blank)]
        mask = [b + [1] * len(r) if side == "left" else [1] * len(r) + b for r, b in zip(rows, blank)]
        found = smollm2.read(torch.tensor(ids), torch.tensor(mask), sites)
        at = [n - 1 if side == "left" else len(row) - 1 for row in rows]
        lasts.append(torch.stack([found[site][range(len(rows)), at] for site in sites]))
    error = (lasts[0] - lasts[1]).norm(dim=-1) / lasts[1].norm(dim=-1)
    assert error.max() < 1e-4
