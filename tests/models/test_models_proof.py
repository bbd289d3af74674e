"""The proof at load: right models pass, and each way of being wrong is refused with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel

from leadline.errors import ArchitectureError, ModelError
from leadline.models import load_model
from leadline.models.architectures import PARALLEL, Tap, find_architecture
from leadline.models.check import TOLERANCE, prove
from leadline.models.model import Model
from leadline.models.part import Part

FAMILIES = ("llama", "gpt2", "gpt_neox", "gpt_neox_sequential", "gemma2")


@pytest.fixture
def load(tiny_tokenizer):
    def load(module, **options):
        return load_model(module, tokenizer=tiny_tokenizer, device="cpu", **options)

    return load


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_right_models_pass_with_room_to_spare(tiny_models, load, family, dtype) -> None:
    module = tiny_models(family)
    before = {name: (t.dtype, t.clone()) for name, t in module.to(getattr(torch, dtype)).state_dict().items()}
    model = load(module, dtype=dtype)
    assert model.proof.equation == model.architecture.equation.text
    assert 0 < model.proof.error < 0.01 * TOLERANCE
    assert model.proof.n_blocks == 3
    assert model.proof.cross_checked
    after = module.state_dict()
    assert all(after[name].dtype is kind and torch.equal(after[name], old) for name, (kind, old) in before.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_model_with_tiny_branches_passes_too(tiny_models, load, family) -> None:
    module = tiny_models(family)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.05)
    assert load(module).proof.error < 0.1 * TOLERANCE


def scaled_mlp(factor: float):
    """A Llama block that adds only a part of its MLP's output."""

    class Scaled(LlamaDecoderLayer):
        def forward(self, hidden_states, **kwargs):
            attn, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
            hidden_states = hidden_states + attn
            return hidden_states + factor * self.mlp(self.post_attention_layernorm(hidden_states))

    return Scaled


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("factor", [0.5, 0.0, 1.01])
def test_a_block_that_scales_its_mlp_is_refused_even_where_bfloat16_could_not_tell(
    tiny_models, load, factor, dtype
) -> None:
    module = tiny_models("llama")
    module.model.layers[1].__class__ = scaled_mlp(factor)
    with pytest.raises(ArchitectureError) as caught:
        load(module, dtype=dtype)
    message = str(caught.value)
    assert "resid_post.1 = resid_mid.1 + mlp_out.1 is off by" in message
    assert "'Llama'" in message
    assert "tolerance 0.001" in message


def test_the_same_block_unscaled_is_accepted(tiny_models, load) -> None:
    module = tiny_models("llama")
    module.model.layers[1].__class__ = scaled_mlp(1.0)
    assert load(module).proof.error < TOLERANCE


def test_a_third_branch_is_refused(tiny_models, load) -> None:
    class Third(GPTNeoXLayer):
        def forward(self, hidden_states, **kwargs):
            return super().forward(hidden_states, **kwargs) + 0.01 * hidden_states

    module = tiny_models("gpt_neox")
    module.gpt_neox.layers[2].__class__ = Third
    with pytest.raises(ArchitectureError, match=r"resid_post\.2 = resid_pre\.2 \+ attn_out\.2 \+ mlp_out\.2 is off"):
        load(module)


def grow(_, args):
    return (args[0] * 1.1, *args[1:])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stream_changed_between_blocks_is_refused(tiny_models, load, dtype) -> None:
    module = tiny_models("llama")
    module.model.layers[1].register_forward_pre_hook(grow)
    with pytest.raises(ArchitectureError, match=r"resid_post\.0 = resid_pre\.1 is off by 0\.09"):
        load(module, dtype=dtype)


def test_a_stream_changed_behind_the_hooks_is_refused(tiny_models, load) -> None:
    class Behind(LlamaModel):
        def forward(self, *args, **kwargs):
            # Registered after every other hook, so that these see the stream before it is changed.
            handle = self.layers[1].register_forward_pre_hook(grow)
            try:
                return super().forward(*args, **kwargs)
            finally:
                handle.remove()

    module = tiny_models("llama")
    module.model.__class__ = Behind
    with pytest.raises(ArchitectureError, match=r"resid_post\.1 in a whole pass = .* is off"):
        load(module)


@pytest.mark.parametrize(
    ("family", "change", "part"),
    [
        # The MLP before its post-norm is not what Gemma 2 adds.
        ("gemma2", {"mlp_out": Tap("mlp")}, r"resid_post\.0 = resid_mid\.0 \+ mlp_out\.0 is off"),
        ("gemma2", {"attn_out": Tap("self_attn")}, r"resid_mid\.0 = resid_pre\.0 \+ attn_out\.0 is off"),
        ("llama", {"attn_out": Tap("mlp"), "mlp_out": Tap("self_attn")}, r"resid_mid\.0 = .* is off"),
        ("llama", {"resid_mid": Tap("post_attention_layernorm", "output")}, r"resid_mid\.0 = .* is off"),
        ("llama", {"mlp_out": Tap("mlp.gate_proj")}, r"cannot hold: the shapes are"),
        ("llama", {"final_norm": "layers.2.input_layernorm"}, "the input of the final norm is off"),
        ("gpt2", {"blocks": "layers"}, "has no module 'layers'"),
        ("gpt2", {"blocks": "h.0"}, "holds no list of blocks"),
        ("gpt2", {"mlp_out": Tap("feed_forward")}, "has no module 'feed_forward'"),
        ("gpt_neox", {"attn_out": Tap("mlp")}, "is off"),
    ],
)
def test_a_wrong_row_is_refused(tiny_models, tiny_tokenizer, family, change, part) -> None:
    module = tiny_models(family)
    row = replace(find_architecture(module.config), **change)
    with pytest.raises(ArchitectureError, match=part):
        Model(module, tiny_tokenizer, name="wrong", source="test", architecture=row)


def test_the_sequential_row_is_refused_for_a_parallel_model(tiny_models, tiny_tokenizer) -> None:
    parallel, sequential = tiny_models("gpt_neox"), tiny_models("gpt_neox_sequential")
    row = find_architecture(sequential.config)
    with pytest.raises(ArchitectureError, match=r"resid_mid\.0 = resid_pre\.0 \+ attn_out\.0"):
        prove(Part(parallel.base_model, row, parallel.config), parallel.config)
    # The other way round the equation is true, only less is offered.
    other = Part(sequential.base_model, replace(row, equation=PARALLEL, resid_mid=None), sequential.config)
    assert prove(other, sequential.config).error < TOLERANCE


def test_a_block_that_never_runs_is_refused(tiny_models, load) -> None:
    module = tiny_models("llama")
    module.config.num_hidden_layers = 2
    with pytest.raises(ArchitectureError, match=r"never ran: enters\.2"):
        load(module)


def test_a_norm_left_out_is_refused(tiny_models, load) -> None:
    class NoNorm(Gemma2DecoderLayer):
        def forward(self, hidden_states, **kwargs):
            attn, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
            hidden_states = hidden_states + attn
            mlp = self.mlp(self.pre_feedforward_layernorm(hidden_states))
            return hidden_states + self.post_feedforward_layernorm(mlp)

    module = tiny_models("gemma2")
    module.model.layers[0].__class__ = NoNorm
    with pytest.raises(ArchitectureError, match=r"block 0 ran without its attn_out"):
        load(module)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(tiny_models, load, value) -> None:
    module = tiny_models("llama")
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight[0, 0] = value
    with pytest.raises(ModelError, match=r"activations at resid_post\.1 are not finite"):
        load(module)


def test_a_refusal_leaves_no_hook_and_the_weights_as_they_were(tiny_models, load) -> None:
    module = tiny_models("llama").to(torch.bfloat16).train()
    load(module)
    module.model.layers[1].__class__ = scaled_mlp(0.5)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    with pytest.raises(ArchitectureError):
        load(module)
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    assert all(part.training for part in module.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_the_proof_touches_no_random_state(tiny_models, load) -> None:
    module = tiny_models("gpt2")
    before = torch.get_rng_state()
    load(module)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_that_are_not_loaded_are_refused(tiny_models, load) -> None:
    with pytest.raises(ModelError, match="meta device"):
        load(tiny_models("llama").to("meta"))


def test_a_projection_that_is_not_the_heads_is_refused(tiny_models, tiny_tokenizer) -> None:
    module = tiny_models("llama")
    for change, kind in (({"heads": "mlp.down_proj"}, "head_out"), ({"hidden": "self_attn.o_proj"}, "mlp_hidden")):
        row = replace(find_architecture(module.config), **change)
        with pytest.raises(ArchitectureError, match=f"projection of {kind}.0 does not give"):
            Model(module, tiny_tokenizer, name="wrong", source="test", architecture=row)


def test_a_post_norm_of_another_sum_is_refused(tiny_models) -> None:
    module = tiny_models("bert")
    row = find_architecture(module.config)
    wrong = replace(row, attn_out=Tap("attention.output.LayerNorm"))
    with pytest.raises(ArchitectureError, match=r"resid_mid\.0 = norm\(resid_pre\.0 \+ attn_out\.0\) is off"):
        Model(module, None, name="wrong", source="test", architecture=wrong)


def test_a_multiplier_left_out_is_refused(tiny_models) -> None:
    module = tiny_models("granite")
    row = replace(find_architecture(module.config), mlp_out=Tap("mlp"))
    with pytest.raises(ArchitectureError, match=r"resid_post\.0 = resid_mid\.0 \+ mlp_out\.0 is off"):
        Model(module, None, name="wrong", source="test", architecture=row)
